"""What a case is, and the list of all cases.

A module of `cases/` opens with `case = rejected("path")`; each function under `@case("code")`
builds a fixture and returns what to run. `control` does the same for what must be accepted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Codes that mean "could not check" (exit 2): the input, or the verifier's own key or policy, was unusable.
# Every other code is a rejection (exit 1), unless a case says that nothing was to be checked.
COULD_NOT_CHECK = {
    "method_mismatch", "sigstore_method_unsupported", "signature_number",
    "certificate_file", "certificate_other_key", "timestamp_algorithm_unsupported",
    "policy_syntax", "policy_signer", "policy_unknown_signer", "policy_rule", "policy_shadowed_rule",
    "key_pem", "key_encrypted", "key_password", "curve_not_allowed", "explicit_curve_parameters",
    "rsa_key", "point_not_on_curve", "unsupported_key",
    "signature_not_found", "io", "would_overwrite",
    "weights_unclear", "unsupported_tensor", "dataset_layout", "dataset_column",
    "gpu_no_driver", "gpu_old_driver", "gpu_not_found", "gpu_too_old", "gpu_out_of_memory", "gpu_lost", "gpu_failed",
    "gpu_digest_unwritten", "gpu_self_test", "gpu_serial_algorithm",
    "usage",
}  # fmt: skip

# No error: the command succeeds, and must tell two inputs apart.
TOLD_APART = "told apart"

# Kind, file, tensor; of datasets: kind, source, id of the sample, or kind, field, nothing.
Difference = tuple[str, str, str | int | None]

# Codes that come with differences.
DIFFERS = {"model_differs", "dataset_differs"}


@dataclass
class Attempt:
    """One command and what must come of it."""

    args: list[str]
    differences: set[Difference] | None = None  # exactly these, with a code of DIFFERS
    fields: dict = field(default_factory=dict)  # what the JSON of an accepted case must hold
    timeout: float = 20.0
    once: bool = False  # too slow, or not repeatable: do not run again for the human output
    memory: int | None = None  # bytes of private memory the command may have
    file_size: int | None = None  # the largest file it may write
    as_nobody: bool = False  # drop root, so that file permissions count
    environment: dict[str, str] = field(default_factory=dict)
    drive: Callable | None = None  # called with the running process
    prefix: list[str] = field(default_factory=list)  # a command that runs the command
    program: list[str] = field(default_factory=list)  # runs in place of the binary: kit/load.py


@dataclass
class Script:
    """A case that takes more than one command: given the binary's path, it runs them itself and
    returns what is wrong."""

    run: Callable[[Path], list[str]]


@dataclass
class Case:
    """A registered case."""

    group: str
    name: str
    code: str | None  # the expected error code; None if it must be accepted
    build: Callable
    naive: bool  # whether the naive verifier may look at it (kit/naive.py)
    unchecked: bool = False  # exit 2 whatever the code: when signing, what is wrong with a certificate is no verdict

    @property
    def title(self) -> str:
        """The name in ATTACKS.md, without the variant."""
        return self.name.split("__")[0]

    @property
    def fixture(self) -> str:
        """Module and function."""
        return f"{self.build.__module__.split('.')[-1]}.py"

    @property
    def exit(self) -> int:
        """The expected exit code."""
        if self.code in (None, TOLD_APART):
            return 0
        return 2 if self.unchecked or self.code in COULD_NOT_CHECK else 1


class NotHere(Exception):
    """The fixture cannot be built on this machine; says why."""


class Broken(Exception):
    """The fixture could not do its work: a failure, never a pass."""


CASES: list[Case] = []


def rejected(group: str) -> Callable:
    """Returns the decorator for the cases of one class."""

    def case(code: str, naive: bool = True, unchecked: bool = False) -> Callable:
        def register(build: Callable) -> Callable:
            CASES.append(Case(group, build.__name__, code, build, naive, unchecked))
            return build

        return register

    return case


def control(build: Callable) -> Callable:
    """Registers what must be accepted: an honest artifact, or an honest signing."""
    CASES.append(Case("control", build.__name__, None, build, True))
    return build
