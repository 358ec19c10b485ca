//! Mutated requests, byte by byte over sockets, against the whole server: head, router, authentication, operations.

use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oss_emulator::{Emulator, EmulatorConfig, KeyPair};
use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use crate::mutator::fuzz;

/// Longer than any answer takes. A server that does not answer is as bad as one that panics.
const PATIENCE: Duration = Duration::from_secs(20);

/// The limit for the remains of thousands of uploads.
const MEMORY_LIMIT: u64 = 64 << 20;

const SIGNATURE: &str = "x-oss-date: 20231216T162057Z\r\nAuthorization: OSS4-HMAC-SHA256 \
    Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,AdditionalHeaders=host,\
    Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe\r\n";

fn samples() -> Vec<String> {
    let requests = [
        ("GET /", "", ""),
        ("GET /?prefix=b&marker=a&max-keys=2", "", ""),
        ("PUT /other-bucket", "x-oss-acl: public-read\r\n", ""),
        ("GET /bucket/?bucketInfo", "", ""),
        ("GET /bucket/?acl", "", ""),
        ("PUT /bucket/?acl", "x-oss-acl: private\r\n", ""),
        ("GET /bucket/?prefix=a&delimiter=%2F&marker=a&max-keys=2&encoding-type=url", "", ""),
        ("GET /bucket/?list-type=2&prefix=a&delimiter=/&start-after=b&fetch-owner=true", "", ""),
        ("GET /bucket/?list-type=2&continuation-token=_mE", "", ""),
        ("GET /bucket/?uploads&key-marker=a&upload-id-marker=b&delimiter=/", "", ""),
        ("POST /bucket/?delete&encoding-type=url", "", "<Delete><Object><Key>a</Key></Object></Delete>"),
        ("PUT /bucket/a%2Fb", "x-oss-meta-a: 1\r\nx-oss-tagging: a=b&c=d\r\nx-oss-storage-class: IA\r\n", "hello"),
        ("PUT /bucket/a", "Content-MD5: XUFAKrxLKna5cZ2REBfFkg==\r\nx-oss-object-acl: private\r\n", "hello"),
        ("PUT /bucket/copy", "x-oss-copy-source: /bucket/a\r\nx-oss-metadata-directive: REPLACE\r\n", ""),
        ("POST /bucket/log?append&position=0", "", "line"),
        ("GET /bucket/a", "Range: bytes=1-2\r\nx-oss-range-behavior: standard\r\n", ""),
        ("GET /bucket/a?response-content-type=text%2Fplain", "If-None-Match: \"A\"\r\n", ""),
        ("HEAD /bucket/a", "If-Modified-Since: Thu, 17 Nov 2005 18:49:58 GMT\r\n", ""),
        ("HEAD /bucket/a?objectMeta", "", ""),
        ("DELETE /bucket/a", "", ""),
        ("POST /bucket/big?uploads", "", ""),
        ("PUT /bucket/big?partNumber=1&uploadId=A", "", "part"),
        (
            "PUT /bucket/big?partNumber=1&uploadId=A",
            "x-oss-copy-source: /bucket/a\r\nx-oss-copy-source-range: bytes=0-1\r\n",
            "",
        ),
        ("POST /bucket/big?uploadId=A", "x-oss-complete-all: yes\r\n", ""),
        ("GET /bucket/big?uploadId=A&max-parts=1&part-number-marker=1", "", ""),
        ("PUT /bucket/link?symlink", "x-oss-symlink-target: a\r\n", ""),
        ("PUT /bucket/a?tagging", "", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"),
        (
            "PUT /bucket/?policy",
            "",
            r#"{"Version":"1","Statement":[{"Effect":"Allow","Principal":["x"],"Action":["oss:Get*"],"Resource":"acs:oss:*:*:b/*","Condition":{"StringLike":{"oss:Prefix":["a*"]},"IpAddress":{"acs:SourceIp":"10.0.0.0/8"}}}]}"#,
        ),
        ("DELETE /bucket/?policy", "", ""),
        (
            "PUT /bucket/?cors",
            "",
            "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-*</AllowedHeader></CORSRule></CORSConfiguration>",
        ),
        (
            "OPTIONS /bucket/a",
            "Origin: http://a.test\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n",
            "",
        ),
        (
            "PUT /bucket/?lifecycle",
            "",
            "<LifecycleConfiguration><Rule><Expiration><Days>9</Days></Expiration><Transition><Days>5</Days><StorageClass>IA</StorageClass></Transition></Rule></LifecycleConfiguration>",
        ),
        ("PUT /bucket/?tagging", "", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"),
        ("PUT /bucket/?qos", "", "<BucketUserQos><StorageCapacity>1</StorageCapacity></BucketUserQos>"),
        ("GET /bucket/?versions&key-marker=a&max-keys=2", "Origin: http://a.test\r\n", ""),
        ("GET /-/metrics", "", ""),
        ("POST /bucket/a?restore", "", "<RestoreRequest><Days>1</Days></RestoreRequest>"),
        ("GET /bucket/a?OSSAccessKeyId=ak&Expires=1699807420&Signature=dcLTea%2BYh9ApirQ8o8dOPqtvJXQ%3D", "", ""),
        (
            "GET /bucket/a?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20231216T162057Z&x-oss-expires=599&\
          x-oss-credential=ak%2F20231216%2Fcn-hangzhou%2Foss%2Faliyun_v4_request&x-oss-signature=ab",
            "",
            "",
        ),
    ];
    let whole = |(line, headers, body): &(&str, &str, &str), more: &str| {
        let length = body.len();
        format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}{more}Content-Length: {length}\r\n\r\n{body}")
    };
    let chunked = "PUT /bucket/chunked HTTP/1.1\r\nHost: bucket.oss.test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n0\r\n\r\nGET /chunked HTTP/1.1\r\nHost: bucket.oss.test\r\n\r\n";
    let plain = requests.iter().map(|request| whole(request, ""));
    let signed = requests.iter().map(|request| whole(request, SIGNATURE));
    plain.chain(signed).chain([chunked.to_owned()]).collect()
}

async fn exchange(authority: &str, input: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(authority).await?;
    stream.write_all(input).await?;
    // Nothing more will come, so a request that is cut short need not be waited for.
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(())
}

#[test]
fn requests() {
    let panics = Arc::new(AtomicU64::new(0));
    let (seen, before) = (Arc::clone(&panics), panic::take_hook());
    // A panic in a task ends only the connection, so it has to be counted where it begins.
    panic::set_hook(Box::new(move |information| {
        seen.fetch_add(1, Ordering::SeqCst);
        before(information);
    }));
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let config = EmulatorConfig {
        key_pairs: vec![KeyPair::new("ak", "sk")],
        buckets: vec!["bucket".to_owned()],
        domain: Some("oss.test".to_owned()),
        memory_limit: Some(MEMORY_LIMIT),
        ..EmulatorConfig::default()
    };
    let servers = [true, false].map(|verify_signatures| {
        let emulator =
            runtime.block_on(Emulator::bind(EmulatorConfig { verify_signatures, ..config.clone() })).unwrap();
        let authority = emulator.local_addr().to_string();
        runtime.spawn(emulator.serve(std::future::pending()));
        authority
    });
    fuzz("requests", &samples(), |mutator, input| {
        let authority = &servers[usize::from(mutator.random.random_bool(0.7))];
        let exchanged = runtime.block_on(async { tokio::time::timeout(PATIENCE, exchange(authority, input)).await });
        // A connection that the server resets is its right; one that it leaves hanging is not.
        assert!(exchanged.is_ok(), "no answer and no end");
        assert_eq!(panics.load(Ordering::SeqCst), 0, "the server panicked");
    });
}
