"""Class limits: input that is too large, too deep or too many must end quickly and in little
memory. Files are sparse or generated; `memory` bounds what the command may allocate."""

import gzip
import json
import os

from kit import oms
from kit.case import rejected
from kit.tensors import entry, pattern, raw
from kit.world import BLOB, FIRST, sparse

case = rejected("limits")

MIB = 1 << 20
TIB = 1 << 40
BUNDLE_LIMIT = 256 * MIB
HEADER_LIMIT = 100_000_000
ENTRY_LIMIT = 1_000_000
DEPTH_LIMIT = 32


def padded_bundle(world, size):
    """The honest bundle with white space after it up to a size."""
    world.honest()
    with open(world.signature, "ab") as file:
        left = size - file.tell()
        while left > 0:
            left -= file.write(b" " * min(left, 4 * MIB))


@case("bundle_too_large", naive=False)
def bundle_oversize(world):
    """One byte over the limit, and otherwise a signature that verifies."""
    padded_bundle(world, BUNDLE_LIMIT + 1)
    return world.verify(memory=1024 * MIB, once=True)


@case("bundle_too_large", naive=False)
def bundle_oversize__sparse_tebibyte(world):
    world.honest()
    os.truncate(world.signature, TIB)
    return world.verify(memory=512 * MIB)


def foreign_annotation(world, text):
    """An honest payload, but for a foreign annotation (which is ignored) made of this text."""
    statement = world.statement()
    statement["subject"][0]["annotations"] = {"example.org/note": "@"}
    world.sign_payload(oms.encode(statement).replace(b'"@"', text.encode()))


def nested(depth):
    """Arrays so deep that the whole payload, itself an object, is nested `depth` deep."""
    # payload { subject [ item { annotations { note: four levels are above it
    own = depth - 4
    return "[" * own + "]" * own


@case("json_too_deep")
def json_depth_bomb(world):
    foreign_annotation(world, nested(100_000))
    return world.verify(memory=512 * MIB)


@case("json_too_deep")
def json_depth_bomb__one_over_the_limit(world):
    foreign_annotation(world, nested(DEPTH_LIMIT + 1))
    return world.verify()


@case("json_too_deep")
def json_depth_bomb__objects(world):
    depth = 50_000
    foreign_annotation(world, '{"a":' * depth + "1" + "}" * depth)
    return world.verify(memory=512 * MIB)


@case("json_too_deep")
def json_depth_bomb__bundle(world):
    """Depth is found before the field that no bundle has."""
    bundle = json.dumps(world.bundle())
    deep = "[" * 100_000 + "]" * 100_000
    world.signature.write_text(bundle[:-1] + f', "extra": {deep}}}')
    return world.verify(memory=512 * MIB)


@case("json_too_deep")
def json_depth_bomb__never_closed(world):
    world.base()
    world.signature.write_text("[" * 1_000_000)
    return world.verify(memory=512 * MIB)


def million_tensors():
    """A well-formed header of one byte-sized tensor more than the limit."""
    count = ENTRY_LIMIT + 1
    text = ",".join(
        f'"{at}":{{"dtype":"U8","shape":[1],"data_offsets":[{at},{at + 1}]}}' for at in range(count)
    )
    return raw("{" + text + "}", bytes(count))


@case("safetensors_too_many_tensors", naive=False)
def million_tensors_header(world):
    world.base()
    world.write("many.safetensors", million_tensors())
    return world.signing(memory=2048 * MIB, once=True)


@case("safetensors_header_too_large")
def header_over_100_mb(world):
    """The file is long enough for the header it declares, and sparse."""
    world.base()
    path = sparse(world.model / "large.safetensors", HEADER_LIMIT + 1 + 16)
    with open(path, "r+b") as file:
        file.write((HEADER_LIMIT + 1).to_bytes(8, "little") + b"{}")
    return world.signing(memory=512 * MIB)


@case("too_many_resources", naive=False)
def million_resources(world):
    """One more than the limit, all of the same (true) content, in a bundle below its own limit."""
    count = ENTRY_LIMIT + 1
    one = {"name": "@", "digest": oms.digest(b""), "algorithm": "sha256"}
    before, after = json.dumps(one, separators=(",", ":")).split("@")
    resources = ",".join(f"{before}{at:07}{after}" for at in range(count))
    statement = world.statement()
    statement["predicate"]["resources"] = "@"
    statement["subject"][0]["digest"]["sha256"] = oms.digest(bytes.fromhex(one["digest"]) * count)
    world.sign_payload(oms.encode(statement).replace(b'"@"', f"[{resources}]".encode()))
    return world.verify(memory=2048 * MIB, once=True)


# -- huge files: the size is known to be wrong before a byte need be read ----------------------


@case("model_differs", naive=False)
def huge_declared_sparse_file(world):
    """A tebibyte where the signed tensors add up to a few hundred bytes."""
    world.honest()
    os.truncate(world.model / FIRST, TIB)
    return world.verify(differences={("changed_file", FIRST, None)}, memory=512 * MIB)


@case("model_differs", naive=False)
def huge_declared_sparse_file__and_another_header(world):
    """Also where the header no longer tells how long the file should be: the signed tensors do."""
    world.honest()
    with open(world.model / FIRST, "r+b") as file:
        file.seek(12)
        file.write(b"?")
    os.truncate(world.model / FIRST, TIB)
    return world.verify(differences={("changed_file", FIRST, None)}, memory=512 * MIB)


@case("too_many_resources")
def huge_declared_sparse_file__shards_of_one_byte(world):
    """A million shards are counted before they are listed."""
    world.base()
    sparse(world.model / "huge.bin", TIB)
    return world.signing("--shard-size", "1", memory=512 * MIB)


@case("model_differs", naive=False)
def huge_declared_sparse_file__after_the_last_shard(world):
    """The shards say how long the file is."""
    world.honest(shard_size=100_000)
    os.truncate(world.model / BLOB, TIB)
    return world.verify(differences={("changed_file", BLOB, None)}, memory=512 * MIB)


@case("model_differs", naive=False)
def huge_declared_sparse_file__not_signed(world):
    """Names are compared first, so this one is never hashed."""
    world.honest()
    sparse(world.model / "huge.bin", TIB)
    return world.verify(differences={("unsigned_file", "huge.bin", None)}, memory=512 * MIB)


@case("model_differs", naive=False)
def huge_declared_sparse_file__size_unknown(world):
    """Nothing tells the size of a plain file: it is read, in little memory."""
    world.honest()
    os.truncate(world.model / BLOB, 1024 * MIB)
    return world.verify(differences={("changed_file", BLOB, None)}, memory=512 * MIB, once=True)


@case("safetensors_past_end")
def huge_declared_sparse_file__header_without_bytes(world):
    world.base()
    world.write("huge.safetensors", raw({"a": entry("U8", [TIB], 0, TIB)}, b"x"))
    return world.signing(memory=512 * MIB)


@case("safetensors_trailing_data", naive=False)
def huge_declared_sparse_file__bytes_without_header(world):
    """Signing must look at the header before it hashes a tebibyte."""
    world.base()
    path = world.write("huge.safetensors", raw({"a": entry("U8", [16], 0, 16)}, pattern(16)))
    os.truncate(path, TIB)
    return world.signing(memory=512 * MIB)


# -- the rest ----------------------------------------------------------------------------------


@case("json_invalid")
def compressed_bomb(world):
    """No signature is ever decompressed: these are 256 MiB of spaces in 260 KB."""
    world.base()
    with gzip.open(world.signature, "wb", compresslevel=1) as file:
        for _ in range(64):
            file.write(b" " * (4 * MIB))
    return world.verify(memory=512 * MIB)


@case("json_invalid")
def compressed_bomb__honest_content(world):
    world.honest()
    world.signature.write_bytes(gzip.compress(world.signature.read_bytes()))
    return world.verify()


@case("unsafe_path")
def name_over_4_kib(world):
    statement = world.statement()
    statement["predicate"]["resources"].append(oms.resource("a/" * 2048 + "b", b"never there"))
    world.sign(oms.set_root(statement))
    return world.verify()


@case("unsafe_path", naive=False)
def name_over_4_kib__signing(world):
    """Such a path cannot be opened in one call either: it is made, and must be walked, by parts."""
    world.base()
    here = os.open(world.model, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=here))
    os.close(here)
    return world.signing()
