//! Conditional reads.

use crate::client::{Call, start};

const BEFORE: &str = "Thu, 01 Jan 2015 00:00:00 GMT";
const AFTER: &str = "Thu, 01 Dec 2095 16:00:00 GMT";

#[tokio::test]
async fn etags_and_times_decide() {
    let (_server, mut client) = start().await;
    let put = client.call(Call::put("key", b"hello")).await.expect(200);
    let etag = put.header("etag").to_owned();
    let modified = client.call(Call::head("key")).await.header("last-modified").to_owned();
    let other = "\"00000000000000000000000000000000\"";
    for (name, value, status) in [
        ("if-match", etag.as_str(), 200),
        ("if-match", etag.trim_matches('"'), 200),
        ("if-match", "*", 200),
        ("if-match", other, 412),
        ("if-none-match", etag.as_str(), 304),
        ("if-none-match", other, 200),
        ("if-modified-since", BEFORE, 200),
        ("if-modified-since", modified.as_str(), 304),
        ("if-modified-since", AFTER, 304),
        ("if-unmodified-since", BEFORE, 412),
        ("if-unmodified-since", modified.as_str(), 200),
        ("if-unmodified-since", AFTER, 200),
        ("if-modified-since", "yesterday", 200),
    ] {
        for call in [Call::get("key"), Call::head("key")] {
            let method = call.method.clone();
            let answer = client.call(call.header(name, value)).await;
            assert_eq!(answer.status, status, "{method} {name}: {value}");
            match status {
                304 => {
                    assert_eq!(answer.body, b"");
                    assert_eq!(answer.header("etag"), etag);
                    assert_eq!(answer.header("content-type"), "");
                }
                412 => {
                    answer.refused(412, "PreconditionFailed");
                }
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn an_etag_wins_over_a_time() {
    let (_server, mut client) = start().await;
    let etag = client.call(Call::put("key", b"hello")).await.header("etag").to_owned();
    let call = Call::get("key").header("if-match", &etag).header("if-unmodified-since", BEFORE);
    client.call(call).await.expect(200);
    let call = Call::get("key").header("if-none-match", "\"0\"").header("if-modified-since", AFTER);
    client.call(call).await.expect(200);
}

#[tokio::test]
async fn a_pinned_range_notices_a_replaced_object() {
    let (_server, mut client) = start().await;
    let etag = client.call(Call::put("key", b"hello")).await.header("etag").to_owned();
    let pinned = || Call::get("key").header("if-match", &etag).header("range", "bytes=1-2");
    assert_eq!(client.call(pinned()).await.expect(206).body, b"el");
    client.call(Call::put("key", b"other")).await.expect(200);
    client.call(pinned()).await.refused(412, "PreconditionFailed");
}
