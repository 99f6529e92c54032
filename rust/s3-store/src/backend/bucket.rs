//! The objects of one bucket: an index in memory, files and a journal on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use s3s::{S3Error, S3Result, s3_error};

use super::conditions::Conditions;
use super::journal::{Entry, Journal};
use super::layout::{odd_name, plain_path};
use super::listing::{self, Page, Query};
use super::multipart::Uploads;
use super::object::{Attributes, Identity, Object};
use super::staged::Complete;

type Objects = BTreeMap<Box<str>, Arc<Object>>;

pub struct Bucket {
    dir: PathBuf,
    odd_dir: PathBuf,
    pub created: SystemTime,
    objects: RwLock<Objects>,
    /// Held while files and index change together; `None` once the bucket is deleted.
    journal: Mutex<Option<Journal>>,
    pub uploads: Mutex<Uploads>,
}

/// The directories and the journal of a bucket.
pub struct Places {
    pub dir: PathBuf,
    pub odd_dir: PathBuf,
    pub journal: PathBuf,
}

impl Bucket {
    /// Creates what is missing and reads what is there.
    ///
    /// # Errors
    /// Whatever the file system reports.
    pub fn open(places: Places) -> io::Result<Self> {
        fs::create_dir_all(&places.dir)?;
        fs::create_dir_all(&places.odd_dir)?;
        let created = fs::metadata(&places.dir)?.modified()?;
        let (journal, entries) = Journal::open(&places.journal)?;
        let bucket = Self {
            dir: places.dir,
            odd_dir: places.odd_dir,
            created,
            objects: RwLock::default(),
            journal: Mutex::new(Some(journal)),
            uploads: Mutex::default(),
        };
        bucket.load(entries)?;
        Ok(bucket)
    }

    fn load(&self, mut entries: BTreeMap<String, Entry>) -> io::Result<()> {
        let mut objects = Objects::new();
        for file in files_below(&self.dir)? {
            let Some(key) = file.strip_prefix(&self.dir).ok().and_then(Path::to_str) else { continue };
            // An entry of the same key under its hash is the newer one: a plain file would have been replaced.
            let entry = if entries.get(key).is_some_and(|entry| entry.odd) { None } else { entries.remove(key) };
            objects.insert(key.into(), Arc::new(object_at(&file, entry)?));
        }
        let odd_entries = entries.into_iter().filter(|(_, entry)| entry.odd);
        let mut odd: BTreeMap<_, _> = odd_entries.map(|(key, entry)| (odd_name(&key), (key, entry))).collect();
        for file in files_below(&self.odd_dir)? {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match odd.remove(name) {
                Some((key, entry)) => drop(objects.insert(key.into(), Arc::new(object_at(&file, Some(entry))?))),
                // Only an entry names the key; a file without one was never acknowledged.
                None => fs::remove_file(&file)?,
            }
        }
        *self.objects.write() = objects;
        Ok(())
    }

    /// The current version of an object. A file that was put into the directory by hand is found here.
    pub fn find(&self, key: &str) -> Option<Arc<Object>> {
        let known = self.objects.read().get(key).cloned();
        known.or_else(|| self.adopt(key))
    }

    /// A page of the listing. Files put into the directory by hand show once they were read, or after a restart.
    pub fn page(&self, query: Query<'_>) -> Page {
        listing::page(&self.objects.read(), query)
    }

    /// Makes a finished temporary file the object `key` if the conditions hold.
    ///
    /// # Errors
    /// `PreconditionFailed`, `NoSuchBucket` when the bucket is deleted meanwhile, or what the file system reports.
    pub fn commit(
        &self,
        key: &str,
        staged: Complete,
        etag: String,
        attributes: Attributes,
        conditions: &Conditions,
    ) -> S3Result<Arc<Object>> {
        let mut journal = self.journal.lock();
        let journal = journal.as_mut().ok_or_else(|| s3_error!(NoSuchBucket))?;
        let existing = self.objects.read().get(key).cloned().or_else(|| self.on_disk(key));
        if !conditions.is_empty() {
            let etag = existing.as_ref().map(|object| object.etag()).transpose().map_err(internal)?;
            conditions.check_write(etag)?;
        }
        let (path, odd) = self.place(key, staged, existing.as_deref()).map_err(internal)?;
        let identity = Identity::of(&fs::metadata(&path).map_err(internal)?);
        let entry = Entry {
            odd,
            size: identity.size,
            modified_ns: identity.modified_ns,
            etag: Some(etag.clone()),
            attributes: attributes.clone(),
        };
        journal.append(key, Some(entry)).map_err(internal)?;
        let object = Arc::new(Object::new(path, identity, Some(etag), attributes));
        self.objects.write().insert(key.into(), object.clone());
        Ok(object)
    }

    /// Keeps an ETag that was computed for a file put there by hand.
    pub fn remember_etag(&self, key: &str, object: &Arc<Object>) {
        let mut journal = self.journal.lock();
        let is_current = self.objects.read().get(key).is_some_and(|current| Arc::ptr_eq(current, object));
        let (Some(journal), true) = (journal.as_mut(), is_current) else { return };
        let entry = Entry {
            odd: object.path.starts_with(&self.odd_dir),
            size: object.identity.size,
            modified_ns: object.identity.modified_ns,
            etag: object.known_etag().map(str::to_owned),
            attributes: object.attributes.clone(),
        };
        // Only a saving: it will be computed again.
        journal.append(key, Some(entry)).ok();
    }

    /// Deletes an object if there is one and the condition holds.
    ///
    /// # Errors
    /// `PreconditionFailed`, or what the file system reports.
    pub fn delete(&self, key: &str, conditions: &Conditions) -> S3Result<()> {
        let mut journal = self.journal.lock();
        let journal = journal.as_mut().ok_or_else(|| s3_error!(NoSuchBucket))?;
        let Some(object) = self.objects.read().get(key).cloned().or_else(|| self.on_disk(key)) else {
            return conditions.check_write(None);
        };
        if !conditions.is_empty() {
            conditions.check_write(Some(object.etag().map_err(internal)?))?;
        }
        match fs::remove_file(&object.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(internal(error)),
            _ => {}
        }
        self.objects.write().remove(key);
        journal.append(key, None).map_err(internal)?;
        self.remove_empty_parents(&object.path);
        Ok(())
    }

    /// Forgets a version whose file is gone or was replaced by hand.
    pub fn forget(&self, key: &str, object: &Arc<Object>) {
        let mut objects = self.objects.write();
        if objects.get(key).is_some_and(|current| Arc::ptr_eq(current, object)) {
            objects.remove(key);
        }
    }

    /// Deletes the bucket itself.
    ///
    /// # Errors
    /// `BucketNotEmpty`, or what the file system reports.
    pub fn remove(&self) -> S3Result<()> {
        let mut journal = self.journal.lock();
        let not_empty = || s3_error!(BucketNotEmpty);
        if !self.objects.read().is_empty() || !files_below(&self.dir).map_err(internal)?.is_empty() {
            return Err(not_empty());
        }
        fs::remove_dir_all(&self.dir).map_err(internal)?;
        fs::remove_dir_all(&self.odd_dir).map_err(internal)?;
        if let Some(journal) = journal.take() {
            journal.remove().map_err(internal)?;
        }
        Ok(())
    }

    /// Takes a file that appeared in the directory into the index.
    fn adopt(&self, key: &str) -> Option<Arc<Object>> {
        self.on_disk(key)?;
        // Look again while nothing can change.
        let _journal = self.journal.lock();
        let object = self.on_disk(key)?;
        Some(self.objects.write().entry(key.into()).or_insert(object).clone())
    }

    /// The plain file of this key, unless a symbolic link would lead out of the bucket.
    fn on_disk(&self, key: &str) -> Option<Arc<Object>> {
        let path = self.dir.join(plain_path(key)?);
        if !fs::symlink_metadata(&path).ok()?.is_file() {
            return None;
        }
        let (real, dir) = (path.canonicalize().ok()?, self.dir.canonicalize().ok()?);
        if !real.starts_with(dir) {
            return None;
        }
        object_at(&path, None).ok().map(Arc::new)
    }

    /// Renames the file to where its key says, or to the hash of the key if the key is no path or another key's file or
    /// directory is in the way. Returns the place, and whether it is the hash.
    fn place(&self, key: &str, mut staged: Complete, existing: Option<&Object>) -> io::Result<(PathBuf, bool)> {
        let odd_path = self.odd_dir.join(odd_name(key));
        // A key stays where it is: there must never be two files of one key.
        let is_odd = existing.is_some_and(|object| object.path == odd_path);
        if !is_odd && let Some(relative) = plain_path(key) {
            let path = self.dir.join(relative);
            match rename_into_new_dirs(&mut staged, &path) {
                Ok(()) => return Ok((path, false)),
                Err(error) if existing.is_none() && is_in_the_way(&error) => {}
                Err(error) => return Err(error),
            }
        }
        staged.rename_to(&odd_path)?;
        Ok((odd_path, true))
    }

    /// Leaves no empty directories behind, which would be in the way of a key of their name.
    fn remove_empty_parents(&self, path: &Path) {
        let parents = path.ancestors().skip(1);
        for parent in parents.take_while(|parent| parent.starts_with(&self.dir) && *parent != self.dir) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
        }
    }
}

/// An error that is not the client's fault.
pub fn internal(error: io::Error) -> S3Error {
    let kind = error.kind(); // "no storage space": what a client needs to know, without a path
    s3_error!(error, InternalError, "the store failed: {kind}")
}

fn rename_into_new_dirs(staged: &mut Complete, path: &Path) -> io::Result<()> {
    match staged.rename_to(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path))?;
            staged.rename_to(path)
        }
        other => other,
    }
}

fn is_in_the_way(error: &io::Error) -> bool {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, InvalidFilename, IsADirectory, NotADirectory};
    matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | InvalidFilename | IsADirectory | NotADirectory)
}

fn object_at(path: &Path, entry: Option<Entry>) -> io::Result<Object> {
    let identity = Identity::of(&fs::metadata(path)?);
    let same = |entry: &Entry| (entry.size, entry.modified_ns) == (identity.size, identity.modified_ns);
    let (etag, attributes) = match entry.filter(same) {
        Some(entry) => (entry.etag, entry.attributes),
        None => (None, Attributes::default()),
    };
    Ok(Object::new(path.to_owned(), identity, etag, attributes))
}

/// All regular files below a directory. Symbolic links are not followed: they could lead anywhere.
fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}
