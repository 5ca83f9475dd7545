"""Models in memory are signed and verified: modules and mappings of every kind of tensor, wherever the program runs."""

from __future__ import annotations

import array
import base64
import ctypes
import json
import shutil
import sys
import threading
from collections.abc import ItemsView, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import blake3
import ml_dtypes
import numpy
import pytest
import sentry
import torch
from conftest import Export, different, module_of, rejected, sign_file, state, tensors

# Every type that can be signed: what torch and numpy call it.
TYPES = {
    "BOOL": (torch.bool, numpy.bool_),
    "U8": (torch.uint8, numpy.uint8),
    "I8": (torch.int8, numpy.int8),
    "U16": (torch.uint16, numpy.uint16),
    "I16": (torch.int16, numpy.int16),
    "U32": (torch.uint32, numpy.uint32),
    "I32": (torch.int32, numpy.int32),
    "U64": (torch.uint64, numpy.uint64),
    "I64": (torch.int64, numpy.int64),
    "F16": (torch.float16, numpy.float16),
    "BF16": (torch.bfloat16, ml_dtypes.bfloat16),
    "F32": (torch.float32, numpy.float32),
    "F64": (torch.float64, numpy.float64),
    "C64": (torch.complex64, numpy.complex64),
    "F8_E4M3": (torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn),
    "F8_E4M3FNUZ": (torch.float8_e4m3fnuz, ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2": (torch.float8_e5m2, ml_dtypes.float8_e5m2),
    "F8_E5M2FNUZ": (torch.float8_e5m2fnuz, ml_dtypes.float8_e5m2fnuz),
    "F8_E8M0": (torch.float8_e8m0fnu, ml_dtypes.float8_e8m0fnu),
}


def statement(signature: Path) -> Any:
    """What a signature says, read without Sentry."""
    return json.loads(base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"]))


def blake3_of(tensor: torch.Tensor) -> str:
    """A tensor's digest, by another implementation."""
    return blake3.blake3(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def test_a_module_is_signed_tensor_by_tensor(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    path = tmp_path / "module.sig"
    signature = sentry.sign_model(module_of(state()), key=key, signature=path, subject="small", version=7)
    nbytes = sum(tensor.nbytes for tensor in state().values())
    assert (Path(signature.path), signature.subject, signature.version, signature.notes) == (path, "small", 7, [])
    assert (signature.files, signature.tensors, signature.bytes) == (0, 14, nbytes)
    stated = statement(path)
    assert stated["predicateType"] == "https://sentry-ml.dev/tensors/v1" and stated["subject"][0]["name"] == "small"
    assert stated["predicate"]["algorithm"] == "blake3"
    listed = [(tensor["name"], tensor["shape"], tensor["digest"]) for tensor in stated["predicate"]["tensors"]]
    assert listed == [(name, list(tensor.shape), blake3_of(tensor)) for name, tensor in sorted(state().items())]

    verification = sentry.verify_model(module_of(state()), path, trust=trust)
    assert (verification.subject, verification.version, verification.fingerprint) == ("small", 7, trust.fingerprint)
    assert (verification.files, verification.tensors, verification.bytes) == (0, 14, nbytes)
    assert verification.checked_by == {} and verification.unsigned_files == []


def test_the_subject_is_the_class_unless_it_is_given(tmp_path: Path, key: sentry.PrivateKey) -> None:
    path = tmp_path / "s.sig"
    linear = torch.nn.Linear(2, 2)
    models = {"Linear": (linear, torch.compile(linear)), "OrderedDict": (linear.state_dict(),), "dict": ({"x": torch.ones(1)},)}
    for subject, model in ((subject, model) for subject, alike in models.items() for model in alike):
        signature = sentry.sign_model(model, key=key, signature=path)
        assert (signature.subject, signature.version) == (subject, None)


@pytest.mark.parametrize("dtype", TYPES)
def test_torch_and_numpy_state_the_same(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, dtype: str) -> None:
    kind, of_numpy = TYPES[dtype]
    # 0 and 1 are bytes that every type has, bool too.
    content = bytes(i * i % 7 % 2 for i in range(48))
    of_torch = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(kind)
    array_of_it = numpy.frombuffer(content, of_numpy)
    one, other = tmp_path / "torch.sig", tmp_path / "numpy.sig"
    sentry.sign_model({"x": of_torch, "scalar": of_torch[0]}, key=key, signature=one)
    sentry.sign_model({"x": array_of_it, "scalar": array_of_it[0]}, key=key, signature=other)
    assert statement(one) == statement(other)
    assert [tensor["dtype"] for tensor in statement(one)["predicate"]["tensors"]] == [dtype, dtype]
    assert statement(one)["predicate"]["tensors"][1]["digest"] == blake3.blake3(content).hexdigest()
    # In a file it is the same tensor as well.
    in_file = sign_file({"x": of_torch, "scalar": of_torch[0].clone()}, tmp_path / "model", key)
    for signature in (one, other, in_file):
        assert sentry.verify_model({"x": array_of_it, "scalar": array_of_it[0]}, signature, trust=trust).tensors == 2


def test_tensors_of_any_library_and_buffers(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    path, values = tmp_path / "x.sig", [1.5, -2.0, 0.0]
    sentry.sign_model({"x": torch.tensor(values)}, key=key, signature=path)
    packed = array.array("f", values)
    same = {
        "numpy": numpy.array(values, "f"),
        "read-only numpy": numpy.frombuffer(packed.tobytes(), "f"),
        "DLPack of torch": Export(torch.tensor(values)),
        "DLPack of numpy": Export(numpy.array(values, "f")),
        "array": packed,
        "memoryview": memoryview(packed),
        "memoryview of bytes": memoryview(packed.tobytes()).cast("f"),
        "ctypes": (ctypes.c_float * 3)(*values),
        "parameter": torch.nn.Parameter(torch.tensor(values)),
        "part of a tensor": torch.tensor([9.0, *values, 9.0])[1:4],
        "result of a computation": torch.tensor(values, requires_grad=True) * 1,
    }
    for what, tensor in same.items():
        assert sentry.verify_model({"x": tensor}, path, trust=trust).tensors == 1, what
    # A plain run of bytes states bytes, whatever they mean.
    for plain in (packed.tobytes(), bytearray(packed.tobytes())):
        error = rejected(lambda: sentry.verify_model({"x": plain}, path, trust=trust), sentry.ManifestError, "model_differs")
        assert (different(error), error.expected, error.found) == ([("changed_type", "x")], "F32", "U8")
        sentry.sign_model({"x": plain}, key=key, signature=tmp_path / "plain.sig")
        assert sentry.verify_model({"x": numpy.frombuffer(plain, "u1")}, tmp_path / "plain.sig", trust=trust).bytes == 12


def test_0d_and_empty_tensors_and_names_of_all_kinds(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    model = {
        "0d": torch.tensor(3),
        "numpy 0d": numpy.float16(2),
        "empty": torch.empty(0),
        "empty too": numpy.empty((3, 0, 2)),
        "no bytes": b"",
        "ones": torch.ones(4, 1).expand(4, 1),
        "64 dimensions": torch.ones([1] * 64),
        "größe/∑\n\x00": torch.ones(2),
        "x" * 4096: torch.zeros(1),
    }
    path = tmp_path / "x.sig"
    assert sentry.sign_model(MappingProxyType(model), key=key, signature=path).tensors == 9
    assert sentry.verify_model(model, path, trust=trust).tensors == 9
    shapes = {tensor["name"]: tensor["shape"] for tensor in statement(path)["predicate"]["tensors"]}
    assert (shapes["0d"], shapes["numpy 0d"], shapes["empty"], shapes["empty too"]) == ([], [], [0], [3, 0, 2])


def test_the_tree_over_sha256(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    path = tmp_path / "tree.sig"
    sentry.sign_model(module_of(state()), key=key, signature=path, hash="sha256-tree")
    assert statement(path)["predicate"]["algorithm"] == "sha256-tree"
    assert sentry.verify_model(module_of(state()), path, trust=trust).tensors == 14
    spoilt = state() | {"scalar": torch.tensor(3.25, dtype=torch.float64)}
    error = rejected(lambda: sentry.verify_model(spoilt, path, trust=trust), sentry.ManifestError, "model_differs")
    assert error.artifact == "scalar" and str(error.expected).startswith("sha256-tree:") and str(error.found).startswith("sha256-tree:")


def test_a_second_signature_replaces_the_first(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    path = tmp_path / "x.sig"
    for value in (1, 2):
        sentry.sign_model({"x": torch.tensor(value)}, key=key, signature=path, version=value)
    assert sentry.verify_model({"x": torch.tensor(2)}, path, trust=trust).version == 2
    rejected(lambda: sentry.verify_model({"x": torch.tensor(1)}, path, trust=trust), sentry.ManifestError, "model_differs")
    assert [file.name for file in tmp_path.iterdir()] == ["x.sig"]


@pytest.mark.parametrize("gone", [False, True], ids=["elsewhere", "in_a_folder_that_is_gone"])
def test_the_working_directory_and_the_arguments_mean_nothing(
    signed: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.sig").write_text("not the signature")
    shutil.copy(signed / "model.safetensors", elsewhere)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(sys, "argv", ["sentry", "--key", "nonsense", "--help", "\udc80"])
    if gone:
        shutil.rmtree(elsewhere)
    module = {"x": torch.ones(2)}
    sentry.sign_model(module, key=key, signature=tmp_path / "x.sig")
    assert sentry.verify_model(module, tmp_path / "x.sig", trust=trust).tensors == 1
    sentry.sign_model(signed, key=key)
    assert sentry.verify_model(signed, trust=trust).files == 2
    assert sentry.verify_model(tensors(), signed / "model.sig", trust=trust).tensors == 12
    assert len(sentry.load_model(signed, trust=trust)) == 12
    if not gone:
        assert sorted(path.name for path in elsewhere.iterdir()) == ["model.safetensors", "model.sig"]


class Counted(Mapping[str, numpy.ndarray]):
    """A large tensor that notes how far a counter was when the last of its tensors had been handed out."""

    def __init__(self, counter: list[int]) -> None:
        self.counter = counter
        self.before = -1
        self.large = numpy.zeros(1 << 28, numpy.uint8)

    def __getitem__(self, name: str) -> numpy.ndarray:
        return self.large

    def __iter__(self) -> Iterator[str]:
        yield "large"

    def __len__(self) -> int:
        return 1

    def items(self) -> ItemsView[str, numpy.ndarray]:
        def both() -> Iterator[tuple[str, numpy.ndarray]]:
            yield "large", self.large
            self.before = len(self.counter)

        return both()  # type: ignore[return-value]


def test_other_threads_run_while_tensors_are_hashed(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    counter: list[int] = []
    model, done = Counted(counter), threading.Event()

    def count() -> None:
        while not done.wait(0.0001):
            counter.append(1)

    interval = sys.getswitchinterval()
    thread = threading.Thread(target=count)
    # Python takes the lock from nobody meanwhile: the other thread runs only where this one lets go of it.
    sys.setswitchinterval(1000)
    try:
        thread.start()
        for call in (
            lambda: sentry.sign_model(model, key=key, signature=tmp_path / "large.sig", hash="sha256-tree"),
            lambda: sentry.verify_model(model, tmp_path / "large.sig", trust=trust),
        ):
            model.before = -1
            call()
            after = len(counter)
            assert 0 <= model.before < after
    finally:
        done.set()
        sys.setswitchinterval(interval)
        thread.join()
