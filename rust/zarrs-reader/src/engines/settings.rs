//! How zarrs is asked: its public settings, and what a user decides who writes the calls (docs/tuning.md).

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};

/// What is not given is as zarrs' documentation tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `CodecOptions::with_concurrent_target`; the workload's requests in flight where it is not given.
    pub concurrent_target: Option<usize>,
    /// `CodecOptions::with_chunk_concurrent_minimum`; zarrs' own where it is not given.
    pub chunk_concurrent_minimum: Option<usize>,
    /// Whether each shard is read by a task of its own, so that shards are decoded on several threads.
    pub task_per_shard: bool,
    /// Threads from which the synchronous API is called, each of which a request blocks; none: the asynchronous API.
    pub sync_threads: Option<NonZeroUsize>,
    /// Which calls for the chunks of one read share a cache of shard indexes.
    pub shard_cache: ShardCache,
}

/// Who shares a cache of shard indexes; a cache is made inside the read and ends with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardCache {
    /// All calls of a read. The cache holds a lock while it reads an index, so indexes come one after another.
    #[default]
    Read,
    /// The calls for one shard, so that the indexes of different shards come at once.
    Shard,
    /// Nobody: each call reads the index for itself.
    None,
}

impl Settings {
    /// Parses a JSON object.
    ///
    /// # Errors
    /// `BadUse` for a setting that there is not, or a value of another kind.
    pub fn parse(text: &str) -> Outcome<Self> {
        serde_json::from_str(text).map_err(|error| Failure::bad_use(format!("not settings: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_is_as_the_documentation_tells() {
        let settings = Settings::parse(r#"{"shard_cache": "shard", "concurrent_target": 7}"#).unwrap();
        let expected = Settings { shard_cache: ShardCache::Shard, concurrent_target: Some(7), ..Settings::default() };
        assert_eq!(settings, expected);
        assert_eq!(Settings::parse("{}").unwrap(), Settings::default());
    }

    #[test]
    fn a_setting_that_there_is_not_is_refused() {
        assert!(Settings::parse(r#"{"threads": 7}"#).is_err());
        assert!(Settings::parse(r#"{"shard_cache": "all"}"#).is_err());
        assert!(Settings::parse(r#"{"sync_threads": 0}"#).is_err());
    }
}
