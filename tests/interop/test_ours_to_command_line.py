"""What `sentry sign` makes, the reference's command line verifies: SHA-256 of a directory."""

import pytest

CURVES = ["p256", "p384", "p521"]
PLAIN_KEYS = ["pkcs8", "sec1", "sentry"]
ENCRYPTED_KEYS = ["pkcs8-pbkdf2", "pkcs8-sha512", "pkcs8-scrypt", "sentry-encrypted"]


def assert_accepted(result):
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Verification succeeded" in result.stdout


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("form", PLAIN_KEYS)
def test_every_curve_and_kind_of_key(sentry, reference, keys, model, signed_names, form, curve):
    key = keys(form, curve)
    bundle, _ = sentry.sign(model, key)
    # The model is only worth signing here if it has what could go wrong.
    assert set(bundle.names) == signed_names
    assert any("annotations" in resource for resource in bundle.resources)
    assert_accepted(reference.run_verify(model, key, bundle.path))


@pytest.mark.parametrize("form", ENCRYPTED_KEYS)
def test_encrypted_keys(sentry, reference, keys, model, form):
    key = keys(form, "p256")
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in key.private.read_bytes()
    bundle, _ = sentry.sign(model, key)
    assert_accepted(reference.run_verify(model, key, bundle.path))


def test_password_from_a_file(sentry, reference, keys, model, tmp_path):
    key = keys("pkcs8-pbkdf2", "p256")
    secret = tmp_path / "password"
    # An editor ends the file with a newline, which is not part of the password.
    secret.write_text(key.password + "\n")
    arguments = ["sign", model, "--key", key.private, "--password-file", secret]
    result = sentry.run(*arguments)
    assert result.returncode == 0, result.stderr
    assert_accepted(reference.run_verify(model, key, model / "model.sig"))


@pytest.mark.parametrize("password", [None, "not the password"])
def test_encrypted_key_without_its_password_signs_nothing(sentry, keys, model, password):
    key = keys("pkcs8-pbkdf2", "p256")
    result = sentry.run("sign", model, "--key", key.private, password=password)
    assert result.returncode == 2, result.stderr
    assert not (model / "model.sig").exists()


@pytest.mark.parametrize("where", ["model.sig", "sub/deeper.sig", "../outside.sig"])
def test_signature_anywhere(sentry, reference, keys, model, where):
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, signature=model / where)
    assert_accepted(reference.run_verify(model, key, bundle.path))


@pytest.mark.parametrize(
    "options",
    [["--no-annotations"], ["--artifact-version", "7"], ["--hash", "sha256"]],
    ids=lambda options: options[0].strip("-"),
)
def test_options_of_sign(sentry, reference, keys, model, options):
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, *options)
    assert_accepted(reference.run_verify(model, key, bundle.path))


@pytest.mark.parametrize("ignored", ["config.json", "nested", "sub/.git"])
def test_ignored_path_is_known_from_the_signature(sentry, reference, keys, model, ignored):
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, "--ignore", model / ignored)
    assert ignored in bundle.serialization["ignore_paths"]
    assert not [name for name in bundle.names if f"{name}/".startswith(f"{ignored}/")]
    assert_accepted(reference.run_verify(model, key, bundle.path))


def test_model_given_as_the_current_directory(sentry, reference, keys, model):
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key, cwd=model.parent)
    dotted = sentry.run("sign", ".", "--key", key.private, cwd=model)
    assert dotted.returncode == 0, dotted.stderr
    # The subject is the folder's own name, however the folder was named.
    assert bundle.statement["subject"][0]["name"] == "model"
    assert type(bundle).read(bundle.path).statement["subject"][0]["name"] == "model"
    assert_accepted(reference.run_verify(".", key, "model.sig", cwd=model))


def test_signed_again_over_the_old_signature(sentry, reference, keys, model):
    key = keys("pkcs8", "p256")
    sentry.sign(model, keys("sec1", "p384"))
    (model / "config.json").write_bytes(b"{}")
    bundle, _ = sentry.sign(model, key)
    assert_accepted(reference.run_verify(model, key, bundle.path))


def test_keygen_writes_the_public_key_that_openssl_writes(keys, openssl):
    """The hint in a bundle is a digest of this text, so it must be the same text."""
    for form in ["sentry", "sentry-encrypted"]:
        key = keys(form, "p256")
        secret = ["-passin", f"pass:{key.password}"] if key.password else []
        derived = openssl("pkey", "-in", key.private, *secret, "-pubout").stdout
        assert key.public.read_text() == derived


def test_tampering_is_seen_there(sentry, reference, keys, model):
    """Without this, a peer that accepts everything would pass the whole file."""
    key = keys("pkcs8", "p256")
    bundle, _ = sentry.sign(model, key)
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = reference.run_verify(model, key, bundle.path)
    assert result.returncode == 1
    assert "Hash mismatch" in result.stderr
    assert "model.safetensors" in result.stderr


def test_another_key_is_seen_there(sentry, reference, keys, model):
    bundle, _ = sentry.sign(model, keys("pkcs8", "p256"))
    result = reference.run_verify(model, keys("sec1", "p256"), bundle.path)
    assert result.returncode == 1
    assert "Key mismatch" in result.stderr
