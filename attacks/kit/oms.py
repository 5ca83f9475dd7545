"""Statements, envelopes and bundles of OpenSSF Model Signing v1.0, written out by hand.

Everything is a plain dictionary, so that a fixture can spoil one thing and sign the rest
honestly.
"""

import base64
import hashlib
import json
import os
from pathlib import Path

import blake3

from . import tensors
from .keys import Key

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
VERSION_KEY = "sentry-ml.dev/version"

ALWAYS_IGNORED = (".git", ".gitattributes", ".github", ".gitignore")
HASHES = {
    "sha256": hashlib.sha256,
    "blake2b": hashlib.blake2b,
    "blake3": blake3.blake3,
}


def digest(data: bytes, algorithm: str = "sha256") -> str:
    """Lower-case hex."""
    return HASHES[algorithm](data).hexdigest()


def files_of(model: Path, ignored: list[str]) -> list[str]:
    """Names of the files of a directory, in the specification's order, links followed."""
    names = []
    for folder, _, files in os.walk(model, followlinks=True):
        for file in files:
            name = os.path.relpath(os.path.join(folder, file), model)
            if not any(name == path or name.startswith(path + "/") for path in ignored):
                names.append(name)
    return sorted(names)


def resource(name: str, content: bytes, algorithm: str = "sha256", annotate: bool = True) -> dict:
    """One resource of method `files`, with the annotation Sentry would add to it."""
    item = {"name": name, "digest": digest(content, algorithm), "algorithm": algorithm}
    if annotate and name.endswith(".safetensors"):
        item["annotations"] = tensors.annotation(content)
    elif annotate and algorithm != "blake3":
        item["annotations"] = {tensors.BLAKE3_KEY: tensors.b3(content)}
    return item


def shards(name: str, content: bytes, algorithm: str, size: int) -> list[dict]:
    """The resources of one file of method `shards`; none for an empty file."""
    return [
        {
            "name": f"{name}:{start}:{min(start + size, len(content))}",
            "digest": digest(content[start : start + size], algorithm),
            "algorithm": algorithm,
        }
        for start in range(0, len(content), size)
    ]


def root(resources: list[dict]) -> str:
    """SHA-256 over the raw digests, in the listed order."""
    whole = hashlib.sha256()
    for item in resources:
        whole.update(bytes.fromhex(item["digest"]))
    return whole.hexdigest()


def statement(subject: str, resources: list[dict], algorithm: str, ignored: list[str]) -> dict:
    """An honest statement over these resources."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": subject, "digest": {"sha256": root(resources)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "resources": resources,
            "serialization": {
                "method": "files",
                "hash_type": algorithm,
                "allow_symlinks": False,
                "ignore_paths": ignored,
            },
        },
    }


def of_directory(
    model: Path,
    *,
    algorithm: str = "sha256",
    shard_size: int | None = None,
    annotate: bool = True,
    ignored: tuple[str, ...] = ("model.sig",),
) -> dict:
    """The honest statement of a directory."""
    skip = sorted([*ALWAYS_IGNORED, *ignored])
    resources = []
    for name in files_of(model, skip):
        content = (model / name).read_bytes()
        if shard_size is None:
            resources.append(resource(name, content, algorithm, annotate))
        else:
            resources += shards(name, content, algorithm, shard_size)
    made = statement(model.name, resources, algorithm, skip)
    if shard_size is not None:
        made["predicate"]["serialization"] |= {"method": "shards", "shard_size": shard_size}
    return made


def set_root(made: dict) -> dict:
    """Makes the root fit the resources again, after a fixture has changed them."""
    made["subject"][0]["digest"]["sha256"] = root(made["predicate"]["resources"])
    return made


def find(made: dict, name: str) -> dict:
    """The resource of that name."""
    return next(item for item in made["predicate"]["resources"] if item["name"] == name)


def encode(made: object) -> bytes:
    """Compact JSON, UTF-8."""
    return json.dumps(made, separators=(",", ":"), ensure_ascii=False).encode()


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """DSSE v1 pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def pae_of_v0_2(payload: bytes) -> bytes:
    """What reference version 0.2 signed: the payload's Python repr, under a misspelt name."""
    return f"DSSEV1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} {payload}".encode()


def b64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode()


def unb64(text: str) -> bytes:
    """The bytes of standard base64."""
    return base64.b64decode(text, validate=True)


def bundle(payload: bytes, signer: Key, payload_type: str = PAYLOAD_TYPE) -> dict:
    """An honest bundle of the `key` method around any payload."""
    hint = hashlib.sha256(signer.public_pem()).hexdigest()
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": b64(payload),
            "payloadType": payload_type,
            "signatures": [{"sig": b64(signer.sign(pae(payload, payload_type))), "keyid": ""}],
        },
    }
