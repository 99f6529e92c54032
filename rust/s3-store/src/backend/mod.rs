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

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;
use s3s::path::check_bucket_name;
use s3s::{S3Result, s3_error};

pub use bucket::{Bucket, internal};
pub use conditions::{Conditions, whole_seconds};
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

/// The most files that stay open between requests.
const MAX_OPEN_FILES: u64 = 4096;

type Buckets = BTreeMap<String, Arc<Bucket>>;

/// A directory of buckets.
pub struct Store {
    root: PathBuf,
    buckets: RwLock<Buckets>,
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
        let private = root.join(PRIVATE);
        for dir in ["journal", "odd"] {
            fs::create_dir_all(private.join(dir))?;
        }
        let lock = File::create(private.join("lock"))?;
        lock.try_lock()?;
        let temporary = private.join("tmp");
        fs::remove_dir_all(&temporary).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        fs::create_dir(&temporary)?;
        let descriptors = crate::sys::raise_open_files_limit().unwrap_or(u64::MAX);
        let store = Self {
            root,
            buckets: RwLock::default(),
            // The other half is for connections and uploads.
            files: FileCache::new((descriptors / 2).min(MAX_OPEN_FILES) as usize),
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
                buckets.insert(name.clone(), Arc::new(Bucket::open(self.places(&name))?));
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
        self.adopt(name).ok_or_else(|| s3_error!(NoSuchBucket))
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
        let bucket = Bucket::open(self.places(name)).map_err(internal)?;
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
            let object = bucket.find(key).ok_or_else(|| s3_error!(NoSuchKey))?;
            match self.files.open(&object) {
                Ok(file) => return Ok((object, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => bucket.forget(key, &object),
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
        Staged::create(self.root.join(PRIVATE).join("tmp").join(number.to_string())).map_err(internal)
    }

    /// A directory that was made by hand is a bucket, too.
    fn adopt(&self, name: &str) -> Option<Arc<Bucket>> {
        if !check_bucket_name(name) || !fs::symlink_metadata(self.root.join(name)).ok()?.is_dir() {
            return None;
        }
        let mut buckets = self.buckets.write();
        if !buckets.contains_key(name) {
            let bucket = Bucket::open(self.places(name)).ok()?;
            buckets.insert(name.to_owned(), Arc::new(bucket));
        }
        buckets.get(name).cloned()
    }

    fn places(&self, name: &str) -> Places {
        let private = self.root.join(PRIVATE);
        Places {
            dir: self.root.join(name),
            odd_dir: private.join("odd").join(name),
            journal: private.join("journal").join(format!("{name}.jsonl")),
        }
    }
}
