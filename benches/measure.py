"""Run commands and say how long they took and how much memory they had at most."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

MIB = 1 << 20


@dataclass(frozen=True)
class Run:
    """One timed run: wall seconds, the largest resident set of any one process, bytes read from the disk itself."""

    seconds: float
    peak_bytes: int
    disk_bytes: int


def run(*commands: list[str]) -> Run:
    """Start all commands at once and wait for the last of them. One that does not exit with 0 ends the program."""
    with tempfile.TemporaryFile() as output:
        peak = disk = 0
        began = time.perf_counter()
        processes = [
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) for command in commands
        ]
        codes = []
        for process in processes:
            # wait4 reports the resources of this process and of what it has waited for itself.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            codes.append(process.returncode)
            peak = max(peak, usage.ru_maxrss * 1024)
            disk += usage.ru_inblock * 512
        seconds = time.perf_counter() - began
        for command, code in zip(commands, codes, strict=True):
            if code != 0:
                output.seek(0)
                said = output.read()[-4000:].decode(errors="replace")
                sys.exit(f"error: exit code {code} from: {' '.join(command)}\n{said}")
    return Run(seconds, peak, disk)


def floor_bytes() -> int:
    """What `run` reports for a program that uses no memory.

    Linux counts the memory of the process that started a program towards that program's peak, so nothing
    smaller than this program can be seen. Measure early and keep this program small.
    """
    return run(["true"]).peak_bytes


class Series:
    """The runs of one command."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def add(self, one: Run) -> None:
        self.runs.append(one)

    @property
    def seconds(self) -> float:
        return median(one.seconds for one in self.runs)

    @property
    def peak_bytes(self) -> int:
        return max(one.peak_bytes for one in self.runs)

    @property
    def disk_bytes(self) -> int:
        return max(one.disk_bytes for one in self.runs)

    def raw(self) -> list[dict]:
        return [asdict(one) for one in self.runs]


def read_once(folder: Path) -> None:
    """Bring all files of a folder into the page cache."""
    buffer = bytearray(MIB)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def available_memory() -> int:
    """Bytes that programs and the page cache could take now."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    sys.exit("error: /proc/meminfo has no MemAvailable; the evaluation needs Linux")


def machine() -> dict[str, str | int]:
    """What the timings depend on."""
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # The release's suffix names a distribution's or a provider's build; the number is what matters.
    kernel = platform.release().split("-")[0]
    return {
        "cpu": " ".join(cpu.replace("(R)", "").replace("(TM)", "").split()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": total,
        "kernel": f"{platform.system()} {kernel}",
    }


def result_name(here: dict[str, str | int], what: str) -> str:
    """Name of a result's files without their ending: date, processor, what was measured."""
    cpu = "-".join("".join(c if c.isalnum() else " " for c in str(here["cpu"]).lower()).split())
    return f"{datetime.date.today()}-{cpu}-{what}"
