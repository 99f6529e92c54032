//! The network limit: a workload's bytes fetched with its requests in flight, nothing decoded, and kept or, to know what
//! keeping costs, thrown away.

mod lean;
mod memory;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared, try_join_all};
use object_store::GetRange;
use object_store::path::Path;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use super::{Arrays, Engine, Hooks};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::plan::{Group, Grouping, Stored, groups, parts};
use crate::selection::{Axis, pieces};
use crate::shard_index::{ChunkBytes, span};
use crate::workload::{ArrayInfo, Endian, IndexLocation, Workload};
use lean::LeanClient;
use memory::Memory;

const CRC_BYTES: u64 = 4;
const PART_BYTES: u64 = 8 << 20;
const MERGE_GAP_BYTES: u64 = 1 << 20;
/// What is wrong with an index that ends before its last entry.
const TOO_SHORT: &str = "it is shorter than its shape says";

/// Objects of as many bytes in all are tried whole, whatever is wanted of them.
const WHOLE_BYTES: u64 = 64 << 20;
/// So are those of which at least every second byte is wanted.
const WHOLE_TIMES: u64 = 2;

/// What to ask for; the plans compete (docs/limit.md, harness/readers/network_limit.py).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// The index, then the chunks' own ranges; an object without an index in parts.
    Exact,
    /// The index, then ranges merged over gaps.
    Merged,
    /// Each object by one GET, which brings its index along.
    Whole,
}

impl Plan {
    const ALL: [Self; 3] = [Self::Exact, Self::Merged, Self::Whole];

    const fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Merged => "merged",
            Self::Whole => "whole",
        }
    }

    fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|plan| plan.name() == name).unwrap_or(Self::Exact)
    }

    /// Whether it is worth trying: a huge object is not fetched for a chunk of it.
    fn suits(self, work: &Workload) -> bool {
        match self {
            Self::Exact => true,
            Self::Merged => work.array.is_sharded(),
            Self::Whole => {
                let most = WHOLE_BYTES.max((work.wanted_bytes / work.loops).saturating_mul(WHOLE_TIMES));
                (1..=most).contains(&work.object_bytes)
            }
        }
    }
}

/// What becomes of the bodies of chunks and objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// They lie in newly allocated memory, as a reader's would.
    Kept,
    /// They are read into memory that is used again and again.
    ThrownAway,
}

/// What a GET asks for: an index is needed whatever becomes of bodies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Index,
    Body,
}

/// A body, and the bytes of the whole object; None where there is no such object.
type Fetched = Outcome<Option<(Bytes, u64)>>;

/// A request that several reads may wait for.
type Get = Shared<BoxFuture<'static, Fetched>>;

/// Index GETs, then the chunks' own ranges or merged ones; objects without an index in parts; or objects whole.
///
/// It fetches read by read, like a reader that is called several times: what reads under way at once want alike it fetches
/// once, and it keeps nothing beyond them.
pub struct NetworkLimit {
    inner: Arc<Inner>,
}

struct Inner {
    workload: Arc<Workload>,
    client: Client,
    lean: LeanClient,
    bodies: Bodies,
    permits: Semaphore,
    /// The shards that each read touches.
    reads: Vec<Vec<Shard>>,
    index_bytes: u64,
    /// GETs that reads under way have made, by object and range, where others may want the same.
    made: Mutex<HashMap<String, Vec<WeakShared<BoxFuture<'static, Fetched>>>>>,
}

#[derive(Clone)]
struct Shard {
    key: String,
    /// Positions of the wanted chunks in the shard's index.
    wanted: Vec<usize>,
}

impl NetworkLimit {
    pub fn open(workload: Arc<Workload>, client: Client, bodies: Bodies) -> Self {
        let per_shard = per_shard(&workload.array);
        let reads = workload.reads.iter().map(|read| shards(read, &workload.array, &per_shard)).collect();
        let checksum = if workload.array.index_checksum { CRC_BYTES } else { 0 };
        let index_bytes = per_shard.iter().product::<u64>() * 16 + checksum;
        let permits = Semaphore::new(workload.in_flight);
        let lean = match bodies {
            Bodies::Kept => LeanClient::new(&client),
            Bodies::ThrownAway => LeanClient::throwing_away(&client),
        };
        let made = Mutex::default();
        Self { inner: Arc::new(Inner { permits, reads, index_bytes, client, lean, bodies, workload, made }) }
    }
}

/// One read of a workload under way.
struct Reading {
    inner: Arc<Inner>,
    plan: Plan,
    memory: Arc<Memory>,
    /// Its GETs that others may want too, until it ends.
    shared: Mutex<Vec<Get>>,
}

impl Reading {
    fn new(inner: &Arc<Inner>, plan: Plan) -> Self {
        let all_reads = inner.workload.loops.saturating_mul(inner.reads.len() as u64).max(1);
        let of_read = inner.workload.wanted_bytes.div_ceil(all_reads) as usize;
        let memory = Arc::new(Memory::new(of_read));
        Self { inner: Arc::clone(inner), plan, memory, shared: Mutex::default() }
    }

    async fn fetch(self: Arc<Self>, number: usize) -> Outcome<Arrays> {
        let shards = self.inner.reads[number].iter().cloned().map(|shard| {
            let reading = Arc::clone(&self);
            async move {
                match reading.plan {
                    Plan::Whole => reading.fetch_whole(shard).await,
                    _ if reading.inner.workload.array.is_sharded() => reading.fetch_shard(shard).await,
                    _ => reading.fetch_object(shard).await,
                }
            }
        });
        Ok(all(shards).await?.into_iter().flatten().collect())
    }

    async fn fetch_shard(self: Arc<Self>, shard: Shard) -> Outcome<Vec<Bytes>> {
        let (work, index_bytes) = (&self.inner.workload, self.inner.index_bytes);
        let path = self.inner.client.path(&shard.key);
        let asked = match work.array.index_location {
            IndexLocation::Start => GetRange::Bounded(0..index_bytes),
            IndexLocation::End | IndexLocation::None => GetRange::Suffix(index_bytes),
        };
        let Some((index, object_bytes)) = self.get(&path, asked, Part::Index).await? else {
            return Ok(Vec::new());
        };
        if (index.len() as u64) < index_bytes {
            return Err(Failure::measurement(format!("the index of {path}: {TOO_SHORT}")));
        }
        let bounds = (object_bytes, ChunkBytes::AtMost(work.wanted_bytes));
        let stored = stored((&index, work.array.index_endian), &shard.wanted, bounds)
            .map_err(|why| Failure::measurement(format!("the index of {path}: {why}")))?;
        if work.has_reads_that_meet() {
            return all(self.shared_gets(&path, stored).into_iter().map(|get| body(path.clone(), get))).await;
        }
        let requests = grouped(stored, self.plan).iter().flat_map(|one| parts(&one.span, PART_BYTES)).collect();
        self.fetch_parts(path, requests).await
    }

    /// Fetches an object that is one chunk, in parts: the answer to the first says how many there are.
    async fn fetch_object(self: Arc<Self>, object: Shard) -> Outcome<Vec<Bytes>> {
        let path = self.inner.client.path(&object.key);
        let asked = GetRange::Bounded(0..PART_BYTES);
        let Some((first, object_bytes)) = self.get(&path, asked, Part::Body).await? else {
            return Ok(Vec::new());
        };
        if object_bytes > self.inner.workload.wanted_bytes {
            return Err(Failure::measurement(format!("{path} has more bytes than all that the workload wants")));
        }
        let rest = self.fetch_parts(path, parts(&(PART_BYTES..object_bytes), PART_BYTES)).await?;
        Ok(std::iter::once(first).chain(rest).collect())
    }

    /// Fetches an object by one GET, of no more bytes than all of the workload's objects have.
    async fn fetch_whole(self: Arc<Self>, object: Shard) -> Outcome<Vec<Bytes>> {
        let path = self.inner.client.path(&object.key);
        let most = self.inner.workload.object_bytes;
        match self.get(&path, GetRange::Bounded(0..most), Part::Body).await? {
            Some((_, object_bytes)) if object_bytes > most => {
                Err(Failure::measurement(format!("{path} has more bytes than all objects of the workload")))
            }
            found => Ok(found.map(|(body, _)| body).into_iter().collect()),
        }
    }

    async fn fetch_parts(self: Arc<Self>, path: Path, spans: Vec<Range<u64>>) -> Outcome<Vec<Bytes>> {
        let gets = spans.into_iter().map(|range| {
            let (reading, path) = (Arc::clone(&self), path.clone());
            body(path.clone(), async move { reading.get(&path, GetRange::Bounded(range), Part::Body).await })
        });
        all(gets).await
    }

    /// The GETs that bring chunks of a shard: those that reads under way have made, and others for what these lack.
    fn shared_gets(&self, path: &Path, chunks: Vec<Stored<()>>) -> Vec<Get> {
        let mut made = self.inner.made.lock();
        let mut gets: Vec<Get> = Vec::new();
        let mut left = Vec::new();
        for chunk in chunks {
            let Some(anothers) = made.get(&wanted(path, &chunk.span.clone().into())).and_then(|gets| upgraded(gets))
            else {
                left.push(chunk);
                continue;
            };
            self.inner.client.counters.shared(chunk.span.end - chunk.span.start);
            gets.extend(anothers);
        }
        let mut known = HashSet::new();
        gets.retain(|get| known.insert(identity(get))); // a merged range brings many chunks, and counts once
        for one in grouped(left, self.plan) {
            let new: Vec<_> = parts(&one.span, PART_BYTES)
                .into_iter()
                .map(|part| (part.clone(), self.new_get(path, part.into(), Part::Body)))
                .collect();
            for Stored { span, .. } in one.chunks {
                let its = new.iter().filter(|(part, _)| part.start < span.end && span.start < part.end);
                made.insert(wanted(path, &span.clone().into()), its.filter_map(|(_, get)| get.downgrade()).collect());
            }
            gets.extend(new.into_iter().map(|(_, get)| get));
        }
        self.shared.lock().extend(gets.iter().cloned());
        gets
    }

    /// One GET, but for what another read under way has asked for.
    async fn get(&self, path: &Path, range: GetRange, part: Part) -> Fetched {
        if !self.inner.workload.has_reads_that_meet() {
            return self.inner.send(path, range, part, &self.memory).await;
        }
        let (get, is_anothers) = self.shared_get(path, &range, part);
        self.shared.lock().push(get.clone());
        let fetched = get.await;
        if is_anothers && let Ok(Some((_, object_bytes))) = &fetched {
            let got = range.as_range(*object_bytes).map_err(Failure::measurement)?;
            self.inner.client.counters.shared(got.end - got.start);
        }
        fetched
    }

    /// A GET that others may want too, and whether another read has made it.
    fn shared_get(&self, path: &Path, range: &GetRange, part: Part) -> (Get, bool) {
        let wanted = wanted(path, range);
        let mut made = self.inner.made.lock();
        if let Some(get) = made.get(&wanted).and_then(|gets| upgraded(gets)?.pop()) {
            return (get, true);
        }
        let get = self.new_get(path, range.clone(), part);
        made.insert(wanted, get.downgrade().into_iter().collect());
        (get, false)
    }

    fn new_get(&self, path: &Path, range: GetRange, part: Part) -> Get {
        let (inner, path, memory) = (Arc::clone(&self.inner), path.clone(), Arc::clone(&self.memory));
        async move { inner.send(&path, range, part, &memory).await }.boxed().shared()
    }
}

fn identity(get: &Get) -> u64 {
    let mut hasher = DefaultHasher::new();
    get.ptr_hash(&mut hasher);
    hasher.finish()
}

/// What is asked for, as other reads know it.
fn wanted(path: &Path, range: &GetRange) -> String {
    format!("{path} {range}")
}

/// GETs that some read still uses, if that holds for all of them.
fn upgraded(gets: &[WeakShared<BoxFuture<'static, Fetched>>]) -> Option<Vec<Get>> {
    gets.iter().map(WeakShared::upgrade).collect()
}

/// The body of an answer that there has to be.
async fn body(path: Path, get: impl Future<Output = Fetched>) -> Outcome<Bytes> {
    let gone = || Failure::Store(format!("{path} vanished while it was read"));
    Ok(get.await?.ok_or_else(gone)?.0)
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.shared.get_mut().clear();
        self.inner.made.lock().retain(|_, gets| upgraded(gets).is_some());
    }
}

impl Inner {
    /// One GET with a permit.
    async fn send(&self, path: &Path, range: GetRange, part: Part, memory: &Memory) -> Fetched {
        let _permit = self.permits.acquire().await.map_err(Failure::measurement)?;
        let is_kept = part == Part::Index || self.bodies == Bodies::Kept;
        self.lean.get(path, &range, is_kept.then_some(memory)).await
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

/// Where the wanted chunks lie that are stored.
///
/// # Errors
/// In words what cannot be: an index that ends too early, or an entry beyond the `bounds` of object and chunk.
fn stored(
    (index, endian): (&[u8], Endian),
    wanted: &[usize],
    (object_bytes, chunk): (u64, ChunkBytes),
) -> Result<Vec<Stored<()>>, String> {
    let word = |at: usize| {
        let bytes = index.get(at..at + 8)?.try_into().ok()?;
        Some(match endian {
            Endian::Little => u64::from_le_bytes(bytes),
            Endian::Big => u64::from_be_bytes(bytes),
        })
    };
    let mut stored = Vec::with_capacity(wanted.len());
    for position in wanted {
        let entry = word(position * 16).zip(word(position * 16 + 8)).ok_or(TOO_SHORT)?;
        if let Some(span) = span(entry.into(), object_bytes, chunk)? {
            stored.push(Stored { span, item: () });
        }
    }
    Ok(stored)
}

/// Chunks of a shard by the requests that bring them.
fn grouped(stored: Vec<Stored<()>>, plan: Plan) -> Vec<Group<()>> {
    if plan != Plan::Merged {
        return stored.into_iter().map(|one| Group { span: one.span.clone(), chunks: vec![one] }).collect();
    }
    groups(stored, Grouping { max_gap_bytes: MERGE_GAP_BYTES, most_bytes: u64::MAX }).collect()
}

fn per_shard(array: &ArrayInfo) -> Vec<u64> {
    array.shard_shape.iter().zip(&array.chunk_shape).map(|(shard, chunk)| shard / chunk).collect()
}

/// The shards that a selection touches, in C order of their grid, with the positions of its chunks.
fn shards(read: &[Axis], array: &ArrayInfo, per_shard: &[u64]) -> Vec<Shard> {
    let mut found: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
    for piece in pieces(read, &array.chunk_shape) {
        found.entry(piece.shard(per_shard)).or_default().push(piece.position(per_shard));
    }
    found.into_iter().map(|(shard, wanted)| Shard { key: array.object_key(&shard), wanted }).collect()
}

#[async_trait::async_trait]
impl Engine for NetworkLimit {
    fn workload(&self) -> &Workload {
        &self.inner.workload
    }

    async fn read_one(&self, number: usize, variant: &str) -> Outcome<Arrays> {
        Arc::new(Reading::new(&self.inner, Plan::named(variant))).fetch(number).await
    }

    fn variants(&self) -> Vec<&'static str> {
        let suitable = Plan::ALL.into_iter().filter(|plan| plan.suits(&self.inner.workload));
        suitable.map(Plan::name).collect()
    }

    fn hooks(&self) -> Hooks {
        Hooks::None
    }

    /// Bytes that nobody decodes can only be counted: those that were thrown away by the client, with all before them.
    fn check(&self, reads: Range<usize>, arrays: &Arrays) -> Outcome<bool> {
        let (fetched, reads) = match self.inner.bodies {
            Bodies::Kept => (arrays.iter().map(|body| body.len() as u64).sum(), reads),
            Bodies::ThrownAway => (self.inner.client.counters.got_bytes(), 0..reads.end),
        };
        let wanted = self.inner.workload.wanted_by(reads.clone());
        if fetched < wanted {
            let of = if reads.start > 0 { format!(" by the reads from {}", reads.start) } else { String::new() };
            return Err(Failure::measurement(format!("fetched {fetched} bytes of {wanted} wanted{of}")));
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
        let bounds = (5 << 20, ChunkBytes::AtMost(30));
        let found = |index, wanted: &[usize], plan| {
            let groups = grouped(stored(index, wanted, bounds)?, plan);
            Ok::<_, String>(groups.into_iter().map(|one| one.span).collect::<Vec<_>>())
        };
        let little = (index.as_slice(), Endian::Little);
        assert_eq!(found(little, &[0, 1, 2, 3], Plan::Exact), Ok(vec![0..10, 20..30, far.clone()]));
        assert_eq!(found(little, &[0, 1, 2, 3], Plan::Merged), Ok(vec![0..30, far]));
        assert!(found(little, &[4], Plan::Exact).is_err_and(|why| why == TOO_SHORT));
        let big: Vec<u8> = [20u64, 10, 40, 5].iter().flat_map(|word| word.to_be_bytes()).collect();
        assert_eq!(found((&big, Endian::Big), &[0, 1], Plan::Exact), Ok(vec![20..30, 40..45]));
    }

    #[test]
    fn an_index_that_asks_for_more_than_there_is_is_refused() {
        let index: Vec<u8> = [0, 10 | 1 << 33].iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
        let found = |object_bytes| {
            let stored = stored((&index, Endian::Little), &[0], (object_bytes, ChunkBytes::AtMost(30)));
            stored.map(|stored| stored.len())
        };
        assert!(found(1000).is_err_and(|why| why.contains("reach beyond the object")));
        assert!(found(1 << 40).is_err_and(|why| why.contains("where its codecs yield at most 30")));
    }

    #[test]
    fn chunks_of_a_selection_are_found_by_shard() {
        let read = [Axis::from((3, 6, 1)), Axis::from((0, 8, 4))];
        let array = serde_json::json!({"key": "a", "shape": [8, 8], "chunk_shape": [1, 2], "shard_shape": [4, 4]});
        let found = shards(&read, &serde_json::from_value(array).expect("an array"), &[4, 2]);
        let seen: Vec<_> = found.iter().map(|shard| (shard.key.as_str(), shard.wanted.as_slice())).collect();
        assert_eq!(seen, [("c/0/0", &[6][..]), ("c/0/1", &[6]), ("c/1/0", &[0, 2]), ("c/1/1", &[0, 2])]);
    }
}
