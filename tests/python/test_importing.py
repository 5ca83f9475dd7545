"""What `import sentry` does not do: import large libraries, start threads, open devices, look at the command line or around itself."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import sentry
from conftest import ROOT, flip

PACKAGE = Path(sentry.__file__).parent
ADAPTERS = ("hub", "safetensors", "torch", "transformers", "vllm")


def python(program: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run a program in a new interpreter that finds the same packages, and return what it prints."""
    run = subprocess.run([sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return run.stdout


@pytest.mark.parametrize("name", ["torch", "numpy", "transformers", "huggingface_hub", "safetensors", "ml_dtypes", "tokenizers"])
def test_no_other_library_is_imported(name: str) -> None:
    assert python(f"import sys, sentry; print({name!r} in sys.modules)") == "False\n"


def test_the_modules_of_the_package_are_few_and_its_own() -> None:
    loaded = json.loads(python("import sys; before = set(sys.modules); import sentry, json; print(json.dumps(sorted(set(sys.modules) - before)))"))
    outside = {name.split(".")[0] for name in loaded} - {"sentry"} - sys.stdlib_module_names
    assert outside == set()
    assert not any(f"sentry.{name}" in loaded for name in ADAPTERS)


def test_no_thread_is_started() -> None:
    assert python("import os, sentry; print(len(os.listdir('/proc/self/task')))") == "1\n"


def test_no_gpu_is_opened() -> None:
    program = """
import os, sentry
opened = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
mapped = open("/proc/self/maps").read()
print([path for path in opened if "nvidia" in path or "/dri/" in path], [name for name in ("libcuda", "libnvidia", "libcufile") if name in mapped])
"""
    assert python(program) == "[] []\n"


def test_neither_arguments_nor_the_working_directory_are_needed(tmp_path: Path) -> None:
    program = """
import os, sys
sys.path = [path for path in sys.path if path]
os.rmdir(sys.argv[1])
del sys.argv
def refuse(*arguments):
    raise AssertionError("the working directory was asked for")
os.getcwd = os.getcwdb = refuse
import sentry
print(sentry.__version__)
"""
    gone = tmp_path / "gone"
    gone.mkdir()
    assert python(program, str(gone), cwd=gone) == f"{sentry.__version__}\n"


def test_arguments_are_not_taken_for_ones_own(signed: Path, trust: sentry.PublicKey, tmp_path: Path) -> None:
    program = """
import sys, sentry
print(sentry.verify_model(sys.argv[1], trust=sentry.PublicKey(sys.argv[2])).files)
"""
    (tmp_path / "publisher.pub").write_text(trust.pem)
    extra = ("--ignore-unsigned-files", "--ignore", "config.json", "--help")
    assert python(program, str(signed), str(tmp_path / "publisher.pub"), *extra) == "2\n"


def test_nothing_is_picked_up_from_the_working_directory(signed: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path) -> None:
    # A signature, a key and a library there that nobody asked for.
    (tmp_path / "here").mkdir()
    (tmp_path / "here/model.sig").write_bytes((signed / "model.sig").read_bytes())
    (tmp_path / "here/libcuda.so.1").write_text("no library")
    key.write(tmp_path / "here/sentry.key")
    (tmp_path / "publisher.pub").write_text(trust.pem)
    (signed / "model.sig").unlink()
    program = """
import sys, sentry
try:
    sentry.verify_model(sys.argv[1], trust=sentry.PublicKey(sys.argv[2]))
except sentry.NotCheckedError as error:
    print(error.code)
"""
    assert python(program, str(signed), str(tmp_path / "publisher.pub"), cwd=tmp_path / "here") == "signature_not_found\n"


@pytest.mark.parametrize("variable", ["SENTRY_COUNT_BYTES", "SENTRY_SKIP", "SENTRY_KEY_PASSWORD"])
def test_no_variable_of_the_environment_turns_a_check_off(
    signed: Path, trust: sentry.PublicKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    program = """
import sys, sentry
try:
    sentry.verify_model(sys.argv[1], trust=sentry.PublicKey(sys.argv[2]))
except sentry.VerificationError as error:
    print(error.code)
"""
    (tmp_path / "publisher.pub").write_text(trust.pem)
    flip(signed / "model.safetensors")
    monkeypatch.setenv(variable, "1")
    assert python(program, str(signed), str(tmp_path / "publisher.pub")) == "model_differs\n"


def test_adapters_are_imported_when_they_are_used_and_not_before() -> None:
    program = """
import sys, sentry
libraries = ("torch", "transformers", "huggingface_hub", "numpy", "vllm")
for name in ("hub", "safetensors", "transformers", "vllm", "torch"):
    module = getattr(sentry, name)
    assert module is sys.modules[f"sentry.{name}"]
    print(name, [library for library in libraries if library in sys.modules])
"""
    lines = python(program).splitlines()
    # Only torch's own functions need it to be there when they are defined.
    assert lines[:4] == ["hub []", "safetensors []", "transformers []", "vllm []"]
    assert lines[4].startswith("torch ['torch'")


def test_names_that_are_offered_are_there() -> None:
    assert len(sentry.__all__) == len(set(sentry.__all__))
    for name in sentry.__all__:
        assert getattr(sentry, name) is not None, name
    assert set(sentry.__all__) | set(ADAPTERS) <= set(dir(sentry))
    # A star import would import the libraries, and hide one's own name for torch.
    assert not set(ADAPTERS) & set(sentry.__all__)
    with pytest.raises(AttributeError, match="no attribute 'verify'"):
        sentry.verify  # noqa: B018


def test_every_public_name_of_the_package_is_offered() -> None:
    offered = {name for name, value in vars(sentry).items() if not name.startswith("_") and getattr(value, "__module__", "").startswith("sentry")}
    assert offered <= set(sentry.__all__)


def test_types_are_there_for_others() -> None:
    assert (PACKAGE / "py.typed").read_bytes() == b""
    stubs = ast.parse((PACKAGE / "_native.pyi").read_text())
    described = {node.name for node in stubs.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert {"PublicKey", "PrivateKey", "Reader", "Signature", "Verification", "sign_files", "verify_files"} <= described


@pytest.mark.parametrize("module", [sentry, *(f"sentry.{name}" for name in ADAPTERS)], ids=lambda module: getattr(module, "__name__", module))
def test_every_public_function_is_described_and_typed(module: object) -> None:
    import importlib
    import inspect

    loaded = importlib.import_module(module) if isinstance(module, str) else module
    assert loaded.__doc__
    for name, value in vars(loaded).items():
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__.startswith("sentry"):
            assert value.__doc__, name
            hints = value.__annotations__
            assert set(hints) == set(inspect.signature(value).parameters) | {"return"}, name


def test_the_version_is_that_of_the_workspace() -> None:
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert sentry.__version__ == workspace["workspace"]["package"]["version"]


def test_a_child_of_fork_can_verify(signed: Path, trust: sentry.PublicKey, tmp_path: Path) -> None:
    program = """
import os, sys, sentry
def verify():
    return sentry.verify_model(sys.argv[1], trust=sentry.PublicKey(sys.argv[2])).files
verify()
child = os.fork()
if child == 0:
    os._exit(verify())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    (tmp_path / "publisher.pub").write_text(trust.pem)
    assert python(program, str(signed), str(tmp_path / "publisher.pub")) == "2\n"
