"""The tables of `attacks/README.md`, made from the code so that they cannot drift from it."""

from pathlib import Path

from .case import CASES, Case
from .catalog import LATER, NAMED, OURS, names

BEGIN, END = "<!-- begin: made by run.py --write-readme -->", "<!-- end -->"
PATH = Path(__file__).parents[1] / "README.md"


def _rejected() -> list[Case]:
    return [case for case in CASES if case.code]


def groups() -> list[str]:
    """Classes that have fixtures, in the threat model's order, then ours, then the controls."""
    own = [case.group for case in CASES]
    known = [group for group in NAMED if group in own]
    return known + sorted({group for group in own if group not in known and group != "control"})


def _fixtures() -> list[str]:
    lines = ["| class | case | fixture | expected code | exit |", "|---|---|---|---|---|"]
    for group in groups():
        of_group = [case for case in _rejected() if case.group == group]
        order = {name: at for at, name in enumerate(names(group))}
        of_group.sort(key=lambda case: (order.get(case.title, len(order)), case.title))
        for case in of_group:
            exit_code = "–" if case.code == "killed" else case.exit
            row = [group, f"`{case.name}`", f"`cases/{case.fixture}`", f"`{case.code}`", exit_code]
            lines.append("| " + " | ".join(map(str, row)) + " |")
    return lines


def _counts() -> list[str]:
    lines = ["| class | names | fixtures |", "|---|---|---|"]
    for group in groups():
        of_group = [case for case in _rejected() if case.group == group]
        lines.append(f"| {group} | {len({case.title for case in of_group})} | {len(of_group)} |")
    lines.append(f"| all | {len({c.title for c in _rejected()})} | {len(_rejected())} |")
    return lines


def _later() -> list[str]:
    lines = ["| class | case | why not yet |", "|---|---|---|"]
    for group in NAMED:
        for name in names(group):
            reason = LATER.get(name) or LATER.get(group)
            if reason:
                lines.append(f"| {group} | `{name}` | {reason} |")
    return lines


def _ours() -> list[str]:
    lines = ["| case | what asks for it |", "|---|---|"]
    return lines + [f"| `{name}` | {reason} |" for name, reason in OURS.items()]


def tables() -> str:
    """Everything between the two marks."""
    controls = sum(case.code is None for case in CASES)
    parts = [
        BEGIN, "", *_counts(), "",
        f"Besides, {controls} honest controls must be accepted.", "",
        "## Fixtures", "", *_fixtures(), "",
        "## Named by the threat model, and not here yet", "", *_later(), "",
        "## Ours, not named by the threat model", "", *_ours(), "", END,
    ]  # fmt: skip
    return "\n".join(parts)


def _split(text: str) -> tuple[str, str, str]:
    head, _, rest = text.partition(BEGIN)
    middle, _, tail = rest.partition(END)
    return head, BEGIN + middle + END, tail


def write() -> None:
    """Puts the tables into the file."""
    head, _, tail = _split(PATH.read_text(encoding="utf-8"))
    PATH.write_text(head + tables() + tail, encoding="utf-8")


def problems() -> list[str]:
    """What is wrong between catalogue, code and file."""
    found = []
    for group in NAMED:
        titles = {case.title for case in _rejected() if case.group == group}
        found += [
            f"{name} ({group}) has neither a fixture nor a reason why not"
            for name in names(group)
            if name not in titles and name not in LATER and group not in LATER
        ]
        found += [
            f"{title} ({group}) is in neither the catalogue nor the list of ours"
            for title in sorted(titles)
            if title not in names(group) and title not in OURS
        ]
    every = [case.name for case in CASES]
    found += [f"{name} is there twice" for name in sorted({n for n in every if every.count(n) > 1})]
    used = {case.title for case in _rejected()}
    found += [f"{name} is listed as ours and has no fixture" for name in OURS if name not in used]
    if _split(PATH.read_text(encoding="utf-8"))[1] != tables():
        found.append("README.md is out of date: run `python attacks/run.py --write-readme`")
    return found
