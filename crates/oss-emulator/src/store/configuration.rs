//! What a bucket is configured with: documents that are returned as they came, and the parts of them that rule requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use oss_protocol::xml::Document;
use oss_protocol::xml::configuration::{BucketUserQos, DefaultEncryption, EncryptionRule, PublicAccessBlock};
use oss_protocol::xml::tagging::Tagging;

use crate::cors::CorsRules;
use crate::rights::Policy;

/// A configuration of a bucket. Its name is that of the sub-resource, and of the file that a directory store keeps it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ConfigurationKind {
    Cors,
    Encryption,
    Lifecycle,
    Logging,
    Policy,
    PublicAccessBlock,
    Qos,
    Referer,
    RequestPayment,
    Tagging,
    Website,
}

impl ConfigurationKind {
    const ALL: [Self; 11] = [
        Self::Cors,
        Self::Encryption,
        Self::Lifecycle,
        Self::Logging,
        Self::Policy,
        Self::PublicAccessBlock,
        Self::Qos,
        Self::Referer,
        Self::RequestPayment,
        Self::Tagging,
        Self::Website,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cors => "cors",
            Self::Encryption => "encryption",
            Self::Lifecycle => "lifecycle",
            Self::Logging => "logging",
            Self::Policy => "policy",
            Self::PublicAccessBlock => "publicAccessBlock",
            Self::Qos => "qos",
            Self::Referer => "referer",
            Self::RequestPayment => "requestPayment",
            Self::Tagging => "tagging",
            Self::Website => "website",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The configurations of one bucket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Configurations {
    documents: BTreeMap<ConfigurationKind, Bytes>,
    pub(crate) cors: Option<Arc<CorsRules>>,
    pub(crate) policy: Option<Arc<Policy>>,
    /// Whether access for everyone is blocked, whatever access control lists and policies say.
    pub(crate) block_public_access: bool,
    /// How objects are said to be encrypted that name nothing else.
    pub(crate) encryption: Option<Arc<DefaultEncryption>>,
    /// Most bytes that the bucket may hold.
    pub(crate) capacity: Option<u64>,
    /// The bucket's own tags.
    pub(crate) tags: Vec<(String, String)>,
}

impl Configurations {
    pub(super) fn documents(&self) -> impl Iterator<Item = (ConfigurationKind, &Bytes)> {
        self.documents.iter().map(|(kind, document)| (*kind, document))
    }

    pub(crate) fn document(&self, kind: ConfigurationKind) -> Option<&Bytes> {
        self.documents.get(&kind)
    }

    /// Takes a document, which is checked first, or removes the present one. The error says what is wrong with it.
    pub(crate) fn set(&mut self, kind: ConfigurationKind, document: Option<Bytes>) -> Result<(), String> {
        let text = document.as_deref();
        match kind {
            ConfigurationKind::Cors => self.cors = text.map(CorsRules::parse).transpose()?.map(Arc::new),
            ConfigurationKind::Policy => {
                self.policy =
                    text.map(Policy::parse_of_bucket).transpose().map_err(|error| error.to_string())?.map(Arc::new);
            }
            ConfigurationKind::PublicAccessBlock => {
                let blocked = text.map(PublicAccessBlock::parse).transpose().map_err(|error| error.to_string())?;
                self.block_public_access = blocked.is_some_and(|found| found.block_public_access);
            }
            ConfigurationKind::Encryption => {
                let rule = text.map(EncryptionRule::parse).transpose().map_err(|error| error.to_string())?;
                self.encryption = rule.map(|rule| Arc::new(rule.default));
            }
            ConfigurationKind::Qos => {
                let found = text.map(BucketUserQos::parse).transpose().map_err(|error| error.to_string())?;
                // The service counts in GB.
                self.capacity = found.and_then(|found| found.gigabytes()?.checked_mul(1 << 30));
            }
            ConfigurationKind::Tagging => {
                let tagging = text.map(Tagging::parse).transpose().map_err(|error| error.to_string())?;
                self.tags = tagging.map(|found| found.tags).unwrap_or_default();
            }
            _ => {}
        }
        match document {
            Some(document) => self.documents.insert(kind, document),
            None => self.documents.remove(&kind),
        };
        Ok(())
    }
}
