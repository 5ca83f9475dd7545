// The driver's state, and how a call of it enters and leaves.
//
// Stricter than the driver where a host could get away with a fault: nothing but cuInit and cuDriverGetVersion works before cuInit; whatever
// concerns a context wants one to be current; handles are never given out twice and are not addresses; asynchronous copies
// want pinned memory, made by cuMemHostAlloc or registered, and memory of the current device. One lock is around every call, kernels included.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "kernels.h"
#include "settings.h"
#include "streams.h"
#include "api.h"

namespace driver {

/// Thrown inside a call, which returns it.
struct Failure {
    CUresult status;
};

inline void require(bool condition, CUresult status = CUDA_ERROR_INVALID_VALUE) {
    if (!condition) throw Failure{status};
}

/// Things by their handles.
template <class Handle, class Thing>
class Table {
public:
    Handle add(std::shared_ptr<Thing> thing) {
        const Handle handle = new_handle();
        things_.emplace(handle, std::move(thing));
        return handle;
    }
    std::shared_ptr<Thing> find(Handle handle, CUresult otherwise = CUDA_ERROR_INVALID_HANDLE) const {
        const auto found = things_.find(handle);
        require(found != things_.end(), otherwise);
        return found->second;
    }
    /// Removes those that `gone` says yes to.
    template <class Gone>
    void remove_if(Gone gone) {
        for (auto i = things_.begin(); i != things_.end();) i = gone(*i->second) ? things_.erase(i) : std::next(i);
    }
    void remove(Handle handle) { things_.erase(handle); }
    const std::map<Handle, std::shared_ptr<Thing>>& all() const { return things_; }

private:
    /// Not the address of anything, and not the handle of anything else.
    static Handle new_handle() {
        static uint64_t last = 0;
        return reinterpret_cast<Handle>(UINT64_C(0x0c0d'a000'0000'0000) + 16 * ++last);
    }

    std::map<Handle, std::shared_ptr<Thing>> things_;
};

struct Context {
    Device* device;
    bool green;
};

struct Module {
    Device* device;
};

struct Function {
    std::shared_ptr<Module> module;
    const Kernel* kernel;
};

struct ResourceDescription {
    Device* device;
    unsigned multiprocessors;
};

struct State {
    State();

    Settings settings;
    bool started = false;
    std::vector<std::unique_ptr<Device>> devices;
    Table<CUcontext, Context> contexts;
    std::map<int, CUcontext> primary;  ///< of the devices whose primary context there is
    std::map<CUgreenCtx, CUcontext> green;
    Table<CUmodule, Module> modules;
    Table<CUfunction, Function> functions;
    Table<CUstream, Stream> streams;
    Table<CUevent, Event> events;
    Table<CUdevResourceDesc, ResourceDescription> descriptions;
    Memory host{UINT64_C(1) << 40};
    std::map<uint64_t, int> host_device;  ///< which device a host allocation was made for
    Registrations registered;

    Fate fate;  ///< of the call that runs

    Device& device(CUdevice ordinal);
    /// The device of the calling thread's context; fails if that is broken.
    Device& current();
    /// A stream; with `here` one of the current device only.
    std::shared_ptr<Stream> stream(CUstream handle, bool here);
    /// Queues work in the order that the default stream asks for, or the failure that was asked for.
    void queue(const std::shared_ptr<Stream>& stream, Work work);
    /// Before something is queued: with the default stream, the other ones take turns.
    void take_turn(const std::shared_ptr<Stream>& stream);
    /// Whether all of a range is pinned host memory, which work may read, or write if it is `written`.
    bool pinned(uint64_t address, uint64_t bytes, bool written) const;
    /// Does all work of a device. Freeing memory waits like this, in the driver as well.
    void finish(Device& device);
    /// Ends a primary context, with everything in it.
    void reset(Device& device);
};

/// The contexts that the calling thread has entered.
std::vector<CUcontext>& entered();

/// Whether this process is a copy of one that started the driver, which is of no use in it.
bool forked();

/// Remembers which process started the driver.
void start();

std::mutex& lock();
State& state();

/// The frame of every exported function.
template <class Body>
CUresult call(const char* name, Body body, bool before_start = false) noexcept {
    if (forked()) return CUDA_ERROR_NOT_INITIALIZED;
    const std::lock_guard<std::mutex> guard(lock());
    State& s = state();
    s.fate = s.settings.fate(name);
    if (s.fate.status != CUDA_SUCCESS || s.fate.skipped) return CUresult(s.fate.status);
    if (!s.started && !before_start) return CUDA_ERROR_NOT_INITIALIZED;
    try {
        body(s);
        return CUDA_SUCCESS;
    } catch (const Failure& failure) {
        return failure.status;
    }
}

}  // namespace driver
