//! Multipart uploads under way. They live as long as the server: a restart forgets them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use s3s::crypto::{Checksum, Md5};
use s3s::dto::CompletedPart;
use s3s::{S3Result, s3_error};

use super::layout::hex;
use super::object::Attributes;
use super::staged::{Complete, Staged};
use crate::sys;

/// The smallest part that may not be the last, bytes.
const MIN_PART: u64 = 5 * 1024 * 1024;

/// By key and id, the order in which they are listed.
pub type Uploads = BTreeMap<(String, String), Upload>;

pub struct Upload {
    pub attributes: Attributes,
    pub started: SystemTime,
    pub parts: BTreeMap<i32, Arc<Part>>,
}

pub struct Part {
    file: Complete,
    pub uploaded: SystemTime,
}

impl Part {
    pub fn new(file: Complete) -> Self {
        Self { file: file.closed(), uploaded: SystemTime::now() }
    }

    pub fn size(&self) -> u64 {
        self.file.size()
    }

    pub fn etag(&self) -> String {
        self.file.md5_hex()
    }
}

/// A new upload's name.
///
/// # Errors
/// When the system has no random numbers.
pub fn new_upload_id() -> io::Result<String> {
    sys::random_bytes().map(|bytes| hex(&bytes))
}

impl Upload {
    /// The parts that a client wants to become the object, in its order.
    ///
    /// # Errors
    /// `InvalidPart`, `InvalidPartOrder` or `EntityTooSmall`.
    pub fn select(&self, wanted: &[CompletedPart]) -> S3Result<Vec<Arc<Part>>> {
        let mut selected = Vec::with_capacity(wanted.len());
        let mut previous = 0;
        for part in wanted {
            let number = part.part_number.ok_or_else(|| s3_error!(InvalidPart, "a part without a number"))?;
            if number <= previous {
                return Err(s3_error!(InvalidPartOrder));
            }
            previous = number;
            let stored = self.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
            if part.e_tag.as_ref().is_some_and(|etag| etag.value() != stored.etag()) {
                return Err(s3_error!(InvalidPart));
            }
            selected.push(stored.clone());
        }
        match selected.split_last() {
            None => Err(s3_error!(MalformedXML, "no parts are named")),
            Some((_, earlier)) if earlier.iter().any(|part| part.size() < MIN_PART) => Err(s3_error!(EntityTooSmall)),
            Some(_) => Ok(selected),
        }
    }
}

/// Joins the parts in `target`; returns the file and the ETag, which is the MD5 of the parts' MD5s and their number.
///
/// # Errors
/// Whatever the file system reports.
pub fn join(parts: &[Arc<Part>], mut target: Staged) -> io::Result<(Complete, String)> {
    let mut hash = Md5::new();
    for part in parts {
        target.write_from(&part.file.open()?, 0..part.size())?;
        hash.update(&part.file.md5);
    }
    let etag = format!("{}-{}", hex(hash.finalize().as_ref()), parts.len());
    Ok((target.complete()?, etag))
}
