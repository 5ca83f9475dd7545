#!/usr/bin/env python3
"""Writes the attacks into a folder, for any tool that verifies OpenSSF Model Signing: see README.md.

python attacks/export.py DIR            every case that is files and one command
python attacks/export.py DIR --own      also those about Sentry's own additions and commands

DIR/cases.json lists them; each has a folder CLASS/NAME with the model, the signature and the public key. Keys are made
anew by each export, so the files differ from one to the next, and what they show does not.
"""

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import cases  # noqa: E402
from kit import data  # noqa: E402
from kit.case import CASES, Broken, NotHere  # noqa: E402
from kit.world import World, remove  # noqa: E402


def main() -> int:
    """Returns the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, metavar="DIR")
    arguments.add_argument("--own", action="store_true")
    options = arguments.parse_args()
    if options.folder.exists() and any(options.folder.iterdir()):
        print(f"error: {options.folder} is not empty", file=sys.stderr)
        return 2
    for module in pkgutil.iter_modules(cases.__path__):
        importlib.import_module(f"cases.{module.name}")

    written, left_out = [], []
    for case in CASES:
        folder = Path(case.group.replace(" ", "_")) / case.name
        root = (options.folder / folder).resolve()
        root.mkdir(parents=True)
        world = World(root)
        try:
            described = data.describe(case, world, case.build(world))
        except (NotHere, Broken) as reason:
            left_out.append(f"{case.name}: {reason}")
            continue
        if "driver" in described or (described["about"] != "oms" and not options.own):
            remove(root)
            continue
        written.append({**described, "folder": str(folder)})
    (options.folder / "cases.json").write_text(data.document(written), encoding="utf-8")
    print(json.dumps({"written": len(written), "not possible here": left_out}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
