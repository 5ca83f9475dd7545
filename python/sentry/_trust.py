"""Whom a caller trusts, and where the signatures are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Union

from . import _native
from ._errors import UsageError

Path = Union[str, "os.PathLike[str]"]

# One path or several.
Paths = Union[Path, Iterable[Path]]

Trust = Union[_native.PublicKey, _native.Certificate, _native.Policy]


def check_trust(trust: object) -> None:
    """Refuse what says of nobody that they are trusted.

    Raises
    ------
    UsageError
        It is neither a key, nor certificates, nor a policy.
    """
    if not isinstance(trust, (_native.PublicKey, _native.Certificate, _native.Policy)):
        raise UsageError(
            "say whom you trust: trust=sentry.PublicKey('publisher.pub'), or a sentry.Certificate or sentry.Policy; "
            f"found {type(trust).__name__}"
        )


def signatures(given: Paths | None) -> list[Path]:
    """The signatures that a caller names, as a list; an empty one stands for the one at its default place.

    Raises
    ------
    UsageError
        A list without a signature, which is not the same as none that is named.
    """
    if given is None:
        return []
    named = paths(given)
    if not named:
        raise UsageError("signature=[] has no signature in it: leave it out for the one at its default place")
    return named


def paths(given: Paths) -> list[Path]:
    """One path or several, as a list."""
    if isinstance(given, (str, os.PathLike)):
        return [given]
    return list(given)
