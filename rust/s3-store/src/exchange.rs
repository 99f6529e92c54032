//! One request and its answer as the counters see them: the outermost layer, around hyper's own types.

use std::io::{self, IoSlice};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use s3s::{Body, HttpError};
use tracing::Instrument;

use crate::connection::Connection;
use crate::counters::{Counted, Counters, Record};
use crate::faults::{CutOff, Spoiled};
use crate::kind::{Call, Kind, bucket_and_key, content_range, decoded_path};
use crate::layer::Service;
use crate::request_body::counted;
use crate::request_id::Named;
use crate::sys;

/// What all connections share. Each request takes a reference through one of these, whose count is its connection's
/// own: cores that count the references to one thing wait for each other.
struct Shared<T>(Arc<T>);

impl<T> Deref for Shared<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

/// What one connection offers to hyper.
pub struct Edge<S> {
    stack: Arc<Shared<S>>,
    counters: Arc<Shared<Counters>>,
    connection: Arc<Connection>,
    /// Counts the connections of this server from 1.
    number: u64,
    /// How long a client may stop in the middle of a body.
    patience: Duration,
}

impl<S> Edge<S> {
    pub fn new(stack: Arc<S>, counters: Arc<Counters>, connection: Arc<Connection>, patience: Duration) -> Self {
        let number = counters.connection_opened();
        Self { stack: Arc::new(Shared(stack)), counters: Arc::new(Shared(counters)), connection, number, patience }
    }
}

impl<S> Drop for Edge<S> {
    fn drop(&mut self) {
        self.counters.connection_closed();
    }
}

impl<S: Service> hyper::service::Service<Request<Incoming>> for Edge<S> {
    type Response = Response<Tracked>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, HttpError>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let exchange = Exchange::begin(self.counters.clone(), self.connection.clone(), self.number, &request);
        let named = Named::of(&request);
        let (request, unread) = counted(request, &self.counters, self.patience);
        let stack = self.stack.clone();
        Box::pin(async move {
            let answer = stack.call(request).instrument(named.span.clone()).await?;
            if let Some(unread) = unread {
                unread.read().await;
            }
            exchange.answered(named.on(answer))
        })
    }
}

/// Everything that is counted or logged of one request. Dropping it settles the account.
struct Exchange {
    counters: Arc<Shared<Counters>>,
    connection: Arc<Connection>,
    call: Call,
    number: u64,
    received_ns: u64,
    kind: Option<Kind>,
    counted: Option<Counted>,
    status: u16,
    ended: AtomicBool,
    sent: AtomicU64,
    first_byte_ns: AtomicU64,
    last_byte_ns: AtomicU64,
    /// Only while a mark keeps a log.
    names: Option<Box<Names>>,
}

/// What only a log needs.
struct Names {
    method: String,
    path: String,
    range: Option<[u64; 2]>,
}

impl Exchange {
    fn begin(
        counters: Arc<Shared<Counters>>,
        connection: Arc<Connection>,
        number: u64,
        request: &Request<Incoming>,
    ) -> Self {
        connection.request_began();
        let received_ns = sys::monotonic_ns();
        counters.request_began(received_ns);
        let names = counters.is_logging().then(|| {
            let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
            Box::new(Names { method, path, range: None })
        });
        Self {
            call: Call::of(request.method(), request.uri()),
            counters,
            connection,
            number,
            received_ns,
            kind: None,
            counted: None,
            status: 0,
            ended: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            first_byte_ns: AtomicU64::new(0),
            last_byte_ns: AtomicU64::new(0),
            names,
        }
    }

    fn answered(mut self, response: Response<Body>) -> Result<Response<Tracked>, HttpError> {
        let spoiled = response.extensions().get::<Spoiled>();
        let kind = spoiled.map_or_else(|| self.call.kind(response.headers()), |spoiled| spoiled.kind);
        if spoiled.is_some_and(|spoiled| spoiled.is_reset) {
            self.call = Call::Known(kind);
            self.connection.reset_when_closed();
            return Err(HttpError::new(Box::new(io::Error::from(io::ErrorKind::ConnectionReset))));
        }
        self.status = response.status().as_u16();
        self.note_answer(kind, response.headers());
        let (head, body) = response.into_parts();
        let exchange = Arc::new(self);
        Ok(Response::from_parts(head, Tracked { body, exchange }))
    }

    fn note_answer(&mut self, kind: Kind, headers: &HeaderMap) {
        self.kind = Some(kind);
        self.counted = Some(self.counters.request_answered(kind, self.status));
        if let Some(names) = &mut self.names {
            names.range = content_range(headers).map(|(start, end, _)| [start, end]);
        }
        let now = sys::monotonic_ns();
        self.first_byte_ns = now.into();
        self.last_byte_ns = now.into();
    }

    /// The response body has ended, or nobody wants it any more.
    fn end(&self) {
        if !self.ended.swap(true, Relaxed) {
            self.counters.request_ended();
        }
    }

    fn sent(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.counters.sent(bytes as u64);
        let before = self.sent.fetch_add(bytes as u64, Relaxed);
        if self.names.is_some() {
            let now = sys::monotonic_ns();
            if before == 0 {
                self.first_byte_ns.store(now, Relaxed);
            }
            self.last_byte_ns.store(now, Relaxed);
        }
    }

    fn record(&self) -> Option<Record> {
        let names = self.names.as_ref()?;
        let path = decoded_path(&names.path);
        let (bucket, key) = bucket_and_key(&path);
        let answered = |value: u64| self.kind.map(|_| value);
        Some(Record {
            method: names.method.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            range: names.range,
            kind: self.kind.unwrap_or(self.call.kind_without_answer()).name(),
            status: self.kind.map(|_| self.status),
            bytes: self.sent.load(Relaxed),
            connection: self.number,
            received_ns: self.received_ns,
            first_byte_ns: answered(self.first_byte_ns.load(Relaxed)),
            last_byte_ns: answered(self.last_byte_ns.load(Relaxed)),
        })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let counted = self.counted.unwrap_or_else(|| self.counters.request_of(self.call.kind_without_answer()));
        self.end();
        self.counters.request_settled(counted, || self.record());
        self.connection.request_ended();
    }
}

/// A response body whose end is noticed and whose bytes are counted as the socket takes them.
pub struct Tracked {
    body: Body,
    exchange: Arc<Exchange>,
}

impl http_body::Body for Tracked {
    type Data = Sent;
    type Error = s3s::StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Sent>, s3s::StdError>>> {
        let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(cx) else {
            return Poll::Pending;
        };
        if let Some(Err(error)) = &polled
            && error.downcast_ref::<CutOff>().is_some_and(|cut| cut.is_reset)
        {
            self.exchange.connection.reset_when_closed();
        }
        if !matches!(polled, Some(Ok(_))) || self.body.is_end_stream() {
            self.exchange.end();
        }
        let count = |bytes| Sent { bytes, exchange: self.exchange.clone() };
        Poll::Ready(polled.map(|result| result.map(|frame| frame.map_data(count))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.exchange.end();
    }
}

/// Bytes on their way into the socket: hyper advances them by what a write has taken, so that what an
/// aborted connection never took is never counted.
pub struct Sent {
    bytes: Bytes,
    exchange: Arc<Exchange>,
}

impl Buf for Sent {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.exchange.sent(count);
        self.bytes.advance(count);
    }
}
