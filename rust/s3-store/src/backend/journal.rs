//! What the files of a bucket do not tell, as lines of JSON that are only ever appended to while a server runs.
//!
//! A line is written before its file is moved to its place, so a file without one was never acknowledged. It counts
//! where the file has the size and modification time that it names; a second one, once the file is in place, says which
//! file that is. So a server killed anywhere between leaves the old version with its attributes, or the new one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::object::{Attributes, Identity};
use super::tree::Tree;

/// A stored object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whether it lies under the hash of its key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub odd: bool,
    pub size: u64,
    pub modified_ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Known once the file is in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(flatten)]
    pub attributes: Attributes,
}

impl Entry {
    /// Whether the bytes of a file are those that this entry was written for.
    pub fn names(&self, file: &Identity) -> bool {
        file.may_be(self.size, self.modified_ns)
            && self.inode.is_none_or(|inode| inode == file.inode)
            && self.changed_ns.is_none_or(|changed_ns| changed_ns == file.changed_ns)
    }
}

/// The lines of a key since its last deletion, oldest first: all but the last may be of uploads that failed.
pub type Entries = BTreeMap<String, Vec<Entry>>;

/// The entry of a file, out of those of its key: the one that was written for these bytes, or for a copy of them.
pub fn entry_of<'a>(entries: &'a [Entry], odd: bool, file: &Identity) -> Option<&'a Entry> {
    let newest = || entries.iter().rev().filter(|entry| entry.odd == odd);
    newest()
        .find(|entry| entry.names(file))
        .or_else(|| newest().find(|entry| file.may_be(entry.size, entry.modified_ns)))
}

/// A line: without an entry it deletes the key.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    key: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    put: Option<std::borrow::Cow<'a, Entry>>,
}

impl Line<'_> {
    fn bytes(key: &str, put: Option<&Entry>) -> io::Result<Vec<u8>> {
        let put = put.map(std::borrow::Cow::Borrowed);
        let mut bytes = serde_json::to_vec(&Line { key: key.into(), put })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

pub struct Journal {
    tree: Arc<Tree>,
    path: PathBuf,
    file: File,
    /// The length of all whole lines, bytes.
    len: u64,
    /// Whether half a line may follow them, which could not be cut off.
    torn: bool,
    lines: usize,
}

impl Journal {
    /// Opens or creates the journal and reads it. What a killed server has left of a last line is cut off.
    ///
    /// # Errors
    /// `InvalidData` when another line makes no sense, which nothing that this server does can bring about: going on
    /// would forget objects. Otherwise what the file system reports.
    pub fn open(tree: &Arc<Tree>, path: &Path) -> io::Result<(Self, Entries)> {
        let file = tree.append(path)?;
        let mut journal = Self { tree: tree.clone(), path: path.to_owned(), file, len: 0, torn: true, lines: 0 };
        let entries = journal.read()?;
        Ok((journal, entries))
    }

    fn read(&mut self) -> io::Result<Entries> {
        let mut entries = Entries::new();
        let mut reader = BufReader::new(self.file.try_clone()?);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            reader.read_until(b'\n', &mut bytes)?;
            if bytes.last() != Some(&b'\n') {
                return Ok(entries);
            }
            self.lines += 1;
            self.len += bytes.len() as u64;
            let line = serde_json::from_slice(&bytes).map_err(|error| self.bad_line(&error))?;
            note(&mut entries, line);
        }
    }

    fn bad_line(&self, error: &serde_json::Error) -> io::Error {
        let (path, line) = (self.path.display(), self.lines);
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "line {line} of {path} is no entry ({error}): mend or remove it; objects that it names lose their \
                     attributes, and those under odd names are set aside"
            ),
        )
    }

    /// Notes that `key` is now stored so, or with `None` that it is deleted.
    ///
    /// # Errors
    /// When the disk is full, most likely; the journal is then as it was.
    pub fn append(&mut self, key: &str, put: Option<&Entry>) -> io::Result<()> {
        let line = Line::bytes(key, put)?;
        if self.torn {
            self.file.set_len(self.len)?;
        }
        // The next line must not end up behind half of this one.
        self.torn = true;
        let written = self.file.write_all(&line);
        match written {
            Ok(()) => {
                self.torn = false;
                self.len += line.len() as u64;
                self.lines += 1;
            }
            Err(_) => self.torn = self.file.set_len(self.len).is_err(),
        }
        written
    }

    /// Writes the journal anew, if that makes it shorter, with what is still of use.
    ///
    /// # Errors
    /// When the disk is full, most likely; the journal is then as it was.
    pub fn compact(&mut self, entries: &[(&str, &Entry)]) -> io::Result<()> {
        if self.lines <= entries.len() {
            return Ok(());
        }
        let new = self.path.with_extension("new");
        self.tree.remove(&new).ok();
        let written = self.write_new(&new, entries).and_then(|()| self.tree.rename(&new, &self.path));
        if written.is_err() {
            self.tree.remove(&new).ok();
            return written;
        }
        self.file = self.tree.append(&self.path)?;
        self.len = self.file.metadata()?.len();
        self.lines = entries.len();
        self.torn = false;
        Ok(())
    }

    fn write_new(&self, new: &Path, entries: &[(&str, &Entry)]) -> io::Result<()> {
        let mut writer = BufWriter::new(self.tree.create(new)?);
        for (key, entry) in entries {
            writer.write_all(&Line::bytes(key, Some(entry))?)?;
        }
        writer.flush()
    }

    /// Removes the file, with its bucket.
    ///
    /// # Errors
    /// Whatever the file system reports.
    pub fn remove(&self) -> io::Result<()> {
        self.tree.remove(&self.path)
    }
}

fn note(entries: &mut Entries, Line { key, put }: Line<'_>) {
    let Some(entry) = put.map(std::borrow::Cow::into_owned) else {
        entries.remove(&*key);
        return;
    };
    let of_key = entries.entry(key.into_owned()).or_default();
    // Its file is in place: what was there before is not.
    if entry.changed_ns.is_some() {
        of_key.clear();
    }
    of_key.push(entry);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Place(PathBuf, Arc<Tree>);

    impl Place {
        fn new() -> Self {
            static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
            let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("s3-store-journal-{}-{number}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            let tree = Arc::new(Tree::open(&path).unwrap());
            Self(path, tree)
        }

        fn open(&self) -> io::Result<(Journal, Entries)> {
            Journal::open(&self.1, Path::new("j"))
        }

        fn file(&self) -> PathBuf {
            self.0.join("j")
        }

        fn write(&self, bytes: &[u8]) {
            File::options().append(true).create(true).open(self.file()).unwrap().write_all(bytes).unwrap();
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn entry(size: u64) -> Entry {
        let user = BTreeMap::from([("colour".to_owned(), "blue\n".to_owned())]);
        let attributes = Attributes { user, ..Attributes::default() };
        let (inode, changed_ns) = (Some(7), None);
        Entry { odd: false, size, modified_ns: 5, inode, changed_ns, etag: Some("e".into()), attributes }
    }

    fn in_place(size: u64) -> Entry {
        Entry { changed_ns: Some(9), ..entry(size) }
    }

    #[test]
    fn what_is_in_place_replaces_and_what_is_unfinished_is_cut_off() {
        let place = Place::new();
        let (mut journal, entries) = place.open().unwrap();
        assert!(entries.is_empty());
        journal.append("a", Some(&in_place(1))).unwrap();
        journal.append("a", Some(&in_place(2))).unwrap();
        journal.append("a", Some(&entry(3))).unwrap();
        journal.append("b", Some(&entry(4))).unwrap();
        journal.append("b", None).unwrap();
        place.write(b"{\"key\":\"c\",\"put\":{\"si");
        let expected = Entries::from([("a".to_owned(), vec![in_place(2), entry(3)])]);
        for _ in 0..2 {
            let (mut journal, entries) = place.open().unwrap();
            assert_eq!(entries, expected);
            journal.append("b", None).unwrap();
        }
        let (mut journal, _) = place.open().unwrap();
        journal.compact(&[("a", &entry(3))]).unwrap();
        journal.append("c", Some(&entry(5))).unwrap();
        let (_, entries) = place.open().unwrap();
        assert_eq!(entries, Entries::from([("a".into(), vec![entry(3)]), ("c".into(), vec![entry(5)])]));
    }

    #[test]
    fn a_bad_line_before_the_end_is_refused() {
        let place = Place::new();
        place.open().unwrap().0.append("a", Some(&entry(1))).unwrap();
        place.write(b"{\"key\":\"b\",\"put\":{\"si{\"key\":\"c\"}\n");
        let error = place.open().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("line 2 of j"), "{error}");
    }

    #[test]
    fn a_line_that_found_no_room_leaves_nothing() {
        let place = Place::new();
        let (mut journal, _) = place.open().unwrap();
        journal.append("a", Some(&entry(1))).unwrap();
        let whole = std::fs::read(place.file()).unwrap();
        // As a short write leaves it when cutting it off fails as well.
        place.write(b"{\"key\":\"b\",\"pu");
        journal.torn = true;
        journal.append("c", Some(&entry(2))).unwrap();
        let (_, entries) = place.open().unwrap();
        assert_eq!(entries.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert!(std::fs::read(place.file()).unwrap().starts_with(&whole));
    }

    #[test]
    fn the_entry_of_a_file_is_the_one_written_for_its_bytes() {
        let file = Identity { size: 1, modified_ns: 5, inode: 7, changed_ns: 9 };
        let (placed, other) = (in_place(1), Entry { inode: Some(8), ..entry(1) });
        assert_eq!(entry_of(&[placed.clone(), other.clone()], false, &file), Some(&placed));
        assert_eq!(entry_of(std::slice::from_ref(&other), false, &file), Some(&other), "a copy keeps its attributes");
        assert!(!other.names(&file));
        assert_eq!(entry_of(std::slice::from_ref(&placed), true, &file), None);
        assert_eq!(entry_of(&[entry(2)], false, &file), None);
        let older = Entry { inode: None, changed_ns: None, ..entry(1) };
        assert!(older.names(&file), "an earlier version of this server did not note them");
    }

    proptest! {
        /// Wherever the file ends, the lines that are whole are read, and the rest is never taken for one.
        #[test]
        fn any_cut_keeps_every_whole_line(keys in prop::collection::vec(".{0,20}", 1..12), cut in any::<prop::sample::Index>()) {
            let place = Place::new();
            let (mut journal, _) = place.open().unwrap();
            let mut ends = vec![0];
            for (size, key) in keys.iter().enumerate() {
                journal.append(key, Some(&in_place(size as u64))).unwrap();
                ends.push(std::fs::metadata(place.file()).unwrap().len());
            }
            let at = cut.index(*ends.last().unwrap() as usize + 1) as u64;
            File::options().write(true).open(place.file()).unwrap().set_len(at).unwrap();
            let whole = ends.iter().filter(|end| **end <= at).count() - 1;
            let expected: Entries = keys[..whole].iter().enumerate()
                .map(|(size, key)| (key.clone(), vec![in_place(size as u64)])).collect();
            let (mut journal, entries) = place.open().unwrap();
            prop_assert_eq!(&entries, &expected);
            journal.append("after", None).unwrap();
            prop_assert_eq!(place.open().unwrap().1.into_iter().filter(|(key, _)| key != "after").collect::<Entries>(),
                expected.into_iter().filter(|(key, _)| key != "after").collect::<Entries>());
        }

        /// Whatever bytes stand there: an error or entries, never a panic, and never a byte taken away by reading.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let place = Place::new();
            place.write(&bytes);
            drop(place.open());
            prop_assert_eq!(std::fs::read(place.file()).unwrap(), bytes);
        }
    }
}
