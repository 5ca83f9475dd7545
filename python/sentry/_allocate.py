"""Memory to load tensors into, of the library that will own it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._errors import NotCheckedError, UsageError, printable, printable_sentence
from ._tensors import NAMES

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Room:
    """Memory for one tensor."""

    name: str
    address: int
    # Makes the tensor of it. To be called when the bytes are verified, and not before.
    tensor: Callable[[], Any]


Allocator = Callable[[str, str, "list[int]", int], Room]


def allocator(framework: str, device: Any = "cpu") -> Allocator:
    """What makes room for a tensor, by name, safetensors type, shape in elements and size in bytes.

    Raises
    ------
    UsageError
        An unknown framework, or a device that it does not have.
    """
    if framework in ("torch", "pt"):
        return _torch(device)
    if framework in ("numpy", "np"):
        if str(device) != "cpu":
            raise UsageError(f"numpy arrays are in this machine's memory: device is 'cpu', not {device!r}")
        return _numpy
    raise UsageError(f"framework is 'torch' or 'numpy', not {framework!r}")


def _torch(device: Any) -> Allocator:
    import torch

    try:
        target = torch.device(device)
        # Now, and not after gigabytes were read.
        torch.empty(0, device=target)
    except (AssertionError, RuntimeError, TypeError) as error:
        raise UsageError(f"torch has no device {device!r} here: {printable_sentence(error)}") from error

    def allocate(name: str, dtype: str, shape: list[int], nbytes: int) -> Room:
        kind = getattr(torch, NAMES.get(dtype, ""), None)
        if kind is None:
            raise UsageError(f'this version of torch has no type for tensor "{printable(name)}", which is {dtype}')
        memory = _torch_bytes(nbytes)

        def tensor() -> torch.Tensor:
            return memory.view(kind).reshape(shape).to(target) if nbytes else torch.empty(shape, dtype=kind, device=target)

        return Room(name, memory.data_ptr(), tensor)

    return allocate


def _numpy(name: str, dtype: str, shape: list[int], nbytes: int) -> Room:
    memory = _numpy_bytes(nbytes)
    kind = _numpy_dtype(name, dtype)
    return Room(name, memory.__array_interface__["data"][0], lambda: memory.view(kind).reshape(shape))


def _torch_bytes(nbytes: int) -> torch.Tensor:
    import torch

    try:
        # Not numpy's, which asks the system for large pages: where memory is in small pieces, it waits for them.
        return torch.empty(nbytes, dtype=torch.uint8, device="cpu")
    except RuntimeError as error:
        raise _no_room(nbytes) from error


def _numpy_bytes(nbytes: int) -> Any:
    import numpy

    try:
        return numpy.empty(nbytes, numpy.uint8)
    except MemoryError as error:
        raise _no_room(nbytes) from error


def _no_room(nbytes: int) -> NotCheckedError:
    return NotCheckedError(f"there is no room in memory for a tensor of {nbytes} bytes", code="io")


def _numpy_dtype(name: str, dtype: str) -> Any:
    import numpy

    kind = NAMES.get(dtype)
    if kind is None:
        raise UsageError(f'numpy has no type for tensor "{printable(name)}", which is {dtype}')
    try:
        return numpy.dtype(kind)
    except TypeError:
        pass
    try:
        import ml_dtypes

        return numpy.dtype(getattr(ml_dtypes, kind))
    except (ImportError, AttributeError):
        raise UsageError(f'numpy itself has no type for tensor "{printable(name)}", which is {dtype}: install ml_dtypes, or load to torch') from None
