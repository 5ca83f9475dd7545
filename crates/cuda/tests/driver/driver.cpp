#include "driver.h"

#include <stdlib.h>
#include <unistd.h>

#include <atomic>

namespace driver {
namespace {

std::atomic<pid_t> starter{0};

}  // namespace

State::State() : settings(getenv("SENTRY_EMULATED_CUDA")) {
    for (int i = 0; i < settings.devices; i++) {
        devices.push_back(std::make_unique<Device>(i, settings.memory));
        devices.back()->legacy = std::make_shared<Stream>();
        devices.back()->legacy->device = devices.back().get();
    }
}

Device& State::device(CUdevice ordinal) {
    require(ordinal >= 0 && size_t(ordinal) < devices.size(), CUDA_ERROR_INVALID_DEVICE);
    return *devices[ordinal];
}

Device& State::current() {
    require(!entered().empty(), CUDA_ERROR_INVALID_CONTEXT);
    Device& device = *contexts.find(entered().back(), CUDA_ERROR_CONTEXT_IS_DESTROYED)->device;
    require(device.broken == CUDA_SUCCESS, device.broken);
    return device;
}

std::shared_ptr<Stream> State::stream(CUstream handle, bool here) {
    Device& device = current();
    if (handle == nullptr || handle == CU_STREAM_LEGACY) return device.legacy;
    const auto found = streams.find(handle);
    require(!here || found->device == &device, CUDA_ERROR_INVALID_HANDLE);
    return found;
}

void State::take_turn(const std::shared_ptr<Stream>& stream) {
    const auto& legacy = stream->device->legacy;
    if (stream == legacy) {
        for (const auto& [handle, other] : streams.all()) {
            if (other->blocking && other->device == stream->device) wait(*stream, Point::now(other));
        }
    } else if (stream->blocking) {
        wait(*stream, Point::now(legacy));
    }
}

void State::queue(const std::shared_ptr<Stream>& stream, Work work) {
    take_turn(stream);
    const CUresult later = fate.later;
    if (later != CUDA_SUCCESS) work = [later] { return later; };
    stream->push(std::move(work));
}

bool State::pinned(uint64_t address, uint64_t bytes, bool written) const {
    if (host.holds(address, bytes)) return true;
    const Registrations::Range* range = registered.find(address, bytes);
    return range && (range->writable || !written);
}

void State::finish(Device& device) {
    Point::now(device.legacy).reach();
    for (const auto& [handle, stream] : streams.all()) {
        if (stream->device == &device) Point::now(stream).reach();
    }
}

void State::reset(Device& device) {
    finish(device);
    device.memory.clear();
    contexts.remove(primary.at(device.ordinal));
    primary.erase(device.ordinal);
    modules.remove_if([&](const Module& module) { return module.device == &device; });
    functions.remove_if([&](const Function& function) { return function.module->device == &device; });
    streams.remove_if([&](const Stream& stream) { return stream.device == &device && stream.part == nullptr; });
    events.remove_if([&](const Event& event) { return event.device == &device; });
    device.broken = CUDA_SUCCESS;
}

std::vector<CUcontext>& entered() {
    thread_local std::vector<CUcontext> stack;
    return stack;
}

bool forked() {
    const pid_t process = starter.load();
    return process != 0 && process != getpid();
}

void start() { starter = getpid(); }

// Neither is ever destroyed: other threads may call until the process ends.
std::mutex& lock() {
    static std::mutex* const made = new std::mutex;
    return *made;
}

State& state() {
    static State* const made = new State;
    return *made;
}

}  // namespace driver
