"""Certificates with chosen defects, and bundles of the method `certificate`.

Whoever holds a key can issue: a malicious authority is played as a malicious signer is.
"""

import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import der, oms
from .case import Attempt
from .keys import Key, key

NOW = datetime.datetime.now(datetime.UTC)
EMAIL = "release@acme.example"
PURPOSES = {
    "code": ExtendedKeyUsageOID.CODE_SIGNING,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "email": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "time": ExtendedKeyUsageOID.TIME_STAMPING,
}
USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
# Places in a TBSCertificate of version 3 (RFC 5280, section 4.1).
VERSION, SERIAL, ALGORITHM, ISSUER, VALIDITY, SUBJECT, PUBLIC_KEY, EXTENSIONS = range(8)


@dataclass(frozen=True)
class Holder:
    """A certificate, and the private key that goes with it."""

    name: x509.Name
    key: Key
    der: bytes

    def pem(self) -> bytes:
        """The certificate as PEM."""
        return der.pem("CERTIFICATE", self.der)


def named(common: str | None = None, organisation: str | None = None) -> x509.Name:
    """A distinguished name."""
    given = [(NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common)]
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in given if text])


def email(text: str = EMAIL) -> x509.GeneralName:
    """An address as a subject alternative name."""
    return x509.RFC822Name(text)


def uri(text: str) -> x509.GeneralName:
    """A URI as one."""
    return x509.UniformResourceIdentifier(text)


def dns(text: str) -> x509.GeneralName:
    """A host as one."""
    return x509.DNSName(text)


def issued(
    subject: x509.Name,
    own: Key,
    issuer: Holder | None,
    *,
    ca: bool | None,
    path_length: int | None = None,
    usage: tuple[str, ...] | None,
    purposes: tuple[str, ...] | None,
    critical: bool = False,
    names: tuple[x509.GeneralName, ...] = (),
    permitted: list[x509.GeneralName] | None = None,
    excluded: list[x509.GeneralName] | None = None,
    days: tuple[float, float] = (-30, 300),
    more: tuple[tuple[Any, bool], ...] = (),
    named_issuer: x509.Name | None = None,
) -> Holder:
    """A certificate that `issuer`, or the holder, made. `None` leaves an extension out; `days` are from now."""
    signer = issuer.key if issuer else own
    begins, ends = (NOW + datetime.timedelta(days=each) for each in days)
    builder = (
        x509.CertificateBuilder(named_issuer or (issuer.name if issuer else subject), subject, own.private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    extensions = [
        (ca is not None and x509.BasicConstraints(ca=bool(ca), path_length=path_length), True),
        (usage is not None and x509.KeyUsage(**{each: each in usage for each in USAGES}), True),
        (purposes and x509.ExtendedKeyUsage([PURPOSES[each] for each in purposes]), critical),
        (names and x509.SubjectAlternativeName(names), False),
        ((permitted or excluded) and x509.NameConstraints(permitted, excluded), True),
        *more,
    ]
    for extension, is_critical in extensions:
        if extension:
            builder = builder.add_extension(extension, is_critical)
    return Holder(subject, own, builder.sign(signer.private, _digest(signer)).public_bytes(Encoding.DER))


def _digest(signer: Key) -> hashes.HashAlgorithm | None:
    by_name = {"p384": hashes.SHA384, "p521": hashes.SHA512}
    return None if signer.name == "ed25519" else by_name.get(signer.name, hashes.SHA256)()


def authority(name: str = "root", issuer: Holder | None = None, *, kind: str = "p256", **options) -> Holder:
    """An authority that may issue; a root if nobody issued it. Its key is that of its name."""
    given = {"ca": True, "usage": ("key_cert_sign", "crl_sign"), "purposes": None, **options}
    return issued(named(name), key(kind, name), issuer, **given)


def leaf(issuer: Holder | None, *names: x509.GeneralName, kind: str = "p256", owner: str = "publisher", **options) -> Holder:
    """The publisher's certificate, for code signing; it names the publisher's address unless other names are given."""
    given = {"ca": False, "usage": ("digital_signature",), "purposes": ("code",), "names": names or (email(),), **options}
    return issued(named(owner), key(kind, owner), issuer, **given)


def between(root: Holder, count: int) -> list[Holder]:
    """Authorities one below the other, the lowest first."""
    made = [root]
    for at in range(count):
        made.insert(0, authority(f"between-{at}", made[0]))
    return made[:-1]


# -- what no library writes --------------------------------------------------------------------


def parts(encoded: bytes) -> list[bytes]:
    """The elements inside of a constructed one, each with its tag and length."""
    inside, found = content(encoded), []
    while inside:
        size = len(inside) - len(after(inside))
        found.append(inside[:size])
        inside = inside[size:]
    return found


def content(encoded: bytes) -> bytes:
    """What is inside of the first element."""
    start, size = _measure(encoded)
    return encoded[start : start + size]


def after(encoded: bytes) -> bytes:
    """What follows the first element."""
    start, size = _measure(encoded)
    return encoded[start + size :]


def _measure(encoded: bytes) -> tuple[int, int]:
    first = encoded[1]
    if first < 0x80:
        return 2, first
    start = 2 + first - 0x80
    return start, int.from_bytes(encoded[2:start], "big")


def changed(holder: Holder, issuer: Holder, place: int, new: bytes | None) -> Holder:
    """The certificate with another part (`None`: without that part), signed again by its issuer."""
    tbs, algorithm, _ = parts(holder.der)
    inside = parts(tbs)
    inside[place : place + 1] = [] if new is None else [new]
    tbs = der.sequence(*inside)
    if place == ALGORITHM and new is not None:
        algorithm = new
    return replace(holder, der=der.sequence(tbs, algorithm, der.bits(issuer.key.sign(tbs))))


def with_extension(holder: Holder, issuer: Holder, oid: str, value: bytes, critical: bool = False) -> Holder:
    """The certificate with one more extension, whatever else it has."""
    flag = der.element(0x01, b"\xff") if critical else b""
    extensions = parts(content(parts(parts(holder.der)[0])[EXTENSIONS]))
    extensions.append(der.sequence(der.oid(oid), flag, der.octets(value)))
    return changed(holder, issuer, EXTENSIONS, der.element(0xA3, der.sequence(*extensions)))


def with_signature(holder: Holder, signature: bytes) -> Holder:
    """The certificate with another signature."""
    tbs, algorithm, _ = parts(holder.der)
    return replace(holder, der=der.sequence(tbs, algorithm, der.bits(signature)))


def signature_of(holder: Holder) -> bytes:
    """The signature of a certificate."""
    return content(parts(holder.der)[2])[1:]


# -- bundles, and who trusts them --------------------------------------------------------------


def chained(bundle: dict, *chain: Holder) -> dict:
    """The bundle with this chain in place of its key."""
    certificates = [{"rawBytes": oms.b64(each.der)} for each in chain]
    bundle["verificationMaterial"] = {"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []}
    return bundle


def certified(world: Any, *chain: Holder) -> dict:
    """The honest model, signed by the first of a chain. Returns the bundle, which is written as well."""
    world.signer = world.trusted = chain[0].key
    bundle = chained(world.bundle(), *chain)
    world.write_bundle(bundle)
    return bundle


def roots_file(world: Any, roots: tuple[Holder, ...], name: str = "roots.pem") -> Path:
    """The file for `--certificate-root` or `--timestamp-root`."""
    path = world.root / name
    path.write_bytes(b"".join(root.pem() for root in roots))
    return path


def trusting(world: Any, *roots: Holder, identity: str | None = EMAIL, extra: tuple[str, ...] = (), **options) -> Attempt:
    """Verifies the artifact with trust in these roots, and in this identity or anyone."""
    whom = ["--any-identity"] if identity is None else ["--identity", identity]
    place = ["--certificate-root", str(roots_file(world, roots)), "--signature", str(world.signature)]
    return Attempt(["verify", str(world.model), *place, *whom, *extra, "--json"], **options)


def presented(world: Any, root: Holder, *chain: Holder, **options) -> Attempt:
    """Signed with this chain, verified with trust in this root."""
    certified(world, *chain)
    return trusting(world, root, **options)
