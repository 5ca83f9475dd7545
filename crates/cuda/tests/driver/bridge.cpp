// The driver's side of the emulated cuFile.
#include <string.h>

#include "cufile_bridge.h"
#include "driver.h"

using namespace driver;

namespace {

CUfileError_t file_error(CUfileOpError error) { return {error, CUDA_SUCCESS}; }

CUfileError_t driver_error(CUresult status) { return {CU_FILE_CUDA_DRIVER_ERROR, status}; }

/// Why a range that begins here is not all memory of the current GPU.
CUfileOpError fault_of(const State& s, const Device& current, uint64_t address) {
    for (const auto& device : s.devices) {
        if (device->memory.holds(address, 0)) return device.get() == &current ? CU_FILE_CUDA_POINTER_RANGE_ERROR : CU_FILE_CUDA_CONTEXT_MISMATCH;
    }
    return CU_FILE_CUDA_MEMORY_TYPE_INVALID;
}

}  // namespace

driver::FileFate sentry_emulated_file_fate(const char* name) {
    FileFate file = {};
    if (forked()) {
        file.failure = file_error(CU_FILE_DRIVER_NOT_INITIALIZED);
        return file;
    }
    const std::lock_guard<std::mutex> guard(lock());
    State& s = state();
    const Fate fate = s.settings.fate(name);
    if (is_file_error(fate.status)) {
        file.failure = file_error(CUfileOpError(fate.status));
    } else if (fate.status != 0 && !fate.lost && !strcmp(name, "cuFileRead")) {
        file.error_number = int(fate.status);
    } else if (fate.status != 0) {
        file.failure = driver_error(CUresult(fate.status));
    }
    file.skipped = fate.skipped;
    file.most = fate.most;
    file.started = s.started;
    file.direct = s.settings.direct_files;
    return file;
}

CUfileError_t sentry_emulated_file_store(CUdeviceptr to, const void* from, size_t bytes) {
    if (forked()) return file_error(CU_FILE_DRIVER_NOT_INITIALIZED);
    const std::lock_guard<std::mutex> guard(lock());
    State& s = state();
    try {
        require(s.started, CUDA_ERROR_NOT_INITIALIZED);
        const Device& device = s.current();
        if (!device.memory.holds(to, bytes)) return file_error(fault_of(s, device, to));
        if (from) memcpy(reinterpret_cast<void*>(to), from, bytes);
        return file_error(CU_FILE_SUCCESS);
    } catch (const Failure& failure) {
        return driver_error(failure.status);
    }
}
