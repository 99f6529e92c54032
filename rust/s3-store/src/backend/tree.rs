//! The files below the root, reached so that nothing leads out of it.
//!
//! Every path is relative to the root. The kernel resolves it beneath the root and through no symbolic link, whoever
//! put one there and whenever, so no check of ours can come too early.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
/// A descriptor that only names something.
const NAME: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// An open directory that everything lies in.
pub struct Tree(OwnedFd);

/// What lies below a directory, each before what it holds. Symbolic links and special files are left out.
#[derive(Default)]
pub struct Contents {
    pub files: Vec<PathBuf>,
    pub dirs: Vec<PathBuf>,
}

impl Tree {
    /// # Errors
    /// What the file system reports; `Unsupported` before Linux 5.6.
    pub fn open(root: &Path) -> io::Result<Self> {
        let tree = Self(rustix::fs::open(root, NAME | OFlags::DIRECTORY, Mode::empty())?);
        tree.resolve(Path::new("."), NAME)?;
        Ok(tree)
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// `NotFound` too where something else has the name; what the file system reports.
    pub fn file(&self, path: &Path) -> io::Result<File> {
        // A FIFO put there by hand would hold up who opens it.
        let file = File::from(self.resolve(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Creates a file that must not exist, for writing.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        Ok(self.resolve(path, flags)?.into())
    }

    /// Opens or creates a file for reading and for writing at its end.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn append(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        Ok(self.resolve(path, flags)?.into())
    }

    /// What stands under a path, which may be a symbolic link itself.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn stat(&self, path: &Path) -> io::Result<Metadata> {
        File::from(self.resolve(path, NAME | OFlags::NOFOLLOW)?).metadata()
    }

    /// Moves a file, which replaces what was there at once.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from, from_name), (to, to_name)) = (self.parent(from)?, self.parent(to)?);
        Ok(rustix::fs::renameat(from, from_name, to, to_name)?)
    }

    /// # Errors
    /// What the file system reports.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    /// Makes a directory and those above it where they are missing.
    ///
    /// # Errors
    /// What the file system reports; a symbolic link on the way is one.
    pub fn create_dirs(&self, path: &Path) -> io::Result<()> {
        let mut dir = self.resolve(Path::new("."), NAME | OFlags::DIRECTORY)?;
        for name in path {
            match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            dir = rustix::fs::openat2(&dir, name, NAME | OFlags::DIRECTORY, Mode::empty(), BENEATH)?;
        }
        Ok(())
    }

    /// Everything below a directory; what disappears meanwhile may be missing.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn contents(&self, dir: &Path) -> io::Result<Contents> {
        let mut found = Contents::default();
        let mut waiting = vec![dir.to_owned()];
        while let Some(dir) = waiting.pop() {
            let open = match self.resolve(&dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC) {
                Err(error) if is_nothing(&error) => continue,
                other => other?,
            };
            for entry in Dir::new(open)? {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if matches!(name.as_bytes(), b"." | b"..") {
                    continue;
                }
                let path = dir.join(name);
                match self.file_type(entry.file_type(), &path)? {
                    FileType::RegularFile => found.files.push(path),
                    FileType::Directory => {
                        found.dirs.push(path.clone());
                        waiting.push(path);
                    }
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    /// Some file systems do not tell types where they list names.
    fn file_type(&self, listed: FileType, path: &Path) -> io::Result<FileType> {
        if listed != FileType::Unknown {
            return Ok(listed);
        }
        match self.stat(path) {
            Ok(metadata) if metadata.is_file() => Ok(FileType::RegularFile),
            Ok(metadata) if metadata.is_dir() => Ok(FileType::Directory),
            Ok(_) => Ok(FileType::Unknown),
            Err(error) if is_nothing(&error) => Ok(FileType::Unknown),
            Err(error) => Err(error),
        }
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        Ok(rustix::fs::openat2(&self.0, path, flags, mode, BENEATH)?)
    }

    /// The directory of a path, open, and the path's last name.
    fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok((self.resolve(parent, NAME | OFlags::DIRECTORY)?, name))
    }
}

/// Whether an error says that no file of the server's stands under a path: nothing at all, or a file or a symbolic link
/// where a directory would have to be. Every other error leaves that open.
pub fn is_nothing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
        || error.kind() == io::ErrorKind::NotFound
}

/// Whether an error says that a path is unfit for a file, because of its length or of what stands in its way.
pub fn is_in_the_way(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(
        errno,
        Some(Errno::EXIST | Errno::NOTEMPTY | Errno::NAMETOOLONG | Errno::ISDIR | Errno::NOTDIR | Errno::LOOP)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> (Self, Tree) {
            let path = std::env::temp_dir().join(format!("s3-store-tree-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            std::fs::create_dir(path.join("root")).unwrap();
            let tree = Tree::open(&path.join("root")).unwrap();
            (Self(path), tree)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    fn errno(result: io::Result<impl Sized>) -> Option<Errno> {
        result.err().and_then(|error| Errno::from_io_error(&error))
    }

    #[test]
    fn nothing_leads_out() {
        let (place, tree) = Place::new("out");
        std::fs::write(place.0.join("secret"), "secret").unwrap();
        symlink("..", place.0.join("root/up")).unwrap();
        symlink(&place.0, place.0.join("root/far")).unwrap();
        symlink("../secret", place.0.join("root/file")).unwrap();
        std::fs::write(place.0.join("root/own"), "").unwrap();
        for path in ["up/secret", "far/secret", "file"] {
            assert_eq!(errno(tree.file(Path::new(path))), Some(Errno::LOOP), "{path}");
        }
        for path in ["../secret", "/etc/hostname"] {
            assert_eq!(errno(tree.file(Path::new(path))), Some(Errno::XDEV), "{path}");
            assert_eq!(errno(tree.remove(Path::new(path))), Some(Errno::XDEV), "{path}");
        }
        for path in ["up/new", "far/new", "up/a/b"] {
            let path = Path::new(path);
            assert_eq!(errno(tree.create(path)), Some(Errno::LOOP));
            assert_eq!(errno(tree.append(path)), Some(Errno::LOOP));
            assert_eq!(errno(tree.rename(Path::new("own"), path)), Some(Errno::LOOP));
            assert!(matches!(errno(tree.create_dirs(path)), Some(Errno::LOOP | Errno::NOTDIR)));
            assert_eq!(errno(tree.remove(path)), Some(Errno::LOOP));
        }
        assert_eq!(tree.contents(Path::new(".")).unwrap().files, [Path::new("./own")]);
        let mut names: Vec<_> = std::fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["root", "secret"]);
    }

    #[test]
    fn files_are_made_moved_and_removed() {
        let (_place, tree) = Place::new("files");
        tree.create_dirs(Path::new("a/b")).unwrap();
        tree.create(Path::new("a/one")).unwrap().write_all(b"1").unwrap();
        tree.rename(Path::new("a/one"), Path::new("a/b/two")).unwrap();
        let mut text = String::new();
        tree.file(Path::new("a/b/two")).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "1");
        assert_eq!(tree.file(Path::new("a/b")).unwrap_err().kind(), io::ErrorKind::NotFound);
        let contents = tree.contents(Path::new("a")).unwrap();
        assert_eq!((contents.files, contents.dirs), (vec!["a/b/two".into()], vec![PathBuf::from("a/b")]));
        assert!(is_in_the_way(&tree.create_dirs(Path::new("a/b/two/c")).unwrap_err()));
        tree.remove(Path::new("a/b/two")).unwrap();
        tree.remove_dir(Path::new("a/b")).unwrap();
        assert!(is_nothing(&tree.stat(Path::new("a/b")).unwrap_err()));
    }
}
