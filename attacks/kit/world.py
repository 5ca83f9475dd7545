"""The temporary folder of one case: an honest model, its signer, and what to run on them."""

import json
import os
import shutil
import sys
from pathlib import Path

from . import oms, tensors
from .case import Attempt
from .keys import Key, key
from .tensors import Tensor

# A program that calls the Python package. -P: nothing of this folder is imported under the name of another's module.
CALLER = [sys.executable, "-P", str(Path(__file__).with_name("load.py"))]

FIRST = "model-00001-of-00002.safetensors"
SECOND = "model-00002-of-00002.safetensors"
BLOB = "weights/blob.bin"
BLOB_SIZE = 300_000  # several blocks of any hash and of any reader

FIRST_TENSORS = [
    Tensor("embed.weight", "F16", [8, 4]),
    Tensor("layer.0.weight", "F32", [4, 6], seed=7),
    Tensor("layer.1.weight", "F32", [4, 6], seed=90),
    Tensor("layer.bias", "F32", [6], seed=30),
]
SECOND_TENSORS = [Tensor("head.weight", "BF16", [4, 8]), Tensor("head.bias", "F32", [4], seed=5)]

# "tokenizer.json" stands before "tokenizer/..." by code points, and after it by path component.
FILES = {
    "config.json": b'{"architectures": ["Tiny"], "hidden_size": 4}\n',
    FIRST: tensors.encode(FIRST_TENSORS),
    SECOND: tensors.encode(SECOND_TENSORS),
    "tokenizer.json": b'{"model": {"type": "BPE"}}\n',
    "tokenizer/merges.txt": b"l o\nlo w\n",
    "tokenizer/vocab.txt": b"l\no\nw\n",
    BLOB: tensors.pattern(BLOB_SIZE),
}


class World:
    """Where a case builds its fixture. `model` is the artifact, `signature` the bundle."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "model"
        self.signature = self.model / "model.sig"
        self.signer: Key = key()
        self.trusted: Key = self.signer

    # -- building ---------------------------------------------------------------------------

    def write(self, name: str, content: bytes) -> Path:
        """Writes a file of the model."""
        path = self.model / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def base(self) -> Path:
        """The honest model, unsigned."""
        for name, content in FILES.items():
            self.write(name, content)
        return self.model

    def statement(self, **options) -> dict:
        """The honest statement of the model, which is built if it is not there."""
        if not self.model.exists():
            self.base()
        return oms.of_directory(self.model, **options)

    def sign(self, statement: dict) -> None:
        """Signs a statement, whatever it says."""
        self.sign_payload(oms.encode(statement))

    def sign_payload(self, payload: bytes, payload_type: str = oms.PAYLOAD_TYPE) -> None:
        """Signs any bytes."""
        self.write_bundle(oms.bundle(payload, self.signer, payload_type))

    def write_bundle(self, bundle: dict) -> None:
        """Writes a bundle as it is."""
        self.signature.write_bytes(json.dumps(bundle).encode())

    def honest(self, **options) -> dict:
        """The honest model, honestly signed."""
        statement = self.statement(**options)
        self.sign(statement)
        return statement

    def bundle(self) -> dict:
        """The honest model, and its honest bundle for the fixture to spoil."""
        return oms.bundle(oms.encode(self.statement()), self.signer)

    def single(self, content: bytes, name: str = "weights.safetensors") -> None:
        """Turns the artifact into a single file, its signature beside it."""
        self.model = self.root / name
        self.model.write_bytes(content)
        self.signature = self.root / f"{name}.sig"

    # -- running ----------------------------------------------------------------------------

    def trusted_pem(self) -> bytes:
        """What `--key` of verify is given, unless the fixture wrote a file of its own."""
        return self.trusted.public_pem()

    def public_key(self) -> Path:
        """The file for `--key` of verify; a fixture may have written it already."""
        path = self.root / "sentry.pub"
        if not path.exists():
            path.write_bytes(self.trusted_pem())
        return path

    def private_key(self) -> Path:
        """The file for `--key` of sign; a fixture may have written it already."""
        path = self.root / "sentry.key"
        if not path.exists():
            path.write_bytes(self.signer.private_pem())
            path.chmod(0o600)
        return path

    def _where(self) -> list[str]:
        default = self.model / "model.sig" if self.model.is_dir() else f"{self.model}.sig"
        return [] if str(self.signature) == str(default) else ["--signature", str(self.signature)]

    def verify(self, *extra: str, differences: set | None = None, **options) -> Attempt:
        """Verifies the artifact with the trusted key."""
        args = ["verify", str(self.model), "--key", str(self.public_key()), *self._where()]
        return Attempt([*args, *extra, "--json"], differences, **options)

    def loading(self, *extra: str, differences: set | None = None, **options) -> Attempt:
        """Loads the artifact's weights by the command, with the trusted key."""
        args = ["load", str(self.model), "--key", str(self.public_key()), *self._where()]
        return Attempt([*args, *extra, "--json"], differences, **options)

    def calling(
        self, function: str, *extra: str, path: Path | None = None, weights: tuple[str, ...] = (), differences: set | None = None, **options
    ) -> Attempt:
        """Calls a function of the Python package on the artifact, or on a file of it, with the trusted key: see load.py."""
        args = [function, str(path or self.model), "--key", str(self.public_key()), *self._where(), *extra]
        for name in weights:
            args += ["--weights", name]
        return Attempt([*args, "--json"], differences, program=CALLER, **options)

    def signing(self, *extra: str, **options) -> Attempt:
        """Signs the artifact with the signer's key."""
        args = ["sign", str(self.model), "--key", str(self.private_key()), *self._where()]
        return Attempt([*args, *extra, "--json"], **options)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flips one bit; a negative offset counts from the end."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


def data_offset(content: bytes, tensor: str) -> int:
    """Where in the file a tensor's bytes begin."""
    begin = dict(tensors.entries(content))[tensor]["data_offsets"][0]
    return len(tensors.split(content)[0]) + begin


def sparse(path: Path, size: int) -> Path:
    """A file of `size` zero bytes that takes no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def remove(folder: Path) -> None:
    """Removes a tree, also where a fixture took the rights away."""

    def allow(function, path, _):
        os.chmod(os.path.dirname(path), 0o700)
        os.chmod(path, 0o700)
        function(path)

    shutil.rmtree(folder, onerror=allow)
