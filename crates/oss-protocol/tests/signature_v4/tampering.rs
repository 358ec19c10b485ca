//! A changed request does not verify.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use oss_protocol::Credentials;
use oss_protocol::sign::v4::{Authorization, Signer, SigningKey, presign, sign_headers};
use oss_protocol::sign::{Presented, RequestTarget, Verifier, VerifyError};
use proptest::prelude::*;

use crate::requests::*;

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
