//! What the layers around the S3 service have in common.
//!
//! From the outside in: counters (`exchange`), faults (`faults`), first byte (`service_time`), link rate (`pacing`), signatures of
//! anonymous mode (`anonymous`), S3 itself. All speak the same types, so that another layer fits anywhere.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{CONTENT_RANGE, RANGE};
use http::{Request, Response, StatusCode};
use s3s::dto::Range;
use s3s::service::S3Service;
use s3s::{Body, HttpError};
use tower::Service;

pub type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, HttpError>> + Send>>;

/// A layer's inner service: a tower service over S3 requests.
pub trait S3Layered:
    Service<Request<Body>, Response = Response<Body>, Error = HttpError, Future = ResponseFuture> + Clone + Send + 'static
{
}

impl<S> S3Layered for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = HttpError, Future = ResponseFuture>
        + Clone
        + Send
        + 'static
{
}

/// The S3 protocol as the innermost service.
#[derive(Clone)]
pub struct Endpoint(pub S3Service);

impl Service<Request<Body>> for Endpoint {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> ResponseFuture {
        ignore_malformed_range(&mut request);
        let service = self.0.clone();
        Box::pin(async move { service.call(request).await.map(with_partial_status) })
    }
}

/// S3 answers with the whole object where s3s would refuse: `bytes=5-2`, several ranges, other units.
fn ignore_malformed_range(request: &mut Request<Body>) {
    let Some(range) = request.headers().get(RANGE) else { return };
    if range.to_str().ok().and_then(|text| Range::parse(text).ok()).is_none() {
        request.headers_mut().remove(RANGE);
    }
}

/// s3s knows 206 for GET only.
fn with_partial_status(mut response: Response<Body>) -> Response<Body> {
    if response.status() == StatusCode::OK && response.headers().contains_key(CONTENT_RANGE) {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}
