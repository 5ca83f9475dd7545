// Memory that the host has made by itself and registered: it is pinned like the driver's own, page by page.
#pragma once

#include <sys/mman.h>

#include <chrono>
#include <thread>

#include "check_host.h"

namespace check {

constexpr uint64_t PAGE = 4096;

/// Whole pages of memory that no driver knows.
class Pages {
public:
    explicit Pages(uint64_t count, int protection = PROT_READ | PROT_WRITE) : bytes(count * PAGE) {
        void* mapping = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(mapping != MAP_FAILED);
        data = static_cast<uint8_t*>(mapping);
    }
    ~Pages() { munmap(data, bytes); }
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;

    uint64_t bytes;
    uint8_t* data;
};

inline void registered_memory_is_pinned() {
    Host host, other(1);
    const CUdeviceptr there = other.memory(LENGTH);
    OK(cuCtxSetCurrent(host.context));
    const Bytes text = message(7);
    const uint64_t data = host.memory(LENGTH);
    Pages pages(LENGTH / PAGE);
    memcpy(pages.data, text.data(), LENGTH);
    GIVES(INVALID_VALUE, cuMemcpyHtoDAsync_v2(data, pages.data, LENGTH, host.stream));
    OK(cuMemHostRegister_v2(pages.data, LENGTH, CU_MEMHOSTREGISTER_PORTABLE));
    unsigned type = 0;
    OK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<uint64_t>(pages.data) + LENGTH - 1));
    CHECK(type == CU_MEMORYTYPE_HOST);
    Hashing hashing(host, data);
    OK(cuMemcpyHtoDAsync_v2(data, pages.data, LENGTH, host.stream));
    OK(hashing.queue(host.stream));
    host.sync();
    CHECK(hashing.is(text));
    memset(pages.data, 0, LENGTH);
    OK(cuMemcpyDtoHAsync_v2(pages.data, data, LENGTH, host.stream));
    host.sync();
    CHECK(memcmp(pages.data, text.data(), LENGTH) == 0);
    GIVES(INVALID_VALUE, cuMemcpyHtoDAsync_v2(data, pages.data + 1, LENGTH, host.stream));
    OK(cuCtxSetCurrent(other.context));
    OK(cuMemcpyHtoDAsync_v2(there, pages.data, LENGTH, other.stream));
    other.sync();
    OK(cuMemHostUnregister(pages.data));
    GIVES(INVALID_VALUE, cuMemcpyHtoDAsync_v2(there, pages.data, LENGTH, other.stream));
    GIVES(INVALID_VALUE, cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<uint64_t>(pages.data)));
}

inline void registrations_are_checked() {
    Host host;
    Pages pages(8);
    uint8_t* const p = pages.data;
    GIVES(INVALID_VALUE, cuMemHostRegister_v2(nullptr, PAGE, 0));
    GIVES(INVALID_VALUE, cuMemHostRegister_v2(p, 0, 0));
    GIVES(INVALID_VALUE, cuMemHostRegister_v2(p, ~size_t(0), 0));
    GIVES(INVALID_VALUE, cuMemHostRegister_v2(p, PAGE, 16));
    GIVES(NOT_PERMITTED, cuMemHostRegister_v2(p, PAGE, CU_MEMHOSTREGISTER_IOMEMORY));
    GIVES(HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(p));
    GIVES(INVALID_VALUE, cuMemHostUnregister(nullptr));
    OK(cuMemHostRegister_v2(p + 2 * PAGE + 10, 2 * PAGE, CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP));  // three pages
    for (const uint64_t start : {0, 1, 2, 3, 4}) GIVES(HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(p + start * PAGE, 3 * PAGE, 0));
    GIVES(HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(p + 2 * PAGE, 5, 0));
    GIVES(HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(p + 5 * PAGE - 1, 1, 0));
    OK(cuMemHostRegister_v2(p, 2 * PAGE, 0));
    OK(cuMemHostRegister_v2(p + 5 * PAGE, 1, 0));
    // One copy touches one registration.
    const uint64_t data = host.memory(8 * PAGE);
    OK(cuMemcpyHtoDAsync_v2(data, p + 2 * PAGE + 10, 2 * PAGE, host.stream));
    for (const uint64_t start : {uint64_t(0), PAGE, 2 * PAGE, 2 * PAGE + 11}) {
        GIVES(INVALID_VALUE, cuMemcpyHtoDAsync_v2(data, p + start, 2 * PAGE + 1, host.stream));
    }
    GIVES(INVALID_VALUE, cuMemFreeHost(p));
    GIVES(HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(p + PAGE));
    OK(cuMemHostUnregister(p));
    GIVES(HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(p));
    void* const pinned = host.pinned_memory(100);
    GIVES(HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(pinned, 100, 0));
    GIVES(HOST_MEMORY_ALREADY_REGISTERED, cuMemHostRegister_v2(static_cast<uint8_t*>(pinned) + 99, 1, 0));
    GIVES(HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(pinned));
    GIVES(INVALID_VALUE, cuMemHostRegister_v2(reinterpret_cast<void*>(data), PAGE, 0));
}

inline void only_memory_that_is_there_is_registered() {
    Host host;
    Pages pages(4), constant(1, PROT_READ), closed(1, PROT_NONE);
    int supported = 0;
    OK(cuDeviceGetAttribute(&supported, CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 0));
    CHECK(supported == 1);
    GIVES(INVALID_VALUE, cuMemHostRegister_v2(constant.data, PAGE, 0));
    GIVES(INVALID_VALUE, cuMemHostRegister_v2(closed.data, PAGE, CU_MEMHOSTREGISTER_READ_ONLY));
    OK(cuMemHostRegister_v2(constant.data, PAGE, CU_MEMHOSTREGISTER_READ_ONLY));
    const uint64_t data = host.memory(PAGE);
    OK(cuMemcpyHtoDAsync_v2(data, constant.data, PAGE, host.stream));
    GIVES(INVALID_VALUE, cuMemcpyDtoHAsync_v2(constant.data, data, PAGE, host.stream));
    CHECK(munmap(pages.data + 2 * PAGE, PAGE) == 0);
    GIVES(INVALID_VALUE, cuMemHostRegister_v2(pages.data, 4 * PAGE, 0));
    GIVES(INVALID_VALUE, cuMemHostRegister_v2(pages.data, 2 * PAGE + 1, 0));
    OK(cuMemHostRegister_v2(pages.data, 2 * PAGE, 0));
    OK(cuMemHostRegister_v2(pages.data + 3 * PAGE, PAGE, 0));
}

inline void work_is_done_before_memory_is_unregistered() {
    Host host;
    Pages pages(1);
    const uint64_t data = host.memory(PAGE);
    OK(cuMemHostRegister_v2(pages.data, PAGE, 0));
    host.fill(data, 9, PAGE);
    OK(cuMemcpyDtoHAsync_v2(pages.data, data, PAGE, host.stream));
    CHECK(pages.data[0] == 0);
    GIVES(HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(pages.data + 1));
    CHECK(pages.data[0] == 0);
    OK(cuMemHostUnregister(pages.data));
    CHECK(pages.data[0] == 9);
}

/// What the first call of each gives; the second call does what it should.
inline void registrations_fail(CUresult registering, CUresult unregistering) {
    Host host;
    Pages pages(1);
    CHECK(cuMemHostRegister_v2(pages.data, PAGE, 0) == registering);
    if (registering != CUDA_SUCCESS) OK(cuMemHostRegister_v2(pages.data, PAGE, 0));
    CHECK(cuMemHostUnregister(pages.data) == unregistering);
    if (unregistering == CUDA_SUCCESS) GIVES(HOST_MEMORY_NOT_REGISTERED, cuMemHostUnregister(pages.data));
}

/// Whether the first copy to the GPU took place.
inline void copies_once(bool there) {
    Host host;
    Pages pages(1);
    const uint64_t data = host.memory(PAGE);
    host.fill(data, 9, PAGE);
    OK(cuMemHostRegister_v2(pages.data, PAGE, 0));
    OK(cuMemcpyHtoDAsync_v2(data, pages.data, PAGE, host.stream));
    OK(cuMemcpyDtoHAsync_v2(pages.data, data, PAGE, host.stream));
    OK(cuMemHostUnregister(pages.data));
    CHECK(pages.data[0] == (there ? 0 : 9));
}

/// Work that failed meanwhile is heard of.
inline void unregistering_tells_of_failed_work() {
    Host host;
    Pages pages(1);
    const uint64_t data = host.memory(PAGE);
    OK(cuMemHostRegister_v2(pages.data, PAGE, 0));
    OK(cuMemcpyHtoDAsync_v2(data, pages.data, PAGE, host.stream));
    GIVES(ILLEGAL_ADDRESS, cuMemHostUnregister(pages.data));
}

/// As a loader copies: 16 threads with two buffers of 2 MiB each in turn, which an event gives back.
inline void many_threads_copy_at_once() {
    constexpr uint64_t THREADS = 16, PIECE = 2 << 20, PIECES = 7;
    Host host;
    std::vector<uint64_t> data(THREADS);
    for (uint64_t& each : data) each = host.memory(PIECES * PIECE);
    const auto word = [](uint64_t thread, uint64_t piece) { return uint8_t(thread * PIECES + piece + 1); };
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < THREADS; t++) {
        threads.emplace_back([&, t] {
            OK(cuCtxSetCurrent(host.context));
            const CUstream stream = new_stream();
            Pages pages(2 * PIECE / PAGE);
            OK(cuMemHostRegister_v2(pages.data, pages.bytes, CU_MEMHOSTREGISTER_PORTABLE));
            CUevent copied[2] = {new_event(CU_EVENT_DISABLE_TIMING), new_event(CU_EVENT_DISABLE_TIMING)};
            for (uint64_t i = 0; i < PIECES; i++) {
                OK(cuEventSynchronize(copied[i % 2]));
                memset(pages.data + i % 2 * PIECE, word(t, i), PIECE);
                OK(cuMemcpyHtoDAsync_v2(data[t] + i * PIECE, pages.data + i % 2 * PIECE, PIECE, stream));
                OK(cuEventRecord(copied[i % 2], stream));
            }
            OK(cuStreamSynchronize(stream));
            OK(cuMemHostUnregister(pages.data));
        });
    }
    for (auto& thread : threads) thread.join();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    printf("  copies by %d threads: %.0f MB/s\n", int(THREADS), double(THREADS * PIECES * PIECE) / 1e6 / seconds);
    Bytes got(PIECES * PIECE);
    for (uint64_t t = 0; t < THREADS; t++) {
        host.download(got.data(), data[t], got.size());
        for (uint64_t i = 0; i < got.size(); i++) CHECK(got[i] == word(t, i / PIECE));
    }
}

}  // namespace check
