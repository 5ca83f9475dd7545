// Sample digests: docs/spec/samples.md, section 1, for many samples of one layout that lie in GPU memory column by column.
//
// All samples of a launch have the same fields, types and shapes. So their records differ in the bodies only: the host makes one
// record with zero bytes where bodies go, and a table of those *holes*. A body of at most 64 bytes goes into its hole
// as it is. A longer one is hashed first, to a column of 32-byte digests, and these fill the hole.
//
//     columns (any stride, any alignment)      sentry_sample_bodies               sentry_sample_digests        lattice.cu
//       image: 3072 bytes a sample ──────────► image digests: 32 bytes a sample ─┐
//       label:    8 bytes a sample ──────────────────────────────────────────────┴► u64 id ‖ digest, or ──────► state
//       id:       u64 a sample ───────────────────────────────────────────────────► digests only: table check
//
// Bounds    Arithmetic. A sample of a 256-byte image and a label of 8 is 4 compressions for the image, 2 for its record of 103
//           bytes, 32 for its element. The lattice alone has reached 26 thousand million compressions a second, at which ten million
//           samples take 15 ms. With an image of 3072 bytes it is 48 + 2, 2 and 32: 50,000 take 0.16 ms. Memory: each byte of
//           the data once; of each sample 64 bytes of digests and 80 of entries, written and read, which stay in the cache. Bodies
//           at multiples of 16 are read in 16-byte loads; others in 4-byte loads, and at most 3 single bytes at either end.
// Launches  On one stream, for each batch of samples, none of them with nothing to do:
//           sentry_sample_bodies, for each column of more than 64 bytes: grid (bodies / each), rounded up, block 128. `each`, how
//             many bodies a block takes, is 128 / (chunks of 1024 bytes of a body), rounded down. A thread hashes a chunk, and a
//             block joins the chunks of its bodies. At most 128 KiB a body. Beyond, and for few bodies of over 16 KiB, the host
//             takes blake3.cu, whose digests lie in the same way.
//           sentry_sample_digests: grid (samples / 128), rounded up, block 128. A thread hashes a record.
//           sentry_lattice_sum and sentry_lattice_fold over the entries, if a state is wanted: a batch is a part (lattice.cu).
// Memory    The record: `record_bytes` from 1 to 1024, one chunk; the host refuses longer ones. Zero bytes in all holes, and behind it
//           up to a multiple of 64. Aligned to 16.
//           Holes: by ascending `offset`, none overlapping another, all inside the record. Aligned to 8. At most 44: a field has 23 bytes or more.
//           Digests: 32 bytes a sample, aligned to 16. Entries and ids: 40 and 8 bytes, aligned to 8; entries lie as in a table of samples.
//           Digest columns, digests, entries and ids begin with the batch's first sample, and `first_id` is its id; so each batch has
//           holes of its own, which point to its first sample in every column. All batches' holes may be uploaded at once.
//           A batch of n samples takes 32 n bytes for each column that is hashed and 40 n for entries: with one such column 200,000 samples
//           are 14.4 MB, beside the lattice's 1 MB of partial sums. The next batch may take the same memory.
//           Nothing is zeroed beforehand; every digest and entry of a batch is written. A launch with bodies or a record out of
//           bounds writes none.
// The host sees that a record is what the specification allows (order of names, types, sizes, BOOL of 0 and 1, UTF-8), that a column's
// `data` + (samples - 1) * `stride` + `bytes` is readable memory that nothing writes meanwhile, and that no id comes twice.
#include "blake3.cuh"
#include "table.cuh"

namespace sentry {
namespace samples {

constexpr unsigned THREADS = 128, CHUNK = 1024, BLOCK = 64;
using Digest = NodeOf<8>;

SENTRY_TABLE blake3::Words SAMPLE_KEY = blake3::derive_key("sentry-ml/v1 sample");

/// Where the body of a field goes, and the column that it comes from. 32 bytes.
struct Hole {
    uint64_t offset;  ///< of its first byte in the record
    uint64_t data;    ///< address of the first sample's bytes; any alignment
    uint64_t stride;  ///< from one sample to the next, in bytes
    uint64_t bytes;   ///< of the hole: the body's, at most 64, or 32 for a column of digests

    SENTRY_INLINE const uint8_t* begin(uint64_t sample) const { return reinterpret_cast<const uint8_t*>(data + sample * stride); }
};

/// Adds to zeroes of `m` the 64 bytes that begin `skip` bytes behind `begin` (or before it, if negative), of which only those inside
/// [begin, end) are touched. Whole words are loaded from multiples of 4, and the bytes beside them one by one.
SENTRY_INLINE void put(uint32_t (&m)[16], const uint8_t* begin, const uint8_t* end, int64_t skip) {
    const uint64_t at = reinterpret_cast<uint64_t>(begin) + uint64_t(skip), from = at & ~uint64_t(3);
    const unsigned skew = unsigned(at & 3);
    // What lies inside, counted from `from`: 17 words cover the 64 bytes.
    const int64_t before = int64_t(reinterpret_cast<uint64_t>(begin) - from);
    const unsigned first = before > 0 ? unsigned(min64(uint64_t(before), 68)) : 0;
    const unsigned last = unsigned(min64(reinterpret_cast<uint64_t>(end) - from, skew ? 68 : 64));
    const auto load_edge = [&](unsigned edge) {
        uint32_t word = 0;
        if (edge % 4 == 0) return word;
#pragma unroll
        for (unsigned j = 0; j < 4; j++) {
            const unsigned place = edge / 4 * 4 + j;
            if (place >= first && place < last) word |= load1(reinterpret_cast<const uint8_t*>(from + place)) << 8 * j;
        }
        return word;
    };
    const uint32_t head = load_edge(first), tail = load_edge(last);
    const auto load_word = [&](unsigned i) {
        if (4 * i >= first && 4 * i + 4 <= last) return load4(reinterpret_cast<const uint8_t*>(from + 4 * i));
        return (i == first / 4 ? head : 0) | (i == last / 4 ? tail : 0);
    };
    uint32_t low = load_word(0);
#pragma unroll
    for (unsigned i = 0; i < 16; i++) {
        const uint32_t high = load_word(i + 1);
        m[i] |= __funnelshift_r(low, high, 8 * skew);
        low = high;
    }
}

/// The chunk at `index` of a body, which is the root if it is the only one.
SENTRY_INLINE Digest hash_chunk(const uint8_t* begin, const uint8_t* end, uint64_t index, bool root, uint32_t one) {
    uint32_t cv[8];
#pragma unroll
    for (unsigned i = 0; i < 8; i++) cv[i] = blake3::IV[i];
    const unsigned length = unsigned(min64(uint64_t(end - begin) - index * CHUNK, CHUNK));
    const unsigned blocks = length == 0 ? 1 : (length + BLOCK - 1) / BLOCK;
    const uint32_t last = blake3::CHUNK_END | (root ? blake3::ROOT : 0);
    const bool aligned = aligned16(begin);
#pragma unroll 1
    for (unsigned block = 0; block < blocks; block++) {
        const uint64_t offset = index * CHUNK + block * BLOCK;
        const unsigned size = length - block * BLOCK < BLOCK ? length - block * BLOCK : BLOCK;
        uint32_t m[16] = {};
        if (aligned && size == BLOCK) {
            load_aligned(m, begin + offset);
        } else {
            put(m, begin, end, int64_t(offset));
        }
        blake3::compress(cv, m, index, size, (block == 0 ? blake3::CHUNK_START : 0) | (block + 1 == blocks ? last : 0), one);
    }
    Digest node;
#pragma unroll
    for (unsigned i = 0; i < 8; i++) node.word[i] = cv[i];
    return node;
}

SENTRY_INLINE Digest join(const Digest& left, const Digest& right, bool root, uint32_t one) {
    uint32_t cv[8], m[16];
#pragma unroll
    for (unsigned i = 0; i < 8; i++) {
        cv[i] = blake3::IV[i];
        m[i] = left.word[i];
        m[8 + i] = right.word[i];
    }
    blake3::compress(cv, m, 0, BLOCK, blake3::PARENT | (root ? blake3::ROOT : 0), one);
    Digest node;
#pragma unroll
    for (unsigned i = 0; i < 8; i++) node.word[i] = cv[i];
    return node;
}

/// The chaining value of a sample's record behind its last block: the sample's digest.
SENTRY_INLINE Digest hash_record(const uint8_t* record, unsigned record_bytes, const Hole* holes, uint64_t hole_count, uint64_t sample, uint32_t one) {
    uint32_t cv[8];
#pragma unroll
    for (unsigned i = 0; i < 8; i++) cv[i] = SAMPLE_KEY.word[i];
    uint64_t hole = 0;
#pragma unroll 1
    for (unsigned start = 0; start < record_bytes; start += BLOCK) {
        const unsigned end = start + BLOCK;
        uint32_t m[16];
        load_aligned(m, record + start);
        // Holes that have bytes in this block; the last of them may go on in the next one.
#pragma unroll 1
        while (hole < hole_count && holes[hole].offset < end) {
            const Hole h = holes[hole];
            const uint8_t* body = h.begin(sample);
            put(m, body, body + h.bytes, int64_t(start) - int64_t(h.offset));
            if (h.offset + h.bytes > end) break;
            hole++;
        }
        const bool last = end >= record_bytes;
        const uint32_t flags = blake3::DERIVE_KEY_MATERIAL | (start == 0 ? blake3::CHUNK_START : 0) | (last ? blake3::CHUNK_END | blake3::ROOT : 0);
        blake3::compress(cv, m, 0, last ? record_bytes - start : BLOCK, flags, one);
    }
    Digest digest;
#pragma unroll
    for (unsigned i = 0; i < 8; i++) digest.word[i] = cv[i];
    return digest;
}

}  // namespace samples
}  // namespace sentry

/// The `blake3` of `count` bodies of `bytes` each, `stride` bytes apart, from `data` on; at most 128 KiB each.
extern "C" __global__ void __launch_bounds__(128, 7)
    sentry_sample_bodies(const uint8_t* data, uint64_t stride, uint64_t bytes, uint64_t count, sentry::samples::Digest* digests) {
    using namespace sentry;
    using namespace sentry::samples;
    // Chunk c of the block's body b: c * each + b, so that the last chunks, which may be short, are neighbours.
    SENTRY_SHARED(Digest, nodes, THREADS);
    const uint32_t one = opaque_one;
    if (bytes > THREADS * CHUNK) return;
    const unsigned chunks = bytes == 0 ? 1 : unsigned((bytes + CHUNK - 1) / CHUNK), each = THREADS / chunks;
    const unsigned row = threadIdx.x / each, column = threadIdx.x % each;
    const uint64_t body = uint64_t(blockIdx.x) * each + column;
    if (row < chunks && body < count) {
        const uint8_t* begin = data + body * stride;
        store_node(nodes + threadIdx.x, hash_chunk(begin, begin + bytes, row, chunks == 1, one));
    }
#pragma unroll 1
    for (unsigned step = 1; step < chunks; step *= 2) {
        __syncthreads();
        // The row of this thread's left node; its right one is `step` rows on. A node without a right one moves up unchanged.
        const unsigned left = 2 * step * row;
        if (left + step < chunks && body < count) {
            Digest* node = nodes + left * each + column;
            store_node(node, join(load_node(node), load_node(node + step * each), 2 * step >= chunks, one));
        }
    }
    if (row == 0 && body < count) store_node(digests + body, load_node(nodes + column));
}

/// The digests of `count` samples. Written to `digests` and to `entries` (u64 id ‖ digest), where they are not null. Ids come from
/// `ids`, or if that is null count up from `first_id`.
extern "C" __global__ void __launch_bounds__(128, 7)
    sentry_sample_digests(const uint8_t* record, uint64_t record_bytes, const sentry::samples::Hole* holes, uint64_t hole_count, uint64_t count,
                          const uint64_t* ids, uint64_t first_id, sentry::samples::Digest* digests, uint64_t* entries) {
    using namespace sentry::samples;
    const uint64_t sample = uint64_t(blockIdx.x) * THREADS + threadIdx.x;
    if (sample >= count || record_bytes == 0 || record_bytes > CHUNK) return;
    const Digest digest = hash_record(record, unsigned(record_bytes), holes, hole_count, sample, sentry::opaque_one);
    if (digests) store_node(digests + sample, digest);
    if (!entries) return;
    uint64_t* entry = entries + 5 * sample;
    entry[0] = ids ? ids[sample] : first_id + sample;
#pragma unroll
    for (unsigned i = 0; i < 4; i++) entry[1 + i] = uint64_t(digest.word[2 * i + 1]) << 32 | digest.word[2 * i];
}
