//! The final array while it is being filled by several threads at once.

use std::mem::MaybeUninit;
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
pub struct Output<T: 'static = MaybeUninit<u8>> {
    memory: Shared<T>,
    shape: Vec<u64>,
    element: usize,
    written: AtomicU64,
}

impl Output {
    /// Allocates an array of `shape` with elements of `element` bytes, whose memory is not touched before it is written.
    pub fn new(shape: Vec<u64>, element: usize) -> Arc<Self> {
        Self::over(Shared::new(bytes_of(&shape, element)), shape, element)
    }
}

impl Output<u8> {
    /// Allocates one of zeros, which zarrs may be shown: it makes references to the bytes that it will write.
    pub fn zeroed(shape: Vec<u64>, element: usize) -> Arc<Self> {
        Self::over(Shared::zeroed(bytes_of(&shape, element)), shape, element)
    }

    /// A view of a piece's place, for zarrs to decode into; call `wrote` once that has succeeded.
    pub fn view(&self, piece: &Piece) -> Outcome<ArrayBytesFixedDisjointView<'_>> {
        let subset =
            ArraySubset::new_with_start_shape(piece.out_start(), piece.counts()).map_err(Failure::measurement)?;
        self.memory.view(self.element, &self.shape, subset).map_err(Failure::measurement)
    }
}

impl<T> Output<T> {
    fn over(memory: Shared<T>, shape: Vec<u64>, element: usize) -> Arc<Self> {
        Arc::new(Self { memory, shape, element, written: AtomicU64::new(0) })
    }

    /// Writes a piece of a decoded chunk.
    ///
    /// # Errors
    /// `Measurement` when the chunk is shorter than its shape says.
    pub fn copy(&self, piece: &Piece, chunk_shape: &[u64], chunk: &[u8]) -> Outcome<()> {
        let expected = bytes_of(chunk_shape, self.element);
        if chunk.len() != expected {
            return Err(Failure::measurement(format!("a chunk decoded to {} bytes, not {expected}", chunk.len())));
        }
        scatter(piece, chunk_shape, &self.shape, self.element, |to, run| {
            self.memory.write(to, &chunk[run.start..run.start + run.bytes]);
        });
        self.wrote(piece);
        Ok(())
    }

    /// Writes the fill value into a piece whose chunk is not stored; `fill` holds it as often as is copied at once.
    pub fn fill(&self, piece: &Piece, chunk_shape: &[u64], fill: &[u8]) {
        scatter(piece, chunk_shape, &self.shape, self.element, |to, run| {
            for at in (0..run.bytes).step_by(fill.len()) {
                self.memory.write(to + at, &fill[..fill.len().min(run.bytes - at)]);
            }
        });
        self.wrote(piece);
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

fn bytes_of(shape: &[u64], element: usize) -> usize {
    shape.iter().product::<u64>() as usize * element
}

/// Miri runs these too (docs/zarrs-reader.md): what several threads do to one array has to be defined.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::{Axis, pieces, shape_of};

    const CHUNK: [u64; 2] = [2, 3];
    const ELEMENT: usize = 2;

    fn read() -> [Axis; 2] {
        [Axis::from((0, 6, 1)), Axis::from((0, 9, 1))]
    }

    /// What a chunk decodes to: its number in each byte.
    fn chunk(number: usize) -> Vec<u8> {
        vec![number as u8 + 1; bytes_of(&CHUNK, ELEMENT)]
    }

    /// Has a thread put each piece into its place, all at once.
    fn filled<T: Send + Sync>(
        output: Arc<Output<T>>,
        put: impl Fn(&Output<T>, &Piece, usize) + Sync,
    ) -> Outcome<Bytes> {
        let all: Vec<_> = pieces(&read(), &CHUNK).collect();
        std::thread::scope(|threads| {
            for (number, piece) in all.iter().enumerate() {
                let (output, put) = (&output, &put);
                threads.spawn(move || put(output, piece, number));
            }
        });
        output.finish()
    }

    /// Nine chunks, side by side: rows of six bytes of each.
    fn expected() -> Vec<u8> {
        (0..6 * 9 * ELEMENT).map(|byte| (byte / 18 / 2 * 3 + byte % 18 / 6) as u8 + 1).collect()
    }

    #[test]
    fn threads_that_copy_at_once_fill_the_array() {
        let whole = filled(Output::new(shape_of(&read()), ELEMENT), |output, piece, number| match number {
            4 => output.fill(piece, &CHUNK, &[5; 4]), // longer than what is left of a row of six bytes
            _ => output.copy(piece, &CHUNK, &chunk(number)).expect("a whole chunk"),
        });
        assert_eq!(whole.expect("all of it").as_ref(), expected());
    }

    #[test]
    fn threads_that_write_into_views_at_once_fill_the_array() {
        let whole = filled(Output::zeroed(shape_of(&read()), ELEMENT), |output, piece, number| {
            let mut view = output.view(piece).expect("it is inside");
            view.copy_from_slice(&chunk(number)).expect("a whole chunk");
            output.wrote(piece);
        });
        assert_eq!(whole.expect("all of it").as_ref(), expected());
    }

    #[test]
    fn views_may_be_held_while_others_are_made() {
        let output = Output::zeroed(shape_of(&read()), ELEMENT);
        let all: Vec<_> = pieces(&read(), &CHUNK).collect();
        let views: Vec<_> = all.iter().map(|piece| output.view(piece).expect("it is inside")).collect();
        for (number, (mut view, piece)) in views.into_iter().zip(&all).enumerate() {
            view.copy_from_slice(&chunk(number)).expect("a whole chunk");
            output.wrote(piece);
        }
        assert_eq!(output.finish().expect("all of it").as_ref(), expected());
    }

    #[test]
    fn an_array_that_is_not_all_written_is_not_handed_out() {
        let output = Output::new(shape_of(&read()), ELEMENT);
        let all: Vec<_> = pieces(&read(), &CHUNK).collect();
        output.copy(&all[0], &CHUNK, &chunk(0)).expect("a whole chunk");
        let short = output.copy(&all[1], &CHUNK, &chunk(1)[1..]).expect_err("a byte is missing");
        assert_eq!(short.to_string(), "a chunk decoded to 11 bytes, not 12");
        let why = output.finish().expect_err("most is missing").to_string();
        assert_eq!(why, "12 of 108 bytes of the array were written");
    }
}
