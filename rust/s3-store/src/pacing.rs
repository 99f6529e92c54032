//! The rate of the whole link, as a layer over the bodies of both directions.
//!
//! The rate of one connection is the kernel's work (`SO_MAX_PACING_RATE`, see `server`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use s3s::{Body, StdError};

use crate::layer::{Answer, Layer, Service};
use crate::sys;
use crate::timer::{self, Sleep};

/// Connections take turns on the link in pieces of this size, which makes it fair and smooth.
const PIECE: usize = 64 * 1024;

/// A link of fixed rate as a token bucket that holds one piece, kept as the moment at which it is full again.
pub struct Link {
    ns_per_byte: f64,
    free_at_ns: AtomicU64,
}

impl Link {
    pub fn new(gbit_s: f64) -> Self {
        Self { ns_per_byte: 8.0 / gbit_s, free_at_ns: AtomicU64::new(0) }
    }

    /// Books `bytes` in order of arrival and returns when they may pass, nanoseconds of the monotonic clock.
    fn book(&self, bytes: usize, now_ns: u64) -> u64 {
        let cost = (bytes as f64 * self.ns_per_byte) as u64;
        let burst = (PIECE as f64 * self.ns_per_byte) as u64;
        let later = |free_at: u64| Some(free_at.max(now_ns) + cost);
        let before = match self.free_at_ns.fetch_update(Relaxed, Relaxed, later) {
            Ok(before) | Err(before) => before,
        };
        (before.max(now_ns) + cost).saturating_sub(burst)
    }
}

/// Passes every body through the link.
impl Layer for Arc<Link> {
    async fn answer(&self, request: Request<Body>, inside: &impl Service) -> Answer {
        let answer = inside.call(request.map(|body| paced(body, self))).await?;
        Ok(answer.map(|body| paced(body, self)))
    }
}

fn paced(body: Body, link: &Arc<Link>) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::http_body_unsync(Paced { body, link: link.clone(), held: Bytes::new(), turn: None })
}

/// A body that hands on a piece when the link has room for it.
struct Paced {
    body: Body,
    link: Arc<Link>,
    /// Bytes that have not been booked yet.
    held: Bytes,
    /// The wait of a booked piece, and the piece.
    turn: Option<(Sleep, Bytes)>,
}

impl Paced {
    fn book_next_piece(&mut self) {
        let piece = self.held.split_to(self.held.len().min(PIECE));
        let turn = self.link.book(piece.len(), sys::monotonic_ns());
        self.turn = Some((timer::sleep(turn), piece));
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        loop {
            if let Some((wait, piece)) = &mut self.turn {
                ready!(wait.as_mut().poll(cx));
                let piece = std::mem::take(piece);
                self.turn = None;
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if !self.held.is_empty() {
                self.book_next_piece();
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => self.held = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.turn.is_none() && self.held.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let waiting = (self.held.len() + self.turn.as_ref().map_or(0, |(_, piece)| piece.len())) as u64;
        let inner = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + waiting);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + waiting);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_carries_its_rate_after_one_piece() {
        let link = Link::new(2.0);
        let start = 1_000_000_000;
        assert_eq!(link.book(PIECE, start), start);
        let last = (1..1000).map(|_| link.book(PIECE, start)).last().unwrap();
        let expected = 999.0 * PIECE as f64 * 4.0;
        assert!(((last - start) as f64 / expected - 1.0).abs() < 1e-3);
    }

    #[test]
    fn an_idle_link_saves_up_no_more_than_a_piece() {
        let link = Link::new(2.0);
        link.book(PIECE, 0);
        let later = 60_000_000_000;
        assert_eq!(link.book(PIECE, later), later);
        assert!(link.book(PIECE, later) > later);
    }
}
