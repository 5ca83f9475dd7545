#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <fstream>
#include <string>

namespace driver {
namespace {

constexpr uint64_t PAGE = 4096, ALIGNMENT = 256;
constexpr uint8_t GUARD = 0xFD;
/// Larger requests are refused before any arithmetic with them.
constexpr uint64_t MOST = UINT64_C(1) << 46;

uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

/// Other bytes in each allocation, and the same ones each time that a program runs (splitmix64).
void fill_randomly(uint8_t* data, uint64_t bytes) {
    static uint64_t state = 0;
    for (uint64_t at = 0; at < bytes; at += 8) {
        uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        z ^= z >> 31;
        memcpy(data + at, &z, bytes - at < 8 ? bytes - at : 8);
    }
}

/// Of less than a page: what an allocation leaves of its own ones. Every launch ends with a look at all of them.
bool untouched(const uint8_t* begin, const uint8_t* end) {
    static const std::string guards(PAGE, char(GUARD));
    return memcmp(begin, guards.data(), size_t(end - begin)) == 0;
}

}  // namespace

std::unique_ptr<Allocation> Allocation::make(uint64_t bytes) {
    if (bytes > MOST) return nullptr;
    const uint64_t own = round_up(round_up(bytes, ALIGNMENT), PAGE);
    void* mapping = mmap(nullptr, own + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    std::unique_ptr<Allocation> made(new Allocation);
    made->mapping_ = static_cast<uint8_t*>(mapping);
    made->mapped_ = own + 2 * PAGE;
    made->data_ = made->mapping_ + PAGE + own - round_up(bytes, ALIGNMENT);
    made->bytes_ = bytes;
    if (mprotect(made->mapping_ + PAGE, own, PROT_READ | PROT_WRITE) != 0) return nullptr;
    uint8_t *const begin = made->mapping_ + PAGE, *const end = begin + own;
    memset(begin, GUARD, made->data_ - begin);
    fill_randomly(made->data_, bytes);
    memset(made->data_ + bytes, GUARD, end - made->data_ - bytes);
    return made;
}

Allocation::~Allocation() { munmap(mapping_, mapped_); }

void Allocation::check(const char* when) const {
    const bool below = untouched(mapping_ + PAGE, data_), above = untouched(data_ + bytes_, mapping_ + mapped_ - PAGE);
    if (below && above) return;
    fprintf(stderr, "emulated CUDA: %s: bytes %s an allocation of %llu bytes were written\n", when, below ? "behind" : "before", (unsigned long long)bytes_);
    abort();
}

uint64_t Memory::allocate(uint64_t bytes) {
    if (bytes > left()) return 0;
    std::unique_ptr<Allocation> made = Allocation::make(bytes);
    if (!made) return 0;
    const uint64_t address = made->address();
    used_ += bytes;
    allocations_.emplace(address, std::move(made));
    return address;
}

bool Memory::free(uint64_t address) {
    const auto found = allocations_.find(address);
    if (found == allocations_.end()) return false;
    found->second->check("at free");
    used_ -= found->second->bytes();
    allocations_.erase(found);
    return true;
}

bool Memory::holds(uint64_t address, uint64_t bytes) const {
    auto above = allocations_.upper_bound(address);
    if (above == allocations_.begin()) return false;
    const Allocation& allocation = *(--above)->second;
    const uint64_t start = address - allocation.address();
    return start <= allocation.bytes() && bytes <= allocation.bytes() - start;
}

bool Memory::touches(uint64_t address, uint64_t bytes) const {
    auto above = allocations_.lower_bound(address + bytes);
    if (above == allocations_.begin()) return false;
    const Allocation& last = *(--above)->second;
    return address < last.address() + last.bytes();
}

void Memory::check(const char* when) const {
    for (const auto& [address, allocation] : allocations_) allocation->check(when);
}

void Memory::clear() {
    check("at the end of the context");
    allocations_.clear();
    used_ = 0;
}

const Registrations::Range* Registrations::find(uint64_t address, uint64_t bytes) const {
    auto above = ranges_.upper_bound(address);
    if (above == ranges_.begin()) return nullptr;
    const auto& [begin, range] = *--above;
    const uint64_t start = address - begin;
    return start <= range.bytes && bytes <= range.bytes - start ? &range : nullptr;
}

bool Registrations::overlap(uint64_t address, uint64_t bytes) const {
    const uint64_t begin = address / PAGE * PAGE, end = round_up(address + bytes, PAGE);
    auto above = ranges_.lower_bound(end);
    if (above == ranges_.begin()) return false;
    const auto& [last, range] = *--above;
    return begin < round_up(last + range.bytes, PAGE);
}

bool mapped(uint64_t address, uint64_t bytes, bool writable) {
    std::ifstream maps("/proc/self/maps");
    const uint64_t end = address + bytes;
    std::string line;
    // Up to `address`, everything is known to be there.
    while (address < end && std::getline(maps, line)) {
        unsigned long long first, last;
        char permissions[5];
        if (sscanf(line.c_str(), "%llx-%llx %4s", &first, &last, permissions) != 3) return false;
        if (last <= address) continue;
        if (first > address || permissions[0] != 'r' || (writable && permissions[1] != 'w')) return false;
        address = last;
    }
    return address >= end;
}

}  // namespace driver
