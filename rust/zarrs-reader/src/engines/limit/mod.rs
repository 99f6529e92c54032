//! The network limit: a workload's bytes fetched with its requests in flight and kept, nothing decoded.

mod lean;
mod memory;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::try_join_all;
use object_store::GetRange;
use object_store::path::Path;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::{Arrays, Engine, Hooks};
use crate::client::{Client, longer};
use crate::failure::{Failure, Outcome};
use crate::plan::{Grouping, Stored, group, parts};
use crate::selection::{Axis, pieces};
use crate::shard_index::{ChunkBytes, span};
use crate::workload::{ArrayInfo, Workload};
use lean::LeanClient;
use memory::Memory;

const CRC_BYTES: u64 = 4;
const PART_BYTES: u64 = 8 << 20;
const MERGE_GAP_BYTES: u64 = 1 << 20;
/// What is wrong with an index that ends before its last entry.
const TOO_SHORT: &str = "it is shorter than its shape says";

const EXACT: &str = "exact";
const MERGED: &str = "merged";

/// Index GETs, then the chunks' own ranges or merged ones; assumes an index at the end with a checksum, as all our
/// data sets have.
///
/// It fetches read by read and keeps nothing between reads, like a reader that is called several times.
pub struct NetworkLimit {
    inner: Arc<Inner>,
}

struct Inner {
    workload: Arc<Workload>,
    client: Client,
    /// What fetches, where the target lets it; else the client does.
    lean: Option<LeanClient>,
    permits: Semaphore,
    /// The shards that each read touches.
    reads: Vec<Vec<Shard>>,
    index_bytes: u64,
}

#[derive(Clone)]
struct Shard {
    key: String,
    /// Positions of the wanted chunks in the shard's index.
    wanted: Vec<usize>,
}

impl NetworkLimit {
    pub fn open(workload: Arc<Workload>, client: Client) -> Self {
        let per_shard = per_shard(&workload.array);
        let reads = workload.reads.iter().map(|read| shards(read, &workload.array.chunk_shape, &per_shard)).collect();
        let index_bytes = per_shard.iter().product::<u64>() * 16 + CRC_BYTES;
        let permits = Semaphore::new(workload.in_flight);
        let lean = LeanClient::open(&workload.target, Arc::clone(&client.counters));
        Self { inner: Arc::new(Inner { permits, reads, index_bytes, client, lean, workload }) }
    }
}

impl Inner {
    async fn fetch_read(self: &Arc<Self>, number: usize, variant: &str) -> Outcome<Arrays> {
        let memory = Arc::new(Memory::new((self.workload.wanted_bytes as usize).div_ceil(self.reads.len().max(1))));
        let shards = self.reads[number].iter().map(|shard| {
            let (inner, memory) = (Arc::clone(self), Arc::clone(&memory));
            inner.fetch_shard(shard.clone(), memory, variant == MERGED)
        });
        Ok(all(shards).await?.into_iter().flatten().collect())
    }

    async fn fetch_shard(self: Arc<Self>, shard: Shard, memory: Arc<Memory>, merged: bool) -> Outcome<Vec<Bytes>> {
        let path = self.client.path(&shard.key);
        let (index, object_bytes) = self.get(&path, GetRange::Suffix(self.index_bytes), &memory).await?;
        if (index.len() as u64) < self.index_bytes {
            return Err(Failure::measurement(format!("the index of {path}: {TOO_SHORT}")));
        }
        let bounds = (object_bytes, ChunkBytes::AtMost(self.workload.wanted_bytes));
        let ranges = ranges(&index, &shard.wanted, bounds, merged)
            .map_err(|why| Failure::measurement(format!("the index of {path}: {why}")))?;
        let requests = ranges.iter().flat_map(|span| parts(span, PART_BYTES));
        let gets = requests.map(|range| {
            let (inner, path, memory) = (Arc::clone(&self), path.clone(), Arc::clone(&memory));
            async move { Ok(inner.get(&path, GetRange::Bounded(range), &memory).await?.0) }
        });
        all(gets).await
    }

    /// One GET with a permit: its body, and the bytes of the whole object.
    async fn get(&self, path: &Path, range: GetRange, memory: &Memory) -> Outcome<(Bytes, u64)> {
        let _permit = self.permits.acquire().await.map_err(Failure::measurement)?;
        match &self.lean {
            Some(lean) => lean.get(path, &range, memory).await,
            None => self.get_by_object_store(path, range, memory).await,
        }
    }

    /// Copies a body out of the client's own buffers as it arrives, so that these are used again while still cached.
    async fn get_by_object_store(&self, path: &Path, range: GetRange, memory: &Memory) -> Outcome<(Bytes, u64)> {
        let answer = self.client.get(path, Some(range)).await?;
        let (expected, object_bytes) = ((answer.range.end - answer.range.start) as usize, answer.meta.size);
        let mut body = memory.take(expected);
        let mut frames = answer.into_stream();
        while let Some(frame) = frames.try_next().await? {
            if body.len() + frame.len() > expected {
                return Err(longer(path));
            }
            body.extend_from_slice(&frame);
        }
        if body.len() != expected {
            return Err(Failure::measurement(format!("{path}: {} bytes came, not {expected}", body.len())));
        }
        Ok((body.freeze(), object_bytes))
    }
}

/// Runs each future as a task of its own, so that it runs beside its connection and not behind all others, and keeps
/// their order.
async fn all<T, F>(futures: impl Iterator<Item = F>) -> Outcome<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Outcome<T>> + Send + 'static,
{
    let tasks: Vec<_> = futures.map(|future| AbortOnDropHandle::new(tokio::spawn(future))).collect();
    try_join_all(tasks.into_iter().map(|task| async { task.await? })).await
}

/// The byte ranges to fetch for the wanted chunks that are stored.
///
/// # Errors
/// In words what cannot be: an index that ends too early, or an entry beyond the `bounds` of object and chunk.
fn ranges(
    index: &[u8],
    wanted: &[usize],
    (object_bytes, chunk): (u64, ChunkBytes),
    merged: bool,
) -> Result<Vec<Range<u64>>, String> {
    let word = |at: usize| Some(u64::from_le_bytes(index.get(at..at + 8)?.try_into().ok()?));
    let mut stored = Vec::with_capacity(wanted.len());
    for position in wanted {
        let entry = word(position * 16).zip(word(position * 16 + 8)).ok_or(TOO_SHORT)?;
        if let Some(span) = span(entry.into(), object_bytes, chunk)? {
            stored.push(Stored { span, item: () });
        }
    }
    if !merged {
        return Ok(stored.into_iter().map(|chunk| chunk.span).collect());
    }
    let grouping = Grouping { max_gap_bytes: MERGE_GAP_BYTES, most_bytes: u64::MAX };
    Ok(group(stored, grouping).into_iter().map(|one| one.span).collect())
}

fn per_shard(array: &ArrayInfo) -> Vec<u64> {
    array.shard_shape.iter().zip(&array.chunk_shape).map(|(shard, chunk)| shard / chunk).collect()
}

/// The shards that a selection touches, in C order of their grid, with the positions of its chunks.
fn shards(read: &[Axis], chunk_shape: &[u64], per_shard: &[u64]) -> Vec<Shard> {
    let mut found: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
    for piece in pieces(read, chunk_shape) {
        found.entry(piece.shard(per_shard)).or_default().push(piece.position(per_shard));
    }
    found.into_iter().map(|(shard, wanted)| Shard { key: key_of(&shard), wanted }).collect()
}

fn key_of(shard: &[u64]) -> String {
    shard.iter().fold("c".to_owned(), |key, part| format!("{key}/{part}"))
}

#[async_trait::async_trait]
impl Engine for NetworkLimit {
    fn workload(&self) -> &Workload {
        &self.inner.workload
    }

    async fn read_one(&self, number: usize, variant: &str) -> Outcome<Arrays> {
        self.inner.fetch_read(number, variant).await
    }

    fn variants(&self) -> Vec<&'static str> {
        vec![EXACT, MERGED]
    }

    fn hooks(&self) -> Hooks {
        Hooks::None
    }

    /// Bytes that nobody decodes can only be counted.
    fn check(&self, arrays: &Arrays) -> Outcome<bool> {
        let fetched: u64 = arrays.iter().map(|body| body.len() as u64).sum();
        if fetched < self.inner.workload.wanted_bytes {
            let wanted = self.inner.workload.wanted_bytes;
            return Err(Failure::measurement(format!("fetched {fetched} bytes of {wanted} wanted")));
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard_index::MISSING;

    #[test]
    fn missing_chunks_are_left_out_and_near_ones_merged() {
        let words = [0, 10, MISSING, MISSING, 20, 10, 4 << 20, 10];
        let index: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let far = 4 << 20..(4 << 20) + 10;
        let found = |wanted: &[usize], merged| ranges(&index, wanted, (5 << 20, ChunkBytes::AtMost(30)), merged);
        assert_eq!(found(&[0, 1, 2, 3], false), Ok(vec![0..10, 20..30, far.clone()]));
        assert_eq!(found(&[0, 1, 2, 3], true), Ok(vec![0..30, far]));
        assert!(found(&[4], false).is_err_and(|why| why == TOO_SHORT));
    }

    #[test]
    fn an_index_that_asks_for_more_than_there_is_is_refused() {
        let index: Vec<u8> = [0, 10 | 1 << 33].iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
        let found = |object_bytes| ranges(&index, &[0], (object_bytes, ChunkBytes::AtMost(30)), false);
        assert!(found(1000).is_err_and(|why| why.contains("reach beyond the object")));
        assert!(found(1 << 40).is_err_and(|why| why.contains("where its codecs yield at most 30")));
    }

    #[test]
    fn chunks_of_a_selection_are_found_by_shard() {
        let read = [Axis::from((3, 6, 1)), Axis::from((0, 8, 4))];
        let found = shards(&read, &[1, 2], &[4, 2]);
        let seen: Vec<_> = found.iter().map(|shard| (shard.key.as_str(), shard.wanted.as_slice())).collect();
        assert_eq!(seen, [("c/0/0", &[6][..]), ("c/0/1", &[6]), ("c/1/0", &[0, 2]), ("c/1/1", &[0, 2])]);
    }
}
