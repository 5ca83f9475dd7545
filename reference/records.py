"""Records of samples: docs/spec/samples.md, section 1.

A value is described as in vectors/sentry/records.json: `{"dtype": ..., "dims": [...], "bytes": b"..."}`, for a
structure `{"dtype": "STRUCT", "fields": [...]}`, for a list `{"dtype": "LIST", "values": [...]}`. A field is a value
with a "name".
"""

import struct

from blake3 import blake3

# The element types of safetensors, with their width in bits.
DTYPES = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip

MAX_INLINE = 64
MAX_NAME = 4096
MAX_FIELDS = 65_536
MAX_DIMENSIONS = 64
MAX_DEPTH = 32
MIN_VALUE = 4 + 2 + 4 + 8
U64 = 1 << 64


class RecordError(ValueError):
    """Not a sample that can be recorded, or no record."""


def require(condition, reason):
    if not condition:
        raise RecordError(reason)


# -- from a sample to its record -----------------------------------------------------------------


def record(fields, depth=1):
    """u32 length ‖ name ‖ value, for each field in byte order of the names."""
    require(len(fields) <= MAX_FIELDS, "too many fields")
    encoded = b""
    before = None
    for field in sorted(fields, key=lambda field: field["name"].encode()):
        name = field["name"].encode()
        require(1 <= len(name) <= MAX_NAME, "length of a name")
        require(name != before, "two fields of one name")
        before = name
        encoded += text(name) + value(field, depth)
    return encoded


def value(described, depth):
    """u32 length ‖ type ‖ u32 ndim ‖ u64 dims… ‖ u64 nbytes ‖ body"""
    require(depth <= MAX_DEPTH, "nested too deep")
    dtype = described["dtype"]
    dims = described.get("dims", [])
    if dtype == "STRUCT":
        content = record(described["fields"], depth + 1)
    elif dtype == "LIST":
        content = b"".join(value(item, depth + 1) for item in described["values"])
        dims = [len(described["values"])]
    else:
        content = described["bytes"]
    check_length(dtype, dims, len(content))
    check_content(dtype, content)
    shape = struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", dim) for dim in dims)
    return text(dtype.encode()) + shape + struct.pack("<Q", len(content)) + body(content)


def text(encoded):
    return struct.pack("<I", len(encoded)) + encoded


def body(content):
    return content if len(content) <= MAX_INLINE else blake3(content).digest()


def sample_digest(encoded):
    return blake3(encoded, derive_key_context="sentry-ml/v1 sample").digest()


# -- what type, shape and length allow each other ------------------------------------------------


def check_length(dtype, dims, nbytes):
    require(len(dims) <= MAX_DIMENSIONS, "too many dimensions")
    if dtype in DTYPES:
        require(nbytes == size(dtype, dims), "length and shape disagree")
    elif dtype == "LIST":
        require(len(dims) == 1, "a list has one dimension")
        require(dims[0] * MIN_VALUE <= nbytes, "fewer bytes than so many values have")
    elif dtype in ("UTF8", "BYTES", "NULL", "STRUCT"):
        require(dims == [], "no dimension")
        require(dtype != "NULL" or nbytes == 0, "NULL has no bytes")
    else:
        raise RecordError("unknown type")


def size(dtype, dims):
    """Bytes of an array, every product from left to right below 2^64."""
    elements = 1
    for dim in dims:
        elements *= dim
        require(elements < U64, "too large")
    bits = elements * DTYPES[dtype]
    require(bits < U64 and bits % 8 == 0, "no whole number of bytes")
    return bits // 8


def check_content(dtype, content):
    if dtype == "BOOL":
        require(set(content) <= {0, 1}, "BOOL is 0 or 1")
    if dtype == "UTF8":
        try:
            content.decode()
        except UnicodeDecodeError:
            raise RecordError("not UTF-8") from None


# -- from a record back --------------------------------------------------------------------------


def parse(encoded):
    """The fields of a record; a value that is hashed has "digest" for its content."""
    require(encoded, "a sample has at least one field")
    return parse_fields(encoded, 1)


def parse_fields(encoded, depth):
    reader = Reader(encoded)
    fields = []
    while reader.rest:
        require(len(fields) < MAX_FIELDS, "too many fields")
        length = reader.u32()
        require(1 <= length <= MAX_NAME, "length of a name")
        name = reader.utf8(length)
        require(not fields or fields[-1]["name"].encode() < name.encode(), "order of the fields")
        fields.append({"name": name, **parse_value(reader, depth)})
    return fields


def parse_value(reader, depth):
    require(depth <= MAX_DEPTH, "nested too deep")
    dtype = reader.utf8(reader.u32())
    ndim = reader.u32()
    require(ndim <= MAX_DIMENSIONS, "too many dimensions")
    dims = [reader.u64() for _ in range(ndim)]
    nbytes = reader.u64()
    check_length(dtype, dims, nbytes)
    parsed = {"dtype": dtype, "dims": dims, "nbytes": nbytes}
    if nbytes > MAX_INLINE:
        return {**parsed, "digest": reader.take(32)}
    content = reader.take(nbytes)
    check_content(dtype, content)
    if dtype == "STRUCT":
        return {**parsed, "fields": parse_fields(content, depth + 1)}
    if dtype == "LIST":
        inner = Reader(content)
        values = [parse_value(inner, depth + 1) for _ in range(dims[0])]
        require(not inner.rest, "bytes behind the last value")
        return {**parsed, "values": values}
    return {**parsed, "bytes": content}


class Reader:
    """Takes bytes from the front."""

    def __init__(self, encoded):
        self.encoded, self.position = encoded, 0

    @property
    def rest(self):
        """How many bytes are left."""
        return len(self.encoded) - self.position

    def take(self, length):
        require(length <= self.rest, "ends too early")
        self.position += length
        return self.encoded[self.position - length : self.position]

    def u32(self):
        return int.from_bytes(self.take(4), "little")

    def u64(self):
        return int.from_bytes(self.take(8), "little")

    def utf8(self, length):
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise RecordError("not UTF-8") from None
