"""A model over two GPUs and this machine's memory: what arrives is right and where it belongs, or nothing arrives anywhere."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentry
import torch
from safetensors import safe_open
from safetensors.torch import save_file

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="it needs two GPUs")

GPUS = ("cuda:0", "cuda:1")
SHARDS = 4
# By modules: each shard has tensors of all three places.
PLACES = {"": "cuda:0", "layers.1": "cuda:1", "layers.2": "cuda:1", "head": "cpu", "layers.2.norm": "cpu"}
SIGNATURES: dict[str, dict[str, Any]] = {
    "tensors": {},
    "blake3 of files": {"hash": "blake3", "annotate": False},
    "sha256": {"annotate": False},
}


def place(name: str) -> str:
    if name.startswith(("head.", "layers.2.norm.")):
        return "cpu"
    return "cuda:1" if name.startswith(("layers.1.", "layers.2.")) else "cuda:0"


def weights(shard: int) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(shard)
    names = [f"layers.{layer}.{part}.{shard}" for layer in (0, 1, 2, 10) for part in ("weight", "norm")]
    # From less than a read to several.
    shapes = [(1000 + 37 * shard, 1001), (77,)] * 4
    tensors = {name: torch.randn(shape, generator=source) for name, shape in zip(names, shapes, strict=True)}
    tensors[f"head.{shard}"] = torch.randn(301, 1003, generator=source).bfloat16()
    return tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of several files, unsigned."""
    folder = tmp_path / "model"
    folder.mkdir()
    index: dict[str, str] = {}
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        save_file(weights(shard), folder / name)
        index |= dict.fromkeys(weights(shard), name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def is_right(loaded: dict[str, torch.Tensor]) -> None:
    expected = {name: tensor for shard in range(SHARDS) for name, tensor in weights(shard).items()}
    assert set(loaded) == set(expected)
    for name, tensor in loaded.items():
        assert str(tensor.device) == place(name), name
        assert (tensor.dtype, tensor.shape) == (expected[name].dtype, expected[name].shape), name
        assert torch.equal(tensor.cpu(), expected[name]), name


def taken() -> list[int]:
    """Bytes of each GPU that torch has given out."""
    gc.collect()
    return [torch.cuda.memory_allocated(gpu) for gpu in GPUS]


def flip(file: Path, tensor: str) -> None:
    """Changes a bit in the middle of a tensor's bytes."""
    content = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    begin, end = json.loads(content[8:start])[tensor]["data_offsets"]
    content[start + (begin + end) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("kind", SIGNATURES)
def test_all_places_or_none(
    folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, rejected: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    sentry.sign_model(folder, key=key, **SIGNATURES[kind])
    before = taken()
    loaded = sentry.load_model(folder, trust=trust, device=PLACES)
    is_right(loaded)
    assert all(now > then for now, then in zip(taken(), before, strict=True))
    del loaded
    assert taken() == before

    buffers: list[torch.Tensor] = []
    original = sentry._allocate._torch_bytes

    def allocate(nbytes: int, device: Any = "cpu") -> torch.Tensor:
        buffers.append(original(nbytes, device).fill_(0xEE))
        return buffers[-1]

    file = folder / "model-00003-of-00004.safetensors"
    with safe_open(file, "pt") as opened:
        names = list(opened.keys())
    for where in (*GPUS, "cpu"):
        changed = next(name for name in names if place(name) == where)
        flip(file, changed)
        with monkeypatch.context() as patched:
            patched.setattr("sentry._allocate._torch_bytes", allocate)
            error = rejected(lambda: sentry.load_model(folder, trust=trust, device=PLACES))
        assert error.code == "model_differs" and error.differences[0].file == file.name
        assert {str(buffer.device) for buffer in buffers} == {*GPUS, "cpu"}
        # Wiped at all places: between the regions of a buffer are the bytes that were there before, and nothing of a file.
        assert all(set(buffer.unique().tolist()) <= {0, 0xEE} for buffer in buffers)
        buffers.clear()
        assert taken() == before, where
        flip(file, changed)
        is_right(sentry.load_model(folder, trust=trust, device=PLACES))
        assert taken() == before
