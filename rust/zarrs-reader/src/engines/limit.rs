//! The network limit: a workload's bytes fetched with its requests in flight and kept, nothing decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{GetOptions, GetRange};
use tokio::sync::Semaphore;

use super::{Arrays, Engine};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::plan::{Grouping, Stored, group, parts};
use crate::selection::{Axis, pieces};
use crate::workload::{ArrayInfo, Workload};

const MISSING: u64 = u64::MAX;
const CRC_BYTES: u64 = 4;
const PART_BYTES: u64 = 8 << 20;
const MERGE_GAP_BYTES: u64 = 1 << 20;

const EXACT: &str = "exact";
const MERGED: &str = "merged";

/// Index GETs, then the chunks' own ranges or merged ones; assumes an index at the end with a checksum, as all our
/// data sets have.
///
/// It fetches read by read and keeps nothing between reads, like a reader that is called several times.
pub struct NetworkLimit {
    workload: Arc<Workload>,
    client: Client,
    permits: Semaphore,
    /// The shards that each read touches.
    reads: Vec<Vec<Shard>>,
    index_bytes: u64,
}

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
        Self { permits, reads, index_bytes, client, workload }
    }

    async fn fetch_read(&self, number: usize, variant: &str) -> Outcome<Vec<Bytes>> {
        let fetched = try_join_all(self.reads[number].iter().map(|shard| self.fetch_shard(shard, variant))).await?;
        Ok(fetched.into_iter().flatten().collect())
    }

    async fn fetch_shard(&self, shard: &Shard, variant: &str) -> Outcome<Vec<Bytes>> {
        let path = self.client.path(&shard.key);
        let index = self.get(&path, GetRange::Suffix(self.index_bytes)).await?;
        let word = |at: usize| Some(u64::from_le_bytes(index.get(at..at + 8)?.try_into().ok()?));
        let mut stored = Vec::with_capacity(shard.wanted.len());
        for position in &shard.wanted {
            let (Some(offset), Some(length)) = (word(position * 16), word(position * 16 + 8)) else {
                return Err(Failure::measurement(format!("the index of {path} is shorter than its shape says")));
            };
            if offset != MISSING {
                stored.push(Stored { span: offset..offset.saturating_add(length), item: () });
            }
        }
        let ranges = match variant {
            MERGED => group(stored, Grouping { max_gap_bytes: MERGE_GAP_BYTES, most_bytes: u64::MAX })
                .into_iter()
                .map(|one| one.span)
                .collect(),
            _ => stored.into_iter().map(|chunk| chunk.span).collect::<Vec<_>>(),
        };
        let requests = ranges.iter().flat_map(|span| parts(span, PART_BYTES));
        try_join_all(requests.map(|range| self.get(&path, GetRange::Bounded(range)))).await
    }

    async fn get(&self, path: &object_store::path::Path, range: GetRange) -> Outcome<Bytes> {
        let _permit = self.permits.acquire().await.map_err(Failure::measurement)?;
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        Ok(self.client.store.get_opts(path, options).await?.bytes().await?)
    }
}

fn per_shard(array: &ArrayInfo) -> Vec<u64> {
    array.shard_shape.iter().zip(&array.chunk_shape).map(|(shard, chunk)| shard / chunk).collect()
}

/// The shards that a selection touches, in C order of their grid, with the positions of its chunks.
fn shards(read: &[Axis], chunk_shape: &[u64], per_shard: &[u64]) -> Vec<Shard> {
    let mut found: BTreeMap<Vec<u64>, Vec<usize>> = BTreeMap::new();
    for piece in pieces(read, chunk_shape) {
        let chunk = piece.chunk();
        let shard = chunk.iter().zip(per_shard).map(|(c, n)| c / n).collect();
        let position = chunk.iter().zip(per_shard).fold(0, |at, (c, n)| at * n + c % n) as usize;
        found.entry(shard).or_default().push(position);
    }
    found.into_iter().map(|(shard, wanted)| Shard { key: key_of(&shard), wanted }).collect()
}

fn key_of(shard: &[u64]) -> String {
    shard.iter().fold("c".to_owned(), |key, part| format!("{key}/{part}"))
}

#[async_trait::async_trait]
impl Engine for NetworkLimit {
    async fn read(&self, variant: &str) -> Outcome<Arrays> {
        let reads = stream::iter(0..self.reads.len()).map(|number| self.fetch_read(number, variant));
        let fetched: Vec<Vec<Bytes>> = reads.buffered(self.workload.concurrent_reads).try_collect().await?;
        Ok(fetched.into_iter().flatten().map(Vec::from).collect())
    }

    fn variants(&self) -> Vec<&'static str> {
        vec![EXACT, MERGED]
    }

    fn calls(&self) -> u64 {
        self.workload.reads.len() as u64
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_a_selection_are_found_by_shard() {
        let read = [Axis::from((3, 6, 1)), Axis::from((0, 8, 4))];
        let found = shards(&read, &[1, 2], &[4, 2]);
        let seen: Vec<_> = found.iter().map(|shard| (shard.key.as_str(), shard.wanted.as_slice())).collect();
        assert_eq!(seen, [("c/0/0", &[6][..]), ("c/0/1", &[6]), ("c/1/0", &[0, 2]), ("c/1/1", &[0, 2])]);
    }
}
