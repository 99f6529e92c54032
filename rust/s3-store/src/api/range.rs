//! GET of one range of an object, nearly all that readers send: answered as s3s does, without its way through all that a
//! request could ask for (docs/store.md, "What it costs").

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use httpdate::HttpDate;
use s3s::Body;
use s3s::dto::Range;
use s3s::stream::DynByteStream;

use super::read::{headers_of, select};
use crate::backend::{Conditions, FileStream, Object, Store, range_holds};
use crate::kind::bucket_and_key;

/// Headers of S3's own that change nothing in the answer to a range.
const WITHOUT_EFFECT: [&str; 5] =
    ["x-amz-checksum-mode", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-user-agent"];

/// What AWS's own clients for Rust say in each GET of an object.
const OPERATION: &str = "x-id=GetObject";

/// The longest name of an object, bytes.
const MAX_KEY: usize = 1024;

/// The answer to an unsigned request for one range of an object that is there and meets the request's conditions.
/// Everything else, errors too, is s3s's.
pub fn plain_range(store: &Store, request: &Request<Body>) -> Option<Response<Body>> {
    let (path, asked) = (request.uri().path(), request.headers());
    let range = Range::parse(asked.get(RANGE)?.to_str().ok()?).ok()?;
    let is_plain = request.method() == Method::GET
        && request.uri().query().is_none_or(|query| query == OPERATION)
        && !path.contains('%')
        && request.body().is_end_stream()
        // One that stands twice may be refused.
        && asked.len() == asked.keys_len()
        && asked.keys().all(is_without_effect);
    let (bucket, key) = bucket_and_key(path);
    if !is_plain || key.is_empty() || key.len() > MAX_KEY {
        return None;
    }
    let bucket = store.bucket(bucket).ok()?;
    let (object, file) = store.open_object(&bucket, key).ok()?;
    let modified = object.modified();
    Conditions::of(asked).check_read(&object.etag, modified).ok()?;
    if !range_holds(asked, &object.etag, modified) {
        return None;
    }
    let (range, content_range) = select(Some(range), object.size()).ok()?;
    let headers = headers(&object, range.end - range.start, content_range?)?;
    let stream: DynByteStream = Box::pin(FileStream::new(file, range));
    let mut answer = Response::new(Body::from(stream));
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    *answer.headers_mut() = headers;
    Some(answer)
}

fn is_without_effect(name: &HeaderName) -> bool {
    let name = name.as_str();
    !name.starts_with("x-amz-") || WITHOUT_EFFECT.contains(&name)
}

/// `None` of an object with metadata of its user, which s3s writes.
fn headers(object: &Object, length: u64, content_range: String) -> Option<HeaderMap> {
    if !object.attributes.user.is_empty() {
        return None;
    }
    let mut headers = headers_of(&object.attributes, false);
    headers.insert(CONTENT_LENGTH, length.into());
    headers.insert(CONTENT_RANGE, HeaderValue::try_from(content_range).ok()?);
    headers.insert(ETAG, HeaderValue::try_from(format!("\"{}\"", object.etag)).ok()?);
    headers.insert(LAST_MODIFIED, HeaderValue::try_from(HttpDate::from(object.modified()).to_string()).ok()?);
    Some(headers)
}
