#!/usr/bin/env python3
"""Speed of every construction of the hash crate on this machine, beside OpenSSL's SHA-256 in the same run.

Each round times all constructions once and then lets `openssl speed` measure for a second on as many processes; the
report has the medians. Prints Markdown and writes it, with every single round as JSON, under benches/results. Run it
through `make bench`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

from measure import machine, result_name

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches/results"
BENCH = ["cargo", "bench", "--locked", "--quiet", "-p", "sentry-ml-hash", "--bench", "constructions"]
OPENSSL = "SHA-256 by `openssl speed`, 16 KiB blocks"

Case = tuple[str, int, str]  # what, threads, unit


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--no-write", action="store_true", help="print only")
    options = arguments.parse_args()
    if options.rounds < 1:
        arguments.error("at least one round")
    subprocess.run([*BENCH, "--no-run"], cwd=ROOT, check=True)

    here = machine()
    rates: dict[Case, list[float]] = defaultdict(list)
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        for case, rate in constructions():
            rates[case].append(rate)
        for processes in sorted({1, here["cores"]}):
            rates[(OPENSSL, processes, "bytes")].append(openssl(processes))
    report = markdown(rates, here, options.rounds)
    print(report)
    if not options.no_write:
        write(report, rates, here)


def constructions() -> list[tuple[Case, float]]:
    """One round of ours: bytes or items a second."""
    output = subprocess.run(BENCH, cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout
    found = []
    for line in output.splitlines():
        if line.startswith("{"):
            result = json.loads(line)
            unit = "bytes" if "bytes" in result else "items"
            found.append(((result["what"], result["threads"], unit), result[unit] / result["seconds"]))
    if not found:
        sys.exit("error: the bench printed no result")
    return found


def openssl(processes: int) -> float:
    """Bytes a second of SHA-256, all processes together."""
    if not shutil.which("openssl"):
        sys.exit("error: `openssl` is not installed, and the speeds are nothing without something beside them")
    command = ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", "16384", "-evp", "sha256"]
    if processes > 1:
        command[2:2] = ["-multi", str(processes)]
    output = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    rates = [line.split(":")[3] for line in output.splitlines() if line.startswith("+F:")]
    if len(rates) != 1:
        sys.exit(f"error: openssl speed printed no single result:\n{output}")
    return float(rates[0])


def markdown(rates: dict[Case, list[float]], here: dict, rounds: int) -> str:
    """Two tables: bytes a second with ratios, items a second."""
    flat = {threads: median(rates[("blake3", threads, "bytes")]) for _, threads, _ in rates if ("blake3", threads, "bytes") in rates}
    sha256 = {threads: median(values) for (what, threads, _), values in rates.items() if what == OPENSSL}
    lines = [
        "| construction | threads | GB/s | all rounds | of BLAKE3 | of OpenSSL's SHA-256 |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for (what, threads, unit), values in rates.items():
        if unit == "bytes":
            middle = median(values)
            spread = f"{min(values) / 1e9:.2f}–{max(values) / 1e9:.2f}"
            lines.append(
                f"| {what} | {threads} | {middle / 1e9:.2f} | {spread} | {middle / flat[threads]:.2f} | {middle / sha256[threads]:.2f} |"
            )
    lines += ["", "| samples | threads | million a second | all rounds |", "|---|---:|---:|---:|"]
    for (what, threads, unit), values in rates.items():
        if unit == "items":
            spread = f"{min(values) / 1e6:.2f}–{max(values) / 1e6:.2f}"
            lines.append(f"| {what} | {threads} | {median(values) / 1e6:.2f} | {spread} |")
    version = subprocess.run(["openssl", "version"], check=True, capture_output=True, encoding="utf-8").stdout.split()[1]
    where = (
        f"{here['cpu']}, {here['cores']} cores, {here['kernel']}; OpenSSL {version}; "
        f"`make bench`, medians of {rounds} rounds, one message of 256 MiB in memory."
    )
    return "\n".join([where, "", *lines])


def write(report: str, rates: dict[Case, list[float]], here: dict) -> None:
    """Leaves the report and its numbers under benches/results."""
    path = RESULTS / result_name(here, "constructions")
    RESULTS.mkdir(exist_ok=True)
    path.with_suffix(".md").write_text(f"# Constructions\n\n{report}\n")
    raw = [
        {"what": what, "threads": threads, f"{unit}_per_second": values}
        for (what, threads, unit), values in rates.items()
    ]
    path.with_suffix(".json").write_text(json.dumps({"machine": here, "rates": raw}, indent=1) + "\n")
    print(f"written: {path.relative_to(ROOT)}.md and .json", file=sys.stderr)


if __name__ == "__main__":
    main()
