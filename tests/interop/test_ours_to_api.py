"""What `sentry sign` makes, the reference's API verifies: it reads the hash from the signature.

Its command line hashes with SHA-256 whatever the signature says, so BLAKE3 is for the API only.
"""

import pytest

CURVES = ["p256", "p384", "p521"]


@pytest.mark.parametrize("hash", ["sha256", "blake3"])
@pytest.mark.parametrize("curve", CURVES)
def test_hash_is_guessed_from_the_signature(
    sentry, reference, keys, model, signed_names, curve, hash
):
    key = keys("pkcs8", curve)
    bundle, _ = sentry.sign(model, key, "--hash", hash)
    assert set(bundle.names) == signed_names
    assert {resource["algorithm"] for resource in bundle.resources} == {hash}
    reference.verify(model, key, bundle.path)


@pytest.mark.parametrize("hash", ["sha256", "blake3"])
def test_signature_outside_of_the_model(sentry, reference, keys, model, outside, hash):
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, "--hash", hash, signature=outside)
    assert not (model / "model.sig").exists()
    reference.verify(model, key, outside)


@pytest.mark.parametrize("hash", ["sha256", "blake3"])
@pytest.mark.parametrize(
    "options", [["--no-annotations"], ["--artifact-version", "7"]], ids=["bare", "version"]
)
def test_annotations_and_none(sentry, reference, keys, model, hash, options):
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, "--hash", hash, *options)
    reference.verify(model, key, bundle.path)


@pytest.mark.parametrize("hash", ["sha256", "blake3"])
def test_ignored_path(sentry, reference, keys, model, hash):
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, "--hash", hash, "--ignore", model / "nested")
    reference.verify(model, key, bundle.path)


def test_blake2b_when_the_verifier_names_it(sentry, reference, keys, model):
    """Its guesser does not know `blake2b`, the name that it writes itself."""
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, "--hash", "blake2b")
    hashing = reference.hashing("blake2", ignore=["model.sig"])
    reference.verify(model, key, bundle.path, hashing)


def test_link_to_a_file_when_the_verifier_allows_it(sentry, reference, keys, model):
    (model / "link.json").symlink_to("config.json")
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, "--allow-symlinks")
    assert bundle.serialization["allow_symlinks"] is True
    hashing = reference.hashing(ignore=["model.sig"], allow_symlinks=True)
    reference.verify(model, key, bundle.path, hashing)


@pytest.mark.parametrize("hash", ["sha256", "blake3"])
def test_tampering_is_seen_there(sentry, reference, keys, model, hash):
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, "--hash", hash)
    (model / "a.txt").write_bytes(b"by whole name First")
    with pytest.raises(ValueError, match=r"Hash mismatch for .*a\.txt"):
        reference.verify(model, key, bundle.path)
