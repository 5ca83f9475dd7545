#!/usr/bin/env python3
"""Verified loading to a GPU beside what loads unverified, and beside itself without hashing.

Ways to load: `sentry.load_model(…, device="cuda")` with the signature, the policy of one key and every byte checked; and those of
safetensors, fastsafetensors, InstantTensor and run:ai's streamer that are installed, unverified. They take turns in one process, the slow ones
less often. First loads are each in a process of their own, which has torch's context already; so does every loader then.

`--folder` is where models are written, such as /dev/shm, and a folder on a disk; each is measured, and what does not depend on a disk only
in memory. `--signature` is a signature of a model of `--shards` files that another tool made; `--write` only writes that model, whose bytes are
the same everywhere. Prints Markdown. Run it by `make gpu-load`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
SENTRY = os.environ.get("SENTRY_BIN", str(Path(__file__).resolve().parent.parent / "target/release/sentry"))
HASHING_COST = os.environ.get("SENTRY_HASHING_COST")

FIRST = """
import sys, time, torch
sys.path.insert(0, sys.argv[4])
import loading_gpu
way, folder, public = sys.argv[1:4]
load = loading_gpu.ways(folder, public)[way]
loading_gpu.imports(way)
torch.zeros(1).cuda()
torch.cuda.synchronize()
began = time.perf_counter()
tensors = load()
torch.cuda.synchronize()
print(time.perf_counter() - began)
"""

PEAKS = """
import sys, torch
sys.path.insert(0, sys.argv[3])
import loading_gpu
load = loading_gpu.ways(sys.argv[1], sys.argv[2])["sentry, verified"]
torch.zeros(1).cuda()
torch.cuda.empty_cache()
for _ in range(2):
    before = torch.cuda.mem_get_info()[0]
    with loading_gpu.least_free() as seen:
        tensors = load()
    nbytes = sum(tensor.nbytes for tensor in tensors.values())
    print(before - seen[0] - nbytes, seen[1])
    del tensors
    torch.cuda.empty_cache()
    print(before - torch.cuda.mem_get_info()[0])
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--folder", type=Path, action="append", required=True)
    arguments.add_argument("--gigabytes", type=float, default=8)
    arguments.add_argument("--runs", type=int, default=9)
    arguments.add_argument("--shards", type=int, default=32)
    arguments.add_argument("--signature", type=Path, help="of the sharded model")
    arguments.add_argument("--public", type=Path, help="the key of that signature")
    arguments.add_argument("--write", action="store_true")
    options = arguments.parse_args()
    if options.write:
        write_shards(options.folder[0], options.gigabytes, options.shards)
        return
    import sentry
    import torch

    print(f"# Loading to a GPU\n\n{torch.cuda.get_device_name()}, torch {torch.__version__}, sentry {sentry.__version__}, {os.cpu_count()} cores.")
    print(f"Medians of {options.runs} runs, [fastest slowest]; files of {options.gigabytes:g} GB in the page cache, unless it says otherwise.\n")
    key = sentry.PrivateKey.generate()
    for folder in options.folder:
        in_memory = kind_of(folder) == "tmpfs"
        public = folder / "publisher.pub"
        public.write_text(key.public_key.pem)
        one = write_one(folder / "one", options.gigabytes)
        sentry.sign_model(one, key=key, hash="blake3")
        print(f"## In {kind_of(folder)}\n")
        beside_others(one, public, options.runs)
        if not in_memory:
            cold(one, public)
        else:
            cost_of_hashing(one)
            peaks(one, public)
            shapes(folder, key, public, options)
            command(one, public)
            if options.signature:
                foreign(folder / "shards", options)
        for model in folder.glob("*/*.safetensors"):
            model.unlink()


def kind_of(folder: Path) -> str:
    found = subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True).stdout.strip()
    return {"ext2/ext3": "ext4"}.get(found, found)


# -- models, of bytes that are the same everywhere


def write_one(folder: Path, gigabytes: float, name: str = WEIGHTS, nbytes: int = 1 << 27, prefix: str = "layers") -> Path:
    """A safetensors file of bfloat16 matrices."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / name, [(f"{prefix}.{number}.weight", nbytes) for number in range(max(1, int(gigabytes * 1e9 / nbytes)))])
    return folder


def write_shards(folder: Path, gigabytes: float, shards: int) -> Path:
    """The same amount in several files, with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, str] = {}
    nbytes = 1 << 24
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        names = [(f"layers.{shard}.{number}.weight", nbytes) for number in range(max(1, int(gigabytes * 1e9 / shards / nbytes)))]
        write(folder / name, names)
        index |= {tensor: name for tensor, _ in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def write(file: Path, tensors: list[tuple[str, int]]) -> None:
    import numpy

    header, end = {}, 0
    for name, nbytes in tensors:
        header[name] = {"dtype": "BF16", "shape": [nbytes // 2], "data_offsets": [end, end + nbytes]}
        end += nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    words = numpy.arange(1 << 22, dtype=numpy.uint32) * numpy.uint32(2654435761)
    with open(file, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, end, words.nbytes):
            # No two parts are the same.
            part = words ^ numpy.uint32(start >> 20)
            out.write(memoryview(part).cast("B")[: end - start])
        out.flush()
        os.fsync(out.fileno())


# -- ways to load


def imports(way: str) -> None:
    """What a way needs, which is no part of its first load."""
    module = {"safetensors": "safetensors.torch", "run:ai streamer": "runai_model_streamer"}.get(way.split(",")[0], way.split(",")[0].lower())
    __import__(module)


def ways(folder: str | Path, public: str | Path) -> dict[str, Callable[[], Any]]:
    """All of them that can be imported."""
    file = str(Path(folder) / WEIGHTS)

    def verified() -> Any:
        import sentry

        return sentry.load_model(folder, trust=sentry.PublicKey(public), device="cuda:0")

    def safetensors() -> Any:
        from safetensors.torch import load_file

        return load_file(file, device="cuda:0")

    def fastsafetensors() -> Any:
        import torch
        from fastsafetensors import SafeTensorsFileLoader, SingleGroup

        loader = SafeTensorsFileLoader(SingleGroup(), torch.device("cuda:0"), nogds=True)
        loader.add_filenames({0: [file]})
        buffer = loader.copy_files_to_device()
        return {name: buffer.get_tensor(name) for name in list(buffer.key_to_rank_lidx)}, buffer, loader

    def instanttensor(backend: str | None = None) -> Any:
        import instanttensor

        options = {} if backend is None else {"backend": getattr(instanttensor.BackendPolicy, backend)}
        with instanttensor.safe_open(file, framework="pt", device=0, copy=True, **options) as opened:
            return dict(opened.tensors())

    def streamer() -> Any:
        from runai_model_streamer import SafetensorsStreamer

        with SafetensorsStreamer() as opened:
            opened.stream_file(file)
            return {name: tensor.to("cuda:0") for name, tensor in opened.get_tensors()}

    found = {
        "sentry, verified": verified,
        "safetensors": safetensors,
        "fastsafetensors": fastsafetensors,
        "InstantTensor": instanttensor,
        "InstantTensor, buffered": lambda: instanttensor("BUFFERED"),
        "run:ai streamer": streamer,
    }
    return {name: way for name, way in found.items() if is_there(name)}


def is_there(way: str) -> bool:
    try:
        imports(way)
    except ImportError:
        return False
    return True


# -- measurements


def seconds(load: Callable[[], Any], kept: bool = False) -> float:
    """Of one load, which ends when the tensors can be used. Its memory is given back outside of it and taken anew inside, or kept by torch."""
    import torch

    torch.cuda.synchronize()
    began = time.perf_counter()
    tensors = load()
    torch.cuda.synchronize()
    elapsed = time.perf_counter() - began
    if isinstance(tensors, tuple):
        # fastsafetensors frees nothing before it is told to.
        for part in tensors[1:]:
            part.close()
    del tensors
    # Some loaders are in cycles with their buffers.
    gc.collect()
    if not kept:
        torch.cuda.empty_cache()
    return elapsed


def show(times: list[float], nbytes: int) -> str:
    middle = statistics.median(times)
    return f"{middle:.3f} [{min(times):.3f} {max(times):.3f}] | {nbytes / middle / 1e9:.1f}"


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def beside_others(folder: Path, public: Path, runs: int) -> None:
    """All ways in turns, those of more than a second less often; then the others where torch has kept the memory, and first loads."""
    nbytes = size_of(folder)
    found = ways(folder, public)
    # The first run of each warms up.
    slow = [name for name, load in found.items() if seconds(load) > 1]
    fast = [name for name in found if name not in slow]
    times = in_turns({name: found[name] for name in fast}, runs) | in_turns({name: found[name] for name in slow}, 2)
    for name in fast:
        seconds(found[name], kept=True)
    kept = in_turns({name: found[name] for name in fast}, runs, kept=True)
    first_loads: dict[str, list[float]] = {name: [] for name in fast}
    for _ in range(5):
        for name, own in first_loads.items():
            own.append(first_load(name, folder, public))
    print("| way | s | GB/s | memory kept by torch, s | GB/s | first load in a process, s | GB/s |\n|---|---|---|---|---|---|---|")
    for name in found:
        more = f"{show(kept[name], nbytes)} | {show(first_loads[name], nbytes)}" if name in fast else " | | |"
        print(f"| {name} | {show(times[name], nbytes)} | {more} |")
    others = {name: own for name, own in times.items() if not name.startswith("sentry")}
    if others:
        best = min(others, key=lambda name: statistics.median(others[name]))
        ratio = statistics.median(others[best]) / statistics.median(times["sentry, verified"])
        print(f"\nVerified: {ratio:.2f} times the best unverified way, {best}.\n", flush=True)


def in_turns(found: dict[str, Callable[[], Any]], runs: int, kept: bool = False) -> dict[str, list[float]]:
    """Seconds of each way, in an order that is turned around each time."""
    times: dict[str, list[float]] = {name: [] for name in found}
    for run in range(runs):
        for name in sorted(found, reverse=bool(run % 2)):
            times[name].append(seconds(found[name], kept))
    return times


def first_load(name: str, folder: Path, public: Path) -> float:
    return float(child(FIRST, name, folder, public).split()[-1])


def child(program: str, *arguments: object) -> str:
    """What a program of Python prints that can import this one, whose folder is its last argument."""
    command = [sys.executable, "-c", program, *map(str, arguments), str(Path(__file__).resolve().parent)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def drop_from_page_cache(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bare_direct_reads(file: Path) -> float:
    """Seconds of 16 threads that read a file around the page cache, 8 MiB at a time, and do nothing with it."""
    import mmap

    size, step = file.stat().st_size, 8 << 20
    offsets = iter(range(0, size, step))
    lock = threading.Lock()

    def read() -> None:
        descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
        with mmap.mmap(-1, step) as room:
            while True:
                with lock:
                    offset = next(offsets, None)
                if offset is None:
                    break
                os.preadv(descriptor, [room], offset)
        os.close(descriptor)

    threads = [threading.Thread(target=read) for _ in range(16)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def cold(folder: Path, public: Path) -> None:
    """From a disk, with nothing in the page cache."""
    nbytes, load = size_of(folder), ways(folder, public)["sentry, verified"]
    bare, ours = [], []
    read_by: dict[str, int] = {}
    for _ in range(5):
        drop_from_page_cache(folder)
        bare.append(bare_direct_reads(folder / WEIGHTS))
        drop_from_page_cache(folder)

        def noted() -> Any:
            tensors = load()
            read_by.update(tensors.verification.read_by)
            return tensors

        ours.append(seconds(noted))
    print("Not in the page cache:\n\n| what | s | GB/s |\n|---|---|---|")
    print(f"| bare direct reads, 16 threads, 8 MiB | {show(bare, nbytes)} |\n| sentry, verified, read by {read_by} | {show(ours, nbytes)} |")
    pairs = statistics.median(one / other for one, other in zip(bare, ours, strict=True))
    ratio = statistics.median(bare) / statistics.median(ours)
    print(f"\nVerified: {ratio:.2f} of bare direct reads, {pairs:.2f} by the median of pairs.\n", flush=True)


def cost_of_hashing(folder: Path) -> None:
    """The same loader with hashing and without."""
    if not HASHING_COST:
        return
    print("The same loader with hashing and without, in turns:\n\n| tensors | with, GB/s | without, GB/s | time with / without, median of pairs |\n|---|---|---|---|")
    for what, options in {"one": [], "of 100 kB": ["--tensor", "100000"]}.items():
        run = subprocess.run([HASHING_COST, str(folder / WEIGHTS), "--runs", "15", *options], capture_output=True, text=True, check=True)
        found = json.loads(run.stdout)
        print(f"| {what} | {found['hashed_gbps']:.1f} | {found['unhashed_gbps']:.1f} | {found['median_ratio']:.3f} |")
    print(flush=True)


@contextlib.contextmanager
def least_free() -> Iterator[list[int]]:
    """The least memory of the GPU that was free meanwhile, and how often it was looked at."""
    import torch

    seen = [torch.cuda.mem_get_info()[0], 0]
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.001):
            seen[0] = min(seen[0], torch.cuda.mem_get_info()[0])
            seen[1] += 1

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def peaks(folder: Path, public: Path) -> None:
    """Memory that the first load of a process takes besides its tensors, and the second one."""
    nbytes = size_of(folder)
    lines = [[int(word) for word in line.split()] for line in child(PEAKS, folder, public).splitlines()]
    print(f"Memory of the GPU besides the {nbytes / 1e9:.2f} GB of the tensors, in a process that has torch's context:\n")
    for which, (taken, looks), (left,) in (("first", *lines[:2]), ("second", *lines[2:])):
        print(f"- {which} load: at most {taken / 1e6:.1f} MB, seen {looks} times; {left / 1e6:.1f} MB of all that is kept afterwards")
    print(flush=True)


def shapes(folder: Path, key: Any, public: Path, options: argparse.Namespace) -> None:
    """One file, many small tensors, many files: of one size."""
    import sentry

    made = {
        "one file of 1 GB": write_one(folder / "gigabyte", 1),
        "10,000 tensors of 100 kB in one file": write_one(folder / "small", 1, nbytes=100_000),
        f"one file of {options.gigabytes:g} GB": folder / "one",
        f"{options.shards} shards of {options.gigabytes:g} GB": write_shards(folder / "shards", options.gigabytes, options.shards),
    }
    print("| model | Python, s | GB/s | command, s | GB/s | InstantTensor, unverified, s | GB/s |\n|---|---|---|---|---|---|---|")
    for what, model in made.items():
        sentry.sign_model(model, key=key, hash="blake3")
        names = ["sentry, verified", "InstantTensor"] if (model / WEIGHTS).exists() else ["sentry, verified"]
        found = {name: load for name, load in ways(model, public).items() if name in names}
        in_turns(found, 1)
        times = in_turns(found, options.runs)
        columns = [times["sentry, verified"], by_command(model, public, options.runs), times.get("InstantTensor")]
        print(f"| {what} | {' | '.join(show(own, size_of(model)) if own else ' | ' for own in columns)} |", flush=True)
    print()


def by_command(model: Path, public: Path, runs: int) -> list[float]:
    command = [SENTRY, "load", str(model), "--key", str(public), "--device", "cuda:0", "--runs", str(runs), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)["seconds"]


def command(model: Path, public: Path) -> None:
    """What the command prints."""
    run = subprocess.run([SENTRY, "load", str(model), "--key", str(public), "--device", "cuda:0", "--runs", "5"], capture_output=True, text=True)
    print(f"```text\n$ sentry load one --key publisher.pub --device cuda:0 --runs 5\n{run.stderr}```\n", flush=True)


def foreign(model: Path, options: argparse.Namespace) -> None:
    """A signature that another tool made of the files written before: each has its SHA-256, which the cores compute."""
    import sentry

    trust = sentry.PublicKey(options.public)
    # Our own signature of these files is no part of what the other tool signed.
    (model / "model.sig").unlink(missing_ok=True)
    checked: dict[str, str] = {}

    def load() -> Any:
        tensors = sentry.load_model(model, trust=trust, signature=options.signature, device="cuda:0")
        checked.update(tensors.verification.checked_by)
        return tensors

    seconds(load)
    times = [seconds(load) for _ in range(5)]
    print(f"A signature by another tool, {options.shards} files checked by {set(checked.values())}: {show(times, size_of(model))} GB/s.\n", flush=True)


if __name__ == "__main__":
    main()
