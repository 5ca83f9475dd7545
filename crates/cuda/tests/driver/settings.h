// What SENTRY_EMULATED_CUDA asks for: which GPUs there are, and which calls go wrong. Entries are separated by semicolons:
//
//     driver=12090        the driver's version
//     devices=2           GPUs; 0 is a driver that finds none
//     capability=90       their compute capability, without the point
//     memory=268435456    bytes of memory of each
//     cufile=compat       what cuFile has: `compat`, the system's own reads, or `direct`, which wants files opened with O_DIRECT
//     fail=NAME:N:CODE    the Nth call of the function NAME, counted from 1, does nothing and returns CODE
//     skip=NAME:N         the Nth call says success and does nothing: for work, waits, cuEventRecord and cuFileRead
//     short=NAME:N:BYTES  the Nth call reads BYTES at most: for cuFileRead
//     async=NAME:N:CODE   the Nth call succeeds, and its work fails when it runs; from then on the context is broken
//     lost=N              from the Nth call of any function on, everything returns CUDA_ERROR_DEVICE_UNAVAILABLE
//     log=FILE            the name of each call is appended there, a line each
//
// The CODE of a cuFile call is a CUfileOpError, or a CUDA status that comes with CU_FILE_CUDA_DRIVER_ERROR; that of cuFileRead is a
// CUfileOpError, whose negative is returned, or an errno, with which -1 is returned.
//
// Each key but fail, skip, short and async stands at most once. What is not understood ends the process: a test whose fault can
// never happen would prove nothing. cuGetErrorName and cuGetErrorString are not counted, logged, or made to fail.
#pragma once

#include <stdint.h>

#include <map>
#include <set>
#include <string>
#include <utility>

#include "api.h"

namespace driver {

/// What is to become of one call.
struct Fate {
    unsigned status = 0;            ///< the call returns this at once, unless it is 0
    bool lost = false;              ///< the status is that of a GPU which is gone
    bool skipped = false;           ///< the call returns success at once
    uint64_t most = ~uint64_t(0);   ///< bytes that it reads
    CUresult later = CUDA_SUCCESS;  ///< its work gives this when it runs
};

class Settings {
public:
    /// Ends the process if `text` is malformed.
    explicit Settings(const char* text);

    int version = 12090, devices = 2, capability = 90;
    uint64_t memory = 256 << 20;
    bool direct_files = false;

    /// Counts a call, and logs it.
    Fate fate(const char* name);

private:
    using Call = std::pair<std::string, uint64_t>;

    void set(const std::string& key, const std::string& value);

    std::map<Call, unsigned> fail_;
    std::map<Call, CUresult> async_;
    std::map<Call, uint64_t> short_;
    std::set<Call> skip_;
    uint64_t lost_ = 0;  ///< 0: never
    int log_ = -1;
    std::map<std::string, uint64_t> calls_;
    uint64_t all_calls_ = 0;
};

}  // namespace driver
