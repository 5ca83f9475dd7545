"""Small datasets in every format, and their statements and tables by hand.

A sample is a dictionary of an `id`, a `label` and a `text` of eight letters. What the samples of a format are, and what is signed of
them, is said here once more and by means of `reference/`: nothing of Sentry's own code is asked. Everything is plain data, so that a
fixture can spoil one thing and sign the rest honestly.
"""

import csv
import io
import struct
import sys
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import oms
from .case import Attempt, NotHere
from .world import CALLER, World

# Its modules import each other by their plain names. Behind everything else, so that they stand for nothing of another's.
sys.path.append(str(Path(__file__).resolve().parents[2] / "reference"))

import lattice  # noqa: E402
import records  # noqa: E402
import tables  # noqa: E402

PREDICATE_TYPE = "https://sentry-ml.dev/dataset/v1"
LATTICE = "lthash16-1024-blake3"
TRAINER = [*CALLER[:-1], str(Path(__file__).with_name("train.py"))]

Sample = dict[str, Any]
Sources = dict[str, list[Sample]]

WORDS = "anchored bicycles calendar daylight elephant feathers glaciers hospital icebergs jellying keyboard lanterns".split()
LABELS = (0, 1, 2)


def honest() -> Sources:
    """Twelve samples in two sources; no id is in both."""
    samples = [{"id": 10 + at, "label": LABELS[at % 3], "text": word} for at, word in enumerate(WORDS)]
    return {"test": samples[8:], "train": samples[:8]}


# -- records: docs/spec/samples.md ----------------------------------------------------------


def integer(name: str, value: int) -> dict:
    """A field of a signed integer of 64 bits."""
    return {"name": name, "dtype": "I64", "bytes": struct.pack("<q", value)}


def text(name: str, value: str) -> dict:
    """A field of text."""
    return {"name": name, "dtype": "UTF8", "bytes": value.encode()}


def binary(name: str, value: bytes) -> dict:
    """A field of bytes."""
    return {"name": name, "dtype": "BYTES", "bytes": value}


# -- formats --------------------------------------------------------------------------------


class Format:
    """How samples are stored, and what of them is signed."""

    name: str
    ids = "column id"
    fields: dict[str, str]

    def write(self, folder: Path, sources: Sources) -> None:
        """Writes all files of samples, in place of those that are there."""
        raise NotImplementedError

    def record(self, source: str, sample: Sample) -> list[dict]:
        """The fields of a sample as they are signed."""
        raise NotImplementedError

    def id(self, source: str, sample: Sample) -> int:
        """The id of a sample."""
        return sample["id"]


class Table(Format):
    """What tables have in common: a row is a sample."""

    fields = {"id": "Int64", "label": "Int64", "text": "Utf8"}

    def record(self, source: str, sample: Sample) -> list[dict]:
        return [integer("id", sample["id"]), integer("label", sample["label"]), text("text", sample["text"])]


class Csv(Table):
    name = "csv"

    def write(self, folder: Path, sources: Sources) -> None:
        for source, samples in sources.items():
            with open(folder / f"{source}.csv", "w", newline="", encoding="utf-8") as file:
                rows = csv.DictWriter(file, list(self.fields), lineterminator="\n")
                rows.writeheader()
                rows.writerows(samples)


class Parquet(Table):
    name = "parquet"

    def write(self, folder: Path, sources: Sources) -> None:
        for source, samples in sources.items():
            parquet(folder / f"{source}.parquet", {name: [sample[name] for sample in samples] for name in self.fields})


def parquet(path: Path, columns: dict, **options: Any) -> None:
    """Writes columns as Parquet, where pyarrow is there."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise NotHere("no pyarrow") from None
    pyarrow.parquet.write_table(pyarrow.table(columns), path, **options)


class Images(Format):
    """The text stands for the image. A label is a folder."""

    name, ids = "images", "path"
    fields = {"image": "Binary", "label": "Utf8"}

    def path(self, source: str, sample: Sample) -> str:
        return f"{source}/{sample['label']}/{sample['id']:04}.png"

    def write(self, folder: Path, sources: Sources) -> None:
        for old in folder.glob("*/*/*.png"):
            old.unlink()
        for source, samples in sources.items():
            for sample in samples:
                path = folder / self.path(source, sample)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(sample["text"].encode())

    def record(self, source: str, sample: Sample) -> list[dict]:
        return [binary("image", sample["text"].encode()), text("label", str(sample["label"]))]

    def id(self, source: str, sample: Sample) -> int:
        return lattice.path_id(self.path(source, sample))


class Tar(Format):
    """Archives in the manner of WebDataset."""

    name, ids = "tar", "path"
    fields = {"cls": "Binary", "txt": "Binary"}

    def write(self, folder: Path, sources: Sources) -> None:
        for source, samples in sources.items():
            with tarfile.open(folder / f"{source}-0000.tar", "w") as archive:
                for sample in samples:
                    for field, content in (("txt", sample["text"]), ("cls", str(sample["label"]))):
                        member = tarfile.TarInfo(f"{sample['id']:04}.{field}")
                        member.size = len(content.encode())
                        archive.addfile(member, io.BytesIO(content.encode()))

    def record(self, source: str, sample: Sample) -> list[dict]:
        return [binary("cls", str(sample["label"]).encode()), binary("txt", sample["text"].encode())]

    def id(self, source: str, sample: Sample) -> int:
        return lattice.path_id(f"{sample['id']:04}")


class Npy(Format):
    """An array a field: the letters of the text are an array each."""

    name = "npy"
    fields = {"id": "Int64", "label": "Int64", "text": "FixedShapeTensor(UInt8, [8])"}

    def write(self, folder: Path, sources: Sources) -> None:
        for source, samples in sources.items():
            (folder / source).mkdir(exist_ok=True)
            for name in ("id", "label"):
                values = struct.pack(f"<{len(samples)}q", *(sample[name] for sample in samples))
                (folder / source / f"{name}.npy").write_bytes(npy("<i8", (len(samples),), values))
            letters = "".join(sample["text"] for sample in samples).encode()
            (folder / source / "text.npy").write_bytes(npy("|u1", (len(samples), 8), letters))

    def record(self, source: str, sample: Sample) -> list[dict]:
        letters = {"name": "text", "dtype": "U8", "dims": [8], "bytes": sample["text"].encode()}
        return [integer("id", sample["id"]), integer("label", sample["label"]), letters]


def npy(kind: str, shape: tuple[int, ...], data: bytes) -> bytes:
    """An array in NumPy's format, version 1."""
    head = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    head += b" " * (-(10 + len(head) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


CSV, PARQUET, IMAGES, TAR, NPY = Csv(), Parquet(), Images(), Tar(), Npy()
FORMATS: list[Format] = [CSV, PARQUET, IMAGES, TAR, NPY]


# -- statements and tables ------------------------------------------------------------------


def digest(record: Iterable[dict]) -> bytes:
    """The digest of a sample."""
    return records.sample_digest(records.record(list(record)))


def entries(kind: Format, source: str, samples: Iterable[Sample]) -> list[tuple[int, bytes]]:
    """Id and digest of each sample."""
    return [(kind.id(source, sample), digest(kind.record(source, sample))) for sample in samples]


def state(source: str, found: Iterable[tuple[int, bytes]]) -> "lattice.State":
    """The sum of samples; an id may come twice, as it may in a malicious signer's."""
    total, tag = lattice.State(), lattice.source_tag(source)
    for sample_id, sample_digest in found:
        total.add(tag, sample_id, sample_digest)
    return total


def stored(found: Iterable[tuple[int, bytes]]) -> bytes:
    """A table, of which nothing is checked."""
    return b"".join(struct.pack("<Q", sample_id) + sample_digest for sample_id, sample_digest in sorted(found))


def described(name: str, table: bytes) -> dict:
    """What a statement says of a table."""
    return {"name": name, "size": len(table), "digests": [part.hex() for part in tables.part_digests(table)]}


def source(name: str, found: list[tuple[int, bytes]], total: "lattice.State | None" = None, table: str | None = None) -> dict:
    """A source of a statement, with the sum of its samples or another one."""
    total = total or state(name, found)
    made = {"name": name, "samples": total.count, "state": oms.b64(total.to_bytes())}
    return made if table is None else {**made, "table": described(table, stored(found))}


def statement(name: str, kind: Format, sources: list[dict], fields: dict[str, str] | None = None, ids: str | None = None) -> dict:
    """A statement over these sources, whose sum is the subject's digest."""
    signed = sorted((fields or kind.fields).items(), key=lambda field: field[0].encode())
    predicate = {
        "name": name,
        "fields": [{"name": field, "type": arrow} for field, arrow in signed],
        "ids": ids or kind.ids,
        "lattice": LATTICE,
        "sources": sorted(sources, key=lambda made: made["name"].encode()),
    }
    made = {
        "_type": oms.STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": ""}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": predicate,
    }
    return sum_up(made)


def sum_up(made: dict) -> dict:
    """Makes the subject's digest fit the sources again, after a fixture has changed them."""
    whole = lattice.State()
    for item in made["predicate"]["sources"]:
        lanes = struct.unpack("<1024H", oms.unb64(item["state"]))
        whole.merge(lattice.State(list(lanes), item["samples"]))
    made["subject"][0]["digest"]["sha256"] = whole.digest().hex()
    return made


def find(made: dict, name: str) -> dict:
    """The source of that name."""
    return next(item for item in made["predicate"]["sources"] if item["name"] == name)


# -- a dataset and its signature ------------------------------------------------------------


class Dataset:
    """A dataset in the folder of a case, signed by the trusted key unless a fixture does otherwise."""

    def __init__(self, world: World, kind: Format = CSV, sources: Sources | None = None, folder: str = "dataset") -> None:
        self.world, self.kind = world, kind
        self.sources = honest() if sources is None else sources
        self.folder = world.root / folder
        self.folder.mkdir()
        self.signature = self.folder / "dataset.sig"
        # For `describe`, which tells of a case's signature.
        world.model, world.signature = self.folder, self.signature
        self.write()

    def write(self) -> None:
        """Writes the samples as they are now."""
        self.kind.write(self.folder, self.sources)

    def table(self, name: str) -> Path:
        """Where a source's table lies."""
        return self.folder / f"dataset.{name}.samples"

    def entries(self, name: str) -> list[tuple[int, bytes]]:
        """Id and digest of each sample of a source."""
        return entries(self.kind, name, self.sources[name])

    def id(self, name: str, at: int) -> int:
        """The id of a sample by its place."""
        return self.kind.id(name, self.sources[name][at])

    def statement(self, has_tables: bool = True) -> dict:
        """The honest statement; its tables are written."""
        made = []
        for name in self.sources:
            found = self.entries(name)
            if has_tables:
                self.table(name).write_bytes(stored(found))
            made.append(source(name, found, table=self.table(name).name if has_tables else None))
        return statement(self.folder.name, self.kind, made)

    def sign(self, made: dict, signer: Any = None, path: Path | None = None) -> bytes:
        """Signs a statement, whatever it says, and returns its payload."""
        payload = oms.encode(made)
        bundle = oms.bundle(payload, signer or self.world.signer)
        (path or self.signature).write_bytes(oms.encode(bundle))
        return payload

    def signed(self, has_tables: bool = True) -> "Dataset":
        """The same, honestly signed."""
        self.sign(self.statement(has_tables))
        return self

    def without_tables(self) -> "Dataset":
        """The same, honestly signed without tables."""
        return self.signed(has_tables=False)

    # -- running ----------------------------------------------------------------------------

    def _where(self) -> list[str]:
        return [] if self.signature.parent == self.folder else ["--signature", str(self.signature)]

    def verify(self, *extra: str, differences: set | None = None, path: Path | None = None, **options: Any) -> Attempt:
        """Verifies every sample with the trusted key."""
        args = ["dataset", "verify", str(path or self.folder), "--key", str(self.world.public_key()), *self._where()]
        return Attempt([*args, *extra, "--json"], differences, **options)

    def under(self, policy: Path, artifact: str = "acme/digits", **options: Any) -> Attempt:
        """Verifies every sample under a policy."""
        args = ["dataset", "verify", str(self.folder), "--policy", str(policy), "--artifact", artifact, *self._where()]
        return Attempt([*args, "--json"], **options)

    def updating(self, private: Path, *extra: str, **options: Any) -> Attempt:
        """Changes the samples and signs them with another key."""
        args = ["dataset", "update", str(self.folder), "--key", str(private), "--old-key", str(self.world.public_key()), *self._where()]
        return Attempt([*args, *extra, "--json"], **options)

    def signing(self, *extra: str, **options: Any) -> Attempt:
        """Signs the samples with the signer's key."""
        args = ["dataset", "sign", str(self.folder), "--key", str(self.world.private_key()), *self._where()]
        return Attempt([*args, *extra, "--json"], **options)

    def training(self, program: str, differences: set | None = None, timeout: float = 60, **options: Any) -> Attempt:
        """Trains on the samples by one of the programs of train.py."""
        args = [program, str(self.folder), "--key", str(self.world.public_key()), *self._where()]
        # Workers of torch share memory by sockets, whose paths must be short, and leave their folders behind.
        environment = {"TMPDIR": str(self.world.root.parent)}
        return Attempt([*args, "--json"], differences, program=TRAINER, timeout=timeout, environment=environment, **options)


def changed(name: str, *ids: int) -> set:
    """Differences: these samples of a source are others."""
    return {("changed_sample", name, sample_id) for sample_id in ids}


def missing(name: str, *ids: int) -> set:
    """Differences: these samples of a source are not there."""
    return {("missing_sample", name, sample_id) for sample_id in ids}


def added(name: str, *ids: int) -> set:
    """Differences: these samples of a source were not signed."""
    return {("unsigned_sample", name, sample_id) for sample_id in ids}


def another(*names: str) -> set:
    """Differences: these sources have other samples, and no table says which."""
    return {("changed_source", name, None) for name in names}


def each_format(case: Callable, code: str, kinds: list[Format] = FORMATS) -> Callable:
    """Registers a fixture for every format: `name__parquet`, or `name__variant_parquet`."""

    def register(build: Callable) -> Callable:
        for kind in kinds:
            case(code, naive=False)(of_format(build, kind))
        return build

    return register


def of_format(build: Callable, kind: Format) -> Callable:
    """The fixture with its dataset in one format."""

    def fixture(world: World) -> Attempt:
        return build(Dataset(world, kind))

    fixture.__name__ = f"{build.__name__}{'_' if '__' in build.__name__ else '__'}{kind.name}"
    fixture.__doc__, fixture.__module__ = build.__doc__, build.__module__
    return fixture
