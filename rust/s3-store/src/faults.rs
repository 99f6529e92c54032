//! What goes wrong between a reader and a real store, made to happen: a tower layer, off unless the control endpoint
//! asked for it.
//!
//! A fault spoils a good answer, after its service time: so the store behind it knows which kind of request it was.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use s3s::{Body, HttpError, StdError};
use serde_json::{Value, json};
use tower::{Layer, Service};

use crate::counters::Counters;
use crate::kind::{Call, Kind, content_range};
use crate::layer::{ResponseFuture, S3Layered};
use crate::{sys, timer};

/// A trickle's bytes at a time and the pause after them: 50 kB/s.
const DROP: usize = 1024;
const DROP_PAUSE_NS: u64 = 20_000_000;
/// What hyper gets to write the first part of a body before the connection breaks.
const FLUSH_PAUSE_NS: u64 = 10_000_000;
/// Failed requests that are remembered to tell whether they are sent again.
const MAX_FAILED: usize = 10_000;

/// What can go wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 503 `SlowDown`.
    SlowDown,
    /// 500 `InternalError`.
    InternalError,
    /// The connection is reset instead of an answer.
    Reset,
    /// The connection is reset after half of the body.
    ResetBody,
    /// The connection is closed in order after half of the body.
    Truncate,
    /// One bit of the body's middle byte is wrong.
    Corrupt,
    /// The answered range, in header and body, begins one byte late.
    WrongRange,
    /// No answer at all.
    Hang,
    /// The body comes at 50 kB/s.
    Trickle,
    /// 403 `ExpiredToken`.
    ExpiredToken,
    /// 404 `NoSuchKey`.
    Missing,
}

impl Fault {
    pub const ALL: [Self; 11] = [
        Self::SlowDown,
        Self::InternalError,
        Self::Reset,
        Self::ResetBody,
        Self::Truncate,
        Self::Corrupt,
        Self::WrongRange,
        Self::Hang,
        Self::Trickle,
        Self::ExpiredToken,
        Self::Missing,
    ];

    /// The name in every JSON and address.
    pub fn name(self) -> &'static str {
        match self {
            Self::SlowDown => "slow-down",
            Self::InternalError => "internal-error",
            Self::Reset => "reset",
            Self::ResetBody => "reset-body",
            Self::Truncate => "truncate",
            Self::Corrupt => "corrupt",
            Self::WrongRange => "wrong-range",
            Self::Hang => "hang",
            Self::Trickle => "trickle",
            Self::ExpiredToken => "expired-token",
            Self::Missing => "missing",
        }
    }

    /// Status, code and message where the fault is an answer of its own.
    fn error(self) -> Option<(StatusCode, &'static str, &'static str)> {
        match self {
            Self::SlowDown => {
                Some((StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate. (injected)"))
            }
            Self::InternalError => {
                Some((StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "We encountered an error. (injected)"))
            }
            Self::ExpiredToken => {
                Some((StatusCode::FORBIDDEN, "ExpiredToken", "The provided token has expired. (injected)"))
            }
            Self::Missing => Some((StatusCode::NOT_FOUND, "NoSuchKey", "The key does not exist. (injected)")),
            _ => None,
        }
    }

    /// Whether the client can tell that it has to ask again. A whole answer, right or wrong, is asked for once.
    fn is_failure(self) -> bool {
        !matches!(self, Self::Corrupt | Self::WrongRange | Self::Trickle)
    }
}

/// Which requests meet which fault: of a kind, from the `first` on every `every`-th, `count` of them.
#[derive(Debug)]
pub struct Rule {
    fault: Fault,
    kind: Kind,
    /// Counts from 1.
    first: u64,
    every: u64,
    /// `None` has no end.
    count: Option<u64>,
    /// Requests of the kind since the rule was made or rewound.
    seen: AtomicU64,
}

/// The kinds of requests that rules name.
const RULE_KINDS: [(&str, Kind); 3] =
    [("index", Kind::GetIndex), ("data", Kind::GetData), ("metadata", Kind::GetMetadata)];

impl Rule {
    /// Reads a query such as `fault=slow-down&kind=data&first=2&count=3`. `kind` is `data`, the numbers are 1 unless
    /// given; a `count` of 0 has no end.
    ///
    /// # Errors
    /// One line that says what is wrong.
    pub fn parse(query: &str) -> Result<Self, String> {
        let (mut fault, mut kind, mut first, mut every, mut count) = (None, Kind::GetData, 1, 1, 1);
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "fault" => fault = Fault::ALL.into_iter().find(|fault| fault.name() == value),
                "kind" => kind = named_kind(value)?,
                "first" => first = number(name, value, 1)?,
                "every" => every = number(name, value, 1)?,
                "count" => count = number(name, value, 0)?,
                _ => return Err(format!("a rule has no {name}")),
            }
        }
        let fault = fault.ok_or_else(|| format!("fault must be one of {}", Fault::ALL.map(Fault::name).join(", ")))?;
        Ok(Self { fault, kind, first, every, count: (count > 0).then_some(count), seen: AtomicU64::new(0) })
    }

    /// Whether the next request of this kind is meant.
    fn hits(&self, kind: Kind) -> bool {
        if kind != self.kind {
            return false;
        }
        let number = self.seen.fetch_add(1, Relaxed) + 1;
        let Some(after) = number.checked_sub(self.first) else { return false };
        after.is_multiple_of(self.every) && self.count.is_none_or(|count| after / self.every < count)
    }

    fn json(&self) -> Value {
        let kind = RULE_KINDS.iter().find(|(_, kind)| *kind == self.kind).map(|(name, _)| name);
        json!({"fault": self.fault.name(), "kind": kind, "first": self.first, "every": self.every,
            "count": self.count.unwrap_or(0)})
    }
}

fn named_kind(name: &str) -> Result<Kind, String> {
    let found = RULE_KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    found.ok_or_else(|| "kind must be index, data or metadata".into())
}

fn number(name: &str, text: &str, least: u64) -> Result<u64, String> {
    let value = text.parse().ok().filter(|value| *value >= least);
    value.ok_or_else(|| format!("{name} must be a whole number, {least} or more"))
}

/// The rules in force, and what came of them.
pub struct Faults {
    is_on: AtomicBool,
    rules: Mutex<Vec<Rule>>,
    /// Requests that failed and were not sent again yet.
    failed: Mutex<Vec<Asked>>,
    counters: Arc<Counters>,
}

/// The bytes of an object that a request asked for.
#[derive(Debug)]
struct Asked {
    path: String,
    range: std::ops::Range<u64>,
}

impl Asked {
    fn of(path: String, answer: &HeaderMap) -> Self {
        let range = content_range(answer).map_or(0..u64::MAX, |(start, end, _)| start..end);
        Self { path, range }
    }

    /// Whether this may be the other one sent again: a client that has a part of a body asks for the rest only.
    fn repeats(&self, other: &Self) -> bool {
        self.path == other.path && self.range.start < other.range.end && other.range.start < self.range.end
    }
}

impl Faults {
    pub fn new(counters: Arc<Counters>) -> Self {
        let (is_on, rules, failed) = (AtomicBool::new(false), Mutex::default(), Mutex::default());
        Self { is_on, rules, failed, counters }
    }

    /// Adds a rule. The first rule that means a request decides.
    pub fn add(&self, rule: Rule) {
        lock(&self.rules).push(rule);
        self.is_on.store(true, Relaxed);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.is_on.store(false, Relaxed);
        lock(&self.rules).clear();
        lock(&self.failed).clear();
    }

    /// Lets every rule count from its first request again, and forgets what failed before.
    pub fn rewind(&self) {
        lock(&self.rules).iter().for_each(|rule| rule.seen.store(0, Relaxed));
        lock(&self.failed).clear();
    }

    pub fn json(&self) -> Value {
        let rules: Vec<Value> = lock(&self.rules).iter().map(Rule::json).collect();
        json!({ "rules": rules })
    }

    fn next(&self, kind: Kind) -> Option<Fault> {
        // Every rule counts every request, so that one does not shift another.
        let rules = lock(&self.rules);
        let hits: Vec<Fault> = rules.iter().filter(|rule| rule.hits(kind)).map(|rule| rule.fault).collect();
        hits.first().copied()
    }

    /// Decides on an answer, and counts the fault and whether the request had failed before.
    fn judge(&self, asked: Asked, kind: Kind) -> Option<Fault> {
        let mut failed = lock(&self.failed);
        if let Some(before) = failed.iter().position(|before| asked.repeats(before)) {
            failed.swap_remove(before);
            self.counters.request_repeated();
        }
        let fault = self.next(kind)?;
        self.counters.fault_injected(fault);
        if fault.is_failure() && failed.len() < MAX_FAILED {
            failed.push(asked);
        }
        Some(fault)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Beside a spoiled answer: what it would have been.
#[derive(Debug, Clone, Copy)]
pub struct Spoiled {
    pub kind: Kind,
    /// Reset the connection instead of answering.
    pub is_reset: bool,
}

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

/// Spoils answers as the rules say.
#[derive(Clone)]
pub struct FaultLayer(pub Arc<Faults>);

impl<S> Layer<S> for FaultLayer {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty { inner, faults: self.0.clone() }
    }
}

#[derive(Clone)]
pub struct Faulty<S> {
    inner: S,
    faults: Arc<Faults>,
}

impl<S: S3Layered> Service<Request<Body>> for Faulty<S> {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        if !self.faults.is_on.load(Relaxed) || request.method() != Method::GET {
            return self.inner.call(request);
        }
        let call = Call::of(request.method(), request.uri());
        let path = request.uri().path().to_owned();
        let faults = self.faults.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            if !response.status().is_success() {
                return Ok(response);
            }
            let kind = call.kind(response.headers());
            match faults.judge(Asked::of(path, response.headers()), kind) {
                None => Ok(response),
                Some(Fault::Hang) => {
                    drop(response);
                    std::future::pending().await
                }
                Some(fault) => Ok(spoil(fault, kind, response)),
            }
        })
    }
}

fn spoil(fault: Fault, kind: Kind, response: Response<Body>) -> Response<Body> {
    let mut spoiled = match fault.error() {
        Some((status, code, message)) => error_answer(status, code, message),
        None => spoil_body(fault, response),
    };
    spoiled.extensions_mut().insert(Spoiled { kind, is_reset: fault == Fault::Reset });
    spoiled
}

fn error_answer(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(Body::from(Bytes::from(xml)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

fn spoil_body(fault: Fault, response: Response<Body>) -> Response<Body> {
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

type Pause = Pin<Box<dyn Future<Output = std::io::Result<()>> + Send>>;

/// A body that is not what it should be.
struct Damaged {
    body: Body,
    damage: Damage,
    /// Bytes of the body that were handed on or left out.
    passed: u64,
    held: Bytes,
    pause: Option<Pause>,
}

impl Damaged {
    fn pause(&mut self, ns: u64) {
        self.pause = Some(Box::pin(timer::sleep_until(sys::monotonic_ns() + ns)));
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
                ready!(pause.as_mut().poll(cx))?;
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

    fn rule(query: &str) -> Rule {
        Rule::parse(query).unwrap()
    }

    fn hits(rule: &Rule, count: u64) -> Vec<u64> {
        (1..=count).filter(|_| rule.hits(Kind::GetData)).collect()
    }

    #[test]
    fn a_rule_means_the_requests_it_names() {
        assert_eq!(hits(&rule("fault=reset"), 5), [1]);
        assert_eq!(hits(&rule("fault=reset&first=2&count=3"), 9), [2, 3, 4]);
        assert_eq!(hits(&rule("fault=reset&first=2&every=3&count=2"), 20), [2, 5]);
        assert_eq!(hits(&rule("fault=reset&every=4&count=0"), 10), [1, 5, 9]);
        assert!(!rule("fault=reset&kind=index").hits(Kind::GetData));
        assert!(rule("fault=reset&kind=index").hits(Kind::GetIndex));
    }

    #[test]
    fn nonsense_is_refused() {
        for query in ["", "fault=none", "fault=reset&kind=put", "fault=reset&first=0", "fault=reset&every=x", "a=1"] {
            assert!(Rule::parse(query).is_err(), "{query}");
        }
    }

    fn asked(path: &str, range: std::ops::Range<u64>) -> Asked {
        Asked { path: path.into(), range }
    }

    #[test]
    fn a_request_sent_again_is_counted_once_per_failure() {
        let counters = Arc::new(Counters::default());
        let faults = Faults::new(counters.clone());
        faults.add(rule("fault=reset-body&count=2"));
        let ask = |path, range| faults.judge(asked(path, range), Kind::GetData);
        assert_eq!(ask("a", 0..100), Some(Fault::ResetBody));
        assert_eq!(ask("a", 50..100), Some(Fault::ResetBody), "the rest of the first");
        for (path, range) in [("b", 50..100), ("a", 100..200), ("a", 75..100), ("a", 75..100)] {
            assert_eq!(ask(path, range), None);
        }
        let since = counters.since_start();
        assert_eq!((&since["faults"], &since["retries"]), (&json!(2), &json!(2)));
        assert_eq!(since["faults_by_name"], json!({"reset-body": 2}));
        faults.rewind();
        assert_eq!(faults.judge(asked("a", 0..100), Kind::GetData), Some(Fault::ResetBody));
        assert_eq!(counters.since_start()["retries"], 2, "what failed before the rewind is forgotten");
    }

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
