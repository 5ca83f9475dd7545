"""The report: Markdown for people and for README.md, and the numbers behind it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from statistics import median

from compare import COLUMNS, GPU_COLUMN, GPU_TITLE, TARGET_PEAK, Ratio, Row, Tools
from measure import MIB

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches/results"
README = ROOT / "README.md"
BEGIN, END = "<!-- evaluation:begin -->", "<!-- evaluation:end -->"


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def human_size(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}" if size < 100 * scale else f"{size / scale:.0f} {unit}"
    return f"{size} B"


def human_time(seconds: float) -> str:
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 9.95 else f"{seconds:.1f} s"


def human_peak(size: int, floor: int) -> str:
    # A little above the floor is the floor too: it moves by some pages from run to run.
    if size <= floor + MIB:
        return f"≤ {-(-(floor + MIB) // MIB)} MiB"
    return f"{size / MIB:.0f} MiB"


def print_table(rows: list[Row], floor: int) -> list[str]:
    columns = dict(COLUMNS)
    if any(GPU_COLUMN in row.columns for row in rows):
        columns[GPU_COLUMN] = GPU_TITLE
    lines = [
        "| model | | " + " | ".join(columns.values()) + " |",
        "|---|---|" + "---:|" * len(columns),
    ]
    for row in rows:
        label = f"{human_size(row.bytes)}: {row.what}" if row.verb == "sign" else ""
        found = [row.columns.get(column) for column in columns]
        cells = [f"{human_time(one.seconds)}, {human_peak(one.peak_bytes, floor)}" if one else "" for one in found]
        lines.append(f"| {label} | {row.verb} | " + " | ".join(cells) + " |")
    return lines


def print_ratios(ratios: list[Ratio]) -> list[str]:
    lines = [
        "| on | sentry | against | target | measured | all pairs | met |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for ratio in ratios:
        target = f"≥ {ratio.target:g}×" if ratio.target else "none"
        met = {True: "yes", False: "**no**", None: ""}[ratio.met]
        values = ratio.ratios
        lines.append(
            f"| {ratio.model} | {ratio.ours} | {ratio.other} | {target} | {median(values):.2f}× "
            f"| {values[0]:.2f}–{values[-1]:.2f} | {met} |"
        )
    return lines


def print_peak(rows: list[Row], ratios: list[Ratio], floor: int) -> str:
    """The largest memory of any of our runs: the table's two columns of ours, and our side of all pairs."""
    # The driver's own memory is most of what a load to a GPU takes.
    peaks = [s.peak_bytes for row in rows for name, s in row.columns.items() if name.startswith("sentry") and name != GPU_COLUMN]
    peaks += [ours.peak_bytes for ratio in ratios for ours, _ in ratio.pairs]
    if not peaks:
        return ""
    met = "yes" if max(peaks) < TARGET_PEAK else "**no**"
    return f"Peak memory of any run of sentry: target < 100 MiB, measured {human_peak(max(peaks), floor)}, met: {met}."


def first_line(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    text = (done.stdout or done.stderr).strip()
    return text.splitlines()[0] if text else "unknown version"


def versions(tools: Tools) -> dict[str, str]:
    commit = first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    try:
        theirs = "model-signing " + metadata.version("model-signing")
    except metadata.PackageNotFoundError:
        theirs = first_line(tools.model_signing, "--version")
    return {
        "sentry": first_line(tools.sentry, "--version"),
        "commit": commit if re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", commit) else "not committed",
        "model-signing": theirs,
        "python": "Python " + sys.version.split()[0],
        "openssl": first_line("openssl", "version").split(" (")[0],
    }


def not_warm(rows: list[Row], ratios: list[Ratio]) -> list[str]:
    """Where a run read much from the disk: its time says something about the disk."""

    def much(disk_bytes: int, size: int) -> bool:
        # A little is read by the programs themselves, and by a cache that gives up a page now and then.
        return disk_bytes > max(size // 100, 4 * MIB)

    found = [
        f"{row.size} {row.verb} {name}"
        for row in rows
        for name, series in row.columns.items()
        if much(series.disk_bytes, row.bytes)
    ]
    return found + [f"{r.model}: {r.ours} against {r.other}" for r in ratios if much(r.disk_bytes, r.bytes)]


def markdown(about: dict, rows: list[Row], ratios: list[Ratio], skipped: list[str], floor: int) -> str:
    host, tools = about["machine"], about["versions"]
    lines = [
        f"Measured on {about['date']}: {host['cpu']}, {host['cores']} cores, "
        f"{host['memory_bytes'] / (1 << 30):.0f} GiB of memory, {host['kernel']}; {tools['sentry']}, "
        f"{tools['model-signing']} on {tools['python']}, {tools['openssl']}. Models in the page cache. "
        "Each cell: median wall time of the whole command, peak memory.",
        "",
    ]
    if rows:
        lines += print_table(rows, floor)
        lines += [
            "",
            "`model-signing` hashes with SHA-256 only on its command line; BLAKE3 is in its API. Its start-up is in "
            "its times. With SHA-256, `sentry` also computes and checks a BLAKE3 digest of every tensor.",
        ]
    if skipped:
        lines += ["", *(f"- {line}" for line in skipped)]
    if ratios:
        lines += [
            "",
            "How many times as fast as the other (median of pairs that ran one after the other):",
            "",
            *print_ratios(ratios),
        ]
    peak = print_peak(rows, ratios, floor)
    if peak:
        lines += ["", peak]
    cold = not_warm(rows, ratios)
    if cold:
        lines += ["", f"Runs that read more than 1 % of their model from the disk, not the cache: {', '.join(cold)}."]
    else:
        lines += ["", "No run read more than 1 % of its model from the disk."]
    return "\n".join(lines) + "\n"


def raw_report(rows: list[Row], ratios: list[Ratio], skipped: list[str], floor: int) -> dict:
    """Every single run."""
    return {
        "floor_bytes": floor,
        "skipped": skipped,
        "table": [
            {
                "size": row.size,
                "what": row.what,
                "bytes": row.bytes,
                "verb": row.verb,
                "runs": {name: series.raw() for name, series in row.columns.items()},
            }
            for row in rows
        ],
        "ratios": [
            {
                "on": ratio.model,
                "ours": ratio.ours,
                "against": ratio.other,
                "target": ratio.target,
                "median": median(ratio.ratios),
                "seconds": [[ours.seconds, other.seconds] for ours, other in ratio.pairs],
                "our_peak_bytes": max(ours.peak_bytes for ours, _ in ratio.pairs),
                "disk_bytes": ratio.disk_bytes,
            }
            for ratio in ratios
        ],
    }


def write_results(text: str, raw: dict, kind: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", raw["machine"]["cpu"].lower()).strip("-")
    stem = f"{raw['date']}-{slug}-{kind}"
    RESULTS.mkdir(parents=True, exist_ok=True)
    command = f"Command: `{raw['command']}`\n\n"
    (RESULTS / f"{stem}.md").write_text(f"# Evaluation\n\n{command}{text}")
    (RESULTS / f"{stem}.json").write_text(json.dumps(raw, indent=1) + "\n")
    return (RESULTS / f"{stem}.md").relative_to(ROOT)


def update_readme(text: str, source: Path) -> None:
    readme = README.read_text()
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"error: README.md lacks the markers {BEGIN} and {END}")
    link = f"Every single run: [{source.name}]({source.with_suffix('.json')})."
    README.write_text(f"{before}{BEGIN}\n{text}\n{link}\n{END}{after}")
