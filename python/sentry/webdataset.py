"""Stages for pipelines of ``webdataset`` whose archives are signed.

    verifier = sentry.DatasetVerifier("shards/", trust=trust)
    data = wds.WebDataset(urls).compose(sentry.webdataset.look(verifier)).shuffle(1000).decode("pil").to_tuple("jpg", "cls", "__sentry__")
    loader = sentry.torch.DataLoader(data, batch_size=64, num_workers=4, verifier=verifier)

A stage comes right after the archives are read, before anything is decoded: it checks the bytes that were signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ._datasets import DatasetVerifier, Receipt
from ._errors import UsageError, printable

__all__ = ["check", "look"]

# Where a sample carries what checking it has shown.
RECEIPT = "__sentry__"

# What the library itself says of a sample.
_NOTES = frozenset({"__key__", "__url__", "__local_path__"})

Stage = Callable[[Iterable[dict[str, Any]]], Iterator[dict[str, Any]]]


class _Stage:
    """Checks samples as they come by. A class, so that other processes can have it."""

    def __init__(self, verifier: DatasetVerifier, source: str | None, delivers: bool) -> None:
        self._verifier, self._source, self._delivers = verifier, source, delivers
        # The library writes the names of fields in lower case.
        self._names = {name.lower(): name for name in verifier.fields}
        if len(self._names) != len(verifier.fields):
            raise UsageError("fields were signed whose names differ only in their case, which webdataset does not tell apart")

    def __call__(self, samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return self._delivering(samples) if self._delivers else self._sending(samples)

    def _delivering(self, samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        with self._verifier._passing(self) as deliver:
            for sample in samples:
                receipt = self._look(sample)
                deliver(receipt)
                if receipt.kept:
                    yield sample

    def _sending(self, samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        # One sample behind, so that what is known of samples that are kept back goes along with one that is not.
        waiting: dict[str, Any] | None = None
        pending: list[Receipt] = []
        for sample in samples:
            receipt = self._look(sample)
            if not receipt.kept:
                pending.append(receipt)
                continue
            if waiting is not None:
                yield waiting
            waiting = {**sample, RECEIPT: self._verifier.join([receipt, *pending])}
            pending = []
        if waiting is not None:
            yield {**waiting, RECEIPT: self._verifier.join([waiting[RECEIPT], *pending])}

    def _look(self, sample: dict[str, Any]) -> Receipt:
        if "__key__" not in sample:
            raise UsageError("a sample of an archive has a __key__: this stage comes right after the archives are read")
        fields: dict[str, bytes] = {}
        for name, value in sample.items():
            # An archive has bytes, also under such a name.
            if name in _NOTES and isinstance(value, str):
                continue
            if name.startswith("__"):
                raise UsageError(f'the field "{printable(name)}" is none of an archive, or one that the library does not decode')
            if not isinstance(value, bytes):
                raise UsageError(f'the field "{printable(name)}" is decoded already: this stage comes before .decode()')
            signed = self._names.get(name.lower(), name)
            if signed in fields:
                raise UsageError(f'the sample has the field "{printable(signed)}" twice, in upper and lower case')
            fields[signed] = value
        return self._verifier.look([{**dict.fromkeys(self._verifier.fields), **fields}], [sample["__key__"]], source=self._source)


def look(verifier: DatasetVerifier, *, source: str | None = None) -> Stage:
    """A stage that checks samples and sends what it has found along, as ``"__sentry__"``: for :class:`sentry.torch.DataLoader`.

    Parameters
    ----------
    verifier
        Knows what was signed.
    source
        The source that the samples belong to. Default: the only one.

    Raises
    ------
    sentry.SampleError
        While iterating: a sample is not the signed one.
    """
    return _Stage(verifier, source, False)


def check(verifier: DatasetVerifier, *, source: str | None = None) -> Stage:
    """A stage that checks samples and counts them as used when they leave it: for pipelines that are iterated over directly, in one process.

    Parameters and errors are those of :func:`look`.
    """
    return _Stage(verifier, source, True)
