//! Bytes on their way to becoming an object: a temporary file, hashed as it is written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum, Md5};

use super::layout::hex;
use super::read::read_pieces;

/// A temporary file that is removed unless it is renamed.
pub struct Staged {
    path: PathBuf,
    file: File,
    size: u64,
    md5: Md5,
    /// Checksums that were asked for beside the MD5.
    pub checksums: ChecksumHasher,
}

/// A complete temporary file.
pub struct Complete {
    path: PathBuf,
    pub size: u64,
    pub md5: [u8; 16],
    pub checksums: s3s::dto::Checksum,
}

impl Staged {
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Self { path, file, size: 0, md5: Md5::new(), checksums: ChecksumHasher::default() })
    }

    /// # Errors
    /// When the disk is full, most likely.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.md5.update(bytes);
        self.checksums.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Appends a range of `source`.
    ///
    /// # Errors
    /// When reading or writing fails, or the source ends too early.
    pub fn write_from(&mut self, source: &File, range: Range<u64>) -> io::Result<()> {
        read_pieces(source, range, |piece| self.write(piece))
    }

    pub fn complete(mut self) -> Complete {
        let md5 = std::mem::replace(&mut self.md5, Md5::new()).finalize();
        let checksums = std::mem::take(&mut self.checksums).finalize();
        // An empty path tells `drop` that the file has a new owner.
        let path = std::mem::take(&mut self.path);
        Complete { path, size: self.size, md5, checksums }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

impl Complete {
    pub fn md5_hex(&self) -> String {
        hex(&self.md5)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the file to its place, where it replaces what was there at once.
    ///
    /// # Errors
    /// What `rename` reports; the file then stays as it was.
    pub fn rename_to(&mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.path.clear();
        Ok(())
    }
}

impl Drop for Complete {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    if !path.as_os_str().is_empty() {
        fs::remove_file(path).ok();
    }
}
