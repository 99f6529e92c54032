//! Bytes on their way to becoming an object: a temporary file, hashed as it is written.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum, Md5};

use super::layout::hex;
use super::object::Identity;
use super::read::read_pieces;
use super::tree::Tree;

/// A file that is removed unless it is moved to a place of its own.
struct Temporary {
    tree: Arc<Tree>,
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Nothing is left where it was moved; what cannot be removed now is removed at the next start.
        self.tree.remove(&self.path).ok();
    }
}

/// A temporary file that is being written.
pub struct Staged {
    temporary: Temporary,
    file: File,
    size: u64,
    md5: Md5,
    /// Checksums that were asked for beside the MD5.
    pub checksums: ChecksumHasher,
}

/// A complete temporary file.
pub struct Complete {
    temporary: Temporary,
    /// Open until the file is in its place, since telling its version then must not need a descriptor.
    file: Option<File>,
    pub identity: Identity,
    pub md5: [u8; 16],
    pub checksums: s3s::dto::Checksum,
}

impl Staged {
    /// # Errors
    /// When the file cannot be created.
    pub fn create(tree: Arc<Tree>, path: PathBuf) -> io::Result<Self> {
        let file = tree.create(&path)?;
        let temporary = Temporary { tree, path };
        Ok(Self { temporary, file, size: 0, md5: Md5::new(), checksums: ChecksumHasher::default() })
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

    /// # Errors
    /// What the file system reports, or when the file is not as long as what was written.
    pub fn complete(self) -> io::Result<Complete> {
        let identity = Identity::of(&self.file.metadata()?);
        if identity.size != self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (md5, checksums) = (self.md5.finalize(), self.checksums.finalize());
        Ok(Complete { temporary: self.temporary, file: Some(self.file), identity, md5, checksums })
    }
}

impl Complete {
    pub fn size(&self) -> u64 {
        self.identity.size
    }

    pub fn md5_hex(&self) -> String {
        hex(&self.md5)
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn open(&self) -> io::Result<File> {
        self.temporary.tree.file(&self.temporary.path)
    }

    /// Gives the descriptor back, of a file that waits.
    pub fn closed(self) -> Self {
        Self { file: None, ..self }
    }

    /// Moves the file to its place, where it replaces what was there at once, and tells its version there.
    ///
    /// # Errors
    /// What the file system reports; both files then stay as they were.
    pub fn move_to(self, target: &Path) -> io::Result<Identity> {
        self.temporary.tree.rename(&self.temporary.path, target)?;
        let metadata = self.file.and_then(|file| file.metadata().ok());
        Ok(metadata.map_or(self.identity, |metadata| Identity::of(&metadata)))
    }
}
