// `blake2b-tree`: docs/spec/digests.md, section 2, over BLAKE2b (RFC 7693) of 64 bytes without a key.
//
// Leaves of 4096 bytes, one a thread; a block of 128 threads takes 512 KiB.
//
// Bounds    A leaf is 32 compressions, a node one. A compression is 96 quarter rounds of 6 adds, 4 xors and 4 rotations of
//           64 bits: each is two or more operations of 32 bits. Right rather than fast.
// Launches  sentry_blake2b_tree_leaves: grid (slots / 128), block 128.
//           sentry_blake2b_tree_join: grid (groups of 512 nodes), block 256, once for each level (table.cuh).
// Memory    Node and digest: 64 bytes, aligned to 16. Nothing is zeroed beforehand; all digests are written.
#include "table.cuh"

namespace sentry {
namespace blake2b {

struct Words8 {
    uint64_t word[8];
};
struct Schedule {
    uint8_t word[12][16];
};

/// RFC 7693, section 2.7; rounds 10 and 11 repeat 0 and 1.
constexpr Schedule SIGMA = {{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                             {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
                             {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
                             {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
                             {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
                             {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
                             {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
                             {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
                             {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
                             {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
                             {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                             {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3}}};

constexpr Words8 INITIAL = {{0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1, 0x510e527fade682d1,
                             0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179}};

SENTRY_BOTH constexpr uint64_t rotate(uint64_t x, unsigned n) { return x >> n | x << (64 - n); }

SENTRY_BOTH constexpr void quarter(uint64_t& a, uint64_t& b, uint64_t& c, uint64_t& d, uint64_t x, uint64_t y) {
    a += b + x;
    d = rotate(d ^ a, 32);
    c += d;
    b = rotate(b ^ c, 24);
    a += b + y;
    d = rotate(d ^ a, 16);
    c += d;
    b = rotate(b ^ c, 63);
}

/// `counter` counts the bytes up to this block's end.
SENTRY_BOTH constexpr void compress(uint64_t (&h)[8], const uint64_t (&m)[16], uint64_t counter, bool last) {
    constexpr Schedule sigma = SIGMA;
    constexpr Words8 iv = INITIAL;
    uint64_t v[16] = {h[0],       h[1],       h[2],       h[3],       h[4],                 h[5],       h[6],                          h[7],
                      iv.word[0], iv.word[1], iv.word[2], iv.word[3], iv.word[4] ^ counter, iv.word[5], last ? ~iv.word[6] : iv.word[6], iv.word[7]};
#pragma unroll
    for (unsigned r = 0; r < 12; r++) {
#define SENTRY_M(i) m[sigma.word[r][i]]
        quarter(v[0], v[4], v[8], v[12], SENTRY_M(0), SENTRY_M(1));
        quarter(v[1], v[5], v[9], v[13], SENTRY_M(2), SENTRY_M(3));
        quarter(v[2], v[6], v[10], v[14], SENTRY_M(4), SENTRY_M(5));
        quarter(v[3], v[7], v[11], v[15], SENTRY_M(6), SENTRY_M(7));
        quarter(v[0], v[5], v[10], v[15], SENTRY_M(8), SENTRY_M(9));
        quarter(v[1], v[6], v[11], v[12], SENTRY_M(10), SENTRY_M(11));
        quarter(v[2], v[7], v[8], v[13], SENTRY_M(12), SENTRY_M(13));
        quarter(v[3], v[4], v[9], v[14], SENTRY_M(14), SENTRY_M(15));
#undef SENTRY_M
    }
#pragma unroll
    for (unsigned i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
}

/// The state behind P(purpose), a whole block of 128 bytes. The empty leaf ends with it, others go on.
constexpr Words8 prefix(const char* purpose, bool last) {
    uint64_t block[16] = {};
    unsigned at = 0;
    for (const char* part : {"sentry-ml/tree/v1/", purpose}) {
        for (; *part; part++, at++) block[at / 8] |= uint64_t(uint8_t(*part)) << 8 * (at % 8);
    }
    Words8 h = INITIAL;
    h.word[0] ^= 0x01010040;  // 64 bytes, no key, fanout and depth 1
    compress(h.word, block, 128, last);
    return h;
}

SENTRY_TABLE Words8 LEAF = prefix("leaf", false), NODE = prefix("node", false), ROOT = prefix("root", false);
SENTRY_TABLE Words8 EMPTY_LEAF = prefix("leaf", true);

struct Tree {
    using Node = NodeOf<16>;
    static constexpr unsigned LEAF = 4096, SLOTS = 128, JOIN = 512, THREADS = 128;

    static SENTRY_INLINE Node pack(const uint64_t (&h)[8]) {
        Node node;
#pragma unroll
        for (unsigned i = 0; i < 8; i++) {
            node.word[2 * i] = uint32_t(h[i]);
            node.word[2 * i + 1] = uint32_t(h[i] >> 32);
        }
        return node;
    }

    static SENTRY_INLINE uint64_t pair(const uint32_t* words) { return words[0] | uint64_t(words[1]) << 32; }

    static SENTRY_INLINE Node leaf(const uint8_t* begin, const uint8_t* end, uint64_t index, uint64_t, bool, uint32_t) {
        const uint8_t* at = begin + index * LEAF;
        const unsigned length = unsigned(min64(uint64_t(end - at), LEAF));
        uint64_t h[8];
#pragma unroll
        for (unsigned i = 0; i < 8; i++) h[i] = length == 0 ? EMPTY_LEAF.word[i] : blake2b::LEAF.word[i];
#pragma unroll 1
        for (unsigned done = 0; done < length; done += 128) {
            uint32_t words[32];
            uint64_t m[16];
            if (length - done >= 128 && aligned16(at)) {
                load_aligned(words, at + done);
            } else {
                load_any(words, at + done, begin, end < at + LEAF ? end : at + LEAF);
            }
#pragma unroll
            for (unsigned i = 0; i < 16; i++) m[i] = pair(words + 2 * i);
            const bool last = done + 128 >= length;
            compress(h, m, 128 + (last ? length : done + 128), last);
        }
        return pack(h);
    }

    static SENTRY_INLINE Node node(const Node& left, const Node& right, bool, uint32_t) {
        uint64_t h[8], m[16];
#pragma unroll
        for (unsigned i = 0; i < 8; i++) {
            h[i] = NODE.word[i];
            m[i] = pair(left.word + 2 * i);
            m[8 + i] = pair(right.word + 2 * i);
        }
        compress(h, m, 256, true);
        return pack(h);
    }

    /// H(P("root") ‖ u64 length ‖ top): 200 bytes.
    static SENTRY_INLINE Node finish(const Node& top, uint64_t length, uint32_t) {
        uint64_t h[8], m[16];
#pragma unroll
        for (unsigned i = 0; i < 8; i++) {
            h[i] = ROOT.word[i];
            m[i] = 0;
            m[8 + i] = 0;
        }
        m[0] = length;
#pragma unroll
        for (unsigned i = 0; i < 8; i++) m[1 + i] = pair(top.word + 2 * i);
        compress(h, m, 200, true);
        return pack(h);
    }
};

}  // namespace blake2b
}  // namespace sentry

extern "C" __global__ void __launch_bounds__(128)
    sentry_blake2b_tree_leaves(const sentry::Run* runs, uint64_t run_count, sentry::blake2b::Tree::Node* nodes, sentry::blake2b::Tree::Node* digests) {
    sentry::hash_leaves<sentry::blake2b::Tree>(runs, run_count, nodes, digests);
}

extern "C" __global__ void __launch_bounds__(256)
    sentry_blake2b_tree_join(const sentry::Join* joins, uint64_t join_count, sentry::blake2b::Tree::Node* nodes, sentry::blake2b::Tree::Node* digests) {
    sentry::join_nodes<sentry::blake2b::Tree>(joins, join_count, nodes, digests);
}
