//! Signatures that the official signers made.

use http::Method;
use oss_protocol::Credentials;
use oss_protocol::canonical::{encode_query, parse_query};
use oss_protocol::sign::v4::{scope, string_to_sign};

use crate::requests::*;

#[test]
fn vector_a_headers() {
    let mut request = Request::shared("text/plain");
    let authorization = request.sign(&short(), "20231216T162057Z", &[]);
    assert_eq!(
        authorization,
        "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,\
         Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe"
    );
    let canonical = request.canonical(&[]);
    assert_eq!(
        canonical,
        "PUT\n/bucket/1234%2B-/123/1.txt\n\
         %2Bparam1=value3&%2Bparam2&%7Cparam1=value4&%7Cparam2&param1=value1&param2\n\
         content-type:text/plain\nx-oss-content-sha256:UNSIGNED-PAYLOAD\nx-oss-date:20231216T162057Z\n\
         x-oss-head1:value\n\n\nUNSIGNED-PAYLOAD"
    );
    assert_eq!(
        string_to_sign("20231216T162057Z", &scope("20231216", REGION), &canonical),
        "OSS4-HMAC-SHA256\n20231216T162057Z\n20231216/cn-hangzhou/oss/aliyun_v4_request\n\
         f4613657f1b108998e8dbd10a1aa5da621dc2c6e02c9ddec0f163664848704c4"
    );
    request.verify("sk", at("20231216T162057Z")).unwrap();
}

#[test]
fn vector_b_headers_with_token() {
    let mut request = Request::shared("text/plain");
    let authorization = request.sign(&short().with_security_token("token"), "20231217T034736Z", &[]);
    assert!(authorization.ends_with("Signature=b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea"));
    assert_eq!(request.headers["x-oss-security-token"], "token");
    request.verify("sk", at("20231217T034736Z")).unwrap();
}

#[test]
fn vector_c_additional_headers() {
    let mut request = Request::shared("text/plain");
    let authorization = request.sign(&short(), "20231216T172512Z", &["ZAbc", "abc"]);
    assert_eq!(
        authorization,
        "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,AdditionalHeaders=abc;zabc,\
         Signature=4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f"
    );
    let canonical = request.canonical(&["abc", "zabc"]);
    assert!(canonical.contains("\nabc:value\ncontent-type:"), "{canonical}");
    assert!(canonical.ends_with("\nzabc:value\n\nabc;zabc\nUNSIGNED-PAYLOAD"), "{canonical}");
    request.verify("sk", at("20231216T172512Z")).unwrap();
}

#[test]
fn vector_d_url() {
    let request = Request::shared("application/octet-stream");
    let added = request.presign(&short(), "20231217T025437Z", 599, &[]);
    assert_eq!(
        added,
        pairs(&[
            ("x-oss-signature-version", "OSS4-HMAC-SHA256"),
            ("x-oss-date", "20231217T025437Z"),
            ("x-oss-expires", "599"),
            ("x-oss-credential", "ak/20231217/cn-hangzhou/oss/aliyun_v4_request"),
            ("x-oss-signature", "a39966c61718be0d5b14e668088b3fa07601033f6518ac7b523100014269c0fe"),
        ])
    );
    assert_eq!(encode_query(&added[3].1), "ak%2F20231217%2Fcn-hangzhou%2Foss%2Faliyun_v4_request");
}

#[test]
fn vector_e_url_with_token() {
    let request = Request::shared("application/octet-stream");
    let added = request.presign(&short().with_security_token("token"), "20231217T035628Z", 599, &[]);
    assert_eq!(value(&added, "x-oss-security-token"), Some("token"));
    assert_eq!(
        value(&added, "x-oss-signature"),
        Some("3817ac9d206cd6dfc90f1c09c00be45005602e55898f26f5ddb06d7892e1f8b5")
    );
}

#[test]
fn vector_f_url_with_additional_headers() {
    let request = Request::shared("application/octet-stream");
    let added = request.presign(&short(), "20231217T033009Z", 599, &["abc", "ZAbc"]);
    assert_eq!(value(&added, "x-oss-additional-headers"), Some("abc;zabc"));
    assert_eq!(
        value(&added, "x-oss-signature"),
        Some("6bd984bfe531afb6db1f7550983a741b103a8c58e5e14f83ea474c2322dfa2b7")
    );
}

fn assert_example(mut request: Request, canonical_hash: &str, signature: &str) {
    let authorization = request.sign(&example(), "20250101T000000Z", &[]);
    assert_eq!(sha256_hex(&request.canonical(&[])), canonical_hash);
    assert_eq!(
        authorization,
        format!(
            "OSS4-HMAC-SHA256 Credential=LTAI-example-ak/20250101/cn-hangzhou/oss/aliyun_v4_request,Signature={signature}"
        )
    );
    request.verify("example-secret", at("20250101T000000Z")).unwrap();
}

#[test]
fn vector_g_get_with_unsigned_range() {
    assert_example(
        Request::new(
            Method::GET,
            Some("examplebucket"),
            Some("dir/obj name.bin"),
            &[],
            &[("Range", "bytes=0-99"), ("x-oss-range-behavior", "standard")],
        ),
        "5e56d127c2bd4bee1e80fcb5631df4ab7d56a2d09a794bab8f31b180ef6840bd",
        "363b7316a7f4914b7dd401bb19223dce56087dbed0e01a573c9b8a51812ccbfe",
    );
}

#[test]
fn vector_h_list() {
    assert_example(
        Request::new(
            Method::GET,
            Some("examplebucket"),
            None,
            &[
                ("list-type", "2"),
                ("prefix", "a/b c/"),
                ("max-keys", "1000"),
                ("encoding-type", "url"),
                ("delimiter", "/"),
            ],
            &[],
        ),
        "fe82e606b51ac25e37c26128043d15f25ac033efd72f6778bcb2e43b7b01c015",
        "7f192260e30f11771f480c73f2469970404077f5e85bf79310ba3e1f0f267376",
    );
}

#[test]
fn vector_i_service() {
    assert_example(
        Request::new(Method::GET, None, None, &[], &[]),
        "7a47bfcc0010591fdef59b961478e1f55d132affc622514a8fd0aaed75569bad",
        "199269e7c9ef549a332b8e3d97e36cd5f4ebcecbfd4a9f20eff65fd62e85eac5",
    );
}

#[test]
fn vector_j_part_of_a_unicode_key() {
    let request = Request::new(
        Method::PUT,
        Some("examplebucket"),
        Some("数据/a+b~.txt"),
        &[("partNumber", "1"), ("uploadId", "0004B9")],
        &[("content-type", "text/plain"), ("Content-MD5", "eB5eJF1ptWaXm4bijSPyxw==")],
    );
    assert!(request.canonical(&[]).starts_with("PUT\n/examplebucket/%E6%95%B0%E6%8D%AE/a%2Bb~.txt\n"));
    assert_example(
        request,
        "27f3aec8e45857ae01f662f8047abd542ea7062d9dcb66acfadd50ad6bcc6ae1",
        "89bbc6d6331848fb43768299bd936af2b5a79a728e640d599a71dd4248e22e7d",
    );
}

#[test]
fn vector_k_url_without_headers() {
    let request = Request::new(Method::GET, Some("examplebucket"), Some("dir/obj name.bin"), &[], &[]);
    let added = request.presign(&example(), "20250101T000000Z", 3600, &[]);
    assert_eq!(
        value(&added, "x-oss-signature"),
        Some("7a8455e15a9f71539c8195c1580595ed1d3d1c589ba3c8233e4027456a7a1105")
    );
}

fn assert_captured(method: Method, raw_query: &str, signature: &str) {
    let mut request =
        Request::new(method, Some("b"), None, &[], &[("Host", "b.oss-cn-lab-internal.aliyuncs.test:18765")]);
    request.query = parse_query(raw_query).unwrap();
    let credentials = Credentials::new("AKTEST", "SKTEST");
    let authorization = request.sign(&credentials, "20261122T134635Z", &["host"]);
    assert_eq!(
        authorization,
        format!(
            "OSS4-HMAC-SHA256 Credential=AKTEST/20261122/cn-hangzhou/oss/aliyun_v4_request,AdditionalHeaders=host,\
             Signature={signature}"
        )
    );
    request.verify("SKTEST", at("20261122T134635Z")).unwrap();
}

#[test]
fn vector_l_captured_list() {
    assert_captured(
        Method::GET,
        "list-type=2&max-keys=1000&prefix=p%2F",
        "8d2de50fde5a2dd806169df2efc3c550f3cad464ae3c77ac075318375af0a1d9",
    );
}

#[test]
fn vector_m_captured_batch_get() {
    assert_captured(Method::POST, "x-oss-batchGet", "b6362e4f4d165eaf7e49a30249eeb7aeefefcddb2717658194bb3acbbd1e2309");
}
