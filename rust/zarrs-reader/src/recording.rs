//! One recorded execution: what was requested when, and when each chunk was decoded (docs/timelines.md).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use http::{Method, StatusCode};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::{Value, json};

use crate::clocks::{now_ns, thread_id};
use crate::content_range::ContentRange;

const METADATA: &str = "zarr.json";

/// Collects events while it is on; off, it costs one load per event.
#[derive(Debug, Default)]
pub struct Recorder {
    on: AtomicBool,
    requests_begun: AtomicU64,
    events: Mutex<Events>,
}

#[derive(Debug, Default)]
struct Events {
    requests: Vec<Request>,
    chunks: Vec<Decoded>,
    decodes: Vec<Decode>,
}

/// A decode that no chunk is known of, by what was decoded.
#[derive(Debug, Serialize)]
pub struct Decode {
    length: u64,
    crc32c: u32,
    thread: u64,
    begin_ns: u64,
    end_ns: u64,
    /// When it was in the array that the call returns; None where zarrs copies it later, unseen.
    copied_ns: Option<u64>,
    /// Address and length of what the next codec of the chain takes; the encoded bytes while it is under way.
    #[serde(skip)]
    passed: (usize, usize),
}

/// What becomes of a codec's result.
pub enum Passed<'a> {
    /// The next codec may take it.
    On(&'a [u8]),
    /// It is decoded, and zarrs copies it.
    ToZarrs,
    /// It was decoded into its place.
    IntoPlace,
}

/// A request; fields as in docs/timelines.md.
#[derive(Debug, Serialize)]
struct Request {
    id: u64,
    method: String,
    key: String,
    range: Option<[u64; 2]>,
    kind: &'static str,
    /// None, as what follows, where no answer came.
    status: Option<u16>,
    sent_ns: u64,
    headers_ns: Option<u64>,
    first_byte_ns: Option<u64>,
    last_byte_ns: Option<u64>,
    bytes: u64,
    /// Bytes of the body that had come, and when.
    #[serde(skip)]
    frames: Vec<(u64, u64)>,
}

/// Where a chunk is stored: its key, and its bytes there.
#[derive(Debug, Clone)]
pub struct Place {
    pub key: Arc<str>,
    pub offset: u64,
    pub length: u64,
}

/// A chunk in its place of the final array.
#[derive(Debug)]
struct Decoded {
    chunk: Vec<u64>,
    place: Place,
    begin_ns: u64,
    decoded_ns: u64,
    copy_start_ns: u64,
    copied_ns: u64,
    thread: u64,
}

/// A request under way; it is kept when its body ends, or is given up.
#[derive(Debug)]
pub struct Stamping {
    recorder: Arc<Recorder>,
    request: Request,
}

impl Recorder {
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// Forgets what was recorded before, and begins.
    pub fn begin(&self) {
        *self.events.lock() = Events::default();
        self.requests_begun.store(0, Relaxed);
        self.on.store(true, Relaxed);
    }

    pub fn end(&self) {
        self.on.store(false, Relaxed);
    }

    /// Stamps a request that is about to be sent; `path` is that of its address, which ends with the key below the array's `prefix`.
    pub fn sent(self: &Arc<Self>, method: &Method, path: &str, prefix: &str) -> Option<Stamping> {
        if !self.is_on() {
            return None;
        }
        let path = percent_decode_str(path).decode_utf8_lossy();
        let key = path.split_once(prefix).map_or(&*path, |(_, key)| key).trim_start_matches('/').to_owned();
        let kind = if *method == Method::HEAD || key.ends_with(METADATA) { "metadata" } else { "data" };
        let request = Request {
            id: self.requests_begun.fetch_add(1, Relaxed),
            method: method.to_string(),
            key,
            range: None,
            kind,
            status: None,
            sent_ns: now_ns(),
            headers_ns: None,
            first_byte_ns: None,
            last_byte_ns: None,
            bytes: 0,
            frames: Vec::new(),
        };
        Some(Stamping { recorder: Arc::clone(self), request })
    }

    /// Keeps a chunk whose decode began and ended, whose copy began, and which is in its place now.
    ///
    /// What another read has decoded may be copied long after that.
    pub fn copied(&self, chunk: Vec<u64>, place: Place, (begin_ns, decoded_ns): (u64, u64), copy_start_ns: u64) {
        let (copied_ns, thread) = (now_ns(), thread_id());
        let copied = Decoded { chunk, place, begin_ns, decoded_ns, copy_start_ns, copied_ns, thread };
        self.events.lock().chunks.push(copied);
    }

    /// Stamps a codec that is about to decode; None while nothing is recorded.
    pub fn decode_begins(&self, encoded: &[u8]) -> Option<Decode> {
        self.is_on().then(|| Decode {
            length: encoded.len() as u64,
            crc32c: crc32c::crc32c(encoded),
            thread: thread_id(),
            begin_ns: now_ns(),
            end_ns: 0,
            copied_ns: None,
            passed: (encoded.as_ptr().addr(), encoded.len()),
        })
    }

    /// Keeps what a codec did: a decode of its own, or one more part of the decode whose result it took.
    pub fn decode_ends(&self, begun: Option<Decode>, result: Passed<'_>) {
        let Some(mut decode) = begun else { return };
        decode.end_ns = now_ns();
        let taken = decode.passed;
        decode.passed = if let Passed::On(bytes) = result { (bytes.as_ptr().addr(), bytes.len()) } else { (0, 0) };
        decode.copied_ns = matches!(result, Passed::IntoPlace).then_some(decode.end_ns);
        let mut events = self.events.lock();
        match events.decodes.iter_mut().rev().find(|before| before.thread == decode.thread) {
            Some(before) if before.passed == taken => {
                (before.end_ns, before.copied_ns, before.passed) = (decode.end_ns, decode.copied_ns, decode.passed);
            }
            _ => events.decodes.push(decode),
        }
    }

    /// The decodes that no chunk is known of; to be asked before `timeline`, which forgets.
    pub fn decodes(&self) -> Vec<Decode> {
        std::mem::take(&mut self.events.lock().decodes)
    }

    /// The timeline without its header, which the conductor fills.
    pub fn timeline(&self, begin_ns: u64, end_ns: u64) -> Value {
        let Events { mut requests, chunks, .. } = std::mem::take(&mut *self.events.lock());
        requests.sort_by_key(|request| request.id);
        let mut by_key: HashMap<&str, Vec<&Request>> = HashMap::new();
        for request in requests.iter().filter(|request| request.kind == "data") {
            by_key.entry(&request.key).or_default().push(request);
        }
        let chunks: Vec<Value> =
            chunks.iter().map(|one| one.linked(by_key.get(&*one.place.key).map_or(&[], Vec::as_slice))).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        json!({
            "schema": 1, "reader": "", "workload": {}, "target": "",
            "begin_ns": begin_ns, "end_ns": end_ns, "cores": cores,
            "valid": {"ok": true, "chunks_wanted": chunks.len(), "chunks_linked": chunks.len(),
                      "requests_recorded": requests.len()},
            "requests": requests, "chunks": chunks,
        })
    }
}

impl Stamping {
    pub fn answered(&mut self, status: StatusCode, range: Option<ContentRange>) {
        self.request.headers_ns = Some(now_ns());
        self.request.status = Some(status.as_u16());
        if self.request.kind == "data" && range.as_ref().is_some_and(ContentRange::is_index) {
            self.request.kind = "index";
        }
        self.request.range = range.map(|range| [range.span.start, range.span.end]);
        if self.request.method == Method::HEAD.as_str() {
            self.request.last_byte_ns = self.request.headers_ns;
        }
    }

    pub fn came(&mut self, bytes: usize) {
        let now = now_ns();
        self.request.bytes += bytes as u64;
        self.request.first_byte_ns.get_or_insert(now);
        self.request.last_byte_ns = Some(now);
        self.request.frames.push((self.request.bytes, now));
    }
}

impl Drop for Stamping {
    fn drop(&mut self) {
        let empty = Request { method: String::new(), key: String::new(), frames: Vec::new(), ..self.request };
        let request = std::mem::replace(&mut self.request, empty);
        self.recorder.events.lock().requests.push(request);
    }
}

impl Request {
    fn begin(&self) -> u64 {
        self.range.map_or(0, |range| range[0])
    }

    /// When the byte at `position` of the object had come, or the first after it.
    fn came_at(&self, position: u64) -> Option<u64> {
        let inside = position.saturating_sub(self.begin());
        self.frames.iter().find(|(end, _)| *end > inside).or(self.frames.last()).map(|(_, time)| *time)
    }

    fn overlaps(&self, place: &Place) -> bool {
        self.begin() < place.offset + place.length && place.offset < self.begin() + self.bytes
    }
}

impl Decoded {
    /// The chunk with the request that brought it; of several parts the one that came last.
    fn linked(&self, candidates: &[&Request]) -> Value {
        let Place { key, offset, length } = &self.place;
        let last_byte = |request: &Request| request.came_at(offset + length - 1);
        let brought = candidates
            .iter()
            .filter(|request| request.overlaps(&self.place) && last_byte(request) <= Some(self.begin_ns))
            .max_by_key(|request| last_byte(request));
        json!({
            "chunk": self.chunk, "key": &**key, "offset": offset, "length": length,
            "request": brought.map(|request| request.id),
            "sent_ns": brought.map(|request| request.sent_ns),
            "first_byte_ns": brought.and_then(|request| request.came_at(*offset)),
            "last_byte_ns": brought.and_then(|request| last_byte(request)),
            "decode_start_ns": self.begin_ns, "decoded_ns": self.decoded_ns,
            "copy_start_ns": self.copy_start_ns, "copied_ns": self.copied_ns,
            "thread": self.thread,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_recorded_by_the_key_that_its_address_escapes() {
        let recorder = Arc::new(Recorder::default());
        recorder.begin();
        let one = recorder.sent(&Method::GET, "/bucket/an%20array/c/0", "an array").expect("it is on");
        assert_eq!((one.request.key.as_str(), one.request.kind), ("c/0", "data"));
    }

    fn stamped(recorder: &Arc<Recorder>, range: &str, frames: &[usize]) {
        let mut one = recorder.sent(&Method::GET, "/bucket/a%20b/array/c/0", "array").expect("it is on");
        one.answered(StatusCode::PARTIAL_CONTENT, ContentRange::parse(range));
        frames.iter().for_each(|bytes| one.came(*bytes));
    }

    #[test]
    fn a_chunk_has_the_times_of_its_own_bytes() {
        let recorder = Arc::new(Recorder::default());
        assert!(recorder.sent(&Method::GET, "/x", "array").is_none());
        recorder.begin();
        stamped(&recorder, "bytes 100-399/1000", &[100, 100, 100]);
        let place = Place { key: "c/0".into(), offset: 200, length: 100 };
        recorder.copied(vec![1], place, (now_ns(), now_ns()), now_ns());
        let times: Vec<u64> = recorder.events.lock().requests[0].frames.iter().map(|(_, time)| *time).collect();
        let found = recorder.timeline(0, 1);
        assert_eq!(found["requests"][0]["range"], json!([100, 400]));
        assert_eq!(found["chunks"][0]["request"], json!(0));
        assert_eq!(found["chunks"][0]["first_byte_ns"], json!(times[1]));
        assert_eq!(found["chunks"][0]["last_byte_ns"], json!(times[1]));
    }

    #[test]
    fn the_codecs_of_a_chunk_are_one_decode() {
        let recorder = Recorder::default();
        assert!(recorder.decode_begins(b"before").is_none());
        recorder.begin();
        let (encoded, between, other) = (b"encoded".to_vec(), b"between codecs".to_vec(), b"another chunk".to_vec());
        recorder.decode_ends(recorder.decode_begins(&encoded), Passed::On(&between));
        recorder.decode_ends(recorder.decode_begins(&between), Passed::IntoPlace);
        recorder.decode_ends(recorder.decode_begins(&other), Passed::ToZarrs);
        let found = recorder.decodes();
        let seen: Vec<_> = found.iter().map(|one| (one.length, one.crc32c, one.copied_ns.is_some())).collect();
        assert_eq!(seen, [(7, crc32c::crc32c(&encoded), true), (13, crc32c::crc32c(&other), false)]);
        assert!(found[0].begin_ns <= found[0].end_ns && found[0].end_ns <= found[1].begin_ns);
        assert_eq!(found[0].copied_ns, Some(found[0].end_ns));
    }

    #[test]
    fn a_chunk_that_came_in_parts_is_linked_to_the_one_that_came_last() {
        let recorder = Arc::new(Recorder::default());
        recorder.begin();
        stamped(&recorder, "bytes 100-199/1000", &[100]);
        stamped(&recorder, "bytes 0-99/1000", &[100]);
        stamped(&recorder, "bytes 300-399/1000", &[100]);
        recorder.copied(vec![0], Place { key: "c/0".into(), offset: 0, length: 200 }, (now_ns(), now_ns()), now_ns());
        assert_eq!(recorder.timeline(0, 1)["chunks"][0]["request"], json!(1));
    }
}
