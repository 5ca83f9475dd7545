"""Fixtures of the Python package's tests: keys, models small and real, and ways to spoil them.

The package under test is the one that is installed, as `pip install .` leaves it.
"""

from __future__ import annotations

import base64
import ctypes
import datetime
import json
import os
import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sentry
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def key() -> sentry.PrivateKey:
    """The publisher's key."""
    return sentry.PrivateKey.generate()


@pytest.fixture(scope="session")
def trust(key: sentry.PrivateKey) -> sentry.PublicKey:
    """Trust in the publisher."""
    return key.public_key


@pytest.fixture(scope="session")
def stranger() -> sentry.PublicKey:
    """The key of somebody else."""
    return sentry.PrivateKey.generate().public_key


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2 as published, unsigned and not to be changed: 104 tensors in one safetensors file."""
    run = subprocess.run([ROOT / "scripts/fetch-model.sh"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(run.stdout.strip())


@pytest.fixture(scope="session")
def signed_minilm(minilm: Path, key: sentry.PrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed copy of MiniLM, not to be changed; copy it for that with `copy_of`."""
    folder = tmp_path_factory.mktemp("minilm") / "all-MiniLM-L6-v2"
    shutil.copytree(minilm, folder)
    sentry.sign_model(folder, key=key)
    return folder


def tensors() -> dict[str, torch.Tensor]:
    """Tensors of many types and shapes, among them two pairs that only their names tell apart."""
    generator = torch.Generator().manual_seed(7)
    return {
        "embedding.weight": torch.randn(50, 16, generator=generator),
        "layer.0.weight": torch.randn(16, 16, generator=generator),
        "layer.0.bias": torch.randn(16, generator=generator),
        "layer.1.weight": torch.randn(16, 16, generator=generator),
        "layer.1.bias": torch.randn(16, generator=generator),
        "half": torch.randn(33, generator=generator).half(),
        "brain": torch.randn(33, generator=generator).bfloat16(),
        "mask": torch.rand(7, 3, generator=generator) > 0.5,
        "steps": torch.arange(11),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "empty": torch.empty(0, 4),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model, unsigned: config.json and model.safetensors with `tensors()`."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"hidden": 16}\n')
    save_file(tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def signed(model: Path, key: sentry.PrivateKey) -> Path:
    """The small model, signed."""
    sentry.sign_model(model, key=key)
    return model


@pytest.fixture
def sharded(tmp_path: Path, key: sentry.PrivateKey) -> Path:
    """`tensors()` in two files with an index, signed."""
    folder = tmp_path / "sharded"
    folder.mkdir()
    everything = list(tensors().items())
    parts = {"model-00001-of-00002.safetensors": everything[:5], "model-00002-of-00002.safetensors": everything[5:]}
    for name, part in parts.items():
        save_file(dict(part), folder / name)
    weight_map = {tensor: name for name, part in parts.items() for tensor, _ in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    sentry.sign_model(folder, key=key)
    return folder


def flip(path: Path, offset: int = -1) -> None:
    """Flip the lowest bit of one byte in place."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def rejected(call: Callable[[], object], error: type[sentry.VerificationError], code: str) -> sentry.VerificationError:
    """Assert that a call is rejected with exactly this exception and code, and return it."""
    with pytest.raises(sentry.Error) as caught:
        call()
    assert (type(caught.value), caught.value.code) == (error, code), caught.value
    assert "verified" not in str(caught.value)
    return caught.value


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are the same, bit by bit."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].shape == other[name].shape and torch.equal(one[name], other[name]) for name in one
    )


def state() -> dict[str, torch.Tensor]:
    """`tensors()` and 8-bit floats, under names that a module can have."""
    generator = torch.Generator().manual_seed(8)
    eighths = {
        "eighth": torch.randn(16, generator=generator).to(torch.float8_e4m3fn),
        "other_eighth": torch.randn(16, generator=generator).to(torch.float8_e5m2),
    }
    return {"halves" if name == "half" else name: tensor for name, tensor in tensors().items()} | eighths


def module_of(tensors: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """A module whose state is these tensors: floats are its parameters, others its buffers."""
    root = torch.nn.Module()
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, torch.nn.Module())
            module = module.get_submodule(part)
        if tensor.is_floating_point():
            module.register_parameter(leaf, torch.nn.Parameter(tensor, requires_grad=False))
        else:
            module.register_buffer(leaf, tensor)
    return root


def different(error: sentry.VerificationError) -> list[tuple[str, str | None]]:
    """Kind and tensor of every difference."""
    return [(difference.kind, difference.tensor) for difference in error.differences]


class Watch:
    """Which files of a folder are opened, as the kernel tells it."""

    _ACCESS, _CLOSE, _OPEN = 0x1, 0x10, 0x20
    _EVENT = struct.Struct("iIII")

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._queue = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        # Reading and closing too: two events that are alike and next to each other count as one.
        assert self._queue >= 0 and libc.inotify_add_watch(self._queue, bytes(folder), self._ACCESS | self._CLOSE | self._OPEN) >= 0

    def opened(self) -> dict[str, int]:
        """How often each file was opened since the last time."""
        try:
            events = os.read(self._queue, 1 << 20)
        except BlockingIOError:
            return {}
        count: Counter[str] = Counter()
        while events:
            _, mask, _, length = self._EVENT.unpack_from(events)
            end = self._EVENT.size + length
            name = events[self._EVENT.size : end].rstrip(b"\0").decode()
            if mask & self._OPEN and name:
                count[name] += 1
            events = events[end:]
        return dict(count)

    def close(self) -> None:
        """Watch no longer."""
        os.close(self._queue)


@pytest.fixture
def watch() -> Iterator[Callable[[Path], Watch]]:
    """Starts to watch a folder."""
    watches: list[Watch] = []

    def start(folder: Path) -> Watch:
        watches.append(Watch(folder))
        return watches[-1]

    yield start
    for each in watches:
        each.close()


def sign_file(tensors: Mapping[str, torch.Tensor], folder: Path, key: sentry.PrivateKey) -> Path:
    """Save tensors as the model.safetensors of a folder, sign it, and return the signature."""
    folder.mkdir(exist_ok=True)
    save_file(dict(tensors), folder / "model.safetensors")
    return Path(sentry.sign_model(folder, key=key).path)


class Export:
    """A tensor that offers DLPack and nothing else."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


def make_certificates(folder: Path, name: str = "release@acme.example") -> None:
    """A certificate of this address under two authorities, valid for a day: root.pem, intermediate.pem, leaf.pem, leaf.key."""
    names = {role: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Acme {role}")]) for role in ("root", "intermediate", "leaf")}
    keys = {role: ec.generate_private_key(ec.SECP256R1()) for role in names}
    now = datetime.datetime.now(datetime.UTC)
    for role, issuer in (("root", "root"), ("intermediate", "root"), ("leaf", "intermediate")):
        is_leaf = role == "leaf"
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)
        builder = (
            x509.CertificateBuilder(names[issuer], names[role], keys[role].public_key(), x509.random_serial_number(), now, now + datetime.timedelta(1))
            .add_extension(x509.BasicConstraints(ca=not is_leaf, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(digital_signature=is_leaf, key_cert_sign=not is_leaf, crl_sign=not is_leaf, **usage), critical=True)
        )
        if is_leaf:
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(name)]), critical=False)
        made = builder.sign(keys[issuer], hashes.SHA256())
        (folder / f"{role}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "leaf.key").write_bytes(keys["leaf"].private_bytes(*form))


Bundle = dict[str, Any]


def edit_bundle(signature: Path, change: Callable[[Bundle], object]) -> None:
    """Change what a signature file says."""
    bundle = json.loads(signature.read_text())
    change(bundle)
    signature.write_text(json.dumps(bundle))


def payload_of(bundle: Bundle) -> Any:
    """The statement that was signed."""
    return json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))


def seal(bundle: Bundle, key: ec.EllipticCurvePrivateKey, payload: Any = None) -> None:
    """Sign the statement of a bundle once more, or another one, with a key on P-256 that Sentry would not sign this with."""
    envelope = bundle["dsseEnvelope"]
    if payload is not None:
        envelope["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    text, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(text), text)
    envelope["signatures"][0]["sig"] = base64.b64encode(key.sign(message, ec.ECDSA(hashes.SHA256()))).decode()
