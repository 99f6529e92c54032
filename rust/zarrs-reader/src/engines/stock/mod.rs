//! zarrs as its documentation tells a user to write it: its public async API over its own object store adapter.
//!
//! The adapter asks for an object's size before each partial read, the cache of shard indexes reads one index after
//! another, and no call spawns tasks: all of it stays visible, since that is what users get. Calls that are under way at
//! once are tasks of their own, as the documentation advises. `Settings` change what a user can change of it, up to the
//! synchronous API.

mod blocking;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use zarrs::array::ArraySubset;
use zarrs_codec::{ArrayBytes, CodecOptions};

use super::settings::{Settings, ShardCache};
use super::{Arrays, Engine, Hooks, all, at_most};
use crate::array::{self, OpenArray, boxed, element_size, failed, is_box};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::selection::{Axis, Piece, pieces, shape_of};
use crate::workload::Workload;
use crate::zarrs_api::{Calls, Indexes};

/// Opens an array for the API that the settings name.
pub async fn open(
    workload: Arc<Workload>,
    client: Client,
    settings: Settings,
    keeps_indexes: bool,
) -> Outcome<Arc<dyn Engine>> {
    let asked = Asked::of(array::open(&workload, &client).await?, workload, settings)?;
    Ok(match settings.sync_threads {
        Some(threads) => Arc::new(blocking::Blocking::new(asked, threads.get(), keeps_indexes)?),
        None => Arc::new(Stock::new(asked, keeps_indexes)),
    })
}

/// What is read, and how, whichever API is called.
#[derive(Clone)]
struct Asked {
    array: Arc<OpenArray>,
    workload: Arc<Workload>,
    settings: Settings,
    element: usize,
    shard_shape: Vec<u64>,
}

#[derive(Clone)]
struct Stock {
    asked: Asked,
    calls: Calls,
    /// Calls for shards that are under way: the only way to bound their requests in flight.
    permits: Arc<Semaphore>,
    /// Indexes that stay from one read to the next, where that is asked for.
    kept: Option<Arc<Indexes>>,
}

/// A call for one chunk, and the shard indexes that need not be read for it any more, where it shares a cache.
struct Call<I> {
    piece: Piece,
    indexes: Option<Arc<I>>,
}

impl Asked {
    fn of(array: Arc<OpenArray>, workload: Arc<Workload>, settings: Settings) -> Outcome<Self> {
        let element = element_size(array.data_type())?;
        let origin = vec![0; array.dimensionality()];
        let shard_shape = array.chunk_shape(&origin).map_err(Failure::unsupported)?.iter().map(|n| n.get()).collect();
        Ok(Self { array, workload, settings, element, shard_shape })
    }

    fn options(&self) -> CodecOptions {
        let target = self.settings.concurrent_target.unwrap_or(self.workload.in_flight);
        let options = CodecOptions::default().with_concurrent_target(target);
        match self.settings.chunk_concurrent_minimum {
            Some(chunks) => options.with_chunk_concurrent_minimum(chunks),
            None => options,
        }
    }

    /// The calls for the chunks of a read, in C order of the grid.
    fn calls_of<I>(&self, read: &[Axis], kept: Option<&Arc<I>>, indexes: impl Fn() -> I) -> Vec<Call<I>> {
        let chunk_shape = &self.workload.array.chunk_shape;
        let per_shard: Vec<u64> =
            self.shard_shape.iter().zip(chunk_shape).map(|(shard, chunk)| shard / chunk).collect();
        let mut caches: BTreeMap<_, Arc<I>> = BTreeMap::new();
        let calls = pieces(read, chunk_shape).map(|piece| {
            let mut cache = |shares| Arc::clone(caches.entry(shares).or_insert_with(|| Arc::new(indexes())));
            let indexes = match (kept, self.settings.shard_cache) {
                (Some(kept), _) => Some(Arc::clone(kept)),
                (None, ShardCache::Read) => Some(cache(Vec::new())),
                (None, ShardCache::Shard) => Some(cache(piece.shard(&per_shard))),
                (None, ShardCache::None) => None,
            };
            Call { piece, indexes }
        });
        calls.collect()
    }

    /// Calls of zarrs that one execution takes.
    fn calls(&self) -> u64 {
        let of = |read: &Vec<Axis>| match (is_box(read), self.settings.task_per_shard) {
            (true, false) => 1,
            (true, true) => pieces(read, &self.shard_shape).len() as u64,
            (false, _) => pieces(read, &self.workload.array.chunk_shape).len() as u64,
        };
        self.workload.reads.iter().map(of).sum()
    }

    /// The cache by which a call is to ask for an inner chunk as such; none where it asks for a part of the array.
    fn whole_inner_chunk<'a, I>(&self, call: &'a Call<I>) -> Option<&'a I> {
        let array = &self.workload.array;
        let is_inner_chunk = array.is_sharded() && call.piece.is_whole(&array.chunk_shape);
        call.indexes.as_deref().filter(|_| is_inner_chunk)
    }
}

/// The box that one call yields.
fn subset_of(read: &[Axis]) -> Outcome<ArraySubset> {
    let start = read.iter().map(|axis| axis.start).collect();
    ArraySubset::new_with_start_shape(start, shape_of(read)).map_err(Failure::measurement)
}

/// What a piece of a box is in the array.
fn subset_of_piece(read: &[Axis], piece: &Piece) -> Outcome<ArraySubset> {
    let start = read.iter().zip(&piece.parts).map(|(axis, part)| axis.start + part.out).collect();
    ArraySubset::new_with_start_shape(start, piece.counts()).map_err(Failure::measurement)
}

/// What zarrs retrieved, as a read's bytes.
fn owned(retrieved: ArrayBytes<'_>) -> Outcome<Bytes> {
    Ok(retrieved.into_fixed().map_err(Failure::measurement)?.into_owned().into())
}

impl Stock {
    fn new(asked: Asked, keeps_indexes: bool) -> Self {
        let permits = Arc::new(Semaphore::new(asked.workload.in_flight));
        let calls = Calls::new(Arc::clone(&asked.array), asked.options());
        let kept = keeps_indexes.then(|| Arc::new(calls.indexes()));
        Self { asked, calls, permits, kept }
    }

    /// One call for all of it.
    async fn read_box(&self, read: &[Axis]) -> Outcome<Bytes> {
        owned(self.subset(self.kept.as_deref(), &subset_of(read)?).await?)
    }

    /// A task per shard, each retrieving its part of the box into the final array.
    async fn read_box_by_shard(&self, read: &[Axis]) -> Outcome<Bytes> {
        let output = Output::zeroed(shape_of(read), self.asked.element);
        let mut tasks = JoinSet::new();
        for piece in pieces(read, &self.asked.shard_shape) {
            let (this, output) = (self.clone(), Arc::clone(&output));
            let subset = subset_of_piece(read, &piece)?;
            tasks.spawn(async move {
                let _permit = this.permits.acquire().await.map_err(Failure::measurement)?;
                let mut view = output.view(&piece)?;
                this.calls.subset_into(&subset, &mut view).await.map_err(failed)?;
                output.wrote(&piece);
                Ok(())
            });
        }
        all(tasks).await?;
        output.finish()
    }

    /// A task per chunk, all under way at once, since zarrs' selections cannot stride.
    async fn read_chunks(&self, read: &[Axis]) -> Outcome<Bytes> {
        let output = Output::new(shape_of(read), self.asked.element);
        let calls = self.asked.calls_of(read, self.kept.as_ref(), || self.calls.indexes());
        let tasks = calls.into_iter().map(|call| {
            let (this, output) = (self.clone(), Arc::clone(&output));
            async move { this.read_chunk(&call, &output).await }
        });
        at_most(self.asked.workload.in_flight, tasks).await?;
        output.finish()
    }

    async fn read_chunk(&self, call: &Call<Indexes>, output: &Output) -> Outcome<()> {
        let (piece, chunk_shape) = (&call.piece, &self.asked.workload.array.chunk_shape);
        if let Some(indexes) = self.asked.whole_inner_chunk(call) {
            let decoded = self.calls.inner_chunk_by(indexes, &piece.chunk()).await.map_err(failed)?;
            return output.copy(piece, chunk_shape, &decoded.into_fixed().map_err(Failure::measurement)?);
        }
        let (subset, local) = boxed(piece, chunk_shape, |_, start| start)?;
        let decoded = self.subset(call.indexes.as_deref(), &subset).await?;
        output.copy(&local, subset.shape(), &decoded.into_fixed().map_err(Failure::measurement)?)
    }

    async fn subset(&self, indexes: Option<&Indexes>, subset: &ArraySubset) -> Outcome<ArrayBytes<'static>> {
        let retrieved = match indexes {
            Some(indexes) => self.calls.subset_by(indexes, subset).await,
            None => self.calls.subset(subset).await,
        };
        retrieved.map_err(failed)
    }
}

#[async_trait::async_trait]
impl Engine for Stock {
    fn workload(&self) -> &Workload {
        &self.asked.workload
    }

    async fn read_one(&self, number: usize, _variant: &str) -> Outcome<Arrays> {
        let this = self.clone();
        let reading = tokio::spawn(async move {
            let read = &this.asked.workload.reads[number];
            match (is_box(read), this.asked.settings.task_per_shard) {
                (true, false) => this.read_box(read).await,
                (true, true) => this.read_box_by_shard(read).await,
                (false, _) => this.read_chunks(read).await,
            }
        });
        Ok(vec![AbortOnDropHandle::new(reading).await??])
    }

    fn calls(&self) -> u64 {
        self.asked.calls()
    }

    fn hooks(&self) -> Hooks {
        Hooks::Codecs
    }
}
