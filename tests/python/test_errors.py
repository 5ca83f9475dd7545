"""Errors: each code of the library becomes one class, messages say enough and nothing dangerous, and errors travel between processes."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import sentry
import torch
from conftest import ROOT, rejected
from sentry._errors import from_native

# Codes of verdicts: the artifact or its signature is wrong.
REJECTED: dict[str, type[sentry.VerificationError]] = {
    # Files and tensors.
    "model_differs": sentry.ManifestError,
    # Datasets.
    **dict.fromkeys(
        ("dataset_differs", "sample_repeated", "table_differs", "table_state", "table_malformed", "contributor_statement"), sentry.SampleError
    ),
    **dict.fromkeys(("epoch_incomplete", "epoch_state"), sentry.EpochError),
    "weights_incomplete": sentry.FormatError,
    **dict.fromkeys(("dataset_malformed", "sample_record"), sentry.FormatError),
    "empty_manifest": sentry.ManifestError,
    "duplicate_resource": sentry.ManifestError,
    "resource_ignored": sentry.ManifestError,
    "duplicate_tensor": sentry.ManifestError,
    # Names.
    "unsafe_path": sentry.PathError,
    "ambiguous_names": sentry.PathError,
    "non_utf8_name": sentry.PathError,
    "symlink": sentry.PathError,
    "symlink_escape": sentry.PathError,
    "symlink_cycle": sentry.PathError,
    "special_file": sentry.PathError,
    # Formats.
    "index_invalid": sentry.FormatError,
    "safetensors_header_truncated": sentry.FormatError,
    "safetensors_json": sentry.FormatError,
    "safetensors_duplicate_key": sentry.FormatError,
    "safetensors_dtype": sentry.FormatError,
    "safetensors_shape_overflow": sentry.FormatError,
    "safetensors_offsets": sentry.FormatError,
    "safetensors_overlap": sentry.FormatError,
    "safetensors_hole": sentry.FormatError,
    "safetensors_past_end": sentry.FormatError,
    "safetensors_trailing_data": sentry.FormatError,
    "safetensors_metadata": sentry.FormatError,
    # Limits.
    "bundle_too_large": sentry.LimitError,
    "json_too_deep": sentry.LimitError,
    "chain_too_long": sentry.LimitError,
    "too_many_resources": sentry.LimitError,
    "too_deep": sentry.LimitError,
    "safetensors_header_too_large": sentry.LimitError,
    "safetensors_too_many_tensors": sentry.LimitError,
    # Time of check.
    "file_changed_while_read": sentry.ChangedError,
    # Algorithms and keys.
    "unknown_algorithm": sentry.AlgorithmError,
    "algorithm_mismatch": sentry.AlgorithmError,
    "key_label_mismatch": sentry.AlgorithmError,
    "signature_encoding": sentry.AlgorithmError,
    "signature_scalar": sentry.AlgorithmError,
    # The signature and the signed text.
    "signature_invalid": sentry.EnvelopeError,
    "json_invalid": sentry.EnvelopeError,
    "json_duplicate_key": sentry.EnvelopeError,
    "json_field": sentry.EnvelopeError,
    "media_type": sentry.EnvelopeError,
    "base64": sentry.EnvelopeError,
    "payload_type": sentry.EnvelopeError,
    "statement_type": sentry.EnvelopeError,
    "predicate_type": sentry.EnvelopeError,
    "legacy_v0_2": sentry.EnvelopeError,
    "subject_count": sentry.EnvelopeError,
    "subject_digest": sentry.EnvelopeError,
    "subject_name": sentry.EnvelopeError,
    "signature_count": sentry.EnvelopeError,
    "verification_material": sentry.EnvelopeError,
    "digest_encoding": sentry.EnvelopeError,
    "digest_length": sentry.EnvelopeError,
    "root_mismatch": sentry.EnvelopeError,
    "shard_name": sentry.EnvelopeError,
    "shard_layout": sentry.EnvelopeError,
    "shard_size": sentry.EnvelopeError,
    "empty_file": sentry.EnvelopeError,
    "annotation_invalid": sentry.EnvelopeError,
    "unknown_value": sentry.EnvelopeError,
    "list_not_ascending": sentry.EnvelopeError,
    "list_count": sentry.EnvelopeError,
    "list_text": sentry.EnvelopeError,
    "list_algorithm": sentry.EnvelopeError,
    "list_shape": sentry.EnvelopeError,
    "list_table": sentry.EnvelopeError,
    "list_state": sentry.EnvelopeError,
    "signatures_disagree": sentry.EnvelopeError,
    # Certificates, timestamps, policies.
    "certificate_malformed": sentry.CertificateError,
    "certificate_expired": sentry.CertificateError,
    "certificate_not_yet_valid": sentry.CertificateError,
    "certificate_of_authority": sentry.CertificateError,
    "certificate_key_usage": sentry.CertificateError,
    "certificate_extended_key_usage": sentry.CertificateError,
    "certificate_unknown_issuer": sentry.CertificateError,
    "certificate_path_length": sentry.CertificateError,
    "certificate_issuer_no_authority": sentry.CertificateError,
    "certificate_name_constraint": sentry.CertificateError,
    "certificate_signature": sentry.CertificateError,
    "certificate_algorithm": sentry.CertificateError,
    "certificate_critical_extension": sentry.CertificateError,
    "certificate_path": sentry.CertificateError,
    "certificate_key": sentry.CertificateError,
    "certificate_identity": sentry.CertificateError,
    "timestamp_malformed": sentry.TimestampError,
    "timestamp_mismatch": sentry.TimestampError,
    "timestamp_untrusted": sentry.TimestampError,
    "timestamp_in_future": sentry.TimestampError,
    "policy_no_rule": sentry.PolicyError,
    "policy_signers": sentry.PolicyError,
    "policy_not_a_signer": sentry.PolicyError,
    "policy_signer_twice": sentry.PolicyError,
    "policy_statement": sentry.PolicyError,
    "policy_signature_algorithm": sentry.PolicyError,
    "policy_hash": sentry.PolicyError,
    "policy_payload": sentry.PolicyError,
    "policy_root": sentry.PolicyError,
    "policy_version": sentry.PolicyError,
    "policy_signed_after": sentry.PolicyError,
    "policy_sources": sentry.PolicyError,
    "too_many_timestamps": sentry.LimitError,
    "timestamp_too_long": sentry.LimitError,
}

# Codes of errors that leave the question open.
OPEN: dict[str, type[sentry.Error]] = {
    "dataset_column": sentry.UsageError,
    "dataset_layout": sentry.UsageError,
    "dataset_bounds": sentry.NotCheckedError,
    "signature_not_found": sentry.NotCheckedError,
    "method_mismatch": sentry.NotCheckedError,
    "signature_number": sentry.UsageError,
    "certificate_file": sentry.KeyFileError,
    "certificate_other_key": sentry.KeyFileError,
    "timestamp_algorithm_unsupported": sentry.NotCheckedError,
    "timestamp_unavailable": sentry.NotCheckedError,
    "policy_syntax": sentry.PolicyFileError,
    "policy_signer": sentry.PolicyFileError,
    "policy_unknown_signer": sentry.PolicyFileError,
    "policy_rule": sentry.PolicyFileError,
    "policy_shadowed_rule": sentry.PolicyFileError,
    "sigstore_method_unsupported": sentry.NotCheckedError,
    "tensors_not_signed": sentry.NotCheckedError,
    "io": sentry.NotCheckedError,
    "hash_failed": sentry.NotCheckedError,
    "tensor_size": sentry.NotCheckedError,
    "gpu_no_driver": sentry.DeviceError,
    "gpu_old_driver": sentry.DeviceError,
    "gpu_not_found": sentry.DeviceError,
    "gpu_too_old": sentry.DeviceError,
    "gpu_out_of_memory": sentry.DeviceError,
    "gpu_lost": sentry.DeviceError,
    "gpu_failed": sentry.DeviceError,
    "gpu_digest_unwritten": sentry.DeviceError,
    "gpu_self_test": sentry.DeviceError,
    "gpu_too_large": sentry.DeviceError,
    "gpu_share": sentry.DeviceError,
    "gpu_samples": sentry.DeviceError,
    "gpu_serial_algorithm": sentry.UsageError,
    "usage": sentry.UsageError,
    "weights_unclear": sentry.UsageError,
    "would_overwrite": sentry.UsageError,
    # Only of this package.
    "unsupported_tensor": sentry.UsageError,
    "key_pem": sentry.KeyFileError,
    "key_encrypted": sentry.KeyFileError,
    "key_password": sentry.KeyFileError,
    "curve_not_allowed": sentry.KeyFileError,
    "explicit_curve_parameters": sentry.KeyFileError,
    "rsa_key": sentry.KeyFileError,
    "point_not_on_curve": sentry.KeyFileError,
    "unsupported_key": sentry.KeyFileError,
    "cryptographic_library": sentry.KeyFileError,
    "self_check": sentry.SigningError,
    # Of what was to be signed; in a signature they are verdicts.
    "list_not_ascending": sentry.SigningError,
    "list_count": sentry.SigningError,
    "list_text": sentry.SigningError,
    "list_algorithm": sentry.SigningError,
    "list_shape": sentry.SigningError,
    "list_table": sentry.SigningError,
    "list_state": sentry.SigningError,
}


def bodies(source: str, signature: str) -> Iterator[str]:
    """The bodies of all Rust functions whose first line matches."""
    for match in re.finditer(signature + r"[^{]*\{", source):
        depth, end = 1, match.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(source[end], 0)
            end += 1
        yield source[match.end() : end]


def codes_of_the_crates() -> set[str]:
    """Every code in a function that names codes, in the sources of the library."""
    found: set[str] = set()
    for file in sorted(ROOT.glob("crates/*/src/**/*.rs")):
        source = file.read_text().split("#[cfg(test)]")[0]
        for body in bodies(source, r"fn (?:\w+_)?code\([^)]*\) -> &'static str "):
            # Results and not patterns: those that follow an arrow, or are an alternative.
            found.update(re.findall(r'=>\s*(?:\{\s*)?"([a-z0-9_]+)"', body))
    return found


def codes_of_the_package() -> set[str]:
    """Every code that Python code gives an error."""
    sources = [file.read_text() for file in sorted((ROOT / "python/sentry").glob("*.py"))]
    return {code for source in sources for code in re.findall(r'\bcode(?:: str)? ?= ?"([a-z0-9_]+)"', source)}


def codes_of_the_documentation() -> dict[str, bool]:
    """The codes of docs/cli.md, and whether each is a verdict."""
    text = (ROOT / "docs/cli.md").read_text().split("## Error codes")[1]
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| (.*) \|$", text, re.MULTILINE)
    return {code: not description.endswith("(2)") for code, description in rows}


def native(code: str, rejected: bool) -> sentry.Error:
    """What becomes of an error of the library."""
    return from_native(code, rejected, "what is wrong", [])


def copies_of(error: sentry.Error) -> Iterator[sentry.Error]:
    """The error after every way that it can travel."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(error, protocol))
    yield copy.copy(error)
    yield copy.deepcopy(error)


def test_every_code_has_its_class_and_no_class_a_code_that_is_gone() -> None:
    of_crates = codes_of_the_crates()
    # If this fails, the sources are no longer written as this test reads them.
    assert {"model_differs", "certificate_expired", "policy_no_rule", "safetensors_hole", "list_state", "rsa_key", "digest_length", "io"} <= of_crates
    assert of_crates | codes_of_the_package() == REJECTED.keys() | OPEN.keys()


@pytest.mark.parametrize("code", REJECTED)
def test_a_verdict_becomes_its_class(code: str) -> None:
    error = native(code, rejected=True)
    assert (type(error), error.code) == (REJECTED[code], code)
    assert str(error).startswith("what is wrong")


@pytest.mark.parametrize("code", OPEN)
def test_what_is_no_verdict_becomes_its_class(code: str) -> None:
    error = native(code, rejected=False)
    # Only Python raises the one with a name of its own.
    assert code == "unsupported_tensor" or (type(error), error.code) == (OPEN[code], code)
    assert not isinstance(error, sentry.VerificationError)


def test_a_code_that_nobody_knows_is_still_what_it_is() -> None:
    assert type(native("something_new", rejected=True)) is sentry.EnvelopeError
    assert type(native("safetensors_something_new", rejected=True)) is sentry.FormatError
    assert type(native("something_new", rejected=False)) is sentry.NotCheckedError


def test_documentation_and_classes_agree_on_what_is_a_verdict() -> None:
    documented = codes_of_the_documentation()
    assert len(documented) > 50
    for code, is_verdict in documented.items():
        assert code in (REJECTED if is_verdict else OPEN), code


def test_the_classes_are_a_tree() -> None:
    parents = {
        sentry.UsageError: sentry.Error,
        sentry.SigningError: sentry.Error,
        sentry.NotCheckedError: sentry.Error,
        sentry.VerificationError: sentry.Error,
        sentry.DeviceError: sentry.NotCheckedError,
        sentry.KeyFileError: sentry.UsageError,
        sentry.PolicyFileError: sentry.UsageError,
        **dict.fromkeys(
            (
                *(sentry.ManifestError, sentry.PathError, sentry.FormatError, sentry.LimitError, sentry.SampleError, sentry.EpochError),
                *(sentry.ChangedError, sentry.EnvelopeError, sentry.AlgorithmError),
                *(sentry.CertificateError, sentry.TimestampError, sentry.PolicyError),
            ),
            sentry.VerificationError,
        ),
    }
    assert {kind: kind.__bases__ for kind in parents} == {kind: (parent,) for kind, parent in parents.items()}
    assert sentry.Error.__bases__ == (Exception,)
    raised = {value for value in vars(sentry).values() if isinstance(value, type) and issubclass(value, BaseException)}
    assert raised == {sentry.Error, *parents}


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("weights_unclear", "weights=[...]"),
        ("tensors_not_signed", "sign the model with Sentry"),
        ("signature_not_found", "signature=..."),
        ("key_encrypted", "password=..."),
        ("would_overwrite", "signature=..."),
        ("file_changed_while_read", "nothing writes to the model"),
    ],
)
def test_advice_comes_last_and_after_the_word_hint(code: str, advice: str) -> None:
    what, hint = str(native(code, rejected=code in REJECTED)).split("\nhint: ")
    assert what == "what is wrong" and advice in hint
    # Advice names what can be called here, not options of the command line.
    assert "--" not in hint


def test_many_differences_are_all_there_and_twenty_are_listed(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    names = [f"layer.{place:02}" for place in range(25)]
    sentry.sign_model({name: torch.zeros(3) for name in names}, key=key, signature=tmp_path / "model.sig")
    changed = {name: torch.ones(3) for name in names}
    error = rejected(lambda: sentry.verify_model(changed, tmp_path / "model.sig", trust=trust), sentry.ManifestError, "model_differs")
    assert [difference.tensor for difference in error.differences] == names
    lines = str(error).splitlines()
    assert lines[0] == "25 differences from the signed model" and lines[-1].strip() == "and 5 more"
    assert [line.strip() for line in lines[1:-1]] == [str(difference) for difference in error.differences[:20]]
    first = error.differences[0]
    assert (error.artifact, error.expected, error.found) == (names[0], first.expected, first.found)


@pytest.mark.parametrize("count", [1, 2, 20, 21])
def test_no_difference_is_counted_that_is_not_listed(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, count: int) -> None:
    tensors = {f"layer.{place:02}": torch.zeros(1) for place in range(count)}
    sentry.sign_model({**tensors, "kept": torch.zeros(1)}, key=key, signature=tmp_path / "model.sig")
    kept = {"kept": torch.zeros(1)}
    error = rejected(lambda: sentry.verify_model(kept, tmp_path / "model.sig", trust=trust), sentry.ManifestError, "model_differs")
    text = str(error)
    assert sum(f'"{name}" is missing' in text for name in tensors) == min(count, 20)
    assert ("more" in text) == (count > 20)
    assert text.startswith(f"{count} differences") or count == 1


HOSTILE = 'a\x1b[2J\x1b]0;title\x07\u202e"\nhint: all is well, no need to look'


def shows_no_control(error: sentry.Error) -> bool:
    """Whether a message can be printed on a terminal, and its lines are our own."""
    lines = str(error).split("\n")
    return all(line.isprintable() for line in lines) and not any(line.startswith("hint: all is well") for line in lines)


def test_a_name_of_a_file_cannot_write_on_the_terminal(signed: Path, trust: sentry.PublicKey) -> None:
    (signed / HOSTILE).write_text("unsigned")
    error = rejected(lambda: sentry.verify_model(signed, trust=trust), sentry.ManifestError, "model_differs")
    assert shows_no_control(error) and shows_no_control(sentry.Error(str(error.differences[0])))
    # Programs get the name as it is.
    assert error.artifact == error.differences[0].file == HOSTILE


def test_a_name_of_a_tensor_cannot_write_on_the_terminal(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model({HOSTILE: torch.zeros(2)}, key=key, signature=tmp_path / "model.sig")
    other = {HOSTILE: torch.ones(2)}
    error = rejected(lambda: sentry.verify_model(other, tmp_path / "model.sig", trust=trust), sentry.ManifestError, "model_differs")
    assert shows_no_control(error) and error.artifact == HOSTILE


@pytest.mark.parametrize(
    "call",
    [
        lambda folder, trust: sentry.sign_model({HOSTILE: torch.zeros(2).to_sparse()}, key=sentry.PrivateKey.generate(), signature=folder / "x.sig"),
        lambda folder, trust: sentry.sign_model({HOSTILE: object()}, key=sentry.PrivateKey.generate(), signature=folder / "x.sig"),
        lambda folder, trust: sentry.load_model(folder, trust=trust, framework=HOSTILE),
        lambda folder, trust: sentry.load_model(folder, trust=trust, weights=[HOSTILE]),
        lambda folder, trust: sentry.load_model(folder / HOSTILE, trust=trust),
        lambda folder, trust: sentry.verify_model(folder, folder / HOSTILE, trust=trust),
        lambda folder, trust: sentry.safetensors.load_file(folder / HOSTILE, trust=trust),
        lambda folder, trust: sentry.safetensors.load_file(folder / "model.safetensors", trust=trust, root=folder / HOSTILE),
        lambda folder, trust: sentry.PublicKey(folder / HOSTILE),
        lambda folder, trust: sentry.PrivateKey.generate(HOSTILE),
    ],
    ids=["sparse", "object", "framework", "weights", "folder", "signature", "file", "root", "key", "algorithm"],
)
def test_no_other_text_from_outside_does(call: Callable[[Path, sentry.PublicKey], object], signed: Path, trust: sentry.PublicKey) -> None:
    with pytest.raises(sentry.Error) as caught:
        call(signed, trust)
    assert shows_no_control(caught.value), repr(str(caught.value))


def test_a_type_that_numpy_lacks_names_its_tensor_and_no_more(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    from safetensors.torch import save_file

    (tmp_path / "model").mkdir()
    save_file({HOSTILE: torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "model/model.safetensors")
    sentry.sign_model(tmp_path / "model", key=key)
    (tmp_path / "publisher.pub").write_text(trust.pem)
    # As if ml_dtypes were not installed; where it was once imported, numpy knows its types.
    program = """
import pickle, sys
sys.modules["ml_dtypes"] = None
import sentry
try:
    sentry.load_model(sys.argv[1], trust=sentry.PublicKey(sys.argv[2]), framework="numpy")
except sentry.UsageError as error:
    sys.stdout.buffer.write(pickle.dumps(error))
"""
    run = [sys.executable, "-c", program, str(tmp_path / "model"), str(tmp_path / "publisher.pub")]
    error = pickle.loads(subprocess.run(run, capture_output=True, check=True).stdout)
    assert "install ml_dtypes" in str(error) and shows_no_control(error)


@pytest.mark.parametrize("code", [*REJECTED, *OPEN])
def test_errors_survive_pickling_and_copying(code: str) -> None:
    differences = [
        ("changed_tensor", "model.safetensors", None, "layer", None, None, None, "blake3:1", "blake3:2", "tensor was changed"),
        ("changed_file", "large.bin", (0, 9), None, None, None, None, "sha256:1", "sha256:2", "file was changed"),
    ]
    error = from_native(code, code in REJECTED, "what is wrong", differences if code == "model_differs" else [])
    for other in copies_of(error):
        assert type(other) is type(error) and (str(other), repr(other), other.args) == (str(error), repr(error), error.args)
        assert vars(other) == vars(error)


def test_an_error_with_differences_keeps_them(signed: Path, trust: sentry.PublicKey) -> None:
    (signed / "extra").write_text("unsigned")
    error = rejected(lambda: sentry.verify_model(signed, trust=trust), sentry.ManifestError, "model_differs")
    for other in copies_of(error):
        assert isinstance(other, sentry.ManifestError) and other.differences == error.differences
        assert (other.artifact, other.expected, other.found) == ("extra", None, None)
    difference = error.differences[0]
    assert pickle.loads(pickle.dumps(difference)) == copy.deepcopy(difference) == difference
    assert str(difference) == difference.message == '"extra" is not signed'
    assert repr(difference).startswith("Difference(kind='unsigned_file', file='extra'")
    assert hash(difference) == hash(copy.copy(difference))
    with pytest.raises(AttributeError):
        difference.kind = "nothing"  # type: ignore[misc]


def verify_in_a_process(folder: str, pem: str) -> int:
    """Verify with a key that came as text."""
    return sentry.verify_model(folder, trust=sentry.PublicKey.from_pem(pem)).files


def test_a_verdict_of_a_helper_process_arrives(signed: Path, trust: sentry.PublicKey) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(verify_in_a_process, str(signed), trust.pem).result() == 2
        (signed / "config.json").unlink()
        error = rejected(lambda: pool.submit(verify_in_a_process, str(signed), trust.pem).result(), sentry.ManifestError, "model_differs")
        assert error.artifact == "config.json" and error.differences[0].kind == "missing_file"
        # And the process goes on.
        with pytest.raises(sentry.NotCheckedError):
            pool.submit(verify_in_a_process, str(signed / "nowhere"), trust.pem).result()


def test_errors_can_be_shown_and_carry_their_cause() -> None:
    error = sentry.UsageError("say where")
    assert (str(error), repr(error), error.code) == ("say where", "UsageError('say where')", "usage")
    verdict = sentry.VerificationError("is another", code="model_differs")
    assert (verdict.differences, verdict.artifact, verdict.expected, verdict.found) == ((), None, None, None)
    with pytest.raises(TypeError):
        # A verdict without a code would be one that programs cannot tell from others.
        sentry.VerificationError("is another")  # type: ignore[call-arg]
