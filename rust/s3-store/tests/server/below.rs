//! What somebody does below the server: to its files, and to the journal.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::harness::{Server, TestDir, limited};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_object_that_no_line_names_is_set_aside() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    server.client_with_bucket().put("/bucket/a//b", b"the only copy");
    server.kill();
    fs::write(dir.path().join(".s3-store/journal/bucket.jsonl"), "").unwrap();
    let said = Server::start(dir.path(), &[]).kill();
    let aside = dir.path().join(".s3-store/set-aside/bucket");
    let kept = names(&aside);
    assert_eq!(kept.len(), 1);
    assert_eq!(fs::read_to_string(aside.join(&kept[0])).unwrap(), "the only copy");
    assert!(said.contains(&kept[0]) && said.lines().count() == 1, "{said}");
}

#[test]
fn a_line_that_makes_no_sense_is_no_reason_to_forget() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    server.client_with_bucket().put("/bucket/a//b", b"1");
    server.kill();
    let journal = dir.path().join(".s3-store/journal/bucket.jsonl");
    let lines = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, format!("{{\"key\":\"x\",\"pu{lines}")).unwrap();
    let output = crate::harness::command(dir.path(), &[]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("line 1 of .s3-store/journal/bucket.jsonl") && said.lines().count() == 1, "{said}");
    fs::write(&journal, format!("{lines}{{\"key\":\"x\",\"pu")).unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(server.client().get("/bucket/a//b").text(), "1", "the end of a journal may be unfinished");
}

#[test]
fn half_a_line_costs_no_object() {
    // Attributes of other lengths let the room end at other bytes of a line.
    (0..8).for_each(|number| room_ends_in_a_line(&"x".repeat(1 + 37 * number)));
}

fn room_ends_in_a_line(attribute: &str) {
    let dir = TestDir::new();
    // A journal of 4 KiB stands for a disk without room; the bodies are small.
    let server = Server::start_with(limited(dir.path(), &[], "-S -f 8"));
    let mut client = server.client_with_bucket();
    let mut stored = Vec::new();
    let refused = loop {
        let key = format!("/bucket/odd//{}", stored.len());
        let answer = client.send("PUT", &key, &[("content-type", attribute)], key.as_bytes());
        if answer.status != 200 {
            assert_eq!((answer.status, answer.code()), (500, "InternalError"));
            break key;
        }
        stored.push(key);
    };
    assert_eq!(client.get(&refused).status, 404);
    // With room again, the next line must not end up behind half of the one before.
    let lifted =
        Command::new("prlimit").arg("--pid").arg(server.child.id().to_string()).arg("--fsize=unlimited").status();
    assert!(lifted.unwrap().success());
    client.put("/bucket/odd//later", b"/bucket/odd//later");
    stored.push("/bucket/odd//later".into());
    server.kill();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client();
    for key in &stored {
        assert_eq!(client.get(key).text(), key);
    }
    assert_eq!(client.get(&refused).status, 404);
    assert_eq!(client.get(&stored[0]).header("content-type"), attribute);
}

#[test]
fn a_put_that_fails_changes_nothing() {
    let dir = TestDir::new();
    let server = Server::start_with(limited(dir.path(), &[], "-f 8"));
    let mut client = server.client_with_bucket();
    let old = [("content-type", "text/old")];
    assert_eq!(client.send("PUT", "/bucket/key", &old, b"old").status, 200);
    let before = client.get("/bucket/key");
    let new = [("content-type", "text/new"), ("cache-control", &*"n".repeat(4000))];
    assert_eq!(client.send("PUT", "/bucket/key", &new, b"new").status, 500);
    let check = |server: &Server| {
        let after = server.client().get("/bucket/key");
        assert_eq!((after.text(), after.header("content-type")), ("old", "text/old"));
        assert_eq!(after.header("etag"), before.header("etag"));
    };
    check(&server);
    server.kill();
    check(&Server::start(dir.path(), &[]));
}

#[test]
fn links_lead_nowhere() {
    let (dir, outside) = (TestDir::new(), TestDir::new());
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), dir.path().join("bucket/l")).unwrap();
    symlink(outside.path(), dir.path().join("linked")).unwrap();
    assert_eq!(client.get("/bucket/l/secret").status, 404);
    assert_eq!(client.send("DELETE", "/bucket/l/secret", &[], b"").status, 204);
    for key in ["f", "a/b", "secret"] {
        client.put(&format!("/bucket/l/{key}"), key.as_bytes());
    }
    assert_eq!(client.send("PUT", "/linked/f", &[], b"x").status, 404);
    assert_eq!(client.send("PUT", "/linked", &[], b"").status, 500);
    server.kill();
    let server = Server::start(dir.path(), &[]);
    for key in ["f", "a/b", "secret"] {
        assert_eq!(server.client().get(&format!("/bucket/l/{key}")).text(), key);
    }
    assert_eq!(names(outside.path()), ["secret"]);
    assert_eq!(fs::read_to_string(outside.path().join("secret")).unwrap(), "secret");
}

#[test]
fn a_list_shows_what_is_there() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    client.put("/bucket/kept", b"");
    fs::create_dir_all(dir.path().join("bucket/hand/a")).unwrap();
    for name in ["hand/a/1", "hand/2", "hand.txt"] {
        fs::write(dir.path().join("bucket").join(name), "by hand").unwrap();
        assert_eq!(client.get(&format!("/bucket/{name}")).text(), "by hand");
    }
    let list = |query: &str| {
        let answer = server.client().get(&format!("/bucket?list-type=2{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        [answer.elements("Key").join(" "), answer.elements("Prefix")[1..].join(" ")]
    };
    assert_eq!(list("&delimiter=/"), ["hand.txt kept", "hand/"]);
    fs::remove_dir_all(dir.path().join("bucket/hand")).unwrap();
    fs::remove_file(dir.path().join("bucket/hand.txt")).unwrap();
    assert_eq!(list("&delimiter=/"), ["kept", ""]);
    assert_eq!(list(""), ["kept", ""]);
    assert_eq!(client.get("/bucket/hand/2").status, 404);
    assert_eq!(client.send("PUT", "/bucket/hand.txt", &[("if-none-match", "*")], b"").status, 200);
}

#[test]
fn nobody_reads_a_whole_file_for_its_etag() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    // Hashing it would take minutes.
    File::create(dir.path().join("bucket/huge")).unwrap().set_len(1 << 40).unwrap();
    let etag = client.send("HEAD", "/bucket/huge", &[], b"").header("etag").to_owned();
    assert_eq!(client.get("/bucket?list-type=2").element("Size"), Some("1099511627776"));
    assert_eq!(client.send("PUT", "/bucket/huge", &[("if-none-match", "*")], b"").status, 412);
    assert_eq!(client.send("PUT", "/bucket/huge", &[("if-match", &etag)], b"").status, 200);
}

#[test]
fn an_etag_never_outlives_its_bytes() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    for key in ["running", "restarted"] {
        assert_eq!(client.send("PUT", &format!("/bucket/{key}"), &[("content-type", "a/b")], b"old").status, 200);
    }
    let etag = client.get("/bucket/running").header("etag").to_owned();
    // As `cp -p` does over a file: the same length, the same time of modification.
    let overwrite = |key: &str| {
        let path = dir.path().join("bucket").join(key);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "new").unwrap();
        File::options().write(true).open(&path).unwrap().set_times(FileTimes::new().set_modified(modified)).unwrap();
    };
    let check = |server: &Server, key: &str| {
        let answer = server.client().get(&format!("/bucket/{key}"));
        assert_eq!((answer.text(), answer.header("content-type")), ("new", "a/b"));
        assert_ne!(answer.header("etag"), etag);
    };
    overwrite("running");
    check(&server, "running");
    server.kill();
    overwrite("restarted");
    let server = Server::start(dir.path(), &[]);
    check(&server, "restarted");
    check(&server, "running");
}

#[test]
fn a_copy_of_the_root_keeps_its_attributes() {
    let (dir, copy) = (TestDir::new(), TestDir::new());
    let server = Server::start(dir.path(), &[]);
    server.client_with_bucket().send("PUT", "/bucket/key", &[("content-type", "a/b")], b"x");
    server.kill();
    assert!(Command::new("cp").arg("-a").arg(dir.path().join(".")).arg(copy.path()).status().unwrap().success());
    let server = Server::start(copy.path(), &[]);
    let answer = server.client().get("/bucket/key");
    assert_eq!((answer.text(), answer.header("content-type")), ("x", "a/b"));
}

#[test]
fn what_is_put_by_hand_into_a_bucket_outlives_its_deletion() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let link = dir.path().join("bucket/link");
    symlink("/etc/hostname", &link).unwrap();
    assert_eq!(client.send("DELETE", "/bucket", &[], b"").code(), "BucketNotEmpty");
    fs::remove_file(link).unwrap();
    fs::create_dir_all(dir.path().join("bucket/empty/dirs")).unwrap();
    assert_eq!(client.send("DELETE", "/bucket", &[], b"").status, 204);
}
