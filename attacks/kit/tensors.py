"""safetensors files, honest or bad, and the annotation that an honest signer makes of them."""

import json
from dataclasses import dataclass, field

import blake3

BLAKE3_KEY = "sentry-ml.dev/blake3"
SAFETENSORS_KEY = "sentry-ml.dev/safetensors/v1"

WIDTH = {"BOOL": 1, "U8": 1, "I8": 1, "F16": 2, "BF16": 2, "F32": 4, "I64": 8, "F64": 8}


def b3(data: bytes) -> str:
    """BLAKE3 as lower-case hex."""
    return blake3.blake3(data).hexdigest()


def pattern(size: int, start: int = 0) -> bytes:
    """Bytes that repeat with period 251, so that swapped blocks show."""
    period = bytes(range(251))
    begin = start % 251
    return (period * (size // 251 + 2))[begin : begin + size]


@dataclass
class Tensor:
    """One tensor of a file; its bytes follow from its size and `seed`."""

    name: str
    dtype: str
    shape: list[int]
    seed: int = 0
    data: bytes = field(init=False)

    def __post_init__(self) -> None:
        count = 1
        for dim in self.shape:
            count *= dim
        self.data = pattern(count * WIDTH[self.dtype], self.seed)


def entry(dtype: str, shape: list, begin: int, end: int) -> dict:
    """One entry of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def header_of(tensors: list[Tensor]) -> dict:
    """The honest header: tensors one after the other, no gaps."""
    header, at = {}, 0
    for tensor in tensors:
        header[tensor.name] = entry(tensor.dtype, tensor.shape, at, at + len(tensor.data))
        at += len(tensor.data)
    return header


def encode(tensors: list[Tensor]) -> bytes:
    """An honest file."""
    return raw(header_of(tensors), b"".join(tensor.data for tensor in tensors))


def raw(header: dict | str | bytes, data: bytes, length: int | None = None) -> bytes:
    """Any header over any data; `length` replaces the header's true length in the first 8 bytes.

    The header is padded with spaces to a multiple of 8, as the format's own writer does.
    """
    if isinstance(header, dict):
        header = json.dumps(header, separators=(",", ":"), ensure_ascii=False)
    if isinstance(header, str):
        header = header.encode()
    header += b" " * (-len(header) % 8)
    size = len(header) if length is None else length
    return size.to_bytes(8, "little") + header + data


def split(content: bytes) -> tuple[bytes, bytes]:
    """The first 8+N bytes, and the rest."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[:end], content[end:]


def entries(content: bytes) -> list[tuple[str, dict]]:
    """The header's tensors as a naive reader sees them, by (begin, end, name)."""
    header = json.loads(split(content)[0][8:])
    found = [(name, item) for name, item in header.items() if name != "__metadata__"]
    return sorted(found, key=lambda pair: (*pair[1]["data_offsets"], pair[0].encode()))


def annotation(content: bytes) -> dict:
    """The annotation of a file. Nothing is checked: a malicious signer makes one of a bad file."""
    head, data = split(content)
    tensors = [
        {
            "name": name,
            "dtype": item["dtype"],
            "shape": item["shape"],
            "digest": b3(data[item["data_offsets"][0] : item["data_offsets"][1]]),
        }
        for name, item in entries(content)
    ]
    return {SAFETENSORS_KEY: {"algorithm": "blake3", "header": b3(head), "tensors": tensors}}
