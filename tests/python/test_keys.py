"""Keys: made, written, read again and compared; key files of OpenSSL and others, read or refused with their code; no secret shows."""

import copy
import os
import pickle
import stat
from pathlib import Path

import pytest
import sentry
from conftest import ROOT

KEYS = ROOT / "crates/trust/tests/keys"

ALGORITHMS = {"p256": "ecdsa-p256-sha256", "p384": "ecdsa-p384-sha384", "p521": "ecdsa-p521-sha512", "ed25519": "ed25519"}

PRIVATE_KEYS = {
    "openssl/p256.sec1.pem": "p256",
    "openssl/p256.pkcs8.pem": "p256",
    "openssl/p256.compressed.sec1.pem": "p256",
    "openssl/p256.no-public.sec1.pem": "p256",
    "openssl/p384.sec1.pem": "p384",
    "openssl/p384.pkcs8.pem": "p384",
    "openssl/p521.sec1.pem": "p521",
    "openssl/p521.pkcs8.pem": "p521",
    "openssl/ed25519.pkcs8.pem": "ed25519",
}

# With the password of each, and whose private half it is.
ENCRYPTED_KEYS = {
    "openssl/p384.aes256.pem": ("sentry", "openssl/p384.pub.pem"),
    "openssl/p521.scrypt.pem": ("sentry", "openssl/p521.pub.pem"),
    "openssl/ed25519.empty-password.pem": ("", "openssl/ed25519.pub.pem"),
    "pyca/ed25519-pkcs8-enc.pem": ("password", "pyca/ed25519-pub.pem"),
}

REFUSED_PRIVATE_KEYS = {
    "openssl/rsa.pkcs1.pem": "rsa_key",
    "openssl/rsa.pkcs8.pem": "rsa_key",
    "openssl/rsa-pss.pkcs8.pem": "unsupported_key",
    "openssl/ed448.pkcs8.pem": "unsupported_key",
    "openssl/x25519.pkcs8.pem": "unsupported_key",
    "openssl/secp256k1.sec1.pem": "curve_not_allowed",
    "openssl/secp256k1.pkcs8.pem": "curve_not_allowed",
    "pyca/secp128r1_private_key.pem": "curve_not_allowed",
    "openssl/p256.explicit.sec1.pem": "explicit_curve_parameters",
    "openssl/p256.explicit.pkcs8.pem": "explicit_curve_parameters",
    "openssl/p256.explicit-with-parameters.sec1.pem": "explicit_curve_parameters",
    "pyca/secp521r1-explicit-seed.pem": "explicit_curve_parameters",
    "openssl/p256.legacy-encrypted.pem": "key_encrypted",
    "pyca/ec_private_key_encrypted.pem": "key_encrypted",
    "openssl/p256.des3.pem": "key_pem",
    "pyca/enc-unknown-kdf.pem": "key_pem",
    "pyca/ec-inconsistent-curve.pem": "key_pem",
    "pyca/ec-invalid-private-scalar.pem": "key_pem",
    "pyca/ec-missing-curve.pem": "key_pem",
    # The other half, and no key at all.
    "openssl/p256.pub.pem": "key_pem",
    "openssl/p256.certificate.pem": "key_pem",
    "README.md": "key_pem",
}

REFUSED_PUBLIC_KEYS = {
    "openssl/rsa.pub.pem": "rsa_key",
    "openssl/rsa.pkcs1.pub.pem": "key_pem",
    "openssl/ed448.pub.pem": "unsupported_key",
    "openssl/x25519.pub.pem": "unsupported_key",
    "openssl/secp256k1.pub.pem": "curve_not_allowed",
    "pyca/sect163k1-spki.pem": "curve_not_allowed",
    "openssl/p256.explicit.pub.pem": "explicit_curve_parameters",
    "pyca/secp384r1-pub-explicit-no-seed.pem": "explicit_curve_parameters",
    "openssl/p256.pkcs8.pem": "key_pem",
    "openssl/p384.aes256.pem": "key_pem",
    "openssl/p256.certificate.pem": "key_pem",
    "README.md": "key_pem",
}


def refused(error: pytest.ExceptionInfo[sentry.Error], code: str) -> str:
    """Assert that a key was refused with this code, and return the message."""
    assert (type(error.value), error.value.code) == (sentry.KeyFileError, code), error.value
    return str(error.value)


def public(name: str) -> sentry.PublicKey:
    """A public key that OpenSSL wrote."""
    return sentry.PublicKey(KEYS / f"openssl/{name}.pub.pem")


def body(pem: bytes) -> list[str]:
    """The lines of a PEM file that hold the key."""
    return [line for line in pem.decode().splitlines() if not line.startswith("-----")]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_new_key_signs_and_survives_its_file(algorithm: str, model: Path, tmp_path: Path) -> None:
    key = sentry.PrivateKey.generate(algorithm)
    assert key.public_key.algorithm == ALGORITHMS[algorithm]
    key.write(tmp_path / "new.key")
    again = sentry.PrivateKey(tmp_path / "new.key")
    assert again.public_key == key.public_key
    assert (tmp_path / "new.key").read_bytes() == key.to_pem()
    sentry.sign_model(model, key=again)
    assert sentry.verify_model(model, trust=key.public_key).fingerprint == key.public_key.fingerprint


def test_a_key_may_be_given_by_its_path(model: Path, tmp_path: Path) -> None:
    key = sentry.PrivateKey.generate()
    key.write(tmp_path / "new.key")
    sentry.sign_model(model, key=str(tmp_path / "new.key"))
    assert sentry.verify_model(model, trust=key.public_key).files == 2


def test_two_new_keys_differ() -> None:
    keys = [sentry.PrivateKey.generate(algorithm) for algorithm in (*ALGORITHMS, *ALGORITHMS)]
    assert len({key.public_key.fingerprint for key in keys}) == len(keys)
    assert sentry.PrivateKey.generate().public_key.algorithm == ALGORITHMS["p256"]


@pytest.mark.parametrize("algorithm", ["", "P256", "rsa", "secp256k1", "ed448"])
def test_an_algorithm_that_is_not_allowed_makes_no_key(algorithm: str) -> None:
    with pytest.raises(sentry.UsageError) as caught:
        sentry.PrivateKey.generate(algorithm)
    assert type(caught.value) is sentry.UsageError and caught.value.code == "usage"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_encrypted_key_opens_with_its_password_only(algorithm: str, tmp_path: Path) -> None:
    key = sentry.PrivateKey.generate(algorithm)
    file = tmp_path / "new.key"
    key.write(file, password="correct horse")
    assert file.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert sentry.PrivateKey(file, password="correct horse").public_key == key.public_key
    with pytest.raises(sentry.KeyFileError) as caught:
        sentry.PrivateKey(file)
    assert "hint: give the password" in refused(caught, "key_encrypted")
    for wrong in ("", "correct hors", "Correct horse"):
        with pytest.raises(sentry.KeyFileError) as caught:
            sentry.PrivateKey(file, password=wrong)
        message = refused(caught, "key_password")
        assert not wrong or wrong not in message


def test_two_encryptions_of_a_key_differ() -> None:
    key = sentry.PrivateKey.generate()
    assert key.to_pem() == key.to_pem()
    assert key.to_pem(password="one") != key.to_pem(password="one")


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_only_the_owner_can_read_a_key_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        sentry.PrivateKey.generate().write(tmp_path / "new.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.key").stat().st_mode) == 0o600


def test_a_key_file_is_not_written_over_or_through_a_link(tmp_path: Path) -> None:
    key = sentry.PrivateKey.generate()
    (tmp_path / "there").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for taken in ("there", "link"):
        with pytest.raises(sentry.Error) as caught:
            key.write(tmp_path / taken)
        assert (type(caught.value), caught.value.code) == (sentry.NotCheckedError, "io")
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_shows_a_secret() -> None:
    for algorithm in ALGORITHMS:
        key = sentry.PrivateKey.generate(algorithm)
        assert repr(key) == str(key) == f"{key}" == f"<sentry.PrivateKey {ALGORITHMS[algorithm]}>"
        for attribute in dir(key):
            value = getattr(key, attribute)
            shown = repr(value() if attribute in ("__repr__", "__str__", "__dir__", "__getstate__") else value)
            assert not any(line in shown for line in body(key.to_pem())), attribute


def test_a_private_key_cannot_be_pickled_or_copied() -> None:
    key = sentry.PrivateKey.generate()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(key, protocol)
    for attempt in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(key)


def test_equal_public_keys_are_one_and_others_are_not() -> None:
    key, other = sentry.PrivateKey.generate().public_key, sentry.PrivateKey.generate().public_key
    same = sentry.PublicKey.from_pem(key.pem)
    assert same == key and hash(same) == hash(key) and same is not key
    assert key != other and key != key.pem and key is not None
    assert len({key, same, other}) == 2
    assert repr(key) == f"<sentry.PublicKey ecdsa-p256-sha256 {key.fingerprint}>"


def test_a_compressed_public_key_is_the_uncompressed_one() -> None:
    for name in ("p256", "p384", "p521"):
        compressed = sentry.PublicKey(KEYS / f"openssl/{name}.compressed.pub.pem")
        assert compressed == public(name) and hash(compressed) == hash(public(name))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_public_keys_of_openssl_are_read_and_written_back(name: str) -> None:
    text = (KEYS / f"openssl/{name}.pub.pem").read_text()
    key = sentry.PublicKey.from_pem(text)
    assert (key.pem, key.algorithm) == (text, ALGORITHMS[name])
    assert key == public(name)


@pytest.mark.parametrize("path", PRIVATE_KEYS)
def test_private_keys_of_openssl_are_read(path: str) -> None:
    assert sentry.PrivateKey(KEYS / path).public_key == public(PRIVATE_KEYS[path])
    # A password that is not needed does no harm.
    assert sentry.PrivateKey(KEYS / path, password="sentry").public_key == public(PRIVATE_KEYS[path])


@pytest.mark.parametrize("path", ENCRYPTED_KEYS)
def test_encrypted_keys_of_others_open_with_their_password_only(path: str) -> None:
    password, public_half = ENCRYPTED_KEYS[path]
    assert sentry.PrivateKey(KEYS / path, password).public_key == sentry.PublicKey(KEYS / public_half)
    with pytest.raises(sentry.KeyFileError) as caught:
        sentry.PrivateKey(KEYS / path)
    refused(caught, "key_encrypted")
    with pytest.raises(sentry.KeyFileError) as caught:
        sentry.PrivateKey(KEYS / path, password="another")
    assert "another" not in refused(caught, "key_password")


@pytest.mark.parametrize("path", REFUSED_PRIVATE_KEYS)
def test_private_keys_that_cannot_be_used(path: str, model: Path) -> None:
    with pytest.raises(sentry.KeyFileError) as caught:
        sentry.PrivateKey(KEYS / path, password="123456" if "pyca" in path else "sentry")
    assert str(KEYS / path) in refused(caught, REFUSED_PRIVATE_KEYS[path])
    with pytest.raises(sentry.KeyFileError):
        sentry.sign_model(model, key=KEYS / path)
    assert not (model / "model.sig").exists()


@pytest.mark.parametrize("path", REFUSED_PUBLIC_KEYS)
def test_public_keys_that_cannot_be_used(path: str) -> None:
    with pytest.raises(sentry.KeyFileError) as caught:
        sentry.PublicKey(KEYS / path)
    assert str(KEYS / path) in refused(caught, REFUSED_PUBLIC_KEYS[path])
    with pytest.raises(sentry.KeyFileError) as caught:
        sentry.PublicKey.from_pem((KEYS / path).read_text())
    refused(caught, REFUSED_PUBLIC_KEYS[path])


def test_what_is_no_key_file(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    for name in ("empty", "binary"):
        for kind in (sentry.PublicKey, sentry.PrivateKey):
            with pytest.raises(sentry.KeyFileError) as caught:
                kind(tmp_path / name)
            refused(caught, "key_pem")
    # Larger than any key: not read to its end.
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    for name in ("large", "nowhere", "."):
        for kind in (sentry.PublicKey, sentry.PrivateKey):
            with pytest.raises(sentry.NotCheckedError) as missing:
                kind(tmp_path / name)
            assert missing.value.code == "io" and str(tmp_path) in str(missing.value)
