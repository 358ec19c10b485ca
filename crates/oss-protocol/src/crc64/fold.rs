//! Folding: fewer bytes with the same checksum, 32 at a time.
//!
//! `crc-fast` folds 16 bytes at a time, or 64 if the processor has AVX-512. Processors with carry-less multiplication
//! of 32 bytes but without AVX-512 (AMD's Zen 3, Intel's Alder Lake) are twice as fast with 32: 21 GB/s instead of 10.7
//! on a Zen 3. There the checksum was a seventh of what the I/O thread does for an object of 100 KB.
//!
//! Folding replaces the polynomial of a block by one that leaves the same remainder and stands where a later block stands,
//! so that both are added: <https://www.intel.com/content/dam/www/public/us/en/documents/white-papers/fast-crc-computation-generic-polynomials-pclmulqdq-paper.pdf>.

/// As many bytes as are left of any number of them.
pub(super) type Folded = [u8; 32];

/// Replaces bytes by fewer with the same checksum. With the register `state` before the first of `bytes`, they have the
/// checksum that the result has with 0. `None` if the processor cannot do it, or another way is as fast.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "whether the processor has an instruction is known only when the program runs")]
pub(super) fn fold(state: u64, bytes: &[u8]) -> Option<(Folded, &[u8])> {
    // Below this the library is as fast.
    const SHORTEST: usize = 1 << 10;
    let fits = bytes.len() >= SHORTEST
        && is_x86_feature_detected!("vpclmulqdq")
        && is_x86_feature_detected!("avx2")
        && !is_x86_feature_detected!("avx512vl");
    // SAFETY: the processor has what `wide::fold` is compiled for; it has been asked.
    fits.then(|| unsafe { wide::fold(state, bytes) })
}

/// Other processors are served by the library alone.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn fold(_state: u64, _bytes: &[u8]) -> Option<(Folded, &[u8])> {
    None
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        __m256i, _mm256_clmulepi64_epi128, _mm256_extract_epi64, _mm256_set_epi64x, _mm256_xor_si256,
    };

    use super::Folded;
    use crate::crc64::power;

    /// Words in flight, so that one multiplication does not wait for the one before.
    const LANES: usize = 4;
    const LANE: usize = size_of::<Folded>();
    const STEP: usize = LANES * LANE;

    /// What the two halves of 16 bytes are multiplied by to move on by this many bits. The product of reflected
    /// numbers is short of one power of x.
    const fn factors(bits: u64) -> [u64; 2] {
        [power(bits + 63), power(bits - 1)]
    }

    #[target_feature(enable = "avx2,vpclmulqdq")]
    pub(super) fn fold(state: u64, bytes: &[u8]) -> (Folded, &[u8]) {
        const OVER_STEP: [u64; 2] = factors(8 * STEP as u64);
        const OVER_LANE: [u64; 2] = factors(8 * LANE as u64);

        let (steps, rest) = bytes.as_chunks::<STEP>();
        let mut lanes = [words([0; 4]); LANES];
        // Added to the first bytes, the register is that before all of them.
        lanes[0] = words([state, 0, 0, 0]);
        let factors = both(OVER_STEP);
        for (at, step) in steps.iter().enumerate() {
            let (parts, _) = step.as_chunks::<LANE>();
            for (lane, part) in lanes.iter_mut().zip(parts) {
                // Before the first step there is nothing to move on.
                *lane = if at == 0 { add(*lane, load(part)) } else { add(moved(*lane, factors), load(part)) };
            }
        }
        let factors = both(OVER_LANE);
        let last = lanes.into_iter().reduce(|folded, lane| add(moved(folded, factors), lane));
        (stored(last.unwrap_or(words([0; 4]))), rest)
    }

    #[target_feature(enable = "avx2,vpclmulqdq")]
    fn moved(block: __m256i, factors: __m256i) -> __m256i {
        add(_mm256_clmulepi64_epi128::<0x00>(block, factors), _mm256_clmulepi64_epi128::<0x11>(block, factors))
    }

    #[target_feature(enable = "avx2")]
    fn add(one: __m256i, other: __m256i) -> __m256i {
        _mm256_xor_si256(one, other)
    }

    #[target_feature(enable = "avx2")]
    fn both([first, second]: [u64; 2]) -> __m256i {
        words([first, second, first, second])
    }

    #[target_feature(enable = "avx2")]
    fn words([a, b, c, d]: [u64; 4]) -> __m256i {
        _mm256_set_epi64x(d.cast_signed(), c.cast_signed(), b.cast_signed(), a.cast_signed())
    }

    #[target_feature(enable = "avx2")]
    fn load(bytes: &Folded) -> __m256i {
        let (parts, _) = bytes.as_chunks::<8>();
        words([parts[0], parts[1], parts[2], parts[3]].map(u64::from_le_bytes))
    }

    #[target_feature(enable = "avx2")]
    fn stored(block: __m256i) -> Folded {
        let words = [
            _mm256_extract_epi64::<0>(block),
            _mm256_extract_epi64::<1>(block),
            _mm256_extract_epi64::<2>(block),
            _mm256_extract_epi64::<3>(block),
        ];
        let mut bytes = [0; LANE];
        for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use crc_fast::{CrcAlgorithm, Digest};

    use super::wide;

    fn checksum(state: u64, parts: &[&[u8]]) -> u64 {
        let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Xz, state);
        for part in parts {
            digest.update(part);
        }
        digest.finalize()
    }

    /// The processor of a test may have AVX-512, and then `fold` leaves all bytes to the library.
    #[test]
    #[expect(unsafe_code, reason = "whether the processor has an instruction is known only when the program runs")]
    fn folded_bytes_have_the_same_checksum() {
        if !is_x86_feature_detected!("vpclmulqdq") || !is_x86_feature_detected!("avx2") {
            return;
        }
        let bytes: Vec<u8> = (0..5000_u32).map(|number| u8::try_from(number * 31 % 251).unwrap_or(0)).collect();
        for length in [128, 129, 256, 1024, 1055, 4999] {
            for state in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
                // SAFETY: the processor has what `wide::fold` is compiled for; it has been asked.
                let (folded, rest) = unsafe { wide::fold(state, &bytes[..length]) };
                assert_eq!(checksum(0, &[&folded, rest]), checksum(state, &[&bytes[..length]]), "{length} {state:x}");
            }
        }
    }
}
