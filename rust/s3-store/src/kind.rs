//! What a request is for, as far as a reader of Zarr data is concerned.

use std::borrow::Cow;

use http::header::CONTENT_RANGE;
use http::{HeaderMap, Method, Uri};

use percent_encoding::percent_decode_str;

use crate::named::named;

named! {
    /// The kinds that are counted apart and that have a stream of service times each.
    pub enum Kind {
        /// A ranged GET up to the object's last byte that does not start at its first: a shard index.
        GetIndex = "get_index",
        /// Any other GET of an object.
        GetData = "get_data",
        /// A GET of `zarr.json` and its elders.
        GetMetadata = "get_metadata",
        Head = "head",
        Put = "put",
        List = "list",
        Delete = "delete",
        Other = "other",
    }
}

/// What the request line alone tells: whether a GET reads an index shows only in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    GetChunkOrIndex,
    Known(Kind),
}

impl Call {
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let path = decoded_path(uri.path());
        let (bucket, key) = bucket_and_key(&path);
        let query = uri.query().unwrap_or_default();
        let kind = match *method {
            Method::GET if key.is_empty() => kind_of_bucket_get(bucket, query),
            Method::GET if has_parameter(query, &["uploadId"]) => Kind::List,
            Method::GET if has_parameter(query, &["acl", "tagging", "attributes", "retention"]) => Kind::Other,
            Method::GET if is_metadata(key) => Kind::GetMetadata,
            Method::GET => return Self::GetChunkOrIndex,
            Method::HEAD => Kind::Head,
            Method::PUT if !key.is_empty() => Kind::Put,
            Method::DELETE => Kind::Delete,
            Method::POST if has_parameter(query, &["delete"]) => Kind::Delete,
            _ => Kind::Other,
        };
        Self::Known(kind)
    }

    /// The kind, once the answer's headers are there.
    pub fn kind(self, answer: &HeaderMap) -> Kind {
        match self {
            Self::Known(kind) => kind,
            Self::GetChunkOrIndex => match content_range(answer) {
                Some((start, end, size)) if end == size && start > 0 => Kind::GetIndex,
                _ => Kind::GetData,
            },
        }
    }

    /// The kind of a request that ended before there was an answer.
    pub fn kind_without_answer(self) -> Kind {
        match self {
            Self::Known(kind) => kind,
            Self::GetChunkOrIndex => Kind::GetData,
        }
    }
}

/// A path as S3 reads it, which takes it apart after decoding it: `%2F` ends the bucket's name, `zarr%2Ejson` is metadata.
pub fn decoded_path(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8_lossy()
}

/// The decoded path `/bucket/some/key` as `("bucket", "some/key")`.
pub fn bucket_and_key(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').unwrap_or((path, ""))
}

/// `Content-Range` as (first byte, byte after the last, size of the object).
pub fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<u64>().ok()? + 1, size.parse().ok()?))
}

fn kind_of_bucket_get(bucket: &str, query: &str) -> Kind {
    let listing = ["list-type", "prefix", "delimiter", "max-keys", "marker", "uploads", "encoding-type", "start-after"];
    if bucket.is_empty() || query.is_empty() || has_parameter(query, &listing) { Kind::List } else { Kind::Other }
}

fn has_parameter(query: &str, names: &[&str]) -> bool {
    query.split('&').any(|pair| names.contains(&pair.split('=').next().unwrap_or(pair)))
}

fn is_metadata(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    matches!(name, "zarr.json" | ".zarray" | ".zattrs" | ".zgroup" | ".zmetadata")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: Method, uri: &str, content_range: Option<&str>) -> Kind {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_range {
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
        }
        Call::of(&method, &uri.parse().unwrap()).kind(&headers)
    }

    #[test]
    fn gets_are_told_apart() {
        assert_eq!(kind(Method::GET, "/b/a/c/0", Some("bytes 90-99/100")), Kind::GetIndex);
        assert_eq!(kind(Method::GET, "/b/a/c/0", Some("bytes 0-99/100")), Kind::GetData);
        assert_eq!(kind(Method::GET, "/b/a/c/0", Some("bytes 10-20/100")), Kind::GetData);
        assert_eq!(kind(Method::GET, "/b/a/c/0?versionId=null", None), Kind::GetData);
        assert_eq!(kind(Method::GET, "/b/a/zarr.json", Some("bytes 90-99/100")), Kind::GetMetadata);
        assert_eq!(kind(Method::GET, "/b/.zgroup", None), Kind::GetMetadata);
        assert_eq!(kind(Method::GET, "/b/a%2Fzarr%2Ejson", None), Kind::GetMetadata);
        assert_eq!(kind(Method::GET, "/b%2Fa%2Fc", Some("bytes 90-99/100")), Kind::GetIndex);
        assert_eq!(kind(Method::PUT, "/b%2Fkey", None), Kind::Put);
    }

    #[test]
    fn the_rest_goes_by_method_and_query() {
        assert_eq!(kind(Method::GET, "/", None), Kind::List);
        assert_eq!(kind(Method::GET, "/b?list-type=2&prefix=x", None), Kind::List);
        assert_eq!(kind(Method::GET, "/b/?location", None), Kind::Other);
        assert_eq!(kind(Method::GET, "/b/k?uploadId=7", None), Kind::List);
        assert_eq!(kind(Method::PUT, "/b/k?partNumber=1&uploadId=7", None), Kind::Put);
        assert_eq!(kind(Method::PUT, "/b", None), Kind::Other);
        assert_eq!(kind(Method::POST, "/b?delete", None), Kind::Delete);
        assert_eq!(kind(Method::POST, "/b/k?uploads", None), Kind::Other);
        assert_eq!(kind(Method::HEAD, "/b/k", None), Kind::Head);
    }
}
