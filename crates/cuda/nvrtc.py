"""NVIDIA's run-time compiler (NVRTC) as a function: source in, machine code or PTX out. Needs its library, and neither a toolkit nor a GPU.

What comes out depends on the arguments alone. Sources are given in memory under bare names, so no path can get into it, and the
environment variables through which the library takes more options are removed.
"""

import ctypes
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


class CompileError(Exception):
    """The library cannot be used, or rejected a source; the message has what it logged."""


class Nvrtc:
    """The library, found below the folder that its package was installed into."""

    def __init__(self, folder: Path) -> None:
        for name in [name for name in os.environ if name.startswith("NVRTC_")]:
            del os.environ[name]
        library = _only(folder, "libnvrtc.so.*")
        # It looks for this one by name only, wherever the system's loader does. Loaded before, it is the one that is found.
        self._builtins = ctypes.CDLL(str(_only(library.parent, "libnvrtc-builtins.so.*")))
        self._library = ctypes.CDLL(str(library))
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def compile(self, name: str, source: bytes, headers: Mapping[str, bytes], target: str, options: Sequence[str]) -> tuple[bytes, str]:
        """What `source` is compiled to, and the log. `target` is `sm_…` for a cubin, `compute_…` for PTX."""
        if any(b"\0" in text for text in (source, *headers.values())):
            raise CompileError(f"{name}: a zero byte, behind which the compiler reads nothing")
        program = ctypes.c_void_p()
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            ctypes.c_char_p(source),
            ctypes.c_char_p(name.encode()),
            ctypes.c_int(len(headers)),
            _strings(headers.values()),
            _strings(header.encode() for header in headers),
        )
        try:
            flags = [f"--gpu-architecture={target}", *options]
            try:
                self._call("nvrtcCompileProgram", program, ctypes.c_int(len(flags)), _strings(flag.encode() for flag in flags))
            except CompileError as error:
                raise CompileError(f"{name} for {target}: {error}\n{self._text(program, 'ProgramLog')}") from None
            kind = "CUBIN" if target.startswith("sm_") else "PTX"
            image = self._read(program, kind)
            return (image if kind == "CUBIN" else image.removesuffix(b"\0")), self._text(program, "ProgramLog")
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))

    def _text(self, program: ctypes.c_void_p, what: str) -> str:
        return self._read(program, what).rstrip(b"\0").decode()

    def _read(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _call(self, function: str, *arguments: object) -> None:
        status = self._library[function](*arguments)
        if status != 0:
            raise CompileError(f"{function}: {self._library.nvrtcGetErrorString(status).decode()}")


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise CompileError(f"{folder}: expected one {pattern}, found {len(found)}")
    return found[0]


def _strings(values: Iterable[bytes]) -> "ctypes.Array[ctypes.c_char_p]":
    listed = list(values)
    return (ctypes.c_char_p * len(listed))(*listed)
