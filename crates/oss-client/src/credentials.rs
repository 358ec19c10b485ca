//! Credentials that refresh themselves ahead of their expiration.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use oss_protocol::{canonical::encode_query, credentials::Credentials, sign::v4::SigningKey, time::unix_seconds};

use crate::{
    error::{Error, ErrorKind, Result},
    sync::lock,
};

/// Credentials are renewed this long before they expire, so that a request signed just before still arrives in time.
const REFRESH_AHEAD: Duration = Duration::from_secs(300);

/// Where credentials come from.
///
/// `fetch` may block (it can read a file or call into Python); it runs on a blocking thread.
pub trait CredentialProvider: Send + Sync + 'static {
    /// Returns the current credentials, or `None` for anonymous access.
    ///
    /// `refused` are those that the server has just refused: a provider with a memory of its own does not answer with
    /// them again while it can get others.
    fn fetch(&self, refused: Option<&Credentials>) -> std::result::Result<Option<Credentials>, String>;
}

/// Credentials that never change.
pub struct StaticCredentials(pub Option<Credentials>);

impl CredentialProvider for StaticCredentials {
    fn fetch(&self, _refused: Option<&Credentials>) -> std::result::Result<Option<Credentials>, String> {
        Ok(self.0.clone())
    }
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StaticCredentials")
    }
}

/// The credentials in use, and the signing key derived from them for the current day.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) credentials: Credentials,
    key: Arc<Mutex<Option<DayKey>>>,
}

/// A signing key and the days since 1970 of its day.
type DayKey = (u64, Arc<SigningKey>);

const SECONDS_PER_DAY: u64 = 86_400;

impl Signer {
    fn new(credentials: Credentials) -> Self {
        Self { credentials, key: Arc::new(Mutex::new(None)) }
    }

    /// The key for the day of `time`; derived once a day, since that costs more than the signature itself.
    pub(crate) fn signing_key(&self, time: SystemTime, region: &str) -> Arc<SigningKey> {
        let today = unix_seconds(time) / SECONDS_PER_DAY;
        let mut cached = lock(&self.key);
        match &*cached {
            Some((day, key)) if *day == today => Arc::clone(key),
            _ => {
                let key = Arc::new(SigningKey::for_time(self.credentials.access_key_secret(), time, region));
                *cached = Some((today, Arc::clone(&key)));
                key
            }
        }
    }
}

/// How requests are signed now.
#[derive(Clone)]
pub(crate) enum Signing {
    /// Access is anonymous.
    Unsigned,
    /// With these credentials.
    With(Arc<Signer>),
}

impl Signing {
    /// The signer, if requests are signed.
    pub(crate) fn signer(&self) -> Option<&Signer> {
        match self {
            Self::Unsigned => None,
            Self::With(signer) => Some(signer),
        }
    }
}

/// What only this client and the service may know of a request. Servers and proxies repeat it in their messages.
#[derive(Clone)]
pub(crate) struct Secrets {
    signing: Signing,
    signature: String,
}

/// What stands for a secret in a text.
const HIDDEN: &str = "***";

/// A shorter text is no secret of a service, and may occur in any message.
const SHORTEST_SECRET: usize = 8;

impl Secrets {
    pub(crate) fn new(signing: Signing, signature: String) -> Self {
        Self { signing, signature }
    }

    /// The error with each of its texts searched.
    pub(crate) fn hidden_in(&self, error: Error) -> Error {
        let credentials = self.signing.signer().map(|signer| &signer.credentials);
        let kept = [credentials.map(Credentials::access_key_secret), credentials.and_then(Credentials::security_token)];
        let kept = kept.into_iter().flatten().chain([self.signature.as_str()]);
        let kept: Vec<String> = kept.filter(|secret| secret.len() >= SHORTEST_SECRET).flat_map(spellings).collect();
        error.map_texts(|text| kept.iter().fold(text, |text, secret| text.replace(secret, HIDDEN)))
    }
}

/// The forms in which a secret is repeated.
fn spellings(secret: &str) -> [String; 4] {
    let encoded = encode_query(secret).into_owned();
    [secret.to_owned(), encoded.replace("%2F", "/"), encoded, STANDARD.encode(secret)]
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets")
    }
}

struct Cached {
    signing: Signing,
    fetched: Instant,
}

/// Caches what a provider returns, and asks it again when that is old, about to expire, or refused by the server.
pub(crate) struct CredentialCache {
    provider: Arc<dyn CredentialProvider>,
    refresh: Duration,
    cached: Mutex<Option<Cached>>,
    fetching: tokio::sync::Mutex<()>,
}

impl CredentialCache {
    pub(crate) fn new(provider: Arc<dyn CredentialProvider>, refresh: Duration) -> Self {
        Self { provider, refresh, cached: Mutex::new(None), fetching: tokio::sync::Mutex::new(()) }
    }

    /// How to sign the next request.
    pub(crate) async fn signing(&self) -> Result<Signing> {
        if let Some(signing) = self.fresh() {
            return Ok(signing);
        }
        let _one_at_a_time = self.fetching.lock().await;
        if let Some(signing) = self.fresh() {
            return Ok(signing);
        }
        match self.fetch(None).await {
            Err(error) => self.unexpired().ok_or(error).inspect(|_| {
                tracing::warn!("the access key could not be renewed and is used on until it expires");
            }),
            fetched => fetched,
        }
    }

    /// Asks the provider again after a refusal; returns whether the credentials are now different ones.
    pub(crate) async fn renew_after_refusal(&self, refused: &Signer) -> Result<bool> {
        let _one_at_a_time = self.fetching.lock().await;
        let differs =
            |signing: &Signing| signing.signer().is_some_and(|signer| !same(&signer.credentials, &refused.credentials));
        if self.fresh().as_ref().is_some_and(&differs) {
            return Ok(true);
        }
        Ok(differs(&self.fetch(Some(&refused.credentials)).await?))
    }

    /// What is cached, if it is not to be renewed yet.
    fn fresh(&self) -> Option<Signing> {
        let cached = lock(&self.cached);
        let cached = cached.as_ref()?;
        let expires = cached.signing.signer().and_then(|signer| signer.credentials.expiration());
        let now = SystemTime::now();
        // An expiration says itself how long the credentials hold; without one the provider may rotate at any time.
        let (expired, lasting) = match expires {
            Some(expires) => (expires <= now, now + REFRESH_AHEAD < expires),
            None => (false, false),
        };
        let recent = cached.fetched.elapsed() < self.refresh;
        (!expired && (lasting || recent)).then(|| cached.signing.clone())
    }

    /// What is cached, if its expiration is known and has not come. It is renewed when it is old once more.
    fn unexpired(&self) -> Option<Signing> {
        let mut cached = lock(&self.cached);
        let cached = cached.as_mut()?;
        let expires = cached.signing.signer()?.credentials.expiration()?;
        (SystemTime::now() < expires).then(|| {
            cached.fetched = Instant::now();
            cached.signing.clone()
        })
    }

    async fn fetch(&self, refused: Option<&Credentials>) -> Result<Signing> {
        let provider = Arc::clone(&self.provider);
        let refused = refused.cloned();
        let fetched = tokio::task::spawn_blocking(move || provider.fetch(refused.as_ref())).await;
        let credentials = match fetched {
            Ok(Ok(credentials)) => credentials,
            Ok(Err(message)) => return Err(Error::new(ErrorKind::Credentials(message))),
            Err(_) => {
                let message = "the credential provider panicked".to_owned();
                return Err(Error::new(ErrorKind::Credentials(message)));
            }
        };
        let mut cached = lock(&self.cached);
        let signing = credentials.map_or(Signing::Unsigned, |new| {
            Signing::With(Arc::new(match &*cached {
                // The same credentials keep their derived key.
                Some(Cached { signing: Signing::With(old), .. }) if same(&old.credentials, &new) => {
                    Signer { credentials: new, key: Arc::clone(&old.key) }
                }
                _ => Signer::new(new),
            }))
        });
        *cached = Some(Cached { signing: signing.clone(), fetched: Instant::now() });
        Ok(signing)
    }
}

fn same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id()
        && one.access_key_secret() == other.access_key_secret()
        && one.security_token() == other.security_token()
}

impl fmt::Debug for CredentialCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CredentialCache")
    }
}
