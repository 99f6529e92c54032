//! Cuts the body of an answer into the chunks that it holds, while it comes.

use std::iter::Peekable;
use std::vec::IntoIter;

use bytes::{Bytes, BytesMut};

use crate::plan::{Group, Stored};

/// The chunks of a group that have not come yet, in the order in which they are stored.
///
/// Each gets memory of its own when its first byte comes, and is free when it is decoded. What frames hold is copied: a
/// part of a frame would keep all of the HTTP client's buffer, which may be many times as large.
pub struct Cutting<T> {
    /// Where in the object the next byte belongs.
    at: u64,
    chunks: Peekable<IntoIter<Stored<T>>>,
    /// What has come of the next chunk.
    begun: BytesMut,
}

impl<T> Cutting<T> {
    /// Of a group whose chunks share no bytes.
    pub fn new(group: Group<T>) -> Self {
        Self { at: group.span.start, chunks: group.chunks.into_iter().peekable(), begun: BytesMut::new() }
    }

    /// Takes the next bytes, and hands out the chunks that they complete.
    pub fn came(&mut self, mut frame: &[u8], mut whole: impl FnMut(Stored<T>, Bytes)) {
        while let Some(chunk) = self.chunks.peek() {
            let span = chunk.span.clone();
            let gap = self.take(&mut frame, span.start);
            self.at += gap.len() as u64;
            if self.at < span.start {
                return;
            }
            if self.begun.capacity() == 0 {
                self.begun = BytesMut::with_capacity((span.end - span.start) as usize);
            }
            let part = self.take(&mut frame, span.end);
            self.begun.extend_from_slice(part);
            self.at += part.len() as u64;
            if self.at < span.end {
                return;
            }
            self.chunks.next().into_iter().for_each(|chunk| whole(chunk, std::mem::take(&mut self.begun).freeze()));
        }
    }

    /// The bytes of a frame up to a place in the object, which are taken off.
    fn take<'a>(&self, frame: &mut &'a [u8], until: u64) -> &'a [u8] {
        let (here, rest) = frame.split_at((until.saturating_sub(self.at) as usize).min(frame.len()));
        *frame = rest;
        here
    }

    /// Whether no chunk is missing.
    pub fn is_done(&mut self) -> bool {
        self.chunks.peek().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the frames fall: each chunk has its own bytes, as soon as its last one came.
        #[test]
        fn chunks_come_out_as_they_lie_in_the_object(
            lengths in proptest::collection::vec((0u64..4, 0u64..9), 1..8), frames in proptest::collection::vec(1usize..12, 40),
        ) {
            let mut end = 100;
            let chunks: Vec<Stored<usize>> = lengths.iter().enumerate().map(|(item, (gap, length))| {
                let start = end + gap;
                end = start + length;
                Stored { span: start..end, item }
            }).collect();
            let object: Vec<u8> = (0..=255).collect();
            let (count, mut at) = (chunks.len(), chunks[0].span.start);
            let mut cutting = Cutting::new(Group { span: at..end, chunks: chunks.clone() });
            let mut found = Vec::new();
            for frame in frames {
                let next = end.min(at + frame as u64);
                cutting.came(&object[at as usize..next as usize], |chunk, bytes| found.push((chunk, bytes)));
                at = next;
                let complete = chunks.iter().filter(|chunk| chunk.span.end <= at).count();
                prop_assert_eq!(found.len(), complete);
                prop_assert_eq!(cutting.is_done(), complete == count);
            }
            for (expected, (chunk, bytes)) in chunks.iter().zip(&found) {
                prop_assert_eq!(expected.item, chunk.item);
                prop_assert_eq!(&bytes[..], &object[chunk.span.start as usize..chunk.span.end as usize]);
            }
        }
    }
}
