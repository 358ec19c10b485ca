//! Multipart uploads from the first request to the last.

use http::Method;
use oss_protocol::crc64::checksum;
use oss_protocol::xml::Document;
use oss_protocol::xml::multipart::{
    CompleteMultipartUpload, CompleteMultipartUploadResult, CompletedPart, CopyPartResult,
    InitiateMultipartUploadResult, ListMultipartUploadsResult, ListPartsResult,
};

use crate::client::{Answer, BUCKET, Call, Client, Server, config, pattern, start};

const LEAST: usize = 100 * 1024;

pub(crate) async fn initiate(client: &mut Client, key: &str) -> String {
    let call = Call::object(Method::POST, key).query("uploads", "").header("x-oss-meta-a", "1");
    let answer = client.call(call).await.expect(200);
    let result = InitiateMultipartUploadResult::parse(&answer.body).unwrap();
    assert_eq!((result.bucket.as_str(), result.key.as_str()), (BUCKET, key));
    assert_eq!(result.upload_id.len(), 32);
    result.upload_id
}

fn part(key: &str, id: &str, number: u32) -> Call {
    Call::object(Method::PUT, key).query("partNumber", &number.to_string()).query("uploadId", id)
}

pub(crate) async fn upload(client: &mut Client, key: &str, id: &str, number: u32, body: &[u8]) -> CompletedPart {
    let answer = client.call(part(key, id, number).body(body)).await.expect(200);
    assert_eq!(answer.header("x-oss-hash-crc64ecma"), checksum(body).to_string());
    CompletedPart { part_number: number, etag: answer.header("etag").to_owned() }
}

pub(crate) async fn complete(client: &mut Client, key: &str, id: &str, parts: &[CompletedPart]) -> Answer {
    let body = CompleteMultipartUpload { parts: parts.to_vec() }.to_xml();
    client.call(Call::object(Method::POST, key).query("uploadId", id).body(body.as_bytes())).await
}

#[tokio::test]
async fn parts_become_an_object() {
    let (_server, mut client) = start().await;
    let bodies = [pattern(LEAST), pattern(LEAST + 1), pattern(10)];
    let id = initiate(&mut client, "big é").await;
    let mut parts = Vec::new();
    // Out of order and with gaps.
    for (number, body) in [(7, &bodies[1]), (2, &bodies[0]), (10_000, &bodies[2])] {
        parts.push(upload(&mut client, "big é", &id, number, body).await);
    }
    parts.sort_by_key(|part| part.part_number);
    client.call(Call::get("big é")).await.refused(404, "NoSuchKey");
    let answer = complete(&mut client, "big é", &id, &parts).await.expect(200);
    let result = CompleteMultipartUploadResult::parse(&answer.body).unwrap();
    assert_eq!((result.bucket.as_str(), result.key.as_str()), (BUCKET, "big é"));
    assert!(result.etag.ends_with("-3\""), "{}", result.etag);
    let whole = bodies.concat();
    assert_eq!(answer.header("x-oss-hash-crc64ecma"), checksum(&whole).to_string());
    let get = client.call(Call::get("big é")).await.expect(200);
    assert_eq!(get.body, whole);
    assert_eq!(get.header("etag"), result.etag);
    assert_eq!(get.header("x-oss-object-type"), "Multipart");
    assert_eq!(get.header("content-md5"), "");
    assert_eq!(get.header("x-oss-meta-a"), "1");
    // A range over the seam of two parts.
    let range = format!("bytes={}-{}", LEAST - 5, LEAST + 4);
    let get = client.call(Call::get("big é").header("range", &range)).await.expect(206);
    assert_eq!(get.body, &whole[LEAST - 5..LEAST + 5]);
    complete(&mut client, "big é", &id, &parts).await.refused(404, "NoSuchUpload");
}

#[tokio::test]
async fn a_part_can_be_sent_again() {
    let (_server, mut client) = start().await;
    let id = initiate(&mut client, "key").await;
    let old = upload(&mut client, "key", &id, 1, b"old").await;
    let new = upload(&mut client, "key", &id, 1, b"new").await;
    complete(&mut client, "key", &id, &[old]).await.refused(400, "InvalidPart");
    complete(&mut client, "key", &id, &[new]).await.expect(200);
    assert_eq!(client.call(Call::get("key")).await.body, b"new");
}

#[tokio::test]
async fn complete_all_takes_every_part() {
    let (_server, mut client) = start().await;
    let id = initiate(&mut client, "key").await;
    upload(&mut client, "key", &id, 2, b"tail").await;
    upload(&mut client, "key", &id, 1, &pattern(LEAST)).await;
    let all = |body: &[u8]| {
        Call::object(Method::POST, "key").query("uploadId", &id).header("x-oss-complete-all", "yes").body(body)
    };
    client.call(all(b"<CompleteMultipartUpload/>")).await.refused(400, "InvalidArgument");
    client.call(all(b"")).await.expect(200);
    assert_eq!(client.call(Call::get("key")).await.body, [&pattern(LEAST)[..], b"tail"].concat());
}

#[tokio::test]
async fn lists_of_parts_are_checked() {
    let (_server, mut client) = start().await;
    let id = initiate(&mut client, "key").await;
    let one = upload(&mut client, "key", &id, 1, &pattern(LEAST - 1)).await;
    let two = upload(&mut client, "key", &id, 2, b"tail").await;
    let missing = CompletedPart { part_number: 3, etag: two.etag.clone() };
    let both = [one.clone(), two.clone()];
    let small = complete(&mut client, "key", &id, &both).await.refused(400, "EntityTooSmall");
    assert_eq!(small.error().get("MinSizeAllowed"), Some("102400"));
    complete(&mut client, "key", &id, &[two.clone(), one.clone()]).await.refused(400, "InvalidPartOrder");
    complete(&mut client, "key", &id, &[one.clone(), one.clone()]).await.refused(400, "InvalidPartOrder");
    complete(&mut client, "key", &id, &[one.clone(), missing]).await.refused(400, "InvalidPart");
    complete(&mut client, "key", &id, &[]).await.refused(400, "MalformedXML");
    complete(&mut client, "other", &id, std::slice::from_ref(&one)).await.refused(404, "NoSuchUpload");
    let bad = Call::object(Method::POST, "key").query("uploadId", &id).body(b"not xml");
    client.call(bad).await.refused(400, "MalformedXML");
    // None of that has ended the upload.
    complete(&mut client, "key", &id, &[one]).await.expect(200);
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let (_server, mut client) = start().await;
    let id = initiate(&mut client, "key").await;
    let one = upload(&mut client, "key", &id, 1, b"1").await;
    let abort = || Call::object(Method::DELETE, "key").query("uploadId", &id);
    client.call(abort()).await.expect(204);
    client.call(abort()).await.refused(404, "NoSuchUpload");
    client.call(part("key", &id, 2).body(b"2")).await.refused(404, "NoSuchUpload");
    client.call(Call::get("key").query("uploadId", &id)).await.refused(404, "NoSuchUpload");
    let refused = complete(&mut client, "key", &id, &[one]).await.refused(404, "NoSuchUpload");
    assert_eq!(refused.error().get("UploadId"), Some(id.as_str()));
    client.call(Call::get("key")).await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn part_numbers_have_bounds() {
    let (_server, mut client) = start().await;
    let id = initiate(&mut client, "key").await;
    for number in ["0", "10001", "-1", "x", ""] {
        let call = Call::object(Method::PUT, "key").query("partNumber", number).query("uploadId", &id).body(b"1");
        client.call(call).await.refused(400, "InvalidArgument");
    }
    client.call(Call::put("key", b"1").query("uploadId", &id)).await.refused(400, "InvalidArgument");
    client.call(Call::put("key", b"1").query("partNumber", "1")).await.refused(404, "NoSuchUpload");
    let damaged = part("key", &id, 1).body(b"1").header("content-md5", "rL0Y20zC+Fzt72VPzMSk2A==");
    client.call(damaged).await.refused(400, "InvalidDigest");
    client.call(Call::get("key")).await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn overwriting_is_checked_at_the_end() {
    let (_server, mut client) = start().await;
    let id = initiate(&mut client, "key").await;
    let one = upload(&mut client, "key", &id, 1, b"new").await;
    client.call(Call::put("key", b"old")).await.expect(200);
    let body = CompleteMultipartUpload { parts: vec![one.clone()] }.to_xml();
    let call = Call::object(Method::POST, "key")
        .query("uploadId", &id)
        .header("x-oss-forbid-overwrite", "true")
        .body(body.as_bytes());
    client.call(call).await.refused(409, "FileAlreadyExists");
    assert_eq!(client.call(Call::get("key")).await.body, b"old");
    complete(&mut client, "key", &id, &[one]).await.expect(200);
    assert_eq!(client.call(Call::get("key")).await.body, b"new");
}

#[tokio::test]
async fn parts_are_copied_by_range() {
    let (_server, mut client) = start().await;
    let source = pattern(3 * LEAST);
    let put = client.call(Call::put("source", &source)).await.expect(200);
    let id = initiate(&mut client, "copy").await;
    let copy = |number, range: &str| {
        let call = part("copy", &id, number).header("x-oss-copy-source", "/examplebucket/source");
        if range.is_empty() { call } else { call.header("x-oss-copy-source-range", range) }
    };
    let first = client.call(copy(1, &format!("bytes=0-{}", LEAST - 1))).await.expect(200);
    let etag = CopyPartResult::parse(&first.body).unwrap().etag;
    assert_eq!(first.header("x-oss-hash-crc64ecma"), checksum(&source[..LEAST]).to_string());
    let rest = client.call(copy(2, &format!("bytes={LEAST}-"))).await.expect(200);
    let rest = CopyPartResult::parse(&rest.body).unwrap().etag;
    // A range that does not fit copies the whole source.
    let whole = client.call(copy(3, "bytes=0-99999999")).await.expect(200);
    let whole = CopyPartResult::parse(&whole.body).unwrap().etag;
    assert_eq!(whole, put.header("etag"));
    let mismatch = copy(4, "").header("x-oss-copy-source-if-match", "\"0\"");
    client.call(mismatch).await.refused(412, "PreconditionFailed");
    let parts: Vec<_> = [(1, etag), (2, rest), (3, whole)]
        .into_iter()
        .map(|(part_number, etag)| CompletedPart { part_number, etag })
        .collect();
    complete(&mut client, "copy", &id, &parts).await.expect(200);
    assert_eq!(client.call(Call::get("copy")).await.body, [&source[..], &source].concat());
}

#[tokio::test]
async fn parts_are_listed_in_pages() {
    let (_server, mut client) = start().await;
    let id = initiate(&mut client, "key").await;
    for number in [5, 1, 9] {
        upload(&mut client, "key", &id, number, &pattern(number as usize)).await;
    }
    let list = || Call::get("key").query("uploadId", &id).query("encoding-type", "url");
    let all = ListPartsResult::parse(&client.call(list()).await.expect(200).body).unwrap();
    let seen: Vec<_> = all.parts.iter().map(|part| (part.part_number, part.size)).collect();
    assert_eq!(seen, [(1, 1), (5, 5), (9, 9)]);
    assert_eq!(all.parts[1].hash_crc64ecma, Some(checksum(&pattern(5))));
    assert!(!all.is_truncated);
    let first = client.call(list().query("max-parts", "2")).await.expect(200);
    let first = ListPartsResult::parse(&first.body).unwrap();
    assert_eq!((first.is_truncated, first.next_part_number_marker), (true, Some(5)));
    let second = client.call(list().query("part-number-marker", "5")).await.expect(200);
    let second = ListPartsResult::parse(&second.body).unwrap();
    assert_eq!(second.parts.iter().map(|part| part.part_number).collect::<Vec<_>>(), [9]);
    client.call(list().query("max-parts", "1001")).await.refused(400, "InvalidArgument");
}

#[tokio::test]
async fn uploads_are_listed_in_pages() {
    let (_server, mut client) = start().await;
    let mut expected = Vec::new();
    for key in ["a", "a", "a", "b/1", "b/2", "c"] {
        expected.push((key.to_owned(), initiate(&mut client, key).await));
    }
    expected.sort();
    let list = || Call::bucket(Method::GET).query("uploads", "").query("encoding-type", "url");
    for limit in 1..=7 {
        let (mut seen, mut key, mut id) = (Vec::new(), String::new(), String::new());
        loop {
            let call = list()
                .query("max-uploads", &limit.to_string())
                .query("key-marker", &key)
                .query("upload-id-marker", &id);
            let page = ListMultipartUploadsResult::parse(&client.call(call).await.expect(200).body).unwrap();
            assert!(page.uploads.len() <= limit);
            seen.extend(page.uploads.into_iter().map(|upload| (upload.key, upload.upload_id)));
            if !page.is_truncated {
                break;
            }
            key = page.next_key_marker.unwrap();
            id = page.next_upload_id_marker.unwrap();
        }
        assert_eq!(seen, expected, "pages of {limit}");
    }
    let grouped = client.call(list().query("delimiter", "/").query("key-marker", "a")).await.expect(200);
    let grouped = ListMultipartUploadsResult::parse(&grouped.body).unwrap();
    assert_eq!(grouped.common_prefixes, ["b/"]);
    assert_eq!(grouped.uploads.iter().map(|upload| upload.key.as_str()).collect::<Vec<_>>(), ["c"]);
    let prefixed = client.call(list().query("prefix", "b/")).await.expect(200);
    assert_eq!(ListMultipartUploadsResult::parse(&prefixed.body).unwrap().uploads.len(), 2);
}

#[tokio::test]
async fn a_sequential_upload_takes_its_parts_in_order() {
    let directory = tempfile::tempdir().unwrap();
    for root in [None, Some(directory.path().to_owned())] {
        let server = Server::start(oss_emulator::EmulatorConfig { root: root.clone(), ..config() }).await;
        let mut client = server.connect().await;
        let call = Call::object(Method::POST, "key").query("uploads", "").query("sequential", "");
        let id = client.call(call).await.expect(200).element("UploadId").to_owned();
        let (first, second) = (pattern(102_400), b"the end".to_vec());
        let part =
            |number: &str, body: &[u8]| Call::put("key", body).query("partNumber", number).query("uploadId", &id);
        client.call(part("2", &second)).await.refused(400, "PartNotSequential");
        client.call(part("1", b"replaced")).await.expect(200);
        let one = client.call(part("1", &first)).await.expect(200);
        client.call(part("3", &second)).await.refused(400, "PartNotSequential");
        // The rule outlives the process where the upload does.
        let server = if root.is_some() {
            server.stop().await;
            Server::start(oss_emulator::EmulatorConfig { root: root.clone(), ..config() }).await
        } else {
            server
        };
        client = server.connect().await;
        client.call(part("3", &second)).await.refused(400, "PartNotSequential");
        client.call(part("2", &second)).await.expect(200);
        let complete = Call::object(Method::POST, "key").query("uploadId", &id);
        let list = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
            one.header("etag").trim_matches('"')
        );
        client.call(complete.clone().body(list.as_bytes())).await.refused(400, "PartNotSequential");
        let done = client.call(complete.header("x-oss-complete-all", "yes")).await.expect(200);
        let whole = [first, second].concat();
        let md5 = {
            use base64::Engine;
            use md5::Digest;
            base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(&whole))
        };
        assert_eq!(done.header("content-md5"), md5);
        let get = client.call(Call::get("key")).await.expect(200);
        assert_eq!(get.header("content-md5"), md5);
        assert_eq!(get.body, whole);
        assert!(get.header("etag").ends_with("-2\""));
    }
}

#[tokio::test]
async fn the_first_request_says_how_an_upload_is_encrypted() {
    let (_server, mut client) = start().await;
    let kms = |call: Call| call.header("x-oss-server-side-encryption", "KMS");
    let begun = client.call(kms(Call::object(Method::POST, "big").query("uploads", ""))).await.expect(200);
    let key_id = begun.header("x-oss-server-side-encryption-key-id").to_owned();
    assert!(!key_id.is_empty());
    let id = InitiateMultipartUploadResult::parse(&begun.body).unwrap().upload_id;
    client.call(kms(part("big", &id, 1).body(b"1"))).await.refused(400, "InvalidArgument");
    let sent = client.call(part("big", &id, 1).body(b"1")).await.expect(200);
    assert_eq!(sent.header("x-oss-server-side-encryption-key-id"), key_id);
    let list = |etag: &str| {
        CompleteMultipartUpload { parts: vec![CompletedPart { part_number: 1, etag: etag.to_owned() }] }.to_xml()
    };
    let finish = Call::object(Method::POST, "big").query("uploadId", &id);
    let finish = finish.body(list(sent.header("etag")).as_bytes());
    client.call(kms(finish.clone())).await.refused(400, "InvalidArgument");
    let complete = client.call(finish).await.expect(200);
    assert_eq!(complete.header("x-oss-server-side-encryption"), "KMS");
}

#[tokio::test]
async fn the_location_is_encoded_as_the_keys_are() {
    let (_server, mut client) = start().await;
    let id = initiate(&mut client, "a b/é").await;
    let sent = client.call(part("a b/é", &id, 1).body(b"1")).await.expect(200);
    let list =
        CompleteMultipartUpload { parts: vec![CompletedPart { part_number: 1, etag: sent.header("etag").to_owned() }] };
    let finish = Call::object(Method::POST, "a b/é").query("uploadId", &id).query("encoding-type", "url");
    let complete = client.call(finish.body(list.to_xml().as_bytes())).await.expect(200);
    assert!(complete.element("Location").ends_with("/examplebucket/a%20b%2F%C3%A9"), "{}", complete.text());
}

#[tokio::test]
async fn the_last_page_of_uploads_names_its_last_entry() {
    let (_server, mut client) = start().await;
    let id = initiate(&mut client, "big").await;
    let page = client.call(Call::bucket(Method::GET).query("uploads", "")).await.expect(200);
    assert_eq!((page.element("NextKeyMarker"), page.element("NextUploadIdMarker")), ("big", id.as_str()));
    assert_eq!(page.element("IsTruncated"), "false");
}
