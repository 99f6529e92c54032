//! One workload opened with one engine: executed, timed, counted and checked.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::client::{Client, RequestCounts};
use crate::clocks;
use crate::codecs::Hooked;
use crate::engines::{self, Arrays, Engine, Hooks, Kind, Settings};
use crate::failure::{Failure, Outcome};
use crate::plan::Limits;
use crate::workload::Workload;

/// What this process knows of one execution; fields as in docs/workload.md.
#[derive(Debug, Serialize)]
pub struct Timed {
    pub seconds: f64,
    pub cpu_seconds: f64,
    /// None where the kernel cannot reset it.
    pub peak_rss_bytes: Option<u64>,
    pub array_bytes: u64,
    pub calls: u64,
    pub request_counts: RequestCounts,
    /// Of a stream, each step in its order; `seconds` is their sum.
    pub windows: Option<Vec<Window>>,
    /// Whether the arrays were compared with a truth, and equal it.
    pub verified: bool,
}

/// A window of a stream, or the two that are under way at once.
#[derive(Debug, Clone, Serialize)]
pub struct Window {
    pub seconds: f64,
    pub array_bytes: u64,
}

pub struct Session {
    pub workload: Arc<Workload>,
    client: Client,
    kind: Kind,
    limits: Limits,
    pub settings: Settings,
    engine: Arc<dyn Engine>,
    /// The same engine with codecs that tell the recorder; what is timed never has them.
    hooked: OnceCell<Arc<dyn Engine>>,
}

impl Session {
    /// Opens the array; outside the timed part.
    pub async fn open(kind: Kind, workload: Workload, limits: Limits, settings: Settings) -> Outcome<Self> {
        clocks::release_memory();
        let workload = Arc::new(workload);
        let client = Client::open(&workload)?;
        let engine = engines::open(kind, Arc::clone(&workload), client.clone(), limits, settings).await?;
        Ok(Self { workload, client, kind, limits, settings, engine, hooked: OnceCell::new() })
    }

    /// Goes on with other reads of the same array, by the connections that are open.
    pub async fn select(&mut self, workload: Workload) -> Outcome<()> {
        if workload.array.key != self.workload.array.key {
            return Err(Failure::bad_use(format!("{} is open, not {}", self.workload.array.key, workload.array.key)));
        }
        let workload = Arc::new(workload);
        let (client, opened) = (self.client.clone(), Arc::clone(&workload));
        self.engine = engines::open(self.kind, opened, client, self.limits, self.settings).await?;
        (self.workload, self.hooked) = (workload, OnceCell::new());
        Ok(())
    }

    pub fn variants(&self) -> Vec<&'static str> {
        self.engine.variants()
    }

    /// Executes once without timing, to warm connections up; of a stream its first step does that.
    pub async fn warm_up(&self, variant: &str) -> Outcome<()> {
        let reads = self.workload.steps().next().unwrap_or_default();
        self.engine.read(reads, variant).await.map(drop)
    }

    /// Executes once between two readings of every clock, then compares the arrays with the truth.
    ///
    /// Of a stream only its reads are timed: the clocks stand still while a step's arrays are compared and given up, so
    /// that no more than one step's arrays are held. What is returned are the last step's.
    pub async fn sample(&self, variant: &str) -> Outcome<(Timed, Arrays)> {
        self.client.counters.reset();
        let (mut windows, mut cpu_used, mut peak) = (Vec::new(), Duration::ZERO, Some(0));
        let (mut verified, mut last) = (true, Arrays::new());
        for reads in (0..self.workload.loops).flat_map(|_| self.workload.steps()) {
            drop(std::mem::take(&mut last));
            let has_peak = clocks::reset_peak_rss();
            let (cpu, begin) = (clocks::cpu_time(), Instant::now());
            let arrays = self.engine.read(reads.clone(), variant).await?;
            let seconds = begin.elapsed().as_secs_f64();
            cpu_used += clocks::cpu_time() - cpu;
            peak = if has_peak { peak.and_then(|most| clocks::peak_rss().map(|now| now.max(most))) } else { None };
            windows.push(Window { seconds, array_bytes: self.workload.bytes_of(reads.clone()) });
            verified &= self.engine.check(reads, &arrays)?;
            last = arrays;
        }
        let timed = Timed {
            seconds: windows.iter().map(|window| window.seconds).sum(),
            cpu_seconds: cpu_used.as_secs_f64(),
            peak_rss_bytes: peak,
            array_bytes: self.workload.array_bytes,
            calls: self.engine.calls() * self.workload.loops,
            request_counts: self.client.counters.request_counts(),
            windows: self.workload.is_stream().then_some(windows),
            verified,
        };
        Ok((timed, last))
    }

    /// Executes once as `timeline` does, unrecorded.
    pub async fn warm_up_timeline(&self, variant: &str) -> Outcome<()> {
        let (engine, _hooked) = self.recorded_engine().await?;
        engine.read(self.all_reads(), variant).await.map(drop)
    }

    /// Executes once under the recorder; the answer has the timeline without its header, and the decodes whose chunks
    /// the asker has to find (docs/timelines.md).
    pub async fn timeline(&self, variant: &str) -> Outcome<Value> {
        let (engine, _hooked) = self.recorded_engine().await?;
        let recorder = &self.client.recorder;
        recorder.begin();
        let begin_ns = clocks::now_ns();
        let read = engine.read(self.all_reads(), variant).await;
        let end_ns = clocks::now_ns();
        recorder.end();
        engine.check(self.all_reads(), &read?)?;
        let decodes = (engine.hooks() == Hooks::Codecs).then(|| recorder.decodes());
        Ok(json!({"timeline": recorder.timeline(begin_ns, end_ns), "decodes": decodes}))
    }

    fn all_reads(&self) -> Range<usize> {
        0..self.workload.reads.len()
    }

    /// The engine to record, and what keeps its codecs hooked: zarrs makes some of them while it reads.
    async fn recorded_engine(&self) -> Outcome<(&Arc<dyn Engine>, Option<Hooked>)> {
        if self.workload.is_stream() {
            return Err(Failure::unsupported("a stream has no timeline"));
        }
        match self.engine.hooks() {
            Hooks::None => Err(Failure::unsupported("this engine has no hooks for a timeline")),
            Hooks::Chunks => Ok((&self.engine, None)),
            Hooks::Codecs => {
                let hooked = Hooked::new(&self.client.recorder);
                let open = || {
                    let (workload, client) = (Arc::clone(&self.workload), self.client.clone());
                    engines::open(self.kind, workload, client, self.limits, self.settings)
                };
                Ok((self.hooked.get_or_try_init(open).await?, Some(hooked)))
            }
        }
    }
}
