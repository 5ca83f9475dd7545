// Every kernel on the GPU: against the published vectors and the reference. `check [quick]`.
#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"

#define CHECK(call)                                                                                    \
    do {                                                                                               \
        const cudaError_t status = (call);                                                             \
        if (status != cudaSuccess) {                                                                   \
            printf("%s, line %d: %s\n", #call, __LINE__, cudaGetErrorString(status));                  \
            exit(2);                                                                                   \
        }                                                                                              \
    } while (0)

struct Gpu {
    static constexpr bool exact = false;
    unsigned threads = 16;
    cudaStream_t stream;
    std::vector<void*> held;

    Gpu() { CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }

    uint64_t memory(uint64_t bytes) {
        void* at;
        CHECK(cudaMalloc(&at, bytes ? bytes : 1));
        held.push_back(at);
        return reinterpret_cast<uint64_t>(at);
    }
    void guard(uint64_t, uint64_t) {}
    void upload(uint64_t to, const void* from, uint64_t bytes) { CHECK(cudaMemcpy(reinterpret_cast<void*>(to), from, bytes, cudaMemcpyHostToDevice)); }
    void download(void* to, uint64_t from, uint64_t bytes) { CHECK(cudaMemcpy(to, reinterpret_cast<void*>(from), bytes, cudaMemcpyDeviceToHost)); }
    void fill(uint64_t at, int byte, uint64_t bytes) {
        CHECK(cudaMemset(reinterpret_cast<void*>(at), byte, bytes));
        CHECK(cudaDeviceSynchronize());
    }
    void release() {
        for (void* at : held) CHECK(cudaFree(at));
        held.clear();
    }
    void sync() { CHECK(cudaStreamSynchronize(stream)); }
    template <class Kernel, class... Arguments>
    void launch(Kernel kernel, uint64_t grid, unsigned block, Arguments... arguments) {
        kernel<<<unsigned(grid), block, 0, stream>>>(arguments...);
        CHECK(cudaGetLastError());
    }
};

int main(int argc, char** argv) {
    Gpu gpu;
    const bool quick = argc > 1 && !strcmp(argv[1], "quick");
    return cases::run(gpu, quick ? 1 << 20 : ~uint64_t(0), quick ? 150 : 3000, quick ? 1 << 20 : 8 << 20, quick ? 100 : 5000) != 0;
}
