"""Training on signed digits: shuffled, by four workers, two epochs, resumed in the middle; with one label flipped, no step is made with it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import digits
import numpy
import pytest
import sentry
import sentry.datasets
import sentry.torch
import sentry.webdataset
import torch
import webdataset
from PIL import Image

FLIPPED = 137

# More workers than this machine has cores; and what torchdata still calls.
pytestmark = [pytest.mark.filterwarnings("ignore:This DataLoader will create"), pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")]


@pytest.fixture(scope="module")
def key() -> sentry.PrivateKey:
    return sentry.PrivateKey.generate()


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, key: sentry.PrivateKey) -> dict[str, Path]:
    """The digits in every format, signed."""
    root = tmp_path_factory.mktemp("digits")
    folders = {kind: digits.write(kind, root / kind) for kind in digits.FORMATS}
    for folder in folders.values():
        assert sentry.sign_dataset(folder, key=key).samples == digits.COUNT
    return folders


def trust(key: sentry.PrivateKey) -> sentry.PublicKey:
    return key.public_key


def decode(stored: bytes) -> torch.Tensor:
    return torch.from_numpy(numpy.asarray(Image.open(io.BytesIO(stored)).convert("L")).copy()).float().div(255).flatten()


def of_row(row: Any) -> tuple[torch.Tensor, int]:
    return decode(row["image"]["bytes"]), row["label"]


def of_arrays(sample: Any) -> tuple[torch.Tensor, int]:
    return torch.tensor(sample["image"]).float().div(16).flatten(), int(sample["label"])


def of_image(image: Any) -> torch.Tensor:
    return torch.from_numpy(numpy.asarray(image.convert("L")).copy()).float().div(255).flatten()


def of_archive(sample: Any) -> tuple[torch.Tensor, int]:
    return decode(sample["png"]), int(sample["cls"])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    return [row for file in sorted(folder.glob("*.parquet")) for row in pyarrow.parquet.read_table(file).to_pylist()]


def members_of(folder: Path) -> Any:
    urls = [str(file) for file in sorted(folder.glob("*.tar"))]
    return webdataset.WebDataset(urls, shardshuffle=False, nodesplitter=None)


def loader(kind: str, folder: Path, verifier: sentry.DatasetVerifier, stateful: bool = False, workers: int = 4) -> Any:
    """A loader over one of the formats, as its users would have it."""
    make = sentry.torch.StatefulDataLoader if stateful else sentry.torch.DataLoader
    options: dict[str, Any] = {"batch_size": 32, "num_workers": workers}
    if kind == "parquet":
        return make(sentry.torch.VerifiedDataset(rows_of(folder), verifier, transform=of_row), shuffle=True, **options)
    if kind == "hugging face":

        data = sentry.datasets.VerifiedDataset(datasets_of(folder), verifier).with_transform(rows_to_tensors)
        return make(data, shuffle=True, collate_fn=from_rows, **options)
    if kind == "folder":
        return make(sentry.torch.ImageFolder(folder, verifier, transform=of_image), shuffle=True, **options)
    if kind == "tar":
        stage = sentry.webdataset.look(verifier)
        data = members_of(folder).compose(stage).shuffle(200).map(with_receipt)
        return make(data, verifier=verifier, **options)
    arrays = {name: numpy.load(folder / f"{name}.npy", mmap_mode="r") for name in ("image", "label")}
    return make(sentry.torch.VerifiedDataset(arrays, verifier, transform=of_arrays), shuffle=True, **options)


def with_receipt(sample: Any) -> tuple[Any, ...]:
    return (*of_archive(sample), sample["__sentry__"])


def datasets_of(folder: Path) -> Any:
    import datasets

    return datasets.load_dataset("parquet", data_files=[str(file) for file in sorted(folder.glob("*.parquet"))], split="train", cache_dir=folder / "cache")


def rows_to_tensors(rows: Any) -> dict[str, Any]:
    return {"pixels": [decode(image["bytes"]) for image in rows["image"]], "label": rows["label"]}


def from_rows(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.stack([row["pixels"] for row in rows]), torch.tensor([row["label"] for row in rows])


class Trainer:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Linear(64, 10)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        self.steps = 0

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        loss = torch.nn.functional.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        return float(loss.detach())


KINDS = (*digits.FORMATS, "hugging face")


def place(kind: str, signed: dict[str, Path]) -> Path:
    return signed["parquet" if kind == "hugging face" else kind]


@pytest.mark.parametrize("kind", KINDS)
def test_two_epochs_by_four_workers_are_verified(kind: str, signed: dict[str, Path], key: sentry.PrivateKey) -> None:
    folder = place(kind, signed)
    verifier = sentry.DatasetVerifier(folder, trust=trust(key))
    batches, trainer, losses = loader(kind, folder, verifier), Trainer(), []
    for _ in range(2):
        seen = 0
        for images, labels in batches:
            losses.append(trainer.step(images, labels))
            seen += len(labels)
        assert seen == digits.COUNT
        finished = verifier.finish()
        assert finished == (digits.COUNT, 0, 0)
    assert losses[-1] < losses[0] / 2, "it learns"


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_label_is_rejected_before_the_step(kind: str, signed: dict[str, Path], key: sentry.PrivateKey, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(place(kind, signed), folder, ignore=shutil.ignore_patterns("cache"))
    stored = "parquet" if kind == "hugging face" else kind
    digits.flip_label(stored, folder, FLIPPED)
    verifier = sentry.DatasetVerifier(folder, trust=trust(key))
    label = digits.images_and_labels()[1][FLIPPED]
    trainer, steps_with_it = Trainer(), 0
    with pytest.raises(sentry.SampleError) as caught:
        for images, labels in loader(kind, folder, verifier):
            trainer.step(images, labels)
            steps_with_it += has_sample(images, labels)
    assert steps_with_it == 0
    error = caught.value
    assert error.code == "dataset_differs"
    difference = error.differences[0]
    wrong_label = (label + 1) % 10
    path = f"train/{wrong_label}/{FLIPPED:04}.png"
    if kind == "folder":
        # Another folder is another path, and so another sample.
        found = {(one.kind, one.source, one.sample) for one in error.differences}
        assert ("unsigned_sample", "train", sentry._native.path_id(path)) in found and len(found) == 2
        return
    ids = {"tar": sentry._native.path_id(f"{FLIPPED:04}")}
    source = {"npy": "default"}.get(kind, "train")
    field = {"tar": "cls"}.get(kind, "label")
    assert (difference.kind, difference.source, difference.sample, difference.field) == ("changed_sample", source, ids.get(kind, FLIPPED), field)
    assert f'field "{field}" of sample' in str(error)
    assert difference.expected == (f"b'{label}'" if kind == "tar" else str(label))


def has_sample(images: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether the flipped sample is in a batch, by its pixels."""
    wanted = torch.from_numpy(digits.images_and_labels()[0][FLIPPED].copy()).float().flatten()
    scaled = [wanted / 16, wanted * 15 / 255]
    return any(bool(torch.isclose(image, one).all()) for image in images for one in scaled)


@pytest.mark.parametrize("kind", ["parquet", "folder", "npy", "hugging face"])
def test_an_epoch_goes_on_after_a_restart(kind: str, signed: dict[str, Path], key: sentry.PrivateKey) -> None:
    folder = place(kind, signed)
    verifier = sentry.DatasetVerifier(folder, trust=trust(key))
    torch.manual_seed(5)
    batches = loader(kind, folder, verifier, stateful=True)
    iterator = iter(batches)
    seen = sum(len(next(iterator)[1]) for _ in range(7))
    state = batches.state_dict()
    with pytest.raises(sentry.EpochError) as caught:
        verifier.finish()
    assert caught.value.code == "epoch_incomplete"
    del iterator, batches

    again = sentry.DatasetVerifier(folder, trust=trust(key))
    batches = loader(kind, folder, again, stateful=True)
    batches.load_state_dict(state)
    seen += sum(len(labels) for _, labels in batches)
    assert seen == digits.COUNT
    assert again.finish() == (digits.COUNT, 0, 0)


def test_what_was_read_ahead_and_never_used_does_not_count(signed: dict[str, Path], key: sentry.PrivateKey) -> None:
    verifier = sentry.DatasetVerifier(signed["npy"], trust=trust(key))
    for number, _ in enumerate(loader("npy", signed["npy"], verifier)):
        if number == 2:
            break
    assert verifier.delivered() == {"default": 3 * 32}


@pytest.mark.parametrize("kind", ["npy", "tar"])
def test_wrong_samples_are_kept_back_if_asked_for(kind: str, signed: dict[str, Path], key: sentry.PrivateKey, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(signed[kind], folder)
    digits.flip_label(kind, folder, FLIPPED)
    verifier = sentry.DatasetVerifier(folder, trust=trust(key), on_bad="quarantine")
    seen = sum(len(labels) for _, labels in loader(kind, folder, verifier))
    assert seen == digits.COUNT - 1
    kept_back = verifier.quarantined
    assert len(kept_back) == 1 and "was changed" in kept_back[0].message
    assert verifier.finish() == (digits.COUNT, 1, 0)


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_workers_may_be_started_anew(start: str, signed: dict[str, Path], key: sentry.PrivateKey) -> None:
    verifier = sentry.DatasetVerifier(signed["npy"], trust=trust(key))
    data = sentry.torch.VerifiedDataset({"image": numpy.load(signed["npy"] / "image.npy"), "label": numpy.load(signed["npy"] / "label.npy")}, verifier, transform=of_arrays)
    batches = sentry.torch.DataLoader(data, batch_size=100, num_workers=2, multiprocessing_context=start)
    assert sum(len(labels) for _, labels in batches) == digits.COUNT
    verifier.finish()


def test_a_worker_that_dies_ends_the_epoch(signed: dict[str, Path], key: sentry.PrivateKey) -> None:
    verifier = sentry.DatasetVerifier(signed["npy"], trust=trust(key))

    def die(sample: Any) -> Any:
        import os

        if int(sample["label"]) == 7:
            os._exit(3)
        return of_arrays(sample)

    arrays = {name: numpy.load(signed["npy"] / f"{name}.npy") for name in ("image", "label")}
    data = sentry.torch.VerifiedDataset(arrays, verifier, transform=die)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        for _ in sentry.torch.DataLoader(data, batch_size=16, num_workers=2):
            pass
    with pytest.raises(sentry.EpochError):
        verifier.finish()


def ranks(verifier: sentry.DatasetVerifier, folder: Path, number: int, count: int) -> Iterator[Any]:
    """The part of one rank, as DistributedSampler cuts it: filled up by repeats."""
    arrays = {name: numpy.load(folder / f"{name}.npy") for name in ("image", "label")}
    data = sentry.torch.VerifiedDataset(arrays, verifier, transform=of_arrays)
    sampler = torch.utils.data.distributed.DistributedSampler(data, num_replicas=count, rank=number, shuffle=True, seed=3)
    yield from sentry.torch.DataLoader(data, batch_size=50, sampler=sampler)


def test_ranks_are_merged_with_the_repeats_of_a_distributed_sampler(signed: dict[str, Path], key: sentry.PrivateKey) -> None:
    # 600 samples over 7 ranks: each has 86, so that two come twice.
    verifiers = [sentry.DatasetVerifier(signed["npy"], trust=trust(key)) for _ in range(7)]
    seen = sum(len(labels) for rank, verifier in enumerate(verifiers) for _, labels in ranks(verifier, signed["npy"], rank, 7))
    assert seen == 602
    whole, *others = verifiers
    for other in others[:-1]:
        whole.merge(other.state_dict())
    with pytest.raises(sentry.EpochError):
        whole.finish()
    whole.merge(others[-1].state_dict())
    assert whole.finish() == (digits.COUNT, 0, 2)


def test_hugging_face_rows_are_checked_and_decoded(signed: dict[str, Path], key: sentry.PrivateKey, tmp_path: Path) -> None:

    data = sentry.datasets.load_dataset(str(signed["parquet"]), trust=trust(key), split="train", cache_dir=str(tmp_path))
    assert len(data) == digits.COUNT and data[5]["label"] == data[-595]["label"] == 5
    assert data[3:5]["id"] == [3, 4] and data[[9, 1]]["id"] == [9, 1]
    assert data.with_format("numpy")[7]["label"] == 7
    assert data.verifier.delivered() == {"train": 6}
    shuffled = data.shuffle(seed=1)
    assert sorted(row["id"] for row in shuffled) == list(range(digits.COUNT))
    data.verifier.finish()
    with pytest.raises(sentry.UsageError):
        data["label"]


def test_hugging_face_streams_are_checked(signed: dict[str, Path], key: sentry.PrivateKey, tmp_path: Path) -> None:

    data = sentry.datasets.load_dataset(str(signed["parquet"]), trust=trust(key), split="train", streaming=True)
    assert sum(row["label"] for row in data) == int(digits.images_and_labels()[1].sum())
    data.verifier.finish()
    folder = tmp_path / "digits"
    shutil.copytree(signed["parquet"], folder, ignore=shutil.ignore_patterns("cache"))
    digits.flip_label("parquet", folder, FLIPPED)
    data = sentry.datasets.load_dataset(str(folder), trust=trust(key), split="train", streaming=True)
    with pytest.raises(sentry.SampleError, match=f'field "label" of sample {FLIPPED} of source "train" was changed: expected'):
        list(data)


def test_a_dataset_signed_from_memory_is_the_one_in_files(signed: dict[str, Path], key: sentry.PrivateKey, tmp_path: Path) -> None:

    from_files = sentry.DatasetVerifier(signed["parquet"], trust=trust(key))
    rows = datasets_of(signed["parquet"])
    sentry.datasets.sign_dataset(rows, key=key, signature=tmp_path / "memory.sig", name="digits")
    from_memory = sentry.DatasetVerifier("digits", signature=tmp_path / "memory.sig", trust=trust(key))
    assert from_memory.fields == from_files.fields and from_memory.ids == from_files.ids == "column id"
    # The same table, byte by byte: named by its digest.
    assert [file.name.split(".")[2] for file in tmp_path.glob("*.samples")] == [file.name.split(".")[2] for file in signed["parquet"].glob("*.samples")]

    images, labels = digits.images_and_labels()
    sentry.sign_dataset({"image": images, "label": labels}, key=key, signature=tmp_path / "arrays.sig", name="digits")
    arrays = sentry.DatasetVerifier("digits", signature=tmp_path / "arrays.sig", trust=trust(key))
    assert arrays.fields == sentry.DatasetVerifier(signed["npy"], trust=trust(key)).fields
    arrays.check({"image": images, "label": labels}, ids=range(digits.COUNT))
    arrays.finish()


def arrays_of(folder: Path) -> dict[str, Any]:
    return {name: numpy.load(folder / f"{name}.npy", mmap_mode="r") for name in ("image", "label")}


def test_an_epoch_that_was_broken_off_does_not_add_to_the_next_one(signed: dict[str, Path], key: sentry.PrivateKey) -> None:
    verifier = sentry.DatasetVerifier(signed["npy"], trust=trust(key))
    data = sentry.torch.VerifiedDataset(arrays_of(signed["npy"]), verifier, transform=of_arrays)
    # Each leaves some samples out, and not the same ones.
    batches = sentry.torch.DataLoader(data, batch_size=250, shuffle=True, drop_last=True)
    for _ in range(8):
        assert sum(len(labels) for _, labels in batches) == 500
    with pytest.raises(sentry.EpochError, match="500 of 600"):
        verifier.finish()
    # Two loaders make one epoch together.
    halves = torch.utils.data.random_split(data, [0.5, 0.5])
    verifier.reset()
    for half in halves:
        list(sentry.torch.DataLoader(half, batch_size=100))
    verifier.finish()


def test_what_goes_on_is_what_was_checked(signed: dict[str, Path], key: sentry.PrivateKey, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(signed["npy"], folder)
    verifier = sentry.DatasetVerifier(folder, trust=trust(key))
    data = sentry.torch.VerifiedDataset(arrays_of(folder), verifier)
    sample = data[3]
    (folder / "image.npy").write_bytes(bytes((folder / "image.npy").stat().st_size))
    assert (sample["image"] == digits.images_and_labels()[0][3]).all()
    with pytest.raises(sentry.SampleError):
        data[4]


def test_classes_of_images_are_those_of_the_signed_folders(signed: dict[str, Path], key: sentry.PrivateKey, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(signed["folder"], folder)
    extra = folder / "train" / "00" / "x.png"
    extra.parent.mkdir()
    extra.write_bytes(digits.png(digits.images_and_labels()[0][0]))
    with pytest.raises(sentry.SampleError, match='is not signed: "train/00/x.png"') as caught:
        sentry.torch.ImageFolder(folder, sentry.DatasetVerifier(folder, trust=trust(key)))
    assert caught.value.differences[0].kind == "unsigned_sample"
    kept_back = sentry.torch.ImageFolder(folder, sentry.DatasetVerifier(folder, trust=trust(key), on_bad="quarantine"))
    assert kept_back.classes == [str(number) for number in range(10)] and len(kept_back) == digits.COUNT
    extra.unlink()
    (folder / "train" / "0" / "0000.png").unlink()
    with pytest.raises(sentry.SampleError, match="is missing"):
        sentry.torch.ImageFolder(folder, sentry.DatasetVerifier(folder, trust=trust(key), on_bad="quarantine"))


def test_rows_that_only_name_files_are_refused(signed: dict[str, Path], key: sentry.PrivateKey, tmp_path: Path) -> None:
    import datasets

    rows = datasets.load_dataset("imagefolder", data_dir=str(signed["folder"]), split="train", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(sentry.UsageError, match='the field "image" holds names of files'):
        sentry.datasets.sign_dataset(rows, key=key, signature=tmp_path / "images.sig", name="images")


def test_hugging_face_rows_keep_their_numbers(key: sentry.PrivateKey, tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_dict({"x": list(range(30))})
    sentry.datasets.sign_dataset(rows, key=key, signature=tmp_path / "rows.sig", name="rows")
    verifier = sentry.DatasetVerifier("rows", signature=tmp_path / "rows.sig", trust=trust(key))
    assert verifier.ids == "ordinal"
    data = sentry.datasets.VerifiedDataset(rows, verifier)
    assert data.select(range(10, 15)).select([1, 3])[:]["x"] == [11, 13] and data[numpy.int64(4)]["x"] == 4
    assert [row["x"] for row in data.shuffle(seed=3).select(range(4))] == data.shuffle(seed=3)[:4]["x"]
    verifier.reset()
    iterator = iter(data)
    next(iterator), next(iterator)
    assert verifier.delivered() == {"default": 2}
    stream = sentry.datasets.VerifiedIterableDataset(rows.to_iterable_dataset(), verifier)
    verifier.reset()
    assert sum(len(batch["x"]) for batch in sentry.torch.DataLoader(stream, batch_size=8)) == 30
    verifier.finish()
    with pytest.raises(sentry.UsageError, match="several workers"):
        sentry.torch.DataLoader(stream, num_workers=2)


# The library leaves archives open that are not read to their end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_archives_have_no_fields_that_nobody_signed(signed: dict[str, Path], key: sentry.PrivateKey) -> None:
    verifier = sentry.DatasetVerifier(signed["tar"], trust=trust(key))
    sample = list(members_of(signed["tar"]))[0]
    with pytest.raises(sentry.UsageError, match="__evil__"):
        list(sentry.webdataset.check(verifier)([{**sample, "__evil__": b"x"}]))
    with pytest.raises(sentry.SampleError, match='field "more" of all samples was changed'):
        list(sentry.webdataset.check(verifier)([{**sample, "more": b"x"}]))
    with pytest.raises(sentry.UsageError, match="decoded already"):
        list(sentry.webdataset.check(verifier)([{**sample, "cls": 7}]))
    passed = list(sentry.webdataset.check(verifier)(members_of(signed["tar"])))
    assert len(passed) == digits.COUNT and "__sentry__" not in passed[0]
    verifier.finish()
