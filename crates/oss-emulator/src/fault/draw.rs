//! Chance that repeats: the same seed and the same request draw the same numbers in every run and on every machine.

/// A short sequence of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Draw {
    state: u64,
}

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// `SplitMix64`, <https://prng.di.unimi.it/splitmix64.c>: a few lines whose numbers no release of a library changes.
    pub(super) fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Uniform, at least 0 and below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        // The 53 bits that a double holds exactly.
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -(1.0 - self.fraction()).ln()
    }

    /// Normal with mean 0 and standard deviation 1, by Box and Muller's method.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction()).cos()
    }
}

/// Mixes texts into one number, by FNV-1a, whose numbers do not change either.
pub(super) fn mix(seed: u64, texts: &[&str]) -> u64 {
    let mut mixed = 0xCBF2_9CE4_8422_2325_u64 ^ seed;
    for text in texts {
        // No byte of UTF-8 is 255, so it keeps "a", "bc" and "ab", "c" apart.
        for byte in text.bytes().chain([255]) {
            mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
    }
    mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        let mut draw = Draw::new(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| draw.number()).collect();
        assert_eq!(numbers, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_distributions_have_their_moments() {
        let mut draw = Draw::new(1);
        let count = 100_000;
        let mean = |draw: &mut Draw, sample: fn(&mut Draw) -> f64| {
            (0..count).map(|_| sample(draw)).sum::<f64>() / f64::from(count)
        };
        assert!((mean(&mut draw, Draw::fraction) - 0.5).abs() < 0.01);
        assert!((mean(&mut draw, Draw::exponential) - 1.0).abs() < 0.02);
        assert!(mean(&mut draw, Draw::normal).abs() < 0.02);
        assert!((mean(&mut draw, |draw| draw.normal().powi(2)) - 1.0).abs() < 0.03);
    }

    #[test]
    fn texts_are_kept_apart() {
        assert_ne!(mix(0, &["a", "bc"]), mix(0, &["ab", "c"]));
        assert_ne!(mix(0, &["a"]), mix(1, &["a"]));
        assert_eq!(mix(7, &["key"]), mix(7, &["key"]));
    }
}
