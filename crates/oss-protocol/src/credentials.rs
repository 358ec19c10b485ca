//! An access key that does not print itself.

use std::fmt;
use std::time::SystemTime;

/// An access key pair, with the token and end of validity that STS adds to it.
///
/// There is no `Display`, and `Debug` shows the access key id and nothing of the secret or the token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key_id: String,
    access_key_secret: String,
    security_token: Option<String>,
    expiration: Option<SystemTime>,
}

impl Credentials {
    /// Returns a permanent key pair.
    pub fn new(access_key_id: impl Into<String>, access_key_secret: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            access_key_secret: access_key_secret.into(),
            security_token: None,
            expiration: None,
        }
    }

    /// Returns the credentials with an STS token. An empty token counts as none.
    #[must_use]
    pub fn with_security_token(mut self, token: impl Into<String>) -> Self {
        self.security_token = Some(token.into()).filter(|token| !token.is_empty());
        self
    }

    /// Returns the credentials with the time at which they stop being valid.
    #[must_use]
    pub fn with_expiration(mut self, expiration: SystemTime) -> Self {
        self.expiration = Some(expiration);
        self
    }

    /// The public half of the key pair.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The secret half of the key pair.
    pub fn access_key_secret(&self) -> &str {
        &self.access_key_secret
    }

    /// The STS token of temporary credentials.
    pub fn security_token(&self) -> Option<&str> {
        self.security_token.as_deref()
    }

    /// When the credentials stop being valid; `None` is never.
    pub fn expiration(&self) -> Option<SystemTime> {
        self.expiration
    }

    /// Whether the credentials are no longer valid at `now`.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expiration.is_some_and(|expiration| expiration <= now)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .field("access_key_secret", &"***")
            .field("security_token", &self.security_token.as_ref().map(|_| "***"))
            .field("expiration", &self.expiration)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn debug_masks_secret_and_token() {
        let credentials = Credentials::new("the-id", "the-secret").with_security_token("the-token");
        let shown = format!("{credentials:?} {credentials:#?}");
        assert!(shown.contains("the-id"));
        assert!(!shown.contains("the-secret") && !shown.contains("the-token"), "{shown}");
        assert!(format!("{:?}", Credentials::new("a", "b")).contains("security_token: None"));
    }

    #[test]
    fn empty_token_is_none() {
        assert_eq!(Credentials::new("a", "b").with_security_token("").security_token(), None);
    }

    #[test]
    fn expiration_is_inclusive() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        let credentials = Credentials::new("a", "b").with_expiration(end);
        assert!(credentials.is_expired(end));
        assert!(!credentials.is_expired(end - Duration::from_secs(1)));
        assert!(!Credentials::new("a", "b").is_expired(end));
    }
}
