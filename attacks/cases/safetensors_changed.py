"""Class safetensors, part three: well-formed files that are not what was signed.

Plain names tamper with the file of an honest signature. `__signed` plays a malicious signer: the
file has its true digest, and the annotation tells of another layout of the same bytes. Such a
signature contradicts the header whose digest it has (`annotation_invalid`); the file is not what
differs. Where layout agrees and a digest does not, that tensor is an `annotation_mismatch`.
"""

from kit import oms, tensors
from kit.case import rejected
from kit.tensors import Tensor, encode, entry
from kit.world import FILES, FIRST, FIRST_TENSORS, data_offset

case = rejected("safetensors")

HEADER = {("changed_header", FIRST, None)}


def replaced(world, content, differences):
    """The honest signature, and this file in place of the signed one."""
    assert content != FILES[FIRST]
    world.honest()
    world.write(FIRST, content)
    return world.verify(differences=differences)


def same_length(old, new):
    """Replaces text in the header, at the cost of its padding, so that no offset moves."""
    head, data = tensors.split(FILES[FIRST])
    changed = head[8:].rstrip(b" ").replace(old.encode(), new.encode(), 1)
    room = len(head) - 8
    assert changed != head[8:].rstrip(b" ")
    if len(changed) > room:
        room += 8
    return room.to_bytes(8, "little") + changed.ljust(room) + data


def described(world, change):
    """The honest model; its annotation of FIRST goes through `change` before it is signed."""
    statement = world.statement()
    marks = oms.find(statement, FIRST)["annotations"][tensors.SAFETENSORS_KEY]
    change({item["name"]: item for item in marks["tensors"]})
    world.sign(statement)
    return world.verify()


def bytes_of(begin, end):
    """Digest of a range of FIRST's data."""
    return tensors.b3(tensors.split(FILES[FIRST])[1][begin:end])


@case("model_differs")
def tensor_swap_equal_shape(world):
    """The bytes of two tensors of one shape are exchanged."""
    content = bytearray(FILES[FIRST])
    size = len(FIRST_TENSORS[1].data)
    one = data_offset(FILES[FIRST], "layer.0.weight")
    two = data_offset(FILES[FIRST], "layer.1.weight")
    content[one : one + size], content[two : two + size] = (
        content[two : two + size], content[one : one + size],
    )  # fmt: skip
    changed = {("changed_tensor", FIRST, f"layer.{number}.weight") for number in (0, 1)}
    return replaced(world, bytes(content), changed)


@case("model_differs")
def tensor_swap_equal_shape__names_in_the_header(world):
    """The bytes stay; the header gives each to the other's name."""
    text = same_length("layer.0.weight", "layer.#.weight")
    text = text.replace(b"layer.1.weight", b"layer.0.weight", 1)
    return replaced(world, text.replace(b"layer.#.weight", b"layer.1.weight", 1), HEADER)


@case("model_differs")
def tensor_swap_equal_shape__signed(world):
    def swap(by_name):
        one, two = by_name["layer.0.weight"], by_name["layer.1.weight"]
        one["digest"], two["digest"] = two["digest"], one["digest"]

    attempt = described(world, swap)
    attempt.differences = {
        ("annotation_mismatch", FIRST, f"layer.{number}.weight") for number in (0, 1)
    }
    return attempt


@case("model_differs")
def tensor_rename(world):
    return replaced(world, same_length("layer.bias", "layer.Bias"), HEADER)


@case("annotation_invalid")
def tensor_rename__signed(world):
    return described(world, lambda by_name: by_name["layer.bias"].update(name="layer.base"))


@case("model_differs")
def dtype_reinterpret_f16_bf16(world):
    return replaced(world, same_length('"F16"', '"BF16"'), HEADER)


@case("annotation_invalid")
def dtype_reinterpret_f16_bf16__signed(world):
    return described(world, lambda by_name: by_name["embed.weight"].update(dtype="BF16"))


@case("model_differs")
def shape_transposed_same_bytes(world):
    return replaced(world, same_length("[8,4]", "[4,8]"), HEADER)


@case("annotation_invalid")
def shape_transposed_same_bytes__signed(world):
    return described(world, lambda by_name: by_name["embed.weight"].update(shape=[4, 8]))


@case("annotation_invalid")
def shape_transposed_same_bytes__flattened_signed(world):
    return described(world, lambda by_name: by_name["embed.weight"].update(shape=[32]))


@case("model_differs")
def bytes_moved_across_tensor_boundary(world):
    """Data and total are the same; the header gives one row of a tensor to its neighbour."""
    moved = [
        FIRST_TENSORS[0],
        Tensor("layer.0.weight", "F32", [5, 6]),
        Tensor("layer.1.weight", "F32", [3, 6]),
        FIRST_TENSORS[3],
    ]
    header = tensors.header_of(moved)
    return replaced(world, tensors.raw(header, tensors.split(FILES[FIRST])[1]), HEADER)


@case("annotation_invalid")
def bytes_moved_across_tensor_boundary__signed(world):
    """Each annotated digest is right for the bytes it claims; the boundary is not the header's."""

    def move(by_name):
        begin = len(FIRST_TENSORS[0].data)
        by_name["layer.0.weight"].update(shape=[5, 6], digest=bytes_of(begin, begin + 120))
        by_name["layer.1.weight"].update(shape=[3, 6], digest=bytes_of(begin + 120, begin + 192))

    return described(world, move)


@case("model_differs")
def bytes_moved_across_tensor_boundary__by_data(world):
    """The header stays; four bytes go from the end of the data to its start."""
    head, data = tensors.split(FILES[FIRST])
    changed = {("changed_tensor", FIRST, tensor.name) for tensor in FIRST_TENSORS}
    return replaced(world, head + data[-4:] + data[:-4], changed)


@case("model_differs")
def zero_size_tensor_reuses_offset__appended_after_signing(world):
    """No byte of data changes; the model gains a tensor."""
    header = tensors.header_of(FIRST_TENSORS)
    header["extra"] = entry("U8", [0], 64, 64)
    return replaced(world, tensors.raw(header, tensors.split(FILES[FIRST])[1]), HEADER)


@case("model_differs")
def tensor_added_to_the_file(world):
    """A tensor more, at the end, in header and data."""
    return replaced(world, encode([*FIRST_TENSORS, Tensor("extra", "U8", [4])]), HEADER)


@case("annotation_invalid")
def tensor_left_out__signed(world):
    """The annotation is silent about the last tensor, so its tensors do not tile the file."""
    statement = world.statement()
    oms.find(statement, FIRST)["annotations"][tensors.SAFETENSORS_KEY]["tensors"].pop()
    world.sign(statement)
    return world.verify()


@case("annotation_invalid")
def tensor_listed_twice__signed(world):
    statement = world.statement()
    listed = oms.find(statement, FIRST)["annotations"][tensors.SAFETENSORS_KEY]["tensors"]
    listed.append(dict(listed[-1]))
    world.sign(statement)
    return world.verify()
