//! Large reads that never pass through this process.
//!
//! A piece of a file travels through the layers and hyper as `Bytes` over a mapping of the file, whose memory nobody
//! touches. When it arrives at the socket, its address tells which bytes of which file are meant, and `sendfile` passes
//! them on. Should a layer look at the bytes after all, it finds the right ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::Write;
use memmap2::Mmap;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::socket::Socket;
use crate::sys;

/// Below this a copy is cheaper than another system call, bytes.
pub const MIN_PIECE: usize = 16 * 1024;

thread_local! {
    /// The windows of which this thread has made pieces. A connection never leaves its worker's thread, so each piece
    /// is sent by the thread that made it, and no worker waits for another one.
    static WINDOWS: RefCell<Windows> = const { RefCell::new(Windows::new()) };
}

/// Windows by the address of their first byte. They are not kept open by it; one that is closed names no bytes.
struct Windows {
    by_address: BTreeMap<usize, Weak<Window>>,
    /// Closed windows are forgotten when there are more than this.
    tidy_above: usize,
}

/// An open file that can be sent without copying.
pub struct OpenFile {
    file: Arc<File>,
    /// `None` for a file without large pieces, or when the process has too many mappings.
    window: Option<Arc<Window>>,
}

/// A mapping of a file.
struct Window {
    memory: Mmap,
    file: Arc<File>,
}

/// A part of a window, for `Bytes`.
struct Piece {
    window: Arc<Window>,
    range: std::ops::Range<usize>,
}

impl OpenFile {
    pub fn new(file: File, size: u64) -> Self {
        let file = Arc::new(file);
        let window = if size < MIN_PIECE as u64 { None } else { Window::new(&file, size as usize).ok().map(Arc::new) };
        Self { file, window }
    }

    /// A range as bytes that the socket sends without copying them.
    pub fn piece(&self, range: std::ops::Range<u64>) -> Option<Bytes> {
        let window = self.window.clone()?;
        WINDOWS.with_borrow_mut(|windows| windows.add(&window));
        Some(Bytes::from_owner(Piece { window, range: range.start as usize..range.end as usize }))
    }
}

impl Deref for OpenFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Window {
    fn new(file: &Arc<File>, len: usize) -> io::Result<Self> {
        Ok(Self { memory: sys::map(file, len)?, file: file.clone() })
    }

    fn addresses(&self) -> std::ops::Range<usize> {
        let start = self.memory.as_ptr().addr();
        start..start + self.memory.len()
    }
}

impl Windows {
    const fn new() -> Self {
        Self { by_address: BTreeMap::new(), tidy_above: 64 }
    }

    fn add(&mut self, window: &Arc<Window>) {
        let addresses = window.addresses();
        if self.by_address.get(&addresses.start).is_some_and(|known| known.as_ptr() == Arc::as_ptr(window)) {
            return;
        }
        // Others that began in this memory are closed.
        let closed: Vec<usize> = self.by_address.range(addresses.clone()).map(|(&address, _)| address).collect();
        closed.iter().for_each(|address| drop(self.by_address.remove(address)));
        self.by_address.insert(addresses.start, Arc::downgrade(window));
        if self.by_address.len() > self.tidy_above {
            self.by_address.retain(|_, window| window.strong_count() > 0);
            self.tidy_above = (2 * self.by_address.len()).max(64);
        }
    }

    /// The open window whose memory holds these bytes, and their place in it.
    fn find(&self, bytes: &[u8]) -> Option<(Arc<Window>, usize)> {
        let address = bytes.as_ptr().addr();
        let (start, window) = self.by_address.range(..=address).next_back()?;
        let window = window.upgrade()?;
        let offset = address - start;
        (offset + bytes.len() <= window.memory.len()).then_some((window, offset))
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.window.memory[self.range.clone()]
    }
}

/// The window and the offset of bytes that lie in one.
fn origin(bytes: &[u8]) -> Option<(Arc<Window>, u64)> {
    // Smaller ones are never made; the rest of one that was sent in part is copied.
    if bytes.len() < MIN_PIECE / 4 {
        return None;
    }
    let (window, offset) = WINDOWS.with_borrow(|windows| windows.find(bytes))?;
    Some((window, offset as u64))
}

impl Write for Socket<TcpStream> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream.inner();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || send(stream.as_fd(), slices)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Sends as much of the slices as the socket takes.
fn send(socket: BorrowedFd<'_>, mut slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(first) = slices.first() {
        let (taken, result) = match origin(first) {
            Some((window, offset)) => (1, send_piece(socket, &window.file, offset, first.len())),
            None => {
                let copied = slices.iter().take_while(|slice| origin(slice).is_none()).count();
                (copied, sys::send_slices(socket, &slices[..copied], copied < slices.len()))
            }
        };
        let offered: usize = slices[..taken].iter().map(|slice| slice.len()).sum();
        match result {
            Ok(count) if count == offered => sent += count,
            Ok(count) => return Ok(sent + count),
            // What has been sent is reported first; the error will come again.
            Err(_) if sent > 0 => return Ok(sent),
            Err(error) => return Err(error),
        }
        slices = &slices[taken..];
    }
    Ok(sent)
}

fn send_piece(socket: BorrowedFd<'_>, file: &File, offset: u64, len: usize) -> io::Result<usize> {
    match sys::send_file(socket, file, offset, len)? {
        // Shorter than it was when it was opened: somebody writes below the server.
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        sent => Ok(sent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_file(name: &str, content: &[u8]) -> OpenFile {
        let path = std::env::temp_dir().join(format!("s3-store-window-{name}-{}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        let open = OpenFile::new(File::open(&path).unwrap(), content.len() as u64);
        std::fs::remove_file(&path).unwrap();
        open
    }

    fn known_windows() -> usize {
        WINDOWS.with_borrow(|windows| windows.by_address.len())
    }

    #[test]
    fn a_closed_window_names_no_bytes_and_is_forgotten() {
        let content = vec![1; MIN_PIECE];
        let first = open_file("first", &content);
        let window = Arc::downgrade(first.window.as_ref().unwrap());
        drop(first.piece(0..MIN_PIECE as u64).unwrap());
        drop(first);
        assert!(window.upgrade().is_none(), "what a thread knows of a window keeps no file open");
        // Another one where it was is found, once this thread has made a piece of it.
        let again: Vec<OpenFile> = (0..200).map(|_| open_file("again", &content)).collect();
        for open in &again {
            let piece = open.piece(0..MIN_PIECE as u64).unwrap();
            let (found, offset) = origin(&piece).unwrap();
            assert!(Arc::ptr_eq(&found, open.window.as_ref().unwrap()) && offset == 0);
        }
        assert!(known_windows() >= 200);
        drop(again);
        let last: Vec<OpenFile> = (0..500).map(|_| open_file("last", &content)).collect();
        for open in last {
            open.piece(0..MIN_PIECE as u64).unwrap();
        }
        assert!(known_windows() <= 401, "{} windows are known", known_windows());
    }

    #[test]
    fn an_address_names_file_and_offset_while_the_window_is_open() {
        let content: Vec<u8> = (0..4 * MIN_PIECE).map(|i| (i / 7) as u8).collect();
        let open = open_file("open", &content);
        let mut piece = open.piece(5..3 * MIN_PIECE as u64).unwrap();
        assert_eq!(origin(&piece).unwrap().1, 5);
        let rest = piece.split_off(MIN_PIECE);
        assert_eq!(origin(&rest).unwrap().1, MIN_PIECE as u64 + 5);
        assert_eq!(rest, content[MIN_PIECE + 5..3 * MIN_PIECE]);
        assert!(origin(&content).is_none());
        drop(open);
        assert!(origin(&rest).is_some(), "the bytes keep the window open");
    }
}
