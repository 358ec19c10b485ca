//! What buckets are configured with, and what the service says of what nobody has configured.

use http::Method;

use crate::client::{BUCKET, Call, Server, config, start};

fn ask(name: &str) -> Call {
    Call::bucket(Method::GET).query(name, "")
}

#[tokio::test]
async fn what_nobody_has_configured_is_answered_as_the_service_does() {
    let (_server, mut client) = start().await;
    for (name, code) in [
        ("cors", "NoSuchCORSConfiguration"),
        ("encryption", "NoSuchServerSideEncryptionRule"),
        ("lifecycle", "NoSuchLifecycle"),
        ("policy", "NoSuchBucketPolicy"),
        ("replication", "NoSuchReplicationConfiguration"),
        ("transferAcceleration", "NoSuchTransferAccelerationConfiguration"),
        ("website", "NoSuchWebsiteConfiguration"),
    ] {
        client.call(ask(name)).await.refused(404, code);
    }
    client.call(ask("inventory").query("inventoryId", "a")).await.refused(404, "NoSuchInventory");
    for (name, root) in [
        ("inventory", "ListInventoryConfigurationsResult"),
        ("live", "ListLiveChannelResult"),
        ("logging", "BucketLoggingStatus"),
        ("referer", "RefererConfiguration"),
        ("requestPayment", "RequestPaymentConfiguration"),
        ("tagging", "Tagging"),
        ("versioning", "VersioningConfiguration"),
    ] {
        let answer = client.call(ask(name)).await.expect(200);
        assert!(answer.text().contains(&format!("<{root}>")), "{}", answer.text());
        client.call(ask(name).of("no-such-bucket")).await.refused(404, "NoSuchBucket");
    }
}

#[tokio::test]
async fn a_configuration_is_returned_as_it_came_also_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let stored = || oss_emulator::EmulatorConfig { root: Some(root.path().to_owned()), ..config() };
    let documents = [
        (
            "cors",
            "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>",
        ),
        (
            "encryption",
            "<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>",
        ),
        ("lifecycle", "<LifecycleConfiguration><Rule><ID>a</ID></Rule></LifecycleConfiguration>"),
        ("logging", "<BucketLoggingStatus><LoggingEnabled/></BucketLoggingStatus>"),
        (
            "policy",
            r#"{"Version":"1","Statement":[{"Effect":"Deny","Action":"oss:PutObject","Principal":["x"],"Resource":"*"}]}"#,
        ),
        ("referer", "<RefererConfiguration><AllowEmptyReferer>false</AllowEmptyReferer></RefererConfiguration>"),
        ("tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>"),
        ("website", "<WebsiteConfiguration/>"),
    ];
    let server = Server::start(stored()).await;
    let mut client = server.connect().await;
    for (name, document) in documents {
        let put = Call::bucket(Method::PUT).query(name, "");
        client.call(put.clone().body(b"<Other/>")).await.expect(400);
        client.call(put.clone().body(b"")).await.expect(400);
        client.call(put.body(document.as_bytes())).await.expect(200);
    }
    drop(client);
    server.stop().await;
    let server = Server::start(stored()).await;
    let mut client = server.connect().await;
    for (name, document) in documents {
        assert_eq!(client.call(ask(name)).await.expect(200).text(), document);
    }
    assert_eq!(client.call(Call::put("key", b"1")).await.expect(200).header("x-oss-server-side-encryption"), "AES256");
    for (name, _) in documents.iter().filter(|(name, _)| *name != "referer") {
        client.call(Call::bucket(Method::DELETE).query(name, "")).await.expect(204);
    }
    client.call(ask("lifecycle")).await.refused(404, "NoSuchLifecycle");
    client.call(ask("policy")).await.refused(404, "NoSuchBucketPolicy");
    let put = client.call(Call::put("key", b"1")).await.expect(200);
    assert_eq!(put.header("x-oss-server-side-encryption"), "");
    assert_eq!(client.call(Call::head("key").of(BUCKET)).await.expect(200).header("content-length"), "1");
}

#[tokio::test]
async fn browsers_are_answered_by_the_rules_for_other_origins() {
    let (_server, mut client) = start().await;
    let preflight = |origin: &str, method: &str| {
        Call::object(Method::OPTIONS, "key")
            .header("origin", origin)
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "x-a, X-B")
    };
    client.call(Call::object(Method::OPTIONS, "key")).await.refused(400, "BadRequest");
    client.call(preflight("https://a.test", "PUT")).await.refused(403, "AccessForbidden");
    let rules =
        b"<CORSConfiguration><CORSRule><AllowedOrigin>https://*.test</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>\
        <AllowedHeader>x-*</AllowedHeader><ExposeHeader>etag</ExposeHeader><MaxAgeSeconds>7</MaxAgeSeconds></CORSRule>\
        </CORSConfiguration>";
    client.call(Call::bucket(Method::PUT).query("cors", "").body(rules)).await.expect(200);
    let allowed = client.call(preflight("https://a.test", "PUT")).await.expect(200);
    assert_eq!(allowed.header("access-control-allow-origin"), "https://a.test");
    assert_eq!(allowed.header("access-control-allow-methods"), "PUT");
    assert_eq!(allowed.header("access-control-allow-headers"), "x-a, X-B");
    assert_eq!(allowed.header("access-control-max-age"), "7");
    client.call(preflight("https://a.example", "PUT")).await.refused(403, "AccessForbidden");
    client.call(preflight("https://a.test", "GET")).await.refused(403, "AccessForbidden");
    let put = client.call(Call::put("key", b"1").header("origin", "https://a.test")).await.expect(200);
    assert_eq!(put.header("access-control-allow-origin"), "https://a.test");
    assert_eq!(put.header("access-control-expose-headers"), "etag");
    let get = client.call(Call::get("key").header("origin", "https://a.test")).await.expect(200);
    assert_eq!(get.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn an_unversioned_bucket_lists_its_objects_as_versions() {
    let (_server, mut client) = start().await;
    for key in ["a", "b", "c/1"] {
        client.call(Call::put(key, b"1")).await.expect(200);
    }
    let first = client.call(ask("versions").query("max-keys", "2")).await.expect(200);
    assert_eq!(first.text().matches("<VersionId>null</VersionId>").count(), 2);
    assert_eq!((first.element("IsTruncated"), first.element("NextKeyMarker")), ("true", "b"));
    let rest = ask("versions").query("key-marker", "b").query("version-id-marker", "null").query("delimiter", "/");
    let rest = client.call(rest).await.expect(200);
    assert!(rest.text().contains("<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes>"), "{}", rest.text());
    assert_eq!(client.call(Call::get("a").query("versionId", "null")).await.expect(200).body, b"1");
    client.call(Call::object(Method::DELETE, "a").query("versionId", "x")).await.refused(404, "NoSuchVersion");
    client.call(Call::object(Method::DELETE, "a").query("versionId", "null")).await.expect(204);
    client.call(Call::get("a")).await.refused(404, "NoSuchKey");
}

#[tokio::test]
async fn buckets_are_listed_by_their_tags() {
    let (_server, mut client) = start().await;
    let tag =
        |value: &str| format!("<Tagging><TagSet><Tag><Key>env</Key><Value>{value}</Value></Tag></TagSet></Tagging>");
    for (name, value) in [("bucket-a", "test"), ("bucket-b", "prod")] {
        client.call(Call::bucket(Method::PUT).of(name)).await.expect(200);
        let put = Call::bucket(Method::PUT).of(name).query("tagging", "").body(tag(value).as_bytes());
        client.call(put).await.expect(200);
    }
    let list = || Call::service(Method::GET).query("tag-key", "env");
    let all = client.call(list()).await.expect(200);
    assert_eq!(all.text().matches("<Name>").count(), 2, "{}", all.text());
    let one = client.call(list().query("tag-value", "prod")).await.expect(200);
    assert!(one.text().contains("<Name>bucket-b</Name>") && !one.text().contains("bucket-a"), "{}", one.text());
}

#[tokio::test]
async fn regions() {
    let (_server, mut client) = start().await;
    let regions = client.call(Call::service(Method::GET).query("regions", "")).await.expect(200);
    assert_eq!(regions.element("Region"), "oss-cn-hangzhou");
    client.call(Call::service(Method::GET).query("regions", "oss-cn-hangzhou")).await.expect(200);
    client.call(Call::service(Method::GET).query("regions", "oss-x")).await.refused(404, "NoSuchRegion");
}

#[tokio::test]
async fn new_buckets_block_access_for_everyone() {
    let server = Server::start(oss_emulator::EmulatorConfig { block_public_access: true, ..config() }).await;
    let mut client = server.connect().await;
    let public = |call: Call| call.header("x-oss-acl", "public-read");
    let refused = client.call(public(Call::bucket(Method::PUT).of("other-bucket"))).await.refused(403, "AccessDenied");
    assert!(refused.text().contains("public bucket acl"), "{}", refused.text());
    client.call(public(Call::bucket(Method::PUT).query("acl", ""))).await.refused(403, "AccessDenied");
    client.call(public(Call::bucket(Method::PUT))).await.refused(403, "AccessDenied");
    let put = |body: &[u8]| Call::put("key", body).header("x-oss-object-acl", "public-read");
    client.call(put(b"1")).await.refused(403, "AccessDenied");
    let policy =
        br#"{"Version":"1","Statement":[{"Effect":"Allow","Action":"oss:GetObject","Principal":["*"],"Resource":"*"}]}"#;
    let policy = Call::bucket(Method::PUT).query("policy", "").body(policy);
    client.call(policy.clone()).await.refused(403, "AccessDenied");
    assert!(
        client.call(ask("bucketInfo")).await.expect(200).text().contains("<BlockPublicAccess>true</BlockPublicAccess>")
    );
    assert_eq!(client.call(ask("policyStatus")).await.expect(200).element("IsPublic"), "false");

    client.call(Call::bucket(Method::DELETE).query("publicAccessBlock", "")).await.expect(204);
    client.call(policy).await.expect(200);
    client.call(put(b"1")).await.expect(200);
    assert_eq!(client.call(ask("policyStatus")).await.expect(200).element("IsPublic"), "true");
    let mut anyone = server.connect_unsigned().await;
    assert_eq!(anyone.call(Call::get("key")).await.expect(200).body, b"1");

    let block =
        b"<PublicAccessBlockConfiguration><BlockPublicAccess>true</BlockPublicAccess></PublicAccessBlockConfiguration>";
    client.call(Call::bucket(Method::PUT).query("publicAccessBlock", "").body(block)).await.expect(200);
    anyone.call(Call::get("key")).await.refused(403, "AccessDenied");
}

#[tokio::test]
async fn a_bucket_may_be_put_again_by_its_owner() {
    let (_server, mut client) = start().await;
    let again = |body: &[u8]| Call::bucket(Method::PUT).body(body);
    let class = |name: &str| {
        format!("<CreateBucketConfiguration><StorageClass>{name}</StorageClass></CreateBucketConfiguration>")
            .into_bytes()
    };
    client.call(again(b"")).await.expect(200);
    client.call(again(&class("Standard"))).await.expect(200);
    client.call(again(&class("Archive"))).await.refused(409, "BucketAlreadyExists");
    let redundancy =
        b"<CreateBucketConfiguration><DataRedundancyType>ZRS</DataRedundancyType></CreateBucketConfiguration>";
    client.call(again(redundancy)).await.refused(409, "BucketAlreadyExists");
    client.call(again(b"").header("x-oss-acl", "public-read")).await.expect(200);
    let acl = client.call(ask("acl")).await.expect(200);
    assert_eq!(acl.element("Grant"), "public-read");
}
