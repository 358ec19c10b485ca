//! Every row of the range table, with both behaviours.

use crate::client::{Call, Client, pattern, start};

enum Expected {
    Full,
    Part(usize, usize),
    Unsatisfiable,
}
use Expected::{Full, Part, Unsatisfiable};

async fn check(client: &mut Client, size: usize, range: &str, standard: bool, expected: &Expected) {
    let body = pattern(size);
    let mut call = Call::get(&format!("object-{size}")).header("range", range);
    if standard {
        call = call.header("x-oss-range-behavior", "standard");
    }
    let answer = client.call(call).await;
    let what = format!("{range} of {size}, standard {standard}");
    match *expected {
        Full => {
            assert_eq!(answer.status, 200, "{what}");
            assert_eq!(answer.header("content-range"), "", "{what}");
            assert_eq!(answer.body, body, "{what}");
        }
        Part(start, end) => {
            assert_eq!(answer.status, 206, "{what}");
            assert_eq!(answer.header("content-range"), format!("bytes {start}-{end}/{size}"), "{what}");
            assert_eq!(answer.body, &body[start..=end], "{what}");
            assert_eq!(answer.header("content-length"), (end - start + 1).to_string(), "{what}");
            let whole = oss_protocol::crc64::checksum(&body).to_string();
            assert_eq!(answer.header("x-oss-hash-crc64ecma"), whole, "the checksum is that of the whole object");
        }
        Unsatisfiable => {
            assert_eq!(answer.header("content-range"), format!("bytes */{size}"), "{what}");
            let error = answer.refused(416, "InvalidRange").error();
            assert_eq!(error.get("ActualObjectSize"), Some(size.to_string().as_str()), "{what}");
            assert_eq!(error.get("RangeRequested"), Some(range), "{what}");
        }
    }
}

#[tokio::test]
async fn every_row_of_the_table() {
    let (_server, mut client) = start().await;
    for size in [1000, 0] {
        client.call(Call::put(&format!("object-{size}"), &pattern(size))).await.expect(200);
    }
    let rows = [
        (1000, "bytes=0-499", Part(0, 499), Part(0, 499)),
        (1000, "bytes=500-999", Part(500, 999), Part(500, 999)),
        (1000, "bytes=500-", Part(500, 999), Part(500, 999)),
        (1000, "bytes=0-", Part(0, 999), Part(0, 999)),
        (1000, "bytes=-500", Part(500, 999), Part(500, 999)),
        (1000, "bytes=0-0", Part(0, 0), Part(0, 0)),
        (1000, "bytes=500-2000", Full, Part(500, 999)),
        (1000, "bytes=1000-2000", Full, Unsatisfiable),
        (1000, "bytes=1000-", Full, Unsatisfiable),
        (1000, "bytes=-2000", Full, Part(0, 999)),
        (1000, "bytes=-0", Full, Unsatisfiable),
        (1000, "byte=0-9", Full, Full),
        (1000, "bytes=9-0", Full, Full),
        (1000, "bytes=a-b", Full, Full),
        (1000, "bytes=0-9,20-29", Part(0, 9), Part(0, 9)),
        (0, "bytes=0-0", Full, Unsatisfiable),
        (0, "bytes=0-", Full, Unsatisfiable),
    ];
    for (size, range, default, standard) in &rows {
        check(&mut client, *size, range, false, default).await;
        check(&mut client, *size, range, true, standard).await;
    }
}
