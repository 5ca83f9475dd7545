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

/// A wait for an event does the work before it and what that waits for, and no more.
inline void waiting_for_an_event_does_no_more() {
    Host host;
    uint8_t* const pinned = static_cast<uint8_t*>(host.pinned_memory(8));
    memset(pinned, 0, 8);
    const uint64_t data = host.memory(8);
    const CUstream copies = new_stream(), others = new_stream();
    const CUevent first = new_event(CU_EVENT_DISABLE_TIMING), second = new_event(CU_EVENT_DISABLE_TIMING), before = new_event(CU_EVENT_DISABLE_TIMING);
    // Work by numbers, and which of it was done.
    const auto piece = [&](unsigned i, CUstream stream) {
        OK(cuMemsetD8Async(data + i, uint8_t(i + 1), 1, stream));
        OK(cuMemcpyDtoHAsync_v2(pinned + i, data + i, 1, stream));
    };
    const auto done = [&](const std::vector<unsigned>& pieces) {
        uint8_t wanted[8] = {};
        for (const unsigned i : pieces) wanted[i] = uint8_t(i + 1);
        return memcmp(pinned, wanted, 8) == 0;
    };
    piece(2, others);
    OK(cuEventRecord(before, others));
    piece(3, others);
    piece(4, host.stream);
    piece(0, copies);
    OK(cuEventRecord(first, copies));
    OK(cuStreamWaitEvent(copies, before, 0));
    OK(cuEventRecord(before, others));  // a wait that is queued is for the earlier place
    piece(1, copies);
    OK(cuEventRecord(second, copies));
    CHECK(done({}));
    OK(cuEventSynchronize(first));
    CHECK(done({0}));
    OK(cuEventSynchronize(second));
    CHECK(done({0, 1, 2}));
    OK(cuEventSynchronize(first));
    CHECK(done({0, 1, 2}));
    OK(cuEventSynchronize(before));
    CHECK(done({0, 1, 2, 3}));
    piece(5, copies);
    OK(cuEventRecord(first, copies));  // and now it is here
    piece(6, copies);
    OK(cuEventSynchronize(second));
    CHECK(done({0, 1, 2, 3}));
    OK(cuEventSynchronize(first));
    CHECK(done({0, 1, 2, 3, 5}));
    host.sync();
    CHECK(done({0, 1, 2, 3, 4, 5}));
}

/// Two buffers in turn: who waits for the event of the other one writes over what is still to be copied.
inline void waiting_for_the_wrong_event_shows() {
    for (const bool right : {false, true}) {
        Host host;
        const Bytes text = message(8);
        const uint64_t data = host.memory(LENGTH), half = LENGTH / 2;
        Hashing hashing(host, data);
        void* const buffers[2] = {host.staged(text.data(), half), host.staged(text.data() + half, half)};
        const CUevent copied[2] = {new_event(CU_EVENT_DISABLE_TIMING), new_event(CU_EVENT_DISABLE_TIMING)};
        for (const unsigned i : {0, 1}) {
            OK(cuMemcpyHtoDAsync_v2(data + i * half, buffers[i], half, host.stream));
            OK(cuEventRecord(copied[i], host.stream));
        }
        OK(cuEventSynchronize(copied[right ? 1 : 0]));
        memset(buffers[1], 7, half);
        OK(hashing.queue(host.stream));
        host.sync();
        CHECK(hashing.is(text) == right);
    }
}

inline void events_without_a_time_have_none() {
    Host host;
    const CUevent timed = new_event(), untimed = new_event(CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC);
    for (const CUevent event : {timed, untimed}) OK(cuEventRecord(event, host.stream));
    host.sync();
    float milliseconds = 0;
    OK(cuEventElapsedTime(&milliseconds, timed, timed));
    for (const auto& [start, end] : {std::pair(timed, untimed), std::pair(untimed, timed), std::pair(untimed, untimed)}) {
        GIVES(INVALID_HANDLE, cuEventElapsedTime(&milliseconds, start, end));
        GIVES(INVALID_HANDLE, cuEventElapsedTime_v2(&milliseconds, start, end));
    }
    OK(cuEventSynchronize(untimed));
    OK(cuEventQuery(untimed));
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
