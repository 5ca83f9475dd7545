"""Class limits, as the loader meets them: what a file declares must not become memory before it is found wrong."""

import os

from kit.case import rejected
from kit.tensors import entry, raw
from kit.world import FIRST, sparse

from .limits import HEADER_LIMIT, MIB, TIB, million_tensors

case = rejected("limits")

WEIGHTS = "model.safetensors"


def loading(world, **options):
    """The same, signed by someone who does not look."""
    world.sign(world.statement(annotate=False))
    return world.calling("load_model", **options)


@case("safetensors_too_many_tensors", naive=False)
def million_tensors_header__loaded(world):
    world.write(WEIGHTS, million_tensors())
    return loading(world, memory=2048 * MIB, once=True)


@case("safetensors_header_too_large", naive=False)
def header_over_100_mb__loaded(world):
    path = sparse(world.model / WEIGHTS, HEADER_LIMIT + 1 + 16)
    with open(path, "r+b") as file:
        file.write((HEADER_LIMIT + 1).to_bytes(8, "little") + b"{}")
    return loading(world, memory=512 * MIB)


@case("model_differs", naive=False)
def huge_declared_sparse_file__loaded(world):
    """A tebibyte of zeroes, and a header that says so: not the signed header, so no memory is taken for it."""
    world.honest()
    path = world.write(FIRST, raw({"a": entry("U8", [TIB], 0, TIB)}, b""))
    os.truncate(path, path.stat().st_size + TIB)
    return world.calling("load_model", weights=(FIRST,), differences={("changed_header", FIRST, None)}, memory=512 * MIB)


@case("safetensors_trailing_data", naive=False)
def huge_declared_sparse_file__bytes_without_header_loaded(world):
    """The signed file with a tebibyte of zeroes after it."""
    world.honest(annotate=False)
    os.truncate(world.model / FIRST, TIB)
    return world.calling("load_model", weights=(FIRST,), memory=512 * MIB)
