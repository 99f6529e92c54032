use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Server, TestDir, pattern};

fn pick(counters: &Value, names: &[&str]) -> Vec<u64> {
    names.iter().map(|name| counters[name].as_u64().unwrap_or_else(|| panic!("{name} in {counters}"))).collect()
}

#[test]
fn a_known_sequence_is_counted_exactly() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    client.put("/bucket/array/c/0", &pattern(200_000, 1));
    client.put("/bucket/array/zarr.json", b"{}");
    assert_eq!(server.control("POST", "/marks/m?log=1"), json!({}));

    client.get_range("/bucket/array/c/0", "bytes=-100");
    client.get_range("/bucket/array/c/0", "bytes=0-99999");
    client.get("/bucket/array/c/0");
    client.get("/bucket/array/zarr.json");
    client.send("HEAD", "/bucket/array/c/0", &[], b"");
    let list = client.get("/bucket?list-type=2").body.len() as u64;
    client.put("/bucket/new", b"12345");
    let missing = client.get("/bucket/none").body.len() as u64;
    client.send("DELETE", "/bucket/new", &[], b"");

    let since = server.control("GET", "/marks/m");
    let kinds = ["requests", "get_index", "get_data", "get_metadata", "head", "put", "list", "delete", "other"];
    assert_eq!(pick(&since, &kinds), [9, 1, 3, 1, 1, 1, 1, 1, 0]);
    assert_eq!(pick(&since, &["errors", "bytes_in", "in_flight", "max_in_flight"]), [1, 5, 0, 1]);
    assert_eq!(since["errors_by_status"], json!({"404": 1}));
    assert_eq!(pick(&since, &["bytes_out"]), [100 + 100_000 + 200_000 + 2 + list + missing]);
    assert_eq!(pick(&since, &["connections_accepted", "connections_open"]), [0, 1]);
    assert!(since["cpu_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(pick(&server.control("GET", "/counters"), &["requests"]), [12]);
    check_log(&server.control("GET", "/marks/m/requests"));

    assert_eq!(server.control("DELETE", "/marks/m"), json!({}));
    assert_eq!(server.control_answer("GET", "/marks/m").status, 404);
    assert_eq!(server.control_answer("GET", "/marks/m/requests").status, 404);
}

fn check_log(log: &Value) {
    assert_eq!((log["requests"].as_array().unwrap().len(), &log["dropped"]), (9, &json!(0)));
    let index = &log["requests"][0];
    assert_eq!((&index["kind"], &index["range"]), (&json!("get_index"), &json!([199_900, 200_000])));
    assert_eq!((&index["bucket"], &index["key"]), (&json!("bucket"), &json!("array/c/0")));
    assert_eq!(pick(index, &["status", "bytes", "connection"]), [206, 100, 1]);
    for request in log["requests"].as_array().unwrap() {
        let times = pick(request, &["received_ns", "first_byte_ns", "last_byte_ns"]);
        assert!(times.is_sorted() && times[0] > 0, "{request}");
    }
}

#[test]
fn requests_in_flight_are_those_of_the_interval() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &["--first-byte-ms", "100"]);
    let mut clients: Vec<_> = (0..7).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.begin("GET", "/", &[], b""));
    clients.iter_mut().for_each(|client| assert_eq!(client.read_head().0, 200));
    assert_eq!(pick(&server.control("GET", "/counters"), &["max_in_flight", "in_flight"]), [7, 0]);
    server.control("POST", "/marks/m");
    server.client().get("/");
    assert_eq!(pick(&server.control("GET", "/marks/m"), &["max_in_flight", "connections_accepted"]), [1, 1]);
}

#[test]
fn an_aborted_body_counts_what_was_sent() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let size = 64 << 20;
    server.client_with_bucket().put("/bucket/big", &pattern(size, 1));
    server.control("POST", "/marks/m?log=1");
    let mut client = server.client();
    client.begin("GET", "/bucket/big", &[], b"");
    client.read_head();
    client.stream.read_exact(&mut [0; 1000]).unwrap();
    assert_eq!(pick(&server.control("GET", "/marks/m"), &["in_flight"]), [1]);
    drop(client);
    let since = wait_for(&server, |since| since["in_flight"] == 0);
    assert_eq!(pick(&since, &["requests", "get_data", "errors"]), [1, 1, 0]);
    let sent = pick(&since, &["bytes_out"])[0];
    assert!(sent >= 1000 && sent < size as u64, "{sent}");
    let log = server.control("GET", "/marks/m/requests");
    assert_eq!(pick(&log["requests"][0], &["bytes"]), [sent]);
}

#[test]
fn a_request_under_way_at_a_mark_is_logged_or_said_to_be_missing() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &["--first-byte-ms", "300"]);
    let mut client = server.client();
    client.begin("GET", "/bucket/key", &[], b"");
    while server.control("GET", "/counters")["in_flight"] == 0 {}
    server.control("POST", "/marks/m?log=1");
    assert_eq!(client.read_answer("GET").status, 404);
    assert_eq!(client.get("/bucket/key").status, 404);
    let since = server.control("GET", "/marks/m");
    let log = server.control("GET", "/marks/m/requests");
    let logged = log["requests"].as_array().unwrap().len() as u64;
    assert_eq!(pick(&since, &["requests"])[0], logged + pick(&log, &["dropped"])[0], "{since} {log}");
    assert_eq!((pick(&since, &["requests"])[0], logged), (2, 1));
}

#[test]
fn a_request_that_nobody_waits_for_is_counted() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &["--first-byte-ms", "300"]);
    server.control("POST", "/marks/m");
    server.client().begin("GET", "/bucket/key", &[], b"");
    let since = wait_for(&server, |since| since["requests"] == 1);
    assert_eq!(pick(&since, &["get_data", "in_flight", "connections_open"]), [1, 0, 0]);
}

fn wait_for(server: &Server, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let since = server.control("GET", "/marks/m");
        if done(&since) {
            return since;
        }
        assert!(Instant::now() < deadline, "{since}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// First-byte delays as the log has them, whole milliseconds.
fn delays(server: &Server) -> Vec<u64> {
    server.control("POST", "/reset-draws");
    server.control("POST", "/marks/m?log=1");
    let mut client = server.client();
    (0..8).for_each(|_| drop(client.get("/bucket/none")));
    let log = server.control("GET", "/marks/m/requests");
    let delay = |r: &Value| (r["first_byte_ns"].as_u64().unwrap() - r["received_ns"].as_u64().unwrap()) / 1_000_000;
    log["requests"].as_array().unwrap().iter().map(delay).collect()
}

#[test]
fn a_reset_brings_the_same_delays_again() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &["--profile", "s3-tail", "--seed", "5"]);
    // A loaded machine may wake late, never early: the least of several.
    let least = || {
        let repeats = (0..5).map(|_| delays(&server));
        repeats.reduce(|a, b| a.into_iter().zip(b).map(|(a, b)| a.min(b)).collect()).unwrap()
    };
    let (first, second) = (least(), least());
    // Eight draws spread by a factor of five cannot agree by chance.
    let close = |(a, b): (&u64, &u64)| a.abs_diff(*b) <= 5 + a / 4;
    assert!(first.iter().zip(&second).filter(|&pair| close(pair)).count() >= 7, "{first:?} {second:?}");
    assert!(first.iter().max().unwrap() > &(2 * first.iter().min().unwrap()), "{first:?}");
}

#[test]
fn health_is_the_ready_line() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &["--profile", "s3", "--seed", "3"]);
    assert_eq!(server.control("GET", "/health"), server.ready);
    let profile = json!({"name": "s3", "first_byte_ms": 20.0, "first_byte_p99_ms": null, "connection_mb_s": 90.0,
        "link_gbit_s": 2.0, "requests_per_second_per_prefix": null, "idle_seconds": null, "seed": 3});
    assert_eq!(server.ready["profile"], profile);
    assert_eq!(server.control_answer("GET", "/nothing").status, 404);
}

#[test]
fn the_control_endpoint_has_a_thread_of_its_own() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let pid = server.control("GET", "/health")["pid"].as_u64().unwrap();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let name_of = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm")).unwrap();
    let names: Vec<String> = threads.map(|thread| name_of(thread.unwrap())).collect();
    let control = names.iter().filter(|name| name.trim() == "control").count();
    assert_eq!(control, 1, "{names:?}");
    server.kill();
}
