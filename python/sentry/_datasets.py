"""Datasets: signing their samples, verifying them in files, and checking them one by one on their way to training."""

from __future__ import annotations

import contextlib
import operator
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Union

from . import _native, _samples
from ._errors import EpochError, Error, SampleError, UsageError, printable, signing_error
from ._models import Signing, check_version
from ._tensors import names
from ._trust import Path, Paths, Trust, check_trust, paths, signatures

# Signatures of those who contributed sources, each with whom to trust for it.
Contributors = Iterable[tuple[Path, Trust]]

# Ids of samples: numbers, or paths and keys where those are hashed.
Ids = Union[Sequence[int], Sequence[str], Any]


def sign_dataset(
    dataset: Path | Iterable[Mapping[str, Any]] | Mapping[str, Any],
    *,
    key: Path | _native.PrivateKey,
    signature: Path | None = None,
    name: str | None = None,
    version: int | None = None,
    id: str | None = None,
    source: str | None = None,
    fields: Mapping[str, str] | None = None,
    tables: bool = True,
    contributors: Contributors = (),
    certificate: Path | None = None,
    chain: Paths = (),
    timestamp: str | None = None,
) -> _native.Signature:
    """Sign the samples of a dataset: each by itself, so that each can be checked before it is trained on.

    Parameters
    ----------
    dataset
        A folder or file: Parquet, Arrow, CSV, JSON Lines, images in folders, archives of WebDataset, or .npy arrays. Or samples in
        memory: an iterable of mappings of fields to values, or one mapping of fields to arrays or lists. For a ``datasets.Dataset`` see
        :func:`sentry.datasets.sign_dataset`.
    key
        The private key, or the path of its PEM file.
    signature
        Where to write the signature. Default: ``dataset.sig`` inside a folder, ``NAME.sig`` beside a file. Samples in memory need one.
        Sample tables, of 40 bytes a sample, are written beside it.
    name, version
        Of the dataset. Default: the last part of the path, and none. Samples in memory need a name.
    id
        The field of whole numbers that holds each sample's id, unique in its source. Default: a field ``id`` of whole numbers, else the path
        or key, else the number of the sample: then the order of samples is signed too.
    source
        In files, the column that names each sample's source; in memory, the name of the source. Default: the split, from the names of files
        and folders; in memory ``"default"``.
    fields
        For samples in memory: the Arrow type of fields, such as ``{"label": "Int8"}``, where the first sample does not say.
    tables
        Whether to write sample tables. Without them no sample is known to be right before the whole epoch has been seen.
    contributors
        Signatures of those who contributed sources, each with whom to trust for it.
    certificate, chain, timestamp
        As for :func:`sign_model`.

    Returns
    -------
    Signature
        Where it is and what it covers.

    Raises
    ------
    SigningError
        The dataset has something that no signature can cover. No signature was written.
    UsageError
        The options contradict each other, or a field cannot be recorded as it is.
    """
    private = key if isinstance(key, _native.PrivateKey) else _native.PrivateKey(key)
    check_version(version)
    signing = Signing(private, certificate, paths(chain), False, timestamp)
    given = _contributors(contributors)
    try:
        if isinstance(dataset, (str, os.PathLike)):
            if fields is not None:
                raise UsageError("fields are about samples in memory: files say themselves of what types theirs are")
            return _native.sign_dataset_files(
                dataset, signing, signature=signature, name=name, version=version, id=id, source=source, tables=tables, contributors=given
            )
        if signature is None or name is None:
            raise UsageError("samples in memory need a name and a place for the signature: name=..., signature=...")
        collector = _collect(dataset, id, source or "default", dict(fields or {}))
        return collector.sign(signing, signature=signature, name=name, version=version, tables=tables, contributors=given)
    except Error as error:
        raise signing_error(error) from None


# Samples that are hashed together.
_BATCH = 1024


def _collect(dataset: Any, id: str | None, source: str, types: dict[str, str]) -> _native.SampleCollector:
    collector: _native.SampleCollector | None = None
    for batch in _batches(dataset):
        count, columns = _samples.columns(batch, types)
        if count == 0:
            continue
        for name, column in columns:
            if name not in types:
                types[name] = _column_type(name, column)
        if id is None and types.get("id") in _WHOLE:
            id = "id"
        if collector is None:
            collector = _native.SampleCollector("ordinal" if id is None else f"column {id}")
        named = {name: column for name, column in columns}
        for name in types:
            named.setdefault(name, [None] * count)
        ids = None if id is None else _whole(id, batch)
        collector.add(source, count, ids, [(name, types[name], column) for name, column in named.items()])
    if collector is None:
        raise UsageError("there are no samples")
    return collector


_WHOLE = frozenset({"Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"})


def _batches(dataset: Any) -> Iterable[_samples.Batch]:
    if isinstance(dataset, Mapping):
        yield dataset
        return
    if not isinstance(dataset, Iterable):
        raise UsageError(f"a {type(dataset).__name__} is neither a path nor samples: mappings of fields to values")
    batch: list[Mapping[str, Any]] = []
    for sample in dataset:
        batch.append(sample)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _column_type(name: str, column: _samples.Column) -> str:
    if isinstance(column, _samples.Array):
        number = _samples._arrow_number(column.dtype)
        return number if not column.shape and number != "Complex64" else f"FixedShapeTensor({number}, {list(column.shape)})"
    first = next((value for value in column if value is not None), None)
    return _samples.arrow_type(name, first)


def _whole(name: str, batch: _samples.Batch) -> list[int]:
    """The ids in a field of a batch."""
    values = batch[name] if isinstance(batch, Mapping) else [sample.get(name) for sample in batch]
    numbers: list[int] = []
    for value in values.tolist() if hasattr(values, "tolist") else values:
        number = _whole_number(value)
        if number is None or number < 0:
            raise UsageError(f'ids are whole numbers from 0 on: the field "{printable(name)}" has {value!r}')
        numbers.append(number)
    return numbers


def _whole_number(value: Any) -> int | None:
    """A whole number of Python's, numpy's or torch's, if it is one."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def verify_dataset(
    dataset: Path,
    signature: Paths | None = None,
    *,
    trust: Trust,
    source: str | None = None,
    contributors: Contributors = (),
) -> _native.Verification:
    """Verify every sample of a dataset in files. To check samples as they are trained on, see :class:`DatasetVerifier`.

    Parameters
    ----------
    dataset
        The folder or file.
    signature
        The signature; several if the policy asks for several signers. Default: ``dataset.sig`` in a folder, ``NAME.sig`` beside a file.
    trust
        Who may have signed: a :class:`PublicKey`, a :class:`Certificate` or a :class:`Policy`.
    source
        The column that names each sample's source, if the signer named one.
    contributors
        Signatures of those who contributed sources, each with whom to trust for it.

    Returns
    -------
    Verification
        Who signed, and what was checked. Files without samples are listed in ``unsigned_files``; nothing is known of them.

    Raises
    ------
    VerificationError
        The dataset or its signature is wrong; its ``differences`` name the samples.
    NotCheckedError, UsageError
        The check could not be made.
    """
    check_trust(trust)
    return _native.verify_dataset_files(
        dataset, trust, signatures=signatures(signature), source=source, contributors=_contributors(contributors)
    )


def _contributors(given: Contributors) -> list[tuple[Path, Trust]]:
    found = list(given)
    for pair in found:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise UsageError("contributors are pairs: the signature of each, and whom to trust for it")
        check_trust(pair[1])
    return found


class Source(NamedTuple):
    """A source of samples, as it was signed.

    Attributes
    ----------
    name
        Its name.
    samples
        How many samples it has.
    has_table
        Whether each of them can be checked by itself. Samples of other sources count only at the end of an epoch.
    """

    name: str
    samples: int
    has_table: bool


class FinishedEpoch(NamedTuple):
    """An epoch in which every signed sample was delivered, and nothing else.

    Attributes
    ----------
    samples
        How many samples were signed.
    quarantined
        How many of them were kept back, since what was there in their place was another sample.
    repeated
        How often a sample was delivered that had been before: what a sampler repeats, or what is stored more than once.
    """

    samples: int
    quarantined: int
    repeated: int


class Quarantined(NamedTuple):
    """A sample that was kept back.

    Attributes
    ----------
    source
        Where it belongs.
    id
        Its id.
    message
        What is wrong with it.
    """

    source: str
    id: int
    message: str


class Receipt(NamedTuple):
    """What looking at samples has shown. It goes with them to where they are delivered, also between processes.

    Attributes
    ----------
    found
        For :meth:`DatasetVerifier.deliver`.
    kept
        The places of the samples that may be used, in ascending order, in the batch that was looked at.
    quarantined
        Those that may not.
    """

    found: _native.Receipt
    kept: list[int]
    quarantined: list[Quarantined]


class DatasetVerifier:
    """Checks samples of a signed dataset before they are used, and knows at the end of an epoch whether all of them came.

    Parameters
    ----------
    dataset
        The folder or file that was signed. It need not be there if `signature` is given: samples may come from anywhere.
    trust
        Who may have signed: a :class:`PublicKey`, a :class:`Certificate` or a :class:`Policy`.
    signature
        The signature; several if the policy asks for several signers. Its sample tables lie beside it. Default: ``dataset.sig`` in a folder,
        ``NAME.sig`` beside a file.
    contributors
        Signatures of those who contributed sources, each with whom to trust for it.
    sources
        The sources that are used, such as ``["train"]``: :meth:`finish` is about these, and samples of others are refused. Default: all.
    on_bad
        ``"raise"``: a sample that is not the signed one is an error. ``"quarantine"``: it is kept back and counted.

    Raises
    ------
    VerificationError
        The signature does not hold, or a table is not the signed one.
    NotCheckedError, UsageError
        The check could not be made.

    Examples
    --------
    ::

        verifier = sentry.DatasetVerifier("digits/", trust=sentry.PublicKey("publisher.pub"))
        for batch in batches:                     # {"image": [...], "label": [...]}, as they are stored
            verifier.check(batch, ids=batch["id"])
            train(batch)
        verifier.finish()

    Where samples are read ahead, by workers, use :meth:`look` there and :meth:`deliver` where they are used; :mod:`sentry.torch`,
    :mod:`sentry.datasets` and :mod:`sentry.webdataset` do.
    """

    def __init__(
        self,
        dataset: Path,
        *,
        trust: Trust,
        signature: Paths | None = None,
        contributors: Contributors = (),
        sources: Sequence[str] | None = None,
        on_bad: str = "raise",
    ) -> None:
        check_trust(trust)
        if on_bad not in ("raise", "quarantine"):
            raise UsageError(f'on_bad is "raise" or "quarantine", not {on_bad!r}')
        self._arguments = (os.fspath(dataset), trust, signatures(signature), _contributors(contributors), sources, on_bad)
        self._checker = _native.SampleChecker(dataset, self._arguments[2], self._arguments[3], trust)
        self._keeps_back = on_bad == "quarantine"
        self._types = dict(self._checker.fields)
        self._sources = [Source(*source) for source in self._checker.sources]
        self._use(None if sources is None else names(sources))
        self._epoch = self._checker.epoch()
        self._quarantined: list[Quarantined] = []
        # Who has gone through the samples of this epoch, and whether one did not come to the end.
        self._passed: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_broken_off = False
        if self._keeps_back and not all(source.has_table for source in self._sources if source.name in self._used):
            raise UsageError('without sample tables nobody knows which sample is wrong: on_bad="quarantine" needs a dataset signed with them')

    def _use(self, sources: list[str] | None) -> None:
        """Choose the sources that this is about."""
        known = [source.name for source in self._sources]
        unknown = next((name for name in sources or () if name not in known), None)
        if unknown is not None or sources == []:
            listed = ", ".join(f'"{printable(name)}"' for name in known[:5])
            raise UsageError(f"the sources of the dataset are {listed}: " + ("choose one" if unknown is None else f'there is no "{printable(unknown)}"'))
        self._used = known if sources is None else [name for name in known if name in sources]
        self._arguments = (*self._arguments[:4], None if sources is None else self._used, self._arguments[5])

    def __reduce__(self) -> tuple[object, ...]:
        # Another process checks the signature itself, and begins with nothing delivered.
        return _restore, self._arguments

    @property
    def name(self) -> str:
        """The name under which the dataset was signed. Nothing was checked against it."""
        return self._checker.name

    @property
    def version(self) -> int | None:
        """The version that the signer stated."""
        return self._checker.version

    @property
    def fields(self) -> dict[str, str]:
        """The Arrow type of each field."""
        return dict(self._types)

    @property
    def sources(self) -> list[Source]:
        """The sources that were signed, by name."""
        return list(self._sources)

    @property
    def ids(self) -> str:
        """Where ids come from: ``"column NAME"``, ``"path"`` or ``"ordinal"``."""
        kind, column = self._checker.ids
        return kind if column is None else f"{kind} {column}"

    @property
    def verification(self) -> _native.Verification:
        """Who signed. No sample was checked for it."""
        return self._checker.verification

    @property
    def quarantined(self) -> list[Quarantined]:
        """Samples that were kept back in this epoch, as far as they were delivered here."""
        return list(self._quarantined)

    def check_tables(self) -> None:
        """Read and check all sample tables, also whether they add up to the signed state of their source.

        Raises
        ------
        VerificationError
            A table is not the signed one, or contradicts its source.
        """
        self._checker.check_tables()

    def check(self, batch: _samples.Batch, ids: Ids | None = None, *, source: str | Sequence[str] | None = None) -> list[int]:
        """Check samples, and take down that they are used now.

        Parameters
        ----------
        batch
            The samples as they are stored: a mapping of fields to arrays or lists, or a list of mappings.
        ids
            Their ids: whole numbers, or paths or keys if ids are those of paths. Default: the field that they were signed by.
        source
            The source of all samples, or of each. Default: the only one.

        Returns
        -------
        list of int
            The places of the samples that may be used: all, unless wrong ones are quarantined.

        Raises
        ------
        SampleError
            A sample is not the signed one of its id; ``differences`` name source, id and field. Nothing of the batch counts.
        UsageError
            The batch does not have the signed fields in a form that can be checked.
        """
        receipt = self.look(batch, ids, source=source)
        self.deliver(receipt)
        return receipt.kept

    def look(self, batch: _samples.Batch, ids: Ids | None = None, *, source: str | Sequence[str] | None = None) -> Receipt:
        """Check samples that are not used yet. As :meth:`check`, but that :meth:`deliver` is told when they are.

        Returns
        -------
        Receipt
            What was found; it can be sent to another process.
        """
        count, columns = _samples.columns(batch, self._types)
        numbers = self._ids(ids, batch, count)
        if source is None or isinstance(source, str):
            return self._receipt(self._source(source), numbers, self._look(self._source(source), numbers, columns))
        names = list(source)
        if len(names) != count:
            raise UsageError(f"there are {len(names)} sources for {count} samples")
        return self._look_by_source(batch, numbers, names)

    def _look(self, source: str, ids: list[int], columns: list[tuple[str, _samples.Column]]) -> tuple[_native.Receipt, list[tuple[int, str]]]:
        return self._checker.look(source, ids, columns, self._keeps_back)

    def _look_by_source(self, batch: _samples.Batch, ids: list[int], names: list[str]) -> Receipt:
        receipts = []
        places: dict[str, list[int]] = {}
        for place, name in enumerate(names):
            places.setdefault(name, []).append(place)
        for given, own in places.items():
            name = self._source(given)
            if isinstance(batch, Mapping):
                part: Any = {field: [values[place] for place in own] for field, values in batch.items()}
            else:
                samples = list(batch)
                part = [samples[place] for place in own]
            _, columns = _samples.columns(part, self._types)
            own_ids = [ids[place] for place in own]
            receipt = self._receipt(name, own_ids, self._look(name, own_ids, columns))
            receipts.append(receipt._replace(kept=[own[kept] for kept in receipt.kept]))
        return self.join(receipts)

    def look_at_stream(self, stream: bytes, ids: Ids | None = None, *, source: str | None = None) -> Receipt:
        """As :meth:`look`, of samples that are the rows of an Arrow stream in memory (``pyarrow.ipc``).

        Parameters
        ----------
        stream
            The stream, whole.
        ids, source
            As for :meth:`check`; one source.
        """
        name = self._source(source)
        numbers = None if ids is None else _numbers(ids)
        found, wrong = self._checker.look_at_stream(name, numbers, stream, self._keeps_back)
        return self._receipt(name, numbers, (found, wrong))

    def _receipt(self, source: str, ids: list[int] | None, looked: tuple[_native.Receipt, list[tuple[int, str]]]) -> Receipt:
        found, wrong = looked
        bad = {place for place, _ in wrong}
        # Without ids of our own, the message says which it was.
        quarantined = [Quarantined(source, -1 if ids is None else ids[place], message) for place, message in wrong]
        return Receipt(found, [place for place in range(len(found)) if place not in bad], quarantined)

    def join(self, receipts: Iterable[Receipt]) -> Receipt:
        """One receipt for samples that were looked at apart and are delivered together. What `kept` holds are places in the separate batches."""
        parts = list(receipts)
        found = self._checker.receipt().with_others([part.found for part in parts])
        kept = sorted(place for part in parts for place in part.kept)
        return Receipt(found, kept, [bad for part in parts for bad in part.quarantined])

    def deliver(self, receipt: Receipt) -> None:
        """Take down that samples which were looked at are used now.

        Raises
        ------
        SampleError
            A sample of a source without a table came twice in this epoch.
        EpochError
            The receipt is of another dataset; or samples were kept back in it, and are not to be here.
        """
        if receipt.quarantined and not self._keeps_back:
            raise EpochError('samples were kept back in that receipt: this verifier needs on_bad="quarantine" to take that', code="epoch_state")
        self._epoch.deliver(receipt.found)
        self._quarantined.extend(receipt.quarantined)

    def delivered(self) -> dict[str, int]:
        """How many different samples of each source were delivered in this epoch."""
        counts = zip(self._sources, self._epoch.delivered(), strict=True)
        return {source.name: count for source, count in counts if source.name in self._used}

    def finish(self, *, repeats: bool = True) -> FinishedEpoch:
        """The verdict on the epoch: every signed sample of the sources that are used was delivered, and nothing else. The next epoch begins with nothing
        delivered.

        Parameters
        ----------
        repeats
            Whether samples may have been delivered more than once. Each was the signed one; but who can write to the files can have
            some come more often, where samples are read as they come.

        Raises
        ------
        EpochError
            Samples are missing. They can still be delivered, and this be called again.
        SampleError
            The samples of a source without a table were not the signed ones, or a table does not add up to what was signed of its source.
            Samples were repeated, and must not be.
        """
        finished = FinishedEpoch(*self._epoch.finish(self._used))
        if finished.repeated and not repeats:
            # Or they would be those of the next epoch too.
            self._is_broken_off = True
            raise SampleError(f"samples came again in this epoch, {finished.repeated} times in all", code="sample_repeated")
        self.reset()
        return finished

    def reset(self) -> None:
        """Begin an epoch anew, with nothing delivered."""
        self._epoch = self._checker.epoch()
        self._quarantined = []
        self._passed = weakref.WeakSet()
        self._is_broken_off = False

    @contextlib.contextmanager
    def _passing(self, loader: object) -> Iterator[Callable[[Receipt], None]]:
        """A loader goes through its samples, and calls what it is given for those that it hands out. If it did before in this epoch, or another one
        was broken off, what came then does not count for what comes now."""
        if loader in self._passed or self._is_broken_off:
            self.reset()
        self._passed.add(loader)
        epoch = self._epoch

        def deliver(receipt: Receipt) -> None:
            if self._epoch is not epoch:
                raise EpochError(
                    "the epoch began anew while this loop went on, by another loop or reset(): give each of them a verifier of its own", code="epoch_state"
                )
            self.deliver(receipt)

        try:
            yield deliver
        except BaseException:
            # Also if nobody asks for the rest. The epoch may be another one by then, which has nothing of this loop.
            self._is_broken_off |= self._epoch is epoch
            raise

    def state_dict(self) -> dict[str, Any]:
        """What was delivered in this epoch, to go on after a restart or to be merged. Keep it where nobody else can write: it is not signed."""
        return {"epoch": self._epoch.to_bytes(), "quarantined": [tuple(bad) for bad in self._quarantined]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with an epoch where :meth:`state_dict` was called.

        Raises
        ------
        EpochError
            It is of another dataset, or none; or samples were kept back in it, and are not to be here.
        """
        epoch = self._stored(state)
        self.reset()
        self._epoch = epoch
        self._quarantined = [Quarantined(*bad) for bad in state["quarantined"]]

    def merge(self, state: Mapping[str, Any]) -> None:
        """Add what another worker or rank has delivered in the same epoch.

        Parameters
        ----------
        state
            Its :meth:`state_dict`.

        Raises
        ------
        EpochError
            It is of another dataset, or none; or samples were kept back in it, and are not to be here.
        SampleError
            A sample of a source without a table was delivered there and here.
        """
        self._stored(state)
        self._epoch.merge(state["epoch"])
        self._quarantined.extend(Quarantined(*bad) for bad in state["quarantined"])

    def _stored(self, state: Mapping[str, Any]) -> _native.Epoch:
        epoch = self._checker.epoch(state["epoch"])
        if any(epoch.kept_back()) and not self._keeps_back:
            raise EpochError('samples were kept back in that epoch: this verifier needs on_bad="quarantine" to take that', code="epoch_state")
        return epoch

    def _alone(self) -> DatasetVerifier:
        """The same, with nothing delivered."""
        other = object.__new__(DatasetVerifier)
        other.__dict__.update(self.__dict__)
        other.reset()
        return other

    def _source(self, source: str | None) -> str:
        if source is None:
            if len(self._used) == 1:
                return self._used[0]
            listed = ", ".join(f'"{printable(name)}"' for name in self._used[:5])
            raise UsageError(f"the dataset has several sources: say which with source=..., such as {listed}")
        if source not in self._used and any(source == known.name for known in self._sources):
            raise UsageError(f'source "{printable(source)}" is none of those that this verifier was made for')
        return source

    def _ids(self, ids: Ids | None, batch: _samples.Batch, count: int) -> list[int]:
        if ids is None:
            _, column = self._checker.ids
            if column is None:
                raise UsageError(f"ids of this dataset are no field of its samples, but by {self.ids}: give them, ids=[...]")
            ids = _whole(column, batch)
        numbers = _numbers(ids)
        if len(numbers) != count:
            raise UsageError(f"there are {len(numbers)} ids for {count} samples")
        return numbers

    def __repr__(self) -> str:
        samples = sum(source.samples for source in self._sources)
        return f"<sentry.DatasetVerifier of {self.name!r}: {samples} samples, signed by {self.verification.signer}>"


def _numbers(ids: Any) -> list[int]:
    """Ids as numbers; paths and keys are hashed."""
    values = ids.tolist() if hasattr(ids, "tolist") else list(ids)
    # The usual case, which costs next to nothing.
    if values and all(type(value) is int for value in values) and min(values) >= 0 and max(values) < 1 << 64:
        return values
    numbers: list[int] = []
    for value in values:
        number = _native.path_id(value) if isinstance(value, str) else _whole_number(value)
        if number is None or not 0 <= number < 1 << 64:
            raise UsageError(f"ids are whole numbers from 0 to 2^64 - 1, or paths, not {value!r}")
        numbers.append(number)
    return numbers


def _restore(
    dataset: str, trust: Trust, signature: list[Path], contributors: list[tuple[Path, Trust]], sources: list[str] | None, on_bad: str
) -> DatasetVerifier:
    return DatasetVerifier(dataset, trust=trust, signature=signature or None, contributors=contributors, sources=sources, on_bad=on_bad)

