// Calls that a driver refuses, each with its status, and what it has in place of a status for memory that is written outside.
#pragma once

#include <thread>

#include "check_host.h"

namespace check {

/// Every function, with arguments that would do.
inline std::vector<CUresult> one_of_each() {
    int number = 0;
    unsigned count = 1;
    size_t size = 0, other_size = 0;
    char name[64];
    float time = 0;
    void* pointer = nullptr;
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    CUfunction function = nullptr;
    CUstream stream = nullptr;
    CUevent event = nullptr;
    CUgreenCtx green = nullptr;
    CUdeviceptr device_pointer = 0;
    CUdevResource resource = {}, rest = {};
    CUdevResourceDesc description = nullptr;
    return {
        cuDeviceGetCount(&number), cuDeviceGet(&number, 0), cuDeviceGetName(name, 64, 0), cuDeviceGetAttribute(&number, CU_DEVICE_ATTRIBUTE_WARP_SIZE, 0),
        cuDeviceTotalMem_v2(&size, 0), cuDevicePrimaryCtxRetain(&context, 0), cuDevicePrimaryCtxRelease_v2(0), cuCtxPushCurrent_v2(context),
        cuCtxPopCurrent_v2(&context), cuCtxSetCurrent(nullptr), cuCtxGetCurrent(&context), cuCtxGetStreamPriorityRange(&number, &number),
        cuModuleLoadData(&module, PTX), cuModuleGetFunction(&function, module, "sentry_blake3_join"), cuModuleUnload(module),
        cuFuncGetAttribute(&number, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, function), cuLaunchKernel(function, 1, 1, 1, 256, 1, 1, 0, stream, &pointer, nullptr),
        cuMemAlloc_v2(&device_pointer, 1), cuMemFree_v2(device_pointer), cuMemHostAlloc(&pointer, 1, 0), cuMemFreeHost(pointer),
        cuMemHostRegister_v2(name, 64, 0), cuMemHostUnregister(name),
        cuMemGetInfo_v2(&size, &other_size), cuPointerGetAttribute(&number, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, device_pointer),
        cuMemcpyHtoDAsync_v2(device_pointer, pointer, 1, stream), cuMemcpyDtoHAsync_v2(pointer, device_pointer, 1, stream),
        cuMemcpyDtoDAsync_v2(device_pointer, device_pointer, 1, stream), cuMemsetD8Async(device_pointer, 0, 1, stream), cuStreamCreate(&stream, 0),
        cuStreamCreateWithPriority(&stream, 0, 0), cuStreamDestroy_v2(stream), cuStreamSynchronize(stream), cuStreamQuery(stream),
        cuStreamWaitEvent(stream, event, 0), cuEventCreate(&event, 0), cuEventRecord(event, stream), cuEventSynchronize(event), cuEventQuery(event),
        cuEventElapsedTime(&time, event, event), cuEventElapsedTime_v2(&time, event, event), cuEventDestroy_v2(event),
        cuDeviceGetDevResource(0, &resource, CU_DEV_RESOURCE_TYPE_SM), cuDevSmResourceSplitByCount(&resource, &count, &resource, &rest, 0, 8),
        cuDevResourceGenerateDesc(&description, &resource, 1), cuGreenCtxCreate(&green, description, 0, CU_GREEN_CTX_DEFAULT_STREAM),
        cuGreenCtxDestroy(green), cuGreenCtxStreamCreate(&stream, green, CU_STREAM_NON_BLOCKING, 0), cuCtxFromGreenCtx(&context, green),
    };
}

inline void nothing_works_before_cuInit() {
    int version = 0;
    OK(cuDriverGetVersion(&version));
    CHECK(version == 12090);
    for (const CUresult status : one_of_each()) GIVES(NOT_INITIALIZED, status);
    GIVES(INVALID_VALUE, cuInit(1));
    OK(cuInit(0));
    OK(cuDeviceGetCount(&version));
    CHECK(version == 2);
}

inline void nothing_works_in_a_forked_child() {
    Host host;
    CHECK(run_process("", [] {
              GIVES(NOT_INITIALIZED, cuInit(0));
              for (const CUresult status : one_of_each()) GIVES(NOT_INITIALIZED, status);
          }).status == 0);
}

inline void a_context_is_wanted() {
    Host host;
    const CUevent event = new_event();
    const CUdeviceptr data = host.memory(16);
    void* pinned = host.pinned_memory(16);
    const CUfunction function = host.function("sentry_blake3_join");
    CUcontext left = nullptr;
    OK(cuCtxPopCurrent_v2(&left));
    CHECK(left == host.context);
    int number = 0;
    size_t size = 0;
    float time = 0;
    CUmodule module = nullptr;
    CUdeviceptr pointer = 0;
    GIVES(INVALID_CONTEXT, cuCtxPopCurrent_v2(&left));
    GIVES(INVALID_CONTEXT, cuCtxGetStreamPriorityRange(&number, &number));
    GIVES(INVALID_CONTEXT, cuModuleLoadData(&module, PTX));
    GIVES(INVALID_CONTEXT, cuModuleUnload(host.module));
    GIVES(INVALID_CONTEXT, cuLaunchKernel(function, 1, 1, 1, 256, 1, 1, 0, host.stream, nullptr, nullptr));
    GIVES(INVALID_CONTEXT, cuMemAlloc_v2(&pointer, 16));
    GIVES(INVALID_CONTEXT, cuMemFree_v2(data));
    GIVES(INVALID_CONTEXT, cuMemFreeHost(pinned));
    GIVES(INVALID_CONTEXT, cuMemHostRegister_v2(&size, sizeof size, 0));
    GIVES(INVALID_CONTEXT, cuMemHostUnregister(&size));
    GIVES(INVALID_CONTEXT, cuMemGetInfo_v2(&size, &size));
    GIVES(INVALID_CONTEXT, cuMemcpyHtoDAsync_v2(data, pinned, 16, host.stream));
    GIVES(INVALID_CONTEXT, cuMemsetD8Async(data, 0, 16, host.stream));
    GIVES(INVALID_CONTEXT, cuStreamCreate(&host.stream, 0));
    GIVES(INVALID_CONTEXT, cuStreamSynchronize(host.stream));
    GIVES(INVALID_CONTEXT, cuEventRecord(event, host.stream));
    GIVES(INVALID_CONTEXT, cuEventSynchronize(event));
    GIVES(INVALID_CONTEXT, cuEventElapsedTime(&time, event, event));
    std::thread([&] { GIVES(INVALID_CONTEXT, cuStreamSynchronize(host.stream)); }).join();
    OK(cuCtxPushCurrent_v2(host.context));
    OK(cuStreamSynchronize(host.stream));
    // The last release ends the context and all that is in it.
    OK(cuDevicePrimaryCtxRelease_v2(0));
    GIVES(CONTEXT_IS_DESTROYED, cuStreamSynchronize(host.stream));
    GIVES(INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(0));
    GIVES(INVALID_CONTEXT, cuCtxPushCurrent_v2(host.context));
    OK(cuDevicePrimaryCtxRetain(&left, 0));
    OK(cuCtxSetCurrent(left));
    GIVES(INVALID_HANDLE, cuStreamSynchronize(host.stream));
    GIVES(INVALID_VALUE, cuMemFree_v2(data));
}

inline void handles_are_looked_up() {
    Host host, other(1);
    OK(cuCtxSetCurrent(host.context));
    const CUdeviceptr data = host.memory(16);
    const CUstream stream = new_stream();
    const CUevent event = new_event();
    const CUfunction function = host.function("sentry_blake3_join");
    int number = 0;
    // Of another device.
    GIVES(INVALID_HANDLE, cuMemsetD8Async(data, 0, 16, other.stream));
    GIVES(INVALID_HANDLE, cuEventRecord(event, other.stream));
    GIVES(INVALID_HANDLE, cuLaunchKernel(other.function("sentry_blake3_join"), 1, 1, 1, 256, 1, 1, 0, host.stream, nullptr, nullptr));
    OK(cuCtxSetCurrent(other.context));
    GIVES(INVALID_VALUE, cuMemsetD8Async(data, 0, 16, other.stream));
    OK(cuCtxSetCurrent(host.context));
    // Gone.
    OK(cuStreamDestroy_v2(stream));
    GIVES(INVALID_HANDLE, cuStreamDestroy_v2(stream));
    GIVES(INVALID_HANDLE, cuStreamSynchronize(stream));
    GIVES(INVALID_HANDLE, cuStreamQuery(stream));
    GIVES(INVALID_HANDLE, cuMemsetD8Async(data, 0, 16, stream));
    OK(cuEventDestroy_v2(event));
    GIVES(INVALID_HANDLE, cuEventDestroy_v2(event));
    GIVES(INVALID_HANDLE, cuEventSynchronize(event));
    GIVES(INVALID_HANDLE, cuStreamWaitEvent(host.stream, event, 0));
    OK(cuModuleUnload(host.module));
    CUfunction missing = nullptr;
    GIVES(INVALID_HANDLE, cuModuleUnload(host.module));
    GIVES(INVALID_HANDLE, cuModuleGetFunction(&missing, host.module, "sentry_blake3_join"));
    GIVES(INVALID_HANDLE, cuFuncGetAttribute(&number, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, function));
    GIVES(NOT_FOUND, cuModuleGetFunction(&missing, other.module, "sentry_blake3"));
    GIVES(INVALID_DEVICE, cuDeviceGet(&number, 2));
    GIVES(INVALID_VALUE, cuDeviceGetAttribute(&number, CUdevice_attribute(3), 0));
}

inline void copies_stay_inside_memory() {
    Host host;
    const CUdeviceptr data = host.memory(100), other = host.memory(100);
    char* pinned = static_cast<char*>(host.pinned_memory(100));
    std::vector<char> pageable(100);
    const CUstream s = host.stream;
    OK(cuMemcpyHtoDAsync_v2(data, pinned, 100, s));
    OK(cuMemcpyHtoDAsync_v2(data + 99, pinned + 99, 1, s));
    GIVES(INVALID_VALUE, cuMemcpyHtoDAsync_v2(data, pageable.data(), 100, s));
    GIVES(INVALID_VALUE, cuMemcpyHtoDAsync_v2(data, pinned + 1, 100, s));
    GIVES(INVALID_VALUE, cuMemcpyHtoDAsync_v2(data + 1, pinned, 100, s));
    GIVES(INVALID_VALUE, cuMemcpyHtoDAsync_v2(data - 1, pinned, 1, s));
    GIVES(INVALID_VALUE, cuMemcpyHtoDAsync_v2(data, pinned, ~size_t(0), s));
    GIVES(INVALID_VALUE, cuMemcpyDtoHAsync_v2(pageable.data(), data, 100, s));
    GIVES(INVALID_VALUE, cuMemcpyDtoHAsync_v2(pinned, data, 101, s));
    OK(cuMemcpyDtoDAsync_v2(other, data, 100, s));
    GIVES(INVALID_VALUE, cuMemcpyDtoDAsync_v2(other, data, 101, s));
    GIVES(INVALID_VALUE, cuMemcpyDtoDAsync_v2(other, reinterpret_cast<uint64_t>(pinned), 100, s));
    GIVES(INVALID_VALUE, cuMemsetD8Async(data, 0, 101, s));
    GIVES(INVALID_VALUE, cuMemsetD8Async(reinterpret_cast<uint64_t>(pageable.data()), 0, 1, s));
    GIVES(INVALID_VALUE, cuMemFree_v2(data + 1));
    GIVES(INVALID_VALUE, cuMemFreeHost(pinned + 1));
    GIVES(INVALID_VALUE, cuMemFreeHost(pageable.data()));
    CUdeviceptr none = 0;
    GIVES(INVALID_VALUE, cuMemAlloc_v2(&none, 0));
    unsigned value = 9;
    OK(cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, data + 50));
    CHECK(value == 0);
    OK(cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, data + 99));
    CHECK(value == CU_MEMORYTYPE_DEVICE);
    OK(cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<uint64_t>(pinned)));
    CHECK(value == CU_MEMORYTYPE_HOST);
    GIVES(INVALID_VALUE, cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, data + 100));
    GIVES(INVALID_VALUE, cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, reinterpret_cast<uint64_t>(pageable.data())));
    host.sync();
    OK(cuMemFree_v2(data));
    GIVES(INVALID_VALUE, cuMemFree_v2(data));
    GIVES(INVALID_VALUE, cuMemsetD8Async(data, 0, 1, s));
}

inline void memory_is_full_of_other_bytes_each_time() {
    Host host;
    Bytes first(4096), second(4096);
    host.download(first.data(), host.memory(4096), 4096);
    host.download(second.data(), host.memory(4096), 4096);
    CHECK(first != second && first != Bytes(4096));
    CHECK(host.held[0] % 256 == 0 && host.memory(1) % 256 == 0);
}

inline void launches_are_checked() {
    Host host;
    uint64_t values[4] = {};
    void* arguments[4] = {&values[0], &values[1], &values[2], &values[3]};
    const CUfunction join = host.function("sentry_blake3_join");
    const auto launch = [&](unsigned grid, unsigned block) { return cuLaunchKernel(join, grid, 1, 1, block, 1, 1, 0, host.stream, arguments, nullptr); };
    GIVES(INVALID_VALUE, launch(0, 256));
    GIVES(INVALID_VALUE, launch(1u << 31, 256));
    GIVES(INVALID_VALUE, launch(1, 0));
    GIVES(INVALID_VALUE, launch(1, 128));
    GIVES(INVALID_VALUE, launch(1, 512));
    GIVES(INVALID_VALUE, launch(1, 2048));
    GIVES(INVALID_VALUE, cuLaunchKernel(join, 1, 2, 1, 256, 1, 1, 0, host.stream, arguments, nullptr));
    GIVES(INVALID_VALUE, cuLaunchKernel(join, 1, 1, 1, 256, 1, 1, 1 << 20, host.stream, arguments, nullptr));
    GIVES(INVALID_VALUE, cuLaunchKernel(join, 1, 1, 1, 256, 1, 1, 0, host.stream, nullptr, nullptr));
    arguments[3] = nullptr;
    GIVES(INVALID_VALUE, launch(1, 256));
    OK(cuStreamQuery(host.stream));  // none was taken
}

inline void images_are_looked_at() {
    Host host;
    CUmodule module = nullptr;
    const auto cubin = [](unsigned machine, unsigned abi, uint32_t flags) {
        std::vector<uint8_t> header(64);
        memcpy(header.data(), "\x7f" "ELF", 4);
        header[8] = uint8_t(abi);
        header[18] = uint8_t(machine);
        memcpy(header.data() + 48, &flags, 4);
        return header;
    };
    GIVES(INVALID_IMAGE, cuModuleLoadData(&module, "x"));
    GIVES(INVALID_IMAGE, cuModuleLoadData(&module, ""));
    GIVES(INVALID_IMAGE, cuModuleLoadData(&module, "\x7f" "ELG"));
    GIVES(INVALID_PTX, cuModuleLoadData(&module, ".version 8.0\n"));
    GIVES(NO_BINARY_FOR_GPU, cuModuleLoadData(&module, ".version 8.0\n.target sm_100\n"));
    OK(cuModuleLoadData(&module, "/* */ .version 8.0\n.target sm_80\n"));
    OK(cuModuleLoadData(&module, cubin(0, 0, 0).data()));
    OK(cuModuleLoadData(&module, cubin(190, 7, 90).data()));
    OK(cuModuleLoadData(&module, cubin(190, 8, 90 << 8).data()));
    for (const uint32_t architecture : {80, 91, 100, 120}) GIVES(NO_BINARY_FOR_GPU, cuModuleLoadData(&module, cubin(190, 7, architecture).data()));
}

/// `what` the kernels or the host write beside an allocation.
inline void write_outside(const char* what) {
    Host host;
    if (!strcmp(what, "pinned")) {
        char* pinned = static_cast<char*>(host.pinned_memory(100));
        pinned[100] = 1;
        cuMemFreeHost(pinned);
        return;
    }
    const uint64_t runs = host.memory(48), digests = host.memory(32), nodes = host.memory(32);
    const sentry::Run run = {0, nodes, 1, 0, 1, !strcmp(what, "behind") ? uint64_t(1) : ~uint64_t(0)};
    host.upload(runs, &run, 48);
    host.launch(sentry_blake3_leaves, 1, 128, reinterpret_cast<const sentry::Run*>(runs), 1, nullptr, reinterpret_cast<Digest*>(digests));
    host.sync();
}

inline void a_green_context_is_a_part_of_the_device() {
    Host host;
    CUdevResource all = {}, parts[4] = {}, rest = {}, wrong = {};
    unsigned count = 1;
    CUdevResourceDesc description = nullptr;
    CUgreenCtx green = nullptr;
    CUstream stream = nullptr;
    CUcontext context = nullptr;
    OK(cuDeviceGetDevResource(0, &all, CU_DEV_RESOURCE_TYPE_SM));
    CHECK(all.type == CU_DEV_RESOURCE_TYPE_SM && all.sm.smCount == 16);
    GIVES(INVALID_RESOURCE_TYPE, cuDeviceGetDevResource(0, &wrong, CUdevResourceType(2)));
    OK(cuDevSmResourceSplitByCount(nullptr, &count, &all, nullptr, 0, 1));
    CHECK(count == 2);
    count = 1;
    OK(cuDevSmResourceSplitByCount(parts, &count, &all, &rest, 0, 3));
    CHECK(count == 1 && parts[0].sm.smCount == 8 && rest.sm.smCount == 8);
    GIVES(INVALID_RESOURCE_CONFIGURATION, cuDevSmResourceSplitByCount(parts, &count, &all, &rest, 0, 17));
    GIVES(INVALID_RESOURCE_TYPE, cuDevResourceGenerateDesc(&description, &wrong, 1));
    OK(cuDevResourceGenerateDesc(&description, parts, 1));
    GIVES(INVALID_VALUE, cuGreenCtxCreate(&green, description, 0, 0));
    GIVES(INVALID_VALUE, cuGreenCtxCreate(&green, description, 1, CU_GREEN_CTX_DEFAULT_STREAM));
    OK(cuGreenCtxCreate(&green, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
    OK(cuCtxFromGreenCtx(&context, green));
    CHECK(context != host.context);
    GIVES(INVALID_VALUE, cuGreenCtxStreamCreate(&stream, green, CU_STREAM_DEFAULT, 0));
    OK(cuGreenCtxStreamCreate(&stream, green, CU_STREAM_NON_BLOCKING, 0));
    const Bytes text = message(5);
    const uint64_t data = host.memory(LENGTH);
    Hashing hashing(host, data);
    host.upload(data, text.data(), LENGTH);
    OK(hashing.queue(stream));
    OK(cuStreamSynchronize(stream));
    CHECK(hashing.is(text));
    OK(cuGreenCtxDestroy(green));
    GIVES(INVALID_HANDLE, cuStreamSynchronize(stream));
    GIVES(INVALID_HANDLE, cuGreenCtxDestroy(green));
}

inline void older_drivers_have_no_green_contexts() {
    Host host;
    CUdevResource all = {};
    GIVES(NOT_SUPPORTED, cuDeviceGetDevResource(0, &all, CU_DEV_RESOURCE_TYPE_SM));
}

}  // namespace check
