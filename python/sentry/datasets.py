"""Signed datasets in Hugging Face's library ``datasets``.

    data = sentry.datasets.load_dataset("digits/", trust=trust, split="train")
    loader = sentry.torch.DataLoader(data.with_format("torch"), batch_size=64, shuffle=True, num_workers=4)

Rows are checked as they are stored, as Arrow has them, before anything is decoded; they are decoded from the very bytes that were checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _native
from ._datasets import Contributors, DatasetVerifier, Receipt, _contributors
from ._errors import Error, UsageError, printable, signing_error
from ._models import Signing, check_version
from ._trust import Path, Paths, paths

if TYPE_CHECKING:
    import pyarrow

__all__ = ["VerifiedDataset", "VerifiedIterableDataset", "load_dataset", "sign_dataset"]

# Rows that are hashed together.
_BATCH = 1000


def sign_dataset(
    dataset: Any,
    *,
    key: Path | _native.PrivateKey,
    signature: Path,
    name: str,
    version: int | None = None,
    id: str | None = None,
    source: str | None = None,
    tables: bool = True,
    contributors: Contributors = (),
    certificate: Path | None = None,
    chain: Paths = (),
    timestamp: str | None = None,
) -> _native.Signature:
    """Sign the rows of a ``Dataset``, an ``IterableDataset``, or a dictionary of them by split.

    Parameters
    ----------
    dataset
        The dataset. Splits are sources.
    id
        The column of whole numbers that holds each row's id. Default: a column ``id`` of whole numbers, else the number of the row.
    source
        The name of the source, for a dataset without splits. Default: its split, else ``"default"``.
    key, signature, name, version, tables, contributors, certificate, chain, timestamp
        As for :func:`sentry.sign_dataset`.

    Returns
    -------
    Signature
        Where it is and what it covers.

    Raises
    ------
    sentry.SigningError, sentry.UsageError
        As for :func:`sentry.sign_dataset`.
    """
    private = key if isinstance(key, _native.PrivateKey) else _native.PrivateKey(key)
    check_version(version)
    signing = Signing(private, certificate, paths(chain), False, timestamp)
    collector = _native.SampleCollector(None if id is None else f"column {id}")
    splits = dataset if isinstance(dataset, Mapping) else {source or _split(dataset): dataset}
    try:
        for split, rows in splits.items():
            for table in rows.with_format("arrow").iter(batch_size=_BATCH):
                collector.add_stream(str(split), None, _stream(table))
        return collector.sign(
            signing, signature=signature, name=name, version=version, tables=tables, contributors=_contributors(contributors)
        )
    except Error as error:
        raise signing_error(error) from None


def load_dataset(
    path: str,
    name: str | None = None,
    *,
    trust: Any,
    split: str,
    source: str | None = None,
    signature: Paths | None = None,
    contributors: Contributors = (),
    on_bad: str = "raise",
    streaming: bool = False,
    revision: str | None = None,
    token: str | None = None,
    **options: Any,
) -> VerifiedDataset | VerifiedIterableDataset:
    """``datasets.load_dataset``, of a signed dataset: a folder, or a name on the hub.

    Parameters
    ----------
    path
        The folder, or the dataset's name on the hub, whose files are downloaded first.
    name
        The configuration, as for ``datasets.load_dataset``.
    trust, signature, contributors, on_bad
        As for :class:`sentry.DatasetVerifier`. Default signature: ``dataset.sig`` in the folder or repository.
    split
        The split, as for ``datasets.load_dataset``; also a slice of it, of which only what has ids of its own can be checked.
    source
        The source that the rows were signed as. Default: the split's name, or the only source.
    streaming
        Whether rows are read as they are needed; then in their order only.
    revision, token
        Of the hub.
    options
        As for ``datasets.load_dataset``. No code of the dataset's own is run.

    Returns
    -------
    VerifiedDataset or VerifiedIterableDataset
        Nothing of it was checked yet but the signature: rows are, as they are read.

    Raises
    ------
    sentry.VerificationError
        The signature does not hold.
    sentry.UsageError
        The options ask for code that comes with the dataset.

    Notes
    -----
    The library takes the features from notes in the files, which are not signed: names of classes, and how images and sounds are decoded. Rows are; use
    the numbers of classes, or pass ``features=...``.
    """
    import datasets

    if options.pop("trust_remote_code", False):
        raise UsageError("code that comes with a dataset is not run: trust_remote_code stays False")
    folder = path if os.path.isdir(path) else _download(path, revision, token)
    verifier = DatasetVerifier(folder, trust=trust, signature=signature, contributors=contributors, on_bad=on_bad)
    rows = datasets.load_dataset(folder, name, split=split, streaming=streaming, **options)
    names = [known.name for known in verifier.sources]
    if source is None:
        named = split.partition("[")[0]
        # The library has names of its own for splits that no file names.
        source = names[0] if named not in names and len(names) == 1 else named
    if source in names:
        verifier._use([source])
    if streaming:
        return VerifiedIterableDataset(rows, verifier, source=source)
    return VerifiedDataset(rows, verifier, source=source)


def _download(name: str, revision: str | None, token: str | None) -> str:
    from huggingface_hub import snapshot_download

    return str(snapshot_download(name, repo_type="dataset", revision=revision, token=token))


class VerifiedDataset:
    """A ``datasets.Dataset`` whose rows are checked when they are read.

    ``dataset[index]``, slices, lists of indices and iteration give what the dataset itself would, in its format, and count the rows as
    used. In a :class:`sentry.torch.DataLoader` rows count when the loader hands them out.

    Parameters
    ----------
    dataset
        The dataset, of one source.
    verifier
        Knows what was signed.
    source
        The source that the rows belong to. Default: the only one.
    """

    def __init__(self, dataset: Any, verifier: DatasetVerifier, *, source: str | None = None) -> None:
        self.verifier = verifier
        self._dataset = dataset
        self._arrow = dataset.with_format("arrow")
        self._source = verifier._source(source)
        # The numbers that the rows had when they were signed, as far as the library knows.
        mapping = dataset._indices
        self._numbers: Sequence[int] = range(len(dataset)) if mapping is None else mapping.column(0).to_pylist()
        if verifier.ids == "path":
            raise UsageError("ids of this dataset are made of paths, which rows of a table do not have")

    @property
    def features(self) -> Any:
        """As the dataset has them."""
        return self._dataset.features

    def __len__(self) -> int:
        return len(self._dataset)

    def with_format(self, type: str | None = None, **options: Any) -> VerifiedDataset:
        """The same with rows in another format, as ``Dataset.with_format``."""
        return self._with(self._dataset.with_format(type, **options), self._numbers)

    def with_transform(self, transform: Any, **options: Any) -> VerifiedDataset:
        """The same with rows that a function makes, as ``Dataset.with_transform``."""
        return self._with(self._dataset.with_transform(transform, **options), self._numbers)

    def select(self, indices: Iterable[int]) -> VerifiedDataset:
        """Some of the rows, as ``Dataset.select``."""
        chosen = [int(index) for index in indices]
        return self._with(self._dataset.select(chosen), [self._numbers[index] for index in chosen])

    def shuffle(self, seed: int | None = None, generator: Any = None) -> VerifiedDataset:
        """The same rows in another order, as ``Dataset.shuffle``."""
        import numpy

        source = generator if generator is not None else numpy.random.default_rng(seed)
        return self.select(source.permutation(len(self)))

    def _with(self, dataset: Any, numbers: Sequence[int]) -> VerifiedDataset:
        other = VerifiedDataset(dataset, self.verifier, source=self._source)
        other._numbers = numbers
        return other

    def look(self, indices: Sequence[int]) -> Any:
        """Read and check rows, without counting them as used: for :class:`sentry.torch.DataLoader`."""
        from .torch import Looked

        rows, receipt = self._look(list(indices))
        return Looked([rows[place] for place in range(len(rows))], receipt)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            raise UsageError(f'a column is no samples: rows are checked whole. Take dataset[:]["{printable(key)}"]')
        is_one = not isinstance(key, slice) and hasattr(key, "__index__")
        indices = _indices([key] if is_one else key, len(self))
        rows, receipt = self._look(indices)
        self.verifier.deliver(receipt)
        if is_one and len(rows) == 0:
            raise UsageError("a row that is kept back has no value: use sentry.torch.DataLoader, which leaves it out")
        return rows[0] if is_one else rows[:]

    def __iter__(self) -> Iterator[Any]:
        with self.verifier._passing(self) as deliver:
            for start in range(0, len(self), _BATCH):
                rows, receipt = self._look(list(range(start, min(start + _BATCH, len(self)))))
                yield from _one_by_one(rows, receipt, deliver)

    def _look(self, indices: list[int]) -> tuple[Any, Receipt]:
        """Rows that may be used, as a dataset of their own, and what checking them has shown."""
        stream = _stream(self._arrow[indices])
        receipt = self.verifier.look_at_stream(stream, self._ids(indices), source=self._source)
        return _rows(stream, receipt, self._dataset), receipt

    def _ids(self, indices: list[int]) -> list[int] | None:
        if self.verifier.ids != "ordinal":
            return None
        return [self._numbers[index] for index in indices]

    def __repr__(self) -> str:
        return f"<sentry.datasets.VerifiedDataset of {self.verifier.name!r}: {len(self)} rows of source {self._source!r}>"


class VerifiedIterableDataset:
    """A ``datasets.IterableDataset`` whose rows are checked when they are read, and counted as used when they are handed out.

    Parameters
    ----------
    dataset
        The dataset, of one source. If ids are numbers of rows, it is read from its first row on, in its order.
    verifier, source
        As for :class:`VerifiedDataset`.
    """

    def __init__(self, dataset: Any, verifier: DatasetVerifier, *, source: str | None = None) -> None:
        self.verifier = verifier
        self._dataset = dataset
        self._source = verifier._source(source)
        # Whether ids come from counting, which only one reader can do.
        self.counts_rows = verifier.ids == "ordinal"

    def shuffle(self, **options: Any) -> VerifiedIterableDataset:
        """The same rows in another order, as ``IterableDataset.shuffle``, if they have ids of their own."""
        if self.verifier.ids == "ordinal":
            raise UsageError("ids are the numbers of rows, so that their order is what was signed: sign the dataset with a column of ids")
        return VerifiedIterableDataset(self._dataset.shuffle(**options), self.verifier, source=self._source)

    def looked(self) -> Iterator[Any]:
        """Rows one by one, each with what checking it has shown: for :class:`sentry.torch.DataLoader`."""
        from .torch import Looked

        row = 0
        for table in self._dataset.with_format("arrow").iter(batch_size=1):
            ids = [row] if self.counts_rows else None
            row += table.num_rows
            rows, receipt = self._check(table, ids)
            yield Looked([rows[place] for place in range(len(rows))], receipt)

    def __iter__(self) -> Iterator[Any]:
        row = 0
        with self.verifier._passing(self) as deliver:
            for table in self._dataset.with_format("arrow").iter(batch_size=_BATCH):
                ids = list(range(row, row + table.num_rows)) if self.counts_rows else None
                row += table.num_rows
                rows, receipt = self._check(table, ids)
                yield from _one_by_one(rows, receipt, deliver)

    def _check(self, table: pyarrow.Table, ids: list[int] | None) -> tuple[Any, Receipt]:
        stream = _stream(table)
        receipt = self.verifier.look_at_stream(stream, ids, source=self._source)
        return _rows(stream, receipt, self._dataset), receipt


def _one_by_one(rows: Any, receipt: Receipt, deliver: Callable[[Receipt], None]) -> Iterator[Any]:
    """Rows that were looked at together, each counted when it is handed out; with the first one, those that are kept back."""
    bad = sorted(set(range(len(receipt.found))) - set(receipt.kept))
    for place in bad:
        deliver(Receipt(receipt.found.part(place, place + 1), [], []))
    deliver(Receipt(receipt.found.part(0, 0), [], receipt.quarantined))
    for row, place in enumerate(receipt.kept):
        deliver(Receipt(receipt.found.part(place, place + 1), [place], []))
        yield rows[row]


def _stream(table: pyarrow.Table) -> bytes:
    """A copy of the rows, which nobody else can write to, as an Arrow stream.

    Tables of this library are mapped from files that anyone may have written; their offsets are looked at first.
    """
    import pyarrow

    try:
        table.validate(full=True)
    except pyarrow.ArrowInvalid as error:
        raise from_invalid(error) from None
    for name, column in zip(table.column_names, table.columns, strict=True):
        if any(_refers_to_files(chunk) for chunk in column.chunks):
            raise UsageError(
                f'the field "{printable(name)}" holds names of files, and not their bytes, so that nothing would be known of these: save the dataset with '
                "to_parquet, which puts the bytes into it, or sign the folder"
            )
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None))
    return bytes(sink.getvalue())


def _refers_to_files(array: Any) -> bool:
    """Whether an image, a sound or the like is only named by its path, as the library has them that it found in a folder."""
    import pyarrow
    from pyarrow import compute

    kind = array.type
    if pyarrow.types.is_struct(kind):
        fields = {field.name: array.field(place) for place, field in enumerate(kind)}
        if {"bytes", "path"} <= fields.keys():
            is_named = compute.and_(compute.is_null(fields["bytes"]), compute.is_valid(fields["path"]))
            if compute.any(is_named).as_py():
                return True
        return any(_refers_to_files(field) for field in fields.values())
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind) or pyarrow.types.is_fixed_size_list(kind):
        return _refers_to_files(array.flatten())
    return False


def from_invalid(error: Exception) -> Error:
    """The error for rows that break Arrow's rules."""
    from ._errors import FormatError, printable_sentence

    return FormatError(f"the rows are no valid Arrow: {printable_sentence(error)}", code="dataset_malformed")


def _rows(stream: bytes, receipt: Receipt, like: Any) -> Any:
    """The rows that were checked and may be used, as a dataset with the features and the format of another."""
    import datasets
    import pyarrow

    table = pyarrow.ipc.open_stream(stream).read_all()
    if len(receipt.kept) != table.num_rows:
        table = table.take(receipt.kept)
    features = like.features
    info = datasets.DatasetInfo(features=features) if features is not None else None
    rows = datasets.Dataset(datasets.table.InMemoryTable(table), info=info)
    style = getattr(like, "format", None)
    if style is not None:
        rows.set_format(style["type"], columns=style["columns"], output_all_columns=style["output_all_columns"], **style["format_kwargs"])
    return rows


def _indices(key: Any, length: int) -> list[int]:
    if isinstance(key, slice):
        return list(range(*key.indices(length)))
    return [int(index) + length if int(index) < 0 else int(index) for index in key]


def _split(dataset: Any) -> str:
    split = getattr(dataset, "split", None)
    return "default" if split is None else str(split)
