"""Files that must not be loaded: malformed ones with a good signature, tampered ones, indexes that point elsewhere, and pickles."""

from __future__ import annotations

import base64
import json
import os
import pickle
import resource
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import sentry
import torch
from conftest import Watch, equal, flip, rejected, tensors
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ANNOTATION = "sentry-ml.dev/safetensors/v1"


def safe_open_all(path: Path, **options: Any) -> dict[str, torch.Tensor]:
    """All tensors of a file, one by one."""
    with sentry.safetensors.safe_open(path, **options) as file:
        return {name: file.get_tensor(name) for name in file.offset_keys()}


LOADERS: dict[str, Callable[..., dict[str, Any]]] = {
    "load_model": lambda folder, **options: sentry.load_model(folder, **options),
    "load_model numpy": lambda folder, **options: sentry.load_model(folder, framework="numpy", **options),
    "load_file": lambda folder, **options: sentry.safetensors.load_file(folder / WEIGHTS, **options),
    "safe_open": lambda folder, **options: safe_open_all(folder / WEIGHTS, **options),
}
every_loader = pytest.mark.parametrize("loader", LOADERS)


# -- malformed files, signed by someone who does not look ---------------------------------------------------------------


def pattern(size: int) -> bytes:
    """Bytes that repeat with period 251."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def entry(dtype: str, shape: list[Any], begin: int, end: int) -> dict[str, Any]:
    """One tensor in a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def raw(header: dict[str, Any] | str | bytes, data: bytes | int, length: int | None = None) -> bytes:
    """Any header before any data, or that many bytes of it; `length` instead of the header's true one."""
    if isinstance(header, dict):
        header = json.dumps(header)
    if isinstance(header, str):
        header = header.encode()
    data = pattern(data) if isinstance(data, int) else data
    return struct.pack("<Q", len(header) if length is None else length) + header + data


ONE = json.dumps({"a": entry("U8", [16], 0, 16)})
TWICE = '{"a":{"dtype":"U8","shape":[16],"data_offsets":[0,16]},"%s":{"dtype":"I8","shape":[16],"data_offsets":[0,16]}}'
LARGEST = (1 << 64) - 1

# Code, without "safetensors_", and the file.
MALFORMED: dict[str, tuple[str, bytes]] = {
    "header_truncated": ("header_truncated", raw(ONE, b"", length=len(ONE) + 64)),
    "header_truncated empty": ("header_truncated", b""),
    "header_truncated no length": ("header_truncated", bytes(7)),
    "header_truncated length only": ("header_truncated", struct.pack("<Q", 64)),
    "header_len_u64_max": ("header_too_large", raw(ONE, 16, length=LARGEST)),
    "header_len_overflow_add to zero": ("header_too_large", raw(ONE, 16, length=LARGEST - 7)),
    "header_len_overflow_add to four": ("header_too_large", raw(ONE, 16, length=LARGEST - 3)),
    "header_len_overflow_add sign bit": ("header_too_large", raw(ONE, 16, length=1 << 63)),
    "header_len over the limit": ("header_too_large", raw(ONE, 16, length=100_000_001)),
    "shape_product_overflow": ("shape_overflow", raw({"a": entry("U8", [1 << 32, 1 << 32], 0, 0)}, b"")),
    "shape_product_overflow in bytes": ("shape_overflow", raw({"a": entry("F64", [1 << 62], 0, 0)}, b"")),
    "shape_product_overflow before a zero": ("shape_overflow", raw({"a": entry("U8", [1 << 63, 4, 0], 0, 0)}, b"")),
    "half a byte": ("shape_overflow", raw({"a": entry("F4", [3], 0, 1)}, 1)),
    "offsets_overlap": ("overlap", raw({"a": entry("U8", [16], 0, 16), "b": entry("U8", [16], 8, 24)}, 24)),
    "offsets_overlap same bytes twice": ("overlap", raw({"a": entry("U8", [16], 0, 16), "b": entry("U8", [16], 0, 16)}, 16)),
    "offsets_hole": ("hole", raw({"a": entry("U8", [8], 0, 8), "b": entry("U8", [8], 16, 24)}, 24)),
    "offsets_hole at the start": ("hole", raw({"a": entry("U8", [8], 8, 16)}, 16)),
    "offsets_reversed": ("offsets", raw({"a": entry("U8", [16], 16, 0)}, 16)),
    "offsets_past_end": ("past_end", raw({"a": entry("U8", [16], 0, 16), "b": entry("U8", [16], 16, 32)}, 24)),
    "offsets_past_end at 64 bits": ("past_end", raw({"a": entry("U8", [16], LARGEST - 16, LARGEST)}, 16)),
    "length disagrees with the shape": ("offsets", raw({"a": entry("F32", [4], 0, 12)}, 12)),
    "shape disagrees with the length": ("offsets", raw({"a": entry("F32", [1 << 20], 0, 16)}, 16)),
    "zero_size_tensor_reuses_offset": ("overlap", raw({"a": entry("U8", [16], 0, 16), "z": entry("U8", [0], 8, 8)}, 16)),
    "zero_size_tensor past the end": ("hole", raw({"a": entry("U8", [16], 0, 16), "z": entry("U8", [0], 24, 24)}, 16)),
    "duplicate_json_key_header": ("duplicate_key", raw(TWICE % "a", 16)),
    "duplicate_json_key_header escaped": ("duplicate_key", raw(TWICE % "\\u0061", 16)),
    "duplicate_json_key_header inside": ("duplicate_key", raw('{"a":{"dtype":"U8","dtype":"I8","shape":[16],"data_offsets":[0,16]}}', 16)),
    "duplicate_json_key_header metadata": ("duplicate_key", raw('{"__metadata__":{"n":"1","n":"2"},' + ONE[1:], 16)),
    "polyglot_trailing_data": ("trailing_data", raw(ONE, pattern(16) + b"PK\x05\x06" + bytes(18))),
    "polyglot_trailing_data one byte": ("trailing_data", raw(ONE, 17)),
    "polyglot_trailing_data without tensors": ("trailing_data", raw("{}", 1)),
    "metadata_non_string": ("metadata", raw({"__metadata__": {"n": 1}, "a": entry("U8", [16], 0, 16)}, 16)),
    "metadata_non_string nested": ("metadata", raw({"__metadata__": {"n": {"m": "1"}}, "a": entry("U8", [16], 0, 16)}, 16)),
    "metadata_non_string null": ("metadata", raw({"__metadata__": {"n": None}, "a": entry("U8", [16], 0, 16)}, 16)),
    "metadata_non_string no object": ("metadata", raw({"__metadata__": ["n"], "a": entry("U8", [16], 0, 16)}, 16)),
    "unknown dtype": ("dtype", raw({"a": entry("F128", [1], 0, 16)}, 16)),
    "dtype in lower case": ("dtype", raw({"a": entry("u8", [16], 0, 16)}, 16)),
    "pickle_disguised_as_npy_object_dtype": ("dtype", raw({"a": entry("O", [2], 0, 16)}, 16)),
    "no json": ("json", raw("no json at all", 0)),
    "empty header": ("json", raw("", 0)),
    "array": ("json", raw("[]", 0)),
    "not utf-8": ("json", raw(ONE.encode().replace(b'"a"', b'"\xff"'), 16)),
    "byte order mark": ("json", raw(b"\xef\xbb\xbf" + ONE.encode(), 16)),
    "leading space": ("json", raw(" " + ONE, 16)),
    "padding of zeroes": ("json", raw(ONE + "\0\0\0", 16)),
    "more after the header": ("json", raw(ONE + "{}", 16)),
    "offsets missing": ("json", raw({"a": {"dtype": "U8", "shape": [16]}}, 16)),
    "three offsets": ("json", raw({"a": {**entry("U8", [16], 0, 16), "data_offsets": [0, 16, 16]}}, 16)),
    "unknown key": ("json", raw({"a": {**entry("U8", [16], 0, 16), "strides": [1]}}, 16)),
    "fraction": ("json", raw({"a": entry("U8", [16.0], 0, 16)}, 16)),
    "negative dimension": ("json", raw({"a": entry("U8", [-16], 0, 16)}, 16)),
    "negative offset": ("json", raw({"a": entry("U8", [16], -16, 0)}, 16)),
    "offset beyond 64 bits": ("json", raw({"a": entry("U8", [16], 1 << 64, (1 << 64) + 16)}, 16)),
    "65 dimensions": ("json", raw({"a": entry("U8", [1] * 65, 0, 1)}, 1)),
    "name of 4097 bytes": ("json", raw({"n" * 4097: entry("U8", [1], 0, 1)}, 1)),
    "json_depth_bomb": ("json", raw('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", 0)),
}
LIMITS = {"header_too_large"}


@every_loader
@pytest.mark.parametrize("defect", MALFORMED)
def test_a_malformed_file_is_refused_though_it_is_signed(
    model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, loader: str, defect: str
) -> None:
    code, content = MALFORMED[defect]
    (model / WEIGHTS).write_bytes(content)
    sentry.sign_model(model, key=key, annotate=False)
    # The signature is right, and so is every digest.
    assert sentry.verify_model(model, trust=trust).files == 2
    error = rejected(
        lambda: LOADERS[loader](model, trust=trust), sentry.LimitError if code in LIMITS else sentry.FormatError, f"safetensors_{code}"
    )
    assert WEIGHTS in str(error) and error.differences == ()


def test_a_malformed_file_is_refused_in_any_place(sharded: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    last = sharded / "model-00002-of-00002.safetensors"
    last.write_bytes(last.read_bytes() + b"\0")
    sentry.sign_model(sharded, key=key, annotate=False)
    error = rejected(lambda: sentry.load_model(sharded, trust=trust), sentry.FormatError, "safetensors_trailing_data")
    assert last.name in str(error)


def test_a_header_of_more_than_a_million_tensors_is_refused(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    header = ",".join(f'"{number}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for number in range(1_000_001))
    (model / WEIGHTS).write_bytes(raw("{" + header + "}", 0))
    sentry.sign_model(model, key=key, annotate=False)
    rejected(lambda: sentry.load_model(model, trust=trust), sentry.LimitError, "safetensors_too_many_tensors")


def test_a_huge_declared_sparse_file_is_refused_before_memory_is_taken(
    signed: Path, trust: sentry.PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 1 << 42
    (signed / WEIGHTS).write_bytes(raw({"a": entry("U8", [size], 0, size)}, 0))
    os.truncate(signed / WEIGHTS, (signed / WEIGHTS).stat().st_size + size)
    monkeypatch.setattr("sentry._allocate._torch_bytes", lambda nbytes: pytest.fail(f"{nbytes} bytes were taken"))
    for load in LOADERS.values():
        error = rejected(lambda load=load: load(signed, trust=trust), sentry.ManifestError, "model_differs")
        assert error.differences[0].kind == "changed_header"


# -- well-formed files that are not the signed ones ----------------------------------------------------------------------


def header_of(content: bytes) -> dict[str, Any]:
    """The header's JSON."""
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def data_of(content: bytes) -> bytes:
    """What comes after the header."""
    return content[8 + int.from_bytes(content[:8], "little") :]


def tensor_swap_equal_shape(content: bytes) -> bytes:
    """The bytes of two tensors of one type and shape change places."""
    header, data = header_of(content), bytearray(data_of(content))
    one, two = (slice(*header[f"layer.{number}.weight"]["data_offsets"]) for number in (0, 1))
    data[one], data[two] = data[two], data[one]
    return raw(header, bytes(data))


def tensor_swap_in_the_header(content: bytes) -> bytes:
    """The bytes stay, and two names change places."""
    header = header_of(content)
    header["layer.0.weight"], header["layer.1.weight"] = header["layer.1.weight"], header["layer.0.weight"]
    return raw(header, data_of(content))


def tensor_rename(content: bytes) -> bytes:
    """A tensor has another name."""
    header = header_of(content)
    header["layer.2.bias"] = header.pop("layer.1.bias")
    return raw(header, data_of(content))


def dtype_reinterpret_f16_bf16(content: bytes) -> bytes:
    """The bytes of half floats are called another type of the same size."""
    header = header_of(content)
    header["half"]["dtype"] = "BF16"
    return raw(header, data_of(content))


def shape_transposed_same_bytes(content: bytes) -> bytes:
    """50 by 16 becomes 16 by 50."""
    header = header_of(content)
    header["embedding.weight"]["shape"].reverse()
    return raw(header, data_of(content))


def bytes_moved_across_tensor_boundary(content: bytes) -> bytes:
    """The data is the same, and one row belongs to the neighbour."""
    header = header_of(content)
    (begin, boundary), (start, end) = (header[f"layer.0.{name}"]["data_offsets"] for name in ("bias", "weight"))
    assert boundary == start
    header["layer.0.bias"] = entry("F32", [32], begin, boundary + 64)
    header["layer.0.weight"] = entry("F32", [15, 16], boundary + 64, end)
    return raw(header, data_of(content))


def zero_size_tensor_added(content: bytes) -> bytes:
    """No byte of the data changes, and there is one more tensor."""
    header, data = header_of(content), data_of(content)
    return raw({**header, "extra": entry("U8", [0], len(data), len(data))}, data)


def tensor_added(content: bytes) -> bytes:
    """One more tensor at the end."""
    header, data = header_of(content), data_of(content)
    return raw({**header, "extra": entry("U8", [4], len(data), len(data) + 4)}, data + b"evil")


def tensor_removed(content: bytes) -> bytes:
    """The last tensor is gone."""
    header, data = header_of(content), data_of(content)
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    begin, _ = header.pop(last)["data_offsets"]
    return raw(header, data[:begin])


def metadata_changed(content: bytes) -> bytes:
    """Text that means nothing to Sentry, and may mean something to others."""
    return raw({**header_of(content), "__metadata__": {"format": "np"}}, data_of(content))


def one_bit_flip(place: Callable[[int], int]) -> Callable[[bytes], bytes]:
    """One bit of the data is another."""

    def change(content: bytes) -> bytes:
        data = bytearray(data_of(content))
        data[place(len(data))] ^= 1
        return raw(header_of(content), bytes(data))

    return change


def padded(content: bytes) -> bytes:
    """The same tensors under a header with a space more."""
    return raw(json.dumps(header_of(content)) + " ", data_of(content))


# What a signature that lists tensors says of it.
TAMPERED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "tensor_swap_equal_shape": ("changed_tensor", tensor_swap_equal_shape),
    "tensor_swap_equal_shape in the header": ("changed_header", tensor_swap_in_the_header),
    "tensor_rename": ("changed_header", tensor_rename),
    "dtype_reinterpret_f16_bf16": ("changed_header", dtype_reinterpret_f16_bf16),
    "shape_transposed_same_bytes": ("changed_header", shape_transposed_same_bytes),
    "bytes_moved_across_tensor_boundary": ("changed_header", bytes_moved_across_tensor_boundary),
    "zero_size_tensor_added": ("changed_header", zero_size_tensor_added),
    "tensor_added": ("changed_header", tensor_added),
    "tensor_removed": ("changed_header", tensor_removed),
    "metadata_changed": ("changed_header", metadata_changed),
    "padded": ("changed_header", padded),
    "one_bit_flip first": ("changed_tensor", one_bit_flip(lambda size: 0)),
    "one_bit_flip middle": ("changed_tensor", one_bit_flip(lambda size: size // 2)),
    "one_bit_flip last": ("changed_tensor", one_bit_flip(lambda size: size - 1)),
}


def canonical(folder: Path) -> None:
    """Write the header as `raw` does, so that each change is the only one."""
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw(header_of(content), data_of(content)))


@every_loader
@pytest.mark.parametrize("options", [{}, {"annotate": False}, {"shard_size": 500}], ids=["tensors", "file", "shards"])
@pytest.mark.parametrize("change", TAMPERED)
def test_a_tampered_file_is_refused(
    model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, loader: str, options: dict[str, Any], change: str
) -> None:
    kind, tamper = TAMPERED[change]
    canonical(model)
    sentry.sign_model(model, key=key, **options)
    assert equal(sentry.load_model(model, trust=trust), tensors())
    before = (model / WEIGHTS).read_bytes()
    (model / WEIGHTS).write_bytes(tamper(before))
    # The library itself sees nothing wrong with it.
    assert safetensors.torch.load_file(model / WEIGHTS).keys()
    error = rejected(lambda: LOADERS[loader](model, trust=trust), sentry.ManifestError, "model_differs")
    assert {difference.kind for difference in error.differences} == {"changed_file" if options else kind}
    assert {difference.file for difference in error.differences} == {WEIGHTS}
    first = error.differences[0]
    assert first.expected and first.found and first.expected != first.found
    assert (error.artifact, error.expected, error.found) == (first.tensor or WEIGHTS, first.expected, first.found)


def test_swapped_tensors_are_both_named(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    canonical(model)
    sentry.sign_model(model, key=key)
    (model / WEIGHTS).write_bytes(tensor_swap_equal_shape((model / WEIGHTS).read_bytes()))
    error = rejected(lambda: sentry.load_model(model, trust=trust), sentry.ManifestError, "model_differs")
    assert {difference.tensor for difference in error.differences} == {"layer.0.weight", "layer.1.weight"}
    one, two = error.differences
    assert (one.expected, one.found) == (two.found, two.expected)
    assert "2 differences" in str(error)


@pytest.mark.parametrize("annotate", [True, False], ids=["tensors", "file"])
def test_whole_files_that_change_places_are_refused(sharded: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, annotate: bool) -> None:
    for name, content in (("b.safetensors", torch.ones(3)), ("a.safetensors", torch.zeros(3))):
        safetensors.torch.save_file({"a": content}, sharded / name)
    sentry.sign_model(sharded, key=key, annotate=annotate)
    (sharded / "a.safetensors").rename(sharded / "c.safetensors")
    (sharded / "b.safetensors").rename(sharded / "a.safetensors")
    (sharded / "c.safetensors").rename(sharded / "b.safetensors")
    error = rejected(lambda: sentry.load_model(sharded, trust=trust, weights=["a.safetensors"]), sentry.ManifestError, "model_differs")
    kind, artifact = ("changed_tensor", "a") if annotate else ("changed_file", "a.safetensors")
    assert (error.differences[0].kind, error.artifact) == (kind, artifact)


@every_loader
@pytest.mark.parametrize("annotate", [True, False], ids=["tensors", "file"])
def test_files_that_are_gone_or_are_no_files_are_refused(
    model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, loader: str, annotate: bool
) -> None:
    sentry.sign_model(model, key=key, annotate=annotate)
    file, aside = model / WEIGHTS, model.parent / "aside.safetensors"
    file.rename(aside)
    error = rejected(lambda: LOADERS[loader](model, trust=trust), sentry.ManifestError, "model_differs")
    assert [(difference.kind, difference.file) for difference in error.differences] == [("missing_file", WEIGHTS)]
    # The very file that was signed, but elsewhere.
    file.symlink_to(aside)
    rejected(lambda: LOADERS[loader](model, trust=trust), sentry.PathError, "symlink")
    file.unlink()
    # Whoever opened this would wait forever.
    os.mkfifo(file)
    rejected(lambda: LOADERS[loader](model, trust=trust), sentry.PathError, "special_file")
    file.unlink()
    file.mkdir()
    rejected(lambda: LOADERS[loader](model, trust=trust), sentry.PathError, "special_file")


def test_a_link_out_of_the_model_is_not_followed_though_links_are_allowed(
    model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey
) -> None:
    (model / "real.safetensors").write_bytes((model / WEIGHTS).read_bytes())
    (model / WEIGHTS).unlink()
    (model / WEIGHTS).symlink_to("real.safetensors")
    sentry.sign_model(model, key=key, allow_symlinks=True)
    assert equal(sentry.load_model(model, trust=trust), tensors())
    shutil.copy(model / "real.safetensors", model.parent / "outside.safetensors")
    (model / WEIGHTS).unlink()
    (model / WEIGHTS).symlink_to("../outside.safetensors")
    rejected(lambda: sentry.load_model(model, trust=trust), sentry.PathError, "symlink_escape")
    (model / WEIGHTS).unlink()
    (model / WEIGHTS).symlink_to(WEIGHTS)
    rejected(lambda: sentry.load_model(model, trust=trust), sentry.PathError, "symlink_cycle")


# -- signers who lie about their tensors -------------------------------------------------------------------------------


def resign(folder: Path, key: sentry.PrivateKey, lie: Callable[[dict[str, Any]], None]) -> None:
    """Sign again, after `lie` has changed the annotation of the weights."""
    path = folder / "model.sig"
    bundle = json.loads(path.read_text())
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    lie(next(item for item in statement["predicate"]["resources"] if item["name"] == WEIGHTS)["annotations"])
    payload, kind = json.dumps(statement).encode(), envelope["payloadType"].encode()
    private = load_pem_private_key(key.to_pem(), None)
    assert isinstance(private, EllipticCurvePrivateKey)
    signature = private.sign(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload), ECDSA(SHA256()))
    envelope["payload"], envelope["signatures"][0]["sig"] = (base64.b64encode(content).decode() for content in (payload, signature))
    path.write_text(json.dumps(bundle))


def listed(annotations: dict[str, Any], name: str) -> dict[str, Any]:
    """What the annotation says of one tensor."""
    found: dict[str, Any] = next(tensor for tensor in annotations[ANNOTATION]["tensors"] if tensor["name"] == name)
    return found


def swap_digests(annotations: dict[str, Any]) -> None:
    """Two tensors have each other's digest."""
    one, two = (listed(annotations, f"layer.{number}.weight") for number in (0, 1))
    one["digest"], two["digest"] = two["digest"], one["digest"]


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tensor_rename": lambda annotations: listed(annotations, "half").update(name="other"),
    "dtype_reinterpret_f16_bf16": lambda annotations: listed(annotations, "half").update(dtype="BF16"),
    "shape_transposed_same_bytes": lambda annotations: listed(annotations, "embedding.weight").update(shape=[16, 50]),
    "shape flattened": lambda annotations: listed(annotations, "embedding.weight").update(shape=[800]),
    "shape_product_overflow": lambda annotations: listed(annotations, "half").update(shape=[1 << 32, 1 << 32]),
    "tensor left out": lambda annotations: annotations[ANNOTATION]["tensors"].pop(),
    "tensor listed twice": lambda annotations: annotations[ANNOTATION]["tensors"].append(annotations[ANNOTATION]["tensors"][0]),
    "order changed": lambda annotations: annotations[ANNOTATION]["tensors"].reverse(),
    "no tensor at all": lambda annotations: annotations[ANNOTATION]["tensors"].clear(),
    "other algorithm": lambda annotations: annotations[ANNOTATION].update(algorithm="sha256"),
    "two annotations": lambda annotations: annotations.update({"sentry-ml.dev/blake3": "0" * 64}),
}


@every_loader
@pytest.mark.parametrize("lie", LIES)
def test_a_signature_that_contradicts_its_file_is_refused(
    signed: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, loader: str, lie: str
) -> None:
    resign(signed, key, lambda annotations: None)
    assert equal(sentry.load_model(signed, trust=trust), tensors())
    resign(signed, key, LIES[lie])
    rejected(lambda: LOADERS[loader](signed, trust=trust), sentry.EnvelopeError, "annotation_invalid")


@every_loader
def test_tensors_are_not_loaded_under_digests_of_others(
    signed: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, loader: str
) -> None:
    resign(signed, key, swap_digests)
    error = rejected(lambda: LOADERS[loader](signed, trust=trust), sentry.ManifestError, "model_differs")
    assert {difference.kind for difference in error.differences} == {"changed_tensor"}
    assert {difference.tensor for difference in error.differences} <= {"layer.0.weight", "layer.1.weight"}


@every_loader
def test_a_header_is_not_parsed_under_the_digest_of_another(
    signed: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, loader: str
) -> None:
    resign(signed, key, lambda annotations: annotations[ANNOTATION].update(header="0" * 64))
    error = rejected(lambda: LOADERS[loader](signed, trust=trust), sentry.ManifestError, "model_differs")
    assert (error.differences[0].kind, error.artifact, error.expected) == ("changed_header", WEIGHTS, "blake3:" + "0" * 64)


def test_a_signature_for_two_contents_loads_one_and_verifies_none(signed: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    """The digest of the file is of one content, those of the tensors of another. What was checked is said."""
    content, annotations = (signed / WEIGHTS).read_bytes(), {}
    resign(signed, key, annotations.update)
    flip(signed / WEIGHTS)
    sentry.sign_model(signed, key=key)
    resign(signed, key, lambda other: other.update(annotations))
    error = rejected(lambda: sentry.load_model(signed, trust=trust), sentry.ManifestError, "model_differs")
    assert error.differences[0].kind == "changed_tensor"
    error = rejected(lambda: sentry.verify_model(signed, trust=trust), sentry.ManifestError, "model_differs")
    assert error.differences[0].kind == "annotation_mismatch"
    (signed / WEIGHTS).write_bytes(content)
    assert sentry.load_model(signed, trust=trust).verification.checked_by == {WEIGHTS: "tensors"}
    rejected(lambda: sentry.verify_model(signed, trust=trust), sentry.ManifestError, "model_differs")


# -- an index that points outside -----------------------------------------------------------------------------------------

PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def weight_map(folder: Path) -> dict[str, str]:
    """The index's own content."""
    found: dict[str, str] = json.loads((folder / INDEX).read_text())["weight_map"]
    return found


def pointing(name: str) -> Callable[[dict[str, str]], object]:
    """One tensor lies in another file, the index says."""
    return lambda map: {"weight_map": {**map, "half": name}}


INDEXES: dict[str, Callable[[dict[str, str]], object]] = {
    "parent": pointing("../outside.safetensors"),
    "parent of a folder in the model": pointing("sub/../../outside.safetensors"),
    "back into the model": pointing(f"../sharded/{PARTS[1]}"),
    "absolute": pointing("/outside.safetensors"),
    "below": pointing("sub/inside.safetensors"),
    "here": pointing(f"./{PARTS[1]}"),
    "backslash": pointing("..\\outside.safetensors"),
    "nul": pointing(PARTS[1] + "\0.safetensors"),
    "unsigned": pointing("unsigned.safetensors"),
    "absent": pointing("absent.safetensors"),
    "pickle": pointing("pytorch_model.bin"),
    "link": pointing("link.safetensors"),
    "empty name": pointing(""),
    "no name": lambda map: {"weight_map": {**map, "half": 1}},
    "tensor in the other file": pointing(PARTS[0]),
    "tensor missing in the index": lambda map: {"weight_map": {name: file for name, file in map.items() if name != "half"}},
    "tensor that no file has": lambda map: {"weight_map": {**map, "ghost": PARTS[0]}},
    "no file": lambda map: {"weight_map": {}},
    "no map": lambda map: {"metadata": {}},
    "list": lambda map: [map],
    "map is a list": lambda map: {"weight_map": [list(map)]},
}


@pytest.mark.parametrize("index", INDEXES)
def test_an_index_that_points_elsewhere_is_refused(
    sharded: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, index: str, watch: Callable[[Path], Watch]
) -> None:
    (sharded / "sub").mkdir()
    (sharded / "sub/inside.safetensors").write_bytes((sharded / PARTS[1]).read_bytes())
    (sharded / "pytorch_model.bin").write_bytes(b"signed, and no safetensors file")
    (sharded / INDEX).write_text(json.dumps(INDEXES[index](weight_map(sharded))))
    sentry.sign_model(sharded, key=key)
    outside = sharded.parent / "outside.safetensors"
    shutil.copy(sharded / PARTS[1], outside)
    shutil.copy(sharded / PARTS[1], sharded / "unsigned.safetensors")
    (sharded / "link.safetensors").symlink_to(outside)
    parent, below, seen = watch(sharded.parent), watch(sharded / "sub"), watch(sharded)
    error = rejected(lambda: sentry.load_model(sharded, trust=trust), sentry.FormatError, "index_invalid")
    assert INDEX in str(error)
    assert seen.opened().keys() <= {"model.sig", INDEX, *PARTS}
    assert not below.opened() and outside.name not in parent.opened()


@pytest.mark.parametrize(
    "text",
    [
        *("", "weight_map", '{"weight_map":{},"weight_map":{}}'),
        '{"weight_map":{"a":"%s","a":"%s"}}' % PARTS,
        '{"weight_map":' + "[" * 99 + "]" * 99 + "}",
    ],
    ids=["empty", "no json", "map twice", "tensor twice", "depth bomb"],
)
def test_an_index_that_is_not_strict_json_is_refused(sharded: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, text: str) -> None:
    (sharded / INDEX).write_text(text)
    sentry.sign_model(sharded, key=key)
    rejected(lambda: sentry.load_model(sharded, trust=trust), sentry.FormatError, "index_invalid")


def test_an_index_is_verified_before_it_is_read(sharded: Path, trust: sentry.PublicKey, watch: Callable[[Path], Watch]) -> None:
    changed = {name: "../outside.safetensors" for name in weight_map(sharded)}
    (sharded / INDEX).write_text(json.dumps({"weight_map": changed}))
    seen = watch(sharded)
    error = rejected(lambda: sentry.load_model(sharded, trust=trust), sentry.ManifestError, "model_differs")
    assert (error.differences[0].kind, error.artifact) == ("changed_file", INDEX)
    assert seen.opened() == {"model.sig": 1, INDEX: 1}


def test_an_unsigned_index_counts_for_nothing(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, watch: Callable[[Path], Watch]) -> None:
    (model / WEIGHTS).rename(model / "other.safetensors")
    sentry.sign_model(model, key=key)
    (model / INDEX).write_text(json.dumps({"weight_map": {"a": "../outside.safetensors"}}))
    seen = watch(model)
    assert equal(sentry.load_model(model, trust=trust), tensors())
    assert seen.opened() == {"model.sig": 1, "other.safetensors": 1}


def test_an_unsigned_file_under_the_usual_name_does_not_take_precedence(
    sharded: Path, trust: sentry.PublicKey, watch: Callable[[Path], Watch]
) -> None:
    safetensors.torch.save_file({"evil": torch.ones(1)}, sharded / WEIGHTS)
    seen = watch(sharded)
    assert equal(sentry.load_model(sharded, trust=trust), tensors())
    assert WEIGHTS not in seen.opened()


def test_a_tensor_in_two_files_is_refused(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    safetensors.torch.save_file({"half": torch.ones(1)}, model / "other.safetensors")
    sentry.sign_model(model, key=key)
    error = rejected(
        lambda: sentry.load_model(model, trust=trust, weights=[WEIGHTS, "other.safetensors"]), sentry.ManifestError, "duplicate_tensor"
    )
    assert '"half"' in str(error)


def test_files_that_are_no_safetensors_are_never_weights(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    (model / WEIGHTS).rename(model / "weights.bin")
    sentry.sign_model(model, key=key)
    for options in ({}, {"weights": ["weights.bin"]}):
        with pytest.raises(sentry.UsageError) as caught:
            sentry.load_model(model, trust=trust, **options)
        assert caught.value.code == "weights_unclear"
    with pytest.raises(sentry.UsageError):
        sentry.safetensors.load_file(model / "weights.bin", trust=trust)


# -- pickles ------------------------------------------------------------------------------------------------------------


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (os.fspath(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What a bomb leaves behind. That bombs work is tried first."""
    mark = tmp_path / "exploded"
    pickle.loads(pickle.dumps(Bomb(mark)))
    mark.rmdir()
    return mark


def zipped(mark: Path, path: Path) -> None:
    """As torch saves today."""
    torch.save({"weight": torch.ones(3), "bomb": Bomb(mark)}, path)


def legacy(mark: Path, path: Path) -> None:
    """As torch saved until 1.6."""
    torch.save({"weight": torch.ones(3), "bomb": Bomb(mark)}, path, _use_new_zipfile_serialization=False)


def bare(mark: Path, path: Path) -> None:
    """A pickle, and nothing around it."""
    path.write_bytes(pickle.dumps(Bomb(mark), protocol=2))


PICKLES = {"zip": zipped, "legacy": legacy, "bare": bare}
every_pickle = pytest.mark.parametrize("form", PICKLES)


@every_pickle
@pytest.mark.parametrize("is_signed", [True, False], ids=["signed", "unsigned"])
def test_a_pickle_beside_safetensors_is_never_opened(
    model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, mark: Path, form: str, is_signed: bool, watch: Callable[[Path], Watch]
) -> None:
    if not is_signed:
        sentry.sign_model(model, key=key)
    names = ["pytorch_model.bin", "training_args.bin", "model.pt", "optimizer.pth", "pytorch_model.bin.index.json"]
    for name in names:
        PICKLES[form](mark, model / name)
    if is_signed:
        sentry.sign_model(model, key=key)
    seen = watch(model)
    for load in LOADERS.values():
        assert load(model, trust=trust).keys() == tensors().keys()
    assert seen.opened() == {"model.sig": len(LOADERS), WEIGHTS: len(LOADERS)}
    assert not mark.exists()


@every_pickle
@every_loader
@pytest.mark.parametrize("annotate", [True, False], ids=["before", "after"])
def test_a_pickle_under_the_name_of_the_weights_is_refused(
    model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, mark: Path, form: str, loader: str, annotate: bool
) -> None:
    """Put there before the model was signed, by a signer who does not look, or after."""
    if annotate:
        sentry.sign_model(model, key=key)
    PICKLES[form](mark, model / WEIGHTS)
    if not annotate:
        sentry.sign_model(model, key=key, annotate=False)
    # Read as the length of a header, what a pickle or an archive begins with is beyond all bounds.
    rejected(lambda: LOADERS[loader](model, trust=trust), sentry.LimitError, "safetensors_header_too_large")
    assert not mark.exists()


def test_a_pickle_inside_a_tensor_is_bytes(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, mark: Path) -> None:
    content = pickle.dumps(Bomb(mark))
    (model / WEIGHTS).write_bytes(raw({"a": entry("U8", [len(content)], 0, len(content))}, content))
    sentry.sign_model(model, key=key)
    for load in LOADERS.values():
        assert bytes(memoryview(load(model, trust=trust)["a"].__array__())) == content
    assert not mark.exists()


@every_pickle
def test_code_in_a_signed_checkpoint_is_not_run(
    tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, mark: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.pt"
    PICKLES[form](mark, file)
    sentry.sign_model(file, key=key)
    # By this torch lets whoever controls the environment decide, unless its caller does.
    for variable in (None, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        if variable:
            monkeypatch.setenv(variable, "1")
        with pytest.raises(pickle.UnpicklingError):
            sentry.torch.load(file, trust=trust)
        assert not mark.exists()
    with pytest.raises(RuntimeError, match="pickle_module"):
        sentry.torch.load(file, trust=trust, pickle_module=pickle)
    with pytest.raises(sentry.UsageError):
        sentry.torch.load(file, trust=trust, weights_only=False)
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:.*looks like a TorchScript archive")
def test_a_signed_program_is_not_loaded_as_a_checkpoint(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    file = tmp_path / "model.pt"
    torch.save({"weight": torch.ones(3)}, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(f"{file.stem}/constants.pkl", b"")
    sentry.sign_model(file, key=key)
    with pytest.raises(RuntimeError, match="TorchScript"):
        sentry.torch.load(file, trust=trust)


@every_pickle
@pytest.mark.parametrize("alone", [True, False], ids=["file", "folder"])
def test_a_tampered_checkpoint_never_reaches_torch(
    model: Path,
    key: sentry.PrivateKey,
    trust: sentry.PublicKey,
    mark: Path,
    form: str,
    alone: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = model / "model.pt"
    torch.save(tensors(), file)
    sentry.sign_model(file if alone else model, key=key)
    assert equal(sentry.torch.load(file, trust=trust), tensors())
    PICKLES[form](mark, file)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unverified bytes were unpickled"))
    error = rejected(lambda: sentry.torch.load(file, trust=trust), sentry.ManifestError, "model_differs")
    assert (error.differences[0].kind, error.artifact) == ("changed_file", "model.pt")
    assert error.expected != error.found and not mark.exists()


def test_a_checkpoint_that_is_a_link_or_a_pipe_is_refused(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    file, aside = model / "model.pt", model.parent / "aside.pt"
    torch.save(tensors(), file)
    sentry.sign_model(model, key=key)
    file.rename(aside)
    file.symlink_to(aside)
    rejected(lambda: sentry.torch.load(file, trust=trust), sentry.PathError, "symlink")
    file.unlink()
    os.mkfifo(file)
    rejected(lambda: sentry.torch.load(file, trust=trust), sentry.PathError, "special_file")
    file.unlink()
    error = rejected(lambda: sentry.torch.load(file, trust=trust), sentry.ManifestError, "model_differs")
    assert error.differences[0].kind == "missing_file"


def test_an_index_that_has_grown_is_refused_before_it_is_read(sharded: Path, trust: sentry.PublicKey) -> None:
    index = sharded / "model.safetensors.index.json"
    os.truncate(index, 6 << 30)
    error = rejected(lambda: sentry.load_model(sharded, trust=trust), sentry.FormatError, "index_invalid")
    assert "at most 100000000" in str(error)


def test_what_the_system_refuses_is_an_error_of_this_package(signed: Path, trust: sentry.PublicKey) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What other tests have left free between their files would be room as well.
    highest = max(int(number) for number in os.listdir("/proc/self/fd"))
    filling = [os.open("/", os.O_RDONLY)]
    while filling[-1] <= highest:
        filling.append(os.open("/", os.O_RDONLY))
    try:
        # Room for the model's folder and signature, and for little else.
        resource.setrlimit(resource.RLIMIT_NOFILE, (filling[-1] + 6, hard))
        with pytest.raises(sentry.NotCheckedError) as caught, sentry.verified_folder(signed, trust=trust):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in filling:
            os.close(descriptor)
    assert caught.value.code == "io"
