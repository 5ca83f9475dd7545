"""Models that are not the signed one any more when they are in memory: each difference by its kind, name, and both values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import blake3
import pytest
import sentry
import torch
from conftest import different, module_of, rejected, state
from safetensors.torch import load_file, save_file

State = dict[str, torch.Tensor]

# safetensors' names of the types that are mixed up here.
DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int64: "I64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


def raw(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor's bytes, which can be written to."""
    return tensor.view(-1).view(torch.uint8)


def flipped(name: str, at: int, bit: int = 0) -> Callable[[State], None]:
    """Flips one bit of a tensor."""

    def spoil(model: State) -> None:
        model[name] = model[name].clone()
        raw(model[name])[at] ^= 1 << bit

    return spoil


def swapped(one: str, other: str) -> Callable[[State], None]:
    """Exchanges two tensors."""

    def spoil(model: State) -> None:
        model[one], model[other] = model[other], model[one]

    return spoil


def renamed(old: str, new: str) -> Callable[[State], None]:
    """Gives a tensor another name."""

    def spoil(model: State) -> None:
        model[new] = model.pop(old)

    return spoil


def replaced(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[State], None]:
    """Makes another tensor of one."""

    def spoil(model: State) -> None:
        model[name] = change(model[name])

    return spoil


def added(name: str, tensor: torch.Tensor) -> Callable[[State], None]:
    """Adds a tensor."""
    return lambda model: model.update({name: tensor})


# What happens to a model, and the kind and tensor of each difference.
SPOILT: dict[str, tuple[Callable[[State], object], list[tuple[str, str]]]] = {
    "first_bit_flipped": (flipped("embedding.weight", 0), [("changed_tensor", "embedding.weight")]),
    "middle_bit_flipped": (flipped("embedding.weight", 1600, 4), [("changed_tensor", "embedding.weight")]),
    "last_bit_flipped": (flipped("embedding.weight", -1, 7), [("changed_tensor", "embedding.weight")]),
    "bool_flipped": (flipped("mask", 20), [("changed_tensor", "mask")]),
    "integer_flipped": (flipped("steps", 8), [("changed_tensor", "steps")]),
    "scalar_flipped": (flipped("scalar", 7, 7), [("changed_tensor", "scalar")]),
    "half_flipped": (flipped("halves", 32), [("changed_tensor", "halves")]),
    "bfloat16_flipped": (flipped("brain", 33), [("changed_tensor", "brain")]),
    "float8_flipped": (flipped("eighth", 3), [("changed_tensor", "eighth")]),
    "sign_of_zero": (replaced("scalar", lambda tensor: tensor * -0.0), [("changed_tensor", "scalar")]),
    "weights_swapped": (swapped("layer.0.weight", "layer.1.weight"), [("changed_tensor", "layer.0.weight"), ("changed_tensor", "layer.1.weight")]),
    "biases_swapped": (swapped("layer.0.bias", "layer.1.bias"), [("changed_tensor", "layer.0.bias"), ("changed_tensor", "layer.1.bias")]),
    "renamed": (renamed("layer.0.bias", "layer.0.beta"), [("unsigned_tensor", "layer.0.beta"), ("missing_tensor", "layer.0.bias")]),
    "case_changed": (renamed("scalar", "Scalar"), [("unsigned_tensor", "Scalar"), ("missing_tensor", "scalar")]),
    "f16_read_as_bf16": (replaced("halves", lambda tensor: tensor.view(torch.bfloat16)), [("changed_type", "halves")]),
    "bf16_read_as_f16": (replaced("brain", lambda tensor: tensor.view(torch.float16)), [("changed_type", "brain")]),
    "f16_cast_to_bf16": (replaced("halves", lambda tensor: tensor.bfloat16()), [("changed_type", "halves")]),
    "bf16_cast_to_f16": (replaced("brain", lambda tensor: tensor.half()), [("changed_type", "brain")]),
    "bf16_cast_to_f32": (replaced("brain", lambda tensor: tensor.float()), [("changed_type", "brain")]),
    "f8_read_as_another": (replaced("eighth", lambda tensor: tensor.view(torch.float8_e5m2)), [("changed_type", "eighth")]),
    "integers_read_as_floats": (replaced("steps", lambda tensor: tensor.view(torch.float64)), [("changed_type", "steps")]),
    "bool_read_as_bytes": (replaced("mask", lambda tensor: tensor.view(torch.uint8)), [("changed_type", "mask")]),
    "parameter_added": (added("layer.2.weight", torch.ones(3)), [("unsigned_tensor", "layer.2.weight")]),
    "buffer_added": (added("counter", torch.tensor(1)), [("unsigned_tensor", "counter")]),
    "empty_parameter_added": (added("ghost", torch.empty(0)), [("unsigned_tensor", "ghost")]),
    "copy_of_a_parameter_added": (lambda model: model.update({"copy": model["scalar"].clone()}), [("unsigned_tensor", "copy")]),
    "parameter_removed": (lambda model: model.pop("layer.1.weight"), [("missing_tensor", "layer.1.weight")]),
    "empty_parameter_removed": (lambda model: model.pop("empty"), [("missing_tensor", "empty")]),
    "shape_transposed": (replaced("embedding.weight", lambda tensor: tensor.reshape(16, 50)), [("changed_shape", "embedding.weight")]),
    "scalar_made_a_vector": (replaced("scalar", lambda tensor: tensor.reshape(1)), [("changed_shape", "scalar")]),
    "empty_transposed": (replaced("empty", lambda tensor: tensor.reshape(4, 0)), [("changed_shape", "empty")]),
    "truncated": (replaced("layer.0.bias", lambda tensor: tensor[:-1].clone()), [("changed_shape", "layer.0.bias")]),
    "extended_by_zeroes": (
        replaced("layer.0.bias", lambda tensor: torch.cat([tensor, torch.zeros(1)])),
        [("changed_shape", "layer.0.bias")],
    ),
    "several_at_once": (
        lambda model: (flipped("steps", 0)(model), renamed("bytes", "bites")(model), model.pop("mask")),
        [("unsigned_tensor", "bites"), ("changed_tensor", "steps"), ("missing_tensor", "bytes"), ("missing_tensor", "mask")],
    ),
}


def stated(kind: str, tensor: torch.Tensor) -> str:
    """What a difference of a kind says of a tensor, as it was signed or as it is."""
    if kind == "changed_type":
        return DTYPES[tensor.dtype]
    if kind == "changed_shape":
        return str(list(tensor.shape))
    return "blake3:" + blake3.blake3(raw(tensor.detach().contiguous()).numpy().tobytes()).hexdigest()


Route = Callable[[Path, sentry.PrivateKey, State], tuple[torch.nn.Module, Path]]


def signed_path_loaded_module(folder: Path, key: sentry.PrivateKey, spoilt: State) -> tuple[torch.nn.Module, Path]:
    """A folder is signed; what was loaded from it is spoilt in memory."""
    save_file(state(), folder / "model.safetensors")
    sentry.sign_model(folder, key=key)
    return module_of(spoilt), folder / "model.sig"


def signed_module_saved_by_safetensors(folder: Path, key: sentry.PrivateKey, spoilt: State) -> tuple[torch.nn.Module, Path]:
    """A module is signed; it is spoilt in the safetensors file to which it was saved."""
    signature = folder / "module.sig"
    sentry.sign_model(module_of(state()), key=key, signature=signature)
    save_file(module_of(spoilt).state_dict(), folder / "saved.safetensors")
    return module_of(load_file(folder / "saved.safetensors")), signature


def signed_module_saved_by_torch(folder: Path, key: sentry.PrivateKey, spoilt: State) -> tuple[torch.nn.Module, Path]:
    """A module is signed; it is spoilt in the file to which torch saved it."""
    signature = folder / "module.sig"
    sentry.sign_model(module_of(state()), key=key, signature=signature)
    torch.save(module_of(spoilt).state_dict(), folder / "saved.pt")
    return module_of(torch.load(folder / "saved.pt", weights_only=True)), signature


ROUTES: list[Route] = [signed_path_loaded_module, signed_module_saved_by_safetensors, signed_module_saved_by_torch]


@pytest.mark.parametrize("route", ROUTES)
def test_a_model_that_nobody_spoilt_verifies(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, route: Route) -> None:
    module, signature = route(tmp_path, key, state())
    verification = sentry.verify_model(module, signature, trust=trust)
    assert (verification.tensors, verification.bytes) == (14, sum(tensor.nbytes for tensor in state().values()))
    assert verification.aliases == verification.not_covered == verification.missing == []
    assert sentry.verify_model(module.state_dict(), signature, trust=trust).tensors == 14


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("route", ROUTES)
def test_a_spoilt_model_is_rejected(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, route: Route, spoilt: str) -> None:
    spoil, wrong = SPOILT[spoilt]
    before, after = state(), state()
    spoil(after)
    module, signature = route(tmp_path, key, after)
    for model in (module, module.state_dict()):
        error = rejected(lambda: sentry.verify_model(model, signature, trust=trust), sentry.ManifestError, "model_differs")
        assert different(error) == wrong
        for difference, (kind, name) in zip(error.differences, wrong, strict=True):
            both = kind.startswith("changed")
            assert difference.expected == (stated(kind, before[name]) if both else None)
            assert difference.found == (stated(kind, after[name]) if both else None)
            assert (difference.file, difference.shard) == (None, None)
            assert f'tensor "{name}"' in difference.message and difference.message in str(error)
        first = error.differences[0]
        assert (error.artifact, error.expected, error.found) == (first.tensor, first.expected, first.found)


@pytest.mark.parametrize("loaded_as", [torch.float32, torch.float16])
def test_a_model_that_was_cast_while_it_was_loaded_is_told_so(
    tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, loaded_as: torch.dtype
) -> None:
    module = torch.nn.Linear(4, 4).bfloat16()
    sentry.sign_model(module, key=key, signature=tmp_path / "module.sig")
    module.to(loaded_as)
    error = rejected(lambda: sentry.verify_model(module, tmp_path / "module.sig", trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("changed_type", "bias"), ("changed_type", "weight")]
    assert f"the signed model is BF16 and this one was converted to {DTYPES[loaded_as]}" in str(error)


def test_a_cast_is_not_suspected_where_there_was_none(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model({"steps": torch.arange(3)}, key=key, signature=tmp_path / "s.sig")
    for spoilt in ({"steps": torch.arange(3).int()}, {"steps": torch.arange(1, 4)}):
        error = rejected(lambda: sentry.verify_model(spoilt, tmp_path / "s.sig", trust=trust), sentry.ManifestError, "model_differs")
        assert "converted" not in str(error)


def test_the_model_of_another_signature_is_rejected(
    signed: Path, tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, stranger: sentry.PublicKey
) -> None:
    other = {"embedding.weight": torch.zeros(50, 16), "other": torch.zeros(2)}
    error = rejected(lambda: sentry.verify_model(other, signed / "model.sig", trust=trust), sentry.ManifestError, "model_differs")
    assert different(error)[:2] == [("changed_tensor", "embedding.weight"), ("unsigned_tensor", "other")]
    assert {kind for kind, _ in different(error)[2:]} == {"missing_tensor"} and len(error.differences) == 13
    sentry.sign_model(other, key=key, signature=tmp_path / "other.sig")
    rejected(lambda: sentry.verify_model(other, tmp_path / "other.sig", trust=stranger), sentry.EnvelopeError, "signature_invalid")


def test_an_edited_signature_of_tensors_is_rejected(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    model, signature = {"x": torch.zeros(2)}, tmp_path / "x.sig"
    sentry.sign_model(model, key=key, signature=signature)
    bundle = json.loads(signature.read_text())
    sentry.sign_model({"x": torch.ones(2)}, key=key, signature=signature)
    other = json.loads(signature.read_text())
    bundle["dsseEnvelope"]["payload"] = other["dsseEnvelope"]["payload"]
    signature.write_text(json.dumps(bundle))
    for tensors in (model, {"x": torch.ones(2)}):
        rejected(lambda: sentry.verify_model(tensors, signature, trust=trust), sentry.EnvelopeError, "signature_invalid")


def test_a_signature_of_tensors_is_none_of_files(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    signature = model.parent / "tensors.sig"
    sentry.sign_model(load_file(model / "model.safetensors"), key=key, signature=signature)
    assert sentry.verify_model(load_file(model / "model.safetensors"), signature, trust=trust).tensors == 12
    rejected(lambda: sentry.verify_model(model, signature, trust=trust), sentry.EnvelopeError, "predicate_type")
    rejected(lambda: sentry.load_model(model, signature=signature, trust=trust), sentry.EnvelopeError, "predicate_type")
