#!/usr/bin/env python3
"""Flip the lowest bit of one byte of a safetensors file and print the name of the tensor that holds it.

usage: flip_byte.py FILE OFFSET

Run twice, it restores the file. The tensor's name is read from the file's header, without Sentry.
"""

import json
import struct
import sys


def tensor_at(header: dict, start: int, offset: int) -> str:
    """The name of the tensor that holds byte `offset`; tensor data begins at byte `start`."""
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if start + begin <= offset < start + end:
            return name
    sys.exit(f"byte {offset} lies in no tensor")


def main() -> None:
    path, offset = sys.argv[1], int(sys.argv[2])
    with open(path, "r+b") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        name = tensor_at(json.loads(file.read(length)), 8 + length, offset)
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
    print(f"{name}: byte {offset} was 0x{byte:02x}, is 0x{byte ^ 1:02x}", file=sys.stderr)
    print(name)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
