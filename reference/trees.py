"""Merkle trees over serial hashes: docs/spec/digests.md, section 2."""

import hashlib

LEAF = 4096


class Tree:
    """One of the three trees; `block` is the block size of the hash in bytes."""

    def __init__(self, name, hash_name, block):
        self.name, self.hash_name, self.block = name, hash_name, block

    def h(self, message):
        return hashlib.new(self.hash_name, message).digest()

    def p(self, purpose):
        """The prefix: one whole block."""
        return (b"sentry-ml/tree/v1/" + purpose).ljust(self.block, b"\0")

    def leaf(self, piece):
        return self.h(self.p(b"leaf") + piece)

    def node(self, left, right):
        return self.h(self.p(b"node") + left + right)

    def root(self, length, top):
        return self.h(self.p(b"root") + length.to_bytes(8, "little") + top)

    def leaves(self, message):
        """One leaf for each 4096 bytes; an empty message has one empty leaf."""
        starts = range(0, max(len(message), 1), LEAF)
        return [self.leaf(message[start : start + LEAF]) for start in starts]

    def levels(self, leaves):
        """All levels, from the leaves to the top node."""
        levels = [leaves]
        while len(levels[-1]) > 1:
            level = levels[-1]
            pairs = zip(level[0::2], level[1::2])
            above = [self.node(left, right) for left, right in pairs]
            if len(level) % 2 == 1:
                above.append(level[-1])  # an odd last node moves up unchanged
            levels.append(above)
        return levels

    def digest_of_leaves(self, length, leaves):
        [top] = self.levels(leaves)[-1]
        return self.root(length, top)

    def digest(self, message):
        return self.digest_of_leaves(len(message), self.leaves(message))


TREES = [
    Tree("sha256-tree", "sha256", 64),
    Tree("blake2b-tree", "blake2b", 128),
    Tree("sha3-256-tree", "sha3_256", 136),
]
