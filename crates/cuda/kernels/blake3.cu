// `blake3`: BLAKE3 specification, section 2; no key, 32 bytes.
//
// Leaves are chunks of 1024 bytes, hashed by one thread each, two in turn; a block of 128 threads takes 256 KiB.
//
// Bounds    A chunk is 16 compressions, and a tree has one more a chunk: 17 for 1024 bytes. A compression is 56 quarter
//           rounds of 6 adds, 4 xors and 4 rotations. Adds go to the multiply-add pipe; 8 operations a quarter round are left
//           to the logic unit, with 8 more at the end 456, 2 cycles of a sub-core each for a warp's 2048 bytes. The logic
//           unit is the limit, not memory.
// Launches  sentry_blake3_leaves: grid (slots / 256), block 128.
//           sentry_blake3_join: grid (groups of 1024 nodes), block 256, once for each level (table.cuh).
// Memory    Node and digest: 32 bytes, aligned to 16. Nothing is zeroed beforehand; all digests are written.
#include "blake3.cuh"
#include "table.cuh"

// Chunks of a block (a power of two), its threads, and how many blocks a multiprocessor is to hold at least, which bounds the
// registers of a thread.
#ifndef SENTRY_BLAKE3_SLOTS
#define SENTRY_BLAKE3_SLOTS 256
#define SENTRY_BLAKE3_THREADS 128
#define SENTRY_BLAKE3_BLOCKS 7
#endif

namespace sentry {
namespace blake3 {

struct Tree {
    using Node = NodeOf<8>;
    static constexpr unsigned LEAF = 1024, SLOTS = SENTRY_BLAKE3_SLOTS, THREADS = SENTRY_BLAKE3_THREADS, JOIN = 1024;

    /// The chunk at `index` of a run [begin, end); `counter` is its index in the tensor.
    static SENTRY_INLINE Node leaf(const uint8_t* begin, const uint8_t* end, uint64_t index, uint64_t counter, bool root, uint32_t one) {
        const uint8_t* at = begin + index * LEAF;
        uint32_t cv[8];
#pragma unroll
        for (unsigned i = 0; i < 8; i++) cv[i] = IV[i];
        const unsigned length = unsigned(min64(uint64_t(end - at), LEAF));
        const uint32_t last = CHUNK_END | (root ? ROOT : 0);
        if (length == LEAF && aligned16(at)) {
            // The next block is on its way while this one is compressed.
            uint32_t next[16];
            load_aligned(next, at);
#pragma unroll 1
            for (unsigned block = 0; block < 16; block++) {
                uint32_t m[16];
#pragma unroll
                for (unsigned i = 0; i < 16; i++) m[i] = next[i];
                at += 64;
                if (block < 15) load_aligned(next, at);
                compress(cv, m, counter, 64, (block == 0 ? CHUNK_START : 0) | (block == 15 ? last : 0), one);
            }
        } else {
            const unsigned blocks = length == 0 ? 1 : (length + 63) / 64;
#pragma unroll 1
            for (unsigned block = 0; block < blocks; block++) {
                uint32_t m[16];
                load_any(m, at + 64 * block, begin, end);
                const unsigned size = length - 64 * block < 64 ? length - 64 * block : 64;
                compress(cv, m, counter, size, (block == 0 ? CHUNK_START : 0) | (block + 1 == blocks ? last : 0), one);
            }
        }
        Node node;
#pragma unroll
        for (unsigned i = 0; i < 8; i++) node.word[i] = cv[i];
        return node;
    }

    static SENTRY_INLINE Node node(const Node& left, const Node& right, bool root, uint32_t one) {
        Node node;
        uint32_t m[16];
#pragma unroll
        for (unsigned i = 0; i < 8; i++) {
            node.word[i] = IV[i];
            m[i] = left.word[i];
            m[8 + i] = right.word[i];
        }
        compress(node.word, m, 0, 64, PARENT | (root ? ROOT : 0), one);
        return node;
    }

    /// The top node was made with the root's flag and is the digest.
    static SENTRY_INLINE Node finish(const Node& top, uint64_t, uint32_t) { return top; }
};

}  // namespace blake3
}  // namespace sentry

extern "C" __global__ void __launch_bounds__(SENTRY_BLAKE3_THREADS, SENTRY_BLAKE3_BLOCKS)
    sentry_blake3_leaves(const sentry::Run* runs, uint64_t run_count, sentry::blake3::Tree::Node* nodes, sentry::blake3::Tree::Node* digests) {
    sentry::hash_leaves<sentry::blake3::Tree>(runs, run_count, nodes, digests);
}

extern "C" __global__ void __launch_bounds__(256)
    sentry_blake3_join(const sentry::Join* joins, uint64_t join_count, sentry::blake3::Tree::Node* nodes, sentry::blake3::Tree::Node* digests) {
    sentry::join_nodes<sentry::blake3::Tree>(joins, join_count, nodes, digests);
}
