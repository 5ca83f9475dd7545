"""``torch.load`` for signed files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch

from ._errors import UsageError
from ._folder import memory_file
from ._locate import open_signed_file

if TYPE_CHECKING:
    from typing import Union

    from ._trust import Paths, Trust

    Path = Union[str, os.PathLike[str]]


def load(path: Path, *, trust: Trust, signature: Paths | None = None, root: Path | None = None, map_location: Any = None, **options: Any) -> Any:
    """Load a ``.pt`` or ``.pth`` file: its bytes are verified first, and then read by ``torch.load`` with ``weights_only=True``.

    Parameters
    ----------
    path
        The file.
    trust
        Who may have signed: a :class:`sentry.PublicKey`, a :class:`sentry.Certificate` or a :class:`sentry.Policy`.
    signature
        The signature file; several if the policy asks for several signers. Default: ``NAME.sig`` beside the file,
        else ``model.sig`` in its folder.
    root
        The signed folder, if the file lies deeper in it.
    map_location, options
        As for ``torch.load``.

    Returns
    -------
    object
        What ``torch.load`` returns.

    Raises
    ------
    sentry.VerificationError
        The file or its signature is wrong; nothing of it was unpickled.
    sentry.UsageError
        ``weights_only`` is false: code in a pickle is never run, not even signed code.
    """
    if options.pop("weights_only", True) is not True:
        raise UsageError("sentry.torch.load never runs code from a pickle: weights_only stays True")
    reader, file = open_signed_file(path, trust, signature, root)
    with memory_file(reader, file) as verified:
        return torch.load(verified, map_location=map_location, weights_only=True, **options)
