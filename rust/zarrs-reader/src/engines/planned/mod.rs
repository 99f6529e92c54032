//! zarrs' codecs under our own I/O plan: an index GET for each shard, just ahead of its data, ranges grouped, requests
//! and memory bounded, and each chunk decoded and put into its place on all cores as soon as its bytes are there.

mod decoding;
mod layout;
mod meeting;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt, TryStreamExt};
use futures::try_join;
use object_store::path::Path;
use object_store::{GetRange, GetResult};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use self::decoding::{Decoding, Encoded, fill, take};
use self::layout::{Index, Layout, Plan, Unit};
use self::meeting::{Claim, Claims, Coordinates, InUse, Waiting};
use super::{Arrays, Engine, Hooks, at_most};
use crate::array::{self, OpenArray};
use crate::buffer::{Buffer, Held};
use crate::client::{Client, body_of, longer};
use crate::clocks::{memory_share, now_ns};
use crate::cutting::{Cut, Cutting};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::plan::{Group, Limits, Sharing, Stored, Whole, groups, parts, read_ahead};
use crate::recording::Place;
use crate::selection::{Chunks, shape_of};
use crate::workload::Workload;

pub struct Planned {
    inner: Arc<Inner>,
}

struct Inner {
    workload: Arc<Workload>,
    client: Client,
    array: Arc<OpenArray>,
    layout: Layout,
    limits: Limits,
    permits: Semaphore,
    /// For what connections read ahead. It is taken before permits and `room` after them, so nobody waits in a circle.
    ahead: Buffer,
    /// For chunks that come in or wait to be decoded.
    room: Buffer,
    /// Shards' indexes; None where a shard is not stored.
    indexes: InUse<Option<ShardIndex>>,
    /// Chunks of reads under way, where other reads may want them too.
    claims: Option<Claims<Target, Decoded<'static>>>,
    /// For decoded chunks that stay for other reads.
    kept: Buffer,
}

/// A chunk of an object, by its number there, in the array of a read.
type Target = (Arc<Object>, u32);

/// A chunk, and of its decode what a timeline tells.
struct Decoded<'a> {
    bytes: Cow<'a, [u8]>,
    /// None where nothing is recorded.
    place: Option<Place>,
    begin_ns: u64,
    decoded_ns: u64,
    /// None where it is not kept for other reads.
    _room: Option<Held>,
}

/// What is known of a shard.
struct ShardIndex {
    entries: Vec<[u64; 2]>,
    object_bytes: u64,
}

/// What an answer brought, and the room that it takes.
struct Came {
    body: Bytes,
    object_bytes: u64,
    held: Held,
}

/// One read that is under way.
struct Reading {
    inner: Arc<Inner>,
    objects: Chunks,
    sharing: Sharing,
    whole: Whole,
    output: Arc<Output>,
    /// Chunks in its array that other reads may take until it ends.
    used: Mutex<Vec<(Coordinates, Arc<Decoded<'static>>)>>,
}

/// An object, and its chunks that a read wants.
struct Object {
    reading: Arc<Reading>,
    path: Path,
    /// Below the array's.
    key: Arc<str>,
    coordinates: Vec<u64>,
    chunks: Chunks,
    comes_whole: bool,
}

/// Chunks that a read is to fetch: they are free again where it fails.
struct Claimed {
    object: Arc<Object>,
    numbers: Vec<u32>,
}

impl Planned {
    pub async fn open(workload: Arc<Workload>, client: Client, limits: Limits) -> Outcome<Self> {
        let array = array::open(&workload, &client).await?;
        let layout = Layout::of(&array)?;
        let permits = Semaphore::new(workload.in_flight);
        let ahead_bytes = limits.ahead_bytes(workload.in_flight);
        let (ahead, room) = (Buffer::new(ahead_bytes), Buffer::new(limits.buffer_bytes - ahead_bytes));
        let indexes = InUse::new(limits.keeps_indexes);
        let claims = workload.has_reads_that_meet().then(Claims::new);
        let kept = Buffer::new(limits.kept_bytes());
        let inner = Inner { workload, client, array, layout, limits, permits, ahead, room, indexes, claims, kept };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Inner {
    async fn read_one(self: &Arc<Self>, number: usize) -> Outcome<Bytes> {
        let reading = Arc::new(Reading::new(self, number));
        let reads_at_once = self.workload.concurrent_reads as u64;
        let chunks_at_once = self.layout.chunks().saturating_mul(reads_at_once);
        let objects = (0..reading.objects.len()).map(|number| {
            let reading = Arc::clone(&reading);
            async move { reading.read_object(number).await }
        });
        at_most(self.limits.objects_at_once(chunks_at_once, self.workload.in_flight), objects).await?;
        let output = Arc::clone(&reading.output);
        drop(reading);
        output.finish()
    }

    /// The index of a shard; None where the shard is not stored.
    async fn shard_index(&self, index: &Index, path: &Path) -> Outcome<Option<ShardIndex>> {
        let _permit = self.permits.acquire().await.map_err(Failure::measurement)?;
        let Some(answer) = self.ask(path, Some(index.range())).await? else { return Ok(None) };
        let object_bytes = answer.meta.size;
        let entries = index.entries(&body_of(answer).await?).map_err(|why| nonsense(path, &why))?;
        Ok(Some(ShardIndex { entries, object_bytes }))
    }

    /// What lies in a range of an object, or all of it, and should have so many bytes; None where there is none.
    async fn fetch(&self, path: &Path, range: Option<GetRange>, expected: u64) -> Outcome<Option<Came>> {
        let _ahead = self.ahead.reserve(read_ahead(expected)).await?;
        let _permit = self.permits.acquire().await.map_err(Failure::measurement)?;
        let Some(answer) = self.ask(path, range).await? else { return Ok(None) };
        let held = self.room.reserve(answer.range.end - answer.range.start).await?;
        let object_bytes = answer.meta.size;
        Ok(Some(Came { body: body_of(answer).await?, object_bytes, held }))
    }

    /// A range of an object, in several requests where it is longer than a part, each into its place.
    ///
    /// All of its requests are allowed before it takes room: whoever has room waits for no permit.
    async fn range(&self, path: &Path, span: &Range<u64>) -> Outcome<(Bytes, Held)> {
        let bytes = span.end - span.start;
        if bytes > memory_share() {
            return Err(Failure::Store(format!("{path}: {bytes} bytes are more than a quarter of the memory")));
        }
        let parts = parts(span, self.limits.part_bytes);
        let at_once = parts.len().clamp(1, self.workload.in_flight);
        let _ahead = self.ahead.reserve(read_ahead(self.limits.part_bytes).saturating_mul(at_once as u64)).await?;
        let _permits = self.permits.acquire_many(at_once as u32).await.map_err(Failure::measurement)?;
        let held = self.room.reserve(bytes).await?;
        let mut rest = BytesMut::with_capacity(bytes as usize);
        let gets = parts.into_iter().map(|part| {
            let behind = rest.split_off((part.end - part.start) as usize);
            self.part(path, part, std::mem::replace(&mut rest, behind))
        });
        let whole = stream::iter(gets).buffered(at_once).try_fold(BytesMut::new(), |mut before, part| async {
            before.unsplit(part);
            Ok(before)
        });
        Ok((whole.await?.freeze(), held))
    }

    /// A part of an object, which fills the memory that is there for it.
    async fn part(&self, path: &Path, part: Range<u64>, mut place: BytesMut) -> Outcome<BytesMut> {
        let bytes = (part.end - part.start) as usize;
        let answer = self.ask(path, Some(GetRange::Bounded(part))).await?.ok_or_else(|| gone(path))?;
        let mut frames = answer.into_stream();
        while let Some(frame) = frames.try_next().await? {
            if frame.len() > bytes - place.len() {
                return Err(longer(path));
            }
            place.extend_from_slice(&frame);
        }
        if place.len() == bytes { Ok(place) } else { Err(gone(path)) }
    }

    async fn ask(&self, path: &Path, range: Option<GetRange>) -> Outcome<Option<GetResult>> {
        match self.client.get(path, range).await {
            Ok(answer) => Ok(Some(answer)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn gone(path: &Path) -> Failure {
    Failure::Store(format!("{path} vanished or shrank while it was read"))
}

fn nonsense(path: &Path, why: &str) -> Failure {
    Failure::measurement(format!("the index of {path}: {why}"))
}

impl Reading {
    /// Counts decide how it is read: no list is as long as an array has chunks.
    fn new(inner: &Arc<Inner>, number: usize) -> Self {
        let (read, limits, layout) = (&inner.workload.reads[number], inner.limits, &inner.layout);
        let objects = Chunks::of(read, &layout.object_shape);
        let reads_at_once = inner.workload.concurrent_reads;
        let permits = inner.workload.in_flight / reads_at_once;
        let chunks = Chunks::of(read, &layout.unit.sizes).len() as u64;
        let shard_bytes = layout.chunks().saturating_mul(layout.unit.decoded_bytes() as u64);
        Self {
            inner: Arc::clone(inner),
            sharing: limits.sharing(chunks, permits),
            whole: limits.whole(objects.len(), shard_bytes, permits, reads_at_once),
            objects,
            output: Output::new(shape_of(read), layout.unit.element),
            used: Mutex::default(),
        }
    }

    async fn read_object(self: &Arc<Self>, number: usize) -> Outcome<()> {
        let piece = self.objects.piece(number);
        let (coordinates, inner) = (piece.chunk(), &self.inner);
        let path = inner.client.path(inner.array.chunk_key(&coordinates).as_str());
        let key = path.as_ref().strip_prefix(inner.client.prefix.as_ref()).unwrap_or_default().trim_start_matches('/');
        let (key, chunks) = (key.into(), self.objects.inside(&piece, &inner.layout.unit.sizes));
        let comes_whole = match self.whole {
            Whole::None => false,
            Whole::Wanted => chunks.len() as u64 == inner.layout.chunks(),
            Whole::All => true,
        };
        let object = Arc::new(Object { reading: Arc::clone(self), path, key, coordinates, chunks, comes_whole });
        object.read_all().await
    }
}

impl Object {
    fn unit(&self) -> &Unit {
        &self.reading.inner.layout.unit
    }

    /// Reads all of its wanted chunks, of which other reads may have some under way.
    async fn read_all(self: Arc<Self>) -> Outcome<()> {
        let all = 0..self.chunks.len() as u32;
        let Some(claims) = &self.reading.inner.claims else { return self.read(all.collect()).await };
        let (mut there, mut others) = (Vec::new(), Vec::new());
        let mut claimed = Claimed { object: Arc::clone(&self), numbers: Vec::new() };
        let wanted = all.clone().map(|number| (self.coordinates_of(number), (Arc::clone(&self), number)));
        for (number, claim) in all.zip(claims.claim(wanted)) {
            match claim {
                Claim::Fetch => claimed.numbers.push(number),
                Claim::Wait(told) => others.push((number, told)),
                Claim::Take(chunk) => there.push((number, chunk)),
            }
        }
        try_join!(take(&self, there), Arc::clone(&self).read(claimed.numbers.clone()))?;
        claimed.numbers.clear(); // they are released
        drop(claimed);
        let left = left_of(others).await;
        self.read(left).await
    }

    /// Reads some of its wanted chunks.
    async fn read(self: Arc<Self>, wanted: Vec<u32>) -> Outcome<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let inner = Arc::clone(&self.reading.inner);
        match &inner.layout.index {
            Some(index) if !self.comes_whole => self.read_ranges(index, wanted).await,
            index => self.read_whole(index.as_ref(), wanted).await,
        }
    }

    /// Fetches all of it with one request: of a shard as much as there should be, the index included.
    async fn read_whole(self: Arc<Self>, index: Option<&Index>, wanted: Vec<u32>) -> Outcome<()> {
        let inner = &self.reading.inner;
        let expected = inner.layout.object_bytes();
        let range = index.map(|index| index.range_with(expected));
        let Some(Came { body, object_bytes, held }) = inner.fetch(&self.path, range, expected).await? else {
            return fill(&self, wanted).await;
        };
        let plan = self.plan_of_whole(index, &body, object_bytes, wanted)?;
        if (body.len() as u64) < object_bytes {
            drop((body, held)); // what others wrote may have holes, or compress to more than is expected
            return self.read_plan(plan).await;
        }
        let Plan { stored, missing } = plan;
        let mut decoding = Decoding::new(&self);
        decoding.hold(held);
        for Stored { span, item } in stored {
            decoding.add(item, span.start, body.slice(span.start as usize..span.end as usize));
        }
        drop(body); // what is decoded is free
        try_join!(decoding.finish(), fill(&self, missing))?;
        Ok(())
    }

    fn plan_of_whole(&self, index: Option<&Index>, body: &[u8], object_bytes: u64, wanted: Vec<u32>) -> Outcome<Plan> {
        let Some(index) = index else {
            return Ok(Plan { stored: vec![Stored { span: 0..object_bytes, item: 0 }], missing: Vec::new() });
        };
        let entries = index.entries(index.part_of(body)).map_err(|why| nonsense(&self.path, &why))?;
        self.plan(index, &ShardIndex { entries, object_bytes }, wanted)
    }

    /// What to fetch and what to fill, by the index of its shard.
    fn plan(&self, index: &Index, shard: &ShardIndex, wanted: Vec<u32>) -> Outcome<Plan> {
        let plan = self.reading.inner.layout.plan(index, &shard.entries, shard.object_bytes, (&self.chunks, wanted));
        plan.map_err(|why| nonsense(&self.path, &why))
    }

    /// Fetches its index, then the ranges of its chunks.
    async fn read_ranges(self: Arc<Self>, index: &Index, wanted: Vec<u32>) -> Outcome<()> {
        let inner = Arc::clone(&self.reading.inner);
        let shard = inner.indexes.of(self.coordinates.clone());
        let plan = match shard.known.get_or_try_init(|| inner.shard_index(index, &self.path)).await? {
            Some(known) => self.plan(index, known, wanted)?,
            None => Plan { stored: Vec::new(), missing: wanted },
        };
        let _in_use = inner.claims.as_ref().map(|_| shard); // else nobody else will want it
        self.read_plan(plan).await
    }

    /// Fetches the ranges of its chunks.
    async fn read_plan(self: Arc<Self>, Plan { stored, missing }: Plan) -> Outcome<()> {
        let (reading, inner) = (&self.reading, &self.reading.inner);
        let grouping = reading.sharing.grouping(&stored);
        let groups = groups(stored, grouping).map(|one| Arc::clone(&self).read_group(one));
        try_join!(at_most(2 * inner.workload.in_flight, groups), fill(&self, missing))?;
        Ok(())
    }

    /// Fetches one group's range and decodes its chunks, each as soon as its bytes are there.
    async fn read_group(self: Arc<Self>, one: Group<u32>) -> Outcome<()> {
        let (inner, span) = (&self.reading.inner, one.span.clone());
        let mut decoding = Decoding::new(&self);
        if parts(&span, inner.limits.part_bytes).len() == 1 && one.is_disjoint() {
            self.stream_group(one, &mut decoding).await?;
        } else {
            let (body, held) = inner.range(&self.path, &span).await?;
            decoding.hold(held);
            for Stored { span: chunk, item } in one.chunks {
                let at = (chunk.start - span.start) as usize..(chunk.end - span.start) as usize;
                decoding.add(item, chunk.start, body.slice(at));
            }
        }
        decoding.finish().await
    }

    /// Fetches a range with one request and hands chunks over while the rest is still on its way.
    ///
    /// Connections share the link, so all of a shard tends to be complete late: decoding must not wait for that.
    async fn stream_group(&self, one: Group<u32>, decoding: &mut Decoding) -> Outcome<()> {
        let (inner, mut left) = (&self.reading.inner, one.span.end - one.span.start);
        let _ahead = inner.ahead.reserve(read_ahead(left)).await?;
        let _permit = inner.permits.acquire().await.map_err(Failure::measurement)?;
        let range = GetRange::Bounded(one.span.clone());
        let answer = inner.ask(&self.path, Some(range)).await?.ok_or_else(|| gone(&self.path))?;
        let (mut frames, mut cutting) = (answer.into_stream(), Cutting::new(one, decoding.at_once));
        while let Some(frame) = frames.try_next().await? {
            left = left.checked_sub(frame.len() as u64).ok_or_else(|| longer(&self.path))?;
            let mut came = &frame[..];
            while let Some(cut) = cutting.next(&mut came) {
                match cut {
                    Cut::Batch(bytes) => decoding.hold(inner.room.reserve(bytes).await?), // the one before is handed over
                    Cut::Chunk(chunk, bytes) => decoding.add(chunk.item, chunk.span.start, bytes),
                }
            }
        }
        if cutting.is_done() { Ok(()) } else { Err(gone(&self.path)) }
    }

    /// Decodes a chunk and puts it into its places; on a thread of the cores.
    fn decode(&self, chunk: &Encoded) -> Outcome<()> {
        let fails = |error: Failure| {
            let chunk = self.coordinates_of(chunk.number);
            Failure::measurement(format!("chunk {chunk:?} in {} cannot be decoded: {error}", self.key))
        };
        let begin_ns = now_ns();
        let bytes = self.unit().decode(&chunk.bytes).map_err(fails)?;
        let decoded_ns = now_ns();
        let (offset, length) = (chunk.offset, chunk.bytes.len() as u64);
        let is_recorded = self.reading.inner.client.recorder.is_on();
        let place = is_recorded.then(|| Place { key: Arc::clone(&self.key), offset, length });
        let decoded = Decoded { bytes, place, begin_ns, decoded_ns, _room: None };
        self.copy(chunk.number, &decoded).map_err(fails)?;
        self.give(chunk.number, decoded).map_err(fails)
    }

    /// Gives a chunk that is in its place to the reads that wait for it, and keeps it for those that come.
    fn give(&self, number: u32, decoded: Decoded<'_>) -> Outcome<()> {
        let inner = &self.reading.inner;
        let Some(claims) = &inner.claims else { return Ok(()) };
        let chunk = self.coordinates_of(number);
        let Some(room) = inner.kept.try_reserve(decoded.bytes.len() as u64) else {
            return serve(claims.release(&chunk), |object, number| object.copy(number, &decoded));
        };
        let Decoded { bytes, place, begin_ns, decoded_ns, .. } = decoded;
        let bytes = Cow::Owned(bytes.into_owned());
        let decoded = Arc::new(Decoded { bytes, place, begin_ns, decoded_ns, _room: Some(room) });
        self.use_till_end(&chunk, &decoded);
        serve(claims.keep(chunk, &decoded), |object, number| object.take(number, &decoded))
    }

    /// Puts a chunk that another read has brought into its place.
    fn take(&self, number: u32, decoded: &Arc<Decoded<'static>>) -> Outcome<()> {
        self.use_till_end(&self.coordinates_of(number), decoded);
        self.copy(number, decoded)
    }

    fn use_till_end(&self, chunk: &[u64], decoded: &Arc<Decoded<'static>>) {
        self.reading.used.lock().push((chunk.into(), Arc::clone(decoded)));
    }

    fn copy(&self, number: u32, decoded: &Decoded<'_>) -> Outcome<()> {
        let (piece, begin_ns) = (self.chunks.piece(number as usize), now_ns());
        self.reading.output.copy(&piece, &self.unit().sizes, &decoded.bytes)?;
        if let Some(place) = &decoded.place {
            let recorder = &self.reading.inner.client.recorder;
            recorder.copied(piece.chunk(), place.clone(), (decoded.begin_ns, decoded.decoded_ns), begin_ns);
        }
        Ok(())
    }

    /// Writes the fill value into the places of a chunk.
    fn fill(&self, number: u32) -> Outcome<()> {
        let write = |object: &Self, number: u32| {
            let unit = object.unit();
            object.reading.output.fill(&object.chunks.piece(number as usize), &unit.sizes, &unit.fill_bytes);
            Ok(())
        };
        write(self, number)?;
        let claims = self.reading.inner.claims.as_ref();
        serve(claims.map(|claims| claims.release(&self.coordinates_of(number))).unwrap_or_default(), write)
    }

    fn coordinates_of(&self, number: u32) -> Coordinates {
        self.chunks.piece(number as usize).chunk()
    }
}

/// Puts a chunk into the places that wait for it, and tells who waits.
fn serve(waiting: Vec<Waiting<Target>>, put: impl Fn(&Object, u32) -> Outcome<()>) -> Outcome<()> {
    for ((object, number), tell) in waiting {
        put(&object, number)?;
        drop(object); // whoever waits for its last chunk owns the array alone
        let _ = tell.send(());
    }
    Ok(())
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let Some(claims) = &self.object.reading.inner.claims else { return };
        for number in &self.numbers {
            drop(claims.release(&self.object.coordinates_of(*number)));
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let Some(claims) = &self.inner.claims else { return };
        for (chunk, used) in self.used.get_mut().drain(..) {
            claims.end_use(&chunk, used);
        }
    }
}

/// Waits for chunks that other reads have under way, and returns those that did not come.
async fn left_of(others: Vec<(u32, oneshot::Receiver<()>)>) -> Vec<u32> {
    let mut left = Vec::new();
    for (number, told) in others {
        if told.await.is_err() {
            left.push(number);
        }
    }
    left
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
