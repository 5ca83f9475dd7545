#include "streams.h"

#include <chrono>

namespace driver {

void Point::reach() const {
    while (!reached()) {
        const Work piece = std::move(stream->work.front());
        stream->work.pop_front();
        CUresult& broken = stream->device->broken;
        if (broken == CUDA_SUCCESS) {
            const CUresult status = piece();
            if (broken == CUDA_SUCCESS) broken = status;
        }
        stream->done++;
    }
}

void Stream::abandon() {
    work.clear();
    done = queued;
}

CUresult query(const Point& point, bool& asked) {
    if (point.reached()) return CUDA_SUCCESS;
    if (!asked) {
        asked = true;
        return CUDA_ERROR_NOT_READY;
    }
    asked = false;
    point.reach();
    return point.stream->device->broken;
}

void record(Event& event, const std::shared_ptr<Stream>& stream) {
    const auto mark = std::make_shared<Mark>();
    stream->push([mark] {
        const auto now = std::chrono::steady_clock::now().time_since_epoch();
        mark->milliseconds = std::chrono::duration<double, std::milli>(now).count();
        return CUDA_SUCCESS;
    });
    mark->point = Point::now(stream);
    event.mark = mark;
    event.asked = false;
}

void wait(Stream& stream, const Point& point) {
    if (point.stream.get() == &stream || point.reached()) return;
    stream.push([point] {
        point.reach();
        return CUDA_SUCCESS;
    });
}

}  // namespace driver
