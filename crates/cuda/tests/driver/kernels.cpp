#include "kernels.h"

#define SENTRY_EMULATE
#include "../emulate.h"

#include <stdint.h>

#include <tuple>
#include <utility>
#include <vector>

// A new kernel: its file here, and its line in `all`.
#include "../../kernels/blake2b_tree.cu"
#include "../../kernels/blake3.cu"
#include "../../kernels/lattice.cu"
#include "../../kernels/samples.cu"
#include "../../kernels/sha256_tree.cu"
#include "../../kernels/sha3_256_tree.cu"

namespace driver {
namespace {

template <class... Arguments, size_t... I>
std::function<void()> bound(void (*kernel)(Arguments...), void** arguments, std::index_sequence<I...>) {
    for (void* argument : {arguments[I]...}) {
        if (argument == nullptr) return {};
    }
    const std::tuple<Arguments...> values(*static_cast<const Arguments*>(arguments[I])...);
    return [kernel, values] { std::apply(kernel, values); };
}

template <class... Arguments>
Kernel kernel(const char* name, unsigned threads, void (*function)(Arguments...)) {
    return {name, threads, [function](void** arguments) { return bound(function, arguments, std::index_sequence_for<Arguments...>()); }};
}

#define SENTRY_KERNEL(name, threads) kernel(#name, threads, name)

const Kernel all[] = {
    SENTRY_KERNEL(sentry_blake3_leaves, sentry::blake3::Tree::THREADS),
    SENTRY_KERNEL(sentry_blake3_join, 256),
    SENTRY_KERNEL(sentry_sha256_tree_leaves, sentry::sha256::Tree::THREADS),
    SENTRY_KERNEL(sentry_sha256_tree_join, 256),
    SENTRY_KERNEL(sentry_blake2b_tree_leaves, sentry::blake2b::Tree::THREADS),
    SENTRY_KERNEL(sentry_blake2b_tree_join, 256),
    SENTRY_KERNEL(sentry_sha3_256_tree_leaves, sentry::sha3::Tree::THREADS),
    SENTRY_KERNEL(sentry_sha3_256_tree_join, 256),
    SENTRY_KERNEL(sentry_lattice_sum, sentry::lattice::BLOCK),
    SENTRY_KERNEL(sentry_lattice_fold, 128),
    SENTRY_KERNEL(sentry_sample_bodies, sentry::samples::THREADS),
    SENTRY_KERNEL(sentry_sample_digests, sentry::samples::THREADS),
};

}  // namespace

const Kernel* find_kernel(const std::string& name) {
    for (const Kernel& kernel : all) {
        if (name == kernel.name) return &kernel;
    }
    return nullptr;
}

void run_kernel(unsigned blocks, unsigned threads, const std::function<void()>& thread) { emulate::launch(blocks, threads, thread); }

}  // namespace driver
