"""Signed models on the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ._errors import NotCheckedError, UsageError

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
    from huggingface_hub.errors import HFValidationError

    if token is None and token_file is not None:
        token = _read_token(token_file)
    try:
        files = None
        if wanted is not None:
            listed = huggingface_hub.HfApi(token=token).list_repo_files(repo_id, revision=revision)
            files = [_literal(name) for name in listed if wanted(name)]
        folder: str = huggingface_hub.snapshot_download(
            repo_id, revision=revision, token=token, cache_dir=cache_dir, local_dir=local_dir, allow_patterns=files
        )
    except HFValidationError as error:
        raise UsageError(f'"{repo_id}" is neither a folder nor the name of a repository on the hub: {error}') from error
    except (OSError, ValueError) as error:
        raise NotCheckedError(f'cannot download "{repo_id}": {error}', code="io") from error
    return folder


def _literal(name: str) -> str:
    """A pattern that stands for one name."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _read_token(path: Path) -> str:
    try:
        with open(path, encoding="ascii") as file:
            token = file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f'cannot read a token from "{os.fspath(path)}": {error}') from error
    if not token or any(letter.isspace() for letter in token):
        raise UsageError(f'"{os.fspath(path)}" does not hold one token')
    return token
