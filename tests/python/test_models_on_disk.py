"""Models on disk by the same verbs: sign, verify, tamper."""

from pathlib import Path

import pytest
import sentry
from conftest import flip, rejected


def test_a_folder_is_signed_and_verified(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    signature = sentry.sign_model(model, key=key, version=3)
    assert (Path(signature.path), signature.files, signature.tensors, signature.version) == (model / "model.sig", 2, 12, 3)
    verification = sentry.verify_model(model, trust=trust)
    assert (verification.files, verification.tensors, verification.version) == (2, 12, 3)
    assert verification.fingerprint == trust.fingerprint


def test_a_changed_tensor_is_named(signed: Path, trust: sentry.PublicKey) -> None:
    flip(signed / "model.safetensors")
    error = rejected(lambda: sentry.verify_model(signed, trust=trust), sentry.ManifestError, "model_differs")
    assert error.differences[0].kind == "changed_tensor"
    assert error.expected and error.found and error.expected != error.found


@pytest.mark.parametrize("kind", ["unsigned_file", "missing_file"])
def test_files_added_and_removed(signed: Path, trust: sentry.PublicKey, kind: str) -> None:
    if kind == "unsigned_file":
        (signed / "extra.bin").write_bytes(b"x")
    else:
        (signed / "config.json").unlink()
    error = rejected(lambda: sentry.verify_model(signed, trust=trust), sentry.ManifestError, "model_differs")
    assert [difference.kind for difference in error.differences] == [kind]


def test_another_signer_is_not_trusted(signed: Path, stranger: sentry.PublicKey) -> None:
    rejected(lambda: sentry.verify_model(signed, trust=stranger), sentry.EnvelopeError, "signature_invalid")


def test_nothing_is_trusted_by_default(signed: Path) -> None:
    with pytest.raises(TypeError):
        sentry.verify_model(signed)  # type: ignore[call-arg]
    for nobody in (None, True, "sentry.pub", [], object()):
        with pytest.raises(sentry.UsageError):
            sentry.verify_model(signed, trust=nobody)  # type: ignore[arg-type]
        with pytest.raises(sentry.UsageError):
            sentry.load_model(signed, trust=nobody)  # type: ignore[arg-type]


def test_what_cannot_be_checked_is_no_verdict(tmp_path: Path, model: Path, trust: sentry.PublicKey) -> None:
    with pytest.raises(sentry.NotCheckedError) as caught:
        sentry.verify_model(model, trust=trust)
    assert caught.value.code == "signature_not_found"
    with pytest.raises(sentry.NotCheckedError):
        sentry.verify_model(tmp_path / "nowhere", trust=trust)
    with pytest.raises(sentry.KeyFileError):
        sentry.PublicKey(model / "config.json")
