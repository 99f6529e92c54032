//! An arm of a training loop: an engine's reads as samples, made into batches ahead of a step (docs/training.md).

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::client::Client;
use crate::clocks;
use crate::engines::{self, Engine, Kind, Settings};
use crate::failure::{Failure, Outcome};
use crate::plan::Limits;
use crate::workload::{Truth, Workload};

const SCHEMA: u64 = 1;
/// Epochs, batches, samples of a batch, batches ahead: the harness keeps the same (harness/workload/training.py).
const MOST: usize = 1000;
/// An epoch has so many times the batches that are made at the same time: the harness asks for the same.
const FEWEST_ROUNDS: usize = 2;
const FLOAT: usize = size_of::<f32>();

/// What is to be fed, as `zcb workload training` writes it.
#[derive(Debug, Deserialize)]
struct Listed {
    schema: u64,
    workloads: Vec<Value>,
    epochs: usize,
    batches: usize,
    batch: usize,
    ahead: usize,
    index: String,
}

/// What a stopwatch in the consumer saw of an epoch, in seconds.
#[derive(Debug, Serialize)]
pub struct Looped {
    first_batch: f64,
    waits: Vec<f64>,
    steps: Vec<f64>,
    /// When the loop began, by the machine's monotonic clock.
    began_ns: u64,
}

/// A batch: for each data set its samples one after another, as little-endian f32.
type Batch = Vec<Bytes>;

/// The samples of a batch in order, each with its tensor of every data set.
type UnderWay = Vec<AbortOnDropHandle<Outcome<Vec<BytesMut>>>>;

/// One data set's crops.
struct Source {
    engine: Arc<dyn Engine>,
    kind: Element,
    /// Elements of a crop.
    crop: usize,
    truth: Vec<u32>,
    key: String,
}

pub struct Feeding {
    sources: Arc<Vec<Source>>,
    listed: Listed,
    /// Batches that may be under way or ready when the first one is there, itself among them, in whole waves of those
    /// that come together: no rate.
    lead: usize,
    /// Samples that are read at the same time.
    permits: Arc<Semaphore>,
}

/// By how much a short sleep lasts longer than asked, where nothing else runs: the median.
static LATENESS: LazyLock<Duration> = LazyLock::new(|| {
    let asked = Duration::from_millis(5);
    let mut lasted = [Duration::ZERO; 9];
    for slept in &mut lasted {
        let began = Instant::now();
        std::thread::sleep(asked);
        *slept = began.elapsed();
    }
    lasted.sort_unstable();
    lasted[lasted.len() / 2].saturating_sub(asked)
});

/// Leaves the cores alone until `end`: it sleeps for less, by what this machine's timer is `late`, and gives its core
/// away over and over for the rest.
///
/// tokio's clock ticks once a millisecond; this is the thread of the consumer alone.
fn rest(end: Instant, late: Duration) {
    std::thread::sleep(end.saturating_duration_since(Instant::now()).saturating_sub(late));
    while Instant::now() < end {
        std::thread::yield_now();
    }
}

impl Feeding {
    /// Opens the arrays; outside the timed part.
    ///
    /// # Errors
    /// `BadUse` where it is no training workload, `Unsupported` where this engine cannot feed it.
    pub async fn open(kind: Kind, training: Value, limits: Limits) -> Outcome<Self> {
        clocks::release_memory();
        let listed: Listed = serde_json::from_value(training)
            .map_err(|error| Failure::bad_use(format!("not a training workload: {error}")))?;
        if listed.schema != SCHEMA {
            return Err(Failure::bad_use(format!("the training workload has schema {}", listed.schema)));
        }
        let keeps_indexes = listed.index != "cold";
        if keeps_indexes && !matches!(kind, Kind::Stock | Kind::Planned) {
            return Err(Failure::unsupported("it has no indexes to keep"));
        }
        let limits = Limits { keeps_indexes, ..limits };
        let counts = [listed.epochs, listed.batches, listed.batch];
        if listed.ahead > MOST || counts.iter().any(|count| !(1..=MOST).contains(count)) {
            return Err(Failure::bad_use(format!("epochs, batches and their sizes are from 1 to {MOST}")));
        }
        let mut sources = Vec::new();
        for work in &listed.workloads {
            sources.push(Source::open(kind, work.clone(), limits).await?);
        }
        let samples = listed.epochs * listed.batches * listed.batch;
        if sources.is_empty() || sources.iter().any(|source| source.truth.len() != samples) {
            return Err(Failure::bad_use("the training workload lists other samples than its data sets have"));
        }
        let at_once = sources[0].engine.workload().concurrent_reads;
        let allowed = listed.ahead + 1;
        let wave = at_once.div_ceil(listed.batch).min(allowed);
        let lead = wave * allowed.div_ceil(wave);
        let fewest = FEWEST_ROUNDS * lead;
        if listed.batches < fewest {
            return Err(Failure::unsupported(format!(
                "{lead} batches may be ready with the first one: an epoch of {} is too short to see how fast it \
                 makes them ({fewest} or more are not)",
                listed.batches
            )));
        }
        Ok(Self { sources: Arc::new(sources), listed, lead, permits: Arc::new(Semaphore::new(at_once)) })
    }

    /// Feeds an epoch to a step of `pause`, then compares every sample with the truth.
    ///
    /// # Errors
    /// `Wrong` names the first sample that is not the listed one.
    pub async fn epoch(&self, number: usize, pause: Duration) -> Outcome<Looped> {
        if number >= self.listed.epochs {
            return Err(Failure::bad_use(format!("there is no epoch {number}")));
        }
        let late = if pause.is_zero() { Duration::ZERO } else { *LATENESS };
        let mut wanted = (0..self.listed.batches).map(|batch| self.start(number, batch));
        let mut under_way: VecDeque<UnderWay> = wanted.by_ref().take(self.listed.ahead + 1).collect();
        let (mut waits, mut steps, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let (mut begin, mut began_ns) = (Instant::now(), 0);
        while let Some(samples) = under_way.pop_front() {
            let batch = self.whole(samples).await?;
            under_way.extend(wanted.next());
            let there = Instant::now();
            waits.push((there - begin).as_secs_f64());
            rest(there + pause, late);
            begin = Instant::now();
            steps.push((begin - there).as_secs_f64());
            kept.push(batch);
            if kept.len() == self.lead {
                began_ns = clocks::now_ns();
            }
        }
        self.check(number, &kept)?;
        Ok(Looped {
            first_batch: waits[0],
            waits: waits.split_off(self.lead),
            steps: steps.split_off(self.lead),
            began_ns,
        })
    }

    fn first_sample(&self, epoch: usize, batch: usize) -> usize {
        (epoch * self.listed.batches + batch) * self.listed.batch
    }

    /// Starts the samples of a batch, each into its part of the batch's memory.
    fn start(&self, epoch: usize, batch: usize) -> UnderWay {
        let mut memory: Vec<BytesMut> =
            self.sources.iter().map(|source| BytesMut::zeroed(source.crop * FLOAT * self.listed.batch)).collect();
        let first = self.first_sample(epoch, batch);
        (first..first + self.listed.batch)
            .map(|number| {
                let places: Vec<BytesMut> = memory
                    .iter_mut()
                    .zip(self.sources.iter())
                    .map(|(whole, source)| whole.split_to(source.crop * FLOAT))
                    .collect();
                let (sources, permits) = (Arc::clone(&self.sources), Arc::clone(&self.permits));
                AbortOnDropHandle::new(tokio::spawn(async move {
                    let _permit = permits.acquire().await.map_err(Failure::measurement)?;
                    let mut filled = Vec::with_capacity(places.len());
                    for (source, place) in sources.iter().zip(places) {
                        filled.push(source.sample(number, place).await?);
                    }
                    Ok(filled)
                }))
            })
            .collect()
    }

    /// Waits for the samples of a batch, which lie one after another already.
    async fn whole(&self, samples: UnderWay) -> Outcome<Batch> {
        let mut batch: Vec<BytesMut> = self.sources.iter().map(|_| BytesMut::new()).collect();
        for sample in samples {
            for (whole, part) in batch.iter_mut().zip(sample.await??) {
                whole.unsplit(part);
            }
        }
        Ok(batch.into_iter().map(BytesMut::freeze).collect())
    }

    fn check(&self, epoch: usize, batches: &[Batch]) -> Outcome<()> {
        for (number, batch) in batches.iter().enumerate() {
            let first = self.first_sample(epoch, number);
            for (source, tensor) in self.sources.iter().zip(batch) {
                for (place, sample) in tensor.chunks_exact(source.crop * FLOAT).enumerate() {
                    if crc32c::crc32c(&source.kind.restored(sample)) != source.truth[first + place] {
                        return Err(Failure::Wrong(format!(
                            "WRONG DATA: sample {place} of batch {number} of epoch {epoch} is not the crop of {} that \
                             the workload lists there",
                            source.key
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Source {
    async fn open(kind: Kind, work: Value, limits: Limits) -> Outcome<Self> {
        let workload = Arc::new(Workload::from_value(work)?);
        let Truth::Reads(truth) = workload.truth()? else {
            return Err(Failure::bad_use("the truth of a sample is its crop's checksum, and there is none"));
        };
        let dtype = workload.described["array"]["dtype"].as_str().unwrap_or_default();
        let element =
            Element::of(dtype).ok_or_else(|| Failure::unsupported(format!("it makes no float32 of {dtype}")))?;
        let crop = workload.reads.first().map_or(0, |read| crate::selection::shape_of(read).iter().product::<u64>());
        let key = workload.array.key.clone();
        let client = Client::open(&workload)?;
        let engine = engines::open(kind, workload, client, limits, Settings::default()).await?;
        if engine.hooks() == engines::Hooks::None {
            return Err(Failure::unsupported("it does not decode"));
        }
        Ok(Self { engine, kind: element, crop: crop as usize, truth, key })
    }

    /// Reads a crop and writes its tensor into `place`.
    async fn sample(&self, number: usize, mut place: BytesMut) -> Outcome<BytesMut> {
        let arrays = self.engine.read_one(number, "").await?;
        let crop = arrays.first().ok_or_else(|| Failure::measurement("a read returned no array"))?;
        self.kind.process(crop, &mut place);
        Ok(place)
    }
}

/// Types whose every value is an f32, and what makes them lie between -1 and 1; both ways are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    U8,
    I8,
    U16,
    I16,
    F32,
}

impl Element {
    fn of(dtype: &str) -> Option<Self> {
        Some(match dtype {
            "uint8" => Self::U8,
            "int8" => Self::I8,
            "uint16" => Self::U16,
            "int16" => Self::I16,
            "float32" => Self::F32,
            _ => return None,
        })
    }

    /// Writes the elements of a crop as normalised f32.
    fn process(self, crop: &[u8], out: &mut [u8]) {
        fn each<const N: usize>(crop: &[u8], out: &mut [u8], value: impl Fn([u8; N]) -> f32) {
            for (from, to) in crop.as_chunks::<N>().0.iter().zip(out.as_chunks_mut::<FLOAT>().0) {
                *to = value(*from).to_le_bytes();
            }
        }
        match self {
            Self::U8 => each::<1>(crop, out, |b| (f32::from(b[0]) - 128.0) / 128.0),
            Self::I8 => each::<1>(crop, out, |b| f32::from(b[0].cast_signed()) / 128.0),
            Self::U16 => each::<2>(crop, out, |b| (f32::from(u16::from_le_bytes(b)) - 32768.0) / 32768.0),
            Self::I16 => each::<2>(crop, out, |b| f32::from(i16::from_le_bytes(b)) / 32768.0),
            Self::F32 => out.copy_from_slice(crop),
        }
    }

    /// The crop that `process` was given.
    fn restored(self, tensor: &[u8]) -> Vec<u8> {
        let values = tensor.as_chunks::<FLOAT>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        match self {
            Self::U8 => values.map(|v| (v * 128.0 + 128.0) as u8).collect(),
            Self::I8 => values.map(|v| ((v * 128.0) as i8).cast_unsigned()).collect(),
            Self::U16 => values.flat_map(|v| ((v * 32768.0 + 32768.0) as u16).to_le_bytes()).collect(),
            Self::I16 => values.flat_map(|v| ((v * 32768.0) as i16).to_le_bytes()).collect(),
            Self::F32 => tensor.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Element;

    #[test]
    fn every_value_comes_back() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for (element, width) in [(Element::U8, 1), (Element::I8, 1), (Element::U16, 2), (Element::I16, 2)] {
            let mut tensor = vec![0; all.len() / width * 4];
            element.process(&all, &mut tensor);
            let greatest = tensor.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b).abs()).fold(0.0, f32::max);
            assert!(greatest <= 1.0, "{element:?}");
            assert_eq!(element.restored(&tensor), all, "{element:?}");
        }
    }
}
