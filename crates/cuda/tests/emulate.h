// A CUDA thread block on the CPU, enough to run the kernels: threads are fibers, one after the other, and a barrier hands over
// to the next. Every other block runs its threads backwards, so that a missing barrier shows either way. Shared memory
// is fresh for each block and holds 0xA5, so that a word read before it is written makes a wrong digest, and lies on the heap,
// where AddressSanitizer sees its bounds.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <functional>
#include <map>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __host__
#define __device__
#define __global__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define SENTRY_SHARED(type, name, count) type* const name = static_cast<type*>(emulate::shared(__LINE__, sizeof(type) * (count)))
#define threadIdx (emulate::state().thread)
#define blockIdx (emulate::state().block)
#define blockDim (emulate::state().block_size)
#define gridDim (emulate::state().grid_size)

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

inline uint32_t __funnelshift_r(uint32_t low, uint32_t high, unsigned n) { return uint32_t((uint64_t(high) << 32 | low) >> (n & 31)); }

inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector) {
    const uint64_t bytes = uint64_t(y) << 32 | x;
    uint32_t out = 0;
    for (unsigned i = 0; i < 4; i++) out |= uint32_t(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return out;
}

inline uint32_t __vadd2(uint32_t a, uint32_t b) { return ((a + b) & 0xffff) | ((a & 0xffff0000u) + (b & 0xffff0000u)); }

namespace emulate {

struct Index {
    unsigned x;
};

struct Fiber {
    ucontext_t context;
    char* stack;
    void* fake = nullptr;
    bool done = false;
};

struct State {
    Index thread, block, block_size, grid_size;
    ucontext_t scheduler;
    void* fake = nullptr;
    const void* bottom = nullptr;
    size_t size = 0;
    Fiber* running = nullptr;
    const std::function<void()>* body = nullptr;
    std::map<int, std::unique_ptr<char[]>> shared;
};

inline State& state() {
    static State s;
    return s;
}

constexpr size_t STACK = 256 << 10;

/// Shared memory of this block, by the line that declares it.
inline void* shared(int line, size_t bytes) {
    auto& slot = state().shared[line];
    if (!slot) {
        slot.reset(new char[bytes]);
        memset(slot.get(), 0xA5, bytes);
    }
    return slot.get();
}

inline void to_scheduler(bool last) {
    State& s = state();
    Fiber* self = s.running;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(last ? nullptr : &self->fake, s.bottom, s.size);
#endif
    (void)last;
    swapcontext(&self->context, &s.scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(self->fake, &s.bottom, &s.size);
#endif
}

inline void entry() {
    State& s = state();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &s.bottom, &s.size);
#endif
    (*s.body)();
    s.running->done = true;
    to_scheduler(true);
}

/// Runs every block of a launch.
inline void launch(uint64_t grid, unsigned block_size, const std::function<void()>& body) {
    static std::vector<Fiber> fibers;
    State& s = state();
    while (fibers.size() < block_size) {
        fibers.emplace_back();
        void* stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (stack == MAP_FAILED) abort();
        fibers.back().stack = static_cast<char*>(stack);
    }
    s.body = &body;
    s.block_size = {block_size};
    s.grid_size = {unsigned(grid)};
    for (uint64_t block = 0; block < grid; block++) {
        s.block = {unsigned(block)};
        s.shared.clear();
        for (unsigned i = 0; i < block_size; i++) {
            Fiber& fiber = fibers[i];
            fiber.done = false;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack;
            fiber.context.uc_stack.ss_size = STACK;
            fiber.context.uc_link = nullptr;
            makecontext(&fiber.context, entry, 0);
        }
        unsigned finished = 0;
        while (finished < block_size) {
            const unsigned before = finished;
            for (unsigned i = 0; i < block_size; i++) {
                const unsigned thread = block % 2 ? block_size - 1 - i : i;
                Fiber& fiber = fibers[thread];
                if (fiber.done) {
                    fprintf(stderr, "a barrier is reached by some threads of a block only\n");
                    abort();
                }
                s.running = &fiber;
                s.thread = {thread};
#if defined(__SANITIZE_ADDRESS__)
                __sanitizer_start_switch_fiber(&s.fake, fiber.stack, STACK);
#endif
                swapcontext(&s.scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
                __sanitizer_finish_switch_fiber(s.fake, nullptr, nullptr);
#endif
                finished += fiber.done;
            }
            if (finished != before && finished != block_size) {
                fprintf(stderr, "a barrier is reached by some threads of a block only\n");
                abort();
            }
        }
    }
}

}  // namespace emulate

inline void __syncthreads() { emulate::to_scheduler(false); }
