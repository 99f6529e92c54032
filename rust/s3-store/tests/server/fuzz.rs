//! Requests of all kinds: each is answered, or its connection closed; nothing is left behind.

use std::io::{Read, Write};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::{Answer, Server, TestDir, pattern};

/// So many requests; `S3_STORE_REQUESTS=100000` for a long run.
fn runner() -> TestRunner {
    let cases = std::env::var("S3_STORE_REQUESTS").map_or(400, |text| text.parse().unwrap());
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

fn any_of(parts: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(parts), 0..most).prop_map(|parts| parts.concat())
}

fn path() -> impl Strategy<Value = String> {
    let parts = &[
        "/",
        "bucket",
        "key",
        "%2F",
        "%2e",
        ".",
        "..",
        "%00",
        "%",
        "%zz",
        "a b",
        "%C3%A9",
        "%ff",
        "zarr.json",
        "\u{e9}",
    ];
    (any_of(&["/bucket/", "/bucket", "/", ""], 2), any_of(parts, 8)).prop_map(|(start, rest)| format!("/{start}{rest}"))
}

fn query() -> impl Strategy<Value = String> {
    let parts = &[
        "list-type=2",
        "&",
        "=",
        "prefix=",
        "delimiter=/",
        "max-keys=",
        "-1",
        "0",
        "99999999999",
        "uploads",
        "uploadId=1",
        "partNumber=1",
        "partNumber=",
        "max-parts=0",
        "continuation-token=",
        "zz",
        "6",
        "delete",
        "acl",
        "encoding-type=url",
        "X-Amz-Signature=0",
        "response-content-type=",
        "%0d%0a",
        "start-after=",
        "versionId=null",
        "location",
        "marker=",
    ];
    any_of(parts, 6)
}

fn header() -> impl Strategy<Value = String> {
    let names = prop::sample::select(
        &[
            "range",
            "if-match",
            "if-none-match",
            "if-range",
            "if-modified-since",
            "if-unmodified-since",
            "content-md5",
            "x-amz-copy-source",
            "x-amz-copy-source-range",
            "x-amz-copy-source-if-match",
            "x-amz-decoded-content-length",
            "x-amz-content-sha256",
            "x-amz-trailer",
            "x-amz-checksum-crc32",
            "x-amz-sdk-checksum-algorithm",
            "authorization",
            "content-type",
            "expect",
            "x-amz-meta-a",
            "x-amz-metadata-directive",
            "content-encoding",
            "x-amz-date",
        ][..],
    );
    let values = &[
        "bytes=",
        "0",
        "-",
        "5",
        ",",
        "18446744073709551616",
        "\"",
        "etag",
        "*",
        "W/",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        " ",
        "/bucket/key",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "multipart/form-data; boundary=x",
        "AAAA",
        "COPY",
        "REPLACE",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e",
        "100-continue",
        "aws-chunked",
        "\u{e9}",
    ];
    (names, any_of(values, 5)).prop_map(|(name, value)| format!("{name}: {value}\r\n"))
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop::sample::select(&["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"][..]);
    let body = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..200),
        any_of(&["5\r\nhello\r\n", "0\r\n", "\r\n", "a:b", "x", ";chunk-signature=0", "ffffffffffffffff\r\n"], 6)
            .prop_map(String::into_bytes),
        any_of(&["<Delete>", "<Object>", "<Key>key</Key>", "</Object>", "</Delete>", "<CompleteMultipartUpload>"], 6)
            .prop_map(String::into_bytes),
    ];
    (method, path(), query(), prop::collection::vec(header(), 0..4), body).prop_map(
        |(method, path, query, headers, body)| {
            let target = if query.is_empty() { path } else { format!("{path}?{query}") };
            let length = body.len();
            let head = format!(
                "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}content-length: {length}\r\n\r\n",
                headers.concat()
            );
            [head.into_bytes(), body].concat()
        },
    )
}

/// Keys that are there, and such as look like them.
const KEYS: [&str; 13] = [
    "/bucket/key",
    "/bucket/large",
    "/bucket/described",
    "/bucket/of a user",
    "/bucket/empty",
    "/bucket/none",
    "/bucket//key",
    "/bucket/k%65y",
    "/bucket/key?",
    "/bucket/key?x-id=GetObject",
    "/bucket/key?partNumber=1",
    "/bucket/",
    "/nobody/key",
];

fn header_of_a_reader() -> impl Strategy<Value = String> {
    let sent = &[
        "range: bytes=0-3\r\n",
        "x-amz-date: 20261129T000000Z\r\n",
        "x-amz-content-sha256: UNSIGNED-PAYLOAD\r\n",
        "x-amz-checksum-mode: ENABLED\r\n",
        "x-amz-request-payer: requester\r\n",
        "accept: */*\r\n",
        "accept-encoding: identity\r\n",
        "authorization: AWS4-HMAC-SHA256 Credential=a/b/c/d/e\r\n",
        "if-match: *\r\n",
        "if-none-match: *\r\n",
        "if-none-match: \"other\"\r\n",
        "if-range: \"other\"\r\n",
        "if-unmodified-since: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        "content-type: application/json\r\n",
    ];
    let range = any_of(&["bytes=", "0", "-", "5", "20000", ","], 5).prop_map(|range| format!("range: {range}\r\n"));
    prop_oneof![2 => prop::sample::select(&sent[..]).prop_map(str::to_owned), 2 => range, 1 => header()]
}

/// The answer but for what differs from one to the next.
fn lasting(mut answer: Answer) -> Answer {
    ["date", "x-amz-request-id"].iter().for_each(|name| drop(answer.headers.remove(*name)));
    if answer.status >= 400 {
        answer.body = answer.code().as_bytes().to_vec();
        answer.headers.remove("content-length");
    }
    answer
}

#[test]
fn a_plain_range_is_answered_as_s3s_does() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    client.put("/bucket/key", b"0123456789");
    client.put("/bucket/large", &pattern(300_000, 1));
    client.put("/bucket/empty", b"");
    let described =
        [("content-type", "text/plain"), ("cache-control", "no-store"), ("x-amz-checksum-crc32", "NhCmhg==")];
    assert_eq!(client.send("PUT", "/bucket/described", &described, b"hello").status, 200);
    assert_eq!(client.send("PUT", "/bucket/of%20a%20user", &[("x-amz-meta-a", "b")], b"hello").status, 200);
    let requests = (
        prop::sample::select(&["GET", "GET", "GET", "HEAD"][..]),
        prop::sample::select(&KEYS[..]),
        prop::collection::vec(header_of_a_reader(), 1..5),
    );
    runner()
        .run(&requests, |(method, path, headers)| {
            let head = format!("{method} {} HTTP/1.1\r\nhost: x\r\n{}", path.replace(' ', "%20"), headers.concat());
            // A header that S3 does not know, so that s3s answers.
            let [ours, theirs] = ["", "x-amz-unknown: 1\r\n"].map(|more| {
                let mut client = server.client();
                client.write(format!("{head}{more}connection: close\r\n\r\n").as_bytes());
                client.try_read_answer(method).map(lasting)
            });
            prop_assert_eq!(ours, theirs);
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_request_is_answered_or_its_connection_closed() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &["--stall-seconds", "2"]);
    server.client_with_bucket().put("/bucket/key", b"0123456789");
    let requests = prop_oneof![9 => request(), 1 => prop::collection::vec(any::<u8>(), 1..300)];
    runner()
        .run(&requests, |request| {
            let mut client = server.client();
            client.write(&request);
            client.stream.get_mut().shutdown(std::net::Shutdown::Write).ok();
            let mut answer = Vec::new();
            // A reset is an end, too; no end within the client's patience is not.
            if let Err(error) = client.stream.read_to_end(&mut answer) {
                prop_assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock);
            }
            let text = String::from_utf8_lossy(&answer);
            prop_assert!(!text.contains("InternalError"), "{text}");
            Ok(())
        })
        .unwrap();
    let mut client = server.client();
    client.stream.get_mut().write_all(b"").unwrap();
    assert!(client.get("/bucket?list-type=2").status < 500);
    drop(client);
    server.settles();
    server.kill();
}
