//! Who sent a request: signatures of both versions, in headers and in URLs.

use std::time::SystemTime;

use http::request::Parts;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::sign::{Presented, SignedParts, Verifier, VerifyError};

use crate::config::{EmulatorConfig, KeyPair};
use crate::request::Target;
use crate::response::ServiceError;

/// Checks signatures against the accepted key pairs.
#[derive(Debug)]
pub(crate) struct Authenticator {
    region: String,
    key_pairs: Vec<KeyPair>,
    verify: bool,
}

impl Authenticator {
    pub(crate) fn new(config: &EmulatorConfig) -> Self {
        Self { region: config.region.clone(), key_pairs: config.key_pairs.clone(), verify: config.verify_signatures }
    }

    /// Returns whether the request is anonymous; an error when it claims a sender and does not prove it.
    pub(crate) fn check(&self, parts: &Parts, target: &Target) -> Result<bool, ServiceError> {
        if !self.verify {
            return Ok(false);
        }
        let query = target.query.pairs();
        let Some(presented) = Presented::find(&parts.headers, query).map_err(|error| refuse(error, None))? else {
            return Ok(true);
        };
        let access_key_id = presented.access_key_id();
        let Some(pair) = self.key_pairs.iter().find(|pair| pair.access_key_id == access_key_id) else {
            return Err(ServiceError::new(ErrorCode::InvalidAccessKeyId).with_field("OSSAccessKeyId", access_key_id));
        };
        let signed = SignedParts {
            method: &parts.method,
            bucket: target.bucket.as_deref(),
            key: target.key.as_deref(),
            query,
            headers: &parts.headers,
        };
        let now = SystemTime::now();
        check_token(pair, presented.security_token(&signed), now)?;
        let verifier = Verifier { secret: &pair.access_key_secret, region: Some(&self.region), now };
        presented.verify(&signed, &verifier).map_err(|error| refuse(error, Some(&presented)))?;
        Ok(false)
    }
}

/// A key pair that came with a token is nothing without it, and one that did not takes none.
fn check_token(pair: &KeyPair, sent: Option<&str>, now: SystemTime) -> Result<(), ServiceError> {
    match (&pair.security_token, sent) {
        (None, None) => Ok(()),
        // To the service the identifier of temporary credentials is unknown unless the token says otherwise.
        (Some(_), None) => {
            Err(ServiceError::new(ErrorCode::InvalidAccessKeyId).with_field("OSSAccessKeyId", &pair.access_key_id))
        }
        (Some(token), Some(sent)) if token == sent => {
            if pair.expiration.is_some_and(|expiration| now >= expiration) {
                return Err(ServiceError::new(ErrorCode::SecurityTokenExpired));
            }
            Ok(())
        }
        _ => Err(ServiceError::new(ErrorCode::InvalidSecurityToken)),
    }
}

/// The refusal as the service words it, with what helps to find the difference between two strings to sign.
fn refuse(error: VerifyError, presented: Option<&Presented>) -> ServiceError {
    let mut refusal = ServiceError::new(error.code());
    if let Some(ec) = error.ec() {
        refusal = refusal.with_ec(ec);
    }
    match error {
        VerifyError::SignatureMismatch { string_to_sign, canonical_request } => {
            if let Some(presented) = presented {
                refusal = refusal
                    .with_field("OSSAccessKeyId", presented.access_key_id())
                    .with_field("SignatureProvided", presented.signature());
            }
            refusal = refusal
                .with_field("StringToSignBytes", hexadecimal(&string_to_sign))
                .with_field("StringToSign", string_to_sign);
            match canonical_request {
                None => refusal,
                Some(text) => refusal.with_field("CanonicalRequest", text),
            }
        }
        VerifyError::WrongRegion { .. } => {
            refusal.with_message("Invalid signing region in Authorization header.").with_ec("0002-00000226")
        }
        VerifyError::WrongScope { field: "product", .. } => {
            refusal.with_message("Invalid signing product in Authorization header.").with_ec("0002-00000227")
        }
        VerifyError::TooSkewed { .. } => refusal,
        VerifyError::MissingDate => refusal.with_message("OSS authentication requires a valid Date."),
        other => refusal.with_message(other.to_string()),
    }
}

fn hexadecimal(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(" ")
}
