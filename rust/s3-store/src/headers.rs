//! Headers that S3 understands and s3s refuses: lists of ETags, dates that are none, ranges beyond what it can count.
//!
//! They are taken out of s3s's sight and kept beside the request. Where signatures are checked that comes after the
//! check, since a signature is one of the headers as they were sent: such a request passes s3s a second time, without
//! its signature.

use http::header::{AUTHORIZATION, RANGE};
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Uri};
use s3s::dto::Range;
use s3s::route::S3Route;
use s3s::service::S3Service;
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::backend::CONDITION_HEADERS;

/// The condition headers of a request as they were sent, in its extensions.
#[derive(Clone)]
struct Asked(HeaderMap);

/// The headers in which a request's conditions stand.
pub fn with_conditions<T>(request: &S3Request<T>) -> &HeaderMap {
    request.extensions.get::<Asked>().map_or(&request.headers, |asked| &asked.0)
}

/// Takes from the headers what s3s would refuse.
pub fn make_fit<B>(request: &mut Request<B>) {
    fit_range(request.headers_mut());
    if !has_conditions(request.headers()) {
        return;
    }
    let mut asked = HeaderMap::new();
    for name in &CONDITION_HEADERS {
        if let http::header::Entry::Occupied(entry) = request.headers_mut().entry(name) {
            let (_, values) = entry.remove_entry_mult();
            for value in values {
                asked.append(name, value);
            }
        }
    }
    request.extensions_mut().insert(Asked(asked));
}

fn has_conditions(headers: &HeaderMap) -> bool {
    CONDITION_HEADERS.iter().any(|name| headers.contains_key(name))
}

fn is_fit_range(value: &HeaderValue) -> bool {
    // s3s takes this one for the last no bytes.
    value.to_str().is_ok_and(|text| text != "bytes=-" && Range::parse(text).is_ok())
}

fn fit_range(headers: &mut HeaderMap) {
    let Some(value) = headers.get(RANGE) else { return };
    if is_fit_range(value) {
        return;
    }
    match value.to_str().ok().and_then(counted) {
        Some(range) => drop(headers.insert(RANGE, range)),
        // What is no byte range does not count: `bytes=5-2`, several ranges, other units.
        None => drop(headers.remove(RANGE)),
    }
}

/// A byte range with its numbers brought down to what s3s counts, which no object is as large as; `None` for anything
/// but one range.
fn counted(text: &str) -> Option<HeaderValue> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = (Decimal::of(first)?, Decimal::of(last)?);
    if (from.0.is_empty() && to.0.is_empty()) || (!from.0.is_empty() && !to.0.is_empty() && from > to) {
        return None;
    }
    HeaderValue::try_from(format!("bytes={}-{}", from.at_most_i64(), to.at_most_i64())).ok()
}

/// A number of any length, or none at all, by its digits; compared as numbers are.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Decimal<'a>(&'a str);

impl<'a> Decimal<'a> {
    fn of(text: &'a str) -> Option<Self> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let significant = text.trim_start_matches('0');
        Some(Self(if significant.is_empty() && !text.is_empty() { "0" } else { significant }))
    }

    fn at_most_i64(self) -> &'a str {
        const MOST: &str = "9223372036854775807";
        if self > Decimal(MOST) { MOST } else { self.0 }
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some((self.0.len(), self.0).cmp(&(other.0.len(), other.0)))
    }
}

/// Takes the signature off, wherever it stands.
pub fn remove_signature<B>(request: &mut Request<B>) {
    request.headers_mut().remove(AUTHORIZATION);
    if let Some(uri) = unsigned_uri(request.uri()) {
        *request.uri_mut() = uri;
    }
}

/// The address without the parameters that make it a presigned one; `None` when it is not.
fn unsigned_uri(uri: &Uri) -> Option<Uri> {
    let is_signature = |pair: &&str| pair.starts_with("X-Amz-Signature=") || pair.starts_with("Signature=");
    let query = uri.query()?;
    if !query.split('&').any(|pair| is_signature(&pair)) {
        return None;
    }
    let kept: Vec<&str> = query.split('&').filter(|pair| !is_signature(pair)).collect();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{}?{}", uri.path(), kept.join("&"))).ok()?);
    Uri::from_parts(parts).ok()
}

/// Behind the check of signatures: requests with such headers, for the service that checks none.
pub struct AfterCheck(pub S3Service);

#[async_trait::async_trait]
impl S3Route for AfterCheck {
    fn is_match(&self, _: &Method, _: &Uri, headers: &HeaderMap, _: &mut Extensions) -> bool {
        has_conditions(headers) || headers.get(RANGE).is_some_and(|value| !is_fit_range(value))
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        let mut inner = Request::new(request.input);
        *inner.method_mut() = request.method;
        *inner.uri_mut() = request.uri;
        *inner.headers_mut() = request.headers;
        *inner.extensions_mut() = request.extensions;
        remove_signature(&mut inner);
        if let Some(trailers) = request.trailing_headers {
            inner.extensions_mut().insert(trailers);
        }
        make_fit(&mut inner);
        let answer =
            self.0.call(inner).await.map_err(|error| S3Error::with_source(S3ErrorCode::InternalError, error.into()))?;
        let (head, body) = answer.into_parts();
        let mut response = S3Response::new(body);
        response.status = Some(head.status);
        response.headers = head.headers;
        response.extensions = head.extensions;
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fit(range: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_str(range).unwrap());
        fit_range(&mut headers);
        headers.get(RANGE).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn numbers_beyond_counting_are_the_largest_one() {
        const MOST: u64 = i64::MAX as u64;
        for (sent, kept) in [
            ("bytes=0-18446744073709551615", format!("bytes=0-{MOST}")),
            ("bytes=9223372036854775808-", format!("bytes={MOST}-")),
            ("bytes=-340282366920938463463374607431768211456", format!("bytes=-{MOST}")),
            ("bytes=00000000000000000000000001-18446744073709551616", format!("bytes=1-{MOST}")),
            ("bytes=0-5", "bytes=0-5".into()),
        ] {
            assert_eq!(fit(sent), Some(kept), "{sent}");
        }
        for nonsense in [
            "bytes=99999999999999999999-99999999999999999998",
            "bytes=5-2",
            "bytes=-",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "lines=0-1",
            "0-1",
            "bytes=99999999999999999999",
        ] {
            assert_eq!(fit(nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        /// Whatever text stands there: s3s then reads it, or it is gone; and one that was right selects what it named.
        #[test]
        fn any_text_is_a_range_or_gone(text in "(bytes=)?[0-9,\\- =a]{0,45}") {
            if let Some(kept) = fit(&text) {
                prop_assert!(Range::parse(&kept).is_ok(), "{kept}");
            }
        }

        #[test]
        fn a_range_selects_the_bytes_it_names(first in any::<u128>(), length in any::<u128>(), size in 1_u64..1 << 50) {
            let last = first.saturating_add(length);
            let kept = fit(&format!("bytes={first}-{last}")).unwrap();
            let selected = Range::parse(&kept).unwrap().check(size).ok();
            let size = u128::from(size);
            let expected = (first < size).then(|| first as u64..(last.min(size - 1) + 1) as u64);
            prop_assert_eq!(selected, expected);
        }
    }

    #[test]
    fn presigned_addresses_lose_their_signature() {
        let uri = "/b/k?a=1&X-Amz-Signature=00&X-Amz-Expires=5".parse().unwrap();
        assert_eq!(unsigned_uri(&uri).unwrap(), "/b/k?a=1&X-Amz-Expires=5");
        assert!(unsigned_uri(&"/b/k?a=1".parse().unwrap()).is_none());
    }
}
