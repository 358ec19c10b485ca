//! Requests that overtake each other. `Expect: 100-continue` tells when the slow one has passed its first checks.

use http::Method;
use oss_protocol::xml::Document;
use oss_protocol::xml::multipart::CompleteMultipartUpload;

use crate::client::{Answer, Call, Client, start};
use crate::multipart::{initiate, upload};

/// Sends the head of a request and waits until the server reads the body.
async fn begin(client: &mut Client, call: Call) -> Vec<u8> {
    let (head, body) = client.render(&call.header("expect", "100-continue"));
    client.send(&head).await;
    client.receive(&Method::PUT).await.expect(100);
    body
}

async fn finish(client: &mut Client, body: &[u8]) -> Answer {
    client.send(body).await;
    client.receive(&Method::PUT).await
}

#[tokio::test]
async fn a_protected_object_made_meanwhile_stays() {
    let (server, mut fast) = start().await;
    let mut slow = server.connect().await;
    let call = Call::put("key", b"slow").header("x-oss-forbid-overwrite", "true");
    let body = begin(&mut slow, call).await;
    fast.call(Call::put("key", b"fast")).await.expect(200);
    finish(&mut slow, &body).await.refused(409, "FileAlreadyExists");
    assert_eq!(fast.call(Call::get("key")).await.expect(200).body, b"fast");
}

#[tokio::test]
async fn an_upload_aborted_meanwhile_publishes_nothing() {
    let (server, mut fast) = start().await;
    let mut slow = server.connect().await;
    let id = initiate(&mut fast, "key").await;
    let parts = vec![upload(&mut fast, "key", &id, 1, b"1").await];
    let list = CompleteMultipartUpload { parts }.to_xml();
    let complete = Call::object(Method::POST, "key").query("uploadId", &id).body(list.as_bytes());
    let body = begin(&mut slow, complete).await;
    fast.call(Call::object(Method::DELETE, "key").query("uploadId", &id)).await.expect(204);
    finish(&mut slow, &body).await.refused(404, "NoSuchUpload");
    fast.call(Call::get("key")).await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn a_part_of_an_upload_aborted_meanwhile_is_refused() {
    let (server, mut fast) = start().await;
    let mut slow = server.connect().await;
    let id = initiate(&mut fast, "key").await;
    let part = Call::put("key", b"part").query("partNumber", "1").query("uploadId", &id);
    let body = begin(&mut slow, part).await;
    fast.call(Call::object(Method::DELETE, "key").query("uploadId", &id)).await.expect(204);
    finish(&mut slow, &body).await.refused(404, "NoSuchUpload");
}

#[tokio::test]
async fn a_bucket_deleted_meanwhile_takes_no_object() {
    let (server, mut fast) = start().await;
    let mut slow = server.connect().await;
    let body = begin(&mut slow, Call::put("key", b"slow")).await;
    fast.call(Call::bucket(Method::DELETE)).await.expect(204);
    finish(&mut slow, &body).await.refused(404, "NoSuchBucket");
    fast.call(Call::bucket(Method::PUT)).await.expect(200);
    fast.call(Call::get("key")).await.refused(404, "NoSuchKey");
}
