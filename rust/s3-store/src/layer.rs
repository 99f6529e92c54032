//! What lies around the S3 service: layers, each one async function that is given the service inside.
//!
//! From the outside in: counters (`exchange`), faults (`faults`), request rate (`throttle`), first byte
//! (`service_time`), link rate (`pacing`), signatures of anonymous mode (`anonymous`), S3 itself (`api`). All speak the
//! same types, so that another layer fits anywhere.
//! Their futures are nested, not boxed: a layer allocates nothing, and one that is off costs a comparison.

use std::sync::Arc;

use http::header::CONTENT_RANGE;
use http::{Request, Response, StatusCode};
use s3s::service::S3Service;
use s3s::{Body, HttpError};

use crate::api::plain_range;
use crate::backend::Store;
use crate::headers::make_fit;

pub type Answer = Result<Response<Body>, HttpError>;

/// What answers S3 requests.
pub trait Service: Send + Sync + 'static {
    fn call(&self, request: Request<Body>) -> impl Future<Output = Answer> + Send;
}

/// What changes requests on their way to the service inside, or answers on their way back.
pub trait Layer: Send + Sync + 'static {
    fn answer(&self, request: Request<Body>, inside: &impl Service) -> impl Future<Output = Answer> + Send;
}

/// A layer around a service.
pub struct Around<L, S>(pub L, pub S);

impl<L: Layer, S: Service> Service for Around<L, S> {
    fn call(&self, request: Request<Body>) -> impl Future<Output = Answer> + Send {
        self.0.answer(request, &self.1)
    }
}

/// A layer that may be off.
impl<L: Layer> Layer for Option<L> {
    async fn answer(&self, request: Request<Body>, inside: &impl Service) -> Answer {
        match self {
            Some(layer) => layer.answer(request, inside).await,
            None => inside.call(request).await,
        }
    }
}

/// The S3 protocol as the innermost service.
pub struct S3 {
    pub service: S3Service,
    pub store: Arc<Store>,
    /// Then headers are left as they were signed, see `headers`.
    pub checks_signatures: bool,
}

impl Service for S3 {
    async fn call(&self, mut request: Request<Body>) -> Answer {
        if !self.checks_signatures {
            if let Some(answer) = plain_range(&self.store, &request) {
                return Ok(answer);
            }
            make_fit(&mut request);
        }
        self.service.call(request).await.map(with_partial_status)
    }
}

/// s3s knows 206 for GET only.
fn with_partial_status(mut response: Response<Body>) -> Response<Body> {
    if response.status() == StatusCode::OK && response.headers().contains_key(CONTENT_RANGE) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}
