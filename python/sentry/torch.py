"""``torch.load`` for signed files, and loading of data whose samples are signed.

    verifier = sentry.DatasetVerifier("digits/", trust=trust)
    data = sentry.torch.ImageFolder("digits/", verifier, transform=transform)
    loader = sentry.torch.DataLoader(data, batch_size=64, shuffle=True, num_workers=4)
    for epoch in range(2):
        for images, labels in loader:
            ...
        verifier.finish()

Samples are checked where they are read, in workers too, before they are decoded; they count when the loader hands them out.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch.utils import data as torch_data

from . import _native, _samples
from ._datasets import DatasetVerifier, FinishedEpoch, Receipt
from ._errors import Error, UsageError, from_native, printable
from ._folder import memory_file
from ._locate import open_signed_file

__all__ = ["DataLoader", "ImageFolder", "StatefulDataLoader", "VerifiedDataset", "VerifiedIterableDataset", "finish", "load"]

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


class Looked(NamedTuple):
    """Samples that were checked and are on their way.

    Attributes
    ----------
    values
        What becomes of those that may be used.
    receipt
        What checking them has shown.
    """

    values: list[Any]
    receipt: Receipt


class Looking(Protocol):
    """A dataset whose samples can be checked some at a time."""

    verifier: DatasetVerifier

    def look(self, indices: Sequence[int]) -> Looked:
        """Reads and checks samples."""

    def __len__(self) -> int:
        """How many there are."""


class VerifiedDataset(torch_data.Dataset[Any]):  # type: ignore[misc]
    """A map-style dataset whose samples are checked before they are used.

    Used by itself, ``dataset[index]`` checks a sample and counts it as used. In a :class:`DataLoader` of this module samples count
    when the loader hands them out.

    Parameters
    ----------
    dataset
        What has the samples as they were signed: ``dataset[index]`` is a mapping of fields to values, before anything is decoded. Or a mapping
        of fields to arrays.
    verifier
        Knows what was signed.
    ids
        The id of each sample: a sequence, or a function of the index. Default: the field that they were signed by, or the index if ids are
        numbers of rows.
    source
        The source that the samples belong to. Default: the only one.
    transform
        What a sample becomes, from the mapping of its fields: the place for decoding and augmentation.
    """

    def __init__(
        self,
        dataset: Any,
        verifier: DatasetVerifier,
        *,
        ids: Sequence[Any] | Callable[[int], Any] | None = None,
        source: str | None = None,
        transform: Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> None:
        self.verifier = verifier
        self._dataset = _Fields(dataset) if isinstance(dataset, Mapping) else dataset
        self._ids = range(len(self._dataset)) if ids is None and verifier.ids == "ordinal" else ids
        self._source = source
        self._transform = transform

    def __len__(self) -> int:
        return len(self._dataset)

    def look(self, indices: Sequence[int]) -> Looked:
        """Read and check samples, without counting them as used."""
        batch: _samples.Batch
        # Of their own, so that what goes on is what was checked.
        if isinstance(self._dataset, _Fields):
            batch = self._dataset.taken(indices)
            samples = [dict(zip(batch, values)) for values in zip(*batch.values())]
        else:
            batch = samples = [_own(self._dataset[index]) for index in indices]
        receipt = self.verifier.look(batch, self._ids_of(indices), source=self._source)
        kept = [samples[place] for place in receipt.kept]
        return Looked(kept if self._transform is None else [self._transform(sample) for sample in kept], receipt)

    def _ids_of(self, indices: Sequence[int]) -> list[Any] | None:
        if self._ids is None:
            return None
        if callable(self._ids):
            return [self._ids(index) for index in indices]
        return [self._ids[index] for index in indices]

    def __getitem__(self, index: int) -> Any:
        values, receipt = self.look([index])
        self.verifier.deliver(receipt)
        if not values:
            raise UsageError("a sample that is kept back has no value: use sentry.torch.DataLoader, which leaves it out")
        return values[0]


# Values that nobody can write to.
_CONSTANT = frozenset((type(None), bool, int, float, str, bytes))


def _own(value: Any) -> Any:
    """A value that nobody else can write to, such as through the file that it is mapped from, or when the next sample is read."""
    if type(value) in _CONSTANT:
        return value
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Mapping):
        return {name: _own(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_own(inner) for inner in value]
    numpy = sys.modules.get("numpy")
    return value.copy() if numpy is not None and isinstance(value, numpy.ndarray) else value


class _Fields:
    """Samples of arrays, field by field."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        lengths = {len(values) for values in fields.values()}
        if len(lengths) != 1:
            raise UsageError("fields have one value for each sample: here they have different lengths, or there is none")
        self._fields = dict(fields)
        self._length = lengths.pop()

    def __len__(self) -> int:
        return self._length

    def taken(self, indices: Sequence[int]) -> dict[str, Any]:
        """Copies of some samples' values, field by field."""
        return {name: _taken(values, indices) for name, values in self._fields.items()}


def _taken(values: Any, indices: Sequence[int]) -> Any:
    numpy = sys.modules.get("numpy")
    # Indexed by a list, an array is copied; classes derived from it may do otherwise. Text and objects are values of their own.
    if numpy is not None and type(values) in (numpy.ndarray, numpy.memmap) and values.dtype.kind in "biufc":
        return numpy.asarray(values)[list(indices)]
    return values[list(indices)] if type(values) is torch.Tensor else [_own(values[index]) for index in indices]


class ImageFolder(VerifiedDataset):
    """Images in folders that are their labels, in the manner of ``torchvision.datasets.ImageFolder``.

    Parameters
    ----------
    root
        The signed folder.
    verifier
        Knows what was signed.
    source
        The split, such as ``"train"``. Default: the only one.
    transform
        What becomes of an image. Default: the image in RGB, of PIL.
    target_transform
        What becomes of the number of its class.

    Attributes
    ----------
    classes
        Names of the classes, sorted.
    class_to_idx
        The number of each.
    """

    def __init__(
        self,
        root: Path,
        verifier: DatasetVerifier,
        *,
        source: str | None = None,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ) -> None:
        found = _native.list_images(root)
        wanted = source if source is not None else verifier._source(None)
        self._root = FilePath(root)
        self._files = _signed_images([(path, label) for path, own, label in found if own == wanted], verifier, wanted)
        self.classes = sorted({label for _, label in self._files if label is not None})
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self._image, self._target = transform, target_transform
        super().__init__(self, verifier, ids=[path for path, _ in self._files], source=wanted, transform=self._decode)
        self._dataset = _Images(self._root, self._files, set(verifier.fields))

    def __len__(self) -> int:
        return len(self._files)

    def _decode(self, sample: Mapping[str, Any]) -> tuple[Any, Any]:
        from PIL import Image

        image: Any = Image.open(io.BytesIO(sample["image"])).convert("RGB")
        if self._image is not None:
            image = self._image(image)
        label = sample.get("label")
        target: Any = None if label is None else self.class_to_idx[label]
        if self._target is not None:
            target = self._target(target)
        return image, target


def _signed_images(files: list[tuple[str, str | None]], verifier: DatasetVerifier, source: str) -> list[tuple[str, str | None]]:
    """The images of a source, whose paths are the signed ones: the numbers of classes come from all of them.

    Raises
    ------
    sentry.SampleError
        An image is missing, or one is there that was not signed, unless such are kept back.
    """
    ids = verifier._checker.ids_of(source)
    if ids is None or verifier.ids != "path":
        raise UsageError("classes come from the folders of all images: the dataset must be one of images, signed with sample tables")
    signed, there = set(ids), {_native.path_id(path): path for path, _ in files}
    different: list[Any] = []
    for number in sorted(signed - there.keys()):
        message = f'sample {number} of source "{printable(source)}" is missing'
        different.append(("missing_sample", None, None, None, source, number, None, None, None, message))
    if not verifier._keeps_back:
        for number in sorted(there.keys() - signed):
            message = f'sample {number} of source "{printable(source)}" is not signed: "{printable(there[number])}"'
            different.append(("unsigned_sample", there[number], None, None, source, number, None, None, None, message))
    if different:
        raise from_native("dataset_differs", True, different[0][-1], different)
    return [(path, label) for path, label in files if _native.path_id(path) in signed]


class _Images:
    """The bytes of images, with their labels."""

    def __init__(self, root: FilePath, files: list[tuple[str, str | None]], fields: set[str]) -> None:
        if not fields <= {"image", "label"}:
            extra = printable(sorted(fields - {"image", "label"})[0])
            raise UsageError(f'the images were signed with the field "{extra}" of a table: use VerifiedDataset with a dataset that has it')
        self._root, self._files, self._fields = root, files, fields

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self._files[index]
        sample = {"image": (self._root / path).read_bytes(), "label": label}
        return {name: sample[name] for name in self._fields}


class VerifiedIterableDataset(torch_data.IterableDataset[Any]):  # type: ignore[misc]
    """An iterable dataset whose samples are checked before they are used.

    Parameters
    ----------
    dataset
        Yields samples as they were signed: mappings of fields to values.
    verifier
        Knows what was signed.
    ids
        The id of a sample: a function of it, or the name of a key that is no field, such as ``"__key__"``. Default: the field that they
        were signed by.
    source
        The source of all samples, or a function of a sample. Default: the only one.
    transform
        What a sample becomes.
    """

    def __init__(
        self,
        dataset: Iterable[Mapping[str, Any]],
        verifier: DatasetVerifier,
        *,
        ids: Callable[[Mapping[str, Any]], Any] | str | None = None,
        source: str | Callable[[Mapping[str, Any]], str] | None = None,
        transform: Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> None:
        self.verifier = verifier
        self._dataset, self._ids, self._source, self._transform = dataset, ids, source, transform

    def __iter__(self) -> Iterator[Any]:
        """Values that were checked, each counted as used when it is handed out."""
        with self.verifier._passing(self) as deliver:
            for values, receipt in self.looked():
                deliver(receipt)
                yield from values

    def looked(self) -> Iterator[Looked]:
        """One sample at a time, with what checking it has shown."""
        for sample in self._dataset:
            yield self._look(sample)

    def _look(self, read: Mapping[str, Any]) -> Looked:
        sample = _own(read)
        if not isinstance(sample, dict):
            raise UsageError(f"a sample is a mapping of names to values, not a {type(read).__name__}")
        fields = sample
        ids: list[Any] | None = None
        if isinstance(self._ids, str):
            ids = [sample[self._ids]]
            fields = {name: value for name, value in sample.items() if name != self._ids}
        elif self._ids is not None:
            ids = [self._ids(sample)]
        source = self._source(sample) if callable(self._source) else self._source
        receipt = self.verifier.look([fields], ids, source=source)
        values = [sample if self._transform is None else self._transform(sample)] if receipt.kept else []
        return Looked(values, receipt)


class _Failed(NamedTuple):
    """An error on its way out of a worker: torch itself would make another one of it."""

    error: Error


class _Batch:
    """A batch with its receipt, on its way out of a worker."""

    def __init__(self, values: Any, receipt: Receipt, is_empty: bool) -> None:
        self.values, self.receipt, self.is_empty = values, receipt, is_empty

    def handed_out(self) -> Any:
        """The values. They are no longer held here, so that their memory is free as soon as the caller has no use for them."""
        values, self.values = self.values, None
        return values

    def pin_memory(self, device: Any = None) -> _Batch:
        """As torch asks of classes that are not its own."""
        from torch.utils.data._utils.pin_memory import pin_memory

        self.values = pin_memory(self.values, device)
        return self


class _Map(torch_data.Dataset[Any]):  # type: ignore[misc]
    """A dataset as the loader reads it: some samples at once."""

    def __init__(self, dataset: Looking) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: Sequence[int]) -> Looked | _Failed:
        try:
            return self._dataset.look(indices)
        except Error as error:
            return _Failed(error)

    def __getitem__(self, index: int) -> Looked | _Failed:
        return self.__getitems__([index])


class _Part:
    """Some of the samples of a dataset, as ``torch.utils.data.Subset`` and ``random_split`` choose them."""

    def __init__(self, dataset: Looking, indices: Sequence[int]) -> None:
        self.verifier = dataset.verifier
        self._dataset, self._indices = dataset, indices

    def __len__(self) -> int:
        return len(self._indices)

    def look(self, indices: Sequence[int]) -> Looked:
        return self._dataset.look([self._indices[index] for index in indices])


class _Stream(torch_data.IterableDataset[Any]):  # type: ignore[misc]
    """An iterable dataset as the loader reads it."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[Looked | _Failed]:
        looked = getattr(self._dataset, "looked", None)
        try:
            yield from looked() if looked is not None else map(_taken_apart, self._dataset)
        except Error as error:
            yield _Failed(error)


def _taken_apart(sample: Any) -> Looked:
    """A sample of a pipeline, whose receipt is one of its elements."""
    if isinstance(sample, Mapping):
        receipts = [value for value in sample.values() if isinstance(value, Receipt)]
        value: Any = {name: value for name, value in sample.items() if not isinstance(value, Receipt)}
    elif isinstance(sample, (tuple, list)):
        receipts = [value for value in sample if isinstance(value, Receipt)]
        value = type(sample)(value for value in sample if not isinstance(value, Receipt))
    else:
        receipts = []
    if len(receipts) != 1:
        raise UsageError('a sample comes without its receipt: keep "__sentry__" to the end of the pipeline, such as in to_tuple("jpg", "cls", "__sentry__")')
    return Looked([value], receipts[0])


class _Collate:
    """Makes a batch of samples, and one receipt of theirs."""

    def __init__(self, verifier: DatasetVerifier, collate: Callable[[list[Any]], Any] | None, is_batched: bool) -> None:
        self._verifier, self._collate, self._is_batched = verifier, collate, is_batched

    def __call__(self, looked: Looked | _Failed | list[Looked | _Failed]) -> _Batch | _Failed:
        parts = [looked] if isinstance(looked, (Looked, _Failed)) else looked
        failed = next((part for part in parts if isinstance(part, _Failed)), None)
        if failed is not None:
            return failed
        whole = [part for part in parts if isinstance(part, Looked)]
        values = [value for part in whole for value in part.values]
        receipt = self._verifier.join(part.receipt for part in whole)
        if not values:
            return _Batch(None, receipt, True)
        if self._collate is not None:
            return _Batch(self._collate(values if self._is_batched else values[0]), receipt, False)
        default: Any = torch_data.default_collate if self._is_batched else torch_data.default_convert
        return _Batch(default(values if self._is_batched else values[0]), receipt, False)


class _Delivering:
    """A loader that counts samples as used when it hands them out."""

    verifier: DatasetVerifier

    def __init__(self, dataset: Any, batch_size: int | None = 1, *arguments: Any, collate_fn: Any = None, **options: Any) -> None:
        if type(dataset) is torch_data.Subset and hasattr(dataset.dataset, "look"):
            dataset = _Part(dataset.dataset, dataset.indices)
        verifier = options.pop("verifier", None) or getattr(dataset, "verifier", None)
        if not isinstance(verifier, DatasetVerifier):
            raise UsageError("the loader needs a dataset with a verifier, such as sentry.torch.VerifiedDataset, or verifier=...")
        is_stream = isinstance(dataset, torch_data.IterableDataset) or hasattr(dataset, "looked")
        if getattr(dataset, "counts_rows", False) and options.get("num_workers", 0) > 1:
            raise UsageError("ids are the numbers of rows, which several workers would each count from 0: sign the dataset with a column of ids")
        if not is_stream and not hasattr(dataset, "look"):
            raise UsageError(f"a {type(dataset).__name__} does not check its samples: put it into sentry.torch.VerifiedDataset")
        is_batched = batch_size is not None or options.get("batch_sampler") is not None
        collate = _Collate(verifier, collate_fn, is_batched)
        wrapped = _Stream(dataset) if is_stream else _Map(dataset)
        super().__init__(wrapped, batch_size, *arguments, collate_fn=collate, **options)  # type: ignore[call-arg]
        # torch's loaders refuse new attributes of some names, but not this one.
        self.verifier = verifier

    def __iter__(self) -> Iterator[Any]:
        with self.verifier._passing(self) as deliver:
            batches: Iterator[_Batch | _Failed] = super().__iter__()  # type: ignore[misc]
            for batch in batches:
                if isinstance(batch, _Failed):
                    raise batch.error
                deliver(batch.receipt)
                if not batch.is_empty:
                    yield batch.handed_out()


class DataLoader(_Delivering, torch_data.DataLoader[Any]):  # type: ignore[misc]
    """``torch.utils.data.DataLoader`` for datasets whose samples are checked: same options, any workers.

    Workers check samples where they read them, before they are decoded. A sample counts as used when its batch is handed out, so that
    what was read ahead and never used does not count. Iterating again before ``verifier.finish()`` has held begins the epoch anew. ``drop_last=True``
    leaves samples out, so that no epoch is ever complete.

    Parameters
    ----------
    dataset
        A :class:`VerifiedDataset`, a :class:`VerifiedIterableDataset`, a dataset of :mod:`sentry.datasets`, or a pipeline with a stage of
        :mod:`sentry.webdataset`.
    verifier
        For pipelines: knows what was signed.

    Raises
    ------
    sentry.SampleError
        While iterating: a sample is not the signed one. No batch with it is handed out.
    """


def _stateful() -> type:
    from torchdata.stateful_dataloader import StatefulDataLoader as Base

    class StatefulDataLoader(_Delivering, Base):  # type: ignore[misc]
        """``torchdata.stateful_dataloader.StatefulDataLoader`` likewise: its state has what was delivered."""

        def state_dict(self) -> dict[str, Any]:
            """Where the loader is, and what it has handed out."""
            return {"loader": super().state_dict(), "verifier": self.verifier.state_dict()}

        def load_state_dict(self, state: Mapping[str, Any]) -> None:
            """Go on there."""
            super().load_state_dict(state["loader"])
            self.verifier.load_state_dict(state["verifier"])

    return StatefulDataLoader


def __getattr__(name: str) -> Any:
    """torchdata is imported when its loader is first used."""
    if name == "StatefulDataLoader":
        globals()[name] = found = _stateful()
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    StatefulDataLoader: Any


def finish(verifier: DatasetVerifier, group: Any = None, *, repeats: bool = True) -> FinishedEpoch:
    """The verdict on an epoch of all ranks of ``torch.distributed``. Every rank calls this, and every rank is told.

    Parameters
    ----------
    verifier
        This rank's.
    group
        The process group. Default: all ranks.
    repeats
        As for :meth:`sentry.DatasetVerifier.finish`; a ``DistributedSampler`` that fills up the last batch repeats samples.

    Raises
    ------
    sentry.EpochError
        Samples are missing: no rank has delivered them.
    sentry.SampleError
        The samples of a source without a table were not the signed ones, or one was delivered twice, as a ``DistributedSampler`` does that
        fills up the last batch. Samples were repeated, and must not be.
    """
    from torch import distributed

    own = verifier.state_dict()
    states: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(states, own, group=group)
    whole = verifier._alone()
    for state in states:
        whole.merge(state)
    finished = whole.finish(repeats=repeats)
    verifier.reset()
    return finished
