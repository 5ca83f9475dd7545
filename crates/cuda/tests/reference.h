// The trees, sample digests and the lattice again, from the specifications, plain and serial: what the kernels are checked against. This file is
// checked itself against the published vectors (cases.h).
#pragma once

#include <stdint.h>
#include <string.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace reference {

using Bytes = std::vector<uint8_t>;

inline uint32_t rotate32(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }
inline uint64_t rotate64(uint64_t x, unsigned n) { return x >> n | x << (64 - n); }

// SHA-256, FIPS 180-4. The constants are the fractional parts of roots of primes.
inline const uint32_t* sha256_constants() {
    static uint32_t k[64];
    if (k[0] == 0) {
        unsigned n = 0;
        for (unsigned p = 2; n < 64; p++) {
            bool prime = true;
            for (unsigned q = 2; q * q <= p; q++) prime &= p % q != 0;
            if (!prime) continue;
            // 2^32 times the cube root of p: the largest x with x^3 <= p * 2^96.
            uint64_t x = 0;
            for (int bit = 35; bit >= 0; bit--) {
                const uint64_t y = x | uint64_t(1) << bit;
                if (__uint128_t(y) * y * y <= __uint128_t(p) << 96) x = y;
            }
            k[n++] = uint32_t(x);
        }
    }
    return k;
}

inline Bytes sha256(const Bytes& message) {
    const uint32_t* k = sha256_constants();
    uint32_t s[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    Bytes padded = message;
    padded.push_back(0x80);
    while (padded.size() % 64 != 56) padded.push_back(0);
    for (int i = 7; i >= 0; i--) padded.push_back(uint8_t(uint64_t(message.size()) * 8 >> 8 * i));
    for (size_t at = 0; at < padded.size(); at += 64) {
        uint32_t w[64], v[8];
        for (int i = 0; i < 16; i++) w[i] = uint32_t(padded[at + 4 * i]) << 24 | padded[at + 4 * i + 1] << 16 | padded[at + 4 * i + 2] << 8 | padded[at + 4 * i + 3];
        for (int i = 16; i < 64; i++) {
            w[i] = w[i - 16] + (rotate32(w[i - 15], 7) ^ rotate32(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
                   (rotate32(w[i - 2], 17) ^ rotate32(w[i - 2], 19) ^ w[i - 2] >> 10);
        }
        memcpy(v, s, sizeof v);
        for (int i = 0; i < 64; i++) {
            const uint32_t t1 = v[7] + (rotate32(v[4], 6) ^ rotate32(v[4], 11) ^ rotate32(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            const uint32_t t2 = (rotate32(v[0], 2) ^ rotate32(v[0], 13) ^ rotate32(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 28);
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++) s[i] += v[i];
    }
    Bytes out;
    for (uint32_t word : s) {
        for (int i = 3; i >= 0; i--) out.push_back(uint8_t(word >> 8 * i));
    }
    return out;
}

// BLAKE2b, RFC 7693, 64 bytes, no key.
inline Bytes blake2b(const Bytes& message) {
    static const uint64_t iv[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                   0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
    static const char* rows[10] = {"0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
                                   "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0"};
    uint64_t h[8];
    memcpy(h, iv, sizeof h);
    h[0] ^= 0x01010040;
    size_t at = 0;
    do {
        const size_t size = message.size() - at < 128 ? message.size() - at : 128;
        const bool last = at + size == message.size();
        uint64_t m[16] = {}, v[16];
        if (size) memcpy(m, message.data() + at, size);
        at += size;
        memcpy(v, h, sizeof h);
        memcpy(v + 8, iv, sizeof iv);
        v[12] ^= at;
        if (last) v[14] = ~v[14];
        for (int r = 0; r < 12; r++) {
            for (int q = 0; q < 8; q++) {
                const int a = q % 4, shift = q / 4, b = 4 + (q + shift) % 4, c = 8 + (q + 2 * shift) % 4, d = 12 + (q + 3 * shift) % 4;
                const auto word = [&](int i) { const char x = rows[r % 10][i]; return m[x <= '9' ? x - '0' : x - 'a' + 10]; };
                v[a] += v[b] + word(2 * q), v[d] = rotate64(v[d] ^ v[a], 32), v[c] += v[d], v[b] = rotate64(v[b] ^ v[c], 24);
                v[a] += v[b] + word(2 * q + 1), v[d] = rotate64(v[d] ^ v[a], 16), v[c] += v[d], v[b] = rotate64(v[b] ^ v[c], 63);
            }
        }
        for (int i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
    } while (at < message.size());
    return Bytes(reinterpret_cast<uint8_t*>(h), reinterpret_cast<uint8_t*>(h) + 64);
}

// SHA3-256, FIPS 202, bit by bit where the standard is.
inline Bytes sha3_256(const Bytes& message) {
    constexpr size_t rate = 136;
    Bytes padded = message;
    padded.push_back(0x06);
    while (padded.size() % rate != 0) padded.push_back(0);
    padded.back() |= 0x80;
    uint64_t a[5][5] = {};  // a[y][x]
    for (size_t at = 0; at < padded.size(); at += rate) {
        for (size_t i = 0; i < rate; i++) a[i / 40][i / 8 % 5] ^= uint64_t(padded[at + i]) << 8 * (i % 8);
        unsigned lfsr = 1;
        for (int round = 0; round < 24; round++) {
            uint64_t c[5], b[5][5];
            for (int x = 0; x < 5; x++) c[x] = a[0][x] ^ a[1][x] ^ a[2][x] ^ a[3][x] ^ a[4][x];
            for (int y = 0; y < 5; y++) {
                for (int x = 0; x < 5; x++) a[y][x] ^= c[(x + 4) % 5] ^ rotate64(c[(x + 1) % 5], 63);
            }
            memcpy(b, a, sizeof b);
            for (int t = 0, x = 1, y = 0; t < 24; t++) {
                const int n = (t + 1) * (t + 2) / 2 % 64;
                b[y][x] = n ? rotate64(a[y][x], 64 - n) : a[y][x];
                const int next = (2 * x + 3 * y) % 5;
                x = y, y = next;
            }
            uint64_t p[5][5];
            for (int y = 0; y < 5; y++) {
                for (int x = 0; x < 5; x++) p[(2 * x + 3 * y) % 5][y] = b[y][x];
            }
            for (int y = 0; y < 5; y++) {
                for (int x = 0; x < 5; x++) a[y][x] = p[y][x] ^ (~p[y][(x + 1) % 5] & p[y][(x + 2) % 5]);
            }
            for (int j = 0; j < 7; j++) {
                if (lfsr & 1) a[0][0] ^= uint64_t(1) << ((1 << j) - 1);
                lfsr = lfsr << 1 ^ (lfsr & 0x80 ? 0x171 : 0);
            }
        }
    }
    return Bytes(reinterpret_cast<uint8_t*>(a), reinterpret_cast<uint8_t*>(a) + 32);
}

// BLAKE3, specification section 2.
struct Blake3Output {
    uint32_t cv[8];
    uint8_t block[64];
    uint64_t counter;
    uint32_t length, flags;
};

inline const uint32_t* blake3_iv() {
    static const uint32_t iv[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    return iv;
}

inline void blake3_compress(const Blake3Output& in, uint64_t counter, uint32_t flags, uint32_t out[16]) {
    static const int permutation[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
    uint32_t m[16], v[16];
    memcpy(m, in.block, 64);
    memcpy(v, in.cv, 32);
    memcpy(v + 8, blake3_iv(), 16);
    v[12] = uint32_t(counter), v[13] = uint32_t(counter >> 32), v[14] = in.length, v[15] = flags;
    for (int r = 0; r < 7; r++) {
        for (int q = 0; q < 8; q++) {
            const int a = q % 4, shift = q / 4, b = 4 + (q + shift) % 4, c = 8 + (q + 2 * shift) % 4, d = 12 + (q + 3 * shift) % 4;
            v[a] += v[b] + m[2 * q], v[d] = rotate32(v[d] ^ v[a], 16), v[c] += v[d], v[b] = rotate32(v[b] ^ v[c], 12);
            v[a] += v[b] + m[2 * q + 1], v[d] = rotate32(v[d] ^ v[a], 8), v[c] += v[d], v[b] = rotate32(v[b] ^ v[c], 7);
        }
        uint32_t next[16];
        for (int i = 0; i < 16; i++) next[i] = m[permutation[i]];
        memcpy(m, next, sizeof m);
    }
    for (int i = 0; i < 8; i++) out[i] = v[i] ^ v[i + 8], out[i + 8] = v[i + 8] ^ in.cv[i];
}

inline Blake3Output blake3_node(const uint8_t* data, uint64_t length, uint64_t counter, const uint32_t key[8], uint32_t mode) {
    Blake3Output node;
    if (length <= 1024) {
        memcpy(node.cv, key, 32);
        uint64_t at = 0;
        for (;;) {
            const uint64_t size = length - at < 64 ? length - at : 64;
            memset(node.block, 0, 64);
            if (size) memcpy(node.block, data + at, size);
            node.counter = counter, node.length = uint32_t(size), node.flags = mode | (at == 0 ? 1 : 0);
            at += size;
            if (at == length) break;
            uint32_t out[16];
            blake3_compress(node, counter, node.flags, out);
            memcpy(node.cv, out, 32);
        }
        node.flags |= 2;
        return node;
    }
    uint64_t left = 1024;
    while (2 * left < length) left *= 2;
    uint32_t out[16];
    Blake3Output child = blake3_node(data, left, counter, key, mode);
    blake3_compress(child, child.counter, child.flags, out);
    memcpy(node.block, out, 32);
    child = blake3_node(data + left, length - left, counter + left / 1024, key, mode);
    blake3_compress(child, child.counter, child.flags, out);
    memcpy(node.block + 32, out, 32);
    memcpy(node.cv, key, 32);
    node.counter = 0, node.length = 64, node.flags = mode | 4;
    return node;
}

inline Bytes blake3(const uint8_t* data, uint64_t length, const uint32_t key[8], uint32_t mode, size_t output) {
    const Blake3Output root = blake3_node(data, length, 0, key, mode);
    Bytes bytes;
    for (uint64_t block = 0; bytes.size() < output; block++) {
        uint32_t out[16];
        blake3_compress(root, length > 1024 || block ? block : root.counter, root.flags | 8, out);
        bytes.insert(bytes.end(), reinterpret_cast<uint8_t*>(out), reinterpret_cast<uint8_t*>(out) + 64);
    }
    bytes.resize(output);
    return bytes;
}

inline Bytes blake3(const uint8_t* data, uint64_t length) { return blake3(data, length, blake3_iv(), 0, 32); }

inline Bytes blake3_derive_key(const std::string& context, const Bytes& material, size_t output) {
    const Bytes key = blake3(reinterpret_cast<const uint8_t*>(context.data()), context.size(), blake3_iv(), 32, 32);
    uint32_t words[8];
    memcpy(words, key.data(), 32);
    return blake3(material.data(), material.size(), words, 64, output);
}

// The Merkle trees: docs/spec/digests.md, section 2.
using Hash = Bytes (*)(const Bytes&);

inline Bytes prefixed(Hash hash, size_t block, const char* purpose, const uint8_t* data, size_t length) {
    const std::string text = std::string("sentry-ml/tree/v1/") + purpose;
    Bytes message(block);
    memcpy(message.data(), text.data(), text.size());
    if (length) message.insert(message.end(), data, data + length);
    return hash(message);
}

/// The digest of a message of `length` bytes with these nodes.
inline Bytes tree_of_nodes(Hash hash, size_t block, std::vector<Bytes> level, uint64_t length) {
    while (level.size() > 1) {
        std::vector<Bytes> above;
        for (size_t i = 0; i + 1 < level.size(); i += 2) {
            Bytes pair = level[i];
            pair.insert(pair.end(), level[i + 1].begin(), level[i + 1].end());
            above.push_back(prefixed(hash, block, "node", pair.data(), pair.size()));
        }
        if (level.size() % 2) above.push_back(level.back());
        level = above;
    }
    Bytes root(8);
    memcpy(root.data(), &length, 8);
    root.insert(root.end(), level[0].begin(), level[0].end());
    return prefixed(hash, block, "root", root.data(), root.size());
}

inline Bytes tree(Hash hash, size_t block, const uint8_t* data, uint64_t length) {
    std::vector<Bytes> leaves;
    uint64_t at = 0;
    do {
        const uint64_t size = length - at < 4096 ? length - at : 4096;
        leaves.push_back(prefixed(hash, block, "leaf", data + at, size));
        at += size;
    } while (at < length);
    return tree_of_nodes(hash, block, leaves, length);
}

struct Sha256Tree {
    static Bytes digest(const uint8_t* data, uint64_t length) { return tree(sha256, 64, data, length); }
    /// Nodes in the kernels' form: SHA-256's words, which are bytes the other way round.
    static Bytes of_nodes(std::vector<Bytes> nodes, uint64_t length) {
        for (Bytes& node : nodes) {
            for (size_t i = 0; i < node.size(); i += 4) std::swap(node[i], node[i + 3]), std::swap(node[i + 1], node[i + 2]);
        }
        return tree_of_nodes(sha256, 64, nodes, length);
    }
};

struct Blake2bTree {
    static Bytes digest(const uint8_t* data, uint64_t length) { return tree(blake2b, 128, data, length); }
    static Bytes of_nodes(const std::vector<Bytes>& nodes, uint64_t length) { return tree_of_nodes(blake2b, 128, nodes, length); }
};

struct Sha3Tree {
    static Bytes digest(const uint8_t* data, uint64_t length) { return tree(sha3_256, 136, data, length); }
    static Bytes of_nodes(const std::vector<Bytes>& nodes, uint64_t length) { return tree_of_nodes(sha3_256, 136, nodes, length); }
};

struct Blake3 {
    static Bytes digest(const uint8_t* data, uint64_t length) { return blake3(data, length); }
    static Bytes of_nodes(std::vector<Bytes> level, uint64_t) {
        while (level.size() > 1) {
            std::vector<Bytes> above;
            for (size_t i = 0; i + 1 < level.size(); i += 2) {
                Blake3Output parent;
                uint32_t out[16];
                memcpy(parent.cv, blake3_iv(), 32);
                memcpy(parent.block, level[i].data(), 32);
                memcpy(parent.block + 32, level[i + 1].data(), 32);
                parent.length = 64;
                blake3_compress(parent, 0, 4 | (level.size() == 2 ? 8 : 0), out);
                above.emplace_back(reinterpret_cast<uint8_t*>(out), reinterpret_cast<uint8_t*>(out) + 32);
            }
            if (level.size() % 2) above.push_back(level.back());
            level = above;
        }
        return level[0];
    }
};

// Records and sample digests: docs/spec/samples.md, section 1.
struct Field {
    std::string name, type;
    std::vector<uint64_t> dimensions;
    Bytes bytes;
};

inline void append(Bytes& to, const void* data, size_t bytes) {
    const uint8_t* at = static_cast<const uint8_t*>(data);
    to.insert(to.end(), at, at + bytes);
}

inline Bytes record(const std::vector<Field>& fields) {
    std::map<std::string, Bytes> encoded;
    for (const Field& field : fields) {
        Bytes& out = encoded[field.name];
        const uint32_t name = uint32_t(field.name.size()), type = uint32_t(field.type.size()), ndim = uint32_t(field.dimensions.size());
        const uint64_t nbytes = field.bytes.size();
        append(out, &name, 4), append(out, field.name.data(), name);
        append(out, &type, 4), append(out, field.type.data(), type);
        append(out, &ndim, 4), append(out, field.dimensions.data(), 8 * ndim);
        append(out, &nbytes, 8);
        const Bytes body = nbytes <= 64 ? field.bytes : blake3(field.bytes.data(), nbytes);
        append(out, body.data(), body.size());
    }
    Bytes out;
    for (const auto& field : encoded) append(out, field.second.data(), field.second.size());
    return out;
}

inline Bytes sample_digest(const Bytes& record) { return blake3_derive_key("sentry-ml/v1 sample", record, 32); }

/// Where the bodies of a record's fields stand, and their bytes there: `(offset, bytes)`.
inline std::vector<std::pair<size_t, size_t>> bodies(const Bytes& record) {
    std::vector<std::pair<size_t, size_t>> found;
    size_t at = 0;
    const auto integer = [&](int bytes) {
        uint64_t value = 0;
        for (int i = 0; i < bytes; i++) value |= uint64_t(record.at(at++)) << 8 * i;
        return value;
    };
    while (at < record.size()) {
        const uint64_t name = integer(4);
        at += name;
        const uint64_t type = integer(4);
        at += type;
        const uint64_t ndim = integer(4);
        at += 8 * ndim;
        const uint64_t nbytes = integer(8), stored = nbytes <= 64 ? nbytes : 32;
        if (stored) found.push_back({at, stored});
        at += stored;
    }
    return found;
}

// The lattice's element: docs/spec/samples.md, section 3.
inline Bytes element(const uint8_t tag[24], const uint8_t entry[40]) {
    Bytes block(tag, tag + 24);
    block.insert(block.end(), entry, entry + 40);
    return blake3_derive_key("sentry-ml/v1 element", block, 2048);
}

}  // namespace reference
