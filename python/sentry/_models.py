"""Signing, verifying and loading models: files, modules and mappings of tensors by the same verbs."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Union

from . import _allocate, _native, _tensors
from ._errors import Error, UsageError, signing_error
from ._trust import Path, Paths, Trust, check_trust, paths, signatures

if TYPE_CHECKING:
    import numpy
    import torch

    Tensor = Union[torch.Tensor, numpy.ndarray, Any]
    Model = Union[Path, torch.nn.Module, Mapping[str, Tensor]]


# Every JSON reader keeps whole numbers up to here.
_LARGEST_VERSION = (1 << 53) - 1


def check_version(version: int | None) -> None:
    """Refuse a version that no statement can have.

    Raises
    ------
    UsageError
        It is negative, or more than 2^53 - 1.
    """
    if version is not None and not 0 <= version <= _LARGEST_VERSION:
        raise UsageError(f"a version is a whole number from 0 to 2^53 - 1, not {version}")


def sign_model(
    model: Model,
    *,
    key: Path | _native.PrivateKey,
    certificate: Path | None = None,
    chain: Paths = (),
    timestamp: str | None = None,
    signature: Path | None = None,
    hash: str | None = None,
    version: int | None = None,
    subject: str | None = None,
    ignore: Iterable[str] = (),
    allow_symlinks: bool = False,
    shard_size: int | None = None,
    annotate: bool = True,
    device: str = "auto",
    share: float | None = None,
    dangerous_allow_ca_leaf: bool = False,
) -> _native.Signature:
    """Sign a model: the files of a folder, one file, or tensors in memory.

    Parameters
    ----------
    model
        A path; or a torch module, whose state is signed; or a mapping of names to tensors of torch or numpy, DLPack tensors
        or buffers. Tensors are signed as they lie: any shape, also 0-d and empty, of a type that safetensors has.
    key
        The private key, or the path of its PEM file.
    certificate, chain
        PEM files with the key's certificate and those of the authorities between it and the root, which may also stand in the
        first file.
    timestamp
        The address of an authority that timestamps the signature (RFC 3161).
    signature
        Where to write the signature. Default for a folder: ``model.sig`` inside it; for a file: ``NAME.sig`` beside it. For
        tensors it must be given.
    hash
        For files ``"sha256"`` (default), ``"blake2b"`` or ``"blake3"``; for tensors ``"blake3"`` (default) or
        ``"sha256-tree"``.
    version
        The model's version, at most 2^53 - 1.
    subject
        The name under which tensors are signed. Default: the module's class. Files are signed under their own name.
    ignore, allow_symlinks, shard_size, annotate
        For files: paths inside the model to leave out; whether links that stay inside it are followed; the size in bytes of
        shards to sign instead of files; whether to add digests of each tensor (without them nothing but the files can be
        verified).
    device, share
        For tensors: as for :func:`verify_model`.
    dangerous_allow_ca_leaf
        Sign with the certificate of an authority. Verifiers reject that unless told otherwise.

    Returns
    -------
    Signature
        Where it is and what it covers.

    Raises
    ------
    SigningError
        The model has something that no signature can cover, or no timestamp was to be had. No signature was written.
    UsageError
        The options contradict each other, a tensor cannot be hashed as it lies, or the key or certificate cannot be used.
    """
    hashing = Hashing(device, share)
    private = key if isinstance(key, _native.PrivateKey) else _native.PrivateKey(key)
    if certificate is None and (paths(chain) or dangerous_allow_ca_leaf):
        raise UsageError("chain and dangerous_allow_ca_leaf are about a certificate: certificate=...")
    check_version(version)
    signing = Signing(private, certificate, paths(chain), dangerous_allow_ca_leaf, timestamp)
    try:
        if isinstance(model, (str, os.PathLike)):
            hashing.check_files()
            if subject is not None:
                raise UsageError("files are signed under their own name: subject is for tensors")
            return _native.sign_files(
                model,
                signing,
                signature=signature,
                hash=hash or "sha256",
                shard_size=shard_size,
                ignore=_tensors.names(ignore),
                allow_symlinks=allow_symlinks,
                version=version,
                annotate=annotate,
            )
        if signature is None:
            raise UsageError("say where to write the signature of tensors: signature=...")
        if tuple(ignore) or allow_symlinks or shard_size is not None or not annotate:
            raise UsageError("ignore, allow_symlinks, shard_size and annotate are about files")
        digests = hashing.hash_all(model, lambda: _native.TensorDigests(hash or "blake3"))
        named_by = _tensors.plain_module(model) if _tensors.is_module(model) else model
        return digests.sign(type(named_by).__name__ if subject is None else subject, version, signing, signature)
    except Error as error:
        raise signing_error(error) from None


def verify_model(
    model: Model,
    signature: Paths | None = None,
    *,
    trust: Trust,
    allow_missing: Iterable[str] = (),
    weights: Iterable[str] | None = None,
    ignore: Iterable[str] = (),
    allow_unsigned_files: bool = False,
    device: str = "auto",
    share: float | None = None,
) -> _native.Verification:
    """Verify a model: the files of a folder, one file, or tensors in memory.

    A module in memory is verified against either kind of signature: one of tensors, or one of files that Sentry made, which
    lists the tensors of safetensors files. Every tensor of the module's state must be signed with its type, shape and bytes,
    and every signed one must be there. Three things are accepted and listed in the result: a name that is not signed and
    shares its memory, type and shape with one that is (tied weights; for signatures of files); a non-persistent buffer that
    is not signed; and signed tensors that `allow_missing` names. A signed tensor that is no part of the state but equals a
    non-persistent buffer counts as there.

    While this runs, nothing may write to the tensors.

    Parameters
    ----------
    model
        As for :func:`sign_model`.
    signature
        The signature file; several if the policy asks for several signers. Default for a folder: ``model.sig`` inside it; for a
        file: ``NAME.sig`` beside it.
    trust
        Who may have signed: a :class:`PublicKey`, a :class:`Certificate` or a :class:`Policy`.
    allow_missing
        Names of signed tensors that a module may lack.
    weights
        For a module and a signature of files: which files hold its weights. Default: ``model.safetensors``, else the files
        of its index, else the only safetensors file.
    ignore, allow_unsigned_files
        For files: paths inside the model to leave out; whether unsigned files may lie there. Neither lets a signed file be
        changed.
    device
        Where tensors are hashed. ``"auto"``: where they lie, those on NVIDIA GPUs in place, on torch's current stream, and all others
        by this machine's cores. ``"cuda"`` or ``"cuda:N"``: those in this machine's memory by that GPU as well. ``"cpu"``: all by the
        cores. What has to be copied to this machine's memory is copied a few tensors at a time.
    share
        For tensors on GPUs: hash on this share of a GPU's multiprocessors, more than 0 and at most 1, at the lowest priority, so that
        other work on the GPU keeps its speed. Default: all of it, as soon as the current stream gets there.

    Returns
    -------
    Verification
        Who signed, and what was checked.

    Raises
    ------
    VerificationError
        The model or its signature is wrong; the subclass says in which way.
    NotCheckedError, UsageError
        It could not be checked.
    """
    check_trust(trust)
    hashing = Hashing(device, share)
    missing = _tensors.names(allow_missing)
    files = None if weights is None else _tensors.names(weights)
    if isinstance(model, (str, os.PathLike)):
        if missing or files is not None:
            raise UsageError("allow_missing and weights are about models in memory")
        hashing.check_files()
        return _native.verify_files(
            model, trust, signatures=signatures(signature), ignore=_tensors.names(ignore), allow_unsigned=allow_unsigned_files
        )
    if signature is None:
        raise UsageError("say which signature to verify tensors with: verify_model(model, 'model.sig', trust=...)")
    if tuple(ignore) or allow_unsigned_files:
        raise UsageError("ignore and allow_unsigned_files are about files")
    # The signature is checked while the tensors are looked up; nothing is hashed before it is known to hold.
    check = _native.TensorsCheck(signatures(signature), files, trust)
    digests = hashing.hash_all(model, check.digests)
    return check.confirm(digests, set(missing))


@dataclass(frozen=True)
class Hashing:
    """Where tensors are hashed."""

    device: str
    share: float | None

    def __post_init__(self) -> None:
        if not (isinstance(self.device, str) and re.fullmatch(r"auto|cpu|cuda(:\d{1,4})?", self.device)):
            raise UsageError(f"device is 'auto', 'cpu', 'cuda' or 'cuda:N', not {self.device!r}")
        if self.share is not None and not 0 < self.share <= 1:
            raise UsageError(f"share is more than 0 and at most 1, not {self.share!r}")
        if self.share is not None and self.device == "cpu":
            raise UsageError("share is about hashing on a GPU, and device='cpu' does not")

    def check_files(self) -> None:
        """Refuses what is about tensors."""
        if self.device not in ("auto", "cpu") or self.share is not None:
            raise UsageError("files are hashed on the CPU: device and share are about models in memory")

    def hash_all(self, model: object, collect: Callable[[], _native.TensorDigests]) -> _native.TensorDigests:
        """The digests of a model's tensors, in what `collect` returns; it is asked for that once the first tensors are known."""
        devices = _tensors.Devices(in_place=self.device != "cpu")
        # What is not in place is hashed by the cores unless a GPU is named.
        rest = "cpu" if self.device == "auto" else self.device
        batches = _tensors.batches(model, devices)
        try:
            views = next(batches)
        except UsageError:
            # What `collect` has to say, such as that a signature does not hold, is said first.
            collect()
            raise
        digests = collect()
        for views in itertools.chain((views,), batches):
            digests.add(views, [*devices.streams.items()], rest, self.share)
        return digests


@dataclass(frozen=True)
class Signing:
    """With what a model is signed."""

    key: _native.PrivateKey
    certificate: Path | None
    chain: list[Path]
    allow_ca_leaf: bool
    timestamp: str | None


class VerifiedTensors(dict[str, Any]):
    """Tensors by name, all of them verified.

    Attributes
    ----------
    verification
        Who signed, and what was checked.
    """

    verification: _native.Verification


def load_model(
    path: Path,
    *,
    trust: Trust,
    signature: Paths | None = None,
    framework: Literal["torch", "numpy"] = "torch",
    device: Any = "cpu",
    weights: Iterable[str] | None = None,
) -> VerifiedTensors:
    """Load the weights of a signed model: every byte is read once, hashed as it arrives, and handed out if all are right.

    Only signed files are opened, each once, beneath one handle on the model: what else lies there, such as pickles, is never
    looked at. Files are checked by the digests of their tensors where the signature has them, and by their own otherwise.

    Parameters
    ----------
    path
        A folder with ``model.safetensors``, or with ``model.safetensors.index.json`` and the files that it names; or one
        safetensors file.
    trust
        Who may have signed: a :class:`PublicKey`, a :class:`Certificate` or a :class:`Policy`.
    signature
        The signature file; several if the policy asks for several signers. Default: ``model.sig`` in the folder,
        ``NAME.sig`` beside the file.
    framework
        ``"torch"`` or ``"numpy"``. numpy needs the package ``ml_dtypes`` for bfloat16 and 8-bit floats.
    device
        For torch: a device, or a device map from names of modules to devices. Bytes for NVIDIA GPUs are read straight to them and verified
        there; for other devices tensors are verified in this machine's memory and moved.
    weights
        Names of the safetensors files to load instead.

    Returns
    -------
    VerifiedTensors
        A dict of names to tensors, and in ``verification`` what was checked. Each tensor has memory of its own; on an NVIDIA GPU those of
        one file are views of one buffer, which stays as long as one of them does.

    Raises
    ------
    VerificationError
        The model or its signature is wrong. Nothing is returned, and the memory is freed.
    NotCheckedError, UsageError
        It could not be loaded.
    """
    check_trust(trust)
    reader = _native.Reader(path, signatures(signature), trust)
    files = reader.open_weights(None if weights is None else _tensors.names(weights))
    return load_files(reader, files, framework, device)


def load_files(reader: _native.Reader, files: list[_native.SignedFile], framework: str, device: Any) -> VerifiedTensors:
    """The tensors of open files."""
    allocator = _allocate.allocator(framework, device)
    rooms = [allocator.file(file) for file in files]
    try:
        verification = reader.load_tensors(files, [room.regions for room in rooms], allocator.streams())
    except BaseException:
        # The traceback, which a notebook keeps, would keep the memory.
        rooms.clear()
        raise
    # Nothing before this line has been checked, and nothing after it is unchecked.
    tensors = VerifiedTensors()
    for room in rooms:
        tensors.update(room.tensors())
    tensors.verification = verification
    return tensors
