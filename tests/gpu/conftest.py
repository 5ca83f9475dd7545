"""Fixtures of the tests that need a GPU: `make gpu` runs them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentry
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="session", autouse=True)
def gpu() -> torch.device:
    """The first GPU. Without one these tests fail, for they would show nothing."""
    assert torch.cuda.is_available(), "these tests need a GPU"
    return torch.device("cuda:0")


@pytest.fixture(scope="session")
def key() -> sentry.PrivateKey:
    """The publisher's key."""
    return sentry.PrivateKey.generate()


@pytest.fixture(scope="session")
def trust(key: sentry.PrivateKey) -> sentry.PublicKey:
    """Trust in the publisher."""
    return key.public_key


class Net(torch.nn.Module):
    """Tied weights, a persistent and a non-persistent buffer, several types and sizes, from nothing to several MiB."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.embed = torch.nn.Embedding(1000, 512)
        self.body = torch.nn.Sequential(torch.nn.Linear(512, 2048), torch.nn.GELU(), torch.nn.Linear(2048, 512), torch.nn.BatchNorm1d(512))
        self.small = torch.nn.Linear(512, 512).bfloat16()
        self.head = torch.nn.Linear(512, 1000, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.tensor(3.0))
        self.register_buffer("nothing", torch.empty(0, 4))
        self.register_buffer("positions", torch.arange(77), persistent=False)


@pytest.fixture
def net() -> Net:
    """A model in this machine's memory."""
    return Net()


@pytest.fixture
def net_signature(net: Net, key: sentry.PrivateKey, tmp_path: Path) -> Path:
    """A signature of the tensors of `net`, made while they were in this machine's memory."""
    path = tmp_path / "net.sig"
    sentry.sign_model(net, key=key, signature=path)
    return path


@pytest.fixture
def net_folder(net: Net, key: sentry.PrivateKey, tmp_path: Path) -> Path:
    """The same model as a signed folder."""
    folder = tmp_path / "net"
    folder.mkdir()
    state = {name: tensor.detach().contiguous() for name, tensor in net.state_dict().items() if name != "head.weight"}
    save_file(state, folder / "model.safetensors")
    sentry.sign_model(folder, key=key)
    return folder


@pytest.fixture
def at_the_same_time() -> Callable[[Callable[[], None], int], None]:
    """Runs a call in several threads, and fails if it does in one of them."""

    def run(call: Callable[[], None], number: int) -> None:
        failures: list[BaseException] = []

        def guarded() -> None:
            try:
                call()
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=guarded) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures

    return run


@pytest.fixture
def rejected() -> Callable[..., sentry.VerificationError]:
    """Runs a call that must be rejected; returns the error."""

    def run(call: Callable[[], Any]) -> sentry.VerificationError:
        with pytest.raises(sentry.VerificationError) as caught:
            call()
        return caught.value

    return run
