//! CRC-64/XZ, which OSS calls `crc64ecma`.
//!
//! The bytes are folded by `crc-fast` with the processor's carry-less multiplication, after the module `fold` if that
//! is faster. Its `checksum_combine` is right too (a test below compares them), but squares 64 by 64 bit matrices on
//! every call: about 300 µs for a part of 8 MiB. A reader that checks gigabytes in parts combines hundreds of times a
//! second, so [`combine`] multiplies polynomials instead, which takes less than 1 µs.

mod fold;

use crc_fast::{CrcAlgorithm, Digest};

/// The generator x^64 + ... of ECMA-182 with its bits reversed, as reflected arithmetic wants it.
const POLYNOMIAL: u64 = 0xC96C_5795_D787_0F42;

/// The polynomial 1 in reflected order, where the highest bit is the coefficient of x^0.
const ONE: u64 = 1 << 63;

/// `SQUARES[k]` is x^(8 * 2^k) modulo the generator: what appending 2^k zero bytes multiplies a checksum by.
const SQUARES: [u64; 64] = {
    // x^8 is small enough to need no reduction.
    let mut table = [ONE >> 8; 64];
    let mut k = 1;
    while k < 64 {
        table[k] = multiply(table[k - 1], table[k - 1]);
        k += 1;
    }
    table
};

/// A checksum in the making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crc64 {
    value: u64,
}

impl Crc64 {
    /// Returns the checksum of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a checksum that goes on from the checksum `value` of earlier bytes.
    pub fn from_value(value: u64) -> Self {
        Self { value }
    }

    /// Takes in more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let start = |state| Digest::new_with_init_state(CrcAlgorithm::Crc64Xz, state);
        let digest = match fold::fold(!self.value, bytes) {
            Some((folded, rest)) => {
                let mut digest = start(0);
                digest.update(&folded);
                digest.update(rest);
                digest
            }
            None => {
                let mut digest = start(!self.value);
                digest.update(bytes);
                digest
            }
        };
        self.value = digest.finalize();
    }

    /// Returns the checksum of all bytes taken in so far.
    pub fn value(&self) -> u64 {
        self.value
    }
}

/// Returns the checksum of `bytes`.
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut crc = Crc64::new();
    crc.update(bytes);
    crc.value()
}

/// Looks now for what the processor can do. The library does it at the first use, under a lock that a fork would copy.
pub fn prepare() {
    let _ = checksum(&[0]);
}

/// Returns the checksum of two byte strings in a row, given the checksum of each and the length of the second.
pub fn combine(first: u64, second: u64, second_length: u64) -> u64 {
    let mut shifted = first;
    let mut remaining = second_length;
    while remaining != 0 {
        shifted = multiply(shifted, SQUARES[remaining.trailing_zeros() as usize]);
        remaining &= remaining - 1;
    }
    shifted ^ second
}

/// Returns x to the power `exponent` modulo the generator.
#[cfg(target_arch = "x86_64")]
const fn power(mut exponent: u64) -> u64 {
    let (mut product, mut square) = (ONE, ONE >> 1);
    while exponent != 0 {
        if exponent & 1 != 0 {
            product = multiply(product, square);
        }
        square = multiply(square, square);
        exponent >>= 1;
    }
    product
}

/// Multiplies two polynomials modulo the generator.
const fn multiply(a: u64, b: u64) -> u64 {
    let mut product = 0;
    let mut multiple = b;
    let mut remaining = a;
    // Highest bit first: that is the coefficient of x^0, and each step turns `multiple` into `multiple * x`.
    while remaining != 0 {
        if remaining & ONE != 0 {
            product ^= multiple;
        }
        remaining <<= 1;
        let carry = multiple & 1;
        multiple >>= 1;
        if carry != 0 {
            multiple ^= POLYNOMIAL;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vector_check_string() {
        assert_eq!(checksum(b"123456789"), 11_051_210_869_376_104_954);
        assert_eq!(checksum(b"123456789"), 0x995d_c9bb_df19_39fa);
    }

    #[test]
    fn vector_empty() {
        assert_eq!(checksum(b""), 0);
        assert_eq!(Crc64::default().value(), 0);
    }

    #[test]
    fn vector_hello_world() {
        assert_eq!(checksum(b"hello world"), 5_981_764_153_023_615_706);
    }

    #[test]
    fn vector_million_letters() {
        assert_eq!(checksum(&vec![b'a'; 1_000_000]), 8_794_730_974_279_819_706);
    }

    #[test]
    fn vector_all_bytes_many_times() {
        let bytes: Vec<u8> = (0..4096).flat_map(|_| 0..=255u8).collect();
        assert_eq!(checksum(&bytes), 12_198_584_541_786_614_250);
    }

    #[test]
    fn vector_single_nul() {
        assert_eq!(checksum(&[0]), 2_282_658_103_124_508_505);
    }

    #[test]
    fn vector_combine_hello_world() {
        assert_eq!(combine(checksum(b"hello "), checksum(b"world"), 5), checksum(b"hello world"));
    }

    #[test]
    fn combining_with_nothing_changes_nothing() {
        let value = checksum(b"bytes");
        assert_eq!(combine(value, 0, 0), value);
        assert_eq!(combine(0, value, 5), value);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn powers_are_products() {
        // The processor need not have the instruction that works with them.
        assert_eq!((power(0), power(1)), (ONE, ONE >> 1));
        for exponent in [2, 3, 5, 64, 127, 191, 1023] {
            assert_eq!(power(exponent), multiply(power(exponent - 1), power(1)), "{exponent}");
        }
        for (squared, expected) in SQUARES.iter().enumerate().take(48) {
            assert_eq!(power(8 << squared), *expected, "{squared}");
        }
    }

    #[test]
    fn combine_handles_lengths_beyond_memory() {
        // Appending 2^40 + 3 zero bytes in one step, or 2^40 and then 3, must agree.
        let value = checksum(b"start");
        let once = combine(value, 0, (1 << 40) + 3);
        assert_eq!(combine(combine(value, 0, 1 << 40), 0, 3), once);
        assert_eq!(once, crc_fast::checksum_combine(CrcAlgorithm::Crc64Xz, value, 0, (1 << 40) + 3));
    }

    #[test]
    fn every_length_agrees_with_the_library() {
        let bytes: Vec<u8> = (0..5000u32).map(|at| (at.wrapping_mul(at) >> 3) as u8).collect();
        for length in 0..bytes.len() {
            let expected = crc_fast::checksum(CrcAlgorithm::Crc64Xz, &bytes[..length]);
            assert_eq!(checksum(&bytes[..length]), expected, "{length}");
        }
    }

    proptest! {
        #[test]
        fn random_splits_fold_to_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..5000),
            mut cuts in proptest::collection::vec(0usize..5000, 0..6),
        ) {
            for cut in &mut cuts {
                *cut = (*cut).min(bytes.len());
            }
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let whole = crc_fast::checksum(CrcAlgorithm::Crc64Xz, &bytes);
            let mut running = Crc64::new();
            let mut folded = 0;
            let mut folded_by_library = 0;
            for pair in cuts.windows(2) {
                let part = &bytes[pair[0]..pair[1]];
                let part_value = checksum(part);
                running.update(part);
                folded = combine(folded, part_value, part.len() as u64);
                folded_by_library = crc_fast::checksum_combine(
                    CrcAlgorithm::Crc64Xz, folded_by_library, part_value, part.len() as u64,
                );
            }
            prop_assert_eq!(running.value(), whole);
            prop_assert_eq!(folded, whole);
            prop_assert_eq!(folded_by_library, whole);
            prop_assert_eq!(Crc64::from_value(whole).value(), whole);
        }
    }
}
