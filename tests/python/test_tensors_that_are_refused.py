"""Tensors and calls that are refused with advice, before anything is signed or verified; and what a failed signing leaves."""

from __future__ import annotations

import array
import ctypes
from collections.abc import Callable, ItemsView, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy
import pytest
import sentry
import torch
from conftest import Export, rejected
from torch._subclasses import FakeTensorMode

TWELVE = torch.arange(12.0).reshape(3, 4)


def freed() -> torch.Tensor:
    """A tensor whose memory was given back, as sharding libraries do."""
    tensor = torch.ones(1000)
    tensor.untyped_storage().resize_(0)
    return tensor


def cut() -> torch.Tensor:
    """A tensor that is longer than its memory."""
    tensor = torch.ones(1000)
    tensor.untyped_storage().resize_(8)
    return tensor


def in_a_transform(transform: Callable[..., Any]) -> Callable[[], torch.Tensor]:
    """A tensor as a function sees it that `torch.func` transforms: it stands for one that lies elsewhere."""

    def make() -> torch.Tensor:
        seen: list[torch.Tensor] = []
        transform(lambda tensor: (seen.append(tensor), tensor.sum())[1])(TWELVE)
        return seen[0]

    return make


def released() -> memoryview:
    """A view of memory that was let go."""
    view = memoryview(b"abc")
    view.release()
    return view


# How each is made, what it is called, and the advice.
REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "transposed": (lambda: TWELVE.T, "not contiguous", "tensor.contiguous()"),
    "stepped": (lambda: torch.arange(9)[::2], "not contiguous", "tensor.contiguous()"),
    "channels_last": (lambda: torch.ones(1, 3, 4, 4).to(memory_format=torch.channels_last), "not contiguous", "tensor.contiguous()"),
    "expanded": (lambda: torch.ones(1).expand(5), "not contiguous", "tensor.contiguous()"),
    "sparse": (lambda: TWELVE.to_sparse(), "sparse", "tensor.to_dense()"),
    "nested": (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged), "nested", "that it is made of"),
    "meta": (lambda: torch.empty(3, device="meta"), "on the meta device and has no bytes", "load the weights first"),
    "conjugated": (lambda: torch.ones(2, dtype=torch.complex64).conj(), "a lazy conjugate or negative", "tensor.resolve_conj()"),
    "negated": (lambda: torch._neg_view(torch.ones(2)), "a lazy conjugate or negative", "resolve_neg()"),
    "fake": (lambda: FakeTensorMode().from_tensor(torch.ones(3)), "a FakeTensor", "that it is made of"),
    "uninitialized": (lambda: torch.nn.LazyLinear(3).weight, "not initialized", "load the weights first"),
    "freed": (freed, "without memory for all of its elements", "gather its shards"),
    "cut": (cut, "without memory for all of its elements", "gather its shards"),
    "vmapped": (in_a_transform(torch.vmap), "without memory for all of its elements", "leave the transform"),
    "complex128": (lambda: torch.ones(2, dtype=torch.complex128), "of the type torch.complex128", "convert it"),
    "two_halves_of_a_byte": (lambda: torch.zeros(2, dtype=torch.float4_e2m1fn_x2), "of the type torch.float4_e2m1fn_x2", "convert it"),
    "numpy_fortran": (lambda: numpy.ones((2, 3), order="F"), "not contiguous", "numpy.ascontiguousarray"),
    "numpy_reversed": (lambda: numpy.arange(4)[::-1], "not contiguous", "numpy.ascontiguousarray"),
    "numpy_broadcast": (lambda: numpy.broadcast_to(numpy.float32(1), (4,)), "not contiguous", "numpy.ascontiguousarray"),
    "numpy_big_endian": (lambda: numpy.arange(3, dtype=">i4"), "big-endian", "newbyteorder"),
    "numpy_masked": (lambda: numpy.ma.array([1, 2], mask=[False, True]), "masked", "array.filled()"),
    "numpy_complex128": (lambda: numpy.zeros(2, "c16"), "of the type complex128", "convert it"),
    "numpy_float128": (lambda: numpy.zeros(2, "g"), "of the type float128", "convert it"),
    "numpy_text": (lambda: numpy.array(["a"]), "of the type <U1", "convert it"),
    "numpy_objects": (lambda: numpy.array([None]), "of the type object", "convert it"),
    "numpy_times": (lambda: numpy.zeros(2, "M8[ns]"), "of the type datetime64[ns]", "convert it"),
    "numpy_records": (lambda: numpy.zeros(2, "i4,f4"), "of the type [('f0'", "convert it"),
    "ml_dtypes_int4": (lambda: numpy.zeros(2, ml_dtypes.int4), "of the type int4", "convert it"),
    "ml_dtypes_float8_e4m3": (lambda: numpy.zeros(2, ml_dtypes.float8_e4m3), "of the type float8_e4m3", "convert it"),
    "dlpack_transposed": (lambda: Export(TWELVE.T), "not contiguous", "numpy.ascontiguousarray"),
    "dlpack_bfloat16": (lambda: Export(TWELVE.bfloat16()), "a Export", "Unsupported dtype"),
    "memoryview_stepped": (lambda: memoryview(b"abcd")[::2], "not contiguous", "numpy.ascontiguousarray"),
    "memoryview_released": (released, "a memoryview", "released memoryview"),
    "ctypes_big_endian": (lambda: (ctypes.c_int32.__ctype_be__ * 3)(), "big-endian", "newbyteorder"),
    "array_of_text": (lambda: array.array("u", "ab"), "of the type <U1", "convert it"),
    "float": (lambda: 3.5, "a float", "neither by DLPack nor as a buffer"),
    "list": (lambda: [1.0, 2.0], "a list", "neither by DLPack nor as a buffer"),
    "string": (lambda: "weights", "a str", "neither by DLPack nor as a buffer"),
    "nothing": (lambda: None, "a NoneType", "neither by DLPack nor as a buffer"),
    "mapping": (lambda: {"weight": torch.ones(1)}, "a dict", "neither by DLPack nor as a buffer"),
}


@pytest.fixture
def ones(tmp_path: Path, key: sentry.PrivateKey) -> Path:
    """The signature of a tensor "x" of two ones."""
    sentry.sign_model({"x": torch.ones(2)}, key=key, signature=tmp_path / "ones.sig")
    return tmp_path / "ones.sig"


@pytest.mark.parametrize("refused", REFUSED)
def test_a_tensor_without_plain_bytes(ones: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, refused: str) -> None:
    make, what, advice = REFUSED[refused]
    # A good tensor before it and another after it change nothing.
    model = {"a": torch.ones(2), "the one": make(), "z": torch.ones(2)}
    before = ones.read_bytes()
    for call in (
        lambda: sentry.sign_model(model, key=key, signature=ones.with_name("new.sig")),
        lambda: sentry.sign_model(model, key=key, signature=ones),
        lambda: sentry.verify_model(model, ones, trust=trust),
    ):
        with pytest.raises(sentry.UsageError) as caught:
            call()
        assert caught.value.code == "unsupported_tensor"
        assert '"the one" is ' + what in str(caught.value) and advice in str(caught.value)
    assert [path.name for path in ones.parent.iterdir()] == ["ones.sig"] and ones.read_bytes() == before


def test_a_module_with_such_a_tensor(ones: Path, trust: sentry.PublicKey) -> None:
    for module in (torch.nn.LazyLinear(3), torch.nn.Linear(2, 2, device="meta")):
        with pytest.raises(sentry.UsageError, match='tensor "weight" is ') as caught:
            sentry.verify_model(module, ones, trust=trust)
        assert caught.value.code == "unsupported_tensor"
    module = torch.nn.Module()
    module.register_buffer("hidden", torch.arange(9)[::2], persistent=False)
    with pytest.raises(sentry.UsageError, match='tensor "hidden" is not contiguous'):
        sentry.verify_model(module, ones, trust=trust)


class WithExtraState(torch.nn.Linear):
    """A layer whose state has more than tensors."""

    def get_extra_state(self) -> Any:
        return {"steps": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_state_that_is_no_tensor(ones: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    module = torch.nn.Sequential(WithExtraState(2, 2))
    for call in (
        lambda: sentry.sign_model(module, key=key, signature=ones.with_name("new.sig")),
        lambda: sentry.verify_model(module, ones, trust=trust),
    ):
        with pytest.raises(sentry.UsageError, match='extra state "0._extra_state"'):
            call()
    assert not ones.with_name("new.sig").exists()


@pytest.mark.parametrize("name", [1, None, b"x", ("x",), "\ud800"], ids=repr)
def test_a_name_that_is_no_text(ones: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, name: Any) -> None:
    model = {"x": torch.ones(2), name: torch.ones(2)}
    with pytest.raises(sentry.UsageError, match="name"):
        sentry.sign_model(model, key=key, signature=ones.with_name("new.sig"))
    with pytest.raises(sentry.UsageError, match="name"):
        sentry.verify_model(model, ones, trust=trust)
    assert not ones.with_name("new.sig").exists()


def test_a_name_cannot_write_on_the_terminal(ones: Path, trust: sentry.PublicKey) -> None:
    name = "\x1b[2J\nverified\r"
    for tensor in (TWELVE.T, numpy.ones((2, 3)).T, None):
        with pytest.raises(sentry.UsageError) as caught:
            sentry.verify_model({name: tensor}, ones, trust=trust)
        assert str(caught.value).isprintable()
    error = rejected(lambda: sentry.verify_model({"x": torch.ones(2), "\x1b[2J\n": TWELVE}, ones, trust=trust), sentry.ManifestError, "model_differs")
    assert error.artifact == "\x1b[2J\n" and str(error).isprintable()


@pytest.mark.parametrize("model", [None, 3, b"model", [("x", torch.ones(2))], torch.ones(2), object()], ids=lambda model: type(model).__name__)
def test_what_is_no_model(ones: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, model: Any) -> None:
    with pytest.raises(sentry.UsageError, match=f"this is a {type(model).__name__}"):
        sentry.sign_model(model, key=key, signature=ones.with_name("new.sig"))
    with pytest.raises(sentry.UsageError, match=f"this is a {type(model).__name__}"):
        sentry.verify_model(model, ones, trust=trust)


class Twice(Mapping[str, torch.Tensor]):
    """A mapping that names one tensor twice, the right one first."""

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.ones(2)

    def __iter__(self) -> Iterator[str]:
        return iter(["x", "x"])

    def __len__(self) -> int:
        return 2

    def items(self) -> ItemsView[str, torch.Tensor]:
        return [("x", torch.ones(2)), ("x", torch.zeros(2))]  # type: ignore[return-value]


# What cannot be signed although each tensor could be hashed, and the code.
UNSIGNABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "no_tensors": (dict, "list_count"),
    "module_without_tensors": (torch.nn.ReLU, "list_count"),
    "empty_name": (lambda: {"": torch.ones(2)}, "list_text"),
    "name_too_long": (lambda: {"x" * 4097: torch.ones(2)}, "list_text"),
    "too_many_dimensions": (lambda: {"x": torch.ones([1] * 65)}, "list_shape"),
    "name_twice": (Twice, "duplicate_tensor"),
}


@pytest.mark.parametrize("case", UNSIGNABLE)
def test_a_failed_signing_leaves_what_was_there(ones: Path, key: sentry.PrivateKey, case: str) -> None:
    make, code = UNSIGNABLE[case]
    before = ones.read_bytes()
    for signature in (ones, ones.with_name("new.sig")):
        with pytest.raises(sentry.Error) as caught:
            sentry.sign_model(make(), key=key, signature=signature)
        assert (type(caught.value), caught.value.code) == (sentry.SigningError, code)
    assert [path.name for path in ones.parent.iterdir()] == ["ones.sig"] and ones.read_bytes() == before


def test_a_tensor_named_twice_does_not_verify_by_one_of_them(ones: Path, trust: sentry.PublicKey) -> None:
    rejected(lambda: sentry.verify_model(Twice(), ones, trust=trust), sentry.ManifestError, "duplicate_tensor")


def test_a_place_that_no_signature_can_take(tmp_path: Path, key: sentry.PrivateKey) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    (tmp_path / "folder").mkdir()
    for taken in (config, tmp_path / "folder"):
        with pytest.raises(sentry.UsageError) as caught:
            sentry.sign_model({"x": torch.ones(2)}, key=key, signature=taken)
        assert caught.value.code == "would_overwrite"
    for nowhere in (tmp_path / "no" / "x.sig", config / "x.sig"):
        with pytest.raises(sentry.SigningError) as unwritten:
            sentry.sign_model({"x": torch.ones(2)}, key=key, signature=nowhere)
        assert unwritten.value.code == "io"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "folder"] and config.read_text() == "{}"


def test_options_that_make_no_sense(ones: Path, signed: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    model, new = {"x": torch.ones(2)}, ones.with_name("new.sig")
    for call in (
        lambda: sentry.sign_model(model, key=key),
        lambda: sentry.sign_model(model, key=key, signature=new, hash="sha256"),
        lambda: sentry.sign_model(model, key=key, signature=new, hash="md5"),
        lambda: sentry.sign_model(model, key=key, signature=new, version=1 << 53),
        lambda: sentry.sign_model(model, key=key, signature=new, ignore=["x"]),
        lambda: sentry.sign_model(model, key=key, signature=new, allow_symlinks=True),
        lambda: sentry.sign_model(model, key=key, signature=new, shard_size=1000),
        lambda: sentry.sign_model(model, key=key, signature=new, annotate=False),
        lambda: sentry.sign_model(signed, key=key, signature=new, subject="model"),
        lambda: sentry.verify_model(model, trust=trust),
        lambda: sentry.verify_model(model, ones, trust=trust, ignore=["x"]),
        lambda: sentry.verify_model(model, ones, trust=trust, allow_unsigned_files=True),
        lambda: sentry.verify_model(model, ones, trust=trust, allow_missing="x"),
        lambda: sentry.verify_model(model, ones, trust=trust, weights=["model.safetensors"]),
        lambda: sentry.verify_model(model, ones, trust=trust, device="gpu"),
        lambda: sentry.verify_model(model, ones, trust=trust, device="cuda:-1"),
        lambda: sentry.verify_model(model, ones, trust=trust, device=0),  # type: ignore[arg-type]
        lambda: sentry.verify_model(model, ones, trust=trust, share=0),
        lambda: sentry.verify_model(model, ones, trust=trust, share=1.5),
        lambda: sentry.verify_model(model, ones, trust=trust, share=0.5, device="cpu"),
        lambda: sentry.verify_model(signed, trust=trust, device="cuda"),
        lambda: sentry.verify_model(signed, trust=trust, share=0.5),
        lambda: sentry.sign_model(model, key=key, signature=new, device="gpu"),
        lambda: sentry.sign_model(signed, key=key, signature=new, device="cuda"),
        lambda: sentry.verify_model(signed, trust=trust, allow_missing=["scalar"]),
        lambda: sentry.verify_model(signed, trust=trust, weights=["model.safetensors"]),
    ):
        with pytest.raises(sentry.UsageError) as caught:
            call()
        assert caught.value.code == "usage"
    assert not new.exists()


def test_nobody_is_trusted_for_tensors_by_default(ones: Path) -> None:
    with pytest.raises(TypeError):
        sentry.verify_model({"x": torch.ones(2)}, ones)  # type: ignore[call-arg]
    for nobody in (None, True, "sentry.pub", object()):
        with pytest.raises(sentry.UsageError, match="say whom you trust"):
            sentry.verify_model({"x": torch.ones(2)}, ones, trust=nobody)  # type: ignore[arg-type]
