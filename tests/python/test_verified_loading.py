"""Loading: the same tensors as by the libraries' own functions, from bytes that are read once, and nothing from anyone untrusted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import model_signing
import numpy
import pytest
import safetensors
import safetensors.numpy
import safetensors.torch
import sentry
import torch
from conftest import Watch, equal, flip, rejected, tensors
from sentry._tensors import DTYPES


# -- signatures of every kind, to load under ---------------------------------------------------------------------------


def by_sentry(**options: Any) -> Callable[[Path, sentry.PrivateKey, Path], None]:
    """A way to sign a folder or a file with Sentry."""

    def sign(model: Path, key: sentry.PrivateKey, signature: Path) -> None:
        sentry.sign_model(model, key=key, signature=signature, **options)

    return sign


def by_model_signing(algorithm: str, shard_size: int | None = None) -> Callable[[Path, sentry.PrivateKey, Path], None]:
    """A way to sign with the package of the OpenSSF, which adds no digests of tensors."""

    def sign(model: Path, key: sentry.PrivateKey, signature: Path) -> None:
        private = signature.with_suffix(".key")
        private.write_bytes(key.to_pem())
        hashing = model_signing.hashing.Config()
        if shard_size is None:
            hashing.use_file_serialization(hashing_algorithm=algorithm)
        else:
            hashing.use_shard_serialization(hashing_algorithm=algorithm, shard_size=shard_size)
        config = model_signing.signing.Config().use_elliptic_key_signer(private_key=private)
        config.set_hashing_config(hashing).sign(model, signature)

    return sign


# How to sign, and how files with tensors are then checked.
SIGNATURES = {
    "sha256": (by_sentry(), "tensors"),
    "blake2b": (by_sentry(hash="blake2b"), "tensors"),
    "blake3": (by_sentry(hash="blake3"), "tensors"),
    "sha256 alone": (by_sentry(annotate=False), "sha256"),
    "blake2b alone": (by_sentry(hash="blake2b", annotate=False), "blake2b"),
    "blake3 alone": (by_sentry(hash="blake3", annotate=False), "blake3"),
    "shards": (by_sentry(shard_size=1000), "sha256 of shards"),
    "blake2b shards": (by_sentry(shard_size=333, hash="blake2b"), "blake2b of shards"),
    "model_signing": (by_model_signing("sha256"), "sha256"),
    "model_signing blake3": (by_model_signing("blake3"), "blake3"),
    "model_signing shards": (by_model_signing("sha256", 777), "sha256 of shards"),
}
every_signature = pytest.mark.parametrize("kind", SIGNATURES)


def every_type() -> dict[str, torch.Tensor]:
    """A tensor of every type that torch and safetensors share, of any bits, NaNs among them; without dimensions, and empty."""
    generator = torch.Generator().manual_seed(11)
    made = {}
    for name, dtype in DTYPES.items():
        content = torch.randint(0, 256, (48,), dtype=torch.uint8, generator=generator)
        kind = getattr(torch, name)
        whole = (content % 2 if kind == torch.bool else content).view(kind)
        made |= {f"{dtype}.whole": whole.reshape(2, -1), f"{dtype}.scalar": whole[0].clone(), f"{dtype}.empty": torch.empty((3, 0, 2), dtype=kind)}
    return made


def bits(tensor: Any) -> tuple[str, tuple[int, ...], bytes]:
    """Type, shape and bytes of a tensor of either library: equal for equal ones, NaNs included."""
    if isinstance(tensor, torch.Tensor):
        content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), content
    return tensor.dtype.name, tensor.shape, tensor.tobytes()


def all_bits(tensors: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The same of many."""
    return {name: bits(tensor) for name, tensor in tensors.items()}


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    """An unsigned model of tensors of every type in one file."""
    folder = tmp_path / "varied"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    safetensors.torch.save_file({**tensors(), **every_type()}, folder / "model.safetensors", metadata={"format": "pt", "note": "ä"})
    return folder


# -- equality ----------------------------------------------------------------------------------------------------------


@every_signature
def test_a_model_is_loaded_as_by_the_library(varied: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path, kind: str) -> None:
    sign, checked_by = SIGNATURES[kind]
    signature, file = tmp_path / "other.sig", varied / "model.safetensors"
    sign(varied, key, signature)
    expected = safetensors.torch.load_file(file)
    loaded = sentry.load_model(varied, trust=trust, signature=signature)
    assert all_bits(loaded) == all_bits(expected)
    assert all(isinstance(tensor, torch.Tensor) and tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in loaded.values())
    arrays = sentry.load_model(varied, trust=trust, signature=signature, framework="numpy")
    assert all_bits(arrays) == all_bits(expected)
    assert all(isinstance(array, numpy.ndarray) and array.flags.writeable for array in arrays.values())
    for result in (loaded, arrays):
        verification = result.verification
        assert verification.checked_by == {"model.safetensors": checked_by}
        assert (verification.files, verification.bytes) == (1, file.stat().st_size)
        assert verification.tensors == (len(expected) if checked_by == "tensors" else 0)
        assert (verification.fingerprint, verification.subject) == (trust.fingerprint, "varied")


@every_signature
def test_files_of_an_index_are_loaded_as_one(key: sentry.PrivateKey, trust: sentry.PublicKey, sharded: Path, tmp_path: Path, kind: str) -> None:
    sign, checked_by = SIGNATURES[kind]
    signature = tmp_path / "other.sig"
    (sharded / "model.sig").unlink()
    sign(sharded, key, signature)
    files = sorted(sharded.glob("*.safetensors"))
    expected = {name: tensor for file in files for name, tensor in safetensors.torch.load_file(file).items()}
    loaded = sentry.load_model(sharded, trust=trust, signature=signature)
    assert equal(loaded, expected) and equal(loaded, tensors())
    assert all_bits(sentry.load_model(sharded, trust=trust, signature=signature, framework="numpy")) == all_bits(expected)
    verification = loaded.verification
    assert verification.checked_by == {file.name: checked_by for file in files}
    assert (verification.files, verification.bytes) == (2, sum(file.stat().st_size for file in files))


@every_signature
def test_one_file_is_loaded_by_its_own_signature(varied: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, kind: str) -> None:
    file = varied / "model.safetensors"
    SIGNATURES[kind][0](file, key, Path(f"{file}.sig"))
    expected = all_bits(safetensors.torch.load_file(file))
    assert all_bits(sentry.load_model(file, trust=trust)) == expected
    assert all_bits(sentry.safetensors.load_file(file, trust=trust)) == expected


def test_numpy_arrays_are_those_of_the_library(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    arrays = {name: tensor.numpy() for name, tensor in tensors().items() if tensor.dtype != torch.bfloat16}
    safetensors.numpy.save_file(arrays, model / "model.safetensors")
    sentry.sign_model(model, key=key)
    loaded = sentry.safetensors.load_file(model / "model.safetensors", trust=trust, framework="numpy")
    expected = safetensors.numpy.load_file(model / "model.safetensors")
    assert all_bits(loaded) == all_bits(expected) == all_bits(arrays)


def test_numpy_has_types_that_it_lacks_from_ml_dtypes(varied: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model(varied, key=key)
    loaded = sentry.load_model(varied, trust=trust, framework="np")
    assert loaded["brain"].dtype == ml_dtypes.bfloat16
    assert loaded["F8_E4M3.whole"].dtype == ml_dtypes.float8_e4m3fn


def test_a_real_model_is_loaded_as_by_the_library(signed_minilm: Path, trust: sentry.PublicKey) -> None:
    file = signed_minilm / "model.safetensors"
    expected = safetensors.torch.load_file(file)
    loaded = sentry.load_model(signed_minilm, trust=trust)
    assert len(loaded) == 104 and equal(loaded, expected)
    assert (loaded.verification.files, loaded.verification.tensors, loaded.verification.bytes) == (1, 104, file.stat().st_size)
    assert equal(sentry.safetensors.load_file(file, trust=trust), expected)
    arrays = sentry.load_model(signed_minilm, trust=trust, framework="numpy")
    assert all_bits(arrays) == all_bits(safetensors.numpy.load_file(file))
    with sentry.safetensors.safe_open(file, "pt", trust=trust) as ours, safetensors.safe_open(file, "pt") as theirs:
        assert ours.metadata() == theirs.metadata()
        assert equal({name: ours.get_tensor(name) for name in ours.keys()}, {name: theirs.get_tensor(name) for name in theirs.keys()})


def test_a_model_without_tensors_is_loaded(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    file = tmp_path / "none.safetensors"
    safetensors.torch.save_file({}, file)
    sentry.sign_model(file, key=key)
    assert sentry.load_model(file, trust=trust) == safetensors.torch.load_file(file) == {}


def test_each_tensor_has_memory_of_its_own(signed: Path, trust: sentry.PublicKey) -> None:
    for framework in ("torch", "numpy"):
        loaded, again = (sentry.load_model(signed, trust=trust, framework=framework) for _ in range(2))
        loaded["layer.0.weight"][...] = 0
        unchanged = {name: tensor for name, tensor in loaded.items() if name != "layer.0.weight"}
        assert all_bits(unchanged) == all_bits({name: tensor for name, tensor in again.items() if name != "layer.0.weight"})


def test_a_hub_cache_is_loaded_through_its_links(signed: Path, tmp_path: Path, trust: sentry.PublicKey) -> None:
    expected = safetensors.torch.load_file(signed / "model.safetensors")
    snapshot = tmp_path / "models--o--m/snapshots/0123"
    snapshot.mkdir(parents=True)
    blobs = snapshot.parents[1] / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(signed.iterdir())):
        shutil.copy(file, blobs / f"{number:040}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:040}")
    assert equal(sentry.load_model(snapshot, trust=trust), expected)


def test_other_files_can_be_named_to_hold_the_weights(signed: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    safetensors.torch.save_file({"a": torch.ones(3)}, signed / "adapter.safetensors")
    sentry.sign_model(signed, key=key)
    assert equal(sentry.load_model(signed, trust=trust), tensors())
    assert equal(sentry.load_model(signed, trust=trust, weights=["adapter.safetensors"]), {"a": torch.ones(3)})
    both = sentry.load_model(signed, trust=trust, weights=("model.safetensors", "adapter.safetensors"))
    assert equal(both, {**tensors(), "a": torch.ones(3)})
    for wrong in ([], ["config.json"], ["unsigned.safetensors"]):
        with pytest.raises(sentry.UsageError) as caught:
            sentry.load_model(signed, trust=trust, weights=wrong)
        assert caught.value.code == "weights_unclear"
    with pytest.raises(sentry.UsageError):
        sentry.load_model(signed, trust=trust, weights="adapter.safetensors")
    rejected(lambda: sentry.load_model(signed, trust=trust, weights=["../model/model.safetensors"]), sentry.PathError, "unsafe_path")


# -- safe_open ---------------------------------------------------------------------------------------------------------

both_ways = pytest.mark.parametrize("annotate", [True, False], ids=["by tensor", "whole"])


@both_ways
@pytest.mark.parametrize("framework", ["pt", "np"])
def test_safe_open_stands_in_for_that_of_the_library(
    model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, annotate: bool, framework: str
) -> None:
    if framework == "np":
        arrays = {name: tensor.numpy() for name, tensor in tensors().items() if tensor.dtype != torch.bfloat16}
        safetensors.numpy.save_file(arrays, model / "model.safetensors", metadata={"format": "np"})
    sentry.sign_model(model, key=key, annotate=annotate)
    file = model / "model.safetensors"
    with sentry.safetensors.safe_open(file, framework, trust=trust) as ours, safetensors.safe_open(file, framework) as theirs:
        assert list(ours.keys()) == sorted(theirs.keys())
        assert sorted(ours.offset_keys()) == ours.keys()
        offsets = [name for name in theirs.offset_keys() if name != "empty"]
        assert [name for name in ours.offset_keys() if name != "empty"] == offsets
        assert ours.metadata() == theirs.metadata() == {"format": framework}
        assert all_bits(ours.get_tensors()) == all_bits({name: theirs.get_tensor(name) for name in theirs.keys()})
        for name in theirs.keys():
            assert bits(ours.get_tensor(name)) == bits(theirs.get_tensor(name))
            one, other = ours.get_slice(name), theirs.get_slice(name)
            assert (one.get_shape(), one.get_dtype()) == (other.get_shape(), other.get_dtype())
        for index in (slice(3, 5), (slice(None), slice(1, 9)), (2, slice(4, 8)), (Ellipsis, 0)):
            part = ours.get_slice("embedding.weight")[index]
            assert bits(part) == bits(theirs.get_slice("embedding.weight")[index])
            # Nothing but the part is kept in memory.
            assert (part.untyped_storage().nbytes() if framework == "pt" else part.nbytes) == len(bits(part)[2])
        with pytest.raises(KeyError):
            ours.get_tensor("absent")
        with pytest.raises(KeyError):
            ours.get_slice("absent")


@both_ways
def test_what_safe_open_hands_out_is_the_callers_own(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, annotate: bool) -> None:
    sentry.sign_model(model, key=key, annotate=annotate)
    with sentry.safetensors.safe_open(model / "model.safetensors", trust=trust) as file:
        file.get_tensor("layer.0.bias").zero_()
        file.get_slice("layer.0.bias")[:].zero_()
        assert torch.equal(file.get_tensor("layer.0.bias"), tensors()["layer.0.bias"])


@both_ways
def test_a_closed_file_hands_out_nothing_and_is_not_open(
    model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, annotate: bool
) -> None:
    sentry.sign_model(model, key=key, annotate=annotate)
    with sentry.safetensors.safe_open(model / "model.safetensors", trust=trust) as file:
        part = file.get_slice("half")
        file.get_tensor("half")
        assert open_below(model) == [model, model / "model.safetensors"]
    assert open_below(model) == []
    for read in (lambda: file.get_tensor("half"), lambda: part[:], file.get_tensors):
        with pytest.raises(sentry.UsageError):
            read()
    assert (part.get_shape(), file.keys()) == ([33], sorted(tensors()))


def open_below(folder: Path) -> list[Path]:
    """What this process has open of a folder."""
    descriptors = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sorted(path for path in (descriptor.readlink() for descriptor in descriptors if descriptor.is_symlink()) if folder in (path, path.parent))


def test_safe_open_checks_the_tensor_that_it_reads(signed: Path, trust: sentry.PublicKey) -> None:
    file = signed / "model.safetensors"
    with safetensors.safe_open(file, "pt") as opened:
        last = list(opened.offset_keys())[-1]
    flip(file)
    with sentry.safetensors.safe_open(file, trust=trust) as opened:
        assert torch.equal(opened.get_tensor("layer.0.weight"), tensors()["layer.0.weight"])
        for read in (lambda: opened.get_tensor(last), lambda: opened.get_slice(last)[:0], opened.get_tensors):
            error = rejected(read, sentry.ManifestError, "model_differs")
            assert (error.artifact, error.differences[0].kind) == (last, "changed_tensor")
            assert error.expected and error.found and error.expected != error.found


def test_safe_open_reads_no_tensor_but_those_asked_for(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    file = tmp_path / "large.safetensors"
    safetensors.torch.save_file({"large": torch.zeros(8 << 20, dtype=torch.uint8), "small": torch.ones(4)}, file)
    sentry.sign_model(file, key=key)
    before = bytes_read()
    with sentry.safetensors.safe_open(file, trust=trust) as opened:
        assert torch.equal(opened.get_tensor("small"), torch.ones(4))
    assert bytes_read() - before < 1 << 20


# -- torch.load --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory, key: sentry.PrivateKey) -> Path:
    """A real checkpoint of a vision model, with the random weights it is born with: alone in a signed folder."""
    from torchvision.models import resnet18

    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(3)
    torch.save(resnet18().state_dict(), folder / "resnet18.pth")
    (folder / "notes.txt").write_text("18 layers")
    sentry.sign_model(folder, key=key)
    return folder / "resnet18.pth"


def test_a_real_checkpoint_is_loaded_as_by_torch(resnet: Path, trust: sentry.PublicKey) -> None:
    loaded = sentry.torch.load(resnet, trust=trust)
    assert len(loaded) == 122 and equal(loaded, torch.load(resnet, weights_only=True))


@pytest.mark.parametrize("kind", [*SIGNATURES])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_checkpoints_of_both_formats_are_loaded(
    tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, kind: str, zipped: bool
) -> None:
    file = tmp_path / "model.pt"
    content = {"model": {**tensors()}, "epoch": 3, "names": ["a", "b"]}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    SIGNATURES[kind][0](file, key, Path(f"{file}.sig"))
    loaded = sentry.torch.load(file, trust=trust)
    assert equal(loaded.pop("model"), content.pop("model")) and loaded == content


def test_a_checkpoint_is_moved_where_map_location_says(resnet: Path, trust: sentry.PublicKey) -> None:
    for place, device in (("meta", "meta"), (torch.device("meta"), "meta"), ({"cpu": "meta"}, "meta"), (lambda storage, _: storage, "cpu")):
        assert sentry.torch.load(resnet, trust=trust, map_location=place)["fc.bias"].device.type == device


@pytest.mark.parametrize("weights_only", [False, None, 0, "yes", 1])
def test_code_in_a_checkpoint_is_never_allowed(resnet: Path, trust: sentry.PublicKey, weights_only: object) -> None:
    with pytest.raises(sentry.UsageError):
        sentry.torch.load(resnet, trust=trust, weights_only=weights_only)
    assert len(sentry.torch.load(resnet, trust=trust, weights_only=True)) == 122


# -- which signature covers a file --------------------------------------------------------------------------------------


@pytest.fixture
def deep(model: Path, key: sentry.PrivateKey) -> Path:
    """The small model with files deeper in it, signed as a whole."""
    for name in ("sub/deep.pt", "sub/deep.safetensors"):
        (model / "sub").mkdir(exist_ok=True)
        save(model / name)
    sentry.sign_model(model, key=key)
    return model


def save(file: Path) -> None:
    """Write `tensors()` in the format that the name asks for."""
    (torch.save if file.suffix == ".pt" else safetensors.torch.save_file)(tensors(), file)


def safe_open_all(path: Path, **options: Any) -> dict[str, torch.Tensor]:
    """All tensors of a file, one by one."""
    with sentry.safetensors.safe_open(path, **options) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


# Functions that take one file, and what such a file is called.
OF_ONE_FILE: dict[str, tuple[Callable[..., Any], str]] = {
    "torch.load": (lambda *path, **options: sentry.torch.load(*path, **options), "deep.pt"),
    "load_file": (lambda *path, **options: sentry.safetensors.load_file(*path, **options), "deep.safetensors"),
    "safe_open": (safe_open_all, "deep.safetensors"),
}
of_one_file = pytest.mark.parametrize("function", OF_ONE_FILE)


@of_one_file
def test_a_signature_of_the_file_or_of_its_folder_is_found(
    tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, function: str
) -> None:
    load, name = OF_ONE_FILE[function]
    file = tmp_path / "folder" / name
    file.parent.mkdir()
    save(file)
    with pytest.raises(sentry.NotCheckedError) as caught:
        load(file, trust=trust)
    assert caught.value.code == "signature_not_found"
    sentry.sign_model(file.parent, key=key)
    assert equal(load(file, trust=trust), tensors())
    assert equal(load(str(file), trust=trust), tensors())
    # Its own signature counts before the folder's, also if it is another's.
    other = sentry.PrivateKey.generate()
    sentry.sign_model(file, key=other)
    rejected(lambda: load(file, trust=trust), sentry.EnvelopeError, "signature_invalid")
    assert equal(load(file, trust=other.public_key), tensors())
    # Unless the folder is named.
    assert equal(load(file, trust=trust, root=file.parent), tensors())
    moved = tmp_path / "moved.sig"
    Path(f"{file}.sig").rename(moved)
    assert equal(load(file, trust=other.public_key, signature=moved), tensors())
    rejected(lambda: load(file, trust=trust, signature=moved), sentry.EnvelopeError, "signature_invalid")


@of_one_file
def test_a_file_deep_in_a_signed_folder_is_found_by_its_root(deep: Path, tmp_path: Path, trust: sentry.PublicKey, function: str) -> None:
    load, name = OF_ONE_FILE[function]
    file = deep / "sub" / name
    assert equal(load(file, trust=trust, root=deep), tensors())
    aside = shutil.move(deep / "model.sig", tmp_path / "aside.sig")
    assert equal(load(file, trust=trust, root=deep, signature=aside), tensors())
    with pytest.raises(sentry.NotCheckedError):
        load(file, trust=trust, root=deep)
    # A signature of many files is none of this one, unless it is told which it is.
    with pytest.raises(sentry.UsageError):
        load(file, trust=trust, signature=aside)
    # Under another root it has another name, which is not signed.
    error = rejected(lambda: load(file, trust=trust, root=file.parent, signature=aside), sentry.ManifestError, "model_differs")
    assert [(difference.kind, difference.file) for difference in error.differences] == [("unsigned_file", name)]


@of_one_file
def test_a_path_that_leaves_its_root_is_refused(deep: Path, trust: sentry.PublicKey, function: str) -> None:
    load, name = OF_ONE_FILE[function]
    outside = deep.parent / name
    shutil.copy(deep / "sub" / name, outside)
    with pytest.raises(sentry.UsageError):
        load(outside, trust=trust, root=deep)
    for path in (deep / ".." / name, deep / "sub" / ".." / ".." / name, deep / "sub" / ".." / "sub" / name):
        rejected(lambda path=path: load(path, trust=trust, root=deep), sentry.PathError, "unsafe_path")


@of_one_file
def test_a_file_that_is_not_signed_is_not_opened(deep: Path, trust: sentry.PublicKey, function: str, watch: Callable[[Path], Watch]) -> None:
    load, name = OF_ONE_FILE[function]
    save(deep / f"extra-{name}")
    seen = watch(deep)
    error = rejected(lambda: load(deep / f"extra-{name}", trust=trust), sentry.ManifestError, "model_differs")
    assert (error.artifact, error.differences[0].kind) == (f"extra-{name}", "unsigned_file")
    assert seen.opened() == {"model.sig": 1}


@of_one_file
def test_a_folder_is_no_file(deep: Path, trust: sentry.PublicKey, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load, _ = OF_ONE_FILE[function]
    monkeypatch.chdir(deep)
    for path in (".", ""):
        rejected(lambda path=path: load(path, trust=trust), sentry.ManifestError, "model_differs")
    rejected(lambda: load(deep / "sub", trust=trust), sentry.ManifestError, "model_differs")


@of_one_file
def test_the_signature_of_one_file_is_not_that_of_another(
    tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, function: str
) -> None:
    load, name = OF_ONE_FILE[function]
    file, other = tmp_path / name, tmp_path / f"other-{name}"
    save(file)
    shutil.copy(file, other)
    sentry.sign_model(file, key=key)
    shutil.copy(f"{file}.sig", f"{other}.sig")
    error = rejected(lambda: load(other, trust=trust), sentry.ManifestError, "model_differs")
    assert [(difference.kind, difference.file) for difference in error.differences] == [("missing_file", name)]


# -- nothing is trusted by default --------------------------------------------------------------------------------------

LOADERS: dict[str, Callable[..., Any]] = {
    "load_model": lambda folder, **options: sentry.load_model(folder, **options),
    "load_file": lambda folder, **options: sentry.safetensors.load_file(folder / "model.safetensors", **options),
    "safe_open": lambda folder, **options: sentry.safetensors.safe_open(folder / "model.safetensors", **options),
    "torch.load": lambda folder, **options: sentry.torch.load(folder / "model.pt", **options),
}
every_loader = pytest.mark.parametrize("loader", LOADERS)


@pytest.fixture
def loadable(model: Path, key: sentry.PrivateKey) -> Path:
    """A signed folder that each loader can load from."""
    save(model / "model.pt")
    sentry.sign_model(model, key=key)
    return model


@every_loader
def test_whom_to_trust_has_to_be_said(loadable: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, loader: str) -> None:
    load = LOADERS[loader]
    load(loadable, trust=trust)
    with pytest.raises(TypeError):
        load(loadable)
    for nobody in (None, True, False, "", str(loadable / "model.sig"), trust.pem, trust.fingerprint, [trust], key, object()):
        with pytest.raises(sentry.UsageError, match="whom you trust"):
            load(loadable, trust=nobody)


@every_loader
def test_a_stranger_is_not_trusted(loadable: Path, stranger: sentry.PublicKey, loader: str, watch: Callable[[Path], Watch]) -> None:
    seen = watch(loadable)
    rejected(lambda: LOADERS[loader](loadable, trust=stranger), sentry.EnvelopeError, "signature_invalid")
    # Nothing but the signature was even opened.
    assert seen.opened() == {"model.sig": 1}


@every_loader
def test_trust_cannot_be_passed_by_position(loadable: Path, trust: sentry.PublicKey, loader: str) -> None:
    functions: dict[str, Callable[..., Any]] = {
        "load_model": sentry.load_model,
        "load_file": sentry.safetensors.load_file,
        "safe_open": sentry.safetensors.safe_open,
        "torch.load": sentry.torch.load,
    }
    with pytest.raises(TypeError):
        functions[loader](loadable, "cpu", trust)


@pytest.mark.parametrize("loader", ["load_model", "load_file", "safe_open"])
def test_frameworks_and_devices_that_are_not_there(loadable: Path, trust: sentry.PublicKey, loader: str) -> None:
    load = LOADERS[loader]
    wrong: list[dict[str, Any]] = [{"framework": name} for name in ("tensorflow", "flax", "", None)]
    wrong += [{"framework": "numpy", "device": "cuda:0"}, {"device": "no such device"}, {"device": object()}, {"device": "cuda:99"}]
    for options in wrong:
        with pytest.raises(sentry.UsageError):
            load(loadable, trust=trust, **options)


def test_a_device_that_is_not_there_is_told_before_anything_is_read(
    loadable: Path, trust: sentry.PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentry._allocate._torch_bytes", lambda nbytes: pytest.fail("memory was taken for a device that is not there"))
    with pytest.raises(sentry.UsageError):
        sentry.load_model(loadable, trust=trust, device="cuda:99")


WITHOUT_ML_DTYPES = """
import sys
sys.modules["ml_dtypes"] = None
import sentry
try:
    sentry.load_model(sys.argv[1], trust=sentry.PublicKey(sys.argv[1] + "/trust.pub"), framework="numpy")
except sentry.UsageError as error:
    assert "install ml_dtypes" in str(error), error
    print(error.code)
"""


def test_types_that_a_library_lacks_are_named(
    varied: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    sentry.sign_model(varied, key=key)
    # Once it is imported, numpy knows the types as well: so in another process.
    (varied / "trust.pub").write_text(trust.pem)
    run = subprocess.run([sys.executable, "-c", WITHOUT_ML_DTYPES, varied], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("usage\n", "")
    monkeypatch.delattr(torch, "float8_e8m0fnu")
    with pytest.raises(sentry.UsageError, match="F8_E8M0"):
        sentry.load_model(varied, trust=trust)


def test_a_signature_of_tensors_loads_no_files(model: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model(tensors(), key=key, signature=model / "model.sig")
    rejected(lambda: sentry.load_model(model, trust=trust), sentry.EnvelopeError, "predicate_type")


# -- read once ---------------------------------------------------------------------------------------------------------


def bytes_read() -> int:
    """How many bytes this process has read so far, in all its threads."""
    return int(Path("/proc/self/io").read_text().split()[1])


@every_signature
def test_every_byte_is_read_once(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, kind: str) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    size = 6 << 20
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name in names:
        safetensors.torch.save_file({name: torch.arange(size // 8)}, folder / name)
    index = {"metadata": {}, "weight_map": {name: name for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    signature = tmp_path / "other.sig"
    # Few shards, so that the signature is small.
    few = {
        "shards": by_sentry(shard_size=size // 3),
        "blake2b shards": by_sentry(shard_size=1_000_001, hash="blake2b"),
        "model_signing shards": by_model_signing("sha256", 1_000_001),
    }
    few.get(kind, SIGNATURES[kind][0])(folder, key, signature)
    for framework in ("numpy", "torch"):
        before = bytes_read()
        loaded = sentry.load_model(folder, trust=trust, signature=signature, framework=framework)
        assert len(loaded) == 2
        assert 2 * size <= bytes_read() - before < 2 * size + (1 << 18)


@every_signature
def test_no_file_is_opened_twice_and_no_other_at_all(
    sharded: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path, kind: str, watch: Callable[[Path], Watch]
) -> None:
    (sharded / "model.sig").unlink()
    (sharded / "signed.txt").write_text("signed, and not needed")
    signature = tmp_path / "other.sig"
    SIGNATURES[kind][0](sharded, key, signature)
    (sharded / "pytorch_model.bin").write_bytes(b"unsigned")
    os.mkfifo(sharded / "pipe.safetensors")
    # So that whoever opens the pipe by mistake need not wait.
    pipe = os.open(sharded / "pipe.safetensors", os.O_RDWR)
    (sharded / "link.json").symlink_to("nowhere")
    seen = watch(sharded)
    loaded = sentry.load_model(sharded, trust=trust, signature=signature)
    os.close(pipe)
    parts = {"model-00001-of-00002.safetensors": 1, "model-00002-of-00002.safetensors": 1}
    assert equal(loaded, tensors()) and seen.opened() == {"model.safetensors.index.json": 1, **parts}


@pytest.mark.parametrize("annotate", [True, False], ids=["by tensor", "whole"])
def test_one_file_is_opened_once(
    loadable: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, annotate: bool, watch: Callable[[Path], Watch]
) -> None:
    sentry.sign_model(loadable, key=key, annotate=annotate)
    seen = watch(loadable)
    for loader, name in (("load_model", "model.safetensors"), ("load_file", "model.safetensors"), ("torch.load", "model.pt")):
        LOADERS[loader](loadable, trust=trust)
        assert seen.opened() == {"model.sig": 1, name: 1}, loader
    safe_open_all(loadable / "model.safetensors", trust=trust)
    assert seen.opened() == {"model.sig": 1, "model.safetensors": 1}
