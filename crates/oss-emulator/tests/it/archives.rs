//! Archived objects and their restoration.

use std::time::Duration;

use http::Method;
use oss_emulator::EmulatorConfig;
use oss_protocol::time::parse_http_date;

use crate::client::{Call, Client, Server, config, start};

const CLASSES: [&str; 3] = ["Archive", "ColdArchive", "DeepColdArchive"];

fn restore(key: &str) -> Call {
    Call::object(Method::POST, key).query("restore", "")
}

async fn archived(restore_delay: Duration) -> (Server, Client) {
    let server = Server::start(EmulatorConfig { restore_delay, ..config() }).await;
    let mut client = server.connect().await;
    for class in CLASSES {
        client.call(Call::put(class, b"hello").header("x-oss-storage-class", class)).await.expect(200);
    }
    (server, client)
}

#[tokio::test]
async fn an_archived_object_is_read_after_it_was_restored() {
    let (_server, mut client) = archived(Duration::ZERO).await;
    for class in CLASSES {
        client.call(Call::get(class)).await.refused(403, "InvalidObjectState");
        let copy = Call::put("copy", b"").header("x-oss-copy-source", &format!("/examplebucket/{class}"));
        client.call(copy.clone()).await.refused(403, "InvalidObjectState");
        let head = client.call(Call::head(class)).await.expect(200);
        assert_eq!((head.header("x-oss-storage-class"), head.header("x-oss-restore")), (class, ""));

        let answer = client.call(restore(class)).await.expect(202);
        let priority = if class == "Archive" { "" } else { "Standard" };
        assert_eq!(answer.header("x-oss-object-restore-priority"), priority);
        assert_eq!(client.call(Call::get(class)).await.expect(200).body, b"hello");
        client.call(copy).await.expect(200);
        let head = client.call(Call::head(class)).await.expect(200);
        let expiry = head.header("x-oss-restore").strip_prefix("ongoing-request=\"false\", expiry-date=\"").unwrap();
        let expiry = parse_http_date(expiry.strip_suffix('"').unwrap()).unwrap();
        let left = expiry.duration_since(std::time::SystemTime::now()).unwrap();
        assert!((Duration::from_secs(86_000)..=Duration::from_secs(86_400)).contains(&left), "{left:?}");
    }
}

#[tokio::test]
async fn a_restoration_takes_its_time() {
    let (_server, mut client) = archived(Duration::from_secs(3600)).await;
    client.call(restore("Archive")).await.expect(202);
    client.call(restore("Archive")).await.refused(409, "RestoreAlreadyInProgress");
    assert_eq!(
        client.call(Call::head("Archive")).await.expect(200).header("x-oss-restore"),
        "ongoing-request=\"true\""
    );
    client.call(Call::get("Archive")).await.refused(403, "InvalidObjectState");
    // A new object under the key is not being restored.
    client.call(Call::put("Archive", b"new").header("x-oss-storage-class", "Archive")).await.expect(200);
    assert_eq!(client.call(Call::head("Archive")).await.header("x-oss-restore"), "");
}

#[tokio::test]
async fn restoring_again_prolongs() {
    let (_server, mut client) = archived(Duration::ZERO).await;
    let days = |number: &str| {
        let body = format!("<RestoreRequest><Days>{number}</Days></RestoreRequest>");
        restore("Archive").body(body.as_bytes())
    };
    client.call(days("2")).await.expect(202);
    let first = client.call(Call::head("Archive")).await.header("x-oss-restore").to_owned();
    client.call(days("7")).await.expect(200);
    let second = client.call(Call::head("Archive")).await.header("x-oss-restore").to_owned();
    assert_ne!(first, second);
    client.call(days("0")).await.refused(400, "InvalidArgument");
    client.call(days("366")).await.refused(400, "InvalidArgument");
    client.call(days("many")).await.refused(400, "MalformedXML");
    let tier = "<RestoreRequest><Days>1</Days><JobParameters><Tier>Test</Tier></JobParameters></RestoreRequest>";
    client.call(restore("ColdArchive").body(tier.as_bytes())).await.refused(400, "InvalidArgument");
    let bulk = tier.replace("Test", "Bulk");
    let answer = client.call(restore("ColdArchive").body(bulk.as_bytes())).await.expect(202);
    assert_eq!(answer.header("x-oss-object-restore-priority"), "Bulk");
    // The first archive class has no tiers, and the coldest is never restored in bulk.
    client.call(restore("Archive").body(bulk.as_bytes())).await.refused(400, "MalformedXML");
    client.call(restore("DeepColdArchive").body(bulk.as_bytes())).await.refused(400, "InvalidArgument");
}

#[tokio::test]
async fn only_archives_are_restored() {
    let (_server, mut client) = start().await;
    client.call(restore("missing")).await.refused(404, "NoSuchKey");
    for class in ["Standard", "IA"] {
        client.call(Call::put("key", b"1").header("x-oss-storage-class", class)).await.expect(200);
        client.call(restore("key")).await.refused(400, "OperationNotSupported");
        client.call(Call::get("key")).await.expect(200);
    }
}

#[tokio::test]
async fn the_target_of_a_link_must_be_restored() {
    let (_server, mut client) = archived(Duration::ZERO).await;
    client
        .call(Call::put("link", b"").query("symlink", "").header("x-oss-symlink-target", "Archive"))
        .await
        .expect(200);
    client.call(Call::get("link")).await.refused(403, "InvalidObjectState");
    client.call(Call::head("link")).await.expect(200);
    client.call(restore("Archive")).await.expect(202);
    assert_eq!(client.call(Call::get("link")).await.expect(200).body, b"hello");
}
