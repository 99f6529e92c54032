//! Copies within the store.

use std::sync::Arc;

use s3s::dto::{CopyObjectInput, CopyObjectOutput, CopyObjectResult, CopySource, ETag, MetadataDirective};
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::{Answer, Api, attributes, blocking};
use crate::backend::{Complete, Conditions, Object, Staged, internal, whole_seconds};
use crate::headers::with_conditions;
use crate::zero_copy::OpenFile;

impl Api {
    pub(super) async fn do_copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let conditions = Conditions::of_copy(with_conditions(&req));
        let input = req.input;
        let target = self.store.bucket(&input.bucket)?;
        let (source, file) = self.open_source(&input.copy_source, &conditions)?;
        let directive = input.metadata_directive.as_ref().map(MetadataDirective::as_str);
        let replace = directive == Some(MetadataDirective::REPLACE);
        if !replace && is_same(&input.copy_source, &input.bucket, &input.key) {
            return Err(s3_error!(InvalidRequest, "a copy onto itself must change the metadata"));
        }
        let mut attributes = if replace { attributes(&req.headers, input.metadata) } else { source.attributes.clone() };
        attributes.checksums = source.attributes.checksums.clone();
        attributes.parts.clear();
        let copy = copy_bytes(self.store.stage()?, file, 0..source.size()).await?;
        let etag = copy.md5_hex();
        let object = target.commit(&input.key, copy, etag.clone(), attributes, &Conditions::default())?;
        let result = CopyObjectResult {
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(whole_seconds(object.modified())),
            ..Default::default()
        };
        Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
    }

    /// The object to copy from, if the conditions hold.
    pub(super) fn open_source(
        &self,
        source: &CopySource,
        conditions: &Conditions,
    ) -> S3Result<(Arc<Object>, Arc<OpenFile>)> {
        let CopySource::Bucket { bucket, key, .. } = source else {
            return Err(s3_error!(NotImplemented, "there are no access points"));
        };
        let source = self.store.bucket(bucket)?;
        let (object, file) = self.store.open_object(&source, key)?;
        conditions.check_copy(&object.etag, object.modified())?;
        Ok((object, file))
    }
}

/// Copies a range of a file on a thread that may wait for the disk.
pub(super) async fn copy_bytes(
    mut target: Staged,
    source: Arc<OpenFile>,
    range: std::ops::Range<u64>,
) -> S3Result<Complete> {
    blocking(move || {
        target.write_from(&source, range).map_err(internal)?;
        target.complete().map_err(internal)
    })
    .await
}

fn is_same(source: &CopySource, to_bucket: &str, to_key: &str) -> bool {
    matches!(source, CopySource::Bucket { bucket, key, .. } if &**bucket == to_bucket && &**key == to_key)
}
