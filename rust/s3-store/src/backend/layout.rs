//! Where an object's bytes lie.
//!
//! ```text
//! ROOT/<bucket>/<key>                      an ordinary object
//! ROOT/.s3-store/lock                      held while a server uses the root
//! ROOT/.s3-store/tmp/                      uploads under way, emptied at start
//! ROOT/.s3-store/journal/<bucket>.jsonl    what the files do not tell: ETags, user metadata
//! ROOT/.s3-store/odd/<bucket>/<sha256>     objects whose key is no good file name, by the hash of the key
//! ```

use std::path::PathBuf;

use s3s::crypto::{Checksum, Sha256};

/// The directory of everything that is not a bucket; no bucket's name starts with a dot.
pub const PRIVATE: &str = ".s3-store";
const MAX_SEGMENT: usize = 255;

/// The key as a path below the bucket's directory, or `None` when that would escape, collide or be refused by the file
/// system.
pub fn plain_path(key: &str) -> Option<PathBuf> {
    let fine =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.len() <= MAX_SEGMENT && !segment.contains('\0');
    key.split('/').all(fine).then(|| PathBuf::from(key))
}

/// The file name of an object that cannot lie under its key.
pub fn odd_name(key: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(key.as_bytes());
    hex(hash.finalize().as_ref())
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_that_name_one_file_are_paths() {
        for key in ["a", "a/b", "a b/ü", "...", ".hidden", "zarr.json", "c/0/0", &"x".repeat(255)] {
            assert_eq!(plain_path(key), Some(PathBuf::from(key)));
        }
        for key in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b", &"x".repeat(256)] {
            assert_eq!(plain_path(key), None, "{key}");
        }
    }

    #[test]
    fn odd_names_differ() {
        assert_ne!(odd_name("a//b"), odd_name("a/../b"));
        assert_eq!(odd_name("").len(), 64);
    }
}
