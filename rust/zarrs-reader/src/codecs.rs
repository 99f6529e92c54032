//! Codecs of zarrs that tell the recorder of each decode: the only hook where zarrs itself reads and decodes.
//!
//! A codec learns neither which chunk it decodes nor where that was stored. What it decodes identifies the chunk: its
//! length and CRC32C, which the conductor looks up among the stored chunks (harness/timeline/linking.py).

use std::borrow::Cow;
use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::Arc;

use zarrs::array::{ChunkShape, DataType, FillValue};
use zarrs::metadata::Configuration;
use zarrs::metadata::v3::MetadataV3;
use zarrs::plugin::{ExtensionName, ZarrVersion};
use zarrs_codec::{
    ArrayBytes, ArrayBytesDecodeIntoTarget, ArrayBytesRaw, ArrayCodecTraits, ArrayPartialDecoderTraits,
    ArrayToBytesCodecTraits, AsyncArrayPartialDecoderTraits, AsyncBytesPartialDecoderTraits, BytesPartialDecoderTraits,
    BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError, CodecMetadataOptions, CodecOptions,
    CodecRuntimePluginV3, CodecRuntimeRegistryHandleV3, CodecTraits, PartialDecoderCapability,
    PartialEncoderCapability, RecommendedConcurrency, register_codec_v3, unregister_codec_v3,
};

use crate::recording::{Passed, Recorder};

/// Shards are containers: what is decoded in them is their chunks.
const SHARDING: &str = "sharding_indexed";

thread_local! {
    /// The plugin asks zarrs for the codec that it wraps, and must not be asked itself then.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, zarrs makes codecs that tell `recorder`.
pub struct Hooked(CodecRuntimeRegistryHandleV3);

impl Hooked {
    pub fn new(recorder: &Arc<Recorder>) -> Self {
        let recorder = Arc::clone(recorder);
        Self(register_codec_v3(CodecRuntimePluginV3::new(
            |name: &str| !INSIDE.get() && name != SHARDING,
            move |metadata: &MetadataV3| {
                INSIDE.set(true);
                let found = Codec::from_metadata(metadata);
                INSIDE.set(false);
                Ok(match found? {
                    Codec::BytesToBytes(inner) => {
                        Codec::BytesToBytes(Arc::new(Timed { inner, recorder: Arc::clone(&recorder) }))
                    }
                    Codec::ArrayToBytes(inner) => {
                        Codec::ArrayToBytes(Arc::new(Timed { inner, recorder: Arc::clone(&recorder) }))
                    }
                    other @ Codec::ArrayToArray(_) => other,
                })
            },
        )))
    }
}

impl Drop for Hooked {
    fn drop(&mut self) {
        unregister_codec_v3(&self.0);
    }
}

/// A codec of zarrs; everything but decoding is its own.
#[derive(Debug)]
struct Timed<C: ?Sized> {
    recorder: Arc<Recorder>,
    inner: Arc<C>,
}

type TimedBytes = Timed<dyn BytesToBytesCodecTraits>;
type TimedArray = Timed<dyn ArrayToBytesCodecTraits>;

macro_rules! is_what_it_wraps {
    ($wrapper:ty) => {
        impl ExtensionName for $wrapper {
            fn name(&self, version: ZarrVersion) -> Option<Cow<'static, str>> {
                self.inner.name(version)
            }
        }

        impl CodecTraits for $wrapper {
            fn as_any(&self) -> &dyn std::any::Any {
                self.inner.as_any()
            }

            fn configuration(&self, version: ZarrVersion, options: &CodecMetadataOptions) -> Option<Configuration> {
                self.inner.configuration(version, options)
            }

            fn partial_decoder_capability(&self) -> PartialDecoderCapability {
                self.inner.partial_decoder_capability()
            }

            fn partial_encoder_capability(&self) -> PartialEncoderCapability {
                self.inner.partial_encoder_capability()
            }
        }
    };
}

is_what_it_wraps!(TimedBytes);
is_what_it_wraps!(TimedArray);

/// Partial decoders are zarrs' default ones, which call `decode`.
#[async_trait::async_trait]
impl BytesToBytesCodecTraits for TimedBytes {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn BytesToBytesCodecTraits> {
        self
    }

    fn recommended_concurrency(&self, decoded: &BytesRepresentation) -> Result<RecommendedConcurrency, CodecError> {
        self.inner.recommended_concurrency(decoded)
    }

    fn encoded_representation(&self, decoded: &BytesRepresentation) -> BytesRepresentation {
        self.inner.encoded_representation(decoded)
    }

    fn encode<'a>(&self, decoded: ArrayBytesRaw<'a>, options: &CodecOptions) -> Result<ArrayBytesRaw<'a>, CodecError> {
        self.inner.encode(decoded, options)
    }

    fn decode<'a>(
        &self,
        encoded: ArrayBytesRaw<'a>,
        decoded: &BytesRepresentation,
        options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        let begun = self.recorder.decode_begins(&encoded);
        let output = self.inner.decode(encoded, decoded, options)?;
        self.recorder.decode_ends(begun, Passed::On(&output));
        Ok(output)
    }
}

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
        let begun = self.recorder.decode_begins(&encoded);
        let decoded = self.inner.decode(encoded, shape, data_type, fill, options)?;
        self.recorder.decode_ends(begun, Passed::ToZarrs);
        Ok(decoded)
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
        let begun = self.recorder.decode_begins(&encoded);
        self.inner.decode_into(encoded, shape, data_type, fill, target, options)?;
        self.recorder.decode_ends(begun, Passed::IntoPlace);
        Ok(())
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
