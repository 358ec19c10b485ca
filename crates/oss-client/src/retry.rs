//! Retrying is data: what is left of attempts and time, carried through every request of one operation.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    attempt::Answered,
    backoff,
    config::ClientConfig,
    error::{Error, ErrorKind},
    metrics::METRICS,
};

/// What one operation may still spend on attempts; spans its first request and all its resumptions.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    started: Instant,
    connect_timeout: Duration,
    max_attempts: u32,
    pub(crate) deadline: Instant,
    failed: usize,
    failures: Vec<String>,
    since_progress: u32,
    progress: usize,
    pub(crate) renewed_credentials: bool,
    pub(crate) corrected_clock: bool,
    /// The last attempt, if it succeeded and someone looks on: what follows may find its answer to be wrong.
    pub(crate) answered: Option<Box<Answered>>,
}

/// Bytes between two failures that count as progress. If fewer counted, a server that always breaks off early would be
/// asked for ever.
const PROGRESS: usize = 1 << 20;

/// Most failures that an error lists; a resumed transfer of terabytes may see many.
const FAILURES_KEPT: usize = 16;

impl RetryBudget {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        let started = Instant::now();
        Self {
            started,
            connect_timeout: config.connect_timeout,
            max_attempts: config.max_attempts,
            deadline: started + config.total_timeout,
            failed: 0,
            failures: Vec::new(),
            since_progress: 0,
            progress: 0,
            renewed_credentials: false,
            corrected_clock: false,
            answered: None,
        }
    }

    /// Notes that bytes arrived. After enough of them, failures are counted from zero again, since the service works.
    pub(crate) fn progressed(&mut self, bytes: usize) {
        self.progress += bytes;
        if self.progress >= PROGRESS {
            self.since_progress = 0;
        }
    }

    /// Records the failure of an attempt and waits before the next one, or returns the error if there is none.
    pub(crate) async fn wait_after(&mut self, error: Error) -> Result<(), Error> {
        self.refute(&error);
        self.since_progress += 1;
        self.progress = 0;
        let unreachable =
            matches!(error.kind(), ErrorKind::Connect(_)) && self.started.elapsed() >= self.connect_timeout;
        if !error.is_retryable() || unreachable || self.since_progress >= self.max_attempts {
            METRICS.failed(&error);
            return Err(self.give_up(error));
        }
        let asked = match error.kind() {
            ErrorKind::Service { retry_after, .. } => *retry_after,
            _ => None,
        };
        let mut wait = asked.unwrap_or_default().max(backoff::full_jitter(self.since_progress, &mut rand::rng()));
        if matches!(error.kind(), ErrorKind::Connect(_)) {
            // The last attempt is made when the connect timeout ends, even if the pause would be longer.
            wait = wait.min(self.connect_timeout.saturating_sub(self.started.elapsed()));
        }
        // The server may ask for a longer wait than a clock can hold.
        if wait >= self.deadline.saturating_duration_since(Instant::now()) {
            let total_timeout = (self.deadline - self.started).as_secs_f64();
            let wait = wait.as_secs_f64();
            METRICS.failed(&error);
            return Err(self.give_up(error.ended_by(format!(
                "the next attempt would begin in {wait:.1} s, when total_timeout ({total_timeout:.1} s) is over"
            ))));
        }
        METRICS.retried(&error);
        tracing::warn!(%error, attempt = self.since_progress, wait_ms = wait.as_millis() as u64, "retrying");
        self.record(&error);
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Number of the next attempt, from 1.
    pub(crate) fn number(&self) -> usize {
        self.failed + 1
    }

    fn refute(&mut self, error: &Error) {
        if let Some(answered) = self.answered.take() {
            answered.refuted(error);
        }
    }

    /// Records a failure after which the request is sent again at once, with other credentials or a corrected clock.
    pub(crate) fn record(&mut self, error: &Error) {
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(error.to_string());
        }
    }

    /// The error to return, with the attempts that came before it.
    pub(crate) fn give_up(&mut self, error: Error) -> Error {
        self.refute(&error);
        error.after(std::mem::take(&mut self.failures))
    }
}
