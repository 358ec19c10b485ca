//! What an emulator is started with.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

/// How the ETag of a plain object is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EtagMode {
    /// The uppercase MD5 of the content, as the service does.
    #[default]
    Md5,
    /// 32 hexadecimal digits made of the CRC64 and the size. MD5 caps one core near 0.6 GB/s, so a benchmark of uploads
    /// would measure MD5. A `Content-MD5` that is sent is still checked.
    Fast,
}

/// An access key that the emulator accepts.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The public half.
    pub access_key_id: String,
    /// The secret half, never printed.
    pub access_key_secret: String,
    /// For temporary credentials: the token that each request must carry.
    pub security_token: Option<String>,
    /// When the token stops working; `None` means never.
    pub expiration: Option<SystemTime>,
}

impl KeyPair {
    /// A permanent key pair.
    pub fn new(access_key_id: impl Into<String>, access_key_secret: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            access_key_secret: access_key_secret.into(),
            security_token: None,
            expiration: None,
        }
    }

    /// The same pair as temporary credentials, which work only together with `token` and until `expiration`.
    #[must_use]
    pub fn with_security_token(mut self, token: impl Into<String>, expiration: Option<SystemTime>) -> Self {
        self.security_token = Some(token.into());
        self.expiration = expiration;
        self
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KeyPair")
            .field("access_key_id", &self.access_key_id)
            .field("access_key_secret", &"***")
            .field("security_token", &self.security_token.as_ref().map(|_| "***"))
            .field("expiration", &self.expiration)
            .finish()
    }
}

/// Everything an [`Emulator`](crate::Emulator) can be told. The default listens on a free port of the loopback interface,
/// keeps objects in memory and accepts no key pair.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    /// Address or name to listen on.
    pub host: String,
    /// Port to listen on; 0 picks a free one.
    pub port: u16,
    /// Region whose signatures are accepted and which buckets are said to be in, such as `cn-hangzhou`.
    pub region: String,
    /// Domain whose subdomains are buckets. Without it an IP address or `localhost` means path style, and the first label of
    /// any other host is the bucket.
    pub domain: Option<String>,
    /// Accepted key pairs. All of them belong to one account, which owns every bucket.
    pub key_pairs: Vec<KeyPair>,
    /// Buckets that exist from the start.
    pub buckets: Vec<String>,
    /// Directory that keeps the objects; `None` keeps them in memory.
    pub root: Option<PathBuf>,
    /// Whether each write reaches the disk before it is answered. Without it a write survives the end of the process but
    /// perhaps not a loss of power.
    pub fsync: bool,
    /// How ETags are made.
    pub etag: EtagMode,
    /// Whether signatures are checked. Turning it off lets every request in, signed or not.
    pub verify_signatures: bool,
}

impl Default for EmulatorConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            region: "cn-hangzhou".to_owned(),
            domain: None,
            key_pairs: Vec::new(),
            buckets: Vec::new(),
            root: None,
            fsync: false,
            etag: EtagMode::Md5,
            verify_signatures: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_masks_secret_and_token() {
        let pair = KeyPair::new("id-1", "very-secret").with_security_token("very-token", None);
        let config = EmulatorConfig { key_pairs: vec![pair], ..EmulatorConfig::default() };
        let text = format!("{config:?}");
        assert!(text.contains("id-1"));
        assert!(!text.contains("very-secret"), "{text}");
        assert!(!text.contains("very-token"), "{text}");
    }
}
