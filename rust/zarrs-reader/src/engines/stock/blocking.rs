//! zarrs' synchronous API: a call spreads over threads, each of which waits for the bytes that it asked for.
//!
//! zarrs' stores for S3 are asynchronous, so one is behind zarrs' adapter, as in zarrs-python. A thread has one request
//! under way, so there are as many threads as there may be requests.

use std::sync::Arc;

use bytes::Bytes;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use zarrs::array::ArraySubset;
use zarrs_codec::ArrayBytes;

use super::{Asked, Call, owned, subset_of, subset_of_piece};
use crate::array::{blocking, boxed, failed, is_box};
use crate::engines::{Arrays, Engine, Hooks};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::selection::{Axis, Piece, pieces, shape_of};
use crate::workload::Workload;
use crate::zarrs_api::{BlockingCalls, BlockingIndexes};

#[derive(Clone)]
pub struct Blocking {
    asked: Asked,
    calls: Arc<BlockingCalls>,
    threads: Arc<ThreadPool>,
    /// Indexes that stay from one read to the next, where that is asked for.
    kept: Option<Arc<BlockingIndexes>>,
}

impl Blocking {
    pub fn new(asked: Asked, threads: usize, keeps_indexes: bool) -> Outcome<Self> {
        let calls = Arc::new(BlockingCalls::new(blocking(&asked.array), asked.options()));
        let kept = keeps_indexes.then(|| Arc::new(calls.indexes()));
        let threads = ThreadPoolBuilder::new().num_threads(threads).build().map_err(Failure::measurement)?;
        Ok(Self { asked, calls, threads: Arc::new(threads), kept })
    }

    fn read_box(&self, read: &[Axis]) -> Outcome<Bytes> {
        owned(self.subset(self.kept.as_deref(), &subset_of(read)?)?)
    }

    /// A call per shard, shared out among the threads.
    fn read_box_by_shard(&self, read: &[Axis]) -> Outcome<Bytes> {
        let output = Output::zeroed(shape_of(read), self.asked.element);
        let shards: Vec<Piece> = pieces(read, &self.asked.shard_shape).collect();
        let into_place = |piece: Piece| {
            let (subset, mut view) = (subset_of_piece(read, &piece)?, output.view(&piece)?);
            self.calls.subset_into(&subset, &mut view).map_err(failed)?;
            output.wrote(&piece);
            Outcome::Ok(())
        };
        shards.into_par_iter().with_max_len(1).try_for_each(into_place)?;
        output.finish()
    }

    /// A call per chunk, shared out among the threads, since zarrs' selections cannot stride.
    fn read_chunks(&self, read: &[Axis]) -> Outcome<Bytes> {
        let output = Output::new(shape_of(read), self.asked.element);
        let calls = self.asked.calls_of(read, self.kept.as_ref(), || self.calls.indexes());
        calls.into_par_iter().with_max_len(1).try_for_each(|call| self.read_chunk(&call, &output))?;
        output.finish()
    }

    fn read_chunk(&self, call: &Call<BlockingIndexes>, output: &Output) -> Outcome<()> {
        let (piece, chunk_shape) = (&call.piece, &self.asked.workload.array.chunk_shape);
        if let Some(indexes) = self.asked.whole_inner_chunk(call) {
            let decoded = self.calls.inner_chunk_by(indexes, &piece.chunk()).map_err(failed)?;
            return output.copy(piece, chunk_shape, &decoded.into_fixed().map_err(Failure::measurement)?);
        }
        let (subset, local) = boxed(piece, chunk_shape, |_, start| start)?;
        let decoded = self.subset(call.indexes.as_deref(), &subset)?;
        output.copy(&local, subset.shape(), &decoded.into_fixed().map_err(Failure::measurement)?)
    }

    fn subset(&self, indexes: Option<&BlockingIndexes>, subset: &ArraySubset) -> Outcome<ArrayBytes<'static>> {
        let retrieved = match indexes {
            Some(indexes) => self.calls.subset_by(indexes, subset),
            None => self.calls.subset(subset),
        };
        retrieved.map_err(failed)
    }
}

#[async_trait::async_trait]
impl Engine for Blocking {
    fn workload(&self) -> &Workload {
        &self.asked.workload
    }

    async fn read_one(&self, number: usize, _variant: &str) -> Outcome<Arrays> {
        let this = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let read = &this.asked.workload.reads[number];
            this.threads.install(|| match (is_box(read), this.asked.settings.task_per_shard) {
                (true, false) => this.read_box(read),
                (true, true) => this.read_box_by_shard(read),
                (false, _) => this.read_chunks(read),
            })
        });
        Ok(vec![reading.await??])
    }

    fn calls(&self) -> u64 {
        self.asked.calls()
    }

    fn hooks(&self) -> Hooks {
        Hooks::Codecs
    }
}
