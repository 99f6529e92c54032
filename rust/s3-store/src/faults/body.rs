//! Bodies that are not what they should be.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body as _, Frame, SizeHint};
use s3s::{Body, StdError};

use crate::fault::Fault;
use crate::kind::content_range;
use crate::sys;
use crate::timer::{self, Sleep};

/// A trickle's bytes at a time and the pause after them: 50 kB/s.
const DROP: usize = 1024;
const DROP_PAUSE_NS: u64 = 20_000_000;
/// What hyper gets to write the first part of a body before the connection breaks.
const FLUSH_PAUSE_NS: u64 = 10_000_000;

/// The end of a body that was cut off on purpose.
#[derive(Debug)]
pub struct CutOff {
    pub is_reset: bool,
}

impl std::fmt::Display for CutOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut off by an injected fault")
    }
}

impl std::error::Error for CutOff {}

/// Does to the body of an answer what a fault says, if that concerns the body.
pub fn spoil_body(fault: Fault, response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let hint = body.size_hint();
    let half = hint.exact().unwrap_or_default() / 2;
    let damage = match fault {
        Fault::ResetBody => Damage::Cut { at: half, is_reset: true },
        Fault::Truncate => Damage::Cut { at: half, is_reset: false },
        Fault::Corrupt => Damage::Flip { at: half },
        Fault::Trickle => Damage::Trickle,
        Fault::WrongRange => {
            begin_late(&mut head.headers);
            Damage::Skip
        }
        _ => return Response::from_parts(head, body),
    };
    let body = Damaged { body, damage, passed: 0, held: Bytes::new(), pause: None };
    Response::from_parts(head, Body::http_body_unsync(body))
}

/// Says in the headers what `Damage::Skip` does to the body.
fn begin_late(headers: &mut HeaderMap) {
    let late = content_range(headers).map(|(start, end, size)| format!("bytes {}-{}/{size}", start + 1, end - 1));
    if let Some(value) = late.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(CONTENT_RANGE, value);
    }
    headers.remove(CONTENT_LENGTH);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// The connection breaks after so many bytes.
    Cut {
        at: u64,
        is_reset: bool,
    },
    /// The byte at this offset differs in one bit.
    Flip {
        at: u64,
    },
    /// The first byte is missing.
    Skip,
    Trickle,
}

/// A body that is not what it should be.
struct Damaged {
    body: Body,
    damage: Damage,
    /// Bytes of the body that were handed on or left out.
    passed: u64,
    held: Bytes,
    pause: Option<Sleep>,
}

impl Damaged {
    fn pause(&mut self, ns: u64) {
        self.pause = Some(timer::sleep(sys::monotonic_ns() + ns));
    }

    /// The next bytes to hand on, out of those held; `None` when none of them are.
    fn take(&mut self) -> Option<Bytes> {
        let mut piece = match self.damage {
            Damage::Cut { at, .. } => {
                let piece = self.held.split_to(self.held.len().min((at - self.passed) as usize));
                if self.passed + piece.len() as u64 == at {
                    self.pause(FLUSH_PAUSE_NS);
                }
                piece
            }
            Damage::Trickle => {
                self.pause(DROP_PAUSE_NS);
                self.held.split_to(self.held.len().min(DROP))
            }
            Damage::Flip { .. } | Damage::Skip => self.held.split_to(self.held.len()),
        };
        let from = self.passed;
        self.passed += piece.len() as u64;
        match self.damage {
            Damage::Flip { at } if (from..self.passed).contains(&at) => piece = flipped(&piece, (at - from) as usize),
            Damage::Skip if from == 0 => piece.advance(1),
            _ => {}
        }
        (!piece.is_empty()).then_some(piece)
    }
}

fn flipped(piece: &[u8], at: usize) -> Bytes {
    let mut copy = BytesMut::from(piece);
    copy[at] ^= 1;
    copy.freeze()
}

impl http_body::Body for Damaged {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if let Damage::Cut { at, is_reset } = self.damage
                && self.passed == at
            {
                return Poll::Ready(Some(Err(Box::new(CutOff { is_reset }))));
            }
            if !self.held.is_empty() {
                match self.take() {
                    Some(piece) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                    None => continue,
                }
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

    fn size_hint(&self) -> SizeHint {
        // What the headers promise, which a cut does not keep.
        let left_out = u64::from(self.damage == Damage::Skip && self.passed == 0);
        match self.body.size_hint().exact() {
            Some(rest) => SizeHint::with_exact((rest + self.held.len() as u64).saturating_sub(left_out)),
            None => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    async fn damaged(fault: Fault, content: &'static [u8], piece: usize) -> (Vec<u8>, bool, Option<u64>) {
        let frames = content.chunks(piece).map(|part| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(part))));
        let body = Sized(StreamBody::new(futures::stream::iter(frames)), content.len() as u64);
        let response = spoil_body(fault, Response::new(Body::http_body_unsync(body)));
        let mut body = response.into_body();
        let promised = body.size_hint().exact();
        let mut got = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => got.extend_from_slice(&frame.into_data().unwrap()),
                Err(_) => return (got, false, promised),
            }
        }
        (got, true, promised)
    }

    /// A stream that knows its length, as an object's body does.
    struct Sized<B>(B, u64);

    impl<B: http_body::Body + Unpin> http_body::Body for Sized<B> {
        type Data = B::Data;
        type Error = B::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
            Pin::new(&mut self.0).poll_frame(cx)
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.1)
        }
    }

    #[tokio::test]
    async fn bodies_are_damaged_where_they_should_be_however_they_arrive() {
        for piece in [1, 3, 100] {
            assert_eq!(damaged(Fault::Truncate, b"0123456789", piece).await, (b"01234".to_vec(), false, Some(10)));
            assert_eq!(damaged(Fault::ResetBody, b"0123456789", piece).await, (b"01234".to_vec(), false, Some(10)));
            assert_eq!(damaged(Fault::Corrupt, b"0123456789", piece).await, (b"0123446789".to_vec(), true, Some(10)));
            assert_eq!(damaged(Fault::WrongRange, b"0123456789", piece).await, (b"123456789".to_vec(), true, Some(9)));
            assert_eq!(damaged(Fault::Trickle, b"0123456789", piece).await, (b"0123456789".to_vec(), true, Some(10)));
        }
    }
}
