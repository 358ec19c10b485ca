//! The configuration of an emulator.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::fault::FaultRule;

/// Long enough that code which reads at once fails as it would against the service, short enough to wait for in a test.
const DEFAULT_RESTORE_DELAY: Duration = Duration::from_secs(1);

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
    /// For a user with rights of its own: a policy as RAM writes it, in JSON. Without one the pair may do everything.
    pub policy: Option<String>,
}

impl KeyPair {
    /// A permanent key pair.
    pub fn new(access_key_id: impl Into<String>, access_key_secret: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            access_key_secret: access_key_secret.into(),
            security_token: None,
            expiration: None,
            policy: None,
        }
    }

    /// The same pair for a user who may do what the policy allows, which is one of RAM in JSON.
    #[must_use]
    pub fn with_policy(mut self, policy: impl Into<String>) -> Self {
        self.policy = Some(policy.into());
        self
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
            .field("policy", &self.policy)
            .finish()
    }
}

/// The certificate of a server that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// One that is made at the start for `localhost`, the loopback addresses, the address listened on, and the domain with its
    /// subdomains. [`Emulator::trusted_certificates`](crate::Emulator::trusted_certificates) returns the certificates to trust.
    Generated,
    /// One from files in PEM form.
    Files {
        /// The certificate, followed by those of its issuers.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// Smallest length of an [`AdminToken`], so that nobody can guess it over a network.
const SHORTEST_ADMIN_TOKEN: usize = 16;

/// The token that allows a request to change faults and to read the request log. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// A token; `None` if it is too short or contains anything but visible ASCII characters.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fits = text.len() >= SHORTEST_ADMIN_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then_some(Self(text))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AdminToken(***)")
    }
}

/// All settings of an [`Emulator`](crate::Emulator). The default listens on a free port of the loopback interface,
/// keeps objects in memory and accepts no key pair.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    /// Address or name to listen on.
    pub host: String,
    /// Port to listen on; 0 picks a free one.
    pub port: u16,
    /// Region of all buckets, such as `cn-hangzhou`. Only signatures for it are accepted.
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
    /// Most bytes of content kept in memory, objects, parts and responses under way together; `None` for no limit. What does
    /// not fit is refused with `InsufficientStorage`. A store with a root directory keeps no content in memory.
    pub memory_limit: Option<u64>,
    /// Directory whose files become objects of the one bucket of `buckets` before the first request; the path of a file below
    /// the directory is its key.
    pub import: Option<PathBuf>,
    /// How ETags are made.
    pub etag: EtagMode,
    /// Whether signatures are checked. If not, every request is accepted, signed or not.
    pub verify_signatures: bool,
    /// How long an archived object takes to be restored.
    pub restore_delay: Duration,
    /// Whether new buckets block access for everyone, as those of the service do since October 2025.
    pub block_public_access: bool,
    /// The most requests a second that are answered; the others are refused with `QpsLimitExceeded`. `None` for no limit.
    pub requests_per_second: Option<u32>,
    /// The most bytes that the objects of one bucket may have together; a write that would exceed them is refused with
    /// `QuotaExceeded`. `None` for no limit.
    pub quota: Option<u64>,
    /// Faults from the start.
    pub faults: Vec<FaultRule>,
    /// Requests with this token may change faults and read the request log, below the path `/-/admin/`. With `None` nobody may.
    pub admin_token: Option<AdminToken>,
    /// The certificate to serve HTTPS with; `None` serves HTTP.
    pub tls: Option<Certificate>,
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
            memory_limit: None,
            import: None,
            etag: EtagMode::Md5,
            verify_signatures: true,
            restore_delay: DEFAULT_RESTORE_DELAY,
            block_public_access: true,
            requests_per_second: None,
            quota: None,
            faults: Vec::new(),
            admin_token: None,
            tls: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_masks_secret_and_token() {
        let pair = KeyPair::new("id-1", "very-secret").with_security_token("very-token", None);
        let admin_token = AdminToken::new("an-admin-token-that-is-secret");
        let config = EmulatorConfig { key_pairs: vec![pair], admin_token, ..EmulatorConfig::default() };
        let text = format!("{config:?}");
        assert!(text.contains("id-1"));
        assert!(!text.contains("very-secret"), "{text}");
        assert!(!text.contains("very-token"), "{text}");
        assert!(!text.contains("an-admin-token"), "{text}");
    }

    #[test]
    fn admin_tokens_are_long_and_fit_into_a_header() {
        assert!(AdminToken::new("0123456789abcdef").is_some());
        assert!(AdminToken::new("0123456789abcde").is_none());
        assert!(AdminToken::new("0123456789abcdef\n").is_none());
    }
}
