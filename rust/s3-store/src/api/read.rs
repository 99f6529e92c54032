//! GET and HEAD of an object.

use std::ops::Range;
use std::sync::Arc;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE, CONTENT_TYPE,
    EXPIRES,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::dto::{
    self, ChecksumMode, ETag, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, StreamingBlob,
};
use s3s::{S3Error, S3ErrorCode, S3Response, S3Result};

use super::{Answer, Api};
use crate::backend::{Attributes, Conditions, FileStream, Object, whole_seconds};
use crate::zero_copy::OpenFile;

/// What S3 says of an object that was written without a type.
const DEFAULT_TYPE: HeaderValue = HeaderValue::from_static("binary/octet-stream");

/// What GET and HEAD say of an object alike.
struct Found {
    file: Arc<OpenFile>,
    headers: HeaderMap,
    range: Range<u64>,
    content_range: Option<String>,
    etag: String,
    last_modified: dto::Timestamp,
    metadata: Option<dto::Metadata>,
}

impl Api {
    pub(super) async fn do_get_object(&self, input: GetObjectInput) -> Answer<GetObjectOutput> {
        let (mode, conditions) = (input.checksum_mode.as_ref(), conditions!(input));
        let mut found = self.find(&input.bucket, &input.key, input.range, mode, conditions).await?;
        remove_overridden(&mut found.headers, &input);
        let output = GetObjectOutput {
            content_length: Some((found.range.end - found.range.start) as i64),
            content_range: found.content_range,
            e_tag: Some(ETag::Strong(found.etag)),
            last_modified: Some(found.last_modified),
            metadata: found.metadata,
            body: Some(StreamingBlob::new(FileStream::new(found.file, found.range))),
            ..Default::default()
        };
        Ok(S3Response::with_headers(output, found.headers))
    }

    pub(super) async fn do_head_object(&self, input: HeadObjectInput) -> Answer<HeadObjectOutput> {
        let (mode, conditions) = (input.checksum_mode.as_ref(), conditions!(input));
        let found = self.find(&input.bucket, &input.key, input.range, mode, conditions).await?;
        let output = HeadObjectOutput {
            content_length: Some((found.range.end - found.range.start) as i64),
            content_range: found.content_range,
            e_tag: Some(ETag::Strong(found.etag)),
            last_modified: Some(found.last_modified),
            metadata: found.metadata,
            ..Default::default()
        };
        Ok(S3Response::with_headers(output, found.headers))
    }

    async fn find(
        &self,
        bucket: &str,
        key: &str,
        range: Option<dto::Range>,
        mode: Option<&ChecksumMode>,
        conditions: Conditions,
    ) -> S3Result<Found> {
        let bucket = self.store.bucket(bucket)?;
        // Opening finds out whether the file is still there.
        let (object, file) = self.store.open_object(&bucket, key)?;
        let etag = self.etag(&bucket, key, &object).await?;
        conditions.check_read(&etag, object.modified())?;
        let headers = headers_of(&object.attributes, wants_checksums(mode, range));
        let (range, content_range) = select(range, object.size())?;
        let (last_modified, metadata) = (whole_seconds(object.modified()), user_metadata(&object));
        Ok(Found { file, headers, range, content_range, etag, last_modified, metadata })
    }
}

/// The bytes to answer with, and the `Content-Range` of an answer to a range request.
///
/// # Errors
/// `InvalidRange` (416) with the object's size, when not a single byte is meant.
fn select(range: Option<dto::Range>, size: u64) -> S3Result<(Range<u64>, Option<String>)> {
    let Some(range) = range else { return Ok((0..size, None)) };
    let selected = range.check(size).ok().filter(|range| !range.is_empty());
    let selected = selected.ok_or_else(|| invalid_range(size))?;
    let content_range = format!("bytes {}-{}/{size}", selected.start, selected.end - 1);
    Ok((selected, Some(content_range)))
}

fn invalid_range(size: u64) -> S3Error {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
        headers.insert(CONTENT_RANGE, value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    let mut error = S3Error::with_message(S3ErrorCode::InvalidRange, "The requested range is not satisfiable");
    error.set_headers(headers);
    error
}

fn headers_of(attributes: &Attributes, with_checksums: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, DEFAULT_TYPE);
    let checksums = attributes.checksums.iter().filter(|_| with_checksums);
    for (name, value) in attributes.headers.iter().chain(checksums) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    headers
}

/// A checksum is that of the whole object, so it would be wrong beside a part of it.
fn wants_checksums(mode: Option<&ChecksumMode>, range: Option<dto::Range>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED) && range.is_none()
}

/// Headers that the request sets itself (`response-content-type=...`) are s3s's work.
fn remove_overridden(headers: &mut HeaderMap, input: &GetObjectInput) {
    for (is_overridden, name) in [
        (input.response_cache_control.is_some(), CACHE_CONTROL),
        (input.response_content_disposition.is_some(), CONTENT_DISPOSITION),
        (input.response_content_encoding.is_some(), CONTENT_ENCODING),
        (input.response_content_language.is_some(), CONTENT_LANGUAGE),
        (input.response_content_type.is_some(), CONTENT_TYPE),
        (input.response_expires.is_some(), EXPIRES),
    ] {
        if is_overridden {
            headers.remove(name);
        }
    }
}

fn user_metadata(object: &Arc<Object>) -> Option<dto::Metadata> {
    let user = &object.attributes.user;
    (!user.is_empty()).then(|| user.clone().into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(header: &str, size: u64) -> Option<(u64, u64)> {
        let range = dto::Range::parse(header).unwrap();
        select(Some(range), size).ok().map(|(range, _)| (range.start, range.end))
    }

    #[test]
    fn every_form_of_range() {
        assert_eq!(resolved("bytes=0-0", 10), Some((0, 1)));
        assert_eq!(resolved("bytes=2-5", 10), Some((2, 6)));
        assert_eq!(resolved("bytes=2-50", 10), Some((2, 10)));
        assert_eq!(resolved("bytes=2-", 10), Some((2, 10)));
        assert_eq!(resolved("bytes=-3", 10), Some((7, 10)));
        assert_eq!(resolved("bytes=-30", 10), Some((0, 10)));
        for unsatisfiable in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(resolved(unsatisfiable, 10), None, "{unsatisfiable}");
        }
        for on_empty in ["bytes=0-0", "bytes=0-", "bytes=-1"] {
            assert_eq!(resolved(on_empty, 0), None, "{on_empty}");
        }
    }
}
