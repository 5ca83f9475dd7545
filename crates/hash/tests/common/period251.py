#!/usr/bin/env python3
"""Makes period251.txt: known answers for messages 0, 1, ..., 250, 0, 1, ... of the lengths at which hashes go wrong.

None of the code under test takes part. SHA-256, SHA3-256 and BLAKE2b are those of Python's hashlib. BLAKE3 is written
here from its specification (BLAKE3 paper, sections 2.1 to 2.6) and checked against the official vectors first.

    python3 crates/hash/tests/common/period251.py > crates/hash/tests/common/period251.txt
"""

import hashlib
import json
import pathlib
import struct

VECTORS = pathlib.Path(__file__).parents[4] / "vectors" / "blake" / "blake3.json"

# Ends of a block, of its padding and of the length field: SHA-256 (64), BLAKE2b (128), SHA3-256 (136).
AROUND_BLOCKS = [56, 64, 112, 120, 128, 136, 192, 256, 272]
# BLAKE3's chunks and subtrees; the units in which files and long messages are cut.
AROUND_CHUNKS = [1 << 10, 2 << 10, 3 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 512 << 10, 1 << 20, 2 << 20]
OTHERS = [0, 1, 2, 250, 251, 252, 31744, 102400, 3 * (1 << 20) + 5, 5 * (1 << 20) - 7]

CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)
WORD = 0xFFFFFFFF


def compress(chaining_value, block, counter, length, flags):
    """The first eight words of the compression function's output."""
    state = [*chaining_value, *IV[:4], counter & WORD, counter >> 32, length, flags]
    words = struct.unpack("<16I", block.ljust(64, b"\0"))
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(COLUMNS_AND_DIAGONALS):
            for word, right_d, right_b in ((words[2 * i], 16, 12), (words[2 * i + 1], 8, 7)):
                state[a] = (state[a] + state[b] + word) & WORD
                x = state[d] ^ state[a]
                state[d] = (x >> right_d) | (x << (32 - right_d)) & WORD
                state[c] = (state[c] + state[d]) & WORD
                x = state[b] ^ state[c]
                state[b] = (x >> right_b) | (x << (32 - right_b)) & WORD
        words = [words[i] for i in PERMUTATION]
    return tuple(low ^ high for low, high in zip(state[:8], state[8:]))


def chunk_value(chunk, index, root):
    """The chaining value of one chunk."""
    value = IV
    blocks = [chunk[i : i + 64] for i in range(0, len(chunk), 64)] or [b""]
    for i, block in enumerate(blocks):
        last = i == len(blocks) - 1
        flags = (CHUNK_START if i == 0 else 0) | (CHUNK_END if last else 0) | (root if last else 0)
        value = compress(value, block, index, len(block), flags)
    return value


def blake3(message, known):
    """The digest; `known` keeps the values of whole chunks, which messages that share a beginning share."""

    def node(first, last, root):
        if last - first == 1:
            chunk = message[first * 1024 : last * 1024]
            if root or len(chunk) < 1024:
                return chunk_value(chunk, first, root)
            if first not in known:
                known[first] = chunk_value(chunk, first, 0)
            return known[first]
        middle = first + (1 << (last - first - 1).bit_length() - 1)
        children = node(first, middle, 0) + node(middle, last, 0)
        return compress(IV, struct.pack("<16I", *children), 0, 64, PARENT | root)

    return struct.pack("<8I", *node(0, max(1, -(-len(message) // 1024)), ROOT)).hex()


def main():
    lengths = sorted({n + d for n in AROUND_BLOCKS + AROUND_CHUNKS for d in (-1, 0, 1)} | set(OTHERS))
    stream = bytes(range(251)) * (max(lengths) // 251 + 1)
    known = {}
    for case in json.loads(VECTORS.read_text())["cases"]:
        assert blake3(stream[: case["input_len"]], known) == case["hash"][:64], case["input_len"]
    print("# Made by period251.py beside this file: bytes of 0, 1, ..., 250, 0, 1, ... and their digests.")
    for length in lengths:
        message = stream[:length]
        print(f"\nlength = {length}")
        print(f"sha256 = {hashlib.sha256(message).hexdigest()}")
        print(f"blake2b = {hashlib.blake2b(message).hexdigest()}")
        print(f"blake3 = {blake3(message, known)}")
        print(f"sha3-256 = {hashlib.sha3_256(message).hexdigest()}")


if __name__ == "__main__":
    main()
