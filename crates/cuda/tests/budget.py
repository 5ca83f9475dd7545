"""Fails if a kernel uses more registers than its budget, or spills: reads what `ptxas -v` prints."""

import re
import sys

BUDGET = {
    "sentry_blake3_leaves": 64,
    "sentry_blake3_join": 40,
    "sentry_sha256_tree_leaves": 64,
    "sentry_sha256_tree_join": 40,
    "sentry_blake2b_tree_leaves": 116,
    "sentry_blake2b_tree_join": 80,
    "sentry_sha3_256_tree_leaves": 128,
    "sentry_sha3_256_tree_join": 80,
    "sentry_lattice_sum": 64,
    "sentry_lattice_fold": 32,
}

found, faults, kernel = {}, [], None
for line in sys.stdin:
    if match := re.search(r"Compiling entry function '(\w+)'", line):
        kernel = match[1]
    elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
        if any(int(number) for number in match.groups()):
            faults.append(f"{kernel}: {line.strip()}")
    elif match := re.search(r"Used (\d+) registers", line):
        found[kernel] = int(match[1])
        print(f"{kernel:32} {found[kernel]:4} registers of {BUDGET.get(kernel, 0)}")
faults += [f"{name}: {count} registers" for name, count in found.items() if count > BUDGET.get(name, 0)]
faults += [f"{name}: not compiled" for name in BUDGET if name not in found]
sys.exit("\n".join(faults) or 0)
