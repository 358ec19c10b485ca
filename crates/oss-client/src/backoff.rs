//! How long to wait before the next attempt: full jitter, as the official SDKs do.

use std::time::Duration;

use rand::Rng;

/// The wait before the first retry is a random share of twice this, as in the official SDKs.
const BASE: Duration = Duration::from_millis(200);

/// The longest wait, as in the official SDKs.
const CEILING: Duration = Duration::from_secs(20);

/// Longest wait before retry number `retry` (counted from 1).
pub fn ceiling(retry: u32) -> Duration {
    CEILING.min(BASE.saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX)))
}

/// A random wait before retry number `retry` (counted from 1), between nothing and [`ceiling`].
pub fn full_jitter(retry: u32, random: &mut impl Rng) -> Duration {
    ceiling(retry).mul_f64(random.random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceiling_doubles_up_to_its_limit() {
        assert_eq!(ceiling(1), Duration::from_millis(400));
        assert_eq!(ceiling(2), Duration::from_millis(800));
        assert_eq!(ceiling(6), Duration::from_millis(12_800));
        assert_eq!(ceiling(7), CEILING);
        assert_eq!(ceiling(200), CEILING);
    }

    #[test]
    fn jitter_stays_below_the_ceiling_and_varies() {
        let mut random = rand::rng();
        let waits: Vec<_> = (0..100).map(|_| full_jitter(3, &mut random)).collect();
        assert!(waits.iter().all(|wait| *wait < ceiling(3)));
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
