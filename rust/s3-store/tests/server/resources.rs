//! Clients that stop, disks without room, too few descriptors.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::harness::{Client, Server, TestDir, limited, pattern};

#[test]
fn trailers_without_number_are_refused() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let mut framed = b"5\r\nhello\r\n0\r\n".to_vec();
    (0..30_000).for_each(|number| write!(framed, "t{number}:1\r\n").unwrap());
    framed.extend(b"\r\n");
    let headers =
        [("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"), ("x-amz-decoded-content-length", "5")];
    let answer = client.send("PUT", "/bucket/key", &headers, &framed);
    assert_eq!((answer.status, answer.code()), (400, "IncompleteBody"));
    assert_eq!(client.get("/bucket/key").status, 404, "the connection goes on");
    drop(client);
    server.settles();
    server.kill();
}

#[test]
fn a_form_is_not_read_into_memory() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let body = [
        &b"--x\r\ncontent-disposition: form-data; name=\"key\"\r\n\r\nk\r\n--x\r\n"[..],
        b"content-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n",
        &pattern(50 << 20, 1),
        b"\r\n--x--\r\n",
    ]
    .concat();
    let answer = client.send("POST", "/bucket", &[("content-type", "multipart/form-data; boundary=x")], &body);
    assert_eq!(answer.status, 400, "{}", answer.text());
    let peak = server.control("GET", "/counters")["peak_rss_bytes"].as_u64().unwrap();
    assert!(peak < 40 << 20, "{peak}");
}

/// Whether the server closes the connection, before the client's patience of 20 s ends.
fn is_closed(client: &mut Client) -> bool {
    match client.stream.read(&mut [0; 100]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_client_that_stops_is_given_up() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &["--stall-seconds", "0.3"]);
    let mut idle = server.client_with_bucket();
    idle.put("/bucket/big", &pattern(64 << 20, 1));

    let mut half_head = server.client();
    half_head.write(b"GET /bucket/key HTTP/1.1\r\nhost: ");
    assert!(is_closed(&mut half_head));

    let mut half_head_later = server.client();
    assert_eq!(half_head_later.get("/bucket/none").status, 404);
    half_head_later.write(b"GET /buck");
    assert!(is_closed(&mut half_head_later));

    let mut half_body = server.client();
    half_body.write(b"PUT /bucket/key HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nonly this");
    let answer = half_body.read_answer("PUT");
    assert_eq!((answer.status, answer.code()), (400, "RequestTimeout"));

    let mut takes_nothing = server.client();
    takes_nothing.begin("GET", "/bucket/big", &[], b"");
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.control("GET", "/counters")["in_flight"] != 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(idle.get("/bucket/none").status, 404, "an idle connection has begun nothing");
}

#[test]
fn a_client_that_is_slow_but_goes_on_is_waited_for() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &["--stall-seconds", "0.5"]);
    let mut client = server.client_with_bucket();
    client.write(b"PUT /bucket/key HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n");
    for byte in b"slowness" {
        std::thread::sleep(Duration::from_millis(150));
        client.write(&[*byte]);
    }
    assert_eq!(client.read_answer("PUT").status, 200);
}

#[test]
fn a_client_learns_that_the_disk_is_full() {
    let dir = TestDir::new();
    let server = Server::start_with(limited(dir.path(), &[], "-f 1024"));
    let mut client = server.client_with_bucket();
    let body = pattern(32 << 20, 1);
    let answer = client.send("PUT", "/bucket/big", &[], &body);
    assert_eq!((answer.status, answer.code()), (500, "InternalError"));
    // Whatever is refused before the body is read, the client gets to know it.
    let answer = client.send("PUT", "/No_Bucket/big", &[], &body);
    assert_eq!((answer.status, answer.code()), (400, "InvalidBucketName"));
    let framed =
        [("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"), ("x-amz-decoded-content-length", "5")];
    let answer = client.send("PUT", "/bucket/big", &framed, &body);
    assert_eq!((answer.status, answer.code()), (400, "IncompleteBody"));
    client.put("/bucket/small", b"fits");
    assert_eq!(client.get("/bucket/small").text(), "fits", "it is the same connection");
    assert_eq!(client.get("/bucket/big").status, 404);
    assert_eq!(fs::read_dir(dir.path().join(".s3-store/tmp")).unwrap().count(), 0);
}

#[test]
fn a_client_that_waits_to_be_asked_is_not_asked_in_vain() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    client.write(b"PUT /No_Bucket/k HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n");
    assert_eq!(client.read_answer("PUT").status, 400);
}

#[test]
fn too_few_descriptors_are_told_and_got_over() {
    let dir = TestDir::new();
    let server = Server::start_with(limited(dir.path(), &["--first-byte-ms", "20"], "-n 128"));
    let mut client = server.client_with_bucket();
    let keys: Vec<_> = (0..30).map(|number| format!("/bucket/{number}")).collect();
    for key in &keys {
        client.put(key, key.as_bytes());
    }
    // More connections than there are descriptors, each with a request.
    let mut crowd: Vec<_> = (0..300).map(|_| server.client()).collect();
    let mut answers = [0, 0];
    for (client, key) in crowd.iter_mut().zip(keys.iter().cycle()) {
        let request = format!("GET {key} HTTP/1.1\r\nhost: x\r\n\r\n");
        // A refused connection may be gone already.
        client.stream.get_mut().write_all(request.as_bytes()).ok();
    }
    for client in &mut crowd {
        let mut head = [0; 12];
        match client.stream.read_exact(&mut head) {
            Ok(()) if &head == b"HTTP/1.1 200" => answers[0] += 1,
            Ok(()) => assert_eq!(&head, b"HTTP/1.1 503"),
            Err(error) => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "a connection hangs");
                answers[1] += 1;
            }
        }
    }
    assert!(answers[0] > 10, "{answers:?}");
    drop(crowd);
    for key in &keys {
        assert_eq!(client.get(key).text(), key);
    }
    drop(client);
    server.settles();
    let said = server.kill();
    assert!(said.lines().count() <= 3, "{said}");
}

#[test]
fn the_cause_of_an_error_is_told_on_demand() {
    let dir = TestDir::new();
    for (flags, told) in [(&["--log-errors"][..], true), (&[], false)] {
        let server = Server::start_with(limited(dir.path(), flags, "-f 8"));
        let mut client = server.client();
        client.send("PUT", "/bucket", &[], b"");
        let answer = client.send("PUT", "/bucket/key", &[], &pattern(100_000, 1));
        assert_eq!(answer.status, 500);
        let id = answer.header("x-amz-request-id").to_owned();
        assert_eq!(answer.element("RequestId"), Some(&*id));
        let said = server.kill();
        let line = said.lines().find(|line| line.contains(&id));
        assert_eq!(
            line.is_some_and(|line| line.contains("/bucket/key") && line.contains("FileTooLarge")),
            told,
            "{said}"
        );
    }
}
