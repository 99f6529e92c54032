//! Starting the server, and an HTTP client of a few lines that shows every byte.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A directory of this test's own, removed with it.
pub struct TestDir(PathBuf);

impl TestDir {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("s3-store-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A running server; killed when dropped.
pub struct Server {
    pub child: Child,
    pub ready: Value,
}

pub fn command(root: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_s3-store"));
    command.arg("--root").arg(root).args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server under limits of the shell's `ulimit`: `"-n 64"`. Too large a file is an error, not the end.
pub fn limited(root: &Path, flags: &[&str], limit: &str) -> Command {
    let server = command(root, flags);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("trap '' XFSZ; ulimit {limit}; exec \"$0\" \"$@\""));
    shell.arg(server.get_program()).args(server.get_args()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

impl Server {
    pub fn start(root: &Path, flags: &[&str]) -> Self {
        Self::start_with(command(root, flags))
    }

    pub fn start_with(command: Command) -> Self {
        Self::try_start_with(command).expect("a ready line")
    }

    /// `None` when it ends before it is ready, with a line that says why.
    pub fn try_start_with(mut command: Command) -> Option<Self> {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.lines().count() == 1 && !said.contains("panicked"), "{said}");
            return None;
        }
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line but {line:?}"));
        Some(Self { child, ready })
    }

    /// A connection to the S3 endpoint.
    pub fn client(&self) -> Client {
        Client::connect(self.ready["endpoint"].as_str().unwrap())
    }

    /// A client and the empty bucket `bucket`.
    pub fn client_with_bucket(&self) -> Client {
        let mut client = self.client();
        assert_eq!(client.send("PUT", "/bucket", &[], b"").status, 200);
        client
    }

    /// An answer of the control endpoint.
    pub fn control(&self, method: &str, path: &str) -> Value {
        let answer = self.control_answer(method, path);
        assert_eq!(answer.status, 200, "{method} {path}");
        serde_json::from_slice(&answer.body).unwrap()
    }

    pub fn control_answer(&self, method: &str, path: &str) -> Answer {
        Client::connect(self.ready["control"].as_str().unwrap()).send(method, path, &[], b"")
    }

    /// Ends it as a power cut would, and returns what it said on stderr.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// Waits until nothing is under way and every connection is closed.
    pub fn settles(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let counters = self.control("GET", "/counters");
            if counters["in_flight"] == 0 && counters["connections_open"] == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{counters}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// One connection.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

#[derive(Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The code of an S3 error.
    pub fn code(&self) -> &str {
        self.element("Code").unwrap_or_default()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The first element of this name.
    pub fn element(&self, name: &str) -> Option<&str> {
        self.elements(name).first().copied()
    }

    /// Every element of this name.
    pub fn elements(&self, name: &str) -> Vec<&str> {
        let (open, close) = (format!("<{name}>"), format!("</{name}>"));
        self.text().split(&open).skip(1).filter_map(|rest| rest.split(&close).next()).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Client {
    pub fn connect(url: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub fn get_range(&mut self, path: &str, range: &str) -> Answer {
        self.send("GET", path, &[("range", range)], b"")
    }

    /// Stores an object and returns its ETag, quotes included.
    pub fn put(&mut self, path: &str, body: &[u8]) -> String {
        let answer = self.send("PUT", path, &[], body);
        assert_eq!(answer.status, 200, "PUT {path}: {}", answer.text());
        answer.header("etag").to_owned()
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.begin(method, path, headers, body);
        self.read_answer(method)
    }

    pub fn read_answer(&mut self, method: &str) -> Answer {
        self.try_read_answer(method).expect("an answer")
    }

    /// `None` when the connection ends before the answer does.
    pub fn try_read_answer(&mut self, method: &str) -> Option<Answer> {
        let (status, headers) = self.try_read_head()?;
        let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let has_body = method != "HEAD" && status != 304;
        let mut body = vec![0; if has_body { length } else { 0 }];
        self.stream.read_exact(&mut body).ok()?;
        Some(Answer { status, headers, body })
    }

    pub fn begin(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        request.push_str("\r\n");
        self.write(request.as_bytes());
        self.write(body);
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub fn read_head(&mut self) -> (u16, HashMap<String, String>) {
        self.try_read_head().expect("the head of an answer")
    }

    fn try_read_head(&mut self) -> Option<(u16, HashMap<String, String>)> {
        let mut headers = HashMap::new();
        let status = self.read_line()?.split(' ').nth(1).unwrap().parse().unwrap();
        loop {
            let line = self.read_line()?;
            let Some((name, value)) = line.split_once(':') else { return Some((status, headers)) };
            headers.insert(name.to_lowercase(), value.trim().to_owned());
        }
    }

    fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    }
}

/// Bytes that differ everywhere and from seed to seed.
pub fn pattern(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
