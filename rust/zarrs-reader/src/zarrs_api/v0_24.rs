//! zarrs 0.24, its main branch: an array keeps its options, caches wrap any array, and codecs are bound to what they
//! decode before they are used.

use std::any::Any;
use std::num::NonZeroU64;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use zarrs::array::chunk_cache::{AsyncChunkCachePartialDecoderLruChunkLimit, ChunkCachePartialDecoderLruChunkLimit};
use zarrs::array::codec::ShardingCodecBound;
use zarrs::array::{
    Array, ArrayBytesFixedDisjointView, ArrayCached, ArrayError, ArraySubset, ChunkGridCreateError, ChunkGridDecoded,
    ChunkGridDecodedRef, ChunkShape, CodecChain, CodecChainBound, DataType, FillValue,
};
use zarrs::metadata::v3::MetadataV3;
use zarrs_codec::{
    ArrayBytes, ArrayBytesDecodeIntoTarget, ArrayBytesRaw, ArrayCodecTraits, ArrayPartialDecoderTraits,
    ArrayToBytesCodecSubchunkingTraits, ArrayToBytesCodecTraits, AsyncArrayPartialDecoderTraits,
    AsyncBytesPartialDecoderTraits, BytesPartialDecoderTraits, BytesRepresentation, CodecCreateError, CodecError,
    CodecOptions, RecommendedConcurrency, UnboundArrayToBytesCodecTraits,
};

use crate::array::{BlockingArray, BlockingStore, OpenArray, Store};
use crate::codecs::Timed;
use crate::recording::Passed;

/// What is decoded at once in a shard; None where there are no shards, or codecs around them leave no such shape.
pub fn inner_chunk_shape(array: &OpenArray) -> Option<ChunkShape> {
    array.subchunk_shape()
}

/// Whether the sharding codec is the only one of an array, so that its objects are shards as they are stored.
pub fn is_exclusively_sharded(array: &OpenArray) -> bool {
    let codecs = array.codecs_bound();
    is_sharded(array) && codecs.array_to_array_codecs().is_empty() && codecs.bytes_to_bytes_codecs().is_empty()
}

fn is_sharded<S: ?Sized>(array: &Array<S>) -> bool {
    Codecs(array.codecs_bound()).are_sharding()
}

/// An array as zarrs' documentation tells to ask it, with its options.
#[derive(Clone)]
pub struct Calls(Arc<OpenArray>);

/// The indexes of shards that calls need not read any more; None without shards.
pub struct Indexes(Option<ArrayCached<Store, AsyncChunkCachePartialDecoderLruChunkLimit>>);

/// What a cached array retrieves: boxed, since the compiler cannot tell of the bare future that threads may share it.
type Retrieved<'a> = BoxFuture<'a, Result<ArrayBytes<'static>, ArrayError>>;

impl Calls {
    pub fn new(array: Arc<OpenArray>, options: CodecOptions) -> Self {
        Self(Arc::new(array.with_codec_options(options)))
    }

    pub fn indexes(&self) -> Indexes {
        let shards = self.0.chunk_grid_shape().iter().product();
        let cached = || ArrayCached::new(Arc::clone(&self.0), AsyncChunkCachePartialDecoderLruChunkLimit::new(shards));
        Indexes(is_sharded(&self.0).then(cached))
    }

    pub async fn subset(&self, subset: &ArraySubset) -> Result<ArrayBytes<'static>, ArrayError> {
        self.0.async_retrieve_array_subset(subset).await
    }

    pub async fn subset_into<'a>(
        &self,
        subset: &ArraySubset,
        view: &'a mut ArrayBytesFixedDisjointView<'a>,
    ) -> Result<(), ArrayError> {
        self.0.async_retrieve_array_subset_into(subset, view.into()).await
    }

    /// A part of the array, by the indexes of its shards.
    pub fn subset_by<'a>(&'a self, indexes: &'a Indexes, subset: &'a ArraySubset) -> Retrieved<'a> {
        match &indexes.0 {
            Some(cached) => cached.async_retrieve_array_subset(subset).boxed(),
            None => self.0.async_retrieve_array_subset(subset).boxed(),
        }
    }

    /// An inner chunk of a sharded array, by the index of its shard.
    pub fn inner_chunk_by<'a>(&'a self, indexes: &'a Indexes, chunk: &'a [u64]) -> Retrieved<'a> {
        match &indexes.0 {
            Some(cached) => cached.async_retrieve_subchunk(chunk).boxed(),
            None => self.0.async_retrieve_chunk(chunk).boxed(),
        }
    }
}

/// An array as zarrs' synchronous API is asked.
pub struct BlockingCalls(Arc<BlockingArray>);

/// The same as `Indexes`, for `BlockingCalls`.
pub struct BlockingIndexes(Option<ArrayCached<BlockingStore, ChunkCachePartialDecoderLruChunkLimit>>);

impl BlockingCalls {
    pub fn new(array: BlockingArray, options: CodecOptions) -> Self {
        Self(Arc::new(array.with_codec_options(options)))
    }

    pub fn indexes(&self) -> BlockingIndexes {
        let shards = self.0.chunk_grid_shape().iter().product();
        let cached = || ArrayCached::new(Arc::clone(&self.0), ChunkCachePartialDecoderLruChunkLimit::new(shards));
        BlockingIndexes(is_sharded(&self.0).then(cached))
    }

    pub fn subset(&self, subset: &ArraySubset) -> Result<ArrayBytes<'static>, ArrayError> {
        self.0.retrieve_array_subset(subset)
    }

    pub fn subset_into<'a>(
        &self,
        subset: &ArraySubset,
        view: &'a mut ArrayBytesFixedDisjointView<'a>,
    ) -> Result<(), ArrayError> {
        self.0.retrieve_array_subset_into(subset, view.into())
    }

    pub fn subset_by(
        &self,
        indexes: &BlockingIndexes,
        subset: &ArraySubset,
    ) -> Result<ArrayBytes<'static>, ArrayError> {
        match &indexes.0 {
            Some(cached) => cached.retrieve_array_subset(subset),
            None => self.subset(subset),
        }
    }

    pub fn inner_chunk_by(&self, indexes: &BlockingIndexes, chunk: &[u64]) -> Result<ArrayBytes<'static>, ArrayError> {
        match &indexes.0 {
            Some(cached) => cached.retrieve_subchunk(chunk),
            None => self.0.retrieve_chunk(chunk),
        }
    }
}

/// A chain of codecs, and of what it decodes the type and the fill value.
pub struct Codecs(Arc<CodecChainBound>);

impl Codecs {
    pub fn of(array: &OpenArray) -> Self {
        Self(array.codecs_bound())
    }

    pub fn from_metadata(
        metadata: &[MetadataV3],
        data_type: &DataType,
        fill: &FillValue,
    ) -> Result<Self, CodecCreateError> {
        Ok(Self(CodecChain::from_metadata(metadata)?.with_context(data_type.clone(), fill.clone())?))
    }

    /// Whether what they decode at once is a shard.
    pub fn are_sharding(&self) -> bool {
        self.0.array_to_bytes_codec().as_any().is::<ShardingCodecBound>()
    }

    pub fn encoded_representation(&self, shape: &[NonZeroU64]) -> Result<BytesRepresentation, CodecError> {
        self.0.encoded_representation(shape)
    }

    pub fn decode<'a>(
        &self,
        encoded: ArrayBytesRaw<'a>,
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.0.decode(encoded, shape, options)
    }
}

impl UnboundArrayToBytesCodecTraits for Timed<dyn UnboundArrayToBytesCodecTraits> {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn UnboundArrayToBytesCodecTraits> {
        self
    }

    fn with_context(
        &self,
        data_type: DataType,
        fill: FillValue,
    ) -> Result<Arc<dyn ArrayToBytesCodecTraits>, CodecCreateError> {
        let inner = self.inner.with_context(data_type, fill)?;
        Ok(Arc::new(Timed { recorder: Arc::clone(&self.recorder), inner }))
    }
}

type TimedArray = Timed<dyn ArrayToBytesCodecTraits>;

impl ArrayCodecTraits for TimedArray {
    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }

    fn data_type(&self) -> &DataType {
        self.inner.data_type()
    }

    fn fill_value(&self) -> &FillValue {
        self.inner.fill_value()
    }

    fn recommended_concurrency(&self, shape: &[NonZeroU64]) -> Result<RecommendedConcurrency, CodecError> {
        self.inner.recommended_concurrency(shape)
    }
}

impl ArrayToBytesCodecSubchunkingTraits for TimedArray {
    fn decoded_subchunk_grids(
        &self,
        chunk_grid: ChunkGridDecodedRef<'_>,
    ) -> Result<Vec<ChunkGridDecoded>, ChunkGridCreateError> {
        self.inner.decoded_subchunk_grids(chunk_grid)
    }
}

#[async_trait::async_trait]
impl ArrayToBytesCodecTraits for TimedArray {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToBytesCodecTraits> {
        self
    }

    fn encoded_representation(&self, shape: &[NonZeroU64]) -> Result<BytesRepresentation, CodecError> {
        self.inner.encoded_representation(shape)
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        self.inner.encode(bytes, shape, options)
    }

    fn decode<'a>(
        &self,
        encoded: ArrayBytesRaw<'a>,
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.decoded(encoded, |_| Passed::ToZarrs, |inner, encoded| inner.decode(encoded, shape, options))
    }

    fn decode_into(
        &self,
        encoded: ArrayBytesRaw<'_>,
        shape: &[NonZeroU64],
        target: ArrayBytesDecodeIntoTarget<'_>,
        options: &CodecOptions,
    ) -> Result<(), CodecError> {
        self.decoded(
            encoded,
            |()| Passed::IntoPlace,
            |inner, encoded| inner.decode_into(encoded, shape, target, options),
        )
    }

    fn partial_decoder(
        self: Arc<Self>,
        input: Arc<dyn BytesPartialDecoderTraits>,
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<Arc<dyn ArrayPartialDecoderTraits>, CodecError> {
        Arc::clone(&self.inner).partial_decoder(input, shape, options)
    }

    async fn async_partial_decoder(
        self: Arc<Self>,
        input: Arc<dyn AsyncBytesPartialDecoderTraits>,
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<Arc<dyn AsyncArrayPartialDecoderTraits>, CodecError> {
        Arc::clone(&self.inner).async_partial_decoder(input, shape, options).await
    }
}
