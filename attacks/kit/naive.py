"""A deliberately naive verifier, for `run.py --build-only`.

It shares no code with Sentry and forgives whatever a careless implementation would. A fixture
must be honest in everything but its defect, so the naive verifier may complain only about what
the expected code is about. Most fixtures it accepts: those are the attacks that work on others.
"""

import base64
import hashlib
import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from . import oms, tensors
from .case import Attempt, Case
from .world import World

# What the naive verifier may find wrong, by expected code. Codes that are not here: nothing.
MAY_FAIL = {
    "model_differs": {"disk", "annotations"},
    "io": {"disk"}, "symlink": {"disk"}, "symlink_cycle": {"disk"},
    "special_file": {"disk", "bundle"},
    "non_utf8_name": {"disk"}, "ambiguous_names": {"disk"}, "file_changed_while_read": {"disk"},
    "signature_not_found": {"bundle"}, "json_invalid": {"bundle", "statement", "disk"},
    "json_too_deep": {"bundle", "statement"},
    "json_field": {"bundle", "statement", "signature", "annotations"},
    "base64": {"bundle", "statement", "signature"},
    "signature_count": {"signature"}, "signature_invalid": {"signature"},
    "signature_encoding": {"signature"}, "signature_scalar": {"signature"},
    "key_label_mismatch": {"signature"}, "payload_type": {"signature"},
    "legacy_v0_2": {"signature", "statement"},
    "predicate_type": {"statement"}, "subject_count": {"statement"},
    "key_pem": {"key"}, "explicit_curve_parameters": {"key"}, "rsa_key": {"signature"},
    "point_not_on_curve": {"key"}, "unsupported_key": {"key", "signature"},
    "root_mismatch": {"root"},
    "digest_encoding": {"disk", "statement", "annotations"},
    "digest_length": {"disk", "root", "annotations"},
    "unknown_algorithm": {"disk"}, "algorithm_mismatch": {"disk"},
    "empty_manifest": {"disk"}, "unsafe_path": {"disk"},
    "resource_ignored": {"disk", "annotations"},
    "shard_name": {"disk"}, "shard_layout": {"disk"}, "shard_size": {"disk"},
    "duplicate_resource": {"disk"}, "too_many_resources": {"disk"},
    "annotation_invalid": {"annotations"},
    "safetensors_past_end": {"annotations"}, "safetensors_header_too_large": {"annotations"},
}  # fmt: skip

# Codes that make no sense for an artifact in which even the naive verifier finds nothing wrong,
# but for the differences that it does not see: it never asks for a file's size, and takes a
# folder for ignored that has the signature's name.
MUST_FAIL = {"model_differs", "signature_invalid", "signature_not_found"}
UNSEEN = {
    "file_extended_by_zeroes__after_the_last_shard",
    "signature_path_inside_model_hides_nothing_else__folder_of_that_name",
}


def problems(case: Case, attempt: Attempt, world: World) -> list[str]:
    """Whether the fixture is wrong where its code says so, and nowhere else."""
    # A loader opens what is signed, and never asks what else lies there.
    wrong = complaints(world, "--ignore-unsigned-files" in attempt.args or bool(attempt.program))
    found = []
    if unexpected := wrong - MAY_FAIL.get(case.code, set()):
        found.append(f"wrong in {sorted(unexpected)}, which {case.code} is not about")
    if case.code in MUST_FAIL and case.name not in UNSEEN and not wrong:
        found.append("nothing is wrong with it")
    return found


def complaints(world: World, more_files: bool = False) -> set[str]:
    """The parts of the artifact and its signature that the naive verifier finds wrong.

    With `more_files`, files that are not signed are none of them.
    """
    try:
        bundle = json.loads(_read(world.signature))
        envelope = bundle["dsseEnvelope"]
        payload = _base64(envelope["payload"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {"bundle"}
    found = _signature(world, envelope, payload)
    try:
        statement = json.loads(payload)
        resources = statement["predicate"]["resources"]
        claimed = statement["subject"][0]["digest"]["sha256"]
        ignored = statement["predicate"]["serialization"].get("ignore_paths", [])
        found |= _root(resources, claimed)
        if world.signature.is_relative_to(world.model):
            ignored = [*ignored, str(world.signature.relative_to(world.model))]
        unsigned = _disk(world.model, resources, ignored)
        found |= {"disk"} if unsigned and not (more_files and unsigned == {"more files"}) else set()
        found |= _annotations(world.model, resources)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        found.add("statement")
    return found


def _read(path: Path) -> bytes:
    """A file's content; a FIFO or device counts as none, since reading it might never end."""
    if not path.is_file():
        raise OSError(f"{path.name} is no file")
    return path.read_bytes()


def _base64(text: str) -> bytes:
    """Both alphabets at once, white space, no padding: all forgiven."""
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)  # forgives capitals and white space between bytes


def _signature(world: World, envelope: dict, payload: bytes) -> set[str]:
    try:
        public = serialization.load_pem_public_key(world.public_key().read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        return {"key"}
    message = oms.pae(payload, str(envelope.get("payloadType")))
    try:
        signature = _base64(envelope["signatures"][0]["sig"])
        if isinstance(public, ec.EllipticCurvePublicKey):
            digest = hash_of(public.curve)
            public.verify(signature, message, ec.ECDSA(digest))
        else:
            public.verify(signature, message)
    except (InvalidSignature, KeyError, IndexError, TypeError, ValueError, AttributeError):
        return {"signature"}
    return set()


def hash_of(curve: ec.EllipticCurve) -> hashes.HashAlgorithm:
    """The hash that goes with a curve."""
    return {384: hashes.SHA384, 521: hashes.SHA512}.get(curve.key_size, hashes.SHA256)()


def _root(resources: list[dict], claimed: str) -> set[str]:
    whole = hashlib.sha256(b"".join(_hex(item["digest"]) for item in resources))
    return set() if whole.digest() == _hex(claimed) else {"root"}


def _disk(model: Path, resources: list[dict], ignored: list[str]) -> set[str]:
    """Every resource is there with its digest, wherever its name leads, and nothing else is."""
    if model.is_file():
        model, only = model.parent, model.name
        resources = [
            {**item, "name": item["name"].replace(".", only, 1)}
            if item["name"].partition(":")[0] == "."
            else item
            for item in resources
        ]
        listed = {only}
    else:
        listed = set(oms.files_of(model, [*ignored, *oms.ALWAYS_IGNORED]))
    covered = set()
    for item in resources:
        name, begin, end = _range(item["name"])
        covered.add(os.path.normpath(name))
        try:
            content = _read(model / name)[begin:end]
        except (OSError, ValueError):
            return {"disk"}
        algorithm = item["algorithm"].split("-")[0]
        if algorithm not in oms.HASHES:
            return {"disk"}
        if bytes.fromhex(oms.digest(content, algorithm)) != _hex(item["digest"]):
            return {"disk"}
    return {"more files"} if listed - covered else set()


def _range(name: str) -> tuple[str, int, int | None]:
    parts = name.rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
        return parts[0], int(parts[1]), int(parts[2])
    return name, 0, None


def _annotations(model: Path, resources: list[dict]) -> set[str]:
    for item in resources:
        marks = item.get("annotations", {})
        path = model if model.is_file() else model / item["name"]
        try:
            content = _read(path) if marks else b""
        except (OSError, ValueError):
            continue  # the disk's fault, and said so there
        whole = marks.get(tensors.BLAKE3_KEY)
        if whole is not None and whole != tensors.b3(content):
            return {"annotations"}
        if tensors.SAFETENSORS_KEY in marks and not _tensors_fit(content, marks):
            return {"annotations"}
    return set()


def _tensors_fit(content: bytes, marks: dict) -> bool:
    try:
        honest = tensors.annotation(content)
    except (ValueError, KeyError, OverflowError):
        return False
    return honest[tensors.SAFETENSORS_KEY] == marks[tensors.SAFETENSORS_KEY]
