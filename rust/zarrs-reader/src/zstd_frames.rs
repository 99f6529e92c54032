//! zstd with a context per thread.
//!
//! zarrs' codec makes one per chunk. For each libzstd asks the processor what it can do, by `cpuid`, which a virtual
//! machine has its host answer: with chunks of 32 KiB that took a third of their decoding (docs/timelines.md, finding 6).

use std::cell::RefCell;
use std::io;

use zstd::bulk::Decompressor;

thread_local! {
    static CONTEXT: RefCell<Decompressor<'static>> = RefCell::default();
}

/// Decodes one chunk's frames.
///
/// # Errors
/// What libzstd says of damaged frames, and of those that hold more than `most_bytes`.
pub fn decompress(frames: &[u8], most_bytes: usize) -> io::Result<Vec<u8>> {
    CONTEXT.with_borrow_mut(|context| context.decompress(frames, most_bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const CHUNK: &[u8] = &[7; 1000];

    fn frame() -> Vec<u8> {
        zstd::bulk::compress(CHUNK, 1).unwrap()
    }

    /// A frame that does not say how much it holds, as a stream's.
    fn frame_of_a_stream() -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.write_all(CHUNK).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn frames_are_decoded_whatever_they_say_of_their_size() {
        for frames in [frame(), frame_of_a_stream()] {
            assert_eq!(decompress(&frames, CHUNK.len()).unwrap(), CHUNK);
        }
        let two = [frame(), frame()].concat();
        assert_eq!(decompress(&two, 2 * CHUNK.len()).unwrap(), CHUNK.repeat(2));
    }

    #[test]
    fn more_than_is_expected_is_an_error() {
        for frames in [frame(), frame_of_a_stream()] {
            decompress(&frames, CHUNK.len() - 1).unwrap_err();
        }
    }

    #[test]
    fn a_damaged_frame_spoils_no_later_one() {
        let whole = frame();
        decompress(&whole[..whole.len() - 1], CHUNK.len()).unwrap_err();
        decompress(b"no frame", CHUNK.len()).unwrap_err();
        assert_eq!(decompress(&whole, CHUNK.len()).unwrap(), CHUNK);
    }
}
