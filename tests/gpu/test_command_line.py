"""`sentry hash --device cuda`: the digests that a CPU computes, of files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SENTRY = Path(os.environ.get("SENTRY_BIN", Path(__file__).resolve().parents[2] / "target/release/sentry"))


def sentry_hash(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SENTRY, "hash", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty, small, many and large ones, and a safetensors file."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("files")
    (folder / "empty").touch()
    (folder / "large").write_bytes(os.urandom(70_000_001))
    for number in range(300):
        (folder / f"small-{number}").write_bytes(os.urandom(number * 13))
    save_file({"a": torch.randn(1000, 1001), "b": torch.ones(3), "empty": torch.empty(0)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("hash", ["blake3", "sha256-tree", "blake2b-tree", "sha3-256-tree"])
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "auto"])
def test_the_same_digests_as_on_the_cpu(files: Path, hash: str, device: str) -> None:
    options = ["--hash", hash, "--tensors", "--json"]
    on_cpu, on_gpu = sentry_hash(files, *options), sentry_hash(files, *options, "--device", device)
    assert (on_gpu.returncode, on_gpu.stderr) == (0, "")
    assert on_gpu.stdout == on_cpu.stdout


def test_a_serial_hash_is_refused_on_a_gpu_by_name_only(files: Path) -> None:
    refused = sentry_hash(files, "--device", "cuda")
    assert refused.returncode == 2 and refused.stdout == "" and "sha256" in refused.stderr
    assert sentry_hash(files, "--device", "auto").stdout == sentry_hash(files).stdout


def test_a_gpu_that_is_not_there(files: Path) -> None:
    refused = sentry_hash(files, "--hash", "blake3", "--device", "cuda:99")
    assert refused.returncode == 2 and refused.stdout == "" and "there is no GPU 99" in refused.stderr
