"""Loading to GPUs: what arrives is what was signed, and nothing arrives otherwise."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentry
import torch
from safetensors.torch import save_file
from sentry.safetensors import load_file, safe_open

SENTRY = Path(os.environ.get("SENTRY_BIN", Path(__file__).resolve().parents[2] / "target/release/sentry"))
WEIGHTS = "model.safetensors"

# Everything that a load can be checked by.
SIGNATURES: dict[str, dict[str, Any]] = {
    "tensors": {},
    "blake3 of tensors and files": {"hash": "blake3"},
    "blake3 of files": {"hash": "blake3", "annotate": False},
    "sha256": {"annotate": False},
    "sha256 of shards": {"annotate": False, "shard_size": 1_000_001},
}


CHECKED_BY = {
    "tensors": "tensors",
    "blake3 of tensors and files": "tensors",
    "blake3 of files": "blake3",
    "sha256": "sha256",
    "sha256 of shards": "sha256 of shards",
}


def weights() -> dict[str, torch.Tensor]:
    """Many types and shapes, from nothing to several units of reading."""
    # Of its own: several threads ask for them at the same time.
    source = torch.Generator().manual_seed(7)
    return {
        "large": torch.randn(1500, 1501, generator=source),
        "half": torch.randn(701, 999, generator=source).half(),
        "bfloat": torch.randn(4097, generator=source).bfloat16(),
        "none": torch.empty(0, 4),
        "scalar": torch.tensor(3.5),
        "mask": torch.rand(333, generator=source) > 0.5,
        "bytes": torch.randint(0, 255, (5_000_003,), dtype=torch.uint8, generator=source),
        "after.odd.bytes": torch.arange(1000),
        **{f"layers.{number}.weight": torch.randn(50, 51, generator=source) for number in range(300)},
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of two files with an index, unsigned."""
    folder = tmp_path / "model"
    folder.mkdir()
    files = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    for number, (name, tensor) in enumerate(weights().items()):
        files[sorted(files)[number % 2]][name] = tensor
    for name, tensors in files.items():
        save_file(tensors, folder / name)
    index = {"metadata": {}, "weight_map": {name: file for file, tensors in files.items() for name in tensors}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def same(loaded: dict[str, torch.Tensor], device: str = "cuda:0") -> None:
    expected = weights()
    assert set(loaded) == set(expected)
    for name, tensor in loaded.items():
        wanted = expected[name]
        assert (tensor.dtype, tensor.shape, str(tensor.device)) == (wanted.dtype, wanted.shape, device), name
        assert torch.equal(tensor.cpu(), wanted), name
        assert tensor.is_contiguous(), name


@pytest.mark.parametrize("kind", SIGNATURES)
def test_every_kind_of_signature(folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, kind: str) -> None:
    sentry.sign_model(folder, key=key, **SIGNATURES[kind])
    for device in ("cuda", "cuda:0", torch.device("cuda", 0), {"": "cuda:0"}):
        loaded = sentry.load_model(folder, trust=trust, device=device)
        same(loaded)
    assert sum(loaded.verification.read_by.values()) >= sum(tensor.nbytes for tensor in loaded.values())
    (checked_by,) = set(loaded.verification.checked_by.values())
    assert checked_by == CHECKED_BY[kind]


def test_tensors_are_views_of_one_buffer_a_file(folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model(folder, key=key)
    before = torch.cuda.memory_allocated()
    loaded = sentry.load_model(folder, trust=trust, device="cuda:0")
    storages = {tensor.untyped_storage().data_ptr() for tensor in loaded.values() if tensor.numel()}
    # And one for each tensor that does not begin at a multiple of its element's size.
    assert len(storages) <= 4
    assert torch.cuda.memory_allocated() - before < sum(tensor.nbytes for tensor in loaded.values()) + (2 << 20)
    del loaded, storages
    assert torch.cuda.memory_allocated() == before


def test_parts_of_a_model(folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model(folder, key=key)
    file = folder / "model-00001-of-00002.safetensors"
    expected = weights()
    for name, tensor in load_file(file, "cuda:0", trust=trust).items():
        assert torch.equal(tensor.cpu(), expected[name])
    with safe_open(file, "pt", "cuda:0", trust=trust) as opened:
        for name in list(opened.keys())[:20]:
            tensor = opened.get_tensor(name)
            assert tensor.is_cuda and torch.equal(tensor.cpu(), expected[name])


def flip(file: Path, at: int) -> None:
    with open(file, "r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("kind", SIGNATURES)
def test_nothing_arrives_of_what_was_changed(
    folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, rejected: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    sentry.sign_model(folder, key=key, **SIGNATURES[kind])
    file = folder / "model-00002-of-00002.safetensors"
    size = file.stat().st_size
    taken: list[torch.Tensor] = []
    original = sentry._allocate._torch_bytes

    def allocate(nbytes: int, device: Any = "cpu") -> torch.Tensor:
        memory = original(nbytes, device)
        memory.fill_(0xEE)
        taken.append(memory)
        return memory

    monkeypatch.setattr("sentry._allocate._torch_bytes", allocate)
    for at in (size - 1, size // 2, size - 1_000_000):
        flip(file, at)
        error = rejected(lambda: sentry.load_model(folder, trust=trust, device="cuda:0"))
        assert error.code == "model_differs" and error.differences[0].file == file.name
        # Wiped: between the regions of a buffer are the bytes that were there before, and nothing of the file.
        for memory in taken:
            assert set(memory.unique().tolist()) <= {0, 0xEE}
        taken.clear()
        flip(file, at)
        same(sentry.load_model(folder, trust=trust, device="cuda:0"))
        taken.clear()


def test_other_faults_of_files(folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model(folder, key=key)
    file = folder / "model-00002-of-00002.safetensors"
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    first = content.index(b'"data_offsets":[') + len(b'"data_offsets":[')
    spoiled = {
        "truncated": content[:-1000],
        "longer": content + b"x",
        "empty": b"",
        "another header": content[:first] + b"1" + content[first + 1 :],
        "a length beyond the file": (1 << 40).to_bytes(8, "little") + content[8:],
        "another model": content[: 8 + length] + bytes(len(content) - 8 - length),
    }
    gc.collect()
    before = torch.cuda.memory_allocated()
    for what, bytes_ in spoiled.items():
        file.write_bytes(bytes_)
        with pytest.raises(sentry.VerificationError):
            sentry.load_model(folder, trust=trust, device="cuda:0")
            pytest.fail(what)
        gc.collect()
        assert torch.cuda.memory_allocated() == before, what
    file.unlink()
    with pytest.raises(sentry.VerificationError):
        sentry.load_model(folder, trust=trust, device="cuda:0")
    file.write_bytes(content)
    same(sentry.load_model(folder, trust=trust, device="cuda:0"))
    with pytest.raises(sentry.VerificationError):
        sentry.load_model(folder, trust=sentry.PrivateKey.generate().public_key, device="cuda:0")


def test_no_memory_left(folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model(folder, key=key)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(free - (8 << 20), dtype=torch.uint8, device="cuda")
    with pytest.raises(sentry.DeviceError) as caught:
        sentry.load_model(folder, trust=trust, device="cuda:0")
    assert caught.value.code == "gpu_out_of_memory"
    del hog
    torch.cuda.empty_cache()
    same(sentry.load_model(folder, trust=trust, device="cuda:0"))


def test_a_gpu_that_is_not_there(folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model(folder, key=key)
    with pytest.raises(sentry.UsageError, match="cuda:99"):
        sentry.load_model(folder, trust=trust, device="cuda:99")


def test_memory_that_a_stream_still_uses(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    save_file({"x": torch.ones(1 << 24)}, folder / WEIGHTS)
    sentry.sign_model(folder, key=key)
    busy = torch.randn(8192, 8192, device="cuda")
    stream = torch.cuda.Stream()
    for _ in range(5):
        with torch.cuda.stream(stream):
            # Freed at once, so that the load gets it, while this stream has yet to write to it.
            late = torch.empty((1 << 24) + 64, device="cuda")
            for _ in range(10):
                busy @ busy
            late.fill_(7)
            del late
            loaded = sentry.load_model(folder, trust=trust, device="cuda:0")
        torch.cuda.synchronize()
        assert bool((loaded["x"] == 1).all())
        del loaded


def test_a_device_map(folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, rejected: Callable[..., Any]) -> None:
    expected = weights()
    other = "cuda:1" if torch.cuda.device_count() > 1 else "cpu"
    places = {"": "cuda:0", "layers": other, "layers.7": "cpu", "large": other}

    def place(name: str) -> str:
        if name.startswith("layers.7."):
            return "cpu"
        return other if name == "large" or name.startswith("layers.") else "cuda:0"

    for kind, options in SIGNATURES.items():
        sentry.sign_model(folder, key=key, **options)
        loaded = sentry.load_model(folder, trust=trust, device=places)
        assert set(loaded) == set(expected), kind
        for name, tensor in loaded.items():
            assert str(tensor.device) == place(name), (kind, name)
            assert torch.equal(tensor.cpu(), expected[name]), (kind, name)
        flip(folder / "model-00001-of-00002.safetensors", 3_000_000)
        rejected(lambda: sentry.load_model(folder, trust=trust, device=places))
        flip(folder / "model-00001-of-00002.safetensors", 3_000_000)
    for wrong in ({"layers": "cuda:0"}, {"": "disk"}, {}):
        with pytest.raises(sentry.UsageError):
            sentry.load_model(folder, trust=trust, device=wrong)


def test_several_loads_at_the_same_time(
    folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, at_the_same_time: Callable[..., None]
) -> None:
    sentry.sign_model(folder, key=key)

    def load() -> None:
        for _ in range(5):
            same(sentry.load_model(folder, trust=trust, device="cuda:0"))

    at_the_same_time(load, 6)


def test_the_command(folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path) -> None:
    public = tmp_path / "key.pub"
    public.write_text(trust.pem)
    for kind, options in SIGNATURES.items():
        sentry.sign_model(folder, key=key, **options)
        for device in ("cuda:0", "auto", "cpu"):
            command = [SENTRY, "load", folder, "--key", public, "--device", device, "--runs", "3"]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, (kind, done.stderr)
            assert re.search(r"loaded .* verified \(2 files", done.stderr)
            document = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True).stdout)
            assert document["status"] == "verified" and len(document["seconds"]) == 3
            assert document["device"].startswith("cpu" if device == "cpu" else "cuda:0")
    flip(folder / "model-00001-of-00002.safetensors", 3_000_000)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("rejected:")


def test_files_that_are_not_in_memory(folder: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    """On a disk: what the page cache has lost is read around it."""
    # The repository's own disk; temporary folders may be in memory.
    here = Path(__file__).resolve().parents[2] / "target/cold"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(folder, here)
    try:
        sentry.sign_model(here, key=key)
        for name in here.iterdir():
            with open(name, "rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        loaded = sentry.load_model(here, trust=trust, device="cuda:0")
        same(loaded)
        assert set(loaded.verification.read_by) <= {"page cache", "io_uring", "O_DIRECT", "cuFile"}
        flip(here / "model-00002-of-00002.safetensors", 1_000_000)
        with open(here / "model-00002-of-00002.safetensors", "rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with pytest.raises(sentry.VerificationError):
            sentry.load_model(here, trust=trust, device="cuda:0")
    finally:
        shutil.rmtree(here)
