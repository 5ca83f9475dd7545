// Every kernel on the CPU, under the sanitizers: against the published vectors and the reference.
#define SENTRY_EMULATE
#include "emulate.h"

#include "cases.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

struct Cpu {
    static constexpr bool exact = true;
    unsigned threads = 2;
    std::vector<void*> held;

    uint64_t memory(uint64_t bytes) {
        void* at = nullptr;
        if (posix_memalign(&at, 16, bytes) != 0) abort();  // of exactly this size: an access behind it is found
        held.push_back(at);
        return reinterpret_cast<uint64_t>(at);
    }
    /// Forbids the bytes before a tensor.
    void guard(uint64_t at, uint64_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
        ASAN_POISON_MEMORY_REGION(reinterpret_cast<void*>(at), bytes / 8 * 8);
#endif
        (void)at, (void)bytes;
    }
    void upload(uint64_t to, const void* from, uint64_t bytes) {
        if (bytes) memcpy(reinterpret_cast<void*>(to), from, bytes);
    }
    void download(void* to, uint64_t from, uint64_t bytes) {
        if (bytes) memcpy(to, reinterpret_cast<void*>(from), bytes);
    }
    void fill(uint64_t at, int byte, uint64_t bytes) {
        if (bytes) memset(reinterpret_cast<void*>(at), byte, bytes);
    }
    void release() {
        for (void* at : held) free(at);
        held.clear();
    }
    void sync() {}
    template <class Kernel, class... Arguments>
    void launch(Kernel kernel, uint64_t grid, unsigned block, Arguments... arguments) {
        emulate::launch(grid, block, [=] { kernel(arguments...); });
    }
};

int main(int argc, char** argv) {
    Cpu cpu;
    const bool all = argc > 1 && !strcmp(argv[1], "all");
    return cases::run(cpu, all ? ~uint64_t(0) : 2 << 20, all ? 1000 : 200, 2 << 20, 200) != 0;
}
