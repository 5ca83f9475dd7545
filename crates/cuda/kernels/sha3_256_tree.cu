// `sha3-256-tree`: docs/spec/digests.md, section 2, over SHA3-256 (FIPS 202); 32 bytes.
//
// Leaves of 4096 bytes, one a thread; a block of 128 threads takes 512 KiB.
//
// Bounds    A leaf is 31 permutations behind the prefix (30 whole blocks of 136 bytes, and 16 bytes with padding), a node
//           one. A permutation is 24 rounds of 76 xors, 29 rotations and 25 and-nots of 64 bits, no adds. Right
//           rather than fast.
// Launches  sentry_sha3_256_tree_leaves: grid (slots / 128), block 128.
//           sentry_sha3_256_tree_join: grid (groups of 1024 nodes), block 256, once for each level (table.cuh).
// Memory    Node and digest: 32 bytes, aligned to 16. Nothing is zeroed beforehand; all digests are written.
#include "table.cuh"

namespace sentry {
namespace sha3 {

constexpr unsigned RATE = 136;

struct State {
    uint64_t lane[25];
};

SENTRY_BOTH constexpr uint64_t rotate_left(uint64_t x, unsigned n) { return n == 0 ? x : x << n | x >> (64 - n); }

/// One bit of the round constants a step: FIPS 202, section 3.2.5.
struct RoundConstants {
    uint64_t word[24];
};

constexpr RoundConstants make_round_constants() {
    RoundConstants constants = {};
    unsigned lfsr = 1;
    for (unsigned round = 0; round < 24; round++) {
        for (unsigned j = 0; j < 7; j++) {
            if (lfsr & 1) constants.word[round] |= uint64_t(1) << ((1u << j) - 1);
            lfsr = lfsr & 0x80 ? lfsr << 1 ^ 0x171 : lfsr << 1;
        }
    }
    return constants;
}

/// Rotations of rho, by lane x + 5y: FIPS 202, section 3.2.2.
struct Offsets {
    uint8_t by[25];
};

constexpr Offsets make_offsets() {
    Offsets offsets = {};
    unsigned x = 1, y = 0;
    for (unsigned t = 0; t < 24; t++) {
        offsets.by[x + 5 * y] = uint8_t((t + 1) * (t + 2) / 2 % 64);
        const unsigned next = (2 * x + 3 * y) % 5;
        x = y;
        y = next;
    }
    return offsets;
}

constexpr Offsets OFFSETS = make_offsets();

SENTRY_TABLE RoundConstants ROUND_CONSTANTS = make_round_constants();

SENTRY_BOTH constexpr void round(uint64_t (&a)[25], uint64_t constant) {
    constexpr Offsets offsets = OFFSETS;
    uint64_t c[5] = {}, b[25] = {};
#pragma unroll
    for (unsigned x = 0; x < 5; x++) c[x] = a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20];
#pragma unroll
    for (unsigned x = 0; x < 5; x++) {
        const uint64_t d = c[(x + 4) % 5] ^ rotate_left(c[(x + 1) % 5], 1);
#pragma unroll
        for (unsigned y = 0; y < 5; y++) b[y + 5 * ((2 * x + 3 * y) % 5)] = rotate_left(a[x + 5 * y] ^ d, offsets.by[x + 5 * y]);
    }
#pragma unroll
    for (unsigned y = 0; y < 25; y += 5) {
#pragma unroll
        for (unsigned x = 0; x < 5; x++) a[y + x] = b[y + x] ^ (~b[y + (x + 1) % 5] & b[y + (x + 2) % 5]);
    }
    a[0] ^= constant;
}

SENTRY_INLINE void permute(uint64_t (&a)[25]) {
#pragma unroll 1
    for (unsigned i = 0; i < 24; i++) round(a, ROUND_CONSTANTS.word[i]);
}

/// The state behind P(purpose), a whole block of 136 bytes.
constexpr State prefix(const char* purpose) {
    State state = {};
    unsigned at = 0;
    for (const char* part : {"sentry-ml/tree/v1/", purpose}) {
        for (; *part; part++, at++) state.lane[at / 8] |= uint64_t(uint8_t(*part)) << 8 * (at % 8);
    }
    const RoundConstants constants = make_round_constants();
    for (unsigned i = 0; i < 24; i++) round(state.lane, constants.word[i]);
    return state;
}

SENTRY_TABLE State LEAF = prefix("leaf"), NODE = prefix("node"), ROOT = prefix("root");

struct Tree {
    using Node = NodeOf<8>;
    static constexpr unsigned LEAF = 4096, SLOTS = 128, JOIN = 1024, THREADS = 128;

    static SENTRY_INLINE Node squeeze(const uint64_t (&a)[25]) {
        Node node;
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            node.word[2 * i] = uint32_t(a[i]);
            node.word[2 * i + 1] = uint32_t(a[i] >> 32);
        }
        return node;
    }

    static SENTRY_INLINE uint64_t pair(const uint32_t* words) { return words[0] | uint64_t(words[1]) << 32; }

    static SENTRY_INLINE Node leaf(const uint8_t* begin, const uint8_t* end, uint64_t index, uint64_t, bool, uint32_t) {
        const uint8_t* at = begin + index * LEAF;
        const unsigned length = unsigned(min64(uint64_t(end - at), LEAF));
        uint64_t a[25];
#pragma unroll
        for (unsigned i = 0; i < 25; i++) a[i] = sha3::LEAF.lane[i];
        const unsigned blocks = length / RATE + 1;
#pragma unroll 1
        for (unsigned block = 0; block < blocks; block++) {
            uint32_t words[RATE / 4];
            load_any(words, at + RATE * block, begin, end < at + LEAF ? end : at + LEAF);
            if (block + 1 == blocks) {
                const unsigned rest = length - RATE * block;
#pragma unroll
                for (unsigned i = 0; i < RATE / 4; i++) {
                    if (i == rest / 4) words[i] ^= 0x06u << 8 * (rest % 4);
                }
                words[RATE / 4 - 1] ^= 0x80000000;
            }
#pragma unroll
            for (unsigned i = 0; i < RATE / 8; i++) a[i] ^= pair(words + 2 * i);
            permute(a);
        }
        return squeeze(a);
    }

    static SENTRY_INLINE Node node(const Node& left, const Node& right, bool, uint32_t) {
        uint64_t a[25];
#pragma unroll
        for (unsigned i = 0; i < 25; i++) a[i] = NODE.lane[i];
#pragma unroll
        for (unsigned i = 0; i < 4; i++) {
            a[i] ^= pair(left.word + 2 * i);
            a[4 + i] ^= pair(right.word + 2 * i);
        }
        a[8] ^= 0x06;
        a[16] ^= 0x8000000000000000;
        permute(a);
        return squeeze(a);
    }

    /// H(P("root") ‖ u64 length ‖ top): 40 bytes behind the prefix.
    static SENTRY_INLINE Node finish(const Node& top, uint64_t length, uint32_t) {
        uint64_t a[25];
#pragma unroll
        for (unsigned i = 0; i < 25; i++) a[i] = ROOT.lane[i];
        a[0] ^= length;
#pragma unroll
        for (unsigned i = 0; i < 4; i++) a[1 + i] ^= pair(top.word + 2 * i);
        a[5] ^= 0x06;
        a[16] ^= 0x8000000000000000;
        permute(a);
        return squeeze(a);
    }
};

}  // namespace sha3
}  // namespace sentry

extern "C" __global__ void __launch_bounds__(128)
    sentry_sha3_256_tree_leaves(const sentry::Run* runs, uint64_t run_count, sentry::sha3::Tree::Node* nodes, sentry::sha3::Tree::Node* digests) {
    sentry::hash_leaves<sentry::sha3::Tree>(runs, run_count, nodes, digests);
}

extern "C" __global__ void __launch_bounds__(256)
    sentry_sha3_256_tree_join(const sentry::Join* joins, uint64_t join_count, sentry::sha3::Tree::Node* nodes, sentry::sha3::Tree::Node* digests) {
    sentry::join_nodes<sentry::sha3::Tree>(joins, join_count, nodes, digests);
}
