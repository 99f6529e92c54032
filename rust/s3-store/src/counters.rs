//! What the store counts, since its start and since named marks.
//!
//! A request costs a few relaxed atomic additions, nearly all of them to memory of its worker's own. A mark is a copy
//! of all counters, subtracted when it is read; only marks that keep a log are told of each request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::fault::Fault;
use crate::kind::Kind;
use crate::sys;

const KINDS: usize = Kind::ALL.len();
const FAULTS: usize = Fault::ALL.len();
/// Statuses are three digits.
const STATUSES: usize = 1000;
/// More requests than this in flight are reported as this many.
const LEVELS: usize = 8192;
const MAX_MARKS: usize = 64;
const MAX_RECORDS: usize = 1_000_000;

/// One request as `GET /marks/NAME/requests` shows it. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Serialize)]
pub struct Record {
    pub method: String,
    /// Empty for a request to the service itself.
    pub bucket: String,
    /// Percent-decoded; empty for a request to a bucket.
    pub key: String,
    /// Bytes of the object that were answered, half-open; `None` for anything but a 206.
    pub range: Option<[u64; 2]>,
    pub kind: &'static str,
    /// `None`, as both times of the answer, when the client left before there was one.
    pub status: Option<u16>,
    /// Bytes of the response body that the socket took.
    pub bytes: u64,
    /// Counts the connections of this server from 1.
    pub connection: u64,
    /// Request headers parsed.
    pub received_ns: u64,
    /// First body byte, or the headers of an empty answer, handed to the socket.
    pub first_byte_ns: Option<u64>,
    /// Last body byte handed to the socket; as `first_byte_ns` for an empty answer.
    pub last_byte_ns: Option<u64>,
}

/// Which request of its kind and tally one is, from 0, in the order of counting: so a mark knows whether it counts it.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    kind: Kind,
    tally: usize,
    number: u64,
}

/// What one thread counts. A worker has one of its own, so that cores do not wait for each other's memory.
struct Tally {
    kinds: [AtomicU64; KINDS],
    statuses: Box<[AtomicU64]>,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
    /// Requests whose body has ended but whose last bytes are still on their way into the socket. They settle on the
    /// thread on which they end, so no tally's is ever below zero.
    settling: AtomicU64,
}

/// All counters of the server.
pub struct Counters {
    tallies: Box<[CachePadded<Tally>]>,
    faults: [AtomicU64; FAULTS],
    /// Requests that came again after a fault.
    retries: AtomicU64,
    connections_accepted: AtomicU64,
    connections_open: AtomicU64,
    /// One for all: its maximum is that of all workers at one moment, which their own maxima do not tell.
    in_flight: CachePadded<AtomicU64>,
    /// When so many requests were last reached from below: the maximum since any moment, for one store per request.
    reached_ns: Box<[AtomicU64]>,
    /// Marks that keep a log.
    logs: AtomicUsize,
    marks: Mutex<Marks>,
}

#[derive(Default)]
struct Marks {
    named: HashMap<String, Mark>,
    /// Counts uses, to find the mark that was not used for longest.
    clock: u64,
}

struct Mark {
    start: Snapshot,
    log: Option<Log>,
    used: u64,
}

#[derive(Default)]
struct Log {
    records: Vec<Arc<Record>>,
    dropped: u64,
}

/// The counters at one moment; at first all are zero.
#[derive(Default)]
struct Snapshot {
    at_ns: u64,
    cpu_ns: u64,
    /// By tally; none at first.
    kinds: Vec<[u64; KINDS]>,
    /// Statuses from 400 on that have occurred.
    errors: HashMap<usize, u64>,
    faults: [u64; FAULTS],
    retries: u64,
    bytes_out: u64,
    bytes_in: u64,
    connections_accepted: u64,
    in_flight: u64,
}

fn zeros(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// Numbers threads in the order in which they first count something.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Relaxed);
    }
    NUMBER.with(|&number| number)
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            kinds: Default::default(),
            statuses: zeros(STATUSES),
            bytes_out: AtomicU64::default(),
            bytes_in: AtomicU64::default(),
            settling: AtomicU64::default(),
        }
    }
}

impl Default for Counters {
    fn default() -> Self {
        // One for each worker, and one for the thread that starts and stops them.
        Self {
            tallies: (0..=sys::cores()).map(|_| CachePadded::default()).collect(),
            faults: Default::default(),
            retries: AtomicU64::default(),
            connections_accepted: AtomicU64::default(),
            connections_open: AtomicU64::default(),
            in_flight: CachePadded::default(),
            reached_ns: zeros(LEVELS),
            logs: AtomicUsize::default(),
            marks: Mutex::default(),
        }
    }
}

/// What happens on the S3 port.
impl Counters {
    /// The tally of this thread; threads beyond the number of tallies share them.
    fn own(&self) -> (usize, &Tally) {
        let tally = thread_number() % self.tallies.len();
        (tally, &self.tallies[tally])
    }

    /// Counts a new connection and returns its number, from 1.
    pub fn connection_opened(&self) -> u64 {
        self.connections_open.fetch_add(1, Relaxed);
        self.connections_accepted.fetch_add(1, Relaxed) + 1
    }

    pub fn connection_closed(&self) {
        self.connections_open.fetch_sub(1, Relaxed);
    }

    pub fn connections_open(&self) -> u64 {
        self.connections_open.load(Relaxed)
    }

    /// A request's headers were parsed at `now_ns`.
    pub fn request_began(&self, now_ns: u64) {
        let level = self.in_flight.fetch_add(1, Relaxed) + 1;
        self.reached_ns[level.min(LEVELS as u64 - 1) as usize].store(now_ns, Relaxed);
    }

    /// A request's kind and status are known.
    pub fn request_answered(&self, kind: Kind, status: u16) -> Counted {
        self.own().1.statuses[usize::from(status).min(STATUSES - 1)].fetch_add(1, Relaxed);
        self.request_of(kind)
    }

    /// A request ended without an answer.
    pub fn request_of(&self, kind: Kind) -> Counted {
        let (tally, own) = self.own();
        Counted { kind, tally, number: own.kinds[kind as usize].fetch_add(1, SeqCst) }
    }

    /// A request's response body has ended or was dropped; [`Self::request_settled`] follows.
    pub fn request_ended(&self) {
        self.own().1.settling.fetch_add(1, Relaxed);
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Nothing more will be counted for a request that has ended. `record` is called if a log wants it; it has none to give
    /// of a request that began before there was a log.
    pub fn request_settled(&self, counted: Counted, record: impl FnOnce() -> Option<Record>) {
        if self.is_logging() {
            self.marks.lock().push(counted, record().map(Arc::new));
        }
        self.own().1.settling.fetch_sub(1, Relaxed);
    }

    pub fn fault_injected(&self, fault: Fault) {
        self.faults[fault as usize].fetch_add(1, Relaxed);
    }

    /// A request asked again for what a fault had spoiled.
    pub fn request_repeated(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub fn sent(&self, bytes: u64) {
        self.own().1.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub fn received(&self, bytes: u64) {
        self.own().1.bytes_in.fetch_add(bytes, Relaxed);
    }

    /// Whether requests should note what a [`Record`] needs.
    pub fn is_logging(&self) -> bool {
        self.logs.load(SeqCst) > 0
    }
}

/// What the control port asks for.
impl Counters {
    /// Whether every request that has ended is fully counted. A client may see the last byte before the store,
    /// on another core, has counted it.
    pub fn is_settled(&self) -> bool {
        self.tallies.iter().all(|tally| tally.settling.load(Relaxed) == 0)
    }

    /// Starts or restarts a named interval, with a log of requests if asked.
    pub fn mark(&self, name: &str, with_log: bool) {
        let mut marks = self.marks.lock();
        marks.insert(name, Mark { start: Snapshot::default(), log: with_log.then(Log::default), used: 0 });
        self.logs.store(marks.logs(), SeqCst);
        // After that: a request which this snapshot does not hold finds the log when it is settled.
        let start = self.snapshot();
        marks.named.entry(name.to_owned()).and_modify(|mark| mark.start = start);
    }

    /// Forgets a mark; false when there is none.
    pub fn remove_mark(&self, name: &str) -> bool {
        let mut marks = self.marks.lock();
        let known = marks.named.remove(name).is_some();
        self.logs.store(marks.logs(), SeqCst);
        known
    }

    /// The counters since the server started.
    pub fn since_start(&self) -> Value {
        self.difference(&Snapshot::default())
    }

    /// The counters since a mark; `None` when there is none.
    pub fn since_mark(&self, name: &str) -> Option<Value> {
        let mut marks = self.marks.lock();
        let mark = marks.used(name)?;
        Some(self.difference(&mark.start))
    }

    /// The requests since a mark made with a log, and how many it does not hold; `None` when there is none. Together they
    /// are as many as the mark counts.
    pub fn records_since_mark(&self, name: &str) -> Option<(Vec<Arc<Record>>, u64)> {
        let mut marks = self.marks.lock();
        let log = marks.used(name)?.log.as_ref()?;
        Some((log.records.clone(), log.dropped))
    }

    /// A counter of all tallies together.
    fn sum<'a>(&'a self, counter: impl Fn(&'a Tally) -> &'a AtomicU64) -> u64 {
        self.tallies.iter().map(|tally| counter(tally).load(Relaxed)).sum()
    }

    fn snapshot(&self) -> Snapshot {
        let errors = (400..STATUSES).filter_map(|status| {
            let count = self.sum(|tally| &tally.statuses[status]);
            (count > 0).then_some((status, count))
        });
        Snapshot {
            at_ns: sys::monotonic_ns(),
            cpu_ns: sys::process_cpu_ns(),
            kinds: self.tallies.iter().map(|tally| tally.kinds.each_ref().map(|kind| kind.load(SeqCst))).collect(),
            errors: errors.collect(),
            faults: std::array::from_fn(|fault| self.faults[fault].load(Relaxed)),
            retries: self.retries.load(Relaxed),
            bytes_out: self.sum(|tally| &tally.bytes_out),
            bytes_in: self.sum(|tally| &tally.bytes_in),
            connections_accepted: self.connections_accepted.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
        }
    }

    /// The most requests at once since `start`: those in flight then, or more that were reached later.
    fn max_in_flight(&self, start: &Snapshot) -> u64 {
        let floor = start.in_flight as usize;
        let higher = (floor + 1..LEVELS).rev();
        let reached = higher.into_iter().find(|&level| self.reached_ns[level].load(Relaxed) > start.at_ns);
        reached.unwrap_or(floor) as u64
    }

    fn difference(&self, start: &Snapshot) -> Value {
        let now = self.snapshot();
        let memory = Memory::read();
        let mut json = Map::new();
        let kinds: [u64; KINDS] = std::array::from_fn(|kind| now.of_kind(kind) - start.of_kind(kind));
        json.insert("requests".into(), kinds.iter().sum::<u64>().into());
        for (kind, count) in Kind::ALL.iter().zip(kinds) {
            json.insert(kind.name().into(), count.into());
        }
        let by_status = errors_since(&now, start);
        json.insert("errors".into(), by_status.values().sum::<u64>().into());
        json.insert("errors_by_status".into(), json!(by_status));
        let by_name = faults_since(&now, start);
        json.insert("faults".into(), by_name.values().map(|count| count.as_u64().unwrap_or(0)).sum::<u64>().into());
        json.insert("faults_by_name".into(), Value::Object(by_name));
        let cpu_us = (now.cpu_ns - start.cpu_ns) / 1000;
        for (name, value) in [
            ("retries", now.retries - start.retries),
            ("bytes_out", now.bytes_out - start.bytes_out),
            ("bytes_in", now.bytes_in - start.bytes_in),
            ("connections_accepted", now.connections_accepted - start.connections_accepted),
            ("connections_open", self.connections_open()),
            ("in_flight", now.in_flight),
            ("max_in_flight", self.max_in_flight(start)),
            ("rss_bytes", memory.resident),
            ("peak_rss_bytes", memory.peak),
        ] {
            json.insert(name.into(), value.into());
        }
        json.insert("cpu_seconds".into(), (cpu_us as f64 / 1e6).into());
        Value::Object(json)
    }
}

impl Snapshot {
    fn of_kind(&self, kind: usize) -> u64 {
        self.kinds.iter().map(|kinds| kinds[kind]).sum()
    }
}

fn errors_since(now: &Snapshot, start: &Snapshot) -> std::collections::BTreeMap<String, u64> {
    let since = now.errors.iter().map(|(status, count)| {
        let before = start.errors.get(status).copied().unwrap_or(0);
        (status.to_string(), count - before)
    });
    since.filter(|(_, count)| *count > 0).collect()
}

/// Faults that have occurred, by name.
fn faults_since(now: &Snapshot, start: &Snapshot) -> Map<String, Value> {
    let since = Fault::ALL.iter().map(|&fault| (fault, now.faults[fault as usize] - start.faults[fault as usize]));
    since.filter(|(_, count)| *count > 0).map(|(fault, count)| (fault.name().to_owned(), count.into())).collect()
}

impl Marks {
    fn used(&mut self, name: &str) -> Option<&mut Mark> {
        self.clock += 1;
        let mark = self.named.get_mut(name)?;
        mark.used = self.clock;
        Some(mark)
    }

    fn insert(&mut self, name: &str, mark: Mark) {
        if !self.named.contains_key(name) && self.named.len() >= MAX_MARKS {
            let oldest = self.named.iter().min_by_key(|(_, mark)| mark.used).map(|(name, _)| name.clone());
            self.named.remove(&oldest.unwrap_or_default());
        }
        self.named.insert(name.to_owned(), mark);
        self.used(name);
    }

    fn logs(&self) -> usize {
        self.named.values().filter(|mark| mark.log.is_some()).count()
    }

    /// Notes a request in every log whose mark counts it.
    fn push(&mut self, counted: Counted, record: Option<Arc<Record>>) {
        for mark in self.named.values_mut() {
            let Some(log) = &mut mark.log else { continue };
            if counted.number < mark.start.kinds.get(counted.tally).map_or(0, |kinds| kinds[counted.kind as usize]) {
                continue;
            }
            match &record {
                Some(record) if log.records.len() < MAX_RECORDS => log.records.push(record.clone()),
                _ => log.dropped += 1,
            }
        }
    }
}

/// Memory of this process in bytes; 0 when the kernel does not tell.
struct Memory {
    resident: u64,
    peak: u64,
}

impl Memory {
    fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        Self { resident: kib("VmRSS:") * 1024, peak: kib("VmHWM:") * 1024 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: &Value, name: &str) -> u64 {
        value[name].as_u64().unwrap()
    }

    fn answer(counters: &Counters, kind: Kind, status: u16) {
        counters.request_began(sys::monotonic_ns());
        let counted = counters.request_answered(kind, status);
        counters.request_ended();
        counters.request_settled(counted, || None);
    }

    #[test]
    fn a_mark_sees_only_what_comes_after_it() {
        let counters = Counters::default();
        answer(&counters, Kind::Head, 404);
        counters.mark("m", false);
        answer(&counters, Kind::GetData, 206);
        answer(&counters, Kind::GetData, 404);
        let since = counters.since_mark("m").unwrap();
        assert_eq!((number(&since, "requests"), number(&since, "get_data"), number(&since, "head")), (2, 2, 0));
        assert_eq!((number(&since, "errors"), number(&since["errors_by_status"], "404")), (1, 1));
        assert_eq!(number(&counters.since_start(), "errors"), 2);
        assert!(counters.since_mark("other").is_none());
    }

    #[test]
    fn a_log_and_what_it_dropped_are_what_its_mark_counts() {
        let counters = Counters::default();
        let record = || Record {
            method: "GET".into(),
            bucket: "b".into(),
            key: "k".into(),
            range: None,
            kind: Kind::GetData.name(),
            status: Some(200),
            bytes: 0,
            connection: 1,
            received_ns: 0,
            first_byte_ns: None,
            last_byte_ns: None,
        };
        let counted_before = counters.request_answered(Kind::GetData, 200);
        counters.mark("m", true);
        counters.request_settled(counted_before, || Some(record()));
        // It began when nobody wanted its names.
        let nameless = counters.request_answered(Kind::GetData, 200);
        counters.request_settled(nameless, || None);
        let logged = counters.request_answered(Kind::GetData, 200);
        counters.request_settled(logged, || Some(record()));
        let (records, dropped) = counters.records_since_mark("m").unwrap();
        assert_eq!((records.len(), dropped), (1, 1));
        assert_eq!(number(&counters.since_mark("m").unwrap(), "requests"), 2);
    }

    #[test]
    fn what_many_threads_count_adds_up_and_a_mark_tells_theirs_apart() {
        let counters = Counters::default();
        let count_on_threads = || {
            // More threads than tallies: some share one.
            let threads = 2 * counters.tallies.len() + 1;
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for _ in 0..1000 {
                            answer(&counters, Kind::GetData, 404);
                            counters.sent(3);
                            counters.received(2);
                        }
                    });
                }
            });
            1000 * threads as u64
        };
        count_on_threads();
        counters.mark("m", true);
        let expected = count_on_threads();
        assert!(counters.is_settled());
        let since = counters.since_mark("m").unwrap();
        let counts = ["requests", "get_data", "errors", "bytes_out", "bytes_in", "in_flight"];
        let expected_counts = [expected, expected, expected, 3 * expected, 2 * expected, 0];
        assert_eq!(counts.map(|name| number(&since, name)), expected_counts);
        assert_eq!(counters.records_since_mark("m").unwrap().1, expected);
        assert_eq!(number(&counters.since_start(), "requests"), 2 * expected);
    }

    #[test]
    fn the_maximum_in_flight_is_that_of_all_threads_at_one_moment() {
        let counters = Counters::default();
        let all_began = std::sync::Barrier::new(5);
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    counters.request_began(sys::monotonic_ns());
                    all_began.wait();
                    counters.request_ended();
                });
            }
        });
        assert_eq!(number(&counters.since_start(), "max_in_flight"), 5);
    }

    #[test]
    fn the_maximum_in_flight_is_that_of_the_interval() {
        let counters = Counters::default();
        let now = sys::monotonic_ns;
        (0..5).for_each(|_| counters.request_began(now()));
        (0..4).for_each(|_| counters.request_ended());
        counters.mark("later", false);
        assert_eq!(number(&counters.since_mark("later").unwrap(), "max_in_flight"), 1);
        counters.request_began(now());
        counters.request_ended();
        assert_eq!(number(&counters.since_mark("later").unwrap(), "max_in_flight"), 2);
        assert_eq!(number(&counters.since_start(), "max_in_flight"), 5);
    }

    #[test]
    fn the_least_recently_used_mark_goes_first() {
        let counters = Counters::default();
        (0..MAX_MARKS).for_each(|i| counters.mark(&i.to_string(), false));
        counters.since_mark("0").unwrap();
        counters.mark("one more", false);
        assert!(counters.since_mark("0").is_some());
        assert!(counters.since_mark("1").is_none());
    }
}
