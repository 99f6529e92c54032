//! GET and HEAD of an object.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE, CONTENT_TYPE,
    EXPIRES,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use s3s::dto::{
    self, ChecksumMode, ETag, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput, StreamingBlob,
};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::multipart::PART_NUMBERS;
use super::{Answer, Api};
use crate::backend::{Attributes, Conditions, FileStream, Object, Store, range_holds, whole_seconds};
use crate::headers::with_conditions;
use crate::zero_copy::OpenFile;

/// What S3 says of an object that was written without a type.
const DEFAULT_TYPE: HeaderValue = HeaderValue::from_static("binary/octet-stream");

/// What GET and HEAD ask for alike.
pub(super) struct Asked<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
    pub range: Option<dto::Range>,
    pub part: Option<i32>,
    pub wants_checksums: bool,
}

/// The same fields of two types.
macro_rules! asked {
    ($input:expr) => {
        Asked {
            bucket: &$input.bucket,
            key: &$input.key,
            range: $input.range,
            part: $input.part_number,
            // A checksum is that of the whole object, so it would be wrong beside a part of it.
            wants_checksums: $input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
                && $input.range.is_none()
                && $input.part_number.is_none(),
        }
    };
}

/// What GET and HEAD say of an object alike.
pub(super) struct Found {
    pub file: Arc<OpenFile>,
    pub headers: HeaderMap,
    pub range: Range<u64>,
    pub content_range: Option<String>,
    pub etag: String,
    pub modified: SystemTime,
    pub metadata: Option<dto::Metadata>,
    /// Where a part was asked for, of an object that has parts.
    parts_count: Option<i32>,
}

impl Api {
    pub(super) async fn do_get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let mut found = find(&self.store, &req.headers, with_conditions(&req), asked!(req.input))?;
        let input = req.input;
        remove_overridden(&mut found.headers, &input);
        let output = GetObjectOutput {
            content_length: Some((found.range.end - found.range.start) as i64),
            content_range: found.content_range,
            e_tag: Some(ETag::Strong(found.etag)),
            last_modified: Some(whole_seconds(found.modified)),
            metadata: found.metadata,
            parts_count: found.parts_count,
            body: Some(StreamingBlob::new(FileStream::new(found.file, found.range))),
            ..Default::default()
        };
        Ok(S3Response::with_headers(output, found.headers))
    }

    pub(super) async fn do_head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let found = find(&self.store, &req.headers, with_conditions(&req), asked!(req.input))?;
        let output = HeadObjectOutput {
            content_length: Some((found.range.end - found.range.start) as i64),
            content_range: found.content_range,
            e_tag: Some(ETag::Strong(found.etag)),
            last_modified: Some(whole_seconds(found.modified)),
            metadata: found.metadata,
            parts_count: found.parts_count,
            ..Default::default()
        };
        Ok(S3Response::with_headers(output, found.headers))
    }
}

/// What is asked for, by a request's headers and by those in which its conditions stand.
///
/// # Errors
/// `NoSuchBucket`, `NoSuchKey`; what conditions, part or range say; what the file system reports.
pub(super) fn find(store: &Store, headers: &HeaderMap, conditions: &HeaderMap, asked: Asked<'_>) -> S3Result<Found> {
    let bucket = store.bucket(asked.bucket)?;
    // Opening finds out whether the file is still there.
    let (object, file) = store.open_object(&bucket, asked.key)?;
    let (etag, modified) = (object.etag.clone(), object.modified());
    Conditions::of(conditions).check_read(&etag, modified)?;
    let range = asked.range.filter(|_| range_holds(headers, &etag, modified));
    let part = asked.part.is_some().then(|| part(&asked, &object)).transpose()?;
    let headers = headers_of(&object.attributes, asked.wants_checksums);
    let (range, content_range) = match part {
        Some(part) => whole_part(part, object.size()),
        None => select(range, object.size())?,
    };
    let parts = object.attributes.parts.len() as i32;
    let parts_count = (asked.part.is_some() && parts > 0).then_some(parts);
    let metadata = user_metadata(&object);
    Ok(Found { file, headers, range, content_range, etag, modified, metadata, parts_count })
}

/// The bytes of the part that is asked for.
///
/// # Errors
/// `InvalidRequest` beside a range; `InvalidPartNumber` (416) of an object without that part.
fn part(asked: &Asked<'_>, object: &Object) -> S3Result<Range<u64>> {
    let number = asked.part.unwrap_or(1);
    if asked.range.is_some() {
        return Err(s3_error!(InvalidRequest, "Cannot specify both Range header and partNumber query parameter"));
    }
    if !PART_NUMBERS.contains(&number) {
        return Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"));
    }
    let sizes = &object.attributes.parts;
    if sizes.is_empty() && number == 1 {
        return Ok(0..object.size());
    }
    let before = number as usize - 1;
    let Some(size) = sizes.get(before) else { return Err(no_such_part()) };
    let start = sizes[..before].iter().sum();
    Ok(start..start + size)
}

fn no_such_part() -> S3Error {
    let code = S3ErrorCode::Custom("InvalidPartNumber".into());
    let mut error = S3Error::with_message(code, "The requested partnumber is not satisfiable");
    error.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
    error
}

/// A part as an answer: an empty one, of an empty object, has no range to name.
fn whole_part(part: Range<u64>, size: u64) -> (Range<u64>, Option<String>) {
    let content_range = (!part.is_empty()).then(|| format!("bytes {}-{}/{size}", part.start, part.end - 1));
    (part, content_range)
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
    let mut headers = HeaderMap::with_capacity(8);
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
