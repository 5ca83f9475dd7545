// Memory, and the work that fills and copies it.
#include <string.h>

#include "driver.h"

using namespace driver;

namespace {

/// Larger ranges are refused before any arithmetic with them.
constexpr uint64_t MOST_REGISTERED = UINT64_C(1) << 46;

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

/// Queues a copy if both of its sides lie `inside` memory that it may touch.
void copy(State& s, CUstream stream_handle, bool inside, uint64_t to, uint64_t from, uint64_t bytes) {
    const auto stream = s.stream(stream_handle, true);
    require(inside);
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

// Every page is pinned once at most. Memory of devices that are not GPUs is not for ordinary processes.
SENTRY_API cuMemHostRegister_v2(void* pointer, size_t bytes, unsigned flags) {
    return call("cuMemHostRegister_v2", [=](State& s) {
        const Device& device = s.current();
        const uint64_t begin = address(pointer);
        constexpr unsigned USUAL = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_READ_ONLY;
        require(pointer && bytes > 0 && bytes <= MOST_REGISTERED && begin <= ~uint64_t(0) - MOST_REGISTERED);
        require((flags & ~(USUAL | CU_MEMHOSTREGISTER_IOMEMORY)) == 0);
        require((flags & CU_MEMHOSTREGISTER_IOMEMORY) == 0, CUDA_ERROR_NOT_PERMITTED);
        require(!s.registered.overlap(begin, bytes) && !s.host.touches(begin, bytes), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        for (const auto& each : s.devices) require(!each->memory.touches(begin, bytes));
        const bool writable = (flags & CU_MEMHOSTREGISTER_READ_ONLY) == 0;
        require(mapped(begin, bytes, writable));
        s.registered.add(begin, {bytes, writable, device.ordinal});
    });
}

SENTRY_API cuMemHostUnregister(void* pointer) {
    return call("cuMemHostUnregister", [=](State& s) {
        s.current();
        require(pointer);
        require(s.registered.has(address(pointer)), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
        for (const auto& device : s.devices) s.finish(*device);
        s.current();
        s.registered.remove(address(pointer));
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
        if (const auto range = s.registered.find(pointer, 1)) return answer(CU_MEMORYTYPE_HOST, range->device);
        for (const auto& device : s.devices) {
            if (device->memory.holds(pointer, 1)) return answer(CU_MEMORYTYPE_DEVICE, device->ordinal);
        }
        throw Failure{CUDA_ERROR_INVALID_VALUE};
    });
}

SENTRY_API cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    return call("cuMemcpyHtoDAsync_v2", [=](State& s) {
        copy(s, stream, s.current().memory.holds(to, bytes) && s.pinned(address(from), bytes, false), to, address(from), bytes);
    });
}

SENTRY_API cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return call("cuMemcpyDtoHAsync_v2", [=](State& s) {
        copy(s, stream, s.current().memory.holds(from, bytes) && s.pinned(address(to), bytes, true), address(to), from, bytes);
    });
}

SENTRY_API cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return call("cuMemcpyDtoDAsync_v2", [=](State& s) {
        const Memory& memory = s.current().memory;
        copy(s, stream, memory.holds(to, bytes) && memory.holds(from, bytes), to, from, bytes);
    });
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
