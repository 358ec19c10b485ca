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
        let found = client.call(ask(name)).await.expect(200);
        // What the service adds.
        let added = ["<ResponseVary>false</ResponseVary>", "<AllowTruncateQueryString>true</AllowTruncateQueryString>"];
        let text = added.iter().fold(found.text().to_owned(), |text, added| text.replace(added, ""));
        let text = text.trim_start_matches("<?xml version=\"1.0\" encoding=\"UTF-8\"?>").trim_start();
        assert_eq!(text, document);
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
    let by_all = |text: &str| Call::service(Method::GET).query("tagging", text);
    let one = client.call(by_all(r#""env":"test""#)).await.expect(200);
    assert!(one.text().contains("<Name>bucket-a</Name>") && !one.text().contains("bucket-b"), "{}", one.text());
    let none = client.call(by_all(r#""env":"test","team":"dev""#)).await.expect(200);
    assert!(!none.text().contains("<Name>"), "{}", none.text());
    client.call(by_all("env:test")).await.refused(400, "InvalidArgument");
    client.call(by_all(r#""env":"test""#).query("tag-key", "env")).await.refused(400, "InvalidArgument");
}

#[tokio::test]
async fn parts_of_a_configuration_must_fit_each_other() {
    let (_server, mut client) = start().await;
    let put = |name: &str, body: &str| Call::bucket(Method::PUT).query(name, "").body(body.as_bytes());
    let rule = |text: &str| format!("<LifecycleConfiguration><Rule>{text}</Rule></LifecycleConfiguration>");
    let transition = |days: u32, class: &str| {
        format!("<Transition><Days>{days}</Days><StorageClass>{class}</StorageClass></Transition>")
    };
    let end = |days: u32| format!("<Expiration><Days>{days}</Days></Expiration>");
    for (text, code) in [
        (end(3) + &transition(4, "IA"), "InvalidArgument"),
        (transition(5, "IA") + &transition(2, "Archive"), "InvalidArgument"),
        (transition(5, "Standard"), "InvalidArgument"),
        (
            "<Expiration><CreatedBeforeDate>2016-12-25T00:00:00.000Z</CreatedBeforeDate></Expiration>".to_owned()
                + &transition(5, "IA"),
            "InvalidRequest",
        ),
        ("<Tag><Key>%&amp;</Key><Value>v</Value></Tag>".to_owned(), "InvalidTag"),
    ] {
        client.call(put("lifecycle", &rule(&text))).await.refused(400, code);
    }
    client
        .call(put("lifecycle", &rule(&(end(9) + &transition(5, "Archive") + &transition(2, "IA")))))
        .await
        .expect(200);
    let encrypted = |text: &str| {
        format!(
            "<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault>{text}\
             </ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>"
        )
    };
    let key = "<KMSMasterKeyID>k</KMSMasterKeyID>";
    let aes = "<SSEAlgorithm>AES256</SSEAlgorithm>";
    client.call(put("encryption", &encrypted(&format!("{aes}{key}")))).await.refused(400, "InvalidArgument");
    let unknown = encrypted("<SSEAlgorithm>x</SSEAlgorithm>");
    client.call(put("encryption", &unknown)).await.refused(400, "InvalidEncryptionAlgorithmError");
    client.call(put("encryption", &encrypted("<SSEAlgorithm>KMS</SSEAlgorithm>"))).await.expect(200);
    let written = client.call(Call::put("key", b"1")).await.expect(200);
    assert_eq!(written.header("x-oss-server-side-encryption"), "KMS");
    assert!(!written.header("x-oss-server-side-encryption-key-id").is_empty());
}

#[tokio::test]
async fn a_capacity_bounds_what_a_bucket_holds() {
    let (_server, mut client) = start().await;
    assert_eq!(client.call(ask("qos")).await.expect(200).element("StorageCapacity"), "-1");
    let put = |number: &str| {
        let body = format!("<BucketUserQos><StorageCapacity>{number}</StorageCapacity></BucketUserQos>");
        Call::bucket(Method::PUT).query("qos", "").body(body.as_bytes())
    };
    client.call(put("-2")).await.refused(400, "InvalidArgument");
    client.call(put("0")).await.expect(200);
    client.call(Call::put("key", b"1")).await.refused(403, "QuotaExceeded");
    client.call(put("1")).await.expect(200);
    client.call(Call::put("key", b"1")).await.expect(200);

    let server = Server::start(oss_emulator::EmulatorConfig { quota: Some(10), ..config() }).await;
    let mut client = server.connect().await;
    client.call(Call::put("a", &[0; 6])).await.expect(200);
    client.call(Call::put("b", &[0; 6])).await.refused(403, "QuotaExceeded");
    client.call(Call::put("a", &[0; 10])).await.expect(200);
    client.call(Call::object(Method::DELETE, "a")).await.expect(204);
    client.call(Call::put("b", &[0; 6])).await.expect(200);
}

#[tokio::test]
async fn monitors_are_answered_without_a_key() {
    let config = oss_emulator::EmulatorConfig { requests_per_second: Some(2), ..config() };
    let server = Server::start(config).await;
    let mut client = server.connect().await;
    let statuses = [
        client.call(Call::put("key", b"1")).await.status,
        client.call(Call::get("key")).await.status,
        client.call(Call::get("key")).await.status,
    ];
    assert_eq!(statuses, [200, 200, 503]);
    let mut monitor = server.connect_unsigned().await;
    let metrics = monitor.get_path("/-/metrics").await.expect(200);
    for line in [
        "oss_requests_total{operation=\"PutObject\"} 1",
        "oss_requests_total{operation=\"GetObject\"} 2",
        "oss_responses_total{status=\"503\"} 1",
        "oss_requests_in_flight 0",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{}", metrics.text());
    }
    assert_eq!(monitor.get_path("/-/health").await.expect(200).text(), "ok\n");
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
