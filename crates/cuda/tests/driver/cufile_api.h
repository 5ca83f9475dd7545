// The part of the cuFile API, versions 1.14 to 1.20, that is emulated, with the names, numbers and layouts of its cufile.h.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "api.h"

// clang-format off
#define SENTRY_FILE_ERRORS(X) \
    X(CU_FILE_SUCCESS, 0) \
    X(CU_FILE_DRIVER_NOT_INITIALIZED, 5001) \
    X(CU_FILE_DRIVER_INVALID_PROPS, 5002) \
    X(CU_FILE_DRIVER_UNSUPPORTED_LIMIT, 5003) \
    X(CU_FILE_DRIVER_VERSION_MISMATCH, 5004) \
    X(CU_FILE_DRIVER_VERSION_READ_ERROR, 5005) \
    X(CU_FILE_DRIVER_CLOSING, 5006) \
    X(CU_FILE_PLATFORM_NOT_SUPPORTED, 5007) \
    X(CU_FILE_IO_NOT_SUPPORTED, 5008) \
    X(CU_FILE_DEVICE_NOT_SUPPORTED, 5009) \
    X(CU_FILE_NVFS_DRIVER_ERROR, 5010) \
    X(CU_FILE_CUDA_DRIVER_ERROR, 5011) \
    X(CU_FILE_CUDA_POINTER_INVALID, 5012) \
    X(CU_FILE_CUDA_MEMORY_TYPE_INVALID, 5013) \
    X(CU_FILE_CUDA_POINTER_RANGE_ERROR, 5014) \
    X(CU_FILE_CUDA_CONTEXT_MISMATCH, 5015) \
    X(CU_FILE_INVALID_MAPPING_SIZE, 5016) \
    X(CU_FILE_INVALID_MAPPING_RANGE, 5017) \
    X(CU_FILE_INVALID_FILE_TYPE, 5018) \
    X(CU_FILE_INVALID_FILE_OPEN_FLAG, 5019) \
    X(CU_FILE_DIO_NOT_SET, 5020) \
    X(CU_FILE_INVALID_VALUE, 5022) \
    X(CU_FILE_MEMORY_ALREADY_REGISTERED, 5023) \
    X(CU_FILE_MEMORY_NOT_REGISTERED, 5024) \
    X(CU_FILE_PERMISSION_DENIED, 5025) \
    X(CU_FILE_DRIVER_ALREADY_OPEN, 5026) \
    X(CU_FILE_HANDLE_NOT_REGISTERED, 5027) \
    X(CU_FILE_HANDLE_ALREADY_REGISTERED, 5028) \
    X(CU_FILE_DEVICE_NOT_FOUND, 5029) \
    X(CU_FILE_INTERNAL_ERROR, 5030) \
    X(CU_FILE_GETNEWFD_FAILED, 5031) \
    X(CU_FILE_NVFS_SETUP_ERROR, 5033) \
    X(CU_FILE_IO_DISABLED, 5034) \
    X(CU_FILE_BATCH_SUBMIT_FAILED, 5035) \
    X(CU_FILE_GPU_MEMORY_PINNING_FAILED, 5036) \
    X(CU_FILE_BATCH_FULL, 5037) \
    X(CU_FILE_ASYNC_NOT_SUPPORTED, 5038)
// clang-format on
// From 5039 on, these versions differ. The last number of any:
constexpr unsigned CU_FILE_LAST_ERROR = 5050;

#define SENTRY_FILE_ERROR(name, number) name = number,
enum CUfileOpError : unsigned { SENTRY_FILE_ERRORS(SENTRY_FILE_ERROR) };
#undef SENTRY_FILE_ERROR

/// Whether it is the number of a failure.
constexpr bool is_file_error(uint64_t number) {
    switch (number) {
#define SENTRY_FILE_ERROR(name, number) case number:
        SENTRY_FILE_ERRORS(SENTRY_FILE_ERROR)
#undef SENTRY_FILE_ERROR
        return number != CU_FILE_SUCCESS;
        default: return false;
    }
}

struct CUfileError_t {
    CUfileOpError err;
    CUresult cu_err;  ///< if `err` is CU_FILE_CUDA_DRIVER_ERROR
};
static_assert(sizeof(CUfileError_t) == 8, "as in cufile.h");

using CUfileHandle_t = void*;

enum CUfileFileHandleType : unsigned { CU_FILE_HANDLE_TYPE_OPAQUE_FD = 1, CU_FILE_HANDLE_TYPE_OPAQUE_WIN32 = 2, CU_FILE_HANDLE_TYPE_USERSPACE_FS = 3 };

struct CUfileDescr_t {
    CUfileFileHandleType type;
    union {
        int fd;
        void* handle;
    } handle;
    const void* fs_ops;
};
static_assert(sizeof(CUfileDescr_t) == 24 && offsetof(CUfileDescr_t, handle) == 8, "as in cufile.h");

constexpr unsigned CU_FILE_NVME_SUPPORTED = 4, CU_FILE_ALLOW_COMPAT_MODE = 1;  // numbers of bits

struct CUfileDrvProps_t {
    struct {
        unsigned major_version, minor_version;  ///< of the kernel module nvidia-fs; 0 without it
        size_t poll_thresh_size, max_direct_io_size;
        unsigned dstatusflags, dcontrolflags;
    } nvfs;
    unsigned fflags;
    unsigned max_device_cache_size, per_buffer_cache_size, max_device_pinned_mem_size;  ///< KiB
    unsigned max_batch_io_size, max_batch_io_timeout_msecs;
};
static_assert(sizeof(CUfileDrvProps_t) == 56 && offsetof(CUfileDrvProps_t, fflags) == 32, "as in cufile.h");

constexpr int CU_FILE_RDMA_REGISTER = 1, CU_FILE_RDMA_RELAXED_ORDERING = 2;

#define SENTRY_FILE_API(type) extern "C" __attribute__((visibility("default"))) type

SENTRY_FILE_API(CUfileError_t) cuFileGetVersion(int* version);
SENTRY_FILE_API(CUfileError_t) cuFileDriverOpen(void);
SENTRY_FILE_API(CUfileError_t) cuFileDriverClose(void);
SENTRY_FILE_API(CUfileError_t) cuFileDriverClose_v2(void);
SENTRY_FILE_API(CUfileError_t) cuFileDriverGetProperties(CUfileDrvProps_t* properties);
SENTRY_FILE_API(CUfileError_t) cuFileHandleRegister(CUfileHandle_t* handle, CUfileDescr_t* description);
SENTRY_FILE_API(void) cuFileHandleDeregister(CUfileHandle_t handle);
SENTRY_FILE_API(CUfileError_t) cuFileBufRegister(const void* base, size_t bytes, int flags);
SENTRY_FILE_API(CUfileError_t) cuFileBufDeregister(const void* base);
SENTRY_FILE_API(ssize_t) cuFileRead(CUfileHandle_t handle, void* base, size_t bytes, off_t file_offset, off_t base_offset);
