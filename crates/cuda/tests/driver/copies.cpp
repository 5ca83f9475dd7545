// Memory, and the work that fills and copies it.
#include <string.h>

#include "driver.h"

using namespace driver;

namespace {

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

/// Queues a copy whose sides lie in these memories.
void copy(State& s, CUstream stream_handle, const Memory& to_memory, uint64_t to, const Memory& from_memory, uint64_t from, uint64_t bytes) {
    const auto stream = s.stream(stream_handle, true);
    require(to_memory.holds(to, bytes) && from_memory.holds(from, bytes));
    s.queue(stream, [=] {
        memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
        return CUDA_SUCCESS;
    });
}

}  // namespace

SENTRY_API cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
    return call("cuMemAlloc_v2", [=](State& s) {
        Device& device = s.current();
        require(pointer && bytes > 0);
        const uint64_t made = device.memory.allocate(bytes);
        require(made != 0, CUDA_ERROR_OUT_OF_MEMORY);
        *pointer = made;
    });
}

SENTRY_API cuMemFree_v2(CUdeviceptr pointer) {
    return call("cuMemFree_v2", [=](State& s) {
        s.current();
        if (pointer == 0) return;
        for (const auto& device : s.devices) {
            if (!device->memory.holds(pointer, 1)) continue;
            s.finish(*device);
            require(device->broken == CUDA_SUCCESS, device->broken);
            require(device->memory.free(pointer));
            return;
        }
        throw Failure{CUDA_ERROR_INVALID_VALUE};
    });
}

SENTRY_API cuMemHostAlloc(void** pointer, size_t bytes, unsigned flags) {
    return call("cuMemHostAlloc", [=](State& s) {
        const Device& device = s.current();
        require(pointer && bytes > 0 && flags <= (CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED));
        const uint64_t made = s.host.allocate(bytes);
        require(made != 0, CUDA_ERROR_OUT_OF_MEMORY);
        s.host_device[made] = device.ordinal;
        *pointer = reinterpret_cast<void*>(made);
    });
}

SENTRY_API cuMemFreeHost(void* pointer) {
    return call("cuMemFreeHost", [=](State& s) {
        s.current();
        require(s.host_device.count(address(pointer)) != 0);
        for (const auto& device : s.devices) s.finish(*device);
        s.current();
        s.host.free(address(pointer));
        s.host_device.erase(address(pointer));
    });
}

SENTRY_API cuMemGetInfo_v2(size_t* left, size_t* total) {
    return call("cuMemGetInfo_v2", [=](State& s) {
        const Device& device = s.current();
        require(left && total);
        *left = device.memory.left();
        *total = device.memory.limit();
    });
}

SENTRY_API cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr pointer) {
    return call("cuPointerGetAttribute", [=](State& s) {
        s.current();
        require(value && (attribute == CU_POINTER_ATTRIBUTE_MEMORY_TYPE || attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL));
        const bool ordinal = attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
        const auto answer = [=](unsigned type, int device) { *static_cast<unsigned*>(value) = ordinal ? unsigned(device) : type; };
        if (s.host.holds(pointer, 1)) return answer(CU_MEMORYTYPE_HOST, std::prev(s.host_device.upper_bound(pointer))->second);
        for (const auto& device : s.devices) {
            if (device->memory.holds(pointer, 1)) return answer(CU_MEMORYTYPE_DEVICE, device->ordinal);
        }
        throw Failure{CUDA_ERROR_INVALID_VALUE};
    });
}

SENTRY_API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    return call("cuMemcpyHtoDAsync_v2", [=](State& s) { copy(s, stream, s.current().memory, to, s.host, address(from), bytes); });
}

SENTRY_API cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return call("cuMemcpyDtoHAsync_v2", [=](State& s) { copy(s, stream, s.host, address(to), s.current().memory, from, bytes); });
}

SENTRY_API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return call("cuMemcpyDtoDAsync_v2", [=](State& s) { copy(s, stream, s.current().memory, to, s.current().memory, from, bytes); });
}

SENTRY_API cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream_handle) {
    return call("cuMemsetD8Async", [=](State& s) {
        const auto stream = s.stream(stream_handle, true);
        require(stream->device->memory.holds(to, bytes));
        s.queue(stream, [=] {
            memset(reinterpret_cast<void*>(to), value, bytes);
            return CUDA_SUCCESS;
        });
    });
}
