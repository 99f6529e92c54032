//! `If-Match` and its relatives.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue};
use s3s::dto::{ETag, ETagCondition, Timestamp, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

/// The conditions of one request.
#[derive(Debug, Default)]
pub struct Conditions {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none()
            && self.if_none_match.is_none()
            && self.if_modified_since.is_none()
            && self.if_unmodified_since.is_none()
    }

    /// Decides whether an object may be read. An ETag condition outranks the date of the same sense.
    ///
    /// # Errors
    /// `PreconditionFailed` (412) or `NotModified` (304, with the object's validators).
    pub fn check_read(&self, etag: &str, modified: SystemTime) -> S3Result<()> {
        let modified_at = Timestamp::from(modified);
        let kept = match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) => matches(condition, etag),
            (None, Some(date)) => modified_at <= *date,
            (None, None) => true,
        };
        if !kept {
            return Err(s3_error!(PreconditionFailed));
        }
        let fresh = match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) => !matches(condition, etag),
            (None, Some(date)) => modified_at > *date,
            (None, None) => true,
        };
        if fresh { Ok(()) } else { Err(not_modified(etag, modified_at)) }
    }

    /// Decides whether a copy may be made: as reading, but every failure is `PreconditionFailed`.
    ///
    /// # Errors
    /// `PreconditionFailed` (412).
    pub fn check_copy(&self, etag: &str, modified: SystemTime) -> S3Result<()> {
        self.check_read(etag, modified).map_err(|_| s3_error!(PreconditionFailed))
    }

    /// Decides whether an object may be written over what is there.
    ///
    /// # Errors
    /// `PreconditionFailed` (412), or `NoSuchKey` when an ETag is asked of an object that does not exist.
    pub fn check_write(&self, existing_etag: Option<&str>) -> S3Result<()> {
        match (&self.if_match, existing_etag) {
            (Some(ETagCondition::ETag(_)), None) => return Err(s3_error!(NoSuchKey)),
            (Some(ETagCondition::Any), None) => return Err(s3_error!(PreconditionFailed)),
            (Some(condition), Some(etag)) if !matches(condition, etag) => return Err(s3_error!(PreconditionFailed)),
            _ => {}
        }
        match (&self.if_none_match, existing_etag) {
            (Some(condition), Some(etag)) if matches(condition, etag) => Err(s3_error!(PreconditionFailed)),
            _ => Ok(()),
        }
    }
}

fn matches(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == etag,
    }
}

fn not_modified(etag: &str, modified: Timestamp) -> S3Error {
    let mut headers = HeaderMap::new();
    if let Ok(value) = ETag::Strong(etag.to_owned()).to_http_header() {
        headers.insert(ETAG, value);
    }
    let mut date = Vec::new();
    if modified.format(TimestampFormat::HttpDate, &mut date).is_ok()
        && let Ok(value) = HeaderValue::from_bytes(&date)
    {
        headers.insert(LAST_MODIFIED, value);
    }
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    error.set_headers(headers);
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

    fn etag(value: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(ETag::Strong(value.into())))
    }

    fn code(result: S3Result<()>) -> Option<S3ErrorCode> {
        result.err().map(|error| error.code().clone())
    }

    #[test]
    fn reading() {
        let check = |if_match, if_none_match| {
            let conditions = Conditions { if_match, if_none_match, ..Conditions::default() };
            code(conditions.check_read("a", UNIX_EPOCH))
        };
        assert_eq!(check(etag("a"), None), None);
        assert_eq!(check(etag("b"), None), Some(S3ErrorCode::PreconditionFailed));
        assert_eq!(check(None, etag("a")), Some(S3ErrorCode::NotModified));
        assert_eq!(check(None, etag("b")), None);
        assert_eq!(check(None, Some(ETagCondition::Any)), Some(S3ErrorCode::NotModified));
        assert_eq!(check(Some(ETagCondition::Any), None), None);
    }

    #[test]
    fn an_etag_outranks_a_date() {
        let conditions = Conditions {
            if_match: etag("a"),
            if_unmodified_since: Some(Timestamp::from(UNIX_EPOCH)),
            ..Conditions::default()
        };
        let later = UNIX_EPOCH + std::time::Duration::from_secs(9);
        assert_eq!(code(conditions.check_read("a", later)), None);
        let date_only = Conditions { if_match: None, ..conditions };
        assert_eq!(code(date_only.check_read("a", later)), Some(S3ErrorCode::PreconditionFailed));
    }

    #[test]
    fn writing() {
        let check = |if_match, if_none_match, existing| {
            let conditions = Conditions { if_match, if_none_match, ..Conditions::default() };
            code(conditions.check_write(existing))
        };
        assert_eq!(check(None, Some(ETagCondition::Any), None), None);
        assert_eq!(check(None, Some(ETagCondition::Any), Some("a")), Some(S3ErrorCode::PreconditionFailed));
        assert_eq!(check(etag("a"), None, Some("a")), None);
        assert_eq!(check(etag("a"), None, Some("b")), Some(S3ErrorCode::PreconditionFailed));
        assert_eq!(check(etag("a"), None, None), Some(S3ErrorCode::NoSuchKey));
    }
}
