// The part of the driver API of CUDA 12.4 that is emulated, with the names, numbers and layouts of its cuda.h, so that no CUDA
// toolkit is needed.
#pragma once

#include <stddef.h>
#include <stdint.h>

// clang-format off
#define SENTRY_STATUSES(X) \
    X(CUDA_SUCCESS, 0) \
    X(CUDA_ERROR_INVALID_VALUE, 1) \
    X(CUDA_ERROR_OUT_OF_MEMORY, 2) \
    X(CUDA_ERROR_NOT_INITIALIZED, 3) \
    X(CUDA_ERROR_DEINITIALIZED, 4) \
    X(CUDA_ERROR_PROFILER_DISABLED, 5) \
    X(CUDA_ERROR_PROFILER_NOT_INITIALIZED, 6) \
    X(CUDA_ERROR_PROFILER_ALREADY_STARTED, 7) \
    X(CUDA_ERROR_PROFILER_ALREADY_STOPPED, 8) \
    X(CUDA_ERROR_STUB_LIBRARY, 34) \
    X(CUDA_ERROR_DEVICE_UNAVAILABLE, 46) \
    X(CUDA_ERROR_NO_DEVICE, 100) \
    X(CUDA_ERROR_INVALID_DEVICE, 101) \
    X(CUDA_ERROR_DEVICE_NOT_LICENSED, 102) \
    X(CUDA_ERROR_INVALID_IMAGE, 200) \
    X(CUDA_ERROR_INVALID_CONTEXT, 201) \
    X(CUDA_ERROR_CONTEXT_ALREADY_CURRENT, 202) \
    X(CUDA_ERROR_MAP_FAILED, 205) \
    X(CUDA_ERROR_UNMAP_FAILED, 206) \
    X(CUDA_ERROR_ARRAY_IS_MAPPED, 207) \
    X(CUDA_ERROR_ALREADY_MAPPED, 208) \
    X(CUDA_ERROR_NO_BINARY_FOR_GPU, 209) \
    X(CUDA_ERROR_ALREADY_ACQUIRED, 210) \
    X(CUDA_ERROR_NOT_MAPPED, 211) \
    X(CUDA_ERROR_NOT_MAPPED_AS_ARRAY, 212) \
    X(CUDA_ERROR_NOT_MAPPED_AS_POINTER, 213) \
    X(CUDA_ERROR_ECC_UNCORRECTABLE, 214) \
    X(CUDA_ERROR_UNSUPPORTED_LIMIT, 215) \
    X(CUDA_ERROR_CONTEXT_ALREADY_IN_USE, 216) \
    X(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, 217) \
    X(CUDA_ERROR_INVALID_PTX, 218) \
    X(CUDA_ERROR_INVALID_GRAPHICS_CONTEXT, 219) \
    X(CUDA_ERROR_NVLINK_UNCORRECTABLE, 220) \
    X(CUDA_ERROR_JIT_COMPILER_NOT_FOUND, 221) \
    X(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, 222) \
    X(CUDA_ERROR_JIT_COMPILATION_DISABLED, 223) \
    X(CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY, 224) \
    X(CUDA_ERROR_UNSUPPORTED_DEVSIDE_SYNC, 225) \
    X(CUDA_ERROR_INVALID_SOURCE, 300) \
    X(CUDA_ERROR_FILE_NOT_FOUND, 301) \
    X(CUDA_ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND, 302) \
    X(CUDA_ERROR_SHARED_OBJECT_INIT_FAILED, 303) \
    X(CUDA_ERROR_OPERATING_SYSTEM, 304) \
    X(CUDA_ERROR_INVALID_HANDLE, 400) \
    X(CUDA_ERROR_ILLEGAL_STATE, 401) \
    X(CUDA_ERROR_LOSSY_QUERY, 402) \
    X(CUDA_ERROR_NOT_FOUND, 500) \
    X(CUDA_ERROR_NOT_READY, 600) \
    X(CUDA_ERROR_ILLEGAL_ADDRESS, 700) \
    X(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, 701) \
    X(CUDA_ERROR_LAUNCH_TIMEOUT, 702) \
    X(CUDA_ERROR_LAUNCH_INCOMPATIBLE_TEXTURING, 703) \
    X(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, 704) \
    X(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, 705) \
    X(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, 708) \
    X(CUDA_ERROR_CONTEXT_IS_DESTROYED, 709) \
    X(CUDA_ERROR_ASSERT, 710) \
    X(CUDA_ERROR_TOO_MANY_PEERS, 711) \
    X(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, 712) \
    X(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, 713) \
    X(CUDA_ERROR_HARDWARE_STACK_ERROR, 714) \
    X(CUDA_ERROR_ILLEGAL_INSTRUCTION, 715) \
    X(CUDA_ERROR_MISALIGNED_ADDRESS, 716) \
    X(CUDA_ERROR_INVALID_ADDRESS_SPACE, 717) \
    X(CUDA_ERROR_INVALID_PC, 718) \
    X(CUDA_ERROR_LAUNCH_FAILED, 719) \
    X(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, 720) \
    X(CUDA_ERROR_NOT_PERMITTED, 800) \
    X(CUDA_ERROR_NOT_SUPPORTED, 801) \
    X(CUDA_ERROR_SYSTEM_NOT_READY, 802) \
    X(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803) \
    X(CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE, 804) \
    X(CUDA_ERROR_MPS_CONNECTION_FAILED, 805) \
    X(CUDA_ERROR_MPS_RPC_FAILURE, 806) \
    X(CUDA_ERROR_MPS_SERVER_NOT_READY, 807) \
    X(CUDA_ERROR_MPS_MAX_CLIENTS_REACHED, 808) \
    X(CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED, 809) \
    X(CUDA_ERROR_MPS_CLIENT_TERMINATED, 810) \
    X(CUDA_ERROR_CDP_NOT_SUPPORTED, 811) \
    X(CUDA_ERROR_CDP_VERSION_MISMATCH, 812) \
    X(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, 900) \
    X(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, 901) \
    X(CUDA_ERROR_STREAM_CAPTURE_MERGE, 902) \
    X(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, 903) \
    X(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, 904) \
    X(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, 905) \
    X(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, 906) \
    X(CUDA_ERROR_CAPTURED_EVENT, 907) \
    X(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, 908) \
    X(CUDA_ERROR_TIMEOUT, 909) \
    X(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, 910) \
    X(CUDA_ERROR_EXTERNAL_DEVICE, 911) \
    X(CUDA_ERROR_INVALID_CLUSTER_SIZE, 912) \
    X(CUDA_ERROR_FUNCTION_NOT_LOADED, 913) \
    X(CUDA_ERROR_INVALID_RESOURCE_TYPE, 914) \
    X(CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION, 915) \
    X(CUDA_ERROR_UNKNOWN, 999)
// clang-format on

#define SENTRY_STATUS(name, number) name = number,
enum CUresult : unsigned { SENTRY_STATUSES(SENTRY_STATUS) };
#undef SENTRY_STATUS

using CUdevice = int;
using CUdeviceptr = unsigned long long;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUgreenCtx = struct CUgreenCtx_st*;
using CUdevResourceDesc = struct CUdevResourceDesc_st*;

// The stream that callers may name without making it; NULL means the same.
inline const CUstream CU_STREAM_LEGACY = reinterpret_cast<CUstream>(1);

constexpr unsigned CU_STREAM_DEFAULT = 0, CU_STREAM_NON_BLOCKING = 1;
constexpr unsigned CU_EVENT_DEFAULT = 0, CU_EVENT_BLOCKING_SYNC = 1, CU_EVENT_DISABLE_TIMING = 2;
constexpr unsigned CU_MEMHOSTALLOC_PORTABLE = 1, CU_MEMHOSTALLOC_DEVICEMAP = 2, CU_MEMHOSTALLOC_WRITECOMBINED = 4;
constexpr unsigned CU_MEMHOSTREGISTER_PORTABLE = 1, CU_MEMHOSTREGISTER_DEVICEMAP = 2, CU_MEMHOSTREGISTER_IOMEMORY = 4, CU_MEMHOSTREGISTER_READ_ONLY = 8;
constexpr unsigned CU_GREEN_CTX_DEFAULT_STREAM = 1;
constexpr unsigned CU_MEMORYTYPE_HOST = 1, CU_MEMORYTYPE_DEVICE = 2;

enum CUdevice_attribute : unsigned {
    CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 1,
    CU_DEVICE_ATTRIBUTE_WARP_SIZE = 10,
    CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16,
    CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING = 41,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75,
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76,
    CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED = 99,
    CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED = 113,
};
enum CUpointer_attribute : unsigned { CU_POINTER_ATTRIBUTE_MEMORY_TYPE = 2, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9 };
enum CUfunction_attribute : unsigned { CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK = 0, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = 3 };
enum CUdevResourceType : unsigned { CU_DEV_RESOURCE_TYPE_INVALID = 0, CU_DEV_RESOURCE_TYPE_SM = 1 };

struct CUdevResource {
    CUdevResourceType type;
    unsigned char internal[92];
    union {
        struct {
            unsigned smCount;
        } sm;
        unsigned char room[48];
    };
};
static_assert(sizeof(CUdevResource) == 144, "as in cuda.h");

#define SENTRY_API extern "C" __attribute__((visibility("default"))) CUresult

SENTRY_API cuInit(unsigned flags);
SENTRY_API cuDriverGetVersion(int* version);
SENTRY_API cuGetErrorName(CUresult status, const char** text);
SENTRY_API cuGetErrorString(CUresult status, const char** text);

SENTRY_API cuDeviceGetCount(int* count);
SENTRY_API cuDeviceGet(CUdevice* device, int ordinal);
SENTRY_API cuDeviceGetName(char* name, int length, CUdevice device);
SENTRY_API cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device);
SENTRY_API cuDeviceTotalMem_v2(size_t* bytes, CUdevice device);
SENTRY_API cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device);
SENTRY_API cuDevicePrimaryCtxRelease_v2(CUdevice device);

SENTRY_API cuCtxPushCurrent_v2(CUcontext context);
SENTRY_API cuCtxPopCurrent_v2(CUcontext* context);
SENTRY_API cuCtxSetCurrent(CUcontext context);
SENTRY_API cuCtxGetCurrent(CUcontext* context);
SENTRY_API cuCtxGetStreamPriorityRange(int* least, int* greatest);

SENTRY_API cuModuleLoadData(CUmodule* module, const void* image);
SENTRY_API cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name);
SENTRY_API cuModuleUnload(CUmodule module);
SENTRY_API cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function);
SENTRY_API cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y, unsigned block_z,
                          unsigned shared, CUstream stream, void** arguments, void** extra);

SENTRY_API cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes);
SENTRY_API cuMemFree_v2(CUdeviceptr pointer);
SENTRY_API cuMemHostAlloc(void** pointer, size_t bytes, unsigned flags);
SENTRY_API cuMemFreeHost(void* pointer);
SENTRY_API cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned flags);
SENTRY_API cuMemHostUnregister(void* pointer);
SENTRY_API cuMemGetInfo_v2(size_t* left, size_t* total);
SENTRY_API cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr pointer);
SENTRY_API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream);
SENTRY_API cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream);
SENTRY_API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream);
SENTRY_API cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream);

SENTRY_API cuStreamCreate(CUstream* stream, unsigned flags);
SENTRY_API cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int priority);
SENTRY_API cuStreamDestroy_v2(CUstream stream);
SENTRY_API cuStreamSynchronize(CUstream stream);
SENTRY_API cuStreamQuery(CUstream stream);
SENTRY_API cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags);
SENTRY_API cuEventCreate(CUevent* event, unsigned flags);
SENTRY_API cuEventRecord(CUevent event, CUstream stream);
SENTRY_API cuEventSynchronize(CUevent event);
SENTRY_API cuEventQuery(CUevent event);
SENTRY_API cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end);
SENTRY_API cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end);
SENTRY_API cuEventDestroy_v2(CUevent event);

SENTRY_API cuDeviceGetDevResource(CUdevice device, CUdevResource* resource, CUdevResourceType type);
SENTRY_API cuDevSmResourceSplitByCount(CUdevResource* parts, unsigned* count, const CUdevResource* input, CUdevResource* rest, unsigned flags, unsigned least);
SENTRY_API cuDevResourceGenerateDesc(CUdevResourceDesc* description, CUdevResource* resources, unsigned count);
SENTRY_API cuGreenCtxCreate(CUgreenCtx* green, CUdevResourceDesc description, CUdevice device, unsigned flags);
SENTRY_API cuGreenCtxDestroy(CUgreenCtx green);
SENTRY_API cuGreenCtxStreamCreate(CUstream* stream, CUgreenCtx green, unsigned flags, int priority);
SENTRY_API cuCtxFromGreenCtx(CUcontext* context, CUgreenCtx green);
