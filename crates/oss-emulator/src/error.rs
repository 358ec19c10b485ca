//! Why an emulator could not start.

use std::io;
use std::path::PathBuf;

use crate::store::StoreError;

/// The reason why an [`Emulator`](crate::Emulator) could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another process listens on the address.
    #[error("{address} is taken by another process; choose another port, or port 0 for any free one")]
    AddressTaken {
        /// `host:port` as configured.
        address: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// `host:port` as configured.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A configured bucket name is not allowed.
    #[error("bucket name {name:?} is not valid: {reason}")]
    BucketName {
        /// The name.
        name: String,
        /// The rule it breaks.
        reason: String,
    },
    /// The region is not allowed.
    #[error("region {region:?} is not valid; a region such as cn-hangzhou has lowercase letters, digits and hyphens")]
    Region {
        /// The region.
        region: String,
    },
    /// The directory is used by a running emulator.
    #[error("{} is in use by another emulator; stop it, or choose another root directory", root.display())]
    RootInUse {
        /// The directory.
        root: PathBuf,
    },
    /// The directory cannot keep objects.
    #[error("{} cannot be used as the root directory: {reason}", root.display())]
    RootUnusable {
        /// The directory.
        root: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file with the certificate or its key cannot be used.
    #[error("{} cannot be used for TLS: {reason}", path.display())]
    CertificateFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {reason}")]
    GeneratedCertificate {
        /// The reason.
        reason: String,
    },
    /// The policy of a key is wrong.
    #[error("the policy of access key {access_key_id:?} cannot be used: {reason}")]
    Policy {
        /// The access key's ID.
        access_key_id: String,
        /// What is wrong with it, with the statement.
        reason: String,
    },
    /// A configured rule for faults is wrong.
    #[error("the faults cannot be used: {reason}")]
    Fault {
        /// The reason.
        reason: String,
    },
    /// The files to start with could not be loaded.
    #[error("cannot import {}: {reason}", directory.display())]
    Import {
        /// The directory with the files.
        directory: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A configured bucket could not be created.
    #[error("cannot create bucket {name:?}: {source}")]
    CreateBucket {
        /// The bucket.
        name: String,
        /// The cause.
        source: io::Error,
    },
}

impl StartError {
    pub(crate) fn from_store(name: &str, error: StoreError) -> Option<Self> {
        match error {
            StoreError::BucketAlreadyExists => None,
            StoreError::Io(source) => Some(Self::CreateBucket { name: name.to_owned(), source }),
            other => Some(Self::CreateBucket { name: name.to_owned(), source: io::Error::other(other) }),
        }
    }
}
