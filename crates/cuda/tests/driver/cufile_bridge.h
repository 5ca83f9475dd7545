// What the emulated cuFile, a library of its own, asks of the emulated driver.
#pragma once

#include "cufile_api.h"

namespace driver {

/// What is to become of a call of cuFile's.
struct FileFate {
    CUfileError_t failure;  ///< the call returns this at once, unless it is success
    int error_number;       ///< so does cuFileRead with this errno, unless it is 0
    bool skipped;           ///< what is read is written nowhere
    size_t most;            ///< bytes that are read
    bool started;           ///< cuInit was called
    bool direct;            ///< files must be open for direct reads
};

}  // namespace driver

/// Counts a call, and logs it.
extern "C" __attribute__((visibility("default"))) driver::FileFate sentry_emulated_file_fate(const char* name);

/// Puts bytes into memory of the current GPU, or, if `from` is null, says whether they could be put there.
extern "C" __attribute__((visibility("default"))) CUfileError_t sentry_emulated_file_store(CUdeviceptr to, const void* from, size_t bytes);
