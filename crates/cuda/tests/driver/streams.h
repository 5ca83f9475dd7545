// Streams and events. Work is kept until something waits for it: then the work before that point of its stream is done, what
// that depends on in other streams is done first, and nothing else. So a wait that the host forgot, or a buffer that it
// uses again too early, makes a wrong digest, where on a GPU it would do so once in a thousand runs.
#pragma once

#include <stdint.h>

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "memory.h"
#include "api.h"

namespace driver {

struct Stream;

/// A GPU, as far as the work on it is concerned.
struct Device {
    Device(int ordinal, uint64_t bytes) : ordinal(ordinal), memory(bytes) {}

    int ordinal;
    Memory memory;
    CUresult broken = CUDA_SUCCESS;  ///< what work failed with; nothing is done or accepted from then on
    uint64_t retained = 0;           ///< how often the primary context was asked for
    std::shared_ptr<Stream> legacy;  ///< the default stream
};

using Work = std::function<CUresult()>;

/// Work in its order. The first piece has the number 1.
struct Stream {
    Device* device = nullptr;
    bool blocking = false;                 ///< takes turns with the default stream
    const struct Context* part = nullptr;  ///< the green context that it belongs to
    bool asked = false;                    ///< a query said that it is not ready
    uint64_t queued = 0, done = 0;
    std::deque<Work> work;

    void push(Work piece) {
        work.push_back(std::move(piece));
        queued++;
        asked = false;
    }
    /// Forgets what was not done.
    void abandon();
};

/// A place in a stream: behind its first `number` pieces of work.
struct Point {
    std::shared_ptr<Stream> stream;
    uint64_t number;

    static Point now(const std::shared_ptr<Stream>& stream) { return {stream, stream->queued}; }
    bool reached() const { return stream->done >= number; }
    /// Does the work up to here. After a failure work is only taken off.
    void reach() const;
};

/// What cuEventRecord leaves in a stream.
struct Mark {
    Point point;
    double milliseconds = 0;  ///< when it was reached
};

struct Event {
    Device* device;
    bool timed;
    bool asked = false;
    std::shared_ptr<Mark> mark;  ///< the latest; none before the first
};

/// The answer to a query: the first one says that work is not ready, even if nobody else would do it meanwhile; the second one does it.
CUresult query(const Point& point, bool& asked);

/// Puts a mark behind the stream's work.
void record(Event& event, const std::shared_ptr<Stream>& stream);

/// Queues a wait for a place in another stream.
void wait(Stream& stream, const Point& point);

}  // namespace driver
