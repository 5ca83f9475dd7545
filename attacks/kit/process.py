"""Runs the binary: with a clean environment, no terminal, limits, and a timeout."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .case import Attempt, Broken

_LIMITED = str(Path(__file__).with_name("limited.py"))


@dataclass
class Outcome:
    """What a command did."""

    code: int
    stdout: str
    stderr: str
    timed_out: bool = False

    @property
    def crashed(self) -> bool:
        """A panic (101), a signal, or a shell's report of one."""
        return self.code < 0 or self.code == 101 or self.code >= 128


def environment(root: Path, extra: dict[str, str]) -> dict[str, str]:
    """Nothing of the caller's but the search path."""
    return {"PATH": os.environ["PATH"], "HOME": str(root), "LANG": "C.UTF-8", **extra}


def _of_python(root: Path) -> dict[str, str]:
    """For programs in Python: where the caller's packages are, one thread for algebra, and temporary files where they are
    seen, but for a folder that torch makes whenever it is imported."""
    return {
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "TMPDIR": str(root),
        "TORCHINDUCTOR_CACHE_DIR": str(root.parent / "torchinductor"),
    }


def start(command: list[str], root: Path, extra: dict[str, str] | None = None) -> subprocess.Popen:
    """Starts a command in a session of its own, so that it finds no terminal to ask on."""
    return subprocess.Popen(
        command,
        cwd=root,
        env=environment(root, extra or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, timeout: float) -> Outcome:
    """Waits for it, and kills its whole session when the time is up."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
        late = False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        late = True
    text = [part.decode(errors="replace") for part in (stdout, stderr)]
    return Outcome(process.returncode, *text, timed_out=late)


def run(sentry: Path, attempt: Attempt, root: Path, args: list[str] | None = None) -> Outcome:
    """Runs one attempt; `args` replaces its arguments."""
    program = attempt.program or [str(sentry)]
    command = [*attempt.prefix, *program, *(attempt.args if args is None else args)]
    if attempt.memory or attempt.file_size or attempt.as_nobody:
        limits = [attempt.memory or 0, attempt.file_size or 0, int(attempt.as_nobody)]
        command = [sys.executable, _LIMITED, *map(str, limits), *command]
    extra = {**_of_python(root), **attempt.environment} if attempt.program else attempt.environment
    process = start(command, root, extra)
    try:
        if attempt.drive:
            attempt.drive(process)
    except Broken:
        process.kill()
        raise
    finally:
        outcome = finish(process, attempt.timeout)
    return outcome


# -- stopping a process at a known point ----------------------------------------------------


def open_files(pid: int) -> set[str]:
    """Paths that a process holds open or mapped."""
    held = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
            except OSError:
                continue
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
            held.update(line.split(maxsplit=5)[-1].strip() for line in maps)
    except OSError:
        return set()
    return held


def _work(pid: int) -> tuple[int, int]:
    """Bytes that it has read, and clock ticks that it has computed."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as counters:
            read = int(counters.readline().split()[1])
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0, 0
    return read, int(fields[11]) + int(fields[12])


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0]


def paused_while_reading(paths: list[Path], then: Callable[[set], None]) -> Callable:
    """Returns a driver: stops the process in the midst of reading one of `paths`, calls `then`
    with those that are open, and lets the process go on."""
    wanted = {os.path.realpath(path): path for path in paths}

    def held(pid: int) -> set[Path]:
        return {wanted[name] for name in open_files(pid) & wanted.keys()}

    def drive(process: subprocess.Popen) -> None:
        wait_until_reading(process, held)
        os.kill(process.pid, signal.SIGSTOP)
        while _state(process.pid) not in "TtZ":
            time.sleep(0.001)
        now = held(process.pid)
        if not now:
            raise Broken("had finished reading before it was stopped; use a larger file")
        then(now)
        os.kill(process.pid, signal.SIGCONT)

    return drive


def wait_until_reading(process: subprocess.Popen, held: Callable[[int], set]) -> None:
    """Waits until the process holds one of the files and has since read some of it, or worked for a while: what it maps, or has
    io_uring read, is not counted as read."""
    deadline = time.monotonic() + 20
    before: tuple[int, int] | None = None
    while process.poll() is None and time.monotonic() < deadline:
        if held(process.pid):
            read, ticks = _work(process.pid)
            before = before or (read, ticks)
            if read - before[0] >= 8 << 20 or ticks - before[1] >= os.sysconf("SC_CLK_TCK") // 20:
                return
        time.sleep(0.001)
    raise Broken("never seen reading the large file")


def stopped_by_itself(then: Callable[[], None]) -> Callable:
    """Returns a driver: waits until the process has stopped itself, calls `then`, and lets it go on."""

    def drive(process: subprocess.Popen) -> None:
        deadline = time.monotonic() + 20
        while _state(process.pid) not in "TtZ":
            if time.monotonic() > deadline:
                raise Broken("never stopped itself")
            time.sleep(0.001)
        if process.poll() is None:
            then()
            os.kill(process.pid, signal.SIGCONT)

    return drive
