//! Uploads: in one request, in parts, given up, and completed by an answer that was lost.

use std::sync::Arc;

use bytes::Bytes;
use oss_client::{
    Client,
    ops::put::PutOptions,
    upload::{Lane, Upload},
};
use oss_protocol::crc64;

use crate::support::{BUCKET, Reply, client, config, emulator, error_xml, pattern, response, scripted};

const PART: usize = 100 << 10;

async fn emulated() -> Client {
    let mut config = config(&emulator().await);
    config.part_size = PART;
    config.upload_concurrency = 3;
    client(config)
}

fn upload(client: &Client, key: &str) -> Upload {
    let lane = Lane { client: client.clone(), runtime: tokio::runtime::Handle::current() };
    Upload::new(vec![lane], client, BUCKET, key, PutOptions::default(), None).unwrap()
}

#[tokio::test]
async fn every_size_around_the_part_size_round_trips() {
    let client = emulated().await;
    for size in [0, 1, PART - 1, PART, PART + 1, 2 * PART, 7 * PART + 12_345] {
        let content = pattern(size);
        let mut upload = upload(&client, "object");
        for piece in content.chunks(30_000) {
            upload.write(piece).await.unwrap();
        }
        assert_eq!(upload.written(), size as u64);
        upload.finish().await.unwrap();
        let fetched = client.get(BUCKET, "object", u64::MAX).await.unwrap();
        assert_eq!(fetched.bytes.as_deref(), Some(&content[..]), "{size}");
        assert_eq!(fetched.meta.crc64, Some(crc64::checksum(&content)));
    }
}

#[tokio::test]
async fn an_upload_that_was_left_continues_after_its_parts() {
    let client = emulated().await;
    let content = pattern(7 * PART + 12_345);
    let mut first = upload(&client, "object");
    let upload_id = first.begin().await.unwrap();
    first.write(&content[..4 * PART]).await.unwrap();
    first.leave().await;
    drop(first);
    let parts = client.list_parts(BUCKET, "object", &upload_id).await.unwrap();
    // Those that were in flight may be lost.
    let arrived = (1..).zip(&parts).take_while(|(number, part)| part.number == *number).count();
    let parts: Vec<_> = parts.into_iter().take(arrived).collect();
    let mut second = upload(&client, "object");
    second.continue_after(&upload_id, parts);
    assert_eq!(second.written(), (arrived * PART) as u64);
    second.write(&content[arrived * PART..]).await.unwrap();
    let published = second.finish().await.unwrap();
    assert_eq!((published.size, published.crc64), (content.len() as u64, Some(crc64::checksum(&content))));
    let fetched = client.get(BUCKET, "object", u64::MAX).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&content[..]));
    assert!(client.list_multipart_uploads(BUCKET, "").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_kept_upload_that_fails_leaves_its_parts_until_it_is_aborted() {
    let client = emulated().await;
    let mut upload = upload(&client, "object");
    let upload_id = upload.begin().await.unwrap();
    upload.end().await.unwrap();
    assert_eq!(client.list_multipart_uploads(BUCKET, "").await.unwrap().len(), 1);
    upload.continue_after(&upload_id, Vec::new());
    upload.abort().await.unwrap();
    assert!(client.list_multipart_uploads(BUCKET, "").await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_visible_before_the_end_nor_after_an_abort() {
    let client = emulated().await;
    let old = pattern(10);
    client.put(BUCKET, "object", old.clone().into(), &PutOptions::default()).await.unwrap();
    let mut upload = upload(&client, "object");
    upload.write(&pattern(5 * PART)).await.unwrap();
    assert_eq!(client.list_multipart_uploads(BUCKET, "").await.unwrap().len(), 1);
    let fetched = client.get(BUCKET, "object", u64::MAX).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&old[..]));
    upload.abort().await.unwrap();
    assert!(client.list_multipart_uploads(BUCKET, "").await.unwrap().is_empty());
    let fetched = client.get(BUCKET, "object", u64::MAX).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&old[..]));
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_is_recognised() {
    let parts = [pattern(PART), pattern(500)];
    let whole: Vec<u8> = parts.concat();
    let crc = |bytes: &[u8]| format!("x-oss-hash-crc64ecma: {}\r\nETag: \"P\"\r\n", crc64::checksum(bytes));
    let initiated = b"<InitiateMultipartUploadResult><Bucket>examplebucket</Bucket><Key>object</Key><UploadId>U1</UploadId></InitiateMultipartUploadResult>";
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{}\r\n", whole.len(), crc(&whole));
    let (url, mut requests) = scripted(vec![
        Reply::Send(response("200 OK", "", initiated)),
        Reply::Send(response("200 OK", &crc(&parts[0]), b"")),
        Reply::Send(response("200 OK", &crc(&parts[1]), b"")),
        // Carried out, but the connection breaks before the answer.
        Reply::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        Reply::Send(response("404 Gone", "", &error_xml("NoSuchUpload"))),
        Reply::Send(head.into_bytes()),
    ])
    .await;
    let mut config = config(&url);
    config.part_size = PART;
    config.upload_concurrency = 1;
    let mut upload = upload(&client(config), "object");
    upload.write(&whole).await.unwrap();
    assert_eq!(upload.finish().await.unwrap().etag, "\"P\"");
    let mut methods = Vec::new();
    while let Ok(request) = requests.try_recv() {
        methods.push(request.split(' ').next().unwrap().to_owned());
    }
    assert_eq!(methods, ["POST", "PUT", "PUT", "POST", "POST", "HEAD"]);
}

#[tokio::test]
async fn a_part_stored_wrong_fails_the_upload() {
    let initiated = b"<InitiateMultipartUploadResult><UploadId>U1</UploadId></InitiateMultipartUploadResult>";
    let wrong = || Reply::Send(response("200 OK", "x-oss-hash-crc64ecma: 1\r\nETag: \"P\"\r\n", b""));
    let (url, _requests) = scripted(vec![Reply::Send(response("200 OK", "", initiated)), wrong(), wrong()]).await;
    let mut config = config(&url);
    config.part_size = PART;
    config.max_attempts = 2;
    let mut upload = upload(&client(config), "object");
    upload.write(&pattern(PART + 1)).await.unwrap();
    let error = upload.finish().await.unwrap_err();
    assert!(matches!(error.kind(), oss_client::ErrorKind::Integrity(_)), "{error:?}");
}

/// Memory whose reference count tells when nobody has it any more.
struct Owned(Vec<u8>, #[expect(dead_code, reason = "held, not read")] Arc<()>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[tokio::test]
async fn lent_memory_is_sent_as_it_is_and_given_back() {
    let client = emulated().await;
    let content = pattern(20 * PART + 5);
    let owner = Arc::new(());
    let mut upload = upload(&client, "object");
    upload.write(&content[..10]).await.unwrap();
    let lent = upload.worth_lending(content.len() - 10);
    // After the part being filled, before the last three that can be in flight.
    assert_eq!(lent, PART - 10..17 * PART - 5);
    upload.write(&content[10..PART]).await.unwrap();
    let memory = Bytes::from_owner(Owned(content[PART..17 * PART + 5].to_vec(), Arc::clone(&owner)));
    let sent = upload.lend(memory).await.unwrap();
    assert_eq!(sent, 16 * PART);
    upload.take_back_lent().await.unwrap();
    assert_eq!(Arc::strong_count(&owner), 1);
    upload.write(&content[17 * PART..]).await.unwrap();
    let published = upload.finish().await.unwrap();
    assert_eq!((published.size, published.crc64), (content.len() as u64, Some(crc64::checksum(&content))));
    let fetched = client.get(BUCKET, "object", u64::MAX).await.unwrap();
    assert_eq!(fetched.bytes.as_deref(), Some(&content[..]));
}

#[tokio::test]
async fn aborting_gives_lent_memory_back() {
    let initiated = b"<InitiateMultipartUploadResult><UploadId>U1</UploadId></InitiateMultipartUploadResult>";
    let (url, _requests) = scripted(vec![Reply::Send(response("200 OK", "", initiated))]).await;
    let mut config = config(&url);
    config.part_size = PART;
    config.max_attempts = 1;
    let client = client(config);
    let owner = Arc::new(());
    let mut upload = upload(&client, "object");
    // The script has no answer to a part.
    upload.lend(Bytes::from_owner(Owned(pattern(2 * PART), Arc::clone(&owner)))).await.unwrap();
    upload.abort().await.unwrap_err();
    assert_eq!(Arc::strong_count(&owner), 1);
}
