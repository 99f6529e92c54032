//! HTTP/1.1 range GETs with as little between socket and memory as there can be: one connection per request under way,
//! bodies read by the kernel, or decrypted, straight into the memory that keeps them.
//!
//! A general client pays for redirects, pools and frames; at 16 KiB a request that is half of its time. The limit needs
//! none of these: an answer that leads elsewhere is an error.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, StatusCode};
use object_store::GetRange;
use object_store::path::Path;
use parking_lot::Mutex;

use super::memory::Memory;
use crate::client::{Client, Counters, TIMEOUT, is_passing};
use crate::content_range::ContentRange;
use crate::failure::{Failure, Outcome};
use crate::origin::{Connection, Origin};

/// Read at first: headers, and with them all of a small body, which is then copied while it is still cached.
const FIRST_READ_BYTES: usize = 20 << 10;
/// Read at once of a body that is thrown away: few calls, and memory that a core's cache still holds.
const SKIPPED_READ_BYTES: usize = 128 << 10;
const MOST_HEADERS: usize = 64;
/// As object_store repeats what may succeed the next time.
const RETRIES: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Fetches ranges of one target.
pub struct LeanClient {
    origin: Arc<Origin>,
    counters: Arc<Counters>,
    /// For the first bytes of answers: one for each request under way, none for those that wait for their turn.
    buffers: Mutex<Vec<Box<[u8]>>>,
    buffer_bytes: usize,
    /// How often a GET is repeated at most.
    retries: u32,
}

/// Why a request yields nothing.
#[derive(Debug)]
enum Refusal {
    /// Another one may succeed: the connection broke, or the server was too busy.
    Passing(String),
    Final(String),
}

impl Refusal {
    fn reason(self) -> String {
        match self {
            Self::Passing(reason) | Self::Final(reason) => reason,
        }
    }
}

/// The bytes that were asked for, and how many the whole object has; None where there is no such object.
type Found = Option<(Bytes, u64)>;

/// What is asked for of an object, and where it is kept; a body without a memory is thrown away as it comes.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    Size,
    Range(&'a GetRange, Option<&'a Memory>),
}

impl Wanted<'_> {
    const fn method(self) -> Method {
        match self {
            Self::Size => Method::HEAD,
            Self::Range(..) => Method::GET,
        }
    }
}

impl LeanClient {
    pub fn new(client: &Client) -> Self {
        Self::with_buffers(client, FIRST_READ_BYTES)
    }

    /// One whose buffers suit bodies that are thrown away.
    pub fn throwing_away(client: &Client) -> Self {
        Self::with_buffers(client, SKIPPED_READ_BYTES)
    }

    fn with_buffers(client: &Client, buffer_bytes: usize) -> Self {
        let (origin, counters) = (Arc::clone(&client.origin), Arc::clone(&client.counters));
        Self { origin, counters, buffers: Mutex::default(), buffer_bytes, retries: RETRIES }
    }

    /// One GET: its body, exactly the range that was asked for, or nothing of it where there is no memory to keep it
    /// in, and the bytes of the whole object; None where there is no such object. Where suffixes are not known the
    /// object's size is asked for first.
    ///
    /// # Errors
    /// `Store` when it cannot be had, also by repeating the GET as other clients do.
    pub async fn get(&self, path: &Path, range: &GetRange, memory: Option<&Memory>) -> Outcome<Found> {
        if let GetRange::Suffix(bytes) = range
            && !self.origin.knows_suffixes
        {
            let Some((_, size)) = self.ask_for(path, Wanted::Size).await? else { return Ok(None) };
            let range = GetRange::Bounded(size.saturating_sub(*bytes)..size);
            return self.ask_for(path, Wanted::Range(&range, memory)).await;
        }
        self.ask_for(path, Wanted::Range(range, memory)).await
    }

    async fn ask_for(&self, path: &Path, wanted: Wanted<'_>) -> Outcome<Found> {
        let range = match wanted {
            Wanted::Size => None,
            Wanted::Range(range, _) => Some(range),
        };
        let (begin, mut wait, mut left) = (Instant::now(), FIRST_WAIT, self.retries);
        loop {
            let request = self.origin.request(wanted.method(), path, range).await?;
            match self.attempt(request.as_bytes(), wanted).await {
                Ok(found) => return Ok(found),
                Err(Refusal::Passing(_)) if left > 0 && begin.elapsed() + wait < TIMEOUT => {
                    tokio::time::sleep(wait).await;
                    (wait, left) = ((2 * wait).min(LONGEST_WAIT), left - 1);
                }
                Err(refusal) => {
                    return Err(Failure::Store(format!("{}: {}", self.origin.name_of(path), refusal.reason())));
                }
            }
        }
    }

    /// One request, counted.
    async fn attempt(&self, request: &[u8], wanted: Wanted<'_>) -> Result<Found, Refusal> {
        self.counters.sent(&wanted.method());
        let found = tokio::time::timeout(TIMEOUT, self.exchange(request, wanted)).await;
        let late = |_| Err(self.broken(format!("no answer within {} s", TIMEOUT.as_secs())));
        found.unwrap_or_else(late)
    }

    async fn exchange(&self, request: &[u8], wanted: Wanted<'_>) -> Result<Found, Refusal> {
        let kept = self.buffers.lock().pop();
        let mut first = kept.unwrap_or_else(|| vec![0; self.buffer_bytes].into_boxed_slice());
        let (mut connection, mut filled) = self.ask(request, &mut first).await?;
        let head = loop {
            if let Some(head) = Head::parse(&first[..filled]).map_err(Refusal::Final)? {
                break head;
            }
            if filled == first.len() {
                return Err(Refusal::Final(format!("headers of more than {} bytes", first.len())));
            }
            filled += self.read(&mut connection, &mut &mut first[filled..]).await?;
        };
        if let Some(nothing) = head.brings_nothing() {
            self.pass_over(connection, first, (&head, filled), wanted).await;
            return nothing;
        }
        let (body, object_bytes) = match wanted {
            Wanted::Size => (Bytes::new(), head.demand_size().map_err(Refusal::Final)?),
            Wanted::Range(range, memory) => {
                let said = || refused(&first[head.bytes..filled]);
                let (range, object_bytes) = head.demand(range, said).map_err(Refusal::Final)?;
                let there = filled - head.bytes;
                if there > head.body_bytes {
                    return Err(Refusal::Final("more bytes than were announced".to_owned()));
                }
                let body = match memory {
                    Some(memory) => {
                        let mut body = memory.take(head.body_bytes);
                        body.put_slice(&first[head.bytes..filled]);
                        self.finish(&mut connection, &mut body, head.body_bytes).await?;
                        body.freeze()
                    }
                    None => {
                        let left = head.body_bytes - there;
                        skip(&mut connection, &mut first, left).await.map_err(|error| self.failed(&error))?;
                        Bytes::new()
                    }
                };
                self.counters.answered(StatusCode::PARTIAL_CONTENT, Some(&range));
                self.counters.fetched(head.body_bytes);
                (body, object_bytes)
            }
        };
        self.done(connection, first, head.keeps_connection);
        Ok(Some((body, object_bytes)))
    }

    /// Counts an answer that brings nothing, and reads its body: the next request finds the connection open.
    async fn pass_over(
        &self,
        mut connection: Connection,
        mut first: Box<[u8]>,
        (head, filled): (&Head, usize),
        wanted: Wanted<'_>,
    ) {
        self.counters.answered(head.status, None);
        let bytes = if wanted.method() == Method::HEAD { 0 } else { head.body_bytes };
        self.counters.fetched(bytes); // where it is longer than a reason is, it is on its way
        let left = bytes.checked_sub(filled - head.bytes).filter(|left| *left <= first.len());
        let is_read = match left {
            Some(left) => skip(&mut connection, &mut first, left).await.is_ok(),
            None => false,
        };
        self.done(connection, first, is_read && head.keeps_connection);
    }

    /// Gives back what an answer took.
    fn done(&self, connection: Connection, first: Box<[u8]>, keeps_connection: bool) {
        self.buffers.lock().push(first);
        if keeps_connection {
            self.origin.keep(connection);
        }
    }

    /// Reads what is missing of a body.
    async fn finish(&self, connection: &mut Connection, body: &mut BytesMut, bytes: usize) -> Result<(), Refusal> {
        while body.len() < bytes {
            let left = bytes - body.len();
            self.read(connection, &mut (&mut *body).limit(left)).await?;
        }
        Ok(())
    }

    /// Sends a request and waits for the first bytes of its answer.
    ///
    /// A server may end an idle connection at any moment; a request that met this was never seen, so it is sent on a
    /// new connection.
    async fn ask(&self, request: &[u8], first: &mut [u8]) -> Result<(Connection, usize), Refusal> {
        if let Some(mut connection) = self.origin.idle()
            && let Ok(bytes) = send(&mut connection, request, first).await
        {
            return Ok((connection, bytes));
        }
        let connected = Box::pin(self.origin.connect()).await; // rare, and larger than all else
        let mut connection = connected.map_err(|error| self.failed(&error))?;
        let sent = send(&mut connection, request, first).await;
        sent.map(|bytes| (connection, bytes)).map_err(|error| self.failed(&error))
    }

    /// The number of bytes that a read yields.
    async fn read(&self, connection: &mut Connection, into: &mut (impl BufMut + Send)) -> Result<usize, Refusal> {
        some(connection, into).await.map_err(|error| self.failed(&error))
    }

    /// What no other attempt would change is final: a server that is not who it has to be.
    fn failed(&self, error: &std::io::Error) -> Refusal {
        match error.kind() {
            ErrorKind::InvalidData => Refusal::Final(error.to_string()),
            _ => self.broken(error.to_string()),
        }
    }

    fn broken(&self, reason: String) -> Refusal {
        self.counters.lost();
        Refusal::Passing(reason)
    }
}

async fn send(connection: &mut Connection, request: &[u8], mut first: &mut [u8]) -> std::io::Result<usize> {
    connection.send(request).await?;
    some(connection, &mut first).await
}

/// Reads what is missing of a body over and over into the same memory.
async fn skip(connection: &mut Connection, over: &mut [u8], bytes: usize) -> std::io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let most = left.min(over.len());
        left -= some(connection, &mut &mut over[..most]).await?;
    }
    Ok(())
}

/// The number of bytes that a read yields, none of which means that the server ended the connection.
async fn some(connection: &mut Connection, into: &mut (impl BufMut + Send)) -> std::io::Result<usize> {
    match connection.read_buf(into).await? {
        0 => Err(std::io::Error::new(ErrorKind::UnexpectedEof, "the connection ended before the answer did")),
        bytes => Ok(bytes),
    }
}

/// The code by which a cloud says why it refuses, where its answer has one.
fn refused(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map(|(code, _)| format!(": {code}")).unwrap_or_default()
}

/// What the headers of an answer say.
#[derive(Debug)]
struct Head {
    status: StatusCode,
    /// Length of the headers themselves.
    bytes: usize,
    body_bytes: usize,
    content_range: Option<String>,
    keeps_connection: bool,
}

impl Head {
    /// Parses an answer's headers; None where they are not complete yet.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, String> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(bytes).map_err(|error| format!("not HTTP: {error}"))?;
        let httparse::Status::Complete(length) = parsed else { return Ok(None) };
        let header = |name: &str| {
            let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        let body_bytes = header("content-length").and_then(|text| text.parse().ok());
        Ok(Some(Self {
            status: StatusCode::from_u16(response.code.unwrap_or_default()).map_err(|error| error.to_string())?,
            bytes: length,
            body_bytes: body_bytes.ok_or("an answer without a length")?,
            content_range: header("content-range").map(str::to_owned),
            keeps_connection: response.version == Some(1)
                && !header("connection").is_some_and(|text| text.eq_ignore_ascii_case("close")),
        }))
    }

    /// What an answer amounts to that has no part of an object: there is none, or the server was too busy, or failed,
    /// and may do better the next time.
    fn brings_nothing(&self) -> Option<Result<Found, Refusal>> {
        match self.status {
            StatusCode::NOT_FOUND => Some(Ok(None)),
            status if is_passing(status) => Some(Err(Refusal::Passing(format!("status {}", status.as_str())))),
            _ => None,
        }
    }

    /// Checks that the answer tells an object's size, and returns it.
    fn demand_size(&self) -> Result<u64, String> {
        if self.status != StatusCode::OK {
            return Err(format!("status {}", self.status.as_str()));
        }
        Ok(self.body_bytes as u64)
    }

    /// Checks that the answer is the range that was asked for, and returns it with the bytes of the whole object; `said`
    /// is what a refusal adds to its status.
    fn demand(&self, asked: &GetRange, said: impl FnOnce() -> String) -> Result<(ContentRange, u64), String> {
        if self.status != StatusCode::PARTIAL_CONTENT {
            return Err(format!("status {}{}", self.status.as_str(), said()));
        }
        let said = self.content_range.as_deref().unwrap_or("nothing");
        let range = ContentRange::parse(said).filter(|range| range.covers(asked));
        let (range, total) = range
            .and_then(|range| range.total.map(|total| (range, total)))
            .ok_or_else(|| format!("requested {asked}, got {said}"))?;
        if self.body_bytes as u64 != range.span.end - range.span.start {
            return Err(format!("a body of {} bytes for {said}", self.body_bytes));
        }
        Ok((range, total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    use object_store::memory::InMemory;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use crate::origin::Authority;
    use crate::serving::{Manners, Server};

    const PIECE: GetRange = GetRange::Bounded(2..5);
    const RIGHT: &str = "HTTP/1.1 206 Partial Content\r\ncontent-length: 3\r\ncontent-range: bytes 2-4/9\r\n\r\ncde";

    type Fetched = Outcome<Found>;

    fn client(url: &str, ca: Option<&str>) -> LeanClient {
        let origin = Origin::new(url, Authority::Anonymous, ca).expect("an address");
        LeanClient::new(&Client::over(Arc::new(InMemory::new()), "", origin))
    }

    /// Serves one answer per connection, then ends it, and returns what each of `count` GETs yields.
    async fn fetch(answers: &'static [&'static str], count: usize) -> (Vec<Fetched>, Arc<Counters>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/base", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut request = [0; 1000];
                let length = stream.read(&mut request).await.expect("a request");
                assert!(request[..length].starts_with(b"GET /base/a%20b/c/0 HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.expect("sent");
            }
        });
        let mut client = client(&url, None);
        let counters = Arc::clone(&client.counters);
        client.retries = u32::from(answers.len() > count);
        let memory = Memory::new(100);
        let mut got = Vec::new();
        for _ in 0..count {
            got.push(client.get(&Path::from("a b/c/0"), &PIECE, Some(&memory)).await);
            tokio::time::sleep(Duration::from_millis(20)).await; // until the end of the connection has arrived
        }
        (got, counters)
    }

    fn why(outcome: &Fetched) -> String {
        outcome.as_ref().expect_err("refused").to_string()
    }

    #[tokio::test]
    async fn a_range_is_fetched_and_counted_also_after_an_idle_connection_ended() {
        let (got, counters) = fetch(&[RIGHT, RIGHT], 2).await;
        assert!(got.iter().all(|one| matches!(one, Ok(Some((body, 9))) if body.as_ref() == b"cde")), "{got:?}");
        let request_counts = counters.request_counts();
        assert_eq!(
            (
                request_counts.requests,
                request_counts.index_requests,
                request_counts.fetched_bytes,
                request_counts.retries
            ),
            (2, 0, 6, 0)
        );
    }

    #[tokio::test]
    async fn what_a_server_could_not_do_in_that_moment_is_asked_for_again() {
        for busy in [
            "HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 503 Slow Down\r\ncontent-length: 4\r\n\r\n", // and ends before it said why
            "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 206 P\r\ncontent-length: 3\r\ncontent-range: bytes 2-4/9\r\n\r\nc",
            "",
        ] {
            let answers: &'static [&'static str] = Box::leak(Box::new([busy, RIGHT]));
            let (got, counters) = fetch(answers, 1).await;
            assert!(matches!(got.as_slice(), [Ok(Some((body, 9)))] if body.as_ref() == b"cde"), "{busy}: {got:?}");
            let counts = counters.request_counts();
            let reason = if busy.contains("length: 4") { 4 } else { 0 };
            assert_eq!((counts.requests, counts.retries, counts.fetched_bytes), (2, 1, 3 + reason), "{busy}");
        }
    }

    #[test]
    fn a_request_that_waits_for_its_turn_holds_no_buffer() {
        let client = client("http://127.0.0.1:1", None);
        let (path, memory) = (Path::from("a"), Memory::new(100));
        assert!(size_of_val(&client.get(&path, &PIECE, Some(&memory))) < 2048);
    }

    #[tokio::test]
    async fn an_object_that_is_not_there_is_nothing() {
        let (got, counters) = fetch(&["HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone", RIGHT], 2).await;
        assert!(matches!(got.as_slice(), [Ok(None), Ok(Some(_))]), "{got:?}");
        assert_eq!((counters.request_counts().requests, counters.request_counts().fetched_bytes), (2, 7));

        let there = HashMap::from([("there".to_owned(), Bytes::from_static(b"abcdefghi"))]);
        let server = Server::start(there, Manners::default()).await;
        let client = client(&server.url(), None);
        for (key, found) in [("gone", false), ("gone too", false), ("there", true)] {
            let got = client.get(&Path::from(key), &PIECE, None).await;
            assert_eq!(got.expect("an answer").is_some(), found, "{key}");
        }
        assert_eq!(server.seen().connections.len(), 1, "the answers that brought nothing were read to their ends");
    }

    #[tokio::test]
    async fn answers_that_are_not_the_range_are_refused() {
        let wrong = [
            ("HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n", "status 503"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcdefghi", "status 200"),
            ("HTTP/1.1 403 F\r\ncontent-length: 30\r\n\r\n<Code>NotYou</Code>", "status 403: NotYou"),
            ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: http://there/\r\n\r\n", "status 302"),
            ("HTTP/1.1 206 P\r\ncontent-length: 3\r\ncontent-range: bytes 3-5/9\r\n\r\ndef", "got bytes 3-5/9"),
            ("HTTP/1.1 206 P\r\ncontent-length: 3\r\ncontent-range: bytes 2-4/9\r\n\r\nc", "ended before"),
            ("HTTP/1.1 206 P\r\ncontent-length: 3\r\ncontent-range: bytes 2-4/9\r\n\r\ncdef", "more bytes"),
            ("HTTP/1.1 206 P\r\ncontent-length: 4\r\ncontent-range: bytes 2-4/9\r\n\r\ncdef", "a body of 4 bytes"),
            (
                "HTTP/1.1 206 P\r\ncontent-length: 9000000000000000000\r\ncontent-range: bytes 2-4/9\r\n\r\n",
                "a body of",
            ),
            ("HTTP/1.1 206 P\r\ncontent-length: 99999999999999999999\r\n\r\n", "without a length"),
            (
                "HTTP/1.1 206 P\r\ncontent-length: 3\r\ncontent-range: bytes 2-18446744073709551615/9\r\n\r\n",
                "got bytes",
            ),
            ("HTTP/1.1 206 P\r\ntransfer-encoding: chunked\r\n\r\n", "without a length"),
            ("220 welcome\r\n\r\n", "not HTTP"),
        ];
        for (answer, expected) in wrong {
            let answers: &'static [&'static str] = Box::leak(Box::new([answer]));
            let (got, _) = fetch(answers, 1).await;
            assert!(why(&got[0]).contains(expected), "{} has no {expected:?}", why(&got[0]));
        }
    }

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..12, any::<u64>()]
    }

    proptest! {
        /// Whatever a server answers to a request for three bytes: no longer body is taken, and nothing panics.
        #[test]
        fn any_headers_are_three_bytes_or_refused(
            noise in proptest::collection::vec(any::<u8>(), 0..200),
            (length, first, last, total) in (number(), number(), number(), number()), cut in 0usize..200,
        ) {
            let told = format!("HTTP/1.1 206 P\r\ncontent-length: {length}\r\ncontent-range: bytes {first}-{last}/{total}\r\n\r\n");
            let told = &told.as_bytes()[..cut.min(told.len())];
            for bytes in [noise.as_slice(), told, &[told, noise.as_slice()].concat()] {
                if let Ok(Some(head)) = Head::parse(bytes)
                    && head.demand(&PIECE, String::new).is_ok()
                {
                    prop_assert!(head.body_bytes <= 3);
                }
            }
        }
    }

    const OBJECT_BYTES: usize = 1 << 20;

    fn object() -> Bytes {
        (0..OBJECT_BYTES).map(|byte| (byte % 251) as u8).collect()
    }

    async fn serve(manners: Manners) -> Server {
        Server::start(HashMap::from([("base/o".to_owned(), object())]), manners).await
    }

    fn client_of(server: &Server) -> LeanClient {
        client(&format!("{}/base", server.url()), server.ca.as_ref().map(|ca| ca.to_str().expect("text")))
    }

    /// Fetches ranges of every size, eight at a time, and an object that is not there.
    async fn fetch_ranges(client: &LeanClient) {
        let (whole, memory, path) = (object(), Memory::new(OBJECT_BYTES), Path::from("o"));
        let ranges: Vec<_> = [1usize, 300, 16 << 10, 100_000, OBJECT_BYTES - 7]
            .into_iter()
            .flat_map(|bytes| [GetRange::Bounded(7..(7 + bytes) as u64), GetRange::Suffix(bytes as u64)])
            .collect();
        for eight in ranges.chunks(8) {
            let gets = eight.iter().map(|range| client.get(&path, range, Some(&memory)));
            for (range, got) in eight.iter().zip(futures::future::join_all(gets).await) {
                let (body, size) = got.expect("fetched").expect("it is there");
                let span = range.as_range(OBJECT_BYTES as u64).expect("a range");
                assert_eq!(size, OBJECT_BYTES as u64);
                assert!(body == whole[span.start as usize..span.end as usize], "{range}");
            }
        }
        assert!(client.get(&Path::from("none"), &ranges[0], Some(&memory)).await.expect("answered").is_none());
    }

    #[tokio::test]
    async fn over_tls_the_same_bytes_come_by_the_same_requests() {
        let mut counted = Vec::new();
        for tls in [false, true] {
            let server = serve(Manners { tls, ..Manners::default() }).await;
            let client = client_of(&server);
            fetch_ranges(&client).await;
            let (seen, counts) = (server.seen(), client.counters.request_counts());
            assert_eq!((counts.requests, counts.fetched_bytes), (seen.requests.len() as u64, seen.bytes as u64));
            assert_eq!((seen.connections.len(), counts.retries), (8, 0), "tls: {tls}");
            counted.push((counts, seen.requests.len()));
        }
        assert_eq!(counted[0], counted[1]);
    }

    #[tokio::test]
    async fn bodies_that_are_thrown_away_are_read_to_their_end_and_counted() {
        for tls in [false, true] {
            let server = serve(Manners { tls, ..Manners::default() }).await;
            let client = LeanClient { buffer_bytes: SKIPPED_READ_BYTES, ..client_of(&server) };
            let mut bytes = 0;
            for length in [1, 300, SKIPPED_READ_BYTES as u64, 1 << 19, OBJECT_BYTES as u64 - 7] {
                let range = GetRange::Bounded(7..7 + length);
                let (body, size) = client.get(&Path::from("o"), &range, None).await.expect("fetched").expect("there");
                assert_eq!((body.len(), size), (0, OBJECT_BYTES as u64));
                bytes += length;
            }
            let kept = client.get(&Path::from("o"), &PIECE, Some(&Memory::new(100))).await.expect("fetched");
            assert_eq!(kept.expect("there").0, object()[2..5]);
            let (seen, counts) = (server.seen(), client.counters.request_counts());
            assert_eq!((counts.fetched_bytes, seen.bytes as u64), (bytes + 3, bytes + 3));
            assert_eq!((seen.connections.len(), counts.retries), (1, 0), "tls: {tls}");
        }
    }

    #[tokio::test]
    async fn sessions_are_resumed_and_each_connection_is_new_where_the_server_ends_it() {
        let server = serve(Manners { tls: true, closes: true }).await;
        let (client, memory) = (client_of(&server), Memory::new(100));
        for _ in 0..4 {
            assert!(client.get(&Path::from("o"), &PIECE, Some(&memory)).await.is_ok());
        }
        let seen = server.seen();
        assert_eq!((seen.requests.len(), seen.connections.len(), seen.resumed), (4, 4, 3));
        assert_eq!(client.counters.request_counts().retries, 0);
    }

    #[tokio::test]
    async fn a_server_that_is_not_who_it_has_to_be_is_refused_at_once() {
        let (server, other) = tokio::join!(
            serve(Manners { tls: true, ..Manners::default() }),
            serve(Manners { tls: true, ..Manners::default() })
        );
        let ca = |server: &Server| server.ca.as_ref().map(|ca| ca.to_string_lossy().into_owned());
        let https = |server: &Server| format!("https://127.0.0.1:{}", server.port);
        for (url, ca, words) in [
            (https(&server), ca(&other), "certificate"),
            (https(&server), None, "certificate"),
            (https(&server).replace("127.0.0.1", "127.0.0.2"), ca(&server), "not valid for name"),
            (https(&server), Some("/nowhere.pem".to_owned()), "cannot read certificates from /nowhere.pem"),
        ] {
            let client = client(&url, ca.as_deref());
            let begin = Instant::now();
            let why = client.get(&Path::from("o"), &PIECE, Some(&Memory::new(100))).await.expect_err("refused").line();
            assert!(why.contains(words) && !why.contains('\n'), "{why} has no {words:?}");
            assert!(begin.elapsed() < FIRST_WAIT * 20, "it was tried again: {why}");
        }
        assert_eq!(server.seen().requests.len(), 0);
    }

    #[tokio::test]
    async fn where_suffixes_are_not_known_the_size_is_asked_for_first() {
        let server = serve(Manners::default()).await;
        let mut origin =
            Origin::new(&format!("{}/base", server.url()), Authority::Anonymous, None).expect("an address");
        origin.knows_suffixes = false;
        let client = LeanClient::new(&Client::over(Arc::new(InMemory::new()), "", origin));
        fetch_ranges(&client).await;
        let (seen, counts) = (server.seen(), client.counters.request_counts());
        let heads = seen.requests.iter().filter(|head| head.starts_with("HEAD ")).count();
        assert_eq!((heads, counts.head_requests), (5, 5));
        assert_eq!((counts.requests, counts.fetched_bytes), (seen.requests.len() as u64, seen.bytes as u64));
    }
}
