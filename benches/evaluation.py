#!/usr/bin/env python3
"""Time and memory of `sentry` beside the command line of `model-signing`, in one run on one machine.

Prints the Markdown that stands in README.md between the `evaluation` markers and writes it, with every single
run as JSON, under benches/results. Run it through `make evaluation`; benches/README.md explains the method.
"""

from __future__ import annotations

import argparse
import datetime
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compare import Ratio, Row, Tools, compare_all, note, runs_for, table_rows
from measure import MIB, available_memory, floor_bytes, machine, read_once
from report import ROOT, gigabytes, markdown, raw_report, update_readme, versions, write_results

SIZES = ["8KB", "215MB", "2.8GB", "3.3GB", "14GB"]
QUICK_SIZES = ["8KB", "215MB"]
# Room left on the disk beside a model, and in memory beside it in the page cache.
SPARE_DISK = 1 << 30
SPARE_MEMORY = 1536 * MIB


@contextmanager
def model(name: str, parent: Path) -> Iterator[Path]:
    """A generated model in the page cache, removed at the end."""
    folder = parent / name
    note(f"{name}: generating")
    try:
        # In a process of its own: see `floor_bytes`.
        subprocess.run([sys.executable, str(ROOT / "benches/models.py"), name, str(folder)], check=True)
        read_once(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def why_not(name: str, size: int, parent: Path) -> str | None:
    """Why a model of this size cannot be measured here."""
    disk = shutil.disk_usage(parent).free
    if disk < size + SPARE_DISK:
        return f"{name}: skipped, {gigabytes(size + SPARE_DISK)} of disk are needed and {gigabytes(disk)} are free"
    memory = available_memory()
    if memory < size + SPARE_MEMORY:
        need = gigabytes(size + SPARE_MEMORY)
        return f"{name}: skipped, {need} of memory are needed to keep it in the cache and {gigabytes(memory)} are free"
    return None


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where the models are generated (default: the system's own)")
    parser.add_argument("--sizes", help=f"models of the table, with commas (default: {','.join(SIZES)}); '' for none")
    parser.add_argument("--runs", type=int, help="runs of each command (default: 9 for small models to 3 for 14 GB)")
    parser.add_argument("--no-ratios", action="store_true", help="only the table")
    parser.add_argument("--quick", action="store_true", help="two small models, 8 files of 16 MiB: to try it out")
    parser.add_argument("--update-readme", action="store_true", help="write what is printed into README.md")
    parser.add_argument("--sentry", default=str(ROOT / "target/release/sentry"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--model-signing", default=str(Path(sys.executable).parent / "model_signing"), help=argparse.SUPPRESS
    )
    given = parser.parse_args()
    if given.sizes is None:
        given.sizes = QUICK_SIZES if given.quick else SIZES
    else:
        given.sizes = [size for size in given.sizes.split(",") if size]
    unknown = [size for size in given.sizes if size not in SIZES]
    if unknown:
        parser.error(f"unknown size {unknown[0]}; known: {', '.join(SIZES)}")
    if given.runs is not None and given.runs < 1:
        parser.error("--runs must be at least 1")
    given.whole = given.sizes == SIZES and not given.quick and not given.no_ratios
    if given.update_readme and not given.whole:
        parser.error("--update-readme needs a whole evaluation: no --quick, --sizes or --no-ratios")
    return given


def ratio_models(given: argparse.Namespace) -> list[str]:
    if given.no_ratios:
        return []
    if given.quick:
        return ["8x16MiB-safetensors", "8x16MiB-bin"]
    return ["8x256MiB-safetensors", "8x256MiB-bin", "1x2GiB-safetensors", "1x2GiB-bin"]


def command_line() -> str:
    """How this program was called, without what belongs to this machine."""
    words = sys.argv[1:]
    for index, word in enumerate(words):
        if index and words[index - 1] in ("--dir", "--sentry", "--model-signing"):
            words[index] = words[index - 1].strip("-").upper()
        elif word.startswith(("--dir=", "--sentry=", "--model-signing=")):
            words[index] = word.split("=")[0] + "=..."
    return "make evaluation" + (f" ARGS='{' '.join(words)}'" if words else "")


def main() -> None:
    given = options()
    for program in (given.sentry, given.model_signing, "openssl"):
        if shutil.which(program) is None:
            sys.exit(f"error: {Path(program).name} is not there\nhint: run this program through `make evaluation`")
    # Ended by a signal, it still removes its models.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: terminated"))
    floor = floor_bytes()

    # Imported here: the floor is measured while this program is small.
    from models import MODELS

    rows: list[Row] = []
    ratios: list[Ratio] = []
    skipped: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sentry-evaluation-", dir=given.dir) as work:
        parent = Path(work)
        tools = Tools(given.sentry, given.model_signing, parent)
        about = {
            "date": datetime.date.today().isoformat(),
            "command": command_line(),
            "machine": machine(),
            "versions": versions(tools),
        }

        def on_model(measure: Callable[..., list], name: str, runs: int) -> list:
            """What `measure` finds on this model; nothing, and a line that says why, where there is no room."""
            reason = why_not(name, MODELS[name].size, parent)
            if reason:
                note(reason)
                skipped.append(reason)
                return []
            with model(name, parent) as folder:
                return measure(name, MODELS[name].what, tools, folder, runs)

        for name in given.sizes:
            rows += on_model(table_rows, name, runs_for(name, given.runs))
        for name in ratio_models(given):
            ratios += on_model(compare_all, name, given.runs or 5)

    # It has grown a little since; what it measured last is at least this.
    floor = max(floor, floor_bytes())
    text = markdown(about, rows, ratios, skipped, floor)
    kind = "evaluation" if given.whole else "evaluation-quick" if given.quick else "evaluation-partial"
    source = write_results(text, about | raw_report(rows, ratios, skipped, floor), kind)
    print(text)
    note(f"written: {source} and {source.with_suffix('.json').name}")
    if given.update_readme:
        update_readme(text, source)
        note("README.md updated")


if __name__ == "__main__":
    main()
