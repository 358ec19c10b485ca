//! The requests that are accepted.

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
        let place = if signing == Signing::V4 { "region in Authorization header" } else { "region in credential" };
        assert!(refused.text().contains(place), "{}", refused.text());
    }
    // oss2 signs so if nobody names a region.
    client.region = String::new();
    let refused = client.call(Call::get("key")).await.refused(400, "InvalidArgument");
    assert!(refused.text().contains("The signing region in credential is invalid."), "{}", refused.text());
    client.region = "cn-beijing".to_owned();
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
async fn a_change_after_signing_is_noticed() {
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
async fn additional_headers_are_signed_as_declared() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"hello")).await.expect(200);
    let get = Call::get("key").header("range", "bytes=0-1").header("x-other", "1");
    // Declared, and not signed.
    for declared in ["range", "x-other", "host;range"] {
        let field = format!(",AdditionalHeaders={declared},Signature=");
        tampered(&mut client, &get, ",Signature=", &field).await.refused(403, "SignatureDoesNotMatch");
    }
    // Declared, and neither sent nor signed; declared, and signed anyway.
    for declared in ["x-absent", "x-oss-date", "content-md5;x-oss-content-sha256"] {
        let field = format!(",AdditionalHeaders={declared},Signature=");
        tampered(&mut client, &get, ",Signature=", &field).await.expect(206);
    }
    let empty = tampered(&mut client, &get, ",Signature=", ",AdditionalHeaders=,Signature=").await;
    assert_eq!(empty.refused(400, "InvalidArgument").header("x-oss-ec"), "0002-00000209");
    // Signed, and not declared any more; signed, and not sent any more.
    client.additional = vec!["range", "x-other"];
    for (from, to) in [
        ("AdditionalHeaders=range;x-other,", ""),
        ("AdditionalHeaders=range;x-other,", "AdditionalHeaders=x-other,"),
        ("AdditionalHeaders=range;x-other,", "AdditionalHeaders=host;range;x-other,"),
        ("range: bytes=0-1\r\n", ""),
        ("x-other: 1\r\n", "x-renamed: 1\r\n"),
    ] {
        tampered(&mut client, &get, from, to).await.refused(403, "SignatureDoesNotMatch");
    }
    // The order of the declaration means nothing.
    let from = "AdditionalHeaders=range;x-other,";
    assert_eq!(tampered(&mut client, &get, from, "AdditionalHeaders=x-other;Range,").await.expect(206).body, b"he");
}

#[tokio::test]
async fn a_signature_is_for_one_host() {
    let (_server, mut client) = start().await;
    client.call(Call::put("key", b"hello")).await.expect(200);
    client.call(Call::bucket(Method::PUT).of("another")).await.expect(200);
    client.call(Call::put("key", b"hello").of("another")).await.expect(200);
    for signing in SIGNED {
        client.signing = signing;
        let get = Call::get("key").virtual_host();
        // The bucket in the host is part of what is signed, whatever the rest of the host.
        let moved = tampered(&mut client, &get, "examplebucket.oss.test", "another.oss.test").await;
        moved.refused(403, "SignatureDoesNotMatch");
        tampered(&mut client, &get, "examplebucket.oss.test", "examplebucket.oss.test:8080").await.expect(200);
        let authority = client.authority.clone();
        let in_path = tampered(&mut client, &Call::get("key"), &authority, "oss.test").await;
        in_path.refused(403, "SecondLevelDomainForbidden");
    }
    // Signed as a whole, the host must be that very one.
    client.additional = vec!["host"];
    for signing in [Signing::V4, Signing::V4Url] {
        client.signing = signing;
        let get = Call::get("key").virtual_host();
        client.call(get.clone()).await.expect(200);
        let moved = tampered(&mut client, &get, "examplebucket.oss.test", "examplebucket.oss.test:8080").await;
        moved.refused(403, "SignatureDoesNotMatch");
    }
}

#[tokio::test]
async fn a_signature_is_for_one_day_and_product() {
    let (_server, mut client) = start().await;
    let get = Call::get("key");
    // The first makes the server keep the signing key of the day, which must not help the others.
    client.call(get.clone()).await.refused(404, "NoSuchKey");
    let (head, _) = client.render(&get);
    let head = String::from_utf8(head).unwrap();
    let day = head.split("Credential=test-id/").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let other_day = tampered(&mut client, &get, &format!("test-id/{day}"), "test-id/20200101").await;
    other_day.refused(400, "InvalidArgument");
    let other_product = tampered(&mut client, &get, "/oss/", "/oss-cloudbox/").await;
    assert_eq!(other_product.refused(400, "InvalidArgument").header("x-oss-ec"), "0002-00000227");
    let no_date = tampered(&mut client, &get, "x-oss-date: ", "x-no-date: ").await;
    assert_eq!(no_date.refused(403, "AccessDenied").header("x-oss-ec"), "0002-00000503");
    let no_day = tampered(&mut client, &get, &format!("x-oss-date: {day}"), "x-oss-date: 2020").await;
    no_day.refused(400, "InvalidArgument");
    client.credentials = Credentials::new(ID, "wrong-secret");
    client.call(get.clone()).await.refused(403, "SignatureDoesNotMatch");
    client.credentials = Credentials::new(ID, SECRET);
    client.call(get).await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn presigned_urls_last_a_week_at_most() {
    let (_server, mut client) = start().await;
    client.signing = Signing::V4Url;
    for expires in ["0", "604801", "-1", "soon"] {
        let to = format!("x-oss-expires={expires}");
        let refused = tampered(&mut client, &Call::get("key"), "x-oss-expires=3600", &to).await;
        assert_eq!(refused.refused(400, "InvalidArgument").header("x-oss-ec"), "0002-00000232");
    }
    // A signature that is not expired when someone says so is one that does not match.
    let longer = tampered(&mut client, &Call::get("key"), "x-oss-expires=3600", "x-oss-expires=604800").await;
    longer.refused(403, "SignatureDoesNotMatch");
    // Dated ahead: a quarter of an hour is forgiven.
    client.time = SystemTime::now() + Duration::from_secs(14 * 60);
    client.call(Call::get("key")).await.refused(404, "NoSuchKey");
    client.time = SystemTime::now() + Duration::from_secs(16 * 60);
    client.call(Call::get("key")).await.refused(403, "AccessDenied");
}

#[tokio::test]
async fn each_of_several_key_pairs_works_with_its_own_secret() {
    let pairs = [("first", "secret-1"), ("second", "secret-2"), ("third", "secret-3")];
    let key_pairs = pairs.iter().map(|(id, secret)| KeyPair::new(*id, *secret)).collect();
    let server = Server::start(EmulatorConfig { key_pairs, ..config() }).await;
    let mut client = server.connect().await;
    for signing in SIGNED {
        client.signing = signing;
        // Twice, the second time with what the server kept from the first.
        for _ in 0..2 {
            for (id, _) in pairs {
                for (owner, secret) in pairs {
                    client.credentials = Credentials::new(id, secret);
                    let answer = client.call(Call::get("key")).await;
                    if id == owner {
                        answer.refused(404, "NoSuchKey");
                    } else {
                        answer.refused(403, "SignatureDoesNotMatch");
                    }
                }
            }
        }
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
