//! Runs the emulator until interrupted, configured by the environment: `OSS_EMULATOR_HOST`, `OSS_EMULATOR_PORT`,
//! `OSS_EMULATOR_REGION`, `OSS_EMULATOR_DOMAIN`, `OSS_EMULATOR_ROOT`, `OSS_EMULATOR_BUCKETS` (separated by commas),
//! `OSS_EMULATOR_ETAG=fast`, `OSS_EMULATOR_VERIFY=false`, `OSS_EMULATOR_ALLOW_PUBLIC_ACCESS=true`, and the key pair as `OSS_ACCESS_KEY_ID`,
//! `OSS_ACCESS_KEY_SECRET` and `OSS_SESSION_TOKEN`.
#![expect(clippy::print_stdout, reason = "the address is what the program is asked for")]

use std::env;
use std::error::Error;

use oss_emulator::{Emulator, EmulatorConfig, EtagMode, KeyPair};

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let id = variable("OSS_ACCESS_KEY_ID").unwrap_or_else(|| "test-id".to_owned());
    let secret = variable("OSS_ACCESS_KEY_SECRET").unwrap_or_else(|| "test-secret".to_owned());
    let mut pair = KeyPair::new(id, secret);
    if let Some(token) = variable("OSS_SESSION_TOKEN") {
        pair = pair.with_security_token(token, None);
    }
    let mut config = EmulatorConfig {
        port: variable("OSS_EMULATOR_PORT").map_or(Ok(9400), |port| port.parse())?,
        domain: variable("OSS_EMULATOR_DOMAIN"),
        key_pairs: vec![pair],
        buckets: variable("OSS_EMULATOR_BUCKETS")
            .map(|names| names.split(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        root: variable("OSS_EMULATOR_ROOT").map(Into::into),
        verify_signatures: variable("OSS_EMULATOR_VERIFY").as_deref() != Some("false"),
        block_public_access: variable("OSS_EMULATOR_ALLOW_PUBLIC_ACCESS").as_deref() != Some("true"),
        ..EmulatorConfig::default()
    };
    if variable("OSS_EMULATOR_ETAG").as_deref() == Some("fast") {
        config.etag = EtagMode::Fast;
    }
    if let Some(host) = variable("OSS_EMULATOR_HOST") {
        config.host = host;
    }
    if let Some(region) = variable("OSS_EMULATOR_REGION") {
        config.region = region;
    }
    let emulator = Emulator::bind(config).await?;
    println!("{}", emulator.url());
    emulator
        .serve(async {
            // Without a handler for the signal the server runs until it is killed.
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
        .await?;
    Ok(())
}
