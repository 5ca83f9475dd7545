"""Where tensors lie in memory: torch, numpy, DLPack and buffers, told to the native half as addresses."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import UsageError, printable

if TYPE_CHECKING:
    import torch

# Names of element types in torch and numpy (the last ones by ml_dtypes), and in safetensors.
DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}

# The other way round.
NAMES = {dtype: name for name, dtype in DTYPES.items()}

# Bytes of tensors of another device that are copied to this machine's memory at a time.
_COPIED_AT_ONCE = 256 << 20


@dataclass(frozen=True)
class View:
    """A tensor in this machine's memory: row-major, little-endian, without gaps."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    # Device and address: equal for two names of one tensor. `address` may be that of a copy.
    storage: tuple[int, int]
    persistent: bool
    address: int
    nbytes: int
    # Keeps the memory alive.
    owner: object


def is_module(model: object) -> bool:
    """Whether this is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def plain_module(module: Any) -> Any:
    """A module without the wrapper that torch.compile returns, which puts a prefix before every name and has nothing else in it."""
    wrapped = list(module._modules) == ["_orig_mod"] and not module._parameters and not module._buffers
    return module._orig_mod if wrapped else module


def named_tensors(model: object) -> Iterator[tuple[str, Any, bool]]:
    """Name, tensor, and whether it is part of the state, of a module or a mapping.

    Raises
    ------
    UsageError
        `model` is neither, or holds something that is no tensor.
    """
    if is_module(model):
        yield from _module_tensors(plain_module(model))
    elif isinstance(model, Mapping):
        for name, tensor in model.items():
            if not isinstance(name, str):
                raise UsageError(f"names of tensors are strings, found {name!r}")
            yield name, tensor, True
    else:
        kind = type(model).__name__
        raise UsageError(f"a model is a path, a torch module, or a mapping of names to tensors; this is a {kind}")


def _module_tensors(module: Any) -> Iterator[tuple[str, Any, bool]]:
    state = module.state_dict()
    for name, tensor in state.items():
        if not _is_torch(tensor):
            raise UsageError(f'the module has the extra state "{printable(name)}", which is no tensor: pass the tensors as a mapping')
        yield name, tensor, True
    # A parameter that the state leaves out is part of the model all the same.
    for name, tensor in module.named_parameters(remove_duplicate=False):
        if name not in state:
            yield name, tensor, True
        elif not _is_same(state[name], tensor):
            raise _shown_by_hook(name)
    for name, tensor in module.named_buffers(remove_duplicate=False):
        if name not in state:
            yield name, tensor, False
        elif not _is_same(state[name], tensor):
            raise _shown_by_hook(name)


def _is_same(shown: Any, held: Any) -> bool:
    """Whether what a state shows is what the module computes with; what has no plain memory is refused elsewhere."""
    try:
        return bool(shown.data_ptr() == held.data_ptr())
    except RuntimeError:
        return True


def _shown_by_hook(name: str) -> UsageError:
    return UsageError(f'the module shows another tensor as "{printable(name)}" of its state than it computes with: pass its tensors as a mapping')


def batches(model: object) -> Iterator[list[View]]:
    """The tensors of a model, as many at a time as are in memory anyway or fit there.

    Raises
    ------
    UsageError
        A tensor has no bytes that could be hashed as they lie; the message says what to do about it.
    """
    devices: dict[str, int] = {"cpu": 0}
    views: list[View] = []
    copied = 0
    # Tensors that a mapping makes when it is asked for them stay alive to the end, so that no two have one address.
    alive = []
    for name, tensor, persistent in named_tensors(model):
        alive.append(tensor)
        view = _view(name, tensor, persistent, devices)
        views.append(view)
        if view.storage[0] != 0:
            copied += view.nbytes
        if copied >= _COPIED_AT_ONCE:
            yield views
            views, copied = [], 0
    yield views


def _is_torch(tensor: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(tensor, torch.Tensor)


def _view(name: str, tensor: Any, persistent: bool, devices: dict[str, int]) -> View:
    if not _is_unicode(name):
        raise UsageError(f"the name {name!r} of a tensor is not Unicode", code="unsupported_tensor")
    if _is_torch(tensor):
        return _torch_view(name, tensor, persistent, devices)
    return _numpy_view(name, _as_array(name, tensor), persistent)


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _torch_view(name: str, tensor: torch.Tensor, persistent: bool, devices: dict[str, int]) -> View:
    import torch

    def refuse(what: str, advice: str) -> UsageError:
        return UsageError(f'tensor "{printable(name)}" is {what}: {advice}', code="unsupported_tensor")

    if torch.nn.parameter.is_lazy(tensor):
        raise refuse("not initialized", "run the module once, or load the weights first")
    if tensor.is_nested:
        raise refuse("nested", "pass the tensors that it is made of")
    if tensor.layout != torch.strided:
        raise refuse("sparse", "pass its indices and values, or tensor.to_dense()")
    if tensor.is_meta:
        raise refuse("on the meta device and has no bytes", "load the weights first")
    if tensor.is_quantized:
        raise refuse("quantized", "pass tensor.int_repr() with its scale and zero point")
    # Wrappers, such as distributed or fake tensors, hold their bytes elsewhere.
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        raise refuse(f"a {type(tensor).__name__}", "pass the plain tensors that it is made of")
    dtype = DTYPES.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None:
        raise refuse(f"of the type {tensor.dtype}", "no signature can state this type; convert it")
    if tensor.is_conj() or tensor.is_neg():
        raise refuse("a lazy conjugate or negative", "pass tensor.resolve_conj().resolve_neg()")
    if not tensor.is_contiguous():
        raise refuse("not contiguous", "pass tensor.contiguous(), which copies it")
    nbytes = tensor.numel() * tensor.element_size()
    if not _has_memory(tensor, nbytes):
        raise refuse("without memory for all of its elements", "gather its shards, or leave the transform of torch.func, first")
    tensor = tensor.detach()
    device = str(tensor.device)
    storage = (devices.setdefault(device, len(devices)), tensor.data_ptr())
    if tensor.device.type != "cpu":
        tensor = tensor.cpu()
    return View(name, dtype, tuple(tensor.shape), storage, persistent, tensor.data_ptr(), nbytes, tensor)


def _has_memory(tensor: torch.Tensor, nbytes: int) -> bool:
    """Whether there is memory for all of a tensor. Sharding libraries free it in between, and what `torch.func` hands to a
    function has none."""
    try:
        end = tensor.storage_offset() * tensor.element_size() + nbytes
        return nbytes == 0 or (tensor.data_ptr() != 0 and end <= tensor.untyped_storage().nbytes())
    except RuntimeError:
        return False


def _as_array(name: str, tensor: Any) -> Any:
    """A numpy array over the memory of an array, a DLPack tensor or a buffer."""
    import numpy

    if isinstance(tensor, numpy.ndarray):
        return tensor
    if isinstance(tensor, numpy.generic):
        return numpy.asarray(tensor)
    try:
        if hasattr(tensor, "__dlpack__"):
            return numpy.from_dlpack(tensor)
        return numpy.asarray(memoryview(tensor))
    except (TypeError, BufferError, RuntimeError, ValueError) as error:
        kind = type(tensor).__name__
        raise UsageError(
            f'"{printable(name)}" is a {kind}, which is no tensor of torch or numpy and offers its memory neither by DLPack nor as a buffer: {error}',
            code="unsupported_tensor",
        ) from error


def _numpy_view(name: str, array: Any, persistent: bool) -> View:
    def refuse(what: str, advice: str) -> UsageError:
        return UsageError(f'tensor "{printable(name)}" is {what}: {advice}', code="unsupported_tensor")

    if hasattr(array, "mask"):
        raise refuse("masked", "pass array.filled(), or its data and its mask")
    dtype = DTYPES.get(array.dtype.name)
    if dtype is None:
        raise refuse(f"of the type {array.dtype}", "no signature can state this type; convert it")
    if array.dtype.byteorder == ">":
        raise refuse("big-endian", "pass array.astype(array.dtype.newbyteorder('<'))")
    if not array.flags.c_contiguous:
        raise refuse("not contiguous", "pass numpy.ascontiguousarray(array), which copies it")
    address = array.__array_interface__["data"][0]
    return View(name, dtype, array.shape, (0, address), persistent, address, array.nbytes, array)


def names(tensors: Iterable[str]) -> list[str]:
    """A list of names, refusing a single string, which is an iterable of its letters."""
    if isinstance(tensors, str):
        raise UsageError(f"a list of names is asked for, found the string {tensors!r}")
    return list(tensors)
