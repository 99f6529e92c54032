//! The layer that spoils answers as the rules say.

use std::sync::Arc;

use http::{Method, Request, Response};
use s3s::Body;

use super::body::spoil_body;
use super::rules::{Asked, Faults};
use crate::answers::error_answer;
use crate::fault::Fault;
use crate::kind::{Call, Kind};
use crate::layer::{Answer, Layer, Service};

/// Beside a spoiled answer: what it would have been.
#[derive(Debug, Clone, Copy)]
pub struct Spoiled {
    pub kind: Kind,
    /// Reset the connection instead of answering.
    pub is_reset: bool,
}

impl Layer for Arc<Faults> {
    async fn answer(&self, request: Request<Body>, inside: &impl Service) -> Answer {
        let may_fail = self.is_on() && request.method() == Method::GET;
        let asked = may_fail.then(|| (Call::of(request.method(), request.uri()), request.uri().path().to_owned()));
        let response = inside.call(request).await?;
        let Some((call, path)) = asked.filter(|_| response.status().is_success()) else { return Ok(response) };
        let kind = call.kind(response.headers());
        match self.judge(Asked::of(path, response.headers()), kind) {
            None => Ok(response),
            Some(Fault::Hang) => {
                drop(response);
                std::future::pending().await
            }
            Some(fault) => Ok(spoil(fault, kind, response)),
        }
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
