//! Whether the final arrays are what the workload says they must be.

use std::ops::Range;

use bytes::Bytes;

use crate::failure::{Failure, Outcome};
use crate::selection::{Axis, Piece, pieces, scatter, shape_of};
use crate::workload::{Truth, Workload};

/// Compares the arrays of some reads, all but of a stream, with the truth; false where the workload has none.
///
/// # Errors
/// `Wrong` names the first bad chunk or read.
pub fn check(workload: &Workload, reads: Range<usize>, arrays: &[Bytes]) -> Outcome<bool> {
    if arrays.len() != reads.len() {
        return Err(Failure::Wrong(format!("{} arrays returned for {} reads", arrays.len(), reads.len())));
    }
    match workload.truth()? {
        Truth::Unknown => return Ok(false),
        Truth::Reads(expected) => check_reads(reads, arrays, of_all(workload, &expected)?)?,
        Truth::Windows(expected) => check_windows(workload, reads, arrays, of_all(workload, &expected)?)?,
        Truth::Chunks(expected) => check_chunks(workload, arrays, &expected)?,
    }
    Ok(true)
}

/// The checksums, if there is one for each read.
fn of_all<'a>(workload: &Workload, expected: &'a [u32]) -> Outcome<&'a [u32]> {
    let count = workload.reads.len();
    if expected.len() == count {
        return Ok(expected);
    }
    Err(Failure::bad_use(format!("{} checksums for {count} reads", expected.len())))
}

fn check_reads(reads: Range<usize>, arrays: &[Bytes], expected: &[u32]) -> Outcome<()> {
    for (number, array) in reads.zip(arrays) {
        if crc32c::crc32c(array) != expected[number] {
            return Err(Failure::Wrong(format!("read {number} is wrong: its bytes do not match the truth")));
        }
    }
    Ok(())
}

fn check_windows(workload: &Workload, reads: Range<usize>, arrays: &[Bytes], expected: &[u32]) -> Outcome<()> {
    let chunk_shape = &workload.array.chunk_shape;
    for (number, array) in reads.zip(arrays) {
        let read = &workload.reads[number];
        let mut crc = 0;
        for piece in pieces(read, chunk_shape) {
            crc = crc32c::crc32c_append(crc, &chunk_crc(read, &piece, chunk_shape, array).to_le_bytes());
        }
        if crc != expected[number] {
            return Err(Failure::Wrong(format!(
                "window {number} of {} is wrong: the decoded bytes of its chunks do not match the manifest",
                workload.array.key
            )));
        }
    }
    Ok(())
}

fn check_chunks(workload: &Workload, arrays: &[Bytes], expected: &[u32]) -> Outcome<()> {
    let (chunk_shape, mut expected) = (&workload.array.chunk_shape, expected.iter());
    for (read, array) in workload.reads.iter().zip(arrays) {
        for piece in pieces(read, chunk_shape) {
            let Some(crc) = expected.next() else {
                return Err(Failure::bad_use("the workload has fewer checksums than chunks"));
            };
            if !piece.is_whole(chunk_shape) {
                let chunk = piece.chunk();
                return Err(Failure::Wrong(format!("chunk {chunk:?} is only wanted in part: it cannot be compared")));
            }
            if chunk_crc(read, &piece, chunk_shape, array) != *crc {
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

/// The checksum of a whole chunk in the final array, in the order of its own elements.
fn chunk_crc(read: &[Axis], piece: &Piece, chunk_shape: &[u64], array: &[u8]) -> u32 {
    let shape = shape_of(read);
    let element = array.len() / shape.iter().product::<u64>().max(1) as usize;
    let mut crc = 0;
    scatter(piece, chunk_shape, &shape, element, |from, run| {
        crc = crc32c::crc32c_append(crc, &array[from..from + run.bytes]);
    });
    crc
}
