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

/// The smallest turn on the link, bytes.
const MIN_TURN: usize = 64 * 1024;
/// What an idle link saves up, nanoseconds of its rate: several times as long as a timer may be late, so that a
/// connection that woke up late catches up.
const BURST_NS: f64 = 1e6;
/// How many turns there are in a full burst: connections take turns, which makes the link fair and smooth.
const TURNS: usize = 4;

/// A link of fixed rate as a token bucket, kept as the moment at which it is full again.
pub struct Link {
    ns_per_byte: f64,
    /// What the bucket holds, bytes: one turn at least.
    burst: usize,
    /// The most that is booked at once, bytes.
    turn: usize,
    free_at_ns: AtomicU64,
}

impl Link {
    pub fn new(gbit_s: f64) -> Self {
        let ns_per_byte = 8.0 / gbit_s;
        let burst = ((BURST_NS / ns_per_byte) as usize).max(MIN_TURN);
        Self { ns_per_byte, burst, turn: (burst / TURNS).max(MIN_TURN), free_at_ns: AtomicU64::new(0) }
    }

    /// Books `bytes` in order of arrival and returns when they may pass, nanoseconds of the monotonic clock.
    fn book(&self, bytes: usize, now_ns: u64) -> u64 {
        let cost = (bytes as f64 * self.ns_per_byte) as u64;
        let burst = (self.burst as f64 * self.ns_per_byte) as u64;
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
        let piece = self.held.split_to(self.held.len().min(self.link.turn));
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
    fn a_link_carries_its_rate_after_a_burst() {
        for gbit_s in [0.064, 2.0, 50.0, 100.0] {
            let link = Link::new(gbit_s);
            let start = 1_000_000_000;
            assert_eq!(link.book(link.burst, start), start);
            let last = (0..1000).map(|_| link.book(link.turn, start)).last().unwrap();
            let expected = 1000.0 * link.turn as f64 * link.ns_per_byte;
            assert!(((last - start) as f64 / expected - 1.0).abs() < 1e-3, "{gbit_s} Gbit/s");
        }
    }

    #[test]
    fn an_idle_link_saves_up_a_millisecond_and_one_turn_at_least() {
        for (gbit_s, burst, turn) in
            [(0.064, MIN_TURN, MIN_TURN), (2.0, 250_000, MIN_TURN), (50.0, 6_250_000, 1_562_500)]
        {
            let link = Link::new(gbit_s);
            assert_eq!((link.burst, link.turn), (burst, turn), "{gbit_s} Gbit/s");
            link.book(link.turn, 0);
            let later = 60_000_000_000;
            assert_eq!(link.book(link.burst, later), later);
            assert!(link.book(MIN_TURN, later) > later);
        }
    }

    /// Sends `pieces` on each connection, which asks for its next turn once the last one has come; whoever waits wakes
    /// up `late_ns` after the turn. Returns the share of the link's rate and the share of pieces that had to wait.
    fn drive(link: &Link, connections: usize, pieces: usize, piece: usize, late_ns: u64) -> (f64, f64) {
        let start = 1_000_000_000;
        let mut free_at = vec![start; connections];
        let mut waits = 0;
        for _ in 0..connections * pieces {
            let next = (0..connections).min_by_key(|&i| free_at[i]).unwrap();
            let turn = link.book(piece, free_at[next]);
            if turn > free_at[next] {
                free_at[next] = turn + late_ns;
                waits += 1;
            }
        }
        let count = (connections * pieces) as f64;
        let ideal_ns = (count * piece as f64 - link.burst as f64) * link.ns_per_byte;
        (ideal_ns / (free_at.iter().max().unwrap() - start) as f64, f64::from(waits) / count)
    }

    #[test]
    fn one_connection_fills_a_fast_link_though_timers_are_late() {
        // Objects come in pieces of 256 KiB, 42 us each; a timer is late by 100 us.
        let (share, waits) = drive(&Link::new(50.0), 1, 20_000, 256 * 1024, 100_000);
        assert!(share > 0.99, "{share} of the link");
        assert!(waits < 0.4, "{waits} of the pieces wait");
    }

    #[test]
    fn connections_together_keep_the_rate_to_a_hundredth() {
        for connections in [1, 7, 100] {
            let (share, _) = drive(&Link::new(2.0), connections, 5_000, MIN_TURN, 60_000);
            assert!((share - 1.0).abs() < 0.01, "{connections} connections: {share} of the link");
        }
    }
}
