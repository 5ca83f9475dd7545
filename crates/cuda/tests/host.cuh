// What a host does for the kernels, for tests and benches: lays out the tables of kernels/table.cuh. Plain C++.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <vector>

#include "../kernels/table.cuh"

namespace host {

struct Tensor {
    uint64_t data, bytes;
};

/// The launches for some tensors: `blocks` of leaves, then each of `levels` in turn.
struct Plan {
    struct Level {
        std::vector<sentry::Join> joins;
        uint64_t groups = 0;
    };
    std::vector<sentry::Run> runs;
    uint64_t blocks = 0;
    uint64_t nodes = 0;  ///< nodes that the launches keep between them
    std::vector<Level> levels;
};

inline uint64_t ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

/// Nodes of a tensor that are not one yet.
struct Open {
    uint64_t tensor, length, nodes, count;
};

/// The launches that join nodes until each tensor has one.
template <class Tree>
void plan_joins(Plan& plan, std::vector<Open> open) {
    while (!open.empty()) {
        Plan::Level level;
        std::vector<Open> above;
        for (const Open& o : open) {
            const uint64_t groups = ceil_div(o.count, Tree::JOIN);
            level.joins.push_back({level.groups, o.nodes, o.count, o.length, groups == 1 ? o.tensor : plan.nodes});
            level.groups += groups;
            if (groups > 1) {
                above.push_back({o.tensor, o.length, plan.nodes, groups});
                plan.nodes += groups;
            }
        }
        plan.levels.push_back(level);
        open = above;
    }
}

/// Full pieces first, in the tensors' order; then the rests, from the widest window to the narrowest, so that each begins at a
/// multiple of its window without a gap. Short blocks come last and fill the end of the launch.
template <class Tree>
Plan plan(const std::vector<Tensor>& tensors) {
    constexpr uint64_t SLOTS = Tree::SLOTS, LEAF = Tree::LEAF;
    Plan plan;
    struct Rest {
        uint64_t window;
        sentry::Run run;
    };
    std::vector<Rest> rests;
    std::vector<Open> open;
    uint64_t slot = 0;
    for (uint64_t i = 0; i < tensors.size(); i++) {
        const Tensor& t = tensors[i];
        const uint64_t leaves = t.bytes == 0 ? 1 : ceil_div(t.bytes, LEAF), pieces = ceil_div(leaves, SLOTS);
        const bool one = pieces == 1;
        const uint64_t full = one && leaves < SLOTS ? 0 : leaves / SLOTS;
        const uint64_t output = one ? i : plan.nodes;
        if (full) {
            plan.runs.push_back({slot, t.data, std::min(t.bytes, full * SLOTS * LEAF), 0, t.bytes, output});
            slot += full * SLOTS;
        }
        if (full < pieces) {
            uint64_t window = 1;
            while (window < leaves - full * SLOTS) window *= 2;
            const uint64_t done = full * SLOTS * LEAF;
            rests.push_back({window, {0, t.data + done, t.bytes - done, full * SLOTS, t.bytes, output + (one ? 0 : full)}});
        }
        if (!one) {
            open.push_back({i, t.bytes, plan.nodes, pieces});
            plan.nodes += pieces;
        }
    }
    std::stable_sort(rests.begin(), rests.end(), [](const Rest& a, const Rest& b) { return a.window > b.window; });
    for (Rest& rest : rests) {
        rest.run.first = slot;
        slot += rest.window;
        plan.runs.push_back(rest.run);
    }
    plan.blocks = ceil_div(slot, SLOTS);
    plan_joins<Tree>(plan, open);
    return plan;
}

}  // namespace host
