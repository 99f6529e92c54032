//! The bytes of an object as a stream.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::task::JoinHandle;

use crate::sys;
use crate::zero_copy::{MIN_PIECE, OpenFile};

/// The most that is read at once, bytes.
const PIECE: u64 = 256 * 1024;

/// A range of an open file. What the page cache holds is sent from there if it is large, and copied if it is small;
/// what it does not hold is read on another thread, so that a slow disk stops one connection only.
pub struct FileStream {
    file: Arc<OpenFile>,
    offset: u64,
    end: u64,
    from_disk: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileStream {
    /// `range` is half-open and lies inside the file.
    pub fn new(file: Arc<OpenFile>, range: Range<u64>) -> Self {
        Self { file, offset: range.start, end: range.end, from_disk: None }
    }

    fn left(&self) -> u64 {
        self.end - self.offset
    }

    fn read_from_disk(&self, wanted: usize) -> JoinHandle<io::Result<Vec<u8>>> {
        let (file, offset) = (self.file.clone(), self.offset);
        tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; wanted];
            let read = file.read_at(&mut buffer, offset)?;
            buffer.truncate(read);
            Ok(buffer)
        })
    }

    /// The next piece if the page cache holds it.
    fn read_from_memory(&mut self, wanted: usize) -> Option<Bytes> {
        if wanted >= MIN_PIECE && self.is_in_memory(wanted) {
            let end = self.offset + wanted as u64;
            if let Some(piece) = self.file.piece(self.offset..end) {
                self.offset = end;
                return Some(piece);
            }
        }
        let mut buffer = vec![0; wanted];
        let read = sys::read_cached(&self.file, &mut buffer, self.offset).ok()?;
        buffer.truncate(read);
        self.offset += read as u64;
        (read > 0).then(|| buffer.into())
    }

    /// Whether the page cache holds both ends of the next piece, so very likely all of it.
    fn is_in_memory(&self, wanted: usize) -> bool {
        let holds = |offset| matches!(sys::read_cached(&self.file, &mut [0], offset), Ok(1));
        holds(self.offset) && holds(self.offset + wanted as u64 - 1)
    }

    fn advance(&mut self, buffer: Vec<u8>) -> io::Result<Bytes> {
        if buffer.is_empty() {
            // Shorter than it was when it was opened: somebody writes below the server.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += buffer.len() as u64;
        Ok(buffer.into())
    }
}

/// Hands a range of a file over piece by piece, and waits for the disk if need be: not for an async thread.
///
/// # Errors
/// What `take` returns, what the file system reports, or `UnexpectedEof`.
pub fn read_pieces(file: &File, range: Range<u64>, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; (range.end - range.start).min(PIECE) as usize];
    let mut offset = range.start;
    while offset < range.end {
        let wanted = (range.end - offset).min(PIECE) as usize;
        let read = file.read_at(&mut buffer[..wanted], offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        take(&buffer[..read])?;
        offset += read as u64;
    }
    Ok(())
}

impl Stream for FileStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let wanted = self.left().min(PIECE) as usize;
        if self.from_disk.is_none() {
            if let Some(bytes) = self.read_from_memory(wanted) {
                return Poll::Ready(Some(Ok(bytes)));
            }
            // Not in the page cache, or a file system that cannot tell.
            self.from_disk = Some(self.read_from_disk(wanted));
        }
        let Some(task) = &mut self.from_disk else { return Poll::Ready(None) };
        let result = ready!(Pin::new(task).poll(cx));
        self.from_disk = None;
        Poll::Ready(Some(result.map_err(Into::into).and_then(|read| Ok(self.advance(read?)?))))
    }
}

impl ByteStream for FileStream {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(self.left() as usize)
    }
}
