// A host over the driver API: what cases.h asks of a device, one digest step by step, and cases in processes of their own, as a
// process has one driver and a driver one list of faults.
#pragma once

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#define SENTRY_EMULATE
#include "../emulate.h"

#include "../cases.h"
#include "api.h"

/// Ends a case that went wrong.
#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            printf("WRONG %s:%d: %s\n", __FILE__, __LINE__, #condition);       \
            fflush(stdout);                                                    \
            _exit(1);                                                          \
        }                                                                      \
    } while (0)

#define OK(call) CHECK((call) == CUDA_SUCCESS)
#define GIVES(status, call) CHECK((call) == CUDA_ERROR_##status)

namespace check {

using reference::Bytes;
using Digest = sentry::blake3::Tree::Node;

inline const char PTX[] = "// compiled\n.version 8.0\n.target sm_75\n";

/// The name of a kernel that cases.h names by its address.
template <class Kernel>
const char* name_of(Kernel kernel) {
#define SENTRY_NAME(name) {reinterpret_cast<const void*>(name), #name}
    static const std::map<const void*, const char*> names = {
        SENTRY_NAME(sentry_blake3_leaves),        SENTRY_NAME(sentry_blake3_join),       SENTRY_NAME(sentry_sha256_tree_leaves),
        SENTRY_NAME(sentry_sha256_tree_join),     SENTRY_NAME(sentry_blake2b_tree_leaves), SENTRY_NAME(sentry_blake2b_tree_join),
        SENTRY_NAME(sentry_sha3_256_tree_leaves), SENTRY_NAME(sentry_sha3_256_tree_join), SENTRY_NAME(sentry_lattice_sum),
        SENTRY_NAME(sentry_lattice_fold),         SENTRY_NAME(sentry_sample_bodies),     SENTRY_NAME(sentry_sample_digests),
    };
#undef SENTRY_NAME
    const auto found = names.find(reinterpret_cast<const void*>(kernel));
    CHECK(found != names.end());
    return found->second;
}

/// A device of cases.h: every piece of work is queued on one stream.
struct Host {
    static constexpr bool exact = true;
    unsigned threads = 2;
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    CUstream stream = nullptr;
    std::vector<CUdeviceptr> held;

    explicit Host(int ordinal = 0) {
        OK(cuInit(0));
        OK(cuDevicePrimaryCtxRetain(&context, ordinal));
        OK(cuCtxSetCurrent(context));
        OK(cuModuleLoadData(&module, PTX));
        OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    }

    uint64_t memory(uint64_t bytes) {
        CUdeviceptr at = 0;
        OK(cuMemAlloc_v2(&at, std::max<uint64_t>(bytes, 1)));
        held.push_back(at);
        return at;
    }
    void guard(uint64_t, uint64_t) {}
    void upload(uint64_t to, const void* from, uint64_t bytes) {
        if (bytes == 0) return;
        void* pinned = staged(from, bytes);
        OK(cuMemcpyHtoDAsync_v2(to, pinned, bytes, stream));
        sync();
        OK(cuMemFreeHost(pinned));
    }
    void download(void* to, uint64_t from, uint64_t bytes) {
        if (bytes == 0) return;
        void* pinned = pinned_memory(bytes);
        OK(cuMemcpyDtoHAsync_v2(pinned, from, bytes, stream));
        sync();
        memcpy(to, pinned, bytes);
        OK(cuMemFreeHost(pinned));
    }
    void fill(uint64_t at, int byte, uint64_t bytes) { OK(cuMemsetD8Async(at, uint8_t(byte), bytes, stream)); }
    void sync() { OK(cuStreamSynchronize(stream)); }
    void release() {
        for (const CUdeviceptr at : held) OK(cuMemFree_v2(at));
        held.clear();
    }
    template <class... Parameters, class... Arguments>
    void launch(void (*kernel)(Parameters...), uint64_t grid, unsigned block, Arguments... arguments) {
        OK(try_launch(stream, kernel, grid, block, arguments...));
    }

    void* pinned_memory(uint64_t bytes) {
        void* pinned = nullptr;
        OK(cuMemHostAlloc(&pinned, bytes, CU_MEMHOSTALLOC_PORTABLE));
        return pinned;
    }
    void* staged(const void* from, uint64_t bytes) {
        void* pinned = pinned_memory(bytes);
        memcpy(pinned, from, bytes);
        return pinned;
    }
    CUfunction function(const char* name) {
        CUfunction found = nullptr;
        OK(cuModuleGetFunction(&found, module, name));
        return found;
    }
    template <class... Parameters, class... Arguments>
    CUresult try_launch(CUstream on, void (*kernel)(Parameters...), uint64_t grid, unsigned block, Arguments... arguments) {
        std::tuple<Parameters...> values(arguments...);
        return std::apply(
            [&](auto&... value) {
                void* addresses[] = {&value...};
                return cuLaunchKernel(function(name_of(kernel)), unsigned(grid), 1, 1, block, 1, 1, 0, on, addresses, nullptr);
            },
            values);
    }
};

/// Some message of 1 MiB and a half: several blocks, so that nodes are joined.
constexpr uint64_t LENGTH = 3 << 19;

inline Bytes message(uint8_t seed) {
    Bytes bytes(LENGTH);
    for (uint64_t i = 0; i < LENGTH; i++) bytes[i] = uint8_t(i % 251 + seed);
    return bytes;
}

/// The `blake3` of a message that lies or will lie at `data`, with tables that are there already. Work on `on`, which the
/// caller waits for.
struct Hashing {
    Host& host;
    host::Plan plan;
    uint64_t runs, joins, nodes, out;
    Digest* answer;

    Hashing(Host& host, uint64_t data) : host(host), plan(host::plan<sentry::blake3::Tree>({{data, LENGTH}})) {
        CHECK(plan.levels.size() == 1);
        runs = reinterpret_cast<uint64_t>(cases::table(host, plan.runs));
        joins = reinterpret_cast<uint64_t>(cases::table(host, plan.levels[0].joins));
        nodes = host.memory(plan.nodes * sizeof(Digest));
        out = host.memory(sizeof(Digest));
        answer = static_cast<Digest*>(host.pinned_memory(sizeof(Digest)));
    }
    /// Leaves, nodes, and the copy of the digest.
    CUresult queue(CUstream on) {
        const auto n = reinterpret_cast<Digest*>(nodes), d = reinterpret_cast<Digest*>(out);
        memset(answer, 0, sizeof *answer);
        const CUresult leaves = host.try_launch(on, sentry_blake3_leaves, plan.blocks, sentry::blake3::Tree::THREADS,
                                                reinterpret_cast<const sentry::Run*>(runs), plan.runs.size(), n, d);
        if (leaves != CUDA_SUCCESS) return leaves;
        const CUresult joined = host.try_launch(on, sentry_blake3_join, plan.levels[0].groups, 256, reinterpret_cast<const sentry::Join*>(joins),
                                                plan.levels[0].joins.size(), n, d);
        if (joined != CUDA_SUCCESS) return joined;
        return cuMemcpyDtoHAsync_v2(answer, out, sizeof *answer, on);
    }
    bool is(const Bytes& message) const { return memcmp(answer, reference::Blake3::digest(message.data(), LENGTH).data(), sizeof *answer) == 0; }
};

inline CUstream new_stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
    CUstream stream = nullptr;
    OK(cuStreamCreate(&stream, flags));
    return stream;
}

inline CUevent new_event(unsigned flags = CU_EVENT_DEFAULT) {
    CUevent event = nullptr;
    OK(cuEventCreate(&event, flags));
    return event;
}

/// What a process did: its exit status, or 128 and the signal that ended it; and what it printed.
struct Outcome {
    int status;
    std::string output;
};

inline Outcome run_process(const std::string& settings, const std::function<void()>& body) {
    int ends[2];
    if (pipe(ends) != 0) abort();
    fflush(stdout);
    const pid_t child = fork();
    if (child < 0) abort();
    if (child == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        close(ends[1]);
        setenv("SENTRY_EMULATED_CUDA", settings.c_str(), 1);
        body();
        fflush(stdout);
        _exit(0);
    }
    close(ends[1]);
    Outcome outcome = {0, ""};
    char buffer[4096];
    for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;) outcome.output.append(buffer, size_t(got));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome;
}

/// Cases, and how many of them went wrong.
struct Cases {
    unsigned passed = 0, wrong = 0;

    /// A case that must run to its end.
    void right(const char* name, const std::string& settings, const std::function<void()>& body) {
        const Outcome outcome = run_process(settings, body);
        judge(outcome.status == 0, name, settings, outcome);
    }
    /// A case that the driver must end, with these words.
    void aborts(const char* name, const std::string& settings, const char* words, const std::function<void()>& body) {
        const Outcome outcome = run_process(settings, body);
        judge(outcome.status == 128 + SIGABRT && outcome.output.find(words) != std::string::npos, name, settings, outcome);
    }

private:
    void judge(bool good, const char* name, const std::string& settings, const Outcome& outcome) {
        (good ? passed : wrong)++;
        printf("%s %s%s%s\n", good ? "right" : "WRONG", name, settings.empty() ? "" : ": ", settings.c_str());
        if (!good) printf("  status %d\n%s\n", outcome.status, outcome.output.c_str());
        if (good && outcome.output.find("MB/s") != std::string::npos) printf("%s", outcome.output.c_str());
    }
};

}  // namespace check
