"""Where tensors lie in memory: torch, numpy, DLPack and buffers, told to the native half as addresses."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

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

# Bytes of tensors of other devices that are copied to this machine's memory at a time.
_COPIED_AT_ONCE = 256 << 20


class View(NamedTuple):
    """A tensor in memory: row-major, little-endian, without gaps."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    # Device and address: equal for two names of one tensor. `address` may be that of a copy.
    storage: tuple[int, int]
    persistent: bool
    # The GPU in whose memory `address` is, or this machine's memory.
    gpu: int | None
    address: int
    nbytes: int
    # Keeps the memory alive.
    owner: object


class Place(NamedTuple):
    """A device, as a tensor's place."""

    # One of its own for each device; 0 is this machine's memory.
    number: int
    # The GPU, if its memory can be hashed in place.
    gpu: int | None
    has_bytes: bool


class Devices:
    """Where the tensors of a model are.

    Parameters
    ----------
    in_place
        Whether tensors on NVIDIA GPUs are hashed there. Those on other devices are copied to this machine's memory.
    """

    def __init__(self, in_place: bool) -> None:
        self._places: dict[object, Place] = {}
        self._in_place = in_place and runs_on_nvidia()
        # The handle of torch's current stream on each GPU.
        self.streams: dict[int, int] = {}

    def place(self, device: torch.device) -> Place:
        """Where tensors of this device are."""
        try:
            return self._places[device]
        except KeyError:
            place = self._places[device] = self._look_at(device)
            return place

    def _look_at(self, device: torch.device) -> Place:
        if device.type == "cpu":
            return Place(0, None, True)
        number = 1 + len(self._places)
        if not self._in_place or device.type != "cuda":
            return Place(number, None, device.type != "meta")
        gpu = int(device.index)
        self.streams[gpu] = current_stream(device)
        return Place(number, gpu, True)


def runs_on_nvidia() -> bool:
    """Whether torch's devices of type "cuda" are NVIDIA's; in builds for ROCm they are AMD's."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.version.cuda is not None


def current_stream(device: torch.device) -> int:
    """The handle of torch's current stream on a GPU."""
    import torch

    with torch.cuda.device(device):
        if torch.cuda.is_current_stream_capturing():
            raise UsageError("the current stream records a CUDA graph: sign, verify or load before or after that")
        return int(torch.cuda.current_stream().cuda_stream)


def is_module(model: object) -> bool:
    """Whether this is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def plain_module(module: Any) -> Any:
    """A module without the wrapper that torch.compile returns, which puts a prefix before every name and has nothing else in it."""
    wrapped = list(module._modules.keys()) == ["_orig_mod"] and not module._parameters and not module._buffers
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
    held: list[tuple[str, Any, bool]] = []
    if _collect(module, "", held):
        yield from held
        return
    # Classes that save their state in a way of their own.
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


def _collect(module: Any, prefix: str, held: list[tuple[str, Any, bool]]) -> bool:
    """Adds the parameters and buffers of a module and all beneath it to `held`, as long as every one of them saves its state in
    torch's own way: then these are what `state_dict` would show, and this is several times faster."""
    attributes = module.__dict__
    is_usual = _saves_its_state_as_usual(type(module))  # type: ignore[arg-type]  # mypy takes no class for hashable
    if not is_usual or attributes.get("_state_dict_hooks") or attributes.get("_state_dict_pre_hooks"):
        return False
    parameters, buffers, modules = attributes["_parameters"], attributes["_buffers"], attributes["_modules"]
    if not (isinstance(parameters, dict) and isinstance(buffers, dict)) or "state_dict" in attributes or "_save_to_state_dict" in attributes:
        return False
    for name, tensor in parameters.items():
        if tensor is not None:
            held.append((prefix + name, tensor, True))
    for name, tensor in buffers.items():
        if tensor is not None:
            held.append((prefix + name, tensor, name not in attributes["_non_persistent_buffers_set"]))
    return all(_collect(child, f"{prefix}{name}.", held) for name, child in modules.items() if child is not None)


@functools.lru_cache(maxsize=1024)
def _saves_its_state_as_usual(kind: type[Any]) -> bool:
    """Whether the state of modules of this class is their parameters and persistent buffers, and they are where torch puts them."""
    from torch.nn import Module

    own = ("state_dict", "_save_to_state_dict", "get_extra_state", "__getattribute__")
    return not issubclass(kind, _scripted()) and all(getattr(kind, name) is getattr(Module, name) for name in own)


@functools.cache
def _scripted() -> type[Any]:
    """The class of modules that keep their tensors in C++."""
    import torch

    return cast("type[Any]", torch.jit.ScriptModule)


def _is_same(shown: Any, held: Any) -> bool:
    """Whether what a state shows is what the module computes with; what has no plain memory is refused elsewhere."""
    try:
        return bool(shown.data_ptr() == held.data_ptr())
    except RuntimeError:
        return True


def _shown_by_hook(name: str) -> UsageError:
    return UsageError(f'the module shows another tensor as "{printable(name)}" of its state than it computes with: pass its tensors as a mapping')


def batches(model: object, devices: Devices) -> Iterator[list[View]]:
    """The tensors of a model, as many at a time as are in memory anyway or fit there.

    Raises
    ------
    UsageError
        A tensor has no bytes that could be hashed as they lie; the message says what to do about it.
    """
    views: list[View] = []
    copied = 0
    # Tensors that a mapping makes when it is asked for them stay alive to the end, so that no two have one address.
    alive = []
    for name, tensor, persistent in named_tensors(model):
        alive.append(tensor)
        view = _view(name, tensor, persistent, devices)
        views.append(view)
        if view.storage[0] != 0 and view.gpu is None:
            copied += view.nbytes
        if copied >= _COPIED_AT_ONCE:
            yield views
            views, copied = [], 0
    yield views


def _is_torch(tensor: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(tensor, torch.Tensor)


def _view(name: str, tensor: Any, persistent: bool, devices: Devices) -> View:
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


@functools.cache
def _torch_dtypes() -> dict[object, str]:
    """Names of torch's element types in safetensors; of those that this torch has."""
    import torch

    return {getattr(torch, name): dtype for name, dtype in DTYPES.items() if hasattr(torch, name)}


def _torch_view(name: str, tensor: torch.Tensor, persistent: bool, devices: Devices) -> View:
    place = devices.place(tensor.device)
    dtype = _torch_dtypes().get(tensor.dtype)
    if dtype is None or not place.has_bytes or not _is_plain(tensor):
        raise _refusal(name, tensor)
    try:
        address, nbytes = tensor.data_ptr(), tensor.nbytes
        has_memory = nbytes == 0 or (address != 0 and _end_in_storage(tensor, nbytes) <= tensor.untyped_storage().nbytes())
    except RuntimeError:
        has_memory = False
    # Sharding libraries free it in between, and what `torch.func` hands to a function has none.
    if not has_memory:
        raise _unsupported(name, "without memory for all of its elements", "gather its shards, or leave the transform of torch.func, first")
    storage = (place.number, address)
    if place.number == 0 or place.gpu is not None:
        return View(name, dtype, tensor.shape, storage, persistent, place.gpu, address, nbytes, tensor)
    copy = tensor.detach().cpu()
    return View(name, dtype, tensor.shape, storage, persistent, None, copy.data_ptr(), nbytes, copy)


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether a tensor is its bytes, one after the other in one memory."""
    return not (
        (type(tensor) not in _plain_classes() and _is_wrapper(tensor))
        or tensor.layout is not _strided()
        or tensor.is_nested
        or tensor.is_quantized
        or tensor.is_conj()
        or tensor.is_neg()
        or not tensor.is_contiguous()
    )


@functools.cache
def _plain_classes() -> frozenset[type]:
    """Tensors that are no wrappers."""
    import torch

    return frozenset((torch.Tensor, torch.nn.Parameter))


@functools.cache
def _strided() -> torch.layout:
    import torch

    return torch.strided


def _is_wrapper(tensor: torch.Tensor) -> bool:
    """Whether the bytes are not there yet, or are elsewhere, as those of distributed or fake tensors."""
    import torch

    return torch.nn.parameter.is_lazy(tensor) or type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__


def _unsupported(name: str, what: str, advice: str) -> UsageError:
    return UsageError(f'tensor "{printable(name)}" is {what}: {advice}', code="unsupported_tensor")


def _refusal(name: str, tensor: torch.Tensor) -> UsageError:
    """Why a tensor that is not plain, or of another type, cannot be hashed as it lies."""
    import torch

    if torch.nn.parameter.is_lazy(tensor):
        return _unsupported(name, "not initialized", "run the module once, or load the weights first")
    if tensor.is_nested:
        return _unsupported(name, "nested", "pass the tensors that it is made of")
    if tensor.layout != torch.strided:
        return _unsupported(name, "sparse", "pass its indices and values, or tensor.to_dense()")
    if tensor.is_meta:
        return _unsupported(name, "on the meta device and has no bytes", "load the weights first")
    if tensor.is_quantized:
        return _unsupported(name, "quantized", "pass tensor.int_repr() with its scale and zero point")
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return _unsupported(name, f"a {type(tensor).__name__}", "pass the plain tensors that it is made of")
    if tensor.dtype not in _torch_dtypes():
        return _unsupported(name, f"of the type {tensor.dtype}", "no signature can state this type; convert it")
    if tensor.is_conj() or tensor.is_neg():
        return _unsupported(name, "a lazy conjugate or negative", "pass tensor.resolve_conj().resolve_neg()")
    return _unsupported(name, "not contiguous", "pass tensor.contiguous(), which copies it")


def _end_in_storage(tensor: torch.Tensor, nbytes: int) -> int:
    """Where the bytes of a tensor without gaps end in its storage."""
    return int(tensor.storage_offset()) * int(tensor.element_size()) + nbytes


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
    return View(name, dtype, array.shape, (0, address), persistent, None, address, array.nbytes, array)


def names(tensors: Iterable[str]) -> list[str]:
    """A list of names, refusing a single string, which is an iterable of its letters."""
    if isinstance(tensors, str):
        raise UsageError(f"a list of names is asked for, found the string {tensors!r}")
    return list(tensors)
