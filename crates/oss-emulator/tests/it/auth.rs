//! Who is let in.

use std::time::{Duration, SystemTime};

use http::Method;
use oss_emulator::{EmulatorConfig, KeyPair};
use oss_protocol::credentials::Credentials;

use crate::client::{Call, Client, ID, SECRET, Server, Signing, config, start};

const SIGNED: [Signing; 4] = [Signing::V4, Signing::V1, Signing::V4Url, Signing::V1Url];

#[tokio::test]
async fn every_signature_is_accepted_with_both_addressing_styles() {
    let (_server, mut client) = start().await;
    client.call(Call::put("dir/obj name.bin", b"hello")).await.expect(200);
    for signing in SIGNED {
        client.signing = signing;
        let get =
            Call::get("dir/obj name.bin").header("range", "bytes=1-2").query("response-cache-control", "no-store");
        assert_eq!(client.call(get.clone()).await.expect(206).body, b"el", "{signing:?}");
        assert_eq!(client.call(get.virtual_host()).await.expect(206).body, b"el", "{signing:?}");
        client.call(Call::bucket(Method::GET).query("prefix", "a/b c+&")).await.expect(200);
        client.call(Call::service(Method::GET)).await.expect(200);
    }
}

#[tokio::test]
async fn a_wrong_secret_is_noticed() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"1")).await.expect(200);
    client.credentials = Credentials::new(ID, "wrong-secret");
    for signing in SIGNED {
        client.signing = signing;
        let refused = client.call(Call::get("key")).await.refused(403, "SignatureDoesNotMatch");
        let error = refused.error();
        assert_eq!(error.get("OSSAccessKeyId"), Some(ID));
        let string_to_sign = error.get("StringToSign").unwrap();
        assert!(error.get("StringToSignBytes").unwrap().starts_with(&format!("{:02X} ", string_to_sign.as_bytes()[0])));
        assert!(!refused.text().contains(SECRET) && !refused.text().contains("wrong-secret"));
        client.call(Call::put("key", b"2")).await.refused(403, "SignatureDoesNotMatch");
        client.call(Call::head("key")).await.refused(403, "SignatureDoesNotMatch");
    }
    client.credentials = Credentials::new(ID, SECRET);
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, b"1");
}

#[tokio::test]
async fn an_unknown_key_is_noticed() {
    let (_server, mut client) = start().await;
    client.credentials = Credentials::new("nobody", SECRET);
    for signing in SIGNED {
        client.signing = signing;
        client.call(Call::get("key")).await.refused(403, "InvalidAccessKeyId");
    }
}

#[tokio::test]
async fn another_region_is_noticed() {
    let (_server, mut client) = start().await;
    client.region = "cn-beijing".to_owned();
    for signing in [Signing::V4, Signing::V4Url] {
        client.signing = signing;
        let refused = client.call(Call::get("key")).await.refused(400, "InvalidArgument");
        assert_eq!(refused.header("x-oss-ec"), "0002-00000226");
    }
    client.signing = Signing::V1;
    client.call(Call::get("key")).await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn clocks_may_differ_by_a_quarter_of_an_hour() {
    let (_server, mut client) = start().await;
    let now = SystemTime::now();
    let (near, far) = (Duration::from_secs(14 * 60), Duration::from_secs(16 * 60));
    for signing in [Signing::V4, Signing::V1] {
        client.signing = signing;
        for time in [now - near, now + near] {
            client.time = time;
            client.call(Call::get("key")).await.refused(404, "NoSuchKey");
        }
        for time in [now - far, now + far] {
            client.time = time;
            let refused = client.call(Call::get("key")).await.refused(403, "RequestTimeTooSkewed");
            assert_eq!(refused.header("x-oss-ec"), "0002-00000504");
            assert!(refused.header("date").ends_with("GMT"), "clients set their clock by it");
        }
    }
}

#[tokio::test]
async fn presigned_urls_expire() {
    let (_server, mut client) = start().await;
    // The client makes URLs that are valid for an hour.
    for signing in [Signing::V4Url, Signing::V1Url] {
        client.signing = signing;
        client.time = SystemTime::now() - Duration::from_secs(3500);
        client.call(Call::get("key")).await.refused(404, "NoSuchKey");
        client.time = SystemTime::now() - Duration::from_secs(3700);
        client.call(Call::get("key")).await.refused(403, "AccessDenied");
    }
}

/// Sends a request of which one piece was changed after signing.
async fn tampered(client: &mut Client, call: &Call, from: &str, to: &str) -> crate::client::Answer {
    let (head, body) = client.render(call);
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains(from), "{from:?} not in {head}");
    client.send(head.replacen(from, to, 1).as_bytes()).await;
    client.send(&body).await;
    client.receive(&call.method).await
}

#[tokio::test]
async fn what_was_changed_after_signing_is_noticed() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"1")).await.expect(200);
    for signing in [Signing::V4, Signing::V1] {
        client.signing = signing;
        let put = Call::put("key", b"2").header("x-oss-meta-a", "1").header("content-type", "text/plain");
        for (from, to) in [
            ("/key", "/other"),
            ("x-oss-meta-a: 1", "x-oss-meta-a: 2"),
            ("x-oss-meta-a: 1", "x-oss-meta-b: 1"),
            ("text/plain", "text/html"),
            ("PUT ", "POST /examplebucket/key?append&position=0 HTTP/1.1\r\nx-ignored: "),
        ] {
            tampered(&mut client, &put, from, to).await.refused(403, "SignatureDoesNotMatch");
        }
        tampered(&mut client, &Call::get("key"), "/key", "/key?acl").await.refused(403, "SignatureDoesNotMatch");
    }
    client.signing = Signing::V4;
    let list = Call::bucket(Method::GET).query("prefix", "a");
    tampered(&mut client, &list, "prefix=a", "prefix=b").await.refused(403, "SignatureDoesNotMatch");
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, b"1");
}

#[tokio::test]
async fn additional_headers_are_covered() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"hello")).await.expect(200);
    client.additional = vec!["host", "range"];
    for signing in [Signing::V4, Signing::V4Url] {
        client.signing = signing;
        let get = Call::get("key").header("range", "bytes=0-1");
        assert_eq!(client.call(get.clone()).await.expect(206).body, b"he");
        tampered(&mut client, &get, "bytes=0-1", "bytes=0-2").await.refused(403, "SignatureDoesNotMatch");
        let authority = client.authority.clone();
        tampered(&mut client, &get, &authority, "127.0.0.1:1").await.refused(403, "SignatureDoesNotMatch");
    }
}

#[tokio::test]
async fn a_signature_serves_every_range() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"hello")).await.expect(200);
    let get = Call::get("key").header("range", "bytes=0-1");
    assert_eq!(tampered(&mut client, &get, "bytes=0-1", "bytes=2-4").await.expect(206).body, b"llo");
}

#[tokio::test]
async fn malformed_signatures_are_refused() {
    let (_server, mut client) = start().await;
    client.signing = Signing::None;
    for value in ["OSS4-HMAC-SHA256 Credential=a", "OSS4-HMAC-SHA256", "OSS a", "Bearer x", "", "OSS4-HMAC-SHA256 x=y"]
    {
        let answer = client.call(Call::get("key").header("authorization", value)).await;
        assert!(matches!(answer.status, 400 | 403), "{value}: {answer:?}");
        answer.error();
    }
    let half = Call::get("key").query("OSSAccessKeyId", ID).query("Expires", "9999999999");
    client.call(half).await.refused(403, "AccessDenied");
    client.signing = Signing::V4;
    let both =
        Call::get("key").query("OSSAccessKeyId", ID).query("Expires", "9999999999").query("Signature", "c2lnbmF0dXJl");
    client.call(both).await.refused(400, "InvalidArgument");
}

#[tokio::test]
async fn anonymous_requests_follow_the_access_rules() {
    let (server, mut owner) = start().await;
    owner.call(Call::put("key", b"1")).await.expect(200);
    owner.call(Call::put("open", b"2").header("x-oss-object-acl", "public-read")).await.expect(200);
    let mut anyone = server.connect().await;
    anyone.signing = Signing::None;
    let rule = |rule| Call::bucket(Method::PUT).query("acl", "").header("x-oss-acl", rule);
    anyone.call(Call::get("key")).await.refused(403, "AccessDenied");
    anyone.call(Call::bucket(Method::GET)).await.refused(403, "AccessDenied");
    anyone.call(Call::service(Method::GET)).await.refused(403, "AccessDenied");
    assert_eq!(anyone.call(Call::get("open")).await.expect(200).body, b"2");

    owner.call(rule("public-read")).await.expect(200);
    assert_eq!(anyone.call(Call::get("key")).await.expect(200).body, b"1");
    anyone.call(Call::bucket(Method::GET)).await.expect(200);
    anyone.call(Call::put("key", b"3")).await.refused(403, "AccessDenied");
    anyone.call(rule("private")).await.refused(403, "AccessDenied");
    let override_type = Call::get("key").query("response-content-type", "text/html");
    anyone.call(override_type).await.refused(400, "InvalidRequest");
    owner.call(Call::put("closed", b"4").header("x-oss-object-acl", "private")).await.expect(200);
    anyone.call(Call::get("closed")).await.refused(403, "AccessDenied");

    owner.call(rule("public-read-write")).await.expect(200);
    anyone.call(Call::put("key", b"5")).await.expect(200);
    anyone.call(Call::bucket(Method::DELETE)).await.refused(403, "AccessDenied");
    assert_eq!(owner.call(Call::get("key")).await.body, b"5");
}

#[tokio::test]
async fn temporary_credentials_need_their_token() {
    let later = SystemTime::now() + Duration::from_secs(3600);
    let server = Server::start(EmulatorConfig {
        key_pairs: vec![
            KeyPair::new(ID, SECRET),
            KeyPair::new("sts-id", "sts-secret").with_security_token("token", Some(later)),
            KeyPair::new("old-id", "old-secret").with_security_token("token", Some(SystemTime::UNIX_EPOCH)),
        ],
        ..config()
    })
    .await;
    let mut client = server.connect().await;
    for signing in SIGNED {
        client.signing = signing;
        client.credentials = Credentials::new("sts-id", "sts-secret").with_security_token("token");
        client.call(Call::get("key")).await.refused(404, "NoSuchKey");
        client.credentials = Credentials::new("sts-id", "sts-secret").with_security_token("other");
        client.call(Call::get("key")).await.refused(403, "InvalidSecurityToken");
        client.credentials = Credentials::new("sts-id", "sts-secret");
        client.call(Call::get("key")).await.refused(403, "InvalidAccessKeyId");
        client.credentials = Credentials::new("old-id", "old-secret").with_security_token("token");
        client.call(Call::get("key")).await.refused(403, "SecurityTokenExpired");
        client.credentials = Credentials::new(ID, SECRET);
        client.call(Call::get("key")).await.refused(404, "NoSuchKey");
    }
}

#[tokio::test]
async fn checking_can_be_turned_off() {
    let server = Server::start(EmulatorConfig { verify_signatures: false, ..config() }).await;
    let mut client = server.connect().await;
    client.signing = Signing::None;
    client.call(Call::put("key", b"1")).await.expect(200);
    client.signing = Signing::V4;
    client.credentials = Credentials::new("nobody", "nothing");
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, b"1");
}
