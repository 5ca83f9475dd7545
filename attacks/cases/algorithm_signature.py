"""Class algorithm, part two: encodings and values of signatures."""

import base64

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kit import der, oms
from kit.case import rejected
from kit.keys import ORDER, key

case = rejected("algorithm")


def signed_as(world, change, name="p256"):
    """The honest bundle; `change` makes another signature of the honest one."""
    world.signer = world.trusted = key(name)
    bundle = world.bundle()
    signature = bundle["dsseEnvelope"]["signatures"][0]
    honest = base64.b64decode(signature["sig"])
    changed = change(honest)
    assert changed != honest
    signature["sig"] = oms.b64(changed)
    world.write_bundle(bundle)
    return world.verify()


def with_scalars(world, change, name="p256"):
    """The honest r and s go through `change`; the encoding stays strict."""

    def encode(honest):
        r, s = decode_dss_signature(honest)
        return der.ecdsa(*change(r, s, ORDER[name]))

    return signed_as(world, encode, name)


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__r_zero(world):
    return with_scalars(world, lambda r, s, n: (0, s))


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__s_zero(world):
    return with_scalars(world, lambda r, s, n: (r, 0))


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__both_zero(world):
    """What a careless verifier takes for a signature of anything."""
    return with_scalars(world, lambda r, s, n: (0, 0))


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__r_is_n(world):
    return with_scalars(world, lambda r, s, n: (n, s))


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__s_is_n(world):
    return with_scalars(world, lambda r, s, n: (r, n))


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__r_plus_n(world):
    """The honest signature to whoever reduces modulo n first."""
    return with_scalars(world, lambda r, s, n: (r + n, s))


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__s_plus_n(world):
    return with_scalars(world, lambda r, s, n: (r, s + n))


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__p384(world):
    return with_scalars(world, lambda r, s, n: (r, s + n), "p384")


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__p521(world):
    return with_scalars(world, lambda r, s, n: (r + n, s), "p521")


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__p521_both_zero(world):
    return with_scalars(world, lambda r, s, n: (0, 0), "p521")


ED25519_ORDER = (1 << 252) + 27742317777372353535851937790883648493


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__ed25519_s_plus_order(world):
    """RFC 8032, section 5.1.7: S below the order, else one signature has many forms."""

    def add(honest):
        scalar = int.from_bytes(honest[32:], "little") + ED25519_ORDER
        return honest[:32] + scalar.to_bytes(32, "little")

    return signed_as(world, add, "ed25519")


@case("signature_invalid")
def ecdsa_r_or_s_zero_or_ge_n__one_and_one(world):
    """In range, and no signature of this."""
    return with_scalars(world, lambda r, s, n: (1, 1))


@case("signature_invalid")
def ecdsa_r_or_s_zero_or_ge_n__exchanged(world):
    return with_scalars(world, lambda r, s, n: (s, r))


# -- DER ---------------------------------------------------------------------------------------


def parts(honest):
    """The two INTEGERs of an honest signature, encoded."""
    r, s = decode_dss_signature(honest)
    return der.integer(r), der.integer(s)


@case("signature_encoding")
def ber_not_der_sig__long_length(world):
    """81 46 for 46: a length in two bytes that fits into one."""
    return signed_as(world, lambda honest: honest[:1] + b"\x81" + honest[1:])


@case("signature_encoding")
def ber_not_der_sig__indefinite_length(world):
    return signed_as(world, lambda honest: b"\x30\x80" + honest[2:] + b"\0\0")


@case("signature_encoding")
def ber_not_der_sig__leading_zero(world):
    def pad(honest):
        r, s = parts(honest)
        return der.sequence(der.element(0x02, b"\0" + r[2:]), s)

    return signed_as(world, pad)


@case("signature_encoding")
def ber_not_der_sig__negative(world):
    """Without its leading zero the honest r reads as a negative number. Strict: bad encoding."""

    def negate(honest):
        r, s = parts(honest)
        body = r[2:].lstrip(b"\0")
        body = bytes([body[0] | 0x80]) + body[1:]
        return der.sequence(der.element(0x02, body), s)

    return signed_as(world, negate)


@case("signature_encoding")
def ber_not_der_sig__trailing_bytes(world):
    return signed_as(world, lambda honest: honest + b"\0")


@case("signature_encoding")
def ber_not_der_sig__trailing_bytes_inside(world):
    return signed_as(world, lambda honest: der.sequence(*parts(honest), b"\x05\0"))


@case("signature_encoding")
def ber_not_der_sig__cut_off(world):
    return signed_as(world, lambda honest: honest[:-1])


@case("signature_encoding")
def ber_not_der_sig__r_and_s_plain(world):
    """IEEE P1363: 64 bytes, no DER at all."""

    def plain(honest):
        return b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(honest))

    return signed_as(world, plain)


@case("signature_encoding")
def ber_not_der_sig__other_tag(world):
    """A SET of the two."""
    return signed_as(world, lambda honest: b"\x31" + honest[1:])


@case("signature_encoding")
def ber_not_der_sig__ed25519_too_short(world):
    return signed_as(world, lambda honest: honest[:-1], "ed25519")


@case("signature_encoding")
def ber_not_der_sig__ed25519_too_long(world):
    return signed_as(world, lambda honest: honest + b"\0", "ed25519")


@case("signature_encoding")
def ber_not_der_sig__ed25519_under_p256(world):
    """64 good bytes of another algorithm."""
    stranger = key("ed25519", "stranger")
    return signed_as(world, stranger.sign)
