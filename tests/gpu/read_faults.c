// Reads that fail, are late, or end early: to be loaded before the C library (LD_PRELOAD).
//
// READ_FAULTS=KIND:NTH applies to the NTH read of a file by position, and for "delay" to all of them.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

typedef ssize_t (*Read)(int, void*, size_t, off_t);

static ssize_t faulty(const char* name, int file, void* room, size_t bytes, off_t offset) {
    static atomic_int count;
    const Read read = (Read)dlsym(RTLD_NEXT, name);
    const char* fault = getenv("READ_FAULTS");
    // Small ones are of the program's own start.
    if (!fault || bytes < 65536) return read(file, room, bytes, offset);
    const int number = atomic_fetch_add(&count, 1) + 1, nth = atoi(strchr(fault, ':') + 1);
    if (!strncmp(fault, "delay", 5)) {
        const struct timespec time = {0, (number % 7) * 1000000L};
        nanosleep(&time, NULL);
    } else if (number == nth && !strncmp(fault, "error", 5)) {
        errno = EIO;
        return -1;
    } else if (number == nth && !strncmp(fault, "end", 3)) {
        return 0;
    } else if (number >= nth && !strncmp(fault, "short", 5)) {
        return read(file, room, bytes / 2 + 1, offset);
    } else if (number == nth && !strncmp(fault, "wrong", 5)) {
        const ssize_t done = read(file, room, bytes, offset);
        if (done > 0) ((unsigned char*)room)[done / 2] ^= 1;
        return done;
    }
    return read(file, room, bytes, offset);
}

ssize_t pread(int file, void* room, size_t bytes, off_t offset) { return faulty("pread", file, room, bytes, offset); }

ssize_t pread64(int file, void* room, size_t bytes, off_t offset) { return faulty("pread64", file, room, bytes, offset); }
