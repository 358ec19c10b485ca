//! Keys that break careless servers.

use http::Method;
use oss_protocol::xml::list::ListObjectsV2Result;

use crate::client::{Call, Client, Server, Signing, config, start};

pub(crate) fn hostile() -> Vec<String> {
    let mut keys: Vec<String> = [
        "plain",
        "a",
        "a/",
        "a/b",
        "a//b",
        "a/b/",
        ".",
        "..",
        "../up",
        "a/../b",
        ".hidden",
        "with space",
        " lead",
        "trail ",
        "a+b",
        "100%",
        "%2F",
        "%zz",
        "who?",
        "#1",
        "a&b=c",
        "a;b,c",
        "\"'<>",
        "a\\b",
        "tab\tnewline\nreturn\r",
        "\u{1}\u{7f}",
        "数据/文件.png",
        "e\u{301}",
        "é",
        "😀",
        "\u{10FFFF}",
        "~",
        "*",
        "x=y",
        "@:",
        "[]{}|^`",
        "acl",
        "?acl",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    keys.push("k".repeat(1023));
    keys.push("数".repeat(341));
    keys
}

async fn round_trip(client: &mut Client, virtual_host: bool) {
    for key in hostile() {
        let body = key.as_bytes();
        let call = |method| {
            let call = Call::object(method, &key);
            if virtual_host { call.virtual_host() } else { call }
        };
        client.call(call(Method::PUT).body(body)).await.expect(200);
        assert_eq!(client.call(call(Method::GET)).await.expect(200).body, body, "{key:?}");
        assert_eq!(client.call(call(Method::HEAD)).await.expect(200).header("content-length"), body.len().to_string());
    }
    let list =
        Call::bucket(Method::GET).query("list-type", "2").query("encoding-type", "url").query("max-keys", "1000");
    let answer = client.call(list).await.expect(200);
    let listed: Vec<_> =
        ListObjectsV2Result::parse(&answer.body).unwrap().contents.into_iter().map(|o| o.key).collect();
    let mut expected = hostile();
    expected.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    assert_eq!(listed, expected);
    for key in hostile() {
        client.call(Call::object(Method::DELETE, &key)).await.expect(204);
    }
    let answer = client.call(Call::bucket(Method::GET)).await.expect(200);
    assert!(!answer.text().contains("<Contents>"), "{}", answer.text());
}

#[tokio::test]
async fn in_memory_with_both_addressing_styles_and_all_signatures() {
    let (_server, mut client) = start().await;
    for signing in [Signing::V4, Signing::V1, Signing::V4Url, Signing::V1Url] {
        client.signing = signing;
        round_trip(&mut client, false).await;
        round_trip(&mut client, true).await;
    }
}

#[tokio::test]
async fn in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(oss_emulator::EmulatorConfig { root: Some(directory.path().into()), ..config() }).await;
    round_trip(&mut server.connect().await, false).await;
    server.stop().await;
}

#[tokio::test]
async fn escaped_slashes_are_slashes() {
    let (_server, mut client) = start().await;
    let (head, _) = client.render(&Call::put("a/b", b"1"));
    let head = String::from_utf8(head).unwrap().replacen("/a/b", "/a%2Fb", 1);
    client.send(head.as_bytes()).await;
    client.send(b"1").await;
    client.receive(&Method::PUT).await.expect(200);
    assert_eq!(client.call(Call::get("a/b")).await.expect(200).body, b"1");
}

#[tokio::test]
async fn keys_that_are_not_allowed() {
    let (_server, mut client) = start().await;
    for key in ["/a".to_owned(), "\\a".to_owned(), "k".repeat(1024)] {
        client.call(Call::put(&key, b"1")).await.refused(400, "InvalidObjectName");
    }
}
