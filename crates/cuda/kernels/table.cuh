// One launch for all tensors of a model: what the launches are given, and the work that all trees share.
//
// A host lays the leaves of all tensors out in *slots*, `SLOTS` of them to a thread block (256 KiB of data for BLAKE3, 1 MiB for
// SHA-256, 512 KiB for the others):
//
//     block      0            1            2            3                4
//     slots  |aaaaaaaaaaaa|aaaaaaaaaaaa|bbbbbbbbbbbb|aaaaaa..bb......|c.dde.f.gggg....|
//              tensor a: two full pieces and a tail     tail a  tail b  small tensors
//
// - A *piece* is `SLOTS` leaves that begin at a multiple of `SLOTS` of their tensor, or the tensor's rest. A piece is
//   a node of the tensor's tree (docs/spec/digests.md, section 3) and lies in one block.
// - A *run* is a table entry: a tensor's full pieces in a row, or one rest. A rest of n leaves begins at a multiple of
//   the power of two at or above n, so that the pairs of its tree are pairs of aligned slots.
// - `leaves` reduces each piece to one node in shared memory. A tensor of one piece is finished there; others leave
//   their nodes in `nodes`, one after the other.
// - `join` reduces `JOIN` nodes a block to one; it is launched until one node a tensor is left. Two launches
//   behind `leaves` reach 256 GiB a tensor (BLAKE2b 128 GiB, SHA-256 1 TiB); one more, a thousand times that.
//
// Extra memory: a node (32 bytes, BLAKE2b 64) for each block's data and 1/1024 of that again, at most 1/8000 of the data; 48
// bytes a run and at most two runs a tensor; 40 bytes for each tensor of more than one piece.
//
// Nothing needs to be zeroed. Every digest of a table, and every node that is read, is written first by the same launch
// order on one stream. No launch waits for another one's blocks, and nothing synchronises the device.
//
// The host promises: runs sorted by `first`; no two share a slot; `data` + `bytes` are readable device memory that nothing
// writes until the last launch is done; every run's index lies in its buffer. A slot that no run covers is idle.
#pragma once

#include "common.cuh"

namespace sentry {

/// Some leaves of one tensor, in slots one after the other. 48 bytes.
struct Run {
    uint64_t first;       ///< first slot in the launch
    uint64_t data;        ///< address of the first byte; any alignment, 16 bytes is fastest
    uint64_t bytes;       ///< bytes of the run; all leaves are full but the tensor's last one; zero is one empty leaf
    uint64_t first_leaf;  ///< index in the tensor of the first leaf
    uint64_t length;      ///< bytes of the tensor
    uint64_t output;      ///< index of the digest if the run is a whole tensor of one piece, else of its first node
};

/// The nodes of one tensor, to be joined. 40 bytes.
struct Join {
    uint64_t first;   ///< first block in the launch; a block takes `JOIN` nodes
    uint64_t nodes;   ///< index of the first node
    uint64_t count;   ///< nodes
    uint64_t length;  ///< bytes of the tensor
    uint64_t output;  ///< index of the digest if `count` is at most `JOIN`, else of the first node that is written
};

/// The last of `count` (at least one) entries that begins at or before `position`, between the entries `low` and `high`.
template <class Entry>
SENTRY_INLINE uint64_t entry_at(const Entry* entries, uint64_t low, uint64_t high, uint64_t position) {
    while (low < high) {
        const uint64_t middle = low + (high - low + 1) / 2;
        if (entries[middle].first <= position) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

/// A node in memory: 32 bytes, or 64.
template <unsigned WORDS>
struct alignas(16) NodeOf {
    uint32_t word[WORDS];
};

template <unsigned WORDS>
SENTRY_INLINE NodeOf<WORDS> load_node(const NodeOf<WORDS>* from) {
    NodeOf<WORDS> node;
#pragma unroll
    for (unsigned i = 0; i < WORDS / 4; i++) {
        const uint4 v = reinterpret_cast<const uint4*>(from)[i];
        node.word[4 * i] = v.x;
        node.word[4 * i + 1] = v.y;
        node.word[4 * i + 2] = v.z;
        node.word[4 * i + 3] = v.w;
    }
    return node;
}

template <unsigned WORDS>
SENTRY_INLINE void store_node(NodeOf<WORDS>* to, const NodeOf<WORDS>& node) {
#pragma unroll
    for (unsigned i = 0; i < WORDS / 4; i++) {
        reinterpret_cast<uint4*>(to)[i] = make_uint4(node.word[4 * i], node.word[4 * i + 1], node.word[4 * i + 2], node.word[4 * i + 3]);
    }
}

/// Which piece a slot of a block belongs to, in one word: 0 if to none.
struct Place {
    uint32_t bits;

    static SENTRY_INLINE Place of(unsigned start, unsigned end, bool whole) { return {end | start << 12 | uint32_t(whole) << 31}; }
    SENTRY_INLINE bool used() const { return bits != 0; }
    SENTRY_INLINE unsigned end() const { return bits & 0xfff; }             ///< slot behind the piece's last one
    SENTRY_INLINE unsigned start() const { return bits >> 12 & 0xfff; }     ///< first slot of the piece
    SENTRY_INLINE bool whole() const { return bits >> 31; }                 ///< the piece is a whole tensor
};

/// Joins the nodes of every piece in place: what is left stands in the piece's first slot. Neighbours are `step` slots
/// apart; a node without a right neighbour stays where it is, which is to move up unchanged.
template <class Tree, unsigned SLOTS, class PlaceOf>
SENTRY_INLINE void reduce(typename Tree::Node* nodes, PlaceOf place_of, uint32_t one) {
#pragma unroll 1
    for (unsigned step = 1; step < SLOTS; step *= 2) {
        __syncthreads();
#pragma unroll 1
        for (unsigned left = threadIdx.x * 2 * step; left < SLOTS; left += blockDim.x * 2 * step) {
            const Place place = place_of(left);
            if (left + step >= place.end()) continue;
            const bool top = place.whole() && left == place.start() && left + 2 * step >= place.end();
            const typename Tree::Node a = load_node(nodes + left), b = load_node(nodes + left + step);
            store_node(nodes + left, Tree::node(a, b, top, one));
        }
    }
    __syncthreads();
}

/// The body of the launch over leaves: a block takes `Tree::SLOTS` slots.
template <class Tree>
SENTRY_INLINE void hash_leaves(const Run* runs, uint64_t run_count, typename Tree::Node* nodes, typename Tree::Node* digests) {
    constexpr unsigned SLOTS = Tree::SLOTS;
    SENTRY_SHARED(typename Tree::Node, shared, SLOTS);
    SENTRY_SHARED(uint32_t, places, SLOTS);
    const uint32_t one = opaque_one;
    const uint64_t block = uint64_t(blockIdx.x) * SLOTS;
    const uint64_t low = entry_at(runs, 0, run_count - 1, block);
    const uint64_t high = entry_at(runs, low, run_count - 1, block + SLOTS - 1);

#pragma unroll 1
    for (unsigned slot = threadIdx.x; slot < SLOTS; slot += blockDim.x) {
        const Run* run = runs + entry_at(runs, low, high, block + slot);
        const uint64_t first = run->first, bytes = run->bytes;
        const uint64_t leaves = bytes == 0 ? 1 : (bytes + Tree::LEAF - 1) / Tree::LEAF;
        const uint64_t index = block + slot - first;
        Place place = {0};
        if (block + slot >= first && index < leaves) {
            const unsigned start = first > block ? unsigned(first - block) : 0;
            const unsigned end = unsigned(min64(first + leaves - block, SLOTS));
            place = Place::of(start, end, bytes == run->length && leaves <= SLOTS);
            const uint8_t* begin = reinterpret_cast<const uint8_t*>(run->data);
            const bool top = place.whole() && leaves == 1;
            store_node(shared + slot, Tree::leaf(begin, begin + bytes, index, run->first_leaf + index, top, one));
        }
        places[slot] = place.bits;
    }

    reduce<Tree, SLOTS>(shared, [&](unsigned slot) { return Place{places[slot]}; }, one);

#pragma unroll 1
    for (unsigned slot = threadIdx.x; slot < SLOTS; slot += blockDim.x) {
        const Place place = {places[slot]};
        if (!place.used() || place.start() != slot) continue;
        const Run* run = runs + entry_at(runs, low, high, block + slot);
        const typename Tree::Node node = load_node(shared + slot);
        if (place.whole()) {
            store_node(digests + run->output, Tree::finish(node, run->length, one));
        } else {
            store_node(nodes + run->output + (block + slot - run->first) / SLOTS, node);
        }
    }
}

/// The body of a launch over nodes: a block joins at most `Tree::JOIN` of one tensor.
template <class Tree>
SENTRY_INLINE void join_nodes(const Join* joins, uint64_t join_count, typename Tree::Node* nodes, typename Tree::Node* digests) {
    constexpr unsigned SLOTS = Tree::JOIN;
    SENTRY_SHARED(typename Tree::Node, shared, SLOTS);
    const uint32_t one = opaque_one;
    const Join* join = joins + entry_at(joins, 0, join_count - 1, blockIdx.x);
    const uint64_t group = blockIdx.x - join->first;
    const unsigned count = unsigned(min64(join->count - group * SLOTS, SLOTS));
    const bool whole = join->count <= SLOTS;

    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) store_node(shared + i, load_node(nodes + join->nodes + group * SLOTS + i));
    reduce<Tree, SLOTS>(shared, [&](unsigned) { return Place::of(0, count, whole); }, one);

    if (threadIdx.x != 0) return;
    const typename Tree::Node node = load_node(shared);
    if (whole) {
        store_node(digests + join->output, Tree::finish(node, join->length, one));
    } else {
        store_node(nodes + join->output + group, node);
    }
}

}  // namespace sentry
