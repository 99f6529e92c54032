//! Objects on disk. Nothing here knows HTTP; errors are S3's where a client is to blame.

mod bucket;
mod conditions;
mod journal;
mod layout;
mod listing;
mod multipart;
mod object;
mod read;
mod staged;
mod tree;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use s3s::path::check_bucket_name;
use s3s::{S3Result, s3_error};

pub use bucket::{Bucket, internal};
pub use conditions::{CONDITION_HEADERS, Conditions, range_holds, whole_seconds};
pub use layout::hex;
pub use listing::{Page, Query};
pub use multipart::{Part, Upload, Uploads, join, new_upload_id};
pub use object::{Attributes, Object};
pub use read::FileStream;
pub use staged::{Complete, Staged};

use crate::zero_copy::OpenFile;
use bucket::Places;
use layout::PRIVATE;
use object::FileCache;
use tree::{Tree, is_nothing};

/// The most files that stay open between requests.
const MAX_OPEN_FILES: u64 = 4096;

/// What the runtime of a thread waits with: an epoll instance, what wakes it, and signals.
const DESCRIPTORS_PER_THREAD: u64 = 3;

type Buckets = BTreeMap<String, Arc<Bucket>>;

/// What every request reads and few write: each thread reads under a lock of its own, and who writes takes them all.
#[derive(Default)]
struct ReadMostly<T>(ShardedLock<T>);

impl<T> ReadMostly<T> {
    fn new(value: T) -> Self {
        Self(ShardedLock::new(value))
    }

    fn read(&self) -> ShardedLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> ShardedLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A directory of buckets.
pub struct Store {
    root: PathBuf,
    tree: Arc<Tree>,
    /// How many connections it may serve at once: the rest of the descriptors is for files.
    pub max_connections: u64,
    buckets: ReadMostly<Buckets>,
    files: FileCache,
    next_temporary: AtomicU64,
    /// Keeps a second server away from the root; released by the kernel however this one ends.
    _lock: File,
}

impl Store {
    /// Takes a directory over: removes what a killed server left behind and reads every bucket.
    ///
    /// # Errors
    /// One line, when the directory is missing, not writable or in use by another server.
    pub fn open(root: &Path) -> Result<Self, String> {
        if !root.is_dir() {
            return Err(format!("--root {} is not a directory", root.display()));
        }
        Self::open_dir(root).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => format!("--root {} is in use by another s3-store", root.display()),
            _ => format!("--root {} cannot be used: {error}", root.display()),
        })
    }

    fn open_dir(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let tree = Arc::new(Tree::open(&root)?);
        let private = Path::new(PRIVATE);
        for dir in ["journal", "odd"] {
            tree.create_dirs(&private.join(dir))?;
        }
        let lock = tree.append(&private.join("lock"))?;
        lock.try_lock()?;
        empty_temporary(&tree, &private.join("tmp"))?;
        let descriptors =
            free_descriptors(crate::sys::raise_open_files_limit().unwrap_or(u64::MAX), crate::sys::cores());
        let store = Self {
            root,
            tree: tree.clone(),
            max_connections: descriptors / 8 * 5,
            buckets: ReadMostly::default(),
            // The last eighth is for uploads, timers and the control endpoint.
            files: FileCache::new(tree, (descriptors / 4).min(MAX_OPEN_FILES) as usize),
            next_temporary: AtomicU64::new(0),
            _lock: lock,
        };
        store.load()?;
        Ok(store)
    }

    fn load(&self) -> io::Result<()> {
        let mut buckets = Buckets::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.file_type()?.is_dir() && check_bucket_name(&name) {
                buckets.insert(name.clone(), Arc::new(Bucket::open(&self.tree, places(&name))?));
            }
        }
        *self.buckets.write() = buckets;
        Ok(())
    }

    /// The directory that holds the buckets.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// # Errors
    /// `NoSuchBucket`.
    pub fn bucket(&self, name: &str) -> S3Result<Arc<Bucket>> {
        if let Some(bucket) = self.buckets.read().get(name) {
            return Ok(bucket.clone());
        }
        self.adopt(name).map_err(internal)?.ok_or_else(|| s3_error!(NoSuchBucket))
    }

    /// Every bucket by name.
    pub fn buckets(&self) -> Vec<(String, Arc<Bucket>)> {
        self.buckets.read().iter().map(|(name, bucket)| (name.clone(), bucket.clone())).collect()
    }

    /// # Errors
    /// `BucketAlreadyOwnedByYou`, or what the file system reports.
    pub fn create_bucket(&self, name: &str) -> S3Result<()> {
        let mut buckets = self.buckets.write();
        if buckets.contains_key(name) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        let bucket = Bucket::open(&self.tree, places(name)).map_err(internal)?;
        buckets.insert(name.to_owned(), Arc::new(bucket));
        Ok(())
    }

    /// # Errors
    /// `NoSuchBucket`, `BucketNotEmpty`, or what the file system reports.
    pub fn delete_bucket(&self, name: &str) -> S3Result<()> {
        let bucket = self.bucket(name)?;
        let mut buckets = self.buckets.write();
        bucket.remove()?;
        buckets.remove(name);
        Ok(())
    }

    /// An object and its open file, of one version.
    ///
    /// # Errors
    /// `NoSuchKey`, or what the file system reports.
    pub fn open_object(&self, bucket: &Bucket, key: &str) -> S3Result<(Arc<Object>, Arc<OpenFile>)> {
        // A file may be replaced between looking it up and opening it: then the new version is looked up.
        for _ in 0..100 {
            let object = bucket.find(key).map_err(internal)?.ok_or_else(|| s3_error!(NoSuchKey))?;
            match self.files.open(&object) {
                Ok(file) => return Ok((object, file)),
                Err(error) if is_nothing(&error) => bucket.refresh(key).map_err(internal)?,
                Err(error) => return Err(internal(error)),
            }
        }
        Err(s3_error!(InternalError, "the object is replaced all the time"))
    }

    /// A new temporary file.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn stage(&self) -> S3Result<Staged> {
        let number = self.next_temporary.fetch_add(1, Relaxed);
        let path = Path::new(PRIVATE).join("tmp").join(number.to_string());
        Staged::create(self.tree.clone(), path).map_err(internal)
    }

    /// Closes the files that no answer is using, when descriptors have run out.
    pub fn close_files(&self) {
        self.files.close_all();
    }

    /// A directory that was made by hand is a bucket, too.
    fn adopt(&self, name: &str) -> io::Result<Option<Arc<Bucket>>> {
        if !check_bucket_name(name) {
            return Ok(None);
        }
        match self.tree.stat(Path::new(name)) {
            Ok(metadata) if metadata.is_dir() => {}
            Err(error) if !is_nothing(&error) => return Err(error),
            _ => return Ok(None),
        }
        let mut buckets = self.buckets.write();
        if !buckets.contains_key(name) {
            let bucket = Bucket::open(&self.tree, places(name))?;
            buckets.insert(name.to_owned(), Arc::new(bucket));
        }
        Ok(buckets.get(name).cloned())
    }
}

/// The descriptors that the server's own threads leave of a limit: one thread per core, the one that accepts and the
/// one of the control endpoint. Half of them at least, so that a few connections are served under any limit.
fn free_descriptors(limit: u64, cores: usize) -> u64 {
    limit - (DESCRIPTORS_PER_THREAD * (cores as u64 + 2)).min(limit / 2)
}

/// Uploads that a killed server has left behind were never acknowledged.
fn empty_temporary(tree: &Tree, dir: &Path) -> io::Result<()> {
    tree.create_dirs(dir)?;
    tree.contents(dir)?.files.iter().try_for_each(|file| tree.remove(file))
}

fn places(name: &str) -> Places {
    let private = Path::new(PRIVATE);
    Places {
        dir: name.into(),
        odd_dir: private.join("odd").join(name),
        aside_dir: private.join("set-aside").join(name),
        journal: private.join("journal").join(format!("{name}.jsonl")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_need_descriptors_of_their_own() {
        assert_eq!([1, 2, 64].map(|cores| free_descriptors(1024, cores)), [1015, 1012, 826]);
        assert_eq!(free_descriptors(128, 64), 64);
    }
}
