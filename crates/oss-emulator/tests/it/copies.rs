//! Copying objects.

use http::Method;
use oss_protocol::canonical::encode_path;
use oss_protocol::xml::Document;
use oss_protocol::xml::multipart::CopyObjectResult;

use crate::client::{BUCKET, Call, start};

fn copy(source: &str, key: &str) -> Call {
    let source = format!("/{BUCKET}/{}", encode_path(source));
    Call::object(Method::PUT, key).header("x-oss-copy-source", &source)
}

#[tokio::test]
async fn a_copy_is_equal_and_its_own() {
    let (_server, mut client) = start().await;
    let put = Call::put("from é+%", b"hello").header("content-type", "text/plain").header("x-oss-meta-a", "1");
    let put = client.call(put).await.expect(200);
    let answer = client.call(copy("from é+%", "to")).await.expect(200);
    let result = CopyObjectResult::parse(&answer.body).unwrap();
    assert_eq!(result.etag, put.header("etag"));
    assert_eq!(answer.header("x-oss-hash-crc64ecma"), put.header("x-oss-hash-crc64ecma"));
    client.call(Call::object(Method::DELETE, "from é+%")).await.expect(204);
    let get = client.call(Call::get("to")).await.expect(200);
    assert_eq!(get.body, b"hello");
    assert_eq!(get.header("content-type"), "text/plain");
    assert_eq!(get.header("x-oss-meta-a"), "1");
}

#[tokio::test]
async fn a_copy_may_cross_buckets() {
    let (_server, mut client) = start().await;
    client.call(Call::bucket(Method::PUT).of("other-bucket")).await.expect(200);
    client.call(Call::put("key", b"hello")).await.expect(200);
    client.call(copy("key", "key").of("other-bucket")).await.expect(200);
    assert_eq!(client.call(Call::get("key").of("other-bucket")).await.expect(200).body, b"hello");
}

#[tokio::test]
async fn the_directive_decides_about_metadata() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"hello").header("x-oss-meta-a", "1")).await.expect(200);
    let with_b = |call: Call| call.header("x-oss-meta-b", "2");
    let metadata = |answer: crate::client::Answer| {
        (answer.header("x-oss-meta-a").to_owned(), answer.header("x-oss-meta-b").to_owned())
    };
    let expect = |a: &str, b: &str| (a.to_owned(), b.to_owned());

    client.call(with_b(copy("key", "to")).header("x-oss-metadata-directive", "COPY")).await.expect(200);
    assert_eq!(metadata(client.call(Call::head("to")).await), expect("1", ""));
    client.call(with_b(copy("key", "to")).header("x-oss-metadata-directive", "REPLACE")).await.expect(200);
    assert_eq!(metadata(client.call(Call::head("to")).await), expect("", "2"));
    client.call(copy("key", "to").header("x-oss-metadata-directive", "MOVE")).await.refused(400, "InvalidArgument");
    client.call(with_b(copy("key", "key"))).await.expect(200);
    let onto_itself = client.call(Call::get("key")).await;
    assert_eq!(onto_itself.body, b"hello");
    assert_eq!(metadata(onto_itself), expect("", "2"));
}

#[tokio::test]
async fn conditions_are_on_the_source() {
    let (_server, mut client) = start().await;
    let etag = client.call(Call::put("key", b"hello")).await.header("etag").to_owned();
    client.call(Call::put("taken", b"old")).await.expect(200);
    let (before, after) = ("Thu, 01 Jan 2015 00:00:00 GMT", "Thu, 01 Dec 2095 16:00:00 GMT");
    for (name, value, status) in [
        ("x-oss-copy-source-if-match", etag.as_str(), 200),
        ("x-oss-copy-source-if-match", "\"0\"", 412),
        ("x-oss-copy-source-if-none-match", etag.as_str(), 304),
        ("x-oss-copy-source-if-none-match", "\"0\"", 200),
        ("x-oss-copy-source-if-modified-since", before, 200),
        ("x-oss-copy-source-if-modified-since", after, 304),
        ("x-oss-copy-source-if-unmodified-since", before, 412),
        ("x-oss-copy-source-if-unmodified-since", after, 200),
    ] {
        let answer = client.call(copy("key", "to").header(name, value)).await;
        assert_eq!(answer.status, status, "{name}: {value}");
    }
    let forbidden = copy("key", "taken").header("x-oss-forbid-overwrite", "true");
    client.call(forbidden).await.refused(409, "FileAlreadyExists");
    assert_eq!(client.call(Call::get("taken")).await.body, b"old");
}

#[tokio::test]
async fn bad_sources_are_refused() {
    let (_server, mut client) = start().await;
    client.call(copy("missing", "to")).await.refused(404, "NoSuchKey");
    let from = |source: &str| Call::object(Method::PUT, "to").header("x-oss-copy-source", source);
    client.call(from("/no-such-bucket/key")).await.refused(404, "NoSuchBucket");
    for source in ["", "/", "key", "/examplebucket", "/examplebucket/", "/examplebucket/%zz", "/Bad/key"] {
        client.call(from(source)).await.refused(400, "InvalidArgument");
    }
    client.call(from("/examplebucket/key?versionId=1")).await.refused(404, "NoSuchVersion");
}

#[tokio::test]
async fn encryption_is_said_by_the_writer_of_the_copy() {
    let (_server, mut client) = start().await;
    let kms = |call: Call| call.header("x-oss-server-side-encryption", "KMS");
    let put = client.call(kms(Call::put("from", b"1"))).await.expect(200);
    assert_eq!(put.header("x-oss-server-side-encryption"), "KMS");
    let plain = client.call(copy("from", "plain")).await.expect(200);
    assert_eq!(plain.header("x-oss-server-side-encryption"), "");
    assert_eq!(client.call(Call::head("plain")).await.expect(200).header("x-oss-server-side-encryption"), "");
    let secret = client.call(kms(copy("from", "secret"))).await.expect(200);
    assert_eq!(secret.header("x-oss-server-side-encryption"), "KMS");

    let typed = Call::put("typed", b"1").header("content-type", "text/plain");
    let typed = typed.header("x-oss-meta-client-side-encryption-key", "k").header("x-oss-meta-a", "1");
    client.call(typed).await.expect(200);
    client.call(copy("typed", "replaced").header("x-oss-metadata-directive", "REPLACE")).await.expect(200);
    let replaced = client.call(Call::head("replaced")).await.expect(200);
    assert_eq!(replaced.header("content-type"), "text/plain");
    assert_eq!(replaced.header("x-oss-meta-client-side-encryption-key"), "k");
    assert_eq!(replaced.header("x-oss-meta-a"), "");
}
