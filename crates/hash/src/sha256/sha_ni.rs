//! The block function of SHA-256 with x86's SHA extensions, for one or more messages at a time.
//!
//! Source: FIPS 180-4, section 6.2.2; Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, SHA256RNDS2,
//! SHA256MSG1 and SHA256MSG2. Two words of the schedule are consumed by one SHA256RNDS2, so a step of four words is two
//! of them; the state is held as (A, B, E, F) and (C, D, G, H), as that instruction wants it.
#![cfg_attr(target_arch = "x86_64", allow(unsafe_code, reason = "intrinsics behind a run-time check of the processor"))]

/// Proof that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub struct ShaNi(());

impl ShaNi {
    /// Asks the processor.
    #[cfg(target_arch = "x86_64")]
    pub fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3");
        there.then_some(Self(()))
    }

    /// There is none on this architecture.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn detect() -> Option<Self> {
        None
    }

    /// Hashes whole blocks of `N` messages into their states, in turns. The messages have the same length, a multiple
    /// of 64 bytes.
    #[cfg(target_arch = "x86_64")]
    pub fn compress<const N: usize>(self, states: [&mut [u32; 8]; N], messages: [&[u8]; N]) {
        let length = messages[0].len();
        assert!(length.is_multiple_of(64) && messages.iter().all(|message| message.len() == length), "whole blocks, as many of each");
        // SAFETY: `self` exists only where `detect` has found the features that the function needs; it reads `length`
        // bytes of each message, which were just checked to be there, and eight words of each state.
        unsafe { x86::compress(states, messages, length / 64) }
    }

    /// Never called: there is no value of this type here.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn compress<const N: usize>(self, _: [&mut [u32; 8]; N], _: [&[u8]; N]) {
        unreachable!("detect() returns none on this architecture")
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    /// Four constants for each of the sixteen steps: FIPS 180-4, section 4.2.2.
    #[rustfmt::skip]
    static CONSTANTS: [u32; 64] = [
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
    ];

    /// Bytes that are asked for before they are needed. A round waits for the one before it, so the processor does not
    /// look far enough ahead by itself, and a message that is not in the cache would be hashed at two thirds of the speed.
    const AHEAD: usize = 4096;

    /// Hashes `blocks` blocks of 64 bytes of each message.
    ///
    /// # Safety
    /// The processor has SHA, SSE4.1 and SSSE3, and every message has `blocks` blocks.
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    pub unsafe fn compress<const N: usize>(states: [&mut [u32; 8]; N], messages: [&[u8]; N], blocks: usize) {
        let zero = _mm_setzero_si128();
        let (mut abef, mut cdgh) = ([zero; N], [zero; N]);
        for n in 0..N {
            // SAFETY: a state has eight words.
            (abef[n], cdgh[n]) = unsafe { load_state(states[n]) };
        }
        for block in 0..blocks {
            let (abef_before, cdgh_before) = (abef, cdgh);
            let mut schedule = [[zero; 4]; N];
            for n in 0..N {
                // SAFETY: `block` is below `blocks`, and the message has that many.
                schedule[n] = unsafe { load_block(messages[n].as_ptr().add(block * 64)) };
                _mm_prefetch::<_MM_HINT_T0>(messages[n].as_ptr().wrapping_add(block * 64 + AHEAD).cast());
            }
            for step in 0..16 {
                for n in 0..N {
                    // SAFETY: `step` is below 16, and there are four constants for each.
                    let constants = unsafe { _mm_loadu_si128(CONSTANTS.as_ptr().add(step * 4).cast()) };
                    let words = &mut schedule[n];
                    if step >= 4 {
                        words[step % 4] = next_words(words[step % 4], words[(step + 1) % 4], words[(step + 2) % 4], words[(step + 3) % 4]);
                    }
                    let sum = _mm_add_epi32(words[step % 4], constants);
                    cdgh[n] = _mm_sha256rnds2_epu32(cdgh[n], abef[n], sum);
                    abef[n] = _mm_sha256rnds2_epu32(abef[n], cdgh[n], _mm_shuffle_epi32(sum, 0x0e));
                }
            }
            for n in 0..N {
                abef[n] = _mm_add_epi32(abef[n], abef_before[n]);
                cdgh[n] = _mm_add_epi32(cdgh[n], cdgh_before[n]);
            }
        }
        for n in 0..N {
            // SAFETY: a state has eight words.
            unsafe { store_state(states[n], abef[n], cdgh[n]) };
        }
    }

    /// Four new words of the message schedule from the last sixteen.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn next_words(w0: __m128i, w4: __m128i, w8: __m128i, w12: __m128i) -> __m128i {
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w4), _mm_alignr_epi8(w12, w8, 4));
        _mm_sha256msg2_epu32(sum, w12)
    }

    /// # Safety
    /// 64 bytes can be read at `block`.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    unsafe fn load_block(block: *const u8) -> [__m128i; 4] {
        let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        // SAFETY: the caller's promise covers all four loads.
        core::array::from_fn(|quarter| unsafe { _mm_shuffle_epi8(_mm_loadu_si128(block.add(quarter * 16).cast()), big_endian) })
    }

    /// (A, B, C, D), (E, F, G, H) in memory to (A, B, E, F), (C, D, G, H), highest word first.
    ///
    /// # Safety
    /// None beyond the features; the reference covers what is read.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    unsafe fn load_state(state: &[u32; 8]) -> (__m128i, __m128i) {
        // SAFETY: both loads lie within the eight words.
        let (dcba, hgfe) = unsafe { (_mm_loadu_si128(state.as_ptr().cast()), _mm_loadu_si128(state.as_ptr().add(4).cast())) };
        let (cdab, efgh) = (_mm_shuffle_epi32(dcba, 0xb1), _mm_shuffle_epi32(hgfe, 0x1b));
        (_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0))
    }

    /// The inverse of [`load_state`].
    ///
    /// # Safety
    /// None beyond the features; the reference covers what is written.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    unsafe fn store_state(state: &mut [u32; 8], abef: __m128i, cdgh: __m128i) {
        let (feba, dchg) = (_mm_shuffle_epi32(abef, 0x1b), _mm_shuffle_epi32(cdgh, 0xb1));
        // SAFETY: both stores lie within the eight words.
        unsafe {
            _mm_storeu_si128(state.as_mut_ptr().cast(), _mm_blend_epi16(feba, dchg, 0xf0));
            _mm_storeu_si128(state.as_mut_ptr().add(4).cast(), _mm_alignr_epi8(dchg, feba, 8));
        }
    }
}
