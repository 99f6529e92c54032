//! Every engine on shards that say anything of themselves: an array or one line, whatever the bytes.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::settings::{Settings, ShardCache};
use super::{Arrays, Kind, open};
use crate::client::Client;
use crate::failure::Outcome;
use crate::origin::{Authority, Origin};
use crate::plan::Limits;
use crate::serving::{Manners, Server};
use crate::shard_index::MISSING;
use crate::workload::Workload;

/// Chunks of a shard, of four elements of two bytes each.
const CHUNKS: usize = 4;
const CHUNK_BYTES: usize = 8;
const ARRAY_BYTES: usize = CHUNKS * CHUNK_BYTES;

/// An engine and what it is asked with.
type Way = (Kind, Settings);
const PLAIN: Settings = Settings {
    concurrent_target: None,
    chunk_concurrent_minimum: None,
    task_per_shard: false,
    sync_threads: None,
    shard_cache: ShardCache::Read,
};
const STOCK: Way = (Kind::Stock, PLAIN);
const BY_SHARD: Way = (Kind::Stock, Settings { task_per_shard: true, ..PLAIN });
const BLOCKING: Way = (Kind::Stock, Settings { sync_threads: NonZeroUsize::new(2), ..PLAIN });
const PLANNED: Way = (Kind::Planned, PLAIN);
const LIMIT: Way = (Kind::NetworkLimit, PLAIN);

fn metadata(compressor: Option<&str>, index_at: &str) -> Value {
    let mut codecs = vec![json!({"name": "bytes", "configuration": {"endian": "little"}})];
    codecs.extend(compressor.map(|name| json!({"name": name, "configuration": {"level": 1, "checksum": false}})));
    json!({
        "zarr_format": 3, "node_type": "array", "shape": [16], "data_type": "uint16", "fill_value": 7, "attributes": {},
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [16]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "sharding_indexed", "configuration": {
            "chunk_shape": [4], "codecs": codecs, "index_location": index_at,
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        }}],
    })
}

/// So many reads of the same, all at once.
fn workload(step: u64, in_flight: usize, reads: usize) -> Workload {
    Workload::from_value(json!({
        "schema": 1, "target": {"name": "t", "url": "s3://b"}, "in_flight": in_flight,
        "array": {"key": "a", "shape": [16], "chunk_shape": [4], "shard_shape": [16]},
        "reads": vec![[[0, 16, step]]; reads], "concurrent_reads": reads,
        "array_bytes": reads * ARRAY_BYTES / step as usize, "wanted_bytes": reads * ARRAY_BYTES,
    }))
    .expect("a workload")
}

/// An index with the checksum that belongs to it.
fn index(entries: &[[u64; 2]]) -> Vec<u8> {
    let body: Vec<u8> = entries.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect();
    let crc = crc32c::crc32c(&body).to_le_bytes();
    [body.as_slice(), &crc].concat()
}

/// One chunk after the other, as a writer puts them.
fn honest() -> Vec<[u64; 2]> {
    (0..CHUNKS).map(|chunk| [(chunk * CHUNK_BYTES) as u64, CHUNK_BYTES as u64]).collect()
}

fn data() -> Vec<u8> {
    (0..ARRAY_BYTES as u8).collect()
}

/// What an engine makes of an array whose only shard is `shard`; it has seconds for microseconds' work.
async fn read(way: Way, metadata: &Value, shard: Vec<u8>, workload: Workload, limits: Limits) -> Outcome<Arrays> {
    let store = InMemory::new();
    let mut served = HashMap::new();
    for (key, body) in [("a/zarr.json", metadata.to_string().into_bytes()), ("a/c/0", shard)] {
        let body = Bytes::from(body);
        served.insert(key.to_owned(), body.clone());
        store.put(&Path::from(key), body.into()).await.expect("memory");
    }
    let origin = match way {
        LIMIT => origin(&Server::start(served, Manners::default()).await.url()), // it fetches by a client of its own
        _ => nowhere(),
    };
    let client = Client::over(Arc::new(store) as Arc<dyn ObjectStore>, "a", origin);
    let reads = 0..workload.reads.len();
    let engine = open(way.0, Arc::new(workload), client, limits, way.1).await?;
    let variant = engine.variants()[0];
    tokio::time::timeout(Duration::from_secs(20), engine.read(reads, variant)).await.expect("it ends")
}

fn origin(url: &str) -> Origin {
    Origin::new(url, Authority::Anonymous, None).expect("an address")
}

fn nowhere() -> Origin {
    origin("http://127.0.0.1:1")
}

fn limits(part_bytes: u64) -> Limits {
    Limits { max_gap_bytes: 16, part_bytes, whole_bytes: 0, buffer_bytes: 128 << 20, keeps_indexes: false }
}

fn narrow(part_bytes: u64, buffer_bytes: u64) -> Limits {
    Limits { buffer_bytes, ..limits(part_bytes) }
}

fn read_with(way: Way, entries: &[[u64; 2]]) -> Outcome<Arrays> {
    let shard = [data(), index(entries)].concat();
    let runtime = Runtime::new().expect("threads");
    runtime.block_on(read(way, &metadata(None, "end"), shard, workload(1, 8, 1), limits(8 << 20)))
}

#[test]
fn an_honest_shard_is_read_by_every_engine() {
    for way in [STOCK, BY_SHARD, BLOCKING, PLANNED, LIMIT] {
        let arrays = read_with(way, &honest()).expect("an array");
        assert_eq!(arrays.concat(), data(), "{way:?}");
    }
}

#[test]
fn lengths_and_offsets_that_cannot_be_are_refused_before_memory_is_asked_for() {
    let lies: [fn(&mut [u64; 2]); 6] = [
        |entry| entry[1] |= 1 << 33,
        |entry| entry[1] |= 1 << 63,
        |entry| entry[0] |= 1 << 40,
        |entry| entry[1] = MISSING,
        |entry| entry[0] = MISSING,
        |entry| entry[1] = ARRAY_BYTES as u64 + 68 - entry[0],
    ];
    for lie in lies {
        let mut entries = honest();
        lie(&mut entries[2]);
        let why = read_with(PLANNED, &entries).expect_err("it cannot be").to_string();
        assert!(why.starts_with("the index of a/c/0: chunk [2]: "), "{why}");
    }
    for (lie, index) in lies.iter().zip(0..) {
        let mut entries = honest();
        lie(&mut entries[2]);
        let limit = read_with(LIMIT, &entries);
        assert!(limit.is_err(), "lie {index}");
    }
}

#[test]
fn chunks_that_share_bytes_with_others_or_with_the_index_are_refused() {
    let refused = |entries: &[[u64; 2]]| read_with(PLANNED, entries).expect_err("no writer does that").to_string();
    let overlapping = refused(&[[0, 8], [12, 8], [16, 8], [24, 8]]);
    assert_eq!(overlapping, "the index of a/c/0: chunks at 12..20 and 16..24 share bytes");
    let in_the_index = refused(&[[0, 8], [8, 8], [16, 8], [28, 8]]);
    assert_eq!(in_the_index, "the index of a/c/0: a chunk at 28..36 shares bytes with the index at 32..100");
}

#[test]
fn equal_chunks_may_be_stored_once() {
    let arrays = read_with(PLANNED, &[[8, 8], [0, 8], [8, 8], [8, 8]]).expect("an array");
    let (first, second) = (&data()[..8], &data()[8..16]);
    assert_eq!(arrays.concat(), [second, first, second, second].concat());
}

/// Shards of which some are missing, and some chunks of the others, by one request at a time and with room for none.
#[test]
fn an_array_of_many_shards_is_read_however_little_may_be_held() {
    let (shards, missing) = (7, 3);
    let mut described = metadata(None, "end");
    described["shape"] = json!([16 * shards]);
    let mut entries = honest();
    entries[1] = [MISSING, MISSING];
    let shard = [data(), index(&entries)].concat();
    let fill = 7u16.to_le_bytes().repeat(4);
    let of_stored = [&data()[..8], &fill, &data()[16..]].concat();
    let of_shard = |number| if number == missing { fill.repeat(4) } else { of_stored.clone() };
    let expected: Vec<u8> = (0..shards).flat_map(of_shard).collect();
    let runtime = Runtime::new().expect("threads");
    for (in_flight, limits) in [1, 2, 3, 100].into_iter().flat_map(|n| {
        [narrow(8 << 20, 1), narrow(7, 1), narrow(7, 20), narrow(1, 1 << 30), narrow(8, 8)].map(|limits| (n, limits))
    }) {
        let work = json!({
            "schema": 1, "target": {"name": "t", "url": "s3://b"}, "in_flight": in_flight,
            "array": {"key": "a", "shape": [16 * shards], "chunk_shape": [4], "shard_shape": [16]},
            "reads": [[[0, 16 * shards, 1]]], "array_bytes": 32 * shards, "wanted_bytes": 32 * shards,
        });
        let outcome = runtime.block_on(async {
            let store = InMemory::new();
            store.put(&Path::from("a/zarr.json"), described.to_string().into()).await.expect("memory");
            for number in (0..shards).filter(|number| *number != missing) {
                store.put(&Path::from(format!("a/c/{number}")), shard.clone().into()).await.expect("memory");
            }
            let work = Arc::new(Workload::from_value(work).expect("a workload"));
            let client = Client::over(Arc::new(store), "a", nowhere());
            let engine = open(Kind::Planned, work, client, limits, PLAIN).await?;
            tokio::time::timeout(Duration::from_secs(20), engine.read(0..1, "")).await.expect("it ends")
        });
        assert_eq!(outcome.expect("an array").concat(), expected, "{in_flight} in flight, {limits:?}");
    }
}

#[test]
fn an_array_that_is_not_the_workloads_is_refused() {
    let runtime = Runtime::new().expect("threads");
    for (pointer, value, words) in [
        ("/shape", json!([32]), "has shape [32], the workload's has [16]"),
        ("/chunk_grid/configuration/chunk_shape", json!([32]), "has shards [32], the workload's has [16]"),
        ("/codecs/0/configuration/chunk_shape", json!([8]), "has chunks [8], the workload's has [4]"),
        ("/data_type", json!("uint32"), "16 elements of 4 bytes"),
    ] {
        let mut other = metadata(None, "end");
        *other.pointer_mut(pointer).expect("it is there") = value;
        for way in [STOCK, BY_SHARD, BLOCKING, PLANNED] {
            let shard = [data(), index(&honest())].concat();
            let outcome = runtime.block_on(read(way, &other, shard, workload(1, 8, 1), limits(8 << 20)));
            let why = outcome.expect_err("another array").to_string();
            assert!(why.contains(words), "{why}");
        }
    }
}

fn entry() -> impl Strategy<Value = [u64; 2]> {
    let word = || {
        prop_oneof![
            0u64..120,
            Just(MISSING),
            Just(CHUNK_BYTES as u64),
            any::<u64>(),
            (0u32..64).prop_map(|bit| 1 << bit)
        ]
    };
    prop_oneof![
        [word(), word()],
        (0u64..CHUNKS as u64).prop_map(|chunk| [chunk * CHUNK_BYTES as u64, CHUNK_BYTES as u64])
    ]
}

/// A shard whose index has the right checksum and any entries, or any bytes at all.
fn shard() -> impl Strategy<Value = (Vec<u8>, &'static str)> {
    let entries = proptest::collection::vec(entry(), CHUNKS);
    let told = (entries, proptest::collection::vec(any::<u8>(), 0..100), any::<bool>()).prop_map(
        |(entries, data, at_start)| {
            let index = index(&entries);
            if at_start { ([index, data].concat(), "start") } else { ([data, index].concat(), "end") }
        },
    );
    prop_oneof![4 => told, 1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| (bytes, "end"))]
}

proptest! {
    /// No engine of ours panics, hangs or hands out an array of another size.
    #[test]
    fn any_shard_is_an_array_or_one_line(
        (shard, index_at) in shard(),
        compressor in prop_oneof![Just(None), Just(Some("zstd"))],
        step in prop_oneof![Just(1u64), Just(2)],
        (in_flight, reads) in prop_oneof![Just((1usize, 1usize)), Just((8, 1)), Just((8, 3))],
        part_bytes in prop_oneof![Just(7u64), Just(8 << 20)],
        buffer_bytes in prop_oneof![Just(1u64), Just(40), Just(128 << 20)],
    ) {
        let runtime = Runtime::new().expect("threads");
        for way in [PLANNED, LIMIT] {
            let (work, limits) = (workload(step, in_flight, reads), narrow(part_bytes, buffer_bytes));
            let outcome = runtime.block_on(read(way, &metadata(compressor, index_at), shard.clone(), work, limits));
            match outcome {
                Ok(arrays) if way == PLANNED => {
                    prop_assert_eq!(arrays.len(), reads);
                    prop_assert!(arrays.iter().all(|array| *array == arrays[0] && array.len() == ARRAY_BYTES / step as usize));
                }
                Ok(bodies) => prop_assert!(bodies.iter().all(|body| body.len() <= shard.len())),
                Err(failure) => prop_assert!(!failure.line().contains("panic"), "{}", failure),
            }
        }
    }
}

/// One request at a time, and the first chunk cannot be decoded: the others are not fetched after the answer, and other
/// reads that wait for them are gone too.
#[test]
fn nothing_lives_on_after_an_error() {
    for reads in [1, 3] {
        Runtime::new().expect("threads").block_on(fails_and_is_gone(reads));
    }
}

/// An honest shard behind a store that takes its time for each GET.
async fn slow(compressor: Option<&str>, wait: Duration) -> Client {
    let store = InMemory::new();
    let shard = [data(), index(&honest())].concat();
    for (key, body) in [("a/zarr.json", metadata(compressor, "end").to_string().into_bytes()), ("a/c/0", shard)] {
        store.put(&Path::from(key), body.into()).await.expect("memory");
    }
    let config = ThrottleConfig { wait_get_per_call: wait, ..ThrottleConfig::default() };
    Client::over(Arc::new(ThrottledStore::new(store, config)), "a", nowhere())
}

async fn fails_and_is_gone(reads: usize) {
    let client = slow(Some("zstd"), Duration::from_millis(500)).await;
    let held = Arc::clone(&client.recorder);
    let engine =
        open(Kind::Planned, Arc::new(workload(1, 1, reads)), client, limits(8), PLAIN).await.expect("an array");
    let why = engine.read(0..reads, "").await.expect_err("no zstd").to_string();
    assert!(why.contains("cannot be decoded"), "{why}");
    drop(engine);
    let begun = Instant::now();
    while Arc::strong_count(&held) > 1 && begun.elapsed() < Duration::from_millis(300) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(Arc::strong_count(&held), 1, "tasks of the read are still there");
}

/// What one task polls is decoded by one thread.
#[tokio::test]
async fn what_zarrs_has_under_way_at_once_are_tasks() {
    for (step, reads, tasks) in [(1, 4, 4), (2, 1, 1 + CHUNKS)] {
        let client = slow(None, Duration::from_millis(200)).await;
        let engine =
            open(Kind::Stock, Arc::new(workload(step, 8, reads)), client, limits(8), PLAIN).await.expect("an array");
        let counted = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            tokio::runtime::Handle::current().metrics().num_alive_tasks()
        };
        let (arrays, alive) = tokio::join!(engine.read(0..reads, ""), counted);
        arrays.expect("what is stored");
        assert_eq!(alive, tasks, "step {step}");
    }
}
