//! Buckets themselves.

use s3s::S3Response;
use s3s::dto::{Bucket, CreateBucketInput, CreateBucketOutput, ListBucketsOutput};

use super::{Answer, Api, REGION};
use crate::backend::whole_seconds;

impl Api {
    pub(super) fn do_create_bucket(&self, input: &CreateBucketInput) -> Answer<CreateBucketOutput> {
        self.store.create_bucket(&input.bucket)?;
        let location = Some(format!("/{}", input.bucket));
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    pub(super) fn do_list_buckets(&self) -> S3Response<ListBucketsOutput> {
        let buckets = self.store.buckets().into_iter().map(|(name, bucket)| Bucket {
            name: Some(name),
            creation_date: Some(whole_seconds(bucket.created)),
            bucket_region: Some(REGION.into()),
        });
        S3Response::new(ListBucketsOutput { buckets: Some(buckets.collect()), ..Default::default() })
    }
}
