//! The workload file, version 1 (docs/workload.md): what every reader, in whatever language, executes alike.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::Value;

use crate::clocks::memory_share;
use crate::failure::{Failure, Outcome};
use crate::selection::Axis;

pub const SCHEMA: u64 = 1;
/// Bounds that the harness keeps too (harness/workload/model.py, harness/datasets/array.py).
const MOST_IN_FLIGHT: usize = 10_000;
const MOST_AXES: usize = 16;
const MOST_ELEMENTS: u128 = 1 << 60;
const MOST_CHUNKS_PER_SHARD: u128 = 1 << 22;
const MOST_CHUNKS: u128 = 20_000_000;
const MOST_WINDOWS: u128 = 10_000_000;
/// A checksum takes six bytes of it.
const MOST_FILE_BYTES: u64 = 256 << 20;

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
    /// Stored bytes that a reader may hold at once; 0 where nobody said.
    #[serde(default)]
    pub held_bytes: u64,
    /// Bytes of the objects that the reads touch, whole; 0 where nobody said.
    #[serde(default)]
    pub object_bytes: u64,
    /// How `reads` is executed where it is one read of any size; after parsing, `reads` are its windows.
    #[serde(default)]
    stream: Option<Stream>,
    /// How often all windows of a stream are read; 1 of any other workload.
    #[serde(skip)]
    pub loops: u64,
    /// Stored bytes that each window of a stream wants; empty of any other workload.
    #[serde(skip)]
    wanted_by_window: Vec<u32>,
    #[serde(default)]
    pub truth: TruthText,
    /// The whole file but its truth, for reports.
    #[serde(skip)]
    pub described: Value,
}

fn one() -> usize {
    1
}

/// A read that is executed window by window.
#[derive(Debug, Clone, Deserialize)]
struct Stream {
    /// Elements along each axis of a window; the last ones along an axis may be shorter.
    window: Vec<u64>,
    #[serde(default = "once")]
    loops: u64,
    /// Of each window, base64 of little-endian u32.
    wanted_bytes: String,
}

fn once() -> u64 {
    1
}

/// The windows of a read in C order.
fn cut(read: &[Axis], window: &[u64]) -> Vec<Vec<Axis>> {
    read.iter().zip(window).fold(vec![Vec::new()], |begun, (axis, &size)| {
        let along = (axis.start..axis.stop).step_by(size as usize);
        let parts: Vec<_> = along.map(|at| Axis::from((at, axis.stop.min(at.saturating_add(size)), 1))).collect();
        begun.iter().flat_map(|one| parts.iter().map(move |part| [one.as_slice(), &[*part]].concat())).collect()
    })
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
    /// File of the certificate authority to trust, PEM; None trusts those that everybody does.
    pub ca: Option<String>,
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
    #[serde(default)]
    pub zarr_format: Format,
    #[serde(default)]
    pub key_encoding: KeyEncoding,
    #[serde(default)]
    pub separator: Separator,
    #[serde(default)]
    pub index_location: IndexLocation,
    /// Whether a CRC32C follows a shard's index.
    #[serde(default = "yes")]
    pub index_checksum: bool,
    #[serde(default)]
    pub index_endian: Endian,
}

fn yes() -> bool {
    true
}

/// The format of the metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub enum Format {
    V2,
    #[default]
    V3,
}

impl TryFrom<u8> for Format {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            _ => Err(format!("Zarr's format {number} is not known")),
        }
    }
}

/// How an object's key is made of its coordinates: `c/0/0`, or `0/0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyEncoding {
    #[default]
    Default,
    V2,
}

/// What stands between the parts of an object's key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Separator {
    #[default]
    #[serde(rename = "/")]
    Slash,
    #[serde(rename = ".")]
    Dot,
}

/// Where in a shard its index stands; `None` of an array without shards, whose objects are chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexLocation {
    #[default]
    End,
    Start,
    None,
}

/// The byte order of a shard's index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endian {
    #[default]
    Little,
    Big,
}

/// Checksums as they stand in the file: exactly one of the three.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct TruthText {
    #[serde(default)]
    pub decoded_crc32c: Option<String>,
    #[serde(default)]
    pub reads_crc32c: Option<String>,
    #[serde(default)]
    pub windows_crc32c: Option<String>,
}

/// What the arrays must hold.
#[derive(Debug, Clone)]
pub enum Truth {
    /// CRC32C of each wanted chunk's decoded bytes, read by read, chunks in C order.
    Chunks(Vec<u32>),
    /// CRC32C of each read's whole array.
    Reads(Vec<u32>),
    /// CRC32C of the CRC32C of each window's chunks, chunks in C order.
    Windows(Vec<u32>),
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
        workload.loops = workload.stream.as_ref().map_or(1, |stream| stream.loops);
        workload.array.check()?;
        workload.check_reads()?;
        if let Some(stream) = workload.stream.clone() {
            workload.take_windows(&stream)?;
        }
        workload.check_memory()?;
        workload.described = value;
        if let Some(fields) = workload.described.as_object_mut() {
            fields.remove("truth");
        }
        Ok(workload)
    }

    /// Reads a workload file.
    ///
    /// # Errors
    /// `BadUse` as for `parse`, and for what cannot be read or is longer than any workload.
    pub fn load(path: &Path) -> Outcome<Self> {
        let cannot = |why: &dyn std::fmt::Display| Failure::bad_use(format!("cannot read {}: {why}", path.display()));
        let file = File::open(path).map_err(|error| cannot(&error))?;
        let mut text = Vec::new();
        file.take(MOST_FILE_BYTES + 1).read_to_end(&mut text).map_err(|error| cannot(&error))?;
        if text.len() as u64 > MOST_FILE_BYTES {
            return Err(cannot(&format!("more than {MOST_FILE_BYTES} bytes are no workload")));
        }
        Self::parse(&text)
    }

    /// Refuses what no reader can execute, as the harness does (harness/workload/model.py).
    fn check_reads(&self) -> Outcome<()> {
        let at_once = [self.in_flight, self.concurrent_reads];
        if at_once.iter().any(|count| !(1..=MOST_IN_FLIGHT).contains(count)) {
            return Err(Failure::bad_use(format!(
                "in_flight and concurrent_reads must be at least 1 and at most {MOST_IN_FLIGHT}"
            )));
        }
        if self.reads.is_empty() {
            return Err(Failure::bad_use("the workload has no reads"));
        }
        self.reads.iter().try_for_each(|read| self.array.check_read(read))
    }

    /// Makes reads of a stream's windows.
    fn take_windows(&mut self, stream: &Stream) -> Outcome<()> {
        let [read] = self.reads.as_slice() else {
            return Err(Failure::bad_use("a stream has one read"));
        };
        if read.iter().any(|axis| axis.step != 1) {
            return Err(Failure::bad_use("a stream has no steps"));
        }
        if stream.window.len() != read.len() || stream.window.contains(&0) {
            return Err(Failure::bad_use("a window has a length along each axis"));
        }
        let counts = read.iter().zip(&stream.window).map(|(axis, size)| (axis.stop - axis.start).div_ceil(*size));
        let windows = counts.fold(1, |product: u128, count| product.saturating_mul(count.into()));
        if windows == 0 || stream.loops == 0 || windows.saturating_mul(stream.loops.into()) > MOST_WINDOWS {
            return Err(Failure::bad_use(format!("a stream has 1 to {MOST_WINDOWS} windows in all")));
        }
        self.wanted_by_window = checksums(&stream.wanted_bytes)?;
        if self.wanted_by_window.len() as u128 != windows {
            return Err(Failure::bad_use(format!("the stream says the bytes of other than its {windows} windows")));
        }
        self.reads = cut(read, &stream.window);
        Ok(())
    }

    pub fn is_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether several reads are under way at once that may want the same.
    pub fn has_reads_that_meet(&self) -> bool {
        self.concurrent_reads > 1 && self.reads.len() > 1 && !self.is_stream()
    }

    /// The reads that are executed before their arrays are compared and given up: all, or of a stream those that may be
    /// under way at once.
    pub fn steps(&self) -> impl Iterator<Item = Range<usize>> {
        let (count, of_step) =
            (self.reads.len(), if self.is_stream() { self.concurrent_reads } else { self.reads.len() });
        (0..count).step_by(of_step).map(move |first| first..count.min(first + of_step))
    }

    /// Bytes of the final arrays of some reads.
    pub fn bytes_of(&self, reads: Range<usize>) -> u64 {
        let selected = self.selected();
        let here: u128 = self.reads[reads].iter().map(|read| elements(read)).sum();
        // All reads have elements of one size, so this divides.
        (u128::from(self.array_bytes) / u128::from(self.loops) * here / selected.max(1)) as u64
    }

    /// Stored bytes of the chunks that some reads want: all of them, or those of a stream's step.
    pub fn wanted_by(&self, reads: Range<usize>) -> u64 {
        match self.stream {
            Some(_) => self.wanted_by_window[reads].iter().copied().map(u64::from).sum(),
            None => self.wanted_bytes,
        }
    }

    /// Elements that all reads select together.
    fn selected(&self) -> u128 {
        self.reads.iter().map(|read| elements(read)).sum()
    }

    /// Refuses arrays and lists of chunks that do not fit into this machine's memory beside everything else.
    fn check_memory(&self) -> Outcome<()> {
        let selected = self.selected() * u128::from(self.loops);
        if selected > u128::from(self.array_bytes) {
            return Err(Failure::bad_use("array_bytes is not the size of what its reads select"));
        }
        let (share, at_once) = (memory_share(), self.steps().map(|reads| self.bytes_of(reads)).max().unwrap_or(0));
        for (bytes, what) in [(at_once, "the arrays take"), (self.held_bytes, "the shards that are read whole take")] {
            if bytes > share {
                return Err(Failure::bad_use(format!(
                    "{what} {bytes} bytes, more than a quarter of this machine's memory ({share})"
                )));
            }
        }
        let chunk_shape = &self.array.chunk_shape;
        let chunks = |read: &Vec<Axis>| product(read.iter().zip(chunk_shape).map(|(axis, size)| axis.chunks(*size)));
        let touched: u128 = self.reads.iter().map(chunks).sum();
        if touched > MOST_CHUNKS {
            return Err(Failure::bad_use(format!("its reads touch {touched} chunks, more than {MOST_CHUNKS}")));
        }
        Ok(())
    }

    /// Refuses an array whose elements have another size than the workload was made for.
    ///
    /// # Errors
    /// `BadUse`, before memory is asked for by the size.
    pub fn check_element(&self, element: usize) -> Outcome<()> {
        let selected = self.selected() * u128::from(self.loops);
        if selected * element as u128 != u128::from(self.array_bytes) {
            return Err(Failure::bad_use(format!(
                "array_bytes is not the size of what its reads select: {selected} elements of {element} bytes"
            )));
        }
        Ok(())
    }

    /// What the arrays must hold.
    pub fn truth(&self) -> Outcome<Truth> {
        let given = |text: &Option<String>| text.as_deref().filter(|t| !t.is_empty()).map(checksums).transpose();
        let text = &self.truth;
        Ok(match (given(&text.decoded_crc32c)?, given(&text.reads_crc32c)?, given(&text.windows_crc32c)?) {
            (Some(chunks), None, None) => Truth::Chunks(chunks),
            (None, Some(reads), None) => Truth::Reads(reads),
            (None, None, Some(windows)) => Truth::Windows(windows),
            (None, None, None) => Truth::Unknown,
            _ => return Err(Failure::bad_use("the workload has several truths")),
        })
    }
}

impl ArrayInfo {
    /// Whether objects hold several chunks and their index.
    pub fn is_sharded(&self) -> bool {
        self.index_location != IndexLocation::None
    }

    /// Key of the metadata below the array's.
    pub fn metadata_key(&self) -> &'static str {
        match self.zarr_format {
            Format::V2 => ".zarray",
            Format::V3 => "zarr.json",
        }
    }

    /// Key of a stored object below the array's.
    pub fn object_key(&self, object: &[u64]) -> String {
        let between = match self.separator {
            Separator::Slash => "/",
            Separator::Dot => ".",
        };
        let first = (self.key_encoding == KeyEncoding::Default).then(|| "c".to_owned());
        first.into_iter().chain(object.iter().map(u64::to_string)).collect::<Vec<_>>().join(between)
    }

    fn check(&self) -> Outcome<()> {
        let axes = self.shape.len();
        if self.chunk_shape.len() != axes || self.shard_shape.len() != axes {
            return Err(Failure::bad_use("the workload's shapes have different numbers of axes"));
        }
        if axes > MOST_AXES || product(self.shape.iter().copied()) > MOST_ELEMENTS {
            return Err(Failure::bad_use(format!(
                "the workload's array has more than {MOST_AXES} axes or more than 2**60 elements"
            )));
        }
        let grid = || self.shard_shape.iter().zip(&self.chunk_shape);
        if grid().any(|(shard, chunk)| *chunk == 0 || *shard == 0 || shard % chunk != 0) {
            return Err(Failure::bad_use("the workload's shards are no multiple of its chunks"));
        }
        if !self.is_sharded() && self.shard_shape != self.chunk_shape {
            return Err(Failure::bad_use("the workload's objects hold several chunks and no index"));
        }
        if product(grid().map(|(shard, chunk)| shard / chunk)) > MOST_CHUNKS_PER_SHARD {
            return Err(Failure::bad_use(format!(
                "the workload's shards have more than {MOST_CHUNKS_PER_SHARD} chunks"
            )));
        }
        if product(self.shard_shape.iter().copied()) > MOST_ELEMENTS {
            return Err(Failure::bad_use("the workload's shards have more than 2**60 elements"));
        }
        Ok(())
    }

    fn check_read(&self, read: &[Axis]) -> Outcome<()> {
        let axes = self.shape.len();
        if read.len() != axes {
            return Err(Failure::bad_use(format!("a read has {} axes, the array {axes}", read.len())));
        }
        for (axis, size) in read.iter().zip(&self.shape) {
            if axis.step == 0 || axis.stop > *size || axis.start >= axis.stop {
                return Err(Failure::bad_use(format!("{axis} is no selection of an axis of {size}")));
            }
        }
        Ok(())
    }
}

/// Elements that a read selects.
fn elements(read: &[Axis]) -> u128 {
    product(read.iter().map(|axis| axis.len()))
}

fn product(sizes: impl Iterator<Item = u64>) -> u128 {
    sizes.fold(1, |all, size| u128::saturating_mul(all, size.into()))
}

fn checksums(text: &str) -> Outcome<Vec<u32>> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|e| Failure::bad_use(format!("the workload's checksums are not base64: {e}")))?;
    Ok(bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::{pieces, shape_of};
    use proptest::prelude::*;
    use serde_json::json;

    fn whole() -> Value {
        json!({
            "schema": 1, "target": {"name": "t", "url": "s3://b"}, "in_flight": 8,
            "array": {"key": "a", "shape": [9, 13], "chunk_shape": [2, 3], "shard_shape": [4, 6]},
            "reads": [[[0, 9, 2], [1, 13, 1]], [[0, 1, 1], [0, 13, 5]]],
            "concurrent_reads": 2, "array_bytes": 126, "wanted_bytes": 126, "held_bytes": 126,
            "truth": {"reads_crc32c": "AAAAAAAAAAA="},
        })
    }

    fn refused(pointer: &str, value: Value) -> String {
        let mut changed = whole();
        *changed.pointer_mut(pointer).expect("it is there") = value;
        Workload::from_value(changed).expect_err("it cannot be executed").to_string()
    }

    #[test]
    fn what_would_ask_for_too_much_is_refused() {
        assert!(Workload::from_value(whole()).is_ok());
        for pointer in ["/in_flight", "/concurrent_reads"] {
            for count in [0u64, 10_001, 1 << 63] {
                assert!(refused(pointer, json!(count)).contains("at least 1 and at most 10000"));
            }
        }
        assert!(refused("/reads", json!([])).contains("no reads"));
        assert!(refused("/array_bytes", json!(1u64 << 60)).contains("more than a quarter of this machine's memory"));
        assert!(refused("/held_bytes", json!(u64::MAX)).contains("more than a quarter of this machine's memory"));
        assert!(refused("/array_bytes", json!(62)).contains("not the size of what its reads select"));
        assert!(refused("/array/shape", json!([u64::MAX, 13])).contains("2**60 elements"));
        assert!(refused("/array/shard_shape", json!([1 << 24, 3])).contains("more than 4194304 chunks"));
        assert!(refused("/array/chunk_shape", json!([2, 0])).contains("no multiple"));
    }

    #[test]
    fn a_selection_of_more_chunks_than_any_data_set_has_is_refused() {
        let mut many = whole();
        many["array"] = json!({"key": "a", "shape": [1 << 25], "chunk_shape": [1], "shard_shape": [1]});
        many["reads"] = json!([[[0, 1 << 25, 1]]]);
        many["array_bytes"] = json!(1 << 25);
        let why = Workload::from_value(many).expect_err("it is too much").to_string();
        assert_eq!(why, "its reads touch 33554432 chunks, more than 20000000");
    }

    #[test]
    fn an_object_s_key_is_made_as_its_encoding_says() {
        let array = |more: Value| {
            let mut fields = whole()["array"].clone();
            fields.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
            serde_json::from_value::<ArrayInfo>(fields)
        };
        let key = |more| array(more).map(|array| (array.metadata_key(), array.object_key(&[3, 10])));
        assert_eq!(key(json!({})).ok(), Some(("zarr.json", "c/3/10".to_owned())));
        assert_eq!(key(json!({"separator": "."})).ok(), Some(("zarr.json", "c.3.10".to_owned())));
        let elder = json!({"zarr_format": 2, "key_encoding": "v2", "separator": "."});
        assert_eq!(key(elder).ok(), Some((".zarray", "3.10".to_owned())));
        assert!(array(json!({"zarr_format": 4})).is_err() && array(json!({"separator": "c"})).is_err());
        let mut unsharded = whole()["array"].clone();
        unsharded["index_location"] = json!("none");
        assert!(refused("/array", unsharded).contains("no index"));
    }

    #[test]
    fn elements_of_another_size_are_refused() {
        let workload = Workload::from_value(whole()).expect("a workload");
        assert!(workload.check_element(2).is_ok());
        let why = workload.check_element(4).expect_err("they are larger").to_string();
        assert!(why.ends_with("63 elements of 4 bytes"), "{why}");
    }

    #[test]
    fn a_file_without_an_end_is_not_read_to_it() {
        let why = Workload::load(Path::new("/dev/zero")).expect_err("it is no workload").to_string();
        assert!(why.starts_with("cannot read /dev/zero: more than"), "{why}");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            (0u64..20).prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            number,
            ".{0,20}".prop_map(Value::from),
            prop_oneof![Just("."), Just("../x"), Just("a//b"), Just("s3://"), Just("==")].prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map("[a-z_0-9]{0,12}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// The places of a value that can be changed, as JSON pointers.
    fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
        found.push(at.to_owned());
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, one)| pointers(one, &format!("{at}/{key}"), found)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, one)| pointers(one, &format!("{at}/{i}"), found));
            }
            _ => (),
        }
    }

    /// Holds what is asked of any text: a workload whose selections can be made, or one line.
    fn check(text: &[u8]) -> Result<(), TestCaseError> {
        match Workload::parse(text) {
            Ok(workload) => {
                let _ = workload.truth();
                for read in &workload.reads {
                    let touched: Vec<_> = pieces(read, &workload.array.chunk_shape).collect();
                    let counted: u64 =
                        read.iter().zip(&workload.array.chunk_shape).map(|(axis, size)| axis.chunks(*size)).product();
                    prop_assert_eq!(touched.len() as u64, counted);
                    prop_assert!(shape_of(read).iter().product::<u64>() <= workload.array_bytes);
                }
            }
            Err(failure) => prop_assert!(!failure.line().is_empty() && failure.exit_code() == 2),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_workload_or_refused(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            check(&text)?;
        }

        #[test]
        fn a_workload_with_anything_changed_is_one_or_refused(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any_json()), 1..4),
            cut in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let mut workload = whole();
            for (where_, value) in changes {
                let mut places = Vec::new();
                pointers(&workload, "", &mut places);
                if let Some(place) = workload.pointer_mut(&places[where_.index(places.len())]) {
                    *place = value;
                }
            }
            let text = workload.to_string().into_bytes();
            let end = cut.map_or(text.len(), |cut| cut.index(text.len() + 1));
            check(&text[..end])?;
        }
    }
}
