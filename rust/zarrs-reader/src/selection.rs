//! Selections: which chunks they touch, and where in the final array each chunk's elements go.

use std::fmt;

use serde::Deserialize;

/// `start..stop` in steps, of one axis; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "(u64, u64, u64)")]
pub struct Axis {
    pub start: u64,
    pub stop: u64,
    pub step: u64,
}

impl From<(u64, u64, u64)> for Axis {
    fn from((start, stop, step): (u64, u64, u64)) -> Self {
        Self { start, stop, step }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.start, self.stop, self.step)
    }
}

impl Axis {
    /// Elements selected.
    pub fn len(self) -> u64 {
        (self.stop - self.start).div_ceil(self.step)
    }

    /// How many chunks of `size` elements it touches.
    pub fn chunks(self, size: u64) -> u64 {
        let last = self.start + (self.len() - 1) * self.step;
        if self.step >= size { self.len() } else { last / size - self.start / size + 1 }
    }

    /// What it takes of the `number`-th of these chunks.
    fn part(self, size: u64, number: u64) -> Part {
        let out = if self.step >= size {
            number
        } else {
            ((self.start / size + number) * size).saturating_sub(self.start).div_ceil(self.step)
        };
        let element = self.start + out * self.step;
        let chunk = element / size;
        let count = (((chunk + 1) * size).min(self.stop) - element).div_ceil(self.step);
        Part { chunk, inside: element % size, step: self.step, count, out }
    }
}

/// What a selection takes of one chunk along one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The chunk's coordinate.
    pub chunk: u64,
    /// First element inside the chunk.
    pub inside: u64,
    pub step: u64,
    pub count: u64,
    /// First element in the final array.
    pub out: u64,
}

/// What a selection takes of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub parts: Vec<Part>,
}

impl Piece {
    /// The chunk's coordinates.
    pub fn chunk(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.chunk).collect()
    }

    /// Coordinates of the chunk's shard, of `per_shard` chunks along each axis.
    pub fn shard(&self, per_shard: &[u64]) -> Vec<u64> {
        self.parts.iter().zip(per_shard).map(|(part, n)| part.chunk / n).collect()
    }

    /// The chunk's position in the index of its shard.
    pub fn position(&self, per_shard: &[u64]) -> usize {
        self.parts.iter().zip(per_shard).fold(0, |at, (part, n)| at * n + part.chunk % n) as usize
    }

    /// First element in the final array.
    pub fn out_start(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.out).collect()
    }

    /// Elements per axis.
    pub fn counts(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.count).collect()
    }

    /// Whether all of a chunk of `shape` is taken.
    pub fn is_whole(&self, shape: &[u64]) -> bool {
        self.parts.iter().zip(shape).all(|(part, size)| part.count == *size)
    }
}

/// The shape of the array that a selection yields.
pub fn shape_of(read: &[Axis]) -> Vec<u64> {
    read.iter().map(|axis| axis.len()).collect()
}

/// The pieces of a selection, one per chunk of `chunk_shape` touched, in C order of the grid.
pub fn pieces(read: &[Axis], chunk_shape: &[u64]) -> impl ExactSizeIterator<Item = Piece> {
    let chunks = Chunks::of(read, chunk_shape);
    (0..chunks.len()).map(move |number| chunks.piece(number))
}

/// The chunks that a selection touches, in C order of their grid. Each is computed when it is asked for: an array may
/// have more than there is memory for.
#[derive(Debug, Clone)]
pub struct Chunks {
    axes: Vec<Along>,
}

/// The chunks along one axis.
#[derive(Debug, Clone, Copy)]
struct Along {
    axis: Axis,
    size: u64,
    /// First element in the final array.
    out: u64,
}

impl Chunks {
    pub fn of(read: &[Axis], chunk_shape: &[u64]) -> Self {
        let along = |(axis, size): (&Axis, &u64)| Along { axis: *axis, size: *size, out: 0 };
        Self { axes: read.iter().zip(chunk_shape).map(along).collect() }
    }

    pub fn len(&self) -> usize {
        self.axes.iter().map(|along| along.axis.chunks(along.size) as usize).product()
    }

    pub fn piece(&self, number: usize) -> Piece {
        let mut rest = number as u64;
        let mut parts: Vec<Part> = self.axes.iter().rev().map(|along| along.next_part(&mut rest)).collect();
        parts.reverse();
        Piece { parts }
    }

    /// The smaller chunks, of `chunk_shape`, inside one of these.
    pub fn inside(&self, piece: &Piece, chunk_shape: &[u64]) -> Self {
        let along = |((along, part), size): ((&Along, &Part), &u64)| {
            let start = part.chunk * along.size + part.inside;
            let axis = Axis { start, stop: start + (part.count - 1) * part.step + 1, step: part.step };
            Along { axis, size: *size, out: part.out }
        };
        Self { axes: self.axes.iter().zip(&piece.parts).zip(chunk_shape).map(along).collect() }
    }
}

impl Along {
    /// The part of the chunk whose number along this axis is the last digit of `number`, which is taken off.
    fn next_part(&self, number: &mut u64) -> Part {
        let chunks = self.axis.chunks(self.size);
        let part = self.axis.part(self.size, *number % chunks);
        *number /= chunks;
        Part { out: self.out + part.out, ..part }
    }
}

/// Copies a piece of a decoded chunk into the final array, run by run.
///
/// `put(out_offset, chunk bytes)` receives runs of bytes that lie together in both: rows, or several where a row is a
/// whole one of both. Both places are stepped and not computed anew for each, since rows may be of 64 bytes.
pub fn scatter(piece: &Piece, chunk_shape: &[u64], out_shape: &[u64], element: usize, mut put: impl FnMut(usize, Run)) {
    let (mut counted, mut bytes) = (piece.parts.len(), element);
    while counted > 0 && piece.parts[counted - 1].step == 1 {
        counted -= 1;
        let count = piece.parts[counted].count;
        bytes *= count as usize;
        if count != chunk_shape[counted] || count != out_shape[counted] {
            break;
        }
    }
    let (in_strides, out_strides) = (strides(chunk_shape), strides(out_shape));
    let nbytes = |elements: u64| elements as usize * element;
    let place = |strides: &[u64], first: fn(&Part) -> u64| -> usize {
        nbytes(piece.parts.iter().zip(strides).map(|(part, stride)| first(part) * stride).sum())
    };
    let (mut from, mut to) = (place(&in_strides, |part| part.inside), place(&out_strides, |part| part.out));
    let step = |(d, part): (usize, &Part)| (nbytes(part.step * in_strides[d]), nbytes(out_strides[d]), part.count);
    let steps: Vec<(usize, usize, u64)> = piece.parts[..counted].iter().enumerate().map(step).collect();
    let mut at = vec![0; counted];
    loop {
        put(to, Run { start: from, bytes });
        let mut axis = counted;
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            let (inside, out, count) = steps[axis];
            at[axis] += 1;
            (from, to) = (from + inside, to + out);
            if at[axis] < count {
                break;
            }
            (from, to) = (from - inside * count as usize, to - out * count as usize);
            at[axis] = 0;
        }
    }
}

/// Bytes that lie together in a decoded chunk.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub start: usize,
    pub bytes: usize,
}

fn strides(shape: &[u64]) -> Vec<u64> {
    let mut found = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        found[axis - 1] = found[axis] * shape[axis];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn axis(start: u64, stop: u64, step: u64) -> Axis {
        Axis { start, stop, step }
    }

    #[test]
    fn a_stride_takes_every_other_chunk_of_length_one() {
        let parts = (0..4).map(|number| axis(0, 7, 2).part(1, number));
        assert_eq!(
            parts.map(|p| (p.chunk, p.inside, p.count, p.out)).collect::<Vec<_>>(),
            [(0, 0, 1, 0), (2, 0, 1, 1), (4, 0, 1, 2), (6, 0, 1, 3)]
        );
    }

    #[test]
    fn a_chunk_that_a_stride_steps_over_is_not_touched() {
        let touched: Vec<u64> = pieces(&[axis(1, 20, 9)], &[4]).flat_map(|piece| piece.chunk()).collect();
        assert_eq!(touched, [0, 2, 4]);
    }

    #[test]
    fn an_array_without_axes_has_one_element() {
        let mut runs = Vec::new();
        for piece in pieces(&[], &[]) {
            scatter(&piece, &[], &[], 4, |to, run| runs.push((to, run.start, run.bytes)));
        }
        assert_eq!(runs, [(0, 0, 4)]);
    }

    #[test]
    fn rows_that_lie_together_in_chunk_and_array_are_one_run() {
        let runs_of = |read: &[Axis], chunk_shape: &[u64]| {
            let mut runs = Vec::new();
            for piece in pieces(read, chunk_shape) {
                scatter(&piece, chunk_shape, &shape_of(read), 2, |to, run| runs.push((to, run.start, run.bytes)));
            }
            runs
        };
        let (two, three, six) = (axis(0, 2, 1), axis(0, 3, 1), axis(0, 6, 1));
        assert_eq!(runs_of(&[two, three], &[2, 3]), [(0, 0, 12)]);
        assert_eq!(runs_of(&[six, two, three], &[3, 2, 3]), [(0, 0, 36), (36, 0, 36)]);
        assert_eq!(runs_of(&[two, six, three], &[2, 3, 3]), [(0, 0, 18), (36, 18, 18), (18, 0, 18), (54, 18, 18)]);
        // The chunk is longer than what is read of it: its rows do not lie together.
        assert_eq!(runs_of(&[two, three], &[2, 4]), [(0, 0, 6), (6, 8, 6)]);
        assert_eq!(runs_of(&[two, axis(0, 6, 2)], &[2, 6]).len(), 6);
    }

    fn any_axis() -> impl Strategy<Value = (u64, Axis, u64)> {
        (1u64..30)
            .prop_flat_map(|size| (Just(size), 0..size, 1u64..5, 1u64..9))
            .prop_flat_map(|(size, start, step, chunk)| {
                (Just(size), (start + 1)..=size, Just(start), Just(step), Just(chunk))
            })
            .prop_map(|(size, stop, start, step, chunk)| (size, axis(start, stop, step), chunk))
    }

    proptest! {
        /// Whatever is selected of whatever chunks: the pieces put every element where indexing would.
        #[test]
        fn pieces_put_every_element_in_its_place(axes in proptest::collection::vec(any_axis(), 1..4)) {
            let read: Vec<Axis> = axes.iter().map(|a| a.1).collect();
            let chunk_shape: Vec<u64> = axes.iter().map(|a| a.2).collect();
            let out_shape = shape_of(&read);
            let wanted: Vec<Vec<u64>> = read.iter().map(|a| (0..a.len()).map(|i| a.start + i * a.step).collect()).collect();
            let mut out = vec![None; out_shape.iter().product::<u64>() as usize];
            for piece in pieces(&read, &chunk_shape) {
                let chunk = piece.chunk();
                scatter(&piece, &chunk_shape, &out_shape, 1, |to, run| {
                    for i in 0..run.bytes {
                        prop_assert_is_none(&mut out[to + i], (chunk.clone(), run.start + i));
                    }
                });
            }
            let (in_strides, out_strides) = (strides(&chunk_shape), strides(&out_shape));
            for (flat, found) in out.iter().enumerate() {
                let index: Vec<u64> = (0..read.len()).map(|d| flat as u64 / out_strides[d] % out_shape[d]).collect();
                let element: Vec<u64> = index.iter().enumerate().map(|(d, i)| wanted[d][*i as usize]).collect();
                let chunk: Vec<u64> = element.iter().zip(&chunk_shape).map(|(e, c)| e / c).collect();
                let inside: u64 = (0..read.len()).map(|d| element[d] % chunk_shape[d] * in_strides[d]).sum();
                prop_assert_eq!(found.clone(), Some((chunk, inside as usize)));
            }
        }
    }

    proptest! {
        /// The chunks of each shard, shard by shard, are the chunks of the selection.
        #[test]
        fn shards_hold_the_chunks_of_the_selection(
            axes in proptest::collection::vec((any_axis(), 1u64..4), 0..4)
        ) {
            let read: Vec<Axis> = axes.iter().map(|((_, axis, _), _)| *axis).collect();
            let chunk_shape: Vec<u64> = axes.iter().map(|((_, _, chunk), _)| *chunk).collect();
            let per_shard: Vec<u64> = axes.iter().map(|(_, per_shard)| *per_shard).collect();
            let shard_shape: Vec<u64> = chunk_shape.iter().zip(&per_shard).map(|(chunk, n)| chunk * n).collect();
            let shards = Chunks::of(&read, &shard_shape);
            let mut found = Vec::new();
            for shard in (0..shards.len()).map(|number| shards.piece(number)) {
                let inside = shards.inside(&shard, &chunk_shape);
                prop_assert!(inside.len() > 0);
                found.extend((0..inside.len()).map(|number| (shard.chunk(), inside.piece(number))));
            }
            let mut expected: Vec<_> =
                pieces(&read, &chunk_shape).map(|piece| (piece.shard(&per_shard), piece)).collect();
            expected.sort_by_key(|(shard, piece)| (shard.clone(), piece.chunk()));
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn chunks_without_number_take_no_memory() {
        let chunks = Chunks::of(&[axis(3, 1 << 59, 1)], &[8]);
        assert_eq!(chunks.len(), 1 << 56);
        let last = Part { chunk: (1 << 56) - 1, inside: 0, step: 1, count: 8, out: (1 << 59) - 8 - 3 };
        assert_eq!(chunks.piece(chunks.len() - 1).parts, [last]);
    }

    fn prop_assert_is_none<T>(slot: &mut Option<T>, value: T) {
        assert!(slot.is_none(), "an element was written twice");
        *slot = Some(value);
    }
}
