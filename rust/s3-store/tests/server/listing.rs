use crate::harness::{Client, Server, TestDir};

/// Keys and common prefixes of all pages.
fn all(client: &mut Client, query: &str) -> (Vec<String>, Vec<String>) {
    let (mut keys, mut prefixes, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let answer = client.get(&format!("/bucket?list-type=2&{query}{token}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        keys.extend(answer.elements("Key").iter().map(ToString::to_string));
        let grouped = answer.elements("CommonPrefixes");
        prefixes.extend(grouped.iter().map(|group| group.replace("<Prefix>", "").replace("</Prefix>", "")));
        match answer.element("NextContinuationToken") {
            Some(next) => token = format!("&continuation-token={next}"),
            None => return (keys, prefixes),
        }
    }
}

#[test]
fn pages_with_and_without_a_delimiter() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    for key in ["b/2", "a", "a/1", "a/2/x", "b/1", "%C3%A9", "z", "A"] {
        client.put(&format!("/bucket/{key}"), b"");
    }
    for limit in 1..=9 {
        let query = format!("max-keys={limit}");
        let (keys, prefixes) = all(&mut client, &query);
        assert_eq!(keys, ["A", "a", "a/1", "a/2/x", "b/1", "b/2", "z", "é"]);
        assert!(prefixes.is_empty());
        let (keys, prefixes) = all(&mut client, &format!("{query}&delimiter=/"));
        assert_eq!(
            (keys, prefixes),
            (["A", "a", "z", "é"].map(Into::into).into(), ["a/", "b/"].map(Into::into).into())
        );
        let (keys, prefixes) = all(&mut client, &format!("{query}&delimiter=/&prefix=a/"));
        assert_eq!((keys, prefixes), (vec!["a/1".into()], vec!["a/2/".into()]));
    }
    assert_eq!(all(&mut client, "start-after=b/1").0, ["b/2", "z", "é"]);
    let v1 = client.get("/bucket?max-keys=2&delimiter=/&marker=a");
    assert_eq!((v1.element("NextMarker"), v1.element("IsTruncated")), (Some("b/"), Some("true")));
    let v1 = client.get("/bucket?max-keys=2");
    assert_eq!(
        (v1.element("NextMarker"), v1.element("IsTruncated")),
        (None, Some("true")),
        "the last key is the marker"
    );
    assert_eq!(client.get("/bucket?list-type=2&delimiter=").element("Delimiter"), None);
    let encoded = client.get("/bucket?list-type=2&encoding-type=url&prefix=%C3%A9");
    assert_eq!(encoded.element("Key"), Some("%C3%A9"));
}

#[test]
fn buckets() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    assert_eq!(client.send("PUT", "/bucket", &[], b"").code(), "BucketAlreadyOwnedByYou");
    assert_eq!(client.send("PUT", "/Not_A_Name", &[], b"").code(), "InvalidBucketName");
    assert_eq!(client.send("HEAD", "/bucket", &[], b"").status, 200);
    assert_eq!(client.send("HEAD", "/none", &[], b"").status, 404);
    assert_eq!(client.get("/none?list-type=2").code(), "NoSuchBucket");
    assert_eq!(client.get("/none/key").code(), "NoSuchBucket");
    assert_eq!(client.send("PUT", "/none/key", &[], b"x").code(), "NoSuchBucket");
    assert_eq!(client.get("/bucket?location").status, 200);
    assert_eq!(client.get("/").elements("Name"), ["bucket"]);
    client.put("/bucket/key", b"");
    assert_eq!(client.send("DELETE", "/bucket", &[], b"").code(), "BucketNotEmpty");
    let delete = b"<Delete><Object><Key>key</Key></Object><Object><Key>none</Key></Object></Delete>";
    let answer = client.send("POST", "/bucket?delete", &[], delete);
    assert_eq!((answer.status, answer.elements("Key")), (200, vec!["key", "none"]));
    assert_eq!(client.send("DELETE", "/bucket", &[], b"").status, 204);
    assert_eq!(client.send("DELETE", "/bucket", &[], b"").code(), "NoSuchBucket");
}
