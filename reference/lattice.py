"""The lattice: docs/spec/samples.md, sections 2 and 3."""

import hashlib
import struct

from blake3 import blake3

LANES = 1024
MAX_SAMPLES = 1 << 40
MAX_SOURCE_NAME = 4096


class LatticeError(ValueError):
    """Not a set of samples that has a state or a digest."""


def source_tag(name):
    encoded = name.encode()
    if not 1 <= len(encoded) <= MAX_SOURCE_NAME:
        raise LatticeError("length of a source's name")
    return blake3(encoded, derive_key_context="sentry-ml/v1 source").digest()[:24]


def path_id(path):
    return int.from_bytes(blake3(path.encode(), derive_key_context="sentry-ml/v1 id").digest()[:8], "little")


def element(tag, sample_id, digest):
    """1024 lanes of 16 bits."""
    block = tag + struct.pack("<Q", sample_id) + digest
    assert len(block) == 64
    output = blake3(block, derive_key_context="sentry-ml/v1 element").digest(length=2 * LANES)
    return list(struct.unpack(f"<{LANES}H", output))


class State:
    """A sum of elements, and how many they are. It cannot see an id that is added twice."""

    def __init__(self, lanes=None, count=0):
        self.lanes = lanes or [0] * LANES
        self.count = count

    def _combine(self, lanes, sign, samples):
        count = self.count + sign * samples
        if not 0 <= count <= MAX_SAMPLES:
            raise LatticeError("number of samples")
        self.lanes = [(a + sign * b) % 2**16 for a, b in zip(self.lanes, lanes, strict=True)]
        self.count = count

    def add(self, tag, sample_id, digest):
        self._combine(element(tag, sample_id, digest), 1, 1)

    def remove(self, tag, sample_id, digest):
        self._combine(element(tag, sample_id, digest), -1, 1)

    def merge(self, other):
        self._combine(other.lanes, 1, other.count)

    def to_bytes(self):
        return struct.pack(f"<{LANES}H", *self.lanes)

    def digest(self):
        if self.count == 0:
            raise LatticeError("an empty set has no digest")
        return hashlib.sha256(b"sentry-ml/v1 lattice" + struct.pack("<Q", self.count) + self.to_bytes()).digest()


class Partial:
    """A part of one source's samples: the sum, and the ids, of which none may come twice."""

    def __init__(self, source):
        self.tag, self.state, self.ids = source_tag(source), State(), set()

    def insert(self, sample_id, digest):
        if sample_id in self.ids:
            raise LatticeError("an id twice")
        self.state.add(self.tag, sample_id, digest)
        self.ids.add(sample_id)

    def merge(self, other):
        if self.tag != other.tag:
            raise LatticeError("parts of two sources")
        if self.ids & other.ids:
            raise LatticeError("an id twice")
        self.state.merge(other.state)
        self.ids |= other.ids
