"""Signed models on the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._errors import NotCheckedError, UsageError, printable, printable_sentence

if TYPE_CHECKING:
    from typing import Union

    Path = Union[str, os.PathLike[str]]

__all__ = ["download"]


def download(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    token_file: Path | None = None,
    cache_dir: Path | None = None,
    local_dir: Path | None = None,
    wanted: Callable[[str], bool] | None = None,
) -> str:
    """Download a model from the hub. Nothing is verified here: pass the folder to a function that does.

    The token for private repositories is the one given, else that of the file, else what ``huggingface_hub`` finds: the
    variable ``HF_TOKEN``, or that of ``hf auth login``.

    Parameters
    ----------
    repo_id
        ``"organisation/name"``.
    revision
        A branch, tag or commit.
    token, token_file
        The token, or a file that holds nothing else, such as a git-ignored ``hf_access_token``.
    cache_dir, local_dir
        As for ``huggingface_hub.snapshot_download``.
    wanted
        Says by its name whether a file is to be downloaded. Default: all are.

    Returns
    -------
    str
        The folder.

    Raises
    ------
    sentry.NotCheckedError
        The repository cannot be reached, or there is none.
    sentry.UsageError
        This is no name of a repository, or the token's file has none.
    """
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError, HTTPError

    if token is None and token_file is not None:
        token = _read_token(token_file)
    try:
        files = None
        if wanted is not None:
            files = _wanted_files(huggingface_hub.HfApi(token=token), repo_id, revision, wanted)
        folder: str = huggingface_hub.snapshot_download(
            repo_id, revision=revision, token=token, cache_dir=cache_dir, local_dir=local_dir, allow_patterns=files
        )
    except HFValidationError as error:
        message = f'"{printable(repo_id)}" is neither a folder nor the name of a repository on the hub: {printable_sentence(error)}'
        raise UsageError(message) from error
    except (HTTPError, OSError, ValueError) as error:
        raise NotCheckedError(f'cannot download "{printable(repo_id)}": {printable_sentence(error)}', code="io") from error
    return folder


def _wanted_files(api: Any, repo_id: str, revision: str | None, wanted: Callable[[str], bool]) -> list[str]:
    """Patterns for the wanted files of a repository."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    try:
        listed = api.model_info(repo_id, revision=revision).siblings or []
    except HfHubHTTPError:
        # An answer of the hub's.
        raise
    except (HTTPError, OSError):
        # No connection. Nothing new is wanted then, and the cache may have it; what is missing there, verification finds.
        return []
    return [_literal(file.rfilename) for file in listed if wanted(file.rfilename)]


def _literal(name: str) -> str:
    """A pattern that stands for one name."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _read_token(path: Path) -> str:
    try:
        with open(path, encoding="ascii") as file:
            token = file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'cannot read a token from "{printable(path)}": {printable_sentence(error)}') from error
    if not token or any(letter.isspace() for letter in token):
        raise UsageError(f'"{printable(path)}" does not hold one token')
    return token
