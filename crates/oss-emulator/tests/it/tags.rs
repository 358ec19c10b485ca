//! Tags of objects.

use http::Method;
use oss_protocol::xml::tagging::Tagging;

use crate::client::{Call, Client, start};

fn document(tags: &[(&str, &str)]) -> Vec<u8> {
    let tags = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Tagging { tags }.to_xml().into_bytes()
}

fn put_tags(key: &str, tags: &[(&str, &str)]) -> Call {
    Call::put(key, &document(tags)).query("tagging", "")
}

async fn tags(client: &mut Client, key: &str) -> Vec<(String, String)> {
    let answer = client.call(Call::get(key).query("tagging", "")).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/xml");
    Tagging::parse(&answer.body).unwrap().tags
}

fn owned(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn tags_are_set_read_and_removed() {
    let (_server, mut client) = start().await;
    let put = client.call(Call::put("key", b"hello")).await.expect(200);
    assert_eq!(tags(&mut client, "key").await, []);
    assert_eq!(client.call(Call::head("key")).await.header("x-oss-tagging-count"), "");
    client.call(put_tags("key", &[("a b", "1+1=2"), ("path", "x/y:z")])).await.expect(200);
    assert_eq!(tags(&mut client, "key").await, owned(&[("a b", "1+1=2"), ("path", "x/y:z")]));
    let get = client.call(Call::get("key")).await.expect(200);
    assert_eq!((get.header("x-oss-tagging-count"), get.body.as_slice()), ("2", &b"hello"[..]));
    assert_eq!(get.header("etag"), put.header("etag"));
    client.call(put_tags("key", &[("other", "")])).await.expect(200);
    assert_eq!(tags(&mut client, "key").await, owned(&[("other", "")]));
    client.call(Call::object(Method::DELETE, "key").query("tagging", "")).await.expect(204);
    assert_eq!(tags(&mut client, "key").await, []);
    client.call(Call::get("key")).await.expect(200);
}

#[tokio::test]
async fn every_way_to_write_takes_tags() {
    let (_server, mut client) = start().await;
    let expected = owned(&[("a b", "1&2".replace('&', ":").as_str()), ("c", "")]);
    let tagged = |call: Call| call.header("x-oss-tagging", "a%20b=1%3A2&c");
    client.call(tagged(Call::put("put", b"1"))).await.expect(200);
    let append = Call::object(Method::POST, "appended").query("append", "").query("position", "0").body(b"1");
    client.call(tagged(append)).await.expect(200);
    client
        .call(tagged(Call::put("link", b"").query("symlink", "").header("x-oss-symlink-target", "put")))
        .await
        .expect(200);
    let initiated = client.call(tagged(Call::object(Method::POST, "parts").query("uploads", ""))).await.expect(200);
    let id = initiated.element("UploadId");
    client.call(Call::put("parts", b"1").query("partNumber", "1").query("uploadId", id)).await.expect(200);
    let complete = Call::object(Method::POST, "parts").query("uploadId", id).header("x-oss-complete-all", "yes");
    client.call(complete).await.expect(200);
    for key in ["put", "appended", "link", "parts"] {
        assert_eq!(tags(&mut client, key).await, expected, "{key}");
    }
}

#[tokio::test]
async fn copies_keep_the_tags_unless_the_request_replaces_them() {
    let (_server, mut client) = start().await;
    client.call(Call::put("source", b"1").header("x-oss-tagging", "a=1")).await.expect(200);
    let copy = || Call::put("copy", b"").header("x-oss-copy-source", "/examplebucket/source");
    client.call(copy().header("x-oss-tagging", "b=2")).await.expect(200);
    assert_eq!(tags(&mut client, "copy").await, owned(&[("a", "1")]));
    let replace = copy().header("x-oss-tagging-directive", "Replace");
    client.call(replace.clone().header("x-oss-tagging", "b=2")).await.expect(200);
    assert_eq!(tags(&mut client, "copy").await, owned(&[("b", "2")]));
    client.call(replace).await.expect(200);
    assert_eq!(tags(&mut client, "copy").await, []);
    client.call(copy().header("x-oss-tagging-directive", "Both")).await.refused(400, "InvalidArgument");
}

#[tokio::test]
async fn tags_are_checked() {
    let (_server, mut client) = start().await;
    client.call(put_tags("missing", &[("a", "1")])).await.refused(404, "NoSuchKey");
    client.call(Call::get("missing").query("tagging", "")).await.refused(404, "NoSuchKey");
    client.call(Call::object(Method::DELETE, "missing").query("tagging", "")).await.refused(404, "NoSuchKey");
    client.call(Call::put("key", b"1").header("x-oss-tagging", "kept=1")).await.expect(200);
    let long = "k".repeat(129);
    for (refused, ec) in [
        (put_tags("key", &[(&long, "")]), "0010-00000209"),
        (put_tags("key", &[("a", &"v".repeat(257))]), "0010-00000214"),
        (put_tags("key", &[("a", "1"), ("a", "2")]), "0010-00000217"),
        (put_tags("key", &[("a*b", "1")]), "0010-00000217"),
        (Call::put("key", b"2").header("x-oss-tagging", "a=b=c"), "0010-00000219"),
        (Call::put("key", b"2").header("x-oss-tagging", "a=%FF"), "0010-00000219"),
        (Call::put("key", b"2").header("x-oss-tagging", "a=%E2%82%AC"), "0010-00000217"),
    ] {
        let answer = client.call(refused).await.refused(400, "InvalidTag");
        assert_eq!(answer.header("x-oss-ec"), ec);
    }
    client.call(Call::put("key", b"no XML").query("tagging", "")).await.refused(400, "MalformedXML");
    let eleven: Vec<String> = (0..11).map(|number| format!("k{number}")).collect();
    let eleven: Vec<_> = eleven.iter().map(|key| (key.as_str(), "")).collect();
    client.call(put_tags("key", &eleven)).await.refused(400, "InvalidTag");
    client.call(put_tags("key", &eleven[..10])).await.expect(200);
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, b"1");
}
