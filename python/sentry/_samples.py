"""Samples in memory, as the native half looks at them: field by field, as they are stored."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union

from . import _tensors
from ._errors import UsageError, printable

# A batch: values field by field, or sample by sample.
Batch = Union[Mapping[str, Any], Sequence[Mapping[str, Any]]]


class Array(NamedTuple):
    """A field of all samples, as one array."""

    dtype: str
    # Of one sample.
    shape: tuple[int, ...]
    address: int
    nbytes: int
    # Keeps the memory.
    owner: object


Column = Union[Array, list[Any]]


def columns(batch: Batch, types: Mapping[str, str]) -> tuple[int, list[tuple[str, Column]]]:
    """How many samples a batch has, and its fields. `types` are the signed types.

    Raises
    ------
    UsageError
        It is neither a mapping of fields nor a list of samples, or a field cannot be looked at as it is.
    """
    if isinstance(batch, Mapping):
        found = [(name, column(name, values, types.get(name, ""))) for name, values in batch.items()]
        if not found:
            raise UsageError("a batch has at least one field")
        lengths = {name: _length(values) for name, values in batch.items()}
        count = next(iter(lengths.values()))
        for name, length in lengths.items():
            if length != count:
                raise UsageError(f'fields of a batch have one value for each sample: "{printable(name)}" has {length}, others have {count}')
        return count, found
    samples = list(batch)
    if not all(isinstance(sample, Mapping) for sample in samples):
        raise UsageError("a batch is a mapping of names to columns, or a list of samples, each a mapping of names to values")
    names = dict.fromkeys(name for sample in samples for name in sample)
    return len(samples), [(name, _joined(name, [sample.get(name) for sample in samples], types.get(name, ""))) for name in names]


# Values of at most so many bytes are put together: looking at each of them costs more than copying it.
_SMALL = 1 << 16


def _joined(name: str, values: list[Any], signed: str) -> Column:
    """The values of a field, sample by sample: as one array if they are numbers of numpy, or small arrays, and all alike."""
    first = values[0] if values else None
    for library in (sys.modules.get("numpy"), sys.modules.get("torch")):
        if library is None or not _joins(library, first, signed):
            continue
        form = _form(first)
        if all(type(value) is type(first) and _form(value) == form for value in values):
            return column(name, library.stack(values), signed)
    return values


def _joins(library: Any, first: Any, signed: str) -> bool:
    """Whether values like the first can be put together without a change: none of classes derived from arrays, which may hold something else
    besides, no text, whose ends would be lost, and no dates, whose units would."""
    if type(first) in (getattr(library, "ndarray", None), getattr(library, "Tensor", None)):
        return signed.startswith("FixedShapeTensor(") and _is_dense(first) and first.nbytes <= _SMALL
    kind = getattr(library, "generic", None)
    return kind is not None and isinstance(first, kind) and first.dtype.kind in "biuf" and "(" not in signed


def _is_dense(array: Any) -> bool:
    """Whether an array has all its elements in memory, unlike sparse tensors."""
    return str(getattr(array, "layout", "torch.strided")) == "torch.strided"


def _form(array: Any) -> tuple[Any, ...]:
    return array.dtype, array.shape, getattr(array, "device", None)


def column(name: str, values: Any, signed: str) -> Column:
    """One field of a batch: its memory, if it is an array of what was signed; else its values."""
    if _is_array(values) and values.ndim > 0:
        array = _on_cpu(values)
        plain = signed and "(" not in signed
        if signed.startswith("FixedShapeTensor(") or not signed or (plain and array.ndim == 1):
            view = _view(name, array)
            return Array(view.dtype, tuple(view.shape[1:]), view.address, view.nbytes, view.owner)
        return list(array)
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise UsageError(f'field "{printable(name)}" of a batch is a {type(values).__name__}, and no list of a value for each sample')
    return list(values)


def described(value: Any) -> tuple[str, list[int], bytes]:
    """Type, shape and bytes of a value that is none of Python's own.

    Raises
    ------
    UsageError
        It is nothing that is stored, such as a decoded image or a date.
    """
    if not _is_array(value):
        raise UsageError(
            f"a {type(value).__name__} is nothing that is stored: give bytes, text, numbers, arrays, lists or mappings, as they were signed, "
            "before they are decoded"
        )
    array = _on_cpu(value)
    view = _view("value", array)
    return view.dtype, list(view.shape), _bytes(array)


def arrow_type(name: str, value: Any) -> str:
    """The type that a value's field is signed with, unless the signer says otherwise.

    Raises
    ------
    UsageError
        The value does not say: it is missing, an empty list, or of a class of its own.
    """
    plain = {bool: "Boolean", int: "Int64", float: "Float64", str: "Utf8", bytes: "Binary", bytearray: "Binary", memoryview: "Binary"}
    if type(value) in plain:
        return plain[type(value)]
    if isinstance(value, (list, tuple)) and value:
        return f"List({arrow_type(name, value[0])})"
    if isinstance(value, Mapping) and value:
        inner = ", ".join(f'"{key}": {arrow_type(name, value[key])}' for key in sorted(value, key=str.encode))
        return f"Struct({inner})"
    if _is_array(value):
        view = _view(name, _on_cpu(value))
        number = _arrow_number(view.dtype)
        return number if not view.shape and number != "Complex64" else f"FixedShapeTensor({number}, {list(view.shape)})"
    raise UsageError(f'say of what type the field "{printable(name)}" is: fields={{"{printable(name)}": "Int64"}} or another type of Arrow')


def _arrow_number(dtype: str) -> str:
    special = {"BOOL": "Boolean", "C64": "Complex64"}
    kinds = {"I": "Int", "U": "UInt", "F": "Float"}
    if dtype in special:
        return special[dtype]
    if dtype[0] in kinds and dtype[1:].isdigit() and dtype != "F8":
        return kinds[dtype[0]] + dtype[1:]
    raise UsageError(f"arrays of type {dtype} have no type in Arrow: convert them")


def _length(values: Any) -> int:
    try:
        return len(values)
    except TypeError:
        raise UsageError(f"a {type(values).__name__} is no list of a value for each sample") from None


def _is_array(value: object) -> bool:
    for module, kinds in (("numpy", ("ndarray", "generic")), ("torch", ("Tensor",))):
        library = sys.modules.get(module)
        if library is not None and isinstance(value, tuple(getattr(library, kind) for kind in kinds)):
            return True
    return False


def _on_cpu(array: Any) -> Any:
    """An array without gaps in this machine's memory, little-endian."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        if not _is_dense(array):
            raise UsageError(f"tensors of the layout {array.layout} are not stored as such: give dense ones")
        return array.detach().cpu().contiguous()
    import numpy

    if isinstance(array, numpy.ndarray) and type(array) not in (numpy.ndarray, numpy.memmap):
        raise UsageError(f"a {type(array).__name__} is more than its numbers: give the array that is stored")
    array = numpy.asarray(array)
    if array.dtype.hasobject:
        raise UsageError("arrays of Python objects are not stored as such: give lists")
    if array.dtype.kind in "mM":
        raise UsageError(f"the unit of {array.dtype} is not checked: give the whole numbers that are stored, in the unit that was signed")
    return numpy.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(array.shape)


def _view(name: str, array: Any) -> _tensors.View:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return _tensors._torch_view(name, array, True, _tensors.Devices(False))
    return _tensors._numpy_view(name, array, True)


def _bytes(array: Any) -> bytes:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return bytes(array.reshape(-1).view(torch.uint8).numpy()) if array.numel() else b""
    return bytes(array.tobytes())
