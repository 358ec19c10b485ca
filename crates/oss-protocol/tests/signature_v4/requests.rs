//! Requests to sign, and the keys to sign them with.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use oss_protocol::Credentials;
use oss_protocol::sign::v4::{Signer, SigningKey, canonical_request, presign, sign_headers, string_to_sign};
use oss_protocol::sign::{Presented, RequestTarget, Verifier, VerifyError};
use oss_protocol::time::parse_oss_date;

pub(crate) const REGION: &str = "cn-hangzhou";

pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) bucket: Option<&'static str>,
    pub(crate) key: Option<&'static str>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
}

impl Request {
    pub(crate) fn new(
        method: Method,
        bucket: Option<&'static str>,
        key: Option<&'static str>,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Self {
        Self { method, bucket, key, query: pairs(query), headers: header_map(headers) }
    }

    /// The request that vectors A to F share, but for its content type.
    pub(crate) fn shared(content_type: &str) -> Self {
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

    pub(crate) fn target(&self) -> RequestTarget<'_> {
        RequestTarget { method: &self.method, bucket: self.bucket, key: self.key, query: &self.query }
    }

    pub(crate) fn sign(&mut self, credentials: &Credentials, date_time: &str, additional: &[&str]) -> String {
        let time = parse_oss_date(date_time).unwrap();
        let signing_key = SigningKey::for_time(credentials.access_key_secret(), time, REGION);
        let target = RequestTarget { method: &self.method, bucket: self.bucket, key: self.key, query: &self.query };
        let signer = Signer { credentials, signing_key: &signing_key, time, additional };
        sign_headers(target, &mut self.headers, &signer).unwrap();
        self.headers["authorization"].to_str().unwrap().to_owned()
    }

    pub(crate) fn presign(
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

    pub(crate) fn canonical(&self, additional: &[&str]) -> String {
        canonical_request(&self.target().with_headers(&self.headers), additional).unwrap()
    }

    pub(crate) fn verify(&self, secret: &str, now: SystemTime) -> Result<(), VerifyError> {
        let verifier = Verifier { secret, region: Some(REGION), now, signing_key: None };
        let presented = Presented::find(&self.headers, &self.query)?.expect("a signature");
        presented.verify(&self.target().with_headers(&self.headers), &verifier)
    }
}

pub(crate) fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn header_map(list: &[(&str, &str)]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

pub(crate) fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
}

pub(crate) fn short() -> Credentials {
    Credentials::new("ak", "sk")
}

pub(crate) fn example() -> Credentials {
    Credentials::new("LTAI-example-ak", "example-secret")
}

pub(crate) fn at(date_time: &str) -> SystemTime {
    parse_oss_date(date_time).unwrap()
}

pub(crate) fn sha256_hex(text: &str) -> String {
    // The string to sign ends with the hash of the canonical request.
    string_to_sign("", "", text).rsplit('\n').next().unwrap().to_owned()
}
