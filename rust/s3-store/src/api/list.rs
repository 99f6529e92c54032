//! Listing the objects of a bucket, versions 1 and 2.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    CommonPrefix, ETag, EncodingType, ListObjectsInput, ListObjectsOutput, ListObjectsV2Input, ListObjectsV2Output,
    Object, ObjectStorageClass,
};
use s3s::{S3Response, S3Result, s3_error};

use super::{Answer, Api, blocking};
use crate::backend::{Page, Query, hex, internal, whole_seconds};

/// The longest page, as in S3.
const MAX_KEYS: i32 = 1000;

impl Api {
    pub(super) async fn do_list_objects_v2(&self, input: ListObjectsV2Input) -> Answer<ListObjectsV2Output> {
        let bucket = self.store.bucket(&input.bucket)?;
        let token = input.continuation_token.as_deref().map(after_token).transpose()?;
        let max_keys = limit(input.max_keys, MAX_KEYS)?;
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: token.or(input.start_after.clone()).unwrap_or_default(),
            limit: max_keys as usize,
        };
        let page = blocking(move || bucket.page(&query).map_err(internal)).await?;
        let encoding = Encoding::of(input.encoding_type.as_ref());
        let next = page.next.as_deref().map(token_for);
        let (contents, common_prefixes) = entries(page, encoding);
        let output = ListObjectsV2Output {
            key_count: Some((contents.len() + common_prefixes.len()) as i32),
            name: Some(input.bucket),
            prefix: Some(encoding.encode(input.prefix.as_deref().unwrap_or_default())),
            delimiter: input.delimiter.filter(|text| !text.is_empty()).map(|text| encoding.encode(&text)),
            start_after: input.start_after.map(|key| encoding.encode(&key)),
            max_keys: Some(max_keys),
            is_truncated: Some(next.is_some()),
            continuation_token: input.continuation_token,
            next_continuation_token: next,
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            encoding_type: input.encoding_type,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    pub(super) async fn do_list_objects(&self, input: ListObjectsInput) -> Answer<ListObjectsOutput> {
        let bucket = self.store.bucket(&input.bucket)?;
        let max_keys = limit(input.max_keys, MAX_KEYS)?;
        let query = Query {
            prefix: input.prefix.clone().unwrap_or_default(),
            delimiter: input.delimiter.clone().unwrap_or_default(),
            after: input.marker.clone().unwrap_or_default(),
            limit: max_keys as usize,
        };
        let page = blocking(move || bucket.page(&query).map_err(internal)).await?;
        let encoding = Encoding::of(input.encoding_type.as_ref());
        let has_delimiter = input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty());
        let next = page.next.as_deref().map(|next| encoding.encode(next));
        let (contents, common_prefixes) = entries(page, encoding);
        let output = ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encoding.encode(input.prefix.as_deref().unwrap_or_default())),
            delimiter: input.delimiter.filter(|text| !text.is_empty()).map(|text| encoding.encode(&text)),
            marker: Some(encoding.encode(input.marker.as_deref().unwrap_or_default())),
            max_keys: Some(max_keys),
            is_truncated: Some(next.is_some()),
            // Without a delimiter the last key is the marker.
            next_marker: next.filter(|_| has_delimiter),
            contents: Some(contents),
            common_prefixes: Some(common_prefixes),
            encoding_type: input.encoding_type,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }
}

fn entries(page: Page, encoding: Encoding) -> (Vec<Object>, Vec<CommonPrefix>) {
    let objects = page.objects.into_iter().map(|(key, object)| Object {
        key: Some(encoding.encode(&key)),
        size: Some(object.size() as i64),
        last_modified: Some(whole_seconds(object.modified())),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..Default::default()
    });
    let prefixes = page.prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(encoding.encode(prefix)) });
    (objects.collect(), prefixes.collect())
}

/// How many entries a page may have.
///
/// # Errors
/// `InvalidArgument` for a negative number.
pub(super) fn limit(asked: Option<i32>, most: i32) -> S3Result<i32> {
    match asked {
        Some(negative) if negative < 0 => Err(s3_error!(InvalidArgument, "a page cannot have {} entries", negative)),
        asked => Ok(asked.unwrap_or(most).min(most)),
    }
}

/// What listings escape of a key: all but letters, digits and these.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// How keys are written into the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    /// Percent-encoded, for keys that XML cannot hold.
    Url,
}

impl Encoding {
    pub(super) fn of(asked: Option<&EncodingType>) -> Self {
        if asked.is_some_and(|encoding| encoding.as_str() == EncodingType::URL) { Self::Url } else { Self::Plain }
    }

    pub(super) fn encode(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Url => utf8_percent_encode(text, ESCAPED).to_string(),
        }
    }
}

/// Continuation tokens are the last entry in hexadecimal digits, which need no escaping anywhere.
fn token_for(last: &str) -> String {
    hex(last.as_bytes())
}

fn after_token(token: &str) -> S3Result<String> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = token.as_bytes().chunks(2).map(byte).collect::<Option<Vec<u8>>>();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not one of this store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_carry_any_key() {
        for key in ["a", "ä/b c", "\u{1}\u{ffff}"] {
            assert_eq!(after_token(&token_for(key)).unwrap(), key);
        }
        assert!(after_token("zz").is_err());
        assert!(after_token("ff").is_err());
    }

    #[test]
    fn url_encoding() {
        assert_eq!(Encoding::Url.encode("a b/ü+"), "a%20b/%C3%BC%2B");
        assert_eq!(Encoding::Plain.encode("a b"), "a b");
    }
}
