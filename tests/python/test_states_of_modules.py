"""Which tensors a module has: walked directly where modules save their state as usual, asked of `state_dict` where they do not. Both
ways give the same names, and the very memory that the module computes with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentry
import torch
import transformers
from conftest import different, rejected
from sentry import _tensors

Listed = dict[str, tuple[object, ...]]


def memory(tensor: torch.Tensor, persistent: bool) -> tuple[object, ...]:
    """Where a tensor is and how it lies there, which says what its bytes are; and whether it is part of the state."""
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), persistent


def listed(module: torch.nn.Module) -> Listed:
    """What the package lists; no name comes twice."""
    found = list(_tensors.named_tensors(module))
    assert len({name for name, _, _ in found}) == len(found)
    return {name: memory(tensor, persistent) for name, tensor, persistent in found}


def expected(module: torch.nn.Module) -> Listed:
    """The same by torch's public functions: the state, and the buffers that it leaves out."""
    state = {name: memory(tensor, True) for name, tensor in module.state_dict().items()}
    others = {name: memory(tensor, False) for name, tensor in module.named_buffers(remove_duplicate=False)}
    return others | state


def is_walked(module: torch.nn.Module) -> bool:
    """Whether the module is one that saves its state as usual."""
    return _tensors._collect(module, "", [])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[torch.nn.Module], Listed]:
    """Lists the tensors of a module by `state_dict`, whatever it is."""

    def list_them(module: torch.nn.Module) -> Listed:
        with monkeypatch.context() as patch:
            patch.setattr(_tensors, "_collect", lambda *_: False)
            return listed(module)

    return list_them


class Net(torch.nn.Module):
    """Something of everything that torch itself saves as usual."""

    def __init__(self) -> None:
        super().__init__()
        inner = torch.nn.ModuleDict({"inner": torch.nn.Linear(2, 2, bias=False)})
        self.body = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), inner)
        self.experts = torch.nn.ModuleList(torch.nn.Linear(2, 3) for _ in range(3))
        self.scale = torch.nn.Parameter(torch.tensor(2.0))
        self.register_buffer("steps", torch.arange(5))
        self.register_buffer("positions", torch.arange(7), persistent=False)
        self.body[0].register_buffer("cache", torch.zeros(2), persistent=False)


def tied() -> torch.nn.Module:
    """Two names of one parameter."""
    net = Net()
    net.experts[1].weight = net.experts[0].weight
    return net


def shared() -> torch.nn.Module:
    """A module under two names, with a buffer that is not saved."""
    net = Net()
    net.again = net.body
    return net


def nothing() -> torch.nn.Module:
    """Names without a tensor."""
    net = Net()
    net.register_parameter("no_parameter", None)
    net.register_buffer("no_buffer", None)
    net.register_buffer("no_cache", None, persistent=False)
    net.register_module("no_module", None)
    return net


def parametrized() -> torch.nn.Module:
    """Its weight is computed of two parameters, and is none itself."""
    net = Net()
    torch.nn.utils.parametrizations.weight_norm(net.body[0])
    return net


def normed() -> torch.nn.Module:
    """A parametrization with buffers of its own."""
    return torch.nn.Sequential(torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 4)))


def traced() -> torch.nn.Module:
    """A module whose code was generated."""
    return torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)))


def with_plain_attributes() -> torch.nn.Module:
    """Tensors that are neither parameters nor buffers are no part of a module, for torch and so for us."""
    net = Net()
    net.body[0].loose = torch.ones(3)
    return net


def frozen() -> torch.nn.Module:
    """A module without gradients, with tensors where torch puts parameters."""
    net = Net().requires_grad_(False)
    net._parameters["scale"] = torch.tensor(5.0)
    return net


def empty() -> torch.nn.Module:
    """A module without tensors."""
    return torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Identity())


USUAL = [Net, tied, shared, nothing, parametrized, normed, traced, with_plain_attributes, frozen, empty]


@pytest.mark.parametrize("make", USUAL, ids=lambda make: make.__name__)
def test_modules_that_are_walked(make: Callable[[], torch.nn.Module], asked: Callable[[torch.nn.Module], Listed]) -> None:
    module = make()
    assert is_walked(module)
    assert listed(module) == asked(module) == expected(module)


def test_models_of_transformers_are_walked(asked: Callable[[torch.nn.Module], Listed]) -> None:
    small = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    for model in (
        transformers.BertForMaskedLM(transformers.BertConfig(**small)),
        transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=30, n_embd=8, n_layer=2, n_head=2, n_positions=16)),
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**small)),
    ):
        assert is_walked(model)
        assert listed(model) == asked(model) == expected(model)


# -- modules that save their state in a way of their own ------------------------------------


def add_hook(module: torch.nn.Module) -> None:
    """A hook that changes nothing."""
    module.register_state_dict_post_hook(lambda *_: None)


def add_renaming_hook(module: torch.nn.Module) -> None:
    """A hook that saves a tensor under another name."""

    def rename(_: object, state: dict[str, Any], prefix: str, __: object) -> None:
        state[f"{prefix}renamed"] = state.pop(f"{prefix}weight")

    module._register_state_dict_hook(rename)


def add_pre_hook(module: torch.nn.Module) -> None:
    """A hook before saving."""
    module.register_state_dict_pre_hook(lambda *_: None)


def add_attribute(module: torch.nn.Module) -> None:
    """A `state_dict` of this very module, which leaves its bias out."""
    usual = module.state_dict

    def state_dict(*arguments: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        state = usual(destination=destination, prefix=prefix, keep_vars=keep_vars)
        state.pop(f"{prefix}bias")
        return state

    module.state_dict = state_dict


def add_saving_attribute(module: torch.nn.Module) -> None:
    """The same for what torch calls for one module."""
    usual = module._save_to_state_dict

    def save(state: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        usual(state, prefix, keep_vars)
        state.pop(f"{prefix}bias")

    module._save_to_state_dict = save


CHANGES = [add_hook, add_renaming_hook, add_pre_hook, add_attribute, add_saving_attribute]


class Prefixed(torch.nn.Linear):
    """A class with a `state_dict` of its own, as wrappers have that hide themselves."""

    def state_dict(self, *arguments: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        return super().state_dict(destination=destination, prefix=f"{prefix}inner.", keep_vars=keep_vars)


class Packed(torch.nn.Linear):
    """A class that saves something that is neither a parameter nor a buffer."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.packed = torch.arange(9)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}packed"] = self.packed


class Extra(torch.nn.Linear):
    """A class with extra state, which is a tensor."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.extra = torch.arange(3)

    def get_extra_state(self) -> torch.Tensor:
        return self.extra

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.extra = state


def with_parameters(module: torch.nn.Module) -> Listed:
    """What is expected where the state leaves parameters out: they are part of the model all the same."""
    return {name: memory(tensor, True) for name, tensor in module.named_parameters(remove_duplicate=False)} | expected(module)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("depth", ["outermost", "beneath"])
def test_modules_that_are_asked_for_their_state(change: Callable[[torch.nn.Module], None], depth: str) -> None:
    inner = torch.nn.Linear(3, 4)
    module = inner if depth == "outermost" else torch.nn.Sequential(Net(), torch.nn.Sequential(inner))
    assert is_walked(module)
    change(inner)
    assert not is_walked(module)
    assert listed(module) == with_parameters(module)


@pytest.mark.parametrize("kind", [Prefixed, Packed, Extra])
@pytest.mark.parametrize("depth", ["outermost", "beneath"])
def test_classes_that_are_asked_for_their_state(kind: type[torch.nn.Module], depth: str) -> None:
    inner = kind(3, 4)
    module = inner if depth == "outermost" else torch.nn.Sequential(Net(), torch.nn.Sequential(inner))
    assert not is_walked(module)
    assert listed(module) == with_parameters(module)
    own = {Prefixed: "inner.weight", Packed: "packed", Extra: "_extra_state"}[kind]
    assert any(name.endswith(own) for name in listed(module))


def scripted() -> torch.nn.Module:
    """A module that keeps its tensors in C++."""
    return torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)))


@pytest.mark.filterwarnings("ignore:.torch.jit.:FutureWarning", "ignore:.torch.jit.:DeprecationWarning")
def test_scripted_modules_beneath_others_are_asked_for_their_state() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), scripted())
    assert not is_walked(module)
    assert listed(module) == expected(module) and len(listed(module)) == 9


@pytest.mark.filterwarnings("ignore:.torch.jit.:FutureWarning", "ignore:.torch.jit.:DeprecationWarning")
def test_scripted_modules_are_asked_for_their_state() -> None:
    module = scripted()
    assert not is_walked(module)
    assert listed(module) == expected(module) and len(listed(module)) == 7


def test_extra_state_that_is_no_tensor_is_refused() -> None:
    class Counting(torch.nn.Linear):
        def get_extra_state(self) -> int:
            return 7

    with pytest.raises(sentry.UsageError, match='extra state "0._extra_state"'):
        listed(torch.nn.Sequential(Counting(2, 2)))


def test_hooks_of_an_instance_do_not_concern_another() -> None:
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    add_hook(one)
    assert not is_walked(one) and is_walked(other)
    assert is_walked(copy.deepcopy(other)) and not is_walked(copy.deepcopy(one))


def test_a_name_that_means_two_tensors_is_refused(asked: Callable[[torch.nn.Module], Listed]) -> None:
    """A buffer whose name has a dot, as only a hand in torch's own dictionaries can make it: the state shows one of the two."""
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    module._buffers["0.weight"] = torch.zeros(2, 2)
    assert len(module.state_dict()) == 2
    with pytest.raises(sentry.UsageError, match="than it computes with"):
        asked(module)
    names = [name for name, _, _ in _tensors.named_tensors(module)]
    assert sorted(names) == ["0.bias", "0.weight", "0.weight"]


@pytest.mark.parametrize("make", [*USUAL[:-1], lambda: torch.nn.Sequential(Net(), Packed(2, 2)), lambda: torch.nn.Sequential(Extra(2, 2), tied())])
def test_signed_in_one_way_and_verified_in_the_other(
    make: Callable[[], torch.nn.Module], key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, signature = make(), tmp_path / "module.sig"
    sentry.sign_model(module, key=key, signature=signature)
    verified = sentry.verify_model(module, signature, trust=trust)
    by_state = sentry.verify_model(module.state_dict(), signature, trust=trust)
    monkeypatch.setattr(_tensors, "_collect", lambda *_: False)
    asked = sentry.verify_model(module, signature, trust=trust)
    assert verified.tensors == asked.tensors == by_state.tensors == len(module.state_dict())
    assert verified.not_covered == asked.not_covered
    # Whatever tensor of the state is changed, both ways see that one, and all names of it.
    monkeypatch.undo()
    name, tensor = list(module.state_dict().items())[-1]
    with torch.no_grad():
        tensor.view(-1)[-1] += 1
    names = {other for other, shown in module.state_dict().items() if shown.data_ptr() == tensor.data_ptr()}
    for way in (_tensors._collect, lambda *_: False):
        monkeypatch.setattr(_tensors, "_collect", way)
        error = rejected(lambda: sentry.verify_model(module, signature, trust=trust), sentry.ManifestError, "model_differs")
        assert {differing for _, differing in different(error)} == names and name in names
