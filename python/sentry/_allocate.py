"""Memory to load tensors into, of the library that will own it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from . import _tensors
from ._errors import DeviceError, NotCheckedError, UsageError, printable, printable_sentence
from ._tensors import NAMES

if TYPE_CHECKING:
    import torch

    from ._native import SignedFile

# First and last byte in the file, the GPU that they go to if it is one, and the address there.
Region = tuple[int, int, Optional[int], int]

# Where the first tensor begins in a buffer that has several, in bytes: as torch's own allocator would have it.
_ALIGNMENT = 256


class Tensor(NamedTuple):
    """A tensor of a file, in the order in which the native half describes it."""

    name: str
    dtype: str
    # In elements.
    shape: list[int]
    # First and last byte in the file.
    start: int
    end: int

    @property
    def nbytes(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class Room:
    """Memory for tensors of one file."""

    regions: list[Region]
    # Makes the tensors of it, by name. To be called when the bytes are verified, and not before.
    tensors: Callable[[], dict[str, Any]]


class Allocator(ABC):
    """What makes room for tensors: each has memory of its own."""

    def file(self, file: SignedFile) -> Room:
        """Room for all tensors of a file."""
        rooms = [self.tensor(Tensor(*described)) for described in file.tensors()]
        regions = [region for room in rooms for region in room.regions]
        return Room(regions, lambda: {name: tensor for room in rooms for name, tensor in room.tensors().items()})

    @abstractmethod
    def tensor(self, tensor: Tensor) -> Room:
        """Room for one tensor."""

    def streams(self) -> list[tuple[int, int]]:
        """The handle of the stream by which memory of each GPU may still be in use."""
        return []


def allocator(framework: str, device: Any = "cpu") -> Allocator:
    """What makes room for tensors of a framework on a device, or on those of a device map.

    Raises
    ------
    UsageError
        An unknown framework, or a device that it does not have.
    """
    if framework in ("torch", "pt"):
        if not isinstance(device, Mapping):
            device = {"": device}
        devices = {prefix: torch_device(name) for prefix, name in device.items()}
        if any(_is_gpu(target) for target in devices.values()):
            return _TorchOnGpus(devices)
        return _Torch(devices)
    if framework in ("numpy", "np"):
        if isinstance(device, Mapping) or str(device) != "cpu":
            raise UsageError(f"numpy arrays are in this machine's memory: device is 'cpu', not {device!r}")
        return _Numpy()
    raise UsageError(f"framework is 'torch' or 'numpy', not {framework!r}")


def torch_device(name: Any) -> torch.device:
    """A device of torch, which is there.

    Raises
    ------
    UsageError
        It is not.
    """
    import torch

    if name == "disk":
        raise UsageError("weights that stay on disk would be read again unverified: a device map has no 'disk'")
    try:
        device = torch.device(name)
        # Now, and not after gigabytes were read. It also says which GPU is meant by no number.
        return torch.empty(0, device=device).device
    except (AssertionError, RuntimeError, TypeError) as error:
        raise UsageError(f"torch has no device {name!r} here: {printable_sentence(error)}") from error


def _is_gpu(device: torch.device) -> bool:
    return device.type == "cuda" and _tensors.runs_on_nvidia()


class _Torch(Allocator):
    """Tensors of torch. They are loaded to this machine's memory, and then moved if their device is another."""

    def __init__(self, devices: Mapping[str, torch.device]) -> None:
        self._devices = devices

    def tensor(self, tensor: Tensor) -> Room:
        import torch

        kind, target = _torch_dtype(tensor), self._device_of(tensor.name)
        memory = _torch_bytes(tensor.nbytes)

        def made() -> torch.Tensor:
            if not tensor.nbytes:
                return torch.empty(tensor.shape, dtype=kind, device=target)
            return memory.view(kind).reshape(tensor.shape).to(target)

        return Room([(tensor.start, tensor.end, None, memory.data_ptr())], lambda: {tensor.name: made()})

    def _device_of(self, name: str) -> torch.device:
        """The device of the longest name in the map that is the tensor's, or of a module that has it."""
        module = name
        while module not in self._devices:
            if not module:
                raise UsageError(f'the device map has no device for tensor "{printable(name)}"')
            module = module.rpartition(".")[0]
        return self._devices[module]


@dataclass
class _Run:
    """Bytes of a file that lie in one buffer as they lie in the file."""

    start: int
    end: int
    # In the buffer, in bytes.
    offset: int
    tensors: list[Tensor]


class _TorchOnGpus(_Torch):
    """Tensors of torch, loaded to the memory of GPUs at once: those of one file and GPU are views of one buffer."""

    def tensor(self, tensor: Tensor) -> Room:
        device = self._device_of(tensor.name)
        if not _is_gpu(device):
            return super().tensor(tensor)
        return self._buffer(device, [_Run(tensor.start, tensor.end, 0, [tensor])])

    def file(self, file: SignedFile) -> Room:
        tensors = [Tensor(*described) for described in file.tensors()]
        rooms = []
        runs: dict[torch.device, list[_Run]] = {}
        former = None
        for tensor in tensors:
            device = self._device_of(tensor.name)
            if not _is_gpu(device):
                rooms.append(super().tensor(tensor))
            elif device == former:
                run = runs[device][-1]
                run.end = tensor.end
                run.tensors.append(tensor)
            else:
                runs.setdefault(device, []).append(_Run(tensor.start, tensor.end, 0, [tensor]))
            former = device
        only = len(runs) == 1 and not rooms
        for device, own in runs.items():
            if only:
                # What else is in the file, if it is to be hashed there.
                own[0].start = file.first_byte()
            rooms.append(self._buffer(device, own))
        regions = [region for room in rooms for region in room.regions]

        def made() -> dict[str, Any]:
            found = {name: tensor for room in rooms for name, tensor in room.tensors().items()}
            return {tensor.name: found[tensor.name] for tensor in tensors} if len(rooms) > 1 else found

        return Room(regions, made)

    def streams(self) -> list[tuple[int, int]]:
        gpus = {device for device in self._devices.values() if _is_gpu(device)}
        return [(int(device.index), _tensors.current_stream(device)) for device in gpus]

    def _buffer(self, device: torch.device, runs: list[_Run]) -> Room:
        """Room for some runs in one buffer."""
        kinds = [_torch_dtype(tensor) for run in runs for tensor in run.tensors]
        end = 0
        for run in runs:
            # The first tensor is what begins at a multiple.
            before = run.tensors[0].start - run.start
            run.offset = _round_up(end + before) - before
            end = run.offset + run.end - run.start
        # As long as a multiple of every type's size, so that all of it can be looked at as any type.
        memory = _torch_bytes(_round_up(end), device)
        address = memory.data_ptr()
        regions: list[Region] = [(run.start, run.end, int(device.index), address + run.offset) for run in runs]
        return Room(regions, lambda: dict(_views(memory, runs, kinds)))


def _views(memory: torch.Tensor, runs: list[_Run], kinds: list[torch.dtype]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in a buffer: views of it, but for those that do not begin at a multiple of their element's size."""
    import torch

    typed: dict[torch.dtype, tuple[torch.Tensor, int]] = {}
    all_kinds = iter(kinds)
    for run in runs:
        shift = run.offset - run.start
        for name, _, shape, start, end in run.tensors:
            kind = next(all_kinds)
            if kind not in typed:
                typed[kind] = (memory.view(kind), kind.itemsize)
            whole, size = typed[kind]
            offset = start + shift
            if start == end:
                yield name, torch.empty(shape, dtype=kind, device=memory.device)
            elif offset % size:
                yield name, memory[offset : offset + end - start].clone().view(kind).reshape(shape)
            else:
                yield name, whole.as_strided(shape, _strides(shape), offset // size)


def _strides(shape: list[int]) -> list[int]:
    """Of a row-major tensor, in elements."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * shape[axis]
    return strides


class _Numpy(Allocator):
    """Arrays of numpy."""

    def tensor(self, tensor: Tensor) -> Room:
        memory = _numpy_bytes(tensor.nbytes)
        kind = _numpy_dtype(tensor)
        region = (tensor.start, tensor.end, None, memory.__array_interface__["data"][0])
        return Room([region], lambda: {tensor.name: memory.view(kind).reshape(tensor.shape)})


def _round_up(offset: int) -> int:
    return (offset + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


def _torch_bytes(nbytes: int, device: Any = "cpu") -> torch.Tensor:
    import torch

    try:
        # Not numpy's, which asks the system for large pages: where memory is in small pieces, it waits for them.
        return torch.empty(nbytes, dtype=torch.uint8, device=device)
    except torch.cuda.OutOfMemoryError as error:
        # Said by torch: what else is on the GPU, and how to make it less.
        raise DeviceError(f"there is no room for {nbytes} bytes: {printable_sentence(error)}", code="gpu_out_of_memory") from error
    except RuntimeError as error:
        raise _no_room(nbytes) from error


def _torch_dtype(tensor: Tensor) -> torch.dtype:
    import torch

    kind = getattr(torch, NAMES.get(tensor.dtype, ""), None)
    if not isinstance(kind, torch.dtype):
        raise UsageError(f'this version of torch has no type for tensor "{printable(tensor.name)}", which is {tensor.dtype}')
    return kind


def _numpy_bytes(nbytes: int) -> Any:
    import numpy

    try:
        return numpy.empty(nbytes, numpy.uint8)
    except MemoryError as error:
        raise _no_room(nbytes) from error


def _no_room(nbytes: int) -> NotCheckedError:
    return NotCheckedError(f"there is no room in memory for a tensor of {nbytes} bytes", code="io")


def _numpy_dtype(tensor: Tensor) -> Any:
    import numpy

    kind = NAMES.get(tensor.dtype)
    if kind is None:
        raise UsageError(f'numpy has no type for tensor "{printable(tensor.name)}", which is {tensor.dtype}')
    try:
        return numpy.dtype(kind)
    except TypeError:
        pass
    try:
        import ml_dtypes

        return numpy.dtype(getattr(ml_dtypes, kind))
    except (ImportError, AttributeError):
        raise UsageError(
            f'numpy itself has no type for tensor "{printable(tensor.name)}", which is {tensor.dtype}: install ml_dtypes, or load to torch'
        ) from None
