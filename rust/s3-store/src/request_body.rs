//! The body of a request on its way in: counted, waited for with patience, and read to its end whatever is answered.
//!
//! A client that is still sending when the connection is closed may lose the answer, which says why.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::EXPECT;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use s3s::{Body, StdError};
use tower_http::timeout::TimeoutBody;

use crate::counters::Counters;

/// A request whose body counts what arrives, and what is left of the body when it is dropped. A request without one costs
/// nothing.
pub fn counted(
    request: Request<Incoming>,
    counters: &Arc<Counters>,
    patience: Duration,
) -> (Request<Body>, Option<Unread>) {
    if request.body().is_end_stream() {
        return (request.map(|_| Body::empty()), None);
    }
    // Such a client sends nothing until its body is wanted, and is not to be told that it is.
    let waits = request.headers().contains_key(EXPECT);
    let unread = Unread::default();
    let (rest, counters) = (unread.0.clone(), counters.clone());
    let request = request.map(|incoming| {
        let hint = incoming.size_hint();
        let incoming = Some(Box::pin(TimeoutBody::new(patience, Counting { incoming, counters })));
        Body::http_body_unsync(Received { incoming, hint, is_wanted: !waits, rest })
    });
    (request, Some(unread))
}

type Patient = Pin<Box<TimeoutBody<Counting>>>;

/// What nobody has read of a body.
#[derive(Default)]
pub struct Unread(Arc<Mutex<Option<Patient>>>);

impl Unread {
    /// Reads it to its end, or until the client stops.
    pub async fn read(self) {
        let rest = self.0.lock().take();
        let Some(mut rest) = rest else { return };
        while let Some(Ok(_)) = rest.frame().await {}
    }
}

/// Counts what arrives.
struct Counting {
    incoming: Incoming,
    counters: Arc<Counters>,
}

impl http_body::Body for Counting {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(bytes) = frame.data_ref()
        {
            self.counters.received(bytes.len() as u64);
        }
        polled
    }
}

struct Received {
    /// `None` once there is no more to come.
    incoming: Option<Patient>,
    /// Of the whole body.
    hint: SizeHint,
    /// Whether the client sends it.
    is_wanted: bool,
    rest: Arc<Mutex<Option<Patient>>>,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.is_wanted = true;
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = incoming.as_mut().poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.incoming = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if self.is_wanted && !self.is_end_stream() {
            *self.rest.lock() = self.incoming.take();
        }
    }
}
