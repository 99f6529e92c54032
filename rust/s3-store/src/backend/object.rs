//! One version of an object, and the cache of its open file.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use s3s::crypto::{Checksum, Md5};
use serde::{Deserialize, Serialize};

use super::layout::hex;
use super::read::read_pieces;
use crate::zero_copy::OpenFile;

/// What a client said about an object when it wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// HTTP headers by their lower-case name: content-type, content-encoding, cache-control, ...
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// User metadata (`x-amz-meta-*`), without the prefix.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user: BTreeMap<String, String>,
    /// Checksums of the whole object, Base64, by header name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checksums: BTreeMap<String, String>,
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub size: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
    pub inode: u64,
}

impl Identity {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            inode: metadata.ino(),
        }
    }
}

/// One version of an object. It never changes: a new version is a new file and a new value of this type.
pub struct Object {
    pub path: PathBuf,
    pub identity: Identity,
    pub attributes: Attributes,
    /// Without quotes; computed when first asked for if the object was not written through this server.
    etag: OnceLock<String>,
    file: Mutex<Option<Arc<OpenFile>>>,
    /// Set by every use, taken off when the cache looks for a file to close.
    used: AtomicBool,
}

impl Object {
    pub fn new(path: PathBuf, identity: Identity, etag: Option<String>, attributes: Attributes) -> Self {
        Self {
            path,
            identity,
            attributes,
            etag: etag.map_or_else(OnceLock::new, OnceLock::from),
            file: Mutex::default(),
            used: AtomicBool::new(false),
        }
    }

    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// When it was written, in whole seconds as HTTP has them.
    pub fn modified(&self) -> SystemTime {
        let seconds = self.identity.modified_ns.div_euclid(1_000_000_000);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64)
    }

    /// The ETag if it is known already.
    pub fn known_etag(&self) -> Option<&str> {
        self.etag.get().map(String::as_str)
    }

    /// The ETag, read from the whole file if need be: not for an async thread.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn etag(&self) -> io::Result<&str> {
        if let Some(etag) = self.etag.get() {
            return Ok(etag);
        }
        let mut hash = Md5::new();
        read_pieces(&self.open_uncached()?, 0..self.size(), |piece| {
            hash.update(piece);
            Ok(())
        })?;
        Ok(self.etag.get_or_init(|| hex(hash.finalize().as_ref())))
    }

    /// Opens this very version.
    ///
    /// # Errors
    /// `NotFound` when the file is gone or is another version by now.
    fn open_uncached(&self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        if Identity::of(&file.metadata()?) != self.identity {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(file)
    }
}

/// Bounds how many objects keep their file open: a queue in order of opening, with a second chance for used ones.
pub struct FileCache {
    capacity: usize,
    open: Mutex<VecDeque<Weak<Object>>>,
}

impl FileCache {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, open: Mutex::default() }
    }

    /// The open file of this version.
    ///
    /// # Errors
    /// `NotFound` when the file is gone or is another version by now.
    pub fn open(&self, object: &Arc<Object>) -> io::Result<Arc<OpenFile>> {
        let mut slot = object.file.lock();
        if let Some(file) = &*slot {
            object.used.store(true, Relaxed);
            return Ok(file.clone());
        }
        let file = Arc::new(OpenFile::new(object.open_uncached()?, object.size()));
        *slot = Some(file.clone());
        drop(slot);
        self.admit(object);
        Ok(file)
    }

    fn admit(&self, object: &Arc<Object>) {
        let mut open = self.open.lock();
        open.push_back(Arc::downgrade(object));
        // Bounded: a pass over all of them takes every mark of use off.
        for _ in 0..2 * open.len() {
            if open.len() <= self.capacity {
                break;
            }
            let Some(oldest) = open.pop_front() else { break };
            let Some(object) = oldest.upgrade() else { continue };
            if object.used.swap(false, Relaxed) {
                open.push_back(oldest);
            } else {
                object.file.lock().take();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, content: &str) -> Arc<Object> {
        let path = std::env::temp_dir().join(format!("s3-store-object-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let identity = Identity::of(&std::fs::metadata(&path).unwrap());
        Arc::new(Object::new(path, identity, None, Attributes::default()))
    }

    #[test]
    fn the_cache_keeps_what_is_used() {
        let cache = FileCache::new(2);
        let objects: Vec<_> = ["0", "1", "2"].map(|name| object(name, name)).into();
        let is_open = |i: usize| objects[i].file.lock().is_some();
        cache.open(&objects[0]).unwrap();
        cache.open(&objects[1]).unwrap();
        cache.open(&objects[0]).unwrap();
        cache.open(&objects[2]).unwrap();
        assert!(is_open(0) && !is_open(1) && is_open(2));
        objects.iter().for_each(|object| std::fs::remove_file(&object.path).unwrap());
    }

    #[test]
    fn a_replaced_file_is_not_this_version() {
        let old = object("replaced", "one");
        assert_eq!(old.etag().unwrap(), "f97c5d29941bfb1b2fdab0874906ab82");
        std::fs::remove_file(&old.path).unwrap();
        let new = object("replaced", "another");
        let error = FileCache::new(1).open(&old).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        std::fs::remove_file(&new.path).unwrap();
    }
}
