//! zarrs as its documentation tells a user to write it: its public async API over its own object store adapter.
//!
//! The adapter asks for an object's size before each partial read, the cache of shard indexes reads one index after
//! another, and what one call retrieves is decoded on one task: all of it stays visible, since that is what users get.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use zarrs::array::{ArrayBytes, ArraySubset, AsyncArrayShardedReadableExt, AsyncArrayShardedReadableExtCache};
use zarrs_codec::CodecOptions;

use super::{Arrays, Engine, Hooks};
use crate::array::{self, OpenArray, boxed, element_size, failed, is_box};
use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::selection::{Axis, Piece, pieces, shape_of};
use crate::workload::Workload;

pub struct Stock {
    workload: Arc<Workload>,
    array: Arc<OpenArray>,
    options: CodecOptions,
    element: usize,
}

impl Stock {
    pub async fn open(workload: Arc<Workload>, client: Client) -> Outcome<Self> {
        let array = array::open(&workload, &client).await?;
        let element = element_size(array.data_type())?;
        let options = CodecOptions::default().with_concurrent_target(workload.in_flight);
        Ok(Self { workload, array, options, element })
    }

    /// One call for all of it.
    async fn read_box(&self, read: &[Axis]) -> Outcome<Bytes> {
        let start = read.iter().map(|axis| axis.start).collect();
        let subset = ArraySubset::new_with_start_shape(start, shape_of(read)).map_err(Failure::measurement)?;
        let bytes: ArrayBytes<'static> =
            self.array.async_retrieve_array_subset_opt(&subset, &self.options).await.map_err(failed)?;
        Ok(bytes.into_fixed().map_err(Failure::measurement)?.into_owned().into())
    }

    /// One call per chunk, all under way at once, since zarrs' selections cannot stride.
    async fn read_chunks(&self, read: &[Axis]) -> Outcome<Bytes> {
        let output = Output::new(shape_of(read), self.element);
        let cache = AsyncArrayShardedReadableExtCache::new(&self.array);
        let wanted = pieces(read, &self.workload.array.chunk_shape);
        let chunks = stream::iter(0..wanted.len()).map(|number| self.read_chunk(&cache, &wanted[number], &output));
        chunks.buffer_unordered(self.workload.in_flight).try_collect::<()>().await?;
        output.finish()
    }

    async fn read_chunk(
        &self,
        cache: &AsyncArrayShardedReadableExtCache,
        piece: &Piece,
        output: &Output,
    ) -> Outcome<()> {
        let chunk_shape = &self.workload.array.chunk_shape;
        if piece.is_whole(chunk_shape) {
            let decoded: ArrayBytes<'static> =
                self.array.async_retrieve_subchunk_opt(cache, &piece.chunk(), &self.options).await.map_err(failed)?;
            return output.copy(piece, chunk_shape, &decoded.into_fixed().map_err(Failure::measurement)?);
        }
        let (subset, local) = boxed(piece, chunk_shape, |_, start| start)?;
        let decoded: ArrayBytes<'static> =
            self.array.async_retrieve_array_subset_sharded_opt(cache, &subset, &self.options).await.map_err(failed)?;
        output.copy(&local, subset.shape(), &decoded.into_fixed().map_err(Failure::measurement)?)
    }
}

#[async_trait::async_trait]
impl Engine for Stock {
    fn workload(&self) -> &Workload {
        &self.workload
    }

    async fn read_one(&self, number: usize, _variant: &str) -> Outcome<Arrays> {
        let read = &self.workload.reads[number];
        let array = if is_box(read) { self.read_box(read).await } else { self.read_chunks(read).await };
        Ok(vec![array?])
    }

    fn calls(&self) -> u64 {
        let of = |read: &Vec<Axis>| match is_box(read) {
            true => 1,
            false => pieces(read, &self.workload.array.chunk_shape).len() as u64,
        };
        self.workload.reads.iter().map(of).sum()
    }

    fn hooks(&self) -> Hooks {
        Hooks::Codecs
    }
}
