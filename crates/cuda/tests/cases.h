// One test body for every backend: `Device` is the GPU (check.cu) or the CPU (check_cpu.cpp).
//
// A Device has: memory(bytes) → address, upload(address, data, bytes), download(data, address, bytes), fill(address, byte, bytes),
// release(), launch(kernel, grid, block, arguments…), sync(), and `exact`: whether each tensor gets memory of its own, of exactly its size.
#pragma once

#include <stdio.h>

#include <atomic>
#include <random>
#include <thread>

#include "../kernels/blake2b_tree.cu"
#include "../kernels/blake3.cu"
#include "../kernels/lattice.cu"
#include "../kernels/sha256_tree.cu"
#include "../kernels/sha3_256_tree.cu"
#include "host.cuh"
#include "reference.h"
#include "vectors.h"

namespace cases {

using reference::Bytes;

struct Totals {
    uint64_t checked = 0, wrong = 0;

    void check(bool right, const char* what, uint64_t a, uint64_t b) {
        checked++;
        if (!right && wrong++ < 20) printf("WRONG %s: %llu, %llu\n", what, (unsigned long long)a, (unsigned long long)b);
    }
};

inline Bytes unhex(const char* text) {
    Bytes bytes;
    for (; *text; text += 2) {
        unsigned byte = 0;
        sscanf(text, "%2x", &byte);
        bytes.push_back(uint8_t(byte));
    }
    return bytes;
}

/// An algorithm: its kernels, and what they are checked against.
#define SENTRY_ALGORITHM(NAME, SPACE, REFERENCE)                                            \
    struct NAME : reference::REFERENCE {                                                    \
        using Tree = sentry::SPACE::Tree;                                                   \
        static constexpr const char* name = #NAME;                                          \
        static constexpr auto leaves = sentry_##NAME##_leaves;                              \
        static constexpr auto join = sentry_##NAME##_join;                                  \
    };
SENTRY_ALGORITHM(blake3, blake3, Blake3)
SENTRY_ALGORITHM(sha256_tree, sha256, Sha256Tree)
SENTRY_ALGORITHM(blake2b_tree, blake2b, Blake2bTree)
SENTRY_ALGORITHM(sha3_256_tree, sha3, Sha3Tree)

template <class T, class Device>
const T* table(Device& device, const std::vector<T>& entries) {
    const uint64_t at = device.memory(entries.size() * sizeof(T));
    device.upload(at, entries.data(), entries.size() * sizeof(T));
    return reinterpret_cast<const T*>(at);
}

/// Digests of tensors that lie in the device's memory. Nodes and digests are poisoned first, and bytes behind the digests stay so.
template <class Algorithm, class Device>
std::vector<Bytes> digests(Device& device, const std::vector<host::Tensor>& tensors) {
    using Tree = typename Algorithm::Tree;
    using Node = typename Tree::Node;
    const host::Plan plan = host::plan<Tree>(tensors);
    const uint64_t nodes = device.memory(plan.nodes * sizeof(Node)), out = device.memory(tensors.size() * sizeof(Node));
    device.fill(nodes, 0xA5, plan.nodes * sizeof(Node));
    device.fill(out, 0xA5, tensors.size() * sizeof(Node));
    const sentry::Run* runs = table(device, plan.runs);
    std::vector<const sentry::Join*> joins;
    for (const auto& level : plan.levels) joins.push_back(table(device, level.joins));
    const auto n = reinterpret_cast<Node*>(nodes), d = reinterpret_cast<Node*>(out);
    device.launch(Algorithm::leaves, plan.blocks, Tree::THREADS, runs, uint64_t(plan.runs.size()), n, d);
    for (size_t i = 0; i < joins.size(); i++) device.launch(Algorithm::join, plan.levels[i].groups, 256, joins[i], uint64_t(plan.levels[i].joins.size()), n, d);
    device.sync();
    Bytes bytes(tensors.size() * sizeof(Node));
    device.download(bytes.data(), out, bytes.size());
    std::vector<Bytes> result;
    for (size_t i = 0; i < tensors.size(); i++) result.emplace_back(bytes.begin() + i * sizeof(Node), bytes.begin() + (i + 1) * sizeof(Node));
    return result;
}

/// The published vectors, all in one launch, from a 16-byte aligned address and from an odd one.
template <class Algorithm, class Device, size_t N>
void published(Device& device, Totals& totals, const Vector (&vectors)[N], uint64_t limit) {
    for (uint64_t offset : {0, 1}) {
        std::vector<Vector> chosen;
        uint64_t longest = 0;
        for (const Vector& v : vectors) {
            if (v.length > limit) continue;
            chosen.push_back(v);
            longest = std::max(longest, v.length);
        }
        Bytes message(longest);
        for (uint64_t i = 0; i < longest; i++) message[i] = uint8_t(i % 251);
        const uint64_t at = device.memory(longest + offset) + offset;
        device.upload(at, message.data(), longest);
        std::vector<host::Tensor> tensors;
        for (const Vector& v : chosen) tensors.push_back({at, v.length});
        const std::vector<Bytes> found = digests<Algorithm>(device, tensors);
        for (size_t i = 0; i < chosen.size(); i++) {
            totals.check(found[i] == unhex(chosen[i].digest), Algorithm::name, chosen[i].length, offset);
            if (offset == 0 && chosen[i].length < 300000)
                totals.check(Algorithm::digest(message.data(), chosen[i].length) == unhex(chosen[i].digest), "reference", chosen[i].length, 0);
        }
        device.release();
    }
}

/// Random tensors of random lengths at random addresses, all in one launch, against the reference.
template <class Algorithm, class Device>
void random_tensors(Device& device, Totals& totals, uint64_t count, uint64_t most, uint64_t seed) {
    std::mt19937_64 random(seed);
    struct Case {
        uint64_t offset, bytes;
    };
    std::vector<Case> list;
    uint64_t total = 0;
    const uint64_t leaf = Algorithm::Tree::LEAF, piece = leaf * Algorithm::Tree::SLOTS;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t bytes;
        switch (random() % 8) {
            case 0: bytes = random() % 3; break;
            case 1: bytes = random() % 300; break;
            case 2: bytes = leaf * (random() % 12) + random() % 3 - (random() % 2 ? 0 : 1); break;
            case 3: bytes = random() % 20000; break;
            case 4: bytes = 64 * (random() % 200) + random() % 3; break;
            case 5: bytes = 16 * (random() % 2000); break;
            case 6: bytes = random() % 16 ? leaf * (random() % 40) : piece * (random() % 4) + random() % (random() % 2 ? 3 : 9000) - random() % 2; break;
            default: bytes = random() % 16 ? random() % 9000 : random() % most; break;
        }
        if (int64_t(bytes) < 0) bytes = 0;
        const uint64_t offset = random() % 3 ? total + random() % 17 : (total + 15) / 16 * 16;
        list.push_back({offset, bytes});
        total = offset + bytes;
    }
    Bytes data(total + 16);
    for (size_t i = 0; i + 8 <= data.size(); i += 8) {
        const uint64_t word = random();
        memcpy(data.data() + i, &word, 8);
    }
    std::vector<host::Tensor> tensors;
    if (device.exact) {
        for (const Case& c : list) {
            const uint64_t skew = c.offset % 16, at = device.memory(c.bytes + skew) + skew;
            device.upload(at, data.data() + c.offset, c.bytes);
            device.guard(at - skew, skew);
            tensors.push_back({at, c.bytes});
        }
    } else {
        const uint64_t at = device.memory(data.size());
        device.upload(at, data.data(), data.size());
        for (const Case& c : list) tensors.push_back({at + c.offset, c.bytes});
    }
    const std::vector<Bytes> found = digests<Algorithm>(device, tensors);
    std::vector<char> right(count);
    std::atomic<uint64_t> next(0);
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < device.threads; t++) {
        threads.emplace_back([&] {
            for (uint64_t i; (i = next++) < count;) right[i] = Algorithm::digest(data.data() + list[i].offset, list[i].bytes) == found[i];
        });
    }
    for (auto& t : threads) t.join();
    for (uint64_t i = 0; i < count; i++) totals.check(right[i], Algorithm::name, list[i].bytes, list[i].offset % 16);
    device.release();
}

/// The join kernel over random nodes, all numbers in one table: up to more than one block can take in two levels on a GPU.
template <class Algorithm, class Device>
void joins(Device& device, Totals& totals, uint64_t most) {
    using Tree = typename Algorithm::Tree;
    using Node = typename Tree::Node;
    constexpr uint64_t JOIN = Tree::JOIN;
    std::mt19937_64 random(11);
    std::vector<uint64_t> counts = {2, 3, 4, 5, 31, 32, 33, JOIN / 2 + 1, JOIN - 1, JOIN, JOIN + 1, 2 * JOIN, 2 * JOIN + 1, 5 * JOIN - 7};
    if (most > JOIN) counts.push_back(most);
    host::Plan plan;
    std::vector<host::Open> open;
    for (uint64_t i = 0; i < counts.size(); i++) {
        open.push_back({i, random(), plan.nodes, counts[i]});
        plan.nodes += counts[i];
    }
    const uint64_t given = plan.nodes;
    host::plan_joins<Tree>(plan, open);
    Bytes bytes(given * sizeof(Node));
    for (auto& b : bytes) b = uint8_t(random());
    const uint64_t nodes = device.memory(plan.nodes * sizeof(Node)), out = device.memory(counts.size() * sizeof(Node));
    device.fill(nodes, 0xA5, plan.nodes * sizeof(Node));
    device.fill(out, 0xA5, counts.size() * sizeof(Node));
    device.upload(nodes, bytes.data(), bytes.size());
    for (const auto& level : plan.levels) {
        device.launch(Algorithm::join, level.groups, 256, table(device, level.joins), uint64_t(level.joins.size()), reinterpret_cast<Node*>(nodes), reinterpret_cast<Node*>(out));
    }
    device.sync();
    Bytes found(counts.size() * sizeof(Node));
    device.download(found.data(), out, found.size());
    for (size_t i = 0; i < counts.size(); i++) {
        std::vector<Bytes> level;
        for (uint64_t j = 0; j < counts[i]; j++) {
            const uint8_t* node = bytes.data() + (open[i].nodes + j) * sizeof(Node);
            level.emplace_back(node, node + sizeof(Node));
        }
        totals.check(memcmp(Algorithm::of_nodes(level, open[i].length).data(), found.data() + i * sizeof(Node), sizeof(Node)) == 0, "join", counts[i], 0);
    }
    device.release();
}

/// The lattice's state of some entries.
template <class Device>
Bytes lattice_state(Device& device, const Bytes& tag, const Bytes& entries, uint64_t count, unsigned blocks, unsigned skew) {
    uint64_t words[3];
    memcpy(words, tag.data(), 24);
    const uint64_t at = device.memory(entries.size() + skew) + skew, partials = device.memory(blocks * 2048), state = device.memory(2048);
    device.upload(at, entries.data(), entries.size());
    device.fill(partials, 0xA5, blocks * 2048);
    device.fill(state, 0xA5, 2048);
    device.launch(sentry_lattice_sum, blocks, 256, reinterpret_cast<const uint8_t*>(at), count, words[0], words[1], words[2], reinterpret_cast<uint32_t*>(partials));
    device.launch(sentry_lattice_fold, 4, 128, reinterpret_cast<const uint32_t*>(partials), uint64_t(blocks), reinterpret_cast<uint32_t*>(state));
    device.sync();
    Bytes found(2048);
    device.download(found.data(), state, 2048);
    device.release();
    return found;
}

template <class Device>
void lattice(Device& device, Totals& totals, uint64_t samples) {
    for (unsigned blocks : {1, 3}) {
        for (const auto& v : lattice_states) totals.check(reference::sha256(lattice_state(device, unhex(v.tag), unhex(v.entries), v.count, blocks, 0)) == unhex(v.state_sha256), "lattice state", v.count, blocks);
        for (const auto& v : lattice_elements) totals.check(reference::sha256(lattice_state(device, unhex(v.tag), unhex(v.entries), v.count, blocks, blocks)) == unhex(v.state_sha256), "lattice element", v.count, blocks);
    }
    std::mt19937_64 random(7);
    for (uint64_t count : {uint64_t(0), uint64_t(1), uint64_t(9), samples}) {
        Bytes tag(24), entries(40 * count);
        for (auto& b : tag) b = uint8_t(random());
        for (auto& b : entries) b = uint8_t(random());
        std::vector<uint16_t> sum(1024);
        for (uint64_t i = 0; i < count; i++) {
            const Bytes e = reference::element(tag.data(), entries.data() + 40 * i);
            for (int j = 0; j < 1024; j++) sum[j] = uint16_t(sum[j] + (e[2 * j] | e[2 * j + 1] << 8));
        }
        for (unsigned skew : {0, 1, 4, 7}) {
            const Bytes found = lattice_state(device, tag, entries, count, 5, skew);
            totals.check(memcmp(found.data(), sum.data(), 2048) == 0, "lattice", count, skew);
        }
    }
}

/// Everything: vectors up to `limit` bytes, 4 tables of `count` tensors of up to `most` bytes each, a state of `samples`.
template <class Device>
uint64_t run(Device& device, uint64_t limit, uint64_t count, uint64_t most, uint64_t samples) {
    Totals totals;
    const auto tree = [&](auto algorithm, const auto& vectors, const char* name) {
        using Algorithm = decltype(algorithm);
        const uint64_t before = totals.checked;
        published<Algorithm>(device, totals, vectors, limit);
        for (uint64_t seed = 0; seed < 4; seed++) random_tensors<Algorithm>(device, totals, count, most, seed + 1);
        joins<Algorithm>(device, totals, count * 600);
        printf("%-14s %llu digests\n", name, (unsigned long long)(totals.checked - before));
    };
    tree(blake3{}, ::blake3, "blake3");
    tree(sha256_tree{}, ::sha256_tree, "sha256-tree");
    tree(blake2b_tree{}, ::blake2b_tree, "blake2b-tree");
    tree(sha3_256_tree{}, ::sha3_256_tree, "sha3-256-tree");
    const uint64_t before = totals.checked;
    lattice(device, totals, samples);
    printf("%-14s %llu states\n", "lattice", (unsigned long long)(totals.checked - before));
    printf("%llu passed, %llu failed\n", (unsigned long long)(totals.checked - totals.wrong), (unsigned long long)totals.wrong);
    return totals.wrong;
}

}  // namespace cases
