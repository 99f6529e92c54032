//! The name of a request: in its answer, as S3 has it, and in the log of errors.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use http::{HeaderName, HeaderValue, Request, Response};
use s3s::Body;
use tracing::{Level, Span};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// Requests of this process that were named.
static NAMED: AtomicU64 = AtomicU64::new(0);

/// A request with the name that it has got, if it has one yet.
pub struct Named {
    id: Option<u64>,
    /// What the log of errors says a cause belongs to.
    pub span: Span,
}

impl Named {
    /// Names it now if errors are logged. Otherwise an answer is named that needs it.
    pub fn of<B>(request: &Request<B>) -> Self {
        if !tracing::enabled!(Level::ERROR) {
            return Self { id: None, span: Span::none() };
        }
        let id = next_id();
        let (method, path) = (request.method(), request.uri().path());
        Self { id: Some(id), span: tracing::error_span!("request", id = text(id), %method, path) }
    }

    /// Writes the name into the answer: not into that of a range that is fine, which is as cheap as it can be.
    pub fn on(&self, mut answer: Response<Body>) -> Response<Body> {
        let is_range = answer.status().is_success() && answer.headers().contains_key(CONTENT_RANGE);
        if is_range && self.id.is_none() {
            return answer;
        }
        let id = text(self.id.unwrap_or_else(next_id));
        if answer.status().is_client_error() || answer.status().is_server_error() {
            answer = in_error(answer, &id);
        }
        if let Ok(value) = HeaderValue::try_from(id) {
            answer.headers_mut().insert(REQUEST_ID, value);
        }
        answer
    }
}

fn next_id() -> u64 {
    NAMED.fetch_add(1, Relaxed)
}

/// Sixteen hexadecimal digits that differ everywhere from one request to the next.
fn text(id: u64) -> String {
    format!("{:016X}", (id + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// An error's XML with the name in it.
fn in_error(answer: Response<Body>, id: &str) -> Response<Body> {
    const END: &[u8] = b"</Error>";
    let Some(xml) = answer.body().bytes().filter(|xml| xml.ends_with(END)) else { return answer };
    let start = &xml[..xml.len() - END.len()];
    let named = [start, b"<RequestId>", id.as_bytes(), b"</RequestId>", END].concat();
    let mut answer = answer.map(|_| Body::from(Bytes::from(named)));
    // It is that of the body before.
    answer.headers_mut().remove(CONTENT_LENGTH);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::error_answer;
    use http::StatusCode;

    fn unnamed() -> Named {
        Named { id: None, span: Span::none() }
    }

    #[test]
    fn an_error_has_its_name_in_header_and_body() {
        let answer = unnamed().on(error_answer(StatusCode::NOT_FOUND, "NoSuchKey", "none"));
        let id = answer.headers()[REQUEST_ID].to_str().unwrap().to_owned();
        let xml = String::from_utf8(answer.body().bytes().unwrap().to_vec()).unwrap();
        assert!(xml.ends_with(&format!("<RequestId>{id}</RequestId></Error>")), "{xml}");
        let other = unnamed().on(Response::new(Body::empty()));
        assert_ne!(other.headers()[REQUEST_ID].to_str().unwrap(), id);
    }

    #[test]
    fn a_range_costs_nothing_more() {
        let mut answer = Response::new(Body::empty());
        answer.headers_mut().insert(CONTENT_RANGE, HeaderValue::from_static("bytes 0-1/2"));
        assert_eq!(unnamed().on(answer).headers().len(), 1);
    }
}
