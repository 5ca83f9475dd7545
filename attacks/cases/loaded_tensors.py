"""Class time of check: tensors in memory whose bytes do not lie as they are signed.

Values and shape are the signed ones. But the memory behind them is in another order, has gaps, or is there once for many
elements: bytes that are hashed as if they lay row by row would be others than those that are used.
"""

from kit.case import rejected
from kit.tensors import entry, pattern, raw

case = rejected("time of check")

NAME = "model.safetensors"

# All rows alike, so that the first of them can stand for all.
CONTENT = raw({"a": entry("F32", [4, 6], 0, 96)}, pattern(24) * 4)


def lying(world, how, function="verify_tensors", **options):
    """The tensors of an honest model, which lie in memory in this way."""
    world.write(NAME, CONTENT)
    world.honest()
    signature = ["--signature", str(world.signature), "--lie", how]
    return world.calling(function, *signature, path=world.model / NAME, **options)


def by_torch(world, how):
    return lying(world, f"torch:{how}", once=True, timeout=60)


@case("unsupported_tensor")
def noncontiguous_or_expanded_tensor__transposed(world):
    return lying(world, "numpy:transposed")


@case("unsupported_tensor")
def noncontiguous_or_expanded_tensor__strided(world):
    return lying(world, "numpy:strided")


@case("unsupported_tensor")
def noncontiguous_or_expanded_tensor__reversed(world):
    return lying(world, "numpy:reversed")


@case("unsupported_tensor")
def noncontiguous_or_expanded_tensor__expanded(world):
    return lying(world, "numpy:expanded")


@case("unsupported_tensor")
def noncontiguous_or_expanded_tensor__big_endian(world):
    return lying(world, "numpy:big_endian")


@case("unsupported_tensor")
def noncontiguous_or_expanded_tensor__objects(world):
    """Its memory holds addresses."""
    return lying(world, "numpy:objects")


@case("unsupported_tensor")
def noncontiguous_or_expanded_tensor__transposed_by_torch(world):
    return by_torch(world, "transposed")


@case("unsupported_tensor")
def noncontiguous_or_expanded_tensor__expanded_by_torch(world):
    return by_torch(world, "expanded")


@case("unsupported_tensor")
def noncontiguous_or_expanded_tensor__without_memory(world):
    """Its memory was given back: whoever hashed it would read what lies there now, or die."""
    return by_torch(world, "freed")


def signing(world, how):
    """The same tensors, to be signed with the signer's key."""
    world.write(NAME, CONTENT)
    world.signature = world.root / "tensors.sig"
    (world.root / "sentry.pub").write_bytes(world.signer.private_pem())  # `--key` of signing
    return world.calling("sign_tensors", "--lie", how, path=world.model / NAME)


@case("unsupported_tensor", naive=False)
def noncontiguous_or_expanded_tensor__signing(world):
    return signing(world, "numpy:transposed")


@case("unsupported_tensor", naive=False)
def noncontiguous_or_expanded_tensor__signing_expanded(world):
    return signing(world, "numpy:expanded")
