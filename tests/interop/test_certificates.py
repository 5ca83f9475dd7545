"""The certificate method, both ways with the reference: chains of every kind of authority and key.

The reference takes any identity, and the time that the signer's certificate itself states. What it
accepts for that reason and we do not is at the end.
"""

import base64
import datetime
import hashlib
import json
import os

import model_signing
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto

CURVES = ["p256", "p384", "p521"]
# Authorities from the root down, and the signer: every kind of key in every place where it may be.
CHAINS = {
    "p256-under-root": (["p256"], "p256"),
    "p384-under-root": (["p384"], "p384"),
    "p521-under-root": (["p521"], "p521"),
    "p256-under-rsa": (["rsa2048"], "p256"),
    "p521-under-rsa": (["rsa4096"], "p521"),
    "p256-one-between": (["p384", "p256"], "p256"),
    "p384-one-between": (["rsa3072", "p384"], "p384"),
    "p521-one-between": (["p521", "rsa2048"], "p521"),
    "p256-two-between": (["p521", "p384", "p256"], "p256"),
    "p384-two-between": (["rsa2048", "p256", "rsa3072"], "p384"),
    "p521-two-between": (["p256", "p384", "p521"], "p521"),
}
NAME = "release@acme.example"
DAY = datetime.timedelta(days=1)

IDENTITIES = {
    "email": "release@acme.example",
    "uri": "https://git.example/acme/models/.build/release.yml@refs/heads/main",
    "spiffe": "spiffe://acme.example/trainer/7",
    "dns": "builder.acme.example",
}


@pytest.fixture(scope="module")
def chain_of(certifier):
    """A signer's certificate under a chain of CHAINS; made once."""
    made = {}

    def chain_of(name):
        if name not in made:
            authorities, kind = CHAINS[name]
            issuer = None
            for authority in authorities:
                issuer = certifier.authority(issuer, authority)
            made[name] = certifier.signer(issuer, kind)
        return made[name]

    return chain_of


@pytest.fixture(params=CHAINS)
def chain(request, chain_of):
    return chain_of(request.param)


@pytest.fixture
def sign(sentry):
    """Signs with a certificate; what `sentry sign` says of it is in the second value."""

    def sign(model, certified, *options, **where):
        return sentry.sign(model, certified.key, *certified.sign_options, *options, **where)

    return sign


@pytest.fixture
def sign_theirs(read_bundle):
    """The reference's API."""

    def sign_theirs(model, certified, signature):
        signer = model_signing.signing.Config().use_certificate_signer(
            private_key=certified.key.private,
            signing_certificate=certified.path,
            certificate_chain=chain_for_theirs(certified),
        )
        hashing = model_signing.hashing.Config().set_ignored_paths(paths=["model.sig"])
        signer.set_hashing_config(hashing).sign(model, signature)
        return read_bundle(signature)

    return sign_theirs


@pytest.fixture
def verify_theirs():
    """The reference's API; it raises if it rejects."""

    def verify_theirs(model, root, signature):
        verifier = model_signing.verifying.Config()
        verifier.use_certificate_verifier(certificate_chain=[root]).verify(model, signature)

    return verify_theirs


@pytest.fixture
def verify(verify_with):
    """Ours, with trust in one identity under one root."""

    def verify(model, root, *options, identity=NAME):
        whom = ["--identity", identity] if identity else ["--any-identity"]
        return verify_with(model, "--certificate-root", root, *whom, *options)

    return verify


def chain_for_theirs(certified):
    """It reads no empty chain, so a certificate under the root itself comes with the root."""
    return certified.chain or [certified.root]


def assert_code(verdict, exit, code):
    assert (verdict.exit, verdict.code) == (exit, code), verdict


def certificates_of(bundle):
    chain = bundle.document["verificationMaterial"]["x509CertificateChain"]["certificates"]
    return [base64.b64decode(certificate["rawBytes"], validate=True) for certificate in chain]


def replace_chain(bundle, *ders):
    """Other certificates in place of those in the file; no signature covers them."""
    chain = [{"rawBytes": base64.b64encode(der).decode()} for der in ders]
    bundle.document["verificationMaterial"]["x509CertificateChain"]["certificates"] = chain
    return bundle.write(bundle.path)


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


# Ours, verified by theirs.


def test_ours_by_their_command_line(sign, reference, chain, model):
    bundle, said = sign(model, chain)
    assert "model-signing" not in said
    options = ["--signature", bundle.path, "--certificate_chain", chain.root]
    result = reference.run("verify", "certificate", model, *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Verification succeeded" in result.stdout
    flip(model / "model.safetensors")
    result = reference.run("verify", "certificate", model, *options)
    assert result.returncode == 1
    assert "Hash mismatch" in result.stderr and "model.safetensors" in result.stderr


@pytest.mark.parametrize("hash", ["sha256", "blake3"])
def test_ours_by_their_api(sign, verify_theirs, chain, model, hash):
    bundle, _ = sign(model, chain, "--hash", hash)
    verify_theirs(model, chain.root, bundle.path)
    (model / "a.txt").write_bytes(b"by whole name First")
    with pytest.raises(ValueError, match=r"Hash mismatch for .*a\.txt"):
        verify_theirs(model, chain.root, bundle.path)


def test_ours_under_another_root_is_rejected_there(sign, verify_theirs, certifier, publisher, model):
    bundle, _ = sign(model, publisher)
    with pytest.raises(crypto.X509StoreContextError):
        verify_theirs(model, certifier.authority().path, bundle.path)


def test_altered_statement_is_rejected_there(sign, verify_theirs, publisher, model):
    bundle, _ = sign(model, publisher)
    payload = bundle.payload.replace(b'"allow_symlinks":false', b'"allow_symlinks":true')
    assert payload != bundle.payload
    bundle.envelope["payload"] = base64.b64encode(payload).decode()
    bundle.write(bundle.path)
    with pytest.raises(Exception, match=r"^$"):
        verify_theirs(model, publisher.root, bundle.path)


@pytest.mark.parametrize("options", [["--timestamp"], ["--artifact-version", "3"], ["--no-annotations"]])
def test_options_of_sign(sign, verify_theirs, tsa, publisher, model, options):
    if options == ["--timestamp"]:
        options = ["--timestamp", tsa.url]
    bundle, _ = sign(model, publisher, *options)
    verify_theirs(model, publisher.root, bundle.path)


# Theirs, verified by ours.


def test_theirs_by_ours(sign_theirs, verify, chain, model):
    bundle = sign_theirs(model, chain, model / "model.sig")
    verdict = verify(model, chain.root)
    assert verdict.exit == 0, verdict
    signer = verdict.report["signer"]
    assert signer["method"] == "certificate"
    assert signer["algorithm"].startswith(f"ecdsa-{chain.key.algorithm}-")
    assert signer["fingerprint"] == hashlib.sha256(certificates_of(bundle)[0]).hexdigest()
    assert signer["identity"] == NAME
    flip(model / "model.safetensors")
    verdict = verify(model, chain.root)
    assert_code(verdict, 1, "model_differs")
    assert verdict.differences == {("changed_file", "model.safetensors")}


def test_their_command_line_by_ours(reference, verify, chain, model):
    options = ["--private_key", chain.key.private, "--signing_certificate", chain.path]
    for path in chain_for_theirs(chain):
        options += ["--certificate_chain", path]
    signature = model / "model.sig"
    result = reference.run("sign", "certificate", model, *options, "--signature", signature)
    assert result.returncode == 0, result.stderr
    assert verify(model, chain.root).exit == 0
    (model / "nested/added.bin").write_bytes(b"not signed")
    verdict = verify(model, chain.root)
    assert_code(verdict, 1, "model_differs")
    assert verdict.differences == {("unsigned_file", "nested/added.bin")}


def test_theirs_needs_our_identity(sign_theirs, verify, publisher, model):
    sign_theirs(model, publisher, model / "model.sig")
    assert_code(verify(model, publisher.root, identity="other@acme.example"), 1, "certificate_identity")
    assert verify(model, publisher.root, identity=None).exit == 0


# Chains made by openssl, without any library of this suite.


@pytest.fixture(scope="module")
def openssl_chain(openssl, tmp_path_factory):
    """Root, authority and signer by `openssl req` and `openssl x509`: key, certificate, chain, root."""
    folder = tmp_path_factory.mktemp("openssl")

    def make(name, subject, issuer, *lines):
        key, request, path = (folder / f"{name}.{ending}" for ending in ("key", "csr", "pem"))
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes"]
        openssl("req", *curve, "-keyout", key, "-out", request, "-subj", subject)
        extensions = folder / f"{name}.ext"
        extensions.write_text("\n".join(lines))
        by = ["-CA", folder / f"{issuer}.pem", "-CAkey", folder / f"{issuer}.key"] if issuer else ["-signkey", key]
        openssl("x509", "-req", "-in", request, *by, "-days", "3", "-extfile", extensions, "-out", path)

    usage = "keyUsage=critical,keyCertSign,cRLSign"
    make("root", "/O=Acme/CN=Root", None, "basicConstraints=critical,CA:TRUE", usage)
    make("between", "/O=Acme/CN=Issuing", "root", "basicConstraints=critical,CA:TRUE,pathlen:0", usage)
    end = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", "extendedKeyUsage=codeSigning"]
    make("signer", "/O=Acme/CN=Release", "between", *end, f"subjectAltName=email:{NAME},URI:{IDENTITIES['spiffe']}")
    openssl("verify", "-CAfile", folder / "root.pem", "-untrusted", folder / "between.pem", folder / "signer.pem")
    return folder


def test_chain_made_by_openssl(sentry, verify, verify_theirs, openssl_chain, model):
    at = openssl_chain
    options = ["--key", at / "signer.key", "--certificate", at / "signer.pem", "--chain", at / "between.pem"]
    result = sentry.run("sign", model, *options)
    assert result.returncode == 0, result.stderr
    for identity in [NAME, IDENTITIES["spiffe"], None]:
        assert verify(model, at / "root.pem", identity=identity).exit == 0, identity
    verify_theirs(model, at / "root.pem", model / "model.sig")
    # The authority alone is a root if its user says so.
    assert verify(model, at / "between.pem").exit == 0
    report = verify(model, at / "root.pem").report
    assert report["signer"]["subject"] == "CN=Release,O=Acme"
    assert report["signer"]["issuer"] == "CN=Issuing,O=Acme"
    assert report["signer"]["names"] == [NAME, IDENTITIES["spiffe"]]


def test_signature_of_openssl_with_a_certificate(sign, verify, pae, openssl, publisher, model, tmp_path):
    """A signature of openssl's over our payload, put in place of ours."""
    bundle, _ = sign(model, publisher)
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(pae(bundle.payload))
    openssl("dgst", "-sha256", "-sign", publisher.key.private, "-out", signature, message)
    bundle.envelope["signatures"][0]["sig"] = base64.b64encode(signature.read_bytes()).decode()
    bundle.write(bundle.path)
    assert verify(model, publisher.root).exit == 0


# Whom a certificate names.


@pytest.mark.parametrize("kind", IDENTITIES)
def test_exact_identity(sign, verify, certifier, model, kind):
    name = IDENTITIES[kind]
    root = certifier.authority()
    # The common name counts for nothing.
    signer = certifier.signer(root, names=[("uri" if kind == "spiffe" else kind, name)], subject="other.example")
    sign(model, signer)
    verdict = verify(model, root.path, identity=name)
    assert verdict.exit == 0, verdict
    assert verdict.report["signer"]["identity"] == name
    anyone = verify(model, root.path, identity=None)
    assert anyone.exit == 0
    assert (anyone.report["signer"]["identity"], anyone.report["signer"]["names"]) == (None, [name])
    for other in [name.upper(), f"{name}.evil", f"a{name}", name[1:], name[:-1], "other.example"]:
        assert_code(verify(model, root.path, identity=other), 1, "certificate_identity")


@pytest.mark.parametrize("pattern", ["*@acme.example", "*.acme.example", "release@*", "@acme.example", "", "release"])
def test_pattern_is_no_identity(sign, verify, publisher, model, pattern):
    sign(model, publisher)
    verdict = verify(model, publisher.root, identity=pattern or " ")
    expected = (2, "usage")
    # A lone label is a host name, and an address with a star in it is one: each equals only itself.
    if pattern in ("release", "*@acme.example"):
        expected = (1, "certificate_identity")
    assert_code(verdict, *expected)


def test_name_of_another_kind(sign, verify, certifier, model):
    """The text of an address as a host, and of a host as a URI."""
    root = certifier.authority()
    sign(model, certifier.signer(root, names=[("uri", "acme.example"), ("dns", NAME)]))
    assert_code(verify(model, root.path, identity="acme.example"), 1, "certificate_identity")
    assert_code(verify(model, root.path, identity=NAME), 1, "certificate_identity")


def test_certificate_without_names_is_known_by_roots_alone(sign, verify, certifier, model):
    root = certifier.authority()
    sign(model, certifier.signer(root, names=[], subject=NAME))
    assert_code(verify(model, root.path), 1, "certificate_identity")
    assert verify(model, root.path, identity=None).exit == 0


@pytest.mark.parametrize("options", [[], ["--identity", NAME, "--any-identity"], ["--allow-ca-leaf"]], ids=str)
def test_whom_to_trust_must_be_said(sentry, sign, publisher, model, options):
    sign(model, publisher)
    result = sentry.run("verify", model, "--certificate-root", publisher.root, *options)
    assert (result.returncode, result.stdout) == (2, "")
    assert "--any-identity" in result.stderr


# What stands in the file beside the signer's certificate.


def test_order_and_bystanders_do_not_matter(sign, verify, certifier, chain_of, model):
    signer = chain_of("p256-two-between")
    bundle, _ = sign(model, signer)
    first, near, far = certificates_of(bundle)
    stranger = certifier.authority().der
    root = signer.above[-1].der
    for chain in [[first, far, near], [first, near, far, root], [first, stranger, far, near], [first, near, near, far]]:
        replace_chain(bundle, *chain)
        assert verify(model, signer.root).exit == 0, chain
    for chain in [[first], [first, near], [first, far], [first, near, stranger]]:
        replace_chain(bundle, *chain)
        assert_code(verify(model, signer.root), 1, "certificate_unknown_issuer")


@pytest.mark.parametrize(
    "name, code",
    [("Acme Root", "certificate_signature"), ("Acme Root 2", "certificate_unknown_issuer")],
    ids=["same-name", "other-name"],
)
def test_root_in_the_file_is_not_trusted(sign, verify, certifier, model, name, code):
    """An attacker's own authorities with the publisher's identity, root and all."""
    trusted = certifier.authority(subject="Acme Root")
    forged = certifier.signer(certifier.authority(certifier.authority(subject=name)))
    bundle, _ = sign(model, forged)
    replace_chain(bundle, *certificates_of(bundle), forged.above[-1].der)
    assert_code(verify(model, trusted.path), 1, code)
    # Who trusts that root is told the same of everybody else's.
    assert verify(model, forged.root).exit == 0


def test_several_roots(sign, verify, certifier, publisher, model, tmp_path):
    sign(model, publisher)
    other = certifier.authority()
    assert verify(model, other.path, "--certificate-root", publisher.root).exit == 0
    both = tmp_path / "roots.pem"
    both.write_bytes(b"The roots:\n" + other.path.read_bytes() + b"\n" + publisher.root.read_bytes())
    assert verify(model, both).exit == 0


@pytest.mark.parametrize("count, expected", [(8, 0), (9, 1)])
def test_chain_has_a_limit(sign, verify, publisher, model, count, expected):
    bundle, _ = sign(model, publisher)
    first, between = certificates_of(bundle)
    replace_chain(bundle, first, *[between] * (count - 1))
    verdict = verify(model, publisher.root)
    assert verdict.exit == expected
    assert verdict.code == (None if expected == 0 else "chain_too_long")


def test_certificate_of_somebody_else(sign, verify, certifier, publisher, model):
    """The signature of one, with the certificate of another whom the verifier trusts."""
    other = certifier.signer(certifier.authority())
    bundle, _ = sign(model, other)
    replace_chain(bundle, publisher.der, publisher.issuer.der)
    assert_code(verify(model, publisher.root), 1, "signature_invalid")


def test_garbage_certificates(sign, verify, publisher, model):
    bundle, _ = sign(model, publisher)
    first, between = certificates_of(bundle)
    for der in [b"", b"\x30\x00", first[:-1], first + b"\0", os.urandom(400)]:
        replace_chain(bundle, der, between)
        assert_code(verify(model, publisher.root), 1, "certificate_malformed")
    replace_chain(bundle, first, b"\x30\x00")
    assert verify(model, publisher.root).exit == 1


# Trust that is about another method.


def test_method_is_the_trusted_one(sentry, sign, verify, verify_with, keys, publisher, model, outside):
    key = keys("pkcs8", "p256")
    sentry.sign(model, key)
    assert_code(verify(model, publisher.root), 2, "method_mismatch")
    sign(model, publisher, signature=outside)
    signature = ["--signature", outside]
    # The very key of the certificate is trust of another kind all the same.
    assert_code(verify_with(model, "--key", publisher.key.public, *signature), 2, "method_mismatch")
    assert verify(model, publisher.root, *signature).exit == 0


@pytest.mark.parametrize("kind", ["key", "signer", "empty", "key-beside"])
def test_file_of_roots_that_has_none(sign, verify, publisher, model, tmp_path, kind):
    sign(model, publisher)
    file = tmp_path / "roots.pem"
    content = {
        "key": publisher.key.public.read_bytes(),
        "signer": publisher.path.read_bytes(),
        "empty": b"",
        "key-beside": publisher.root.read_bytes() + publisher.key.private.read_bytes(),
    }
    file.write_bytes(content[kind])
    assert_code(verify(model, file), 2, "certificate_file")


# What `sentry sign` refuses, so that nobody publishes what nobody accepts.


@pytest.fixture
def refused(sentry, model):
    """Signing that must fail: its error, and nothing written."""

    def refused(key, *options):
        result = sentry.run("sign", model, "--key", key.private, *options, "--json")
        assert result.returncode == 2, result.stdout + result.stderr
        assert not (model / "model.sig").exists()
        return json.loads(result.stdout)["error"]["code"]

    return refused


def test_sign_with_the_certificate_of_another_key(refused, keys, publisher):
    assert refused(keys("pkcs8", "p256"), *publisher.sign_options) == "certificate_other_key"


def test_sign_with_a_chain_that_does_not_lead_up(refused, certifier, chain_of):
    signer = chain_of("p256-two-between")
    near, far = signer.chain
    first = ["--certificate", signer.path]
    assert refused(signer.key, *first, "--chain", far) == "certificate_unknown_issuer"
    stranger = certifier.authority().path
    assert refused(signer.key, *first, "--chain", near, "--chain", stranger) == "certificate_unknown_issuer"


@pytest.mark.parametrize(
    "defect, code",
    [
        ({"usage": ["content_commitment"]}, "certificate_key_usage"),
        ({"usage": []}, "certificate_key_usage"),
        ({"purposes": [ExtendedKeyUsageOID.EMAIL_PROTECTION]}, "certificate_extended_key_usage"),
        ({"purposes": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, "certificate_extended_key_usage"),
        ({"purposes": []}, "certificate_extended_key_usage"),
        ({"ca": True}, "certificate_of_authority"),
        ({"life": (-9 * DAY, -8 * DAY)}, "certificate_expired"),
        ({"life": (8 * DAY, 9 * DAY)}, "certificate_not_yet_valid"),
    ],
    ids=["no-signatures", "no-usage", "mail", "any-purpose", "no-purpose", "authority", "expired", "not-yet-valid"],
)
def test_sign_with_a_certificate_that_is_not_for_it(refused, certifier, publisher, defect, code):
    signer = certifier.signer(publisher.issuer, **defect)
    assert refused(signer.key, *signer.sign_options) == code
    # No chain makes no difference.
    assert refused(signer.key, "--certificate", signer.path) == code


def test_sign_with_an_rsa_key(refused, certifier, publisher):
    signer = certifier.signer(publisher.issuer, "rsa2048")
    assert refused(signer.key, *signer.sign_options) == "rsa_key"


def test_ed25519_with_a_certificate(sign, verify, verify_theirs, certifier, publisher, model):
    """Ours alone: the reference has elliptic curves of the specification only."""
    signer = certifier.signer(publisher.issuer, "ed25519")
    bundle, said = sign(model, signer)
    assert "model-signing 1.1.1" in said
    verdict = verify(model, signer.root)
    assert verdict.exit == 0, verdict
    assert verdict.report["signer"]["algorithm"] == "ed25519"
    with pytest.raises((ValueError, AttributeError, TypeError)):
        verify_theirs(model, signer.root, bundle.path)


def test_authority_as_a_signer_on_request(sign, verify, verify_theirs, certifier, publisher, model):
    signer = certifier.signer(publisher.issuer, ca=True)
    bundle, _ = sign(model, signer, "--allow-ca-leaf")
    assert_code(verify(model, publisher.root), 1, "certificate_of_authority")
    assert verify(model, publisher.root, "--allow-ca-leaf").exit == 0
    other = verify(model, publisher.root, "--allow-ca-leaf", identity="other@acme.example")
    assert_code(other, 1, "certificate_identity")
    verify_theirs(model, publisher.root, bundle.path)


# The form of what we write.


@pytest.mark.parametrize("timestamp", [False, True], ids=["plain", "timestamp"])
@pytest.mark.parametrize("name", CHAINS)
def test_form_is_the_specified_one(sign, validate_bundle, tsa, chain_of, full_model, name, timestamp):
    signer = chain_of(name)
    bundle, _ = sign(full_model, signer, *(["--timestamp", tsa.url] if timestamp else []))
    validate_bundle(bundle)
    material = bundle.document["verificationMaterial"]
    expected = {"x509CertificateChain", "tlogEntries"} | ({"timestampVerificationData"} if timestamp else set())
    assert set(material) == expected
    assert material["tlogEntries"] == []
    # The signer first, then upwards, without the root.
    assert certificates_of(bundle) == [signer.der, *(above.der for above in signer.above[:-1])]
    (signature,) = bundle.envelope["signatures"]
    assert signature["keyid"] == ""


@pytest.mark.parametrize("form", [["--hash", "blake3"], ["--hash", "blake2b"], ["--shard-size", "1000"]], ids=str)
def test_every_form_of_the_statement(sign, verify, validate_bundle, publisher, full_model, form):
    bundle, _ = sign(full_model, publisher, *form)
    validate_bundle(bundle)
    assert verify(full_model, publisher.root).exit == 0


def test_signature_by_cryptography(sign, pae, chain, model):
    """The key that the certificate names, over the exact payload."""
    bundle, _ = sign(model, chain)
    certificate = x509.load_der_x509_certificate(certificates_of(bundle)[0])
    hash = {"p384": hashes.SHA384(), "p521": hashes.SHA512()}.get(chain.key.algorithm, hashes.SHA256())
    certificate.public_key().verify(bundle.signature, pae(bundle.payload), ec.ECDSA(hash))


def test_certificate_and_chain_in_one_file(sentry, verify, chain_of, model, tmp_path):
    signer = chain_of("p384-two-between")
    file = tmp_path / "chain.pem"
    file.write_bytes(b"".join(path.read_bytes() for path in [signer.path, *signer.chain]))
    bundle, _ = sentry.sign(model, signer.key, "--certificate", file)
    assert certificates_of(bundle) == [signer.der, *(above.der for above in signer.above[:-1])]
    assert verify(model, signer.root).exit == 0


# What the reference accepts and we do not: it takes the certificate's own word for the time, and
# does not ask what it is for.


@pytest.mark.parametrize(
    "defect, code",
    [
        ({"life": (-9 * DAY, -8 * DAY)}, "certificate_expired"),
        ({"life": (8 * DAY, 9 * DAY)}, "certificate_not_yet_valid"),
        ({"ca": True}, "certificate_of_authority"),
        ({"purposes": []}, "certificate_extended_key_usage"),
        ({"purposes": [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]}, "certificate_extended_key_usage"),
        ({"usage": ["content_commitment"]}, "certificate_key_usage"),
    ],
    ids=["expired", "not-yet-valid", "authority", "no-purpose", "any-purpose", "no-signatures"],
)
def test_accepted_there_and_rejected_here(
    sign_theirs, verify, verify_theirs, certifier, publisher, model, defect, code
):
    signer = certifier.signer(publisher.issuer, **defect)
    bundle = sign_theirs(model, signer, model / "model.sig")
    verify_theirs(model, publisher.root, bundle.path)
    assert_code(verify(model, publisher.root), 1, code)


def test_accepted_by_neither(sign_theirs, verify, verify_theirs, certifier, publisher, model):
    """A signer that is no authority and issued a certificate all the same."""
    forged = certifier.signer(publisher)
    sign_theirs(model, forged, model / "model.sig")
    with pytest.raises(crypto.X509StoreContextError):
        verify_theirs(model, publisher.root, model / "model.sig")
    assert_code(verify(model, publisher.root), 1, "certificate_issuer_no_authority")
