#!/usr/bin/env python3
"""What checking samples costs, and signing them. Prints Markdown.

1. Samples in memory, 50,000 of 3072 bytes with a label, checked in batches on one core.
2. An epoch of a small network over the same, with the loader of `sentry.torch` and with torch's own, a step of each in turns.
3. `sentry dataset sign` of a dataset in Parquet (`--gigabytes`), beside merely reading it with the same library (`--reading`, the
   example `reading` of crates/dataset), in turns.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import sentry
import sentry.torch
import torch

COUNT, SHAPE = 50_000, (32, 32, 3)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--gigabytes", type=float, default=10)
    arguments.add_argument("--row-bytes", type=int, default=100_000)
    arguments.add_argument("--compression", choices=("none", "default"), default="default", help="default: what pyarrow does by itself, which is snappy")
    arguments.add_argument("--cold", action="store_true", help="take the Parquet files out of the page cache before each run")
    arguments.add_argument("--skip", action="append", choices=("checking", "epoch"), default=[], help="leave a part out")
    arguments.add_argument("--sentry", default="target/release/sentry")
    arguments.add_argument("--reading", default="target/release/examples/reading")
    arguments.add_argument("--folder", type=Path, help="for the Parquet files; the default is a temporary one")
    options = arguments.parse_args()
    print(f"# Datasets\n\n{processor()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, torch {torch.__version__}.")
    print(f"Medians of {options.runs} runs, [fastest slowest].\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        key = sentry.PrivateKey.generate()
        images, labels = samples()

        def signed(count: int) -> sentry.DatasetVerifier:
            signature = Path(folder) / f"{count}.sig"
            sentry.sign_dataset({"image": images[:count], "label": labels[:count]}, key=key, signature=signature, name="cifar")
            return sentry.DatasetVerifier("cifar", signature=signature, trust=key.public_key)

        if "checking" not in options.skip:
            checking(signed(COUNT), images, labels, options.runs)
        if "epoch" not in options.skip:
            for channels, count in (((16, 32), COUNT), ((32, 64, 128), COUNT // 4)):
                epoch(signed(count), images[:count], labels[:count], channels, options.runs)
        if options.gigabytes:
            parquet(Path(folder) / "parquet", key, options)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return platform.machine()


def samples() -> tuple[Any, Any]:
    source = numpy.random.default_rng(7)
    return source.integers(0, 256, (COUNT, *SHAPE), dtype=numpy.uint8), source.integers(0, 10, COUNT)


def show(times: list[float], unit: float = 1) -> str:
    return f"{statistics.median(times) / unit:.3f} [{min(times) / unit:.3f} {max(times) / unit:.3f}]"


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def checking(verifier: sentry.DatasetVerifier, images: Any, labels: Any, runs: int) -> None:
    print("## Checking samples that are in memory, on one core\n\n| batch | µs a sample |\n|---|---|")
    for size in (1, 32, 256, 4096):
        count = COUNT if size > 1 else COUNT // 10

        def check() -> None:
            for start in range(0, count, size):
                end = min(start + size, count)
                verifier.check({"image": images[start:end], "label": labels[start:end]}, ids=range(start, end))

        check()
        times = [timed(check) for _ in range(runs)]
        print(f"| {size} | {show(times, count * 1e-6)} |")
    verifier.reset()
    print(flush=True)


class Pairs(torch.utils.data.Dataset[Any]):
    def __init__(self, images: Any, labels: Any) -> None:
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return decode({"image": self._images[index], "label": self._labels[index]})


def decode(sample: Any) -> tuple[Any, int]:
    return torch.tensor(sample["image"]).permute(2, 0, 1).float().div_(255), int(sample["label"])


def convolutions(channels: tuple[int, ...]) -> torch.nn.Module:
    layers: list[torch.nn.Module] = []
    for before, after in zip((SHAPE[2], *channels), channels, strict=False):
        layers += [torch.nn.Conv2d(before, after, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    side = SHAPE[0] >> len(channels)
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(channels[-1] * side * side, 10))


def epoch(verifier: sentry.DatasetVerifier, images: Any, labels: Any, channels: tuple[int, ...], runs: int) -> None:
    torch.manual_seed(1)
    network = convolutions(channels)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)

    def step(inputs: Any, targets: Any) -> None:
        loss = torch.nn.functional.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    checked = sentry.torch.VerifiedDataset({"image": images, "label": labels}, verifier, transform=decode)
    loaders = {
        "torch's": torch.utils.data.DataLoader(Pairs(images, labels), batch_size=128, shuffle=True),
        "verified": sentry.torch.DataLoader(checked, batch_size=128, shuffle=True),
    }
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for run in range(runs + 1):
        # Both epochs at once, a step of each in turns: what else the machine does in these seconds slows down both.
        elapsed, batches = dict.fromkeys(loaders, 0.0), {name: iter(loader) for name, loader in loaders.items()}
        for number in range(len(loaders["verified"])):
            for name in sorted(loaders, reverse=bool(number % 2)):
                elapsed[name] += timed(lambda name=name: step(*next(batches[name])))  # type: ignore[misc]
        assert not any(next(rest, None) for rest in batches.values())
        elapsed["verified"] += timed(verifier.finish)
        # The first one warms up.
        for name in loaders if run else ():
            times[name].append(elapsed[name])
    print(f"## An epoch of a network of convolutions with {channels} channels, {len(labels)} images of {SHAPE}, batches of 128, no workers\n\n| loader | s |\n|---|---|")
    for name, own in times.items():
        print(f"| {name} | {show(own)} |")
    pairs = sorted(verified / plain for plain, verified in zip(times["torch's"], times["verified"], strict=True))
    print(f"\nVerified: {statistics.median(pairs):.3f} of the time without, median of pairs [{pairs[0]:.3f} {pairs[-1]:.3f}].\n", flush=True)


def rows(gigabytes: float, row_bytes: int) -> Iterator[Any]:
    import pyarrow

    source, made, per_table = numpy.random.default_rng(3), 0, max(1, 64_000_000 // row_bytes)
    while made * row_bytes < gigabytes * 1e9:
        body = source.integers(0, 256, per_table * row_bytes, dtype=numpy.uint8).tobytes()
        images = [body[place : place + row_bytes] for place in range(0, len(body), row_bytes)]
        yield pyarrow.table({"id": range(made, made + per_table), "image": images, "label": [0] * per_table})
        made += per_table


def parquet(folder: Path, key: sentry.PrivateKey, options: argparse.Namespace) -> None:
    import pyarrow.parquet

    folder.mkdir()
    shards: list[Any] = []
    for number, table in enumerate(rows(options.gigabytes, options.row_bytes)):
        if number % 16 == 0:
            if shards:
                shards[-1].close()
            plain = {"compression": "none", "use_dictionary": False} if options.compression == "none" else {}
            shards.append(pyarrow.parquet.ParquetWriter(folder / f"train-{number // 16:05}.parquet", table.schema, **plain))
        shards[-1].write_table(table)
    shards[-1].close()
    secret = folder.parent / "key.pem"
    key.write(secret)
    files = sorted(str(file) for file in folder.glob("*.parquet"))
    nbytes = sum(os.stat(file).st_size for file in files)
    ways = {
        "reading": [options.reading, *files],
        "signing": [options.sentry, "dataset", "sign", str(folder), "--key", str(secret), "--quiet"],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    peaks = dict.fromkeys(ways, 0)
    os.sync()
    for run in range(options.runs + 1):
        for name in sorted(ways, reverse=bool(run % 2)):
            if options.cold:
                forget(files)
            elapsed, peak = run_command(ways[name])
            peaks[name] = max(peaks[name], peak)
            if run:
                times[name].append(elapsed)
    how = f"rows of {options.row_bytes} bytes, compression: {options.compression}, {'not in' if options.cold else 'in'} the page cache"
    print(f"## Signing {nbytes / 1e9:.1f} GB of Parquet ({how}) beside merely reading it\n\n| what | s | GB/s | most memory, MB |\n|---|---|---|---|")
    for name, own in times.items():
        print(f"| {name} | {show(own)} | {nbytes / statistics.median(own) / 1e9:.2f} | {peaks[name] / 1e6:.0f} |")
    ratio = statistics.median(times["reading"]) / statistics.median(times["signing"])
    print(f"\nSigning: {ratio:.2f} of the rate of reading.\n", flush=True)


def run_command(command: list[str]) -> tuple[float, int]:
    """The seconds that a command takes, and the most memory that it has in use, in bytes, as far as a look every 10 ms sees it."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            # What the system counts for its parent has the parent's own memory in it.
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
            time.sleep(0.01)
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return time.perf_counter() - began, peak


def forget(files: list[str]) -> None:
    """Takes files out of the page cache."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


if __name__ == "__main__":
    main()
