"""Judges the outcome of an attempt against what its case says must come of it."""

import json
import os
from pathlib import Path

from .case import Attempt, Case
from .process import Outcome

STATUS = {0: "verified", 1: "rejected", 2: "not checked"}


def snapshot(root: Path) -> dict[str, tuple]:
    """Every path below a folder, with size and time of change: what a refusal must not alter."""
    seen = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            try:
                info = os.lstat(path)
            except OSError:
                continue  # a path too long to name: a fixture's, no command leaves one
            seen[path] = () if name in folders else (info.st_size, info.st_mtime_ns)
    return seen


def left_behind(before: dict, after: dict) -> list[str]:
    """Names what appeared, vanished or changed."""
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    return [f"the command changed {os.path.basename(path)!r}" for path in sorted(changed)]


def _common(outcome: Outcome, expected_exit: int) -> list[str]:
    if outcome.timed_out:
        return ["timed out"]
    if outcome.crashed or "panicked at" in outcome.stderr:
        return [f"crashed with {outcome.code}: {outcome.stderr[-300:]}"]
    if outcome.code != expected_exit:
        said = (outcome.stdout + outcome.stderr).strip()[-300:]
        return [f"exit {outcome.code}, expected {expected_exit}: {said}"]
    return []


def _boasts(outcome: Outcome) -> list[str]:
    said = (outcome.stdout + outcome.stderr).lower()
    return ['the output says "verified"'] if "verified" in said else []


def refused(case: Case, attempt: Attempt, outcome: Outcome) -> list[str]:
    """Problems of a case that must be rejected, run with `--json`."""
    problems = _common(outcome, case.exit) + _boasts(outcome)
    try:
        report = json.loads(outcome.stdout)
    except ValueError:
        return problems + [f"stdout is not one JSON document: {outcome.stdout[:120]!r}"]
    if report.get("status") != STATUS[case.exit]:
        problems.append(f"status {report.get('status')!r}, expected {STATUS[case.exit]!r}")
    error = report.get("error") or {}
    if error.get("code") != case.code:
        problems.append(f"code {error.get('code')!r}, expected {case.code!r}")
    if not error.get("message"):
        problems.append("no message")
    return problems + _differences(attempt, error.get("differences"))


def _differences(attempt: Attempt, found: list | None) -> list[str]:
    if attempt.differences is None:
        return ["differences with another code than those of differences"] if found else []
    got = {(item.get("kind"), where(item), item.get("tensor") or item.get("sample")) for item in found or []}
    if got == attempt.differences:
        return []
    return [
        f"differences {sorted(map(str, got))}, expected {sorted(map(str, attempt.differences))}"
    ]


def where(item: dict) -> str | None:
    """The file, or the source or field of a dataset, that a difference is about."""
    return item.get("file") or item.get("source") or item.get("field")


def refused_for_people(case: Case, outcome: Outcome) -> list[str]:
    """Problems of the same case without `--json`: all text on stderr, none of it a promise."""
    problems = _common(outcome, case.exit) + _boasts(outcome)
    if outcome.stdout:
        problems.append("text for people on stdout")
    if not outcome.stderr.strip():
        problems.append("nothing on stderr")
    return [f"without --json: {problem}" for problem in problems]


def accepted(attempt: Attempt, outcome: Outcome) -> list[str]:
    """Problems of an honest control."""
    problems = _common(outcome, 0)
    if problems or not (attempt.program or "verify" in attempt.args[:2]):
        return problems
    try:
        report = json.loads(outcome.stdout)
    except ValueError:
        return [f"stdout is not one JSON document: {outcome.stdout[:120]!r}"]
    wanted = {"status": "verified", **attempt.fields}
    return [
        f"{name} is {report.get(name)!r}, expected {value!r}"
        for name, value in wanted.items()
        if report.get(name) != value
    ]
