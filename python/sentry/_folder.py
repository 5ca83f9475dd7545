"""A folder of verified files, for libraries that read files by themselves."""

from __future__ import annotations

import atexit
import fcntl
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from . import _native
from ._errors import NotCheckedError, printable_sentence
from ._trust import Paths, Trust, check_trust, signatures

if TYPE_CHECKING:
    from typing import Union

    PathLike = Union[str, os.PathLike[str]]

# Files of a model that are open at a time; a process may often have 1024, and each copy takes one.
_OPEN_AT_ONCE = 64

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@contextmanager
def verified_folder(
    path: PathLike, *, trust: Trust, signature: Paths | None = None, wanted: Callable[[str], bool] | None = None
) -> Iterator[Path]:
    """Verified copies of a model's files, for any library that loads from a folder.

    The bytes are read once, into memory that can no longer be written to when the folder is handed out: whatever happens to the
    model on disk meanwhile, the library reads what was signed. Unsigned files are not in the folder.

        with sentry.verified_folder("my-model/", trust=trust) as folder:
            model = SomeLibrary.load(folder)

    Parameters
    ----------
    path
        A signed folder.
    trust
        Who may have signed: a :class:`PublicKey`, a :class:`Certificate` or a :class:`Policy`.
    signature
        The signature file; several if the policy asks for several signers. Default: ``model.sig`` in the folder.
    wanted
        Says by its name whether a signed file belongs into the folder. Default: all do, and one that is missing on disk is
        an error.

    Yields
    ------
    pathlib.Path
        The folder. It is gone after the block; files that are mapped into memory by then stay so.

    Raises
    ------
    VerificationError
        The model or its signature is wrong; there is no folder then.
    """
    check_trust(trust)
    reader = _native.Reader(path, signatures(signature), trust)
    names = [name for name in reader.names() if wanted is None or wanted(name)]
    with ExitStack() as stack:
        with _system_errors():
            folder = _folder_of_copies(stack, reader, names)
        yield folder


def _folder_of_copies(stack: ExitStack, reader: _native.Reader, names: list[str]) -> Path:
    """Sealed copies under their names. The files themselves are open a few at a time."""
    descriptors: list[int] = []
    for first in range(0, len(names), _OPEN_AT_ONCE):
        files = [reader.open_file(name) for name in names[first : first + _OPEN_AT_ONCE]]
        copies = [_memory(stack, file.size) for file in files]
        reader.load_files(files, copies)
        descriptors += copies
    # All are verified; from here on nobody can change them.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=_private_folder(os.getpid()))))
    for name, descriptor in zip(names, descriptors, strict=True):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        # By process, so that helper processes of the library can read it too.
        link.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
    return folder


@contextmanager
def _system_errors() -> Iterator[None]:
    """The system's refusals, such as of memory or of one more open file, as errors of this package."""
    try:
        yield
    except OSError as error:
        raise NotCheckedError(f"cannot make verified copies of the files: {printable_sentence(error)}", code="io") from error


@functools.cache
def _private_folder(owner: int) -> str:
    """A folder of one process alone: nobody else can put files where a library remembers that its own once lay."""
    folder = tempfile.mkdtemp(prefix="sentry-")

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _memory(stack: ExitStack, size: int) -> int:
    """The descriptor of a file in memory."""
    descriptor = os.memfd_create("sentry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, descriptor)
    os.ftruncate(descriptor, size)
    return descriptor


@contextmanager
def memory_file(reader: _native.Reader, file: _native.SignedFile) -> Iterator[BinaryIO]:
    """A verified copy of an open file, as a file object that nobody can write to.

    Raises
    ------
    VerificationError
        The file is not the signed one.
    """
    with ExitStack() as stack:
        with _system_errors():
            descriptor = _memory(stack, file.size)
            reader.load_files([file], [descriptor])
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        with open(f"/proc/self/fd/{descriptor}", "rb") as verified:
            yield verified
