"""Files that change between the check and the use, and what a failed load leaves behind: nothing."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors.torch
import sentry
import torch
from conftest import equal, flip, rejected, tensors
from sentry._folder import memory_file
from sentry._locate import open_signed_file
from sentry._native import Reader

WEIGHTS = "model.safetensors"
CHECKPOINT = "model.pt"
Change = Callable[[Path], None]

# How to sign: digests of tensors, of the file, of parts of it.
OPTIONS: dict[str, dict[str, Any]] = {"tensors": {}, "file": {"annotate": False}, "shards": {"shard_size": 900, "annotate": False}}
every_signature = pytest.mark.parametrize("kind", OPTIONS)


def safe_open_all(path: Path, **options: Any) -> dict[str, torch.Tensor]:
    """All tensors of a file, one by one."""
    with sentry.safetensors.safe_open(path, **options) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


LOADERS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "load_model": (WEIGHTS, lambda folder, **options: sentry.load_model(folder, **options)),
    "load_file": (WEIGHTS, lambda folder, **options: sentry.safetensors.load_file(folder / WEIGHTS, **options)),
    "safe_open": (WEIGHTS, lambda folder, **options: safe_open_all(folder / WEIGHTS, **options)),
    "torch.load": (CHECKPOINT, lambda folder, **options: sentry.torch.load(folder / CHECKPOINT, **options)),
}
every_loader = pytest.mark.parametrize("loader", LOADERS)


@pytest.fixture(params=OPTIONS)
def loadable(model: Path, key: sentry.PrivateKey, request: pytest.FixtureRequest) -> Path:
    """A folder that each loader can load from, signed in every way."""
    torch.save(tensors(), model / CHECKPOINT)
    age(model)
    sentry.sign_model(model, key=key, **OPTIONS[request.param])
    return model


def age(folder: Path) -> None:
    """Set the times of all files back, and let the file system's clock move on: whatever is changed later has other times."""
    for file in folder.iterdir():
        os.utime(file, (1, 1))
    clock = folder.parent / "clock"
    clock.touch()
    first = clock.stat().st_ctime_ns
    while clock.stat().st_ctime_ns == first:
        os.utime(clock)
    clock.unlink()


# -- ways to change a file ------------------------------------------------------------------------------------------------


def overwritten(file: Path) -> None:
    """Another last byte, in place."""
    with open(file, "r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        last = opened.read()[0]
        opened.seek(-1, os.SEEK_END)
        opened.write(bytes([last ^ 1]))


def overwritten_at_its_start(file: Path) -> None:
    """Another byte of what was read already."""
    content = file.read_bytes()
    with open(file, "r+b") as opened:
        opened.write(bytes([content[0] ^ 1]))


def overwritten_and_hidden(file: Path) -> None:
    """The same, and the time of modification as it was; that of the change of it cannot be set."""
    times = file.stat()
    overwritten(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def overwritten_by_the_same(file: Path) -> None:
    """The bytes that are there already: strict, but who writes to a model now may write anything."""
    content = file.read_bytes()
    with open(file, "r+b") as opened:
        opened.write(content)


def truncated(file: Path) -> None:
    """Half of it."""
    os.truncate(file, file.stat().st_size // 2)


def emptied(file: Path) -> None:
    """Nothing of it."""
    os.truncate(file, 0)


def grown(file: Path) -> None:
    """One byte more."""
    with open(file, "ab") as opened:
        opened.write(b"\0")


def shrunk_and_grown(file: Path) -> None:
    """The same length, with zeroes for what was there."""
    size = file.stat().st_size
    os.truncate(file, 0)
    os.truncate(file, size)


def replaced(file: Path) -> None:
    """Another file of the same length takes the name."""
    other = file.parent.parent / "other"
    shutil.copy(file, other)
    flip(other)
    other.replace(file)


def replaced_by_the_same(file: Path) -> None:
    """A copy takes the name."""
    other = file.parent.parent / "other"
    shutil.copy(file, other)
    other.replace(file)


def replaced_by_a_link(file: Path) -> None:
    """A link to the very file takes the name."""
    aside = file.parent.parent / "aside"
    file.rename(aside)
    file.symlink_to(aside)


def removed(file: Path) -> None:
    """The open file is still whole, but the model no longer has it."""
    file.unlink()


CHANGES: dict[str, Change] = {
    change.__name__: change
    for change in (
        overwritten,
        overwritten_at_its_start,
        overwritten_and_hidden,
        overwritten_by_the_same,
        truncated,
        emptied,
        grown,
        shrunk_and_grown,
        replaced,
        replaced_by_the_same,
        replaced_by_a_link,
        removed,
    )
}
every_change = pytest.mark.parametrize("change", CHANGES)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Have something happen in a load: after the files were opened, and before their bytes are read."""

    def arrange(happen: Callable[[], object]) -> None:
        for name in ("_allocate._numpy_bytes", "_allocate._torch_bytes", "_folder._memory"):
            module, function = name.split(".")
            original, pending = getattr(getattr(sentry, module), function), [happen]

            def wrapped(*arguments: Any, original: Any = original, pending: list[Callable[[], object]] = pending) -> Any:
                while pending:
                    pending.pop()()
                return original(*arguments)

            monkeypatch.setattr(f"sentry.{name}", wrapped)

    return arrange


# -- a file that changes after it was opened -----------------------------------------------------------------------------


@every_loader
@every_change
def test_a_file_that_changes_before_it_is_read_is_refused(
    loadable: Path, trust: sentry.PublicKey, loader: str, change: str, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    name, load = LOADERS[loader]
    assert equal(load(loadable, trust=trust), tensors())
    meanwhile(lambda: CHANGES[change](loadable / name))
    error = rejected(lambda: load(loadable, trust=trust), sentry.ChangedError, "file_changed_while_read")
    assert name in str(error) and "nothing writes to the model" in str(error) and error.differences == ()


@every_change
def test_an_open_file_that_changes_hands_out_nothing_more(signed: Path, trust: sentry.PublicKey, change: str) -> None:
    age(signed)
    with sentry.safetensors.safe_open(signed / WEIGHTS, trust=trust) as file:
        assert torch.equal(file.get_tensor("layer.0.weight"), tensors()["layer.0.weight"])
        CHANGES[change](signed / WEIGHTS)
        part = file.get_slice("layer.0.weight")
        # Also not the tensors that are as they were.
        for read in (lambda: file.get_tensor("layer.0.weight"), lambda: part[:2], lambda: file.get_tensor("scalar"), file.get_tensors):
            rejected(read, sentry.ChangedError, "file_changed_while_read")


@pytest.mark.parametrize("framework", ["pt", "np"])
def test_an_open_file_that_could_only_be_checked_whole_does_not_change(
    model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, framework: str
) -> None:
    (model / WEIGHTS).unlink()
    safetensors.torch.save_file({"a": torch.arange(9)}, model / WEIGHTS)
    sentry.sign_model(model, key=key, annotate=False)
    with sentry.safetensors.safe_open(model / WEIGHTS, framework, trust=trust) as file:
        shrunk_and_grown(model / WEIGHTS)
        assert file.get_tensor("a").tolist() == list(range(9))


# What is malformed is not compared.
MALFORMED = {"truncated": "past_end", "emptied": "header_truncated", "grown": "trailing_data"}
# Nor this, if the header has no digest of its own.
UNREADABLE = {"shrunk_and_grown": "json", "overwritten_at_its_start": "json"}


@every_loader
@every_change
def test_a_file_that_changed_between_verify_and_load_is_refused(
    loadable: Path, trust: sentry.PublicKey, loader: str, change: str, request: pytest.FixtureRequest
) -> None:
    name, load = LOADERS[loader]
    assert sentry.verify_model(loadable, trust=trust).files == 3
    CHANGES[change](loadable / name)
    if change.endswith("by_the_same"):
        # What is there is what was signed.
        assert equal(load(loadable, trust=trust), tensors())
        return
    defects = MALFORMED if request.node.callspec.params["loadable"] == "tensors" else MALFORMED | UNREADABLE
    if change == "replaced_by_a_link":
        rejected(lambda: load(loadable, trust=trust), sentry.PathError, "symlink")
    elif name == WEIGHTS and change in defects:
        rejected(lambda: load(loadable, trust=trust), sentry.FormatError, f"safetensors_{defects[change]}")
    else:
        error = rejected(lambda: load(loadable, trust=trust), sentry.ManifestError, "model_differs")
        assert {difference.file for difference in error.differences} == {name}


@every_signature
def test_a_second_file_that_changes_while_the_first_is_read_is_refused(
    sharded: Path,
    key: sentry.PrivateKey,
    trust: sentry.PublicKey,
    kind: str,
    meanwhile: Callable[[Callable[[], object]], None],
) -> None:
    last = sharded / "model-00002-of-00002.safetensors"
    age(sharded)
    sentry.sign_model(sharded, key=key, **OPTIONS[kind])
    meanwhile(lambda: truncated(last))
    error = rejected(lambda: sentry.load_model(sharded, trust=trust), sentry.ChangedError, "file_changed_while_read")
    assert last.name in str(error)


@every_change
def test_native_readers_notice_a_change_between_their_steps(loadable: Path, trust: sentry.PublicKey, change: str) -> None:
    reader = Reader(loadable, [], trust)
    files = reader.open_weights(None)
    rooms = [[(start, end, numpy.empty(end - start, numpy.uint8)) for *_, start, end in file.tensors()] for file in files]
    CHANGES[change](loadable / WEIGHTS)
    regions = [[(start, end, None, room.__array_interface__["data"][0]) for start, end, room in file] for file in rooms]
    rejected(lambda: reader.load_tensors(files, regions, []), sentry.ChangedError, "file_changed_while_read")
    assert not any(room.any() for file in rooms for *_, room in file), "what was read is wiped"


def test_a_reader_opens_the_file_that_is_there_and_not_a_former_one(loadable: Path, trust: sentry.PublicKey) -> None:
    reader = Reader(loadable, [], trust)
    assert reader.read("config.json") == (loadable / "config.json").read_bytes()
    replaced(loadable / "config.json")
    rejected(lambda: reader.read("config.json"), sentry.ManifestError, "model_differs")


# -- folders that change places ------------------------------------------------------------------------------------------


def swapped(folder: Path) -> Path:
    """Put a tampered copy of the model in its place; where the honest one is now."""
    honest = folder.with_name("honest")
    folder.rename(honest)
    shutil.copytree(honest, folder)
    for name in (WEIGHTS, CHECKPOINT):
        if (folder / name).exists():
            flip(folder / name)
    return honest


@every_loader
def test_directory_swapped_by_rename_while_it_is_loaded(
    loadable: Path, trust: sentry.PublicKey, loader: str, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    """What is loaded is what was opened: the honest files, wherever they are by then."""
    _, load = LOADERS[loader]
    meanwhile(lambda: swapped(loadable))
    assert equal(load(loadable, trust=trust), tensors())
    rejected(lambda: load(loadable, trust=trust), sentry.ManifestError, "model_differs")


def test_directory_swapped_by_rename_before_its_files_are_opened(loadable: Path, trust: sentry.PublicKey) -> None:
    reader = Reader(loadable, [], trust)
    honest = swapped(loadable)
    # Beneath the handle on the folder that it was given, not beneath its path.
    file = reader.open_weights(None)[0]
    assert reader.read(WEIGHTS) == (honest / WEIGHTS).read_bytes() != (loadable / WEIGHTS).read_bytes()
    assert file.size == (honest / WEIGHTS).stat().st_size
    rejected(lambda: Reader(loadable, [], trust).read(WEIGHTS), sentry.ManifestError, "model_differs")


def test_a_tampered_directory_does_not_become_honest(loadable: Path, trust: sentry.PublicKey) -> None:
    honest = swapped(loadable)
    reader = Reader(loadable, [], trust)
    loadable.rename(loadable.with_name("tampered"))
    honest.rename(loadable)
    rejected(lambda: reader.read(WEIGHTS), sentry.ManifestError, "model_differs")
    assert equal(sentry.load_model(loadable, trust=trust), tensors())


def test_a_folder_deep_in_the_model_that_becomes_a_link_is_not_followed(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    (model / "sub").mkdir()
    shutil.move(model / WEIGHTS, model / "sub" / WEIGHTS)
    sentry.sign_model(model, key=key)
    reader = Reader(model, [], trust)
    (model / "sub").rename(model.parent / "outside")
    (model / "sub").symlink_to("../outside")
    for load in (lambda: reader.read(f"sub/{WEIGHTS}"), lambda: sentry.load_model(model, trust=trust)):
        rejected(load, sentry.PathError, "special_file")
    rejected(lambda: sentry.verify_model(model, trust=trust), sentry.PathError, "symlink")


def test_another_header_than_the_one_that_is_hashed_does_not_count(key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    # A file system in memory, where writing through a mapping leaves no trace in the times of a file.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        model = Path(place) / "model.safetensors"
        safetensors.torch.save_file({"weight": torch.arange(8, dtype=torch.float16)}, model)
        for options in ({"annotate": False}, {"annotate": False, "hash": "blake3"}, {"shard_size": 20}):
            sentry.sign_model(model, key=key, **options)
            with open(model, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
                at = mapped.find(b'"F16"')
                mapped[at + 1 : at + 2] = b"I"
                reader = Reader(model, [], trust)
                files = reader.open_weights(None)
                assert files[0].tensors()[0][1] == "I16"
                # What is hashed is as it was signed; what was parsed is not.
                mapped[at + 1 : at + 2] = b"F"
                room = torch.empty(8, dtype=torch.int16)
                ((*_, start, end),) = files[0].tensors()
                regions = [[(start, end, None, room.data_ptr())]]
                rejected(lambda: reader.load_tensors(files, regions, []), sentry.ChangedError, "file_changed_while_read")
            assert sentry.load_model(model, trust=trust)["weight"].dtype == torch.float16


# -- after the check -----------------------------------------------------------------------------------------------------


def test_torch_reads_the_bytes_that_were_checked(loadable: Path, trust: sentry.PublicKey, monkeypatch: pytest.MonkeyPatch) -> None:
    original, given = torch.load, []

    def load(file: Any, **options: Any) -> Any:
        given.append((file.name, options))
        emptied(loadable / CHECKPOINT)
        return original(file, **options)

    monkeypatch.setattr(torch, "load", load)
    assert equal(sentry.torch.load(loadable / CHECKPOINT, trust=trust), tensors())
    (name, options), *others = given
    assert os.fspath(loadable) not in name and options["weights_only"] is True and not others


def test_nobody_can_write_to_what_was_checked(loadable: Path, trust: sentry.PublicKey) -> None:
    reader, file = open_signed_file(loadable / CHECKPOINT, trust, None, None)
    with memory_file(reader, file) as verified:
        expected = (loadable / CHECKPOINT).read_bytes()
        overwritten(loadable / CHECKPOINT)
        # Whoever may look at this process can open the file, but not change it.
        with open(verified.name, "r+b", buffering=0) as other:
            for change in (lambda: other.write(b"evil"), lambda: other.truncate(0), lambda: other.truncate(len(expected) + 1)):
                with pytest.raises(PermissionError):
                    change()
            with pytest.raises(PermissionError):
                mmap.mmap(other.fileno(), 0, prot=mmap.PROT_WRITE)
        assert verified.read() == expected


# -- while it is read ------------------------------------------------------------------------------------------------------

LARGE = 1 << 28

CHILD = """
import sys
import numpy
import sentry
model, trust = sys.argv[1], sentry.PublicKey(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
try:
    tensors = sentry.load_model(model, trust=trust, framework="numpy")
    print("loaded", len(tensors))
except sentry.Error as error:
    print(type(error).__name__, error.code)
"""


def large(folder: Path) -> Path:
    """A file of one large tensor of zeroes, which take no room on the disk."""
    folder.mkdir(exist_ok=True)
    file = folder / WEIGHTS
    header = b'{"large":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (LARGE, LARGE)
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(file, 8 + len(header) + LARGE)
    return file


def bytes_read(process: int) -> int:
    """How many bytes a process has read so far, in all its threads."""
    return int(Path(f"/proc/{process}/io").read_text().split()[1])


def stopped_in_the_midst(folder: Path, public: Path, change: Change) -> str | None:
    """What a process says whose model is changed while it stands still in the midst of reading it; None if it was too fast."""
    command = [sys.executable, "-c", CHILD, os.fspath(folder), os.fspath(public)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == "ready\n"
        before = bytes_read(child.pid)
        child.stdin.write("\n")
        child.stdin.flush()
        while bytes_read(child.pid) - before < LARGE // 16 and child.poll() is None:
            pass
        child.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            child.returncode = os.waitstatus_to_exitcode(status)
            return None
        in_time = bytes_read(child.pid) - before < LARGE - LARGE // 8
        if in_time:
            change(folder / WEIGHTS)
        child.send_signal(signal.SIGCONT)
        said, _ = child.communicate()
    assert child.returncode == 0
    return said.strip() if in_time else None


@pytest.mark.parametrize("kind", ["tensors", "file"])
@pytest.mark.parametrize("change", ["truncated", "overwritten_behind", "replaced_by_another", "removed"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, kind: str, change: str
) -> None:
    def overwritten_behind(file: Path) -> None:
        with open(file, "r+b") as opened:
            opened.seek(200)
            opened.write(b"\xff")

    def replaced_by_another(file: Path) -> None:
        large(file.parent.parent / "other").replace(file)

    changes = {"truncated": truncated, "overwritten_behind": overwritten_behind, "replaced_by_another": replaced_by_another, "removed": removed}
    folder, public = tmp_path / "large", tmp_path / "trust.pub"
    public.write_text(trust.pem)
    said = None
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        large(folder)
        age(folder)
        sentry.sign_model(folder, key=key, **OPTIONS[kind])
        said = stopped_in_the_midst(folder, public, changes[change])
        if said is not None:
            break
    assert said == "ChangedError file_changed_while_read"


# -- nothing is left behind ------------------------------------------------------------------------------------------------


def resident() -> int:
    """This process' memory in bytes, with what it has in files in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files() -> Counter[str]:
    """Where this process' descriptors lead. Fewer may be left later, of errors of other tests; only more are a fault."""
    found: Counter[str] = Counter()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found[os.readlink(f"/proc/self/fd/{descriptor}")] += 1
        except FileNotFoundError:
            # The one that lists them.
            pass
    return found


def allocations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, weakref.ref[torch.Tensor]]]:
    """Memory that is taken for tensors from now on: its size, and whether it is still held."""
    original, taken = sentry._allocate._torch_bytes, []

    def allocate(nbytes: int) -> torch.Tensor:
        memory = original(nbytes)
        taken.append((nbytes, weakref.ref(memory)))
        return memory

    monkeypatch.setattr("sentry._allocate._torch_bytes", allocate)
    return taken


@pytest.mark.parametrize("loader", ["load_model", "load_file", "safe_open"])
@pytest.mark.parametrize("kind", ["tensors", "file"])
def test_memory_of_a_failed_load_is_freed(
    tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, loader: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaders: dict[str, Callable[..., Any]] = {
        "load_model": lambda: sentry.load_model(file.parent, trust=trust),
        "load_file": lambda: sentry.safetensors.load_file(file, trust=trust),
        "safe_open": lambda: safe_open_all(file, trust=trust),
    }
    file = large(tmp_path / "large")
    sentry.sign_model(file.parent, key=key, **OPTIONS[kind])
    overwritten(file)
    taken = allocations(monkeypatch)
    before = resident()
    error = rejected(loaders[loader], sentry.ManifestError, "model_differs")
    # Room was made for all of it, and while the error and its traceback are still there, all of it is gone.
    assert error.__traceback__ and sum(nbytes for nbytes, _ in taken) >= LARGE
    assert not any(tensor() is not None for _, tensor in taken)
    assert resident() - before < LARGE // 2


def test_memory_of_tensors_is_freed_with_them(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    file = large(tmp_path / "large")
    sentry.sign_model(file.parent, key=key)
    before = resident()
    loaded = sentry.load_model(file.parent, trust=trust)
    assert LARGE // 2 < resident() - before < LARGE * 3 // 2
    tensor = loaded.pop("large")
    del tensor, loaded
    assert resident() - before < LARGE // 2


def missing(file: Path) -> None:
    """It is not there."""
    file.unlink()


def malformed(file: Path) -> None:
    """It begins like no safetensors file, and no archive."""
    file.write_bytes(b"\xff" * 100)


@every_loader
@pytest.mark.parametrize("change", ["none", "overwritten", "truncated", "malformed", "missing", "untrusted", "unsigned"])
def test_no_file_stays_open(
    loadable: Path, trust: sentry.PublicKey, stranger: sentry.PublicKey, loader: str, change: str
) -> None:
    name, load = LOADERS[loader]
    changes: dict[str, Change] = {"overwritten": overwritten, "truncated": truncated, "malformed": malformed, "missing": missing}
    if change in changes:
        changes[change](loadable / name)
    if change == "unsigned":
        (loadable / "model.sig").unlink()
    before = open_files()
    try:
        load(loadable, trust=stranger if change == "untrusted" else trust)
        assert change == "none"
    except sentry.Error:
        assert change != "none"
    assert not open_files() - before


@every_loader
def test_no_file_stays_open_after_a_change_in_the_midst(
    loadable: Path, trust: sentry.PublicKey, loader: str, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    name, load = LOADERS[loader]
    before = open_files()
    meanwhile(lambda: truncated(loadable / name))
    try:
        load(loadable, trust=trust)
        pytest.fail("a file that changed was loaded")
    except sentry.ChangedError:
        pass
    assert not open_files() - before
