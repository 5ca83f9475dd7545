"""Class algorithm, part one: names of algorithms, and keys.

A key that the verifier itself brings and that cannot be used is exit 2: nothing was checked.
"""

import base64
import hashlib

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed448, x25519

from kit import oms
from kit.case import rejected
from kit.keys import key
from kit.world import BLOB, FILES

case = rejected("algorithm")


def with_algorithm(world, resource=None, whole=None):
    """Renames the algorithm of one resource, or of all and of the statement."""
    statement = world.statement(annotate=False)
    if resource is not None:
        oms.find(statement, "config.json")["algorithm"] = resource
    if whole is not None:
        statement["predicate"]["serialization"]["hash_type"] = whole
        for item in statement["predicate"]["resources"]:
            item["algorithm"] = whole
    world.sign(statement)
    return world.verify()


@case("unknown_algorithm")
def unknown_algorithm_name(world):
    return with_algorithm(world, whole="sha512-256")


@case("unknown_algorithm")
def unknown_algorithm_name__one_resource(world):
    return with_algorithm(world, resource="sha512-256")


@case("unknown_algorithm")
def unknown_algorithm_name__capitals(world):
    return with_algorithm(world, whole="SHA256")


@case("unknown_algorithm")
def unknown_algorithm_name__empty(world):
    return with_algorithm(world, whole="")


@case("unknown_algorithm")
def unknown_algorithm_name__sha3_never_in_oms(world):
    """`sentry hash` knows it, OMS does not."""
    return with_algorithm(world, whole="sha3-256")


@case("unknown_algorithm")
def unknown_algorithm_name__tree_never_in_oms(world):
    return with_algorithm(world, whole="sha256-tree")


@case("unknown_algorithm")
def alg_downgrade(world):
    """True digests of a broken algorithm."""
    statement = world.statement(annotate=False)
    for item in statement["predicate"]["resources"]:
        item["algorithm"] = "md5"
        item["digest"] = hashlib.md5(FILES[item["name"]], usedforsecurity=False).hexdigest()
    statement["predicate"]["serialization"]["hash_type"] = "md5"
    world.sign(oms.set_root(statement))
    return world.verify()


@case("algorithm_mismatch")
def alg_downgrade__one_resource(world):
    """One file by another (known) algorithm, with its true digest."""
    statement = world.statement(annotate=False)
    item = oms.find(statement, "config.json")
    item.update(algorithm="blake3", digest=oms.digest(FILES["config.json"], "blake3"))
    world.sign(oms.set_root(statement))
    return world.verify()


@case("algorithm_mismatch")
def alg_downgrade__hash_type_only(world):
    statement = world.statement(annotate=False)
    statement["predicate"]["serialization"]["hash_type"] = "blake3"
    world.sign(statement)
    return world.verify()


@case("algorithm_mismatch")
def alg_downgrade__shard_size_in_the_name(world):
    """The reference puts the shard size into the name; this one is not the statement's."""
    statement = world.statement(shard_size=100_000)
    oms.find(statement, f"{BLOB}:0:100000")["algorithm"] = "sha256-sharded-200000"
    world.sign(statement)
    return world.verify()


@case("algorithm_mismatch")
def alg_downgrade__shard_algorithm_with_files(world):
    return with_algorithm(world, resource="sha256-sharded-100000")


# -- labels: the older form names the key inside the bundle ------------------------------------

P256, P384 = "PKIX_ECDSA_P256_SHA_256", "PKIX_ECDSA_P384_SHA_384"


def labelled(world, details, embedded=None):
    """A bundle of the older form: the signer's key and its kind instead of a hint."""
    bundle = world.bundle()
    pem = (embedded or world.signer).public_pem()
    bundle["verificationMaterial"] = {
        "publicKey": {"rawBytes": oms.b64(pem), "keyDetails": details}, "tlogEntries": [],
    }  # fmt: skip
    world.write_bundle(bundle)
    return world.verify()


@case("key_label_mismatch")
def alg_label_key_mismatch(world):
    return labelled(world, P384)


@case("key_label_mismatch")
def alg_label_key_mismatch__rsa_label(world):
    return labelled(world, "PKIX_RSA_PKCS1V15_2048_SHA256")


@case("key_label_mismatch")
def alg_label_key_mismatch__unknown_label(world):
    return labelled(world, "PKIX_NONE")


@case("key_label_mismatch")
def alg_label_key_mismatch__other_key_embedded(world):
    """A good signature, beside a key that did not make it."""
    return labelled(world, P256, embedded=key("p256", "stranger"))


@case("key_label_mismatch")
def alg_label_key_mismatch__stranger_brings_his_key(world):
    """A stranger signs and embeds his own key: the bundle agrees with itself."""
    world.signer = key("p256", "stranger")
    return labelled(world, P256)


@case("key_label_mismatch")
def alg_label_key_mismatch__other_curve_embedded(world):
    return labelled(world, P384, embedded=key("p384", "stranger"))


@case("signature_invalid")
def alg_label_key_mismatch__hash_of_another_curve(world):
    """P-384 goes with SHA-384; this signature is over SHA-256."""
    world.signer = world.trusted = key("p384")
    bundle = world.bundle()
    message = oms.pae(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    signature = world.signer.sign(message, hashes.SHA256())
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = oms.b64(signature)
    world.write_bundle(bundle)
    return world.verify()


# -- keys that are not allowed -----------------------------------------------------------------


def by(world, name):
    """An honest signature of a key of that kind, verified with it."""
    world.signer = world.trusted = key(name)
    world.honest()
    return world.verify()


def signing_by(world, name):
    world.base()
    world.signer = key(name)
    return world.signing()


@case("curve_not_allowed")
def curve_not_allowed(world):
    return by(world, "secp256k1")


@case("curve_not_allowed")
def curve_not_allowed__brainpool(world):
    return by(world, "brainpoolP256r1")


@case("curve_not_allowed")
def curve_not_allowed__p224(world):
    return by(world, "secp224r1")


@case("curve_not_allowed")
def curve_not_allowed__signing(world):
    return signing_by(world, "secp256k1")


@case("rsa_key")
def rsa_1024(world):
    return by(world, "rsa1024")


@case("rsa_key")
def rsa_1024__not_with_2048_either(world):
    """The `key` method of OMS knows no RSA of any size."""
    return by(world, "rsa2048")


@case("rsa_key")
def rsa_1024__signing(world):
    return signing_by(world, "rsa1024")


def spki(private):
    return private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def with_key_file(world, content):
    """An honest signature, and this file as the verifier's key."""
    world.honest()
    (world.root / "sentry.pub").write_bytes(content)
    return world.verify()


@case("unsupported_key")
def key_file__ed448(world):
    return with_key_file(world, spki(ed448.Ed448PrivateKey.generate()))


@case("unsupported_key")
def key_file__x25519(world):
    """A key for agreement, not for signatures."""
    return with_key_file(world, spki(x25519.X25519PrivateKey.generate()))


@case("key_pem")
def key_file__garbage(world):
    return with_key_file(world, b"not a key\n")


@case("key_pem")
def key_file__empty(world):
    return with_key_file(world, b"")


@case("key_pem")
def key_file__cut_off(world):
    pem = key().public_pem()
    return with_key_file(world, pem[: len(pem) // 2])


@case("key_pem")
def key_file__broken_base64(world):
    return with_key_file(world, key().public_pem().replace(b"M", b"*", 1))


def signing_with_key_file(world, content, **options):
    world.base()
    (world.root / "sentry.key").write_bytes(content)
    return world.signing(**options)


@case("key_encrypted")
def key_file__encrypted_and_no_password(world):
    """No terminal, no variable, no file: it must say so, not wait."""
    return signing_with_key_file(world, key().private_pem(b"correct horse"))


@case("key_password")
def key_file__wrong_password(world):
    return signing_with_key_file(
        world, key().private_pem(b"correct horse"), environment={"SENTRY_KEY_PASSWORD": "battery"}
    )


@case("key_pem")
def key_file__signing_with_a_public_key(world):
    return signing_with_key_file(world, key().public_pem())
