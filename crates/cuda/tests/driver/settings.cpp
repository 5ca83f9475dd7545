#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vector>

#include "cufile_api.h"

namespace driver {
namespace {

/// What can happen to a function besides failing.
enum Kind { PLAIN, WAIT, WORK, FILES, READ, NOTHING };

const std::map<std::string, Kind>& functions() {
    static const std::map<std::string, Kind> all = {
        {"cuInit", PLAIN}, {"cuDriverGetVersion", PLAIN}, {"cuDeviceGetCount", PLAIN}, {"cuDeviceGet", PLAIN}, {"cuDeviceGetName", PLAIN},
        {"cuDeviceGetAttribute", PLAIN}, {"cuDeviceTotalMem_v2", PLAIN}, {"cuDevicePrimaryCtxRetain", PLAIN}, {"cuDevicePrimaryCtxRelease_v2", PLAIN},
        {"cuCtxPushCurrent_v2", PLAIN}, {"cuCtxPopCurrent_v2", PLAIN}, {"cuCtxSetCurrent", PLAIN}, {"cuCtxGetCurrent", PLAIN},
        {"cuCtxGetStreamPriorityRange", PLAIN}, {"cuModuleLoadData", PLAIN}, {"cuModuleGetFunction", PLAIN}, {"cuModuleUnload", PLAIN},
        {"cuFuncGetAttribute", PLAIN}, {"cuMemAlloc_v2", PLAIN}, {"cuMemFree_v2", PLAIN}, {"cuMemHostAlloc", PLAIN}, {"cuMemFreeHost", PLAIN},
        {"cuMemHostRegister_v2", PLAIN}, {"cuMemHostUnregister", PLAIN},
        {"cuMemGetInfo_v2", PLAIN}, {"cuPointerGetAttribute", PLAIN}, {"cuMemcpyHtoDAsync_v2", WORK}, {"cuMemcpyDtoHAsync_v2", WORK},
        {"cuMemcpyDtoDAsync_v2", WORK}, {"cuMemsetD8Async", WORK}, {"cuLaunchKernel", WORK}, {"cuStreamCreate", PLAIN},
        {"cuStreamCreateWithPriority", PLAIN}, {"cuStreamDestroy_v2", PLAIN}, {"cuStreamSynchronize", WAIT}, {"cuStreamQuery", PLAIN},
        {"cuStreamWaitEvent", WAIT}, {"cuEventCreate", PLAIN}, {"cuEventRecord", WAIT}, {"cuEventSynchronize", WAIT}, {"cuEventQuery", PLAIN},
        {"cuEventElapsedTime", PLAIN}, {"cuEventElapsedTime_v2", PLAIN}, {"cuEventDestroy_v2", PLAIN}, {"cuDeviceGetDevResource", PLAIN},
        {"cuDevSmResourceSplitByCount", PLAIN}, {"cuDevResourceGenerateDesc", PLAIN}, {"cuGreenCtxCreate", PLAIN}, {"cuGreenCtxDestroy", PLAIN},
        {"cuGreenCtxStreamCreate", PLAIN}, {"cuCtxFromGreenCtx", PLAIN},
        {"cuFileGetVersion", FILES}, {"cuFileDriverOpen", FILES}, {"cuFileDriverClose", FILES}, {"cuFileDriverClose_v2", FILES},
        {"cuFileDriverGetProperties", FILES}, {"cuFileHandleRegister", FILES}, {"cuFileBufRegister", FILES}, {"cuFileBufDeregister", FILES},
        {"cuFileRead", READ}, {"cuFileHandleDeregister", NOTHING},
    };
    return all;
}

/// Linux has no larger ones.
constexpr uint64_t LAST_ERRNO = 4095;

[[noreturn]] void malformed(const std::string& entry, const char* why) {
    fprintf(stderr, "SENTRY_EMULATED_CUDA: %s: %s\n", entry.c_str(), why);
    abort();
}

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts(1);
    for (const char c : text) {
        if (c == separator) {
            parts.emplace_back();
        } else {
            parts.back() += c;
        }
    }
    return parts;
}

uint64_t number(const std::string& entry, const std::string& digits, uint64_t least, uint64_t most) {
    const bool plain = !digits.empty() && digits.size() <= 18 && digits.find_first_not_of("0123456789") == std::string::npos;
    const uint64_t value = plain ? strtoull(digits.c_str(), nullptr, 10) : 0;
    if (!plain || value < least || value > most) malformed(entry, "a number is missing or out of range");
    return value;
}

CUresult status(const std::string& entry, const std::string& digits) {
    const uint64_t value = number(entry, digits, 1, 999);
    switch (value) {
#define SENTRY_STATUS(name, number) case number:
        SENTRY_STATUSES(SENTRY_STATUS)
#undef SENTRY_STATUS
        return CUresult(value);
        default: malformed(entry, "no such status");
    }
}

/// What a call of this kind may fail with.
unsigned failure(const std::string& entry, const std::string& digits, Kind kind) {
    if (kind == NOTHING) malformed(entry, "this function returns nothing");
    if (kind == FILES || kind == READ) {
        const uint64_t value = number(entry, digits, 1, CU_FILE_LAST_ERROR);
        if (is_file_error(value) || (kind == READ && value <= LAST_ERRNO)) return unsigned(value);
    }
    return status(entry, digits);
}

}  // namespace

Settings::Settings(const char* text) {
    std::set<std::string> seen;
    for (const std::string& entry : split(text ? text : "", ';')) {
        if (entry.empty()) continue;
        const size_t equals = entry.find('=');
        if (equals == std::string::npos) malformed(entry, "an entry is KEY=VALUE");
        const std::string key = entry.substr(0, equals);
        const bool fault = key == "fail" || key == "skip" || key == "short" || key == "async";
        if (!seen.insert(fault ? entry : key).second) malformed(entry, "it is there twice");
        set(key, entry.substr(equals + 1));
    }
}

void Settings::set(const std::string& key, const std::string& value) {
    constexpr uint64_t MOST = UINT64_C(1) << 40;
    const std::string entry = key + "=" + value;
    if (key == "driver") {
        version = int(number(entry, value, 1000, 99999));
    } else if (key == "devices") {
        devices = int(number(entry, value, 0, 64));
    } else if (key == "capability") {
        capability = int(number(entry, value, 10, 999));
    } else if (key == "memory") {
        memory = number(entry, value, 0, MOST);
    } else if (key == "cufile") {
        if (value != "compat" && value != "direct") malformed(entry, "it is compat or direct");
        direct_files = value == "direct";
    } else if (key == "lost") {
        lost_ = number(entry, value, 1, MOST);
    } else if (key == "log") {
        log_ = open(value.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        if (log_ < 0) malformed(entry, strerror(errno));
    } else if (key == "fail" || key == "skip" || key == "short" || key == "async") {
        const std::vector<std::string> parts = split(value, ':');
        if (parts.size() != (key == "skip" ? 2 : 3)) malformed(entry, "it has too many parts or too few");
        const auto function = functions().find(parts[0]);
        if (function == functions().end()) malformed(entry, "no such function");
        const Call call(parts[0], number(entry, parts[1], 1, MOST));
        const Kind kind = function->second;
        bool first;
        if (key == "skip") {
            if (kind != WAIT && kind != WORK && kind != READ) malformed(entry, "this function cannot be skipped");
            first = skip_.insert(call).second;
        } else if (key == "short") {
            if (kind != READ) malformed(entry, "this function reads no file");
            first = short_.emplace(call, number(entry, parts[2], 0, MOST)).second;
        } else if (key == "async") {
            if (kind != WORK) malformed(entry, "this function queues no work");
            first = async_.emplace(call, status(entry, parts[2])).second;
        } else {
            first = fail_.emplace(call, failure(entry, parts[2], kind)).second;
        }
        if (!first) malformed(entry, "this call has that fault already");
    } else {
        malformed(entry, "no such key");
    }
}

Fate Settings::fate(const char* name) {
    if (functions().count(name) == 0) malformed(name, "a function that settings.cpp does not list");
    if (log_ >= 0) {
        const std::string line = std::string(name) + "\n";
        if (write(log_, line.data(), line.size()) != ssize_t(line.size())) malformed("log", strerror(errno));
    }
    const Call call(name, ++calls_[name]);
    Fate fate;
    if (++all_calls_ >= lost_ && lost_ != 0) {
        fate.status = CUDA_ERROR_DEVICE_UNAVAILABLE;
        fate.lost = true;
        return fate;
    }
    const auto fail = fail_.find(call);
    const auto async = async_.find(call);
    const auto shortened = short_.find(call);
    if (fail != fail_.end()) fate.status = fail->second;
    if (async != async_.end()) fate.later = async->second;
    if (shortened != short_.end()) fate.most = shortened->second;
    fate.skipped = skip_.count(call) != 0;
    return fate;
}

}  // namespace driver
