"""Sample tables: docs/spec/samples.md, section 4."""

import struct

from blake3 import blake3

from lattice import State, source_tag

ENTRY = 40
PART = 1 << 20


class TableError(ValueError):
    """Not a table."""


def table(entries):
    """The stored form of `(id, digest)` pairs in any order."""
    ordered = sorted(entries)
    encoded = b"".join(struct.pack("<Q", sample_id) + digest for sample_id, digest in ordered)
    parse(encoded)
    return encoded


def parse(encoded):
    """The `(id, digest)` pairs of a stored table."""
    if not encoded or len(encoded) % ENTRY != 0:
        raise TableError("length")
    rows = [encoded[start : start + ENTRY] for start in range(0, len(encoded), ENTRY)]
    entries = [(int.from_bytes(row[:8], "little"), row[8:]) for row in rows]
    for (before, _), (sample_id, _) in zip(entries, entries[1:]):
        if before >= sample_id:
            raise TableError("ids do not ascend")
    return entries


def part_digests(encoded):
    """One BLAKE3 digest for each 2^20 entries."""
    return [blake3(encoded[start : start + PART * ENTRY]).digest() for start in range(0, len(encoded), PART * ENTRY)]


def state(source, encoded):
    """The sum of all samples of a table."""
    tag, total = source_tag(source), State()
    for sample_id, digest in parse(encoded):
        total.add(tag, sample_id, digest)
    return total
