// Memory as a GPU's driver gives it out: unlike a heap's, it is found again by address, holds anything at first, and
// notices what was written beside it.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <map>
#include <memory>

namespace driver {

/// One allocation, between two pages that nothing may touch. It begins at a multiple of 256, as the driver promises, and ends as
/// near to the second page as that allows; what is left of its own pages on both sides holds guard bytes.
class Allocation {
public:
    /// Null if the system has no memory left.
    static std::unique_ptr<Allocation> make(uint64_t bytes);
    ~Allocation();
    Allocation(const Allocation&) = delete;
    Allocation& operator=(const Allocation&) = delete;

    uint64_t address() const { return reinterpret_cast<uint64_t>(data_); }
    uint64_t bytes() const { return bytes_; }
    /// Ends the process if a guard byte was changed; `when` says what ran last.
    void check(const char* when) const;

private:
    Allocation() = default;

    uint8_t *mapping_ = nullptr, *data_ = nullptr;
    uint64_t mapped_ = 0, bytes_ = 0;
};

/// Allocations of one device, or of the host.
class Memory {
public:
    explicit Memory(uint64_t limit) : limit_(limit) {}

    /// The address of new memory full of random bytes; 0 if it does not fit.
    uint64_t allocate(uint64_t bytes);
    /// Whether `address` was the begin of an allocation, which is now gone.
    bool free(uint64_t address);
    /// Whether all of a range lies in one allocation.
    bool holds(uint64_t address, uint64_t bytes) const;
    /// Whether a byte of a range, which is not empty, lies in an allocation.
    bool touches(uint64_t address, uint64_t bytes) const;
    void check(const char* when) const;
    void clear();

    uint64_t limit() const { return limit_; }
    uint64_t left() const { return limit_ - used_; }

private:
    uint64_t limit_, used_ = 0;
    std::map<uint64_t, std::unique_ptr<Allocation>> allocations_;
};

/// Memory that the host made by itself, and registered so that asynchronous copies may touch it. It stays the host's.
class Registrations {
public:
    struct Range {
        uint64_t bytes;
        bool writable;
        int device;  ///< for which it was registered
    };

    void add(uint64_t address, const Range& range) { ranges_.emplace(address, range); }
    /// Whether `address` was the begin of a range, which is now forgotten.
    bool remove(uint64_t address) { return ranges_.erase(address) != 0; }
    bool has(uint64_t address) const { return ranges_.count(address) != 0; }
    /// The one that all of these bytes lie in; null if there is none.
    const Range* find(uint64_t address, uint64_t bytes) const;
    /// Whether a page of these bytes is registered: pages are what a driver pins.
    bool overlap(uint64_t address, uint64_t bytes) const;

private:
    std::map<uint64_t, Range> ranges_;
};

/// Whether the process may read all of these bytes, or write them.
bool mapped(uint64_t address, uint64_t bytes, bool writable);

}  // namespace driver
