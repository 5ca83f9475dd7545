"""Every case as data, for tools other than Sentry: `attacks/cases.json`.

The metadata is made from the fixtures themselves, so it cannot drift from them: a whole run of `run.py` compares.
"""

import json
from pathlib import Path

from .case import Attempt, Case, Script
from .world import World

PATH = Path(__file__).parents[1] / "cases.json"

# Codes about what only Sentry writes, or what it asks of its own commands.
OWN_CODES = {"annotation_invalid", "annotation_mismatch", "would_overwrite", "usage"}
# Classes about Sentry's commands and not about a signature.
OWN_CLASSES = {"disk", "tree", "policy", "dataset"}
# Parts of names of fixtures about our extensions of the format.
OWN_WORDS = ("annotation", "ed25519", "version")

# Options that name files, and what these are called.
GIVEN = {
    "--signature": "signature", "--key": "key", "--certificate-root": "roots", "--timestamp-root": "timestamp roots",
    "--policy": "policy",
}  # fmt: skip


def describe(case: Case, world: World, attempt: Attempt | Script) -> dict:
    """One case: what is wrong, the inputs and the command beneath the case's folder, what must come of it."""
    verdict = {0: "accept", 1: "reject", 2: "cannot check"}
    expected = {"verdict": verdict[case.exit], "code": case.code, "exit": case.exit}
    if case.code == "killed":
        expected = {"verdict": "leave no half-written signature", "code": None, "exit": None}
    described = {"class": case.group, "name": case.name, "what": what(case), "about": "oms", "expected": expected}
    if isinstance(attempt, Script):
        return {**described, "about": "sentry", "driver": "several commands; see the fixture"}
    command = [relative(argument, world) for argument in attempt.args if argument != "--json"]
    described["command"] = command
    described["inputs"] = inputs(command, world)
    driver = needs(attempt)
    if driver:
        described["driver"] = driver
    if is_own(case, command):
        described["about"] = "sentry"
    return described


def what(case: Case) -> str:
    """The fixture's own sentence, or its name in words."""
    sentence = " ".join((case.build.__doc__ or "").split())
    return sentence or case.name.replace("__", ": ").replace("_", " ")


def relative(argument: str, world: World) -> str:
    """A path of the fixture as seen from its folder."""
    root = str(world.root)
    return argument[len(root) + 1 :] if argument.startswith(root + "/") else argument


def inputs(command: list[str], world: World) -> dict[str, str]:
    """The artifact, the signature (the first of several), and what a command is given to trust."""
    if command[0] == "policy":
        return {"policy": command[2]}
    found = {"artifact": command[2 if command[0] == "dataset" else 1], "signature": relative(str(world.signature), world)}
    for option, name in GIVEN.items():
        if option in command:
            found[name] = command[command.index(option) + 1]
    return found


def needs(attempt: Attempt) -> str:
    """What a runner has to do besides starting the command; empty if nothing."""
    asked = [
        (attempt.program, f"call the Python package: kit/{Path(attempt.program[-1]).name}" if attempt.program else ""),
        (attempt.drive, "change files while the command runs"),
        (attempt.as_nobody, "run the command without root"),
        (attempt.file_size, "limit the size of files"),
        (attempt.environment, "set the environment"),
        (attempt.prefix, "start the command by another"),
    ]
    return "; ".join(text for asks, text in asked if asks)


def is_own(case: Case, command: list[str]) -> bool:
    """Whether a case is about Sentry's own additions and commands, and not about the common format."""
    options = {word for word in command if word.startswith("--")} - {"--key", "--signature"}
    words = any(word in case.name for word in OWN_WORDS)
    # OpenSSF Model Signing knows files; that a signed one is malformed inside is what our annotations find.
    inside = case.group == "safetensors" and case.name.endswith("signed")
    return case.code in OWN_CODES or case.group in OWN_CLASSES or words or inside or command[0] != "verify" or bool(options)


def document(described: list[dict]) -> str:
    """The whole file."""
    ordered = sorted(described, key=lambda case: (case["class"], case["name"]))
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in ordered)
    return '{"format": "sentry-ml.dev/attacks/v1", "cases": [\n' + lines + "\n]}\n"


def problems(described: list[dict]) -> list[str]:
    """What is wrong with the committed file, after a run of every case."""
    there = PATH.read_text(encoding="utf-8") if PATH.exists() else ""
    if there == document(described):
        return []
    return ["cases.json is out of date: run `python attacks/run.py --write-cases`"]
