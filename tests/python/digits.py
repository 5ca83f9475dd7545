"""scikit-learn's digits, real images with labels, as datasets of every kind; and a flipped label in each."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
from PIL import Image
from sklearn.datasets import load_digits

COUNT = 600
FORMATS = ("parquet", "folder", "tar", "npy")


def images_and_labels() -> tuple[Any, Any]:
    digits = load_digits()
    return digits.images[:COUNT].astype(numpy.uint8), digits.target[:COUNT].astype(numpy.int8)


def png(image: Any) -> bytes:
    stored = io.BytesIO()
    Image.fromarray(image * 15).save(stored, "png")
    return stored.getvalue()


def write(kind: str, folder: Path) -> Path:
    images, labels = images_and_labels()
    folder.mkdir(parents=True)
    {"parquet": _parquet, "folder": _folder, "tar": _tar, "npy": _npy}[kind](folder, images, labels)
    return folder


def _parquet(folder: Path, images: Any, labels: Any) -> None:
    for number, rows in enumerate(numpy.array_split(numpy.arange(len(labels)), 3)):
        table = {
            "id": pyarrow.array(rows, pyarrow.int64()),
            "image": [{"bytes": png(images[row]), "path": f"{row}.png"} for row in rows],
            "label": pyarrow.array(labels[rows], pyarrow.int64()),
        }
        pyarrow.parquet.write_table(pyarrow.table(table), folder / f"train-{number:05}-of-00003.parquet", row_group_size=50)


def _folder(folder: Path, images: Any, labels: Any) -> None:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / "train" / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))


def _tar(folder: Path, images: Any, labels: Any) -> None:
    for number, rows in enumerate(numpy.array_split(numpy.arange(len(labels)), 4)):
        with tarfile.open(folder / f"train-{number:04}.tar", "w") as archive:
            for row in rows:
                for extension, body in (("png", png(images[row])), ("cls", str(labels[row]).encode())):
                    member = tarfile.TarInfo(f"{row:04}.{extension}")
                    member.size = len(body)
                    archive.addfile(member, io.BytesIO(body))


def _npy(folder: Path, images: Any, labels: Any) -> None:
    numpy.save(folder / "image.npy", images)
    numpy.save(folder / "label.npy", labels)


def flip_label(kind: str, folder: Path, number: int) -> None:
    """Changes the label of one sample by one, on disk."""
    images, labels = images_and_labels()
    old = labels[number]
    labels[number] = (old + 1) % 10
    if kind == "folder":
        (folder / "train" / str(old) / f"{number:04}.png").unlink()
        path = folder / "train" / str(labels[number]) / f"{number:04}.png"
        path.write_bytes(png(images[number]))
        return
    for file in folder.iterdir():
        if file.suffix in (".parquet", ".tar", ".npy"):
            file.unlink()
    {"parquet": _parquet, "tar": _tar, "npy": _npy}[kind](folder, images, labels)
