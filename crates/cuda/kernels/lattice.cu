// The lattice: docs/spec/samples.md, sections 2 and 3. Sums the elements of a source's samples.
//
// A warp makes one element at a time: each lane one of its 32 output blocks of 64 bytes, which are 32 lanes of 16 bits. It
// keeps the sum of its own block over all samples that its warp takes, two lanes of 16 bits in a word.
//
// Bounds    32 compressions a sample, and 40 bytes: arithmetic alone.
// Launches  sentry_lattice_sum: any grid (a few blocks a multiprocessor), block 256, one launch a source.
//           sentry_lattice_fold: grid 4, block 128, on the same stream behind it.
//           A sum in parts: `state` lies behind the last block's partials, and each further part folds one block more than it
//           has, the state so far. Then the state is that of all parts.
// Memory    `partials`: 2048 bytes for each block of the first launch. `state`: 2048 bytes, as the specification has them.
//           Nothing is zeroed beforehand; every word of both is written, also for no samples (a state of zeroes).
// The host counts the samples, sees that no id comes twice, and hashes the state to the lattice digest.
#include "blake3.cuh"

namespace sentry {
namespace lattice {

constexpr unsigned BLOCK = 256, WARPS = BLOCK / 32, WORDS = 512, ENTRY = 40;

SENTRY_TABLE blake3::Words ELEMENT_KEY = blake3::derive_key("sentry-ml/v1 element");

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

/// Adds the partial sums of `blocks` blocks. `state` may be one of them: a thread reads all of its word before it writes it.
extern "C" __global__ void __launch_bounds__(128) sentry_lattice_fold(const uint32_t* partials, uint64_t blocks, uint32_t* state) {
    const unsigned word = blockIdx.x * 128 + threadIdx.x;
    uint32_t total = 0;
    // There are few threads, so each has many loads on their way.
#pragma unroll 8
    for (uint64_t i = 0; i < blocks; i++) total = __vadd2(total, partials[i * sentry::lattice::WORDS + word]);
    state[word] = total;
}
