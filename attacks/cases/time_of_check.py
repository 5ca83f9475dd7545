"""Class time of check: the model changes while it is being checked or signed.

The process is stopped (SIGSTOP) in the midst of reading a large sparse file, the model is changed,
and the process goes on. What was changed under its hands must not be called good, not even if
the bytes it happened to read were.
"""

import functools
import hashlib
import os
import threading

from kit import oms
from kit.case import rejected
from kit.process import paused_while_reading
from kit.world import BLOB, flip, sparse

case = rejected("time of check")

LARGE = "weights/large.bin"
SIZE = 2 << 30  # more than a second of work
PART = 1 << 29

_once = threading.Lock()


@functools.cache
def _zeros(size):
    whole, block = hashlib.sha256(), bytes(1 << 24)
    for _ in range(size // len(block)):
        whole.update(block)
    return whole.hexdigest()


def zeros(size):
    """SHA-256 of so many zero bytes, computed once a run."""
    with _once:
        return _zeros(size)


def add_large(world, sizes):
    """Honest models with sparse files of these names and sizes; without their signature."""
    statement = world.statement()
    for name, size in sizes.items():
        sparse(world.model / name, size)
        item = {"name": name, "digest": zeros(size), "algorithm": "sha256"}
        statement["predicate"]["resources"].append(item)
    statement["predicate"]["resources"].sort(key=lambda item: item["name"])
    return oms.set_root(statement)


def while_verifying(world, change):
    """An honest model with a large file; `change(path)` happens while that file is read."""
    world.sign(add_large(world, {LARGE: SIZE}))
    path = world.model / LARGE
    drive = paused_while_reading([path], lambda _: change(path))
    return world.verify(drive=drive, once=True, timeout=60)


def while_signing(world, change):
    add_large(world, {LARGE: SIZE})
    path = world.model / LARGE
    drive = paused_while_reading([path], lambda _: change(path))
    return world.signing(drive=drive, once=True, timeout=60)


def grow(path):
    with open(path, "ab") as file:
        file.write(b"more")


def shrink(path):
    os.truncate(path, 1 << 20)


def rewrite_behind(path):
    """Changes the first byte, which has been read already."""
    with open(path, "r+b") as file:
        file.write(b"\xff")


def rewrite_and_hide(path):
    """The same, and sets the time of modification back; the time of change cannot be set."""
    info = os.stat(path)
    rewrite_behind(path)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


def replace(path):
    """Another file of the same content takes the name; the open one is intact, but has none."""
    other = sparse(path.with_name("other.bin"), path.stat().st_size)
    with open(path, "rb") as start, open(other, "r+b") as file:
        file.write(start.read(1 << 12))
    os.replace(other, path)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash(world):
    return while_verifying(world, rewrite_behind)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash__time_set_back(world):
    return while_verifying(world, rewrite_and_hide)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash__grows(world):
    return while_verifying(world, grow)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash__shrinks(world):
    """To a reader that maps files into memory this is a fatal signal."""
    return while_verifying(world, shrink)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash__replaced(world):
    return while_verifying(world, replace)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash__vanishes(world):
    """Strict: the open file is still whole, but the model that is vouched for no longer has it."""
    return while_verifying(world, os.unlink)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash__signing(world):
    return while_signing(world, rewrite_behind)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash__grows_signing(world):
    return while_signing(world, grow)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash__shrinks_signing(world):
    return while_signing(world, shrink)


@case("file_changed_while_read", naive=False)
def file_mutated_during_hash__vanishes_signing(world):
    return while_signing(world, os.unlink)


# -- files that change after the names were compared, and before their turn comes ----------------


def before_its_turn(world, change):
    """More large files than cores; `change` hits one that has not been opened yet."""
    count = (os.cpu_count() or 2) + 4
    sizes = {f"weights/part-{at:04}.bin": PART for at in range(count)}
    world.sign(add_large(world, sizes))
    paths = [world.model / name for name in sizes]

    def hit(opened):
        waiting = [path for path in paths if path not in opened]
        change((waiting or paths)[-1])

    drive = paused_while_reading(paths, hit)
    return world.verify(drive=drive, once=True, timeout=60)


def becomes_a_link(path):
    """To a file of the signed content, elsewhere."""
    path.rename(path.parents[2] / "elsewhere.bin")
    path.symlink_to("../../elsewhere.bin")


def becomes_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


@case("file_changed_while_read", naive=False)
def file_vanishes__before_its_turn(world):
    """Strict: its name was there when names were compared, so it is no `missing_file`."""
    return before_its_turn(world, os.unlink)


@case("symlink", naive=False)
def file_mutated_during_hash__becomes_a_link(world):
    """Opening must refuse links again: the walk that saw none is past."""
    return before_its_turn(world, becomes_a_link)


@case("special_file", naive=False)
def file_mutated_during_hash__becomes_a_pipe(world):
    """Opening it must not wait for a writer that never comes."""
    return before_its_turn(world, becomes_a_pipe)


@case("model_differs", naive=False)
def directory_swapped_by_rename(world):
    """The verifier starts on a tampered model; an honest one then takes its place. It was the
    tampered one's handle that was opened, so its verdict is about that."""
    world.sign(add_large(world, {LARGE: SIZE}))
    honest = world.root / "honest"
    for name in oms.files_of(world.model, [LARGE]):
        (honest / name).parent.mkdir(parents=True, exist_ok=True)
        (honest / name).write_bytes((world.model / name).read_bytes())
    sparse(honest / LARGE, SIZE)
    flip(world.model / BLOB, 0)

    def swap(_):
        world.model.rename(world.root / "tampered")
        honest.rename(world.model)

    # Its large file may be found under either name, before or after the exchange.
    drive = paused_while_reading([world.model / LARGE], swap)
    changed = {("changed_file", BLOB, None)}
    return world.verify(differences=changed, drive=drive, once=True, timeout=60)
