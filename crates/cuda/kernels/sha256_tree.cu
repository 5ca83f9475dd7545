// `sha256-tree`: docs/spec/digests.md, section 2, over SHA-256 (FIPS 180-4); 32 bytes.
//
// Leaves of 4096 bytes, one a thread; a block of 256 threads takes 1 MiB.
//
// Bounds    A leaf is 64 compressions and one of constant padding; a node is one and one of constant padding. A compression
//           is 64 rounds and 48 steps of the schedule. With all adds on the multiply-add pipe a round leaves 10 operations
//           to the logic unit (6 rotations, 2 three-way xors, choice, majority), a step of the schedule 8: 1024 a
//           compression, 2 cycles of a sub-core each for a warp's 2048 bytes. The logic unit is the limit, not memory.
// Launches  sentry_sha256_tree_leaves: grid (slots / 256), block 256.
//           sentry_sha256_tree_join: grid (groups of 1024 nodes), block 256, once for each level (table.cuh).
// Memory    Node and digest: 32 bytes, aligned to 16. Nodes are words as SHA-256 has them, digests bytes. Nothing is
//           zeroed beforehand; all digests are written.
#include "table.cuh"

// Leaves and threads of a block (a power of two), and how many blocks a multiprocessor is to hold at least, which bounds the
// registers of a thread.
#ifndef SENTRY_SHA256_SLOTS
#define SENTRY_SHA256_SLOTS 256
#define SENTRY_SHA256_BLOCKS 4
#endif

namespace sentry {
namespace sha256 {

struct Words64 {
    uint32_t word[64];
};
struct Words8 {
    uint32_t word[8];
};

/// Constants of the rounds: FIPS 180-4, section 4.2.2.
constexpr Words64 ROUND_CONSTANTS = {{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2}};

/// The constant part: what the compiler computes of the specification, so that no constant is copied by hand.
namespace constant {

constexpr uint32_t rotate(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }

/// Constant plus schedule, for a block that is known.
constexpr Words64 schedule(const uint32_t (&block)[16]) {
    Words64 w = {};
    for (unsigned i = 0; i < 16; i++) w.word[i] = block[i];
    for (unsigned i = 16; i < 64; i++) {
        const uint32_t x = w.word[i - 15], y = w.word[i - 2];
        w.word[i] = w.word[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w.word[i - 7] + (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
    }
    for (unsigned i = 0; i < 64; i++) w.word[i] += ROUND_CONSTANTS.word[i];
    return w;
}

/// The state behind the block P(purpose).
constexpr Words8 midstate(const char* purpose) {
    uint32_t block[16] = {};
    unsigned at = 0;
    for (const char* part : {"sentry-ml/tree/v1/", purpose}) {
        for (; *part; part++, at++) block[at / 4] |= uint32_t(uint8_t(*part)) << (24 - 8 * (at % 4));
    }
    const Words64 w = schedule(block);
    const Words8 iv = {{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
    Words8 s = iv;
    for (unsigned i = 0; i < 64; i++) {
        const uint32_t e = s.word[4], a = s.word[0];
        const uint32_t t1 = s.word[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & s.word[5]) ^ (~e & s.word[6])) + w.word[i];
        const uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & s.word[1]) ^ (a & s.word[2]) ^ (s.word[1] & s.word[2]));
        for (unsigned j = 7; j > 0; j--) s.word[j] = s.word[j - 1];
        s.word[4] += t1;
        s.word[0] = t1 + t2;
    }
    for (unsigned i = 0; i < 8; i++) s.word[i] += iv.word[i];
    return s;
}

/// The last block of a message of `length` bytes that ends with a block.
constexpr Words64 padding(uint32_t length) {
    uint32_t block[16] = {0x80000000};
    block[15] = 8 * length;
    return schedule(block);
}

}  // namespace constant

SENTRY_TABLE Words64 K = ROUND_CONSTANTS;
SENTRY_TABLE Words8 LEAF = constant::midstate("leaf"), NODE = constant::midstate("node"), ROOT = constant::midstate("root");

// The same in constant memory, for rounds in a loop. The whole compression unrolled is 26 KiB of instructions, which the
// instruction cache does not hold beside the rest of the kernel.
static __constant__ Words64 LOOP_K = ROUND_CONSTANTS;

static __constant__ Words64 LEAF_PADDING = constant::padding(64 + 4096), NODE_PADDING = constant::padding(64 + 64);

/// The two ones of a compression. Where a constant is added, the compiler wants the 1 in a vector register; everywhere else a uniform
/// one is better, since it leaves an add with two vector registers to read. If both were one value, it would be a vector everywhere.
struct Ones {
    uint32_t uniform;
    uint32_t vector;  ///< or 0: then constants are added on the logic unit

    /// `leaf`, an index far below 2^63, is something that the compiler knows nothing about.
    static SENTRY_INLINE Ones of(uint32_t one, uint64_t leaf) { return {one, 1 + uint32_t(leaf >> 63)}; }
};

/// One round; `w` is the message's word, `k` the constant.
SENTRY_INLINE void round(uint32_t (&s)[8], uint32_t w, uint32_t k, Ones ones) {
    const uint32_t one = ones.uniform, e = s[4], a = s[0];
    const uint32_t choice = (e & s[5]) ^ (~e & s[6]), majority = (a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]);
    const uint32_t t = add(choice, ones.vector ? add(s[7], add(w, k, ones.vector), one) : s[7] + k + w, one);
    const uint32_t t1 = add(rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25), t, one);
    const uint32_t t2 = add(rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22), majority, one);
    s[7] = s[6];
    s[6] = s[5];
    s[5] = e;
    s[4] = add(s[3], t1, one);
    s[3] = s[2];
    s[2] = s[1];
    s[1] = a;
    s[0] = add(t1, t2, one);
}

SENTRY_INLINE void compress(uint32_t (&state)[8], uint32_t (&w)[16], Ones ones) {
    const uint32_t one = ones.uniform;
    uint32_t s[8];
#pragma unroll
    for (unsigned i = 0; i < 8; i++) s[i] = state[i];
#pragma unroll
    for (unsigned i = 0; i < 16; i++) round(s, w[i], K.word[i], ones);
#pragma unroll 1
    for (unsigned r = 16; r < 64; r += 16) {
#pragma unroll
        for (unsigned i = 0; i < 16; i++) {
            const uint32_t x = w[(i + 1) % 16], y = w[(i + 14) % 16];
            const uint32_t s0 = rotate_right(x, 7) ^ rotate_right(x, 18) ^ x >> 3;
            const uint32_t s1 = rotate_right(y, 17) ^ rotate_right(y, 19) ^ y >> 10;
            w[i] = add(s1, add(s0, add(w[(i + 9) % 16], w[i], one), one), one);
            round(s, w[i], LOOP_K.word[r + i], ones);
        }
    }
#pragma unroll
    for (unsigned i = 0; i < 8; i++) state[i] = add(state[i], s[i], one);
}

/// A block that is known: its words are in the constants.
SENTRY_INLINE void compress_known(uint32_t (&state)[8], const Words64& k, uint32_t one) {
    uint32_t s[8];
#pragma unroll
    for (unsigned i = 0; i < 8; i++) s[i] = state[i];
#pragma unroll
    for (unsigned i = 0; i < 64; i++) round(s, 0, k.word[i], {one, 0});
#pragma unroll
    for (unsigned i = 0; i < 8; i++) state[i] = add(state[i], s[i], one);
}

struct Tree {
    using Node = NodeOf<8>;
    static constexpr unsigned LEAF = 4096, SLOTS = SENTRY_SHA256_SLOTS, THREADS = SLOTS, JOIN = 1024;

    static SENTRY_INLINE Node leaf(const uint8_t* begin, const uint8_t* end, uint64_t index, uint64_t first, bool, uint32_t one) {
        const uint8_t* at = begin + index * LEAF;
        const Ones ones = Ones::of(one, first);
        Node node;
#pragma unroll
        for (unsigned i = 0; i < 8; i++) node.word[i] = sha256::LEAF.word[i];
        const unsigned length = unsigned(min64(uint64_t(end - at), LEAF));
        if (length == LEAF && aligned16(at)) {
#pragma unroll 1
            for (unsigned block = 0; block < LEAF / 64; block++, at += 64) {
                uint32_t w[16];
                load_aligned(w, at);
#pragma unroll
                for (unsigned i = 0; i < 16; i++) w[i] = byte_swap(w[i]);
                compress(node.word, w, ones);
            }
            compress_known(node.word, LEAF_PADDING, one);
            return node;
        }
        const unsigned blocks = (length + 9 + 63) / 64;
#pragma unroll 1
        for (unsigned block = 0; block < blocks; block++) {
            uint32_t w[16];
            load_any(w, at + 64 * block, begin, end < at + LEAF ? end : at + LEAF);
#pragma unroll
            for (unsigned i = 0; i < 16; i++) {
                w[i] = byte_swap(w[i]);
                if (64 * block + 4 * i == (length & ~3u)) w[i] |= 0x80000000u >> 8 * (length & 3);
            }
            if (block + 1 == blocks) w[15] = 8 * (64 + length);
            compress(node.word, w, ones);
        }
        return node;
    }

    static SENTRY_INLINE Node node(const Node& left, const Node& right, bool, uint32_t one) {
        Node node;
        uint32_t w[16];
#pragma unroll
        for (unsigned i = 0; i < 8; i++) {
            node.word[i] = NODE.word[i];
            w[i] = left.word[i];
            w[8 + i] = right.word[i];
        }
        compress(node.word, w, {one, 0});
        compress_known(node.word, NODE_PADDING, one);
        return node;
    }

    /// H(P("root") ‖ u64 length ‖ top): 104 bytes.
    static SENTRY_INLINE Node finish(const Node& top, uint64_t length, uint32_t one) {
        Node node;
        uint32_t w[16];
        w[0] = byte_swap(uint32_t(length));
        w[1] = byte_swap(uint32_t(length >> 32));
#pragma unroll
        for (unsigned i = 0; i < 8; i++) {
            node.word[i] = ROOT.word[i];
            w[2 + i] = top.word[i];
        }
        w[10] = 0x80000000;
#pragma unroll
        for (unsigned i = 11; i < 15; i++) w[i] = 0;
        w[15] = 8 * 104;
        compress(node.word, w, {one, 0});
#pragma unroll
        for (unsigned i = 0; i < 8; i++) node.word[i] = byte_swap(node.word[i]);
        return node;
    }
};

}  // namespace sha256
}  // namespace sentry

extern "C" __global__ void __launch_bounds__(SENTRY_SHA256_SLOTS, SENTRY_SHA256_BLOCKS)
    sentry_sha256_tree_leaves(const sentry::Run* runs, uint64_t run_count, sentry::sha256::Tree::Node* nodes, sentry::sha256::Tree::Node* digests) {
    sentry::hash_leaves<sentry::sha256::Tree>(runs, run_count, nodes, digests);
}

extern "C" __global__ void __launch_bounds__(256)
    sentry_sha256_tree_join(const sentry::Join* joins, uint64_t join_count, sentry::sha256::Tree::Node* nodes, sentry::sha256::Tree::Node* digests) {
    sentry::join_nodes<sentry::sha256::Tree>(joins, join_count, nodes, digests);
}
