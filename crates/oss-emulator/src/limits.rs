//! The most requests a second that the server answers.

use std::time::Instant;

use oss_protocol::error_code::ErrorCode;
use parking_lot::Mutex;

use crate::response::ServiceError;

/// Lets a number of requests through a second, and as many at once after a pause; refuses the others as the service does.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_second: f64,
    state: Mutex<(Instant, f64)>,
}

impl RateLimit {
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, state: Mutex::new((Instant::now(), per_second)) }
    }

    pub(crate) fn take(&self) -> Result<(), ServiceError> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Result<(), ServiceError> {
        let mut state = self.state.lock();
        let (last, left) = *state;
        let gained = now.saturating_duration_since(last).as_secs_f64() * self.per_second;
        let left = (left + gained).min(self.per_second);
        if left < 1.0 {
            *state = (now, left);
            return Err(ServiceError::new(ErrorCode::QpsLimitExceeded));
        }
        *state = (now, left - 1.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn so_many_a_second() {
        let limit = RateLimit::new(10);
        let start = Instant::now();
        let passed = (0..20).filter(|_| limit.take_at(start).is_ok()).count();
        assert_eq!(passed, 10);
        let later = start + Duration::from_millis(500);
        let passed = (0..20).filter(|_| limit.take_at(later).is_ok()).count();
        assert!((4..=6).contains(&passed), "{passed}");
    }
}
