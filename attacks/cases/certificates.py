"""Bundles of the certificate and Sigstore methods, which this version does not check.

They are refused with exit 2 ("could not check"), since neither good nor bad has been shown. A
chain that no verifier should walk is rejected before that. Certificates are real, and their
leaf's key made the signature.
"""

import datetime
import functools

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kit import oms
from kit.case import rejected
from kit.keys import key

envelope = rejected("envelope")
limits = rejected("limits")


def certificate(subject, issuer, public, signer, leaf=False):
    """A certificate that is valid for an hour."""
    now = datetime.datetime.now(datetime.UTC)
    names = [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)
    ]
    builder = (
        x509.CertificateBuilder(names[1], names[0], public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=not leaf, path_length=None), critical=True)
    )
    if leaf:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        builder = builder.add_extension(usage, critical=False)
    made = builder.sign(signer.private, hashes.SHA256())
    return oms.b64(made.public_bytes(serialization.Encoding.DER))


@functools.cache
def chain(length):
    """Leaf first; each certificate issued by the next one, the last by itself."""
    authority = key("p256", "authority")
    made = [certificate("leaf", "ca-1", key().private.public_key(), authority, leaf=True)]
    for at in range(1, length):
        issuer = f"ca-{at + 1}" if at + 1 < length else f"ca-{at}"
        made.append(certificate(f"ca-{at}", issuer, authority.private.public_key(), authority))
    return made


def certified(world, length):
    bundle = world.bundle()
    certificates = [{"rawBytes": raw} for raw in chain(length)]
    bundle["verificationMaterial"] = {
        "x509CertificateChain": {"certificates": certificates}, "tlogEntries": [],
    }  # fmt: skip
    world.write_bundle(bundle)
    return world.verify()


@envelope("certificate_method_unsupported")
def certificate_bundle_refused(world):
    return certified(world, 3)


@envelope("certificate_method_unsupported")
def certificate_bundle_refused__longest_chain(world):
    return certified(world, 8)


@envelope("sigstore_method_unsupported")
def sigstore_bundle_refused(world):
    bundle = world.bundle()
    bundle["verificationMaterial"] = {
        "certificate": {"rawBytes": chain(3)[0]},
        "tlogEntries": [
            {
                "logIndex": "1",
                "logId": {"keyId": oms.b64(bytes(32))},
                "kindVersion": {"kind": "dsse", "version": "0.0.1"},
                "integratedTime": "1700000000",
                "inclusionPromise": {"signedEntryTimestamp": oms.b64(bytes(70))},
                "canonicalizedBody": oms.b64(b"{}"),
            }
        ],
    }
    world.write_bundle(bundle)
    return world.verify()


@limits("chain_too_long")
def cert_chain_1000(world):
    return certified(world, 1000)


@limits("chain_too_long")
def cert_chain_1000__one_over_the_limit(world):
    return certified(world, 9)


@limits("chain_too_long")
def cert_chain_1000__one_certificate_repeated(world):
    bundle = world.bundle()
    certificates = [{"rawBytes": chain(3)[1]}] * 1000
    bundle["verificationMaterial"] = {"x509CertificateChain": {"certificates": certificates}}
    world.write_bundle(bundle)
    return world.verify()
