//! What the files of a bucket do not tell, as lines of JSON that are only ever appended to while a server runs.
//!
//! An entry counts as long as its file has the size and modification time it names; so a server killed between a rename
//! and its entry, or a file replaced by hand, costs an ETag to be computed and nothing else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::object::Attributes;

/// A stored object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whether it lies under the hash of its key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub odd: bool,
    pub size: u64,
    pub modified_ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    #[serde(flatten)]
    pub attributes: Attributes,
}

/// A line: the newest one of a key counts, and one without an entry deletes it.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    key: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    put: Option<Entry>,
}

pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens or creates the journal and reads it. A line that a killed server has left unfinished is skipped.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> io::Result<(Self, BTreeMap<String, Entry>)> {
        let file = File::options().read(true).append(true).create(true).open(path)?;
        let mut entries = BTreeMap::new();
        let mut lines = 0_usize;
        for line in BufReader::new(&file).split(b'\n') {
            lines += 1;
            let line = line?;
            let Ok(Line { key, put }) = serde_json::from_slice(&line) else { continue };
            match put {
                Some(entry) => entries.insert(key.into_owned(), entry),
                None => entries.remove(&*key),
            };
        }
        let mut journal = Self { path: path.to_owned(), file };
        if lines > entries.len() {
            journal.rewrite(&entries)?;
        }
        Ok((journal, entries))
    }

    /// Notes that `key` is now stored so, or with `None` that it is deleted.
    ///
    /// # Errors
    /// When the disk is full, most likely.
    pub fn append(&mut self, key: &str, put: Option<Entry>) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Line { key: key.into(), put })?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// Removes the file, with its bucket.
    ///
    /// # Errors
    /// Whatever the file system reports.
    pub fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }

    fn rewrite(&mut self, entries: &BTreeMap<String, Entry>) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut writer = BufWriter::new(File::create(&new)?);
        for (key, entry) in entries {
            serde_json::to_writer(&mut writer, &Line { key: key.into(), put: Some(entry.clone()) })?;
            writer.write_all(b"\n")?;
        }
        writer.flush()?;
        fs::rename(&new, &self.path)?;
        self.file = File::options().append(true).open(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(size: u64) -> Entry {
        let user = BTreeMap::from([("colour".to_owned(), "blue\n".to_owned())]);
        let attributes = Attributes { user, ..Attributes::default() };
        Entry { odd: false, size, modified_ns: 5, etag: Some("e".into()), attributes }
    }

    #[test]
    fn the_newest_line_counts_and_a_broken_one_does_not() {
        let path = std::env::temp_dir().join(format!("s3-store-journal-{}", std::process::id()));
        let (mut journal, entries) = Journal::open(&path).unwrap();
        assert!(entries.is_empty());
        journal.append("a", Some(entry(1))).unwrap();
        journal.append("a", Some(entry(2))).unwrap();
        journal.append("b", Some(entry(3))).unwrap();
        journal.append("b", None).unwrap();
        journal.file.write_all(b"{\"key\":\"c\",\"put\":{\"si").unwrap();
        for _ in 0..2 {
            let (_, entries) = Journal::open(&path).unwrap();
            assert_eq!(entries, BTreeMap::from([("a".to_owned(), entry(2))]));
        }
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        fs::remove_file(&path).unwrap();
    }
}
