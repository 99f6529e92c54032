use std::io::Read;

use crate::harness::{Server, TestDir, pattern};

#[test]
fn every_form_of_range() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    // Below and above the size from which ranges are sent without copying.
    for size in [100_usize, 700_000] {
        let content = pattern(size, 1);
        client.put("/bucket/key", &content);
        for (range, first, end) in [
            ("bytes=0-0".to_owned(), 0, 1),
            ("bytes=10-19".to_owned(), 10, 20),
            ("bytes=10-".to_owned(), 10, size),
            (format!("bytes=10-{}", 10 * size), 10, size),
            ("bytes=-7".to_owned(), size - 7, size),
            (format!("bytes=-{}", 10 * size), 0, size),
            (format!("bytes=0-{}", size - 1), 0, size),
        ] {
            let answer = client.get_range("/bucket/key", &range);
            assert_eq!(answer.status, 206, "{range}");
            assert_eq!(answer.header("content-range"), format!("bytes {first}-{}/{size}", end - 1));
            assert_eq!(answer.body, content[first..end]);
            let head = client.send("HEAD", "/bucket/key", &[("range", &range)], b"");
            assert_eq!((head.status, head.header("content-range")), (206, answer.header("content-range")));
        }
        for range in [format!("bytes={size}-"), format!("bytes={size}-{}", size + 5), "bytes=-0".to_owned()] {
            let answer = client.get_range("/bucket/key", &range);
            assert_eq!((answer.status, answer.code()), (416, "InvalidRange"), "{range}");
            assert_eq!(answer.header("content-range"), format!("bytes */{size}"));
        }
        for range in ["bytes=0-18446744073709551615", "bytes=-99999999999999999999999"] {
            let answer = client.get_range("/bucket/key", range);
            assert_eq!((answer.status, answer.body.len()), (206, size), "{range}");
        }
        for range in ["bytes=9223372036854775808-", "bytes=99999999999999999999-999999999999999999999"] {
            assert_eq!(client.get_range("/bucket/key", range).status, 416, "{range}");
        }
        // What is no byte range does not count, as in S3.
        for range in ["bytes=5-2", "bytes=0-1,4-5", "lines=1-2"] {
            assert_eq!(client.get_range("/bucket/key", range).status, 200, "{range}");
        }
    }
    client.put("/bucket/empty", b"");
    assert_eq!(client.get("/bucket/empty").status, 200);
    assert_eq!(client.get_range("/bucket/empty", "bytes=0-0").status, 416);
}

#[test]
fn conditions() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let etag = client.put("/bucket/key", b"hello");
    assert_eq!(etag, "\"5d41402abc4b2a76b9719d911017c592\"");
    for method in ["GET", "HEAD"] {
        let mut status = |name, value| client.send(method, "/bucket/key", &[(name, value)], b"").status;
        assert_eq!(status("if-match", &etag), 200);
        assert_eq!(status("if-match", "*"), 200);
        assert_eq!(status("if-match", "\"other\""), 412);
        assert_eq!(status("if-none-match", &etag), 304);
        assert_eq!(status("if-none-match", "*"), 304);
        assert_eq!(status("if-none-match", "\"other\""), 200);
        assert_eq!(status("if-modified-since", "Thu, 01 Jan 2037 00:00:00 GMT"), 304);
        assert_eq!(status("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"), 412);
    }
    let list = format!("\"other\", {etag}");
    assert_eq!(client.send("GET", "/bucket/key", &[("if-match", &list)], b"").status, 200);
    assert_eq!(client.send("GET", "/bucket/key", &[("if-none-match", &list)], b"").status, 304);
    for name in ["if-modified-since", "if-unmodified-since"] {
        assert_eq!(client.send("GET", "/bucket/key", &[(name, "yesterday")], b"").status, 200, "{name} of no date");
    }
    let mut range_of = |condition: &str| {
        let headers = [("range", "bytes=0-1"), ("if-range", condition)];
        client.send("GET", "/bucket/key", &headers, b"").status
    };
    assert_eq!((range_of(&etag), range_of("\"other\""), range_of("Thu, 01 Jan 1970 00:00:00 GMT")), (206, 200, 200));
    let not_modified = client.send("GET", "/bucket/key", &[("if-none-match", &etag)], b"");
    assert_eq!(not_modified.header("etag"), etag);
    let mut put = |key, name, value| client.send("PUT", key, &[(name, value)], b"new").status;
    assert_eq!(put("/bucket/key", "if-none-match", "*"), 412);
    assert_eq!(put("/bucket/fresh", "if-none-match", "*"), 200);
    assert_eq!(put("/bucket/key", "if-match", "\"other\""), 412);
    assert_eq!(put("/bucket/key", "if-match", &etag), 200);
    assert_eq!(put("/bucket/none", "if-match", &etag), 404);
    assert_eq!(put("/bucket/none", "if-match", "*"), 404);
}

#[test]
fn digests_are_checked_and_nothing_is_stored_on_failure() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let mut put = |name, value| {
        let answer = client.send("PUT", "/bucket/key", &[(name, value)], b"hello");
        (answer.status, answer.code().to_owned())
    };
    let refused = |code: &str| (400, code.to_owned());
    assert_eq!(put("content-md5", "XUFAKrxLKna5cZ2REBfFkQ=="), refused("BadDigest"));
    assert_eq!(put("content-md5", "nonsense"), refused("InvalidDigest"));
    assert_eq!(put("x-amz-checksum-crc32", "AAAAAA=="), refused("BadDigest"));
    assert_eq!(client.get("/bucket/key").code(), "NoSuchKey");
    let headers = [("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="), ("x-amz-checksum-crc32", "NhCmhg==")];
    assert_eq!(client.send("PUT", "/bucket/key", &headers, b"hello").status, 200);
    let answer = client.send("GET", "/bucket/key", &[("x-amz-checksum-mode", "ENABLED")], b"");
    assert_eq!(answer.header("x-amz-checksum-crc32"), "NhCmhg==");
}

#[test]
fn hostile_keys_neither_escape_nor_collide() {
    let dir = TestDir::new();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let long = format!("/bucket/{}/x", "n".repeat(300));
    let keys = [
        "/bucket/a",
        "/bucket/a/b",
        "/bucket/a//b",
        "/bucket/a/",
        "/bucket/a/../b",
        "/bucket/b",
        "/bucket/../../escaped",
        "/bucket/%2e%2e/%2e%2e/escaped",
        "/bucket/.",
        "/bucket/..",
        "/bucket/a/./b",
        "/bucket//a",
        "/bucket/%00",
        "/bucket/%C3%A4%F0%9F%A6%80",
        "/bucket/a%20b",
        "/bucket/.s3-store/lock",
        &long,
    ];
    // Two of them are two spellings of one key.
    let same = |key: &str| key.replace("%2e", ".");
    let mut server = Server::start(&root, &[]);
    let mut client = server.client_with_bucket();
    keys.iter().for_each(|key| drop(client.put(key, same(key).as_bytes())));
    for _ in 0..2 {
        keys.iter().for_each(|key| assert_eq!(client.get(key).text(), same(key), "{key}"));
        assert_eq!(client.get("/bucket?list-type=2&encoding-type=url").elements("Key").len(), keys.len() - 1);
        drop(client);
        server.kill();
        server = Server::start(&root, &[]);
        client = server.client();
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something lies beside the root");
    for key in keys {
        assert_eq!(client.send("DELETE", key, &[], b"").status, 204);
        assert_eq!(client.get(key).status, 404);
    }
    assert_eq!(client.send("DELETE", "/bucket", &[], b"").status, 204);
}

#[test]
fn a_get_under_way_keeps_its_version() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let (old, new) = (pattern(32 << 20, 1), pattern(32 << 20, 2));
    let mut writer = server.client_with_bucket();
    writer.put("/bucket/key", &old);
    let mut reader = server.client();
    reader.begin("GET", "/bucket/key", &[], b"");
    let (status, headers) = reader.read_head();
    assert_eq!((status, headers["content-length"].as_str()), (200, "33554432"));
    writer.put("/bucket/key", &new);
    assert!(writer.get("/bucket/key").body == new);
    assert_eq!(writer.send("DELETE", "/bucket/key", &[], b"").status, 204);
    let mut body = vec![0; old.len()];
    reader.stream.read_exact(&mut body).unwrap();
    assert!(body == old, "the body mixes versions");
    assert_eq!(reader.get("/bucket/key").status, 404);
}

#[test]
fn overwriting_never_shows_a_mixture() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let versions: Vec<_> = (0..4).map(|seed| pattern(200_000 + seed as usize, seed)).collect();
    let mut writer = server.client_with_bucket();
    writer.put("/bucket/key", &versions[0]);
    let mut reader = server.client();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| (0..200).for_each(|i| drop(writer.put("/bucket/key", &versions[i % 4]))));
        while !writing.is_finished() {
            let answer = reader.get("/bucket/key");
            assert_eq!(answer.status, 200);
            assert!(versions.contains(&answer.body));
        }
    });
}

#[test]
fn files_put_there_by_hand_are_served() {
    let dir = TestDir::new();
    std::fs::create_dir_all(dir.path().join("bucket/a")).unwrap();
    std::fs::write(dir.path().join("bucket/a/before"), "hello").unwrap();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client();
    let answer = client.get("/bucket/a/before");
    assert_eq!(answer.text(), "hello");
    assert!(answer.header("etag").ends_with("-1\""), "nobody reads all of it for an MD5");
    assert_eq!(client.get("/bucket/a/after").status, 404);
    std::fs::write(dir.path().join("bucket/a/after"), "later").unwrap();
    assert_eq!(client.get("/bucket/a/after").text(), "later");
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("bucket/link")).unwrap();
    assert_eq!(client.get("/bucket/link").status, 404);
    std::fs::remove_file(dir.path().join("bucket/a/after")).unwrap();
    std::fs::write(dir.path().join("bucket/a/after"), "again!").unwrap();
    client.put("/bucket/other", b"");
    assert_eq!(client.send("DELETE", "/bucket/a/after", &[], b"").status, 204);
    assert_eq!(client.get("/bucket/a/after").status, 404);
}

#[test]
fn copies_and_metadata() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let headers = [("content-type", "text/plain"), ("x-amz-meta-colour", "blue")];
    client.send("PUT", "/bucket/from", &headers, b"hello");
    let source = ("x-amz-copy-source", "/bucket/from");
    assert_eq!(client.send("PUT", "/bucket/to", &[source], b"").status, 200);
    let copy = client.get("/bucket/to");
    assert_eq!((copy.text(), copy.header("content-type")), ("hello", "text/plain"));
    assert_eq!(copy.header("x-amz-meta-colour"), "blue");
    let replace = [source, ("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-colour", "red")];
    assert_eq!(client.send("PUT", "/bucket/from", &replace, b"").status, 200);
    let replaced = client.get("/bucket/from");
    assert_eq!((replaced.header("x-amz-meta-colour"), replaced.header("content-type")), ("red", "binary/octet-stream"));
    assert_eq!(client.send("PUT", "/bucket/from", &[source], b"").code(), "InvalidRequest");
    let missing = [("x-amz-copy-source", "/bucket/none")];
    assert_eq!(client.send("PUT", "/bucket/to", &missing, b"").code(), "NoSuchKey");
}

#[test]
fn answers_name_their_request_and_the_region() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    assert_eq!(client.send("HEAD", "/bucket", &[], b"").header("x-amz-bucket-region"), "us-east-1");
    let mut ids = std::collections::HashSet::new();
    for path in ["/bucket/none", "/none/none", "/bucket?list-type=2", "/Not_A_Name", "/bucket?acl"] {
        let answer = client.get(path);
        let id = answer.header("x-amz-request-id");
        assert!(id.len() == 16 && ids.insert(id.to_owned()), "{path}: {id:?}");
        assert_eq!(answer.element("RequestId"), (answer.status >= 400).then_some(id), "{path}");
    }
}

#[test]
fn an_escaped_key_is_of_its_own_kind() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    client.put("/bucket/a/zarr.json", b"{}");
    server.control("POST", "/marks/m?log=1");
    assert_eq!(client.get("/bucket/a%2Fzarr%2Ejson").text(), "{}");
    assert_eq!(client.get("/bucket%2Fa%2Fzarr.json").text(), "{}");
    assert_eq!(server.control("GET", "/marks/m")["get_metadata"], 2);
    for request in server.control("GET", "/marks/m/requests")["requests"].as_array().unwrap() {
        assert_eq!((&request["bucket"], &request["key"]), (&"bucket".into(), &"a/zarr.json".into()));
    }
}

#[test]
fn a_deletion_with_a_condition_deletes_only_what_fits_it() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let etag = client.put("/bucket/key", b"hello");
    let mut delete = |name: &str, value: &str| client.send("DELETE", "/bucket/key", &[(name, value)], b"").status;
    assert_eq!(delete("if-match", "\"other\""), 412);
    assert_eq!(delete("x-amz-if-match-size", "9"), 501);
    let mut delete_several = |condition: &str| {
        let body = format!("<Delete><Object><Key>key</Key>{condition}</Object></Delete>");
        let answer = client.send("POST", "/bucket?delete", &[], body.as_bytes());
        answer.element("Code").unwrap_or_default().to_owned()
    };
    assert_eq!(delete_several("<ETag>other</ETag>"), "PreconditionFailed");
    assert_eq!(delete_several("<Size>9</Size>"), "NotImplemented");
    assert_eq!(delete_several(&format!("<ETag>{etag}</ETag>")), "");
    assert_eq!(client.get("/bucket/key").status, 404);
    assert_eq!(client.send("DELETE", "/bucket/key", &[("if-match", &etag)], b"").status, 204, "it is gone already");
}
