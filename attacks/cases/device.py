"""Class device: a driver or GPU that fails, lies or is not there. Each is its own error: never a digest, and never a digest by
the cores where a GPU was asked for. A signature is not written.

The GPUs are emulated (`kit/gpus.py`) and run the real kernels. The first two launches hash the known bytes by which kernels are tested
before they are used; the third hashes leaves of the model, the fourth joins those of its large file or tensor.
"""

import json

from kit import process
from kit.case import Attempt, Broken, Script, rejected
from kit.gpus import damaged, emulated, none, plant
from kit.tensors import Tensor, encode

case = rejected("device")

NAME = "model.safetensors"

# More than a block of 256 KiB, so that nodes are joined; and one that is finished by the first launch.
TENSORS = [Tensor("embed.weight", "F32", [75, 1000]), Tensor("head.bias", "F32", [6], seed=30)]


def hashing(world, environment, device="cuda", algorithm="blake3"):
    """`sentry hash` of the honest model."""
    world.base()
    return Attempt(["hash", str(world.model), "--hash", algorithm, "--device", device, "--json"], environment=environment)


def hashing_auto(world, environment):
    """A GPU that is there and fails is no reason to go on as if there were none."""
    return hashing(world, environment, "auto")


def verifying(world, environment, device="cuda"):
    """`sentry.verify_model` of tensors in this machine's memory, honestly signed."""
    world.write(NAME, encode(TENSORS))
    world.honest()
    asked = ["--signature", str(world.signature), "--device", device]
    return world.calling("verify_tensors", *asked, path=world.model / NAME, environment=environment)


def signing(world, environment, device="cuda"):
    """`sentry.sign_model` of the same."""
    world.write(NAME, encode(TENSORS))
    world.signature = world.root / "tensors.sig"
    (world.root / "sentry.pub").write_bytes(world.signer.private_pem())  # `--key` of signing
    return world.calling("sign_tensors", "--device", device, path=world.model / NAME, environment=environment)


def loading(world, environment, device="cuda"):
    """`sentry load` of an honest model to a GPU: nothing is said to be loaded, and the cores do not load instead."""
    world.write(NAME, encode(TENSORS))
    world.honest()
    return world.loading("--device", device, environment=environment)


def registered(code, *commands):
    """Returns the decorator for a fixture that gives an environment, to be a case for each of some commands."""

    def register(build):
        for command in commands:
            add(code, build, command)
        return build

    return register


def add(code, build, command):
    """Registers the case of one command; that of `hashing` has the fixture's own name."""

    def fixture(world):
        return command(world, build(world))

    between = "_" if "__" in build.__name__ else "__"
    fixture.__name__ = build.__name__ if command is hashing else f"{build.__name__}{between}{command.__name__}"
    fixture.__doc__, fixture.__module__ = build.__doc__, build.__module__
    case(code, naive=False)(fixture)


HASHING = (hashing, hashing_auto, verifying, signing)


def everywhere(code):
    """What fails on a GPU that is there."""
    return registered(code, *HASHING, loading)


def by_name(code):
    """Why there is no GPU, where one was asked for by name. With `auto` the cores hash: see the controls."""
    return registered(code, hashing, verifying, signing, loading)


# -- no GPU to hash on --------------------------------------------------------------------------


@by_name("gpu_no_driver")
def no_driver(world):
    return none()


@by_name("gpu_no_driver")
def no_driver__damaged(world):
    """There is a file of the driver's name, and it is no library."""
    return damaged(world.root / "damaged")


@by_name("gpu_no_driver")
def library_planted_in_cwd(world):
    """A working driver, in the working directory: whoever loads it runs another's code."""
    plant(world.root)
    return none()


@by_name("gpu_old_driver")
def old_driver(world):
    return emulated("driver=11080")


@by_name("gpu_not_found")
def no_device(world):
    return emulated("devices=0")


@case("gpu_not_found", naive=False)
def no_device__of_that_number(world):
    """Two GPUs, and the third is asked for: neither of them hashes instead."""
    return hashing(world, emulated("devices=2"), "cuda:2")


@case("gpu_not_found", naive=False)
def no_device__of_that_number_signing(world):
    return signing(world, emulated("devices=2"), "cuda:2")


@by_name("gpu_too_old")
def old_device(world):
    """Its compute capability is 7.0: no kernel is compiled for it."""
    return emulated("capability=70")


@case("gpu_serial_algorithm", naive=False)
def hash_not_on_a_gpu(world):
    """SHA-256 of one file is serial."""
    return hashing(world, emulated(), algorithm="sha256")


# -- launches, memory ---------------------------------------------------------------------------


@everywhere("gpu_failed")
def kernel_launch_error(world):
    return emulated("fail=cuLaunchKernel:3:701")  # CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES


@everywhere("gpu_failed")
def kernel_launch_error__joining(world):
    return emulated("fail=cuLaunchKernel:4:719")  # CUDA_ERROR_LAUNCH_FAILED


@everywhere("gpu_failed")
def kernel_launch_error__self_test(world):
    return emulated("fail=cuLaunchKernel:1:719")


@everywhere("gpu_failed")
def kernel_launch_error__no_kernels(world):
    """The GPU does not take the compiled kernels."""
    return emulated("fail=cuModuleLoadData:1:209")  # CUDA_ERROR_NO_BINARY_FOR_GPU


@registered("gpu_out_of_memory", *HASHING)
def out_of_memory_midway(world):
    """Pinned memory runs out when the GPU's own has been taken, and all is ready."""
    return emulated("fail=cuMemHostAlloc:4:2")  # CUDA_ERROR_OUT_OF_MEMORY


@case("gpu_out_of_memory", naive=False)
def out_of_memory_midway__loading(world):
    """For the buffers of a load: the system's own memory is not pinned either."""
    return loading(world, emulated("fail=cuMemHostRegister_v2:1:2;fail=cuMemHostAlloc:3:2"))


@everywhere("gpu_out_of_memory")
def out_of_memory_midway__of_the_gpu(world):
    """There is room for the model, and not for its nodes."""
    return emulated("memory=600000")


@everywhere("gpu_out_of_memory")
def out_of_memory_midway__at_once(world):
    return emulated("memory=1024")


# -- work that is not done, or done wrongly -----------------------------------------------------


@everywhere("gpu_digest_unwritten")
def device_digest_buffer_unwritten(world):
    """The driver says success, and the last launch did not happen."""
    return emulated("skip=cuLaunchKernel:4")


@everywhere("gpu_digest_unwritten")
def device_digest_buffer_unwritten__of_small_ones(world):
    """Digests that the launch of the leaves was to write."""
    return emulated("skip=cuLaunchKernel:3")


@everywhere("gpu_digest_unwritten")
def device_digest_buffer_unwritten__not_copied(world):
    """Right digests on the GPU, which never arrive."""
    return emulated("skip=cuMemcpyDtoHAsync_v2:2")


@everywhere("gpu_digest_unwritten")
def device_digest_buffer_unwritten__not_waited_for(world):
    """The driver does not wait for the last work."""
    return emulated("skip=cuStreamSynchronize:4")


@everywhere("gpu_digest_unwritten")
def device_digest_buffer_unwritten__self_test(world):
    return emulated("skip=cuLaunchKernel:1")


@everywhere("gpu_self_test")
def wrong_digest_self_test(world):
    """The known bytes do not arrive on the GPU, which so gives other digests than theirs."""
    return emulated("skip=cuMemcpyHtoDAsync_v2:1")


@everywhere("gpu_failed")
def fault_while_running(world):
    """The launch succeeds, and the kernel then reads an illegal address."""
    return emulated("async=cuLaunchKernel:3:700")  # CUDA_ERROR_ILLEGAL_ADDRESS


@everywhere("gpu_failed")
def fault_while_running__joining(world):
    return emulated("async=cuLaunchKernel:4:700")


@everywhere("gpu_failed")
def fault_while_running__copying(world):
    """The digests are not what is copied."""
    return emulated("async=cuMemcpyDtoHAsync_v2:2:700")


# -- a GPU that is lost -------------------------------------------------------------------------


@everywhere("gpu_lost")
def gpu_lost_falls_back_silently(world):
    """In the midst of the work; the cores could do it, and must not."""
    return emulated("lost=100")


@everywhere("gpu_lost")
def gpu_lost_falls_back_silently__at_the_start(world):
    return emulated("lost=1")


@everywhere("gpu_lost")
def gpu_lost_falls_back_silently__error_of_memory(world):
    """A kernel meets an uncorrectable error of the GPU's memory."""
    return emulated("async=cuLaunchKernel:3:214")  # CUDA_ERROR_ECC_UNCORRECTABLE


# Calls that give something back, and enter or leave the context for it: nobody waits for what they say.
GIVING_BACK = {"cuMemFree_v2", "cuMemFreeHost", "cuStreamDestroy_v2", "cuEventDestroy_v2", "cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"}


@case("gpu_lost", naive=False)
def gpu_lost_falls_back_silently__at_any_time(world):
    """From every fourth call of the driver on. Only where nothing is left but giving back may the digests come out."""
    log = world.root / "calls"

    def run(sentry):
        honest = process.run(sentry, hashing(world, emulated(f"log={log}"), "auto"), world.root)
        calls = log.read_text().splitlines() if log.exists() else []
        if honest.code != 0 or len(calls) < 100:
            raise Broken(f"exit {honest.code} after {len(calls)} calls without a fault: {honest.stderr[-200:]}")
        problems = []
        for first in range(0, len(calls), 4):
            outcome = process.run(sentry, hashing(world, emulated(f"lost={first + 1}"), "auto"), world.root)
            if outcome.code == 0 and outcome.stdout == honest.stdout and GIVING_BACK.issuperset(calls[first:]):
                continue
            if outcome.code != 2 or code_of(outcome) != "gpu_lost":
                problems.append(f"lost at call {first + 1} of {len(calls)}: exit {outcome.code}: {(outcome.stdout + outcome.stderr)[-200:]}")
        return problems

    return Script(run)


def code_of(outcome):
    """The code of the error in a document; none if it is another document."""
    try:
        return json.loads(outcome.stdout)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None
