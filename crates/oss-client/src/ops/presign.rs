//! URLs that hold a signature, for programs without an access key.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method};
use oss_protocol::{
    canonical, header as oss_header,
    sign::{RequestTarget, SignatureVersion, v1, v4},
};

use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
};

impl Client {
    /// Returns a URL that anyone may send a request to until it expires. The signature covers `headers`: the user of the
    /// URL must send them with the same values.
    pub async fn presign(
        &self,
        method: &Method,
        bucket: &str,
        key: &str,
        expires: Duration,
        headers: &HeaderMap,
    ) -> Result<String> {
        let invalid = |cause: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Config(format!("no URL can be signed: {cause}"))).on(Some(bucket), Some(key))
        };
        let config = self.config();
        let endpoint = config.endpoint.as_ref().ok_or_else(|| invalid(&"objects are files of this machine"))?;
        let signing = self.signing().await?;
        let signer = signing.signer().ok_or_else(|| invalid(&"the client is anonymous"))?;
        let time = self.now();
        // Programs that use the URL need not know of this header, and OSS also takes it from the query.
        let payer = config.headers.get(oss_header::REQUEST_PAYER).and_then(|value| value.to_str().ok());
        let payer = payer.map(|value| (oss_header::REQUEST_PAYER.as_str().to_owned(), value.to_owned()));
        let mut query: Vec<(String, String)> = payer.into_iter().collect();
        let target = RequestTarget { method, bucket: Some(bucket), key: Some(key), query: &query };
        let signed = match config.signature_version {
            SignatureVersion::V4 => {
                let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
                let signing_key = signer.signing_key(time, &config.region);
                let credentials = &signer.credentials;
                let signer = v4::Signer { credentials, signing_key: &signing_key, time, additional: &names };
                v4::presign(target, headers, &signer, expires)
            }
            SignatureVersion::V1 => v1::presign(target, headers, &signer.credentials, time, expires),
        };
        query.extend(signed.map_err(|error| invalid(&error))?);
        let query = canonical::format_query(&query);
        let (scheme, authority) = (endpoint.scheme(), endpoint.authority(Some(bucket)));
        Ok(format!("{scheme}://{authority}{}?{query}", endpoint.path(Some(bucket), Some(key))))
    }
}
