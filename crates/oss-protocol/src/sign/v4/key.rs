//! The signing key of one day and region, and the hashes it is made with.

use std::fmt;
use std::time::SystemTime;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::{ALGORITHM, PRODUCT, TERMINATOR, scope};
use crate::time::format_oss_date;

/// A key derived from a secret for one day and one region.
///
/// Deriving takes four rounds of HMAC, so a client keeps the key until the day changes. Its `Debug` does not show it.
#[derive(Clone)]
pub struct SigningKey {
    date: String,
    region: String,
    scope: String,
    /// HMAC with the key already taken in, which saves two of the four hash blocks of every signature.
    mac: Hmac<Sha256>,
}

impl SigningKey {
    /// Derives the key for a day, `YYYYMMDD`, and a region.
    pub fn derive(secret: &str, date: &str, region: &str) -> Self {
        Self {
            date: date.to_owned(),
            region: region.to_owned(),
            scope: scope(date, region),
            mac: keyed(&derive_bytes(secret, date, region)),
        }
    }

    /// Derives the key for the day of `time`.
    pub fn for_time(secret: &str, time: SystemTime, region: &str) -> Self {
        let date_time = format_oss_date(time);
        Self::derive(secret, date_time.get(..8).unwrap_or(&date_time), region)
    }

    /// The day of the key, `YYYYMMDD`.
    pub fn date(&self) -> &str {
        &self.date
    }

    /// The region of the key.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The scope of signatures made with the key.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Returns the signature of a canonical request in hexadecimal.
    pub(super) fn signature(&self, date_time: &str, canonical_request: &str) -> Hex {
        let hash = Hex::of(&sha256(canonical_request.as_bytes()));
        let mut mac = self.mac.clone();
        for piece in [ALGORITHM, "\n", date_time, "\n", &self.scope, "\n"] {
            mac.update(piece.as_bytes());
        }
        mac.update(hash.as_str().as_bytes());
        Hex::of(&mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("date", &self.date)
            .field("region", &self.region)
            .field("key", &"***")
            .finish_non_exhaustive()
    }
}

fn derive_bytes(secret: &str, date: &str, region: &str) -> [u8; 32] {
    let first = [b"aliyun_v4", secret.as_bytes()].concat();
    let mut key = hmac_sha256(&first, date.as_bytes());
    for part in [region, PRODUCT, TERMINATOR] {
        key = hmac_sha256(&key, part.as_bytes());
    }
    key
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// HMAC takes keys of any length, so the error of `new_from_slice` cannot occur; a key of one block needs no `Result`.
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = [0u8; 64];
    if let Some(start) = block.get_mut(..key.len()) {
        start.copy_from_slice(key);
    } else {
        block[..32].copy_from_slice(&sha256(key));
    }
    <Hmac<Sha256> as hmac::digest::KeyInit>::new(&block.into())
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A hash in hexadecimal.
pub(super) struct Hex([u8; 64]);

impl Hex {
    pub(super) fn of(hash: &[u8; 32]) -> Self {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(hash) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        Self(digits)
    }

    pub(super) fn as_str(&self) -> &str {
        // They are digits, so this does not fail.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_oss_date;

    fn derived_hex(secret: &str, date: &str) -> String {
        Hex::of(&derive_bytes(secret, date, "cn-hangzhou")).as_str().to_owned()
    }

    #[test]
    fn derived_keys_of_the_vectors() {
        assert_eq!(derived_hex("sk", "20231216"), "b412a03b134ebddd720f5167b5de6db66620ebb3b01cff4d49e3ccb09f8de97f");
        assert_eq!(
            derived_hex("example-secret", "20250101"),
            "f507ed8427c578fc5cc81a338911126dabf48ef319309dcaa6af63ba96664428"
        );
    }

    #[test]
    fn long_keys_are_hashed_first() {
        // RFC 4231, test case 6: a key of 131 bytes.
        let hash = hmac_sha256(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(Hex::of(&hash).as_str(), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn a_key_is_of_the_day_of_its_time() {
        let key = SigningKey::for_time("sk", parse_oss_date("20231216T235959Z").unwrap(), "cn-hangzhou");
        assert_eq!(key.scope(), "20231216/cn-hangzhou/oss/aliyun_v4_request");
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let key = SigningKey::derive("the-secret", "20231216", "cn-hangzhou");
        let shown = format!("{key:?}");
        assert!(!shown.contains("the-secret") && shown.contains("***") && !shown.contains("mac"), "{shown}");
    }
}
