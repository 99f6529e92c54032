//! The final array while it is being filled by several threads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use zarrs::array::{ArrayBytesFixedDisjointView, ArraySubset};

use crate::failure::{Failure, Outcome};
use crate::selection::{Piece, scatter};
use crate::sys::Shared;

/// One read's array in newly allocated memory.
///
/// Pieces of different chunks never overlap, so threads can write them at once. The array is handed out only after all of
/// its elements were counted as written.
#[derive(Debug)]
pub struct Output {
    memory: Shared,
    shape: Vec<u64>,
    element: usize,
    written: AtomicU64,
}

impl Output {
    /// Allocates an array of `shape` with elements of `element` bytes.
    pub fn new(shape: Vec<u64>, element: usize) -> Arc<Self> {
        let memory = Shared::new(shape.iter().product::<u64>() as usize * element);
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
            self.memory.write(to, &chunk[run.start..run.start + run.bytes]);
        });
        self.wrote(piece);
        Ok(())
    }

    /// Writes the fill value into a piece whose chunk is not stored.
    pub fn fill(&self, piece: &Piece, chunk_shape: &[u64], fill: &[u8]) {
        scatter(piece, chunk_shape, &self.shape, self.element, |to, run| {
            for element in 0..run.bytes / self.element {
                self.memory.write(to + element * self.element, fill);
            }
        });
        self.wrote(piece);
    }

    /// A view of a piece's place, for zarrs to decode into; call `wrote` once that has succeeded.
    pub fn view(&self, piece: &Piece) -> Outcome<ArrayBytesFixedDisjointView<'_>> {
        let subset =
            ArraySubset::new_with_start_shape(piece.out_start(), piece.counts()).map_err(Failure::measurement)?;
        self.memory.view(self.element, &self.shape, subset).map_err(Failure::measurement)
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
        Ok(own.memory.into_bytes(written))
    }
}
