"""Controls: GPUs that work, and places without one. Whatever hashes, the digests are the ones that this file computes itself."""

import json

from kit import oms, process
from kit.case import Broken, Script, control
from kit.gpus import damaged, emulated, plant
from kit.judge import accepted
from kit.world import FILES

from .device import NAME, TENSORS, encode, hashing, signing, verifying
from .tree import TREES, Careful

# No setting: the emulated driver ends any process that calls it.
NEVER = "never"


def expected(algorithm):
    """Name and digest of each file of the honest model."""
    digest = Careful(algorithm).digest if algorithm in TREES else lambda content: oms.digest(content, algorithm)
    return {name: digest(content) for name, content in FILES.items()}


def hashed(world, sentry, environment, device, algorithm="blake3"):
    """Problems of `sentry hash`."""
    outcome = process.run(sentry, hashing(world, environment, device, algorithm), world.root)
    if outcome.code != 0 or outcome.stderr:
        return [f"{algorithm} by {device}: exit {outcome.code}: {outcome.stderr[-200:]}"]
    found = {file["name"]: file["digest"] for file in json.loads(outcome.stdout)["files"]}
    return [] if found == expected(algorithm) else [f"{algorithm} by {device}: {found}"]


def launched(log):
    """How many kernels the driver was given since the last time."""
    calls = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return calls.count("cuLaunchKernel")


@control
def hash_by_every_device(world):
    """Each algorithm that a GPU computes; and it is computed there, or not, as was asked for."""

    def run(sentry):
        problems = []
        log = world.root / "calls"
        for algorithm in ("blake3", *TREES):
            for device in ("cpu", "cuda", "cuda:1", "auto"):
                problems += hashed(world, sentry, emulated(f"log={log}"), device, algorithm)
                if (launched(log) > 0) == (device == "cpu"):
                    problems.append(f"{algorithm} by {device} was hashed elsewhere")
        return problems

    return Script(run)


def auto(world, environment):
    """Where there is no GPU to hash on, `auto` hashes on the cores."""
    return Script(lambda sentry: hashed(world, sentry, environment, "auto"))


@control
def hash_auto_no_driver(world):
    return auto(world, damaged(world.root / "damaged"))


@control
def hash_auto_old_driver(world):
    return auto(world, emulated("driver=11080"))


@control
def hash_auto_no_device(world):
    return auto(world, emulated("devices=0"))


@control
def hash_auto_old_device(world):
    return auto(world, emulated("capability=70"))


@control
def hash_auto_serial(world):
    """A hash that no GPU computes: none is looked for."""
    return Script(lambda sentry: hashed(world, sentry, emulated(NEVER), "auto", "sha256"))


@control
def hash_by_a_planted_library_that_is_asked_for(world):
    """What `library_planted_in_cwd` plants is a driver: from a folder where the loader looks, it works."""

    def run(sentry):
        plant(world.root)
        log = world.root / "calls"
        problems = hashed(world, sentry, emulated(f"log={log}", world.root), "cuda")
        return problems if launched(log) else [*problems, "it was not loaded"]

    return Script(run)


# -- models ---------------------------------------------------------------------------------


@control
def sign_and_verify_open_no_gpu(world):
    """Files are hashed on the cores, and the driver is not called."""
    world.base()
    environment = emulated(NEVER)

    def run(sentry):
        if not process.run(sentry, hashing(world, environment), world.root).crashed:
            raise Broken("a call of the driver does not end the process")
        for attempt in (world.signing(environment=environment), world.verify(environment=environment)):
            problems = accepted(attempt, process.run(sentry, attempt, world.root))
            if problems:
                return problems
        return []

    return Script(run)


@control
def loaded_to_every_device(world):
    """The same model, under each kind of signature; and it is hashed on the GPU, unless the cores alone compute its digests."""
    world.write(NAME, encode(TENSORS))
    log = world.root / "calls"

    def run(sentry):
        problems = []
        for options in ({}, {"annotate": False}, {"algorithm": "blake3"}, {"algorithm": "blake3", "annotate": False}):
            world.honest(**options)
            for device in ("cpu", "auto", "cuda", "cuda:1"):
                attempt = world.loading("--device", device, environment=emulated(f"log={log}"))
                attempt.fields = {"files": 1, "device": "cpu" if device == "cpu" else f"cuda:{device[5:] or 0} (Emulated GPU)"}
                problems += [f"{options}, {device}: {problem}" for problem in accepted(attempt, process.run(sentry, attempt, world.root))]
                is_by_cores = device == "cpu" or options == {"annotate": False}
                if (launched(log) > 0) == is_by_cores:
                    problems.append(f"{options}, {device}: hashed elsewhere")
        return problems

    return Script(run)


@control
def tensors_verified_by_a_gpu(world):
    """Signed by this file's own means, and hashed where it was asked for."""
    log = world.root / "calls"

    def run(sentry):
        problems = []
        for device in ("cpu", "auto", "cuda", "cuda:1"):
            attempt = verifying(world, emulated(f"log={log}"), device)
            attempt.fields = {"tensors": len(TENSORS)}
            problems += accepted(attempt, process.run(sentry, attempt, world.root))
            if (launched(log) > 0) != device.startswith("cuda"):
                problems.append(f"by {device}: hashed elsewhere")
        return problems

    return Script(run)


@control
def tensors_signed_by_a_gpu(world):
    """The statement is the same, byte by byte, wherever the tensors were hashed."""
    log = world.root / "calls"

    def run(sentry):
        payloads = {}
        for device in ("cpu", "auto", "cuda", "cuda:1"):
            attempt = signing(world, emulated(f"log={log}"), device)
            attempt.fields = {"status": "signed", "tensors": len(TENSORS)}
            problems = accepted(attempt, process.run(sentry, attempt, world.root))
            if problems:
                return problems
            if (launched(log) > 0) != device.startswith("cuda"):
                return [f"by {device}: hashed elsewhere"]
            payloads[device] = json.loads(world.signature.read_text())["dsseEnvelope"]["payload"]
            world.signature.unlink()
        return [] if len(set(payloads.values())) == 1 else [f"statements differ: {payloads}"]

    return Script(run)
