"""Class tree: files that a careless tree hash takes for each other.

Two kinds: a signed model whose blob is replaced by its confusable twin (BLAKE3 is a tree, and the annotation of every
file), and `sentry hash` under the Merkle trees, compared with the construction written out here.
"""

import hashlib
import json

import blake3
from kit import process
from kit.case import Attempt, Script, rejected
from kit.tensors import pattern
from kit.world import BLOB

case = rejected("tree")

LEAF, CHUNK = 4096, 1024
TREES = {
    "sha256-tree": (hashlib.sha256, 64),
    "blake2b-tree": (hashlib.blake2b, 128),
    "sha3-256-tree": (hashlib.sha3_256, 136),
}


class Careful:
    """A Merkle tree as specified, and the parts of it that an attacker would put into a file."""

    def __init__(self, name, leaf_size=LEAF):
        self.hash, self.block = TREES[name]
        self.leaf_size = leaf_size

    def h(self, purpose, *parts):
        prefix = (b"sentry-ml/tree/v1/" + purpose).ljust(self.block, b"\0")
        return self.hash(prefix + b"".join(parts)).digest()

    def leaves(self, message):
        starts = range(0, max(1, len(message)), self.leaf_size)
        return [self.h(b"leaf", message[at : at + self.leaf_size]) for at in starts]

    def digest(self, message):
        level = self.leaves(message)
        while len(level) > 1:
            odd = [level[-1]] if len(level) % 2 else []
            pairs = zip(level[::2], level[1::2])
            level = [self.h(b"node", left, right) for left, right in pairs] + odd
        return self.h(b"root", len(message).to_bytes(8, "little"), level[0]).hex()


def told_apart(world, twins):
    """A script: `twins(tree)` gives an honest message and its twins; the program must give the specified digest for
    the honest one and for each twin, and those differ."""

    def run(sentry):
        problems = []
        for name in TREES:
            honest, others = twins(Careful(name))
            digests = [hashed(sentry, world, name, message) for message in (honest, *others)]
            expected = [Careful(name).digest(message) for message in (honest, *others)]
            if digests != expected:
                problems.append(f"{name}: {digests}, by the specification {expected}")
            if digests[0] in digests[1:]:
                problems.append(f"{name}: a twin has the digest of the honest message")
        return problems

    return Script(run)


def hashed(sentry, world, algorithm, message):
    """The program's digest of a file, whatever it is; an error is no digest."""
    path = world.root / "message.bin"
    path.write_bytes(message)
    outcome = process.run(sentry, Attempt(["hash", str(path), "--hash", algorithm, "--json"]), world.root)
    if outcome.code != 0:
        return f"exit {outcome.code}: {outcome.stderr[-200:]}"
    return json.loads(outcome.stdout)["files"][0]["digest"]


@case("told apart", naive=False)
def second_preimage_node_as_leaf(world):
    """The input of a node, and the two digests in it, as messages of their own."""

    def twins(tree):
        honest = pattern(2 * LEAF)
        left, right = tree.leaves(honest)
        node = b"sentry-ml/tree/v1/node".ljust(tree.block, b"\0") + left + right
        return honest, [left + right, node, tree.h(b"node", left, right)]

    return told_apart(world, twins)


@case("told apart", naive=False)
def odd_leaf_duplicated(world):
    """Three leaves, and the same with the last one twice (CVE-2012-2459); one leaf and the same twice."""

    def twins(_):
        honest = pattern(3 * LEAF)
        return honest, [honest + honest[2 * LEAF :], honest[:LEAF], honest[:LEAF] * 2, honest[: 2 * LEAF] * 2]

    return told_apart(world, twins)


@case("told apart", naive=False)
def chunk_size_changed(world):
    """The tree of the same bytes with leaves of another size has another digest."""

    def run(sentry):
        message = pattern(5 * LEAF + 7)
        problems = []
        for name in TREES:
            digest = hashed(sentry, world, name, message)
            others = [Careful(name, size).digest(message) for size in (1024, 2048, 8192, 65536)]
            if digest != Careful(name).digest(message) or digest in others:
                problems.append(f"{name}: {digest} is not that of leaves of {LEAF} bytes alone")
        return problems

    return Script(run)


@case("told apart", naive=False)
def block_permutation(world):
    """The same leaves in another order, and the same blocks of a hash within a leaf."""

    def twins(tree):
        leaves = [bytes([number]) * LEAF for number in range(5)]
        swapped = leaves[1:2] + leaves[:1] + leaves[2:]
        blocks = pattern(LEAF)
        inside = blocks[tree.block : 2 * tree.block] + blocks[: tree.block] + blocks[2 * tree.block :]
        return b"".join(leaves), [b"".join(swapped), b"".join(reversed(leaves)), inside + b"".join(leaves[1:])]

    return told_apart(world, twins)


def replaced(world, honest, twin, **options):
    """A model whose blob is signed as one message and is another."""
    world.base()
    world.write(BLOB, honest)
    world.sign(world.statement(**options))
    world.write(BLOB, twin)
    return world.verify(differences={("changed_file", BLOB, None)})


def chaining_values(message):
    """What stands for the two halves of a message of two chunks in BLAKE3's root: the hash of each alone is not it, and
    neither may pass for the message."""
    return b"".join(blake3.blake3(message[at : at + CHUNK]).digest() for at in (0, CHUNK))


@case("model_differs")
def second_preimage_node_as_leaf__blake3_model(world):
    honest = pattern(2 * CHUNK)
    return replaced(world, honest, chaining_values(honest), algorithm="blake3")


@case("model_differs")
def odd_leaf_duplicated__blake3_model(world):
    honest = pattern(3 * CHUNK)
    return replaced(world, honest, honest + honest[2 * CHUNK :], algorithm="blake3")


@case("model_differs")
def block_permutation__chunks_of_a_blake3_model(world):
    honest = b"".join(bytes([number]) * CHUNK for number in range(5))
    return replaced(world, honest, honest[CHUNK : 2 * CHUNK] + honest[:CHUNK] + honest[2 * CHUNK :], algorithm="blake3")


@case("model_differs")
def block_permutation__shards_of_a_model(world):
    """The shards of a file, each with its own digest, exchanged on the disk."""
    honest = pattern(3000)
    world.base()
    world.write(BLOB, honest)
    world.sign(world.statement(algorithm="sha256", shard_size=1000))
    world.write(BLOB, honest[1000:2000] + honest[:1000] + honest[2000:])
    return world.verify(differences={("changed_file", BLOB, None)})


@case("model_differs")
def chunk_size_changed__shards_of_a_model(world):
    """The file is cut to what its last shard begins with: every shard but the last is whole."""
    honest = pattern(3000)
    world.base()
    world.write(BLOB, honest)
    world.sign(world.statement(algorithm="sha256", shard_size=1000))
    world.write(BLOB, honest[:2999])
    return world.verify(differences={("changed_file", BLOB, None)})
