//! Whether the final arrays are what the workload says they must be.

use bytes::Bytes;

use crate::failure::{Failure, Outcome};
use crate::selection::{Axis, Piece, pieces, shape_of};
use crate::workload::{Truth, Workload};

/// Compares the arrays of one execution with the truth.
///
/// # Errors
/// `Wrong` names the first bad chunk or read.
pub fn check(workload: &Workload, arrays: &[Bytes], element: usize) -> Outcome<()> {
    if arrays.len() != workload.reads.len() {
        return Err(Failure::Wrong(format!("{} arrays returned for {} reads", arrays.len(), workload.reads.len())));
    }
    match workload.truth()? {
        Truth::Unknown => Ok(()),
        Truth::Reads(expected) => check_reads(arrays, &expected),
        Truth::Chunks(expected) => check_chunks(workload, arrays, element, &expected),
    }
}

fn check_reads(arrays: &[Bytes], expected: &[u32]) -> Outcome<()> {
    if arrays.len() != expected.len() {
        return Err(Failure::bad_use(format!("{} checksums for {} reads", expected.len(), arrays.len())));
    }
    for (number, (array, crc)) in arrays.iter().zip(expected).enumerate() {
        if crc32c::crc32c(array) != *crc {
            return Err(Failure::Wrong(format!("read {number} is wrong: its bytes do not match the truth")));
        }
    }
    Ok(())
}

fn check_chunks(workload: &Workload, arrays: &[Bytes], element: usize, expected: &[u32]) -> Outcome<()> {
    let mut expected = expected.iter();
    for (read, array) in workload.reads.iter().zip(arrays) {
        for piece in pieces(read, &workload.array.chunk_shape) {
            let Some(crc) = expected.next() else {
                return Err(Failure::bad_use("the workload has fewer checksums than chunks"));
            };
            if !piece.is_whole(&workload.array.chunk_shape) {
                let chunk = piece.chunk();
                return Err(Failure::Wrong(format!("chunk {chunk:?} is only wanted in part: it cannot be compared")));
            }
            if chunk_crc(read, &piece, array, element) != *crc {
                return Err(Failure::Wrong(format!(
                    "chunk {:?} of {} is wrong: its decoded bytes do not match the manifest",
                    piece.chunk(),
                    workload.array.key
                )));
            }
        }
    }
    match expected.next() {
        Some(_) => Err(Failure::bad_use("the workload has more checksums than chunks")),
        None => Ok(()),
    }
}

/// The checksum of a piece of the final array in the order of its own elements, row by row.
fn chunk_crc(read: &[Axis], piece: &Piece, array: &[u8], element: usize) -> u32 {
    let shape = shape_of(read);
    let (starts, counts) = (piece.out_start(), piece.counts());
    let Some(last) = shape.len().checked_sub(1) else { return crc32c::crc32c(array) };
    let row = counts[last] as usize * element;
    let mut crc = 0;
    let mut at = vec![0u64; last];
    loop {
        let flat = (0..last).fold(0, |sum, d| sum * shape[d] + starts[d] + at[d]) * shape[last] + starts[last];
        let from = flat as usize * element;
        crc = crc32c::crc32c_append(crc, &array[from..from + row]);
        let mut axis = last;
        loop {
            if axis == 0 {
                return crc;
            }
            axis -= 1;
            at[axis] += 1;
            if at[axis] < counts[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
}
