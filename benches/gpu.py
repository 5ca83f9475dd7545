#!/usr/bin/env python3
"""What hashing on a GPU costs from Python: real models in its memory, a first call, and a training step beside it.

`verify_model` is timed whole, with the signature read and checked, on modules with random weights; the first call in a process in new
processes, with torch's own context made before or not. A small transformer is trained while another thread hashes 4 GiB again and
again, at several shares of the GPU and without one. Prints Markdown. Run it by `make gpu`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import sentry
import torch
from sentry import _models, _native

# The best mode of the research prototype on the same kind of GPU, in GB/s (docs/gpu.md).
PROTOTYPE = {"vgg19": 85, "resnet152": 35, "bert-base": 98, "gpt2-xl": 160}
HASHES = ("blake3", "sha256-tree")
SENTRY = os.environ.get("SENTRY_BIN", Path(__file__).resolve().parent.parent / "target/release/sentry")
RUNS = 15
FIRST_CALLS = 5

FIRST_CALL = """
import sys, time
import torch, sentry
signature, public, make_context = sys.argv[1:]
trust = sentry.PublicKey(public)
model = {"x": torch.ones(1 << 20)} if make_context == "no" else {"x": torch.ones(1 << 20, device="cuda")}
torch.cuda.synchronize() if make_context == "yes" else None
began = time.perf_counter()
sentry.verify_model(model, signature, trust=trust, device="cuda")
print(time.perf_counter() - began)
"""


def main() -> None:
    print(f"# Hashing on a GPU, from Python\n\n{torch.cuda.get_device_name()}, torch {torch.__version__}, sentry {sentry.__version__}.")
    print(f"Medians of {RUNS} after 3 warm-ups, [fastest slowest].\n")
    with tempfile.TemporaryDirectory() as folder:
        models(Path(folder))
        steps(Path(folder))
        first_calls(Path(folder))
    training()


def spread(call: Callable[[], float | None], runs: int = RUNS) -> list[float]:
    """Sorted seconds of a call, or what it measures itself."""
    times = []
    for run in range(-3, runs):
        began = time.perf_counter()
        own = call()
        elapsed = time.perf_counter() - began
        if run >= 0:
            times.append(elapsed if own is None else own)
    return sorted(times)


def show(times: list[float]) -> str:
    return f"{statistics.median(times) * 1e3:.3f} [{times[0] * 1e3:.3f} {times[-1] * 1e3:.3f}]"


def make(name: str) -> torch.nn.Module:
    """A model with random weights, in the GPU's memory; output matrices are not tied, as in the prototype's table."""
    import torchvision
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

    with torch.device("cuda"):
        if name == "vgg19":
            return torchvision.models.vgg19(weights=None)
        if name == "resnet152":
            return torchvision.models.resnet152(weights=None)
        if name == "bert-base":
            return BertForMaskedLM(BertConfig(tie_word_embeddings=False))
        return GPT2LMHeadModel(GPT2Config(n_embd=1600, n_layer=48, n_head=25, tie_word_embeddings=False))


def models(folder: Path) -> None:
    """verify_model of whole modules, and the GPU's part in it."""
    print("## Modules in the GPU's memory\n")
    print("`call`: `verify_model(module, signature, trust=…)`, whole. `GPU`: events around all work on the GPU, by `sentry bench gpu --lengths`")
    print("with the lengths of the same tensors, in a process of its own.\n")
    print("| module | tensors | MB | hash | call, ms | GPU, ms | GB/s of the GPU | times the prototype |\n|---|---|---|---|---|---|---|---|")
    key = sentry.PrivateKey.generate()
    trust = key.public_key
    for name, prototype in PROTOTYPE.items():
        module = make(name).eval()
        lengths = folder / f"{name}.lengths"
        lengths.write_text("".join(f"{tensor.nbytes}\n" for tensor in module.state_dict().values()))
        for hash in HASHES:
            signature = folder / f"{name}.sig"
            sentry.sign_model(module, key=key, signature=signature, hash=hash)
            verified = sentry.verify_model(module, signature, trust=trust)
            whole = spread(lambda: sentry.verify_model(module, signature, trust=trust) and None)
            command = [SENTRY, "bench", "gpu", "--json", "--runs", str(RUNS), "--hash", hash, "--lengths", lengths]
            (measured,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["measured"]
            gpu = measured["gpu_seconds"]
            rate = measured["bytes"] / gpu["median"] / 1e9
            print(
                f"| {name} | {measured['messages']} | {verified.bytes / 1e6:.0f} | `{hash}` | {show(whole)} "
                f"| {show([gpu['fastest'], gpu['median'], gpu['slowest']])} | {rate:.0f} | {rate / prototype:.1f} |"
            )
        del module
        torch.cuda.empty_cache()
    print()


def steps(folder: Path) -> None:
    """What the time of one call goes to."""
    module = make("bert-base").eval()
    key = sentry.PrivateKey.generate()
    trust = key.public_key
    signature = folder / "steps.sig"
    sentry.sign_model(module, key=key, signature=signature)
    (views,) = _models._tensors.batches(module, devices := _models._tensors.Devices(in_place=True))
    check = _native.TensorsCheck([signature], None, trust)
    digests = check.digests()
    digests.add(views, [*devices.streams.items()], "cpu", None)
    print("## What the time of a call goes to: bert-base, blake3\n\n| step | ms |\n|---|---|")
    for step, call in {
        "`state_dict()` (torch)": lambda: module.state_dict() and None,
        "names and tensors": lambda: list(_models._tensors.named_tensors(module)) and None,
        "names, tensors and addresses": lambda: list(_models._tensors.batches(module, _models._tensors.Devices(in_place=True))) and None,
        "signature read and checked, beside the former": lambda: _native.TensorsCheck([signature], None, trust).digests() and None,
        "hashing": lambda: _native.TensorDigests("blake3").add(views, [*devices.streams.items()], "cpu", None),
        "comparing": lambda: check.confirm(digests, set()) and None,
    }.items():
        print(f"| {step} | {show(spread(call))} |")
    print()


def first_calls(folder: Path) -> None:
    """The first call in a process, in processes of their own."""
    key = sentry.PrivateKey.generate()
    public, signature = folder / "first.pub", folder / "first.sig"
    public.write_text(key.public_key.pem)
    sentry.sign_model({"x": torch.ones(1 << 20)}, key=key, signature=signature)
    print("## First call in a process, 4 MiB\n\n| torch's context is there | ms |\n|---|---|")
    for make_context in ("no", "yes"):
        times = []
        for _ in range(FIRST_CALLS):
            command = [sys.executable, "-c", FIRST_CALL, str(signature), str(public), make_context]
            times.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        print(f"| {make_context} | {show(sorted(times))} |")
    print()


class Transformer(torch.nn.Module):
    """A language model of 60 million weights."""

    def __init__(self, words: int = 32_000, width: int = 512, layers: int = 8) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(words, width)
        layer = torch.nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True, dropout=0.0, norm_first=True)
        self.body = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = torch.nn.Linear(width, words)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(tokens)))


def training() -> None:
    """A training step by itself, and beside hashing without end. It is one CUDA graph, so that it waits for no Python."""
    torch.manual_seed(1)
    data = torch.randint(0, 256, (4 << 30,), dtype=torch.uint8, device="cuda")
    model = Transformer().cuda()
    weights = sum(weight.numel() for weight in model.parameters()) / 1e6
    print("## A training step beside hashing\n")
    print(f"A transformer of {weights:.0f} million weights, 32 × 512 tokens, bfloat16, AdamW, forward, backward and update in one CUDA graph.")
    print("`default`: the step runs on a stream of torch's default priority, which is the lowest; `high`: on one of high priority.\n")
    print("| hash | share | priority | step alone, ms | beside, ms | slower by | GB/s hashed meanwhile | GB/s alone |\n|---|---|---|---|---|---|---|---|")
    alone = {(hash, share): rate(data, hash, share) for hash in HASHES for share in SHARES}
    for priority, label in ((0, "default"), (-5, "high")):
        stream = torch.cuda.Stream(priority=priority)
        graph = record(model, stream)

        def steps(count: int = 20) -> float:
            stream.synchronize()
            began = time.perf_counter()
            with torch.cuda.stream(stream):
                for _ in range(count):
                    graph.replay()
            stream.synchronize()
            return (time.perf_counter() - began) / count

        quiet = spread(steps, 7)
        for hash in HASHES:
            for share in SHARES:
                with Hashing(data, hash, share) as hashing:
                    beside = spread(steps, 7)
                slower = statistics.median(beside) / statistics.median(quiet) - 1
                of = "all, no share" if share is None else f"1/{round(1 / share)}"
                print(
                    f"| `{hash}` | {of} | {label} | {show(quiet)} | {show(beside)} | {slower:.1%} "
                    f"| {hashing.rate:.0f} | {alone[hash, share]:.0f} |"
                )
    print()


def record(model: Transformer, stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    """A training step as a graph, for this stream."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True, capturable=True)
    tokens = torch.randint(0, 32_000, (32, 512), device="cuda")

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            loss = torch.nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        step()
    return graph


SHARES = (1 / 16, 1 / 8, 1 / 4, None)


def rate(data: torch.Tensor, hash: str, share: float | None) -> float:
    """GB/s with nothing beside."""
    with Hashing(data, hash, share) as hashing:
        time.sleep(0.5)
    return hashing.rate


class Hashing:
    """Hashes a tensor again and again, in a thread and on a stream of its own, as long as the block lasts."""

    def __init__(self, data: torch.Tensor, hash: str, share: float | None) -> None:
        self._data, self._hash, self._share = data, hash, share
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rate = 0.0

    def _run(self) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            devices = _models._tensors.Devices(in_place=True)
            (views,) = _models._tensors.batches({"data": self._data}, devices)
            count, began = 0, time.perf_counter()
            while not self._stop.is_set():
                _native.TensorDigests(self._hash).add(views, [*devices.streams.items()], "cpu", self._share)
                count += 1
            self.rate = count * self._data.nbytes / (time.perf_counter() - began) / 1e9

    def __enter__(self) -> Hashing:
        self._thread.start()
        time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    main()
