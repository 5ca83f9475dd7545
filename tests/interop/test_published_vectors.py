"""The bundles of vectors/oms: those with a key or certificate verify with their models, the others are refused.

Each file there has its line in a table here; `test_every_bundle_has_its_line` sees to it.
"""

import base64
import hashlib
import pathlib
import shutil

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PUBLIC_KEY = "historical/keys/certificate/signing-key-pub.pem"

# Bundle, and the path of its model (None: put together by digest).
VERIFIED = {
    "historical/v0.3.1-elliptic-key/model.sig": "historical/v0.3.1-elliptic-key/signme-1",
    "historical/v1.0.0-elliptic-key/model.sig": "historical/v1.0.0-elliptic-key/signme-1",
    "spec/valid/key.bundle.json": None,
}

# The same, for certificates. Those are CA certificates without names, so that they verify only for
# whoever gives up two protections.
CERTIFIED = {
    "historical/v0.3.1-certificate/model.sig": "historical/v0.3.1-certificate",
    "historical/v1.0.0-certificate/model.sig": "historical/v1.0.0-certificate",
    "spec/valid/certificate.bundle.json": None,
}
ROOT = "historical/keys/certificate/ca-cert.pem"
BETWEEN = "historical/keys/certificate/int-ca-cert.pem"
GIVEN_UP = ["--any-identity", "--allow-ca-leaf"]

# A method that is not there yet could not be checked.
UNSUPPORTED = {
    "historical/v0.3.1-sigstore": "sigstore_method_unsupported",
    "historical/v1.0.0-sigstore": "sigstore_method_unsupported",
    "spec/valid/sigstore.bundle.json": "sigstore_method_unsupported",
}

# Bundle, exit code and error. A Sigstore bundle without log entries is still a Sigstore bundle.
# The signature of wrong-predicate is of another payload, and is checked first.
INVALID = {
    "spec/invalid/empty.bundle.json": (1, "json_invalid"),
    "spec/invalid/missing-envelope.bundle.json": (1, "json_field"),
    "spec/invalid/missing-tlog-entries.bundle.json": (1, "verification_material"),
    "spec/invalid/missing-verification-material.bundle.json": (1, "verification_material"),
    "spec/invalid-payload/wrong-predicate.bundle.json": (1, "signature_invalid"),
}


@pytest.fixture
def public_key(vectors):
    return vectors / PUBLIC_KEY


@pytest.fixture
def specified_model(vectors, read_bundle, tmp_path):
    """The model of the specification's bundles, from the historical files with the same digests."""
    files = vectors.glob("historical/*/signme-*")
    by_digest = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}
    model = tmp_path / "model"
    model.mkdir()
    for resource in read_bundle(vectors / "spec/valid/key.bundle.json").resources:
        shutil.copyfile(by_digest[resource["digest"]], model / resource["name"])
    return model


@pytest.fixture
def model_of(vectors, specified_model, tmp_path):
    """A copy of a bundle's model that a test may change."""

    def model_of(path):
        if path is None:
            return specified_model
        copy = tmp_path / "copy" / (vectors / path).name
        copy.parent.mkdir(exist_ok=True)
        if (vectors / path).is_dir():
            # Its signature stays where it is, and is no file of the copy.
            ignore = shutil.ignore_patterns("model.sig")
            return pathlib.Path(shutil.copytree(vectors / path, copy, ignore=ignore, dirs_exist_ok=True))
        shutil.copyfile(vectors / path, copy)
        return copy

    return model_of


@pytest.mark.parametrize("bundle, path", VERIFIED.items())
def test_key_bundles_verify(sentry, vectors, read_bundle, public_key, model_of, bundle, path):
    model = model_of(path)
    verdict = sentry.verify(model, public_key, signature=vectors / bundle)
    assert verdict.exit == 0, verdict
    assert verdict.report["signer"]["algorithm"] == "ecdsa-p384-sha384"
    subject = read_bundle(vectors / bundle).statement["subject"][0]
    assert verdict.report["statement"]["subject"] == subject["name"]
    assert verdict.report["statement"]["root"] == subject["digest"]["sha256"]


@pytest.mark.parametrize("bundle, path", VERIFIED.items())
def test_key_bundles_see_a_change(sentry, vectors, public_key, model_of, bundle, path):
    model = model_of(path)
    changed = model if model.is_file() else model / "signme-1"
    changed.write_bytes(changed.read_bytes() + b"\0")
    verdict = sentry.verify(model, public_key, signature=vectors / bundle)
    assert (verdict.exit, verdict.code) == (1, "model_differs"), verdict
    assert [kind for kind, _ in verdict.differences] == ["changed_file"]


@pytest.mark.parametrize("bundle, path", VERIFIED.items())
def test_key_bundles_need_their_key(sentry, vectors, keys, model_of, bundle, path):
    other = keys("pkcs8", "p384").public
    verdict = sentry.verify(model_of(path), other, signature=vectors / bundle)
    # Older bundles carry the whole key, which then disagrees with the given one.
    expected = "signature_invalid" if path is None else "key_label_mismatch"
    assert (verdict.exit, verdict.code) == (1, expected), verdict


def test_specified_bundle_ignores_what_it_says(sentry, vectors, public_key, specified_model):
    bundle = vectors / "spec/valid/key.bundle.json"
    (specified_model / "ignore-me").write_bytes(b"ignored")
    (specified_model / ".gitattributes").write_bytes(b"ignored")
    assert sentry.verify(specified_model, public_key, signature=bundle).exit == 0
    (specified_model / "ignore-me-not").write_bytes(b"not signed")
    verdict = sentry.verify(specified_model, public_key, signature=bundle)
    assert verdict.differences == {("unsigned_file", "ignore-me-not")}


@pytest.fixture
def verify_certificate(verify_with, vectors, model_of):
    """Verifies one of CERTIFIED; `change` may do something to the model before."""

    def verify_certificate(bundle, *options, root=ROOT, change=None):
        model = model_of(CERTIFIED[bundle])
        if change:
            change(model)
        where = ["--signature", vectors / bundle, "--certificate-root", vectors / root]
        return verify_with(model, *where, *options)

    return verify_certificate


@pytest.mark.parametrize("bundle", CERTIFIED)
def test_certificate_bundles_verify(verify_certificate, vectors, read_bundle, bundle):
    verdict = verify_certificate(bundle, *GIVEN_UP)
    assert verdict.exit == 0, verdict
    signer = verdict.report["signer"]
    assert (signer["method"], signer["algorithm"]) == ("certificate", "ecdsa-p384-sha384")
    assert (signer["identity"], signer["names"]) == (None, [])
    assert signer["subject"] == signer["issuer"] == "CN=intermediate-ca"
    certificate = vectors / "historical/keys/certificate/signing-key-cert.pem"
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256())
    assert signer["fingerprint"] == der.hex()
    subject = read_bundle(vectors / bundle).statement["subject"][0]
    assert verdict.report["statement"]["root"] == subject["digest"]["sha256"]


@pytest.mark.parametrize("bundle", CERTIFIED)
@pytest.mark.parametrize(
    "options, code",
    [
        (["--any-identity"], "certificate_of_authority"),
        (["--identity", "release@acme.example"], "certificate_of_authority"),
        (["--identity", "release@acme.example", "--allow-ca-leaf"], "certificate_identity"),
        (["--identity", "intermediate-ca", "--allow-ca-leaf"], "certificate_identity"),
    ],
    ids=["any", "identity", "identity-ca-leaf", "common-name"],
)
def test_certificate_bundles_without_either(verify_certificate, bundle, options, code):
    verdict = verify_certificate(bundle, *options)
    assert (verdict.exit, verdict.code) == (1, code), verdict


@pytest.mark.parametrize("bundle", CERTIFIED)
@pytest.mark.parametrize("options", [[], ["--allow-ca-leaf"]], ids=["nothing", "ca-leaf"])
def test_certificate_bundles_with_nobody_to_trust(sentry, vectors, model_of, bundle, options):
    """A command line that makes no sense, and no verdict."""
    where = ["--signature", vectors / bundle, "--certificate-root", vectors / ROOT, "--json"]
    result = sentry.run("verify", model_of(CERTIFIED[bundle]), *where, *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--any-identity" in result.stderr


@pytest.mark.parametrize("bundle", CERTIFIED)
def test_certificate_bundles_under_other_roots(verify_certificate, certifier, bundle):
    stranger = verify_certificate(bundle, *GIVEN_UP, root=certifier.authority().path)
    assert (stranger.exit, stranger.code) == (1, "certificate_unknown_issuer"), stranger
    # Whom the root vouches for can be named alone.
    assert verify_certificate(bundle, *GIVEN_UP, root=BETWEEN).exit == 0


@pytest.mark.parametrize("bundle", CERTIFIED)
def test_certificate_bundles_see_a_change(verify_certificate, bundle):
    def change(model):
        (model / "signme-1").write_bytes((model / "signme-1").read_bytes() + b"\0")

    verdict = verify_certificate(bundle, *GIVEN_UP, change=change)
    assert (verdict.exit, verdict.code) == (1, "model_differs"), verdict
    assert verdict.differences == {("changed_file", "signme-1")}


@pytest.mark.parametrize("bundle", CERTIFIED)
def test_certificate_bundles_are_not_keys(sentry, vectors, public_key, model_of, bundle):
    """Not even of the very key that the certificate is for."""
    verdict = sentry.verify(model_of(CERTIFIED[bundle]), public_key, signature=vectors / bundle)
    assert (verdict.exit, verdict.code) == (2, "method_mismatch"), verdict


@pytest.mark.parametrize("bundle, code", UNSUPPORTED.items())
def test_other_methods_are_refused(
    sentry, verify_with, vectors, public_key, specified_model, bundle, code
):
    path = vectors / bundle
    model, signature = (path, path / "model.sig") if path.is_dir() else (specified_model, path)
    verdict = sentry.verify(model, public_key, signature=signature)
    assert (verdict.exit, verdict.code) == (2, code), verdict
    trusted = ["--certificate-root", vectors / ROOT, *GIVEN_UP]
    verdict = verify_with(model, *trusted, "--signature", signature)
    assert (verdict.exit, verdict.code) == (2, code), verdict


@pytest.mark.parametrize("bundle, expected", INVALID.items())
def test_invalid_bundles_are_rejected(
    sentry, vectors, public_key, specified_model, bundle, expected
):
    verdict = sentry.verify(specified_model, public_key, signature=vectors / bundle)
    assert (verdict.exit, verdict.code) == expected, verdict


def test_wrong_predicate_with_a_good_signature(
    sentry, vectors, read_bundle, keys, pae, specified_model, tmp_path
):
    """The published case with its signature made good, so that the predicate alone is wrong."""
    key = keys("pkcs8", "p256")
    bundle = read_bundle(vectors / "spec/invalid-payload/wrong-predicate.bundle.json")
    signature = key.load_private().sign(pae(bundle.payload), ec.ECDSA(hashes.SHA256()))
    bundle.envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    bundle.public_key["hint"] = hashlib.sha256(key.public.read_bytes()).hexdigest()
    resigned = bundle.write(tmp_path / "resigned.sig").path
    verdict = sentry.verify(specified_model, key.public, signature=resigned)
    assert (verdict.exit, verdict.code) == (1, "predicate_type"), verdict


def test_every_bundle_has_its_line(vectors):
    listed = {vectors / bundle for bundle in [*VERIFIED, *CERTIFIED, *INVALID]}
    unsupported = {vectors / bundle for bundle in UNSUPPORTED}
    listed |= {path / "model.sig" if path.is_dir() else path for path in unsupported}
    assert listed == {*vectors.glob("**/*.sig"), *vectors.glob("**/*.bundle.json")}


def test_vectors_are_unchanged(vectors):
    lines = (vectors / "SHA256SUMS").read_text().splitlines()
    for digest, name in (line.split("  ", 1) for line in lines):
        assert hashlib.sha256((vectors / name).read_bytes()).hexdigest() == digest, name
