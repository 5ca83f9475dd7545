// Streams, events, and waiting for them.
#include "driver.h"

using namespace driver;

namespace {

CUresult create_stream(const char* name, CUstream* stream, unsigned flags) {
    return call(name, [=](State& s) {
        Device& device = s.current();
        require(stream && flags <= CU_STREAM_NON_BLOCKING);
        const auto made = std::make_shared<Stream>();
        made->device = &device;
        made->blocking = flags == CU_STREAM_DEFAULT;
        *stream = s.streams.add(made);
    });
}

CUresult elapsed_time(const char* name, float* milliseconds, CUevent start, CUevent end) {
    return call(name, [=](State& s) {
        s.current();
        require(milliseconds);
        const auto from = s.events.find(start), to = s.events.find(end);
        require(from->timed && to->timed && from->mark && to->mark && from->device == to->device, CUDA_ERROR_INVALID_HANDLE);
        require(from->mark->point.reached() && to->mark->point.reached(), CUDA_ERROR_NOT_READY);
        *milliseconds = float(to->mark->milliseconds - from->mark->milliseconds);
    });
}

}  // namespace

SENTRY_API cuStreamCreate(CUstream* stream, unsigned flags) { return create_stream("cuStreamCreate", stream, flags); }

// Priorities are taken and mean nothing, as on a GPU with nothing else to do.
SENTRY_API cuStreamCreateWithPriority(CUstream* stream, unsigned flags, int) { return create_stream("cuStreamCreateWithPriority", stream, flags); }

SENTRY_API cuStreamDestroy_v2(CUstream handle) {
    return call("cuStreamDestroy_v2", [=](State& s) {
        s.current();
        const auto stream = s.streams.find(handle);
        Point::now(stream).reach();
        s.streams.remove(handle);
        require(stream->device->broken == CUDA_SUCCESS, stream->device->broken);
    });
}

SENTRY_API cuStreamSynchronize(CUstream handle) {
    return call("cuStreamSynchronize", [=](State& s) {
        const auto stream = s.stream(handle, false);
        Point::now(stream).reach();
        require(stream->device->broken == CUDA_SUCCESS, stream->device->broken);
    });
}

SENTRY_API cuStreamQuery(CUstream handle) {
    return call("cuStreamQuery", [=](State& s) {
        const auto stream = s.stream(handle, false);
        const CUresult status = query(Point::now(stream), stream->asked);
        require(status == CUDA_SUCCESS, status);
    });
}

SENTRY_API cuStreamWaitEvent(CUstream stream_handle, CUevent handle, unsigned flags) {
    return call("cuStreamWaitEvent", [=](State& s) {
        const auto stream = s.stream(stream_handle, false);
        const auto event = s.events.find(handle);
        require(flags == 0);
        if (!event->mark) return;
        s.take_turn(stream);
        wait(*stream, event->mark->point);
    });
}

SENTRY_API cuEventCreate(CUevent* event, unsigned flags) {
    return call("cuEventCreate", [=](State& s) {
        Device& device = s.current();
        require(event && flags <= (CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING));
        *event = s.events.add(std::make_shared<Event>(Event{&device, (flags & CU_EVENT_DISABLE_TIMING) == 0, false, nullptr}));
    });
}

SENTRY_API cuEventRecord(CUevent handle, CUstream stream_handle) {
    return call("cuEventRecord", [=](State& s) {
        const auto stream = s.stream(stream_handle, false);
        const auto event = s.events.find(handle);
        require(event->device == stream->device, CUDA_ERROR_INVALID_HANDLE);
        s.take_turn(stream);
        record(*event, stream);
    });
}

// An event that was never recorded is over.
SENTRY_API cuEventSynchronize(CUevent handle) {
    return call("cuEventSynchronize", [=](State& s) {
        s.current();
        const auto event = s.events.find(handle);
        if (event->mark) event->mark->point.reach();
        require(event->device->broken == CUDA_SUCCESS, event->device->broken);
    });
}

SENTRY_API cuEventQuery(CUevent handle) {
    return call("cuEventQuery", [=](State& s) {
        s.current();
        const auto event = s.events.find(handle);
        if (!event->mark) return;
        const CUresult status = query(event->mark->point, event->asked);
        require(status == CUDA_SUCCESS, status);
    });
}

SENTRY_API cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) { return elapsed_time("cuEventElapsedTime", milliseconds, start, end); }

SENTRY_API cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) { return elapsed_time("cuEventElapsedTime_v2", milliseconds, start, end); }

// A wait that is queued for it still happens.
SENTRY_API cuEventDestroy_v2(CUevent handle) {
    return call("cuEventDestroy_v2", [=](State& s) {
        s.current();
        s.events.find(handle);
        s.events.remove(handle);
    });
}
