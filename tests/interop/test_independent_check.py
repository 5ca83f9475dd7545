"""Our signatures and digests, checked by neither implementation: by hand, and by `openssl`."""

import base64
import hashlib
import json
import struct

import blake3
import pytest
from cryptography import exceptions
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HASH_OF_CURVE = {"p256": hashes.SHA256(), "p384": hashes.SHA384(), "p521": hashes.SHA512()}
ALGORITHMS = [*HASH_OF_CURVE, "ed25519"]
KEYS = [("pkcs8", algorithm) for algorithm in ALGORITHMS]
KEYS += [("sentry", algorithm) for algorithm in ALGORITHMS]
KEYS += [("sec1", curve) for curve in HASH_OF_CURVE]

SAFETENSORS = "sentry-ml.dev/safetensors/v1"
WHOLE_FILE = "sentry-ml.dev/blake3"


@pytest.fixture(params=KEYS, ids="-".join)
def key(request, keys):
    return keys(*request.param)


def verify(key, signature, message):
    """Raises if the signature is not the key's over the message."""
    public = key.load_public()
    if key.algorithm == "ed25519":
        public.verify(signature, message)
    else:
        public.verify(signature, message, ec.ECDSA(HASH_OF_CURVE[key.algorithm]))


@pytest.mark.parametrize("hash", ["sha256", "blake2b", "blake3"])
def test_signature_by_cryptography(sentry, key, model, pae, hash):
    bundle, _ = sentry.sign(model, key, "--hash", hash)
    verify(key, bundle.signature, pae(bundle.payload))
    with pytest.raises(exceptions.InvalidSignature):
        verify(key, bundle.signature, pae(bundle.payload + b" "))


def test_signature_by_openssl(sentry, key, model, pae, openssl, tmp_path):
    bundle, _ = sentry.sign(model, key)
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(pae(bundle.payload))
    signature.write_bytes(bundle.signature)
    if key.algorithm == "ed25519":
        arguments = ["pkeyutl", "-verify", "-pubin", "-inkey", key.public, "-rawin"]
        said = openssl(*arguments, "-in", message, "-sigfile", signature).stdout
        assert "Signature Verified Successfully" in said
    else:
        digest = f"-{HASH_OF_CURVE[key.algorithm].name}"
        arguments = ["dgst", digest, "-verify", key.public, "-signature", signature, message]
        assert "Verified OK" in openssl(*arguments).stdout


def test_signature_made_by_openssl(sentry, key, model, pae, openssl, tmp_path):
    """The other way: a signature of openssl's over our payload, put in place of ours."""
    bundle, _ = sentry.sign(model, key)
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(pae(bundle.payload))
    if key.algorithm == "ed25519":
        arguments = ["pkeyutl", "-sign", "-inkey", key.private, "-rawin"]
        openssl(*arguments, "-in", message, "-out", signature)
    else:
        digest = f"-{HASH_OF_CURVE[key.algorithm].name}"
        openssl("dgst", digest, "-sign", key.private, "-out", signature, message)
    replaced = base64.b64encode(signature.read_bytes()).decode()
    bundle.envelope["signatures"][0]["sig"] = replaced
    bundle.write(bundle.path)
    assert sentry.verify(model, key.public).exit == 0


def test_payload_in_another_layout(sentry, keys, model, pae):
    """The signature is over the bytes of the payload, so any layout that was signed verifies."""
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key)
    payload = json.dumps(bundle.statement, indent=3, sort_keys=True).encode() + b"\n"
    signature = key.load_private().sign(pae(payload), ec.ECDSA(hashes.SHA256()))
    bundle.envelope["payload"] = base64.b64encode(payload).decode()
    # The old signature is of the same statement, and of other bytes.
    bundle.write(bundle.path)
    verdict = sentry.verify(model, key.public)
    assert (verdict.exit, verdict.code) == (1, "signature_invalid")
    bundle.envelope["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    bundle.write(bundle.path)
    assert sentry.verify(model, key.public).exit == 0


def test_hint_and_fingerprint(sentry, key, model):
    """SHA-256 of the key as PEM text, in the one form that everyone writes."""
    pem = key.load_public().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    bundle, _ = sentry.sign(model, key)
    assert bundle.public_key["hint"] == hashlib.sha256(pem).hexdigest()
    report = sentry.verify(model, key.public).report
    assert report["signer"]["fingerprint"] == hashlib.sha256(pem).hexdigest()


def test_public_key_in_another_form(sentry, keys, model, openssl, tmp_path):
    """Points compressed, Windows line ends, text before the block: the same key all the same."""
    key = keys("pkcs8", "p256")
    sentry.sign(model, key)
    pem = key.public.read_text()
    (tmp_path / "text.pub").write_text(f"Public key of the publisher\n\n{pem}")
    (tmp_path / "windows.pub").write_bytes(pem.replace("\n", "\r\n").encode())
    compress = ["-pubin", "-conv_form", "compressed", "-pubout"]
    openssl("ec", "-in", key.public, *compress, "-out", tmp_path / "compressed.pub")
    expected = hashlib.sha256(pem.encode()).hexdigest()
    for form in ["text", "windows", "compressed"]:
        verdict = sentry.verify(model, tmp_path / f"{form}.pub")
        assert verdict.exit == 0, (form, verdict)
        assert verdict.report["signer"]["fingerprint"] == expected, form


def parse_safetensors(content):
    """The header's length, its entries without the metadata, and the bytes behind it."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header.pop("__metadata__", None)
    return 8 + length, header, content[8 + length :]


@pytest.mark.parametrize("hash", ["sha256", "blake2b", "blake3"])
@pytest.mark.parametrize("name", ["model.safetensors", "nested/deep/part.safetensors"])
def test_annotation_of_tensors(sentry, keys, model, name, hash):
    bundle, _ = sentry.sign(model, keys("pkcs8", "p256"), "--hash", hash)
    (resource,) = [resource for resource in bundle.resources if resource["name"] == name]
    annotation = resource["annotations"][SAFETENSORS]
    content = (model / name).read_bytes()
    end, header, body = parse_safetensors(content)
    assert set(annotation) == {"algorithm", "header", "tensors"}
    assert annotation["algorithm"] == "blake3"
    assert annotation["header"] == blake3.blake3(content[:end]).hexdigest()
    in_file_order = sorted(header.items(), key=lambda item: (*item[1]["data_offsets"], item[0]))
    assert annotation["tensors"] == [
        {
            "name": tensor,
            "dtype": entry["dtype"],
            "shape": entry["shape"],
            "digest": blake3.blake3(body[slice(*entry["data_offsets"])]).hexdigest(),
        }
        for tensor, entry in in_file_order
    ]


@pytest.mark.parametrize("hash", ["sha256", "blake2b"])
def test_annotation_of_other_files(sentry, keys, model, hash):
    bundle, _ = sentry.sign(model, keys("pkcs8", "p256"), "--hash", hash)
    others = [r for r in bundle.resources if not r["name"].endswith(".safetensors")]
    assert others
    for resource in others:
        content = (model / resource["name"]).read_bytes()
        assert resource["annotations"] == {WHOLE_FILE: blake3.blake3(content).hexdigest()}


def test_no_annotations_on_request(sentry, keys, model):
    bundle, _ = sentry.sign(model, keys("pkcs8", "p256"), "--no-annotations")
    assert not [resource for resource in bundle.resources if "annotations" in resource]


def test_version_is_an_integer_of_the_subject(sentry, keys, model):
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, "--artifact-version", "7")
    (subject,) = bundle.statement["subject"]
    assert subject["annotations"] == {"sentry-ml.dev/version": 7}
    assert sentry.verify(model, key.public).report["statement"]["version"] == 7


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", ["sentry", "sentry-encrypted"])
def test_keys_of_keygen_are_pkcs8_for_others(keys, form, algorithm, openssl):
    key = keys(form, algorithm)
    label = "ENCRYPTED PRIVATE KEY" if key.password else "PRIVATE KEY"
    assert key.private.read_text().startswith(f"-----BEGIN {label}-----\n")
    assert key.private.stat().st_mode & 0o777 == 0o600
    secret = ["-passin", f"pass:{key.password}"] if key.password else []
    openssl("pkey", "-in", key.private, *secret, "-noout", "-check")
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    derived = key.load_private().public_key().public_bytes(*spki)
    assert derived == key.load_public().public_bytes(*spki)
