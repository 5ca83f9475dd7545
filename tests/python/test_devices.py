"""`device=` and `share=` without a GPU: the emulated driver of `crates/cuda` has two, which run the real kernels and fail as they are told.

The system's loader looks for the driver where the environment said when a process began, so every call here is made in a process of its own.
What only tensors on a GPU show is in `tests/gpu`.
"""

from __future__ import annotations

import base64
import ctypes.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
import sentry
import torch
from conftest import ROOT, sign_file

GPUS = ("cuda", "cuda:0", "cuda:1")
CORES = ("cpu", "auto")

# Makes the calls that its first argument lists, one after the other, and prints what came of each.
CALLER = """
import json, sys
import numpy, sentry

def tensors(kind, changed):
    large = numpy.arange(75_000, dtype="<f4").reshape(75, 1000)
    if changed:
        large[74, 999] += 1
    found = {"large": large, "small": numpy.arange(6, dtype="<i8"), "empty": numpy.empty((0, 4), "<f4"), "flag": numpy.array(True)}
    if kind == "large":
        return {"large": large}
    if kind != "torch":
        return found
    import torch
    module = torch.nn.Module()
    for name, array in found.items():
        module.register_buffer(name, torch.from_numpy(array))
    return module

def attempt(verb, signature, kind="numpy", changed=False, **options):
    # A folder has its signature in it.
    model, signature = (signature, None) if kind == "path" else (tensors(kind, changed), signature)
    if verb == "sign":
        sentry.sign_model(model, key="sentry.key", signature=signature, **options)
        return None
    return sentry.verify_model(model, signature, trust=sentry.PublicKey("sentry.pub"), **options).tensors

outcomes = []
for call in json.loads(sys.argv[1]):
    try:
        outcomes.append({"kinds": [], "code": None, "text": "", "tensors": attempt(**call)})
    except sentry.Error as error:
        outcomes.append({"kinds": [kind.__name__ for kind in type(error).__mro__], "code": error.code, "text": str(error), "tensors": None})
mapped = "libcuda" in open("/proc/self/maps").read()
print(json.dumps({"outcomes": outcomes, "mapped": mapped}))
"""


@dataclass
class Outcome:
    """What one call did: `kinds` are the classes of what it raised, from its own to `object`."""

    kinds: list[str]
    code: str | None
    text: str
    tensors: int | None

    @property
    def raised(self) -> tuple[str, str] | None:
        """Class and code of the exception."""
        return (self.kinds[0], self.code or "") if self.kinds else None


class Calls:
    """Makes calls in a new process over the emulated driver."""

    def __init__(self, folder: Path, driver: Path) -> None:
        self.folder = folder
        self.driver: Path | None = driver
        self.mapped = False
        self.launches = 0
        self.driver_calls: Counter[str] = Counter()

    def __call__(self, settings: str, *calls: dict[str, Any]) -> list[Outcome]:
        """The outcomes; whether the driver was loaded, and which of its functions were called, is kept for the test to look at."""
        log = self.folder.parent / f"{self.folder.name}.calls"
        log.unlink(missing_ok=True)
        hidden = ("LD_LIBRARY_PATH", "SENTRY_EMULATED_CUDA", "CUDA_VISIBLE_DEVICES")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        if self.driver is not None:
            environment |= {"LD_LIBRARY_PATH": str(self.driver), "SENTRY_EMULATED_CUDA": f"log={log};{settings}"}
        run = subprocess.run(
            [sys.executable, "-c", CALLER, json.dumps(calls)], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == 0, run.stderr
        assert run.stderr == ""
        said = json.loads(run.stdout)
        self.mapped = said["mapped"]
        self.driver_calls = Counter(log.read_text().splitlines() if log.exists() else [])
        self.launches = self.driver_calls["cuLaunchKernel"]
        return [Outcome(**outcome) for outcome in said["outcomes"]]


def verify(device: str, signature: str = "tensors.sig", **options: Any) -> dict[str, Any]:
    """A call of `verify_model`."""
    return {"verb": "verify", "signature": signature, "device": device, **options}


def sign(device: str, signature: str = "new.sig", **options: Any) -> dict[str, Any]:
    """A call of `sign_model`."""
    return {"verb": "sign", "signature": signature, "device": device, **options}


@pytest.fixture(scope="session")
def driver() -> Path:
    """The folder of the emulated driver, which is built if it is not there."""
    build = ROOT / "target/cuda"
    make = ["make", "--no-print-directory", "-C", str(ROOT / "crates/cuda"), "driver", f"BUILD={build}"]
    made = subprocess.run(make, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    return build / "driver"


@pytest.fixture(scope="session")
def signed_folder(tmp_path_factory: pytest.TempPathFactory, driver: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> Path:
    """The publisher's keys, and `tensors.sig`, which was signed on the cores."""
    folder = tmp_path_factory.mktemp("devices") / "folder"
    folder.mkdir()
    key.write(folder / "sentry.key")
    (folder / "sentry.pub").write_text(trust.pem)
    (signed,) = Calls(folder, driver)("", sign("cpu", "tensors.sig"))
    assert signed.raised is None
    return folder


@pytest.fixture
def calls(tmp_path: Path, driver: Path, signed_folder: Path) -> Calls:
    """Makes calls in a copy of that folder."""
    return Calls(Path(shutil.copytree(signed_folder, tmp_path / "folder")), driver)


def statement(signature: Path) -> bytes:
    """What was signed."""
    return base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"])


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- every device is the same ---------------------------------------------------------------


@pytest.mark.parametrize("hash", ["blake3", "sha256-tree"])
def test_the_same_signatures_and_verdicts_by_every_device(calls: Calls, hash: str) -> None:
    signatures = {}
    for device in (*CORES, *GPUS):
        name = f"{device}.sig"
        (signed,) = calls("", sign(device, name, hash=hash))
        assert signed.raised is None
        assert (calls.launches > 0) == (device in GPUS), "hashed elsewhere"
        signatures[name] = statement(calls.folder / name)
    assert len(set(signatures.values())) == 1
    for device in (*CORES, *GPUS):
        outcomes = calls("", *(verify(device, name) for name in signatures))
        assert [(outcome.raised, outcome.tensors) for outcome in outcomes] == [(None, 4)] * len(signatures)
        assert (calls.launches > 0) == (device in GPUS), "hashed elsewhere"


def test_a_module_of_torch_is_the_same_by_every_device(calls: Calls) -> None:
    names = {device: f"{device}.sig" for device in (*CORES, *GPUS)}
    outcomes = calls("", *(sign(device, name, kind="torch", subject="dict") for device, name in names.items()))
    outcomes += calls("", *(verify(device, kind="torch") for device in names))
    assert [outcome.raised for outcome in outcomes] == [None] * 10 and calls.launches > 0
    # As the arrays of numpy with these bytes, which were signed on the cores.
    assert {statement(calls.folder / name) for name in names.values()} == {statement(calls.folder / "tensors.sig")}


def test_a_changed_tensor_is_the_same_rejection_by_every_device(calls: Calls) -> None:
    outcomes = [calls("", verify(device, changed=True))[0] for device in (*CORES, *GPUS)]
    assert {outcome.raised for outcome in outcomes} == {("ManifestError", "model_differs")}
    assert len({outcome.text for outcome in outcomes}) == 1 and '"large"' in outcomes[0].text


def test_a_signed_file_verifies_by_every_device(calls: Calls, key: sentry.PrivateKey) -> None:
    arrays = {"large": torch.arange(75_000.0).view(75, 1000), "small": torch.arange(6), "empty": torch.empty(0, 4), "flag": torch.tensor(True)}
    signature = str(sign_file(arrays, calls.folder / "model", key))
    assert numpy.arange(75_000, dtype="<f4").tobytes() == arrays["large"].numpy().tobytes()
    for device in (*CORES, *GPUS):
        right, wrong = calls("", verify(device, signature), verify(device, signature, changed=True))
        assert (right.raised, right.tensors) == (None, 4)
        assert wrong.raised == ("ManifestError", "model_differs")


def test_the_gpu_of_the_number_that_was_given_is_used(calls: Calls) -> None:
    """Both have no memory, and each says so of itself."""
    for device, name in (("cuda", "GPU 0"), ("cuda:0", "GPU 0"), ("cuda:1", "GPU 1")):
        (outcome,) = calls("memory=1024", verify(device))
        assert outcome.raised == ("DeviceError", "gpu_out_of_memory") and f"{name} has no memory left for " in outcome.text


def test_any_share_is_the_same_verdict(calls: Calls) -> None:
    for outcome in calls("", *(verify("auto", share=share) for share in (0.01, 0.5, 1))):
        assert (outcome.raised, outcome.tensors) == (None, 4)


def test_a_share_of_what_must_be_copied_to_the_gpu_first_is_refused(calls: Calls) -> None:
    for outcome in calls("", verify("cuda", share=0.5), sign("cuda:1", share=0.5)):
        assert outcome.raised == ("UsageError", "usage") and "a share is about what lies on a GPU" in outcome.text
    assert not (calls.folder / "new.sig").exists()


# -- where no GPU is asked for ----------------------------------------------------------------


def test_the_driver_is_not_loaded_unless_a_gpu_is_asked_for(calls: Calls, model: Path) -> None:
    """Not by importing, not for files, and not for tensors in this machine's memory."""
    files = [call(device, str(model), kind="path") for device in CORES for call in (sign, verify)]
    tensors = [call(device) for device in CORES for call in (sign, verify)]
    outcomes = calls("", *files, *tensors)
    assert [outcome.raised for outcome in outcomes] == [None] * 8
    assert (calls.mapped, calls.driver_calls) == (False, Counter())


def test_torch_tensors_in_this_machines_memory_call_no_driver(calls: Calls) -> None:
    outcomes = calls("", *(call(device, kind="torch") for device in CORES for call in (sign, verify)))
    assert [outcome.raised for outcome in outcomes] == [None] * 4
    assert calls.driver_calls == Counter()


def test_a_signature_that_does_not_hold_is_said_before_a_gpu_is_looked_for(calls: Calls, stranger: sentry.PublicKey) -> None:
    (calls.folder / "sentry.pub").write_text(stranger.pem)
    (outcome,) = calls("devices=0", verify("cuda"))
    assert outcome.raised == ("EnvelopeError", "signature_invalid")
    assert calls.driver_calls == Counter()


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda: 1", "CPU", "cuda:12345", "cuda:0\n", "", 0, None])
def test_devices_that_are_none(trust: sentry.PublicKey, key: sentry.PrivateKey, tmp_path: Path, device: Any) -> None:
    for call in (
        lambda: sentry.verify_model({}, tmp_path / "s", trust=trust, device=device),
        lambda: sentry.sign_model({}, key=key, signature=tmp_path / "s", device=device),
    ):
        with pytest.raises(sentry.UsageError, match="device is 'auto', 'cpu', 'cuda' or 'cuda:N'"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0, 0.0, -0.5, 1.01, 2, float("nan"), float("inf")])
def test_shares_that_are_none(trust: sentry.PublicKey, key: sentry.PrivateKey, tmp_path: Path, share: float) -> None:
    for call in (
        lambda: sentry.verify_model({}, tmp_path / "s", trust=trust, share=share),
        lambda: sentry.sign_model({}, key=key, signature=tmp_path / "s", share=share),
    ):
        with pytest.raises(sentry.UsageError, match="more than 0 and at most 1"):
            call()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"device": "cuda:1"}, {"share": 0.5}, {"device": "auto", "share": 1}])
def test_files_are_not_hashed_on_a_gpu(signed: Path, trust: sentry.PublicKey, key: sentry.PrivateKey, options: dict[str, Any]) -> None:
    before = content(signed)
    for call in (lambda: sentry.verify_model(signed, trust=trust, **options), lambda: sentry.sign_model(signed, key=key, **options)):
        with pytest.raises(sentry.UsageError, match="files are hashed on the CPU"):
            call()
    assert content(signed) == before


def test_a_share_of_the_cpu_is_none(trust: sentry.PublicKey, tmp_path: Path) -> None:
    with pytest.raises(sentry.UsageError, match="share is about hashing on a GPU"):
        sentry.verify_model({}, tmp_path / "s", trust=trust, device="cpu", share=0.5)


# -- a GPU that is asked for and cannot hash --------------------------------------------------

# Each with what the message says.
FAULTS = {
    "driver=11080": ("gpu_old_driver", "made for CUDA 11.8"),
    "devices=0": ("gpu_not_found", "there is no GPU 0: the driver shows 0"),
    "capability=70": ("gpu_too_old", "has compute capability 7.0"),
    "memory=1024": ("gpu_out_of_memory", "GPU 0 has no memory left for "),
    "fail=cuMemHostAlloc:4:2": ("gpu_out_of_memory", "bytes of pinned memory"),
    "lost=1": ("gpu_lost", "GPU 0 was lost while "),
    "lost=90": ("gpu_lost", "GPU 0 was lost while "),
    "fail=cuLaunchKernel:3:701": ("gpu_failed", "launching a kernel failed: CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"),
    "async=cuLaunchKernel:3:700": ("gpu_failed", "CUDA_ERROR_ILLEGAL_ADDRESS"),
    "skip=cuLaunchKernel:4": ("gpu_digest_unwritten", "did not write result 0"),
    "skip=cuMemcpyDtoHAsync_v2:2": ("gpu_digest_unwritten", "did not write result 0"),
    "skip=cuMemcpyHtoDAsync_v2:1": ("gpu_self_test", "GPU 0 computes a wrong blake3: it must not be used"),
}

HINTS = {"gpu_out_of_memory": "torch.cuda.empty_cache()", "gpu_no_driver": "device='cpu' hashes on the CPU"}


def check_refusals(verified: Outcome, signed: Outcome, code: str, text: str) -> None:
    """That both are errors of this code: no verdict, no other class, and a hint where there is one."""
    assert verified.kinds[:3] == ["DeviceError", "NotCheckedError", "Error"] and verified.code == code
    assert signed.kinds[:2] == ["SigningError", "Error"] and signed.code == code
    for outcome in (verified, signed):
        message, _, hint = outcome.text.partition("\nhint: ")
        assert text in message and "verified" not in outcome.text
        assert HINTS.get(code, "") in hint and bool(hint) == (code in HINTS)


@pytest.mark.parametrize("settings", FAULTS)
def test_a_gpu_that_cannot_hash_is_an_error_and_writes_nothing(calls: Calls, settings: str) -> None:
    before = content(calls.folder)
    (verified,) = calls(settings, verify("cuda"))
    (signed,) = calls(settings, sign("cuda"))
    check_refusals(verified, signed, *FAULTS[settings])
    # Where there is a signature already, it stays.
    (signed,) = calls(settings, sign("cuda", "tensors.sig"))
    assert signed.raised == ("SigningError", FAULTS[settings][0])
    assert content(calls.folder) == before


def test_no_driver(calls: Calls) -> None:
    if ctypes.util.find_library("cuda"):
        pytest.skip("this machine has a driver")
    calls.driver = None
    verified, signed, on_cores = calls("", verify("cuda"), sign("cuda:1"), verify("auto"))
    check_refusals(verified, signed, "gpu_no_driver", "libcuda cannot be loaded")
    assert (on_cores.raised, on_cores.tensors) == (None, 4)
    assert not (calls.folder / "new.sig").exists()


def test_a_driver_that_is_no_library(calls: Calls, tmp_path: Path) -> None:
    calls.driver = tmp_path / "damaged"
    calls.driver.mkdir()
    for name in ("libcuda.so", "libcuda.so.1", "libcuda.so.12", "libnvcuda.so", "libnvcuda.so.1"):
        (calls.driver / name).write_text("no library")
    verified, signed = calls("", verify("cuda"), sign("cuda"))
    check_refusals(verified, signed, "gpu_no_driver", "libcuda cannot be loaded")


@pytest.mark.parametrize("device", ["cuda:2", "cuda:9", "cuda:9999"])
def test_a_gpu_of_a_number_that_is_not_there(calls: Calls, device: str) -> None:
    verified, signed = calls("", verify(device), sign(device))
    check_refusals(verified, signed, "gpu_not_found", f"there is no GPU {device[5:]}: the driver shows 2")
    assert calls.launches == 0


# What happens once, and is over: the first use of a GPU fails, and the second call finds it as it should be.
PASSING = [
    "fail=cuDevicePrimaryCtxRetain:1:999",
    "fail=cuModuleLoadData:1:209",
    "fail=cuMemAlloc_v2:1:2",
    "fail=cuMemHostAlloc:4:2",
    "fail=cuLaunchKernel:1:701",
    "fail=cuLaunchKernel:3:701",
    "skip=cuLaunchKernel:4",
    "skip=cuMemcpyDtoHAsync_v2:2",
    "skip=cuMemcpyHtoDAsync_v2:1",
]


@pytest.mark.parametrize("settings", PASSING)
def test_after_an_error_the_next_call_works(calls: Calls, settings: str) -> None:
    failed, verified, changed, signed = calls(settings, verify("cuda"), verify("cuda"), verify("cuda", changed=True), sign("cuda"))
    assert failed.kinds[0] == "DeviceError" and (failed.code or "").startswith("gpu_")
    assert (verified.raised, verified.tensors) == (None, 4)
    assert changed.raised == ("ManifestError", "model_differs")
    assert signed.raised is None
    assert json.loads(statement(calls.folder / "new.sig"))["predicate"] == json.loads(statement(calls.folder / "tensors.sig"))["predicate"]


@pytest.mark.parametrize("settings", ["lost=90", "async=cuLaunchKernel:3:700"])
def test_a_gpu_that_is_of_no_more_use_stays_an_error_and_the_cores_still_work(calls: Calls, settings: str) -> None:
    first, again, on_cores, other = calls(settings, verify("cuda"), verify("cuda"), verify("cpu"), verify("cuda", changed=True))
    code = FAULTS[settings][0]
    assert first.raised == again.raised == other.raised == ("DeviceError", code)
    assert (on_cores.raised, on_cores.tensors) == (None, 4)


def test_leaves_that_were_not_hashed_are_no_digest(calls: Calls) -> None:
    """The driver says success, and the launch that was to hash the only tensor's leaves did not happen."""
    (signed,) = calls("skip=cuLaunchKernel:3", sign("cuda", kind="large"))
    assert signed.raised == ("SigningError", "gpu_digest_unwritten")
    assert not (calls.folder / "new.sig").exists()
