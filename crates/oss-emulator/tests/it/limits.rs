//! How much the server keeps, and what it starts with.

use std::path::Path;

use http::Method;
use oss_emulator::{Emulator, EmulatorConfig, StartError};

use crate::client::{Call, Server, config, pattern};
use crate::multipart::{complete, initiate, upload};

#[tokio::test]
async fn bodies_above_the_memory_limit_are_refused_and_room_is_given_back() {
    let server = Server::start(EmulatorConfig { memory_limit: Some(3_000_000), ..config() }).await;
    let mut client = server.connect().await;
    let two = pattern(2_000_000);
    client.call(Call::put("a", &two)).await.expect(200);
    for call in [Call::put("b", &two), Call::put("b", &two).chunked(), Call::put("a", &two)] {
        let refused = client.call(call).await.refused(400, "InsufficientStorage");
        assert!(refused.error().message.contains("memory limit of 3000000 bytes"), "{:?}", refused.error());
    }
    // Refused bodies gave their memory back, and a copy shares its bytes.
    client.call(Call::put("b", &pattern(1_000_000))).await.expect(200);
    client.call(Call::object(Method::PUT, "c").header("x-oss-copy-source", "/examplebucket/a")).await.expect(200);
    assert!(client.call(Call::get("a")).await.expect(200).body == two);
    client.call(Call::object(Method::DELETE, "a")).await.expect(204);
    client.call(Call::put("d", b"1")).await.refused(400, "InsufficientStorage");
    client.call(Call::object(Method::DELETE, "c")).await.expect(204);
    client.call(Call::put("d", &two)).await.expect(200);
    client.call(Call::object(Method::DELETE, "d")).await.expect(204);
    let id = initiate(&mut client, "big").await;
    upload(&mut client, "big", &id, 1, &two).await;
    client.call(Call::put("d", b"1")).await.refused(400, "InsufficientStorage");
    client.call(Call::object(Method::DELETE, "big").query("uploadId", &id)).await.expect(204);
    client.call(Call::put("d", &two)).await.expect(200);
    server.stop().await;
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn files_become_objects() {
    let files = tempfile::tempdir().unwrap();
    let root = tempfile::tempdir().unwrap();
    write(&files.path().join("a"), b"hello");
    write(&files.path().join("dir/sub dir/é%.bin"), &pattern(3_000_001));
    write(&files.path().join("dir/empty"), b"");
    std::os::unix::fs::symlink(files.path().join("a"), files.path().join("link")).unwrap();
    std::os::unix::fs::symlink(files.path(), files.path().join("dir/loop")).unwrap();
    for root in [None, Some(root.path().to_owned())] {
        let start = EmulatorConfig { import: Some(files.path().to_owned()), root, ..config() };
        let server = Server::start(start).await;
        let mut client = server.connect().await;
        let listed = client.call(Call::bucket(Method::GET)).await.expect(200);
        assert_eq!(listed.text().matches("<Contents>").count(), 4, "{}", listed.text());
        let got = client.call(Call::get("a")).await.expect(200);
        assert_eq!((got.body.as_slice(), got.header("etag")), (&b"hello"[..], "\"5D41402ABC4B2A76B9719D911017C592\""));
        assert_eq!(got.header("content-type"), "application/octet-stream");
        assert!(client.call(Call::get("dir/sub dir/é%.bin")).await.expect(200).body == pattern(3_000_001));
        assert_eq!(client.call(Call::get("dir/empty")).await.expect(200).body, b"");
        assert_eq!(client.call(Call::get("link")).await.expect(200).body, b"hello");
        server.stop().await;
    }
}

#[tokio::test]
async fn an_import_that_cannot_be_whole_is_refused() {
    let files = tempfile::tempdir().unwrap();
    write(&files.path().join("a"), &pattern(1000));
    let import = || EmulatorConfig { import: Some(files.path().to_owned()), ..config() };
    for (config, reason) in [
        (EmulatorConfig { buckets: Vec::new(), ..import() }, "exactly one bucket"),
        (EmulatorConfig { buckets: vec!["one".to_owned(), "two".to_owned()], ..import() }, "exactly one bucket"),
        (EmulatorConfig { memory_limit: Some(999), ..import() }, "memory limit of 999 bytes"),
        (EmulatorConfig { import: Some(files.path().join("nowhere")), ..import() }, "nowhere"),
    ] {
        let error = Emulator::bind(config).await.unwrap_err();
        assert!(matches!(error, StartError::Import { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    // A backslash is no beginning of a key.
    let name = ["\\", "b"].concat();
    write(&files.path().join(&name), b"");
    let error = Emulator::bind(import()).await.unwrap_err();
    assert!(matches!(error, StartError::Import { .. }) && error.to_string().contains(&name), "{error}");
}

#[tokio::test]
async fn parts_count_towards_a_quota() {
    let root = tempfile::tempdir().unwrap();
    let stored = || EmulatorConfig { quota: Some(250_000), root: Some(root.path().to_owned()), ..config() };
    let server = Server::start(stored()).await;
    let mut client = server.connect().await;
    let id = initiate(&mut client, "big").await;
    let first = upload(&mut client, "big", &id, 1, &pattern(150_000)).await;
    let part = |number: &str, size: usize| {
        Call::object(Method::PUT, "big").query("partNumber", number).query("uploadId", &id).body(&pattern(size))
    };
    client.call(part("2", 150_000)).await.refused(403, "QuotaExceeded");
    client.call(Call::put("a", &pattern(150_000))).await.refused(403, "QuotaExceeded");
    // A part takes the place of the one before.
    client.call(part("1", 240_000)).await.expect(200);
    client.call(part("1", 150_000)).await.expect(200);
    client.call(Call::put("a", &pattern(90_000))).await.expect(200);
    drop(client);
    server.stop().await;

    let server = Server::start(stored()).await;
    let mut client = server.connect().await;
    client.call(part("2", 20_000)).await.refused(403, "QuotaExceeded");
    // The object takes the place of its parts.
    complete(&mut client, "big", &id, &[first]).await.expect(200);
    client.call(Call::put("b", &pattern(20_000))).await.refused(403, "QuotaExceeded");
    client.call(Call::object(Method::DELETE, "a")).await.expect(204);
    let other = initiate(&mut client, "c").await;
    upload(&mut client, "c", &other, 1, &pattern(90_000)).await;
    client.call(Call::put("b", &pattern(20_000))).await.refused(403, "QuotaExceeded");
    client.call(Call::object(Method::DELETE, "c").query("uploadId", &other)).await.expect(204);
    client.call(Call::put("b", &pattern(90_000))).await.expect(200);
}
