//! How an array is stored, as far as a plan has to know: what is decoded at once, and the index that says where it lies.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::ops::Range;

use object_store::GetRange;
use zarrs::array::codec::{ShardingCodecConfiguration, ShardingCodecConfigurationV1, ShardingIndexLocation};
use zarrs::array::{BytesRepresentation, FillValue, data_type};
use zarrs::metadata::ConfigurationSerialize;
use zarrs::metadata::v3::MetadataV3;
use zarrs_codec::CodecOptions;

use crate::array::{OpenArray, element_size, fill_bytes};
use crate::failure::{Failure, Outcome, one_line};
use crate::plan::Stored;
use crate::selection::Chunks;
use crate::shard_index::{ChunkBytes, MISSING, check_apart, span};
use crate::zarrs_api::{Codecs, is_exclusively_sharded};
use crate::zstd_frames;

/// Bytes of fill values that are copied at once.
const FILL_BYTES: usize = 64 << 10;

/// How the objects of an array are read.
pub struct Layout {
    pub unit: Unit,
    /// None where nothing smaller than an object can be decoded.
    pub index: Option<Index>,
    /// Elements of an object along each axis.
    pub object_shape: Vec<u64>,
}

/// The wanted chunks of an object, by their numbers among them.
#[derive(Debug)]
pub struct Plan {
    /// In the order in which they lie.
    pub stored: Vec<Stored<u32>>,
    pub missing: Vec<u32>,
}

/// What is decoded at once: an inner chunk of a shard, or a whole object where nothing smaller can be.
pub struct Unit {
    /// All of its codecs, or those that come after zstd.
    codecs: Codecs,
    /// What zstd decodes it to, before `codecs`; None where that is theirs, or not known.
    frame_bytes: Option<usize>,
    shape: Vec<NonZeroU64>,
    pub sizes: Vec<u64>,
    /// The fill value, as often as is copied at once.
    pub fill_bytes: Vec<u8>,
    pub element: usize,
    /// What it may take where it is stored.
    stored_bytes: ChunkBytes,
    /// What it takes at most where zarrs' own encoders wrote it; where they set no bound, what it takes decoded.
    expected_bytes: u64,
    options: CodecOptions,
}

/// How a shard's index is found and read.
pub struct Index {
    codecs: Codecs,
    shape: Vec<NonZeroU64>,
    bytes: u64,
    location: ShardingIndexLocation,
    per_shard: Vec<u64>,
}

impl Layout {
    /// Codecs around the sharding codec hide the inner chunks, so such an array is read object by object, like one without
    /// shards.
    ///
    /// # Errors
    /// `Unsupported` for what cannot be read chunk by chunk.
    pub fn of(array: &OpenArray) -> Outcome<Self> {
        let origin = vec![0; array.dimensionality()];
        let shape = array.chunk_shape(&origin).map_err(Failure::unsupported)?;
        let object_shape = shape.iter().map(|size| size.get()).collect();
        if !is_exclusively_sharded(array) {
            return Ok(Self { unit: Unit::of(array, Codecs::of(array), shape)?, index: None, object_shape });
        }
        let sharding = sharding(array)?;
        let index = Index::of(&sharding, &shape)?;
        Ok(Self { unit: Unit::inside(array, sharding)?, index: Some(index), object_shape })
    }

    /// Chunks of an object.
    pub fn chunks(&self) -> u64 {
        self.index.as_ref().map_or(1, Index::chunks)
    }

    /// What an object may be expected to take.
    pub fn object_bytes(&self) -> u64 {
        let index = self.index.as_ref().map_or(0, |index| index.bytes);
        self.chunks().saturating_mul(self.unit.expected_bytes).saturating_add(index)
    }

    /// What to fetch of an object, by its index, and what to fill.
    ///
    /// # Errors
    /// In words what cannot be.
    pub fn plan(
        &self,
        index: &Index,
        entries: &[[u64; 2]],
        object_bytes: u64,
        (chunks, wanted): (&Chunks, Vec<u32>),
    ) -> Result<Plan, String> {
        let mut plan = Plan { stored: Vec::with_capacity(wanted.len()), missing: Vec::new() };
        for (item, piece) in wanted.into_iter().map(|number| (number, chunks.piece(number as usize))) {
            let entry = entries.get(piece.position(&index.per_shard)).ok_or("it has too few entries")?;
            let found = span(*entry, object_bytes, self.unit.stored_bytes);
            match found.map_err(|why| format!("chunk {:?}: {why}", piece.chunk()))? {
                None => plan.missing.push(item),
                Some(span) => plan.stored.push(Stored { span, item }),
            }
        }
        plan.stored.sort_by_key(|chunk| (chunk.span.start, chunk.span.end));
        check_apart(plan.stored.iter().map(|chunk| &chunk.span), &index.span(object_bytes))?;
        Ok(plan)
    }
}

fn sharding(array: &OpenArray) -> Outcome<ShardingCodecConfigurationV1> {
    let configuration = array
        .codecs()
        .array_to_bytes_codec()
        .configuration_v3(&zarrs_codec::CodecMetadataOptions::default())
        .ok_or_else(|| Failure::unsupported("a sharding codec without a configuration"))?;
    match ShardingCodecConfiguration::try_from_configuration(configuration).map_err(Failure::unsupported)? {
        ShardingCodecConfiguration::V1(sharding) => Ok(sharding),
        _ => Err(Failure::unsupported("a sharding codec of an unknown version")),
    }
}

impl Index {
    fn of(sharding: &ShardingCodecConfigurationV1, shard: &[NonZeroU64]) -> Outcome<Self> {
        let per_shard: Vec<u64> =
            shard.iter().zip(&sharding.chunk_shape).map(|(shard, chunk)| shard.get() / chunk.get()).collect();
        let missing = FillValue::from(MISSING);
        let codecs = Codecs::from_metadata(&sharding.index_codecs, &data_type::uint64(), &missing)
            .map_err(Failure::unsupported)?;
        let shape: Vec<NonZeroU64> = per_shard.iter().copied().chain([2]).filter_map(NonZeroU64::new).collect();
        let size = codecs.encoded_representation(&shape).map_err(Failure::unsupported)?;
        let BytesRepresentation::FixedSize(bytes) = size else {
            return Err(Failure::unsupported("a shard index whose size varies"));
        };
        Ok(Self { codecs, shape, bytes, location: sharding.index_location, per_shard })
    }

    /// Chunks of a shard.
    pub fn chunks(&self) -> u64 {
        self.per_shard.iter().product()
    }

    /// What to ask a shard for.
    pub fn range(&self) -> GetRange {
        self.range_with(self.bytes)
    }

    /// A range of `bytes` that begins or ends with it.
    pub fn range_with(&self, bytes: u64) -> GetRange {
        match self.location {
            ShardingIndexLocation::Start => GetRange::Bounded(0..bytes),
            ShardingIndexLocation::End => GetRange::Suffix(bytes),
        }
    }

    /// Where it lies in a shard.
    fn span(&self, object_bytes: u64) -> Range<u64> {
        match self.location {
            ShardingIndexLocation::Start => 0..self.bytes,
            ShardingIndexLocation::End => object_bytes.saturating_sub(self.bytes)..object_bytes,
        }
    }

    /// The index in what came of a shard by `range_with`; all of it where it is shorter than an index.
    pub fn part_of<'a>(&self, shard: &'a [u8]) -> &'a [u8] {
        let bytes = self.bytes as usize;
        let part = match self.location {
            ShardingIndexLocation::Start => shard.get(..bytes),
            ShardingIndexLocation::End => shard.len().checked_sub(bytes).and_then(|at| shard.get(at..)),
        };
        part.unwrap_or(shard)
    }

    /// Offset and length of each chunk, from the stored index; its checksum is verified.
    pub fn entries(&self, stored: &[u8]) -> Result<Vec<[u64; 2]>, String> {
        let options = CodecOptions::default();
        let decoded = self
            .codecs
            .decode(stored.into(), &self.shape, &options)
            .and_then(|bytes| bytes.into_fixed().map_err(Into::into))
            .map_err(|error| one_line(&error))?;
        let word = |bytes: &[u8]| bytes.try_into().map_or(MISSING, u64::from_ne_bytes);
        Ok(decoded.chunks_exact(16).map(|entry| [word(&entry[..8]), word(&entry[8..])]).collect())
    }
}

impl Unit {
    fn of(array: &OpenArray, codecs: Codecs, shape: Vec<NonZeroU64>) -> Outcome<Self> {
        let element = element_size(array.data_type())?;
        let sizes: Vec<u64> = shape.iter().map(|size| size.get()).collect();
        let encoded = codecs.encoded_representation(&shape).ok();
        // A shard within a shard may hold more than its chunks, as any shard.
        let stored_bytes = encoded.as_ref().filter(|_| !codecs.are_sharding()).map_or(ChunkBytes::Any, ChunkBytes::of);
        let decoded_bytes = sizes.iter().product::<u64>() * element as u64;
        let expected_bytes = encoded.and_then(|bytes| bytes.size()).unwrap_or(decoded_bytes);
        Ok(Self {
            stored_bytes,
            expected_bytes,
            codecs,
            frame_bytes: None,
            sizes,
            shape,
            fill_bytes: fill_bytes(array.fill_value(), element)?.repeat((FILL_BYTES / element).max(1)),
            element,
            // All cores decode different chunks: a chunk itself is decoded by one.
            options: CodecOptions::default().with_concurrent_target(1),
        })
    }

    /// An inner chunk of a shard.
    fn inside(array: &OpenArray, sharding: ShardingCodecConfigurationV1) -> Outcome<Self> {
        let codecs = |metadata: &[MetadataV3]| {
            Codecs::from_metadata(metadata, array.data_type(), array.fill_value()).map_err(Failure::unsupported)
        };
        let unit = Self::of(array, codecs(&sharding.codecs)?, sharding.chunk_shape)?;
        let others = match sharding.codecs.split_last() {
            Some((last, others)) if last.name() == "zstd" => codecs(others)?,
            _ => return Ok(unit),
        };
        match others.encoded_representation(&unit.shape) {
            Ok(BytesRepresentation::FixedSize(bytes)) => {
                Ok(Self { codecs: others, frame_bytes: Some(bytes as usize), ..unit })
            }
            _ => Ok(unit),
        }
    }

    pub fn decoded_bytes(&self) -> usize {
        self.sizes.iter().product::<u64>() as usize * self.element
    }

    /// Decodes a chunk.
    ///
    /// zarrs could decode into a view of its place, but copies there run by run as we do, and finds the runs at a fifth
    /// of all CPU time where they are short.
    pub fn decode<'a>(&self, encoded: &'a [u8]) -> Outcome<Cow<'a, [u8]>> {
        let encoded = match self.frame_bytes {
            Some(bytes) => zstd_frames::decompress(encoded, bytes).map_err(Failure::measurement)?.into(),
            None => encoded.into(),
        };
        let decoded = self
            .codecs
            .decode(encoded, &self.shape, &self.options)
            .map_err(|error| Failure::measurement(one_line(&error)))?;
        decoded.into_fixed().map_err(Failure::measurement)
    }
}
