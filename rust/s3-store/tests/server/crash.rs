//! A server killed at any moment: what it acknowledged is there and whole.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::harness::{Client, Server, TestDir, pattern};

/// How often it is killed; `S3_STORE_KILLS=200` for a long run.
fn kills() -> u32 {
    std::env::var("S3_STORE_KILLS").map_or(8, |text| text.parse().unwrap())
}

const WRITERS: u32 = 4;
const KEYS: u32 = 6;
const PART: usize = 5 << 20;

/// What may be under a key: the last acknowledged content and, if a request was under way, what it would have made.
#[derive(Clone, Debug, Default)]
struct Expected {
    acknowledged: Option<u32>,
    under_way: Option<Option<u32>>,
}

/// Plain keys, odd ones, and ones in each other's way.
fn key(writer: u32, number: u32) -> String {
    let name = ["plain", "odd//key", "deep/er", "deep", "with/../dots", "parts"][number as usize];
    format!("/bucket/{writer}/{name}")
}

fn content(version: u32, parts: bool) -> Vec<u8> {
    if parts {
        [pattern(PART, version), pattern(1000, version + 1)].concat()
    } else {
        pattern(100 + version as usize % 70_000, version)
    }
}

/// Sends one request and its body; false when the server is gone.
fn ask(client: &mut Client, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<String> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n", body.len());
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    request.push_str("\r\n");
    client.stream.get_mut().write_all(request.as_bytes()).ok()?;
    client.stream.get_mut().write_all(body).ok()?;
    let answer = client.try_read_answer(method)?;
    assert!(answer.status < 300, "{} {path}: {}", answer.status, answer.text());
    Some(answer.element("UploadId").map_or(answer.header("etag").to_owned(), str::to_owned))
}

fn upload_in_parts(client: &mut Client, path: &str, version: u32, mark: (&str, &str)) -> Option<()> {
    let id = ask(client, "POST", &format!("{path}?uploads"), &[mark], b"")?;
    let body = content(version, true);
    let mut xml = String::from("<CompleteMultipartUpload>");
    for (number, part) in [(1, &body[..PART]), (2, &body[PART..])] {
        let etag = ask(client, "PUT", &format!("{path}?partNumber={number}&uploadId={id}"), &[], part)?;
        xml.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
    }
    xml.push_str("</CompleteMultipartUpload>");
    ask(client, "POST", &format!("{path}?uploadId={id}"), &[], xml.as_bytes()).map(drop)
}

/// Writes and deletes until the server is gone.
fn write(server: &Server, writer: u32, first: u32, state: &mut HashMap<String, Expected>, stop: &AtomicBool) {
    let mut client = server.client();
    for version in first.. {
        if stop.load(Relaxed) {
            return;
        }
        let number = version.wrapping_mul(2_654_435_761) >> 16;
        let (path, deletes) = (key(writer, number % KEYS), number % 7 == 0);
        let expected = state.entry(path.clone()).or_default();
        let next = (!deletes).then_some(version);
        expected.under_way = Some(next);
        let text = version.to_string();
        let mark = ("x-amz-meta-version", text.as_str());
        let done = match next {
            None => ask(&mut client, "DELETE", &path, &[], b"").map(drop),
            Some(_) if path.ends_with("parts") => upload_in_parts(&mut client, &path, version, mark),
            Some(_) => ask(&mut client, "PUT", &path, &[mark], &content(version, false)).map(drop),
        };
        if done.is_none() {
            return;
        }
        *expected = Expected { acknowledged: next, under_way: None };
    }
}

/// The version under a key, whole and with its own attributes.
fn version_of(client: &mut Client, path: &str) -> Option<u32> {
    let answer = client.get(path);
    if answer.status == 404 {
        return None;
    }
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    let version = answer.header("x-amz-meta-version").parse().unwrap_or_else(|_| panic!("{path} lost its attributes"));
    assert!(answer.body == content(version, path.ends_with("parts")), "{path} is not whole");
    Some(version)
}

fn check(server: &Server, state: &mut HashMap<String, Expected>) {
    let mut client = server.client();
    let mut present = Vec::new();
    for (path, expected) in state.iter_mut() {
        let found = version_of(&mut client, path);
        let fits = found == expected.acknowledged || Some(found) == expected.under_way;
        assert!(fits, "{path}: {found:?} is not what {expected:?} allows");
        *expected = Expected { acknowledged: found, under_way: None };
        present.extend(found.map(|_| path.trim_start_matches("/bucket/").to_owned()));
    }
    present.sort();
    let listed = client.get("/bucket?list-type=2");
    assert_eq!(listed.elements("Key"), present);
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let dir = TestDir::new();
    Server::start(dir.path(), &[]).client_with_bucket();
    let mut states = vec![HashMap::new(); WRITERS as usize];
    for round in 0..kills() {
        let mut server = Server::start(dir.path(), &[]);
        let stop = AtomicBool::new(false);
        let mut child = None;
        std::thread::scope(|scope| {
            for (writer, state) in states.iter_mut().enumerate() {
                let (server, stop) = (&server, &stop);
                scope.spawn(move || write(server, writer as u32, round * 100_000, state, stop));
            }
            std::thread::sleep(Duration::from_millis(20 + u64::from(round.wrapping_mul(2_654_435_761) >> 24)));
            child = Some(std::process::Command::new("kill").arg("-9").arg(server.child.id().to_string()).status());
            stop.store(true, Relaxed);
        });
        assert!(child.unwrap().unwrap().success());
        server.child.wait().unwrap();
        let server = Server::start(dir.path(), &[]);
        let mut all: HashMap<_, _> =
            states.iter().flatten().map(|(path, expected)| (path.clone(), expected.clone())).collect();
        check(&server, &mut all);
        for state in &mut states {
            state.iter_mut().for_each(|(path, expected)| *expected = all[path].clone());
        }
        assert_eq!(std::fs::read_dir(dir.path().join(".s3-store/tmp")).unwrap().count(), 0);
        server.kill();
    }
    assert!(states.iter().all(|state| state.len() >= 3), "too little was written to tell");
}
