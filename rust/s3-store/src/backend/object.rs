//! One version of an object, and the cache of its open file.

use std::collections::{BTreeMap, VecDeque};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use rustix::io::Errno;
use s3s::crypto::{Checksum, Md5};
use serde::{Deserialize, Serialize};

use super::layout::hex;
use super::tree::Tree;
use crate::zero_copy::OpenFile;

/// What a client said about an object when it wrote it, and what only writing tells.
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
    /// Sizes of the parts that it was uploaded in, bytes; empty for an upload in one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<u64>,
}

impl Attributes {
    /// What still holds when the bytes may be others.
    pub fn without_content(&self) -> Self {
        Self { headers: self.headers.clone(), user: self.user.clone(), ..Self::default() }
    }
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub size: u64,
    /// Modification time, nanoseconds since 1970; anybody can set it.
    pub modified_ns: i64,
    pub inode: u64,
    /// When inode or bytes last changed, nanoseconds since 1970; only the kernel sets it.
    pub changed_ns: i64,
}

impl Identity {
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified_ns: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(),
            inode: metadata.ino(),
            changed_ns: metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec(),
        }
    }

    /// The ETag of a version that no upload named: as long as the file is the same, so is this. It has the form of a
    /// multipart upload's, which nobody takes for the MD5 of the bytes: that would mean to read them all.
    pub fn etag(&self) -> String {
        let mut hash = Md5::new();
        hash.update(&self.size.to_le_bytes());
        hash.update(&self.modified_ns.to_le_bytes());
        hash.update(&self.inode.to_le_bytes());
        hash.update(&self.changed_ns.to_le_bytes());
        format!("{}-1", hex(hash.finalize().as_ref()))
    }

    /// Whether attributes that were given to `other` still belong to this file: a copy of the root keeps them.
    pub fn may_be(&self, size: u64, modified_ns: i64) -> bool {
        (self.size, self.modified_ns) == (size, modified_ns)
    }
}

/// One version of an object. It never changes: a new version is a new file and a new value of this type.
pub struct Object {
    /// Below the root.
    pub path: PathBuf,
    pub identity: Identity,
    pub attributes: Attributes,
    /// Without quotes.
    pub etag: String,
    file: Mutex<Option<Arc<OpenFile>>>,
    /// Set by every use, taken off when the cache looks for a file to close.
    used: AtomicBool,
}

impl Object {
    pub fn new(path: PathBuf, identity: Identity, etag: String, attributes: Attributes) -> Self {
        Self { path, identity, attributes, etag, file: Mutex::default(), used: AtomicBool::new(false) }
    }

    /// What became of this version when somebody changed its file below the server.
    pub fn changed(&self, identity: Identity) -> Self {
        let keeps = identity.may_be(self.identity.size, self.identity.modified_ns);
        let attributes = if keeps { self.attributes.without_content() } else { Attributes::default() };
        Self::new(self.path.clone(), identity, identity.etag(), attributes)
    }

    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// When it was written, in whole seconds as HTTP has them.
    pub fn modified(&self) -> SystemTime {
        let seconds = self.identity.modified_ns.div_euclid(1_000_000_000);
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0) as u64)
    }

    /// Opens this very version.
    fn open(&self, tree: &Tree) -> io::Result<OpenFile> {
        let file = tree.file(&self.path)?;
        if Identity::of(&file.metadata()?) != self.identity {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(OpenFile::new(file, self.size()))
    }
}

/// Bounds how many objects keep their file open: a queue in order of opening, with a second chance for used ones.
pub struct FileCache {
    tree: Arc<Tree>,
    capacity: usize,
    open: Mutex<VecDeque<Weak<Object>>>,
}

impl FileCache {
    pub fn new(tree: Arc<Tree>, capacity: usize) -> Self {
        Self { tree, capacity, open: Mutex::default() }
    }

    /// The open file of this version.
    ///
    /// # Errors
    /// `NotFound` when the file is gone or is another version by now; what the file system reports.
    pub fn open(&self, object: &Arc<Object>) -> io::Result<Arc<OpenFile>> {
        match self.open_once(object) {
            Err(error) if is_out_of_descriptors(&error) => {
                self.close_all();
                self.open_once(object)
            }
            other => other,
        }
    }

    /// Closes every file but those that an answer is using.
    pub fn close_all(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        open.iter().filter_map(Weak::upgrade).for_each(|object| drop(object.file.lock().take()));
    }

    fn open_once(&self, object: &Arc<Object>) -> io::Result<Arc<OpenFile>> {
        let known = object.file.lock().clone();
        if let Some(file) = known {
            // Removed, replaced or written into below the server: each of these changes the inode's time. The lock is
            // not held while the kernel is asked, so that readers of one object do not wait for each other.
            if Identity::of(&file.metadata()?) != object.identity {
                object.file.lock().take_if(|current| Arc::ptr_eq(current, &file));
                return Err(io::ErrorKind::NotFound.into());
            }
            if !object.used.load(Relaxed) {
                object.used.store(true, Relaxed);
            }
            return Ok(file);
        }
        let mut slot = object.file.lock();
        if let Some(file) = &*slot {
            // Another thread has just opened and checked it.
            return Ok(file.clone());
        }
        let file = Arc::new(object.open(&self.tree)?);
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

/// Whether the process, or the system, has no file descriptor left.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, content: &str) -> Arc<Object> {
        let path = PathBuf::from(format!("s3-store-object-{}-{name}", std::process::id()));
        let file = std::env::temp_dir().join(&path);
        std::fs::write(&file, content).unwrap();
        let identity = Identity::of(&std::fs::metadata(&file).unwrap());
        Arc::new(Object::new(path, identity, identity.etag(), Attributes::default()))
    }

    fn cache(capacity: usize) -> FileCache {
        FileCache::new(Arc::new(Tree::open(&std::env::temp_dir()).unwrap()), capacity)
    }

    fn remove(object: &Object) {
        std::fs::remove_file(std::env::temp_dir().join(&object.path)).unwrap();
    }

    #[test]
    fn the_cache_keeps_what_is_used() {
        let cache = cache(2);
        let objects: Vec<_> = ["0", "1", "2"].map(|name| object(name, name)).into();
        let is_open = |i: usize| objects[i].file.lock().is_some();
        cache.open(&objects[0]).unwrap();
        cache.open(&objects[1]).unwrap();
        cache.open(&objects[0]).unwrap();
        cache.open(&objects[2]).unwrap();
        assert!(is_open(0) && !is_open(1) && is_open(2));
        cache.close_all();
        assert!(!is_open(0) && !is_open(2));
        objects.iter().for_each(|object| remove(object));
    }

    #[test]
    fn a_replaced_file_is_not_this_version() {
        let (cache, old) = (cache(1), object("replaced", "one"));
        remove(&old);
        let new = object("replaced", "another");
        assert_eq!(cache.open(&old).err().unwrap().kind(), io::ErrorKind::NotFound);
        assert_ne!(old.etag, new.etag);
        remove(&new);
    }

    #[test]
    fn an_open_file_that_was_removed_or_written_into_is_not_this_version() {
        for what in ["removed", "written"] {
            let (cache, object) = (cache(1), object(what, "one"));
            cache.open(&object).unwrap();
            let path = std::env::temp_dir().join(&object.path);
            if what == "removed" {
                remove(&object);
            } else {
                std::fs::write(&path, "two").unwrap();
            }
            assert_eq!(cache.open(&object).err().unwrap().kind(), io::ErrorKind::NotFound, "{what}");
            std::fs::remove_file(path).ok();
        }
    }
}
