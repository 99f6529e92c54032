//! One workload opened with one engine: executed, timed, counted and checked.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;

use crate::client::{Client, Tally};
use crate::clocks;
use crate::engines::{self, Arrays, Engine, Hooks, Kind};
use crate::failure::Outcome;
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
    pub tally: Tally,
}

pub struct Session {
    pub workload: Arc<Workload>,
    client: Client,
    engine: Arc<dyn Engine>,
}

impl Session {
    /// Opens the array; outside the timed part.
    pub async fn open(kind: Kind, workload: Workload, limits: Limits) -> Outcome<Self> {
        clocks::release_memory();
        let workload = Arc::new(workload);
        let client = Client::open(&workload)?;
        let engine = engines::open(kind, Arc::clone(&workload), client.clone(), limits).await?;
        Ok(Self { workload, client, engine })
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
        let timed = Timed {
            seconds: seconds.as_secs_f64(),
            cpu_seconds: cpu_used.as_secs_f64(),
            peak_rss_bytes: if has_peak { clocks::peak_rss() } else { None },
            array_bytes: self.workload.array_bytes,
            calls: self.engine.calls(),
            tally: self.client.counters.tally(),
        };
        self.engine.check(&arrays)?;
        Ok((timed, arrays))
    }

    /// Executes once under the recorder; the timeline lacks its header (docs/timelines.md).
    pub async fn timeline(&self, variant: &str) -> Outcome<Value> {
        let recorder = &self.client.recorder;
        recorder.begin();
        let begin_ns = clocks::now_ns();
        let read = self.engine.read(variant).await;
        let end_ns = clocks::now_ns();
        recorder.end();
        self.engine.check(&read?)?;
        let note = if let Hooks::Requests(reason) = self.engine.hooks() { Some(reason) } else { None };
        Ok(recorder.timeline(begin_ns, end_ns, note))
    }

    /// What `timeline` can tell.
    pub fn hooks(&self) -> Hooks {
        self.engine.hooks()
    }
}
