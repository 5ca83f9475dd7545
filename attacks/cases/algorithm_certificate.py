"""Class algorithm, part four: keys, curves and encodings in certificates.

They come with the bundle, so all are rejections (exit 1), where a key of the verifier's own would be exit 2.
"""

import base64

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed448, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from kit import certificates as x509
from kit import der, oms
from kit.case import rejected
from kit.certificates import authority, changed, content, leaf, parts, presented, signature_of, trusting, with_signature
from kit.keys import ORDER

from .algorithm_points import CURVES, EC_PUBLIC_KEY, explicit, own_point, own_point_of, point

case = rejected("algorithm")

SHA1_WITH_RSA, SHA256_WITH_RSA = "1.2.840.113549.1.1.5", "1.2.840.113549.1.1.11"
ECDSA_SHA1, ECDSA_SHA256, ECDSA_SHA384 = "1.2.840.10045.4.1", "1.2.840.10045.4.3.2", "1.2.840.10045.4.3.3"


def under(world, kind, **options):
    """A leaf under an authority with a key of this kind, itself under a good root."""
    root = authority()
    middle = authority("between", root, kind=kind)
    return presented(world, root, leaf(middle), middle, **options)


# -- keys of authorities -----------------------------------------------------------------------


@case("certificate_algorithm")
def rsa_1024__authority_between(world):
    return under(world, "rsa1024")


@case("certificate_algorithm")
def rsa_1024__root(world):
    root = authority(kind="rsa1024")
    return presented(world, root, leaf(root))


@case("certificate_algorithm")
def rsa_1024__authority_that_signs(world):
    root = authority()
    middle = authority("between", root, kind="rsa1024")
    own = leaf(middle, ca=True, usage=("digital_signature", "key_cert_sign"))
    return presented(world, root, own, middle, extra=("--allow-ca-leaf",))


@case("certificate_algorithm")
def curve_not_allowed__authority_between(world):
    return under(world, "secp256k1")


@case("certificate_algorithm")
def curve_not_allowed__authority_between_brainpool(world):
    return under(world, "brainpoolP256r1")


@case("certificate_algorithm")
def curve_not_allowed__authority_between_p224(world):
    return under(world, "secp224r1")


@case("certificate_algorithm")
def curve_not_allowed__root(world):
    root = authority(kind="secp256k1")
    return presented(world, root, leaf(root))


# -- keys of publishers ------------------------------------------------------------------------


def by(world, kind):
    root = authority()
    return presented(world, root, leaf(root, kind=kind))


@case("certificate_key", naive=False)
def rsa_1024__publisher(world):
    return by(world, "rsa1024")


@case("certificate_key", naive=False)
def rsa_1024__publisher_not_with_2048_either(world):
    """Authorities may have RSA keys, since old ones do; signatures of models are made by none."""
    return by(world, "rsa2048")


@case("certificate_key")
def curve_not_allowed__publisher(world):
    return by(world, "secp256k1")


@case("certificate_key")
def curve_not_allowed__publisher_brainpool(world):
    return by(world, "brainpoolP256r1")


@case("certificate_key")
def curve_not_allowed__publisher_p224(world):
    return by(world, "secp224r1")


def with_key(world, public_key):
    """The publisher's certificate with this in place of its key."""
    root = authority()
    return presented(world, root, changed(leaf(root), root, x509.PUBLIC_KEY, public_key))


def on(curve, encoded):
    return der.sequence(der.sequence(der.oid(EC_PUBLIC_KEY), curve), der.bits(encoded))


@case("certificate_key")
def explicit_ec_params__publisher(world):
    """The right key, the right curve, spelt out: CVE-2020-0601 began so."""
    return with_key(world, on(explicit(), own_point()))


@case("certificate_key")
def explicit_ec_params__publisher_generator_is_the_key(world):
    return with_key(world, on(explicit(own_point()), own_point()))


@case("certificate_key")
def explicit_ec_params__publisher_inherits_its_curve(world):
    """No curve at all, to be taken from the issuer (implicitCurve)."""
    return with_key(world, on(b"\x05\0", own_point()))


@case("certificate_algorithm")
def explicit_ec_params__authority_between(world):
    """A root's key, spelt out in a certificate of the same name: the attack of CVE-2020-0601."""
    root = authority()
    middle = authority("between", root)
    spelt = changed(middle, root, x509.PUBLIC_KEY, on(explicit(), own_point_of(middle.key)))
    return presented(world, root, leaf(middle), spelt)


@case("certificate_key")
def point_off_curve__publisher(world):
    encoded = own_point()
    return with_key(world, on(der.oid(CURVES["p256"]), encoded[:-1] + bytes([encoded[-1] ^ 1])))


@case("certificate_key")
def point_off_curve__publisher_zero_and_zero(world):
    return with_key(world, on(der.oid(CURVES["p256"]), point(0, 0)))


@case("certificate_key")
def point_off_curve__publisher_infinity(world):
    return with_key(world, on(der.oid(CURVES["p256"]), b"\0"))


@case("certificate_key", naive=False)
def point_off_curve__publisher_ed25519_small_order(world):
    """The neutral point as key: anybody can sign for it."""
    root = authority()
    identity = b"\x01" + bytes(31)
    public_key = der.sequence(der.sequence(der.oid("1.3.101.112")), der.bits(identity))
    own = changed(leaf(root), root, x509.PUBLIC_KEY, public_key)
    bundle = x509.certified(world, own)
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = oms.b64(identity + bytes(32))
    world.write_bundle(bundle)
    return trusting(world, root)


@case("certificate_signature")
def point_off_curve__authority_between(world):
    root = authority()
    middle = authority("between", root)
    encoded = own_point_of(middle.key)
    bent = on(der.oid(CURVES["p256"]), encoded[:-1] + bytes([encoded[-1] ^ 1]))
    return presented(world, root, leaf(middle), changed(middle, root, x509.PUBLIC_KEY, bent))


@case("certificate_key", naive=False)
def key_file__ed448_in_a_certificate(world):
    public = ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()
    return with_key(world, der.sequence(der.sequence(der.oid("1.3.101.113")), der.bits(public)))


# -- algorithms of certificates' signatures ------------------------------------------------------


def algorithm(oid, *parameters):
    return der.sequence(der.oid(oid), *parameters)


def labelled(holder, signer, inner, outer=None, digest=None):
    """The certificate with these names of its algorithm, inside and outside of what is signed; signed with that hash."""
    inside = parts(parts(holder.der)[0])
    inside[x509.ALGORITHM] = inner
    tbs = der.sequence(*inside)
    if digest and signer.key.name.startswith("rsa"):
        signature = signer.key.private.sign(tbs, padding.PKCS1v15(), digest)
    else:
        signature = signer.key.sign(tbs, digest)
    return x509.Holder(holder.name, holder.key, der.sequence(tbs, outer or inner, der.bits(signature)))


@case("certificate_algorithm")
def alg_downgrade__sha1_under_rsa(world):
    root = authority(kind="rsa2048")
    return presented(world, root, labelled(leaf(root), root, algorithm(SHA1_WITH_RSA, b"\x05\0"), digest=hashes.SHA1()))


@case("certificate_algorithm")
def alg_downgrade__sha1_under_ecdsa(world):
    root = authority()
    return presented(world, root, labelled(leaf(root), root, algorithm(ECDSA_SHA1), digest=hashes.SHA1()))


@case("certificate_algorithm")
def alg_downgrade__sha1_authority_between(world):
    root = authority(kind="rsa2048")
    middle = labelled(authority("between", root), root, algorithm(SHA1_WITH_RSA, b"\x05\0"), digest=hashes.SHA1())
    return presented(world, root, leaf(middle), middle)


@case("certificate_algorithm")
def alg_label_key_mismatch__outside_and_inside(world):
    """The signed part names another algorithm than the certificate does."""
    root = authority()
    return presented(world, root, labelled(leaf(root), root, algorithm(ECDSA_SHA384), algorithm(ECDSA_SHA256)))


@case("certificate_algorithm")
def alg_label_key_mismatch__outside_and_inside_of_the_authority(world):
    root = authority()
    middle = labelled(authority("between", root), root, algorithm(ECDSA_SHA384), algorithm(ECDSA_SHA256))
    return presented(world, root, leaf(middle), middle)


@case("certificate_algorithm")
def alg_label_key_mismatch__rsa_label_under_ecdsa(world):
    root = authority()
    return presented(world, root, labelled(leaf(root), root, algorithm(SHA256_WITH_RSA, b"\x05\0")))


@case("certificate_algorithm")
def alg_label_key_mismatch__unknown_label_of_a_certificate(world):
    root = authority()
    return presented(world, root, labelled(leaf(root), root, algorithm("1.3.6.1.4.1.32473.1")))


@case("certificate_signature")
def alg_label_key_mismatch__signed_by_nobody(world):
    """The very name by which Sentry itself calls a signature that is none."""
    root = authority()
    nobody = algorithm("1.3.6.1.4.1.32473")
    own = labelled(leaf(root, ca=True, usage=("digital_signature", "key_cert_sign")), root, nobody)
    return presented(world, root, own, extra=("--allow-ca-leaf",))


@case("certificate_signature")
def alg_label_key_mismatch__hash_of_another_name(world):
    """Labelled SHA-384, signed over SHA-256."""
    root = authority()
    return presented(world, root, labelled(leaf(root), root, algorithm(ECDSA_SHA384), digest=hashes.SHA256()))


# -- signatures of certificates ------------------------------------------------------------------


def signed_as(world, change, between=False, kind="p256"):
    """`change` makes another signature of the one that the root gave the leaf, or the authority between."""
    root = authority(kind=kind)
    if between:
        middle = authority("between", root)
        return presented(world, root, leaf(middle), with_signature(middle, change(signature_of(middle))))
    own = leaf(root)
    return presented(world, root, with_signature(own, change(signature_of(own))))


def with_scalars(world, change, **options):
    return signed_as(world, lambda honest: der.ecdsa(*change(*decode_dss_signature(honest), ORDER["p256"])), **options)


@case("certificate_signature")
def ecdsa_r_or_s_zero_or_ge_n__certificate_both_zero(world):
    """CVE-2022-21449: what careless verifiers took for a signature of anything."""
    return with_scalars(world, lambda r, s, n: (0, 0))


@case("certificate_signature")
def ecdsa_r_or_s_zero_or_ge_n__certificate_authority_both_zero(world):
    return with_scalars(world, lambda r, s, n: (0, 0), between=True)


@case("certificate_signature")
def ecdsa_r_or_s_zero_or_ge_n__certificate_r_zero(world):
    return with_scalars(world, lambda r, s, n: (0, s))


@case("certificate_signature")
def ecdsa_r_or_s_zero_or_ge_n__certificate_s_is_n(world):
    return with_scalars(world, lambda r, s, n: (r, n))


@case("certificate_signature")
def ecdsa_r_or_s_zero_or_ge_n__certificate_s_plus_n(world):
    """The honest signature to whoever reduces modulo n first."""
    return with_scalars(world, lambda r, s, n: (r, s + n))


@case("certificate_signature")
def ber_not_der_sig__certificate_long_length(world):
    return signed_as(world, lambda honest: honest[:1] + b"\x81" + honest[1:])


@case("certificate_signature")
def ber_not_der_sig__certificate_leading_zero(world):
    def pad(honest):
        r, s = map(der.integer, decode_dss_signature(honest))
        return der.sequence(der.element(0x02, b"\0" + r[2:]), s)

    return signed_as(world, pad)


@case("certificate_signature")
def ber_not_der_sig__certificate_trailing_bytes(world):
    return signed_as(world, lambda honest: honest + b"\0")


@case("certificate_signature")
def ber_not_der_sig__certificate_authority_trailing_bytes(world):
    return signed_as(world, lambda honest: honest + b"\0", between=True)


@case("certificate_signature")
def ber_not_der_sig__certificate_empty(world):
    return signed_as(world, lambda honest: b"")


@case("certificate_signature")
def ber_not_der_sig__certificate_rsa_one(world):
    """Zero and one are their own roots; no padding is."""
    return signed_as(world, lambda honest: (1).to_bytes(256, "big"), kind="rsa2048")


@case("certificate_signature")
def ber_not_der_sig__certificate_bit_flipped(world):
    return signed_as(world, lambda honest: honest[:-1] + bytes([honest[-1] ^ 1]))


@case("signature_encoding")
def ber_not_der_sig__under_a_certificate(world):
    """The signature of the model itself, as strict as under a key."""
    root = authority()
    bundle = x509.certified(world, leaf(root))
    envelope = bundle["dsseEnvelope"]["signatures"][0]
    envelope["sig"] = oms.b64(base64.b64decode(envelope["sig"]) + b"\0")
    world.write_bundle(bundle)
    return trusting(world, root)


@case("signature_scalar")
def ecdsa_r_or_s_zero_or_ge_n__under_a_certificate(world):
    root = authority()
    bundle = x509.certified(world, leaf(root))
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = oms.b64(der.ecdsa(0, 0))
    world.write_bundle(bundle)
    return trusting(world, root)


# -- BER, and what is no certificate -------------------------------------------------------------


def as_leaf(world, change):
    """The leaf's bytes go through `change`; the signed part is signed again where that matters."""
    root = authority()
    own = leaf(root)
    return presented(world, root, x509.Holder(own.name, own.key, change(own, root)))


@case("certificate_malformed")
def ber_certificate(world):
    """A length in three bytes that fits into two, where no signature looks: the outermost."""
    return as_leaf(world, lambda own, root: b"\x30\x83\0" + own.der[2:])


@case("certificate_malformed")
def ber_certificate__indefinite_length(world):
    return as_leaf(world, lambda own, root: b"\x30\x80" + content(own.der) + b"\0\0")


@case("certificate_malformed")
def ber_certificate__inside_what_is_signed(world):
    """The root itself signed it so."""

    def change(own, root):
        inside = b"".join(parts(parts(own.der)[0]))
        tbs = b"\x30\x83" + len(inside).to_bytes(3, "big") + inside
        algorithm_of_it = parts(own.der)[1]
        return der.sequence(tbs, algorithm_of_it, der.bits(root.key.sign(tbs)))

    return as_leaf(world, change)


@case("certificate_malformed")
def ber_certificate__boolean(world):
    """TRUE is FF in DER; 01 is true in BER alone."""
    root = authority()
    flag = der.sequence(der.oid("2.5.29.19"), der.element(0x01, b"\x01"), der.octets(der.sequence()))
    own = leaf(root, ca=None)
    extensions = parts(content(parts(parts(own.der)[0])[x509.EXTENSIONS]))
    whole = der.element(0xA3, der.sequence(flag, *extensions))
    return presented(world, root, changed(own, root, x509.EXTENSIONS, whole))


@case("certificate_malformed")
def ber_certificate__trailing_bytes(world):
    return as_leaf(world, lambda own, root: own.der + b"\0")


@case("certificate_malformed")
def ber_certificate__cut_off(world):
    return as_leaf(world, lambda own, root: own.der[:-1])


@case("certificate_malformed")
def ber_certificate__empty(world):
    return as_leaf(world, lambda own, root: b"")


@case("certificate_malformed")
def ber_certificate__pem_in_place_of_der(world):
    return as_leaf(world, lambda own, root: own.pem())


@case("certificate_malformed")
def ber_certificate__two_in_one(world):
    return as_leaf(world, lambda own, root: own.der + own.der)


@case("certificate_path")
def ber_certificate__authority_between(world):
    root = authority()
    middle = authority("between", root)
    return presented(world, root, leaf(middle), x509.Holder(middle.name, middle.key, middle.der + b"\0"))
