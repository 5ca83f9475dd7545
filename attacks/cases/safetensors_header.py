"""Class safetensors, part two: headers that are no well-formed header at all, when signing.

The specification's list has no name for these; the contract of error codes has.
"""

import json

from kit.case import rejected
from kit.tensors import entry, pattern, raw

from .safetensors import ONE_TENSOR, signing

case = rejected("safetensors")


@case("safetensors_json")
def header_not_json__garbage(world):
    return signing(world, raw("not json", b""))


@case("safetensors_json")
def header_not_json__empty(world):
    return signing(world, raw("", b""))


@case("safetensors_json")
def header_not_json__array(world):
    return signing(world, raw("[]", b""))


@case("safetensors_json")
def header_not_json__not_utf8(world):
    return signing(
        world, raw(ONE_TENSOR.replace('"a"', '"@"').encode().replace(b"@", b"\xff"), pattern(16))
    )


@case("safetensors_json")
def header_not_json__byte_order_mark(world):
    return signing(world, raw(b"\xef\xbb\xbf" + ONE_TENSOR.encode(), pattern(16)))


@case("safetensors_json")
def header_not_json__leading_space(world):
    """The format says that the header begins with a brace."""
    return signing(world, raw("  " + ONE_TENSOR, pattern(16)))


@case("safetensors_json")
def header_not_json__padded_with_nul(world):
    """Padding is spaces."""
    text = ONE_TENSOR.encode()
    return signing(world, raw(text + bytes(-len(text) % 8 + 8), pattern(16)))


@case("safetensors_json")
def header_fields__missing_offsets(world):
    return signing(world, raw({"a": {"dtype": "U8", "shape": [16]}}, pattern(16)))


@case("safetensors_json")
def header_fields__three_offsets(world):
    header = {"a": {"dtype": "U8", "shape": [16], "data_offsets": [0, 16, 16]}}
    return signing(world, raw(header, pattern(16)))


@case("safetensors_json")
def header_fields__unknown_key(world):
    """Strict: what no reader knows cannot be covered by an annotation."""
    return signing(world, raw({"a": {**entry("U8", [16], 0, 16), "strides": [1]}}, pattern(16)))


@case("safetensors_json")
def header_fields__float_dimension(world):
    return signing(world, raw({"a": entry("U8", [16.0], 0, 16)}, pattern(16)))


@case("safetensors_json")
def header_fields__negative_dimension(world):
    return signing(world, raw({"a": entry("U8", [-16], 0, 16)}, pattern(16)))


@case("safetensors_json")
def header_fields__negative_offset(world):
    return signing(world, raw({"a": entry("U8", [16], -16, 0)}, pattern(16)))


@case("safetensors_json")
def header_fields__offset_beyond_64_bits(world):
    return signing(world, raw({"a": entry("U8", [16], 1 << 64, (1 << 64) + 16)}, pattern(16)))


@case("safetensors_past_end")
def header_fields__offset_at_64_bits(world):
    """As unsigned 64-bit numbers they are in order, and 16 bytes apart."""
    header = {"a": entry("U8", [16], (1 << 64) - 17, (1 << 64) - 1)}
    return signing(world, raw(header, pattern(16)))


@case("safetensors_dtype")
def header_dtype__unknown(world):
    return signing(world, raw({"a": entry("F128", [1], 0, 16)}, pattern(16)))


@case("safetensors_dtype")
def header_dtype__lower_case(world):
    return signing(world, raw({"a": entry("u8", [16], 0, 16)}, pattern(16)))


@case("safetensors_json")
def header_depth_bomb(world):
    """A header nests three deep; 100 000 brackets must not use up the stack."""
    deep = "[" * 100_000 + "]" * 100_000
    header = json.dumps({"a": "@"}).replace('"@"', deep)
    return signing(world, raw(header, b""))
