//! Credentials that a Python callable supplies.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use oss_client::credentials::CredentialProvider;
use oss_protocol::credentials::Credentials;
use pyo3::prelude::*;

use crate::visit::visit;

/// Calls `(refused) -> (access_key_id, access_key_secret, security_token | None, expiration | None)`. `refused` is the
/// ID of the refused access key, or None; the expiration is in Unix time.
pub(crate) struct PythonProvider {
    pub(crate) callable: Py<PyAny>,
}

type Answer = (String, String, Option<String>, Option<f64>);

impl CredentialProvider for PythonProvider {
    fn fetch(&self, refused: Option<&Credentials>) -> Result<Option<Credentials>, String> {
        let refused = refused.map(Credentials::access_key_id);
        let answer = visit(|py| {
            let answer: PyResult<Answer> = self.callable.bind(py).call1((refused,)).and_then(|answer| answer.extract());
            // Only the text: a traceback could show local variables, and those are secrets here.
            answer.map_err(|error| error.value(py).to_string())
        });
        let (id, secret, token, expiration) =
            answer.unwrap_or_else(|| Err("the interpreter is shutting down".to_owned()))?;
        let mut credentials = Credentials::new(id, secret);
        if let Some(token) = token {
            credentials = credentials.with_security_token(token);
        }
        if let Some(seconds) = expiration
            && let Ok(since) = Duration::try_from_secs_f64(seconds)
        {
            credentials = credentials.with_expiration(SystemTime::UNIX_EPOCH + since);
        }
        Ok(Some(credentials))
    }
}

impl fmt::Debug for PythonProvider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PythonProvider")
    }
}
