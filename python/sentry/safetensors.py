"""``load_file`` and ``safe_open`` for signed files, in place of those of the safetensors library.

    from sentry.safetensors import load_file, safe_open

    tensors = load_file("model.safetensors", trust=trust)
    with safe_open("model.safetensors", "pt", trust=trust) as file:
        tensor = file.get_tensor("wte.weight")
"""

from __future__ import annotations

import json
import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._allocate import Tensor, allocator
from ._errors import UsageError
from ._locate import open_signed_file
from ._models import VerifiedTensors, load_files

if TYPE_CHECKING:
    from typing import Union

    from ._native import SignedFile
    from ._trust import Paths, Trust

    Path = Union[str, os.PathLike[str]]

__all__ = ["load_file", "safe_open"]


def load_file(
    filename: Path,
    device: Any = "cpu",
    *,
    trust: Trust,
    signature: Paths | None = None,
    root: Path | None = None,
    framework: str = "torch",
) -> VerifiedTensors:
    """Load all tensors of a signed safetensors file, as ``safetensors.torch.load_file`` does.

    Parameters
    ----------
    filename
        The file.
    device
        For torch: a device. Bytes for an NVIDIA GPU are read straight to it and verified there; the tensors are views of one buffer then.
        For other devices they are verified in this machine's memory and moved.
    trust
        Who may have signed: a :class:`sentry.PublicKey`, a :class:`sentry.Certificate` or a :class:`sentry.Policy`.
    signature
        The signature file; several if the policy asks for several signers. Default: ``NAME.sig`` beside the file,
        else ``model.sig`` in its folder.
    root
        The signed folder, if the file lies deeper in it.
    framework
        ``"torch"`` or ``"numpy"``.

    Returns
    -------
    sentry.VerifiedTensors
        A dict of names to tensors.

    Raises
    ------
    sentry.VerificationError
        The file or its signature is wrong. Nothing is returned.
    """
    reader, file = open_signed_file(filename, trust, signature, root)
    return load_files(reader, [file], framework, device)


class safe_open:
    """A signed safetensors file, of which tensors are read one by one, as ``safetensors.safe_open`` does.

    Where the signature lists the file's tensors, as Sentry's do, opening checks the signature and the header, and
    ``get_tensor`` checks the tensor that it reads. Otherwise opening reads and checks the whole file.

    Parameters
    ----------
    filename
        The file.
    framework
        ``"pt"`` or ``"torch"``, ``"np"`` or ``"numpy"``.
    device
        For torch: as for :func:`load_file`.
    trust, signature, root
        As for :func:`load_file`.

    Raises
    ------
    sentry.VerificationError
        The file or its signature is wrong.
    """

    def __init__(
        self,
        filename: Path,
        framework: str = "pt",
        device: Any = "cpu",
        *,
        trust: Trust,
        signature: Paths | None = None,
        root: Path | None = None,
    ) -> None:
        self._allocator = allocator(framework, device)
        reader, file = open_signed_file(filename, trust, signature, root)
        self._places = {described[0]: (place, Tensor(*described)) for place, described in enumerate(file.tensors())}
        self._metadata: dict[str, str] | None = json.loads(file.header_json()).get("__metadata__")
        # Tensors that could only be checked all together.
        self._loaded = None if file.is_annotated else load_files(reader, [file], framework, device)
        # Nothing once it is closed.
        self._file: SignedFile | None = file

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file = self._loaded = None

    def keys(self) -> list[str]:
        """The names of all tensors, sorted."""
        return sorted(self._places)

    def offset_keys(self) -> list[str]:
        """The names of all tensors, in the order of their bytes."""
        return list(self._places)

    def metadata(self) -> dict[str, str] | None:
        """The free text in the header; it is covered by the signature, and means nothing to Sentry."""
        return self._metadata

    def get_tensor(self, name: str) -> Any:
        """Read one tensor and check it.

        Raises
        ------
        sentry.ManifestError
            It is not the signed one.
        KeyError
            The file has no tensor of this name.
        """
        tensor = self._read(name)
        # What the caller does to it must not show in what is handed out next.
        return tensor if self._loaded is None else _copy(tensor)

    def get_tensors(self) -> dict[str, Any]:
        """All tensors by name, as by :meth:`get_tensor`."""
        return {name: self.get_tensor(name) for name in self._places}

    def get_slice(self, name: str) -> TensorSlice:
        """One tensor, of which parts are taken by indexing. The whole of it is read and checked each time."""
        return TensorSlice(self, name)

    def _read(self, name: str) -> Any:
        """One tensor, and not a copy of it, if it is kept."""
        if self._file is None:
            raise UsageError("the file is closed")
        place, tensor = self._places[name]
        if self._loaded is not None:
            return self._loaded[name]
        room = self._allocator.tensor(tensor)
        ((_, _, gpu, address),) = room.regions
        try:
            self._file.load_tensor(place, gpu, address, self._allocator.streams())
        except BaseException:
            # As in `load_files`.
            del room
            raise
        return room.tensors()[name]


class TensorSlice:
    """A tensor of an open file."""

    def __init__(self, file: safe_open, name: str) -> None:
        _, tensor = file._places[name]
        self._dtype, self._shape = tensor.dtype, tensor.shape
        self._file = file
        self._name = name

    def get_shape(self) -> list[int]:
        """The shape in elements."""
        return list(self._shape)

    def get_dtype(self) -> str:
        """The type's name in safetensors."""
        return self._dtype

    def __getitem__(self, index: Any) -> Any:
        # A copy, so that the rest of the tensor does not stay in memory.
        return _copy(self._file._read(self._name)[index])


def _copy(tensor: Any) -> Any:
    return tensor.clone() if hasattr(tensor, "clone") else tensor.copy()
