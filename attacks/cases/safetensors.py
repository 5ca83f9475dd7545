"""Class safetensors, part one: bad headers.

Each bad file is met twice: `sentry sign` must refuse it, and `sentry verify` must refuse the
signature that a malicious signer made over it (`__signed`). There the annotation holds what a
naive signer would compute from the same header, so that only the header is at fault.
"""

import json

from kit import oms, tensors
from kit.case import rejected
from kit.tensors import entry, pattern, raw

case = rejected("safetensors")

NAME = "bad.safetensors"

# Headers, each with the data after it. Offsets count from the end of the header.
OVERLAP = raw({"a": entry("U8", [16], 0, 16), "b": entry("U8", [16], 8, 24)}, pattern(24))
SAME_BYTES = raw({"a": entry("U8", [16], 0, 16), "b": entry("U8", [16], 0, 16)}, pattern(16))
HOLE = raw({"a": entry("U8", [8], 0, 8), "b": entry("U8", [8], 16, 24)}, pattern(24))
HOLE_AT_START = raw({"a": entry("U8", [8], 8, 16)}, pattern(16))
REVERSED = raw({"a": entry("U8", [16], 16, 0)}, pattern(16))
PAST_END = raw({"a": entry("U8", [16], 0, 16), "b": entry("U8", [16], 16, 32)}, pattern(24))
WRONG_LENGTH = raw({"a": entry("F32", [4], 0, 12)}, pattern(12))
TRAILING = raw({"a": entry("U8", [16], 0, 16)}, pattern(16) + b"PK\x05\x06" + bytes(18))
ZERO_INSIDE = raw({"a": entry("U8", [16], 0, 16), "z": entry("U8", [0], 8, 8)}, pattern(16))
ZERO_PAST_END = raw({"a": entry("U8", [16], 0, 16), "z": entry("U8", [0], 24, 24)}, pattern(16))
# 2^32 * 2^32 elements: zero in 64 bits, so the offsets look right.
SHAPE_WRAPS = raw({"a": entry("U8", [1 << 32, 1 << 32], 0, 0)}, b"")
# 2^62 elements fit, 2^65 bytes do not: zero again.
BYTES_WRAP = raw({"a": entry("F64", [1 << 62], 0, 0)}, b"")
# Strict: the product of the other dimensions must not overflow, even if a zero follows.
ZERO_HIDES = raw({"a": entry("U8", [1 << 63, 4, 0], 0, 0)}, b"")
METADATA = raw({"__metadata__": {"a": 1}, "a": entry("U8", [16], 0, 16)}, pattern(16))
DUPLICATE = raw(
    '{"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]},'
    '"a":{"dtype":"I8","shape":[16],"data_offsets":[0,16]}}', pattern(16),
)  # fmt: skip
ONE_TENSOR = json.dumps({"a": entry("U8", [16], 0, 16)})


def signing(world, content):
    """An otherwise honest model with this file in it, to be signed."""
    world.base()
    world.write(NAME, content)
    return world.signing(memory=512 << 20)


def signed(world, content, described=None):
    """The same model, signed by someone who does not look; `described` if the file has no shape."""
    world.base()
    statement = oms.of_directory(world.model)
    world.write(NAME, content)
    item = oms.resource(NAME, content, annotate=False)
    item["annotations"] = described or tensors.annotation(content)
    statement["predicate"]["resources"].append(item)
    statement["predicate"]["resources"].sort(key=lambda other: other["name"])
    world.sign(oms.set_root(statement))
    return world.verify(memory=512 << 20)


@case("safetensors_header_truncated")
def header_truncated(world):
    """The header says it goes on past the end of the file."""
    return signing(world, raw(ONE_TENSOR, b"", length=len(ONE_TENSOR) + 64))


@case("safetensors_header_truncated")
def header_truncated__no_length(world):
    return signing(world, b"\x08\0\0\0\0\0\0")


@case("safetensors_header_truncated")
def header_truncated__empty_file(world):
    return signing(world, b"")


@case("safetensors_header_truncated")
def header_truncated__length_only(world):
    return signing(world, (64).to_bytes(8, "little"))


@case("safetensors_header_truncated")
def header_truncated__signed(world):
    """The signed header digest is of what is there of the header."""
    content = raw(ONE_TENSOR, b"", length=len(ONE_TENSOR) + 64)
    item = {"name": "a", "dtype": "U8", "shape": [16], "digest": tensors.b3(b"")}
    described = {"algorithm": "blake3", "header": tensors.b3(content), "tensors": [item]}
    return signed(world, content, {tensors.SAFETENSORS_KEY: described})


@case("safetensors_header_too_large")
def header_len_u64_max(world):
    return signing(world, raw(ONE_TENSOR, pattern(16), length=(1 << 64) - 1))


@case("safetensors_header_too_large")
def header_len_u64_max__signed(world):
    content = raw(ONE_TENSOR, pattern(16), length=(1 << 64) - 1)
    item = {"name": "a", "dtype": "U8", "shape": [16], "digest": tensors.b3(pattern(16))}
    described = {"algorithm": "blake3", "header": tensors.b3(content), "tensors": [item]}
    return signed(world, content, {tensors.SAFETENSORS_KEY: described})


@case("safetensors_header_too_large")
def header_len_overflow_add(world):
    """8 + N is zero in 64 bits."""
    return signing(world, raw(ONE_TENSOR, pattern(16), length=(1 << 64) - 8))


@case("safetensors_header_too_large")
def header_len_overflow_add__into_the_length(world):
    """8 + N is 4: the header would end before it begins."""
    return signing(world, raw(ONE_TENSOR, pattern(16), length=(1 << 64) - 4))


@case("safetensors_header_too_large")
def header_len_overflow_add__sign_bit(world):
    """Negative to whoever reads it as a signed number."""
    return signing(world, raw(ONE_TENSOR, pattern(16), length=1 << 63))


@case("safetensors_shape_overflow")
def shape_product_overflow(world):
    return signing(world, SHAPE_WRAPS)


@case("safetensors_shape_overflow")
def shape_product_overflow__in_bytes(world):
    return signing(world, BYTES_WRAP)


@case("safetensors_shape_overflow")
def shape_product_overflow__hidden_by_a_zero(world):
    return signing(world, ZERO_HIDES)


@case("annotation_invalid")
def shape_product_overflow__signed(world):
    """The annotation repeats the shape, so it is met there first."""
    return signed(world, SHAPE_WRAPS)


@case("safetensors_overlap")
def offsets_overlap(world):
    return signing(world, OVERLAP)


@case("safetensors_overlap")
def offsets_overlap__same_bytes_twice(world):
    return signing(world, SAME_BYTES)


@case("safetensors_overlap")
def offsets_overlap__signed(world):
    return signed(world, OVERLAP)


@case("safetensors_hole")
def offsets_hole(world):
    return signing(world, HOLE)


@case("safetensors_hole")
def offsets_hole__at_the_start(world):
    return signing(world, HOLE_AT_START)


@case("safetensors_hole")
def offsets_hole__signed(world):
    return signed(world, HOLE)


@case("safetensors_offsets")
def offsets_reversed_or_past_end__reversed(world):
    return signing(world, REVERSED)


@case("safetensors_offsets")
def offsets_reversed_or_past_end__reversed_signed(world):
    return signed(world, REVERSED)


@case("safetensors_past_end")
def offsets_reversed_or_past_end__past_end(world):
    return signing(world, PAST_END)


@case("safetensors_past_end")
def offsets_reversed_or_past_end__past_end_signed(world):
    return signed(world, PAST_END)


@case("safetensors_offsets")
def offsets_reversed_or_past_end__length_disagrees(world):
    """12 bytes for four floats."""
    return signing(world, WRONG_LENGTH)


@case("safetensors_offsets")
def offsets_reversed_or_past_end__length_disagrees_signed(world):
    return signed(world, WRONG_LENGTH)


@case("safetensors_overlap")
def zero_size_tensor_reuses_offset(world):
    """A tensor of no bytes in the midst of another: by (begin, end, name) it does not abut."""
    return signing(world, ZERO_INSIDE)


@case("safetensors_hole")
def zero_size_tensor_reuses_offset__past_end(world):
    """Both a hole and past the end; it begins where no tensor before it has ended."""
    return signing(world, ZERO_PAST_END)


@case("safetensors_overlap")
def zero_size_tensor_reuses_offset__signed(world):
    return signed(world, ZERO_INSIDE)


@case("safetensors_duplicate_key")
def duplicate_json_key_header(world):
    return signing(world, DUPLICATE)


@case("safetensors_duplicate_key")
def duplicate_json_key_header__inside_a_tensor(world):
    header = '{"a":{"dtype":"U8","dtype":"I8","shape":[16],"data_offsets":[0,16]}}'
    return signing(world, raw(header, pattern(16)))


@case("safetensors_duplicate_key")
def duplicate_json_key_header__escaped(world):
    """Two spellings of one key."""
    header = (
        '{"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]},'
        '"\\u0061":{"dtype":"I8","shape":[16],"data_offsets":[0,16]}}'
    )
    return signing(world, raw(header, pattern(16)))


@case("safetensors_duplicate_key")
def duplicate_json_key_header__metadata(world):
    header = (
        '{"__metadata__":{"a":"1"},"__metadata__":{"a":"2"},'
        '"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}}'
    )
    return signing(world, raw(header, pattern(16)))


@case("safetensors_duplicate_key")
def duplicate_json_key_header__inside_metadata(world):
    header = (
        '{"__metadata__":{"a":"1","a":"2"},"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]}}'
    )
    return signing(world, raw(header, pattern(16)))


@case("safetensors_duplicate_key")
def duplicate_json_key_header__signed(world):
    return signed(world, DUPLICATE)


@case("safetensors_trailing_data")
def polyglot_trailing_data(world):
    """An (empty) ZIP archive after the tensors: two formats, two contents."""
    return signing(world, TRAILING)


@case("safetensors_trailing_data")
def polyglot_trailing_data__one_byte(world):
    return signing(world, raw(ONE_TENSOR, pattern(17)))


@case("safetensors_trailing_data")
def polyglot_trailing_data__signed(world):
    return signed(world, TRAILING)


@case("safetensors_json")
def polyglot_trailing_data__in_the_header(world):
    return signing(world, raw(ONE_TENSOR + "<script>", pattern(16)))


@case("safetensors_metadata")
def metadata_non_string(world):
    return signing(world, METADATA)


@case("safetensors_metadata")
def metadata_non_string__nested(world):
    header = {"__metadata__": {"a": {"b": "c"}}, "a": entry("U8", [16], 0, 16)}
    return signing(world, raw(header, pattern(16)))


@case("safetensors_metadata")
def metadata_non_string__null(world):
    header = {"__metadata__": {"a": None}, "a": entry("U8", [16], 0, 16)}
    return signing(world, raw(header, pattern(16)))


@case("safetensors_metadata")
def metadata_non_string__no_object(world):
    header = {"__metadata__": ["a"], "a": entry("U8", [16], 0, 16)}
    return signing(world, raw(header, pattern(16)))


@case("safetensors_metadata")
def metadata_non_string__signed(world):
    return signed(world, METADATA)
