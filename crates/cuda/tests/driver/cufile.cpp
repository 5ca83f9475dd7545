// cuFile over the emulated driver: files are read by the system and put into the memory of an emulated GPU.
//
// Statuses are those that the library of version 1.20 was seen to return. Stricter than that one where a host could get away with a fault:
// cuFileDriverOpen comes first, and after cuInit; memory is that of the current GPU and never the host's; a range must lie in its allocation
// even if it is not registered; a file that is only written to is refused; and to deregister a handle that is not registered
// ends the process. The file is read without a lock, so that many threads may.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cufile_bridge.h"

namespace {

constexpr int VERSION = 1140;
constexpr size_t PIECE = 1 << 20;

/// Thrown inside a call, which returns it.
struct Failure {
    CUfileError_t error;
};

void require(bool condition, CUfileOpError error = CU_FILE_INVALID_VALUE) {
    if (!condition) throw Failure{{error, CUDA_SUCCESS}};
}

void require(const CUfileError_t& result) {
    if (result.err != CU_FILE_SUCCESS) throw Failure{result};
}

/// A registered file. It is read through a descriptor of its own, which knows no alignment.
struct File {
    int theirs, ours;
    dev_t device;
    ino_t inode;

    File(int theirs, const struct stat& status) : theirs(theirs), device(status.st_dev), inode(status.st_ino) {
        ours = open(("/proc/self/fd/" + std::to_string(theirs)).c_str(), O_RDONLY | O_CLOEXEC);
        require(ours >= 0, CU_FILE_GETNEWFD_FAILED);
    }
    ~File() { close(ours); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    /// Whether the descriptor that was registered is still open, and still this file.
    bool there() const {
        struct stat now;
        return fstat(theirs, &now) == 0 && now.st_dev == device && now.st_ino == inode;
    }
};

struct State {
    std::mutex lock;
    uint64_t opened = 0, reading = 0;
    std::map<CUfileHandle_t, std::shared_ptr<File>> files;
    std::map<const void*, size_t> buffers;

    std::shared_ptr<File> file(CUfileHandle_t handle) const {
        const auto found = files.find(handle);
        require(found != files.end(), CU_FILE_HANDLE_NOT_REGISTERED);
        return found->second;
    }
};

// Never destroyed: other threads may call until the process ends.
State& state() {
    static State* const made = new State;
    return *made;
}

/// The frame of the functions that return a status; `open` says that the driver must be.
template <class Body>
CUfileError_t call(const char* name, bool open, Body body) noexcept {
    const driver::FileFate fate = sentry_emulated_file_fate(name);
    if (fate.failure.err != CU_FILE_SUCCESS) return fate.failure;
    State& s = state();
    const std::lock_guard<std::mutex> guard(s.lock);
    try {
        require(!open || s.opened > 0, CU_FILE_DRIVER_NOT_INITIALIZED);
        body(s, fate);
        return {CU_FILE_SUCCESS, CUDA_SUCCESS};
    } catch (const Failure& failure) {
        return failure.error;
    }
}

CUfileError_t close_driver(const char* name) {
    return call(name, true, [](State& s, const driver::FileFate&) {
        require(s.opened > 1 || s.reading == 0, CU_FILE_DRIVER_CLOSING);
        if (--s.opened > 0) return;
        s.files.clear();
        s.buffers.clear();
    });
}

/// A read that goes on. The driver is not closed meanwhile.
class Reading {
public:
    Reading(CUfileHandle_t handle, const void* base, size_t bytes, uint64_t base_offset) {
        State& s = state();
        const std::lock_guard<std::mutex> guard(s.lock);
        file_ = s.file(handle);
        const auto buffer = s.buffers.find(base);
        const bool inside = buffer == s.buffers.end() || (base_offset <= buffer->second && bytes <= buffer->second - base_offset);
        require(inside, CU_FILE_INVALID_MAPPING_RANGE);
        s.reading++;
    }
    ~Reading() {
        const std::lock_guard<std::mutex> guard(state().lock);
        state().reading--;
    }
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

    const File& file() const { return *file_; }

private:
    std::shared_ptr<File> file_;
};

/// How many bytes came; -1 with an errno if there was none of them.
ssize_t read_file(const File& file, uint64_t to, size_t bytes, off_t offset, bool skipped) {
    std::vector<uint8_t> piece(std::min(bytes, PIECE));
    size_t done = 0;
    while (done < bytes) {
        const ssize_t got = pread(file.ours, piece.data(), std::min(piece.size(), bytes - done), offset + off_t(done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && done == 0) return -1;
        if (got <= 0) break;
        if (!skipped) require(sentry_emulated_file_store(to + done, piece.data(), size_t(got)));
        done += size_t(got);
    }
    return ssize_t(done);
}

ssize_t error_number(int number) {
    errno = number;
    return -1;
}

}  // namespace

SENTRY_FILE_API(CUfileError_t) cuFileGetVersion(int* version) {
    return call("cuFileGetVersion", false, [=](State&, const driver::FileFate&) {
        require(version);
        *version = VERSION;
    });
}

// As often as it is opened it has to be closed.
SENTRY_FILE_API(CUfileError_t) cuFileDriverOpen(void) {
    return call("cuFileDriverOpen", false, [](State& s, const driver::FileFate& fate) {
        require(fate.started ? CUfileError_t{CU_FILE_SUCCESS, CUDA_SUCCESS} : CUfileError_t{CU_FILE_CUDA_DRIVER_ERROR, CUDA_ERROR_NOT_INITIALIZED});
        s.opened++;
    });
}

SENTRY_FILE_API(CUfileError_t) cuFileDriverClose(void) { return close_driver("cuFileDriverClose"); }

SENTRY_FILE_API(CUfileError_t) cuFileDriverClose_v2(void) { return close_driver("cuFileDriverClose_v2"); }

SENTRY_FILE_API(CUfileError_t) cuFileDriverGetProperties(CUfileDrvProps_t* properties) {
    return call("cuFileDriverGetProperties", false, [=](State&, const driver::FileFate& fate) {
        require(properties);
        *properties = {};
        if (fate.direct) {
            properties->nvfs.major_version = 2;
            properties->nvfs.minor_version = 24;
            properties->nvfs.dstatusflags = 1 << CU_FILE_NVME_SUPPORTED;
        } else {
            properties->nvfs.dcontrolflags = 1 << CU_FILE_ALLOW_COMPAT_MODE;
        }
        properties->nvfs.max_direct_io_size = 16 << 10;  // KiB
    });
}

SENTRY_FILE_API(CUfileError_t) cuFileHandleRegister(CUfileHandle_t* handle, CUfileDescr_t* description) {
    return call("cuFileHandleRegister", true, [=](State& s, const driver::FileFate& fate) {
        static uint64_t last = 0;
        require(handle && description);
        require(description->type == CU_FILE_HANDLE_TYPE_OPAQUE_FD, CU_FILE_IO_NOT_SUPPORTED);
        const int descriptor = description->handle.fd, flags = fcntl(descriptor, F_GETFL);
        struct stat status;
        require(flags >= 0 && fstat(descriptor, &status) == 0);
        require(S_ISREG(status.st_mode), CU_FILE_INVALID_FILE_TYPE);
        for (const auto& [other, file] : s.files) require(file->theirs != descriptor, CU_FILE_HANDLE_ALREADY_REGISTERED);
        require((flags & O_ACCMODE) != O_WRONLY && (!fate.direct || (flags & O_DIRECT)), CU_FILE_INVALID_FILE_OPEN_FLAG);
        const auto file = std::make_shared<File>(descriptor, status);
        *handle = reinterpret_cast<CUfileHandle_t>(UINT64_C(0x0c0f'11e0'0000'0000) + 16 * ++last);
        s.files.emplace(*handle, file);
    });
}

SENTRY_FILE_API(void) cuFileHandleDeregister(CUfileHandle_t handle) {
    const driver::FileFate fate = sentry_emulated_file_fate("cuFileHandleDeregister");
    if (fate.failure.err != CU_FILE_SUCCESS) return;
    const std::lock_guard<std::mutex> guard(state().lock);
    if (state().files.erase(handle) != 0) return;
    fprintf(stderr, "emulated cuFile: a handle that is not registered was deregistered\n");
    abort();
}

SENTRY_FILE_API(CUfileError_t) cuFileBufRegister(const void* base, size_t bytes, int flags) {
    return call("cuFileBufRegister", true, [=](State& s, const driver::FileFate&) {
        require(base && bytes > 0 && (flags & ~(CU_FILE_RDMA_REGISTER | CU_FILE_RDMA_RELAXED_ORDERING)) == 0);
        require(s.buffers.count(base) == 0, CU_FILE_MEMORY_ALREADY_REGISTERED);
        require(sentry_emulated_file_store(reinterpret_cast<CUdeviceptr>(base), nullptr, bytes));
        s.buffers.emplace(base, bytes);
    });
}

SENTRY_FILE_API(CUfileError_t) cuFileBufDeregister(const void* base) {
    return call("cuFileBufDeregister", true, [=](State& s, const driver::FileFate&) {
        require(base);
        require(s.buffers.erase(base) != 0, CU_FILE_MEMORY_NOT_REGISTERED);
    });
}

// A failure that was asked for comes as cufile.h has it, a negative number; what is refused here, as the library does it, which
// returns -1 and leaves the number in errno. A host must know both.
SENTRY_FILE_API(ssize_t) cuFileRead(CUfileHandle_t handle, void* base, size_t bytes, off_t file_offset, off_t base_offset) {
    const driver::FileFate fate = sentry_emulated_file_fate("cuFileRead");
    if (fate.error_number != 0) return error_number(fate.error_number);
    if (fate.failure.err != CU_FILE_SUCCESS) return -ssize_t(fate.failure.err);
    if (handle == nullptr || base == nullptr) return error_number(EINVAL);
    try {
        require(file_offset >= 0 && base_offset >= 0 && bytes <= size_t(INT64_MAX - file_offset));
        const Reading reading(handle, base, bytes, uint64_t(base_offset));
        if (!reading.file().there()) return error_number(EPERM);
        if (bytes == 0) return 0;
        const uint64_t to = reinterpret_cast<uint64_t>(base) + uint64_t(base_offset);
        require(sentry_emulated_file_store(to, nullptr, bytes));
        return read_file(reading.file(), to, std::min(bytes, fate.most), file_offset, fate.skipped);
    } catch (const Failure& failure) {
        return error_number(int(failure.error.err));
    }
}
