//! The store that survives a restart.

use std::path::{Path, PathBuf};

use http::Method;
use oss_emulator::{Emulator, EmulatorConfig, StartError};
use oss_protocol::xml::multipart::CompletedPart;

use crate::client::{BUCKET, Call, Client, Server, config, pattern};
use crate::multipart::{complete, initiate, upload};

fn kept(root: &Path) -> EmulatorConfig {
    EmulatorConfig { root: Some(root.to_owned()), ..config() }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found
}

async fn compare(client: &mut Client, before: &crate::client::Answer, key: &str) {
    let after = client.call(Call::get(key)).await.expect(200);
    assert_eq!(after.body, before.body, "{key}");
    for name in ["etag", "last-modified", "x-oss-hash-crc64ecma", "content-md5", "content-type", "x-oss-meta-a"] {
        assert_eq!(after.header(name), before.header(name), "{key} {name}");
    }
    assert_eq!(after.header("x-oss-object-type"), before.header("x-oss-object-type"), "{key}");
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(kept(directory.path())).await;
    let mut client = server.connect().await;
    let put = |key: &str, body: &[u8]| {
        Call::put(key, body).header("x-oss-meta-a", "größe").header("content-type", "text/plain")
    };
    client.call(put("a", b"old")).await.expect(200);
    client.call(put("a", b"new")).await.expect(200);
    client.call(put("a/b", &pattern(3_000_000))).await.expect(200);
    client.call(put("empty", b"")).await.expect(200);
    client.call(put("gone", b"1")).await.expect(200);
    client.call(Call::object(Method::DELETE, "gone")).await.expect(204);
    let append = |position: &str| {
        Call::object(Method::POST, "log").query("append", "").query("position", position).body(b"line\n")
    };
    client.call(append("0")).await.expect(200);
    client.call(append("5")).await.expect(200);
    let id = initiate(&mut client, "big").await;
    let parts = [
        upload(&mut client, "big", &id, 1, &pattern(150_000)).await,
        upload(&mut client, "big", &id, 2, b"tail").await,
    ];
    complete(&mut client, "big", &id, &parts).await.expect(200);
    let copy = Call::object(Method::PUT, "copy").header("x-oss-copy-source", "/examplebucket/big");
    client.call(copy).await.expect(200);
    client.call(Call::object(Method::DELETE, "big")).await.expect(204);
    let open = Call::bucket(Method::PUT).of("other-bucket").header("x-oss-acl", "public-read");
    client.call(open).await.expect(200);
    let keys = ["a", "a/b", "empty", "log", "copy"];
    let mut before = Vec::new();
    for key in keys {
        before.push(client.call(Call::get(key)).await.expect(200));
    }
    let listed = client.call(Call::bucket(Method::GET)).await.expect(200);
    drop(client);
    server.stop().await;

    let server = Server::start(kept(directory.path())).await;
    let mut client = server.connect().await;
    for (key, before) in keys.iter().zip(&before) {
        compare(&mut client, before, key).await;
    }
    let range = Call::get("a/b").header("range", "bytes=1048570-1048585");
    assert_eq!(client.call(range).await.expect(206).body, &pattern(3_000_000)[1_048_570..1_048_586]);
    assert_eq!(client.call(Call::bucket(Method::GET)).await.expect(200).body, listed.body);
    client.call(Call::get("gone")).await.refused(404, "NoSuchKey");
    client.call(append("10")).await.expect(200);
    let acl = client.call(Call::bucket(Method::GET).of("other-bucket").query("acl", "")).await.expect(200);
    assert_eq!(acl.element("Grant"), "public-read");
    server.stop().await;
}

#[tokio::test]
async fn uploads_go_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(kept(directory.path())).await;
    let mut client = server.connect().await;
    let id = initiate(&mut client, "big").await;
    let first = upload(&mut client, "big", &id, 1, &pattern(150_000)).await;
    let aborted = initiate(&mut client, "other").await;
    upload(&mut client, "other", &aborted, 1, b"1").await;
    client.call(Call::object(Method::DELETE, "other").query("uploadId", &aborted)).await.expect(204);
    server.stop().await;

    let server = Server::start(kept(directory.path())).await;
    let mut client = server.connect().await;
    client.call(Call::get("other").query("uploadId", &aborted)).await.refused(404, "NoSuchUpload");
    let second: CompletedPart = upload(&mut client, "big", &id, 2, b"tail").await;
    complete(&mut client, "big", &id, &[first, second]).await.expect(200);
    let get = client.call(Call::get("big")).await.expect(200);
    assert_eq!(get.body, [&pattern(150_000)[..], b"tail"].concat());
    assert_eq!(get.header("x-oss-meta-a"), "1");
    server.stop().await;
}

#[tokio::test]
async fn deleted_objects_leave_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(EmulatorConfig { fsync: true, ..kept(directory.path()) }).await;
    let mut client = server.connect().await;
    client.call(Call::put("key", b"first")).await.expect(200);
    client.call(Call::put("key", b"second")).await.expect(200);
    let refused = Call::put("key", b"third").header("content-md5", "rL0Y20zC+Fzt72VPzMSk2A==");
    client.call(refused).await.refused(400, "InvalidDigest");
    let id = initiate(&mut client, "big").await;
    upload(&mut client, "big", &id, 1, b"one").await;
    upload(&mut client, "big", &id, 1, b"again").await;
    client.call(Call::object(Method::DELETE, "big").query("uploadId", &id)).await.expect(204);
    client.call(Call::object(Method::DELETE, "key")).await.expect(204);
    client.call(Call::bucket(Method::DELETE)).await.expect(204);
    let left: Vec<_> = files(directory.path()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|name| name == "lock" || name == "format.json"), "{left:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_response_under_way_keeps_its_object() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(kept(directory.path())).await;
    let body = pattern(20_000_000);
    let mut reader = server.connect().await;
    reader.call(Call::put("key", &body)).await.expect(200);
    let (head, _) = reader.render(&Call::get("key"));
    reader.send(&head).await;
    let mut writer = server.connect().await;
    // The log holds the response once it has begun, when most of it is still to be read.
    while server.log.count(oss_emulator::Operation::GetObject) == 0 {
        tokio::task::yield_now().await;
    }
    writer.call(Call::put("key", b"other")).await.expect(200);
    writer.call(Call::object(Method::DELETE, "key")).await.expect(204);
    assert!(reader.receive(&Method::GET).await.expect(200).body == body);
    server.stop().await;
}

#[tokio::test]
async fn remains_of_an_interruption_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = Server::start(kept(root)).await;
    let mut client = server.connect().await;
    client.call(Call::put("key", b"good")).await.expect(200);
    client.call(Call::put("torn", b"whole")).await.expect(200);
    server.stop().await;
    let descriptions = files(&root.join("buckets").join(BUCKET).join("objects"));
    let torn = descriptions.iter().find(|path| std::fs::read_to_string(path).unwrap().contains("\"torn\"")).unwrap();
    let data = files(&root.join("data"));
    let torn_data = data.iter().find(|path| std::fs::read(path).unwrap() == b"whole").unwrap();
    std::fs::write(torn_data, b"who").unwrap();
    // An older description of the same key, a data file that nothing names, and a file that was being written.
    let good = descriptions.iter().find(|path| *path != torn).unwrap();
    let older = root.join("buckets").join(BUCKET).join("objects/01/0000000000000001.json");
    let orphan = root.join("data/00/00000000000fff00");
    for path in [&older, &orphan] {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    std::fs::write(&older, std::fs::read_to_string(good).unwrap().replace("Normal", "Multipart")).unwrap();
    std::fs::write(&orphan, b"orphan").unwrap();
    std::fs::write(root.join("temporary/00000000000fff01"), b"half").unwrap();
    std::fs::create_dir_all(root.join("buckets/half-deleted/objects/00")).unwrap();

    let server = Server::start(kept(root)).await;
    let mut client = server.connect().await;
    let get = client.call(Call::get("key")).await.expect(200);
    assert_eq!((get.body.as_slice(), get.header("x-oss-object-type")), (&b"good"[..], "Normal"));
    client.call(Call::get("torn")).await.refused(404, "NoSuchKey");
    client.call(Call::bucket(Method::GET).of("half-deleted")).await.refused(404, "NoSuchBucket");
    client.call(Call::put("key", b"better")).await.expect(200);
    server.stop().await;
    assert!(!older.exists());
    let data: Vec<_> = files(&root.join("data")).iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(data, [b"better"]);
    assert_eq!(files(&root.join("temporary")), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn one_emulator_has_the_directory_to_itself() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(kept(directory.path())).await;
    let mut client = server.connect().await;
    client.call(Call::put("key", b"1")).await.expect(200);
    let error = Emulator::bind(kept(directory.path())).await.unwrap_err();
    assert!(matches!(error, StartError::RootInUse { .. }), "{error}");
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, b"1");
    server.stop().await;
    Server::start(kept(directory.path())).await.stop().await;
}

#[tokio::test]
async fn a_directory_of_others_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("thesis.tex"), "years of work").unwrap();
    let error = Emulator::bind(kept(directory.path())).await.unwrap_err();
    assert!(matches!(error, StartError::RootUnusable { .. }) && error.to_string().contains("thesis.tex"), "{error}");
    assert_eq!(files(directory.path()).len(), 1);

    let file = directory.path().join("thesis.tex");
    let error = Emulator::bind(kept(&file)).await.unwrap_err();
    assert!(matches!(error, StartError::RootUnusable { .. }), "{error}");

    let newer = tempfile::tempdir().unwrap();
    std::fs::write(newer.path().join("format.json"), "{\"version\":99}").unwrap();
    let error = Emulator::bind(kept(newer.path())).await.unwrap_err();
    assert!(error.to_string().contains("99"), "{error}");
}
