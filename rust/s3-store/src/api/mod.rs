//! The S3 operations, as s3s asks for them: each one translates between its types and the back end's.

mod buckets;
mod copy;
mod delete;
mod list;
mod multipart;
mod range;
mod read;
mod write;

use std::sync::Arc;

use http::HeaderMap;
use s3s::auth::{S3Auth, SecretKey};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use crate::backend::{Attributes, Store};
use crate::config::Keys;

pub use range::plain_range;

type Answer<T> = S3Result<S3Response<T>>;

/// Where every bucket is: the region that S3 gives no name in a bucket's location.
const REGION: &str = "us-east-1";

/// Headers that are kept with an object and come back with it.
const KEPT_HEADERS: [&str; 6] =
    ["cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"];

/// Accepts one pair of keys.
pub struct KeyCheck(pub Keys);

#[async_trait::async_trait]
impl S3Auth for KeyCheck {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.0.access_key {
            Ok(SecretKey::from(self.0.secret_key.as_str()))
        } else {
            Err(s3_error!(InvalidAccessKeyId))
        }
    }
}

/// S3 over a [`Store`].
pub struct Api {
    store: Arc<Store>,
}

impl Api {
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }
}

/// Runs work that waits for a disk on a thread where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> S3Result<T> + Send + 'static) -> S3Result<T> {
    let request = tracing::Span::current();
    tokio::task::spawn_blocking(move || request.in_scope(work))
        .await
        .map_err(|error| s3_error!(error, InternalError))?
}

/// What a request says about the object it writes.
fn attributes(headers: &HeaderMap, metadata: Option<Metadata>) -> Attributes {
    let kept = KEPT_HEADERS.iter().filter_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        let value = if *name == "content-encoding" { without_framing(value) } else { value.to_owned() };
        (!value.is_empty()).then(|| ((*name).to_owned(), value))
    });
    Attributes { headers: kept.collect(), user: metadata.into_iter().flatten().collect(), ..Attributes::default() }
}

/// `aws-chunked` is how a body travelled, not how the object is encoded.
fn without_framing(encoding: &str) -> String {
    let codings = encoding.split(',').map(str::trim).filter(|coding| !coding.is_empty() && *coding != "aws-chunked");
    codings.collect::<Vec<_>>().join(", ")
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        self.do_create_bucket(&req.input)
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.store.bucket(&req.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(REGION.into()), ..Default::default() }))
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        Ok(self.do_list_buckets())
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        self.store.delete_bucket(&req.input.bucket)?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn get_bucket_location(&self, req: S3Request<GetBucketLocationInput>) -> Answer<GetBucketLocationOutput> {
        self.store.bucket(&req.input.bucket)?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        self.do_get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        self.do_head_object(req).await
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        self.do_put_object(req).await
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        self.do_copy_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        self.do_delete_object(&req)
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        self.do_delete_objects(req.input)
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        self.do_list_objects(req.input).await
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        self.do_list_objects_v2(req.input).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.do_create_multipart_upload(req)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.do_upload_part(req).await
    }

    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
        self.do_upload_part_copy(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        self.do_complete_multipart_upload(req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.do_abort_multipart_upload(&req.input)
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.do_list_parts(req.input)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        self.do_list_multipart_uploads(req.input)
    }
}
