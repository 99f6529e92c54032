//! The workload file, version 1 (docs/workload.md): what every reader, in whatever language, executes alike.

use std::path::Path;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;

use crate::failure::{Failure, Outcome};
use crate::selection::Axis;

pub const SCHEMA: u64 = 1;

/// One piece of work: selections of one array, requests in flight asked for, and what the arrays must hold.
#[derive(Debug, Clone, Deserialize)]
pub struct Workload {
    pub target: Target,
    pub array: ArrayInfo,
    pub in_flight: usize,
    /// `[start, stop, step]` per axis; each yields one newly allocated array.
    pub reads: Vec<Vec<Axis>>,
    /// Reads under way at once.
    #[serde(default = "one")]
    pub concurrent_reads: usize,
    pub array_bytes: u64,
    pub wanted_bytes: u64,
    #[serde(default)]
    pub truth: TruthText,
    /// The whole file but its truth, for reports.
    #[serde(skip)]
    pub described: Value,
}

fn one() -> usize {
    1
}

/// Where to read from; never a credential.
#[derive(Debug, Clone, Deserialize)]
pub struct Target {
    pub name: String,
    /// `s3://bucket/prefix`, the same with `gs` or `az`, or `http://host/prefix`.
    pub url: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// Storage account of an `az://` container.
    pub account: Option<String>,
    #[serde(default)]
    pub anonymous: bool,
    #[serde(default)]
    pub requester_pays: bool,
    pub profile: Option<String>,
    /// Network of the embedded store where it is not loopback.
    pub link: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ArrayInfo {
    /// Key below the target's URL.
    pub key: String,
    pub shape: Vec<u64>,
    pub chunk_shape: Vec<u64>,
    pub shard_shape: Vec<u64>,
}

/// Checksums as they stand in the file: exactly one of the two.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TruthText {
    #[serde(default)]
    pub decoded_crc32c: Option<String>,
    #[serde(default)]
    pub reads_crc32c: Option<String>,
}

/// What the arrays must hold.
#[derive(Debug, Clone)]
pub enum Truth {
    /// CRC32C of each wanted chunk's decoded bytes, read by read, chunks in C order.
    Chunks(Vec<u32>),
    /// CRC32C of each read's whole array.
    Reads(Vec<u32>),
    /// Nothing is known: the arrays are not checked here.
    Unknown,
}

impl Workload {
    /// Parses a workload's JSON.
    ///
    /// # Errors
    /// `BadUse` when it is not a workload, or one of another version.
    pub fn parse(text: &[u8]) -> Outcome<Self> {
        let value: Value =
            serde_json::from_slice(text).map_err(|e| Failure::bad_use(format!("not a workload: {e}")))?;
        Self::from_value(value)
    }

    /// The same from parsed JSON.
    pub fn from_value(value: Value) -> Outcome<Self> {
        let schema = value.get("schema").and_then(Value::as_u64);
        if schema != Some(SCHEMA) {
            let found = value.get("schema").map_or("none".to_owned(), ToString::to_string);
            return Err(Failure::bad_use(format!("the workload has schema {found}; this version reads {SCHEMA}")));
        }
        let mut workload = Self::deserialize(&value).map_err(|e| Failure::bad_use(format!("not a workload: {e}")))?;
        workload.check()?;
        workload.described = value;
        if let Some(fields) = workload.described.as_object_mut() {
            fields.remove("truth");
        }
        Ok(workload)
    }

    /// Reads a workload file.
    pub fn load(path: &Path) -> Outcome<Self> {
        let text = std::fs::read(path).map_err(|e| Failure::bad_use(format!("cannot read {}: {e}", path.display())))?;
        Self::parse(&text)
    }

    fn check(&self) -> Outcome<()> {
        let axes = self.array.shape.len();
        if self.array.chunk_shape.len() != axes || self.array.shard_shape.len() != axes {
            return Err(Failure::bad_use("the workload's shapes have different numbers of axes"));
        }
        let grid = self.array.shard_shape.iter().zip(&self.array.chunk_shape);
        if grid.into_iter().any(|(shard, chunk)| *chunk == 0 || *shard == 0 || shard % chunk != 0) {
            return Err(Failure::bad_use("the workload's shards are no multiple of its chunks"));
        }
        if self.in_flight == 0 || self.concurrent_reads == 0 {
            return Err(Failure::bad_use("in_flight and concurrent_reads must be at least 1"));
        }
        for read in &self.reads {
            if read.len() != axes {
                return Err(Failure::bad_use(format!("a read has {} axes, the array {axes}", read.len())));
            }
            for (axis, size) in read.iter().zip(&self.array.shape) {
                if axis.step == 0 || axis.stop > *size || axis.start >= axis.stop {
                    return Err(Failure::bad_use(format!("{axis} is no selection of an axis of {size}")));
                }
            }
        }
        Ok(())
    }

    /// What the arrays must hold.
    pub fn truth(&self) -> Outcome<Truth> {
        let given = |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(checksums).transpose();
        Ok(match (given(&self.truth.decoded_crc32c)?, given(&self.truth.reads_crc32c)?) {
            (Some(chunks), None) => Truth::Chunks(chunks),
            (None, Some(reads)) => Truth::Reads(reads),
            (None, None) => Truth::Unknown,
            (Some(_), Some(_)) => return Err(Failure::bad_use("the workload has two truths")),
        })
    }
}

fn checksums(text: &str) -> Outcome<Vec<u32>> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|e| Failure::bad_use(format!("the workload's checksums are not base64: {e}")))?;
    Ok(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}
