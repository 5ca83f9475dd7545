"""Drivers to run a case over: the emulated one of crates/cuda, with GPUs that fail as they are told, or none at all."""

import ctypes.util
import shutil
from pathlib import Path

from .case import Broken, NotHere

FOLDER = Path(__file__).parents[2] / "target" / "cuda" / "driver"
LIBRARY = FOLDER / "libcuda.so.1"

# Names under which a loader may look for the driver.
NAMES = ("libcuda.so", "libcuda.so.1", "libcuda.so.12", "libcuda64.so", "libnvcuda.so", "libnvcuda.so.1")


def emulated(settings: str = "", folder: Path = FOLDER) -> dict[str, str]:
    """The environment with the emulated driver; `settings` as in crates/cuda/tests/driver/settings.h."""
    if not LIBRARY.is_file():
        raise Broken(f"no emulated driver at {LIBRARY}: make -C crates/cuda driver")
    return {"LD_LIBRARY_PATH": str(folder), "SENTRY_EMULATED_CUDA": settings}


def none() -> dict[str, str]:
    """The environment as it is, on a machine without a driver."""
    if ctypes.util.find_library("cuda"):
        raise NotHere("this machine has a driver; see no_driver__damaged")
    return {}


def damaged(folder: Path) -> dict[str, str]:
    """The environment with a driver that is not to be loaded, on any machine: the loader takes the first file of the name."""
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(b"no library\n")
    return {"LD_LIBRARY_PATH": str(folder)}


def plant(folder: Path) -> None:
    """Puts the emulated driver into a folder, under every name."""
    emulated()
    for name in NAMES:
        shutil.copy(LIBRARY, folder / name)
