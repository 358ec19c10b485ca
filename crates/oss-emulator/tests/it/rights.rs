//! Users with rights of their own.

use http::Method;
use oss_emulator::{Emulator, EmulatorConfig, KeyPair};

use crate::client::{Call, Client, ID, SECRET, Server, config};

const READ_ONLY: &str = r#"{"Version": "1", "Statement": [{"Effect": "Allow",
    "Action": ["oss:Get*", "oss:List*"], "Resource": ["acs:oss:*:*:examplebucket", "acs:oss:*:*:examplebucket/*"]}]}"#;
const ONE_PREFIX: &str = r#"{"Version": "1", "Statement": [
    {"Effect": "Allow", "Action": "oss:*", "Resource": "acs:oss:*:*:examplebucket/mine/*"},
    {"Effect": "Allow", "Action": "oss:ListObjects", "Resource": "acs:oss:*:*:examplebucket",
     "Condition": {"StringLike": {"oss:Prefix": "mine/*"}}},
    {"Effect": "Deny", "Action": "oss:DeleteObject", "Resource": "*"}]}"#;
const WRITE_ONLY: &str = r#"{"Version": "1", "Statement": [{"Effect": "Allow",
    "Action": ["oss:PutObject", "oss:AbortMultipartUpload"], "Resource": "acs:oss:*:*:examplebucket/*"}]}"#;

async fn start(policy: &str) -> (Server, Client, Client) {
    let pairs = vec![KeyPair::new(ID, SECRET), KeyPair::new("user", "user-secret").with_policy(policy)];
    let server = Server::start(EmulatorConfig { key_pairs: pairs, ..config() }).await;
    let owner = server.connect().await;
    let user = server.connect_as("user", "user-secret").await;
    (server, owner, user)
}

fn denied(code: &str, action: &str, answer: &crate::client::Answer) {
    assert_eq!((answer.status, code), (403, "AccessDenied"));
    assert!(answer.text().contains(&format!("<AuthAction>oss:{action}</AuthAction>")), "{}", answer.text());
}

#[tokio::test]
async fn a_reader_does_not_write() {
    let (_server, mut owner, mut user) = start(READ_ONLY).await;
    owner.call(Call::put("key", b"1")).await.expect(200);
    assert_eq!(user.call(Call::get("key")).await.expect(200).body, b"1");
    user.call(Call::head("key")).await.expect(200);
    user.call(Call::bucket(Method::GET)).await.expect(200);
    for (call, action) in [
        (Call::put("key", b"2"), "PutObject"),
        (Call::object(Method::DELETE, "key"), "DeleteObject"),
        (Call::object(Method::POST, "key").query("uploads", ""), "PutObject"),
        (Call::object(Method::PUT, "copy").header("x-oss-copy-source", "/examplebucket/key"), "PutObject"),
        (Call::bucket(Method::PUT).of("another"), "PutBucket"),
        (Call::bucket(Method::DELETE), "DeleteBucket"),
    ] {
        denied("AccessDenied", action, &user.call(call).await.refused(403, "AccessDenied"));
    }
    assert_eq!(owner.call(Call::get("key")).await.expect(200).body, b"1");
}

#[tokio::test]
async fn a_user_of_one_prefix_stays_in_it() {
    let (_server, mut owner, mut user) = start(ONE_PREFIX).await;
    for key in ["mine/a", "other"] {
        owner.call(Call::put(key, b"1")).await.expect(200);
    }
    user.call(Call::put("mine/b", b"2")).await.expect(200);
    user.call(Call::put("other", b"2")).await.refused(403, "AccessDenied");
    user.call(Call::get("other")).await.refused(403, "AccessDenied");
    user.call(Call::bucket(Method::GET).query("prefix", "mine/")).await.expect(200);
    user.call(Call::bucket(Method::GET)).await.refused(403, "AccessDenied");
    let from = |source: &str| Call::object(Method::PUT, "mine/c").header("x-oss-copy-source", source);
    user.call(from("/examplebucket/mine/a")).await.expect(200);
    user.call(from("/examplebucket/other")).await.refused(403, "AccessDenied");
    let refused = user.call(Call::object(Method::DELETE, "mine/a")).await.refused(403, "AccessDenied");
    assert!(refused.text().contains("authorizer"), "{}", refused.text());
    let body = b"<Delete><Object><Key>mine/a</Key></Object></Delete>";
    user.call(
        Call::bucket(Method::POST).query("delete", "").header("content-md5", &crate::objects::md5(body)).body(body),
    )
    .await
    .refused(403, "AccessDenied");
    owner.call(Call::get("mine/a")).await.expect(200);
}

#[tokio::test]
async fn a_writer_does_not_read() {
    let (_server, _owner, mut user) = start(WRITE_ONLY).await;
    user.call(Call::put("key", b"1")).await.expect(200);
    user.call(Call::get("key")).await.refused(403, "AccessDenied");
    user.call(Call::put("key", b"1").header("x-oss-object-acl", "private")).await.refused(403, "AccessDenied");
    user.call(Call::put("key", b"1").header("x-oss-tagging", "a=1")).await.refused(403, "AccessDenied");
    let begun = user.call(Call::object(Method::POST, "big").query("uploads", "")).await.expect(200);
    let id = begun.element("UploadId").to_owned();
    let upload = |method| Call::object(method, "big").query("uploadId", &id);
    user.call(upload(Method::PUT).query("partNumber", "1").body(b"1")).await.expect(200);
    user.call(upload(Method::GET)).await.refused(403, "AccessDenied");
    user.call(upload(Method::DELETE)).await.expect(204);
}

#[tokio::test]
async fn a_buckets_policy_gives_and_takes() {
    let (_server, mut owner, mut user) = start(READ_ONLY).await;
    let policy = r#"{"Version": "1", "Statement": [
        {"Effect": "Allow", "Principal": ["user"], "Action": "oss:PutObject", "Resource": "acs:oss:*:*:examplebucket/in/*"},
        {"Effect": "Deny", "Principal": ["*"], "Action": "oss:GetObject", "Resource": "acs:oss:*:*:examplebucket/secret/*"}]}"#;
    owner.call(Call::put("secret/a", b"1")).await.expect(200);
    owner.call(Call::bucket(Method::PUT).query("policy", "").body(policy.as_bytes())).await.expect(200);
    user.call(Call::put("in/a", b"1")).await.expect(200);
    user.call(Call::put("out", b"1")).await.refused(403, "AccessDenied");
    user.call(Call::get("in/a")).await.expect(200);
    for sender in [&mut user, &mut owner] {
        let refused = sender.call(Call::get("secret/a")).await.refused(403, "AccessDenied");
        assert!(refused.text().contains("bucket policy"), "{}", refused.text());
    }
    owner.call(Call::bucket(Method::DELETE).query("policy", "")).await.expect(204);
    owner.call(Call::get("secret/a")).await.expect(200);
}

#[tokio::test]
async fn a_policy_that_locks_everybody_out_or_is_wrong_is_refused() {
    let (_server, mut owner, _user) = start(READ_ONLY).await;
    for (policy, expected) in [
        (
            r#"{"Version":"1","Statement":[{"Effect":"Deny","Principal":"*","Action":"oss:*","Resource":"*"}]}"#,
            "statement 1",
        ),
        (
            r#"{"Version":"1","Statement":[{"Effect":"Allow","Principal":"*","Action":"oss:Fly","Resource":"*"}]}"#,
            "oss:Fly",
        ),
        ("{", "malformed"),
    ] {
        let put = Call::bucket(Method::PUT).query("policy", "").body(policy.as_bytes());
        let refused = owner.call(put).await.refused(400, "InvalidPolicyDocument");
        assert!(refused.text().contains(expected), "{}", refused.text());
    }
    owner.call(Call::bucket(Method::GET).query("policy", "")).await.refused(404, "NoSuchBucketPolicy");
    let wrong = KeyPair::new("user", "secret").with_policy(r#"{"Version":"1","Statement":[{"Effect":"No"}]}"#);
    let error = Emulator::bind(EmulatorConfig { key_pairs: vec![wrong], ..config() }).await.unwrap_err();
    assert!(error.to_string().contains("\"user\"") && error.to_string().contains("statement 1"), "{error}");
}

#[tokio::test]
async fn a_missing_bucket_comes_before_a_wrong_key() {
    let (server, _owner, _user) = start(READ_ONLY).await;
    let mut wrong = server.connect_as("user", "wrong").await;
    wrong.call(Call::get("key").of("no-such-bucket")).await.refused(404, "NoSuchBucket");
    wrong.call(Call::get("key")).await.refused(403, "SignatureDoesNotMatch");
    let mut unknown = server.connect_as("nobody", "wrong").await;
    unknown.call(Call::get("key").of("no-such-bucket")).await.refused(404, "NoSuchBucket");
    unknown.call(Call::bucket(Method::GET).of("no-such-bucket").query("acl", "")).await.refused(404, "NoSuchBucket");
}

#[tokio::test]
async fn what_a_policy_opens_to_everyone_reaches_nothing_else() {
    let (server, mut owner, mut user) = start(ONE_PREFIX).await;
    let policy = r#"{"Version": "1", "Statement": [{"Effect": "Allow", "Principal": ["*"],
        "Action": ["oss:PutObject", "oss:GetObject", "oss:DeleteObject"],
        "Resource": ["acs:oss:*:*:examplebucket", "acs:oss:*:*:examplebucket/open/*"]}]}"#;
    owner.call(Call::put("secret", b"1")).await.expect(200);
    for link in ["open/link", "mine/link"] {
        let target = Call::object(Method::PUT, link).query("symlink", "").header("x-oss-symlink-target", "secret");
        owner.call(target).await.expect(200);
    }
    owner.call(Call::bucket(Method::PUT).query("policy", "").body(policy.as_bytes())).await.expect(200);
    let mut anyone = server.connect_unsigned().await;
    anyone.call(Call::put("open/a", b"2")).await.expect(200);
    assert_eq!(anyone.call(Call::get("open/a")).await.expect(200).body, b"2");
    let copy = Call::object(Method::PUT, "open/b").header("x-oss-copy-source", "/examplebucket/secret");
    anyone.call(copy).await.refused(403, "AccessDenied");
    anyone.call(Call::get("open/link")).await.refused(403, "AccessDenied");
    user.call(Call::get("mine/link")).await.refused(403, "AccessDenied");
    let body = b"<Delete><Object><Key>secret</Key></Object></Delete>";
    let delete = Call::bucket(Method::POST).query("delete", "").header("content-md5", &crate::objects::md5(body));
    anyone.call(delete.body(body)).await.refused(403, "AccessDenied");
    assert_eq!(owner.call(Call::get("secret")).await.expect(200).body, b"1");
}
