//! The sender of a request: signatures of both versions, in headers and in URLs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::request::Parts;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::sign::v4::SigningKey;
use oss_protocol::sign::{Presented, SignedParts, Verifier, VerifyError};
use parking_lot::RwLock;
use subtle::ConstantTimeEq;

use crate::config::{EmulatorConfig, KeyPair};
use crate::error::StartError;
use crate::request::{Sender, Target};
use crate::response::ServiceError;
use crate::rights::{Policy, PolicyError};

/// Signing keys kept for each key pair: those of today and of the days before it whose presigned URLs are still valid, and
/// that of tomorrow for clocks that are ahead.
const KEPT_SIGNING_KEYS: usize = 9;

/// Checks signatures against the accepted key pairs.
#[derive(Debug)]
pub(crate) struct Authenticator {
    region: String,
    accounts: HashMap<String, Account>,
    verify: bool,
}

/// A key pair with the V4 signing keys derived from it, newest last.
#[derive(Debug)]
struct Account {
    pair: KeyPair,
    policy: Option<Arc<Policy>>,
    signing_keys: RwLock<Vec<Arc<SigningKey>>>,
}

impl Account {
    fn new(pair: KeyPair) -> Result<Self, PolicyError> {
        let policy = pair.policy.as_deref().map(|text| Policy::parse_of_user(text.as_bytes())).transpose()?;
        Ok(Self { pair, policy: policy.map(Arc::new), signing_keys: RwLock::default() })
    }

    fn sender(&self) -> Sender {
        match &self.policy {
            None => Sender::Owner,
            Some(policy) => {
                let access_key_id = self.pair.access_key_id.clone();
                Sender::User { access_key_id, policy: Arc::clone(policy) }
            }
        }
    }

    fn signing_key(&self, date: &str, region: &str) -> Option<Arc<SigningKey>> {
        let keys = self.signing_keys.read();
        keys.iter().rev().find(|key| key.date() == date && key.region() == region).cloned()
    }

    /// Keeps the key of a day and region. Called only after a signature was found right, so nobody fills the memory with
    /// keys of days that nobody signs for.
    fn keep_signing_key(&self, date: &str, region: &str) {
        let derived = Arc::new(SigningKey::derive(&self.pair.access_key_secret, date, region));
        let mut keys = self.signing_keys.write();
        if keys.iter().any(|key| key.date() == date && key.region() == region) {
            return;
        }
        if keys.len() == KEPT_SIGNING_KEYS {
            keys.remove(0);
        }
        keys.push(derived);
    }
}

impl Authenticator {
    pub(crate) fn new(config: &EmulatorConfig) -> Result<Self, StartError> {
        let accounts = config
            .key_pairs
            .iter()
            .map(|pair| {
                let id = pair.access_key_id.clone();
                let account = Account::new(pair.clone());
                account
                    .map(|account| (id.clone(), account))
                    .map_err(|error| StartError::Policy { access_key_id: id, reason: error.to_string() })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { region: config.region.clone(), accounts, verify: config.verify_signatures })
    }

    /// Returns who sent the request; an error when it claims a sender and does not prove it.
    pub(crate) fn check(&self, parts: &Parts, target: &Target, now: SystemTime) -> Result<Sender, ServiceError> {
        if !self.verify {
            return Ok(Sender::Owner);
        }
        let query = target.query.pairs();
        let Some(presented) = Presented::find(&parts.headers, query).map_err(|error| refuse(error, None))? else {
            return Ok(Sender::Anyone);
        };
        let access_key_id = presented.access_key_id();
        let Some(account) = self.accounts.get(access_key_id) else {
            return Err(ServiceError::new(ErrorCode::InvalidAccessKeyId).with_field("OSSAccessKeyId", access_key_id));
        };
        let signed = SignedParts {
            method: &parts.method,
            bucket: target.bucket.as_deref(),
            key: target.key.as_deref(),
            query,
            headers: &parts.headers,
        };
        let pair = &account.pair;
        check_token(pair, presented.security_token(&signed), now)?;
        let scope = presented.day_and_region();
        let signing_key = scope.and_then(|(date, region)| account.signing_key(date, region));
        let verifier = Verifier {
            secret: &pair.access_key_secret,
            region: Some(&self.region),
            now,
            signing_key: signing_key.as_deref(),
        };
        presented.verify(&signed, &verifier).map_err(|error| refuse(error, Some(&presented)))?;
        if let (None, Some((date, region))) = (signing_key, scope) {
            account.keep_signing_key(date, region);
        }
        Ok(account.sender())
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
        (Some(token), Some(sent)) if bool::from(token.as_bytes().ct_eq(sent.as_bytes())) => {
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
            let message = match presented {
                Some(Presented::QueryV4(_)) => "The signing region in credential is invalid.",
                _ => "Invalid signing region in Authorization header.",
            };
            refusal.with_message(message).with_ec("0002-00000226")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_signing_keys_are_kept() {
        let account = Account::new(KeyPair::new("id", "secret")).unwrap();
        assert!(account.signing_key("20250101", "cn-hangzhou").is_none());
        for day in 1..=KEPT_SIGNING_KEYS + 1 {
            for _ in 0..2 {
                account.keep_signing_key(&format!("202501{day:02}"), "cn-hangzhou");
            }
        }
        assert_eq!(account.signing_keys.read().len(), KEPT_SIGNING_KEYS);
        assert!(account.signing_key("20250101", "cn-hangzhou").is_none());
        assert!(account.signing_key("20250102", "cn-beijing").is_none());
        let kept = account.signing_key("20250102", "cn-hangzhou").unwrap();
        assert_eq!(kept.scope(), "20250102/cn-hangzhou/oss/aliyun_v4_request");
    }
}
