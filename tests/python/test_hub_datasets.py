"""Datasets by their name on the hub, of the schemas of `uoft-cs/cifar10` and `Rowan/hellaswag`: downloaded, checked, and trained on.

The rows are made here; names of files, columns, types and splits are those of the two datasets.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import digits
import pyarrow
import pyarrow.parquet
import pytest
import sentry
from hub_server import Hub, client_settings

# What each process runs: it goes through splits, and prints something of their rows, or what is wrong.
CLIENT = """
import json, sys
import sentry, sentry.datasets, sentry.torch
trust = sentry.PublicKey(sys.argv[1])

def load(field, workers=None, **arguments):
    try:
        data = sentry.datasets.load_dataset(trust=trust, **arguments)
        loader = data if workers is None else sentry.torch.DataLoader(data, batch_size=4, num_workers=workers, collate_fn=list)
        rows = [row for part in loader for row in ([part] if workers is None else part)]
        finished = data.verifier.finish(repeats=False)
        return {"rows": [row[field] for row in rows], "names": sorted(rows[0]), "class": type(rows[0].get("img")).__name__, "finished": finished}
    except sentry.Error as error:
        first = error.differences[0] if getattr(error, "differences", ()) else None
        return {"error": type(error).__name__, "first": first and [first.kind, first.source, first.sample, first.field], "message": str(error)}

print(json.dumps([load(**arguments) for arguments in json.loads(sys.argv[2])]))
"""

# In the order of the files, by workers, and as a stream.
WAYS: list[dict[str, Any]] = [{}, {"workers": 2}, {"streaming": True}]

ENDINGS = [["goes home.", "sings.", "is a \u00e9clair.", f"waits {number} days."] for number in range(11)]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory, key: sentry.PrivateKey) -> Path:
    """Images with the numbers of their classes, in two splits."""
    import datasets

    folder = tmp_path_factory.mktemp("cifar10")
    images, labels = digits.images_and_labels()
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    (folder / "plain_text").mkdir()
    for split, rows in (("train", range(20)), ("test", range(20, 26))):
        columns = {"img": [{"bytes": digits.png(images[row]), "path": None} for row in rows], "label": [int(labels[row]) for row in rows]}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / "plain_text" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(card("plain_text", {"train": "plain_text/train-*", "test": "plain_text/test-*"}))
    sentry.sign_dataset(folder, key=key)
    return folder


@pytest.fixture(scope="module")
def hellaswag(tmp_path_factory: pytest.TempPathFactory, key: sentry.PrivateKey) -> Path:
    """Texts with lists of texts, in three splits."""
    folder = tmp_path_factory.mktemp("hellaswag")
    (folder / "data").mkdir()
    splits = {"train": range(11), "test": range(4), "validation": range(5)}
    for split, rows in splits.items():
        table = pyarrow.table(
            {
                "ind": pyarrow.array([7 * row for row in rows], pyarrow.int32()),
                "activity_label": ["Baking cookies"] * len(rows),
                "ctx_a": [f"A man {row}." for row in rows],
                "ctx_b": ["he"] * len(rows),
                "ctx": [f"A man {row}. he" for row in rows],
                "endings": [ENDINGS[row] for row in rows],
                "source_id": [f"activitynet~v_{row}" for row in rows],
                "split": [split] * len(rows),
                "split_type": ["indomain"] * len(rows),
                "label": ["" if split == "test" else str(row % 4) for row in rows],
            }
        )
        pyarrow.parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(card("default", {split: f"data/{split}-*" for split in splits}))
    sentry.sign_dataset(folder, key=key, id="ind")
    return folder


def card(config: str, files: dict[str, str]) -> str:
    """A dataset's card, which says where its splits are."""
    lines = "".join(f"  - split: {split}\n    path: {path}\n" for split, path in files.items())
    return f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{lines}---\n"


@pytest.fixture
def load(trust: sentry.PublicKey, tmp_path: Path) -> Iterator[Any]:
    """Loads splits of a dataset from a hub that has it, all in a process of its own."""
    public = tmp_path / "publisher.pub"
    public.write_text(trust.pem)
    hubs = []

    def load(folder: Path, name: str, field: str, *splits: dict[str, Any]) -> list[dict[str, Any]]:
        hubs.append(Hub(folder, name, "datasets"))
        calls = [{"path": name, "field": field, "cache_dir": str(tmp_path / "cache"), **split} for split in splits]
        command = [sys.executable, "-c", CLIENT, str(public), json.dumps(calls)]
        run = subprocess.run(command, env=client_settings(hubs[-1], tmp_path / "home"), cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        answers: list[dict[str, Any]] = json.loads(run.stdout)
        assert len(answers) == len(splits)
        return answers

    yield load
    for hub in hubs:
        hub.close()


def test_images_by_name(load: Any, cifar: Path) -> None:
    labels = digits.images_and_labels()[1]
    splits = [{"split": split, **how} for split in ("train", "test") for how in WAYS]
    for split, answer in zip(splits, load(cifar, "uoft-cs/cifar10", "label", *splits), strict=True):
        rows = range(20) if split["split"] == "train" else range(20, 26)
        assert answer["names"] == ["img", "label"] and answer["class"] == "PngImageFile"
        assert answer["rows"] == [int(labels[row]) for row in rows]
        assert answer["finished"] == [len(rows), 0, 0]


def test_texts_by_name(load: Any, hellaswag: Path) -> None:
    counts = {"train": 11, "test": 4, "validation": 5}
    *answers, streamed = load(
        hellaswag, "Rowan/hellaswag", "endings", *({"split": split} for split in counts), {"split": "train", "streaming": True, "workers": 1}
    )
    for count, answer in zip(counts.values(), answers, strict=True):
        assert answer["rows"] == ENDINGS[:count] and answer["finished"] == [count, 0, 0]
    assert streamed["rows"] == ENDINGS and streamed["finished"] == [11, 0, 0]


def changed(folder: Path, to: Path, file: str, change: Any) -> Path:
    """A copy of a dataset in which one file has other rows."""
    shutil.copytree(folder, to)
    table = pyarrow.parquet.read_table(to / file)
    rows = table.to_pylist()
    change(rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), to / file)
    return to


def test_a_flipped_label_on_the_hub_is_rejected(load: Any, cifar: Path, tmp_path: Path) -> None:
    def flip(rows: list[dict[str, Any]]) -> None:
        rows[13]["label"] = (rows[13]["label"] + 1) % 10

    folder = changed(cifar, tmp_path / "changed", "plain_text/train-00000-of-00001.parquet", flip)
    *flipped, honest = load(folder, "uoft-cs/cifar10", "label", *({"split": "train", **how} for how in WAYS), {"split": "test"})
    for answer in flipped:
        assert (answer["error"], answer["first"]) == ("SampleError", ["changed_sample", "train", 13, "label"])
    assert honest["finished"] == [6, 0, 0]


def test_a_changed_ending_on_the_hub_is_rejected(load: Any, hellaswag: Path, tmp_path: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[2]["endings"][1] = "poisons."

    folder = changed(hellaswag, tmp_path / "changed", "data/validation-00000-of-00001.parquet", change)
    (answer,) = load(folder, "Rowan/hellaswag", "endings", {"split": "validation"})
    assert answer["error"] == "SampleError" and answer["first"][:3] == ["changed_sample", "validation", 14]


def test_a_split_that_nobody_signed_is_rejected(load: Any, hellaswag: Path, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    shutil.copytree(hellaswag, folder)
    shutil.copy(folder / "data/test-00000-of-00001.parquet", folder / "data/extra-00000-of-00001.parquet")
    (folder / "README.md").write_text(card("default", {"extra": "data/extra-*"}))
    (answer,) = load(folder, "Rowan/hellaswag", "endings", {"split": "extra"})
    assert (answer["error"], answer["first"]) == ("SampleError", ["unsigned_source", "extra", None, None])


def test_a_downloaded_dataset_is_verified_as_a_folder(cifar: Path, trust: sentry.PublicKey, tmp_path: Path) -> None:
    # The hub's cache: names are links to files of their digests.
    blobs, snapshot = tmp_path / "datasets--uoft-cs--cifar10/blobs", tmp_path / "datasets--uoft-cs--cifar10/snapshots/main"
    blobs.mkdir(parents=True)
    for path in sorted(path for path in cifar.rglob("*") if path.is_file()):
        blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.write_bytes(path.read_bytes())
        link = snapshot / path.relative_to(cifar)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    assert sentry.verify_dataset(snapshot, trust=trust).samples == 26
