//! Cuts the body of an answer into the chunks that it holds, while it comes.

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
    chunks: IntoIter<Stored<T>>,
    /// What has come of the next chunk.
    begun: BytesMut,
    /// Chunks that are decoded at once.
    batch: usize,
    /// How many chunks more there is room for.
    allowed: usize,
}

/// What the bytes that have come amount to.
pub enum Cut<T> {
    /// The next batch begins, whose chunks have so many bytes.
    Batch(u64),
    /// A chunk is there.
    Chunk(Stored<T>, Bytes),
}

impl<T> Cutting<T> {
    /// Of a group whose chunks share no bytes.
    pub fn new(group: Group<T>, batch: usize) -> Self {
        let (at, chunks) = (group.span.start, group.chunks.into_iter());
        Self { at, chunks, begun: BytesMut::new(), batch, allowed: 0 }
    }

    /// Takes of a frame what belongs to the next chunk; None where it needs another frame.
    pub fn next(&mut self, frame: &mut &[u8]) -> Option<Cut<T>> {
        let span = self.chunks.as_slice().first()?.span.clone();
        self.at += self.take(frame, span.start).len() as u64;
        if self.at < span.start || (frame.is_empty() && !span.is_empty()) {
            return None;
        }
        if self.allowed == 0 {
            self.allowed = self.batch;
            let batch = self.chunks.as_slice().iter().take(self.batch);
            return Some(Cut::Batch(batch.map(|chunk| chunk.span.end - chunk.span.start).sum()));
        }
        if self.begun.capacity() == 0 {
            self.begun = BytesMut::with_capacity((span.end - span.start) as usize);
        }
        let part = self.take(frame, span.end);
        self.begun.extend_from_slice(part);
        self.at += part.len() as u64;
        if self.at < span.end {
            return None;
        }
        self.allowed -= 1;
        Some(Cut::Chunk(self.chunks.next()?, std::mem::take(&mut self.begun).freeze()))
    }

    /// The bytes of a frame up to a place in the object, which are taken off.
    fn take<'a>(&self, frame: &mut &'a [u8], until: u64) -> &'a [u8] {
        let (here, rest) = frame.split_at((until.saturating_sub(self.at) as usize).min(frame.len()));
        *frame = rest;
        here
    }

    /// Whether no chunk is missing.
    pub fn is_done(&self) -> bool {
        self.chunks.as_slice().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However the frames fall: each chunk has its own bytes, as soon as its last one came, and room before its first.
        #[test]
        fn chunks_come_out_as_they_lie_in_the_object(
            lengths in proptest::collection::vec((0u64..4, 0u64..9), 1..8), frames in proptest::collection::vec(1usize..12, 40),
            batch in 1usize..4,
        ) {
            let mut end = 100;
            let chunks: Vec<Stored<usize>> = lengths.iter().enumerate().map(|(item, (gap, length))| {
                let start = end + gap;
                end = start + length;
                Stored { span: start..end, item }
            }).collect();
            let object: Vec<u8> = (0..=255).collect();
            let (count, mut at) = (chunks.len(), chunks[0].span.start);
            let mut cutting = Cutting::new(Group { span: at..end, chunks: chunks.clone() }, batch);
            let (mut found, mut allowed) = (Vec::new(), 0);
            for frame in frames {
                let next = end.min(at + frame as u64);
                let mut came = &object[at as usize..next as usize];
                while let Some(cut) = cutting.next(&mut came) {
                    match cut {
                        Cut::Batch(bytes) => allowed += bytes,
                        Cut::Chunk(chunk, bytes) => found.push((chunk, bytes)),
                    }
                }
                let has_begun = |chunk: &Stored<usize>| chunk.span.start < next + u64::from(chunk.span.is_empty());
                let begun = chunks.chunks(batch).filter(|batch| has_begun(&batch[0])).flatten();
                prop_assert_eq!(allowed, begun.map(|chunk| chunk.span.end - chunk.span.start).sum::<u64>());
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
