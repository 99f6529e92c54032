//! The final array while it is being filled by several threads at once.

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use zarrs::array::{ArrayBytesFixedDisjointView, ArraySubset};

use unsafe_cell_slice::UnsafeCellSlice;

use crate::failure::{Failure, Outcome};
use crate::selection::{Piece, scatter};

const PAGE_BYTES: usize = 4096;
const HUGE_FROM_BYTES: usize = 4 << 20;

/// Newly allocated memory of one read's array, not touched before it is written.
///
/// Pieces of different chunks never overlap, so threads can write them at once. The memory is handed out only after
/// all of its elements were counted as written.
#[derive(Debug)]
pub struct Output {
    memory: Box<[MaybeUninit<u8>]>,
    pub shape: Vec<u64>,
    pub element: usize,
    written: AtomicU64,
}

impl Output {
    /// Allocates an array of `shape` with elements of `element` bytes.
    pub fn new(shape: Vec<u64>, element: usize) -> Arc<Self> {
        let bytes = shape.iter().product::<u64>() as usize * element;
        let mut memory = Box::new_uninit_slice(bytes);
        ask_for_huge_pages(&mut memory);
        Arc::new(Self { memory, shape, element, written: AtomicU64::new(0) })
    }

    /// Writes a piece of a decoded chunk.
    ///
    /// # Errors
    /// `Measurement` when the chunk is shorter than its shape says.
    pub fn copy(&self, piece: &Piece, chunk_shape: &[u64], chunk: &[u8]) -> Outcome<()> {
        let expected = chunk_shape.iter().product::<u64>() as usize * self.element;
        if chunk.len() != expected {
            return Err(Failure::measurement(format!("a chunk decoded to {} bytes, not {expected}", chunk.len())));
        }
        scatter(piece, chunk_shape, &self.shape, self.element, |to, run| {
            self.write(to, &chunk[run.start..run.start + run.bytes]);
        });
        self.wrote(piece);
        Ok(())
    }

    /// Writes the fill value into a piece whose chunk is not stored.
    pub fn fill(&self, piece: &Piece, chunk_shape: &[u64], fill: &[u8]) {
        scatter(piece, chunk_shape, &self.shape, self.element, |to, run| {
            for element in 0..run.bytes / self.element {
                self.write(to + element * self.element, fill);
            }
        });
        self.wrote(piece);
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.memory.len(), "a piece reaches beyond the array");
        // SAFETY: in bounds by the assertion. Pieces are disjoint and each is written once, so no other thread reads
        // or writes these bytes; `finish` is the only reader and owns the memory alone.
        unsafe {
            let place = self.memory.as_ptr().cast_mut().cast::<u8>().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
        }
    }

    /// A view of a piece's place, for zarrs to decode into; call `wrote` once that has succeeded.
    pub fn view(&self, piece: &Piece) -> Outcome<ArrayBytesFixedDisjointView<'_>> {
        let subset =
            ArraySubset::new_with_start_shape(piece.out_start(), piece.counts()).map_err(Failure::measurement)?;
        // SAFETY: the view covers this piece only, which no other thread touches; codecs write to it and never read.
        unsafe {
            let all = std::slice::from_raw_parts_mut(self.memory.as_ptr().cast_mut().cast::<u8>(), self.memory.len());
            ArrayBytesFixedDisjointView::new(UnsafeCellSlice::new(all), self.element, &self.shape, subset)
                .map_err(Failure::measurement)
        }
    }

    /// Counts a piece that was written, once for all of its runs: threads would otherwise contend for the counter.
    pub fn wrote(&self, piece: &Piece) {
        let elements: u64 = piece.parts.iter().map(|part| part.count).product();
        self.written.fetch_add(elements * self.element as u64, Relaxed);
    }

    /// Returns the array's bytes in C order.
    ///
    /// # Errors
    /// `Measurement` when not all of it was written.
    pub fn finish(self: Arc<Self>) -> Outcome<Bytes> {
        let expected = self.memory.len() as u64;
        let written = self.written.load(Relaxed);
        if written != expected {
            return Err(Failure::measurement(format!("{written} of {expected} bytes of the array were written")));
        }
        let own = Arc::into_inner(self).ok_or_else(|| Failure::measurement("the array is still being written"))?;
        // SAFETY: every byte was written, as counted above.
        Ok(unsafe { own.memory.assume_init() }.into())
    }
}

/// Asks for 2 MiB pages where the memory is large, as numpy does for its arrays: a page fault each 4 KiB costs more than
/// some codecs do. Where the kernel has none nothing changes.
pub fn ask_for_huge_pages(memory: &mut [MaybeUninit<u8>]) {
    let begin = (memory.as_ptr() as usize).next_multiple_of(PAGE_BYTES);
    let end = memory.as_ptr_range().end as usize / PAGE_BYTES * PAGE_BYTES;
    if memory.len() >= HUGE_FROM_BYTES {
        // SAFETY: whole pages of memory that is ours alone; the advice changes none of its bytes.
        unsafe { libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_HUGEPAGE) };
    }
}

// SAFETY: see `write`: threads write disjoint bytes, and nobody reads before `finish` owns the memory alone.
unsafe impl Sync for Output {}
