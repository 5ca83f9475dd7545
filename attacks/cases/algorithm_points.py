"""Class algorithm, part three: keys whose curve or point is not what it seems.

These are the verifier's own keys, so all are exit 2. The fixtures write the DER by hand, as no
library would.
"""

from cryptography.hazmat.primitives import serialization

from kit import der, oms
from kit.case import rejected
from kit.keys import ORDER, key

case = rejected("algorithm")

EC_PUBLIC_KEY = "1.2.840.10045.2.1"
PRIME_FIELD = "1.2.840.10045.1.1"
CURVES = {"p256": "1.2.840.10045.3.1.7", "p384": "1.3.132.0.34", "p521": "1.3.132.0.35"}

# P-256 (SEC 2, section 2.4.2).
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = bytes.fromhex(
    "046B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296"
    "4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5"
)


def point(x, y, width=32):
    """An uncompressed point."""
    return b"\x04" + x.to_bytes(width, "big") + y.to_bytes(width, "big")


def public_pem(encoded, curve):
    """An SPKI PEM of any point; `curve` is what stands for the curve."""
    return der.pem(
        "PUBLIC KEY", der.sequence(der.sequence(der.oid(EC_PUBLIC_KEY), curve), der.bits(encoded))
    )


def explicit(generator=G):
    """The parameters of P-256 written out (SEC 1, section C.2), with any base point."""
    field = der.sequence(der.oid(PRIME_FIELD), der.integer(P))
    curve = der.sequence(der.octets((P - 3).to_bytes(32, "big")), der.octets(B.to_bytes(32, "big")))
    return der.sequence(
        der.integer(1),
        field,
        curve,
        der.octets(generator),
        der.integer(ORDER["p256"]),
        der.integer(1),
    )


def own_point_of(signer):
    """A key's point, uncompressed."""
    return signer.private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def own_point(name="p256"):
    """The honest signer's own point."""
    return own_point_of(key(name))


def with_key(world, pem, name="p256"):
    """An honest signature, and this key for the verifier."""
    world.signer = key(name)
    world.honest()
    (world.root / "sentry.pub").write_bytes(pem)
    return world.verify()


@case("explicit_curve_parameters")
def explicit_ec_params(world):
    """The right key, the right curve, spelt out."""
    return with_key(world, public_pem(own_point(), explicit()))


@case("explicit_curve_parameters")
def explicit_ec_params__generator_is_the_key(world):
    """CVE-2020-0601: with the key itself as base point, its private key is 1."""
    return with_key(world, public_pem(own_point(), explicit(own_point())))


def private_scalar():
    return key().private.private_numbers().private_value.to_bytes(32, "big")


def signing_with(world, pem):
    world.base()
    (world.root / "sentry.key").write_bytes(pem)
    return world.signing()


@case("explicit_curve_parameters")
def explicit_ec_params__signing_pkcs8(world):
    sec1 = der.sequence(
        der.integer(1), der.octets(private_scalar()), der.element(0xA1, der.bits(own_point()))
    )
    kind = der.sequence(der.oid(EC_PUBLIC_KEY), explicit())
    return signing_with(
        world, der.pem("PRIVATE KEY", der.sequence(der.integer(0), kind, der.octets(sec1)))
    )


@case("explicit_curve_parameters")
def explicit_ec_params__signing_sec1(world):
    sec1 = der.sequence(
        der.integer(1), der.octets(private_scalar()), der.element(0xA0, explicit()),
        der.element(0xA1, der.bits(own_point())),
    )  # fmt: skip
    return signing_with(world, der.pem("EC PRIVATE KEY", sec1))


def named(encoded, name="p256"):
    return public_pem(encoded, der.oid(CURVES[name]))


@case("point_not_on_curve")
def point_off_curve(world):
    """The honest key, its last bit flipped."""
    encoded = own_point()
    return with_key(world, named(encoded[:-1] + bytes([encoded[-1] ^ 1])))


@case("point_not_on_curve")
def point_off_curve__p384(world):
    encoded = own_point("p384")
    return with_key(world, named(encoded[:-1] + bytes([encoded[-1] ^ 1]), "p384"), "p384")


@case("point_not_on_curve")
def point_off_curve__p521(world):
    encoded = own_point("p521")
    return with_key(world, named(encoded[:-1] + bytes([encoded[-1] ^ 1]), "p521"), "p521")


@case("point_not_on_curve")
def point_off_curve__zero_and_zero(world):
    return with_key(world, named(point(0, 0)))


@case("point_not_on_curve")
def point_off_curve__infinity(world):
    """The single byte that encodes no point at all."""
    return with_key(world, named(b"\0"))


def small_point():
    """A point of P-256 with a small x, so that x + p still has 32 bytes."""
    for x in range(1, 1000):
        square = (x**3 - 3 * x + B) % P
        y = pow(square, (P + 1) // 4, P)
        if y * y % P == square:
            return x, y
    raise AssertionError("half of all x have a point")


@case("point_not_on_curve")
def point_off_curve__coordinate_not_reduced(world):
    """On the curve to whoever reduces x modulo p first."""
    x, y = small_point()
    return with_key(world, named(point(x + P, y)))


@case("point_not_on_curve")
def point_off_curve__of_another_curve(world):
    """A point of brainpoolP256r1, which has the same size."""
    other = own_point_of(key("brainpoolP256r1"))
    return with_key(world, named(other))


@case("point_not_on_curve")
def point_off_curve__ed25519_small_order(world):
    """The neutral point as key: R neutral and S zero then fit every message.

    Strict: the key itself is refused, before any signature, as a point that is none to use."""
    identity = b"\x01" + bytes(31)
    content = der.sequence(der.sequence(der.oid("1.3.101.112")), der.bits(identity))
    bundle = world.bundle()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = oms.b64(identity + bytes(32))
    world.write_bundle(bundle)
    (world.root / "sentry.pub").write_bytes(der.pem("PUBLIC KEY", content))
    return world.verify()


# A private key file may carry a public key that is not its own. Signing with such a pair gives
# Ed25519's private key away; strict: the file is no key.


@case("key_pem")
def key_file__public_part_of_another_key(world):
    sec1 = der.sequence(
        der.integer(1), der.octets(private_scalar()),
        der.element(0xA1, der.bits(own_point_of(key("p256", "stranger")))),
    )  # fmt: skip
    kind = der.sequence(der.oid(EC_PUBLIC_KEY), der.oid(CURVES["p256"]))
    return signing_with(
        world, der.pem("PRIVATE KEY", der.sequence(der.integer(0), kind, der.octets(sec1)))
    )


@case("key_pem")
def key_file__ed25519_public_part_of_another_key(world):
    """RFC 5958: version 1 carries the public key as field [1]."""
    raw = (
        serialization.Encoding.Raw,
        serialization.PrivateFormat.Raw,
        serialization.NoEncryption(),
    )
    seed = key("ed25519").private.private_bytes(*raw)
    public = (
        key("ed25519", "stranger")
        .private.public_key()
        .public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    )
    kind = der.sequence(der.oid("1.3.101.112"))
    content = der.sequence(
        der.integer(1), kind, der.octets(der.octets(seed)), der.element(0x81, b"\0" + public)
    )
    return signing_with(world, der.pem("PRIVATE KEY", content))
