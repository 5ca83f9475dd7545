// The lattice: docs/spec/samples.md, sections 2 and 3. Sums the elements of a source's samples.
//
// A warp makes one element at a time: each lane one of its 32 output blocks of 64 bytes, which are 32 lanes of 16 bits. It
// keeps the sum of its own block over all samples that its warp takes, two lanes of 16 bits in a word.
//
// Bounds    32 compressions a sample, and 40 bytes: arithmetic alone.
// Launches  sentry_lattice_sum: any grid (a few blocks a multiprocessor), block 256, one launch a source.
//           sentry_lattice_fold: grid 4, block 128, on the same stream behind it.
// Memory    `partials`: 2048 bytes for each block of the first launch. `state`: 2048 bytes, as the specification has them.
//           Nothing is zeroed beforehand; every word of both is written, also for no samples (a state of zeroes).
// The host counts the samples, sees that no id comes twice, and hashes the state to the lattice digest.
#include "blake3.cuh"

namespace sentry {
namespace lattice {

constexpr unsigned BLOCK = 256, WARPS = BLOCK / 32, WORDS = 512, ENTRY = 40;

/// The key of derive_key("sentry-ml/v1 element"): the context's hash, computed here as the specification has it.
struct Key {
    uint32_t word[8];
};

constexpr Key derive_key() {
    const char context[] = "sentry-ml/v1 element";
    const uint32_t length = sizeof(context) - 1;
    const uint32_t iv[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const blake3::Schedule schedule = blake3::make_schedule();
    const uint8_t column[8][4] = {{0, 4, 8, 12}, {1, 5, 9, 13}, {2, 6, 10, 14}, {3, 7, 11, 15}, {0, 5, 10, 15}, {1, 6, 11, 12}, {2, 7, 8, 13}, {3, 4, 9, 14}};
    uint32_t m[16] = {}, v[16] = {};
    for (uint32_t i = 0; i < length; i++) m[i / 4] |= uint32_t(uint8_t(context[i])) << 8 * (i % 4);
    for (unsigned i = 0; i < 8; i++) v[i] = iv[i];
    for (unsigned i = 0; i < 4; i++) v[8 + i] = iv[i];
    v[14] = length;
    v[15] = blake3::CHUNK_START | blake3::CHUNK_END | blake3::ROOT | blake3::DERIVE_KEY_CONTEXT;
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
    Key key = {};
    for (unsigned i = 0; i < 8; i++) key.word[i] = v[i] ^ v[i + 8];
    return key;
}

SENTRY_TABLE Key ELEMENT_KEY = derive_key();

}  // namespace lattice
}  // namespace sentry

/// `entries`: `count` times u64 id ‖ digest, 40 bytes each, at any address. `tag0` to `tag2`: the source's tag as three
/// little-endian integers.
extern "C" __global__ void __launch_bounds__(256)
    sentry_lattice_sum(const uint8_t* entries, uint64_t count, uint64_t tag0, uint64_t tag1, uint64_t tag2, uint32_t* partials) {
    using namespace sentry;
    using namespace sentry::lattice;
    SENTRY_SHARED(uint32_t, sums, WARPS * WORDS);
    const uint32_t one = opaque_one;
    const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint8_t* end = entries + count * ENTRY;
    uint32_t cv[8], m[16], sum[16];
#pragma unroll
    for (unsigned i = 0; i < 8; i++) cv[i] = ELEMENT_KEY.word[i];
#pragma unroll
    for (unsigned i = 0; i < 16; i++) sum[i] = 0;
    m[0] = uint32_t(tag0);
    m[1] = uint32_t(tag0 >> 32);
    m[2] = uint32_t(tag1);
    m[3] = uint32_t(tag1 >> 32);
    m[4] = uint32_t(tag2);
    m[5] = uint32_t(tag2 >> 32);
#pragma unroll 1
    for (uint64_t i = uint64_t(blockIdx.x) * WARPS + warp; i < count; i += uint64_t(gridDim.x) * WARPS) {
        uint32_t entry[ENTRY / 4], v[16];
        load_any(entry, entries + i * ENTRY, entries, end);
#pragma unroll
        for (unsigned j = 0; j < ENTRY / 4; j++) m[6 + j] = entry[j];
        blake3::rounds(v, cv, m, lane, 64, blake3::CHUNK_START | blake3::CHUNK_END | blake3::ROOT | blake3::DERIVE_KEY_MATERIAL, one);
#pragma unroll
        for (unsigned j = 0; j < 8; j++) {
            sum[j] = __vadd2(sum[j], v[j] ^ v[j + 8]);
            sum[8 + j] = __vadd2(sum[8 + j], v[j + 8] ^ cv[j]);
        }
    }
#pragma unroll
    for (unsigned j = 0; j < 16; j++) sums[warp * WORDS + 16 * lane + j] = sum[j];
    __syncthreads();
    for (unsigned word = threadIdx.x; word < WORDS; word += BLOCK) {
        uint32_t total = 0;
        for (unsigned w = 0; w < WARPS; w++) total = __vadd2(total, sums[w * WORDS + word]);
        partials[uint64_t(blockIdx.x) * WORDS + word] = total;
    }
}

/// Adds the partial sums of `blocks` blocks.
extern "C" __global__ void __launch_bounds__(128) sentry_lattice_fold(const uint32_t* partials, uint64_t blocks, uint32_t* state) {
    const unsigned word = blockIdx.x * 128 + threadIdx.x;
    uint32_t total = 0;
    for (uint64_t i = 0; i < blocks; i++) total = __vadd2(total, partials[i * sentry::lattice::WORDS + word]);
    state[word] = total;
}
