//! The bytes of an object as a stream.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use s3s::StdError;
use s3s::stream::{ByteStream, RemainingLength};
use tokio::task::JoinHandle;

use crate::sys;

/// The most that is read at once, bytes.
const PIECE: u64 = 256 * 1024;

/// A range of an open file. What the page cache holds is read on the spot, which is cheaper than a trip to another
/// thread; what it does not hold is read on one, so that a slow disk stops one connection only.
pub struct FileStream {
    file: Arc<File>,
    offset: u64,
    end: u64,
    from_disk: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileStream {
    /// `range` is half-open and lies inside the file.
    pub fn new(file: Arc<File>, range: std::ops::Range<u64>) -> Self {
        Self { file, offset: range.start, end: range.end, from_disk: None }
    }

    fn left(&self) -> u64 {
        self.end - self.offset
    }

    fn read_from_disk(&self, wanted: usize) -> JoinHandle<io::Result<Vec<u8>>> {
        let (file, offset) = (self.file.clone(), self.offset);
        tokio::task::spawn_blocking(move || {
            let mut buffer = Vec::new();
            sys::read_waiting(&file, &mut buffer, wanted, offset)?;
            Ok(buffer)
        })
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

impl Stream for FileStream {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        let wanted = self.left().min(PIECE) as usize;
        if self.from_disk.is_none() {
            let mut buffer = Vec::new();
            match sys::read_cached(&self.file, &mut buffer, wanted, self.offset) {
                Ok(read) if read > 0 => return Poll::Ready(Some(self.advance(buffer).map_err(Into::into))),
                // Not in the page cache, or a file system that cannot tell.
                _ => self.from_disk = Some(self.read_from_disk(wanted)),
            }
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
