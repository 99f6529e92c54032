//! The control endpoint: counters, marks, draws and faults as JSON over plain HTTP, on loopback only.
//!
//! It has a thread of its own and none of the layers, so neither a profile nor a wave of connections slows it down.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::counters::{Counters, Record};
use crate::faults::{Faults, Rule};
use crate::service_time::Draws;

/// How long a reading waits for the store to finish its accounts of answers that clients already have.
const SETTLE_STEPS: u32 = 100;
const SETTLE_STEP: Duration = Duration::from_micros(200);

/// What the control endpoint tells and changes.
pub struct Control {
    pub counters: Arc<Counters>,
    pub draws: Option<Arc<Draws>>,
    pub faults: Arc<Faults>,
    /// The ready line.
    pub health: Value,
}

/// The answer to `GET /marks/NAME/requests`.
#[derive(Serialize)]
struct Log<'a> {
    requests: Vec<&'a Record>,
    dropped: u64,
}

/// Serves on a thread of its own until the process ends.
///
/// # Errors
/// When the kernel has no room for another thread or another set of descriptors to wait for.
pub fn start(listener: TcpListener, control: Control) -> io::Result<()> {
    let listener = listener.into_std()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serving = move || {
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => serve(listener, Arc::new(control)).await,
                Err(error) => eprintln!("s3-store: the control endpoint cannot be served: {error}"),
            }
        });
    };
    std::thread::Builder::new().name("control".to_owned()).spawn(serving).map(drop)
}

async fn serve(listener: TcpListener, control: Arc<Control>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others will be closed.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        stream.set_nodelay(true).ok();
        let control = control.clone();
        let service = hyper::service::service_fn(move |request| {
            let control = control.clone();
            async move { Ok::<_, Infallible>(control.answer(&request).await) }
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

impl Control {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
        match (request.method(), path.as_slice()) {
            (&Method::GET, ["health"]) => ok(&self.health),
            (&Method::GET, ["counters"]) => {
                self.settle().await;
                ok(&self.counters.since_start())
            }
            (&Method::POST, ["reset-draws"]) => self.answer_reset("0"),
            (&Method::POST, ["reset-draws", round]) => self.answer_reset(round),
            (method, ["faults"]) => self.answer_faults(method, request.uri().query().unwrap_or_default()),
            (method, ["marks", name]) => self.answer_mark(method, name, request.uri().query()).await,
            (&Method::GET, ["marks", name, "requests"]) => self.answer_requests(name).await,
            _ => error(StatusCode::NOT_FOUND, "unknown path"),
        }
    }

    fn answer_reset(&self, round: &str) -> Response<Full<Bytes>> {
        let Ok(round) = round.parse() else {
            return error(StatusCode::BAD_REQUEST, "a round is a whole number below 2^64");
        };
        self.draws.iter().for_each(|draws| draws.reset(round));
        self.faults.rewind();
        ok(&json!({}))
    }

    async fn answer_mark(&self, method: &Method, name: &str, query: Option<&str>) -> Response<Full<Bytes>> {
        self.settle().await;
        match *method {
            Method::POST => {
                self.counters.mark(name, query.is_some_and(|query| query.split('&').any(|pair| pair == "log=1")));
                ok(&json!({}))
            }
            Method::GET => self.counters.since_mark(name).map_or_else(unknown_mark, |value| ok(&value)),
            Method::DELETE if self.counters.remove_mark(name) => ok(&json!({})),
            Method::DELETE => unknown_mark(),
            _ => error(StatusCode::METHOD_NOT_ALLOWED, "GET, POST or DELETE"),
        }
    }

    fn answer_faults(&self, method: &Method, query: &str) -> Response<Full<Bytes>> {
        match *method {
            Method::GET => {}
            Method::DELETE => self.faults.clear(),
            Method::POST => match Rule::parse(query) {
                Ok(rule) => self.faults.add(rule),
                Err(reason) => return error(StatusCode::BAD_REQUEST, &reason),
            },
            _ => return error(StatusCode::METHOD_NOT_ALLOWED, "GET, POST or DELETE"),
        }
        ok(&self.faults.json())
    }

    async fn answer_requests(&self, name: &str) -> Response<Full<Bytes>> {
        self.settle().await;
        let Some((records, dropped)) = self.counters.records_since_mark(name) else {
            return error(StatusCode::NOT_FOUND, "no mark of this name, or it was made without log=1");
        };
        // Up to a million records: off this thread, which other callers share.
        let body = tokio::task::spawn_blocking(move || {
            serde_json::to_vec(&Log { requests: records.iter().map(AsRef::as_ref).collect(), dropped })
        });
        match body.await {
            Ok(Ok(body)) => respond(StatusCode::OK, body),
            _ => error(StatusCode::INTERNAL_SERVER_ERROR, "the log could not be written"),
        }
    }

    /// Gives answers that clients already have the few microseconds until they are counted.
    async fn settle(&self) {
        for _ in 0..SETTLE_STEPS {
            if self.counters.is_settled() {
                return;
            }
            tokio::time::sleep(SETTLE_STEP).await;
        }
    }
}

fn ok(value: &Value) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, value.to_string())
}

fn unknown_mark() -> Response<Full<Bytes>> {
    error(StatusCode::NOT_FOUND, "no mark of this name")
}

fn error(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    respond(status, json!({ "error": message }).to_string())
}

fn respond(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}
