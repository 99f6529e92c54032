//! HTTP/1.1 range GETs with as little between socket and memory as there can be: one connection per request under way,
//! bodies read by the kernel straight into the memory that keeps them.
//!
//! A general client pays for redirects, pools, retries, TLS and frames; at 16 KiB a request that is half of its time. The
//! limit needs none of these where the target is plain HTTP and takes no credentials. Elsewhere object_store fetches.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use http::{Method, StatusCode};
use object_store::GetRange;
use object_store::path::Path;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use super::memory::Memory;
use crate::client::{Client, Counters, TIMEOUT};
use crate::content_range::ContentRange;
use crate::failure::{Failure, Outcome};
use crate::workload::Target;

/// Read at first: headers, and with them all of a small body, which is then copied while it is still cached.
const FIRST_READ_BYTES: usize = 20 << 10;
const MOST_HEADERS: usize = 64;
/// As object_store repeats what may succeed the next time.
const RETRIES: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// What is escaped of a key in an address, as object_store does it.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Fetches ranges of one target over connections of its own.
pub struct LeanClient {
    address: String,
    /// Path of the URL below which keys stand, without a slash at its end.
    base: String,
    idle: Arc<Mutex<Vec<TcpStream>>>,
    counters: Arc<Counters>,
    /// For the first bytes of answers: one for each request under way, none for those that wait for their turn.
    buffers: Mutex<Vec<Box<[u8]>>>,
    /// How often a GET is repeated at most.
    retries: u32,
}

/// Why a GET yields nothing.
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

impl LeanClient {
    /// The client of a target, or None where it needs TLS or credentials.
    pub fn open(target: &Target, client: &Client) -> Option<Self> {
        let url = Url::parse(&target.url).ok()?;
        let (server, base) = if url.scheme() == "s3" {
            if !target.anonymous {
                return None;
            }
            let endpoint = Url::parse(target.endpoint.as_ref()?).ok()?;
            let base = format!("{}/{}", endpoint.path().trim_end_matches('/'), url.host_str()?);
            (endpoint, base)
        } else {
            let base = url.path().trim_end_matches('/').to_owned();
            (url, base)
        };
        if server.scheme() != "http" {
            return None;
        }
        let address = format!("{}:{}", server.host_str()?, server.port_or_known_default()?);
        let (idle, counters) = (Arc::clone(&client.idle), Arc::clone(&client.counters));
        Some(Self { address, base, idle, counters, buffers: Mutex::default(), retries: RETRIES })
    }

    /// One GET: its body, exactly the range that was asked for, and the bytes of the whole object; None where there is
    /// no such object.
    ///
    /// # Errors
    /// `Store` when it cannot be had, also by repeating the GET as other clients do.
    pub async fn get(&self, path: &Path, range: &GetRange, memory: &Memory) -> Outcome<Option<(Bytes, u64)>> {
        let asked = match range {
            GetRange::Bounded(span) => format!("{}-{}", span.start, span.end.saturating_sub(1)),
            GetRange::Offset(first) => format!("{first}-"),
            GetRange::Suffix(last) => format!("-{last}"),
        };
        let (base, host) = (&self.base, &self.address);
        let key = utf8_percent_encode(path.as_ref(), ESCAPED);
        let request = format!("GET {base}/{key} HTTP/1.1\r\nhost: {host}\r\nrange: bytes={asked}\r\n\r\n");
        let (begin, mut wait, mut left) = (Instant::now(), FIRST_WAIT, self.retries);
        loop {
            match self.attempt(request.as_bytes(), range, memory).await {
                Ok(fetched) => return Ok(fetched),
                Err(Refusal::Passing(_)) if left > 0 && begin.elapsed() + wait < TIMEOUT => {
                    tokio::time::sleep(wait).await;
                    (wait, left) = ((2 * wait).min(LONGEST_WAIT), left - 1);
                }
                Err(refusal) => {
                    return Err(Failure::Store(format!("{host}{base}/{path}: {}", refusal.reason())));
                }
            }
        }
    }

    /// One GET, counted.
    async fn attempt(
        &self,
        request: &[u8],
        range: &GetRange,
        memory: &Memory,
    ) -> Result<Option<(Bytes, u64)>, Refusal> {
        self.counters.sent(&Method::GET);
        let fetched = tokio::time::timeout(TIMEOUT, self.exchange(request, range, memory)).await;
        let late = |_| Err(self.broken(format!("no answer within {} s", TIMEOUT.as_secs())));
        fetched.unwrap_or_else(late)
    }

    async fn exchange(
        &self,
        request: &[u8],
        range: &GetRange,
        memory: &Memory,
    ) -> Result<Option<(Bytes, u64)>, Refusal> {
        let kept = self.buffers.lock().pop();
        let mut first = kept.unwrap_or_else(|| vec![0; FIRST_READ_BYTES].into_boxed_slice());
        let (mut stream, mut filled) = self.ask(request, &mut first).await?;
        let head = loop {
            if let Some(head) = Head::parse(&first[..filled]).map_err(Refusal::Final)? {
                break head;
            }
            if filled == first.len() {
                return Err(Refusal::Final(format!("headers of more than {FIRST_READ_BYTES} bytes")));
            }
            filled += self.read(stream.read(&mut first[filled..])).await?;
        };
        if head.status == StatusCode::NOT_FOUND.as_u16() {
            self.counters.answered(StatusCode::NOT_FOUND, None);
            return Ok(None); // and the connection ends: its body is of no use
        }
        if head.is_passing() {
            self.counters.answered(StatusCode::SERVICE_UNAVAILABLE, None);
            return Err(Refusal::Passing(format!("status {}", head.status)));
        }
        let (range, object_bytes) = head.demand(range).map_err(Refusal::Final)?;
        let mut body = memory.take(head.body_bytes);
        let came = filled - head.bytes;
        if came > head.body_bytes {
            return Err(Refusal::Final("more bytes than were announced".to_owned()));
        }
        body.put_slice(&first[head.bytes..filled]);
        self.buffers.lock().push(first);
        while body.len() < head.body_bytes {
            let left = head.body_bytes - body.len();
            self.read(stream.read_buf(&mut (&mut body).limit(left))).await?;
        }
        self.counters.answered(StatusCode::PARTIAL_CONTENT, Some(&range));
        self.counters.fetched(body.len());
        if head.keeps_connection {
            self.idle.lock().push(stream);
        }
        Ok(Some((body.freeze(), object_bytes)))
    }

    /// Sends a request and waits for the first bytes of its answer.
    ///
    /// A server may end an idle connection at any moment; a request that met this was never seen, so it is sent on a
    /// new connection.
    async fn ask(&self, request: &[u8], first: &mut [u8]) -> Result<(TcpStream, usize), Refusal> {
        let kept = self.idle.lock().pop();
        if let Some(mut stream) = kept
            && let Ok(bytes) = send(&mut stream, request, first).await
        {
            return Ok((stream, bytes));
        }
        let connected = async {
            let mut stream = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            let bytes = send(&mut stream, request, first).await?;
            Ok((stream, bytes))
        };
        connected.await.map_err(|reason| self.broken(reason))
    }

    /// The number of bytes that a read yields.
    async fn read(&self, read: impl Future<Output = std::io::Result<usize>>) -> Result<usize, Refusal> {
        some(read).await.map_err(|reason| self.broken(reason))
    }

    fn broken(&self, reason: String) -> Refusal {
        self.counters.lost();
        Refusal::Passing(reason)
    }
}

async fn send(stream: &mut TcpStream, request: &[u8], first: &mut [u8]) -> Result<usize, String> {
    stream.write_all(request).await.map_err(|error| error.to_string())?;
    some(stream.read(first)).await
}

/// The number of bytes that a read yields, none of which means that the server ended the connection.
async fn some(read: impl Future<Output = std::io::Result<usize>>) -> Result<usize, String> {
    match read.await {
        Ok(0) => Err("the connection ended before the answer did".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

/// What the headers of an answer say.
#[derive(Debug)]
struct Head {
    status: u16,
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
            status: response.code.unwrap_or_default(),
            bytes: length,
            body_bytes: body_bytes.ok_or("an answer without a length")?,
            content_range: header("content-range").map(str::to_owned),
            keeps_connection: response.version == Some(1)
                && !header("connection").is_some_and(|text| text.eq_ignore_ascii_case("close")),
        }))
    }

    /// Whether the server was too busy, or failed: it may do better the next time.
    fn is_passing(&self) -> bool {
        self.status >= 500
            || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].iter().any(|one| *one == self.status)
    }

    /// Checks that the answer is the range that was asked for, and returns it with the bytes of the whole object.
    fn demand(&self, asked: &GetRange) -> Result<(ContentRange, u64), String> {
        if self.status != StatusCode::PARTIAL_CONTENT.as_u16() {
            return Err(format!("status {}", self.status));
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
    use object_store::memory::InMemory;
    use proptest::prelude::*;
    use std::time::Duration;
    use tokio::net::TcpListener;

    const PIECE: GetRange = GetRange::Bounded(2..5);
    const RIGHT: &str = "HTTP/1.1 206 Partial Content\r\ncontent-length: 3\r\ncontent-range: bytes 2-4/9\r\n\r\ncde";

    type Fetched = Outcome<Option<(Bytes, u64)>>;

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
        let target = serde_json::json!({"name": "t", "url": url});
        let shared = Client::over(Arc::new(InMemory::new()), "");
        let counters = Arc::clone(&shared.counters);
        let client = LeanClient::open(&serde_json::from_value(target).expect("a target"), &shared);
        let mut client = client.expect("plain HTTP");
        client.retries = u32::from(answers.len() > count);
        let memory = Memory::new(100);
        let mut got = Vec::new();
        for _ in 0..count {
            got.push(client.get(&Path::from("a b/c/0"), &PIECE, &memory).await);
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
            "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 206 P\r\ncontent-length: 3\r\ncontent-range: bytes 2-4/9\r\n\r\nc",
            "",
        ] {
            let answers: &'static [&'static str] = Box::leak(Box::new([busy, RIGHT]));
            let (got, counters) = fetch(answers, 1).await;
            assert!(matches!(got.as_slice(), [Ok(Some((body, 9)))] if body.as_ref() == b"cde"), "{busy}: {got:?}");
            let counts = counters.request_counts();
            assert_eq!((counts.requests, counts.retries, counts.fetched_bytes), (2, 1, 3), "{busy}");
        }
    }

    #[test]
    fn a_request_that_waits_for_its_turn_holds_no_buffer() {
        let target = serde_json::json!({"name": "t", "url": "http://127.0.0.1:1"});
        let client = Client::over(Arc::new(InMemory::new()), "");
        let client = LeanClient::open(&serde_json::from_value(target).expect("a target"), &client).expect("plain HTTP");
        let (path, memory) = (Path::from("a"), Memory::new(100));
        assert!(size_of_val(&client.get(&path, &PIECE, &memory)) < 2048);
    }

    #[tokio::test]
    async fn an_object_that_is_not_there_is_nothing() {
        let (got, counters) = fetch(&["HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\ngone", RIGHT], 2).await;
        assert!(matches!(got.as_slice(), [Ok(None), Ok(Some(_))]), "{got:?}");
        assert_eq!((counters.request_counts().requests, counters.request_counts().fetched_bytes), (2, 3));
    }

    #[tokio::test]
    async fn answers_that_are_not_the_range_are_refused() {
        let wrong = [
            ("HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n", "status 503"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabcdefghi", "status 200"),
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
                    && head.demand(&PIECE).is_ok()
                {
                    prop_assert!(head.body_bytes <= 3);
                }
            }
        }
    }
    #[test]
    fn only_plain_http_without_credentials_is_taken() {
        let open = |target: serde_json::Value| {
            let target: Target = serde_json::from_value(target).expect("a target");
            LeanClient::open(&target, &Client::over(Arc::new(InMemory::new()), ""))
                .map(|client| format!("{}{}", client.address, client.base))
        };
        let s3 = |endpoint: Option<&str>, anonymous: bool| {
            open(serde_json::json!({"name": "t", "url": "s3://b/p", "endpoint": endpoint, "anonymous": anonymous}))
        };
        assert_eq!(s3(Some("http://127.0.0.1:80"), true).as_deref(), Some("127.0.0.1:80/b"));
        assert_eq!(s3(Some("http://127.0.0.1:80"), false), None);
        assert_eq!(s3(Some("https://host"), true), None);
        assert_eq!(s3(None, true), None);
        let web = |url: &str| open(serde_json::json!({"name": "t", "url": url}));
        assert_eq!(web("http://host/a/b/").as_deref(), Some("host:80/a/b"));
        assert_eq!(web("https://host/a"), None);
    }
}
