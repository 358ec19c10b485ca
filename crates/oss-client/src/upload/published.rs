//! What was published, and how to find out if the answer to the publishing request was lost.

use super::parts::Destination;
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
};

/// An object that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its ETag, quotes included.
    pub etag: String,
    /// Its bytes.
    pub size: u64,
    /// Their CRC-64; unknown only of a copy of an object that has none.
    pub crc64: Option<u64>,
}

/// Looks whether the object is what was to be published, although publishing ended with `error`. Returns that error if
/// it is not.
pub(super) async fn ask(
    client: &Client,
    destination: &Destination,
    size: u64,
    crc64: Option<u64>,
    error: Error,
) -> Result<Published> {
    if !may_have_succeeded(&error) {
        return Err(error);
    }
    let Destination { bucket, key } = destination;
    let config = client.config();
    // The failed request had the whole time there is. If the service is down, this one must not take as long again.
    let patience = config.connect_timeout + config.read_timeout;
    let unknown = match tokio::time::timeout(patience, client.head(bucket, key)).await {
        Ok(Ok(found)) if crc64.is_some() && (found.size, found.crc64) == (size, crc64) => {
            tracing::warn!(%error, "an object was published although its last request failed");
            return Ok(Published { etag: found.etag, size, crc64 });
        }
        Ok(Ok(_)) if matches!(error.kind(), ErrorKind::Integrity(_)) => {
            return Err(
                error.with(vec!["the object may have been replaced by bytes that are not those sent".to_owned()])
            );
        }
        Ok(Ok(_)) => return Err(error),
        Ok(Err(second)) if second.is_not_found() => return Err(error),
        Ok(Err(second)) => second.to_string(),
        Err(_) => format!("no answer for {:.1} s", patience.as_secs_f64()),
    };
    Err(error.with(vec![format!("whether the object was published is not known: {unknown}")]))
}

/// Whether the service may have executed a request that ended with this error.
fn may_have_succeeded(error: &Error) -> bool {
    match error.kind() {
        // The service may refuse now what it did at an attempt whose answer was lost.
        ErrorKind::Service { status, .. } => !status.is_client_error() || error.attempts() > 1,
        ErrorKind::Timeout(_) | ErrorKind::Transport(_) | ErrorKind::Integrity(_) | ErrorKind::InvalidReply(_) => true,
        _ => false,
    }
}
