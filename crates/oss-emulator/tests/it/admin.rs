//! Faults and the request log over HTTP.

use http::Method;
use oss_emulator::{AdminToken, EmulatorConfig};
use serde_json::{Value, json};

use crate::client::{Answer, BUCKET, Call, Client, Server, Signing, config, start};

const TOKEN: &str = "a-token-for-the-test";

async fn server() -> (Server, Client) {
    let server = Server::start(EmulatorConfig { admin_token: AdminToken::new(TOKEN), ..config() }).await;
    let client = server.connect().await;
    (server, client)
}

async fn admin(client: &mut Client, method: Method, path: &str, body: &str) -> Answer {
    with_token(client, method, path, body, TOKEN).await
}

async fn with_token(client: &mut Client, method: Method, path: &str, body: &str, token: &str) -> Answer {
    let length = body.len();
    let authority = &client.authority;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    client.send(request.as_bytes()).await;
    client.receive(&method).await
}

fn parsed(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/json");
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn faults_are_added_listed_and_removed() {
    let (_server, mut client) = server().await;
    client.call(Call::put("key", b"a")).await.expect(200);
    let rules = r#"[{"key": "k*", "error": "InternalError"}, {"operation": "HeadObject", "error": "AccessDenied"}]"#;
    let added = admin(&mut client, Method::POST, "/-/admin/faults", rules).await.expect(201);
    assert_eq!(parsed(&added), json!([1, 2]));
    client.call(Call::get("key")).await.refused(500, "InternalError");
    let listed = parsed(&admin(&mut client, Method::GET, "/-/admin/faults", "").await.expect(200));
    assert_eq!(listed[0], json!({"id": 1, "met": 1, "acted": 1, "rule": {"key": "k*", "error": "InternalError"}}));
    assert_eq!(listed[1]["rule"]["operation"], json!(["HeadObject"]));
    admin(&mut client, Method::DELETE, "/-/admin/faults/1", "").await.expect(204);
    admin(&mut client, Method::DELETE, "/-/admin/faults/1", "").await.expect(404);
    client.call(Call::get("key")).await.expect(200);
    client.call(Call::head("key")).await.refused(403, "AccessDenied");
    admin(&mut client, Method::DELETE, "/-/admin/faults", "").await.expect(204);
    client.call(Call::head("key")).await.expect(200);
}

#[tokio::test]
async fn a_list_with_a_wrong_rule_adds_nothing() {
    let (server, mut client) = server().await;
    let rules = r#"[{"error": "InternalError"}, {"eror": "InternalError"}]"#;
    let refused = admin(&mut client, Method::POST, "/-/admin/faults", rules).await.expect(400);
    let reason = parsed(&refused)["error"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("rule 2: unknown field `eror`"), "{reason}");
    assert_eq!(server.faults.list(), []);
    let large = " ".repeat(1024 * 1024 + 1);
    let mut other = server.connect().await;
    admin(&mut other, Method::POST, "/-/admin/faults", &large).await.expect(413);
}

#[tokio::test]
async fn the_log_is_returned_and_forgotten() {
    let (_server, mut client) = server().await;
    client.call(Call::put("a b", b"hello")).await.expect(200);
    let get = client.call(Call::get("a b").header("range", "bytes=1-2")).await.expect(206);
    let told = parsed(&admin(&mut client, Method::GET, "/-/admin/requests", "").await.expect(200));
    assert_eq!((&told["total"], &told["peak_concurrency"]), (&json!(2), &json!(1)));
    let expected = json!({
        "method": "GET", "operation": "GetObject", "bucket": BUCKET, "key": "a b", "range": "bytes=1-2",
        "status": 206, "error_code": null, "response_bytes": 2, "request_id": get.header("x-oss-request-id"),
        "concurrency": 1, "faults": [],
    });
    assert_eq!(told["requests"][1], expected);
    admin(&mut client, Method::DELETE, "/-/admin/requests", "").await.expect(204);
    let told = parsed(&admin(&mut client, Method::GET, "/-/admin/requests", "").await.expect(200));
    assert_eq!((&told["total"], &told["requests"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn without_the_token_nothing_is_reported() {
    let (server, mut client) = server().await;
    for token in ["a", "a-token-for-the-tesT", "a-token-for-the-test-and-more", "a-token"] {
        let refused = with_token(&mut client, Method::GET, "/-/admin/requests", "", token).await.expect(401);
        assert!(!refused.text().contains("requests"), "{token:?}");
    }
    // Without any, it is a request of the service like others.
    client.send(b"GET /-/admin/requests HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
    client.receive(&Method::GET).await.refused(400, "InvalidBucketName");
    assert_eq!(server.log.total(), 1);
    admin(&mut client, Method::GET, "/-/admin/nothing", "").await.expect(404);
    admin(&mut client, Method::DELETE, "/-/admin/faults/x", "").await.expect(404);
}

#[tokio::test]
async fn without_a_configured_token_there_is_no_such_path() {
    let (server, mut client) = start().await;
    let answer = admin(&mut client, Method::GET, "/-/admin/requests", "").await;
    answer.refused(400, "InvalidBucketName");
    assert_eq!(server.log.total(), 1);
}

#[tokio::test]
async fn a_key_that_looks_like_the_path_is_a_key() {
    let (_server, mut client) = server().await;
    client.call(Call::put("-/admin/requests", b"mine").virtual_host()).await.expect(200);
    assert_eq!(client.call(Call::get("-/admin/requests").virtual_host()).await.expect(200).body, b"mine");
    client.signing = Signing::None;
    client.call(Call::get("-/admin/requests").virtual_host()).await.refused(403, "AccessDenied");
}
