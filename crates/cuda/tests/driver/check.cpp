// Whether the emulated driver is one: right digests by every kernel, the wrong ones where a host forgets to wait, the statuses of
// misuse, and each fault that can be asked for.
#include <chrono>
#include <fstream>
#include <thread>

#include "check_cufile.h"
#include "check_host.h"
#include "check_misuse.h"
#include "check_order.h"
#include "check_registered.h"

using namespace check;

namespace {

// ---- digests

void every_kernel() {
    Host host;
    CHECK(cases::run(host, 300000, 60, 1 << 20, 100) == 0);
}

void several_threads() {
    std::vector<std::thread> threads;
    for (uint8_t seed = 0; seed < 4; seed++) {
        threads.emplace_back([seed] {
            Host host(seed % 2);
            const Bytes text = message(seed);
            const uint64_t data = host.memory(LENGTH);
            Hashing hashing(host, data);
            host.upload(data, text.data(), LENGTH);
            OK(hashing.queue(host.stream));
            host.sync();
            CHECK(hashing.is(text));
        });
    }
    for (auto& thread : threads) thread.join();
}

void speed() {
    Host host;
    const uint64_t bytes = 32 << 20, data = host.memory(bytes);
    Digest *nodes = reinterpret_cast<Digest*>(host.memory(bytes / 1024)), *digests = reinterpret_cast<Digest*>(host.memory(64));
    const auto plan = host::plan<sentry::blake3::Tree>({{data, bytes}});
    host.launch(sentry_blake3_leaves, plan.blocks, sentry::blake3::Tree::THREADS, cases::table(host, plan.runs), plan.runs.size(), nodes, digests);
    const auto start = std::chrono::steady_clock::now();
    host.sync();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    printf("  blake3 leaves: %.0f MB/s\n", double(bytes) / 1e6 / seconds);
}

// ---- faults

/// One digest, as a host would have it that looks at every status; the first of them that is not success.
CUresult hash_once(bool& right) {
    Host host;
    const Bytes text = message(6);
    const uint64_t data = host.memory(LENGTH);
    Hashing hashing(host, data);
    host.upload(data, text.data(), LENGTH);
    const CUresult queued = hashing.queue(host.stream);
    if (queued != CUDA_SUCCESS) return queued;
    const CUresult done = cuStreamSynchronize(host.stream);
    right = hashing.is(text);
    return done;
}

void hashes(CUresult wanted, bool wanted_right) {
    bool right = false;
    CHECK(hash_once(right) == wanted);
    CHECK(right == wanted_right);
}

void work_that_failed_breaks_the_context() {
    Host host, other(1);
    OK(cuCtxSetCurrent(host.context));
    const CUdeviceptr data = host.memory(16);
    OK(cuMemsetD8Async(data, 1, 16, host.stream));
    OK(cuMemsetD8Async(data, 2, 16, host.stream));  // this one fails
    const CUevent event = new_event();
    OK(cuEventRecord(event, host.stream));
    GIVES(ILLEGAL_ADDRESS, cuEventSynchronize(event));
    GIVES(ILLEGAL_ADDRESS, cuStreamSynchronize(host.stream));
    GIVES(ILLEGAL_ADDRESS, cuMemsetD8Async(data, 1, 16, host.stream));
    CUdeviceptr more = 0;
    GIVES(ILLEGAL_ADDRESS, cuMemAlloc_v2(&more, 16));
    GIVES(ILLEGAL_ADDRESS, cuMemFree_v2(data));
    OK(cuCtxSetCurrent(other.context));
    OK(cuMemAlloc_v2(&more, 16));
}

void memory_is_limited() {
    Host host;
    size_t left = 0, total = 0;
    CUdeviceptr first = 0, second = 0;
    OK(cuMemAlloc_v2(&first, 600));
    OK(cuMemGetInfo_v2(&left, &total));
    CHECK(left == 400 && total == 1000);
    GIVES(OUT_OF_MEMORY, cuMemAlloc_v2(&second, 401));
    GIVES(OUT_OF_MEMORY, cuMemAlloc_v2(&second, ~size_t(0)));
    OK(cuMemAlloc_v2(&second, 400));
    OK(cuMemFree_v2(first));
    OK(cuMemAlloc_v2(&first, 600));
}

void the_gpu_is_lost() {
    CUcontext context = nullptr;
    int version = 0;
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    GIVES(DEVICE_UNAVAILABLE, cuCtxSetCurrent(context));
    GIVES(DEVICE_UNAVAILABLE, cuDriverGetVersion(&version));
    GIVES(DEVICE_UNAVAILABLE, cuInit(0));
    const char* name = nullptr;
    OK(cuGetErrorName(CUDA_ERROR_DEVICE_UNAVAILABLE, &name));
    CHECK(!strcmp(name, "CUDA_ERROR_DEVICE_UNAVAILABLE"));
    OK(cuGetErrorString(CUDA_ERROR_DEVICE_UNAVAILABLE, &name));
    GIVES(INVALID_VALUE, cuGetErrorName(CUresult(12345), &name));
}

void calls_are_logged(const std::string& file) {
    int number = 0;
    OK(cuInit(0));
    OK(cuDeviceGetCount(&number));
    OK(cuDeviceGetCount(&number));
    std::ifstream log(file);
    const std::string text((std::istreambuf_iterator<char>(log)), {});
    CHECK(text == "cuInit\ncuDeviceGetCount\ncuDeviceGetCount\n");
}

void start_driver() { cuInit(0); }

}  // namespace

int main(int argc, char** argv) {
    CHECK(argc == 2);  // a folder for the log, and for a file to read
    const std::string log = std::string(argv[1]) + "/calls.log";
    const std::string file_log = std::string(argv[1]) + "/file_calls.log";
    for (const std::string& file : {log, file_log}) remove(file.c_str());  // of an earlier run
    make_file(std::string(argv[1]) + "/check_cufile.bin");
    Cases cases;
    cases.right("every kernel", "", every_kernel);
    cases.right("several threads", "", several_threads);
    cases.right("speed", "", speed);

    cases.right("a forgotten wait shows", "", a_forgotten_wait_shows);
    cases.right("a host buffer used again too early shows", "", a_host_buffer_used_again_too_early_shows);
    cases.right("waiting for an event does no more", "", waiting_for_an_event_does_no_more);
    cases.right("waiting for the wrong event shows", "", waiting_for_the_wrong_event_shows);
    cases.right("events without a time have none", "", events_without_a_time_have_none);
    cases.right("device memory written too early shows", "", device_memory_written_too_early_shows);
    cases.right("the default stream orders blocking streams", "", the_default_stream_orders_blocking_streams);
    cases.right("queries say not ready first", "", queries_say_not_ready_first);
    cases.right("work is done before its stream or memory goes", "", work_is_done_before_its_stream_or_memory_goes);

    cases.right("registered memory is pinned", "", registered_memory_is_pinned);
    cases.right("registrations are checked", "", registrations_are_checked);
    cases.right("only memory that is there is registered", "", only_memory_that_is_there_is_registered);
    cases.right("work is done before memory is unregistered", "", work_is_done_before_memory_is_unregistered);
    cases.right("a registration fails", "fail=cuMemHostRegister_v2:1:2", [] { registrations_fail(CUDA_ERROR_OUT_OF_MEMORY, CUDA_SUCCESS); });
    cases.right("the end of a registration fails", "fail=cuMemHostUnregister:1:999", [] { registrations_fail(CUDA_SUCCESS, CUDA_ERROR_UNKNOWN); });
    cases.right("a copy from registered memory is left out", "skip=cuMemcpyHtoDAsync_v2:1", [] { copies_once(false); });
    cases.right("a copy from registered memory is there", "", [] { copies_once(true); });
    cases.right("unregistering tells of failed work", "async=cuMemcpyHtoDAsync_v2:1:700", unregistering_tells_of_failed_work);
    cases.right("many threads copy at once", "", many_threads_copy_at_once);

    cases.right("files are read", "", files_are_read);
    cases.right("many threads read at once", "", many_threads_read_at_once);
    cases.right("a read into memory that is in use shows", "", a_read_into_memory_that_is_in_use_shows);
    cases.right("cuFile is opened first and closed as often", "", cufile_is_opened_first_and_closed_as_often);
    cases.right("cuFile does not work in a forked child", "", cufile_does_not_work_in_a_forked_child);
    cases.right("files are checked", "", files_are_checked);
    cases.right("reads stay inside memory", "", reads_stay_inside_memory);
    cases.right("buffers are checked", "", buffers_are_checked);
    cases.right("files are read by the system", "cufile=compat", [] { files_are_open_for_direct_reads(false); });
    cases.right("files are open for direct reads", "cufile=direct", [] { files_are_open_for_direct_reads(true); });
    cases.aborts("a handle is deregistered twice", "", "emulated cuFile: a handle that is not registered", a_handle_is_deregistered_twice);
    cases.right("a read fails", "fail=cuFileRead:2:5", [] { a_read_goes_wrong(-1, EIO, 0); });
    cases.right("a read fails in cuFile", "fail=cuFileRead:2:5030", [] { a_read_goes_wrong(-5030, 0, 0); });
    cases.right("a read is short", "short=cuFileRead:2:1234", [] { a_read_goes_wrong(1234, 0, 1234); });
    cases.right("a read is empty", "short=cuFileRead:2:0", [] { a_read_goes_wrong(0, 0, 0); });
    cases.right("a read is left out", "skip=cuFileRead:2", [] { a_read_goes_wrong(50000, 0, 0); });
    constexpr CUfileError_t good = {CU_FILE_SUCCESS, CUDA_SUCCESS}, absent = {CU_FILE_DRIVER_NOT_INITIALIZED, CUDA_SUCCESS},
                            unsupported = {CU_FILE_IO_NOT_SUPPORTED, CUDA_SUCCESS}, full = {CU_FILE_CUDA_DRIVER_ERROR, CUDA_ERROR_OUT_OF_MEMORY};
    cases.right("cuFile is not there", "fail=cuFileDriverOpen:1:5001", [=] { calls_fail(absent, good, good); });
    cases.right("cuFile refuses a file", "fail=cuFileHandleRegister:1:5008", [=] { calls_fail(good, unsupported, good); });
    cases.right("CUDA fails in cuFile", "fail=cuFileBufRegister:1:2", [=] { calls_fail(good, good, full); });
    cases.right("cuFile goes with the GPU", "lost=3", cufile_goes_with_the_gpu);
    cases.right("cuFile's calls are logged", "log=" + file_log, [&] { cufile_calls_are_logged(file_log); });

    cases.right("nothing works before cuInit", "", nothing_works_before_cuInit);
    cases.right("nothing works in a forked child", "", nothing_works_in_a_forked_child);
    cases.right("a context is wanted", "", a_context_is_wanted);
    cases.right("handles are looked up", "", handles_are_looked_up);
    cases.right("copies stay inside memory", "", copies_stay_inside_memory);
    cases.right("memory is full of other bytes each time", "", memory_is_full_of_other_bytes_each_time);
    cases.right("launches are checked", "", launches_are_checked);
    cases.right("images are looked at", "", images_are_looked_at);
    cases.aborts("a kernel writes behind memory", "", "sentry_blake3_leaves: bytes behind an allocation of 32 bytes", [] { write_outside("behind"); });
    cases.aborts("a kernel writes before memory", "", "sentry_blake3_leaves: bytes before an allocation of 32 bytes", [] { write_outside("before"); });
    cases.aborts("the host writes behind memory", "", "at free: bytes behind an allocation of 100 bytes", [] { write_outside("pinned"); });
    cases.right("a green context is a part of the device", "", a_green_context_is_a_part_of_the_device);
    cases.right("older drivers have no green contexts", "driver=12030", older_drivers_have_no_green_contexts);

    cases.right("no fault", "", [] { hashes(CUDA_SUCCESS, true); });
    cases.right("a launch fails", "fail=cuLaunchKernel:2:719", [] { hashes(CUDA_ERROR_LAUNCH_FAILED, false); });
    cases.right("a wait fails", "fail=cuStreamSynchronize:4:999", [] { hashes(CUDA_ERROR_UNKNOWN, false); });
    cases.right("leaves are left out", "skip=cuLaunchKernel:1", [] { hashes(CUDA_SUCCESS, false); });
    cases.right("nodes are left out", "skip=cuLaunchKernel:2", [] { hashes(CUDA_SUCCESS, false); });
    cases.right("a copy is left out", "skip=cuMemcpyDtoHAsync_v2:1", [] { hashes(CUDA_SUCCESS, false); });
    cases.right("a wait is left out", "skip=cuStreamSynchronize:4", [] { hashes(CUDA_SUCCESS, false); });
    cases.right("a kernel fails", "async=cuLaunchKernel:2:700", [] { hashes(CUDA_ERROR_ILLEGAL_ADDRESS, false); });
    cases.right("work that failed breaks the context", "async=cuMemsetD8Async:2:700", work_that_failed_breaks_the_context);
    cases.right("memory is limited", "memory=1000", memory_is_limited);
    cases.right("the GPU is lost", "lost=3", the_gpu_is_lost);
    cases.right("calls are logged", "log=" + log, [&] { calls_are_logged(log); });
    cases.right("no GPU", "devices=0", [] { GIVES(NO_DEVICE, cuInit(0)); });
    cases.right("an old driver", "driver=11040", [] {
        int version = 0;
        OK(cuDriverGetVersion(&version));
        CHECK(version == 11040);
    });
    cases.right("an old GPU", "capability=70;devices=1", [] {
        int major = 0, minor = 9, count = 0;
        OK(cuInit(0));
        OK(cuDeviceGetCount(&count));
        OK(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
        OK(cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0));
        CHECK(count == 1 && major == 7 && minor == 0);
    });
    for (const char* malformed :
         {"driver", "driver=", "driver=new", "driver=12090;driver=12090", "devices=-1", "devices=65", "memory=0x10", "colour=1", "lost=0",
          "log=/no/such/folder/log", "fail=cuLaunchKernel:1", "fail=cuLaunchKernel:0:719", "fail=cuLaunchKernel:1:0", "fail=cuLaunchKernel:1:12", "fail=cuLaunch:1:719",
          "fail=cuLaunchKernel:1:719;fail=cuLaunchKernel:1:700", "skip=cuMemAlloc_v2:1", "skip=cuLaunchKernel", "async=cuStreamSynchronize:1:700",
          "cufile=fast", "fail=cuFileRead:1:4999", "fail=cuFileRead:1:5039", "fail=cuFileRead:1:5;fail=cuFileRead:1:6", "fail=cuFileDriverOpen:1:5000",
          "fail=cuFileOpen:1:5001", "fail=cuFileHandleDeregister:1:5001", "fail=cuMemHostRegister_v2:1:5001", "skip=cuMemHostRegister_v2:1",
          "skip=cuFileDriverOpen:1", "short=cuFileRead:1", "short=cuMemcpyHtoDAsync_v2:1:5", "short=cuFileRead:1:5;short=cuFileRead:1:6",
          "async=cuFileRead:1:700"}) {
        cases.aborts("malformed settings", malformed, "SENTRY_EMULATED_CUDA: ", start_driver);
    }
    printf("%u passed, %u failed\n", cases.passed, cases.wrong);
    return cases.wrong != 0;
}
