"""Class envelope, part three: hex and base64 that have more than one reading."""

import base64

from kit import oms
from kit.case import rejected

case = rejected("envelope")

# -- hex ---------------------------------------------------------------------------------------


def with_digest(world, change):
    statement = world.statement()
    item = oms.find(statement, "config.json")
    item["digest"] = change(item["digest"])
    world.sign(statement)
    return world.verify()


@case("digest_length")
def digest_wrong_length(world):
    """One byte short, and the root is over what is there."""
    statement = world.statement()
    item = oms.find(statement, "config.json")
    item["digest"] = item["digest"][:-2]
    world.sign(oms.set_root(statement))
    return world.verify()


@case("digest_length")
def digest_wrong_length__of_another_algorithm(world):
    """A good BLAKE2b digest under the name sha256."""
    statement = world.statement()
    item = oms.find(statement, "config.json")
    item["digest"] = oms.digest((world.model / "config.json").read_bytes(), "blake2b")
    world.sign(oms.set_root(statement))
    return world.verify()


@case("digest_length")
def digest_wrong_length__empty(world):
    statement = world.statement()
    oms.find(statement, "config.json")["digest"] = ""
    world.sign(oms.set_root(statement))
    return world.verify()


@case("digest_length")
def digest_wrong_length__root(world):
    statement = world.statement()
    digest = statement["subject"][0]["digest"]
    digest["sha256"] = digest["sha256"][:32]
    world.sign(statement)
    return world.verify()


@case("digest_encoding")
def digest_uppercase_or_whitespace_hex(world):
    return with_digest(world, str.upper)


@case("digest_encoding")
def digest_uppercase_or_whitespace_hex__root(world):
    statement = world.statement()
    digest = statement["subject"][0]["digest"]
    digest["sha256"] = digest["sha256"].upper()
    world.sign(statement)
    return world.verify()


@case("digest_encoding")
def digest_uppercase_or_whitespace_hex__space(world):
    """Strict: what is no lower-case hex is an encoding error, whatever its length."""
    return with_digest(world, lambda digest: digest[:2] + " " + digest[2:])


@case("digest_encoding")
def digest_uppercase_or_whitespace_hex__newline(world):
    return with_digest(world, lambda digest: digest + "\n")


@case("digest_encoding")
def digest_uppercase_or_whitespace_hex__not_hex(world):
    return with_digest(world, lambda digest: "g" + digest[1:])


@case("digest_encoding")
def digest_uppercase_or_whitespace_hex__other_digits(world):
    """Digits of another script, which some number parsers take."""
    return with_digest(world, lambda digest: digest[:-1] + "\u0663")


# -- base64 ------------------------------------------------------------------------------------
# Standard, or URL-safe as a whole (a control); padded, no white space, no spare bits.


def with_base64(world, change):
    """Changes the payload's base64. Spaces after the JSON leave two characters of padding, and a
    foreign note puts both special characters in, so that every change has something to change."""
    statement = world.statement()
    statement["subject"][0]["annotations"] = {"example.org/note": ">>>>>>??????" * 3}
    payload = oms.encode(statement)
    payload += b" " * ((1 - len(payload)) % 3)
    bundle = oms.bundle(payload, world.signer)
    text = bundle["dsseEnvelope"]["payload"]
    assert "+" in text and "/" in text and text.endswith("==")
    bundle["dsseEnvelope"]["payload"] = change(text)
    assert change(text) != text
    world.write_bundle(bundle)
    return world.verify()


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def set_spare_bit(text):
    """Sets a bit that decodes to nothing."""
    at = len(text.rstrip("=")) - 1
    return text[:at] + ALPHABET[ALPHABET.index(text[at]) | 1] + text[at + 1 :]


@case("base64")
def base64_noncanonical__mixed_alphabets(world):
    return with_base64(world, lambda text: text.replace("+", "-"))


@case("base64")
def base64_noncanonical__spare_bits(world):
    return with_base64(world, set_spare_bit)


@case("base64")
def base64_noncanonical__newlines(world):
    return with_base64(world, lambda text: text[:76] + "\n" + text[76:])


@case("base64")
def base64_noncanonical__trailing_space(world):
    return with_base64(world, lambda text: text + " ")


@case("base64")
def base64_noncanonical__no_padding(world):
    return with_base64(world, lambda text: text.rstrip("="))


@case("base64")
def base64_noncanonical__too_much_padding(world):
    return with_base64(world, lambda text: text + "=")


@case("base64")
def base64_noncanonical__padding_in_the_middle(world):
    """Two encodings one after the other: some decoders stop, some go on."""

    def twice(text):
        payload = base64.b64decode(text)
        return oms.b64(payload[:100]) + oms.b64(payload[100:])

    return with_base64(world, twice)


@case("base64")
def base64_noncanonical__foreign_character(world):
    return with_base64(world, lambda text: text[:8] + "*" + text[8:])


def with_signature_base64(world, change):
    """Changes the signature's base64, once a signature has come up whose base64 can be changed."""
    payload = oms.encode(world.statement())
    for _ in range(2000):
        bundle = oms.bundle(payload, world.signer)
        signature = bundle["dsseEnvelope"]["signatures"][0]
        if change(signature["sig"]) != signature["sig"]:
            break
    else:
        raise AssertionError("no such signature came up")
    signature["sig"] = change(signature["sig"])
    world.write_bundle(bundle)
    return world.verify()


@case("base64")
def base64_noncanonical__signature_mixed_alphabets(world):
    def mix(text):
        return text.replace("+", "-") if "/" in text else text

    return with_signature_base64(world, mix)


@case("base64")
def base64_noncanonical__signature_spare_bits(world):
    def spare(text):
        return set_spare_bit(text) if text.endswith("=") else text

    return with_signature_base64(world, spare)


@case("base64")
def base64_noncanonical__signature_newline(world):
    return with_signature_base64(world, lambda text: text + "\n")
