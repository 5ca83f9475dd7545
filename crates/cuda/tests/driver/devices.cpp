// The driver itself, its devices and contexts, and multiprocessors set apart.
#include <stdio.h>
#include <string.h>

#include "driver.h"

using namespace driver;

namespace {

constexpr int MULTIPROCESSORS = 16;
/// The first driver with green contexts.
constexpr int GREEN_CONTEXTS = 12040;
/// Marks a resource as made here; what follows is the device.
constexpr char RESOURCE[] = "emulated CUDA";

/// Multiprocessors are given away in multiples of this.
unsigned group_size(int capability) { return capability >= 90 ? 8 : 2; }

CUdevResource resource(CUdevResourceType type, unsigned multiprocessors, const Device& device) {
    CUdevResource made = {};
    made.type = type;
    memcpy(made.internal, RESOURCE, sizeof(RESOURCE));
    made.internal[sizeof(RESOURCE)] = uint8_t(device.ordinal);
    made.sm.smCount = multiprocessors;
    return made;
}

/// The device of a resource of multiprocessors.
Device& device_of(State& s, const CUdevResource& resource) {
    require(resource.type == CU_DEV_RESOURCE_TYPE_SM, CUDA_ERROR_INVALID_RESOURCE_TYPE);
    require(memcmp(resource.internal, RESOURCE, sizeof(RESOURCE)) == 0);
    return s.device(resource.internal[sizeof(RESOURCE)]);
}

void require_green(const State& s) { require(s.settings.version >= GREEN_CONTEXTS, CUDA_ERROR_NOT_SUPPORTED); }

std::shared_ptr<Context> green_context(State& s, CUgreenCtx handle) {
    const auto found = s.green.find(handle);
    require(found != s.green.end(), CUDA_ERROR_INVALID_HANDLE);
    return s.contexts.find(found->second);
}

}  // namespace

SENTRY_API cuInit(unsigned flags) {
    return call(
        "cuInit",
        [=](State& s) {
            require(flags == 0);
            require(!s.devices.empty(), CUDA_ERROR_NO_DEVICE);
            s.started = true;
            start();
        },
        true);
}

SENTRY_API cuDriverGetVersion(int* version) {
    return call(
        "cuDriverGetVersion",
        [=](State& s) {
            require(version);
            *version = s.settings.version;
        },
        true);
}

SENTRY_API cuGetErrorName(CUresult status, const char** text) {
    if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
    switch (status) {
#define SENTRY_STATUS(name, number) \
    case name: *text = #name; return CUDA_SUCCESS;
        SENTRY_STATUSES(SENTRY_STATUS)
#undef SENTRY_STATUS
    }
    *text = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

SENTRY_API cuGetErrorString(CUresult status, const char** text) {
    if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
    switch (status) {
#define SENTRY_STATUS(name, number) \
    case name: *text = "status " #number " of the emulated driver"; return CUDA_SUCCESS;
        SENTRY_STATUSES(SENTRY_STATUS)
#undef SENTRY_STATUS
    }
    *text = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

SENTRY_API cuDeviceGetCount(int* count) {
    return call("cuDeviceGetCount", [=](State& s) {
        require(count);
        *count = int(s.devices.size());
    });
}

SENTRY_API cuDeviceGet(CUdevice* device, int ordinal) {
    return call("cuDeviceGet", [=](State& s) {
        require(device);
        *device = s.device(ordinal).ordinal;
    });
}

SENTRY_API cuDeviceGetName(char* name, int length, CUdevice device) {
    return call("cuDeviceGetName", [=](State& s) {
        require(name && length > 0);
        s.device(device);
        snprintf(name, size_t(length), "Emulated GPU");
    });
}

SENTRY_API cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
    return call("cuDeviceGetAttribute", [=](State& s) {
        require(value);
        s.device(device);
        switch (attribute) {
            case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; return;
            case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; return;
            case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = MULTIPROCESSORS; return;
            case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
            case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
            case CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED: *value = 1; return;
            case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = s.settings.capability / 10; return;
            case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = s.settings.capability % 10; return;
        }
        throw Failure{CUDA_ERROR_INVALID_VALUE};
    });
}

SENTRY_API cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    return call("cuDeviceTotalMem_v2", [=](State& s) {
        require(bytes);
        *bytes = s.device(device).memory.limit();
    });
}

SENTRY_API cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice ordinal) {
    return call("cuDevicePrimaryCtxRetain", [=](State& s) {
        require(context);
        Device& device = s.device(ordinal);
        if (device.retained++ == 0) s.primary[ordinal] = s.contexts.add(std::make_shared<Context>(Context{&device, false}));
        *context = s.primary.at(ordinal);
    });
}

SENTRY_API cuDevicePrimaryCtxRelease_v2(CUdevice ordinal) {
    return call("cuDevicePrimaryCtxRelease_v2", [=](State& s) {
        Device& device = s.device(ordinal);
        require(device.retained > 0, CUDA_ERROR_INVALID_CONTEXT);
        if (--device.retained == 0) s.reset(device);
    });
}

SENTRY_API cuCtxPushCurrent_v2(CUcontext context) {
    return call("cuCtxPushCurrent_v2", [=](State& s) {
        s.contexts.find(context, CUDA_ERROR_INVALID_CONTEXT);
        entered().push_back(context);
    });
}

SENTRY_API cuCtxPopCurrent_v2(CUcontext* context) {
    return call("cuCtxPopCurrent_v2", [=](State&) {
        require(!entered().empty(), CUDA_ERROR_INVALID_CONTEXT);
        if (context) *context = entered().back();
        entered().pop_back();
    });
}

SENTRY_API cuCtxSetCurrent(CUcontext context) {
    return call("cuCtxSetCurrent", [=](State& s) {
        if (context) s.contexts.find(context, CUDA_ERROR_INVALID_CONTEXT);
        if (!entered().empty()) entered().pop_back();
        if (context) entered().push_back(context);
    });
}

SENTRY_API cuCtxGetCurrent(CUcontext* context) {
    return call("cuCtxGetCurrent", [=](State&) {
        require(context);
        *context = entered().empty() ? nullptr : entered().back();
    });
}

SENTRY_API cuCtxGetStreamPriorityRange(int* least, int* greatest) {
    return call("cuCtxGetStreamPriorityRange", [=](State& s) {
        s.current();
        if (least) *least = 0;
        if (greatest) *greatest = -5;
    });
}

SENTRY_API cuDeviceGetDevResource(CUdevice device, CUdevResource* found, CUdevResourceType type) {
    return call("cuDeviceGetDevResource", [=](State& s) {
        require_green(s);
        require(found);
        require(type == CU_DEV_RESOURCE_TYPE_SM, CUDA_ERROR_INVALID_RESOURCE_TYPE);
        *found = resource(type, MULTIPROCESSORS, s.device(device));
    });
}

SENTRY_API cuDevSmResourceSplitByCount(CUdevResource* parts, unsigned* count, const CUdevResource* input, CUdevResource* rest, unsigned flags, unsigned least) {
    return call("cuDevSmResourceSplitByCount", [=](State& s) {
        require_green(s);
        require(count && input && flags <= 3);
        const Device& device = device_of(s, *input);
        const unsigned size = group_size(s.settings.capability), all = input->sm.smCount;
        require(least <= all, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
        const unsigned each = least == 0 ? size : (least + size - 1) / size * size;
        const unsigned possible = all / each;
        require(possible > 0, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
        if (parts == nullptr) {
            *count = possible;
            return;
        }
        require(*count > 0);
        if (*count > possible) *count = possible;
        for (unsigned i = 0; i < *count; i++) parts[i] = resource(CU_DEV_RESOURCE_TYPE_SM, each, device);
        const unsigned left = all - *count * each;
        if (rest) *rest = resource(left ? CU_DEV_RESOURCE_TYPE_SM : CU_DEV_RESOURCE_TYPE_INVALID, left, device);
    });
}

SENTRY_API cuDevResourceGenerateDesc(CUdevResourceDesc* description, CUdevResource* resources, unsigned count) {
    return call("cuDevResourceGenerateDesc", [=](State& s) {
        require_green(s);
        require(description && resources && count > 0);
        Device& device = device_of(s, resources[0]);
        unsigned total = 0;
        for (unsigned i = 0; i < count; i++) {
            require(&device_of(s, resources[i]) == &device);
            total += resources[i].sm.smCount;
        }
        require(total <= MULTIPROCESSORS, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
        *description = s.descriptions.add(std::make_shared<ResourceDescription>(ResourceDescription{&device, total}));
    });
}

SENTRY_API cuGreenCtxCreate(CUgreenCtx* green, CUdevResourceDesc description, CUdevice ordinal, unsigned flags) {
    return call("cuGreenCtxCreate", [=](State& s) {
        require_green(s);
        require(green && flags == CU_GREEN_CTX_DEFAULT_STREAM);
        Device& device = s.device(ordinal);
        require(s.descriptions.find(description)->device == &device);
        const CUcontext context = s.contexts.add(std::make_shared<Context>(Context{&device, true}));
        *green = reinterpret_cast<CUgreenCtx>(reinterpret_cast<uint64_t>(context) + 8);
        s.green[*green] = context;
    });
}

// Streams that are left go with it, and what they had to do is not done.
SENTRY_API cuGreenCtxDestroy(CUgreenCtx green) {
    return call("cuGreenCtxDestroy", [=](State& s) {
        require_green(s);
        const Context* context = green_context(s, green).get();
        s.streams.remove_if([&](Stream& stream) {
            if (stream.part == context) stream.abandon();
            return stream.part == context;
        });
        s.contexts.remove(s.green.at(green));
        s.green.erase(green);
    });
}

SENTRY_API cuGreenCtxStreamCreate(CUstream* stream, CUgreenCtx green, unsigned flags, int) {
    return call("cuGreenCtxStreamCreate", [=](State& s) {
        require_green(s);
        require(stream && flags == CU_STREAM_NON_BLOCKING);
        const auto context = green_context(s, green);
        const auto made = std::make_shared<Stream>();
        made->device = context->device;
        made->part = context.get();
        *stream = s.streams.add(made);
    });
}

SENTRY_API cuCtxFromGreenCtx(CUcontext* context, CUgreenCtx green) {
    return call("cuCtxFromGreenCtx", [=](State& s) {
        require_green(s);
        require(context);
        green_context(s, green);
        *context = s.green.at(green);
    });
}
