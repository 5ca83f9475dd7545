// What a host does for kernels/samples.cu, for tests and benches: the record with its holes, and the table of them. Plain C++.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <string>
#include <vector>

namespace host {

/// A field of all samples of a launch, and where its bodies lie.
struct Column {
    std::string name, type;
    std::vector<uint64_t> dimensions;
    uint64_t bytes, data, stride;

    bool hashed() const { return bytes > 64; }
};

/// The record of one sample with zeroes for all bodies, and where these begin. An empty body leaves no hole.
struct Layout {
    struct Place {
        size_t column;
        uint64_t offset;
    };
    std::vector<uint8_t> record;  ///< with zeroes up to a multiple of 64
    uint64_t record_bytes = 0;
    std::vector<Place> places;  ///< by offset
    uint64_t hashed = 0;        ///< how many columns are hashed first

    /// Bytes of memory that a sample of a batch takes.
    uint64_t batch_bytes() const { return 40 + 32 * hashed; }
};

inline Layout layout(const std::vector<Column>& columns) {
    std::vector<size_t> order(columns.size());
    for (size_t i = 0; i < order.size(); i++) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return columns[a].name < columns[b].name; });
    Layout layout;
    const auto integer = [&](uint64_t value, int bytes) {
        for (int i = 0; i < bytes; i++) layout.record.push_back(uint8_t(value >> 8 * i));
    };
    const auto text = [&](const std::string& text) {
        integer(text.size(), 4);
        layout.record.insert(layout.record.end(), text.begin(), text.end());
    };
    for (size_t i : order) {
        const Column& column = columns[i];
        text(column.name);
        text(column.type);
        integer(column.dimensions.size(), 4);
        for (uint64_t d : column.dimensions) integer(d, 8);
        integer(column.bytes, 8);
        if (column.bytes) layout.places.push_back({i, layout.record.size()});
        layout.record.resize(layout.record.size() + (column.hashed() ? 32 : column.bytes));
        layout.hashed += column.hashed();
    }
    layout.record_bytes = layout.record.size();
    layout.record.resize((layout.record_bytes + 63) / 64 * 64);
    return layout;
}

/// The table of a batch that begins with sample `first`. The digests of its n-th hashed column lie at `digests` + n * `room` * 32.
inline std::vector<sentry::samples::Hole> holes(const Layout& layout, const std::vector<Column>& columns, uint64_t first, uint64_t digests, uint64_t room) {
    std::vector<sentry::samples::Hole> holes;
    uint64_t n = 0;
    for (const auto& place : layout.places) {
        const Column& column = columns[place.column];
        if (column.hashed()) {
            holes.push_back({place.offset, digests + n++ * room * 32, 32, 32});
        } else {
            holes.push_back({place.offset, column.data + first * column.stride, column.stride, column.bytes});
        }
    }
    return holes;
}

/// Bodies that a block of sentry_sample_bodies takes.
inline uint64_t bodies_each(uint64_t bytes) { return sentry::samples::THREADS / std::max<uint64_t>(1, (bytes + 1023) / 1024); }

}  // namespace host
