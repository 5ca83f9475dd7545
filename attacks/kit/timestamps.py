"""Timestamps of RFC 3161, written out by hand so that a fixture can choose their time and their defects, or made by openssl.

Whoever holds an authority's key can make them: a dishonest authority is played so.
"""

import datetime
import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import certificates as x509
from . import der, oms
from .case import Broken, NotHere
from .certificates import NOW, Holder, authority, parts

SHA256, SHA512 = "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.3"
SIGNED_DATA, TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE, MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
POLICY = "1.3.6.1.4.1.32473.7"
SIGNATURE_ALGORITHMS = {"rsa2048": "1.2.840.113549.1.1.11", "p384": "1.2.840.10045.4.3.3", "p521": "1.2.840.10045.4.3.4"}
DIGESTS = {"p384": ("2.16.840.1.101.3.4.2.2", hashlib.sha384), "p521": (SHA512, hashlib.sha512)}
ECDSA_SHA256 = "1.2.840.10045.4.3.2"


def stamper(issuer: Holder, *, kind: str = "p256", owner: str = "clock", **options: Any) -> Holder:
    """The certificate with which an authority signs timestamps, and nothing else."""
    given = {"ca": False, "usage": ("digital_signature",), "purposes": ("time",), "critical": True, **options}
    return x509.issued(x509.named(owner), x509.key(kind, owner), issuer, **given)


def token(
    signature: bytes,
    signer: Holder,
    *others: Holder,
    days: float = 0,
    nonce: int | None = None,
    imprint: tuple[str, Any] = (SHA256, hashlib.sha256),
    content_type: str = TST_INFO,
    signers: tuple[Holder, ...] = (),
    carried: tuple[Holder, ...] | None = None,
    spoil: Any = None,
) -> bytes:
    """A token over a signature: its time is so many days from now, and it carries the signer's certificate and `others`.

    `spoil` changes the signed content after it was signed.
    """
    time = (NOW + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ").encode()
    oid, digest = imprint
    info = der.sequence(
        der.integer(1),
        der.oid(POLICY),
        der.sequence(der.sequence(der.oid(oid), b"\x05\0"), der.octets(digest(signature).digest())),
        der.integer(7),
        der.element(0x18, time),
        der.integer(nonce) if nonce is not None else b"",
    )
    infos = b"".join(sorted(_signer_info(info, each, content_type) for each in signers or (signer,)))
    certificates = sorted(each.der for each in ((signer, *others) if carried is None else carried))
    data = der.sequence(
        der.integer(3),
        der.element(0x31, der.sequence(der.oid(SHA256))),
        der.sequence(der.oid(content_type), der.element(0xA0, der.octets(spoil(info) if spoil else info))),
        der.element(0xA0, b"".join(certificates)) if certificates else b"",
        der.element(0x31, infos),
    )
    return der.sequence(der.oid(SIGNED_DATA), der.element(0xA0, data))


def _signer_info(info: bytes, signer: Holder, content_type: str) -> bytes:
    """One signature over the content, by way of signed attributes (RFC 5652, section 5.4)."""
    oid, digest = DIGESTS.get(signer.key.name, (SHA256, hashlib.sha256))
    attributes = b"".join(
        sorted(
            der.sequence(der.oid(kind), der.element(0x31, value))
            for kind, value in ((CONTENT_TYPE, der.oid(content_type)), (MESSAGE_DIGEST, der.octets(digest(info).digest())))
        )
    )
    inside = parts(parts(signer.der)[0])
    return der.sequence(
        der.integer(1),
        der.sequence(inside[x509.ISSUER], inside[x509.SERIAL]),
        der.sequence(der.oid(oid)),
        der.element(0xA0, attributes),
        der.sequence(der.oid(SIGNATURE_ALGORITHMS.get(signer.key.name, ECDSA_SHA256))),
        der.octets(signer.key.sign(der.element(0x31, attributes))),
    )


def response(made: bytes, status: int = 0) -> bytes:
    """A token as an authority returns it."""
    return der.sequence(der.sequence(der.integer(status)), made)


def stamped(bundle: dict, *timestamps: bytes) -> dict:
    """The bundle with these timestamps."""
    made = [{"signedTimestamp": oms.b64(each)} for each in timestamps]
    bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": made}
    return bundle


def clock(**options: Any) -> tuple[Holder, Holder]:
    """A root of timestamp authorities, and one that it made."""
    root = authority("clock root")
    return root, stamper(root, **options)


CONFIGURATION = """
[tsa]
default_tsa = it
[it]
serial = serial
default_policy = 1.3.6.1.4.1.32473.7
signer_digest = sha256
digests = sha256
ess_cert_id_alg = sha256
"""


def by_openssl(folder: Path, signature: bytes, signer: Holder, *query: str) -> bytes:
    """What `openssl ts` answers as an authority: the whole response."""
    if shutil.which("openssl") is None:
        raise NotHere("no openssl")
    folder.mkdir()
    files = {
        "tsa.cnf": CONFIGURATION.encode(), "serial": b"07\n", "signature": signature,
        "signer.pem": signer.pem(), "signer.key": signer.key.private_pem(),
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
    _openssl(folder, "-query", "-data", "signature", "-sha256", "-cert", "-out", "query", *query)
    _openssl(folder, "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-signer", "signer.pem", "-inkey", "signer.key", "-out", "reply")
    return (folder / "reply").read_bytes()


def _openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", "ts", *arguments], cwd=folder, capture_output=True, check=False)
    if done.returncode:
        raise Broken(f"openssl ts {arguments[0]}: {done.stderr.decode(errors='replace')[-300:]}")
