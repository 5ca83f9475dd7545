"""A load whose reads fail, are late or end early returns no data, and the next one in the process works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sentry
import torch
from safetensors.torch import save_file

# The fault, with the number of the read that has it, and what comes of the load.
FAULTS = {
    **{("error", number): "io" for number in (1, 2, 3, 9, 17, 30)},
    **{("end", number): "file_changed_while_read" for number in (1, 5, 20)},
    **{("wrong", number): "model_differs" for number in (1, 8, 25)},
    ("short", 3): "right",
    ("delay", 0): "right",
}

# Loads with each fault, and after each without one; prints what came of both.
CHILD = """
import ctypes, json, sys, torch, sentry
folder, public, shim, faults = sys.argv[1:]
trust = sentry.PublicKey(public)
shim = ctypes.CDLL(shim)
before = torch.cuda.memory_allocated()
def load(kind, number):
    shim.set_read_fault(kind.encode(), number)
    try:
        tensors = sentry.load_model(folder, trust=trust, device="cuda:0")
    except sentry.Error as error:
        assert torch.cuda.memory_allocated() == before, "memory was not given back"
        return error.code
    finally:
        reads = shim.large_reads()
        assert not kind or reads >= max(number, 1), f"{kind}: there were only {reads} reads"
    return "right" if all(bool((tensor == int(name)).all()) for name, tensor in tensors.items()) else "WRONG"
print(json.dumps([(load(kind, number), load("", 0)) for kind, number in json.loads(faults)]))
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faulty reads, compiled."""
    library = tmp_path_factory.mktemp("shim") / "read_faults.so"
    source = Path(__file__).with_name("read_faults.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, key: sentry.PrivateKey) -> Path:
    """Tensors of 16 MiB that are full of their names, in two files."""
    folder = tmp_path_factory.mktemp("model")
    for part in range(2):
        tensors = {str(2 * part + number): torch.full((1 << 22,), float(2 * part + number)) for number in range(2)}
        save_file(tensors, folder / f"model-0000{part + 1}-of-00002.safetensors")
    index = {str(name): f"model-0000{name // 2 + 1}-of-00002.safetensors" for name in range(4)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder.parent / "publisher.pub").write_text(key.public_key.pem)
    return folder


@pytest.fixture(scope="module", params=["tensors", "sha256"])
def outcomes(model: Path, key: sentry.PrivateKey, shim: Path, request: pytest.FixtureRequest) -> dict[tuple[str, int], list[str]]:
    """What came of the loads of one process, which begins with a fault, under a kind of signature."""
    sentry.sign_model(model, key=key, annotate=request.param == "tensors")
    command = [sys.executable, "-c", CHILD, str(model), str(model.parent / "publisher.pub"), str(shim), json.dumps(list(FAULTS))]
    run = subprocess.run(command, env={**os.environ, "LD_PRELOAD": str(shim)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return dict(zip(FAULTS, json.loads(run.stdout), strict=True))


@pytest.mark.parametrize(("kind", "number"), FAULTS)
def test_nothing_comes_back(outcomes: dict[tuple[str, int], list[str]], kind: str, number: int) -> None:
    assert outcomes[kind, number] == [FAULTS[kind, number], "right"]
