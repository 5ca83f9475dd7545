"""Class disk: unreadable input, a full disk, a kill. No wrong verdict, no half-written signature.

From the issue's "Bad input" and rule 5 (files are written atomically).
"""

import os
import shutil
import signal
import subprocess
import time

from kit import naive, process
from kit.case import Broken, NotHere, Script, rejected
from kit.world import BLOB, sparse

from .time_of_check import LARGE, SIZE

case = rejected("disk")

NOBODY = 65534


def unreadable(world, name, folder=False):
    """Takes all rights from a file or folder of the model; the command then runs without root."""
    path = world.model / name
    if folder:
        path.mkdir()
        (path / "hidden.bin").write_bytes(b"not signed")
    path.chmod(0)


def for_anyone(world):
    """Lets the unprivileged signer use its key and write its signature."""
    key = world.private_key()
    world.model.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(key, NOBODY, NOBODY)


@case("io", naive=False)
def file_unreadable(world):
    world.honest()
    unreadable(world, BLOB)
    return world.verify(as_nobody=True)


@case("io", naive=False)
def file_unreadable__folder(world):
    """A folder that cannot be listed is not an empty one."""
    world.honest()
    unreadable(world, "secret", folder=True)
    return world.verify(as_nobody=True)


@case("io", naive=False)
def file_unreadable__folder_and_unsigned_files_ignored(world):
    world.honest()
    unreadable(world, "secret", folder=True)
    return world.verify("--ignore-unsigned-files", as_nobody=True)


@case("io", naive=False)
def file_unreadable__signature(world):
    """It is there, so it is not `signature_not_found`."""
    world.honest()
    world.signature.chmod(0)
    return world.verify(as_nobody=True)


@case("io", naive=False)
def file_unreadable__signing(world):
    world.base()
    unreadable(world, BLOB)
    for_anyone(world)
    return world.signing(as_nobody=True)


@case("io", naive=False)
def file_unreadable__folder_signing(world):
    world.base()
    unreadable(world, "secret", folder=True)
    for_anyone(world)
    return world.signing(as_nobody=True)


@case("io", naive=False)
def file_missing__artifact(world):
    world.signature = world.root / "model.sig"
    world.honest()
    attempt = world.verify()
    shutil.rmtree(world.model)
    return attempt


@case("io", naive=False)
def file_missing__public_key(world):
    world.honest()
    attempt = world.verify()
    world.public_key().unlink()
    return attempt


@case("io", naive=False)
def file_missing__private_key(world):
    world.base()
    attempt = world.signing()
    world.private_key().unlink()
    return attempt


# -- writing the signature ----------------------------------------------------------------------


@case("io", naive=False)
def signature_not_writable__no_such_folder(world):
    world.base()
    world.signature = world.root / "nowhere/model.sig"
    return world.signing()


@case("would_overwrite", naive=False)
def signature_not_writable__a_folder_is_there(world):
    world.base()
    world.signature = world.root / "model.sig"
    world.signature.mkdir()
    return world.signing()


@case("io", naive=False)
def signature_not_writable__no_permission(world):
    world.base()
    for_anyone(world)
    world.model.chmod(0o555)
    return world.signing(as_nobody=True)


# Leaves one page free, runs the command, and looks for what it left on the full disk.
FULL = """
set -u
disk=$1; shift
mount -t tmpfs -o size=16k,mode=755 tmpfs "$disk" || exit 98
if [ -n "$OLD" ]; then cp "$OLD" "$disk/model.sig"; fi
cat /dev/zero > "$disk/filler" 2>/dev/null
truncate -s -4096 "$disk/filler"
before=$(cd "$disk" && ls -lA --time-style=+ && cat model.sig 2>/dev/null)
"$@"
code=$?
after=$(cd "$disk" && ls -lA --time-style=+ && cat model.sig 2>/dev/null)
if [ "$before" != "$after" ]; then echo "left on the disk: $after" >&2; exit 99; fi
exit $code
"""


def on_full_disk(world, old=False):
    """Signs to a file system of its own, in a mount name space of its own, that has 4 KiB left."""
    world.base()
    older = world.root / "older.sig"
    world.signature = older
    world.honest()
    disk = world.root / "disk"
    disk.mkdir()
    world.signature = disk / "model.sig"
    enter = ["unshare", "--mount"] + (["--map-root-user"] if os.geteuid() else [])
    probe = [*enter, "mount", "-t", "tmpfs", "tmpfs", str(disk)]
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        raise NotHere("no right to mount a small file system; see full_disk__file_size_limit")
    prefix = [*enter, "sh", "-c", FULL, "sh", str(disk)]
    return world.signing(prefix=prefix, environment={"OLD": str(older) if old else ""})


@case("io", naive=False)
def full_disk(world):
    return on_full_disk(world)


@case("io", naive=False)
def full_disk__old_signature_survives(world):
    return on_full_disk(world, old=True)


@case("io", naive=False)
def full_disk__file_size_limit(world):
    """Where nothing can be mounted: the kernel refuses to let a file grow."""
    world.base()
    return world.signing(file_size=1024)


@case("io", naive=False)
def full_disk__file_size_limit_and_old_signature(world):
    world.honest()
    return world.signing(file_size=1024)


@case("would_overwrite")
def signature_not_writable__not_a_signature(world):
    """Whoever mistypes `--signature` must not lose the file."""
    world.base()
    world.signature = world.root / "thesis.txt"
    world.signature.write_text("years of work\n")
    return world.signing()


# -- a kill -------------------------------------------------------------------------------------


def signer(world, sentry):
    return process.start([str(sentry), *world.signing().args], world.root)


def kill(running):
    """Kills it and waits; returns whether the kill came before its end."""
    running.kill()
    running.communicate()
    return running.returncode == -signal.SIGKILL


def half_written(world):
    """Problems with what is at the target: nothing may be there, or a whole signature."""
    if not world.signature.exists():
        return []
    wrong = naive.complaints(world)
    size = world.signature.stat().st_size
    return [f"a signature of {size} bytes is there, and wrong in {sorted(wrong)}"] if wrong else []


@case("killed", naive=False)
def killed_while_signing(world):
    """In the midst of hashing; an older signature stays what it is."""
    world.honest()
    sparse(world.model / LARGE, SIZE)
    older = world.signature.read_bytes()

    def run(sentry):
        running = signer(world, sentry)
        large = str((world.model / LARGE).resolve())
        try:
            process.wait_until_reading(running, lambda pid: process.open_files(pid) & {large})
        finally:
            killed = kill(running)
        if not killed:
            raise Broken("it had finished before it was killed")
        kept = world.signature.read_bytes() == older
        return [] if kept else ["the older signature was changed"]

    return Script(run)


def sweep(world, kept):
    """Takes away what a killed signer left, so that each attempt starts alike."""
    for name in set(os.listdir(world.model)) - kept:
        (world.model / name).unlink()


def many_files(world):
    """A model whose signature takes more than one write."""
    world.base()
    for at in range(1500):
        world.write(f"many/{at:05}.txt", b"%d" % at)


@case("killed", naive=False)
def killed_while_signing__at_any_time(world):
    """Thirty kills spread over the time that signing takes."""
    many_files(world)

    def run(sentry):
        kept = set(os.listdir(world.model))
        began = time.monotonic()
        running = signer(world, sentry)
        running.communicate()
        took = time.monotonic() - began
        problems = ["signing fails by itself"] if running.returncode else half_written(world)
        for at in range(30):
            sweep(world, kept)
            running = signer(world, sentry)
            time.sleep(took * (at + 0.5) / 30)
            kill(running)
            problems += half_written(world)
        return problems

    return Script(run)


@case("killed", naive=False)
def killed_while_signing__at_the_write(world):
    """Killed as soon as any new file shows up beside the target."""
    many_files(world)

    def run(sentry):
        problems = []
        kept = set(os.listdir(world.model))
        for _ in range(15):
            sweep(world, kept)
            running = signer(world, sentry)
            while running.poll() is None and set(os.listdir(world.model)) <= kept:
                pass
            kill(running)
            problems += half_written(world)
        return problems

    return Script(run)
