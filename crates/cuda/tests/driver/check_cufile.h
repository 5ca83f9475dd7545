// The emulated cuFile: what it reads, what it refuses, and the faults that can be asked of it.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "check_host.h"
#include "cufile_api.h"

#define FILE_OK(call) CHECK((call).err == CU_FILE_SUCCESS)
#define FILE_GIVES(error, call) CHECK((call).err == CU_FILE_##error)
/// What is refused comes as -1 and an errno.
#define READ_GIVES(number, call)               \
    do {                                       \
        errno = 0;                             \
        CHECK((call) == -1);                   \
        CHECK(errno == int(number));           \
    } while (0)

namespace check {

/// No multiple of anything.
constexpr uint64_t FILE_LENGTH = LENGTH + 4099;

inline Bytes file_bytes() {
    Bytes bytes(FILE_LENGTH);
    for (uint64_t i = 0; i < FILE_LENGTH; i++) bytes[i] = uint8_t(i % 251 * 7);
    return bytes;
}

/// The file that the cases read. It is made once.
inline std::string& file_path() {
    static std::string path;
    return path;
}

inline void make_file(const std::string& path) {
    const Bytes bytes = file_bytes();
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
    CHECK(file.flush());
    file_path() = path;
}

inline int open_file(int flags = 0) {
    const int descriptor = open(file_path().c_str(), flags | O_CLOEXEC);
    CHECK(descriptor >= 0);
    return descriptor;
}

inline CUfileDescr_t described(int descriptor, CUfileFileHandleType type = CU_FILE_HANDLE_TYPE_OPAQUE_FD) {
    CUfileDescr_t description = {};
    description.type = type;
    description.handle.fd = descriptor;
    return description;
}

inline CUfileError_t try_register(CUfileHandle_t* handle, int descriptor) {
    CUfileDescr_t description = described(descriptor);
    return cuFileHandleRegister(handle, &description);
}

/// A host with cuFile, the file, and room for it.
struct FileHost : Host {
    int descriptor;
    CUfileHandle_t handle = nullptr;
    uint64_t room = 0;
    void* base = nullptr;

    explicit FileHost(int flags = 0) : descriptor(open_file(flags)) {
        FILE_OK(cuFileDriverOpen());
        FILE_OK(try_register(&handle, descriptor));
        room = memory(FILE_LENGTH);
        base = reinterpret_cast<void*>(room);
        fill(room, 0, FILE_LENGTH);
        sync();
    }
    /// Whether the first bytes of the room are these ones of the file, and the next one is still zero.
    bool has(uint64_t offset, uint64_t length) {
        const Bytes wanted = file_bytes();
        Bytes got(FILE_LENGTH);
        download(got.data(), room, FILE_LENGTH);
        return memcmp(got.data(), wanted.data() + offset, length) == 0 && (length == FILE_LENGTH || got[length] == 0);
    }
};

inline void files_are_read() {
    for (const bool registered : {false, true}) {
        FileHost host;
        if (registered) FILE_OK(cuFileBufRegister(host.base, FILE_LENGTH, 0));
        CHECK(cuFileRead(host.handle, host.base, FILE_LENGTH, 0, 0) == ssize_t(FILE_LENGTH));
        CHECK(host.has(0, FILE_LENGTH));
        host.fill(host.room, 0, FILE_LENGTH);
        host.sync();
        CHECK(cuFileRead(host.handle, host.base, 0, 0, 0) == 0);
        CHECK(host.has(0, 0));
        CHECK(cuFileRead(host.handle, host.base, 100, 12345, 0) == 100);
        CHECK(cuFileRead(host.handle, host.base, 23, 12445, 100) == 23);
        CHECK(host.has(12345, 123));
        CHECK(cuFileRead(host.handle, host.base, 5000, FILE_LENGTH - 777, 0) == 777);
        CHECK(cuFileRead(host.handle, host.base, 5000, FILE_LENGTH, 0) == 0);
        CHECK(cuFileRead(host.handle, host.base, 5000, FILE_LENGTH + 5000, 0) == 0);
        host.fill(host.room + 777, 0, 1);
        host.sync();
        CHECK(host.has(FILE_LENGTH - 777, 777));
        if (registered) FILE_OK(cuFileBufDeregister(host.base));
        cuFileHandleDeregister(host.handle);
        FILE_OK(cuFileDriverClose_v2());
    }
}

inline void many_threads_read_at_once() {
    FileHost host;
    std::vector<std::thread> threads;
    constexpr uint64_t THREADS = 16, PART = (FILE_LENGTH + THREADS - 1) / THREADS;
    for (uint64_t start = 0; start < FILE_LENGTH; start += PART) {
        threads.emplace_back([&, start] {
            OK(cuCtxSetCurrent(host.context));
            const uint64_t length = std::min(PART, FILE_LENGTH - start);
            CHECK(cuFileRead(host.handle, host.base, length, off_t(start), off_t(start)) == ssize_t(length));
        });
    }
    for (auto& thread : threads) thread.join();
    CHECK(host.has(0, FILE_LENGTH));
}

/// A read does not wait for streams.
inline void a_read_into_memory_that_is_in_use_shows() {
    for (const bool waits : {false, true}) {
        FileHost host;
        host.fill(host.room, 5, FILE_LENGTH);
        if (waits) host.sync();
        CHECK(cuFileRead(host.handle, host.base, FILE_LENGTH, 0, 0) == ssize_t(FILE_LENGTH));
        CHECK(host.has(0, FILE_LENGTH) == waits);
    }
}

inline void cufile_is_opened_first_and_closed_as_often() {
    CUfileHandle_t handle = nullptr;
    const int descriptor = open_file();
    const CUfileError_t early = cuFileDriverOpen();
    CHECK(early.err == CU_FILE_CUDA_DRIVER_ERROR && early.cu_err == CUDA_ERROR_NOT_INITIALIZED);
    Host host;
    const uint64_t data = host.memory(16);
    void* const base = reinterpret_cast<void*>(data);
    int version = 0;
    FILE_OK(cuFileGetVersion(&version));
    CHECK(version == 1140);
    FILE_GIVES(INVALID_VALUE, cuFileGetVersion(nullptr));
    FILE_GIVES(DRIVER_NOT_INITIALIZED, try_register(&handle, descriptor));
    FILE_GIVES(DRIVER_NOT_INITIALIZED, cuFileBufRegister(base, 16, 0));
    FILE_GIVES(DRIVER_NOT_INITIALIZED, cuFileBufDeregister(base));
    FILE_GIVES(DRIVER_NOT_INITIALIZED, cuFileDriverClose_v2());
    FILE_OK(cuFileDriverOpen());
    FILE_OK(cuFileDriverOpen());
    FILE_OK(try_register(&handle, descriptor));
    FILE_OK(cuFileDriverClose());
    CHECK(cuFileRead(handle, base, 16, 0, 0) == 16);
    FILE_OK(cuFileDriverClose_v2());
    READ_GIVES(CU_FILE_HANDLE_NOT_REGISTERED, cuFileRead(handle, base, 16, 0, 0));
    FILE_GIVES(DRIVER_NOT_INITIALIZED, cuFileDriverClose());
}

inline void cufile_does_not_work_in_a_forked_child() {
    FileHost host;
    CHECK(run_process("", [&] {
              FILE_GIVES(DRIVER_NOT_INITIALIZED, cuFileDriverOpen());
              CHECK(cuFileRead(host.handle, host.base, 16, 0, 0) == -ssize_t(CU_FILE_DRIVER_NOT_INITIALIZED));
              cuFileHandleDeregister(host.handle);
          }).status == 0);
}

inline void files_are_checked() {
    FileHost host;
    CUfileHandle_t handle = nullptr;
    const int other = open_file(), folder = open("/", O_RDONLY | O_DIRECTORY), written = open_file(O_WRONLY), gone = open_file();
    close(gone);
    CUfileDescr_t good = described(other), userspace = described(other, CU_FILE_HANDLE_TYPE_USERSPACE_FS);
    CUfileDescr_t unknown = described(other, CUfileFileHandleType(0));
    FILE_GIVES(INVALID_VALUE, cuFileHandleRegister(nullptr, &good));
    FILE_GIVES(INVALID_VALUE, cuFileHandleRegister(&handle, nullptr));
    FILE_GIVES(IO_NOT_SUPPORTED, cuFileHandleRegister(&handle, &userspace));
    FILE_GIVES(IO_NOT_SUPPORTED, cuFileHandleRegister(&handle, &unknown));
    FILE_GIVES(INVALID_VALUE, try_register(&handle, -1));
    FILE_GIVES(INVALID_VALUE, try_register(&handle, gone));
    FILE_GIVES(INVALID_FILE_TYPE, try_register(&handle, folder));
    FILE_GIVES(INVALID_FILE_OPEN_FLAG, try_register(&handle, written));
    FILE_GIVES(HANDLE_ALREADY_REGISTERED, try_register(&handle, host.descriptor));
    FILE_OK(try_register(&handle, other));
    CHECK(handle != host.handle);
    CHECK(dup2(folder, other) == other);  // another file by that number
    READ_GIVES(EPERM, cuFileRead(handle, host.base, 16, 0, 0));
    close(other);
    READ_GIVES(EPERM, cuFileRead(handle, host.base, 16, 0, 0));
    cuFileHandleDeregister(handle);
    READ_GIVES(CU_FILE_HANDLE_NOT_REGISTERED, cuFileRead(handle, host.base, 16, 0, 0));
    READ_GIVES(EINVAL, cuFileRead(nullptr, host.base, 16, 0, 0));
    CHECK(cuFileRead(host.handle, host.base, 16, 0, 0) == 16);
}

inline void reads_stay_inside_memory() {
    FileHost host;
    Host other(1);
    const uint64_t there = other.memory(16);
    OK(cuCtxSetCurrent(host.context));
    const CUfileHandle_t h = host.handle;
    Bytes pageable(16);
    void* const pinned = host.pinned_memory(16);
    READ_GIVES(EINVAL, cuFileRead(h, nullptr, 16, 0, 0));
    READ_GIVES(CU_FILE_INVALID_VALUE, cuFileRead(h, host.base, 16, -1, 0));
    READ_GIVES(CU_FILE_INVALID_VALUE, cuFileRead(h, host.base, 16, 0, -1));
    READ_GIVES(CU_FILE_INVALID_VALUE, cuFileRead(h, host.base, size_t(1) << 63, 0, 0));
    READ_GIVES(CU_FILE_CUDA_POINTER_RANGE_ERROR, cuFileRead(h, host.base, FILE_LENGTH + 1, 0, 0));
    READ_GIVES(CU_FILE_CUDA_POINTER_RANGE_ERROR, cuFileRead(h, host.base, 16, 0, FILE_LENGTH - 15));
    READ_GIVES(CU_FILE_CUDA_MEMORY_TYPE_INVALID, cuFileRead(h, host.base, 16, 0, INT64_MAX));
    READ_GIVES(CU_FILE_CUDA_MEMORY_TYPE_INVALID, cuFileRead(h, pageable.data(), 16, 0, 0));
    READ_GIVES(CU_FILE_CUDA_MEMORY_TYPE_INVALID, cuFileRead(h, pinned, 16, 0, 0));
    READ_GIVES(CU_FILE_CUDA_CONTEXT_MISMATCH, cuFileRead(h, reinterpret_cast<void*>(there), 16, 0, 0));
    std::thread([&] { READ_GIVES(CU_FILE_CUDA_DRIVER_ERROR, cuFileRead(h, host.base, 16, 0, 0)); }).join();  // no context
    CHECK(host.has(0, 0));
}

inline void buffers_are_checked() {
    FileHost host;
    uint8_t* const base = static_cast<uint8_t*>(host.base);
    FILE_GIVES(INVALID_VALUE, cuFileBufRegister(nullptr, 16, 0));
    FILE_GIVES(INVALID_VALUE, cuFileBufRegister(base, 0, 0));
    FILE_GIVES(INVALID_VALUE, cuFileBufRegister(base, 16, 4));
    FILE_GIVES(INVALID_VALUE, cuFileBufDeregister(nullptr));
    FILE_GIVES(MEMORY_NOT_REGISTERED, cuFileBufDeregister(base));
    FILE_GIVES(CUDA_POINTER_RANGE_ERROR, cuFileBufRegister(base, FILE_LENGTH + 1, 0));
    FILE_GIVES(CUDA_MEMORY_TYPE_INVALID, cuFileBufRegister(host.pinned_memory(16), 16, 0));
    FILE_OK(cuFileBufRegister(base, 4096, CU_FILE_RDMA_REGISTER));
    FILE_GIVES(MEMORY_ALREADY_REGISTERED, cuFileBufRegister(base, 16, 0));
    FILE_OK(cuFileBufRegister(base + 4000, 4096, 0));
    CHECK(cuFileRead(host.handle, base, 4096, 0, 0) == 4096);
    READ_GIVES(CU_FILE_INVALID_MAPPING_RANGE, cuFileRead(host.handle, base, 4097, 0, 0));
    READ_GIVES(CU_FILE_INVALID_MAPPING_RANGE, cuFileRead(host.handle, base, 16, 0, 4081));
    READ_GIVES(CU_FILE_INVALID_MAPPING_RANGE, cuFileRead(host.handle, base, 16, 0, 5000));
    FILE_OK(cuFileBufDeregister(base));
    FILE_GIVES(MEMORY_NOT_REGISTERED, cuFileBufDeregister(base));
    CHECK(cuFileRead(host.handle, base, 4097, 0, 0) == 4097);
}

inline void a_handle_is_deregistered_twice() {
    FileHost host;
    cuFileHandleDeregister(host.handle);
    cuFileHandleDeregister(host.handle);
}

/// Where reads are direct, so must files be open; otherwise it is all the same. Neither knows alignment.
inline void files_are_open_for_direct_reads(bool direct) {
    FileHost host(direct ? O_DIRECT : 0);
    CUfileHandle_t other = nullptr;
    const CUfileError_t registered = try_register(&other, open_file(direct ? 0 : O_DIRECT));
    CHECK(registered.err == (direct ? CU_FILE_INVALID_FILE_OPEN_FLAG : CU_FILE_SUCCESS));
    CHECK(cuFileRead(direct ? host.handle : other, host.base, 12345, 3, 0) == 12345);
    CHECK(host.has(3, 12345));
    CUfileDrvProps_t properties;
    FILE_GIVES(INVALID_VALUE, cuFileDriverGetProperties(nullptr));
    FILE_OK(cuFileDriverGetProperties(&properties));
    CHECK((properties.nvfs.major_version != 0) == direct);
    CHECK((properties.nvfs.dstatusflags >> CU_FILE_NVME_SUPPORTED & 1) == unsigned(direct));
    CHECK((properties.nvfs.dcontrolflags >> CU_FILE_ALLOW_COMPAT_MODE & 1) == unsigned(!direct));
}

/// The second of three reads, all of the same bytes, says `result` and writes `length` of them.
inline void a_read_goes_wrong(ssize_t result, int number, uint64_t length) {
    FileHost host;
    for (const bool wrong : {false, true, false}) {
        host.fill(host.room, 0, FILE_LENGTH);
        host.sync();
        errno = 0;
        CHECK(cuFileRead(host.handle, host.base, 50000, 0, 0) == (wrong ? result : 50000));
        CHECK(errno == (wrong ? number : 0));
        CHECK(host.has(0, wrong ? length : 50000));
    }
}

/// What the first call of each of these functions gives; the second call of each succeeds.
inline void calls_fail(const CUfileError_t& opening, const CUfileError_t& registering, const CUfileError_t& pinning) {
    const auto is = [](const CUfileError_t& left, const CUfileError_t& right) { return left.err == right.err && left.cu_err == right.cu_err; };
    Host host;
    const int descriptor = open_file();
    CUfileHandle_t handle = nullptr;
    void* const base = reinterpret_cast<void*>(host.memory(16));
    CHECK(is(cuFileDriverOpen(), opening));
    FILE_OK(cuFileDriverOpen());
    CHECK(is(try_register(&handle, descriptor), registering));
    if (registering.err != CU_FILE_SUCCESS) FILE_OK(try_register(&handle, descriptor));
    CHECK(is(cuFileBufRegister(base, 16, 0), pinning));
    if (pinning.err != CU_FILE_SUCCESS) FILE_OK(cuFileBufRegister(base, 16, 0));
    CHECK(cuFileRead(handle, base, 16, 0, 0) == 16);
}

inline void cufile_goes_with_the_gpu() {
    int version = 0;
    FILE_OK(cuFileGetVersion(&version));
    OK(cuInit(0));
    CUfileHandle_t handle = nullptr;
    const CUfileError_t lost = cuFileDriverOpen();
    CHECK(lost.err == CU_FILE_CUDA_DRIVER_ERROR && lost.cu_err == CUDA_ERROR_DEVICE_UNAVAILABLE);
    FILE_GIVES(CUDA_DRIVER_ERROR, try_register(&handle, open_file()));
    CHECK(cuFileRead(&handle, &handle, 8, 0, 0) == -ssize_t(CU_FILE_CUDA_DRIVER_ERROR));
}

inline void cufile_calls_are_logged(const std::string& file) {
    OK(cuInit(0));
    FILE_OK(cuFileDriverOpen());
    CUfileHandle_t handle = nullptr;
    FILE_OK(try_register(&handle, open_file()));
    READ_GIVES(EINVAL, cuFileRead(handle, nullptr, 8, 0, 0));
    cuFileHandleDeregister(handle);
    FILE_OK(cuFileDriverClose_v2());
    std::ifstream log(file);
    const std::string text((std::istreambuf_iterator<char>(log)), {});
    CHECK(text == "cuInit\ncuFileDriverOpen\ncuFileHandleRegister\ncuFileRead\ncuFileHandleDeregister\ncuFileDriverClose_v2\n");
}

}  // namespace check
