//! GET of one range of an object, nearly all that readers send: answered as s3s does, without its way through all that a
//! request could ask for (docs/store.md, "What it costs").

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, RANGE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use httpdate::HttpDate;
use s3s::Body;
use s3s::dto::Range;
use s3s::path::check_key;
use s3s::stream::DynByteStream;

use super::read::{Asked, Found, find};
use crate::backend::{FileStream, Store};
use crate::kind::bucket_and_key;

/// Headers of S3's own that change nothing in the answer to a range.
const WITHOUT_EFFECT: [&str; 5] =
    ["x-amz-checksum-mode", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-user-agent"];

/// What AWS's client for Rust, which Icechunk uses, adds to the address of a GET.
const OPERATION: &str = "x-id=GetObject";

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
    if !is_plain || key.is_empty() || !check_key(key) {
        return None;
    }
    let asked_for = Asked { bucket, key, range: Some(range), part: None, wants_checksums: false };
    written(find(store, asked, asked, asked_for).ok()?)
}

fn is_without_effect(name: &HeaderName) -> bool {
    let name = name.as_str();
    !name.starts_with("x-amz-") || WITHOUT_EFFECT.contains(&name)
}

/// `None` where the range does not hold, and of an object with metadata of its user: s3s writes these.
fn written(found: Found) -> Option<Response<Body>> {
    if found.metadata.is_some() {
        return None;
    }
    let mut headers = found.headers;
    headers.insert(CONTENT_LENGTH, (found.range.end - found.range.start).into());
    headers.insert(CONTENT_RANGE, HeaderValue::try_from(found.content_range?).ok()?);
    headers.insert(ETAG, HeaderValue::try_from(format!("\"{}\"", found.etag)).ok()?);
    headers.insert(LAST_MODIFIED, HeaderValue::try_from(HttpDate::from(found.modified).to_string()).ok()?);
    let stream: DynByteStream = Box::pin(FileStream::new(found.file, found.range));
    let mut answer = Response::new(Body::from(stream));
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    *answer.headers_mut() = headers;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each reader's ranged GETs carry, as recorded: none of them is to cost the store more than another's.
    const READERS: [(&str, &str, &[&str]); 5] = [
        ("obstore, zarrista, zarrs", "", &["accept", "user-agent"]),
        ("zarrs-planned and the limit", "", &[]),
        (
            "fsspec",
            "",
            &[
                "accept",
                "accept-encoding",
                "amz-sdk-invocation-id",
                "amz-sdk-request",
                "user-agent",
                "x-amz-checksum-mode",
            ],
        ),
        (
            "tensorstore",
            "",
            &["accept", "accept-encoding", "if-match", "user-agent", "x-amz-content-sha256", "x-amz-date"],
        ),
        ("Icechunk", "?x-id=GetObject", &["user-agent"]),
    ];

    fn request(target: &str, names: &[&str], value: &str) -> Request<Body> {
        let mut request = Request::get(target).header("host", "x").header(RANGE, "bytes=1-2");
        for name in names {
            request = request.header(*name, value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn every_readers_ranges_are_plain() {
        let root = std::env::temp_dir().join(format!("s3-store-range-{}", std::process::id()));
        std::fs::create_dir_all(root.join("bucket")).unwrap();
        std::fs::write(root.join("bucket/key"), b"0123").unwrap();
        let store = Store::open(&root).unwrap();
        for (reader, query, names) in READERS {
            let answer = plain_range(&store, &request(&format!("/bucket/key{query}"), names, "*"));
            assert_eq!(answer.unwrap().headers()[CONTENT_RANGE], "bytes 1-2/4", "{reader}");
        }
        for (target, names) in [("/bucket/none", &[][..]), ("/bucket/key?acl", &[]), ("/bucket/key", &["x-amz-other"])]
        {
            assert!(plain_range(&store, &request(target, names, "*")).is_none(), "{target} {names:?}");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}
