//! Signature version 4 against signatures that the official signers made.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod requests;
mod tampering;
mod vectors;
mod verification;
