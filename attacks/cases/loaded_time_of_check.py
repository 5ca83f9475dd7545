"""Class time of check: the model changes while the Python package loads it, or between verifying and loading.

Where it can, the caller stops itself between the two; else it is stopped in the midst of reading a large file.
"""

import functools
import hashlib
import os
import shutil
import threading

import blake3
from kit import oms, tensors
from kit.case import rejected
from kit.process import paused_while_reading, stopped_by_itself
from kit.tensors import entry, raw
from kit.world import FILES, FIRST, data_offset, flip, sparse

from . import time_of_check
from .time_of_check import becomes_a_link, becomes_a_pipe, grow, replace, rewrite_and_hide, rewrite_behind, shrink

case = rejected("time of check")

# -- between the check and the use ----------------------------------------------------------

TENSOR = "layer.1.weight"
CHANGED = {("changed_tensor", FIRST, TENSOR)}


def spoil(path):
    """Flips a bit of a tensor, in place."""
    flip(path, data_offset(FILES[FIRST], TENSOR))


def spoil_another(path):
    """The same, in another file that takes the name."""
    other = path.with_name("other")
    shutil.copy(path, other)
    spoil(other)
    os.replace(other, path)


def verified_then(world, change):
    """Verified, then changed, then loaded."""
    world.honest()
    drive = stopped_by_itself(lambda: change(world.model / FIRST))
    return world.calling("verify_and_load", "--stop", weights=(FIRST,), drive=drive, once=True)


def opened_then(world, change):
    """Opened, which checks signature and header, then changed, then read."""
    world.honest()
    path = world.model / FIRST
    drive = stopped_by_itself(lambda: change(path))
    return world.calling("safe_open", "--stop", "--root", str(world.model), path=path, drive=drive, once=True)


@case("model_differs", naive=False)
def file_replaced_between_verify_and_load(world):
    """That it was good once is nothing that loading relies on."""
    attempt = verified_then(world, spoil_another)
    attempt.differences = CHANGED
    return attempt


@case("model_differs", naive=False)
def file_replaced_between_verify_and_load__in_place(world):
    attempt = verified_then(world, spoil)
    attempt.differences = CHANGED
    return attempt


@case("symlink", naive=False)
def file_replaced_between_verify_and_load__by_a_link(world):
    return verified_then(world, becomes_a_link)


@case("special_file", naive=False)
def file_replaced_between_verify_and_load__by_a_pipe(world):
    return verified_then(world, becomes_a_pipe)


@case("file_changed_while_read", naive=False)
def file_replaced_between_verify_and_load__once_open(world):
    """The open file is intact, and has no name any more."""
    return opened_then(world, spoil_another)


@case("file_changed_while_read", naive=False)
def file_replaced_between_verify_and_load__once_open_in_place(world):
    return opened_then(world, spoil)


@case("file_changed_while_read", naive=False)
def file_replaced_between_verify_and_load__once_open_header(world):
    """A header is parsed once: another one later is no other meaning of the bytes."""
    return opened_then(world, lambda path: flip(path, FILES[FIRST].index(b"embed"), bit=5))


@case("file_changed_while_read", naive=False)
def file_replaced_between_verify_and_load__once_open_time_set_back(world):
    def hide(path):
        info = os.stat(path)
        spoil(path)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))

    return opened_then(world, hide)


@case("model_differs", naive=False)
def directory_swapped_by_rename__loaded(world):
    """Opened in a tampered model, whose place an honest one takes: what was opened is what is read."""
    world.honest()
    honest = world.root / "honest"
    shutil.copytree(world.model, honest)
    spoil(world.model / FIRST)

    def swap():
        world.model.rename(world.root / "tampered")
        honest.rename(world.model)

    arguments = ["--stop", "--root", str(world.model)]
    drive = stopped_by_itself(swap)
    return world.calling("safe_open", *arguments, path=world.model / FIRST, drive=drive, differences=CHANGED, once=True)


# -- while a large file is read -------------------------------------------------------------

LARGE = "model.safetensors"
SIZE = 1 << 29  # a third of a second of work, and so much memory
HEAD = raw({"zeros": entry("U8", [SIZE], 0, SIZE)}, b"")

_once = threading.Lock()


@functools.cache
def _digests():
    """SHA-256 of the large file, and BLAKE3 of its tensor."""
    whole, tensor = hashlib.sha256(HEAD), blake3.blake3(max_threads=blake3.blake3.AUTO)
    block = bytes(1 << 24)
    for _ in range(SIZE // len(block)):
        whole.update(block)
        tensor.update(block)
    return whole.hexdigest(), tensor.hexdigest()


def while_loading(world, change, annotate):
    """An honest model of one large file of zeroes, mostly sparse; `change(path)` happens while that file is loaded."""
    with _once:
        whole, tensor = _digests()
    world.model.mkdir()
    path = sparse(world.model / LARGE, len(HEAD) + SIZE)
    with open(path, "r+b") as file:
        file.write(HEAD)
    item = {"name": LARGE, "digest": whole, "algorithm": "sha256"}
    if annotate:
        listed = [{"name": "zeros", "dtype": "U8", "shape": [SIZE], "digest": tensor}]
        described = {"algorithm": "blake3", "header": tensors.b3(HEAD), "tensors": listed}
        item["annotations"] = {tensors.SAFETENSORS_KEY: described}
    world.sign(oms.statement("model", [item], "sha256", list(oms.ALWAYS_IGNORED)))
    return world.calling("load_model", drive=paused_while_reading([path], lambda _: change(path)), once=True, timeout=60)


# By the names of what the command line is met with, and two that it only meets before a file's turn. A loader opens all
# files at once, so that none of them waits for its turn.
CHANGES = {
    "file_mutated_during_hash__loaded": (rewrite_behind, True),
    "file_mutated_during_hash__loaded_not_annotated": (rewrite_behind, False),
    "file_mutated_during_hash__time_set_back_loaded": (rewrite_and_hide, False),
    "file_mutated_during_hash__grows_loaded": (grow, False),
    "file_mutated_during_hash__shrinks_loaded": (shrink, False),
    "file_mutated_during_hash__replaced_loaded": (replace, False),
    "file_mutated_during_hash__vanishes_loaded": (os.unlink, False),
    "file_mutated_during_hash__becomes_a_link_loaded": (becomes_a_link, False),
    "file_mutated_during_hash__becomes_a_pipe_loaded": (becomes_a_pipe, False),
}


def register(name, change, annotate):
    """Adds a case of its own for a change."""

    def build(world):
        return while_loading(world, change, annotate)

    build.__name__ = name
    build.__doc__ = change.__doc__ if change.__module__ == time_of_check.__name__ else None
    case("file_changed_while_read", naive=False)(build)


for name, (change, annotate) in CHANGES.items():
    register(name, change, annotate)
