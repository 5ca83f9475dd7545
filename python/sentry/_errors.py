"""What can go wrong, as exceptions.

A verdict is never a boolean: a model that is not the signed one raises :class:`VerificationError`, one that could not be
checked :class:`NotCheckedError` or :class:`UsageError`. Subclasses of the first are the classes of Sentry's threat model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One way in which a model or a dataset is not the signed one.

    Attributes
    ----------
    kind
        Such as ``"changed_tensor"`` or ``"unsigned_file"``; ``docs/python.md`` lists them.
    file
        The file, if the model is on disk.
    shard
        First byte and end of the part of the file, if shards were signed.
    tensor
        The tensor.
    source, sample, field
        The source of a dataset, the id of a sample in it, and the field of the sample that is wrong.
    expected, found
        What was signed, and what is there.
    message
        All of it in words.
    """

    kind: str
    file: str | None
    shard: tuple[int, int] | None
    tensor: str | None
    source: str | None
    sample: int | None
    field: str | None
    expected: str | None
    found: str | None
    message: str

    def __str__(self) -> str:
        return self.message


class Error(Exception):
    """Anything that Sentry raises.

    Attributes
    ----------
    code
        A stable name for programs, the same as on the command line.
    """

    def __init__(self, message: str, *, code: str = "usage") -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        # Errors of helper processes arrive as what they are.
        return _restore, (type(self), self.args, self.__dict__)


class UsageError(Error):
    """The call asks for something that cannot be done; nothing was signed or verified."""


class KeyFileError(UsageError):
    """A key or certificate cannot be used: damaged, of an unsupported kind, locked by a password, or not each other's."""


class PolicyFileError(UsageError):
    """A policy cannot be used: malformed, or contradicting itself."""


class SigningError(Error):
    """Nothing was signed: the model has something that no signature can cover, or the signature could not be written."""


class NotCheckedError(Error):
    """The check could not be made: a file cannot be read, there is no signature, or its method is not supported."""


class DeviceError(NotCheckedError):
    """A GPU cannot be used, or failed: nothing was hashed elsewhere instead."""


class VerificationError(Error):
    """The artifact or its signature is wrong. Do not use it.

    Attributes
    ----------
    artifact
        The file or tensor that is wrong, if it is one.
    expected, found
        What was signed and what is there, of the first difference.
    differences
        Every :class:`Difference`, if the signature holds and the model is another.
    """

    def __init__(self, message: str, *, code: str, differences: tuple[Difference, ...] = ()) -> None:
        super().__init__(message, code=code)
        self.differences = differences
        first = differences[0] if differences else None
        self.artifact = first and (first.tensor or first.file or first.source)
        self.expected = first and first.expected
        self.found = first and first.found


class ManifestError(VerificationError):
    """Files or tensors are not the signed ones: changed, added, removed or renamed."""


class PathError(VerificationError):
    """A name or link in the model leads elsewhere, or means two things."""


class FormatError(VerificationError):
    """A safetensors file or its index breaks the format's rules."""


class LimitError(VerificationError):
    """Something is larger, deeper or longer than any honest artifact."""


class ChangedError(VerificationError):
    """A file was replaced or written to while it was checked."""


class EnvelopeError(VerificationError):
    """The signature does not hold, or the signed statement is malformed."""


class AlgorithmError(VerificationError):
    """An algorithm or key that is not allowed, or not the one that the trusted key has."""


class CertificateError(VerificationError):
    """The signer's certificate does not show that it is the trusted one."""


class TimestampError(VerificationError):
    """A timestamp does not show when the signature was made."""


class PolicyError(VerificationError):
    """The policy asks for other signers, or for something else than what was signed."""


class SampleError(VerificationError):
    """Samples of a dataset are not the signed ones, or their table is not."""


class EpochError(VerificationError):
    """An epoch did not deliver every signed sample, or cannot be gone on with."""


def _restore(kind: type[Error], arguments: tuple[object, ...], attributes: dict[str, object]) -> Error:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


# Longest text from outside in a message, in characters.
_MOST_PRINTED = 512


def printable(name: object) -> str:
    """A name from outside, as it can be printed between double quotes on a terminal."""
    return _escape(str(name), '"\\')


def printable_sentence(text: object) -> str:
    """A sentence of another library or of a server, in one line and safe to print."""
    return _escape(" ".join(str(text).split()), "")


def _escape(text: str, quotes: str) -> str:
    def escape(letter: str) -> str:
        if letter in quotes:
            return f"\\{letter}"
        return letter if letter.isprintable() else letter.encode("unicode_escape").decode()

    return "".join(map(escape, text[:_MOST_PRINTED])) + ("..." if len(text) > _MOST_PRINTED else "")


# Which exception a code becomes when it is a verdict: by itself, by how it begins, or else an EnvelopeError, for most are about
# the signed text.
_CLASSES: dict[str, type[VerificationError]] = {
    **dict.fromkeys(("model_differs", "empty_manifest", "resource_ignored", "duplicate_resource", "duplicate_tensor"), ManifestError),
    **dict.fromkeys(
        ("unsafe_path", "ambiguous_names", "non_utf8_name", "symlink", "symlink_escape", "symlink_cycle", "special_file"), PathError
    ),
    **dict.fromkeys(("bundle_too_large", "json_too_deep", "chain_too_long", "too_many_resources", "too_deep"), LimitError),
    **dict.fromkeys(("too_many_timestamps", "timestamp_too_long"), LimitError),
    **dict.fromkeys(("safetensors_header_too_large", "safetensors_too_many_tensors"), LimitError),
    **dict.fromkeys(("dataset_differs", "sample_repeated", "table_differs", "table_state", "table_malformed", "contributor_statement"), SampleError),
    **dict.fromkeys(("epoch_incomplete", "epoch_state"), EpochError),
    **dict.fromkeys(("dataset_malformed", "sample_record", "weights_incomplete"), FormatError),
    "index_invalid": FormatError,
    "file_changed_while_read": ChangedError,
    **dict.fromkeys(
        ("key_label_mismatch", "unknown_algorithm", "algorithm_mismatch", "signature_encoding", "signature_scalar"), AlgorithmError
    ),
}

_FAMILIES: dict[str, type[VerificationError]] = {
    "safetensors": FormatError,
    "certificate": CertificateError,
    "timestamp": TimestampError,
    "policy": PolicyError,
}

_KEY_CODES = frozenset(
    {
        "key_pem",
        "key_encrypted",
        "key_password",
        "curve_not_allowed",
        "explicit_curve_parameters",
        "rsa_key",
        "point_not_on_curve",
        "unsupported_key",
        "cryptographic_library",
    }
)

_USAGE_CODES = frozenset(
    {"usage", "weights_unclear", "would_overwrite", "signature_number", "gpu_serial_algorithm", "dataset_column", "dataset_layout"}
)

# Element types that a model is often converted to while it is loaded.
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})

_HINTS = {
    "weights_unclear": "name the files that hold the weights with weights=[...]",
    "tensors_not_signed": "sign the model with Sentry: its signatures list the tensors of safetensors files",
    "certificate_unknown_issuer": "name the root of the signer's authority: sentry.Certificate(roots, ...)",
    "policy_no_rule": "name the artifact as the policy does: sentry.Policy(path, artifact=...)",
    "policy_signers": "name all signatures: signature=[...]",
    "method_mismatch": "trust what the signature was made with: sentry.PublicKey or sentry.Certificate",
    "signature_not_found": "name the signature with signature=...",
    "epoch_incomplete": "finish() comes after the last batch of an epoch, in the process that received them, with the samples of all workers and ranks",
    "contributor_statement": "give the contributor's signature and whom to trust for it: contributors=[(signature, trust)]",
    "key_encrypted": "give the password: sentry.PrivateKey(path, password=...)",
    "would_overwrite": "choose another file with signature=...",
    "gpu_out_of_memory": "torch keeps freed memory for itself: torch.cuda.empty_cache() gives it back",
    "gpu_no_driver": "device='cpu' hashes on the CPU",
    "file_changed_while_read": "make sure that nothing writes to the model, then try again",
}

_MOST_LISTED = 20


# The attributes of a difference, in their order.
_Described = tuple[
    str, "str | None", "tuple[int, int] | None", "str | None", "str | None", "int | None", "str | None", "str | None", "str | None", str
]


def from_native(code: str, rejected: bool, message: str, differences: list[_Described]) -> Error:
    """The exception for an error of the native half."""
    found = tuple(Difference(*difference) for difference in differences)
    if len(found) > 1:
        what = "dataset" if found[0].source is not None or found[0].field is not None else "model"
        lines = [f"{len(found)} differences from the signed {what}", *(str(difference) for difference in found[:_MOST_LISTED])]
        if len(found) > _MOST_LISTED:
            lines.append(f"and {len(found) - _MOST_LISTED} more")
        message = "\n  ".join(lines)
    hint = _cast_hint(found) or _HINTS.get(code)
    if hint:
        message = f"{message}\nhint: {hint}"
    if rejected:
        family = _FAMILIES.get(code.partition("_")[0], EnvelopeError)
        return _CLASSES.get(code, family)(message, code=code, differences=found)
    if code in _KEY_CODES or code.startswith("certificate_"):
        return KeyFileError(message, code=code)
    if code.startswith("policy_"):
        return PolicyFileError(message, code=code)
    if code in _USAGE_CODES:
        return UsageError(message, code=code)
    if code == "self_check" or code.startswith("list_"):
        return SigningError(message, code=code)
    if code.startswith("gpu_"):
        return DeviceError(message, code=code)
    return NotCheckedError(message, code=code)


def _cast_hint(differences: tuple[Difference, ...]) -> str | None:
    """Advice for a model that was converted to another type of float."""
    for difference in differences:
        if difference.kind == "changed_type" and {difference.expected, difference.found} <= _FLOATS:
            return (
                f"the signed model is {difference.expected} and this one was converted to {difference.found}, probably while "
                'it was loaded: verify the files, or load it as it was signed (transformers: dtype="auto")'
            )
    return None


def signing_error(error: Error) -> Error:
    """The same error, met while signing: then it is no verdict on an artifact, and no check that was not made."""
    if isinstance(error, (VerificationError, NotCheckedError)):
        return SigningError(str(error), code=error.code)
    return error
