//! `If-Match` and its relatives, as RFC 9110 (13.1) reads them: lists of ETags, and dates that are ignored where they
//! are none.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::Timestamp;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::object::Object;

/// Every header with a condition, on what is asked for and on what is copied.
pub static CONDITION_HEADERS: [HeaderName; 8] = [
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    HeaderName::from_static("x-amz-copy-source-if-match"),
    HeaderName::from_static("x-amz-copy-source-if-none-match"),
    HeaderName::from_static("x-amz-copy-source-if-modified-since"),
    HeaderName::from_static("x-amz-copy-source-if-unmodified-since"),
];

/// The conditions of one request.
#[derive(Debug, Default)]
pub struct Conditions {
    if_match: Option<ETags>,
    if_none_match: Option<ETags>,
    if_modified_since: Option<SystemTime>,
    if_unmodified_since: Option<SystemTime>,
}

/// What an ETag is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ETags {
    Any,
    /// Each as it was sent.
    List(Vec<String>),
}

impl Conditions {
    /// The conditions on the object that a request is for.
    pub fn of(headers: &HeaderMap) -> Self {
        let [a, b, c, d, ..] = &CONDITION_HEADERS;
        Self::named(headers, [a, b, c, d])
    }

    /// The conditions on the object that a request copies from.
    pub fn of_copy(headers: &HeaderMap) -> Self {
        let [_, _, _, _, a, b, c, d] = &CONDITION_HEADERS;
        Self::named(headers, [a, b, c, d])
    }

    /// That the object has this ETag.
    pub fn of_etag(etag: &str) -> Self {
        Self { if_match: Some(ETags::List(vec![etag.to_owned()])), ..Self::default() }
    }

    fn named(headers: &HeaderMap, [matched, none_matched, modified, unmodified]: [&HeaderName; 4]) -> Self {
        Self {
            if_match: ETags::of(headers, matched),
            if_none_match: ETags::of(headers, none_matched),
            if_modified_since: date(headers, modified),
            if_unmodified_since: date(headers, unmodified),
        }
    }

    /// Decides whether an object may be read. An ETag condition outranks the date of the same sense.
    ///
    /// # Errors
    /// `PreconditionFailed` (412) or `NotModified` (304, with the object's validators).
    pub fn check_read(&self, etag: &str, modified: SystemTime) -> S3Result<()> {
        let kept = match (&self.if_match, &self.if_unmodified_since) {
            (Some(etags), _) => etags.match_strongly(etag),
            (None, Some(date)) => modified <= *date,
            (None, None) => true,
        };
        if !kept {
            return Err(s3_error!(PreconditionFailed));
        }
        let fresh = match (&self.if_none_match, &self.if_modified_since) {
            (Some(etags), _) => !etags.match_weakly(etag),
            (None, Some(date)) => modified > *date,
            (None, None) => true,
        };
        if fresh { Ok(()) } else { Err(not_modified(etag, modified)) }
    }

    /// Decides whether a copy may be made: as reading, but every failure is `PreconditionFailed`.
    ///
    /// # Errors
    /// `PreconditionFailed` (412).
    pub fn check_copy(&self, etag: &str, modified: SystemTime) -> S3Result<()> {
        self.check_read(etag, modified).map_err(|_| s3_error!(PreconditionFailed))
    }

    /// Decides whether an object may be written over, or deleted.
    ///
    /// # Errors
    /// `PreconditionFailed` (412), or `NoSuchKey` when `If-Match` is asked of an object that does not exist.
    pub fn check_write(&self, existing: Option<&Object>) -> S3Result<()> {
        match (&self.if_match, existing) {
            (Some(_), None) => return Err(s3_error!(NoSuchKey)),
            (Some(etags), Some(object)) if !etags.match_strongly(&object.etag) => {
                return Err(s3_error!(PreconditionFailed));
            }
            _ => {}
        }
        match (&self.if_none_match, existing) {
            (Some(etags), Some(object)) if etags.match_weakly(&object.etag) => Err(s3_error!(PreconditionFailed)),
            _ => Ok(()),
        }
    }
}

impl ETags {
    fn of(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut etags = Vec::new();
        for value in headers.get_all(name) {
            etags.extend(split(value.to_str().ok()?));
        }
        match etags.as_slice() {
            [] => None,
            [any] if any == "*" => Some(Self::Any),
            _ => Some(Self::List(etags)),
        }
    }

    fn match_weakly(&self, etag: &str) -> bool {
        self.any(|wanted| opaque(wanted.strip_prefix("W/").unwrap_or(wanted)) == etag)
    }

    fn match_strongly(&self, etag: &str) -> bool {
        self.any(|wanted| opaque(wanted) == etag)
    }

    fn any(&self, is_it: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::List(etags) => etags.iter().any(|etag| is_it(etag)),
        }
    }
}

/// The items of a list: a comma inside quotes is part of one.
fn split(list: &str) -> impl Iterator<Item = String> {
    let mut quoted = false;
    let items = list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    items.map(|item| item.trim().to_owned()).filter(|item| !item.is_empty())
}

/// Without the quotes, which some clients leave out.
fn opaque(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Whether a range may be answered with that range: not if `If-Range` names another version.
pub fn range_holds(headers: &HeaderMap, etag: &str, modified: SystemTime) -> bool {
    let Some(condition) = headers.get(IF_RANGE) else { return true };
    let Ok(text) = condition.to_str() else { return false };
    match httpdate::parse_http_date(text) {
        Ok(date) => date == modified,
        Err(_) => opaque(text) == etag,
    }
}

fn not_modified(etag: &str, modified: SystemTime) -> S3Error {
    let values = [(ETAG, format!("\"{etag}\"")), (LAST_MODIFIED, httpdate::fmt_http_date(modified))];
    let headers = values.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)));
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    error.set_headers(headers.collect());
    error
}

/// The whole second, as HTTP dates have it.
pub fn whole_seconds(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from(UNIX_EPOCH + std::time::Duration::from_secs(since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::object::{Attributes, Identity};

    const EPOCH: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    fn code(result: S3Result<()>) -> Option<S3ErrorCode> {
        result.err().map(|error| error.code().clone())
    }

    fn read(pairs: &[(HeaderName, &'static str)]) -> Option<S3ErrorCode> {
        let later = UNIX_EPOCH + std::time::Duration::from_secs(9);
        code(Conditions::of(&headers(pairs)).check_read("a", later))
    }

    #[test]
    fn reading() {
        let (failed, not_modified) = (Some(S3ErrorCode::PreconditionFailed), Some(S3ErrorCode::NotModified));
        for value in ["\"a\"", "a", "*", "\"b\", \"a\"", "\"b\",W/\"x\",\"a\""] {
            assert_eq!(read(&[(IF_MATCH, value)]), None, "{value}");
            assert_eq!(read(&[(IF_NONE_MATCH, value)]), not_modified, "{value}");
        }
        for value in ["\"b\"", "\"b\", \"c\"", "\"b, a\""] {
            assert_eq!(read(&[(IF_MATCH, value)]), failed, "{value}");
            assert_eq!(read(&[(IF_NONE_MATCH, value)]), None, "{value}");
        }
        assert_eq!(read(&[(IF_NONE_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")]), not_modified, "two lines are a list");
        // A weak one says "much the same": enough not to send it again, too little to rely on it.
        assert_eq!(read(&[(IF_NONE_MATCH, "W/\"a\"")]), not_modified);
        assert_eq!(read(&[(IF_MATCH, "W/\"a\"")]), failed);
    }

    #[test]
    fn dates() {
        let failed = Some(S3ErrorCode::PreconditionFailed);
        assert_eq!(read(&[(IF_UNMODIFIED_SINCE, EPOCH)]), failed);
        assert_eq!(read(&[(IF_MATCH, "\"a\""), (IF_UNMODIFIED_SINCE, EPOCH)]), None, "an ETag outranks a date");
        assert_eq!(read(&[(IF_MODIFIED_SINCE, "Thu, 01 Jan 1970 00:00:09 GMT")]), Some(S3ErrorCode::NotModified));
        assert_eq!(read(&[(IF_MODIFIED_SINCE, EPOCH)]), None);
        for nonsense in ["yesterday", "", "2026-01-01T00:00:00Z"] {
            assert_eq!(read(&[(IF_UNMODIFIED_SINCE, nonsense)]), None, "{nonsense}");
            assert_eq!(read(&[(IF_MODIFIED_SINCE, nonsense)]), None, "{nonsense}");
        }
    }

    #[test]
    fn writing() {
        let identity = Identity { size: 0, modified_ns: 0, inode: 0, changed_ns: 0 };
        let object = Object::new("o".into(), identity, "a".into(), Attributes::default());
        let check = |name, value, exists: bool| {
            let conditions = Conditions::of(&headers(&[(name, value)]));
            code(conditions.check_write(exists.then_some(&object)))
        };
        assert_eq!(check(IF_NONE_MATCH, "*", false), None);
        assert_eq!(check(IF_NONE_MATCH, "*", true), Some(S3ErrorCode::PreconditionFailed));
        assert_eq!(check(IF_MATCH, "\"a\"", true), None);
        assert_eq!(check(IF_MATCH, "\"b\"", true), Some(S3ErrorCode::PreconditionFailed));
        assert_eq!(check(IF_MATCH, "\"a\"", false), Some(S3ErrorCode::NoSuchKey));
        assert_eq!(check(IF_MATCH, "*", false), Some(S3ErrorCode::NoSuchKey));
    }

    #[test]
    fn a_range_holds_for_the_version_it_was_asked_of() {
        let holds = |value| range_holds(&headers(&[(IF_RANGE, value)]), "a", UNIX_EPOCH);
        assert!(range_holds(&HeaderMap::new(), "a", UNIX_EPOCH));
        assert!(holds("\"a\"") && holds(EPOCH));
        assert!(!holds("\"b\"") && !holds("W/\"a\"") && !holds("Thu, 01 Jan 1970 00:00:01 GMT") && !holds("nonsense"));
    }
}
