use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::harness::{Server, TestDir, command, pattern};

fn fails(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, stdout } = command.output().unwrap();
    assert!(stdout.is_empty());
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn metadata_survives_a_kill() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let headers = [("content-type", "text/plain"), ("x-amz-meta-colour", "blue"), ("cache-control", "no-store")];
    client.send("PUT", "/bucket/a/b", &headers, b"hello");
    let before = client.get("/bucket/a/b");
    server.kill();
    let server = Server::start(dir.path(), &[]);
    let after = server.client().get("/bucket/a/b");
    assert_eq!(after.body, before.body);
    for name in ["etag", "last-modified", "content-type", "x-amz-meta-colour", "cache-control"] {
        assert_eq!(after.header(name), before.header(name));
        assert_ne!(after.header(name), "");
    }
}

#[test]
fn a_kill_during_an_upload_leaves_nothing() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    client.put("/bucket/old", b"old");
    let temporary = dir.path().join(".s3-store/tmp");
    for key in ["old", "new"] {
        let mut client = server.client();
        client.write(format!("PUT /bucket/{key} HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\n").as_bytes());
        client.write(&pattern(5_000_000, 1));
        std::mem::forget(client);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    let is_written = || {
        std::fs::read_dir(&temporary)
            .unwrap()
            .filter(|file| file.as_ref().unwrap().metadata().unwrap().len() > 1_000_000)
            .count()
            == 2
    };
    while !is_written() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.get("/bucket/new").status, 404);
    server.kill();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    let mut client = server.client();
    assert_eq!(client.get("/bucket/old").text(), "old");
    assert_eq!(client.get("/bucket/new").status, 404);
}

#[test]
fn a_client_that_leaves_during_an_upload_leaves_nothing() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    client.write(b"PUT /bucket/key HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nonly this");
    drop(client);
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.control("GET", "/counters")["in_flight"] != 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.client().get("/bucket/key").status, 404);
    assert_eq!(std::fs::read_dir(dir.path().join(".s3-store/tmp")).unwrap().count(), 0);
}

#[test]
fn sigterm_finishes_what_is_under_way() {
    let dir = TestDir::new();
    let mut server = Server::start(dir.path(), &["--first-byte-ms", "300"]);
    let idle = server.client();
    let mut client = server.client();
    client.begin("GET", "/", &[], b"");
    std::thread::sleep(Duration::from_millis(50));
    Command::new("kill").arg(server.child.id().to_string()).status().unwrap();
    assert_eq!(client.read_head().0, 200);
    let start = Instant::now();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(3));
    drop(idle);
}

#[test]
fn bad_use_is_one_line_and_a_code() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let other = TestDir::new();
    let port = server.ready["endpoint"].as_str().unwrap().rsplit(':').next().unwrap();
    let mut no_keys = command(other.path(), &["--auth"]);
    no_keys.env_remove("AWS_ACCESS_KEY_ID");
    for (command, code, word) in [
        (command(other.path(), &["--port", port]), 3, "taken"),
        (command(other.path(), &["--bind", "0.0.0.0"]), 2, "--i-know"),
        (command(other.path(), &["--profile", "fast"]), 2, "--profile"),
        (command(other.path(), &["--first-byte-ms=-1"]), 2, "--first-byte-ms"),
        (command(&other.path().join("none"), &[]), 2, "not a directory"),
        (command(dir.path(), &[]), 2, "in use"),
        (no_keys, 2, "AWS_ACCESS_KEY_ID"),
    ] {
        let (exit_code, message) = fails(command);
        assert_eq!(exit_code, Some(code), "{message}");
        assert!(message.contains(word) && message.lines().count() == 1, "{message}");
    }
}
