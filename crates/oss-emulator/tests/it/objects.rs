//! Putting, reading, describing, appending and deleting objects.

use http::Method;
use oss_protocol::crc64::checksum;
use oss_protocol::xml::delete::{DeleteObjects, DeleteResult, ObjectIdentifier};

use crate::client::{Call, Client, Server, config, pattern, start};

const HELLO_MD5: &str = "XrY7u+Ae7tCTyyK7j1rNww==";
const HELLO_ETAG: &str = "\"5EB63BBBE01EEED093CB22BB8F5ACDC3\"";
const HELLO_CRC64: &str = "5981764153023615706";

#[tokio::test]
async fn put_and_get_tell_the_checksums() {
    let (_server, mut client) = start().await;
    let put = client.call(Call::put("key", b"hello world")).await.expect(200);
    assert_eq!(put.header("etag"), HELLO_ETAG);
    assert_eq!(put.header("x-oss-hash-crc64ecma"), HELLO_CRC64);
    assert_eq!(put.header("content-md5"), HELLO_MD5);
    assert_eq!(put.header("server"), "AliyunOSS");
    assert_eq!(put.header("x-oss-request-id").len(), 24);
    assert_eq!(put.header("content-length"), "0");

    let get = client.call(Call::get("key")).await.expect(200);
    assert_eq!(get.body, b"hello world");
    for (name, value) in [
        ("etag", HELLO_ETAG),
        ("x-oss-hash-crc64ecma", HELLO_CRC64),
        ("content-md5", HELLO_MD5),
        ("content-type", "application/octet-stream"),
        ("content-length", "11"),
        ("accept-ranges", "bytes"),
        ("x-oss-object-type", "Normal"),
        ("x-oss-storage-class", "Standard"),
    ] {
        assert_eq!(get.header(name), value, "{name}");
    }
    assert!(get.header("last-modified").ends_with(" GMT"));
    assert_ne!(get.header("x-oss-request-id"), put.header("x-oss-request-id"));
    assert_eq!(get.header("content-range"), "");
}

#[tokio::test]
async fn head_tells_what_get_tells() {
    let (_server, mut client) = start().await;
    let put = Call::put("key", b"hello world")
        .header("content-type", "text/plain")
        .header("cache-control", "no-cache")
        .header("content-disposition", "attachment")
        .header("content-encoding", "identity")
        .header("expires", "Thu, 01 Dec 2033 16:00:00 GMT")
        .header("x-oss-meta-Colour", "blue green");
    client.call(put).await.expect(200);
    let get = client.call(Call::get("key")).await.expect(200);
    let head = client.call(Call::head("key")).await.expect(200);
    assert_eq!(head.body, b"");
    for name in ["content-length", "etag", "last-modified", "x-oss-hash-crc64ecma", "x-oss-object-type"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
        assert_ne!(head.header(name), "", "{name}");
    }
    for answer in [&get, &head] {
        assert_eq!(answer.header("content-type"), "text/plain");
        assert_eq!(answer.header("cache-control"), "no-cache");
        assert_eq!(answer.header("content-disposition"), "attachment");
        assert_eq!(answer.header("content-encoding"), "identity");
        assert_eq!(answer.header("expires"), "Thu, 01 Dec 2033 16:00:00 GMT");
        assert_eq!(answer.header("x-oss-meta-colour"), "blue green");
    }
    let meta = client.call(Call::head("key").query("objectMeta", "")).await.expect(200);
    assert_eq!(meta.header("content-length"), "11");
    assert_eq!(meta.header("etag"), HELLO_ETAG);
    assert_eq!(meta.header("x-oss-hash-crc64ecma"), HELLO_CRC64);
    assert_eq!(meta.header("x-oss-meta-colour"), "");
}

#[tokio::test]
async fn a_put_replaces_the_whole_object() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"first, and longer").header("x-oss-meta-a", "1")).await.expect(200);
    client.call(Call::put("key", b"second")).await.expect(200);
    let get = client.call(Call::get("key")).await.expect(200);
    assert_eq!(get.body, b"second");
    assert_eq!(get.header("x-oss-meta-a"), "");
}

#[tokio::test]
async fn bodies_in_chunks_and_of_every_size_arrive_whole() {
    let (_server, mut client) = start().await;
    for size in [0, 1, 6, 7, 8, 100_000, 1 << 20, (1 << 20) + 1, 3_000_000] {
        let body = pattern(size);
        client.call(Call::put("plain", &body)).await.expect(200);
        let get = client.call(Call::get("plain")).await.expect(200);
        assert_eq!(get.body, body, "{size}");
        assert_eq!(get.header("x-oss-hash-crc64ecma"), checksum(&body).to_string());
        client.call(Call::put("chunked", &body).chunked()).await.expect(200);
        assert_eq!(client.call(Call::get("chunked")).await.expect(200).body, body, "{size}");
    }
}

#[tokio::test]
async fn missing_objects_and_buckets_have_their_codes() {
    let (_server, mut client) = start().await;
    let get = client.call(Call::get("no/such")).await.refused(404, "NoSuchKey");
    assert_eq!(get.error().get("Key"), Some("no/such"));
    assert_eq!(get.header("x-oss-ec"), "0026-00000001");
    assert_eq!(get.header("content-type"), "application/xml");
    let head = client.call(Call::head("no/such")).await;
    assert_eq!(head.body, b"");
    head.refused(404, "NoSuchKey");
    client.call(Call::head("no/such").query("objectMeta", "")).await.refused(404, "NoSuchKey");
    let other = client.call(Call::get("key").of("no-such-bucket")).await.refused(404, "NoSuchBucket");
    assert_eq!(other.error().get("BucketName"), Some("no-such-bucket"));
    client.call(Call::put("key", b"1").of("no-such-bucket")).await.refused(404, "NoSuchBucket");
    client.call(Call::get("key").of("Bad_Name")).await.refused(400, "InvalidBucketName");
}

#[tokio::test]
async fn a_body_damaged_on_the_way_is_refused() {
    let (_server, mut client) = start().await;
    let put = |name, value| Call::put("key", b"hello world").header(name, value);
    client.call(put("content-md5", "rL0Y20zC+Fzt72VPzMSk2A==")).await.refused(400, "InvalidDigest");
    client.call(put("content-md5", "not base64")).await.refused(400, "InvalidDigest");
    client.call(put("x-oss-hash-crc64ecma", "1")).await.refused(400, "InvalidCRC64");
    client.call(put("x-oss-hash-crc64ecma", "many")).await.refused(400, "InvalidArgument");
    client.call(Call::get("key")).await.refused(404, "NoSuchKey");
    client.call(put("content-md5", HELLO_MD5)).await.expect(200);
    client.call(put("x-oss-hash-crc64ecma", HELLO_CRC64)).await.expect(200);
}

#[tokio::test]
async fn fast_etags_are_no_md5_and_checksums_still_count() {
    let server = Server::start(oss_emulator::EmulatorConfig { etag: oss_emulator::EtagMode::Fast, ..config() }).await;
    let mut client = server.connect().await;
    let put = client.call(Call::put("key", b"hello world")).await.expect(200);
    assert_eq!(put.header("etag").len(), 34);
    assert_ne!(put.header("etag"), HELLO_ETAG);
    assert_eq!(put.header("x-oss-hash-crc64ecma"), HELLO_CRC64);
    let other = client.call(Call::put("key", b"hello worle")).await.expect(200);
    assert_ne!(other.header("etag"), put.header("etag"));
    let wrong = Call::put("key", b"hello world").header("content-md5", "rL0Y20zC+Fzt72VPzMSk2A==");
    client.call(wrong).await.refused(400, "InvalidDigest");
    client.call(Call::put("key", b"hello world").header("content-md5", HELLO_MD5)).await.expect(200);
}

#[tokio::test]
async fn a_length_must_be_reported() {
    let (_server, mut client) = start().await;
    let mut call = Call::put("key", b"");
    call.headers.insert("content-length", "0".parse().unwrap());
    let (head, _) = client.render(&call);
    let head = String::from_utf8(head).unwrap().replace("content-length: 0\r\n", "");
    client.send(head.as_bytes()).await;
    client.receive(&Method::PUT).await.refused(411, "MissingContentLength");
    let huge = Call::put("key", b"").header("content-length", "5368709121").header("expect", "100-continue");
    client.call(huge).await.refused(400, "EntityTooLarge");
}

#[tokio::test]
async fn a_length_is_stated_once() {
    let (server, mut client) = start().await;
    for lines in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "transfer-encoding: chunked\r\nCONTENT-LENGTH: 3\r\n"]
    {
        let (head, body) = client.render(&Call::put("key", b"abc").chunked());
        let head = String::from_utf8(head).unwrap().replace("Transfer-Encoding: chunked\r\n", lines);
        assert!(head.contains(lines), "{head}");
        client.send(head.as_bytes()).await;
        client.send(&body).await;
        client.receive(&Method::PUT).await.refused(400, "InvalidRequest");
        client = server.connect().await;
    }
    client.call(Call::get("key")).await.refused(404, "NoSuchKey");
    client.call(Call::put("key", b"abc").chunked()).await.expect(200);
}

#[tokio::test]
async fn an_object_can_be_protected() {
    let (_server, mut client) = start().await;
    let put = |body: &[u8], forbid| Call::put("key", body).header("x-oss-forbid-overwrite", forbid);
    client.call(put(b"first", "true")).await.expect(200);
    client.call(put(b"second", "true")).await.refused(409, "FileAlreadyExists");
    assert_eq!(client.call(Call::get("key")).await.body, b"first");
    client.call(put(b"third", "false")).await.expect(200);
    assert_eq!(client.call(Call::get("key")).await.body, b"third");
    client.call(put(b"fourth", "perhaps")).await.refused(400, "InvalidArgument");
}

#[tokio::test]
async fn attributes_are_checked() {
    let (_server, mut client) = start().await;
    for (name, value, code) in [
        ("x-oss-storage-class", "Cheap", "InvalidArgument"),
        ("x-oss-object-acl", "everyone", "InvalidArgument"),
        ("x-oss-server-side-encryption", "ROT13", "InvalidEncryptionAlgorithmError"),
        ("x-oss-meta-under_score", "1", "InvalidArgument"),
        ("x-oss-tagging", "a=b=c", "InvalidTag"),
        ("x-oss-callback", "e30=", "NotImplemented"),
        ("if-modified-since", "Thu, 01 Dec 2033 16:00:00 GMT", "NotImplemented"),
    ] {
        client.call(Call::put("key", b"1").header(name, value)).await.refused(400, code);
    }
    let large = "v".repeat(8 * 1024);
    client.call(Call::put("key", b"1").header("x-oss-meta-a", &large)).await.refused(400, "InvalidArgument");
    client.call(Call::get("key")).await.refused(404, "NoSuchKey");
    client.call(Call::put("key", b"1").header("x-oss-storage-class", "Archive")).await.expect(200);
    client.call(Call::get("key")).await.refused(403, "InvalidObjectState");
    assert_eq!(client.call(Call::head("key")).await.expect(200).header("x-oss-storage-class"), "Archive");
}

#[tokio::test]
async fn response_headers_can_be_replaced() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"1").header("content-type", "text/plain")).await.expect(200);
    let call = Call::get("key")
        .query("response-content-type", "image/png")
        .query("response-content-language", "de")
        .query("response-content-encoding", "identity")
        .query("response-content-disposition", "attachment; filename=a b.png")
        .query("response-cache-control", "no-store")
        .query("response-expires", "Thu, 01 Dec 2033 16:00:00 GMT");
    let get = client.call(call).await.expect(200);
    assert_eq!(get.header("content-type"), "image/png");
    assert_eq!(get.header("content-language"), "de");
    assert_eq!(get.header("content-encoding"), "identity");
    assert_eq!(get.header("content-disposition"), "attachment; filename=a b.png");
    assert_eq!(get.header("cache-control"), "no-store");
    assert_eq!(get.header("expires"), "Thu, 01 Dec 2033 16:00:00 GMT");
    let split = Call::get("key").query("response-content-type", "a\r\nb: c");
    client.call(split).await.refused(400, "InvalidArgument");
}

#[tokio::test]
async fn a_client_may_ask_to_be_slowed_down() {
    let (_server, mut client) = start().await;
    let body = pattern(150 * 1024);
    let limited = |call: Call| call.header("x-oss-traffic-limit", "819200");
    for call in [limited(Call::put("key", &body)), limited(Call::get("key"))] {
        let started = std::time::Instant::now();
        client.call(call).await.expect(200);
        // 150 KiB at 100 KiB per second.
        assert!(started.elapsed().as_millis() > 1200, "{:?}", started.elapsed());
    }
    // A limit is for one request, also on a connection that is kept.
    let started = std::time::Instant::now();
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, body);
    assert!(started.elapsed().as_millis() < 1000, "{:?}", started.elapsed());
    for value in ["819199", "838860801", "fast"] {
        client.call(Call::get("key").header("x-oss-traffic-limit", value)).await.refused(400, "InvalidArgument");
        client.call(Call::get("key").query("x-oss-traffic-limit", value)).await.refused(400, "InvalidArgument");
    }
}

#[tokio::test]
async fn deleting_succeeds_with_or_without_an_object() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"1")).await.expect(200);
    for _ in 0..2 {
        client.call(Call::object(Method::DELETE, "key")).await.expect(204);
        client.call(Call::get("key")).await.refused(404, "NoSuchKey");
    }
}

async fn delete_many(client: &mut Client, keys: &[&str], quiet: bool, encoded: bool) -> crate::client::Answer {
    let objects = keys.iter().map(|key| ObjectIdentifier { key: (*key).to_owned(), version_id: None }).collect();
    let body = DeleteObjects { quiet, objects }.to_xml().into_bytes();
    let mut call = Call::bucket(Method::POST).query("delete", "").header("content-md5", &md5(&body)).body(&body);
    if encoded {
        call = call.query("encoding-type", "url");
    }
    client.call(call).await
}

pub(crate) fn md5(bytes: &[u8]) -> String {
    use base64::Engine;
    use md5::Digest;
    base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(bytes))
}

#[tokio::test]
async fn many_objects_are_deleted_at_once() {
    let (_server, mut client) = start().await;
    for key in ["a b", "c&<d", "keep"] {
        client.call(Call::put(key, b"1")).await.expect(200);
    }
    let answer = delete_many(&mut client, &["a b", "c&<d", "missing"], false, true).await.expect(200);
    assert_eq!(answer.element("EncodingType"), "url");
    assert!(answer.text().contains("<Key>a%20b</Key>"), "{}", answer.text());
    let result = DeleteResult::parse(&answer.body).unwrap();
    let deleted: Vec<_> = result.deleted.iter().map(|deleted| deleted.key.as_str()).collect();
    assert_eq!(deleted, ["a b", "c&<d", "missing"]);
    client.call(Call::get("a b")).await.refused(404, "NoSuchKey");
    client.call(Call::get("keep")).await.expect(200);
    let answer = delete_many(&mut client, &["keep"], true, false).await.expect(200);
    assert_eq!(answer.body, b"");
    client.call(Call::get("keep")).await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn requests_to_delete_many_are_checked() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"1")).await.expect(200);
    let post = |body: &[u8]| Call::bucket(Method::POST).query("delete", "").body(body);
    client.call(post(b"<Delete></Delete>")).await.refused(400, "MissingArgument");
    for body in [&b"<Delete></Delete>"[..], b"<Delete><Object></Object></Delete>", b"", b"<Delete>", b"{}"] {
        client.call(post(body).header("content-md5", &md5(body))).await.refused(400, "MalformedXML");
    }
    let keys = vec!["key"; 1001];
    delete_many(&mut client, &keys, false, false).await.refused(400, "MalformedXML");
    let large = vec![b' '; 2 * 1024 * 1024 + 1];
    client.call(post(&large).header("content-md5", &md5(&large))).await.refused(400, "MalformedXML");
    let body = b"<Delete><Object><Key>key</Key></Object></Delete>";
    client.call(post(body).header("content-md5", &md5(b"other"))).await.refused(400, "InvalidDigest");
    client.call(Call::get("key")).await.expect(200);
}

#[tokio::test]
async fn objects_grow_by_appending() {
    let (_server, mut client) = start().await;
    let append = |position: u64, body: &[u8]| {
        Call::object(Method::POST, "log").query("append", "").query("position", &position.to_string()).body(body)
    };
    let first = client.call(append(0, b"hello ").header("content-type", "text/plain")).await.expect(200);
    assert_eq!(first.header("x-oss-next-append-position"), "6");
    let second = client.call(append(6, b"world")).await.expect(200);
    assert_eq!(second.header("x-oss-next-append-position"), "11");
    assert_eq!(second.header("x-oss-hash-crc64ecma"), HELLO_CRC64);
    let wrong = client.call(append(6, b"again")).await.refused(409, "PositionNotEqualToLength");
    assert_eq!(wrong.header("x-oss-next-append-position"), "11");
    let get = client.call(Call::get("log")).await.expect(200);
    assert_eq!(get.body, b"hello world");
    assert_eq!(get.header("content-type"), "text/plain");
    assert_eq!(get.header("x-oss-object-type"), "Appendable");
    assert_eq!(get.header("content-md5"), "");
    assert_eq!(client.call(Call::head("log")).await.header("x-oss-next-append-position"), "11");
    client.call(Call::put("plain", b"1")).await.expect(200);
    let plain = Call::object(Method::POST, "plain").query("append", "").query("position", "1").body(b"2");
    client.call(plain).await.refused(409, "ObjectNotAppendable");
    let missing = Call::object(Method::POST, "log").query("append", "").body(b"2");
    client.call(missing).await.refused(400, "MissingArgument");
}

#[tokio::test]
async fn sub_resources_that_are_not_there_change_nothing() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"1")).await.expect(200);
    client.call(Call::put("key", b"").query("style", "")).await.refused(400, "NotImplemented");
    client.call(Call::put("key", b"").query("x-oss-process", "image/resize")).await.refused(400, "NotImplemented");
    client.call(Call::get("key").query("versionId", "1")).await.refused(404, "NoSuchVersion");
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, b"1");
}

#[tokio::test]
async fn texts_are_packed_for_clients_that_accept_it() {
    let (_server, mut client) = start().await;
    let text = pattern(200_000);
    client.call(Call::put("a.txt", &text).header("content-type", "text/plain; charset=utf-8")).await.expect(200);
    client.call(Call::put("a.bin", &text).header("content-type", "application/octet-stream")).await.expect(200);
    client.call(Call::put("small.txt", &text[..1023]).header("content-type", "text/plain")).await.expect(200);
    let ready = Call::put("packed.txt", &text).header("content-type", "text/plain").header("content-encoding", "br");
    client.call(ready).await.expect(200);
    let packed = client.call(Call::get("a.txt").header("accept-encoding", "gzip, deflate")).await.expect(200);
    assert_eq!((packed.header("content-encoding"), packed.header("etag")), ("gzip", ""));
    assert_eq!((packed.header("content-length"), packed.header("transfer-encoding")), ("", "chunked"));
    assert_eq!(packed.header("x-oss-hash-crc64ecma"), checksum(&text).to_string());
    assert!(packed.body.starts_with(&[0x1f, 0x8b, 8]) && packed.body.len() > text.len());
    for call in [
        Call::get("a.txt"),
        Call::get("a.txt").header("accept-encoding", "identity"),
        Call::get("a.bin").header("accept-encoding", "gzip"),
        Call::get("small.txt").header("accept-encoding", "gzip"),
        Call::get("packed.txt").header("accept-encoding", "gzip"),
        Call::head("a.txt").header("accept-encoding", "gzip"),
    ] {
        let plain = client.call(call).await.expect(200);
        assert_ne!(plain.header("content-encoding"), "gzip");
        assert_ne!((plain.header("content-length"), plain.header("etag")), ("", ""));
    }
    let range = Call::get("a.txt").header("accept-encoding", "gzip").header("range", "bytes=0-4095");
    let part = client.call(range).await.expect(206);
    assert_eq!((part.header("content-encoding"), &part.body[..]), ("", &text[..4096]));
}

#[tokio::test]
async fn cold_archives_cannot_be_appended_to() {
    let (_server, mut client) = start().await;
    let append = |class: &str| {
        let call = Call::object(Method::POST, class).query("append", "").query("position", "0").body(b"1");
        call.header("x-oss-storage-class", class)
    };
    for class in ["ColdArchive", "DeepColdArchive"] {
        let refused = client.call(append(class)).await.refused(400, "OperationNotSupported");
        assert_eq!(refused.header("x-oss-ec"), "0016-00000503");
    }
    for class in ["Standard", "IA", "Archive"] {
        client.call(append(class)).await.expect(200);
    }
}
