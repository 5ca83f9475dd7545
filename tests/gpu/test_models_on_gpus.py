"""Models in the memory of GPUs: signed and verified in place, with the digests that a CPU computes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentry
import torch

DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64", "float8_e4m3fn"]


def test_signed_in_one_memory_verifies_in_the_other(net: Any, net_signature: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path) -> None:
    bytes_of_all = sentry.verify_model(net, net_signature, trust=trust).bytes
    net.cuda()
    assert sentry.verify_model(net, net_signature, trust=trust).bytes == bytes_of_all
    for hash in ("blake3", "sha256-tree"):
        signature = tmp_path / f"{hash}.sig"
        sentry.sign_model(net, key=key, signature=signature, hash=hash)
        for device in ("auto", "cpu", "cuda", "cuda:0"):
            sentry.verify_model(net, signature, trust=trust, device=device)
        sentry.verify_model(copy.deepcopy(net).cpu(), signature, trust=trust)


def test_a_signed_folder_verifies_the_module_on_the_gpu(net: Any, net_folder: Path, trust: sentry.PublicKey) -> None:
    verified = sentry.verify_model(net.cuda(), net_folder / "model.sig", trust=trust)
    assert verified.aliases == ["head.weight"]
    assert verified.not_covered == ["positions"]


@pytest.mark.parametrize("name", ["embed.weight", "body.0.bias", "small.weight", "scale", "body.3.num_batches_tracked"])
@pytest.mark.parametrize("hash", ["blake3", "sha256-tree"])
def test_one_changed_bit_is_named(
    net: Any, key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path, rejected: Callable[..., Any], name: str, hash: str
) -> None:
    sentry.sign_model(net.cuda(), key=key, signature=tmp_path / "s", hash=hash)
    state = net.state_dict()
    flat = state[name].reshape(-1).view(torch.uint8)
    flat[-1] ^= 1
    error = rejected(lambda: sentry.verify_model(net, tmp_path / "s", trust=trust))
    assert (type(error), error.code) == (sentry.ManifestError, "model_differs")
    assert name in {difference.tensor for difference in error.differences}
    assert error.expected.startswith(f"{hash}:") and error.found.startswith(f"{hash}:")
    flat[-1] ^= 1
    sentry.verify_model(net, tmp_path / "s", trust=trust)


def test_swapped_and_retyped_tensors_are_rejected(key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path, rejected: Callable[..., Any]) -> None:
    model = {name: torch.randn(300, 500, device="cuda", dtype=torch.float16) for name in ("a", "b")}
    sentry.sign_model(model, key=key, signature=tmp_path / "s")
    for wrong, kind in (
        ({"a": model["b"], "b": model["a"]}, "changed_tensor"),
        ({"a": model["a"].view(torch.bfloat16), "b": model["b"]}, "changed_type"),
        ({"a": model["a"].view(500, 300), "b": model["b"]}, "changed_shape"),
        ({"a": model["a"]}, "missing_tensor"),
        ({**model, "c": model["a"].clone()}, "unsigned_tensor"),
    ):
        error = rejected(lambda wrong=wrong: sentry.verify_model(wrong, tmp_path / "s", trust=trust))
        assert error.differences[0].kind == kind


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_at_every_alignment(key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path, dtype: str) -> None:
    kind = getattr(torch, dtype)
    size = torch.empty(0, dtype=kind).element_size()
    # Values that every type has: bool takes no others than 0 and 1.
    store = torch.randint(0, 2, (1 << 20,), dtype=torch.uint8, device="cuda").view(kind)
    model = {str(start): store[start : start + length] for start, length in enumerate((0, 1, 3, 255, 1000, 4097, 60_000 // size))}
    sentry.sign_model(model, key=key, signature=tmp_path / "s")
    sentry.verify_model({name: tensor.cpu() for name, tensor in model.items()}, tmp_path / "s", trust=trust)


def test_mixed_devices(net: Any, net_signature: Path, trust: sentry.PublicKey, rejected: Callable[..., Any]) -> None:
    net.body.cuda()
    for device in ("auto", "cpu", "cuda"):
        sentry.verify_model(net, net_signature, trust=trust, device=device)
    with torch.no_grad():
        net.small.bias[3] += 1
        net.body[0].bias[3] += 1
    error = rejected(lambda: sentry.verify_model(net, net_signature, trust=trust))
    assert {difference.tensor for difference in error.differences} == {"small.bias", "body.0.bias"}


def test_several_gpus(net: Any, net_signature: Path, trust: sentry.PublicKey, rejected: Callable[..., Any]) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    net.to("cuda:0")
    net.body.to("cuda:1")
    for device in ("auto", "cpu", "cuda:0", "cuda:1"):
        sentry.verify_model(net, net_signature, trust=trust, device=device)
        assert torch.cuda.current_device() == 0, "torch's device is another one now"
    with torch.cuda.device(1):
        sentry.verify_model(net, net_signature, trust=trust, share=0.25)
        assert torch.cuda.current_device() == 1
    with torch.no_grad():
        net.body[2].weight[5, 5] += 1
    error = rejected(lambda: sentry.verify_model(net, net_signature, trust=trust))
    assert error.artifact == "body.2.weight"


def test_the_current_stream_is_waited_for(key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path) -> None:
    after = torch.full((1 << 24,), 2.0, device="cuda")
    sentry.sign_model({"x": after}, key=key, signature=tmp_path / "s")
    busy = torch.randn(8192, 8192, device="cuda")
    for share in (None, 0.25):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            x = torch.ones(1 << 24, device="cuda")
            for _ in range(10):
                busy @ busy
            x += 1
            # Nothing has waited for the additions so far.
            sentry.verify_model({"x": x}, tmp_path / "s", trust=trust, share=share)
    torch.cuda.synchronize()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1, 1.0])
def test_any_share_gives_the_same_digests(net: Any, net_signature: Path, trust: sentry.PublicKey, share: float) -> None:
    sentry.verify_model(net.cuda(), net_signature, trust=trust, share=share)


def test_threads_verify_at_the_same_time(net: Any, net_signature: Path, trust: sentry.PublicKey, at_the_same_time: Callable[..., None]) -> None:
    net.cuda()

    def verify() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for share in (None, 0.2, None):
                sentry.verify_model(net, net_signature, trust=trust, share=share)

    at_the_same_time(verify, 8)


def test_what_is_not_contiguous_is_refused(trust: sentry.PublicKey, net_signature: Path) -> None:
    with pytest.raises(sentry.UsageError, match="not contiguous"):
        sentry.verify_model({"x": torch.ones(4, 6, device="cuda").t()}, net_signature, trust=trust)


def test_a_stream_that_records_a_graph_is_refused(net: Any, net_signature: Path, trust: sentry.PublicKey) -> None:
    net.cuda()
    graph, x = torch.cuda.CUDAGraph(), torch.ones(4, device="cuda")
    with torch.cuda.graph(graph):
        x += 1
        with pytest.raises(sentry.UsageError, match="records a CUDA graph"):
            sentry.verify_model(net, net_signature, trust=trust)
    graph.replay()


def test_memory_beside_the_data_is_small(trust: sentry.PublicKey, key: sentry.PrivateKey, tmp_path: Path) -> None:
    model = {str(i): torch.randn(1 << 20, device="cuda") for i in range(500)}
    model["large"] = torch.randn(1 << 29, device="cuda")
    nbytes = sum(tensor.nbytes for tensor in model.values())
    sentry.sign_model({"warm": torch.ones(1, device="cuda")}, key=key, signature=tmp_path / "warm")
    free, _ = torch.cuda.mem_get_info()
    least, stop = free, threading.Event()

    def watch() -> None:
        nonlocal least
        while not stop.is_set():
            least = min(least, torch.cuda.mem_get_info()[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    sentry.sign_model(model, key=key, signature=tmp_path / "s")
    stop.set()
    watcher.join()
    assert free - min(least, torch.cuda.mem_get_info()[0]) <= nbytes / 1000 + (16 << 20)


OUT_OF_MEMORY = """
import sys
from pathlib import Path
import sentry, torch

signature, key = Path(sys.argv[1]), sentry.PrivateKey.generate()
sentry.sign_model({"x": torch.ones(9, device="cuda")}, key=key, signature=signature)  # what the kernels' test takes is there
signature.unlink()
tensor = torch.empty(40 << 30, dtype=torch.uint8, device="cuda").zero_()
hogs = []
for size in (1 << 30, 1 << 27, 1 << 24, 1 << 21):
    while torch.cuda.mem_get_info()[0] > size + (1 << 21):
        try:
            hogs.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            break
try:
    sentry.sign_model({"x": tensor}, key=key, signature=signature)  # its nodes take 5 MiB
except sentry.SigningError as error:
    print(error.code, signature.exists())
hogs.clear()
torch.cuda.empty_cache()
sentry.sign_model({"x": tensor}, key=key, signature=signature)
print(sentry.verify_model({"x": tensor}, signature, trust=key.public_key).bytes)
"""


def test_no_memory_left_is_an_error_and_the_next_call_works(tmp_path: Path) -> None:
    # Without torch's cache, which takes 20 MiB at a time and so leaves some.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    run = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY, tmp_path / "s"], capture_output=True, text=True, env=environment)
    assert run.stdout.splitlines() == ["gpu_out_of_memory False", str(40 << 30)], run.stderr


def test_a_gpu_that_is_not_there(net: Any, net_signature: Path, trust: sentry.PublicKey) -> None:
    with pytest.raises(sentry.DeviceError) as caught:
        sentry.verify_model(net, net_signature, trust=trust, device="cuda:99")
    assert caught.value.code == "gpu_not_found"


def test_a_forked_child_is_told(net: Any, net_signature: Path, trust: sentry.PublicKey) -> None:
    """CUDA does not work after a fork: that is an error, and nothing hangs or is hashed elsewhere."""
    sentry.verify_model(net, net_signature, trust=trust, device="cuda")
    child = os.fork()
    if child == 0:
        try:
            sentry.verify_model(net, net_signature, trust=trust, device="cuda")
        except sentry.DeviceError:
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
