//! Chunks on their way from their bytes to their places, on all cores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use rayon::prelude::*;
use tokio::sync::oneshot;

use super::{Decoded, Object};
use crate::buffer::Held;
use crate::failure::{Failure, Outcome, panicked};

/// Decoded bytes that one thread takes at once.
const BATCH_BYTES: usize = 256 << 10;

/// Chunks that were handed over to be decoded.
///
/// Small chunks are handed over in batches: waking a thread costs as much as decoding a few of them.
pub struct Decoding {
    object: Arc<Object>,
    /// Of the buffer, for what has not been handed over.
    held: Option<Held>,
    /// Chunks that are handed over at once.
    pub at_once: usize,
    batch: Vec<Encoded>,
    under_way: Vec<oneshot::Receiver<Outcome<()>>>,
}

/// A chunk's stored bytes, its number among the wanted ones, and where in the object it begins.
pub struct Encoded {
    pub number: u32,
    pub offset: u64,
    pub bytes: Bytes,
}

impl Decoding {
    pub fn new(object: &Arc<Object>) -> Self {
        let at_once = at_once(object);
        Self { object: Arc::clone(object), held: None, at_once, batch: Vec::new(), under_way: Vec::new() }
    }

    /// Takes the room of chunks that are added next.
    pub fn hold(&mut self, held: Held) {
        self.held = Some(held);
    }

    pub fn add(&mut self, number: u32, offset: u64, bytes: Bytes) {
        self.batch.push(Encoded { number, offset, bytes });
        if self.batch.len() >= self.at_once {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let (object, batch) = (Arc::clone(&self.object), std::mem::take(&mut self.batch));
        let bytes = batch.iter().map(|chunk| chunk.bytes.len() as u64).sum();
        let held = self.held.as_mut().and_then(|held| held.split(bytes));
        self.under_way.push(on_all_cores(move || {
            let _held = held;
            batch.iter().try_for_each(|chunk| object.decode(chunk))
        }));
    }

    /// Returns when all chunks are in their places.
    pub async fn finish(mut self) -> Outcome<()> {
        if !self.batch.is_empty() {
            self.hand_over();
        }
        drop(self.held); // gaps between chunks
        for waiting in self.under_way {
            waiting.await.map_err(Failure::measurement)??;
        }
        Ok(())
    }
}

/// Writes the fill value where chunks are not stored.
pub async fn fill(object: &Arc<Object>, missing: Vec<u32>) -> Outcome<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let (object, at_once) = (Arc::clone(object), at_once(object));
    let filled =
        on_all_cores(move || missing.par_iter().with_min_len(at_once).try_for_each(|number| object.fill(*number)));
    filled.await.map_err(Failure::measurement)?
}

/// Puts chunks that other reads have brought into their places.
pub async fn take(object: &Arc<Object>, there: Vec<(u32, Arc<Decoded<'static>>)>) -> Outcome<()> {
    if there.is_empty() {
        return Ok(());
    }
    let object = Arc::clone(object);
    let taken = on_all_cores(move || there.iter().try_for_each(|(number, chunk)| object.take(*number, chunk)));
    taken.await.map_err(Failure::measurement)?
}

/// Chunks that one thread takes at once.
fn at_once(object: &Object) -> usize {
    (BATCH_BYTES / object.unit().decoded_bytes().max(1)).max(1)
}

/// Has a core do some work. All that it owns is dropped before its answer: whoever waits for the last one owns the array
/// alone.
fn on_all_cores(work: impl FnOnce() -> Outcome<()> + Send + 'static) -> oneshot::Receiver<Outcome<()>> {
    let (answer, waiting) = oneshot::channel();
    rayon::spawn(move || {
        if answer.is_closed() {
            return; // whoever waited has given the read up
        }
        let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic)));
        let _ = answer.send(outcome);
    });
    waiting
}
