// Modules, kernels and launches.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

using namespace driver;

namespace {

constexpr unsigned MOST_BLOCKS = (1u << 31) - 1, MOST_THREADS = 1024, MOST_SHARED = 48 << 10;
/// "NVIDIA CUDA architecture" among the machines of ELF, and the ABI since which the architecture stands one byte higher.
constexpr unsigned EM_CUDA = 190, NEW_ABI = 8;

/// Whether code for one architecture runs on another: within a major version, upwards.
bool runs_on(unsigned code, unsigned capability) { return code / 10 == capability / 10 && code % 10 <= capability % 10; }

/// A cubin; other ELF files are taken for one of any architecture, so that tests need no compiler.
void check_elf(const uint8_t* image, unsigned capability) {
    uint16_t machine;
    memcpy(&machine, image + 18, 2);
    if (machine != EM_CUDA) return;
    uint32_t flags;
    memcpy(&flags, image + 48, 4);
    const unsigned architecture = image[8] >= NEW_ABI ? flags >> 8 & 0xff : flags & 0xff;
    require(runs_on(architecture, capability), CUDA_ERROR_NO_BINARY_FOR_GPU);
}

const char* skip_comments(const char* text) {
    for (;;) {
        while (isspace(uint8_t(*text))) text++;
        if (strncmp(text, "//", 2) == 0) {
            text += strcspn(text, "\n");
        } else if (const char* end = strncmp(text, "/*", 2) == 0 ? strstr(text, "*/") : nullptr) {
            text = end + 2;
        } else {
            return text;
        }
    }
}

/// PTX: text that begins with its version, and then says for which architecture, or newer ones, it is.
void check_ptx(const char* text, unsigned capability) {
    text = skip_comments(text);
    require(strncmp(text, ".version", 8) == 0, CUDA_ERROR_INVALID_IMAGE);
    const char* target = strstr(text, ".target sm_");
    require(target, CUDA_ERROR_INVALID_PTX);
    require(strtoul(target + 11, nullptr, 10) <= capability, CUDA_ERROR_NO_BINARY_FOR_GPU);
}

}  // namespace

SENTRY_API cuModuleLoadData(CUmodule* module, const void* image) {
    return call("cuModuleLoadData", [=](State& s) {
        Device& device = s.current();
        require(module && image);
        const auto bytes = static_cast<const uint8_t*>(image);
        const unsigned capability = unsigned(s.settings.capability);
        if (bytes[0] == 0x7f) {
            require(strncmp(static_cast<const char*>(image), "\x7f" "ELF", 4) == 0, CUDA_ERROR_INVALID_IMAGE);
            check_elf(bytes, capability);
        } else {
            check_ptx(static_cast<const char*>(image), capability);
        }
        *module = s.modules.add(std::make_shared<Module>(Module{&device}));
    });
}

// Every module has every kernel.
SENTRY_API cuModuleGetFunction(CUfunction* function, CUmodule handle, const char* name) {
    return call("cuModuleGetFunction", [=](State& s) {
        s.current();
        require(function && name);
        const auto module = s.modules.find(handle);
        const Kernel* kernel = find_kernel(name);
        require(kernel, CUDA_ERROR_NOT_FOUND);
        *function = s.functions.add(std::make_shared<Function>(Function{module, kernel}));
    });
}

SENTRY_API cuModuleUnload(CUmodule handle) {
    return call("cuModuleUnload", [=](State& s) {
        s.current();
        const auto module = s.modules.find(handle);
        s.finish(*module->device);
        s.functions.remove_if([&](const Function& function) { return function.module == module; });
        s.modules.remove(handle);
    });
}

SENTRY_API cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
    return call("cuFuncGetAttribute", [=](State& s) {
        s.current();
        require(value);
        const auto function = s.functions.find(handle);
        switch (attribute) {
            case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = int(function->kernel->threads); return;
            case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = 0; return;
        }
        throw Failure{CUDA_ERROR_INVALID_VALUE};
    });
}

// A block has exactly the threads of the kernel's bound: fewer are allowed on a GPU, and no launch of ours means them.
SENTRY_API cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                             unsigned shared, CUstream stream_handle, void** arguments, void** extra) {
    return call("cuLaunchKernel", [=](State& s) {
        Device& device = s.current();
        const auto stream = s.stream(stream_handle, true);
        const auto function = s.functions.find(handle);
        require(function->module->device == &device, CUDA_ERROR_INVALID_HANDLE);
        const Kernel& kernel = *function->kernel;
        require(grid_x > 0 && grid_x <= MOST_BLOCKS && grid_y == 1 && grid_z == 1);
        require(block_x > 0 && block_x <= MOST_THREADS && block_y == 1 && block_z == 1 && block_x == kernel.threads);
        require(shared <= MOST_SHARED && arguments && !extra);
        const auto thread = kernel.bind(arguments);
        require(bool(thread));
        s.queue(stream, [&device, &kernel, grid_x, block_x, thread] {
            run_kernel(grid_x, block_x, thread);
            device.memory.check(kernel.name);
            return CUDA_SUCCESS;
        });
    });
}
