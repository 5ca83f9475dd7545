// The project's kernels, by name.
#pragma once

#include <functional>
#include <string>

namespace driver {

struct Kernel {
    const char* name;
    unsigned threads;  ///< in a block: what its __launch_bounds__ say
    /// Copies the arguments that the addresses name; gives what one thread does. Empty if an address is null.
    std::function<std::function<void()>(void** arguments)> bind;
};

/// Null if there is no kernel of this name.
const Kernel* find_kernel(const std::string& name);

/// Runs all blocks, one after the other, on the calling thread.
void run_kernel(unsigned blocks, unsigned threads, const std::function<void()>& thread);

}  // namespace driver
