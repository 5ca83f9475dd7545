"""Writes the published vectors as a C++ header: `vectors.py REPOSITORY > vectors.h`."""

import json
import pathlib
import sys


def read(path):
    return json.loads((pathlib.Path(sys.argv[1]) / "vectors" / path).read_text())


def table(name, rows):
    print(f"static const Vector {name}[] = {{")
    for length, digest in rows:
        print(f'    {{{length}, "{digest}"}},')
    print("};\n")


print("// Written by vectors.py from vectors/sentry/{trees,lattice,records}.json and vectors/blake/blake3.json.\n#pragma once\n\n#include <stdint.h>\n")
print("struct Vector {\n    uint64_t length;  ///< of the message whose byte i is i mod 251\n    const char* digest;\n};\n")
for name, cases in read("sentry/trees.json")["algorithms"].items():
    table(name.replace("-", "_"), [(case["length"], case["digest"]) for case in cases])
table("blake3", [(case["input_len"], case["hash"][:64]) for case in read("blake/blake3.json")["cases"]])

lattice = read("sentry/lattice.json")
tags = {source["name"]: source["tag"] for source in lattice["sources"]}
print("struct LatticeVector {\n    const char* tag;\n    uint64_t count;\n    const char* entries;  ///< 40 bytes each\n    const char* state_sha256;\n};\n")
print("static const LatticeVector lattice_states[] = {")
for state in lattice["states"]:
    entries = "".join(int(e["id"]).to_bytes(8, "little").hex() + e["digest"] for e in state["entries"])
    print(f'    {{"{tags[state["source"]]}", {len(state["entries"])}, "{entries}", "{state["state_sha256"]}"}},')
print("};\n\nstatic const LatticeVector lattice_elements[] = {")
for e in lattice["elements"]:
    if e["source"] in tags:
        print(f'    {{"{tags[e["source"]]}", 1, "{int(e["id"]).to_bytes(8, "little").hex() + e["digest"]}", "{e["sha256"]}"}},')
print("};")

print("\nstruct RecordVector {\n    const char* record;\n    const char* digest;\n};\n\nstatic const RecordVector records[] = {")
for case in read("sentry/records.json")["valid"]:
    print(f'    {{"{case["record"]}", "{case["sample_digest"]}"}},')
print("};")
