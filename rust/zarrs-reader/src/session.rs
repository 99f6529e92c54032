//! One workload opened with one engine: executed, timed, counted and checked.

use std::sync::Arc;
use std::time::Instant;

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
    /// Whether the arrays were compared with a truth, and equal it.
    pub verified: bool,
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

    /// Executes once without timing, to warm connections up.
    pub async fn warm_up(&self, variant: &str) -> Outcome<()> {
        self.engine.read(variant).await.map(drop)
    }

    /// Executes once between two readings of every clock, then compares the arrays with the truth.
    pub async fn sample(&self, variant: &str) -> Outcome<(Timed, Arrays)> {
        self.client.counters.reset();
        let has_peak = clocks::reset_peak_rss();
        let (cpu, begin) = (clocks::cpu_time(), Instant::now());
        let arrays = self.engine.read(variant).await?;
        let (seconds, cpu_used) = (begin.elapsed(), clocks::cpu_time() - cpu);
        let mut timed = Timed {
            seconds: seconds.as_secs_f64(),
            cpu_seconds: cpu_used.as_secs_f64(),
            peak_rss_bytes: if has_peak { clocks::peak_rss() } else { None },
            array_bytes: self.workload.array_bytes,
            calls: self.engine.calls(),
            request_counts: self.client.counters.request_counts(),
            verified: false,
        };
        timed.verified = self.engine.check(&arrays)?;
        Ok((timed, arrays))
    }

    /// Executes once as `timeline` does, unrecorded.
    pub async fn warm_up_timeline(&self, variant: &str) -> Outcome<()> {
        let (engine, _hooked) = self.recorded_engine().await?;
        engine.read(variant).await.map(drop)
    }

    /// Executes once under the recorder; the answer has the timeline without its header, and the decodes whose chunks
    /// the asker has to find (docs/timelines.md).
    pub async fn timeline(&self, variant: &str) -> Outcome<Value> {
        let (engine, _hooked) = self.recorded_engine().await?;
        let recorder = &self.client.recorder;
        recorder.begin();
        let begin_ns = clocks::now_ns();
        let read = engine.read(variant).await;
        let end_ns = clocks::now_ns();
        recorder.end();
        engine.check(&read?)?;
        let decodes = (engine.hooks() == Hooks::Codecs).then(|| recorder.decodes());
        Ok(json!({"timeline": recorder.timeline(begin_ns, end_ns), "decodes": decodes}))
    }

    /// The engine to record, and what keeps its codecs hooked: zarrs makes some of them while it reads.
    async fn recorded_engine(&self) -> Outcome<(&Arc<dyn Engine>, Option<Hooked>)> {
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
