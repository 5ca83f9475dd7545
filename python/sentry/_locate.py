"""Which signature covers a file, and under which name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from . import _native
from ._errors import UsageError, printable
from ._trust import Paths, Trust, check_trust, signatures

if TYPE_CHECKING:
    from typing import Union

    PathLike = Union[str, os.PathLike[str]]


def open_signed_file(
    path: PathLike, trust: Trust, signature: Paths | None, root: PathLike | None
) -> tuple[_native.Reader, _native.SignedFile]:
    """Open a file by its path, which is signed by itself or as a part of a folder.

    With `root`, the file is part of that folder. With a signature and no root, it is signed by itself. With neither, it is
    signed by itself if there is a ``NAME.sig`` beside it, and else a part of its folder.

    Raises
    ------
    VerificationError
        The signature is wrong, or does not cover the file.
    """
    check_trust(trust)
    file = Path(path)
    if isinstance(trust, _native.Policy) and trust.artifact is None and root is None and signature is None:
        # A signature that somebody put beside the file would choose the name, and so the rule.
        raise UsageError("say what the policy is asked about: Policy(path, artifact=...), root=... or signature=...")
    if root is None and signature is None and not Path(f"{file}.sig").is_file():
        root = file.parent
    if root is None:
        reader = _native.Reader(file, signatures(signature), trust)
        names = reader.names()
        if len(names) != 1:
            raise UsageError(f'the signature covers {len(names)} files: name their folder with root=..., found the file "{printable(file)}"')
        return reader, reader.open_file(names[0])
    try:
        name = file.relative_to(root)
    except ValueError:
        raise UsageError(f'"{printable(file)}" does not lie in root="{printable(root)}"') from None
    reader = _native.Reader(root, signatures(signature), trust)
    return reader, reader.open_file(name.as_posix())
