//! Ways to execute a workload; each is one reader in the tables.

#[cfg(test)]
mod hostile;
mod limit;
mod planned;
mod settings;
mod stock;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use clap::ValueEnum;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::failure::{Failure, Outcome};
use crate::plan::Limits;
use crate::truth;
use crate::workload::Workload;

use limit::{Bodies, NetworkLimit};
pub use settings::Settings;

/// The engines by the name that `--engine` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// zarrs' public async API, as its documentation tells a user to write it.
    Stock,
    /// zarrs' codecs under our own I/O plan: what is possible.
    Planned,
    /// What is wanted without decoding: what no reader can be expected to beat.
    NetworkLimit,
    /// The same, and nothing is kept: what the network gives to a program that does nothing with it.
    NetworkLimitThrownAway,
}

/// What a recorder can learn of an engine's execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// Nothing that a timeline could show: there are no chunks.
    None,
    /// Requests, and decodes that no chunk is named for, by codecs of ours.
    Codecs,
    /// All five events.
    Chunks,
}

/// Bytes of what one execution yielded, a list per read: the final arrays, or the bodies of a network limit.
pub type Arrays = Vec<Bytes>;

/// A library stack that executes one workload again and again.
#[async_trait::async_trait]
pub trait Engine: Send + Sync {
    fn workload(&self) -> &Workload;

    /// Executes one read of the workload.
    async fn read_one(&self, number: usize, variant: &str) -> Outcome<Arrays>;

    /// Executes some of the workload's reads once, all but of a stream; this is what is timed.
    ///
    /// The next one begins when any of those under way ends: one that takes long holds up no other.
    async fn read(&self, reads: Range<usize>, variant: &str) -> Outcome<Arrays> {
        let mut found = vec![Arrays::new(); reads.len()];
        let mut under_way = stream::iter(reads.enumerate())
            .map(|(place, number)| async move { Ok::<_, Failure>((place, self.read_one(number, variant).await?)) })
            .buffer_unordered(self.workload().concurrent_reads);
        while let Some((place, arrays)) = under_way.try_next().await? {
            found[place] = arrays;
        }
        Ok(found.into_iter().flatten().collect()) // moved: an array may be a million bodies
    }

    /// The ways of doing the work that compete.
    fn variants(&self) -> Vec<&'static str> {
        vec![""]
    }

    /// Calls of the library's API that one execution takes.
    fn calls(&self) -> u64 {
        self.workload().reads.len() as u64
    }

    /// What the client's recorder learns of an execution.
    fn hooks(&self) -> Hooks;

    /// Compares what `read` returned with the truth, outside the timed part; false where nothing can be compared.
    fn check(&self, reads: Range<usize>, arrays: &Arrays) -> Outcome<bool> {
        truth::check(self.workload(), reads, arrays)
    }
}

/// Waits for all of the tasks; those under way are given up once one fails.
async fn all(mut tasks: JoinSet<Outcome<()>>) -> Outcome<()> {
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Runs tasks, at most `most` of them at once; each is made when its turn comes.
async fn at_most<F>(most: usize, tasks: impl Iterator<Item = F>) -> Outcome<()>
where
    F: Future<Output = Outcome<()>> + Send + 'static,
{
    let mut under_way = JoinSet::new();
    for task in tasks {
        if under_way.len() >= most
            && let Some(done) = under_way.join_next().await
        {
            done??;
        }
        under_way.spawn(task);
    }
    all(under_way).await
}

/// Opens the array of a workload with an engine, outside the timed part.
///
/// # Errors
/// `Unsupported` when the engine cannot do this workload, `Store` when the array cannot be reached, `BadUse` for settings
/// of an engine that has none.
pub async fn open(
    kind: Kind,
    workload: Arc<Workload>,
    client: Client,
    limits: Limits,
    settings: Settings,
) -> Outcome<Arc<dyn Engine>> {
    if kind != Kind::Stock && settings != Settings::default() {
        return Err(Failure::bad_use("only the engine stock has settings"));
    }
    Ok(match kind {
        Kind::Stock => stock::open(workload, client, settings, limits.keeps_indexes).await?,
        Kind::Planned => Arc::new(planned::Planned::open(workload, client, limits).await?),
        Kind::NetworkLimit => Arc::new(NetworkLimit::open(workload, client, Bodies::Kept)),
        Kind::NetworkLimitThrownAway => Arc::new(NetworkLimit::open(workload, client, Bodies::ThrownAway)),
    })
}

/// The versions that decide an engine's figures.
pub fn versions(kind: Kind) -> BTreeMap<&'static str, &'static str> {
    let mut found = BTreeMap::from([("object_store", env!("VERSION_OBJECT_STORE")), ("rustc", env!("VERSION_RUSTC"))]);
    if matches!(kind, Kind::Stock | Kind::Planned) {
        found.insert("zarrs", env!("VERSION_ZARRS"));
        // Set where it is built with a revision instead of a release (harness/verdict/crates.py).
        if let Some(commit) = option_env!("ZCB_ZARRS_COMMIT") {
            found.insert("zarrs_commit", commit);
        }
    }
    if kind == Kind::Stock {
        found.insert("zarrs_object_store", env!("VERSION_ZARRS_OBJECT_STORE"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::Notify;
    use tokio::time::timeout;

    /// Its first read ends when its last one has begun.
    struct Patient {
        workload: Workload,
        last_began: Notify,
    }

    #[async_trait::async_trait]
    impl Engine for Patient {
        fn workload(&self) -> &Workload {
            &self.workload
        }

        async fn read_one(&self, number: usize, _variant: &str) -> Outcome<Arrays> {
            match number {
                0 => self.last_began.notified().await,
                3 => self.last_began.notify_one(),
                _ => {}
            }
            Ok(vec![Bytes::from(vec![number as u8])])
        }

        fn hooks(&self) -> Hooks {
            Hooks::None
        }
    }

    #[tokio::test]
    async fn a_read_that_takes_long_holds_up_no_other_and_arrays_keep_their_order() {
        let workload = Workload::from_value(serde_json::json!({
            "schema": 1, "target": {"name": "t", "url": "s3://b"}, "in_flight": 8,
            "array": {"key": "a", "shape": [4], "chunk_shape": [1], "shard_shape": [1]},
            "reads": [[[0, 1, 1]], [[1, 2, 1]], [[2, 3, 1]], [[3, 4, 1]]],
            "concurrent_reads": 2, "array_bytes": 4, "wanted_bytes": 4, "held_bytes": 4,
            "truth": {"reads_crc32c": "AAAAAAAAAAAAAAAAAAAAAA=="},
        }));
        let engine = Patient { workload: workload.expect("a workload"), last_began: Notify::new() };
        let arrays = timeout(Duration::from_secs(20), engine.read(0..4, "")).await.expect("the last read begins");
        assert_eq!(arrays.expect("four arrays").concat(), [0, 1, 2, 3]);
    }
}
