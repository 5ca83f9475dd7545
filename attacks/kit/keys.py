"""Signing keys, made at run time, and their PEM files.

A fixture may hold the signer's private key: that is how a malicious signer is played.
"""

import functools
import threading
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

_CURVES = {
    "p256": (ec.SECP256R1, hashes.SHA256),
    "p384": (ec.SECP384R1, hashes.SHA384),
    "p521": (ec.SECP521R1, hashes.SHA512),
    "secp256k1": (ec.SECP256K1, hashes.SHA256),
    "secp224r1": (ec.SECP224R1, hashes.SHA256),
    "brainpoolP256r1": (ec.BrainpoolP256R1, hashes.SHA256),
}

# Order of the base point, by curve (SEC 2, version 2.0, section 2).
ORDER = {
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "p384": int(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
        "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973",
        16,
    ),
    "p521": int(
        "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFA"
        "51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409",
        16,
    ),
}


@dataclass(frozen=True)
class Key:
    """A private key and how it signs: ECDSA with the curve's own hash, or Ed25519."""

    name: str
    private: Any

    def sign(self, message: bytes, digest: hashes.HashAlgorithm | None = None) -> bytes:
        """Signs; `digest` replaces the curve's own hash."""
        if self.name.startswith("rsa"):
            return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        if self.name == "ed25519":
            return self.private.sign(message)
        own = _CURVES[self.name][1]()
        return self.private.sign(message, ec.ECDSA(digest or own))

    def public_pem(self) -> bytes:
        """The public key as SPKI PEM: what `--key` of verify is given."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def private_pem(self, password: bytes | None = None) -> bytes:
        """The private key as PKCS#8 PEM, encrypted if a password is given."""
        protection = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )


_lock = threading.Lock()


def key(name: str = "p256", owner: str = "publisher") -> Key:
    """The key of that kind and owner; the same one for the whole run, as making some is slow."""
    with _lock:
        return _make(name, owner)


@functools.cache
def _make(name: str, owner: str) -> Key:
    del owner  # only tells keys of one kind apart
    if name == "ed25519":
        return Key(name, ed25519.Ed25519PrivateKey.generate())
    if name.startswith("rsa"):
        return Key(name, rsa.generate_private_key(65537, int(name[3:])))
    return Key(name, ec.generate_private_key(_CURVES[name][0]()))
