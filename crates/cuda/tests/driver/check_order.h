// Streams and events: a host that forgets to wait gets another digest, and one that waits the right one.
#pragma once

#include "check_host.h"

namespace check {

inline void a_forgotten_wait_shows() {
    for (const bool waits : {false, true}) {
        Host host;
        const Bytes text = message(1);
        const uint64_t data = host.memory(LENGTH);
        Hashing hashing(host, data);
        void* pinned = host.staged(text.data(), LENGTH);
        const CUstream copies = new_stream();
        const CUevent copied = new_event(CU_EVENT_DISABLE_TIMING);
        OK(cuMemcpyHtoDAsync_v2(data, pinned, LENGTH, copies));
        OK(cuEventRecord(copied, copies));
        if (waits) OK(cuStreamWaitEvent(host.stream, copied, 0));
        OK(cuEventDestroy_v2(copied));
        OK(hashing.queue(host.stream));
        CHECK(!hashing.is(text));
        host.sync();
        CHECK(hashing.is(text) == waits);
    }
}

inline void a_host_buffer_used_again_too_early_shows() {
    for (const bool waits : {false, true}) {
        Host host;
        const Bytes text = message(2);
        const uint64_t data = host.memory(LENGTH);
        Hashing hashing(host, data);
        void* pinned = host.staged(text.data(), LENGTH);
        const CUevent copied = new_event();
        OK(cuMemcpyHtoDAsync_v2(data, pinned, LENGTH, host.stream));
        OK(cuEventRecord(copied, host.stream));
        OK(hashing.queue(host.stream));
        if (waits) OK(cuEventSynchronize(copied));
        CHECK(!hashing.is(text));  // the event lies before the hashing
        memset(pinned, 7, LENGTH);
        host.sync();
        CHECK(hashing.is(text) == waits);
    }
}

inline void device_memory_written_too_early_shows() {
    for (const bool waits : {false, true}) {
        Host host;
        const Bytes text = message(3);
        const uint64_t data = host.memory(LENGTH);
        Hashing hashing(host, data);
        host.upload(data, text.data(), LENGTH);
        OK(hashing.queue(host.stream));
        const CUstream other = new_stream();
        const CUevent hashed = new_event();
        OK(cuEventRecord(hashed, host.stream));
        if (waits) OK(cuStreamWaitEvent(other, hashed, 0));
        OK(cuMemsetD8Async(data, 7, LENGTH, other));
        OK(cuStreamSynchronize(other));
        host.sync();
        CHECK(hashing.is(text) == waits);
    }
}

/// NULL and streams made without NON_BLOCKING take turns.
inline void the_default_stream_orders_blocking_streams() {
    for (const unsigned flags : {CU_STREAM_DEFAULT, CU_STREAM_NON_BLOCKING}) {
        for (const bool first : {false, true}) {
            Host host;
            const Bytes text = message(4);
            const uint64_t data = host.memory(LENGTH);
            Hashing hashing(host, data);
            void* pinned = host.staged(text.data(), LENGTH);
            const CUstream other = new_stream(flags), copies = first ? nullptr : other, hashes = first ? other : nullptr;
            OK(cuMemcpyHtoDAsync_v2(data, pinned, LENGTH, copies));
            OK(hashing.queue(hashes));
            OK(cuStreamSynchronize(hashes));
            CHECK(hashing.is(text) == (flags == CU_STREAM_DEFAULT));
        }
    }
}

inline void queries_say_not_ready_first() {
    Host host;
    const uint64_t data = host.memory(16);
    uint8_t* pinned = static_cast<uint8_t*>(host.pinned_memory(16));
    pinned[0] = 1;
    OK(cuStreamQuery(host.stream));
    const CUevent event = new_event(), later = new_event();
    OK(cuEventQuery(event));
    host.fill(data, 9, 16);
    OK(cuMemcpyDtoHAsync_v2(pinned, data, 16, host.stream));
    OK(cuEventRecord(event, host.stream));
    GIVES(NOT_READY, cuEventQuery(event));
    CHECK(pinned[0] == 1);
    OK(cuEventQuery(event));
    CHECK(pinned[0] == 9);
    host.fill(data, 8, 16);
    OK(cuEventRecord(later, host.stream));
    float milliseconds = -1;
    GIVES(NOT_READY, cuEventElapsedTime(&milliseconds, event, later));
    GIVES(NOT_READY, cuStreamQuery(host.stream));
    OK(cuStreamQuery(host.stream));
    OK(cuEventElapsedTime(&milliseconds, event, later));
    CHECK(milliseconds >= 0 && milliseconds < 60000);
    OK(cuEventElapsedTime_v2(&milliseconds, event, later));
}

inline void work_is_done_before_its_stream_or_memory_goes() {
    Host host;
    uint8_t* pinned = static_cast<uint8_t*>(host.pinned_memory(16));
    for (const bool stream_goes : {true, false}) {
        pinned[0] = 1;
        CUdeviceptr data = 0;
        OK(cuMemAlloc_v2(&data, 16));
        const CUstream stream = new_stream();
        OK(cuMemsetD8Async(data, 9, 16, stream));
        OK(cuMemcpyDtoHAsync_v2(pinned, data, 16, stream));
        if (stream_goes) OK(cuStreamDestroy_v2(stream));
        if (!stream_goes) OK(cuMemFree_v2(data));
        CHECK(pinned[0] == 9);
        if (stream_goes) OK(cuMemFree_v2(data));
    }
}

}  // namespace check
