//! What is accepted, and what is refused.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use oss_protocol::sign::v4::{self, Authorization, Presigned, Signer, SigningKey, presign, sign_headers};
use oss_protocol::sign::{MAX_CLOCK_SKEW, Presented, RequestTarget, SignError, Verifier, VerifyError};
use oss_protocol::{Credentials, ErrorCode};

use crate::requests::*;

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
