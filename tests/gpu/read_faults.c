// Reads that fail, are late, or end early: to be loaded before the C library (LD_PRELOAD).
//
// set_read_fault says which: it applies to the NTH large read of a file by position from then on, and "delay" to all of them. To be called
// while no load is under way.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

typedef ssize_t (*Read)(int, void*, size_t, off_t);

static char kind[16];
static int nth;
static atomic_int count;

void set_read_fault(const char* new_kind, int new_nth) {
    snprintf(kind, sizeof kind, "%s", new_kind);
    nth = new_nth;
    atomic_store(&count, 0);
}

// How many large reads there were since.
int large_reads(void) { return atomic_load(&count); }

static ssize_t faulty(const char* name, int file, void* room, size_t bytes, off_t offset) {
    const Read read = (Read)dlsym(RTLD_NEXT, name);
    // Small ones are of the program's own start.
    if (!kind[0] || bytes < 65536) return read(file, room, bytes, offset);
    const int number = atomic_fetch_add(&count, 1) + 1;
    if (!strcmp(kind, "delay")) {
        const struct timespec time = {0, (number % 7) * 1000000L};
        nanosleep(&time, NULL);
    } else if (number == nth && !strcmp(kind, "error")) {
        errno = EIO;
        return -1;
    } else if (number == nth && !strcmp(kind, "end")) {
        return 0;
    } else if (number >= nth && !strcmp(kind, "short")) {
        return read(file, room, bytes / 2 + 1, offset);
    } else if (number == nth && !strcmp(kind, "wrong")) {
        const ssize_t done = read(file, room, bytes, offset);
        if (done > 0) ((unsigned char*)room)[done / 2] ^= 1;
        return done;
    }
    return read(file, room, bytes, offset);
}

ssize_t pread(int file, void* room, size_t bytes, off_t offset) { return faulty("pread", file, room, bytes, offset); }

ssize_t pread64(int file, void* room, size_t bytes, off_t offset) { return faulty("pread64", file, room, bytes, offset); }
