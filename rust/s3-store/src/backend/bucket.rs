//! The objects of one bucket: an index in memory, files and a journal on disk.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use s3s::{S3Error, S3Result, s3_error};

use super::ReadMostly;
use super::conditions::Conditions;
use super::journal::{Entries, Entry, Journal, entry_of};
use super::layout::{odd_name, plain_path};
use super::listing::{self, Page, Query};
use super::multipart::Uploads;
use super::object::{Attributes, Identity, Object, is_out_of_descriptors};
use super::staged::Complete;
use super::tree::{Tree, is_in_the_way, is_nothing};

type Objects = BTreeMap<Box<str>, Arc<Object>>;

/// How often a page is made again because files disappeared below it.
const LIST_ATTEMPTS: usize = 10;

pub struct Bucket {
    tree: Arc<Tree>,
    places: Places,
    pub created: SystemTime,
    objects: ReadMostly<Objects>,
    /// Held while files and index change together; `None` once the bucket is deleted.
    journal: Mutex<Option<Journal>>,
    pub uploads: Mutex<Uploads>,
}

/// The directories and the journal of a bucket, below the root.
pub struct Places {
    pub dir: PathBuf,
    pub odd_dir: PathBuf,
    /// Where files go that no journal line names.
    pub aside_dir: PathBuf,
    pub journal: PathBuf,
}

impl Bucket {
    /// Creates what is missing and reads what is there.
    ///
    /// # Errors
    /// Whatever the file system reports, or a journal that makes no sense.
    pub fn open(tree: &Arc<Tree>, places: Places) -> io::Result<Self> {
        tree.create_dirs(&places.dir)?;
        tree.create_dirs(&places.odd_dir)?;
        let created = tree.stat(&places.dir)?.modified()?;
        let (journal, entries) = Journal::open(tree, &places.journal)?;
        let mut bucket = Self {
            tree: tree.clone(),
            places,
            created,
            objects: ReadMostly::default(),
            journal: Mutex::default(),
            uploads: Mutex::default(),
        };
        bucket.load(journal, &entries)?;
        Ok(bucket)
    }

    fn load(&mut self, mut journal: Journal, entries: &Entries) -> io::Result<()> {
        let mut objects = Objects::new();
        let none = Vec::new();
        for file in self.tree.contents(&self.places.dir)?.files {
            let Some(key) = file.strip_prefix(&self.places.dir).ok().and_then(Path::to_str) else { continue };
            let of_key = entries.get(key).unwrap_or(&none);
            let Some(identity) = self.identity(&file)? else { continue };
            objects.insert(key.into(), Arc::new(object_at(&file, identity, entry_of(of_key, false, &identity))));
        }
        let is_odd = |(_, of_key): &(&String, &Vec<Entry>)| of_key.iter().any(|entry| entry.odd);
        let odd: BTreeMap<_, _> =
            entries.iter().filter(is_odd).map(|(key, of_key)| (odd_name(key), (key, of_key))).collect();
        for file in self.tree.contents(&self.places.odd_dir)?.files {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some((key, of_key)) = odd.get(name) else {
                self.set_aside(&file)?;
                continue;
            };
            let Some(identity) = self.identity(&file)? else { continue };
            // It is the newer one of two: a plain file of the same key would have been replaced.
            let object = object_at(&file, identity, entry_of(of_key, true, &identity));
            objects.insert(key.as_str().into(), Arc::new(object));
        }
        // Only a saving: it was read as it is.
        if let Err(error) = journal.compact(&entries_of_use(entries, &objects)) {
            tracing::error!(%error, journal = %self.places.journal.display(), "a journal cannot be shortened");
        }
        self.objects = ReadMostly::new(objects);
        self.journal = Mutex::new(Some(journal));
        Ok(())
    }

    /// Moves a file out of the way whose key nothing tells. The journal's line comes before the file, so somebody has
    /// removed it; to remove the file too would be to lose what may be the only copy.
    fn set_aside(&self, file: &Path) -> io::Result<()> {
        self.tree.create_dirs(&self.places.aside_dir)?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let mut numbers = 0..;
        let target = loop {
            let target = self.places.aside_dir.join(format!("{name}.{}", numbers.next().unwrap_or(0)));
            match self.tree.stat(&target) {
                Ok(_) => {}
                Err(error) if is_nothing(&error) => break target,
                Err(error) => return Err(error),
            }
        };
        self.tree.rename(file, &target)?;
        eprintln!(
            "s3-store: no line of {} names {name}: it is kept as {}",
            self.places.journal.display(),
            target.display()
        );
        Ok(())
    }

    /// The current version of an object. A file that was put into the directory by hand is found here.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn find(&self, key: &str) -> io::Result<Option<Arc<Object>>> {
        if let Some(known) = self.objects.read().get(key).cloned() {
            return Ok(Some(known));
        }
        if self.on_disk(key)?.is_none() {
            return Ok(None);
        }
        // Look again while nothing can change.
        let _journal = self.journal.lock();
        self.current(key)
    }

    /// A page of the listing: every object on it was there while it was made. Files put into the directory by hand show
    /// once they were read, or after a restart.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn page(&self, query: &Query) -> io::Result<Page> {
        for _ in 0..LIST_ATTEMPTS {
            let page = listing::page(&self.objects.read(), query);
            if self.are_current(&page.seen)? {
                return Ok(page);
            }
            self.refresh_all(&query.prefix)?;
        }
        Err(io::Error::other("files below the bucket change all the time"))
    }

    fn are_current(&self, objects: &[(String, Arc<Object>)]) -> io::Result<bool> {
        for (_, object) in objects {
            if self.identity(&object.path)? != Some(object.identity) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn refresh_all(&self, prefix: &str) -> io::Result<()> {
        let known: Vec<_> = {
            let objects = self.objects.read();
            let from_prefix = objects.range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
            from_prefix.map(|(key, _)| key.clone()).take_while(|key| key.starts_with(prefix)).collect()
        };
        for key in known {
            self.refresh(&key)?;
        }
        Ok(())
    }

    /// Makes a finished temporary file the object `key` if the conditions hold. Whatever fails, fails before the object
    /// is replaced.
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
        let existing = self.current(key).map_err(internal)?;
        conditions.check_write(existing.as_deref())?;
        let (path, odd) = self.prepare(key, existing.as_deref()).map_err(internal)?;
        let mut entry = Entry {
            odd,
            size: staged.size(),
            modified_ns: staged.identity.modified_ns,
            inode: Some(staged.identity.inode),
            changed_ns: None,
            etag: Some(etag.clone()),
            attributes: attributes.clone(),
        };
        let stored = journal.append(key, Some(&entry)).and_then(|()| staged.move_to(&path));
        let identity = stored.map_err(|error| {
            self.remove_empty_parents(&path);
            internal(error)
        })?;
        // It is stored. What follows tells this file from one that somebody makes look like it.
        entry.changed_ns = Some(identity.changed_ns);
        if let Err(error) = journal.append(key, Some(&entry)) {
            tracing::error!(%error, key, "a journal takes no second line");
        }
        let object = Arc::new(Object::new(path, identity, etag, attributes));
        self.objects.write().insert(key.into(), object.clone());
        Ok(object)
    }

    /// Deletes an object if there is one and the condition holds.
    ///
    /// # Errors
    /// `PreconditionFailed`, or what the file system reports.
    pub fn delete(&self, key: &str, conditions: &Conditions) -> S3Result<()> {
        let mut journal = self.journal.lock();
        let journal = journal.as_mut().ok_or_else(|| s3_error!(NoSuchBucket))?;
        let existing = self.current(key).map_err(internal)?;
        // Nothing there is what the client wants, whatever it asked of it.
        let Some(object) = existing else { return Ok(()) };
        conditions.check_write(Some(&object))?;
        match self.tree.remove(&object.path) {
            Err(error) if !is_nothing(&error) => return Err(internal(error)),
            _ => {}
        }
        self.objects.write().remove(key);
        // Without its file an entry says nothing, so a journal that takes no line does no harm.
        if let Err(error) = journal.append(key, None) {
            tracing::error!(%error, key, "a journal takes no line of a deletion");
        }
        self.remove_empty_parents(&object.path);
        Ok(())
    }

    /// Looks again at a key whose file seems to be gone or another one.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn refresh(&self, key: &str) -> io::Result<()> {
        let _journal = self.journal.lock();
        self.current(key).map(drop)
    }

    /// Deletes the bucket itself.
    ///
    /// # Errors
    /// `BucketNotEmpty`, or what the file system reports.
    pub fn remove(&self) -> S3Result<()> {
        let mut journal = self.journal.lock();
        self.refresh_index().map_err(internal)?;
        if !self.objects.read().is_empty() {
            return Err(s3_error!(BucketNotEmpty));
        }
        self.remove_dirs(&self.places.dir)?;
        // From here on the bucket is gone, and what is left of it says nothing.
        self.tree.remove_dir(&self.places.odd_dir).ok();
        if let Some(journal) = journal.take() {
            journal.remove().ok();
        }
        Ok(())
    }

    /// Removes a directory that holds nothing but directories: a file put there by hand, or a symbolic link, stays.
    fn remove_dirs(&self, dir: &Path) -> S3Result<()> {
        let contents = self.tree.contents(dir).map_err(internal)?;
        let dirs = contents.dirs.iter().rev().map(PathBuf::as_path).chain([dir]);
        for dir in dirs {
            match self.tree.remove_dir(dir) {
                Err(error) if is_in_the_way(&error) => return Err(s3_error!(BucketNotEmpty)),
                Err(error) if !is_nothing(&error) => return Err(internal(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn refresh_index(&self) -> io::Result<()> {
        let known: Vec<_> = self.objects.read().keys().cloned().collect();
        known.iter().try_for_each(|key| self.current(key).map(drop))
    }

    /// The version of a key that its file shows now, which the index then holds. Only while the journal is locked.
    fn current(&self, key: &str) -> io::Result<Option<Arc<Object>>> {
        let known = self.objects.read().get(key).cloned();
        if let Some(known) = known {
            match self.identity(&known.path)? {
                Some(identity) if identity == known.identity => return Ok(Some(known)),
                Some(identity) => return Ok(Some(self.keep(key, known.changed(identity)))),
                None => drop(self.objects.write().remove(key)),
            }
        }
        Ok(self.on_disk(key)?.map(|object| self.keep(key, object)))
    }

    fn keep(&self, key: &str, object: Object) -> Arc<Object> {
        let object = Arc::new(object);
        self.objects.write().insert(key.into(), object.clone());
        object
    }

    /// The plain file of this key.
    fn on_disk(&self, key: &str) -> io::Result<Option<Object>> {
        let Some(path) = plain_path(key).map(|relative| self.places.dir.join(relative)) else { return Ok(None) };
        Ok(self.identity(&path)?.map(|identity| object_at(&path, identity, None)))
    }

    /// What tells the regular file under a path from others; `None` where there is none.
    fn identity(&self, path: &Path) -> io::Result<Option<Identity>> {
        match self.tree.stat(path) {
            Ok(metadata) => Ok(metadata.is_file().then(|| Identity::of(&metadata))),
            Err(error) if is_nothing(&error) || is_in_the_way(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the file of a key goes, with its directory made: where its key says, or to the hash of the key if the key
    /// is no path or something else is in the way. Returns the place, and whether it is the hash.
    fn prepare(&self, key: &str, existing: Option<&Object>) -> io::Result<(PathBuf, bool)> {
        // A key stays where it is: there must never be two files of one key.
        if let Some(object) = existing {
            return Ok((object.path.clone(), object.path.starts_with(&self.places.odd_dir)));
        }
        if let Some(relative) = plain_path(key) {
            let path = self.places.dir.join(relative);
            match self.make_room(&path) {
                Ok(true) => return Ok((path, false)),
                Ok(false) => {}
                Err(error) if is_in_the_way(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((self.places.odd_dir.join(odd_name(key)), true))
    }

    /// Makes the directories of a path; false if a directory has its name.
    fn make_room(&self, path: &Path) -> io::Result<bool> {
        match self.tree.stat(path) {
            Ok(metadata) => return Ok(!metadata.is_dir()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.tree.create_dirs(path.parent().unwrap_or(path))?;
        Ok(true)
    }

    /// Leaves no empty directories behind, which would be in the way of a key of their name.
    fn remove_empty_parents(&self, path: &Path) {
        let parents = path.ancestors().skip(1);
        for parent in parents.take_while(|parent| parent.starts_with(&self.places.dir) && *parent != self.places.dir) {
            if self.tree.remove_dir(parent).is_err() {
                break;
            }
        }
    }
}

/// An error that is not the client's fault.
pub fn internal(error: io::Error) -> S3Error {
    let kind = error.kind(); // "no storage space": what a client needs to know, without a path
    tracing::error!(?error, "the store failed");
    if is_out_of_descriptors(&error) {
        return s3_error!(error, SlowDown, "the store has too many files and connections open");
    }
    s3_error!(error, InternalError, "the store failed: {kind}")
}

/// The object of a file with what the journal tells of it.
fn object_at(path: &Path, identity: Identity, entry: Option<&Entry>) -> Object {
    let stored = entry.filter(|entry| entry.names(&identity)).and_then(|entry| entry.etag.clone());
    let attributes = match (entry, &stored) {
        (Some(entry), Some(_)) => entry.attributes.clone(),
        (Some(entry), None) => entry.attributes.without_content(),
        (None, _) => Attributes::default(),
    };
    Object::new(path.to_owned(), identity, stored.unwrap_or_else(|| identity.etag()), attributes)
}

/// One entry of each key: that of its file, or the newest one where there is no file now.
fn entries_of_use<'a>(entries: &'a Entries, objects: &Objects) -> Vec<(&'a str, &'a Entry)> {
    let of_use = |(key, of_key): (&'a String, &'a Vec<Entry>)| {
        let object = objects.get(key.as_str());
        let entry = match object {
            // Either place may have it: a file of the wrong one has no entry.
            Some(object) => {
                let of_file = |odd| entry_of(of_key, odd, &object.identity);
                of_file(false).or_else(|| of_file(true))
            }
            None => of_key.last(),
        };
        entry.map(|entry| (key.as_str(), entry))
    };
    entries.iter().filter_map(of_use).collect()
}
