//! Runs the emulator in this process until a signal or the end of standard input stops it.

use std::{
    io::Read,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use oss_emulator::{AdminToken, Certificate, Emulator, EmulatorConfig, EtagMode, FaultRule, KeyPair};
use pyo3::{
    exceptions::{PyOSError, PyRuntimeError, PyValueError},
    prelude::*,
};
use tokio::{runtime::Builder, sync::Notify};

/// How often signals are looked for.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Serves until a signal raises, or until standard input closes if `until_stdin_closes` is set.
#[pyfunction]
#[pyo3(signature = (*, host, port, region, domain, key_pairs, buckets, root, fsync, memory_limit, import_directory, fast_etag, verify_signatures, restore_seconds, tls, certificate, faults, admin_token, block_public_access, requests_per_second, quota, ready, until_stdin_closes))]
#[expect(
    clippy::too_many_arguments,
    clippy::fn_params_excessive_bools,
    reason = "one keyword for each option of the command"
)]
pub(crate) fn run_emulator(
    py: Python<'_>,
    host: String,
    port: u16,
    region: String,
    domain: Option<String>,
    key_pairs: Vec<GivenKey>,
    buckets: Vec<String>,
    root: Option<PathBuf>,
    fsync: bool,
    memory_limit: Option<u64>,
    import_directory: Option<PathBuf>,
    fast_etag: bool,
    verify_signatures: bool,
    restore_seconds: f64,
    tls: bool,
    certificate: Option<(PathBuf, PathBuf)>,
    faults: Option<String>,
    admin_token: Option<String>,
    block_public_access: bool,
    requests_per_second: Option<u32>,
    quota: Option<u64>,
    ready: Py<PyAny>,
    until_stdin_closes: bool,
) -> PyResult<()> {
    let config = EmulatorConfig {
        host,
        port,
        region,
        domain,
        key_pairs: key_pairs.into_iter().map(key_pair).collect::<PyResult<_>>()?,
        buckets,
        root,
        fsync,
        memory_limit,
        import: import_directory,
        etag: if fast_etag { EtagMode::Fast } else { EtagMode::Md5 },
        verify_signatures,
        restore_delay: seconds(restore_seconds)?,
        tls: match certificate {
            Some((certificate, key)) => Some(Certificate::Files { certificate, key }),
            None => tls.then_some(Certificate::Generated),
        },
        faults: fault_rules(faults.as_deref())?,
        block_public_access,
        requests_per_second,
        quota,
        admin_token: admin_token.map(checked_token).transpose()?,
    };
    let stop = Arc::new(Notify::new());
    if until_stdin_closes {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut byte = [0];
            while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
            stop.notify_one();
        });
    }
    py.detach(|| {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| PyRuntimeError::new_err(format!("the server cannot start: {error}")))?;
        runtime.block_on(serve(config, ready, stop))
    })
}

/// Access key ID, secret, security token, when the token expires in seconds since 1970, and the policy of its user.
type GivenKey = (String, String, Option<String>, Option<f64>, Option<String>);

fn key_pair((id, secret, token, expiration, policy): GivenKey) -> PyResult<KeyPair> {
    let mut pair = KeyPair::new(id, secret);
    if let Some(policy) = policy {
        pair = pair.with_policy(policy);
    }
    let Some(token) = token else { return Ok(pair) };
    let expiration = expiration.map(|expiration| seconds(expiration).map(|since| SystemTime::UNIX_EPOCH + since));
    Ok(pair.with_security_token(token, expiration.transpose()?))
}

fn seconds(number: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(number).map_err(|error| PyValueError::new_err(format!("{number} seconds: {error}")))
}

fn fault_rules(json: Option<&str>) -> PyResult<Vec<FaultRule>> {
    match json {
        None => Ok(Vec::new()),
        Some(json) => FaultRule::parse_list(json).map_err(|error| PyValueError::new_err(error.to_string())),
    }
}

fn checked_token(text: String) -> PyResult<AdminToken> {
    AdminToken::new(text)
        .ok_or_else(|| PyValueError::new_err("an admin token has at least 16 characters, all of them visible ASCII"))
}

fn check_signals() -> PyResult<()> {
    Python::attach(|py| {
        py.check_signals()?;
        Ok(())
    })
}

async fn serve(config: EmulatorConfig, ready: Py<PyAny>, stop: Arc<Notify>) -> PyResult<()> {
    let emulator = Emulator::bind(config).await.map_err(|error| PyOSError::new_err(error.to_string()))?;
    let url = emulator.url();
    let trusted = emulator.trusted_certificates();
    Python::attach(|py| ready.call1(py, (url, trusted)))?;
    let mut raised = None;
    let signalled = async {
        loop {
            tokio::time::sleep(SIGNAL_INTERVAL).await;
            if let Err(signal) = check_signals() {
                raised = Some(signal);
                return;
            }
        }
    };
    let shutdown = async {
        tokio::select! {
            () = signalled => {}
            () = stop.notified() => {}
        }
    };
    emulator.serve(shutdown).await.map_err(|error| PyOSError::new_err(error.to_string()))?;
    raised.map_or(Ok(()), Err)
}
