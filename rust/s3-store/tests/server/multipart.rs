use crate::harness::{Answer, Client, Server, TestDir, pattern};

fn complete(client: &mut Client, id: &str, parts: &[(u32, &str)], headers: &[(&str, &str)]) -> Answer {
    let part = |(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
    let parts: String = parts.iter().copied().map(part).collect();
    let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    client.send("POST", &format!("/bucket/key?uploadId={id}"), headers, body.as_bytes())
}

fn begin(client: &mut Client) -> String {
    let headers = [("content-type", "text/plain"), ("x-amz-meta-colour", "blue")];
    client.send("POST", "/bucket/key?uploads", &headers, b"").element("UploadId").unwrap().to_owned()
}

#[test]
fn parts_become_an_object() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let id = begin(&mut client);
    let (first, second) = (pattern(5 << 20, 1), pattern(1000, 2));
    let one = client.put(&format!("/bucket/key?partNumber=1&uploadId={id}"), &first);
    let two = client.put(&format!("/bucket/key?partNumber=2&uploadId={id}"), &second);
    assert_eq!(client.get("/bucket/key").status, 404);
    assert_eq!(client.get("/bucket?uploads").elements("UploadId"), [&id]);
    let page = client.get(&format!("/bucket/key?uploadId={id}&max-parts=1"));
    assert_eq!((page.elements("PartNumber"), page.element("NextPartNumberMarker")), (vec!["1"], Some("1")));
    let none = client.get(&format!("/bucket/key?uploadId={id}&max-parts=0"));
    assert_eq!((none.elements("PartNumber").len(), none.element("IsTruncated")), (0, Some("false")));

    assert_eq!(complete(&mut client, &id, &[(2, &two), (1, &one)], &[]).code(), "InvalidPartOrder");
    assert_eq!(complete(&mut client, &id, &[(1, &two)], &[]).code(), "InvalidPart");
    assert_eq!(complete(&mut client, &id, &[(3, &one)], &[]).code(), "InvalidPart");
    let done = complete(&mut client, &id, &[(1, &one), (2, &two)], &[("if-none-match", "*")]);
    assert_eq!(done.status, 200, "{}", done.text());
    let object = client.get("/bucket/key");
    assert!(object.body == [&first[..], &second].concat());
    for (number, part) in [(1, &first), (2, &second)] {
        let answer = client.get(&format!("/bucket/key?partNumber={number}"));
        assert_eq!((answer.status, answer.header("x-amz-mp-parts-count")), (206, "2"));
        assert!(answer.body == *part);
    }
    assert_eq!(client.get("/bucket/key?partNumber=3").code(), "InvalidPartNumber");
    assert_eq!(client.get_range("/bucket/key?partNumber=1", "bytes=0-1").code(), "InvalidRequest");
    assert!(object.header("etag").ends_with("-2\""), "{}", object.header("etag"));
    assert_eq!((object.header("content-type"), object.header("x-amz-meta-colour")), ("text/plain", "blue"));
    assert_eq!(complete(&mut client, &id, &[(1, &one)], &[]).code(), "NoSuchUpload");
    assert_eq!(std::fs::read_dir(dir.path().join(".s3-store/tmp")).unwrap().count(), 0);
}

#[test]
fn uploads_can_be_refused_and_aborted() {
    let dir = TestDir::new();
    let server = Server::start(dir.path(), &[]);
    let mut client = server.client_with_bucket();
    let id = begin(&mut client);
    let part = |number| format!("/bucket/key?partNumber={number}&uploadId={id}");
    let small = client.put(&part(1), b"small");
    let last = client.put(&part(2), b"last");
    assert_eq!(complete(&mut client, &id, &[(1, &small), (2, &last)], &[]).code(), "EntityTooSmall");
    client.put("/bucket/key", b"there");
    let refused = complete(&mut client, &id, &[(1, &small)], &[("if-none-match", "*")]);
    assert_eq!(refused.code(), "PreconditionFailed");
    assert_eq!(client.send("DELETE", &format!("/bucket/key?uploadId={id}"), &[], b"").status, 204);
    assert_eq!(client.send("DELETE", &format!("/bucket/key?uploadId={id}"), &[], b"").code(), "NoSuchUpload");
    assert_eq!(client.send("PUT", &part(1), &[], b"x").code(), "NoSuchUpload");
    assert_eq!(std::fs::read_dir(dir.path().join(".s3-store/tmp")).unwrap().count(), 0);
}
