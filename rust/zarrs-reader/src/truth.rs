//! Whether the final arrays are what the workload says they must be.

use bytes::Bytes;

use crate::failure::{Failure, Outcome};
use crate::selection::{Axis, Piece, pieces, scatter, shape_of};
use crate::workload::{Truth, Workload};

/// Compares the arrays of one execution with the truth; false where the workload has none.
///
/// # Errors
/// `Wrong` names the first bad chunk or read.
pub fn check(workload: &Workload, arrays: &[Bytes]) -> Outcome<bool> {
    if arrays.len() != workload.reads.len() {
        return Err(Failure::Wrong(format!("{} arrays returned for {} reads", arrays.len(), workload.reads.len())));
    }
    match workload.truth()? {
        Truth::Unknown => return Ok(false),
        Truth::Reads(expected) => check_reads(arrays, &expected)?,
        Truth::Chunks(expected) => check_chunks(workload, arrays, &expected)?,
    }
    Ok(true)
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
