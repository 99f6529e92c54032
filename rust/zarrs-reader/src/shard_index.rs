//! What a shard's index says of its chunks, believed only as far as the object and the codecs bear it out: memory is
//! asked for by these numbers, and a checksum shows damage, not nonsense.

use std::fmt;
use std::ops::Range;

use zarrs::array::BytesRepresentation;

/// Offset and length of a chunk that is not stored.
pub const MISSING: u64 = u64::MAX;
/// What an encoder may add to any chunk: headers with names, frames that are to be skipped.
const ADDED_BYTES: u64 = 4096;

/// What a stored chunk may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkBytes {
    /// Its codecs always yield as many.
    Exactly(u64),
    AtMost(u64),
    /// Nothing but the object bounds it.
    Any,
}

impl ChunkBytes {
    /// Of chunks for which zarrs' own encoders need `encoded`.
    ///
    /// Formats of compressors set no bound, and other encoders may cut their blocks smaller: they get twice as much.
    pub fn of(encoded: &BytesRepresentation) -> Self {
        match encoded {
            BytesRepresentation::FixedSize(bytes) => Self::Exactly(*bytes),
            BytesRepresentation::BoundedSize(bytes) => {
                Self::AtMost(bytes.saturating_mul(2).saturating_add(ADDED_BYTES))
            }
            BytesRepresentation::UnboundedSize => Self::Any,
        }
    }

    fn allows(self, bytes: u64) -> bool {
        match self {
            Self::Exactly(all) => bytes == all,
            Self::AtMost(most) => bytes <= most,
            Self::Any => true,
        }
    }
}

impl fmt::Display for ChunkBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(bytes) => write!(f, "{bytes}"),
            Self::AtMost(bytes) => write!(f, "at most {bytes}"),
            Self::Any => write!(f, "any number"),
        }
    }
}

/// Where a chunk is stored in an object of `object_bytes`, by its entry (offset and length); None where it is not.
///
/// # Errors
/// What cannot be, in words.
pub fn span(entry: [u64; 2], object_bytes: u64, chunk: ChunkBytes) -> Result<Option<Range<u64>>, String> {
    let [offset, length] = entry;
    if entry == [MISSING, MISSING] {
        return Ok(None);
    }
    let Some(end) = offset.checked_add(length).filter(|end| *end <= object_bytes) else {
        return Err(format!("{length} bytes at {offset} reach beyond the object's {object_bytes}"));
    };
    if !chunk.allows(length) {
        return Err(format!("a chunk of {length} bytes, where its codecs yield {chunk}"));
    }
    Ok(Some(offset..end))
}

/// Refuses what no writer makes of an object: chunks that share some of their bytes, or bytes of the `index`. Equal chunks
/// may be stored once.
///
/// # Errors
/// What cannot be, in words; `spans` are sorted.
pub fn check_apart<'a>(spans: impl Iterator<Item = &'a Range<u64>>, index: &Range<u64>) -> Result<(), String> {
    let mut before = 0..0;
    for span in spans {
        if span.start < before.end && *span != before {
            return Err(format!("chunks at {before:?} and {span:?} share bytes"));
        }
        if span.start < index.end && index.start < span.end {
            return Err(format!("a chunk at {span:?} shares bytes with the index at {index:?}"));
        }
        before = span.clone();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_a_span_inside_the_object() {
        let of = |offset, length| span([offset, length], 100, ChunkBytes::Any);
        assert_eq!(of(10, 90), Ok(Some(10..100)));
        assert_eq!(of(MISSING, MISSING), Ok(None));
        assert!(of(10, 91).is_err_and(|why| why == "91 bytes at 10 reach beyond the object's 100"));
        assert!(of(MISSING, 5).is_err() && of(5, MISSING).is_err() && of(MISSING - 5, 10).is_err());
    }

    #[test]
    fn a_chunk_has_the_length_that_its_codecs_yield() {
        let of = |length, chunk| span([0, length], 1 << 40, chunk).is_ok();
        let fixed = ChunkBytes::of(&BytesRepresentation::FixedSize(64));
        assert!(of(64, fixed) && !of(63, fixed) && !of(64 | 1 << 33, fixed));
        let bounded = ChunkBytes::of(&BytesRepresentation::BoundedSize(64));
        assert!(of(0, bounded) && of(2 * 64 + ADDED_BYTES, bounded) && !of(64 | 1 << 33, bounded));
        assert!(of(1 << 33, ChunkBytes::of(&BytesRepresentation::UnboundedSize)));
        assert_eq!(ChunkBytes::of(&BytesRepresentation::BoundedSize(u64::MAX)), ChunkBytes::AtMost(u64::MAX));
    }

    #[test]
    fn chunks_share_all_of_their_bytes_or_none() {
        let check = |spans: &[(u64, u64)]| {
            let spans: Vec<Range<u64>> = spans.iter().map(|(start, end)| *start..*end).collect();
            check_apart(spans.iter(), &(100..120))
        };
        assert_eq!(check(&[(0, 10), (10, 20), (10, 20), (30, 100), (120, 130)]), Ok(()));
        assert!(check(&[(0, 10), (9, 20)]).is_err_and(|why| why == "chunks at 0..10 and 9..20 share bytes"));
        assert!(check(&[(0, 10), (0, 20)]).is_err() && check(&[(0, 30), (10, 20)]).is_err());
        let with_the_index = "a chunk at 90..101 shares bytes with the index at 100..120";
        assert!(check(&[(90, 101)]).is_err_and(|why| why == with_the_index));
        assert!(check(&[(119, 130)]).is_err() && check(&[(105, 106)]).is_err() && check(&[(0, 200)]).is_err());
    }

    proptest! {
        /// Spans that pass take no more bytes, each counted once, than there are.
        #[test]
        fn what_is_apart_fits_into_the_object(
            mut spans in proptest::collection::vec((0u64..100, 0u64..30).prop_map(|(start, n)| start..start + n), 0..8)
        ) {
            spans.sort_by_key(|span| (span.start, span.end));
            if check_apart(spans.iter(), &(60..70)).is_ok() {
                spans.dedup();
                let taken: Vec<u64> = spans.into_iter().flatten().collect();
                prop_assert!(taken.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(taken.iter().all(|byte| !(60..70).contains(byte)));
            }
        }

        /// Whatever an index says: what is asked for lies in the object and is no longer than a chunk can be.
        #[test]
        fn what_is_asked_for_is_bounded(offset: u64, length: u64, object_bytes: u64, most: u64) {
            for chunk in [ChunkBytes::Exactly(most), ChunkBytes::AtMost(most), ChunkBytes::Any] {
                if let Ok(Some(found)) = span([offset, length], object_bytes, chunk) {
                    prop_assert!(found.start <= found.end && found.end <= object_bytes);
                    prop_assert!(chunk == ChunkBytes::Any || found.end - found.start <= most);
                }
            }
        }
    }
}
