//! Codecs of zarrs that tell the recorder of each decode: the only hook where zarrs itself reads and decodes.
//!
//! A codec learns neither which chunk it decodes nor where that was stored. What it decodes identifies the chunk: its
//! length and CRC32C, which the conductor looks up among the stored chunks (harness/timeline/linking.py).

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::Arc;

use zarrs::metadata::Configuration;
use zarrs::metadata::v3::MetadataV3;
use zarrs::plugin::{ExtensionName, ZarrVersion};
use zarrs_codec::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError, CodecMetadataOptions, CodecOptions,
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

/// A codec of zarrs; everything but decoding is its own. Those that decode to arrays are in `zarrs_api`.
#[derive(Debug)]
pub struct Timed<C: ?Sized> {
    pub recorder: Arc<Recorder>,
    pub inner: Arc<C>,
}

impl<C: ?Sized> Timed<C> {
    /// Decodes, and tells the recorder when that began, when it ended well, and what became of the result.
    pub fn decoded<'a, T>(
        &self,
        encoded: ArrayBytesRaw<'a>,
        passed: impl FnOnce(&T) -> Passed<'_>,
        decode: impl FnOnce(&C, ArrayBytesRaw<'a>) -> Result<T, CodecError>,
    ) -> Result<T, CodecError> {
        let begun = self.recorder.decode_begins(&encoded);
        let result = decode(&self.inner, encoded)?;
        self.recorder.decode_ends(begun, passed(&result));
        Ok(result)
    }
}

type TimedBytes = Timed<dyn BytesToBytesCodecTraits>;

impl<C: ExtensionName + ?Sized> ExtensionName for Timed<C> {
    fn name(&self, version: ZarrVersion) -> Option<Cow<'static, str>> {
        self.inner.name(version)
    }
}

impl<C: CodecTraits + ?Sized> CodecTraits for Timed<C> {
    #[cfg(not(zarrs_0_24))]
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
        self.decoded(
            encoded,
            |output: &ArrayBytesRaw<'a>| Passed::On(output),
            |inner, encoded| inner.decode(encoded, decoded, options),
        )
    }
}
