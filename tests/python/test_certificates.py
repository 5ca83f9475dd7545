"""Certificates and timestamps: who is trusted by a certificate, when, and everything that makes one worth nothing.

Sentry signs with no certificate that a verifier would refuse. So what an attacker could sign with is put together here: the
certificates are made by the `cryptography` package, and the statement is signed with their keys.
"""

from __future__ import annotations

import base64
import copy
import datetime
import hashlib
import ipaddress
import pickle
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import sentry
import torch
from conftest import ROOT, edit_bundle, equal, flip, module_of, rejected, seal, state, tensors
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes as AnyKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

OMS = ROOT / "vectors/oms/historical"

CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
RELEASE = "release@acme.example"

NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Holder:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: AnyKey

    @property
    def pem(self) -> bytes:
        """The certificate as PEM text."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate's bytes."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        """The private key as PEM text."""
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self.key.private_bytes(*form)


def usage(*allowed: str) -> x509.KeyUsage:
    """A key usage of these and no others."""
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign")
    return x509.KeyUsage(**{name: name in allowed for name in (*every, "crl_sign", "encipher_only", "decipher_only")})


def common_name(text: str) -> x509.Name:
    """A name that has nothing else."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


# Where an option leaves out an extension, None would mean the same as not saying anything.
LEFT_OUT = object()


def issue(name: str, issuer: Holder | None = None, *, ca: bool = False, **options: Any) -> Holder:
    """A certificate: without options one that is good, for an authority or for the signer `RELEASE`.

    Options are `key`, `signing` (the key that signs it), `issuer_name`, `start`, `end`, `path_length`, `usage`, `purposes` and
    `names` (or LEFT_OUT), `more` (further extensions, critical or not), and `algorithm`.
    """
    key = options.get("key") or ec.generate_private_key(ec.SECP256R1())
    issuer_name = options.get("issuer_name") or (issuer.certificate.subject if issuer else common_name(name))
    builder = x509.CertificateBuilder(
        issuer_name,
        common_name(name),
        key.public_key(),
        x509.random_serial_number(),
        options.get("start", NOW - DAY),
        options.get("end", NOW + 30 * DAY),
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=options.get("path_length")), critical=True)
    key_usage = options.get("usage", usage("key_cert_sign") if ca else usage("digital_signature"))
    purposes = options.get("purposes", LEFT_OUT if ca else [CODE_SIGNING])
    names = options.get("names", LEFT_OUT if ca else [x509.RFC822Name(RELEASE)])
    if key_usage is not LEFT_OUT:
        builder = builder.add_extension(key_usage, critical=True)
    if purposes is not LEFT_OUT:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=options.get("critical_purposes", False))
    if names is not LEFT_OUT:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension, critical in options.get("more", ()):
        builder = builder.add_extension(extension, critical=critical)
    signing = options.get("signing") or (issuer.key if issuer else key)
    algorithm = None if isinstance(signing, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)) else options.get("algorithm", hashes.SHA256())
    return Holder(builder.sign(signing, algorithm), key)


@pytest.fixture(scope="module")
def root() -> Holder:
    """The authority that is trusted."""
    return issue("Acme Root", ca=True)


@pytest.fixture(scope="module")
def middle(root: Holder) -> Holder:
    """One that it issued."""
    return issue("Acme Middle", root, ca=True)


@pytest.fixture(scope="module")
def leaf(middle: Holder) -> Holder:
    """The signer's."""
    return issue("Acme Release", middle)


def save(path: Path, *holders: Holder) -> Path:
    """Certificates in one PEM file."""
    path.write_bytes(b"".join(holder.pem for holder in holders))
    return path


def signed_by(model: Path, *chain: Holder | bytes) -> Path:
    """Sign a model with the first certificate's key as nobody should, and put the chain into the signature as it is."""
    signature = Path(sentry.sign_model(model, key=sentry.PrivateKey.generate()).path)
    raw = [each if isinstance(each, bytes) else each.der for each in chain]
    signer = chain[0] if isinstance(chain[0], Holder) else None

    def change(bundle: dict[str, Any]) -> None:
        certificates = [{"rawBytes": base64.b64encode(der).decode()} for der in raw]
        bundle["verificationMaterial"] = {"x509CertificateChain": {"certificates": certificates}, "tlogEntries": []}
        if signer is not None and isinstance(signer.key, ec.EllipticCurvePrivateKey):
            seal(bundle, signer.key)

    edit_bundle(signature, change)
    return signature


def trusting(folder: Path, *roots: Holder, **options: Any) -> sentry.Certificate:
    """Trust in these roots."""
    options = options or {"any_identity": True}
    return sentry.Certificate(save(folder / "roots.pem", *roots), **options)


def policy_about(folder: Path, root: Holder, whom: str = f'identity = "{RELEASE}"') -> sentry.Policy:
    """A policy that trusts the same."""
    save(folder / "policy-root.pem", root)
    signer = f'policy = 1\n[signer.release]\ncertificate_roots = ["policy-root.pem"]\n{whom}\n'
    (folder / "policy.toml").write_text(f'{signer}[[rule]]\nartifacts = ["model"]\nsigners = ["release"]\n')
    return sentry.Policy(folder / "policy.toml")


Verb = Callable[[Path, Any], Any]
VERBS: dict[str, Verb] = {
    "verify": lambda model, trust: sentry.verify_model(model, trust=trust),
    "load": lambda model, trust: sentry.load_model(model, trust=trust),
}
every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())


# What is accepted.


def test_whoever_has_a_certificate_signs_and_is_named(model: Path, root: Holder, middle: Holder, leaf: Holder, tmp_path: Path) -> None:
    (tmp_path / "leaf.key").write_bytes(leaf.key_pem)
    certificate, chain = save(tmp_path / "leaf.pem", leaf), save(tmp_path / "middle.pem", middle)
    signature = sentry.sign_model(model, key=tmp_path / "leaf.key", certificate=certificate, chain=chain, version=5)
    assert (signature.files, signature.version) == (2, 5)
    verification = sentry.verify_model(model, trust=trusting(tmp_path, root, identity=RELEASE))
    assert verification.signers == [f'{RELEASE} (certificate of "CN=Acme Middle", ecdsa-p256-sha256)'] == [verification.signer]
    assert verification.fingerprint == leaf.certificate.fingerprint(hashes.SHA256()).hex()
    assert (verification.rule, verification.artifact, verification.timestamp, verification.version) == (None, None, None, 5)
    loaded = sentry.load_model(model, trust=policy_about(tmp_path, root))
    assert equal(loaded, tensors()) and (loaded.verification.rule, loaded.verification.artifact) == ("1", "model")
    assert loaded.verification.signers == verification.signers


CHAINS: dict[str, Callable[[Path, Holder, Holder, Holder], dict[str, Any]]] = {
    "one path": lambda folder, root, middle, leaf: {"certificate": save(folder / "1.pem", leaf), "chain": save(folder / "2.pem", middle)},
    "a text": lambda folder, root, middle, leaf: {"certificate": str(save(folder / "1.pem", leaf)), "chain": str(save(folder / "2.pem", middle))},
    "a list": lambda folder, root, middle, leaf: {"certificate": save(folder / "1.pem", leaf), "chain": [save(folder / "2.pem", middle)]},
    "with the root": lambda folder, root, middle, leaf: {
        "certificate": save(folder / "1.pem", leaf),
        "chain": (save(folder / "2.pem", middle), save(folder / "3.pem", root)),
    },
    "an iterator": lambda folder, root, middle, leaf: {"certificate": save(folder / "1.pem", leaf), "chain": iter([save(folder / "2.pem", middle)])},
    "in the first file": lambda folder, root, middle, leaf: {"certificate": save(folder / "1.pem", leaf, middle)},
    "all in the first file": lambda folder, root, middle, leaf: {"certificate": save(folder / "1.pem", leaf, middle, root)},
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())
def test_a_chain_can_be_given_in_these_ways(
    chain: Callable[..., dict[str, Any]], model: Path, root: Holder, middle: Holder, leaf: Holder, tmp_path: Path
) -> None:
    (tmp_path / "leaf.key").write_bytes(leaf.key_pem)
    trust = trusting(tmp_path, root, identity=RELEASE)
    sentry.sign_model(model, key=tmp_path / "leaf.key", **chain(tmp_path, root, middle, leaf))
    assert sentry.verify_model(model, trust=trust).files == 2
    for what in (module_of(state()), tensors()):
        path = tmp_path / "memory.sig"
        sentry.sign_model(what, key=sentry.PrivateKey(tmp_path / "leaf.key"), signature=path, **chain(tmp_path, root, middle, leaf))
        assert sentry.verify_model(what, path, trust=trust).tensors == len(what.state_dict() if isinstance(what, torch.nn.Module) else what)
        with pytest.raises(sentry.CertificateError):
            sentry.verify_model(what, path, trust=trusting(tmp_path, root, identity="other@acme.example"))


IDENTITIES: dict[str, tuple[x509.GeneralName, str]] = {
    "e-mail": (x509.RFC822Name("a.b+c@acme.example"), "a.b+c@acme.example"),
    "SPIFFE": (x509.UniformResourceIdentifier("spiffe://acme.example/trainer"), "spiffe://acme.example/trainer"),
    "URI": (x509.UniformResourceIdentifier("https://git.example/a/b.yml@refs/heads/main"), "https://git.example/a/b.yml@refs/heads/main"),
    "host": (x509.DNSName("builder.acme.example"), "builder.acme.example"),
}


@every_verb
@pytest.mark.parametrize(("name", "identity"), IDENTITIES.values(), ids=IDENTITIES.keys())
def test_an_identity_is_one_of_the_certificates_names(
    verb: Verb, name: x509.GeneralName, identity: str, model: Path, root: Holder, middle: Holder, tmp_path: Path
) -> None:
    several = [x509.IPAddress(ipaddress.ip_address("192.0.2.1")), x509.DNSName("first.example"), name]
    signed_by(model, issue("Acme Release", middle, names=several), middle)
    assert verb(model, trusting(tmp_path, root, identity=identity))
    assert verb(model, trusting(tmp_path, root, identity="first.example"))
    assert verb(model, trusting(tmp_path, root))
    assert verb(model, policy_about(tmp_path, root, f'identity = "{identity}"'))
    assert verb(model, policy_about(tmp_path, root, "any_identity = true"))


@pytest.mark.parametrize("order", ["reversed", "with the root", "with others", "twice"])
def test_what_else_a_chain_has_makes_no_difference(order: str, model: Path, root: Holder, middle: Holder, tmp_path: Path) -> None:
    lower = issue("Acme Lower", middle, ca=True)
    leaf = issue("Acme Release", lower)
    others = {
        "reversed": [middle, lower],
        "with the root": [lower, middle, root],
        "with others": [issue("Other", ca=True), lower, issue("Acme Middle", ca=True), middle],
        "twice": [lower, lower, middle, middle],
    }
    signed_by(model, leaf, *others[order])
    assert sentry.verify_model(model, trust=trusting(tmp_path, root, identity=RELEASE)).files == 2


KEYS: dict[str, tuple[str, Callable[[], AnyKey]]] = {
    "p256": ("ecdsa-p256-sha256", lambda: ec.generate_private_key(ec.SECP256R1())),
    "p384": ("ecdsa-p384-sha384", lambda: ec.generate_private_key(ec.SECP384R1())),
    "p521": ("ecdsa-p521-sha512", lambda: ec.generate_private_key(ec.SECP521R1())),
    "ed25519": ("ed25519", ed25519.Ed25519PrivateKey.generate),
}


@pytest.mark.parametrize(("algorithm", "key"), KEYS.values(), ids=KEYS.keys())
def test_keys_of_every_allowed_kind_have_certificates(algorithm: str, key: Callable[[], AnyKey], model: Path, tmp_path: Path) -> None:
    root = issue("Acme Root", ca=True, key=rsa.generate_private_key(65537, 2048) if algorithm == "ed25519" else key())
    leaf = issue("Acme Release", root, key=key())
    (tmp_path / "leaf.key").write_bytes(leaf.key_pem)
    sentry.sign_model(model, key=tmp_path / "leaf.key", certificate=save(tmp_path / "leaf.pem", leaf))
    verification = sentry.verify_model(model, trust=trusting(tmp_path, issue("Other", ca=True), root, identity=RELEASE))
    assert algorithm in verification.signer
    flip(model / "model.safetensors")
    rejected(lambda: sentry.load_model(model, trust=trusting(tmp_path, root)), sentry.ManifestError, "model_differs")


def test_roots_can_stand_in_several_files(model: Path, root: Holder, middle: Holder, leaf: Holder, tmp_path: Path) -> None:
    signed_by(model, leaf, middle)
    files = [save(tmp_path / "other.pem", issue("Other", ca=True)), save(tmp_path / "root.pem", root)]
    for roots in (files, tuple(files), files[::-1], [str(file) for file in files], files[1], str(files[1])):
        assert sentry.verify_model(model, trust=sentry.Certificate(roots, identity=RELEASE))
    # An authority that is trusted itself needs no root above it.
    assert sentry.load_model(model, trust=trusting(tmp_path, middle, identity=RELEASE))
    stranger = sentry.Certificate(files[0], any_identity=True)
    rejected(lambda: sentry.load_model(model, trust=stranger), sentry.CertificateError, "certificate_unknown_issuer")


# What is refused: each by its own code, whether one name is trusted or any, and under a policy too.

Made = tuple[Holder, list["Holder | bytes"]]


@dataclass(frozen=True)
class Bad:
    """A chain that is worth nothing: the root that is trusted, and what the signature carries."""

    code: str
    made: Callable[[Holder, Holder], Made]
    says: str = ""
    error: type[sentry.VerificationError] = sentry.CertificateError


def below(**options: Any) -> Callable[[Holder, Holder], Made]:
    """A signer's certificate with something wrong about it."""
    return lambda root, middle: (root, [issue("Acme Release", middle, **options), middle])


def between(**options: Any) -> Callable[[Holder, Holder], Made]:
    """An authority between root and signer with something wrong about it."""

    def made(root: Holder, _: Holder) -> Made:
        authority = issue("Acme Middle", root, **{"ca": True, **options})
        return root, [issue("Acme Release", authority), authority]

    return made


def above(**options: Any) -> Callable[[Holder, Holder], Made]:
    """A root with something wrong about it."""

    def made(_: Holder, __: Holder) -> Made:
        root = issue("Acme Root", ca=True, **options)
        middle = issue("Acme Middle", root, ca=True)
        return root, [issue("Acme Release", middle), middle]

    return made


def constrained(
    allowed: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None, name: x509.GeneralName
) -> Callable[[Holder, Holder], Made]:
    """An authority that may not certify everybody, and whom it certified."""

    def made(root: Holder, _: Holder) -> Made:
        authority = issue("Acme Middle", root, ca=True, more=[(x509.NameConstraints(allowed, excluded), True)])
        return root, [issue("Acme Release", authority, names=[name, x509.RFC822Name(RELEASE)]), authority]

    return made


def longer(root: Holder, _: Holder) -> Made:
    """An authority below one that allows none."""
    middle = issue("Acme Middle", root, ca=True, path_length=0)
    lower = issue("Acme Lower", middle, ca=True)
    return root, [issue("Acme Release", lower), lower, middle]


def of_another_root(_: Holder, middle: Holder) -> Made:
    """Below an authority that is not the trusted one and has its name."""
    return issue("Acme Root", ca=True), [issue("Acme Release", middle), middle]


def bringing_its_root(root: Holder, _: Holder) -> Made:
    """With a root of its own."""
    own = issue("Own Root", ca=True)
    return root, [issue("Acme Release", own), own, root]


def signed_by_itself(root: Holder, _: Holder) -> Made:
    """By nobody but its holder."""
    leaf = issue("Acme Release")
    return root, [leaf, leaf]


def under_a_leaf(root: Holder, middle: Holder) -> Made:
    """Issued by a signer, who is no authority."""
    other = issue("Acme Other", middle)
    return root, [issue("Acme Release", other), other, middle]


def by_the_root_itself(root: Holder, _: Holder) -> Made:
    """The root's own key."""
    signer = issue("Acme Root", ca=True, usage=usage("key_cert_sign", "digital_signature"), purposes=[CODE_SIGNING])
    return signer, [signer]


def with_a_short_key(root: Holder, _: Holder) -> Made:
    """An authority with an RSA key of 1024 bits."""
    authority = issue("Acme Middle", root, ca=True, key=rsa.generate_private_key(65537, 1024))
    return root, [issue("Acme Release", authority), authority]


def unreadable(change: Callable[[bytes], bytes]) -> Callable[[Holder, Holder], Made]:
    """A signer's certificate of which the bytes were changed."""

    def made(root: Holder, middle: Holder) -> Made:
        return root, [change(issue("Acme Release", middle).der), middle]

    return made


CRITICAL = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.32473.1"), b"\x05\x00")
OTHER_PURPOSES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.EMAIL_PROTECTION]
ANY = [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]
SHORT = {"start": NOW - 20 * DAY, "end": NOW - DAY}
EARLY = {"start": NOW + DAY, "end": NOW + 20 * DAY}
HOST = x509.DNSName("build.acme.example")
MAIL = x509.RFC822Name(RELEASE)

BAD = {
    "expired": Bad("certificate_expired", below(**SHORT), str(SHORT["end"].date())),
    "an authority expired": Bad("certificate_expired", between(**SHORT)),
    "the root expired": Bad("certificate_expired", above(**SHORT)),
    "not valid yet": Bad("certificate_not_yet_valid", below(**EARLY), str(EARLY["start"].date())),
    "an authority not valid yet": Bad("certificate_not_yet_valid", between(**EARLY)),
    "the root not valid yet": Bad("certificate_not_yet_valid", above(**EARLY)),
    "of an authority": Bad("certificate_of_authority", below(ca=True, usage=usage("digital_signature", "key_cert_sign"), purposes=[CODE_SIGNING])),
    "the root's own": Bad("certificate_of_authority", by_the_root_itself),
    "without a key usage": Bad("certificate_key_usage", below(usage=LEFT_OUT), "digitalSignature"),
    "for other uses of the key": Bad("certificate_key_usage", below(usage=usage("key_encipherment", "content_commitment")), "digitalSignature"),
    "an authority that signs lists only": Bad("certificate_key_usage", between(usage=usage("crl_sign", "digital_signature")), "keyCertSign"),
    "without a purpose": Bad("certificate_extended_key_usage", below(purposes=LEFT_OUT)),
    "for any purpose": Bad("certificate_extended_key_usage", below(purposes=ANY)),
    "for other purposes": Bad("certificate_extended_key_usage", below(purposes=OTHER_PURPOSES)),
    "for timestamps": Bad("certificate_extended_key_usage", below(purposes=[TIME_STAMPING])),
    "an authority for other purposes": Bad("certificate_extended_key_usage", between(purposes=OTHER_PURPOSES)),
    "an authority for any purpose": Bad("certificate_extended_key_usage", between(purposes=ANY)),
    "the root for other purposes": Bad("certificate_extended_key_usage", above(purposes=OTHER_PURPOSES)),
    "below another root of the name": Bad("certificate_signature", of_another_root),
    "with a root of its own": Bad("certificate_unknown_issuer", bringing_its_root, "never taken from the signature file"),
    "signed by itself": Bad("certificate_unknown_issuer", signed_by_itself, "Acme Release"),
    "without the authority between": Bad("certificate_unknown_issuer", lambda root, middle: (root, [issue("Acme Release", middle)])),
    "of an issuer with another name": Bad("certificate_unknown_issuer", below(issuer_name=common_name("acme middle"))),
    "too long a path": Bad("certificate_path_length", longer),
    "too long a path for the root": Bad("certificate_path_length", above(path_length=0)),
    "by somebody who is no authority": Bad("certificate_issuer_no_authority", under_a_leaf),
    "an authority that is none": Bad("certificate_issuer_no_authority", between(ca=False, usage=usage("key_cert_sign"))),
    "a host outside": Bad("certificate_name_constraint", constrained([x509.DNSName("other.example")], None, HOST)),
    "a host left out": Bad("certificate_name_constraint", constrained(None, [x509.DNSName("acme.example")], HOST)),
    "addresses in a constraint": Bad("certificate_name_constraint", constrained([x509.RFC822Name("acme.example")], None, MAIL)),
    "common names in a constraint": Bad("certificate_name_constraint", constrained([x509.DirectoryName(common_name("Acme Release"))], None, MAIL)),
    "signed with another key": Bad("certificate_signature", below(signing=ec.generate_private_key(ec.SECP256R1()))),
    "an authority signed with another key": Bad("certificate_signature", between(signing=ec.generate_private_key(ec.SECP256R1()))),
    "below a short key": Bad("certificate_algorithm", with_a_short_key),
    "signed with SHA-224": Bad("certificate_algorithm", below(algorithm=hashes.SHA224())),
    "an authority signed with SHA-224": Bad("certificate_algorithm", between(algorithm=hashes.SHA224())),
    "a critical extension": Bad("certificate_critical_extension", below(more=[(CRITICAL, True)])),
    "an authority with a critical extension": Bad("certificate_critical_extension", between(more=[(CRITICAL, True)])),
    "a time before 1970": Bad("certificate_malformed", below(start=datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC))),
    "an authority of before 1970": Bad("certificate_path", between(start=datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC))),
    "an RSA key": Bad("certificate_key", lambda root, middle: below(key=rsa.generate_private_key(65537, 2048))(root, middle), "RSA"),
    "a curve that is not allowed": Bad("certificate_key", below(key=ec.generate_private_key(ec.SECP256K1())), "curve"),
    "a key of another kind": Bad("certificate_key", below(key=ed448.Ed448PrivateKey.generate())),
    "cut off": Bad("certificate_malformed", unreadable(lambda der: der[:-1])),
    "with something after it": Bad("certificate_malformed", unreadable(lambda der: der + b"\0")),
    "no certificate": Bad("certificate_malformed", unreadable(lambda _: b"\x30\x03\x02\x01\x05")),
    "an authority that is unreadable": Bad("certificate_path", lambda root, middle: (root, [issue("Acme Release", middle), middle.der[:-1]])),
    "nine certificates": Bad("chain_too_long", lambda root, middle: (root, [issue("Acme Release", middle), *[middle] * 8]), "", sentry.LimitError),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_certificate_that_is_worth_nothing(bad: Bad, model: Path, root: Holder, middle: Holder, tmp_path: Path) -> None:
    trusted, chain = bad.made(root, middle)
    signed_by(model, *chain)
    trusts = (
        trusting(tmp_path, trusted),
        trusting(tmp_path, trusted, identity=RELEASE),
        policy_about(tmp_path, trusted),
        policy_about(tmp_path, trusted, "any_identity = true"),
    )
    for trust in trusts:
        for verb in VERBS.values():
            error = rejected(lambda trust=trust, verb=verb: verb(model, trust), bad.error, bad.code)
            assert bad.says in str(error) and "\n" not in str(error).split("\nhint: ")[0]
            assert (error.artifact, error.expected, error.found) == (None, None, None)


UNUSUAL: dict[str, Callable[[Holder, Holder], Made]] = {
    "more purposes and uses": below(purposes=[*OTHER_PURPOSES, CODE_SIGNING], usage=usage("digital_signature", "content_commitment")),
    "an extension that is not critical": below(more=[(CRITICAL, False)]),
    "an authority without a key usage": between(usage=LEFT_OUT),
    "an authority for this purpose": between(purposes=[*OTHER_PURPOSES, CODE_SIGNING]),
    "an authority above signers only": between(path_length=0),
    "a root for this purpose": above(purposes=[CODE_SIGNING]),
    "a root above one authority": above(path_length=1),
    "a host inside a constraint": constrained([x509.DNSName("acme.example")], [x509.DNSName("evil.acme.example")], HOST),
    "an authority with a long RSA key": lambda root, middle: between(key=rsa.generate_private_key(65537, 2048))(root, middle),
}


@every_verb
@pytest.mark.parametrize("made", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_what_stands_close_to_those_and_is_good(
    verb: Verb, made: Callable[[Holder, Holder], Made], model: Path, root: Holder, middle: Holder, tmp_path: Path
) -> None:
    trusted, chain = made(root, middle)
    signed_by(model, *chain)
    assert verb(model, trusting(tmp_path, trusted, identity=RELEASE))
    assert verb(model, policy_about(tmp_path, trusted))


OTHERS: dict[str, tuple[list[x509.GeneralName], str]] = {
    "another address": ([MAIL], "release@acme.examples"),
    "an address that ends with it": ([x509.RFC822Name(f"x{RELEASE}")], RELEASE),
    "an address that begins with it": ([x509.RFC822Name(f"{RELEASE}.evil.example")], RELEASE),
    "another case": ([MAIL], "Release@acme.example"),
    "a host below": ([x509.DNSName("evil.acme.example")], "acme.example"),
    "a host above": ([x509.DNSName("acme.example")], "build.acme.example"),
    "a pattern in the certificate": ([x509.DNSName("*.acme.example")], "build.acme.example"),
    "the address of a host": ([x509.DNSName("acme.example")], RELEASE),
    "a URI of a host": ([x509.UniformResourceIdentifier("https://acme.example/")], "acme.example"),
    "a URI without its end": ([x509.UniformResourceIdentifier("spiffe://acme.example/trainer")], "spiffe://acme.example/train"),
    "a URI with a slash more": ([x509.UniformResourceIdentifier("spiffe://acme.example/trainer/")], "spiffe://acme.example/trainer"),
    "an address as a URI": ([x509.UniformResourceIdentifier(f"mailto:{RELEASE}")], RELEASE),
    "an IP address": ([x509.IPAddress(ipaddress.ip_address("192.0.2.1"))], "192.0.2.1"),
    "a zero in the address": ([x509.RFC822Name("release@acme.example\0.evil.example")], RELEASE),
    "a common name": ([x509.DirectoryName(common_name(RELEASE))], RELEASE),
}


@every_verb
@pytest.mark.parametrize(("names", "identity"), OTHERS.values(), ids=OTHERS.keys())
def test_a_name_that_is_not_the_trusted_one(
    verb: Verb, names: list[x509.GeneralName], identity: str, model: Path, root: Holder, middle: Holder, tmp_path: Path
) -> None:
    signed_by(model, issue("Acme Release", middle, names=names), middle)
    for trust in (trusting(tmp_path, root, identity=identity), policy_about(tmp_path, root, f'identity = "{identity}"')):
        error = rejected(lambda trust=trust: verb(model, trust), sentry.CertificateError, "certificate_identity")
        assert f"the trusted identity is {identity}" in str(error)
    # What a certificate says in its name is escaped.
    assert str(error).isprintable()
    assert verb(model, trusting(tmp_path, root))


@every_verb
@pytest.mark.parametrize("names", [LEFT_OUT, [x509.DNSName("builder.acme.example")]], ids=["no names", "another name"])
def test_the_common_name_counts_for_nothing(verb: Verb, names: Any, model: Path, root: Holder, middle: Holder, tmp_path: Path) -> None:
    signed_by(model, issue(RELEASE, middle, names=names), middle)
    error = rejected(lambda: verb(model, trusting(tmp_path, root, identity=RELEASE)), sentry.CertificateError, "certificate_identity")
    assert ("nobody" if names is LEFT_OUT else "builder.acme.example") in str(error)


@every_verb
def test_a_signature_of_another_key_than_the_certificates(
    verb: Verb, model: Path, root: Holder, middle: Holder, leaf: Holder, tmp_path: Path
) -> None:
    signature = signed_by(model, leaf, middle)
    for other in (middle.key, ec.generate_private_key(ec.SECP256R1())):
        assert isinstance(other, ec.EllipticCurvePrivateKey)
        edit_bundle(signature, lambda bundle, other=other: seal(bundle, other))
        for trust in (trusting(tmp_path, root, identity=RELEASE), policy_about(tmp_path, root)):
            rejected(lambda trust=trust: verb(model, trust), sentry.EnvelopeError, "signature_invalid")


@every_verb
def test_the_method_of_a_signature_is_the_trusted_one(verb: Verb, model: Path, root: Holder, middle: Holder, leaf: Holder, tmp_path: Path) -> None:
    signed_by(model, leaf, middle)
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    # The very key of the certificate: who trusts it says nothing of certificates, and the other way round.
    key = sentry.PublicKey.from_pem(leaf.key.public_key().public_bytes(*form).decode())
    (tmp_path / "leaf.key").write_bytes(leaf.key_pem)
    for trust in (key, trusting(tmp_path, root)):
        with pytest.raises(sentry.Error) as caught:
            verb(model, trust)
        assert (type(caught.value), caught.value.code) == (sentry.NotCheckedError, "method_mismatch")
        sentry.sign_model(model, key=tmp_path / "leaf.key")


# Authorities that sign.


@every_verb
def test_an_authority_signs_only_for_those_who_say_so(verb: Verb, model: Path, root: Holder, middle: Holder, tmp_path: Path) -> None:
    options = {"ca": True, "usage": usage("digital_signature", "key_cert_sign"), "purposes": [CODE_SIGNING], "names": [MAIL]}
    signed_by(model, issue("Acme Release", middle, **options), middle)
    for whom in ({"identity": RELEASE}, {"any_identity": True}):
        assert verb(model, trusting(tmp_path, root, dangerous_allow_ca_leaf=True, **whom))
        error = rejected(lambda whom=whom: verb(model, trusting(tmp_path, root, **whom)), sentry.CertificateError, "certificate_of_authority")
        assert "CN=Acme Release" in str(error)
    # Everything else is asked of it all the same.
    other = trusting(tmp_path, root, dangerous_allow_ca_leaf=True, identity="other@acme.example")
    rejected(lambda: verb(model, other), sentry.CertificateError, "certificate_identity")
    anyone = {"dangerous_allow_ca_leaf": True, "any_identity": True}
    for change, code in (
        ({"usage": usage("key_cert_sign")}, "certificate_key_usage"),
        ({"purposes": LEFT_OUT}, "certificate_extended_key_usage"),
        (SHORT, "certificate_expired"),
        ({"more": [(CRITICAL, True)]}, "certificate_critical_extension"),
        ({"signing": issue("x").key}, "certificate_signature"),
    ):
        signed_by(model, issue("Acme Release", middle, **{**options, **change}), middle)
        rejected(lambda: verb(model, trusting(tmp_path, root, **anyone)), sentry.CertificateError, code)
    # What is no authority's is not treated otherwise.
    signed_by(model, issue("Acme Release", middle), middle)
    assert verb(model, trusting(tmp_path, root, **anyone))


@pytest.mark.parametrize("version", ["v0.3.1", "v1.0.0"])
def test_published_signatures_of_an_authority_verify_and_load(version: str) -> None:
    model = OMS / f"{version}-certificate"
    file = OMS / "keys/certificate/ca-cert.pem"
    trust = sentry.Certificate(file, any_identity=True, dangerous_allow_ca_leaf=True)
    assert sentry.verify_model(model, trust=trust).signer == '"CN=intermediate-ca" (certificate of "CN=intermediate-ca", ecdsa-p384-sha384)'
    with sentry.verified_folder(model, trust=trust) as folder:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
            path.name: path.read_bytes() for path in model.iterdir() if path.name != "model.sig"
        }
    for options, code in (
        ({"any_identity": True}, "certificate_of_authority"),
        ({"identity": "intermediate-ca", "dangerous_allow_ca_leaf": True}, "certificate_identity"),
    ):
        for ask in (
            lambda options=options: sentry.verify_model(model, trust=sentry.Certificate(file, **options)),
            lambda options=options: sentry.verified_folder(model, trust=sentry.Certificate(file, **options)).__enter__(),
        ):
            rejected(ask, sentry.CertificateError, code)


def test_signing_as_an_authority_has_to_be_said(model: Path, root: Holder, tmp_path: Path) -> None:
    leaf = issue("Acme Release", root, ca=True, usage=usage("digital_signature", "key_cert_sign"), purposes=[CODE_SIGNING], names=[MAIL])
    (tmp_path / "leaf.key").write_bytes(leaf.key_pem)
    options = {"key": tmp_path / "leaf.key", "certificate": save(tmp_path / "leaf.pem", leaf)}
    with pytest.raises(sentry.KeyFileError) as caught:
        sentry.sign_model(model, **options)
    assert caught.value.code == "certificate_of_authority" and not (model / "model.sig").exists()
    sentry.sign_model(model, **options, dangerous_allow_ca_leaf=True)
    assert sentry.verify_model(model, trust=trusting(tmp_path, root, identity=RELEASE, dangerous_allow_ca_leaf=True))


# Signing: with nothing that no verifier would accept.

UNFIT: dict[str, tuple[str, dict[str, Any]]] = {
    "expired": ("certificate_expired", SHORT),
    "not valid yet": ("certificate_not_yet_valid", EARLY),
    "no key usage": ("certificate_key_usage", {"usage": LEFT_OUT}),
    "no purpose": ("certificate_extended_key_usage", {"purposes": LEFT_OUT}),
    "an authority's": ("certificate_of_authority", {"ca": True, "usage": usage("digital_signature"), "purposes": [CODE_SIGNING]}),
    "a critical extension": ("certificate_critical_extension", {"more": [(CRITICAL, True)]}),
    "another signature": ("certificate_signature", {"signing": ec.generate_private_key(ec.SECP256R1())}),
}


def unsigned(call: Callable[[], object], kind: type[sentry.Error], code: str, signature: Path) -> sentry.Error:
    """Assert that nothing was signed, for this reason, and that the signature that was there is untouched."""
    before = signature.read_bytes() if signature.exists() else None
    files = sorted(signature.parent.iterdir())
    with pytest.raises(sentry.Error) as caught:
        call()
    assert (type(caught.value), caught.value.code) == (kind, code), caught.value
    assert (signature.read_bytes() if signature.exists() else None) == before and sorted(signature.parent.iterdir()) == files
    return caught.value


@pytest.mark.parametrize(("code", "options"), UNFIT.values(), ids=UNFIT.keys())
def test_nothing_is_signed_with_a_certificate_that_nobody_accepts(
    code: str, options: dict[str, Any], model: Path, middle: Holder, key: sentry.PrivateKey, tmp_path: Path
) -> None:
    leaf = issue("Acme Release", middle, **options)
    (tmp_path / "leaf.key").write_bytes(leaf.key_pem)
    signing = {
        "key": tmp_path / "leaf.key",
        "certificate": save(tmp_path / "leaf.pem", leaf),
        "chain": save(tmp_path / "middle.pem", middle),
    }
    unsigned(lambda: sentry.sign_model(model, **signing), sentry.KeyFileError, code, model / "model.sig")
    unsigned(lambda: sentry.sign_model(tensors(), signature=tmp_path / "t.sig", **signing), sentry.KeyFileError, code, tmp_path / "t.sig")
    sentry.sign_model(model, key=key)
    unsigned(lambda: sentry.sign_model(model, **signing), sentry.KeyFileError, code, model / "model.sig")


def test_what_is_given_to_sign_with_belongs_together(model: Path, root: Holder, middle: Holder, leaf: Holder, tmp_path: Path) -> None:
    (tmp_path / "leaf.key").write_bytes(leaf.key_pem)
    first, second, third = save(tmp_path / "1.pem", leaf), save(tmp_path / "2.pem", middle), save(tmp_path / "3.pem", root)
    (tmp_path / "both.pem").write_bytes(leaf.pem + leaf.key_pem)
    (tmp_path / "empty.pem").write_bytes(b"")
    stranger = save(tmp_path / "stranger.pem", issue("Other", ca=True))
    secret = leaf.key_pem.decode().splitlines()[1]
    key = tmp_path / "leaf.key"

    def refused(code: str, kind: type[sentry.Error] = sentry.KeyFileError, **options: Any) -> None:
        error = unsigned(lambda: sentry.sign_model(model, **{"key": key, **options}), kind, code, model / "model.sig")
        assert secret not in str(error)
        memory = {"signature": tmp_path / "t.sig", "key": key, **options}
        unsigned(lambda: sentry.sign_model(tensors(), **memory), kind, code, tmp_path / "t.sig")

    refused("certificate_other_key", key=sentry.PrivateKey.generate(), certificate=first, chain=second)
    refused("certificate_other_key", certificate=second)
    refused("certificate_file", certificate=key)
    refused("certificate_file", certificate=tmp_path / "both.pem")
    refused("certificate_file", certificate=tmp_path / "empty.pem")
    refused("certificate_file", certificate=first, chain=[second, key])
    # Not in the order of a path, which other tools read; of others; and with the signer's own at the end.
    refused("certificate_file", certificate=first, chain=[third, second])
    refused("certificate_unknown_issuer", certificate=first, chain=stranger)
    refused("certificate_file", certificate=first, chain=[second, first])
    refused("chain_too_long", sentry.SigningError, certificate=first, chain=[second] * 8)
    refused("io", sentry.SigningError, certificate=tmp_path / "nowhere.pem")
    refused("io", sentry.SigningError, certificate=first, chain=[tmp_path / "nowhere.pem"])
    refused("usage", sentry.UsageError, chain=second)
    refused("usage", sentry.UsageError, chain=[second])
    refused("usage", sentry.UsageError, dangerous_allow_ca_leaf=True)


# Whom to trust has to be said, and what is said is read once.

NO_IDENTITIES = ["", " ", "*", "*.acme.example", "@acme.example", "release@", "a@b@c", "a b", "acme.example/", "spiffe:", ":x", "é@b.example", "\0"]


def test_whom_a_certificate_must_name_is_said_once(root: Holder, tmp_path: Path) -> None:
    file = save(tmp_path / "root.pem", root)
    for options in ({}, {"identity": None}, {"any_identity": False}, {"identity": RELEASE, "any_identity": True}):
        with pytest.raises(sentry.Error) as caught:
            sentry.Certificate(file, **options)
        assert (type(caught.value), caught.value.code) == (sentry.UsageError, "usage")
        assert "identity=... or any_identity=True" in str(caught.value)
    for text in NO_IDENTITIES:
        with pytest.raises(sentry.Error) as caught:
            sentry.Certificate(file, identity=text)
        assert (type(caught.value), caught.value.code) == (sentry.UsageError, "usage")
        assert "is no identity" in str(caught.value) and str(caught.value).isprintable()
    for call in (
        lambda: sentry.Certificate(),
        lambda: sentry.Certificate(file, RELEASE),
        lambda: sentry.Certificate(file, any_identity=1),
        lambda: sentry.Certificate(file, any_identity="yes"),
        lambda: sentry.Certificate(file, any_identity=None),
        lambda: sentry.Certificate(file, identity=[RELEASE]),
        lambda: sentry.Certificate(file, any_identity=True, allow_ca_leaf=True),
        lambda: sentry.Certificate(file, identity=RELEASE, dangerous_allow_ca_leaf="no"),
        lambda: sentry.Certificate(None, any_identity=True),
    ):
        with pytest.raises(TypeError):
            call()


def test_roots_that_are_none(root: Holder, leaf: Holder, key: sentry.PrivateKey, tmp_path: Path) -> None:
    good = save(tmp_path / "root.pem", root)
    content = {
        "leaf": leaf.pem,
        "no signer of certificates": issue("Acme", ca=True, usage=usage("crl_sign")).pem,
        "a leaf behind a root": root.pem + leaf.pem,
        "key": leaf.key_pem,
        "a key behind a root": root.pem + leaf.key_pem,
        "public": key.public_key.pem.encode(),
        "empty": b"",
        "text": b"trust me",
        "der": root.der,
        "cut off": root.pem[: len(root.pem) // 2],
        "spoilt": b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "too many": root.pem * 1001,
    }
    secret = leaf.key_pem.decode().splitlines()[1]
    for name, text in content.items():
        (tmp_path / name).write_bytes(text)
    for name in content:
        for roots in (tmp_path / name, [good, tmp_path / name]):
            for make in (
                lambda roots=roots: sentry.Certificate(roots, any_identity=True),
                lambda roots=roots: sentry.Certificate(good, identity=RELEASE, timestamp_roots=roots),
                lambda roots=roots: sentry.PublicKey(tmp_path / "public", timestamp_roots=roots),
            ):
                with pytest.raises(sentry.Error) as caught:
                    make()
                assert (type(caught.value), caught.value.code) == (sentry.KeyFileError, "certificate_file"), (name, caught.value)
                assert name in str(caught.value) and secret not in str(caught.value)
    for none in ([], ()):
        with pytest.raises(sentry.KeyFileError):
            sentry.Certificate(none, any_identity=True)
        with pytest.raises(sentry.KeyFileError):
            sentry.PublicKey(tmp_path / "public", timestamp_roots=none)
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    for name in ("nowhere", ".", "large"):
        with pytest.raises(sentry.Error) as caught:
            sentry.Certificate(tmp_path / name, any_identity=True)
        assert (type(caught.value), caught.value.code) == (sentry.NotCheckedError, "io")


def test_trust_shows_whom_and_no_secret(root: Holder, tmp_path: Path) -> None:
    exactly, anyone = trusting(tmp_path, root, identity="spiffe://acme.example/trainer"), trusting(tmp_path, root)
    assert repr(exactly) == str(exactly) == "<sentry.Certificate of spiffe://acme.example/trainer>"
    assert repr(anyone) == "<sentry.Certificate of any identity>"
    for trust in (exactly, anyone):
        with pytest.raises(AttributeError):
            trust.identity = "other"  # type: ignore[attr-defined]
        # To other processes go the arguments: the roots are read there again.
        for again in (copy.copy(trust), copy.deepcopy(trust), pickle.loads(pickle.dumps(trust))):
            assert type(again) is sentry.Certificate and repr(again) == repr(trust)


def test_roots_are_read_once(model: Path, root: Holder, middle: Holder, leaf: Holder, tmp_path: Path) -> None:
    signed_by(model, leaf, middle)
    trust = trusting(tmp_path, root, identity=RELEASE)
    save(tmp_path / "roots.pem", issue("Other", ca=True))
    assert sentry.verify_model(model, trust=trust)
    (tmp_path / "roots.pem").unlink()
    assert sentry.load_model(model, trust=trust)


def test_threads_share_certificates(model: Path, root: Holder, middle: Holder, leaf: Holder, tmp_path: Path) -> None:
    signed_by(model, leaf, middle)
    good, bad = trusting(tmp_path, root, identity=RELEASE), trusting(tmp_path, root, identity="other@acme.example")

    def work(number: int) -> bool:
        verb = list(VERBS.values())[number % 2]
        if number % 3 == 0:
            rejected(lambda: verb(model, bad), sentry.CertificateError, "certificate_identity")
        return bool(verb(model, good))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(48)))


# Timestamps: of `openssl ts` behind a server, and of `openssl cms` where it takes another time than now to show something.

TSA_CONFIG = """[tsa]
default_tsa = t
[t]
serial = serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.3.6.1.4.1.32473.2
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


@dataclass(frozen=True)
class Tsa:
    """A timestamp authority: its folder has root.pem, tsa.pem and tsa.key."""

    folder: Path

    @property
    def root(self) -> Path:
        """Whom to trust."""
        return self.folder / "root.pem"

    def openssl(self, *arguments: str) -> None:
        """Run OpenSSL there."""
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answer(self, query: bytes) -> bytes:
        """The response to a query, by `openssl ts`."""
        (self.folder / "query").write_bytes(query)
        files = ("-config", "tsa.cnf", "-signer", "tsa.pem", "-inkey", "tsa.key", "-chain", "root.pem")
        self.openssl("ts", "-reply", "-queryfile", "query", "-out", "response", *files)
        return (self.folder / "response").read_bytes()

    def at(self, time: datetime.datetime, signature: bytes, *, digest: str = "sha256") -> bytes:
        """A response that says that a signature existed at a time."""
        imprint = sequence(sequence(OIDS[digest], b"\x05\x00"), tagged(0x04, hashlib.new(digest, signature).digest()))
        generalized = tagged(0x18, time.strftime("%Y%m%d%H%M%SZ").encode())
        (self.folder / "info").write_bytes(sequence(tagged(0x02, b"\x01"), OIDS["policy"], imprint, tagged(0x02, b"\x07"), generalized))
        files = ("-in", "info", "-signer", "tsa.pem", "-inkey", "tsa.key", "-certfile", "root.pem", "-outform", "DER", "-out", "token")
        self.openssl("cms", "-sign", "-binary", "-nodetach", "-md", "sha256", "-cades", "-econtent_type", "1.2.840.113549.1.9.16.1.4", *files)
        return sequence(sequence(tagged(0x02, b"\x00")), (self.folder / "token").read_bytes())


def tagged(tag: int, *parts: bytes) -> bytes:
    """A DER value."""
    body = b"".join(parts)
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (length if len(body) < 128 else bytes([0x80 | len(length)]) + length) + body


def sequence(*parts: bytes) -> bytes:
    """A DER sequence."""
    return tagged(0x30, *parts)


OIDS = {
    "policy": bytes.fromhex("06092b0601040181fd5902"),
    "sha256": bytes.fromhex("0609608648016503040201"),
    "sha512": bytes.fromhex("0609608648016503040203"),
}


def make_tsa(folder: Path, **options: Any) -> Tsa:
    """An authority for timestamps. Options are those of its certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    root = issue("Time Root", ca=True, start=NOW - 3650 * DAY, end=NOW + 3650 * DAY)
    good = {"purposes": [TIME_STAMPING], "critical_purposes": True, "names": LEFT_OUT, "start": NOW - 3650 * DAY, "end": NOW + 3650 * DAY}
    signer = issue("Time", root, **{**good, **options})
    save(folder / "root.pem", root)
    save(folder / "tsa.pem", signer)
    (folder / "tsa.key").write_bytes(signer.key_pem)
    (folder / "tsa.cnf").write_text(TSA_CONFIG)
    (folder / "serial").write_text("01")
    return Tsa(folder)


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Tsa:
    """The authority whose word on time is trusted."""
    return make_tsa(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for here is on this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def serve(answer: Callable[[bytes], bytes], status: int = 200) -> Iterator[str]:
    """A server that answers queries like this, and its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["content-type"] == "application/timestamp-query"
            body = answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("content-type", "application/timestamp-reply")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def stamp(signature: Path, *responses: Callable[[bytes], bytes]) -> None:
    """Put timestamps into a signature."""

    def change(bundle: dict[str, Any]) -> None:
        signed = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
        stamps = [{"signedTimestamp": base64.b64encode(response(signed)).decode()} for response in responses]
        bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": stamps}

    edit_bundle(signature, change)


def instant(text: str | None) -> datetime.datetime:
    """A time as a verification states it."""
    assert text is not None
    return datetime.datetime.fromisoformat(text)


def timed_policy(folder: Path, tsa: Tsa, signer: str, conditions: str = "") -> sentry.Policy:
    """A policy about a signer whose signatures' times are looked at."""
    text = f'policy = 1\n[signer.one]\n{signer}\ntimestamp_roots = ["{tsa.root}"]\n[[rule]]\nartifacts = ["model"]\nsigners = ["one"]\n{conditions}'
    (folder / "timed.toml").write_text(text)
    return sentry.Policy(folder / "timed.toml")


def verified(result: Any) -> sentry.Verification:
    """What was verified."""
    return result if isinstance(result, sentry.Verification) else result.verification


@every_verb
def test_a_timestamp_tells_when_a_key_signed(
    verb: Verb, model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, tsa: Tsa, tmp_path: Path
) -> None:
    (tmp_path / "key.pub").write_text(trust.pem)
    timed = sentry.PublicKey(tmp_path / "key.pub", timestamp_roots=tsa.root)
    other = make_tsa(tmp_path / "other")
    sentry.sign_model(model, key=key)
    assert verified(verb(model, timed)).timestamp is None
    with serve(tsa.answer) as address:
        sentry.sign_model(model, key=key, timestamp=address)
    time = instant(verified(verb(model, timed)).timestamp)
    assert time >= NOW and time.utcoffset() == datetime.timedelta(0)
    assert verified(verb(model, sentry.PublicKey(tmp_path / "key.pub", timestamp_roots=[other.root, tsa.root]))).timestamp
    # Who does not ask for the time is told none, and needs no authority.
    assert verified(verb(model, trust)).timestamp is None
    rejected(lambda: verb(model, sentry.PublicKey(tmp_path / "key.pub", timestamp_roots=other.root)), sentry.TimestampError, "timestamp_untrusted")
    since = timed_policy(tmp_path, tsa, 'key = "key.pub"', "signed_after = 2026-01-01T00:00:00Z\n")
    assert instant(verified(verb(model, since)).timestamp) == time
    late = timed_policy(tmp_path, tsa, 'key = "key.pub"', "signed_after = 2999-01-01T00:00:00Z\n")
    error = rejected(lambda: verb(model, late), sentry.PolicyError, "policy_signed_after")
    assert "after 2999-01-01T00:00:00Z, the timestamp is of " in str(error)


def test_tensors_are_timestamped_too(
    key: sentry.PrivateKey, trust: sentry.PublicKey, leaf: Holder, middle: Holder, root: Holder, tsa: Tsa, tmp_path: Path
) -> None:
    (tmp_path / "key.pub").write_text(trust.pem)
    (tmp_path / "leaf.key").write_bytes(leaf.key_pem)
    timed = sentry.PublicKey(tmp_path / "key.pub", timestamp_roots=tsa.root)
    certified = trusting(tmp_path, root, identity=RELEASE, timestamp_roots=tsa.root)
    chain = {"certificate": save(tmp_path / "leaf.pem", leaf), "chain": save(tmp_path / "middle.pem", middle)}
    with serve(tsa.answer) as address:
        sentry.sign_model(tensors(), key=key, signature=tmp_path / "key.sig", timestamp=address)
        sentry.sign_model(module_of(state()), key=tmp_path / "leaf.key", signature=tmp_path / "leaf.sig", timestamp=address, **chain)
    assert instant(sentry.verify_model(tensors(), tmp_path / "key.sig", trust=timed).timestamp) >= NOW
    assert instant(sentry.verify_model(module_of(state()), tmp_path / "leaf.sig", trust=certified).timestamp) >= NOW


LIFE = {"start": NOW - 40 * DAY, "end": NOW - 20 * DAY}


@every_verb
def test_a_certificate_counts_as_long_as_it_was_valid_when_it_signed(verb: Verb, model: Path, tsa: Tsa, tmp_path: Path) -> None:
    root = issue("Acme Root", ca=True, start=NOW - 100 * DAY)
    middle = issue("Acme Middle", root, ca=True, start=NOW - 50 * DAY)
    signature = signed_by(model, issue("Acme Release", middle, **LIFE), middle)
    whom = {"identity": RELEASE}
    timed = trusting(tmp_path, root, timestamp_roots=tsa.root, **whom)
    signer = f'certificate_roots = ["roots.pem"]\nidentity = "{RELEASE}"'
    in_policy = timed_policy(tmp_path, tsa, signer)

    def refused(time: datetime.datetime, code: str) -> None:
        stamp(signature, lambda signed: tsa.at(time, signed))
        for trust in (timed, in_policy):
            rejected(lambda: verb(model, trust), sentry.CertificateError, code)

    for trust in (timed, in_policy, trusting(tmp_path, root, **whom)):
        rejected(lambda trust=trust: verb(model, trust), sentry.CertificateError, "certificate_expired")
    for time in (NOW - 30 * DAY, LIFE["start"], LIFE["end"]):
        stamp(signature, lambda signed, time=time: tsa.at(time, signed))
        for trust in (timed, in_policy):
            assert instant(verified(verb(model, trust)).timestamp) == time
        # The time is nobody's word without a root for it.
        rejected(lambda: verb(model, trusting(tmp_path, root, **whom)), sentry.CertificateError, "certificate_expired")
    refused(NOW - 41 * DAY, "certificate_not_yet_valid")
    refused(NOW - 19 * DAY, "certificate_expired")
    refused(NOW - 60 * DAY, "certificate_not_yet_valid")
    # A certificate of today does not reach back either.
    signature = signed_by(model, issue("Acme Release", middle), middle)
    assert verb(model, timed)
    refused(NOW - 30 * DAY, "certificate_not_yet_valid")


@every_verb
def test_the_earliest_of_several_timestamps_counts_and_all_must_hold(
    verb: Verb, model: Path, leaf: Holder, middle: Holder, root: Holder, tsa: Tsa, tmp_path: Path
) -> None:
    signature = signed_by(model, leaf, middle)
    timed = trusting(tmp_path, root, timestamp_roots=tsa.root, identity=RELEASE)
    times = [NOW - datetime.timedelta(hours=hours) for hours in (2, 5, 1)]
    stamp(signature, *(lambda signed, time=time: tsa.at(time, signed) for time in times))
    assert instant(verified(verb(model, timed)).timestamp) == times[1]
    other = make_tsa(tmp_path / "other")
    for order in ((tsa, other), (other, tsa)):
        stamp(signature, *(lambda signed, each=each: each.at(times[0], signed) for each in order))
        rejected(lambda: verb(model, timed), sentry.TimestampError, "timestamp_untrusted")
        assert verified(verb(model, trusting(tmp_path, root, timestamp_roots=[tsa.root, other.root], identity=RELEASE))).timestamp
    stamp(signature, *[lambda signed: tsa.at(times[0], signed)] * 9)
    rejected(lambda: verb(model, timed), sentry.LimitError, "too_many_timestamps")
    stamp(signature, lambda _: bytes(64 * 1024 + 1))
    rejected(lambda: verb(model, timed), sentry.LimitError, "timestamp_too_long")


def of_another(tsa: Tsa) -> Callable[[bytes], bytes]:
    """A timestamp of another signature."""
    return lambda signed: tsa.at(NOW, signed + b"x")


def changed(tsa: Tsa) -> Callable[[bytes], bytes]:
    """A timestamp whose time was changed after it was signed."""

    def make(signed: bytes) -> bytes:
        response = tsa.at(NOW, signed)
        before, after = (time.strftime("%Y%m%d%H%M%SZ").encode() for time in (NOW, NOW - DAY))
        assert response.count(before) == 1
        return response.replace(before, after)

    return make


STAMPS: dict[str, tuple[type[sentry.Error], str, Callable[[Tsa], Callable[[bytes], bytes]]]] = {
    "of another signature": (sentry.TimestampError, "timestamp_mismatch", of_another),
    "changed": (sentry.TimestampError, "timestamp_untrusted", changed),
    "nonsense": (sentry.TimestampError, "timestamp_malformed", lambda tsa: lambda _: b"\x30\x03\x02\x01\x00"),
    "a refusal": (sentry.TimestampError, "timestamp_malformed", lambda tsa: lambda _: sequence(sequence(tagged(0x02, b"\x02")))),
    "cut off": (sentry.TimestampError, "timestamp_malformed", lambda tsa: lambda signed: tsa.at(NOW, signed)[:-1]),
    "of tomorrow": (sentry.TimestampError, "timestamp_in_future", lambda tsa: lambda signed: tsa.at(NOW + DAY, signed)),
    "with another hash": (
        sentry.NotCheckedError,
        "timestamp_algorithm_unsupported",
        lambda tsa: lambda signed: tsa.at(NOW, signed, digest="sha512"),
    ),
}


@every_verb
@pytest.mark.parametrize(("kind", "code", "make"), STAMPS.values(), ids=STAMPS.keys())
def test_a_timestamp_that_shows_nothing(
    verb: Verb,
    kind: type[sentry.Error],
    code: str,
    make: Callable[[Tsa], Callable[[bytes], bytes]],
    model: Path,
    key: sentry.PrivateKey,
    tsa: Tsa,
    tmp_path: Path,
) -> None:
    (tmp_path / "key.pub").write_text(key.public_key.pem)
    signature = Path(sentry.sign_model(model, key=key).path)
    stamp(signature, make(tsa))
    timed = sentry.PublicKey(tmp_path / "key.pub", timestamp_roots=tsa.root)
    for trust in (timed, timed_policy(tmp_path, tsa, 'key = "key.pub"')):
        with pytest.raises(sentry.Error) as caught:
            verb(model, trust)
        assert (type(caught.value), caught.value.code) == (kind, code), caught.value
        assert str(caught.value).isprintable()
    assert verb(model, key.public_key)


AUTHORITIES: dict[str, tuple[type[sentry.Error], str, dict[str, Any]]] = {
    "for code as well": (sentry.TimestampError, "timestamp_untrusted", {"purposes": [TIME_STAMPING, CODE_SIGNING]}),
    "for code": (sentry.TimestampError, "timestamp_untrusted", {"purposes": [CODE_SIGNING]}),
    "for anything": (sentry.TimestampError, "timestamp_untrusted", {"purposes": LEFT_OUT}),
    "not critically": (sentry.TimestampError, "timestamp_untrusted", {"critical_purposes": False}),
    "for no signatures": (sentry.TimestampError, "timestamp_untrusted", {"usage": usage("key_encipherment")}),
    "expired then": (sentry.TimestampError, "timestamp_untrusted", {"end": NOW - DAY}),
    "not valid yet then": (sentry.TimestampError, "timestamp_untrusted", {"start": NOW + DAY}),
    "issued by nobody": (sentry.TimestampError, "timestamp_untrusted", {"signing": ec.generate_private_key(ec.SECP256R1())}),
    "with an RSA key": (sentry.NotCheckedError, "timestamp_algorithm_unsupported", {"key": rsa.generate_private_key(65537, 2048)}),
    "on P-521": (sentry.NotCheckedError, "timestamp_algorithm_unsupported", {"key": ec.generate_private_key(ec.SECP521R1())}),
}


@pytest.mark.parametrize(("kind", "code", "options"), AUTHORITIES.values(), ids=AUTHORITIES.keys())
def test_an_authority_that_may_not_timestamp(
    kind: type[sentry.Error], code: str, options: dict[str, Any], model: Path, key: sentry.PrivateKey, tmp_path: Path
) -> None:
    (tmp_path / "key.pub").write_text(key.public_key.pem)
    signature = Path(sentry.sign_model(model, key=key).path)
    unfit = make_tsa(tmp_path / "tsa", **options)
    stamp(signature, lambda signed: unfit.at(NOW, signed))
    for verb in VERBS.values():
        with pytest.raises(sentry.Error) as caught:
            verb(model, sentry.PublicKey(tmp_path / "key.pub", timestamp_roots=unfit.root))
        assert (type(caught.value), caught.value.code) == (kind, code), caught.value


def replaying(tsa: Tsa) -> Callable[[bytes], bytes]:
    """A server that answers every query as it did the first."""
    first: list[bytes] = []

    def answer(query: bytes) -> bytes:
        if not first:
            first.append(tsa.answer(query))
        return first[0]

    return answer


def fails(model: Path, key: sentry.PrivateKey, address: str, code: str, folder: Path) -> None:
    """Assert that files and tensors are not signed with a timestamp from there."""
    unsigned(lambda: sentry.sign_model(model, key=key, timestamp=address), sentry.SigningError, code, model / "model.sig")
    memory = {"key": key, "signature": folder / "t.sig", "timestamp": address}
    unsigned(lambda: sentry.sign_model(tensors(), **memory), sentry.SigningError, code, folder / "t.sig")


ANSWERS: dict[str, tuple[str, int, Callable[[bytes], bytes]]] = {
    "an error": ("timestamp_unavailable", 500, lambda _: b"no"),
    "nothing there": ("timestamp_unavailable", 404, lambda _: b""),
    "a page": ("timestamp_malformed", 200, lambda _: b"<html>hello</html>"),
    "nothing": ("timestamp_malformed", 200, lambda _: b""),
    "a refusal": ("timestamp_malformed", 200, lambda _: sequence(sequence(tagged(0x02, b"\x02")))),
    "too much": ("timestamp_unavailable", 200, lambda _: bytes((64 << 10) + 1)),
}


@pytest.mark.parametrize(("code", "status", "answer"), ANSWERS.values(), ids=ANSWERS.keys())
def test_a_server_that_has_no_timestamp_leaves_nothing_signed(
    code: str, status: int, answer: Callable[[bytes], bytes], model: Path, key: sentry.PrivateKey, tmp_path: Path
) -> None:
    with serve(answer, status) as address:
        fails(model, key, address, code, tmp_path)
        # One that was there is not lost.
        sentry.sign_model(model, key=key)
        fails(model, key, address, code, tmp_path)


def test_a_server_that_is_not_there(model: Path, key: sentry.PrivateKey, tmp_path: Path) -> None:
    with serve(lambda _: b"") as address:
        pass
    for place in (address, address.replace("http", "https"), "ftp://127.0.0.1/", "127.0.0.1", "nonsense", ""):
        fails(model, key, place, "timestamp_unavailable", tmp_path)


def test_an_answer_that_is_not_to_this_query(model: Path, key: sentry.PrivateKey, tsa: Tsa, tmp_path: Path) -> None:
    with serve(replaying(tsa)) as address:
        sentry.sign_model(model, key=key, timestamp=address)
        fails(model, key, address, "timestamp_mismatch", tmp_path)
    # Of this signature, and without the query's number.
    with serve(lambda query: tsa.at(NOW, b"another")) as address:
        fails(model, key, address, "timestamp_mismatch", tmp_path)


def test_an_authority_that_nobody_could_trust_is_not_asked_in_vain(model: Path, key: sentry.PrivateKey, tmp_path: Path) -> None:
    with serve(make_tsa(tmp_path / "rsa", key=rsa.generate_private_key(65537, 2048)).answer) as address:
        fails(model, key, address, "timestamp_algorithm_unsupported", tmp_path)


@every_verb
def test_the_roots_of_time_are_read_once(verb: Verb, model: Path, key: sentry.PrivateKey, tsa: Tsa, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(key.public_key.pem)
    shutil.copy(tsa.root, tmp_path / "time.pem")
    signature = Path(sentry.sign_model(model, key=key).path)
    stamp(signature, lambda signed: tsa.at(NOW, signed))
    timed = sentry.PublicKey(tmp_path / "key.pub", timestamp_roots=tmp_path / "time.pem")
    (tmp_path / "time.pem").unlink()
    (tmp_path / "key.pub").unlink()
    assert instant(verified(verb(model, timed)).timestamp) == NOW
