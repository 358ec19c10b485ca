//! Signature version 4 against signatures that the official signers made.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use oss_protocol::canonical::{encode_query, parse_query};
use oss_protocol::sign::v4::{
    self, Authorization, Presigned, Signer, SigningKey, canonical_request, presign, scope, sign_headers, string_to_sign,
};
use oss_protocol::sign::{MAX_CLOCK_SKEW, Presented, RequestTarget, SignError, Verifier, VerifyError};
use oss_protocol::time::parse_oss_date;
use oss_protocol::{Credentials, ErrorCode};
use proptest::prelude::*;

const REGION: &str = "cn-hangzhou";

struct Request {
    method: Method,
    bucket: Option<&'static str>,
    key: Option<&'static str>,
    query: Vec<(String, String)>,
    headers: HeaderMap,
}

impl Request {
    fn new(
        method: Method,
        bucket: Option<&'static str>,
        key: Option<&'static str>,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Self {
        Self { method, bucket, key, query: pairs(query), headers: header_map(headers) }
    }

    /// The request that vectors A to F share, but for its content type.
    fn shared(content_type: &str) -> Self {
        Self::new(
            Method::PUT,
            Some("bucket"),
            Some("1234+-/123/1.txt"),
            &[
                ("param1", "value1"),
                ("+param1", "value3"),
                ("|param1", "value4"),
                ("+param2", ""),
                ("|param2", ""),
                ("param2", ""),
            ],
            &[
                ("x-oss-head1", "value"),
                ("abc", "value"),
                ("ZAbc", "value"),
                ("XYZ", "value"),
                ("content-type", content_type),
            ],
        )
    }

    fn target(&self) -> RequestTarget<'_> {
        RequestTarget { method: &self.method, bucket: self.bucket, key: self.key, query: &self.query }
    }

    fn sign(&mut self, credentials: &Credentials, date_time: &str, additional: &[&str]) -> String {
        let time = parse_oss_date(date_time).unwrap();
        let signing_key = SigningKey::for_time(credentials.access_key_secret(), time, REGION);
        let target = RequestTarget { method: &self.method, bucket: self.bucket, key: self.key, query: &self.query };
        let signer = Signer { credentials, signing_key: &signing_key, time, additional };
        sign_headers(target, &mut self.headers, &signer).unwrap();
        self.headers["authorization"].to_str().unwrap().to_owned()
    }

    fn presign(
        &self,
        credentials: &Credentials,
        date_time: &str,
        seconds: u64,
        additional: &[&str],
    ) -> Vec<(String, String)> {
        let time = parse_oss_date(date_time).unwrap();
        let signing_key = SigningKey::for_time(credentials.access_key_secret(), time, REGION);
        let signer = Signer { credentials, signing_key: &signing_key, time, additional };
        presign(self.target(), &self.headers, &signer, Duration::from_secs(seconds)).unwrap()
    }

    fn canonical(&self, additional: &[&str]) -> String {
        canonical_request(&self.target().with_headers(&self.headers), additional).unwrap()
    }

    fn verify(&self, secret: &str, now: SystemTime) -> Result<(), VerifyError> {
        let verifier = Verifier { secret, region: Some(REGION), now, signing_key: None };
        let presented = Presented::find(&self.headers, &self.query)?.expect("a signature");
        presented.verify(&self.target().with_headers(&self.headers), &verifier)
    }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn header_map(list: &[(&str, &str)]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
}

fn short() -> Credentials {
    Credentials::new("ak", "sk")
}

fn example() -> Credentials {
    Credentials::new("LTAI-example-ak", "example-secret")
}

fn at(date_time: &str) -> SystemTime {
    parse_oss_date(date_time).unwrap()
}

fn sha256_hex(text: &str) -> String {
    // The string to sign ends with the hash of the canonical request.
    string_to_sign("", "", text).rsplit('\n').next().unwrap().to_owned()
}

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

#[test]
fn three_spellings_of_the_header_mean_the_same() {
    let scope = "AK/20250101/cn-hangzhou/oss/aliyun_v4_request";
    let parsed: Vec<Authorization> = [
        format!("OSS4-HMAC-SHA256 Credential={scope},AdditionalHeaders=a;b,Signature=ff"),
        format!("OSS4-HMAC-SHA256 Credential={scope}, Signature=ff, AdditionalHeaders=a;b"),
        format!("OSS4-HMAC-SHA256 Credential={scope}, AdditionalHeaders=a;b, Signature=ff"),
    ]
    .iter()
    .map(|text| Authorization::parse(text).unwrap())
    .collect();
    assert_eq!(parsed[0], parsed[1]);
    assert_eq!(parsed[0], parsed[2]);
    assert_eq!(parsed[0].access_key_id, "AK");
    assert_eq!(parsed[0].additional_headers, ["a", "b"]);
    assert_eq!((parsed[0].date.as_str(), parsed[0].region.as_str()), ("20250101", "cn-hangzhou"));
}

#[test]
fn malformed_headers_are_refused() {
    let scope = "AK/20250101/cn-hangzhou/oss/aliyun_v4_request";
    for text in [
        String::new(),
        "OSS4-HMAC-SHA256".to_owned(),
        format!("OSS4-HMAC-SHA256Credential={scope},Signature=ff"),
        format!("OSS4-HMAC-SHA256 Credential={scope}"),
        "OSS4-HMAC-SHA256 Signature=ff".to_owned(),
        format!("OSS4-HMAC-SHA256 Credential={scope},Signature=ff,Signature=ff"),
        format!("OSS4-HMAC-SHA256 Credential={scope},Signature=ff,Other=1"),
        "OSS4-HMAC-SHA256 Credential=AK/20250101/oss/aliyun_v4_request,Signature=ff".to_owned(),
        "OSS4-HMAC-SHA256 Credential=AK/20250101/cn-hangzhou/oss/abc,Signature=ff".to_owned(),
        "OSS4-HMAC-SHA256 Credential=/20250101/cn-hangzhou/oss/aliyun_v4_request,Signature=ff".to_owned(),
    ] {
        let error = Authorization::parse(&text).unwrap_err();
        assert!(matches!(error, VerifyError::Malformed { .. }), "{text}: {error:?}");
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
    let empty = format!("OSS4-HMAC-SHA256 Credential={scope},AdditionalHeaders=,Signature=ff");
    assert_eq!(Authorization::parse(&empty), Err(VerifyError::EmptyAdditionalHeaders));
}

#[test]
fn the_clock_may_be_off_by_fifteen_minutes() {
    let mut request = Request::shared("text/plain");
    request.sign(&short(), "20231216T162057Z", &[]);
    let time = at("20231216T162057Z");
    let second = Duration::from_secs(1);
    request.verify("sk", time + MAX_CLOCK_SKEW).unwrap();
    request.verify("sk", time - MAX_CLOCK_SKEW).unwrap();
    for now in [time + MAX_CLOCK_SKEW + second, time - MAX_CLOCK_SKEW - second] {
        assert_eq!(request.verify("sk", now), Err(VerifyError::TooSkewed { request: time, now }));
    }
}

#[test]
fn a_request_needs_a_date() {
    let mut request = Request::shared("text/plain");
    request.sign(&short(), "20231216T162057Z", &[]);
    request.headers.remove("x-oss-date");
    assert_eq!(request.verify("sk", at("20231216T162057Z")), Err(VerifyError::MissingDate));
    request.headers.insert("x-oss-date", HeaderValue::from_static("soon"));
    assert_eq!(request.verify("sk", at("20231216T162057Z")), Err(VerifyError::Malformed { field: "x-oss-date" }));
}

#[test]
fn the_oss_date_wins_over_the_date() {
    let mut request = Request::shared("text/plain");
    request.headers.insert("date", HeaderValue::from_static("Sat, 01 Jan 2000 00:00:00 GMT"));
    request.sign(&short(), "20231216T162057Z", &[]);
    request.verify("sk", at("20231216T162057Z")).unwrap();
}

#[test]
fn a_kept_key_serves_only_what_it_was_derived_for() {
    let mut request = Request::shared("text/plain");
    request.sign(&short(), "20231216T162057Z", &[]);
    let presented = Presented::find(&request.headers, &request.query).unwrap().unwrap();
    assert_eq!(presented.day_and_region(), Some(("20231216", REGION)));
    let parts = request.target().with_headers(&request.headers);
    let verify = |secret: &str, key: SigningKey| {
        let verifier = Verifier { secret, region: Some(REGION), now: at("20231216T162057Z"), signing_key: Some(&key) };
        presented.verify(&parts, &verifier)
    };
    verify("sk", SigningKey::derive("sk", "20231216", REGION)).unwrap();
    // The key is used as it is: the secret is not looked at where it fits.
    verify("unused", SigningKey::derive("sk", "20231216", REGION)).unwrap();
    assert!(matches!(
        verify("sk", SigningKey::derive("other", "20231216", REGION)),
        Err(VerifyError::SignatureMismatch { .. })
    ));
    // A key of another day or region is left alone.
    verify("sk", SigningKey::derive("sk", "20231217", REGION)).unwrap();
    verify("sk", SigningKey::derive("sk", "20231216", "cn-beijing")).unwrap();
}

#[test]
fn region_and_day_must_fit() {
    let mut request = Request::shared("text/plain");
    request.sign(&short(), "20231216T162057Z", &[]);
    let now = at("20231216T162057Z");
    let presented = Presented::find(&request.headers, &request.query).unwrap().unwrap();
    let parts = request.target().with_headers(&request.headers);
    let elsewhere = Verifier { secret: "sk", region: Some("cn-beijing"), now, signing_key: None };
    assert_eq!(
        presented.verify(&parts, &elsewhere),
        Err(VerifyError::WrongRegion { expected: "cn-beijing".to_owned(), found: REGION.to_owned() })
    );
    presented.verify(&parts, &Verifier { region: None, ..elsewhere }).unwrap();

    let Presented::HeaderV4(mut authorization) = presented else { panic!("a V4 header") };
    authorization.date = "20231217".to_owned();
    let here = Verifier { region: Some(REGION), ..elsewhere };
    assert!(matches!(
        v4::verify_headers(&parts, &authorization, &here),
        Err(VerifyError::WrongScope { field: "date", .. })
    ));
    authorization.product = "oss-cloudbox".to_owned();
    assert!(matches!(
        v4::verify_headers(&parts, &authorization, &here),
        Err(VerifyError::WrongScope { field: "product", .. })
    ));
}

#[test]
fn a_mismatch_shows_what_the_server_signed() {
    let mut request = Request::shared("text/plain");
    request.sign(&short(), "20231216T162057Z", &[]);
    let error = request.verify("other", at("20231216T162057Z")).unwrap_err();
    let VerifyError::SignatureMismatch { string_to_sign, canonical_request: Some(canonical) } = &error else {
        panic!("{error:?}");
    };
    assert!(string_to_sign.starts_with("OSS4-HMAC-SHA256\n20231216T162057Z\n"));
    assert_eq!(canonical, &request.canonical(&[]));
    assert_eq!(error.code(), ErrorCode::SignatureDoesNotMatch);
    assert!(!format!("{error:?} {error}").contains("other"));
}

#[test]
fn urls_verify_until_they_expire() {
    let mut request = Request::shared("application/octet-stream");
    let added = request.presign(&short().with_security_token("token"), "20231217T033009Z", 599, &["abc"]);
    request.query.extend(added);
    let start = at("20231217T033009Z");
    let second = Duration::from_secs(1);
    request.verify("sk", start).unwrap();
    request.verify("sk", start + 599 * second).unwrap();
    request.verify("sk", start - MAX_CLOCK_SKEW).unwrap();
    let end = start + 599 * second;
    assert_eq!(request.verify("sk", end + second), Err(VerifyError::Expired { end, now: end + second }));
    let early = start - MAX_CLOCK_SKEW - second;
    assert_eq!(request.verify("sk", early), Err(VerifyError::NotYetValid { start, now: early }));

    request.headers.insert("abc", HeaderValue::from_static("other"));
    assert!(matches!(request.verify("sk", start), Err(VerifyError::SignatureMismatch { .. })));
    request.headers.insert("authorization", HeaderValue::from_static("OSS a:b"));
    assert_eq!(request.verify("sk", start), Err(VerifyError::TwoSignatures));
}

#[test]
fn the_token_is_found_where_it_was_sent() {
    let credentials = short().with_security_token("token");
    let mut request = Request::shared("text/plain");
    request.sign(&credentials, "20231217T033009Z", &[]);
    let presented = Presented::find(&request.headers, &request.query).unwrap().unwrap();
    assert_eq!(presented.security_token(&request.target().with_headers(&request.headers)), Some("token"));
    assert_eq!(presented.access_key_id(), "ak");

    let mut url = Request::shared("text/plain");
    let added = url.presign(&credentials, "20231217T033009Z", 5, &[]);
    url.query.extend(added);
    let presented = Presented::find(&url.headers, &url.query).unwrap().unwrap();
    assert_eq!(presented.security_token(&url.target().with_headers(&url.headers)), Some("token"));
}

#[test]
fn incomplete_urls_are_refused() {
    let request = Request::shared("text/plain");
    let whole = request.presign(&short(), "20231217T033009Z", 599, &[]);
    for name in ["x-oss-date", "x-oss-expires", "x-oss-credential", "x-oss-signature"] {
        let query: Vec<_> = whole.iter().filter(|(candidate, _)| candidate != name).cloned().collect();
        assert!(
            matches!(Presigned::from_query(&query), Err(VerifyError::MissingParameter { name: missing, .. }) if missing == name)
        );
    }
    for (seconds, ok) in [("0", false), ("1", true), ("604800", true), ("604801", false), ("x", false), ("-1", false)] {
        let mut query = whole.clone();
        query[2].1 = seconds.to_owned();
        let parsed = Presigned::from_query(&query);
        assert_eq!(parsed.is_ok(), ok, "{seconds}");
        if let Err(error) = parsed {
            assert_eq!(error.ec(), Some("0002-00000232"));
        }
    }
    let mut other = whole;
    other[0].1 = "OSS2".to_owned();
    assert!(matches!(Presigned::from_query(&other), Err(VerifyError::Malformed { .. })));
    assert_eq!(Presigned::from_query(&pairs(&[("acl", "")])), Ok(None));
}

#[test]
fn the_validity_of_urls_is_bounded() {
    let request = Request::shared("text/plain");
    let time = at("20231217T033009Z");
    let credentials = short();
    let signing_key = SigningKey::for_time("sk", time, REGION);
    let signer = Signer { credentials: &credentials, signing_key: &signing_key, time, additional: &[] };
    for seconds in [0, 604_801] {
        assert_eq!(
            presign(request.target(), &request.headers, &signer, Duration::from_secs(seconds)),
            Err(SignError::Expires { seconds, longest: 604_800 })
        );
    }
}

#[test]
fn bad_input_is_an_error_not_a_panic() {
    let time = at("20231217T033009Z");
    let stale = SigningKey::for_time("sk", at("20231216T235959Z"), REGION);
    let fresh = SigningKey::for_time("sk", time, REGION);
    let credentials = short();
    let sign = |headers: &[(&str, &[u8])], credentials: &Credentials, signing_key: &SigningKey| {
        let mut map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap()))
            .collect();
        let target = RequestTarget { method: &Method::GET, bucket: None, key: None, query: &[] };
        sign_headers(target, &mut map, &Signer { credentials, signing_key, time, additional: &[] })
    };
    assert!(matches!(sign(&[], &credentials, &stale), Err(SignError::StaleKey { .. })));
    assert_eq!(
        sign(&[("x-oss-meta-a", b"\xff")], &credentials, &fresh),
        Err(SignError::HeaderNotText { name: "x-oss-meta-a".to_owned() })
    );
    assert_eq!(sign(&[("x-oss-meta-a", "数".as_bytes())], &credentials, &fresh), Ok(()));
    assert_eq!(sign(&[("other", b"\xff")], &credentials, &fresh), Ok(()));
    let broken = Credentials::new("a\nb", "sk");
    assert!(matches!(sign(&[], &broken, &fresh), Err(SignError::NotAHeaderValue { .. })));
    let token = short().with_security_token("a\nb");
    assert!(matches!(sign(&[], &token, &fresh), Err(SignError::NotAHeaderValue { .. })));
}

#[test]
fn signing_again_replaces_what_was_signed_before() {
    let mut again = Request::shared("text/plain");
    again.sign(&short().with_security_token("old"), "20231215T000000Z", &["abc"]);
    again.sign(&short(), "20231216T162057Z", &[]);
    let mut once = Request::shared("text/plain");
    once.sign(&short(), "20231216T162057Z", &[]);
    assert_eq!(again.headers, once.headers);
}

#[test]
fn secrets_do_not_show_in_the_headers() {
    let mut request = Request::shared("text/plain");
    request.sign(&short().with_security_token("the-token"), "20231216T162057Z", &[]);
    let shown = format!("{:?}", request.headers);
    assert!(!shown.contains("the-token") && !shown.contains("Signature="), "{shown}");
}

fn tampered(base: &Tamper, change: usize) -> Tamper {
    let mut other = base.clone();
    match change {
        0 => other.method = if base.method == Method::GET { Method::PUT } else { Method::GET },
        1 => other.bucket.push('x'),
        2 => other.key.push('x'),
        3 => other.query.push(("added".to_owned(), String::new())),
        4 => other.query[0].1.push('x'),
        5 => other.header.push('x'),
        _ => other.host.push('x'),
    }
    other
}

#[derive(Clone, Debug)]
struct Tamper {
    method: Method,
    bucket: String,
    key: String,
    query: Vec<(String, String)>,
    header: String,
    host: String,
}

fn requests() -> impl Strategy<Value = Tamper> {
    (
        prop_oneof![Just(Method::GET), Just(Method::PUT), Just(Method::DELETE)],
        "[a-z]{3,8}",
        any::<String>(),
        proptest::collection::vec(("[a-z+| %/]{1,6}", any::<String>()), 1..4),
        "[a-zA-Z0-9 ,;]{0,8}[a-z]",
        "[a-z]{1,8}:[0-9]{2,4}",
    )
        .prop_map(|(method, bucket, key, query, header, host)| Tamper { method, bucket, key, query, header, host })
}

impl Tamper {
    fn target(&self) -> RequestTarget<'_> {
        RequestTarget { method: &self.method, bucket: Some(&self.bucket), key: Some(&self.key), query: &self.query }
    }

    fn headers(&self) -> HeaderMap {
        header_map(&[("x-oss-meta-a", &self.header), ("host", &self.host), ("range", "bytes=0-1")])
    }
}

proptest! {
    #[test]
    fn signed_headers_verify_and_any_change_fails(request in requests(), change in 0usize..7) {
        let time = at("20231216T162057Z");
        let credentials = Credentials::new("ak", "sk");
        let signing_key = SigningKey::for_time("sk", time, REGION);
        let signer = Signer { credentials: &credentials, signing_key: &signing_key, time, additional: &["host"] };
        let mut headers = request.headers();
        sign_headers(request.target(), &mut headers, &signer).unwrap();
        let verifier = Verifier { secret: "sk", region: Some(REGION), now: time, signing_key: None };
        let presented = Presented::find(&headers, &request.query).unwrap().unwrap();
        prop_assert_eq!(presented.verify(&request.target().with_headers(&headers), &verifier), Ok(()));

        let other = tampered(&request, change);
        let mut other_headers = headers.clone();
        other_headers.extend(other.headers());
        let result = presented.verify(&other.target().with_headers(&other_headers), &verifier);
        prop_assert!(matches!(result, Err(VerifyError::SignatureMismatch { .. })), "{:?}", result);
        // Range is not covered: one signature serves every range.
        headers.insert("range", HeaderValue::from_static("bytes=5-9"));
        prop_assert_eq!(presented.verify(&request.target().with_headers(&headers), &verifier), Ok(()));
    }

    #[test]
    fn presigned_urls_verify_and_any_change_fails(request in requests(), change in 0usize..7) {
        let time = at("20231216T162057Z");
        let credentials = Credentials::new("ak", "sk").with_security_token("token");
        let signing_key = SigningKey::for_time("sk", time, REGION);
        let signer = Signer { credentials: &credentials, signing_key: &signing_key, time, additional: &["host"] };
        let headers = request.headers();
        let added = presign(request.target(), &headers, &signer, Duration::from_secs(60)).unwrap();
        let verifier = Verifier { secret: "sk", region: Some(REGION), now: time, signing_key: None };
        let presented = Presented::find(&headers, &added).unwrap().unwrap();
        let check = |request: &Tamper| {
            let query = [request.query.as_slice(), &added].concat();
            let headers = request.headers();
            presented.verify(&RequestTarget { query: &query, ..request.target() }.with_headers(&headers), &verifier)
        };
        prop_assert_eq!(check(&request), Ok(()));
        let result = check(&tampered(&request, change));
        prop_assert!(matches!(result, Err(VerifyError::SignatureMismatch { .. })), "{:?}", result);
    }

    #[test]
    fn parsing_never_panics(text in any::<String>(), fields in "(OSS4-HMAC-SHA256 )?[A-Za-z=/,; ]{0,60}") {
        let _ = Authorization::parse(&text);
        let _ = Authorization::parse(&fields);
    }
}
