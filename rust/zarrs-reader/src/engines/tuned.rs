//! The fastest that zarrs' public async API allows: a task per shard into the final array, a partial decoder per shard.
//!
//! Its adapter still asks for an object's size before each partial read.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zarrs::array::ArraySubset;
use zarrs_codec::CodecOptions;

use super::{Arrays, Engine, Hooks, all};
use crate::array::{self, OpenArray, boxed, element_size, failed, is_box};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::selection::{Axis, Piece, pieces, shape_of};
use crate::workload::Workload;

pub struct Tuned {
    workload: Arc<Workload>,
    array: Arc<OpenArray>,
    options: CodecOptions,
    /// Tasks under way: the only way to bound requests in flight from outside.
    permits: Arc<Semaphore>,
    element: usize,
    shard_shape: Vec<u64>,
}

impl Tuned {
    pub async fn open(workload: Arc<Workload>, client: Client) -> Outcome<Self> {
        let array = array::open(&workload, &client).await?;
        let element = element_size(array.data_type())?;
        let origin = vec![0; array.dimensionality()];
        let shard_shape = array.chunk_shape(&origin).map_err(Failure::unsupported)?.iter().map(|n| n.get()).collect();
        Ok(Self {
            options: CodecOptions::default().with_concurrent_target(workload.in_flight),
            permits: Arc::new(Semaphore::new(workload.in_flight)),
            workload,
            array,
            element,
            shard_shape,
        })
    }

    /// One task per shard, each retrieving its part of the selection into the final array.
    async fn read_subsets(&self, read: &[Axis], output: &Arc<Output<u8>>) -> Outcome<()> {
        let mut tasks = JoinSet::new();
        for piece in pieces(read, &self.shard_shape) {
            let (array, options) = (Arc::clone(&self.array), self.options);
            let (output, permits) = (Arc::clone(output), Arc::clone(&self.permits));
            let starts = read.iter().zip(&piece.parts).map(|(axis, part)| axis.start + part.out).collect();
            let subset = ArraySubset::new_with_start_shape(starts, piece.counts()).map_err(Failure::measurement)?;
            tasks.spawn(async move {
                let _permit = permits.acquire().await.map_err(Failure::measurement)?;
                let mut view = output.view(&piece)?;
                array
                    .async_retrieve_array_subset_into_opt(&subset, (&mut view).into(), &options)
                    .await
                    .map_err(failed)?;
                output.wrote(&piece);
                Ok(())
            });
        }
        all(tasks).await
    }

    /// One partial decoder per shard, then one task per chunk, since zarrs' selections cannot stride.
    async fn read_chunks(&self, read: &[Axis], output: &Arc<Output>) -> Outcome<()> {
        let chunk_shape = &self.workload.array.chunk_shape;
        let per_shard: Vec<u64> =
            self.shard_shape.iter().zip(chunk_shape).map(|(shard, chunk)| shard / chunk).collect();
        let mut by_shard: BTreeMap<Vec<u64>, Vec<Piece>> = BTreeMap::new();
        for piece in pieces(read, chunk_shape) {
            by_shard.entry(piece.shard(&per_shard)).or_default().push(piece);
        }
        let mut tasks = JoinSet::new();
        for (shard, wanted) in by_shard {
            let (array, options) = (Arc::clone(&self.array), self.options);
            let (output, permits) = (Arc::clone(output), Arc::clone(&self.permits));
            let (chunk_shape, shard_shape) = (chunk_shape.clone(), self.shard_shape.clone());
            tasks.spawn(async move {
                let decoder = {
                    let _permit = permits.acquire().await.map_err(Failure::measurement)?;
                    array.async_partial_decoder_opt(&shard, &options).await.map_err(failed)?
                };
                let mut chunks = JoinSet::new();
                for piece in wanted {
                    let (decoder, options) = (Arc::clone(&decoder), options);
                    let (output, permits) = (Arc::clone(&output), Arc::clone(&permits));
                    let (subset, local) = boxed(&piece, &chunk_shape, |axis, start| start % shard_shape[axis])?;
                    chunks.spawn(async move {
                        let _permit = permits.acquire().await.map_err(Failure::measurement)?;
                        let decoded = decoder.partial_decode(&subset, &options).await.map_err(Failure::measurement)?;
                        let bytes = decoded.into_fixed().map_err(Failure::measurement)?;
                        output.copy(&local, subset.shape(), &bytes)
                    });
                }
                all(chunks).await
            });
        }
        all(tasks).await
    }
}

#[async_trait::async_trait]
impl Engine for Tuned {
    fn workload(&self) -> &Workload {
        &self.workload
    }

    async fn read_one(&self, number: usize, _variant: &str) -> Outcome<Arrays> {
        let read = &self.workload.reads[number];
        if is_box(read) {
            let output = Output::zeroed(shape_of(read), self.element);
            self.read_subsets(read, &output).await?;
            return Ok(vec![output.finish()?]);
        }
        let output = Output::new(shape_of(read), self.element);
        self.read_chunks(read, &output).await?;
        Ok(vec![output.finish()?])
    }

    fn calls(&self) -> u64 {
        let of = |read: &Vec<Axis>| {
            let grid = if is_box(read) { &self.shard_shape } else { &self.workload.array.chunk_shape };
            pieces(read, grid).len() as u64
        };
        self.workload.reads.iter().map(of).sum()
    }

    fn hooks(&self) -> Hooks {
        Hooks::Codecs
    }
}
