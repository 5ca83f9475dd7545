#!/usr/bin/env python3
"""Runs any verifier over exported attacks, and judges it by its exit code alone.

python attacks/check.py DIR --tool 'verify-model {artifact} --signature {signature} --key {key}'

The three words in braces are paths; the command runs in the case's folder, without a terminal, for at most 30 seconds
and with at most 4 GiB. 0 is "accepted", a signal, a timeout or a Python traceback is "broke down", anything else is
"refused". An attack must be refused, an honest control accepted. Exits with 1 if one was not.
"""

import argparse
import concurrent.futures
import json
import os
import resource
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

SECONDS = 30
MEMORY = 4 << 30


def main() -> int:
    """Returns the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, metavar="DIR")
    arguments.add_argument("--tool", required=True, metavar="COMMAND")
    arguments.add_argument("--name", help="what to call the tool in the report")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    arguments.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = arguments.parse_args()
    listed = json.loads((options.folder / "cases.json").read_text(encoding="utf-8"))["cases"]
    if not listed:
        arguments.error("no cases")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        outcomes = list(pool.map(lambda case: run(options.folder, case, options.tool), listed))
    results = [
        {"class": case["class"], "name": case["name"], "must": must(case), "outcome": outcome, "said": said}
        for case, (outcome, said) in zip(listed, outcomes, strict=True)
    ]
    wrong = [result for result in results if not good(result)]
    show(results, wrong)
    if options.json:
        report = {"tool": options.name or options.tool, "cases": len(results), "wrong": len(wrong), "results": results}
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if wrong else 0


def must(case: dict) -> str:
    """What a verifier must do: a tool that cannot check must not accept either."""
    return "accepted" if case["expected"]["verdict"] == "accept" else "refused"


def good(result: dict) -> bool:
    """Whether a tool did what it must."""
    return result["outcome"] == result["must"]


def run(folder: Path, case: dict, tool: str) -> tuple[str, str]:
    """One command: what came of it, and the end of what it said."""
    root = folder / case["folder"]
    paths = {name: str((root / path).absolute()) for name, path in case["inputs"].items()}
    command = [word.format(**paths) for word in shlex.split(tool)]
    try:
        done = subprocess.run(
            command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)), check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "broke down", f"more than {SECONDS} seconds"
    text = (done.stdout + done.stderr).decode(errors="replace").strip()
    last = text.splitlines()[-1][:300] if text else ""
    for path in {str(root.absolute()), str(folder.absolute())}:
        last = last.replace(path, "…")
    if done.returncode == 0:
        return "accepted", last
    if done.returncode < 0 or "Traceback (most recent call last)" in text:
        return "broke down", last
    return "refused", last


def show(results: list[dict], wrong: list[dict]) -> None:
    """A line for each class, and one for each case that went wrong."""
    print(f"{'class':16} {'cases':>6} {'right':>6}   otherwise")
    for group in dict.fromkeys(result["class"] for result in results):
        own = [result for result in results if result["class"] == group]
        otherwise = Counter(result["outcome"] for result in own if not good(result))
        listed = ", ".join(f"{count} {outcome}" for outcome, count in otherwise.items())
        print(f"{group:16} {len(own):6} {sum(map(good, own)):6}   {listed}")
    for result in wrong:
        print(f"{result['class']}: {result['name']}: must be {result['must']}, {result['outcome']}: {result['said']}")
    print(f"{len(results) - len(wrong)} of {len(results)} right")


if __name__ == "__main__":
    sys.exit(main())
