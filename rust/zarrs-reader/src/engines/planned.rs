//! zarrs' codecs under our own I/O plan: one index GET per shard, ranges grouped, requests bounded, and each chunk
//! decoded and put into its place on all cores as soon as its bytes are there.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures::TryStreamExt;
use futures::future::try_join_all;
use object_store::path::Path;
use object_store::{GetRange, GetResult};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use zarrs::array::codec::{ShardingCodec, ShardingCodecConfiguration, ShardingIndexLocation};
use zarrs::array::{ArrayShardedExt, BytesRepresentation, CodecChain, DataType, FillValue, data_type};
use zarrs::metadata::ConfigurationSerialize;
use zarrs_codec::{ArrayToBytesCodecTraits, CodecOptions};

use super::{Arrays, Engine, Hooks, all};
use crate::array::{self, OpenArray, element_size, fill_bytes};
use crate::client::{Client, body_of, longer};
use crate::clocks::now_ns;
use crate::failure::{Failure, Outcome, one_line, panicked};
use crate::output::Output;
use crate::plan::{Group, Grouping, Limits, Stored, group, parts};
use crate::recording::Place;
use crate::selection::{Piece, pieces, shape_of};
use crate::shard_index::{ChunkBytes, MISSING, span};
use crate::workload::Workload;

/// Decoded bytes that one thread takes at once.
const BATCH_BYTES: usize = 256 << 10;

pub struct Planned {
    inner: Arc<Inner>,
}

struct Inner {
    workload: Arc<Workload>,
    client: Client,
    array: Arc<OpenArray>,
    limits: Limits,
    permits: Semaphore,
    unit: Unit,
    index: Option<Index>,
    /// The indexes of shards by their coordinates, where they are kept from one read to the next.
    kept: Option<Mutex<HashMap<Vec<u64>, ShardIndex>>>,
}

/// What is known of a shard.
#[derive(Clone)]
struct ShardIndex {
    entries: Arc<Vec<[u64; 2]>>,
    object_bytes: u64,
    /// The whole shard, where it was fetched with its index.
    body: Option<Bytes>,
}

/// What is decoded at once: an inner chunk of a shard, or a whole object where nothing smaller can be.
struct Unit {
    codecs: Arc<CodecChain>,
    shape: Vec<NonZeroU64>,
    sizes: Vec<u64>,
    data_type: DataType,
    fill: FillValue,
    fill_bytes: Vec<u8>,
    element: usize,
    /// What it may take where it is stored.
    stored_bytes: ChunkBytes,
    options: CodecOptions,
}

/// How a shard's index is found and read.
struct Index {
    codecs: CodecChain,
    shape: Vec<NonZeroU64>,
    bytes: u64,
    location: ShardingIndexLocation,
    per_shard: Vec<u64>,
}

impl Index {
    /// Chunks of a shard.
    fn chunks(&self) -> u64 {
        self.per_shard.iter().product()
    }

    /// What to ask a shard for.
    fn range(&self) -> GetRange {
        match self.location {
            ShardingIndexLocation::Start => GetRange::Bounded(0..self.bytes),
            ShardingIndexLocation::End => GetRange::Suffix(self.bytes),
        }
    }

    /// The index in a whole shard; all of it where it is shorter than an index.
    fn part_of<'a>(&self, shard: &'a [u8]) -> &'a [u8] {
        let bytes = self.bytes as usize;
        let part = match self.location {
            ShardingIndexLocation::Start => shard.get(..bytes),
            ShardingIndexLocation::End => shard.len().checked_sub(bytes).and_then(|at| shard.get(at..)),
        };
        part.unwrap_or(shard)
    }

    /// Offset and length of each chunk, from the stored index; its checksum is verified.
    fn entries(&self, stored: &[u8]) -> Result<Vec<[u64; 2]>, String> {
        let options = CodecOptions::default();
        let decoded = self
            .codecs
            .decode(Cow::Borrowed(stored), &self.shape, &data_type::uint64(), &FillValue::from(MISSING), &options)
            .and_then(|bytes| bytes.into_fixed().map_err(Into::into))
            .map_err(|error| one_line(&error))?;
        let word = |bytes: &[u8]| bytes.try_into().map_or(MISSING, u64::from_ne_bytes);
        Ok(decoded.chunks_exact(16).map(|entry| [word(&entry[..8]), word(&entry[8..])]).collect())
    }
}

impl Planned {
    pub async fn open(workload: Arc<Workload>, client: Client, limits: Limits) -> Outcome<Self> {
        let array = array::open(&workload, &client).await?;
        let (unit, index) = layout(&array)?;
        let permits = Semaphore::new(workload.in_flight);
        let kept = limits.keeps_indexes.then(Mutex::default);
        Ok(Self { inner: Arc::new(Inner { workload, client, array, limits, permits, unit, index, kept }) })
    }
}

/// What to decode, and the index that says where it lies.
///
/// Codecs around the sharding codec hide the inner chunks, so such an array is read object by object, like one
/// without shards.
fn layout(array: &OpenArray) -> Outcome<(Unit, Option<Index>)> {
    let origin = vec![0; array.dimensionality()];
    let object_shape = array.chunk_shape(&origin).map_err(Failure::unsupported)?;
    if !array.is_exclusively_sharded() {
        return Ok((unit(array, array.codecs(), object_shape.clone())?, None));
    }
    let configuration = array
        .codecs()
        .array_to_bytes_codec()
        .configuration_v3(&zarrs_codec::CodecMetadataOptions::default())
        .ok_or_else(|| Failure::unsupported("a sharding codec without a configuration"))?;
    let ShardingCodecConfiguration::V1(sharding) =
        ShardingCodecConfiguration::try_from_configuration(configuration).map_err(Failure::unsupported)?
    else {
        return Err(Failure::unsupported("a sharding codec of an unknown version"));
    };
    let inner = Arc::new(CodecChain::from_metadata(&sharding.codecs).map_err(Failure::unsupported)?);
    let per_shard: Vec<u64> =
        object_shape.iter().zip(&sharding.chunk_shape).map(|(shard, chunk)| shard.get() / chunk.get()).collect();
    let codecs = CodecChain::from_metadata(&sharding.index_codecs).map_err(Failure::unsupported)?;
    let shape: Vec<NonZeroU64> = per_shard.iter().copied().chain([2]).filter_map(NonZeroU64::new).collect();
    let size = codecs
        .encoded_representation(&shape, &data_type::uint64(), &FillValue::from(MISSING))
        .map_err(Failure::unsupported)?;
    let BytesRepresentation::FixedSize(bytes) = size else {
        return Err(Failure::unsupported("a shard index whose size varies"));
    };
    let index = Index { codecs, shape, bytes, location: sharding.index_location, per_shard };
    Ok((unit(array, inner, sharding.chunk_shape.clone())?, Some(index)))
}

fn unit(array: &OpenArray, codecs: Arc<CodecChain>, shape: Vec<NonZeroU64>) -> Outcome<Unit> {
    let element = element_size(array.data_type())?;
    let encoded = codecs.encoded_representation(&shape, array.data_type(), array.fill_value());
    // A shard within a shard may hold more than its chunks, as any shard.
    let is_bounded = !codecs.array_to_bytes_codec().as_any().is::<ShardingCodec>();
    let stored_bytes = encoded.ok().filter(|_| is_bounded).map_or(ChunkBytes::Any, |bytes| ChunkBytes::of(&bytes));
    Ok(Unit {
        stored_bytes,
        codecs,
        sizes: shape.iter().map(|size| size.get()).collect(),
        shape,
        data_type: array.data_type().clone(),
        fill: array.fill_value().clone(),
        fill_bytes: fill_bytes(array.fill_value(), element)?,
        element,
        // All cores decode different chunks: a chunk itself is decoded by one.
        options: CodecOptions::default().with_concurrent_target(1),
    })
}

impl Unit {
    fn decoded_bytes(&self) -> usize {
        self.sizes.iter().product::<u64>() as usize * self.element
    }

    /// Decodes a chunk and puts it into its place; returns when it was decoded, by the monotonic clock.
    ///
    /// zarrs could decode into a view of that place, but copies there run by run as we do, and finds the runs at a
    /// fifth of all CPU time where they are short.
    fn decode(&self, encoded: &Bytes, piece: &Piece, output: &Output) -> Outcome<u64> {
        let decoded = self
            .codecs
            .decode(Cow::Borrowed(encoded.as_ref()), &self.shape, &self.data_type, &self.fill, &self.options)
            .map_err(|error| Failure::measurement(one_line(&error)))?;
        let decoded_ns = now_ns();
        output.copy(piece, &self.sizes, &decoded.into_fixed().map_err(Failure::measurement)?)?;
        Ok(decoded_ns)
    }
}

impl Inner {
    fn decode(&self, chunk: &Encoded, key: &Arc<str>, output: &Output) -> Outcome<()> {
        let begin_ns = now_ns();
        let decoded = self.unit.decode(&chunk.bytes, &chunk.piece, output);
        let decoded_ns = decoded.map_err(|error| {
            Failure::measurement(format!("chunk {:?} in {key} cannot be decoded: {error}", chunk.piece.chunk()))
        })?;
        if self.client.recorder.is_on() {
            let place = Place { key: Arc::clone(key), offset: chunk.offset, length: chunk.bytes.len() as u64 };
            self.client.recorder.copied(chunk.piece.chunk(), place, begin_ns, decoded_ns);
        }
        Ok(())
    }

    async fn read_one(self: &Arc<Self>, number: usize) -> Outcome<Bytes> {
        let read = &self.workload.reads[number];
        let output = Output::new(shape_of(read), self.unit.element);
        let mut by_object: BTreeMap<Vec<u64>, Vec<Piece>> = BTreeMap::new();
        let wanted = pieces(read, &self.unit.sizes);
        let (chunks, permits) = (wanted.len() as u64, self.workload.in_flight / self.workload.concurrent_reads);
        let grouping = self.limits.grouping(chunks, chunks * self.unit.decoded_bytes() as u64, permits);
        for piece in wanted {
            by_object.entry(self.object_of(&piece)).or_default().push(piece);
        }
        let whole = self.index.as_ref().is_some_and(|index| {
            let shard_bytes = index.chunks() * self.unit.decoded_bytes() as u64;
            self.limits.takes_whole_shards(by_object.len(), shard_bytes, permits)
        });
        let mut objects = JoinSet::new();
        for (object, wanted) in by_object {
            let (me, output) = (Arc::clone(self), Arc::clone(&output));
            objects.spawn(async move { me.read_object(&object, wanted, grouping, whole, &output).await });
        }
        all(objects).await?;
        output.finish()
    }

    fn object_of(&self, piece: &Piece) -> Vec<u64> {
        match &self.index {
            Some(index) => piece.shard(&index.per_shard),
            None => piece.chunk(),
        }
    }

    async fn read_object(
        self: &Arc<Self>,
        object: &[u64],
        wanted: Vec<Piece>,
        grouping: Grouping,
        whole: bool,
        output: &Arc<Output>,
    ) -> Outcome<()> {
        let path = self.client.path(self.array.chunk_key(object).as_str());
        let Some(index) = &self.index else {
            let Some((body, _)) = self.get(&path, None).await? else {
                self.fill(&wanted, output);
                return Ok(());
            };
            let mut decoding = Decoding::new(self, &path, output);
            wanted.into_iter().for_each(|piece| decoding.add(piece, 0, body.clone()));
            return decoding.finish().await;
        };
        let whole = whole && wanted.len() as u64 == index.chunks();
        let Some(known) = self.shard_index(index, object, &path, whole).await? else {
            self.fill(&wanted, output);
            return Ok(());
        };
        let stored = self
            .stored(index, &known.entries, known.object_bytes, wanted, output)
            .map_err(|why| Failure::measurement(format!("the index of {path}: {why}")))?;
        if let Some(body) = known.body {
            return self.decode_shard(&path, &body, stored, output).await;
        }
        let mut groups = JoinSet::new();
        for one in group(stored, grouping) {
            let (me, path, output) = (Arc::clone(self), path.clone(), Arc::clone(output));
            groups.spawn(async move { me.read_group(&path, one, &output).await });
        }
        all(groups).await
    }

    /// The index of a shard, with the whole of it where that is asked for; None where the shard is not stored.
    async fn shard_index(&self, index: &Index, shard: &[u64], path: &Path, whole: bool) -> Outcome<Option<ShardIndex>> {
        if let Some(known) = self.kept.as_ref().filter(|_| !whole).and_then(|kept| kept.lock().get(shard).cloned()) {
            return Ok(Some(known));
        }
        let range = if whole { None } else { Some(index.range()) };
        let Some((body, object_bytes)) = self.get(path, range).await? else {
            return Ok(None);
        };
        let entries = index
            .entries(if whole { index.part_of(&body) } else { &body })
            .map_err(|why| Failure::measurement(format!("the index of {path}: {why}")))?;
        let known = ShardIndex { entries: Arc::new(entries), object_bytes, body: whole.then_some(body) };
        if let Some(kept) = self.kept.as_ref().filter(|_| !whole) {
            kept.lock().insert(shard.to_vec(), known.clone());
        }
        Ok(Some(known))
    }

    /// The chunks that are stored in an object of `object_bytes`; the others get the fill value.
    fn stored(
        &self,
        index: &Index,
        entries: &[[u64; 2]],
        object_bytes: u64,
        wanted: Vec<Piece>,
        output: &Output,
    ) -> Result<Vec<Stored<Piece>>, String> {
        let mut stored = Vec::with_capacity(wanted.len());
        for piece in wanted {
            let entry = entries.get(piece.position(&index.per_shard)).ok_or("it has too few entries")?;
            let found = span(*entry, object_bytes, self.unit.stored_bytes);
            match found.map_err(|why| format!("chunk {:?}: {why}", piece.chunk()))? {
                None => output.fill(&piece, &self.unit.sizes, &self.unit.fill_bytes),
                Some(span) => stored.push(Stored { span, item: piece }),
            }
        }
        Ok(stored)
    }

    /// Decodes the chunks of a shard that is all there.
    async fn decode_shard(
        self: &Arc<Self>,
        path: &Path,
        body: &Bytes,
        stored: Vec<Stored<Piece>>,
        output: &Arc<Output>,
    ) -> Outcome<()> {
        let mut decoding = Decoding::new(self, path, output);
        for chunk in stored {
            if chunk.span.end > body.len() as u64 {
                return Err(Failure::measurement(format!("{path} is shorter than its index says")));
            }
            let at = chunk.span.start as usize..chunk.span.end as usize;
            decoding.add(chunk.item, chunk.span.start, body.slice(at));
        }
        decoding.finish().await
    }

    /// Fetches one group's range and decodes its chunks, each as soon as its bytes are there.
    async fn read_group(self: &Arc<Self>, path: &Path, one: Group<Piece>, output: &Arc<Output>) -> Outcome<()> {
        let mut decoding = Decoding::new(self, path, output);
        if parts(&one.span, self.limits.part_bytes).len() == 1 && one.is_disjoint() {
            self.stream_group(path, one, &mut decoding).await?;
        } else {
            let body = self.range(path, &one.span).await?;
            let origin = one.span.start;
            for chunk in one.chunks {
                let at = (chunk.span.start - origin) as usize..(chunk.span.end - origin) as usize;
                decoding.add(chunk.item, chunk.span.start, body.slice(at));
            }
        }
        decoding.finish().await
    }

    /// Fetches a range with one request and hands chunks over while the rest is still on its way.
    ///
    /// Connections share the link, so all of a shard tends to be complete late: decoding must not wait for that.
    async fn stream_group(&self, path: &Path, one: Group<Piece>, decoding: &mut Decoding) -> Outcome<()> {
        let gone = || Failure::Store(format!("{path} vanished or shrank while it was read"));
        let _permit = self.permits.acquire().await.map_err(Failure::measurement)?;
        let answer = self.ask(path, Some(GetRange::Bounded(one.span.clone()))).await?.ok_or_else(gone)?;
        let mut frames = answer.into_stream();
        let mut received = BytesMut::with_capacity((one.span.end - one.span.start) as usize);
        let mut at = one.span.start;
        let mut chunks = one.chunks.into_iter().peekable();
        let mut left = one.span.end - one.span.start;
        while let Some(frame) = frames.try_next().await? {
            left = left.checked_sub(frame.len() as u64).ok_or_else(|| longer(path))?;
            received.extend_from_slice(&frame);
            let end = at + received.len() as u64;
            while let Some(chunk) = chunks.next_if(|chunk| chunk.span.end <= end) {
                received.advance((chunk.span.start - at) as usize);
                let encoded = received.split_to((chunk.span.end - chunk.span.start) as usize).freeze();
                at = chunk.span.end;
                decoding.add(chunk.item, chunk.span.start, encoded);
            }
        }
        if chunks.peek().is_some() { Err(gone()) } else { Ok(()) }
    }

    /// A range of an object, in several requests where it is longer than a part.
    async fn range(&self, path: &Path, span: &std::ops::Range<u64>) -> Outcome<Bytes> {
        let gets = parts(span, self.limits.part_bytes).into_iter().map(|part| async move {
            let gone = || Failure::Store(format!("{path} vanished while it was read"));
            self.get(path, Some(GetRange::Bounded(part))).await?.ok_or_else(gone)
        });
        let mut bodies = try_join_all(gets).await?;
        let came: usize = bodies.iter().map(|(body, _)| body.len()).sum();
        if came as u64 != span.end - span.start {
            return Err(Failure::Store(format!("{path} shrank while it was read")));
        }
        if bodies.len() == 1 {
            return Ok(bodies.remove(0).0);
        }
        let mut whole = BytesMut::with_capacity(came);
        bodies.iter().for_each(|(body, _)| whole.extend_from_slice(body));
        Ok(whole.freeze())
    }

    /// One GET with a permit: its body, and the bytes of the whole object; None where there is no such object.
    async fn get(&self, path: &Path, range: Option<GetRange>) -> Outcome<Option<(Bytes, u64)>> {
        let _permit = self.permits.acquire().await.map_err(Failure::measurement)?;
        let Some(answer) = self.ask(path, range).await? else { return Ok(None) };
        let object_bytes = answer.meta.size;
        Ok(Some((body_of(answer).await?, object_bytes)))
    }

    async fn ask(&self, path: &Path, range: Option<GetRange>) -> Outcome<Option<GetResult>> {
        match self.client.get(path, range).await {
            Ok(answer) => Ok(Some(answer)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn fill(&self, wanted: &[Piece], output: &Output) {
        for piece in wanted {
            output.fill(piece, &self.unit.sizes, &self.unit.fill_bytes);
        }
    }
}

/// Chunks on their way from their bytes to their places, decoded on all cores.
///
/// Small chunks are handed over in batches: waking a thread costs as much as decoding a few of them.
struct Decoding {
    inner: Arc<Inner>,
    output: Arc<Output>,
    key: Arc<str>,
    at_once: usize,
    batch: Vec<Encoded>,
    under_way: Vec<oneshot::Receiver<Outcome<()>>>,
}

/// A chunk's stored bytes, and where in the object they begin.
struct Encoded {
    piece: Piece,
    offset: u64,
    bytes: Bytes,
}

impl Decoding {
    fn new(inner: &Arc<Inner>, path: &Path, output: &Arc<Output>) -> Self {
        let at_once = (BATCH_BYTES / inner.unit.decoded_bytes().max(1)).max(1);
        let key = path.as_ref().strip_prefix(inner.client.prefix.as_ref()).unwrap_or_default().trim_start_matches('/');
        let (inner, output, key) = (Arc::clone(inner), Arc::clone(output), key.into());
        Self { inner, output, key, at_once, batch: Vec::new(), under_way: Vec::new() }
    }

    fn add(&mut self, piece: Piece, offset: u64, bytes: Bytes) {
        self.batch.push(Encoded { piece, offset, bytes });
        if self.batch.len() >= self.at_once {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let (answer, waiting) = oneshot::channel();
        let (inner, output, key) = (Arc::clone(&self.inner), Arc::clone(&self.output), Arc::clone(&self.key));
        rayon::spawn(move || {
            if answer.is_closed() {
                return; // whoever waited has given the read up
            }
            let all = || batch.iter().try_for_each(|chunk| inner.decode(chunk, &key, &output));
            let outcome = catch_unwind(AssertUnwindSafe(all)).unwrap_or_else(|panic| Err(panicked(&*panic)));
            drop((batch, output)); // before the answer: whoever waits for the last one owns the array alone
            let _ = answer.send(outcome);
        });
        self.under_way.push(waiting);
    }

    /// Returns when all chunks are in their places.
    async fn finish(mut self) -> Outcome<()> {
        if !self.batch.is_empty() {
            self.hand_over();
        }
        for waiting in self.under_way {
            waiting.await.map_err(Failure::measurement)??;
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Engine for Planned {
    fn workload(&self) -> &Workload {
        &self.inner.workload
    }

    async fn read_one(&self, number: usize, _variant: &str) -> Outcome<Arrays> {
        Ok(vec![self.inner.read_one(number).await?])
    }

    fn hooks(&self) -> Hooks {
        Hooks::Chunks
    }
}
