//! Making, describing and deleting buckets.

use http::Method;
use oss_protocol::xml::Document;
use oss_protocol::xml::bucket::{AccessControlPolicy, BucketInfo, BucketStat, ListBucketsResult, LocationConstraint};

use crate::client::{BUCKET, Call, Server, config, start};

#[tokio::test]
async fn a_bucket_comes_and_goes() {
    let (_server, mut client) = start().await;
    let other = |method| Call::bucket(method).of("other-bucket");
    client.call(other(Method::GET)).await.refused(404, "NoSuchBucket");
    client.call(other(Method::PUT)).await.expect(200);
    client.call(other(Method::PUT)).await.expect(200);
    client.call(Call::put("key", b"1").of("other-bucket")).await.expect(200);
    let refused = client.call(other(Method::DELETE)).await.refused(409, "BucketNotEmpty");
    assert_eq!(refused.header("x-oss-ec"), "0015-00000301");
    client.call(Call::object(Method::DELETE, "key").of("other-bucket")).await.expect(204);
    client.call(other(Method::DELETE)).await.expect(204);
    client.call(other(Method::DELETE)).await.refused(404, "NoSuchBucket");
    client.call(Call::put("key", b"1").of("other-bucket")).await.refused(404, "NoSuchBucket");
}

#[tokio::test]
async fn a_bucket_with_uploads_is_not_empty() {
    let (_server, mut client) = start().await;
    client.call(Call::object(Method::POST, "key").query("uploads", "")).await.expect(200);
    client.call(Call::bucket(Method::DELETE)).await.refused(409, "BucketNotEmpty");
}

#[tokio::test]
async fn a_bucket_is_described() {
    let (_server, mut client) = start().await;
    let body = b"<CreateBucketConfiguration><StorageClass>IA</StorageClass></CreateBucketConfiguration>";
    let put = Call::bucket(Method::PUT).of("other-bucket").header("x-oss-acl", "public-read").body(body);
    client.call(put).await.expect(200);
    client.call(Call::put("a", b"12345").of("other-bucket")).await.expect(200);
    client.call(Call::object(Method::POST, "b").of("other-bucket").query("uploads", "")).await.expect(200);
    let ask = |name: &str| Call::bucket(Method::GET).of("other-bucket").query(name, "");

    let info = client.call(ask("bucketInfo")).await.expect(200);
    let info = BucketInfo::parse(&info.body).unwrap();
    assert_eq!((info.name.as_str(), info.location.as_str()), ("other-bucket", "oss-cn-hangzhou"));
    assert_eq!((info.storage_class.as_str(), info.acl.as_str()), ("IA", "public-read"));

    let location = client.call(ask("location")).await.expect(200);
    assert_eq!(LocationConstraint::parse(&location.body).unwrap().location, "oss-cn-hangzhou");

    let stat = client.call(ask("stat")).await.expect(200);
    let stat = BucketStat::parse(&stat.body).unwrap();
    assert_eq!((stat.storage, stat.object_count, stat.multipart_upload_count), (5, 1, 1));
    assert_eq!((stat.infrequent_access_storage, stat.infrequent_access_object_count), (5, 1));
    assert_eq!((stat.standard_storage, stat.standard_object_count), (0, 0));

    let head = client.call(Call::head("a").of("other-bucket")).await.expect(200);
    assert_eq!(head.header("x-oss-storage-class"), "IA");
    for name in ["bucketInfo", "location", "stat", "acl"] {
        client.call(ask(name).of("no-such-bucket")).await.refused(404, "NoSuchBucket");
    }
}

#[tokio::test]
async fn access_rules_are_kept() {
    let (_server, mut client) = start().await;
    let bucket = |method| Call::bucket(method).query("acl", "");
    let put = bucket(Method::PUT).header("x-oss-acl", "public-read-write");
    client.call(put).await.expect(200);
    let answer = client.call(bucket(Method::GET)).await.expect(200);
    assert_eq!(AccessControlPolicy::parse(&answer.body).unwrap().grant, "public-read-write");
    client.call(bucket(Method::PUT).header("x-oss-acl", "everyone")).await.refused(400, "InvalidArgument");
    client.call(bucket(Method::PUT).header("x-oss-acl", "default")).await.refused(400, "InvalidArgument");
    client.call(bucket(Method::PUT)).await.refused(400, "MissingArgument");

    let object = |method| Call::object(method, "key").query("acl", "");
    client.call(Call::put("key", b"1").header("x-oss-object-acl", "private")).await.expect(200);
    let answer = client.call(object(Method::GET)).await.expect(200);
    assert_eq!(AccessControlPolicy::parse(&answer.body).unwrap().grant, "private");
    client.call(object(Method::PUT).header("x-oss-object-acl", "default")).await.expect(200);
    let answer = client.call(object(Method::GET)).await.expect(200);
    assert_eq!(AccessControlPolicy::parse(&answer.body).unwrap().grant, "default");
    assert_eq!(client.call(Call::get("key")).await.expect(200).body, b"1");
}

#[tokio::test]
async fn bad_descriptions_are_refused() {
    let (_server, mut client) = start().await;
    let put = |body: &[u8]| Call::bucket(Method::PUT).of("other-bucket").body(body);
    client.call(put(b"{}")).await.refused(400, "MalformedXML");
    let unknown = b"<CreateBucketConfiguration><StorageClass>Cheap</StorageClass></CreateBucketConfiguration>";
    client.call(put(unknown)).await.refused(400, "InvalidArgument");
    client.call(Call::bucket(Method::PUT).of("-bad")).await.refused(400, "InvalidBucketName");
    client.call(Call::bucket(Method::PUT).of("ab")).await.refused(400, "InvalidBucketName");
    client.call(Call::bucket(Method::PUT).query("qosInfo", "")).await.refused(400, "NotImplemented");
    client.call(Call::bucket(Method::GET).of("other-bucket")).await.refused(404, "NoSuchBucket");
}

#[tokio::test]
async fn buckets_are_listed_in_pages() {
    let (_server, mut client) = start().await;
    for name in ["bucket-c", "bucket-a", "bucket-b"] {
        client.call(Call::bucket(Method::PUT).of(name)).await.expect(200);
    }
    let names = |answer: &crate::client::Answer| {
        let result = ListBucketsResult::parse(&answer.body).unwrap();
        let names: Vec<_> = result.buckets.iter().map(|bucket| bucket.name.clone()).collect();
        (names, result.next_marker)
    };
    let all = client.call(Call::service(Method::GET)).await.expect(200);
    assert_eq!(names(&all).0, ["bucket-a", "bucket-b", "bucket-c", BUCKET]);
    let first = Call::service(Method::GET).query("prefix", "bucket-").query("max-keys", "2");
    let (page, next) = names(&client.call(first).await.expect(200));
    assert_eq!((page, next.as_deref()), (vec!["bucket-a".to_owned(), "bucket-b".to_owned()], Some("bucket-b")));
    let second = Call::service(Method::GET).query("prefix", "bucket-").query("marker", "bucket-b");
    assert_eq!(names(&client.call(second).await.expect(200)), (vec!["bucket-c".to_owned()], None));
    client.call(Call::service(Method::GET).query("max-keys", "0")).await.refused(400, "InvalidArgument");
    client.call(Call::service(Method::PUT)).await.refused(405, "MethodNotAllowed");
}

#[tokio::test]
async fn the_redundancy_of_a_bucket_stays() {
    let root = tempfile::tempdir().unwrap();
    let stored = || oss_emulator::EmulatorConfig { root: Some(root.path().to_owned()), ..config() };
    let put = |kind: &str| {
        let body = format!(
            "<CreateBucketConfiguration><DataRedundancyType>{kind}</DataRedundancyType></CreateBucketConfiguration>"
        );
        Call::bucket(Method::PUT).of("zones").body(body.as_bytes())
    };
    let server = Server::start(stored()).await;
    let mut client = server.connect().await;
    client.call(put("XRS")).await.refused(400, "InvalidArgument");
    client.call(put("ZRS")).await.expect(200);
    // A change of the access control list writes the bucket once more.
    client.call(Call::bucket(Method::PUT).of("zones").header("x-oss-acl", "private")).await.expect(200);
    drop(client);
    server.stop().await;
    let server = Server::start(stored()).await;
    let mut client = server.connect().await;
    let info = Call::bucket(Method::GET).of("zones").query("bucketInfo", "");
    assert_eq!(client.call(info).await.expect(200).element("DataRedundancyType"), "ZRS");
    client.call(put("ZRS")).await.expect(200);
    client.call(put("LRS")).await.refused(409, "BucketAlreadyExists");
}
