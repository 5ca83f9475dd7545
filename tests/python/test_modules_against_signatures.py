"""Modules and state dicts against signatures of tensors and of files: tied weights, buffers, wrappers, and which files count."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import model_signing
import pytest
import sentry
import torch
import transformers
from conftest import different, flip, rejected, sign_file, tensors
from safetensors.torch import load_file, save_file


class Tied(torch.nn.Module):
    """A language model in small: input and output share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(20, 8)
        self.head = torch.nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight


class Normalized(torch.nn.Module):
    """A module with integer buffers, one of which is computed anew when the module is made."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        self.register_buffer("positions", torch.arange(6), persistent=False)


def test_tied_weights_against_a_file_that_holds_them_once(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    module = Tied()
    for stored, alias in (("embed.weight", "head.weight"), ("head.weight", "embed.weight")):
        signature = sign_file({stored: module.embed.weight.detach()}, tmp_path / stored, key)
        for model in (module, module.state_dict(), {name: tensor.numpy() for name, tensor in module.state_dict().items()}):
            verification = sentry.verify_model(model, signature, trust=trust)
            assert (verification.tensors, verification.aliases, verification.bytes) == (1, [alias], 640)


def test_tied_weights_in_a_signature_of_tensors(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    module, path = Tied(), tmp_path / "tied.sig"
    signature = sentry.sign_model(module, key=key, signature=path)
    # Both names are listed, and the bytes were hashed once.
    assert (signature.tensors, signature.bytes) == (2, 640)
    verification = sentry.verify_model(module, path, trust=trust)
    assert (verification.tensors, verification.aliases, verification.bytes) == (2, [], 640)
    # Where each name has its digest, it does not matter whether they still share memory; the values do.
    module.head.weight = torch.nn.Parameter(module.embed.weight.detach().clone())
    assert sentry.verify_model(module, path, trust=trust).bytes == 1280
    with torch.no_grad():
        module.head.weight[3, 3] += 1
    error = rejected(lambda: sentry.verify_model(module, path, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("changed_tensor", "head.weight")]


@pytest.mark.parametrize(
    "head",
    [
        lambda weight: weight.clone(),
        lambda weight: weight + 1,
        lambda weight: weight[:10],
        lambda weight: weight[1:],
        lambda weight: weight.view(8, 20),
        lambda weight: weight.view(torch.int32),
        lambda weight: torch.empty(0),
    ],
    ids=["same_values", "other_values", "first_part", "last_part", "other_shape", "other_type", "empty"],
)
def test_a_name_that_is_tied_no_more_is_unsigned(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, head: Any) -> None:
    weight = torch.arange(160.0).view(20, 8)
    signature = sign_file({"embed.weight": weight}, tmp_path / "model", key)
    model = {"embed.weight": weight, "head.weight": head(weight)}
    error = rejected(lambda: sentry.verify_model(model, signature, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("unsigned_tensor", "head.weight")]


def test_tied_weights_that_were_changed_together(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    module = Tied()
    signature = sign_file({"embed.weight": module.embed.weight.detach()}, tmp_path / "model", key)
    with torch.no_grad():
        module.head.weight[0, 0] += 1
    error = rejected(lambda: sentry.verify_model(module, signature, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("changed_tensor", "embed.weight")]


class OnDemand(Mapping[str, torch.Tensor]):
    """A mapping that makes its tensors when they are asked for, and lets go of them."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.full((1000,), 1.0)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def test_tensors_made_on_demand_are_not_taken_for_tied_ones(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    signature = sign_file({"a": torch.full((1000,), 1.0)}, tmp_path / "model", key)
    assert sentry.verify_model(OnDemand(["a"]), signature, trust=trust).tensors == 1
    error = rejected(lambda: sentry.verify_model(OnDemand(["a", "b", "c"]), signature, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("unsigned_tensor", "b"), ("unsigned_tensor", "c")]


def test_buffers_that_are_not_part_of_the_state(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    module = Normalized()
    path = tmp_path / "module.sig"
    assert sentry.sign_model(module, key=key, signature=path).tensors == 5
    # Not signed, whatever is in it: it is listed.
    module.positions += 1
    verification = sentry.verify_model(module, path, trust=trust)
    assert (verification.tensors, verification.not_covered) == (5, ["positions"])
    # An integer buffer that is part of the state.
    module.norm.num_batches_tracked += 1
    error = rejected(lambda: sentry.verify_model(module, path, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("changed_tensor", "norm.num_batches_tracked")]


def test_a_buffer_outside_of_the_state_that_is_signed(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    module = Normalized()
    signature = sign_file(module.state_dict() | {"positions": module.positions}, tmp_path / "model", key)
    verification = sentry.verify_model(module, signature, trust=trust)
    assert (verification.tensors, verification.not_covered, verification.missing) == (6, [], [])
    # The state alone lacks it.
    error = rejected(lambda: sentry.verify_model(module.state_dict(), signature, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("missing_tensor", "positions")]
    # That a tensor may be missing does not let it be another.
    module.positions[2] = 7
    for allowed in ([], ["positions"]):
        error = rejected(
            lambda: sentry.verify_model(module, signature, trust=trust, allow_missing=allowed), sentry.ManifestError, "model_differs"
        )
        assert different(error) == [("changed_tensor", "positions")]


def test_missing_tensors_that_the_caller_names(signed: Path, trust: sentry.PublicKey) -> None:
    less = {name: tensor for name, tensor in tensors().items() if name not in ("mask", "steps")}
    signature = signed / "model.sig"
    verification = sentry.verify_model(less, signature, trust=trust, allow_missing=iter(["steps", "mask", "unheard of", "scalar"]))
    assert (verification.tensors, verification.missing) == (10, ["mask", "steps"])
    error = rejected(lambda: sentry.verify_model(less, signature, trust=trust, allow_missing=["mask"]), sentry.ManifestError, "model_differs")
    assert different(error) == [("missing_tensor", "steps")]


def test_a_model_with_none_of_the_signed_tensors_does_not_verify(signed: Path, trust: sentry.PublicKey) -> None:
    everything = list(tensors())
    for nothing in ({}, torch.nn.ReLU()):
        error = rejected(lambda: sentry.verify_model(nothing, signed / "model.sig", trust=trust), sentry.ManifestError, "model_differs")
        assert len(error.differences) == 12
        with pytest.raises(sentry.NotCheckedError, match="none of the signed tensors"):
            sentry.verify_model(nothing, signed / "model.sig", trust=trust, allow_missing=everything)


class Steps(torch.nn.Linear):
    """A layer with extra state that is a tensor."""

    steps = 3

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.steps = int(state)


class Shy(torch.nn.Linear):
    """A layer that leaves its weight out of its state."""

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        everything = super().state_dict(*arguments, **options)
        return {name: tensor for name, tensor in everything.items() if not name.endswith("weight")}


def test_extra_state_that_is_a_tensor_is_signed(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    module, path = Steps(2, 2), tmp_path / "x.sig"
    assert sentry.sign_model(module, key=key, signature=path).tensors == 3
    module.steps = 4
    error = rejected(lambda: sentry.verify_model(module, path, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("changed_tensor", "_extra_state")]


def test_a_parameter_that_the_state_leaves_out_is_signed(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    module, path = Shy(2, 2), tmp_path / "x.sig"
    assert sentry.sign_model(module, key=key, signature=path).tensors == 2
    assert sentry.verify_model(module, path, trust=trust).tensors == 2
    with torch.no_grad():
        module.weight.zero_()
    error = rejected(lambda: sentry.verify_model(module, path, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("changed_tensor", "weight")]


def test_a_compiled_module_is_the_module(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    module = torch.nn.Linear(3, 3)
    sentry.sign_model(torch.compile(module), key=key, signature=tmp_path / "compiled.sig")
    sentry.sign_model(module, key=key, signature=tmp_path / "plain.sig")
    for model in (module, torch.compile(module)):
        for signature in ("compiled.sig", "plain.sig"):
            assert sentry.verify_model(model, tmp_path / signature, trust=trust).tensors == 2


def test_what_only_looks_compiled_hides_no_parameter(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    inner = torch.nn.Linear(3, 3)
    sentry.sign_model(inner, key=key, signature=tmp_path / "x.sig")
    with_parameter, with_buffer, with_layer = torch.nn.Module(), torch.nn.Module(), torch.nn.Module()
    with_parameter.more = torch.nn.Parameter(torch.ones(1))
    with_buffer.register_buffer("more", torch.ones(1))
    with_layer.more = torch.nn.Linear(1, 1)
    for outer in (with_parameter, with_buffer, with_layer):
        outer._orig_mod = inner
        error = rejected(lambda: sentry.verify_model(outer, tmp_path / "x.sig", trust=trust), sentry.ManifestError, "model_differs")
        assert any(kind == "unsigned_tensor" and name and name.startswith("more") for kind, name in different(error))


# Signatures of files.


def test_minilm_from_transformers(signed_minilm: Path, trust: sentry.PublicKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    signature = signed_minilm / "model.sig"
    bert = transformers.BertModel.from_pretrained(signed_minilm)
    verification = sentry.verify_model(bert, signature, trust=trust)
    assert (verification.tensors, verification.aliases, verification.missing) == (104, [], [])
    assert verification.not_covered == ["embeddings.token_type_ids"]
    # The file has one tensor more than the state: a buffer that the module computes, which is compared all the same.
    assert len(bert.state_dict()) == 103
    error = rejected(lambda: sentry.verify_model(bert.state_dict(), signature, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("missing_tensor", "embeddings.position_ids")]
    allowed = sentry.verify_model(bert.state_dict(), signature, trust=trust, allow_missing=["embeddings.position_ids"])
    assert (allowed.tensors, allowed.missing) == (103, ["embeddings.position_ids"])
    bert.embeddings.position_ids[0, 5] = 6
    error = rejected(lambda: sentry.verify_model(bert, signature, trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("changed_tensor", "embeddings.position_ids")]


def test_minilm_cast_while_it_was_loaded(signed_minilm: Path, trust: sentry.PublicKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    bert = transformers.BertModel.from_pretrained(signed_minilm, dtype=torch.bfloat16)
    error = rejected(lambda: sentry.verify_model(bert, signed_minilm / "model.sig", trust=trust), sentry.ManifestError, "model_differs")
    assert {kind for kind, _ in different(error)} == {"changed_type"} and len(error.differences) == 103
    assert "the signed model is F32 and this one was converted to BF16" in str(error)


def test_minilm_saved_again_and_spoilt(signed_minilm: Path, tmp_path: Path, trust: sentry.PublicKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    signature = signed_minilm / "model.sig"
    bert = transformers.BertModel.from_pretrained(signed_minilm)
    for folder in ("saved", "spoilt"):
        bert.save_pretrained(tmp_path / folder)
    saved = transformers.BertModel.from_pretrained(tmp_path / "saved")
    assert sentry.verify_model(saved, signature, trust=trust).tensors == 104
    flip(tmp_path / "spoilt" / "model.safetensors", 40_000_000)
    spoilt = transformers.BertModel.from_pretrained(tmp_path / "spoilt")
    error = rejected(lambda: sentry.verify_model(spoilt, signature, trust=trust), sentry.ManifestError, "model_differs")
    (difference,) = error.differences
    name = difference.tensor or ""
    assert difference.kind == "changed_tensor" and not torch.equal(spoilt.get_parameter(name), bert.get_parameter(name))


def test_a_model_in_several_files(sharded: Path, trust: sentry.PublicKey) -> None:
    verification = sentry.verify_model(tensors(), sharded / "model.sig", trust=trust)
    assert (verification.tensors, verification.missing) == (12, [])
    del (less := tensors())["empty"]
    error = rejected(lambda: sentry.verify_model(less, sharded / "model.sig", trust=trust), sentry.ManifestError, "model_differs")
    assert different(error) == [("missing_tensor", "empty")]
    first = dict(list(tensors().items())[:5])
    one = sentry.verify_model(first, sharded / "model.sig", trust=trust, weights=["model-00001-of-00002.safetensors"])
    assert one.tensors == 5
    both = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    assert sentry.verify_model(tensors(), sharded / "model.sig", trust=trust, weights=both).tensors == 12


def test_an_index_of_other_files_needs_their_names(sharded: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    (sharded / "model-00001-of-00002.safetensors").rename(sharded / "first.safetensors")
    sentry.sign_model(sharded, key=key)
    with pytest.raises(sentry.UsageError, match="weights=") as caught:
        sentry.verify_model(tensors(), sharded / "model.sig", trust=trust)
    assert caught.value.code == "weights_unclear"
    files = ["first.safetensors", "model-00002-of-00002.safetensors"]
    assert sentry.verify_model(tensors(), sharded / "model.sig", trust=trust, weights=files).tensors == 12


def test_which_files_hold_the_weights(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for name, value in (("one.safetensors", 1), ("two.safetensors", 2)):
        save_file({"x": torch.tensor(value)}, folder / name)
    signature = sentry.sign_model(folder, key=key).path

    def verify(weights: Any) -> sentry.Verification:
        return sentry.verify_model({"x": torch.tensor(2)}, signature, trust=trust, weights=weights)

    assert verify(["two.safetensors"]).tensors == 1
    assert different(rejected(lambda: verify(["one.safetensors"]), sentry.ManifestError, "model_differs")) == [("changed_tensor", "x")]
    rejected(lambda: verify(["one.safetensors", "two.safetensors"]), sentry.ManifestError, "duplicate_tensor")
    for unclear in (None, [], ["three.safetensors"]):
        with pytest.raises(sentry.UsageError, match="weights=") as caught:
            verify(unclear)
        assert caught.value.code == "weights_unclear"
    with pytest.raises(sentry.UsageError, match="found the string"):
        verify("two.safetensors")
    with pytest.raises(sentry.NotCheckedError) as not_listed:
        verify(["config.json"])
    assert not_listed.value.code == "tensors_not_signed"


def test_a_single_file_that_is_signed_by_itself(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    file = model / "model.safetensors"
    signature = sentry.sign_model(file, key=key).path
    assert sentry.verify_model(load_file(file), signature, trust=trust).tensors == 12


def signed_by_model_signing(model: Path, key: sentry.PrivateKey) -> None:
    """Sign with the reference implementation of OpenSSF Model Signing."""
    (model.parent / "private.pem").write_bytes(key.to_pem())
    signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=model.parent / "private.pem")
    signer.set_hashing_config(model_signing.hashing.Config().set_ignored_paths(paths=["model.sig"]))
    signer.sign(model, model / "model.sig")


@pytest.mark.parametrize("how", ["without_annotations", "in_shards", "by_model_signing"])
def test_a_signature_that_lists_no_tensors_is_no_verdict(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, how: str) -> None:
    if how == "by_model_signing":
        signed_by_model_signing(model, key)
    else:
        sentry.sign_model(model, key=key, annotate=how == "in_shards", shard_size=1000 if how == "in_shards" else None)
    # The files verify, and for what is in memory there is nothing to compare with.
    assert sentry.verify_model(model, trust=trust).files == 2
    for tensors_ in (load_file(model / "model.safetensors"), {}):
        with pytest.raises(sentry.NotCheckedError, match="sign the model with Sentry") as caught:
            sentry.verify_model(tensors_, model / "model.sig", trust=trust)
        assert caught.value.code == "tensors_not_signed"


def test_a_hook_that_shows_other_tensors_than_the_module_has_is_refused(key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 4)
    signature = tmp_path / "module.sig"
    sentry.sign_model(module, key=key, signature=signature)
    honest = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def show(_: object, state: dict[str, torch.Tensor], *__: object) -> None:
        state.update(honest)

    module.register_state_dict_post_hook(show)
    with torch.no_grad():
        module.weight.zero_()
    with pytest.raises(sentry.UsageError, match="than it computes with"):
        sentry.verify_model(module, signature, trust=trust)
    assert sentry.verify_model(honest, signature, trust=trust).tensors == 2
