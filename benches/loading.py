#!/usr/bin/env python3
"""What verified loading costs: `sentry.load_model` beside `safetensors.torch.load_file` plus one clone of every tensor.

`load_file` maps the file and reads nothing; the clone reads it, as any use would. Both end with all tensors in memory of
their own. The two take turns in one process, in both orders; the file is in the page cache. The same is then done with a
build of sentry that counts bytes instead of hashing them (`--cfg sentry_count_bytes`): what is left is reading and
copying. Prints Markdown and writes it, with every single time as JSON, under benches/results. Run it by `make bench`.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from measure import machine, result_name

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches/results"
CACHE = ROOT / ".cache/loading"
TARGET = 1.5


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=11)
    arguments.add_argument("--no-write", action="store_true", help="print only")
    arguments.add_argument("--worker", metavar="FOLDER", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.rounds < 1:
        arguments.error("at least one round")
    if options.worker:
        print(json.dumps(worker(Path(options.worker), options.rounds)))
        return

    here = machine()
    counting = build_counting()
    times = {}
    for name, model in {"MiniLM, 90.9 MB in 104 tensors": minilm(), "2.1 GB in 64 tensors": large()}.items():
        for build, packages in {"hashing": None, "counting bytes": counting}.items():
            print(f"{name}, {build}", file=sys.stderr)
            times[f"{name}|{build}"] = measure(model, packages, options.rounds)
    report = markdown(times, here, options.rounds)
    print(report)
    if not options.no_write:
        name = result_name(here, "loading")
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(report)
        (RESULTS / f"{name}.json").write_text(json.dumps({"machine": here, "seconds": times}, indent=1) + "\n")


def build_counting() -> Path:
    """A build that counts bytes, unpacked by itself."""
    target = ROOT / "target/count-bytes"
    wheels = target / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(target),
        "RUSTFLAGS": "--cfg sentry_count_bytes",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    subprocess.run(["maturin", "build", "--quiet", "--release", "--out", wheels], cwd=ROOT, env=environment, check=True)
    packages = target / "packages"
    shutil.rmtree(packages, ignore_errors=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, packages], check=True)
    return packages


def minilm() -> Path:
    """A folder with MiniLM's weights."""
    source = subprocess.run([ROOT / "scripts/fetch-model.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    folder = CACHE / "minilm"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(source) / "model.safetensors", folder)
    return folder


def large() -> Path:
    """A folder with random weights of 2 GiB: 64 matrices of 4096 by 4096, bfloat16."""
    folder = CACHE / "large"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model.safetensors").exists():
        import torch
        from safetensors.torch import save_file

        save_file({f"layers.{layer}.weight": torch.randn(4096, 4096).bfloat16() for layer in range(64)}, folder / "new")
        (folder / "new").rename(folder / "model.safetensors")
    return folder


def measure(model: Path, packages: Path | None, rounds: int) -> dict[str, list[float]]:
    """The times of one build on one model, from a process of its own."""
    environment = dict(os.environ)
    if packages is not None:
        environment |= {"PYTHONPATH": str(packages), "SENTRY_COUNT_BYTES": "1"}
    command = [sys.executable, __file__, "--worker", str(model), "--rounds", str(rounds)]
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def worker(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way to load, round by round."""
    import sentry
    import torch
    from safetensors.torch import load_file

    key = sentry.PrivateKey.generate()
    sentry.sign_model(folder, key=key)

    def verified() -> dict[str, torch.Tensor]:
        return sentry.load_model(folder, trust=key.public_key)

    def unverified() -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}

    ways: dict[str, Callable[[], dict[str, torch.Tensor]]] = {"load_model": verified, "load_file": unverified}
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=bool(number % 2)):
            gc.collect()
            began = time.perf_counter()
            tensors = ways[name]()
            seconds[name].append(time.perf_counter() - began)
            del tensors
    return seconds


def markdown(times: dict[str, dict[str, list[float]]], here: dict[str, object], rounds: int) -> str:
    lines = [
        "# Verified loading on the CPU",
        "",
        f"{datetime.date.today()}, {here['cpu']}, {here['cores']} cores, no GPU; `make bench`. Medians of {rounds} rounds, the file in the page cache.",
        "",
        "| model | build | `load_model` | `load_file` + clone | ratio, median of pairs | all pairs | at most 1.5 |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for name, seconds in times.items():
        model, build = name.split("|")
        pairs = [ours / theirs for ours, theirs in zip(seconds["load_model"], seconds["load_file"], strict=True)]
        met = ("yes" if median(pairs) <= TARGET else "**no**") if build == "hashing" else ""
        ours, theirs = (f"{median(seconds[way]) * 1000:.0f} ms" for way in ("load_model", "load_file"))
        lines.append(f"| {model} | {build} | {ours} | {theirs} | {median(pairs):.2f} | {min(pairs):.2f}–{max(pairs):.2f} | {met} |")
    lines += ["", "Counting bytes, nothing is hashed: the rest is opening, reading and copying.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
