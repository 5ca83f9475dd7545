"""Class envelope, part four: annotations that bless another content than the digest does.

An OMS digest and Sentry's annotation say the same thing twice. A signer who lets them differ could
show one content to OMS tools and another to a Sentry loader; `sentry verify` checks both.
"""

from kit import oms, tensors
from kit.case import rejected
from kit.world import BLOB, FILES, FIRST, flip

case = rejected("envelope")

NEWS = {("annotation_mismatch", FIRST, None)}


def marks_of(statement, name):
    """The annotations of a resource."""
    return oms.find(statement, name)["annotations"]


def altered(content, offset=-1):
    """The same bytes, one bit flipped."""
    changed = bytearray(content)
    changed[offset] ^= 1
    return bytes(changed)


@case("model_differs")
def annotation_equivocation__tensor(world):
    """The file is what its digest says; one tensor's digest is of other weights."""
    statement = world.statement()
    listed = marks_of(statement, FIRST)[tensors.SAFETENSORS_KEY]["tensors"]
    listed[-1]["digest"] = tensors.b3(b"other weights")
    world.sign(statement)
    return world.verify(differences={("annotation_mismatch", FIRST, listed[-1]["name"])})


@case("model_differs")
def annotation_equivocation__header(world):
    statement = world.statement()
    marks_of(statement, FIRST)[tensors.SAFETENSORS_KEY]["header"] = tensors.b3(b"another header")
    world.sign(statement)
    return world.verify(differences=NEWS)


@case("model_differs")
def annotation_equivocation__whole_file(world):
    statement = world.statement()
    marks_of(statement, BLOB)[tensors.BLAKE3_KEY] = tensors.b3(b"another content")
    world.sign(statement)
    return world.verify(differences={("annotation_mismatch", BLOB, None)})


@case("model_differs")
def annotation_equivocation__under_blake2b(world):
    statement = world.statement(algorithm="blake2b")
    marks_of(statement, BLOB)[tensors.BLAKE3_KEY] = tensors.b3(b"another content")
    world.sign(statement)
    return world.verify(differences={("annotation_mismatch", BLOB, None)})


@case("model_differs")
def annotation_equivocation__other_content_on_disk(world):
    """The other way round: what is on disk is what the annotation says, and not the digest."""
    statement = world.statement()
    other = altered(FILES[BLOB])
    marks_of(statement, BLOB)[tensors.BLAKE3_KEY] = tensors.b3(other)
    world.sign(statement)
    world.write(BLOB, other)
    return world.verify(differences={("annotation_mismatch", BLOB, None)})


@case("model_differs")
def annotation_equivocation__other_tensors_on_disk(world):
    statement = world.statement()
    other = altered(FILES[FIRST])
    oms.find(statement, FIRST)["annotations"] = tensors.annotation(other)
    world.sign(statement)
    world.write(FIRST, other)
    return world.verify(differences=NEWS)


@case("model_differs")
def annotation_equivocation__neither_on_disk(world):
    """The disk agrees with neither: then it has changed, and the digest decides."""
    statement = world.statement()
    marks_of(statement, BLOB)[tensors.BLAKE3_KEY] = tensors.b3(b"another content")
    world.sign(statement)
    flip(world.model / BLOB, 0)
    return world.verify(differences={("changed_file", BLOB, None)})


@case("safetensors_header_too_large")
def annotation_equivocation__of_another_file(world):
    """A true annotation, of a safetensors file, on a file that is none: its signed text has no header."""
    statement = world.statement()
    oms.find(statement, "config.json")["annotations"] = tensors.annotation(FILES[FIRST])
    world.sign(statement)
    return world.verify()


# -- annotations that are malformed ------------------------------------------------------------
# Fields and digests have the same codes as everywhere; `annotation_invalid` is for the rest.


def spoiled(world, change):
    """Changes the safetensors annotation of one file."""
    statement = world.statement()
    change(marks_of(statement, FIRST)[tensors.SAFETENSORS_KEY])
    world.sign(statement)
    return world.verify()


@case("annotation_invalid")
def annotation_malformed__unknown_algorithm(world):
    return spoiled(world, lambda marks: marks.update(algorithm="md5"))


@case("json_field")
def annotation_malformed__unknown_key(world):
    """In what is ours nothing is ignored."""
    return spoiled(world, lambda marks: marks.update(note=1))


@case("json_field")
def annotation_malformed__unknown_tensor_key(world):
    return spoiled(world, lambda marks: marks["tensors"][0].update(strides=[1]))


@case("json_field")
def annotation_malformed__no_header(world):
    return spoiled(world, lambda marks: marks.pop("header"))


@case("json_field")
def annotation_malformed__no_tensors(world):
    return spoiled(world, lambda marks: marks.pop("tensors"))


@case("annotation_invalid")
def annotation_malformed__empty_tensors(world):
    return spoiled(world, lambda marks: marks["tensors"].clear())


@case("digest_encoding")
def annotation_malformed__digest_in_capitals(world):
    return spoiled(world, lambda marks: marks.update(header=marks["header"].upper()))


@case("digest_length")
def annotation_malformed__digest_too_short(world):
    def cut(marks):
        marks["tensors"][0]["digest"] = marks["tensors"][0]["digest"][:-2]

    return spoiled(world, cut)


@case("annotation_invalid")
def annotation_malformed__unknown_dtype(world):
    return spoiled(world, lambda marks: marks["tensors"][0].update(dtype="F128"))


@case("annotation_invalid")
def annotation_malformed__shape_overflows(world):
    """The element count is zero in 64 bits."""
    return spoiled(world, lambda marks: marks["tensors"][0].update(shape=[1 << 32, 1 << 32]))


@case("json_field")
def annotation_malformed__whole_file_digest(world):
    statement = world.statement()
    marks_of(statement, BLOB)[tensors.BLAKE3_KEY] = 1
    world.sign(statement)
    return world.verify()


def with_version(world, version):
    statement = world.statement()
    statement["subject"][0]["annotations"] = {oms.VERSION_KEY: version}
    world.sign(statement)
    return world.verify()


@case("annotation_invalid")
def version_annotation__text(world):
    return with_version(world, "3")


@case("annotation_invalid")
def version_annotation__negative(world):
    return with_version(world, -1)


@case("annotation_invalid")
def version_annotation__beyond_2_53(world):
    """Larger integers are not the same in every JSON reader."""
    return with_version(world, 1 << 53)
