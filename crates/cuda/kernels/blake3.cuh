// BLAKE3's compression function (BLAKE3 specification, section 2.2), and the keys of its derive_key mode; for the tree, samples and the lattice.
#pragma once

#include "common.cuh"

namespace sentry {
namespace blake3 {

/// Flags: specification, section 2.1, table 3.
constexpr uint32_t CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, ROOT = 8, DERIVE_KEY_CONTEXT = 32, DERIVE_KEY_MATERIAL = 64;

SENTRY_TABLE uint32_t IV[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/// Which message word each step of a round takes: the permutation applied 0 to 6 times.
struct Schedule {
    uint8_t word[7][16];
};

constexpr Schedule make_schedule() {
    constexpr uint8_t permutation[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
    Schedule s = {};
    for (unsigned i = 0; i < 16; i++) s.word[0][i] = uint8_t(i);
    for (unsigned r = 1; r < 7; r++) {
        for (unsigned i = 0; i < 16; i++) s.word[r][i] = s.word[r - 1][permutation[i]];
    }
    return s;
}

SENTRY_TABLE Schedule SCHEDULE = make_schedule();

SENTRY_INLINE void quarter(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d, uint32_t x, uint32_t y, uint32_t one) {
    a = add(b, add(x, a, one), one);
    d = __byte_perm(d ^ a, 0, 0x1032);
    c = add(d, c, one);
    b = rotate_right(b ^ c, 12);
    a = add(b, add(y, a, one), one);
    d = __byte_perm(d ^ a, 0, 0x0321);
    c = add(d, c, one);
    b = rotate_right(b ^ c, 7);
}

/// The 16 words of state behind the rounds; callers fold them.
SENTRY_INLINE void rounds(uint32_t (&v)[16], const uint32_t (&cv)[8], const uint32_t (&m)[16], uint64_t counter, uint32_t length, uint32_t flags,
                          uint32_t one) {
#pragma unroll
    for (unsigned i = 0; i < 8; i++) v[i] = cv[i];
#pragma unroll
    for (unsigned i = 0; i < 4; i++) v[8 + i] = IV[i];
    v[12] = uint32_t(counter);
    v[13] = uint32_t(counter >> 32);
    v[14] = length;
    v[15] = flags;
#pragma unroll
    for (unsigned r = 0; r < 7; r++) {
#define SENTRY_M(i) m[SCHEDULE.word[r][i]]
        quarter(v[0], v[4], v[8], v[12], SENTRY_M(0), SENTRY_M(1), one);
        quarter(v[1], v[5], v[9], v[13], SENTRY_M(2), SENTRY_M(3), one);
        quarter(v[2], v[6], v[10], v[14], SENTRY_M(4), SENTRY_M(5), one);
        quarter(v[3], v[7], v[11], v[15], SENTRY_M(6), SENTRY_M(7), one);
        quarter(v[0], v[5], v[10], v[15], SENTRY_M(8), SENTRY_M(9), one);
        quarter(v[1], v[6], v[11], v[12], SENTRY_M(10), SENTRY_M(11), one);
        quarter(v[2], v[7], v[8], v[13], SENTRY_M(12), SENTRY_M(13), one);
        quarter(v[3], v[4], v[9], v[14], SENTRY_M(14), SENTRY_M(15), one);
#undef SENTRY_M
    }
}

/// Replaces the chaining value.
SENTRY_INLINE void compress(uint32_t (&cv)[8], const uint32_t (&m)[16], uint64_t counter, uint32_t length, uint32_t flags, uint32_t one) {
    uint32_t v[16];
    rounds(v, cv, m, counter, length, flags, one);
#pragma unroll
    for (unsigned i = 0; i < 8; i++) cv[i] = v[i] ^ v[i + 8];
}

/// A digest, a key or a chaining value.
struct Words {
    uint32_t word[8];
};

/// The key of derive_key(context): the context's hash, of at most 64 bytes, made by the compiler (specification, section 2.3).
template <unsigned SIZE>
constexpr Words derive_key(const char (&context)[SIZE]) {
    constexpr uint32_t length = SIZE - 1;
    static_assert(length <= 64, "one block");
    const uint32_t iv[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const Schedule schedule = make_schedule();
    const uint8_t column[8][4] = {{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15}, {0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14}};
    uint32_t m[16] = {}, v[16] = {};
    for (uint32_t i = 0; i < length; i++) m[i / 4] |= uint32_t(uint8_t(context[i])) << 8 * (i % 4);
    for (unsigned i = 0; i < 8; i++) v[i] = iv[i];
    for (unsigned i = 0; i < 4; i++) v[8 + i] = iv[i];
    v[14] = length;
    v[15] = CHUNK_START | CHUNK_END | ROOT | DERIVE_KEY_CONTEXT;
    for (unsigned r = 0; r < 7; r++) {
        for (unsigned q = 0; q < 8; q++) {
            uint32_t &a = v[column[q][0]], &b = v[column[q][1]], &c = v[column[q][2]], &d = v[column[q][3]];
            for (unsigned half = 0; half < 2; half++) {
                const unsigned left = half ? 8 : 16, right = half ? 7 : 12;
                a += b + m[schedule.word[r][2 * q + half]];
                d ^= a;
                d = d >> left | d << (32 - left);
                c += d;
                b ^= c;
                b = b >> right | b << (32 - right);
            }
        }
    }
    Words key = {};
    for (unsigned i = 0; i < 8; i++) key.word[i] = v[i] ^ v[i + 8];
    return key;
}

}  // namespace blake3
}  // namespace sentry
