use std::io::{ErrorKind, Read};

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, TestDir, pattern};

const SIZE: usize = 200_000;

/// A server with one object and a fault for its first data request.
fn spoiled(dir: &TestDir, fault: &str) -> Server {
    let server = Server::start(dir.path(), &[]);
    server.client_with_bucket().put("/bucket/array/c/0", &pattern(SIZE, 1));
    set(&server, &format!("fault={fault}"));
    server.control("POST", "/marks/m?log=1");
    server
}

fn set(server: &Server, query: &str) -> Value {
    server.control("POST", &format!("/faults?{query}"))
}

fn get(client: &mut Client) -> Answer {
    client.get_range("/bucket/array/c/0", "bytes=1000-150999")
}

fn since(server: &Server, names: &[&str]) -> Vec<Value> {
    let counters = server.control("GET", "/marks/m");
    names.iter().map(|name| counters[name].clone()).collect()
}

#[test]
fn there_are_none_unless_asked_for_and_none_after_the_end() {
    let dir = TestDir::new();
    let server = spoiled(&dir, "slow-down&count=0");
    let rule = json!({"fault": "slow-down", "kind": "data", "first": 1, "every": 1, "count": 0});
    assert_eq!(server.control("GET", "/faults"), json!({"rules": [rule]}));
    assert_eq!(get(&mut server.client()).status, 503);
    assert_eq!(server.control("DELETE", "/faults"), json!({"rules": []}));
    assert_eq!(get(&mut server.client()).status, 206);
    server.kill();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.control("GET", "/faults"), json!({"rules": []}), "no fault outlives the server");
}

#[test]
fn errors_are_those_of_s3_and_keep_their_kind() {
    for (fault, status, code) in [
        ("slow-down", 503, "SlowDown"),
        ("internal-error", 500, "InternalError"),
        ("expired-token", 403, "ExpiredToken"),
        ("missing", 404, "NoSuchKey"),
    ] {
        let dir = TestDir::new();
        let server = spoiled(&dir, fault);
        let mut client = server.client();
        let answer = get(&mut client);
        assert_eq!((answer.status, answer.code()), (status, code));
        assert_eq!(get(&mut client).body, pattern(SIZE, 1)[1000..151_000], "on the same connection");
        let names = ["get_data", "errors_by_status", "faults", "faults_by_name", "retries"];
        let expected = [json!(2), json!({status.to_string(): 1}), json!(1), json!({fault: 1}), json!(1)];
        assert_eq!(since(&server, &names), expected);
    }
}

#[test]
fn an_index_is_told_from_data() {
    let dir = TestDir::new();
    let server = spoiled(&dir, "missing&kind=index");
    let mut client = server.client();
    assert_eq!(get(&mut client).status, 206);
    assert_eq!(client.get_range("/bucket/array/c/0", "bytes=-100").status, 404);
    assert_eq!(since(&server, &["get_data", "get_index", "faults"]), [1, 1, 1].map(Value::from));
}

#[test]
fn requests_are_counted_anew_after_a_reset_of_the_draws() {
    let dir = TestDir::new();
    let server = spoiled(&dir, "slow-down&first=2");
    let mut client = server.client();
    let mut statuses = |count: usize| (0..count).map(|_| get(&mut client).status).collect::<Vec<_>>();
    assert_eq!(statuses(4), [206, 503, 206, 206]);
    server.control("POST", "/reset-draws");
    assert_eq!(statuses(3), [206, 503, 206]);
}

#[test]
fn a_reset_has_no_answer_and_is_counted() {
    let dir = TestDir::new();
    let server = spoiled(&dir, "reset");
    let mut client = server.client();
    assert_eq!(client.get_range("/bucket/array/c/0", "bytes=-100").status, 206);
    client.begin("GET", "/bucket/array/c/0", &[("range", "bytes=0-99")], b"");
    let error = client.stream.read(&mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(since(&server, &["get_data", "faults", "in_flight", "bytes_out"]), [1, 1, 0, 100].map(Value::from));
}

#[test]
fn a_body_breaks_off_in_the_middle() {
    for fault in ["truncate", "reset-body"] {
        let dir = TestDir::new();
        let server = spoiled(&dir, fault);
        let mut client = server.client();
        client.begin("GET", "/bucket/array/c/0", &[("range", "bytes=1000-150999")], b"");
        let (status, headers) = client.read_head();
        assert_eq!((status, headers["content-length"].as_str()), (206, "150000"));
        let mut body = Vec::new();
        let end = client.stream.read_to_end(&mut body);
        assert_eq!(end.is_err(), fault == "reset-body", "{end:?}");
        if fault == "truncate" {
            assert_eq!(body, pattern(SIZE, 1)[1000..76_000]);
        }
        assert_eq!(client_rest(&server), pattern(SIZE, 1)[76_000..151_000]);
        assert_eq!(since(&server, &["faults", "retries", "errors"]), [1, 1, 0].map(Value::from));
    }
}

fn client_rest(server: &Server) -> Vec<u8> {
    server.client().get_range("/bucket/array/c/0", "bytes=76000-150999").body
}

#[test]
fn wrong_bytes_look_right() {
    let (dir, whole) = (TestDir::new(), pattern(SIZE, 1));
    let server = spoiled(&dir, "corrupt");
    let mut client = server.client();
    let body = get(&mut client).body;
    let wrong: Vec<usize> = (0..body.len()).filter(|&at| body[at] != whole[1000 + at]).collect();
    assert_eq!((body.len(), wrong), (150_000, vec![75_000]));
    assert_eq!(get(&mut client).body, whole[1000..151_000]);

    server.control("DELETE", "/faults");
    set(&server, "fault=wrong-range");
    let answer = get(&mut client);
    assert_eq!((answer.status, answer.header("content-range")), (206, "bytes 1001-150999/200000"));
    assert_eq!(answer.body, whole[1001..151_000]);
    assert_eq!(since(&server, &["faults", "retries", "get_data"]), [2, 0, 3].map(Value::from));
}

#[test]
fn a_hanging_request_ends_with_its_client() {
    let dir = TestDir::new();
    let server = spoiled(&dir, "hang");
    let mut client = server.client();
    client.begin("GET", "/bucket/array/c/0", &[("range", "bytes=0-99")], b"");
    // Another connection's request could meet the fault first.
    wait_for(&server, "faults", 1);
    assert_eq!(get(&mut server.client()).status, 206, "others are served meanwhile");
    assert_eq!(since(&server, &["faults", "in_flight"]), [1, 1].map(Value::from));
    drop(client);
    wait_for(&server, "in_flight", 0);
}

fn wait_for(server: &Server, name: &str, value: u64) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while since(server, &[name])[0] != value {
        assert!(std::time::Instant::now() < deadline, "{name} never was {value}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_trickle_is_slow_and_right() {
    let dir = TestDir::new();
    let server = spoiled(&dir, "trickle");
    let mut client = server.client();
    let answer = client.get_range("/bucket/array/c/0", "bytes=0-9999");
    assert_eq!(answer.body, pattern(SIZE, 1)[..10_000]);
    let log = server.control("GET", "/marks/m/requests");
    let time = |name: &str| log["requests"][0][name].as_u64().unwrap();
    // Ten drops and the pauses between them.
    assert!(time("last_byte_ns") - time("first_byte_ns") >= 9 * 20_000_000, "{log}");
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    for query in ["", "?fault=fire", "?fault=reset&first=0", "?fault=reset&kind=put"] {
        assert_eq!(server.control_answer("POST", &format!("/faults{query}")).status, 400, "{query}");
    }
    assert_eq!(server.control("GET", "/faults"), json!({"rules": []}));
}
