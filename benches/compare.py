"""What is compared with what: the commands, the table's rows, the ratios and their targets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measure import MIB, Run, Series, run

# Below this a run is short, and a first one that does not count costs nothing.
WARM_UP_BELOW = 1_000_000_000

# The project's own targets, on 2 cores (the ratios are other / sentry: above 1 means that sentry is faster).
TARGET_SHA256 = 1.5
TARGET_OPENSSL = 0.95
TARGET_BLAKE3 = 3.0
TARGET_PEAK = 100 * MIB


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Tools:
    """The commands that are compared, on one folder, with one key."""

    def __init__(self, sentry: str, model_signing: str, work: Path) -> None:
        self.sentry, self.model_signing, self.work = sentry, model_signing, work
        self.key, self.public = str(work / "key.pem"), str(work / "key.pub")
        for command in (
            ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key],
            ["openssl", "ec", "-in", self.key, "-pubout", "-out", self.public],
        ):
            run(command)
        self.has_gpu = self._finds_gpu()

    def signature(self, name: str) -> str:
        return str(self.work / f"{name}.sig")

    def our_hash(self, path: Path, algorithm: str) -> list[str]:
        return [self.sentry, "hash", str(path), "--hash", algorithm]

    def our_sign(self, path: Path, algorithm: str, *more: str) -> list[str]:
        signature = self.signature("".join([algorithm, *more]))
        return [self.sentry, "sign", str(path), "--key", self.key, "--signature", signature, "--hash", algorithm, *more]

    def our_verify(self, path: Path, algorithm: str, *more: str) -> list[str]:
        signature = self.signature("".join([algorithm, *more]))
        return [self.sentry, "verify", str(path), "--key", self.public, "--signature", signature]

    def their_sign(self, path: Path) -> list[str]:
        options = ["--private_key", self.key, "--signature", self.signature("theirs")]
        return [self.model_signing, "sign", "key", str(path), *options]

    def their_verify(self, path: Path) -> list[str]:
        options = ["--public_key", self.public, "--signature", self.signature("theirs")]
        return [self.model_signing, "verify", "key", str(path), *options]

    def our_load(self, path: Path, algorithm: str) -> list[str]:
        files = [word for file in sorted(path.glob("*.safetensors")) for word in ("--weights", file.name)]
        signature = self.signature(algorithm)
        return [self.sentry, "load", str(path), "--key", self.public, "--signature", signature, "--device", "cuda:0", *files]

    def _finds_gpu(self) -> bool:
        """Whether there is a GPU. One that is there and does not work ends the program."""
        done = subprocess.run([self.sentry, "bench", "gpu", "--largest", "1048576", "--runs", "1", "--json"], capture_output=True, text=True)
        if done.returncode == 0:
            return True
        if json.loads(done.stdout)["error"]["code"] in ("gpu_no_driver", "gpu_not_found"):
            return False
        sys.exit(f"error: {done.stderr}")

    @staticmethod
    def two_openssl(path: Path) -> list[list[str]]:
        files = sorted(str(file) for file in path.iterdir())
        return [["openssl", "dgst", "-sha256", *files[:4]], ["openssl", "dgst", "-sha256", *files[4:]]]


@dataclass(frozen=True)
class Row:
    """One model and one verb, and the runs of the three columns."""

    size: str
    what: str
    bytes: int
    verb: str
    columns: dict[str, Series]


COLUMNS = {
    "sentry-sha256": "sentry, SHA-256",
    "sentry-blake3": "sentry, BLAKE3",
    "model-signing-sha256": "model-signing, SHA-256",
}

# Where there is a GPU: `sentry load`, which verifies on the way.
GPU_COLUMN = "sentry-gpu"
GPU_TITLE = "sentry, BLAKE3, loaded to the GPU"


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def table_rows(name: str, what: str, tools: Tools, folder: Path, runs: int) -> list[Row]:
    size = folder_size(folder)
    rows = []
    for verb, commands in (
        (
            "sign",
            [tools.our_sign(folder, "sha256"), tools.our_sign(folder, "blake3"), tools.their_sign(folder)],
        ),
        (
            "verify",
            [tools.our_verify(folder, "sha256"), tools.our_verify(folder, "blake3"), tools.their_verify(folder)],
        ),
    ):
        columns = {column: Series() for column in COLUMNS}
        if verb == "verify" and tools.has_gpu and any(folder.glob("*.safetensors")):
            columns[GPU_COLUMN] = Series()
            commands = [*commands, tools.our_load(folder, "blake3")]
        if size < WARM_UP_BELOW:
            for command in commands:
                run(command)
        for index in range(runs):
            note(f"{name}: {verb}, round {index + 1} of {runs}")
            for series, command in zip(columns.values(), commands, strict=True):
                series.add(run(command))
        rows.append(Row(name, what, size, verb, columns))
    return rows


def runs_for(name: str, asked: int | None) -> int:
    if asked:
        return asked
    return {"8KB": 9, "215MB": 9, "2.8GB": 5, "3.3GB": 5}.get(name, 3)


@dataclass(frozen=True)
class Ratio:
    """One of our commands against something else, as pairs of runs one after the other."""

    model: str
    bytes: int
    ours: str
    other: str
    target: float | None
    pairs: list[tuple[Run, Run]]

    @property
    def ratios(self) -> list[float]:
        return sorted(other.seconds / ours.seconds for ours, other in self.pairs)

    @property
    def disk_bytes(self) -> int:
        return max(one.disk_bytes for pair in self.pairs for one in pair)

    @property
    def met(self) -> bool | None:
        return None if self.target is None else median(self.ratios) >= self.target


# (what, its command, options that choose the signature)
OURS: list[tuple[str, str, tuple[str, ...]]] = [
    ("hash", "our_hash", ()),
    ("sign", "our_sign", ()),
    ("sign --no-annotations", "our_sign", ("--no-annotations",)),
    ("verify", "our_verify", ()),
    ("verify, no annotations", "our_verify", ("--no-annotations",)),
]


def pairs_of(ours: list[str], other: list[list[str]], runs: int) -> list[tuple[Run, Run]]:
    """Runs in turns: ours, theirs, ours, theirs; a first pair does not count."""
    return [(run(ours), run(*other)) for _ in range(runs + 1)][1:]


def compare_all(model: str, what: str, tools: Tools, folder: Path, runs: int) -> list[Ratio]:
    """All verbs of ours on one folder, with SHA-256 and BLAKE3, against theirs and, for 8 files, two openssl."""
    ratios = []
    eight = model.startswith("8x")
    size = folder_size(folder)
    for algorithm, name in (("sha256", "SHA-256"), ("blake3", "BLAKE3")):
        target = TARGET_BLAKE3 if algorithm == "blake3" else TARGET_SHA256 if eight else None
        for verb, method, options in OURS:
            command: Callable[..., list[str]] = getattr(tools, method)
            ours = command(folder, algorithm, *options)
            others = [("model-signing verify", [tools.their_verify(folder)], target)]
            if not verb.startswith("verify"):
                others = [("model-signing sign", [tools.their_sign(folder)], target)]
            if eight and algorithm == "sha256":
                others.append(("2 × openssl dgst", tools.two_openssl(folder), TARGET_OPENSSL))
            for other, commands, least in others:
                note(f"{what}: {name} {verb} against {other}")
                pairs = pairs_of(ours, commands, runs)
                ratios.append(Ratio(what, size, f"{name} {verb}", other, least, pairs))
    return ratios
