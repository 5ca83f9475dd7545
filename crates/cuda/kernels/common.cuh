// What every kernel shares: the device's words, loads from any address, and adds on the multiply-add pipe.
//
// The kernels use no CUDA library and no run-time symbols: a module made of one `.cu` is all that a host loads. With
// SENTRY_EMULATE the same sources are plain C++ (`tests/emulate.h`).
#pragma once

#include <stdint.h>

#ifdef SENTRY_EMULATE
#include "emulate.h"
#define SENTRY_TABLE static constexpr
#else
#define SENTRY_TABLE static __device__ constexpr
#define SENTRY_SHARED(type, name, count) __shared__ type name[count]
#endif

#define SENTRY_INLINE __device__ __forceinline__
// For what is computed both by a kernel and by the compiler.
#define SENTRY_BOTH __host__ __device__ __forceinline__

namespace sentry {

/// A 1 that the compiler cannot see through. `a * 1 + b` is then a multiply-add, which runs beside the logic unit; that unit
/// does xors, rotations and plain adds, and is what limits a hash made of those.
static __constant__ uint32_t opaque_one = 1;

SENTRY_INLINE uint32_t add(uint32_t a, uint32_t b, uint32_t one) {
#ifdef SENTRY_EMULATE
    return a * one + b;
#else
    uint32_t sum;
    asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(one), "r"(b));
    return sum;
#endif
}

SENTRY_INLINE uint32_t rotate_right(uint32_t x, unsigned n) { return __funnelshift_r(x, x, n); }

SENTRY_INLINE uint32_t byte_swap(uint32_t x) { return __byte_perm(x, 0, 0x0123); }

SENTRY_INLINE uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }

/// One 16-byte load through the read-only path. Nothing may write the data while it is hashed.
SENTRY_INLINE uint4 load16(const uint8_t* at) {
#ifdef SENTRY_EMULATE
    return *reinterpret_cast<const uint4*>(at);
#else
    uint4 v;
    asm volatile("ld.global.nc.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
    return v;
#endif
}

/// Four bytes and one byte, through the same path.
SENTRY_INLINE uint32_t load4(const uint8_t* at) {
#ifdef SENTRY_EMULATE
    return *reinterpret_cast<const uint32_t*>(at);
#else
    uint32_t v;
    asm("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(at));
    return v;
#endif
}

SENTRY_INLINE uint32_t load1(const uint8_t* at) {
#ifdef SENTRY_EMULATE
    return *at;
#else
    uint32_t v;
    asm("ld.global.nc.u8 %0, [%1];" : "=r"(v) : "l"(at));
    return v;
#endif
}

/// Whether `at` may be given to load16.
SENTRY_INLINE bool aligned16(const uint8_t* at) { return (reinterpret_cast<uintptr_t>(at) & 15) == 0; }

/// `WORDS` words from a 16-byte aligned address.
template <unsigned WORDS>
SENTRY_INLINE void load_aligned(uint32_t (&words)[WORDS], const uint8_t* at) {
#pragma unroll
    for (unsigned i = 0; i < WORDS / 4; i++) {
        const uint4 v = load16(at + 16 * i);
        words[4 * i] = v.x;
        words[4 * i + 1] = v.y;
        words[4 * i + 2] = v.z;
        words[4 * i + 3] = v.w;
    }
}

/// `WORDS` little-endian words from `at`, at any address. Bytes from `end` on read as zero. Nothing before `begin` or from `end`
/// on is touched: the four-byte loads that cover an unaligned word stay inside, and near an edge bytes are loaded one by one.
template <unsigned WORDS>
SENTRY_INLINE void load_any(uint32_t (&words)[WORDS], const uint8_t* at, const uint8_t* begin, const uint8_t* end) {
    const unsigned skew = reinterpret_cast<uintptr_t>(at) & 3;
    const bool inside = at <= end && uint64_t(end - at) >= 4 * WORDS + (skew ? 4 - skew : 0) && (skew == 0 || uint64_t(at - begin) >= skew);
    if (inside) {
        const uint8_t* from = at - skew;
        uint32_t low = load4(from);
#pragma unroll
        for (unsigned i = 0; i < WORDS; i++) {
            // The word behind the last one is read only where a part of it is wanted.
            uint32_t high = 0;
            if (i + 1 < WORDS || skew) high = load4(from + 4 * i + 4);
            words[i] = __funnelshift_r(low, high, 8 * skew);
            low = high;
        }
        return;
    }
    const uint64_t left = at < end ? uint64_t(end - at) : 0;
#pragma unroll
    for (unsigned i = 0; i < WORDS; i++) {
        uint32_t word = 0;
#pragma unroll
        for (unsigned j = 0; j < 4; j++) {
            if (4 * i + j < left) word |= load1(at + 4 * i + j) << (8 * j);
        }
        words[i] = word;
    }
}

}  // namespace sentry
