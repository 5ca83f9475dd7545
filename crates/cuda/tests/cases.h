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
#include "../kernels/samples.cu"
#include "../kernels/sha256_tree.cu"
#include "../kernels/sha3_256_tree.cu"
#include "host.cuh"
#include "reference.h"
#include "sample_host.cuh"
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

/// Bodies of `bytes` each in memory of exactly their size, `skew` bytes behind a multiple of 16. Where memory is exact, nothing before
/// them and between them may be touched.
template <class Device>
uint64_t place(Device& device, const Bytes& column, uint64_t bytes, uint64_t stride, unsigned skew) {
    const uint64_t at = device.memory(column.size() + skew) + skew;
    device.upload(at, column.data(), column.size());
    device.guard(at - skew, skew);
    if (stride <= bytes) return at;
    for (uint64_t gap = bytes; gap < column.size(); gap += stride) device.guard(at + gap, stride - bytes);
    return at;
}

/// What sentry_sample_bodies makes of a column.
template <class Device>
Bytes body_digests(Device& device, uint64_t data, uint64_t stride, uint64_t bytes, uint64_t count) {
    using sentry::samples::Digest;
    const uint64_t out = device.memory(count * 32), each = std::max<uint64_t>(1, host::bodies_each(bytes));
    device.fill(out, 0xA5, count * 32);
    device.launch(sentry_sample_bodies, host::ceil_div(count, each), sentry::samples::THREADS, reinterpret_cast<const uint8_t*>(data), stride, bytes, count,
                  reinterpret_cast<Digest*>(out));
    device.sync();
    Bytes found(count * 32);
    device.download(found.data(), out, found.size());
    return found;
}

/// The published digests of BLAKE3 for bodies; then random ones at every boundary of words, blocks, chunks and bodies of a block.
template <class Device>
void sample_bodies(Device& device, Totals& totals) {
    constexpr uint64_t MOST = 128 << 10;
    for (const Vector& v : ::blake3) {
        if (v.length > MOST) continue;
        // The message has period 251, so three bodies may overlap.
        Bytes message(v.length + 2 * 251);
        for (size_t i = 0; i < message.size(); i++) message[i] = uint8_t(i % 251);
        const Bytes found = body_digests(device, place(device, message, v.length, 251, 0), 251, v.length, 3);
        for (int i = 0; i < 3; i++) totals.check(Bytes(found.begin() + 32 * i, found.begin() + 32 * (i + 1)) == unhex(v.digest), "body", v.length, i);
        device.release();
    }
    std::mt19937_64 random(21);
    std::vector<uint64_t> lengths = {0, 1, 2, 3, 4, 5, 63, 64, 65, 66, 67, 68, 120, 127, 128, 255, 256, 257, 1023, 1024, 1025, 3072, 3073, 4096, 4097, 15000, 16384, 16385, MOST};
    for (uint64_t chunks : {2, 3, 5, 7, 33, 42, 43, 64, 65, 127}) lengths.push_back(chunks * 1024 - random() % 1024);
    for (uint64_t bytes : lengths) {
        const uint64_t each = host::bodies_each(bytes);
        const uint64_t counts[4] = {1, each, each + 1, 3 * each - 1};
        for (unsigned i = 0; i < 4; i++) {
            const uint64_t count = std::max<uint64_t>(1, bytes > 20000 ? std::min<uint64_t>(counts[i], 3) : counts[i]);
            const unsigned skew = i == 0 ? 0 : unsigned(random() % 16);
            const uint64_t stride = i == 0 ? (bytes + 15) / 16 * 16 : i == 1 ? bytes : i == 2 ? (bytes + 3) / 4 * 4 + 16 : bytes + random() % 40;
            Bytes column((count - 1) * stride + bytes);
            for (auto& b : column) b = uint8_t(random());
            const Bytes found = body_digests(device, place(device, column, bytes, stride, skew), stride, bytes, count);
            for (uint64_t body = 0; body < count; body++)
                totals.check(memcmp(found.data() + 32 * body, reference::blake3(column.data() + body * stride, bytes).data(), 32) == 0, "body", bytes, stride);
            device.release();
        }
    }
    const Bytes refused = body_digests(device, 0, 0, MOST + 1, 2);
    totals.check(refused == Bytes(64, 0xA5), "a body that is too long", MOST + 1, 0);
    device.release();
}

/// The published records: each one's bodies are columns of three samples, of which the first is the published one.
template <class Device>
void published_records(Device& device, Totals& totals) {
    using sentry::samples::Digest;
    using sentry::samples::Hole;
    constexpr uint64_t COUNT = 3;
    std::mt19937_64 random(22);
    uint64_t used = 0;
    for (const RecordVector& v : records) {
        const Bytes record = unhex(v.record);
        if (record.size() > 1024) continue;
        used++;
        Bytes blank = record, expected = unhex(v.digest);
        std::vector<Bytes> varied(COUNT - 1, record);
        std::vector<Hole> holes;
        for (const auto& [offset, bytes] : reference::bodies(record)) {
            const uint64_t stride = bytes + random() % 20;
            Bytes column((COUNT - 1) * stride + bytes);
            for (auto& b : column) b = uint8_t(random());
            memcpy(column.data(), record.data() + offset, bytes);
            for (size_t i = 0; i + 1 < COUNT; i++) memcpy(varied[i].data() + offset, column.data() + (i + 1) * stride, bytes);
            memset(blank.data() + offset, 0, bytes);
            holes.push_back({offset, place(device, column, bytes, stride, unsigned(random() % 16)), stride, bytes});
        }
        blank.resize((blank.size() + 63) / 64 * 64);
        const uint64_t out = device.memory(COUNT * 32);
        device.fill(out, 0xA5, COUNT * 32);
        device.launch(sentry_sample_digests, 1, sentry::samples::THREADS, table(device, blank), uint64_t(record.size()), table(device, holes), uint64_t(holes.size()),
                      COUNT, static_cast<const uint64_t*>(nullptr), uint64_t(0), reinterpret_cast<Digest*>(out), static_cast<uint64_t*>(nullptr));
        device.sync();
        Bytes found(COUNT * 32);
        device.download(found.data(), out, found.size());
        for (const Bytes& other : varied) reference::append(expected, reference::sample_digest(other).data(), 32);
        totals.check(reference::sample_digest(record) == unhex(v.digest), "reference", record.size(), 0);
        for (uint64_t i = 0; i < COUNT; i++) totals.check(memcmp(found.data() + 32 * i, expected.data() + 32 * i, 32) == 0, "record", record.size(), i);
        device.release();
    }
    totals.check(used > 100, "published records of at most a chunk", used, 0);

    // Outside the bounds of the kernel nothing is written.
    for (uint64_t bytes : {0, 1025}) {
        const Bytes record(1088);
        const uint64_t out = device.memory(32);
        device.fill(out, 0xA5, 32);
        device.launch(sentry_sample_digests, 1, sentry::samples::THREADS, table(device, record), bytes, static_cast<const Hole*>(nullptr), uint64_t(0), uint64_t(1),
                      static_cast<const uint64_t*>(nullptr), uint64_t(0), reinterpret_cast<Digest*>(out), static_cast<uint64_t*>(nullptr));
        device.sync();
        Bytes found(32);
        device.download(found.data(), out, 32);
        totals.check(found == Bytes(32, 0xA5), "a record that is no chunk", bytes, 0);
        device.release();
    }
}

/// Samples of some layout and what all launches make of them, in batches of at most `room`.
struct Samples {
    std::vector<host::Column> columns;  ///< `data` is the device's
    std::vector<Bytes> content;         ///< of each column
    uint64_t count;
    std::vector<uint64_t> ids;  ///< or none: they count up from `first_id`
    uint64_t first_id;

    uint64_t id(uint64_t sample) const { return ids.empty() ? first_id + sample : ids[sample]; }

    Bytes record(uint64_t sample) const {
        std::vector<reference::Field> fields;
        for (size_t i = 0; i < columns.size(); i++) {
            const host::Column& c = columns[i];
            const auto from = content[i].begin() + sample * c.stride;
            fields.push_back({c.name, c.type, c.dimensions, Bytes(from, from + c.bytes)});
        }
        return reference::record(fields);
    }
};

struct Found {
    Bytes digests, entries, state;
};

template <class Device>
Found sample_digests(Device& device, const Samples& samples, const host::Layout& layout, const Bytes& tag, uint64_t room) {
    using sentry::samples::Digest;
    constexpr unsigned BLOCKS = 2;
    const uint64_t count = samples.count;
    const uint64_t scratch = device.memory(layout.hashed * room * 32), entries = device.memory(room * 40), digests = device.memory(count * 32);
    const uint64_t partials = device.memory((BLOCKS + 1) * 2048), state = partials + BLOCKS * 2048;
    const uint8_t* record = table(device, layout.record);
    const uint64_t* ids = samples.ids.empty() ? nullptr : table(device, samples.ids);
    uint64_t words[3];
    memcpy(words, tag.data(), 24);
    device.fill(digests, 0xA5, count * 32);
    device.fill(partials, 0xA5, (BLOCKS + 1) * 2048);
    Found found = {Bytes(count * 32), Bytes(count * 40), Bytes(2048)};
    for (uint64_t first = 0; first < count; first += room) {
        const uint64_t n = std::min(room, count - first);
        device.fill(scratch, 0xA5, layout.hashed * room * 32);
        device.fill(entries, 0xA5, room * 40);
        const auto holes = host::holes(layout, samples.columns, first, scratch, room);
        for (size_t i = 0; i < layout.places.size(); i++) {
            const host::Column& c = samples.columns[layout.places[i].column];
            if (!c.hashed()) continue;
            device.launch(sentry_sample_bodies, host::ceil_div(n, host::bodies_each(c.bytes)), sentry::samples::THREADS,
                          reinterpret_cast<const uint8_t*>(c.data + first * c.stride), c.stride, c.bytes, n, reinterpret_cast<Digest*>(holes[i].data));
        }
        const auto e = reinterpret_cast<uint64_t*>(entries);
        device.launch(sentry_sample_digests, host::ceil_div(n, sentry::samples::THREADS), sentry::samples::THREADS, record, layout.record_bytes, table(device, holes),
                      uint64_t(holes.size()), n, ids ? ids + first : nullptr, samples.first_id + first, reinterpret_cast<Digest*>(digests) + first, e);
        device.launch(sentry_lattice_sum, BLOCKS, 256, reinterpret_cast<const uint8_t*>(entries), n, words[0], words[1], words[2], reinterpret_cast<uint32_t*>(partials));
        device.launch(sentry_lattice_fold, 4, 128, reinterpret_cast<const uint32_t*>(partials), uint64_t(first ? BLOCKS + 1 : BLOCKS), reinterpret_cast<uint32_t*>(state));
        device.sync();
        device.download(found.entries.data() + first * 40, entries, n * 40);
    }
    device.download(found.digests.data(), digests, count * 32);
    device.download(found.state.data(), state, 2048);
    return found;
}

/// Random fields of random shapes, addresses and strides, and random ids. None of the records is longer than a chunk.
template <class Device>
Samples random_samples(Device& device, std::mt19937_64& random, uint64_t most) {
    const uint64_t lengths[] = {0, 1, 2, 3, 4, 8, 8, 31, 63, 64, 65, 100, 256, 1000, 1024, 1025, 3072};
    Samples samples = {{}, {}, 1 + random() % most, {}, random()};
    for (uint64_t fields = random() % 8 ? 1 + random() % 3 : 1 + random() % 14; fields > 0; fields--) {
        const uint64_t bytes = random() % 3 ? lengths[random() % (sizeof lengths / sizeof *lengths)] : random() % 70;
        host::Column c = {"", "BYTES", {}, bytes, 0, 0};
        c.name = std::string(1 + random() % (random() % 4 ? 6 : 60), char('a' + random() % 26)) + char(fields);
        if (random() % 2) c.type = "U8", c.dimensions = random() % 2 ? std::vector<uint64_t>{bytes} : std::vector<uint64_t>{1, bytes, 1};
        c.stride = random() % 3 ? bytes + random() % 20 : random() % 8 ? (bytes + 15) / 16 * 16 : 0;
        samples.columns.push_back(c);
        if (host::layout(samples.columns).record_bytes > 1024) samples.columns.pop_back();
    }
    // Half of the records end at a block's boundary or a byte beside it.
    const uint64_t length = host::layout(samples.columns).record_bytes, beside = (length + 64) / 64 * 64 + random() % 3 - 1;
    if (random() % 2 && beside >= length && beside <= 1024) samples.columns[0].name.insert(0, beside - length, 'n');
    for (host::Column& c : samples.columns) {
        Bytes content((samples.count - 1) * c.stride + c.bytes);
        for (auto& b : content) b = uint8_t(random());
        c.data = place(device, content, c.bytes, c.stride, random() % 2 ? 0 : unsigned(random() % 16));
        samples.content.push_back(content);
    }
    if (random() % 2) {
        for (uint64_t i = 0; i < samples.count; i++) samples.ids.push_back(random());
    }
    return samples;
}

/// From the columns to the state of a source, `layouts` times.
template <class Device>
void samples(Device& device, Totals& totals, uint64_t layouts, uint64_t most) {
    std::mt19937_64 random(23);
    for (uint64_t round = 0; round < layouts; round++) {
        const Samples samples = random_samples(device, random, most);
        const host::Layout layout = host::layout(samples.columns);
        Bytes tag(24);
        for (auto& b : tag) b = uint8_t(random());
        const uint64_t room = random() % 2 ? samples.count : 1 + samples.count / 3;
        const Found found = sample_digests(device, samples, layout, tag, room);
        uint16_t state[1024] = {};
        for (uint64_t i = 0; i < samples.count; i++) {
            const uint64_t id = samples.id(i);
            Bytes entry;
            reference::append(entry, &id, 8);
            reference::append(entry, reference::sample_digest(samples.record(i)).data(), 32);
            totals.check(memcmp(found.digests.data() + 32 * i, entry.data() + 8, 32) == 0, "sample digest", round, i);
            totals.check(memcmp(found.entries.data() + 40 * i, entry.data(), 40) == 0, "entry", round, i);
            const Bytes e = reference::element(tag.data(), entry.data());
            for (int j = 0; j < 1024; j++) state[j] = uint16_t(state[j] + (e[2 * j] | e[2 * j + 1] << 8));
        }
        totals.check(memcmp(found.state.data(), state, 2048) == 0, "state of samples", round, samples.count);
        device.release();
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
    const auto others = [&](const char* name, const char* what, const auto& body) {
        const uint64_t before = totals.checked;
        body();
        printf("%-14s %llu %s\n", name, (unsigned long long)(totals.checked - before), what);
    };
    others("lattice", "states", [&] { lattice(device, totals, samples); });
    others("bodies", "digests", [&] { sample_bodies(device, totals); });
    others("records", "digests", [&] { published_records(device, totals); });
    others("samples", "digests, entries and states", [&] { cases::samples(device, totals, 100, samples); });
    printf("%llu passed, %llu failed\n", (unsigned long long)(totals.checked - totals.wrong), (unsigned long long)totals.wrong);
    return totals.wrong;
}

}  // namespace cases
