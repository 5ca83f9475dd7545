"""Forms of ours that the reference rejects: `sentry sign` must say so, and theirs must still do so.

When a test here fails because the reference has learned a form, drop the remark in `sentry sign`.
"""

import pytest

REMARK = "model-signing 1.1.1"
VERIFICATION_FAILS = (ValueError, AttributeError)


def shards(model):
    return ["--shard-size", "1000"]


def shards_of_blake2b(model):
    return ["--shard-size", "1000", "--hash", "blake2b"]


def blake2b(model):
    return ["--hash", "blake2b"]


def followed_link(model):
    (model / "link.json").symlink_to("config.json")
    return ["--allow-symlinks"]


FORMS = [shards, shards_of_blake2b, blake2b, followed_link]


@pytest.fixture
def key(keys):
    return keys("pkcs8", "p256")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_directory(sentry, reference, key, full_model, form):
    options = form(full_model)
    bundle, said = sentry.sign(full_model, key, *options)
    assert REMARK in said
    assert sentry.verify(full_model, key.public).exit == 0
    with pytest.raises(VERIFICATION_FAILS):
        reference.verify(full_model, key, bundle.path)


def test_shards_whatever_the_verifier_names(sentry, reference, key, full_model):
    """It compares `sha256`, the specification's name, with its own `sha256-sharded-1000`."""
    # Its parser of names stops at a colon before it compares anything.
    for name in ["step:100", "epoch:1:2"]:
        (full_model / name).unlink()
    bundle, _ = sentry.sign(full_model, key, *shards(full_model))
    hashing = reference.hashing("sha256", shard_size=1000, ignore=["model.sig"])
    with pytest.raises(ValueError, match="sha256-sharded-1000"):
        reference.verify(full_model, key, bundle.path, hashing)


def test_command_line_on_shards(sentry, reference, key, full_model):
    bundle, _ = sentry.sign(full_model, key, *shards(full_model))
    assert reference.run_verify(full_model, key, bundle.path).returncode == 1


def test_command_line_on_blake3(sentry, reference, key, model):
    """Its API reads this one, so no remark is asked for; its command line always takes SHA-256."""
    bundle, _ = sentry.sign(model, key, "--hash", "blake3")
    result = reference.run_verify(model, key, bundle.path)
    assert result.returncode == 1
    assert "Hash mismatch" in result.stderr


@pytest.mark.parametrize("hash", ["sha256", "blake3"])
def test_single_file(sentry, reference, key, one_file, hash):
    bundle, said = sentry.sign(one_file, key, "--hash", hash)
    assert bundle.names == [one_file.name]
    assert REMARK in said
    assert sentry.verify(one_file, key.public).exit == 0
    with pytest.raises(ValueError, match=r"Extra files found in model '.*': \."):
        reference.verify(one_file, key, bundle.path)


def test_ed25519(sentry, reference, keys, model):
    key = keys("pkcs8", "ed25519")
    bundle, said = sentry.sign(model, key)
    assert REMARK in said
    assert sentry.verify(model, key.public).exit == 0
    with pytest.raises(VERIFICATION_FAILS):
        reference.verify(model, key, bundle.path)


@pytest.mark.parametrize("curve", ["p256", "p384", "p521"])
def test_no_remark_where_the_form_is_read(sentry, keys, model, curve):
    _, said = sentry.sign(model, keys("pkcs8", curve))
    assert REMARK not in said


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_shards_of_blake3_are_refused(sentry, key, model, one_file, kind):
    """No verifier could read them: the reference writes `files` when it is asked for these."""
    path = model if kind == "directory" else one_file
    signature = path.parent / "none.sig"
    options = ["--hash", "blake3", "--shard-size", "1000", "--signature", signature]
    result = sentry.run("sign", path, "--key", key.private, *options)
    assert result.returncode == 2
    assert "blake3" in result.stderr.lower()
    assert not signature.exists()
