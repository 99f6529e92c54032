//! Multipart uploads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use s3s::dto::{
    self, AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CopyPartResult, CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload,
    StorageClass, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput, UploadPartOutput,
};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::copy::copy_bytes;
use super::list::{Encoding, limit};
use super::write::checksum_headers;
use super::{Answer, Api, attributes, blocking};
use crate::backend::{
    Bucket, Complete, Conditions, Part, Upload, Uploads, internal, join, new_upload_id, whole_seconds,
};
use crate::headers::with_conditions;

/// The longest page of parts or uploads, as in S3.
const MAX_ENTRIES: i32 = 1000;
pub(super) const PART_NUMBERS: std::ops::RangeInclusive<i32> = 1..=10_000;

fn find<'a>(uploads: &'a mut Uploads, key: &str, id: &str) -> S3Result<&'a mut Upload> {
    uploads.get_mut(&(key.to_owned(), id.to_owned())).ok_or_else(|| s3_error!(NoSuchUpload))
}

impl Api {
    pub(super) fn do_create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let upload_id = new_upload_id().map_err(internal)?;
        let upload = Upload {
            attributes: attributes(&req.headers, input.metadata),
            started: SystemTime::now(),
            parts: BTreeMap::new(),
        };
        bucket.uploads.lock().insert((input.key.clone(), upload_id.clone()), upload);
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    pub(super) async fn do_upload_part(&self, mut req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let body = req.input.body.take();
        let length = req.input.content_length;
        let received = self.receive(&mut req, body, length).await?;
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let etag = add_part(&bucket, &input.key, &input.upload_id, input.part_number, received.file)?;
        let output = UploadPartOutput { e_tag: Some(etag), ..Default::default() };
        Ok(S3Response::with_headers(output, checksum_headers(&received.checksums)))
    }

    pub(super) async fn do_upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        let conditions = Conditions::of_copy(with_conditions(&req));
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let (source, file) = self.open_source(&input.copy_source, &conditions)?;
        let range = source_range(input.copy_source_range.as_deref(), source.size())?;
        let copy = copy_bytes(self.store.stage()?, file, range).await?;
        let etag = add_part(&bucket, &input.key, &input.upload_id, input.part_number, copy)?;
        let result = CopyPartResult {
            e_tag: Some(etag),
            last_modified: Some(whole_seconds(SystemTime::now())),
            ..Default::default()
        };
        Ok(S3Response::new(UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() }))
    }

    pub(super) async fn do_complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let conditions = Conditions::of(with_conditions(&req));
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let wanted = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let (parts, mut attributes) = {
            let mut uploads = bucket.uploads.lock();
            let upload = find(&mut uploads, &input.key, &input.upload_id)?;
            (upload.select(&wanted)?, upload.attributes.clone())
        };
        attributes.parts = parts.iter().map(|part| part.size()).collect();
        let target = self.store.stage()?;
        let (file, etag) = blocking(move || join(&parts, target).map_err(internal)).await?;
        bucket.commit(&input.key, file, etag.clone(), attributes, &conditions)?;
        bucket.uploads.lock().remove(&(input.key.clone(), input.upload_id));
        let output = CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    pub(super) fn do_abort_multipart_upload(
        &self,
        input: &AbortMultipartUploadInput,
    ) -> Answer<AbortMultipartUploadOutput> {
        let bucket = self.store.bucket(&input.bucket)?;
        let removed = bucket.uploads.lock().remove(&(input.key.clone(), input.upload_id.clone()));
        removed.ok_or_else(|| s3_error!(NoSuchUpload))?;
        Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
    }

    pub(super) fn do_list_parts(&self, input: ListPartsInput) -> Answer<ListPartsOutput> {
        let bucket = self.store.bucket(&input.bucket)?;
        let max_parts = limit(input.max_parts, MAX_ENTRIES)?;
        let after = input.part_number_marker.unwrap_or(0);
        let mut uploads = bucket.uploads.lock();
        let upload = find(&mut uploads, &input.key, &input.upload_id)?;
        let mut later = upload.parts.range(after.saturating_add(1)..);
        let parts: Vec<_> =
            later.by_ref().take(max_parts as usize).map(|(number, part)| listed(*number, part)).collect();
        let is_truncated = max_parts > 0 && later.next().is_some();
        let next = parts.last().and_then(|part| part.part_number).filter(|_| is_truncated);
        let output = ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            part_number_marker: Some(after),
            next_part_number_marker: next,
            max_parts: Some(max_parts),
            is_truncated: Some(is_truncated),
            parts: Some(parts),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    pub(super) fn do_list_multipart_uploads(
        &self,
        input: ListMultipartUploadsInput,
    ) -> Answer<ListMultipartUploadsOutput> {
        let bucket = self.store.bucket(&input.bucket)?;
        let max_uploads = limit(input.max_uploads, MAX_ENTRIES)?;
        let encoding = Encoding::of(input.encoding_type.as_ref());
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let after = (input.key_marker.as_deref().unwrap_or_default(), input.upload_id_marker.as_deref());
        let uploads = bucket.uploads.lock();
        let mut later = uploads.iter().filter(|((key, id), _)| key.starts_with(prefix) && is_after(key, id, after));
        let page: Vec<_> = later.by_ref().take(max_uploads as usize).collect();
        let is_truncated = max_uploads > 0 && later.next().is_some();
        let last = page.last().filter(|_| is_truncated).map(|((key, id), _)| (encoding.encode(key), id.clone()));
        let (next_key_marker, next_upload_id_marker) = last.unzip();
        let listed = page.iter().map(|((key, id), upload)| MultipartUpload {
            key: Some(encoding.encode(key)),
            upload_id: Some(id.clone()),
            initiated: Some(whole_seconds(upload.started)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            ..Default::default()
        });
        let output = ListMultipartUploadsOutput {
            uploads: Some(listed.collect()),
            bucket: Some(input.bucket),
            prefix: Some(encoding.encode(prefix)),
            max_uploads: Some(max_uploads),
            is_truncated: Some(is_truncated),
            next_key_marker,
            next_upload_id_marker,
            encoding_type: input.encoding_type.clone(),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }
}

fn add_part(bucket: &Bucket, key: &str, id: &str, number: i32, file: Complete) -> S3Result<ETag> {
    if !PART_NUMBERS.contains(&number) {
        return Err(s3_error!(InvalidArgument, "part numbers go from 1 to 10000"));
    }
    let part = Part::new(file);
    let etag = ETag::Strong(part.etag());
    find(&mut bucket.uploads.lock(), key, id)?.parts.insert(number, Arc::new(part));
    Ok(etag)
}

fn listed(number: i32, part: &Part) -> dto::Part {
    dto::Part {
        part_number: Some(number),
        size: Some(part.size() as i64),
        e_tag: Some(ETag::Strong(part.etag())),
        last_modified: Some(whole_seconds(part.uploaded)),
        ..Default::default()
    }
}

/// Without an id the marker stands for all uploads of its key.
fn is_after(key: &str, id: &str, (marker_key, marker_id): (&str, Option<&str>)) -> bool {
    match marker_id {
        _ if marker_key.is_empty() => true,
        Some(marker_id) => (key, id) > (marker_key, marker_id),
        None => key > marker_key,
    }
}

/// `bytes=first-last`, the only form a copy may have.
fn source_range(header: Option<&str>, size: u64) -> S3Result<Range<u64>> {
    let Some(header) = header else { return Ok(0..size) };
    match dto::Range::parse(header) {
        Ok(range @ dto::Range::Int { last: Some(last), .. }) if last < size => Ok(range.check(size)?),
        Ok(_) => Err(s3_error!(InvalidRange)),
        Err(error) => Err(s3_error!(error, InvalidArgument)),
    }
}
