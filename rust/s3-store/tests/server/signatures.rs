use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::harness::{Answer, Client, Server, TestDir, command};

const ACCESS_KEY: &str = "AKIDTEST";
const SECRET_KEY: &str = "a secret";

fn with_keys(dir: &TestDir) -> Server {
    let mut command: Command = command(dir.path(), &["--auth"]);
    command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    Server::start_with(command)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Now as `YYYYMMDDTHHMMSSZ`, from the days since 1970 by the civil calendar.
fn amz_date() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}{month:02}{:02}T{hour:02}{minute:02}{second:02}Z", days + 1)
}

/// Signs a request without a query by version 4 and sends it.
fn signed(client: &mut Client, method: &str, path: &str, body: &[u8], (access, secret): (&str, &str)) -> Answer {
    let date = amz_date();
    let hash = hex(&Sha256::digest(body));
    let names = "host;x-amz-content-sha256;x-amz-date";
    let canonical =
        format!("{method}\n{path}\n\nhost:test\nx-amz-content-sha256:{hash}\nx-amz-date:{date}\n\n{names}\n{hash}");
    let scope = format!("{}/us-east-1/s3/aws4_request", &date[..8]);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let key = ["us-east-1", "s3", "aws4_request"]
        .iter()
        .fold(hmac(format!("AWS4{secret}").as_bytes(), &date[..8]), |key, text| hmac(&key, text));
    let signature = hex(&hmac(&key, &to_sign));
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}");
    let headers = [("authorization", authorization.as_str()), ("x-amz-date", &date), ("x-amz-content-sha256", &hash)];
    client.send(method, path, &headers, body)
}

#[test]
fn only_the_right_keys_are_let_in() {
    let dir = TestDir::new();
    let server = with_keys(&dir);
    assert_eq!(server.ready["auth"], true);
    let good = (ACCESS_KEY, SECRET_KEY);
    let mut client = server.client();
    assert_eq!(signed(&mut client, "PUT", "/bucket", b"", good).status, 200);
    assert_eq!(signed(&mut client, "PUT", "/bucket/key", b"hello", good).status, 200);
    assert_eq!(signed(&mut client, "GET", "/bucket/key", b"", good).text(), "hello");
    for (keys, code) in
        [((ACCESS_KEY, "another"), "SignatureDoesNotMatch"), (("AKID", SECRET_KEY), "InvalidAccessKeyId")]
    {
        let answer = signed(&mut client, "GET", "/bucket/key", b"", keys);
        assert_eq!((answer.status, answer.code()), (403, code));
    }
    let unsigned = client.get("/bucket/key");
    assert_eq!((unsigned.status, unsigned.code()), (403, "AccessDenied"));
}

#[test]
fn without_keys_everybody_is_let_in() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    assert_eq!(signed(&mut client, "PUT", "/bucket/key", b"hello", ("any", "any")).status, 200);
    assert_eq!(signed(&mut client, "GET", "/bucket/key", b"", ("other", "any")).text(), "hello");
    assert_eq!(client.get("/bucket/key?X-Amz-Signature=00&X-Amz-Expires=1").text(), "hello");
    let framed =
        b"5;chunk-signature=00\r\nhello\r\n4\r\n you\r\n0;chunk-signature=00\r\nx-amz-checksum-crc32:3eH7tg==\r\n\r\n";
    let mut headers = vec![
        ("authorization", "AWS4-HMAC-SHA256 anything"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "9"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let wrong = client.send("PUT", "/bucket/chunked", &headers, framed);
    assert_eq!(wrong.code(), "BadDigest");
    headers.pop();
    assert_eq!(client.send("PUT", "/bucket/chunked", &headers, framed).status, 200);
    let stored = client.get("/bucket/chunked");
    assert_eq!((stored.text(), stored.header("content-encoding")), ("hello you", ""));
}
