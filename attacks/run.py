#!/usr/bin/env python3
"""Runs every fixture against the `sentry` binary or the Python package; see README.md.

python attacks/run.py [--sentry BIN] [--only NAME]... [-v]
python attacks/run.py --build-only       builds the fixtures and looks at them without Sentry
python attacks/run.py --check-readme     fails if README.md does not list what is here
python attacks/run.py --write-cases      writes cases.json, every case as data; a whole run compares
"""

import argparse
import concurrent.futures
import fnmatch
import importlib
import importlib.util
import os
import pkgutil
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import cases  # noqa: E402
from kit import data, judge, naive, process, readme  # noqa: E402
from kit.case import CASES, DIFFERS, Attempt, Broken, Case, NotHere, Script  # noqa: E402
from kit.world import World, remove  # noqa: E402

DEFAULT_BINARY = HERE.parent / "target" / "release" / "sentry"


@dataclass
class Result:
    """What became of one case."""

    case: Case
    problems: list[str] = field(default_factory=list)
    skipped: str = ""
    seconds: float = 0.0
    described: dict | None = None  # the case as data, once its fixture is built


def main() -> int:
    """Returns the exit status."""
    options = arguments()
    for module in pkgutil.iter_modules(cases.__path__):
        importlib.import_module(f"cases.{module.name}")
    if options.write_readme:
        readme.write()
    if options.write_readme or options.check_readme:
        return report_readme()
    chosen = [case for case in CASES if matches(case, options.only)]
    if not chosen:
        print("no such case", file=sys.stderr)
        return 2
    if options.write_cases:
        options.build_only = True
    if not options.build_only and not options.sentry.is_file():
        print(f"no binary at {options.sentry}: build it, or use --sentry", file=sys.stderr)
        return 2
    results = run_all(chosen, options)
    if options.write_cases:
        return write_cases(results)
    return report(results, options)


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sentry", type=Path, default=DEFAULT_BINARY, metavar="BIN")
    only = "a name, the beginning of one, a class, or a pattern; repeatable"
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help=only)
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for every case")
    parser.add_argument("--build-only", action="store_true", help="do not run the binary")
    parser.add_argument("--check-readme", action="store_true")
    parser.add_argument("--write-readme", action="store_true")
    parser.add_argument("--write-cases", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="build under DIR and leave it")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 2) + 1)
    return parser.parse_args()


def matches(case: Case, only: list[str]) -> bool:
    """Whether a case was asked for; without `--only` all are."""
    return not only or any(
        case.name.startswith(word) or case.group == word or fnmatch.fnmatch(case.name, word)
        for word in only
    )


def run_all(chosen: list[Case], options: argparse.Namespace) -> list[Result]:
    """Runs the cases side by side, each in a folder of its own."""
    base = options.keep or Path(tempfile.mkdtemp(prefix="sentry-attacks-"))
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o755)  # some cases run as another user
    binary = None
    if not options.build_only:
        # A copy that every user may run, and that no build replaces meanwhile.
        binary = base / "sentry"
        shutil.copy(options.sentry, binary)
        binary.chmod(0o755)
    try:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            jobs = [pool.submit(run_case, case, base, binary, options.keep) for case in chosen]
            return [job.result() for job in jobs]
    finally:
        if not options.keep:
            remove(base)


def run_case(case: Case, base: Path, binary: Path | None, keep: bool) -> Result:
    """Builds one fixture, and runs it unless there is no binary."""
    result = Result(case)
    root = base / f"{case.group.replace(' ', '_')}-{case.name}"
    began = time.monotonic()
    try:
        root.mkdir()
        world = World(root)
        attempt = case.build(world)
        result.described = data.describe(case, world, attempt)
        if binary is None:
            result.problems = look_at(case, world, attempt)
        else:
            result.problems = attack(case, world, attempt, binary)
    except NotHere as reason:
        result.skipped = str(reason)
    except Exception as error:  # a fixture that breaks is a failure of its case alone
        result.problems = [f"{type(error).__name__}: {error}"]
        if not isinstance(error, Broken):
            result.problems.append(traceback.format_exc(limit=-3))
    finally:
        result.seconds = time.monotonic() - began
        if not keep:
            remove(root)
    return result


def attack(case: Case, world: World, attempt: Attempt | Script, binary: Path) -> list[str]:
    """Runs a fixture and judges the outcome."""
    if isinstance(attempt, Script):
        return attempt.run(binary)
    if attempt.program and importlib.util.find_spec("sentry") is None:
        raise Broken("this Python has no package `sentry`: make package")
    before = judge.snapshot(world.root)
    outcome = process.run(binary, attempt, world.root)
    if case.code is None:
        problems = judge.accepted(attempt, outcome)
        loads = attempt.program and not attempt.drive  # loading leaves nothing behind; others may write a signature
        return problems + (judge.left_behind(before, judge.snapshot(world.root)) if loads else [])
    problems = judge.refused(case, attempt, outcome)
    if attempt.drive:  # the driver changed files itself; a signature must still not be there
        signs = "sign" in attempt.args[:2]
        return problems + (["a signature was left"] if signs and world.signature.exists() else [])
    if not attempt.once and not outcome.timed_out:
        people = process.run(binary, attempt, world.root, attempt.args[:-1])
        problems += judge.refused_for_people(case, people)
    return problems + judge.left_behind(before, judge.snapshot(world.root))


def look_at(case: Case, world: World, attempt: Attempt | Script) -> list[str]:
    """Checks a fixture without Sentry: the naive verifier finds only what the case is about."""
    if isinstance(attempt, Script):
        return []
    if "sign" in attempt.args[:2]:
        return [] if world.model.exists() else ["nothing to sign"]
    if (attempt.differences is None) == (case.code in DIFFERS):
        return [f"differences go with {' and '.join(sorted(DIFFERS))}, and with nothing else"]
    if not case.naive:
        return []
    return naive.problems(case, attempt, world)


def report(results: list[Result], options: argparse.Namespace) -> int:
    """Prints failures, counts by class, and the last line; returns the exit status."""
    failed = [result for result in results if result.problems]
    skipped = [result for result in results if result.skipped]
    if options.verbose:
        for result in results:
            mark = "FAIL" if result.problems else "skip" if result.skipped else "pass"
            print(f"{mark} {result.seconds:6.2f} s  {result.case.group}: {result.case.name}")
    for result in failed:
        print(f"FAILED {result.case.group}: {result.case.name}")
        for problem in result.problems:
            print("    " + problem.replace("\n", "\n    "))
    for result in skipped:
        print(f"skipped {result.case.group}: {result.case.name}: {result.skipped}")
    for group in [*readme.groups(), "control"]:
        print_count(group, [result for result in results if result.case.group == group])
    # Where a fixture could not be built, its line of the file cannot be compared.
    stale = [] if options.only or skipped or failed else data.problems([r.described for r in results])
    for problem in stale:
        print(f"FAILED {problem}")
    accepted = sum(any("exit 0, expected" in problem for problem in r.problems) for r in failed)
    if accepted:
        print(f"wrongly accepted: {accepted}")
    print(f"{len(results) - len(failed) - len(skipped)} passed, {len(failed) + len(stale)} failed")
    return 1 if failed or stale else 0


def write_cases(results: list[Result]) -> int:
    """Writes cases.json, if every fixture could be built."""
    missing = [result.case.name for result in results if result.described is None]
    if missing or len(results) != len(CASES):
        print(f"not written: fixtures that could not be built here, or were left out: {missing}")
        return 1
    data.PATH.write_text(data.document([result.described for result in results]), encoding="utf-8")
    print(f"cases.json has {len(results)} cases")
    return 0


def print_count(group: str, results: list[Result]) -> None:
    """One line a class."""
    if not results:
        return
    counts = Counter(
        "failed" if r.problems else "skipped" if r.skipped else "passed" for r in results
    )
    seconds = sum(result.seconds for result in results)
    print(f"{group:16} {counts['passed']:4} passed {counts['failed']:4} failed"
          f" {counts['skipped']:4} skipped {seconds:7.1f} s")  # fmt: skip


def report_readme() -> int:
    """Prints what is wrong with README.md."""
    problems = readme.problems()
    for problem in problems:
        print(problem)
    print(f"README.md lists {len(CASES)} cases" if not problems else "README.md does not fit")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
