// Whole digests in GPU memory, beside the ceilings of plain leaf kernels: `bench [--ceiling FILE] [--label TEXT] [--short]`.
//
// A figure is the median of events around all launches of a table, after warm-up; in brackets the fastest and the slowest. Models
// are random bytes in the shapes of their tensors, each at a multiple of 512 bytes, and where memory allows several copies
// take turns, so that no run finds its data in the cache.
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "../kernels/blake3.cu"
#include "../kernels/sha256_tree.cu"
#ifdef SENTRY_BENCH_ALL
#include "../kernels/blake2b_tree.cu"
#include "../kernels/lattice.cu"
#include "../kernels/samples.cu"
#include "../kernels/sha3_256_tree.cu"
#endif
#include "../tests/host.cuh"
#ifdef SENTRY_BENCH_ALL
#include "../tests/sample_host.cuh"
#endif

#define CHECK(call)                                                                   \
    do {                                                                              \
        const cudaError_t status = (call);                                            \
        if (status != cudaSuccess) {                                                  \
            printf("%s, line %d: %s\n", #call, __LINE__, cudaGetErrorString(status)); \
            exit(2);                                                                  \
        }                                                                             \
    } while (0)

static constexpr uint64_t MEMORY = 8ull << 30;

__global__ void fill(uint64_t* words, uint64_t count) {
    for (uint64_t i = blockIdx.x * uint64_t(blockDim.x) + threadIdx.x; i < count; i += uint64_t(gridDim.x) * blockDim.x) {
        uint64_t x = (i + 1) * 0x9e3779b97f4a7c15;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        words[i] = x ^ x >> 31;
    }
}

struct Model {
    const char* name;
    double prototype;  ///< its best mode, GB/s
    std::vector<uint64_t> bytes;

    uint64_t total() const {
        uint64_t sum = 0;
        for (uint64_t b : bytes) sum += b;
        return sum;
    }
    void f32(std::initializer_list<uint64_t> shape) {
        uint64_t n = 4;
        for (uint64_t d : shape) n *= d;
        bytes.push_back(n);
    }
};

static Model vgg19() {
    Model m = {"vgg19", 85, {}};
    uint64_t in = 3;
    for (uint64_t out : {64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512}) {
        m.f32({out, in, 3, 3});
        m.f32({out});
        in = out;
    }
    for (auto [out, width] : {std::pair<uint64_t, uint64_t>{4096, 25088}, {4096, 4096}, {1000, 4096}}) {
        m.f32({out, width});
        m.f32({out});
    }
    return m;
}

static Model resnet152() {
    Model m = {"resnet152", 35, {}};
    const auto conv = [&](uint64_t out, uint64_t in, uint64_t k) {
        m.f32({out, in, k, k});
        for (int i = 0; i < 4; i++) m.f32({out});  // batch norm: weight, bias, mean, variance
        m.bytes.push_back(8);                      // and the number of batches
    };
    conv(64, 3, 7);
    uint64_t in = 64, width = 64;
    for (int blocks : {3, 8, 36, 3}) {
        for (int i = 0; i < blocks; i++) {
            conv(width, in, 1);
            conv(width, width, 3);
            conv(4 * width, width, 1);
            if (i == 0) conv(4 * width, in, 1);
            in = 4 * width;
        }
        width *= 2;
    }
    m.f32({1000, 2048});
    m.f32({1000});
    return m;
}

static Model bert() {
    Model m = {"bert-base", 98, {}};
    for (uint64_t rows : {30522, 512, 2}) m.f32({rows, 768});
    m.f32({768}), m.f32({768});
    for (int layer = 0; layer < 12; layer++) {
        for (int i = 0; i < 4; i++) m.f32({768, 768}), m.f32({768});
        m.f32({768}), m.f32({768});
        m.f32({3072, 768}), m.f32({3072});
        m.f32({768, 3072}), m.f32({768});
        m.f32({768}), m.f32({768});
    }
    m.f32({768, 768}), m.f32({768});
    m.f32({30522, 768});  // the decoder, not tied
    return m;
}

static Model gpt2_xl() {
    Model m = {"gpt2-xl", 160, {}};
    m.f32({50257, 1600}), m.f32({1024, 1600});
    for (int layer = 0; layer < 48; layer++) {
        m.f32({1600}), m.f32({1600});
        m.f32({1600, 4800}), m.f32({4800});
        m.f32({1600, 1600}), m.f32({1600});
        m.f32({1600}), m.f32({1600});
        m.f32({1600, 6400}), m.f32({6400});
        m.f32({6400, 1600}), m.f32({1600});
    }
    m.f32({1600}), m.f32({1600});
    m.f32({50257, 1600});  // the head, not tied
    return m;
}

struct Figure {
    double median, fastest, slowest;  ///< milliseconds
};

static Figure measure(cudaStream_t stream, int repeats, const std::function<void(int)>& work) {
    std::vector<double> times;
    cudaEvent_t from, to;
    CHECK(cudaEventCreate(&from));
    CHECK(cudaEventCreate(&to));
    for (int i = -3; i < repeats; i++) {
        CHECK(cudaEventRecord(from, stream));
        work(i + 3);
        CHECK(cudaEventRecord(to, stream));
        CHECK(cudaEventSynchronize(to));
        float ms;
        CHECK(cudaEventElapsedTime(&ms, from, to));
        if (i >= 0) times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    return {times[times.size() / 2], times.front(), times.back()};
}

struct Best {
    double blake3 = 0, sha256 = 0;
};

/// The best leaf rates in the ceiling program's output.
static Best read_ceiling(const char* path) {
    Best best;
    if (!path) return best;
    FILE* file = fopen(path, "r");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        const char* colon = strrchr(line, ':');
        if (!colon) continue;
        const double rate = atof(colon + 1);
        if (!strncmp(line, "blake3 leaf", 11)) best.blake3 = std::max(best.blake3, rate);
        if (!strncmp(line, "sha256", 6)) best.sha256 = std::max(best.sha256, rate);
    }
    if (file) fclose(file);
    return best;
}

static uint8_t* data;
static cudaStream_t stream;

template <class T>
static T* upload(const std::vector<T>& entries) {
    T* at;
    CHECK(cudaMalloc(&at, std::max<size_t>(entries.size() * sizeof(T), 1)));
    CHECK(cudaMemcpy(at, entries.data(), entries.size() * sizeof(T), cudaMemcpyHostToDevice));
    return at;
}

/// Times all digests of `sizes`; returns GB/s.
template <class Tree, class Leaves, class JoinKernel>
static double run(const char* label, const char* algorithm, Leaves leaves, JoinKernel join, const char* name, const std::vector<uint64_t>& sizes, uint64_t skew,
                  const char* against, double unit, double wanted) {
    using Node = typename Tree::Node;
    uint64_t span = 0, total = 0;
    for (uint64_t b : sizes) span += (b + 511) / 512 * 512, total += b;
    const int copies = int(std::max<uint64_t>(1, std::min<uint64_t>(4, MEMORY / span)));
    struct Launches {
        host::Plan plan;
        sentry::Run* runs;
        std::vector<sentry::Join*> joins;
    };
    std::vector<Launches> sets(copies);
    uint64_t tables = 0, nodes_bytes = 0;
    for (int c = 0; c < copies; c++) {
        std::vector<host::Tensor> tensors;
        uint64_t at = reinterpret_cast<uint64_t>(data) + c * span + skew;
        for (uint64_t b : sizes) {
            tensors.push_back({at, b});
            at += (b + 511) / 512 * 512;
        }
        sets[c].plan = host::plan<Tree>(tensors);
        sets[c].runs = upload(sets[c].plan.runs);
        tables = sets[c].plan.runs.size() * sizeof(sentry::Run);
        for (auto& level : sets[c].plan.levels) sets[c].joins.push_back(upload(level.joins)), tables += level.joins.size() * sizeof(sentry::Join);
        nodes_bytes = sets[c].plan.nodes * sizeof(Node);
    }
    Node *nodes, *digests;
    CHECK(cudaMalloc(&nodes, std::max<uint64_t>(nodes_bytes, 1)));
    CHECK(cudaMalloc(&digests, sizes.size() * sizeof(Node)));
    const Figure f = measure(stream, 15, [&](int i) {
        const Launches& set = sets[i % copies];
        leaves<<<unsigned(set.plan.blocks), Tree::THREADS, 0, stream>>>(set.runs, set.plan.runs.size(), nodes, digests);
        for (size_t l = 0; l < set.joins.size(); l++) {
            const auto& level = set.plan.levels[l];
            join<<<unsigned(level.groups), 256, 0, stream>>>(set.joins[l], level.joins.size(), nodes, digests);
        }
        CHECK(cudaGetLastError());
    });
    CHECK(cudaFree(nodes));
    CHECK(cudaFree(digests));
    for (auto& set : sets) {
        CHECK(cudaFree(set.runs));
        for (auto* j : set.joins) CHECK(cudaFree(j));
    }
    const double rate = total / f.median / 1e6;
    printf("%-12s %-13s %-15s %5zu tensors %7.1f MB %8.4f ms [%.4f %.4f] %7.1f GB/s", label, algorithm, name, sizes.size(), total / 1e6, f.median, f.fastest, f.slowest, rate);
    if (unit > 0) printf("  %6.3f x %s (wanted %.2f)%s", rate / unit, against, wanted, rate / unit >= wanted ? "" : " SHORT");
    printf("  launches %zu, extra %.3f MB\n", 1 + sets[0].plan.levels.size(), (tables + nodes_bytes + sizes.size() * sizeof(Node)) / 1e6);
    fflush(stdout);
    return rate;
}

#ifdef SENTRY_BENCH_ALL
/// Times the digests and the state of `count` samples, each a body of `bytes` and a label of 8, `gap` bytes between bodies: all batches in a row.
/// In turn, how long the bodies alone take, the digests without a state, and all of it, which is to take at most `wanted` ms.
static void run_samples(const char* label, uint64_t count, uint64_t bytes, uint64_t gap, double wanted) {
    using sentry::samples::Digest;
    using sentry::samples::Hole;
    const unsigned sum_blocks = 132 * 4;
    const uint64_t labels = (count * (bytes + gap) + 511) / 512 * 512, span = labels + (count * 8 + 511) / 512 * 512;
    const int copies = int(std::max<uint64_t>(1, std::min<uint64_t>(4, MEMORY / span)));
    struct Batch {
        uint64_t first, samples;
        const Hole* holes;
    };
    struct Set {
        std::vector<host::Column> columns;
        std::vector<Batch> batches;
    };
    std::vector<Set> sets(copies);
    for (int c = 0; c < copies; c++) {
        const uint64_t at = reinterpret_cast<uint64_t>(data) + c * span;
        sets[c].columns = {{"image", "U8", {bytes}, bytes, at, bytes + gap}, {"label", "I64", {}, 8, at + labels, 8}};
    }
    const host::Layout layout = host::layout(sets[0].columns);
    const uint64_t room = std::min<uint64_t>(count, (uint64_t(14) << 20) / layout.batch_bytes());
    const uint8_t* record = upload(layout.record);
    Digest *scratch, *digests;
    uint64_t* entries;
    uint32_t* partials;
    CHECK(cudaMalloc(&scratch, std::max<uint64_t>(layout.hashed * room * 32, 1)));
    CHECK(cudaMalloc(&digests, room * 32));
    CHECK(cudaMalloc(&entries, room * 40));
    CHECK(cudaMalloc(&partials, (sum_blocks + 1) * 2048));
    uint64_t tables = 0;
    std::vector<Hole*> held;
    for (Set& set : sets) {
        std::vector<Hole> holes;
        for (uint64_t first = 0; first < count; first += room) {
            const auto batch = host::holes(layout, set.columns, first, reinterpret_cast<uint64_t>(scratch), room);
            holes.insert(holes.end(), batch.begin(), batch.end());
        }
        held.push_back(upload(holes));
        tables = holes.size() * sizeof(Hole);
        for (uint64_t first = 0; first < count; first += room) {
            set.batches.push_back({first, std::min(room, count - first), held.back() + set.batches.size() * layout.places.size()});
        }
    }
    enum Part { BODIES, DIGESTS, STATE };
    const auto time = [&](Part part) {
        return measure(stream, 9, [&](int i) {
            const Set& set = sets[i % copies];
            for (const Batch& b : set.batches) {
                for (const host::Column& c : set.columns) {
                    if (!c.hashed()) continue;
                    const auto* from = reinterpret_cast<const uint8_t*>(c.data + b.first * c.stride);
                    const unsigned blocks = unsigned(host::ceil_div(b.samples, host::bodies_each(c.bytes)));
                    sentry_sample_bodies<<<blocks, sentry::samples::THREADS, 0, stream>>>(from, c.stride, c.bytes, b.samples, scratch);
                }
                if (part == BODIES) continue;
                const unsigned blocks = unsigned(host::ceil_div(b.samples, sentry::samples::THREADS));
                sentry_sample_digests<<<blocks, sentry::samples::THREADS, 0, stream>>>(record, layout.record_bytes, b.holes, layout.places.size(), b.samples, nullptr, b.first,
                                                                                       part == DIGESTS ? digests : nullptr, part == STATE ? entries : nullptr);
                if (part == DIGESTS) continue;
                sentry_lattice_sum<<<sum_blocks, 256, 0, stream>>>(reinterpret_cast<const uint8_t*>(entries), b.samples, 1, 2, 3, partials);
                sentry_lattice_fold<<<4, 128, 0, stream>>>(partials, b.first ? sum_blocks + 1 : sum_blocks, partials + sum_blocks * 512);
            }
            CHECK(cudaGetLastError());
        });
    };
    const Figure bodies = time(BODIES), plain = time(DIGESTS), all = time(STATE);
    const double extra = (layout.hashed * room * 32 + room * 40 + (sum_blocks + 1) * 2048.0 + tables + layout.record.size()) / 1e6;
    printf("%-12s samples %10llu of %llu + 8, %llu between %8.4f ms [%.4f %.4f] %7.1f million a second %7.1f GB/s", label, (unsigned long long)count, (unsigned long long)bytes,
           (unsigned long long)gap, all.median, all.fastest, all.slowest, count / all.median / 1e3, count * (bytes + 8) / all.median / 1e6);
    if (wanted > 0) printf("  (wanted %.0f ms)%s", wanted, all.median <= wanted ? "" : " SLOW");
    printf("  bodies %.4f ms [%.4f %.4f], digests %.4f ms [%.4f %.4f], batches %zu, record %llu, extra %.3f MB\n", bodies.median, bodies.fastest, bodies.slowest, plain.median,
           plain.fastest, plain.slowest, sets[0].batches.size(), (unsigned long long)layout.record_bytes, extra);
    fflush(stdout);
    for (Hole* h : held) CHECK(cudaFree(h));
    CHECK(cudaFree(const_cast<uint8_t*>(record)));
    CHECK(cudaFree(scratch));
    CHECK(cudaFree(digests));
    CHECK(cudaFree(entries));
    CHECK(cudaFree(partials));
}
#endif

int main(int argc, char** argv) {
    const char *ceiling = nullptr, *label = "-";
    bool brief = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--ceiling") && i + 1 < argc) ceiling = argv[++i];
        if (!strcmp(argv[i], "--label") && i + 1 < argc) label = argv[++i];
        if (!strcmp(argv[i], "--short")) brief = true;
    }
    const Best best = read_ceiling(ceiling);
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CHECK(cudaMalloc(&data, MEMORY + 512));
    fill<<<4096, 256>>>(reinterpret_cast<uint64_t*>(data), (MEMORY + 512) / 8);
    CHECK(cudaDeviceSynchronize());
    if (!brief) {
        cudaDeviceProp properties;
        CHECK(cudaGetDeviceProperties(&properties, 0));
        printf("%s, %d multiprocessors; ceilings: blake3 %.1f, sha256 %.1f GB/s\n", properties.name, properties.multiProcessorCount, best.blake3, best.sha256);
    }
    const std::vector<Model> models = {vgg19(), resnet152(), bert(), gpt2_xl()};
    using B = sentry::blake3::Tree;
    using S = sentry::sha256::Tree;
    run<B>(label, "blake3", sentry_blake3_leaves, sentry_blake3_join, "8 GiB", {MEMORY}, 0, "best leaf", best.blake3, 0.90);
    run<S>(label, "sha256-tree", sentry_sha256_tree_leaves, sentry_sha256_tree_join, "8 GiB", {MEMORY}, 0, "best leaf", best.sha256, 0.93);
    for (const Model& m : models) {
        run<B>(label, "blake3", sentry_blake3_leaves, sentry_blake3_join, m.name, m.bytes, 0, "prototype", m.prototype, 10);
        run<S>(label, "sha256-tree", sentry_sha256_tree_leaves, sentry_sha256_tree_join, m.name, m.bytes, 0, "prototype", m.prototype, 5);
    }
    if (brief) return 0;
    for (uint64_t skew : {4, 1}) {
        run<B>(label, "blake3", sentry_blake3_leaves, sentry_blake3_join, skew == 4 ? "8 GiB, at 4" : "8 GiB, at 1", {MEMORY}, skew, "", 0, 0);
        run<S>(label, "sha256-tree", sentry_sha256_tree_leaves, sentry_sha256_tree_join, skew == 4 ? "8 GiB, at 4" : "8 GiB, at 1", {MEMORY}, skew, "", 0, 0);
    }
    for (uint64_t size : {1ull << 10, 1ull << 20, 64ull << 20}) {
        const std::string name = size >> 20 ? std::to_string(size >> 20) + " MiB" : "1 KiB";
        run<B>(label, "blake3", sentry_blake3_leaves, sentry_blake3_join, name.c_str(), {size}, 0, "", 0, 0);
        run<S>(label, "sha256-tree", sentry_sha256_tree_leaves, sentry_sha256_tree_join, name.c_str(), {size}, 0, "", 0, 0);
    }
#ifdef SENTRY_BENCH_ALL
    run<sentry::blake2b::Tree>(label, "blake2b-tree", sentry_blake2b_tree_leaves, sentry_blake2b_tree_join, "8 GiB", {MEMORY}, 0, "", 0, 0);
    run<sentry::sha3::Tree>(label, "sha3-256-tree", sentry_sha3_256_tree_leaves, sentry_sha3_256_tree_join, "8 GiB", {MEMORY}, 0, "", 0, 0);
    for (uint64_t samples : {1000ull, 1000000ull, 20000000ull}) {
        const unsigned blocks = 132 * 4;
        uint32_t* sums;
        CHECK(cudaMalloc(&sums, (blocks + 1) * 2048));
        const Figure f = measure(stream, 9, [&](int) {
            sentry_lattice_sum<<<blocks, 256, 0, stream>>>(data, samples, 1, 2, 3, sums);
            sentry_lattice_fold<<<4, 128, 0, stream>>>(sums, blocks, sums + blocks * 512);
        });
        CHECK(cudaGetLastError());
        printf("lattice %10llu samples %8.4f ms [%.4f %.4f] %7.1f million a second\n", (unsigned long long)samples, f.median, f.fastest, f.slowest, samples / f.median / 1e3);
        CHECK(cudaFree(sums));
    }
    run_samples(label, 50000, 3072, 0, 1);
    run_samples(label, 10000000, 256, 0, 30);
    // What else comes: a batch of a training step, longer bodies, bodies at multiples of 4 and at any address, inline ones.
    run_samples(label, 256, 3072, 0, 0);
    run_samples(label, 256, 16384, 0, 0);
    run_samples(label, 400000, 16384, 0, 0);
    run_samples(label, 10000000, 256, 4, 0);
    run_samples(label, 10000000, 256, 1, 0);
    run_samples(label, 10000000, 64, 0, 0);
    run_samples(label, 10000000, 16, 0, 0);
#endif
    return 0;
}
