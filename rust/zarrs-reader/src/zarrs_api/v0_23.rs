//! zarrs 0.23: options are arguments of each call, sharded arrays have traits of their own, and a codec is told with each
//! call what it decodes.

use std::num::NonZeroU64;
use std::sync::Arc;

use zarrs::array::codec::ShardingCodec;
use zarrs::array::{
    ArrayBytesFixedDisjointView, ArrayError, ArrayShardedExt, ArrayShardedReadableExt, ArrayShardedReadableExtCache,
    ArraySubset, AsyncArrayShardedReadableExt, AsyncArrayShardedReadableExtCache, ChunkShape, CodecChain, DataType,
    FillValue,
};
use zarrs::metadata::v3::MetadataV3;
use zarrs::plugin::PluginCreateError;
use zarrs_codec::{
    ArrayBytes, ArrayBytesDecodeIntoTarget, ArrayBytesRaw, ArrayCodecTraits, ArrayPartialDecoderTraits,
    ArrayToBytesCodecTraits, AsyncArrayPartialDecoderTraits, AsyncBytesPartialDecoderTraits, BytesPartialDecoderTraits,
    BytesRepresentation, CodecError, CodecOptions, RecommendedConcurrency,
};

use crate::array::{BlockingArray, OpenArray};
use crate::codecs::Timed;
use crate::recording::Passed;

/// What is decoded at once in a shard; None where there are no shards, or codecs around them leave no such shape.
pub fn inner_chunk_shape(array: &OpenArray) -> Option<ChunkShape> {
    array.effective_subchunk_shape()
}

/// Whether the sharding codec is the only one of an array, so that its objects are shards as they are stored.
pub fn is_exclusively_sharded(array: &OpenArray) -> bool {
    array.is_exclusively_sharded()
}

/// An array as zarrs' documentation tells to ask it, and with which options.
#[derive(Clone)]
pub struct Calls {
    array: Arc<OpenArray>,
    options: CodecOptions,
}

/// The indexes of shards that calls need not read any more.
pub struct Indexes(AsyncArrayShardedReadableExtCache);

impl Calls {
    pub fn new(array: Arc<OpenArray>, options: CodecOptions) -> Self {
        Self { array, options }
    }

    pub fn indexes(&self) -> Indexes {
        Indexes(AsyncArrayShardedReadableExtCache::new(&self.array))
    }

    pub async fn subset(&self, subset: &ArraySubset) -> Result<ArrayBytes<'static>, ArrayError> {
        self.array.async_retrieve_array_subset_opt(subset, &self.options).await
    }

    pub async fn subset_into<'a>(
        &self,
        subset: &ArraySubset,
        view: &'a mut ArrayBytesFixedDisjointView<'a>,
    ) -> Result<(), ArrayError> {
        self.array.async_retrieve_array_subset_into_opt(subset, view.into(), &self.options).await
    }

    /// A part of the array, by the indexes of its shards.
    pub async fn subset_by(&self, indexes: &Indexes, subset: &ArraySubset) -> Result<ArrayBytes<'static>, ArrayError> {
        self.array.async_retrieve_array_subset_sharded_opt(&indexes.0, subset, &self.options).await
    }

    /// An inner chunk of a sharded array, by the index of its shard.
    pub async fn inner_chunk_by(&self, indexes: &Indexes, chunk: &[u64]) -> Result<ArrayBytes<'static>, ArrayError> {
        self.array.async_retrieve_subchunk_opt(&indexes.0, chunk, &self.options).await
    }
}

/// An array as zarrs' synchronous API is asked.
pub struct BlockingCalls {
    array: BlockingArray,
    options: CodecOptions,
}

/// The same as `Indexes`, for `BlockingCalls`.
pub struct BlockingIndexes(ArrayShardedReadableExtCache);

impl BlockingCalls {
    pub fn new(array: BlockingArray, options: CodecOptions) -> Self {
        Self { array, options }
    }

    pub fn indexes(&self) -> BlockingIndexes {
        BlockingIndexes(ArrayShardedReadableExtCache::new(&self.array))
    }

    pub fn subset(&self, subset: &ArraySubset) -> Result<ArrayBytes<'static>, ArrayError> {
        self.array.retrieve_array_subset_opt(subset, &self.options)
    }

    pub fn subset_into<'a>(
        &self,
        subset: &ArraySubset,
        view: &'a mut ArrayBytesFixedDisjointView<'a>,
    ) -> Result<(), ArrayError> {
        self.array.retrieve_array_subset_into_opt(subset, view.into(), &self.options)
    }

    pub fn subset_by(
        &self,
        indexes: &BlockingIndexes,
        subset: &ArraySubset,
    ) -> Result<ArrayBytes<'static>, ArrayError> {
        self.array.retrieve_array_subset_sharded_opt(&indexes.0, subset, &self.options)
    }

    pub fn inner_chunk_by(&self, indexes: &BlockingIndexes, chunk: &[u64]) -> Result<ArrayBytes<'static>, ArrayError> {
        self.array.retrieve_subchunk_opt(&indexes.0, chunk, &self.options)
    }
}

/// A chain of codecs, and of what it decodes the type and the fill value.
pub struct Codecs {
    chain: Arc<CodecChain>,
    data_type: DataType,
    fill: FillValue,
}

impl Codecs {
    pub fn of(array: &OpenArray) -> Self {
        Self { chain: array.codecs(), data_type: array.data_type().clone(), fill: array.fill_value().clone() }
    }

    pub fn from_metadata(
        metadata: &[MetadataV3],
        data_type: &DataType,
        fill: &FillValue,
    ) -> Result<Self, PluginCreateError> {
        let chain = Arc::new(CodecChain::from_metadata(metadata)?);
        Ok(Self { chain, data_type: data_type.clone(), fill: fill.clone() })
    }

    /// Whether what they decode at once is a shard.
    pub fn are_sharding(&self) -> bool {
        self.chain.array_to_bytes_codec().as_any().is::<ShardingCodec>()
    }

    pub fn encoded_representation(&self, shape: &[NonZeroU64]) -> Result<BytesRepresentation, CodecError> {
        self.chain.encoded_representation(shape, &self.data_type, &self.fill)
    }

    pub fn decode<'a>(
        &self,
        encoded: ArrayBytesRaw<'a>,
        shape: &[NonZeroU64],
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.chain.decode(encoded, shape, &self.data_type, &self.fill, options)
    }
}

type TimedArray = Timed<dyn ArrayToBytesCodecTraits>;

impl ArrayCodecTraits for TimedArray {
    fn recommended_concurrency(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
    ) -> Result<RecommendedConcurrency, CodecError> {
        self.inner.recommended_concurrency(shape, data_type)
    }

    fn partial_decode_granularity(&self, shape: &[NonZeroU64]) -> ChunkShape {
        self.inner.partial_decode_granularity(shape)
    }
}

#[async_trait::async_trait]
impl ArrayToBytesCodecTraits for TimedArray {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn ArrayToBytesCodecTraits> {
        self
    }

    fn encoded_representation(
        &self,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill: &FillValue,
    ) -> Result<BytesRepresentation, CodecError> {
        self.inner.encoded_representation(shape, data_type, fill)
    }

    fn encode<'a>(
        &self,
        bytes: ArrayBytes<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill: &FillValue,
        options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        self.inner.encode(bytes, shape, data_type, fill, options)
    }

    fn decode<'a>(
        &self,
        encoded: ArrayBytesRaw<'a>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill: &FillValue,
        options: &CodecOptions,
    ) -> Result<ArrayBytes<'a>, CodecError> {
        self.decoded(
            encoded,
            |_| Passed::ToZarrs,
            |inner, encoded| inner.decode(encoded, shape, data_type, fill, options),
        )
    }

    fn decode_into(
        &self,
        encoded: ArrayBytesRaw<'_>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill: &FillValue,
        target: ArrayBytesDecodeIntoTarget<'_>,
        options: &CodecOptions,
    ) -> Result<(), CodecError> {
        self.decoded(
            encoded,
            |()| Passed::IntoPlace,
            |inner, encoded| inner.decode_into(encoded, shape, data_type, fill, target, options),
        )
    }

    fn partial_decoder(
        self: Arc<Self>,
        input: Arc<dyn BytesPartialDecoderTraits>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill: &FillValue,
        options: &CodecOptions,
    ) -> Result<Arc<dyn ArrayPartialDecoderTraits>, CodecError> {
        Arc::clone(&self.inner).partial_decoder(input, shape, data_type, fill, options)
    }

    async fn async_partial_decoder(
        self: Arc<Self>,
        input: Arc<dyn AsyncBytesPartialDecoderTraits>,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill: &FillValue,
        options: &CodecOptions,
    ) -> Result<Arc<dyn AsyncArrayPartialDecoderTraits>, CodecError> {
        Arc::clone(&self.inner).async_partial_decoder(input, shape, data_type, fill, options).await
    }
}
