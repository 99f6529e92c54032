//! PUT of an object, and receiving bodies.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::checksum::ChecksumHasher;
use s3s::dto::{self, ETag, PutObjectInput, PutObjectOutput, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, StdError, TrailingHeaders, s3_error};

use super::{Answer, Api, attributes};
use crate::anonymous::Trailers;
use crate::backend::{Complete, Conditions, Staged, internal};
use crate::headers::with_conditions;

/// The checksums that S3 knows beside the MD5, by header.
const CHECKSUM_HEADERS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

impl Api {
    pub(super) async fn do_put_object(&self, mut req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let body = req.input.body.take();
        let length = req.input.content_length;
        let received = self.receive(&mut req, body, length).await?;
        let conditions = Conditions::of(with_conditions(&req));
        let input = req.input;
        let bucket = self.store.bucket(&input.bucket)?;
        let mut attributes = attributes(&req.headers, input.metadata);
        attributes.checksums = received.checksums.clone();
        let etag = received.file.md5_hex();
        bucket.commit(&input.key, received.file, etag.clone(), attributes, &conditions)?;
        let output = PutObjectOutput { e_tag: Some(ETag::Strong(etag)), ..Default::default() };
        Ok(S3Response::with_headers(output, checksum_headers(&received.checksums)))
    }

    /// Writes a request's body to a temporary file and compares it with every checksum the client has sent.
    ///
    /// # Errors
    /// `BadDigest`, `InvalidDigest`, `IncompleteBody`, `SignatureDoesNotMatch`, or what the file system reports.
    pub(super) async fn receive<T>(
        &self,
        req: &mut S3Request<T>,
        body: Option<StreamingBlob>,
        content_length: Option<i64>,
    ) -> S3Result<Received> {
        let mut staged = self.store.stage()?;
        staged.checksums = wanted_checksums(&req.headers);
        if let Some(body) = body {
            write_body(&mut staged, body).await?;
        }
        let file = staged.complete().map_err(internal)?;
        if content_length.is_some_and(|length| u64::try_from(length) != Ok(file.size())) {
            return Err(s3_error!(IncompleteBody));
        }
        check_md5(&req.headers, &file)?;
        let computed = checksums_by_header(&file.checksums);
        check_checksums(&req.headers, &computed)?;
        check_checksums(&trailers(req), &computed)?;
        Ok(Received { file, checksums: computed })
    }
}

/// A body that has arrived whole.
pub(super) struct Received {
    pub file: Complete,
    /// Base64, by header name.
    pub checksums: BTreeMap<String, String>,
}

async fn write_body(staged: &mut Staged, mut body: StreamingBlob) -> S3Result<()> {
    while let Some(bytes) = body.next().await {
        staged.write(&bytes.map_err(broken_body)?).map_err(internal)?;
    }
    Ok(())
}

/// s3s checks signed bodies as they pass and keeps the types of its errors to itself, and those of bodies inside them.
fn broken_body(error: StdError) -> S3Error {
    let text = error.to_string();
    let code = if text.contains("SignatureMismatch") {
        S3ErrorCode::SignatureDoesNotMatch
    } else if text.contains("Sha256Mismatch") {
        S3ErrorCode::BadDigest
    } else if text.contains("designated timeout") {
        S3ErrorCode::RequestTimeout
    } else {
        S3ErrorCode::IncompleteBody
    };
    S3Error::with_source(code, error)
}

/// Hashes for the checksums that are sent, announced as trailers, or asked for by name.
fn wanted_checksums(headers: &HeaderMap) -> ChecksumHasher {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let trailer = text("x-amz-trailer").to_ascii_lowercase();
    let algorithm = text("x-amz-sdk-checksum-algorithm").to_ascii_lowercase();
    let wanted = |header: &str| {
        let name = header.trim_start_matches("x-amz-checksum-");
        headers.contains_key(header) || trailer.split(',').any(|t| t.trim() == header) || algorithm == name
    };
    let mut hasher = ChecksumHasher::default();
    let [crc32, crc32c, crc64nvme, sha1, sha256] = CHECKSUM_HEADERS.map(wanted);
    hasher.crc32 = crc32.then(Default::default);
    hasher.crc32c = crc32c.then(Default::default);
    hasher.crc64nvme = crc64nvme.then(Default::default);
    hasher.sha1 = sha1.then(Default::default);
    hasher.sha256 = sha256.then(Default::default);
    hasher
}

fn checksums_by_header(checksums: &dto::Checksum) -> BTreeMap<String, String> {
    let values = [
        &checksums.checksum_crc32,
        &checksums.checksum_crc32c,
        &checksums.checksum_crc64nvme,
        &checksums.checksum_sha1,
        &checksums.checksum_sha256,
    ];
    let pairs = CHECKSUM_HEADERS.iter().zip(values);
    pairs.filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?))).collect()
}

fn check_checksums(sent: &HeaderMap, computed: &BTreeMap<String, String>) -> S3Result<()> {
    for (name, value) in computed {
        if sent.get(name).is_some_and(|sent| sent.as_bytes() != value.as_bytes()) {
            return Err(s3_error!(BadDigest, "the body does not match {}", name));
        }
    }
    Ok(())
}

/// Headers that came behind the body: s3s keeps those of a checked upload, the anonymous layer its own.
fn trailers<T>(req: &S3Request<T>) -> HeaderMap {
    let handed_on = || req.extensions.get::<TrailingHeaders>().cloned();
    let checked = req.trailing_headers.clone().or_else(handed_on).and_then(|trailers| trailers.take());
    let unchecked = || req.extensions.get::<Trailers>().map(Trailers::take);
    checked.or_else(unchecked).unwrap_or_default()
}

fn check_md5(headers: &HeaderMap, file: &Complete) -> S3Result<()> {
    let Some(sent) = headers.get("content-md5") else { return Ok(()) };
    let Some(sent) = BASE64.decode(sent).ok().filter(|md5| md5.len() == file.md5.len()) else {
        return Err(s3_error!(InvalidDigest));
    };
    if sent == file.md5 { Ok(()) } else { Err(s3_error!(BadDigest)) }
}

pub(super) fn checksum_headers(checksums: &BTreeMap<String, String>) -> HeaderMap {
    let pairs = checksums
        .iter()
        .filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?)));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        assert_eq!(BASE64.decode("aGVsbG8="), Ok("hello".into()));
        assert_eq!(BASE64.decode("aGVsbG8h"), Ok("hello!".into()));
        assert_eq!(BASE64.decode("aGVsbA=="), Ok("hell".into()));
        assert_eq!(BASE64.decode("aGVsbA=").ok(), None);
        assert_eq!(BASE64.decode("aGV*").ok(), None);
    }

    #[test]
    fn checksums_are_made_when_sent_announced_or_asked_for() {
        for (name, value) in [
            ("x-amz-checksum-crc32c", "AAAAAA=="),
            ("x-amz-trailer", "x-amz-checksum-crc32c"),
            ("x-amz-sdk-checksum-algorithm", "CRC32C"),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            let hasher = wanted_checksums(&headers);
            assert!(hasher.crc32c.is_some() && hasher.crc32.is_none() && hasher.sha256.is_none());
        }
    }
}
