"""Class manifest, part two: the files are there, and their content is not what was signed.

A changed tensor of an annotated safetensors file is reported as that tensor, and a changed header
as the header; `changed_file` is for files and changes that the annotation cannot place.
"""

from kit import oms, tensors
from kit.case import rejected
from kit.world import BLOB, BLOB_SIZE, FILES, FIRST, SECOND, data_offset, flip

case = rejected("manifest")


@case("model_differs")
def two_files_swapped(world):
    world.honest()
    world.write("tokenizer/merges.txt", FILES["tokenizer/vocab.txt"])
    world.write("tokenizer/vocab.txt", FILES["tokenizer/merges.txt"])
    return world.verify(
        differences={
            ("changed_file", "tokenizer/merges.txt", None),
            ("changed_file", "tokenizer/vocab.txt", None),
        }
    )


@case("model_differs")
def two_files_swapped__safetensors(world):
    world.honest()
    world.write(FIRST, FILES[SECOND])
    world.write(SECOND, FILES[FIRST])
    return world.verify(
        differences={("changed_header", FIRST, None), ("changed_header", SECOND, None)}
    )


def flipped(world, offset, **options):
    world.honest(**options)
    flip(world.model / BLOB, offset)
    return world.verify(differences={("changed_file", BLOB, None)})


@case("model_differs")
def one_bit_flip__first_block(world):
    return flipped(world, 0)


@case("model_differs")
def one_bit_flip__middle_block(world):
    return flipped(world, BLOB_SIZE // 2)


@case("model_differs")
def one_bit_flip__last_block(world):
    return flipped(world, -1)


@case("model_differs")
def one_bit_flip__blake2b(world):
    return flipped(world, BLOB_SIZE // 2, algorithm="blake2b")


@case("model_differs")
def one_bit_flip__blake3(world):
    return flipped(world, BLOB_SIZE // 2, algorithm="blake3")


@case("model_differs")
def one_bit_flip__not_annotated(world):
    return flipped(world, BLOB_SIZE // 2, annotate=False)


@case("model_differs")
def one_bit_flip__first_shard(world):
    return flipped(world, 0, shard_size=100_000)


@case("model_differs")
def one_bit_flip__last_shard(world):
    """A difference names the file, not the shard: people know files."""
    return flipped(world, -1, shard_size=70_000)


@case("model_differs")
def one_bit_flip__tensor(world):
    world.honest()
    flip(world.model / FIRST, data_offset(FILES[FIRST], "layer.1.weight"))
    return world.verify(differences={("changed_tensor", FIRST, "layer.1.weight")})


@case("model_differs")
def one_bit_flip__last_byte_of_last_tensor(world):
    world.honest()
    flip(world.model / FIRST, -1)
    return world.verify(differences={("changed_tensor", FIRST, "layer.bias")})


@case("model_differs")
def one_bit_flip__safetensors_not_annotated(world):
    world.honest(annotate=False)
    flip(world.model / FIRST, -1)
    return world.verify(differences={("changed_file", FIRST, None)})


@case("model_differs")
def one_bit_flip__header_length_low(world):
    world.honest()
    flip(world.model / FIRST, 0)
    return world.verify(differences={("changed_header", FIRST, None)})


@case("model_differs")
def one_bit_flip__header_length_high(world):
    """The length now says 2^63: it must neither be allocated nor be the error. Without a header the file is what
    can be named."""
    world.honest()
    flip(world.model / FIRST, 7, bit=7)
    return world.verify(differences={("changed_file", FIRST, None)}, memory=512 << 20)


@case("model_differs")
def one_bit_flip__header_text(world):
    """A name's letter changes its case: still a well-formed header, but not the signed one."""
    world.honest()
    flip(world.model / FIRST, FILES[FIRST].index(b"embed"), bit=5)
    return world.verify(differences={("changed_header", FIRST, None)})


@case("model_differs")
def one_bit_flip__header_padding(world):
    """Space to NUL-like padding: the same tensors to a lenient parser."""
    content = tensors.raw('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} ' + " " * 8, b"x")
    world.write("padded.safetensors", content)
    world.base()
    world.honest()
    flip(world.model / "padded.safetensors", -2, bit=5)
    return world.verify(differences={("changed_header", "padded.safetensors", None)})


@case("model_differs")
def one_bit_flip__single_file(world):
    content = FILES[FIRST]
    world.single(content)
    name = world.model.name
    world.sign(oms.statement(name, [oms.resource(name, content)], "sha256", []))
    flip(world.model, -1)
    return world.verify(differences={("changed_tensor", name, "layer.bias")})


@case("model_differs")
def file_truncated(world):
    world.honest()
    world.write(BLOB, FILES[BLOB][:-1])
    return world.verify(differences={("changed_file", BLOB, None)})


@case("model_differs")
def file_truncated__to_nothing(world):
    world.honest()
    world.write(BLOB, b"")
    return world.verify(differences={("changed_file", BLOB, None)})


@case("model_differs")
def file_truncated__safetensors(world):
    """Its size is no longer what the signed tensors add up to, so it is the file that changed."""
    world.honest()
    world.write(FIRST, FILES[FIRST][:-4])
    return world.verify(differences={("changed_file", FIRST, None)})


@case("model_differs")
def file_truncated__safetensors_to_nothing(world):
    world.honest()
    world.write(FIRST, b"")
    return world.verify(differences={("changed_file", FIRST, None)})


@case("model_differs")
def file_truncated__whole_last_shard(world):
    """Every shard that is left is right; the last one is gone."""
    world.honest(shard_size=100_000)
    world.write(BLOB, FILES[BLOB][:200_000])
    return world.verify(differences={("changed_file", BLOB, None)})


@case("model_differs")
def file_extended_by_zeroes(world):
    world.honest()
    world.write(BLOB, FILES[BLOB] + bytes(4096))
    return world.verify(differences={("changed_file", BLOB, None)})


@case("model_differs")
def file_extended_by_zeroes__safetensors(world):
    """All signed tensors are still there, unchanged."""
    world.honest()
    world.write(FIRST, FILES[FIRST] + bytes(64))
    return world.verify(differences={("changed_file", FIRST, None)})


@case("model_differs")
def file_extended_by_zeroes__after_the_last_shard(world):
    """All signed shards are still there, unchanged."""
    world.honest(shard_size=100_000)
    world.write(BLOB, FILES[BLOB] + bytes(1))
    return world.verify(differences={("changed_file", BLOB, None)})
