//! The network limit: a workload's bytes fetched with its requests in flight and kept, nothing decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use object_store::{GetOptions, GetRange};
use tokio::sync::Semaphore;

use super::{Arrays, Engine};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::plan::{Limits, Stored, group, parts};
use crate::selection::{Axis, pieces};
use crate::workload::Workload;

const MISSING: u64 = u64::MAX;
const CRC_BYTES: u64 = 4;
const PART_BYTES: u64 = 8 << 20;
const MERGE_GAP_BYTES: u64 = 1 << 20;

/// Index GETs, then the chunks' own ranges or merged ones; assumes an index at the end with a checksum, as all our
/// data sets have.
pub struct NetworkLimit {
    workload: Arc<Workload>,
    client: Client,
    permits: Arc<Semaphore>,
    /// Reads under way at once: what a reader cannot know before a read, the limit cannot.
    turns: Semaphore,
    /// The shards of each read.
    reads: Vec<Vec<Shard>>,
    index_bytes: u64,
}

struct Shard {
    key: String,
    /// Positions of the wanted chunks in the shard's index.
    wanted: Vec<usize>,
}

impl NetworkLimit {
    pub async fn open(workload: Arc<Workload>, client: Client) -> Outcome<Self> {
        let array = &workload.array;
        let per_shard: Vec<u64> = array.shard_shape.iter().zip(&array.chunk_shape).map(|(s, c)| s / c).collect();
        let shards_of = |read: &Vec<Axis>| -> Vec<Shard> {
            let mut shards: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
            for piece in pieces(read, &array.chunk_shape) {
                let chunk = piece.chunk();
                let shard = chunk.iter().zip(&per_shard).map(|(c, n)| c / n).collect();
                let position = chunk.iter().zip(&per_shard).fold(0, |at, (c, n)| at * n + c % n) as usize;
                shards.entry(shard).or_default().push(position);
            }
            shards.into_iter().map(|(shard, wanted)| Shard { key: key_of(&shard), wanted }).collect()
        };
        let reads = workload.reads.iter().map(shards_of).collect();
        let index_bytes = per_shard.iter().product::<u64>() * 16 + CRC_BYTES;
        let permits = Arc::new(Semaphore::new(workload.in_flight));
        let turns = Semaphore::new(workload.concurrent_reads);
        Ok(Self { permits, turns, reads, index_bytes, client, workload })
    }

    async fn fetch_read(&self, shards: &[Shard], limits: &Limits) -> Outcome<Vec<Bytes>> {
        let _turn = self.turns.acquire().await.map_err(Failure::measurement)?;
        let bodies = try_join_all(shards.iter().map(|shard| self.fetch_shard(shard, limits))).await?;
        Ok(bodies.into_iter().flatten().collect())
    }

    async fn fetch_shard(&self, shard: &Shard, limits: &Limits) -> Outcome<Vec<Bytes>> {
        let path = self.client.path(&shard.key);
        let index = self.get(&path, GetRange::Suffix(self.index_bytes)).await?;
        let word = |at: usize| Some(u64::from_le_bytes(index.get(at..at + 8)?.try_into().ok()?));
        let entry = |position: usize| -> Option<Stored<()>> {
            let (offset, length) = (word(position * 16)?, word(position * 16 + 8)?);
            (offset != MISSING).then_some(Stored { span: offset..offset + length, item: () })
        };
        let stored = shard.wanted.iter().filter_map(|position| entry(*position)).collect();
        let ranges = group(stored, limits).into_iter().flat_map(|one| parts(&one.span, PART_BYTES));
        try_join_all(ranges.map(|range| self.get(&path, GetRange::Bounded(range)))).await
    }

    async fn get(&self, path: &object_store::path::Path, range: GetRange) -> Outcome<Bytes> {
        let _permit = self.permits.acquire().await.map_err(Failure::measurement)?;
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        Ok(self.client.store.get_opts(path, options).await?.bytes().await?)
    }
}

fn key_of(shard: &[u64]) -> String {
    shard.iter().fold("c".to_owned(), |key, part| format!("{key}/{part}"))
}

fn limits(variant: &str) -> Limits {
    match variant {
        "merged" => Limits { max_gap_bytes: MERGE_GAP_BYTES, group_bytes: u64::MAX, part_bytes: PART_BYTES },
        _ => Limits { max_gap_bytes: 0, group_bytes: 0, part_bytes: PART_BYTES },
    }
}

#[async_trait::async_trait]
impl Engine for NetworkLimit {
    async fn read(&self, variant: &str) -> Outcome<Arrays> {
        let limits = limits(variant);
        let reads = try_join_all(self.reads.iter().map(|shards| self.fetch_read(shards, &limits))).await?;
        Ok(reads.into_iter().flatten().map(Vec::from).collect())
    }

    fn variants(&self) -> Vec<&'static str> {
        vec!["exact", "merged"]
    }

    fn calls(&self) -> u64 {
        self.reads.len() as u64
    }

    fn check(&self, arrays: &Arrays) -> Outcome<()> {
        let fetched: u64 = arrays.iter().map(|body| body.len() as u64).sum();
        if fetched < self.workload.wanted_bytes {
            let wanted = self.workload.wanted_bytes;
            return Err(Failure::measurement(format!("fetched {fetched} bytes of {wanted} wanted")));
        }
        Ok(())
    }
}
