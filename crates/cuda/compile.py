#!/usr/bin/env python3
"""Compiles the kernels ahead of time: kernels/NAME.cu to modules/NAME.TARGET.cubin for each generation of GPUs, and to one NAME.TARGET.ptx.

compile.py --compiler FOLDER           writes the files, unless one is over its budget
compile.py --compiler FOLDER --check   writes nothing; exits with 1 if a file is not what the sources compile to, or is over its budget

The files are kept in the repository and become part of the program (src/modules.rs), so neither building nor running it needs NVIDIA's
tools. The same version of the compiler (requirements.txt) makes the same bytes of the same sources, in any folder: --check shows that
the files are the sources and nothing else. So a change of a kernel is also a change of its files.

FOLDER is where pip has put the compiler. `make modules` and `make modules-check` see to that.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nvrtc import CompileError, Nvrtc

HERE = Path(__file__).resolve().parent
KERNELS = HERE / "kernels"
MODULES = HERE / "modules"

# Turing, Ampere and Ada, Hopper, Blackwell in data centers, Blackwell elsewhere. A cubin runs on GPUs of its major version, from its minor
# version on.
CUBINS = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")

# For what comes after those. The driver compiles it, and must be as new as the compiler here; for GPUs that are newer, it is.
PTX = "compute_75"

OPTIONS = (
    "--std=c++17",
    # Or else a constexpr function without attributes belongs to the host, which this compiler rejects.
    "--device-as-default-execution-space",
    # Log what each kernel uses.
    "--ptxas-options=-v",
)

# With four blocks a multiprocessor, which leaves 64 registers, it spills here. The slots are those of every other GPU: the host has one plan.
DEFINES = {("sha256_tree", "sm_100"): ("SENTRY_SHA256_SLOTS=256", "SENTRY_SHA256_BLOCKS=3")}

# NVRTC comes without the C library's headers.
STDINT = b"""#pragma once
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef unsigned long long uintptr_t;
"""


@dataclass(frozen=True)
class Budget:
    """What a kernel may use. No kernel may spill registers or have a stack."""

    # Bytes, exactly: they follow from the slots of a block, which are the same for every GPU.
    shared: int
    # Registers of a thread, at most, on each of CUBINS. The hardware gives them out in eights.
    registers: tuple[int, ...]


# By the name of kernels/NAME.cu, then by kernel.
# fmt: off
BUDGETS = {
    #                                           shared  sm_75 sm_80 sm_90 sm_100 sm_120
    "blake3": {
        "sentry_blake3_leaves":         Budget(  9216, (   64,   64,   64,    72,    64)),
        "sentry_blake3_join":           Budget( 32768, (   56,   56,   40,    48,    72)),
    },
    "sha256_tree": {
        "sentry_sha256_tree_leaves":    Budget(  9216, (   64,   64,   64,    72,    64)),
        "sentry_sha256_tree_join":      Budget( 32768, (   56,   56,   40,    40,    64)),
    },
    "blake2b_tree": {
        "sentry_blake2b_tree_leaves":   Budget(  8704, (  120,  120,  120,   120,   112)),
        "sentry_blake2b_tree_join":     Budget( 32768, (   96,   80,   80,    80,    96)),
    },
    "sha3_256_tree": {
        "sentry_sha3_256_tree_leaves":  Budget(  4608, (  128,  128,  128,   160,   128)),
        "sentry_sha3_256_tree_join":    Budget( 32768, (   88,   80,   80,    80,    80)),
    },
    "samples": {
        "sentry_sample_bodies":         Budget(  4096, (   72,   72,   72,    72,    72)),
        "sentry_sample_digests":        Budget(     0, (   72,   72,   72,    72,    72)),
    },
    "lattice": {
        "sentry_lattice_sum":           Budget( 16384, (   64,   64,   64,    64,    64)),
        "sentry_lattice_fold":          Budget(     0, (   32,   32,   32,    32,    32)),
    },
}
# fmt: on

# Bytes of a file, and of all of them: every program and Python package carries them.
LARGEST_FILE = 768 << 10
LARGEST_SUM = 5 << 20

# What `ptxas -v` logs of a kernel.
USAGE = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)' for '\w+'\n"
    r".*Function properties for (?P=kernel)\n"
    r".* (?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\n"
    r".*Used (?P<registers>\d+) registers(?:.*? (?P<shared>\d+) bytes smem)?"
)


@dataclass(frozen=True)
class Module:
    """A compiled file."""

    name: str
    target: str
    image: bytes
    log: str

    @property
    def file(self) -> str:
        return f"{self.name}.{self.target}.{'ptx' if self.target == PTX else 'cubin'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", metavar="FOLDER", type=Path, required=True, help="where pip has put NVRTC")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    arguments = parser.parse_args()
    try:
        modules = list(compile_all(Nvrtc(arguments.compiler)))
    except CompileError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print_registers(modules)

    faults = {module.file: list(faults_of(module)) for module in modules}
    faults["modules/"] = list(faults_of_all(modules))
    if arguments.check:
        for file, fault in differences(modules):
            faults.setdefault(file, []).append(fault)
    elif not any(faults.values()):
        write(modules)
    for file, found in faults.items():
        for fault in found:
            print(f"error: {file}: {fault}", file=sys.stderr)
    passed = sum(not faults[module.file] for module in modules)
    failed = sum(bool(found) for found in faults.values())
    print(f"{passed} modules of {sum(len(module.image) for module in modules)} bytes: {passed} passed, {failed} failed")
    return 1 if failed else 0


def compile_all(compiler: Nvrtc) -> Iterator[Module]:
    headers = {path.name: path.read_bytes() for path in sorted(KERNELS.glob("*.cuh"))} | {"stdint.h": STDINT}
    for source in sorted(KERNELS.glob("*.cu")):
        for target in (*CUBINS, PTX):
            options = [*OPTIONS, *(f"--define-macro={define}" for define in DEFINES.get((source.stem, target), ()))]
            yield Module(source.stem, target, *compiler.compile(source.name, source.read_bytes(), headers, target, options))


def usages(log: str) -> dict[str, re.Match[str]]:
    return {usage["kernel"]: usage for usage in USAGE.finditer(log)}


def faults_of(module: Module) -> Iterator[str]:
    """What is wrong with a module, whether or not it is what lies in modules/."""
    yield from (f"the compiler warns: {line}" for line in module.log.splitlines() if "warning" in line)
    if len(module.image) > LARGEST_FILE:
        yield f"{len(module.image)} bytes, at most {LARGEST_FILE} are allowed"
    budgets, used = BUDGETS.get(module.name, {}), usages(module.log)
    if module.target == PTX:
        kernels = set(re.findall(r"^\.visible \.entry (\w+)\(", module.image.decode(), re.MULTILINE))
    else:
        kernels = set(re.findall(r"Function properties for (\w+)", module.log))
        yield from (f"{name} is not inlined, or logged in an unknown way" for name in sorted(kernels - used.keys()))
    yield from (f"{kernel} is not in it" for kernel in sorted(budgets.keys() - kernels))
    yield from (f"{kernel} has no budget in compile.py" for kernel in sorted(kernels - budgets.keys()))
    for kernel in sorted(budgets.keys() & used.keys()):
        yield from over_budget(kernel, budgets[kernel], module.target, used[kernel])


def over_budget(kernel: str, budget: Budget, target: str, used: re.Match[str]) -> Iterator[str]:
    most = budget.registers[CUBINS.index(target)]
    if int(used["registers"]) > most:
        yield f"{kernel} uses {used['registers']} registers, at most {most} are allowed"
    if int(used["shared"] or 0) != budget.shared:
        yield f"{kernel} uses {used['shared'] or 0} bytes of shared memory, expected {budget.shared}"
    if any(int(used[what]) for what in ("stack", "stores", "loads")):
        yield f"{kernel} has a stack of {used['stack']} bytes, {used['stores']} of spill stores, {used['loads']} of spill loads: expected none"


def faults_of_all(modules: list[Module]) -> Iterator[str]:
    yield from (f"there is no kernels/{name}.cu, for which compile.py has budgets" for name in BUDGETS.keys() - {m.name for m in modules})
    size = sum(len(module.image) for module in modules)
    if size > LARGEST_SUM:
        yield f"{size} bytes in all, at most {LARGEST_SUM} are allowed"


def differences(modules: list[Module]) -> Iterator[tuple[str, str]]:
    """Files that are not what `write` would leave, each with what is wrong."""
    there = {path.name: path.read_bytes() for path in MODULES.iterdir()} if MODULES.exists() else {}
    for module in modules:
        image = there.pop(module.file, None)
        if image is None:
            yield module.file, "missing"
        elif image != module.image:
            yield module.file, "not what the sources compile to; if they are meant to differ, `make modules` writes it again"
    yield from ((file, "made by nothing here") for file in there)


def write(modules: list[Module]) -> None:
    MODULES.mkdir(exist_ok=True)
    for path in MODULES.iterdir():
        path.unlink()
    for module in modules:
        (MODULES / module.file).write_bytes(module.image)


def print_registers(modules: list[Module]) -> None:
    """A table for people: registers of all kernels, and budgets."""
    print("registers, of" + " " * 21 + "".join(f"{target:>11}" for target in CUBINS))
    used = {(kernel, module.target): usage["registers"] for module in modules for kernel, usage in usages(module.log).items()}
    for budgets in BUDGETS.values():
        for kernel, budget in budgets.items():
            cells = (f"{used.get((kernel, target), '–'):>5} of {most:<3}" for target, most in zip(CUBINS, budget.registers, strict=True))
            print(f"{kernel:32}  " + "".join(cells).rstrip())


if __name__ == "__main__":
    sys.exit(main())
