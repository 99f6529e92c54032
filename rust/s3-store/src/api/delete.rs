//! Deleting objects.

use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, Error,
    ObjectIdentifier,
};
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::{Answer, Api};
use crate::backend::{Bucket, Conditions};
use crate::headers::with_conditions;

/// The most keys in one request, as in S3.
const MAX_KEYS: usize = 1000;

impl Api {
    pub(super) fn do_delete_object(&self, req: &S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let bucket = self.store.bucket(&req.input.bucket)?;
        if req.input.if_match_size.is_some() || req.input.if_match_last_modified_time.is_some() {
            return Err(unknown_condition());
        }
        bucket.delete(&req.input.key, &Conditions::of(with_conditions(req)))?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
    }

    pub(super) fn do_delete_objects(&self, input: DeleteObjectsInput) -> Answer<DeleteObjectsOutput> {
        let bucket = self.store.bucket(&input.bucket)?;
        if input.delete.objects.len() > MAX_KEYS {
            return Err(s3_error!(MalformedXML, "more than {} keys", MAX_KEYS));
        }
        let is_quiet = input.delete.quiet.unwrap_or(false);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in input.delete.objects {
            let key = Some(object.key.clone());
            match delete_one(&bucket, &object) {
                Ok(()) if is_quiet => {}
                Ok(()) => deleted.push(DeletedObject { key, ..Default::default() }),
                Err(error) => errors.push(Error {
                    key,
                    code: Some(error.code().as_str().to_owned()),
                    message: error.message().map(str::to_owned),
                    ..Default::default()
                }),
            }
        }
        let output = DeleteObjectsOutput {
            deleted: (!deleted.is_empty()).then_some(deleted),
            errors: (!errors.is_empty()).then_some(errors),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }
}

fn delete_one(bucket: &Bucket, object: &ObjectIdentifier) -> S3Result<()> {
    if object.size.is_some() || object.last_modified_time.is_some() {
        return Err(unknown_condition());
    }
    let etag = object.e_tag.as_ref().map(ETag::value);
    bucket.delete(&object.key, &etag.map_or_else(Conditions::default, Conditions::of_etag))
}

/// A condition that nobody checks must not let anything be deleted.
fn unknown_condition() -> S3Error {
    s3_error!(NotImplemented, "only an ETag can be the condition of a deletion")
}
