#!/usr/bin/env python3
"""Makes vectors/sentry: known answers of every construction of ours.

python reference/generate.py           writes the files
python reference/generate.py --check   exits with 1 if a file there is not what would be written
"""

import argparse
import base64
import hashlib
import json
import struct
import sys
from pathlib import Path

import lattice
import records
import statements
import tables
import trees
import uris
from examples import INVALID_RECORDS, RECORDS, invalid_statements, period_251

VECTORS = Path(__file__).resolve().parent.parent / "vectors" / "sentry"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true", help="write nothing, compare")
    check = arguments.parse_args().check
    made = {f"{name}.json": json.dumps(make(), indent=1, ensure_ascii=False) + "\n" for name, make in MAKERS.items()}
    if check:
        return report(made)
    VECTORS.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (VECTORS / name).write_text(text, encoding="utf-8")
    return 0


def report(made):
    """Names every file that differs, with its first line that does."""
    there = {path.name: path.read_text(encoding="utf-8") for path in VECTORS.glob("*.json")}
    wrong = 0
    for name in sorted(made.keys() | there.keys()):
        old, new = there.get(name), made.get(name)
        if old == new:
            continue
        wrong += 1
        if old is None or new is None:
            print(f"{name}: {'missing' if old is None else 'made by nothing here'}")
            continue
        pairs = zip(old.splitlines() + [""], new.splitlines() + [""])
        number, (is_there, expected) = next((n, pair) for n, pair in enumerate(pairs, 1) if pair[0] != pair[1])
        print(f"{name}, line {number}: {is_there.strip()[:100]!r} is there, {expected.strip()[:100]!r} is right")
    print(f"{len(made)} files of vectors, {wrong} wrong")
    return 1 if wrong else 0


# -- trees ---------------------------------------------------------------------------------------

BLOCKS = [64, 128, 136]
LEAF_COUNTS = [
    *range(1, 10), 15, 16, 17, 25, 31, 32, 33, 63, 64, 65, 66, 95, 96, 97, 127, 128, 129, 191, 192, 193, 255, 256, 257,
    511, 512, 513, 777, 1000, 1023, 1024, 1025, 2047, 2048, 2049, 3000, 3071, 3073, 4095, 4096, 4097, 4999, 5001,
]  # fmt: skip
# Leaves and nodes of these lengths are written out.
SHOWN = [0, 1, 4096, 4097, 5 * 4096, 7 * 4096 - 1]


def lengths():
    around = [size * count for size in BLOCKS for count in (1, 2)] + [count * trees.LEAF for count in LEAF_COUNTS]
    return sorted({0, 1, *(length + step for length in around for step in (-1, 0, 1))})


def tree_vectors():
    return {
        "message": "byte i is i mod 251",
        "algorithms": {tree.name: [digest_of(tree, leaf_cache(tree), length) for length in lengths()] for tree in trees.TREES},
        "prefixes": {
            tree.name: {name.decode(): tree.p(name).hex() for name in (b"leaf", b"node", b"root")} for tree in trees.TREES
        },
        "nodes": {
            tree.name: [
                {"length": length, "levels": [[node.hex() for node in level] for level in tree.levels(tree.leaves(period_251(length)))]}
                for length in SHOWN
            ]
            for tree in trees.TREES
        },
    }


def leaf_cache(tree):
    """The message repeats, and so do its leaves: there are 251 whole ones."""
    message = period_251(251 + trees.LEAF)
    return [tree.leaf(message[start : start + trees.LEAF]) for start in range(251)]


def digest_of(tree, cache, length):
    whole, rest = divmod(length, trees.LEAF)
    leaves = [cache[index * trees.LEAF % 251] for index in range(whole)]
    if rest or length == 0:
        start = whole * trees.LEAF % 251
        leaves.append(tree.leaf(period_251(start + rest)[start:]))
    return {"length": length, "digest": tree.digest_of_leaves(length, leaves).hex()}


# -- records -------------------------------------------------------------------------------------


def record_vectors():
    valid = []
    for what, fields in RECORDS.items():
        encoded = records.record(fields)
        assert records.record(list(reversed(fields))) == encoded
        records.parse(encoded)
        digest = records.sample_digest(encoded).hex()
        valid.append({"what": what, "fields": printed(fields), "record": encoded.hex(), "sample_digest": digest})
    invalid = []
    for reason, encoded in INVALID_RECORDS.items():
        refuses(records.RecordError, lambda encoded=encoded: records.parse(encoded), reason)
        invalid.append({"reason": reason, "record": encoded.hex()})
    return {"valid": valid, "invalid": invalid}


def printed(value):
    """A description with its bytes in hex, or as a length where they are the repeating message."""
    if isinstance(value, list):
        return [printed(item) for item in value]
    if not isinstance(value, dict):
        return value
    shown = {}
    for key, item in value.items():
        if key != "bytes":
            shown[key] = printed(item)
        elif len(item) > 128 and item == period_251(len(item)):
            shown["period251"] = len(item)
        else:
            shown["bytes"] = item.hex()
    return shown


def refuses(error, attempt, reason):
    try:
        attempt()
    except error:
        return
    sys.exit(f"the reference accepts what it should refuse: {reason}")


# -- the lattice ---------------------------------------------------------------------------------


def sample(number):
    """The digest of a sample whose only field is a number."""
    field = {"name": "n", "dtype": "I64", "bytes": struct.pack("<q", number)}
    return records.sample_digest(records.record([field]))


def samples(numbers):
    return [(lattice.path_id(f"{number:04}.png"), sample(number)) for number in numbers]


def state_of(source, entries):
    state, tag = lattice.State(), lattice.source_tag(source)
    for sample_id, digest in entries:
        state.add(tag, sample_id, digest)
    return state


def shown_state(state):
    digest = state.digest().hex() if state.count else None
    return {"count": state.count, "state_sha256": hashlib.sha256(state.to_bytes()).hexdigest(), "digest": digest}


def shown_entries(entries):
    return [{"id": str(sample_id), "digest": digest.hex()} for sample_id, digest in entries]


def lattice_vectors():
    names = ["train", "x", "Übungsdaten", "数据", "a" * 4096]
    inputs = [("train", 0, bytes(32)), ("train", 2**64 - 1, bytes([255]) * 32), ("test", 1, sample(1)), ("数据", 256, sample(2))]
    elements = []
    for source, sample_id, digest in inputs:
        lanes = struct.pack("<1024H", *lattice.element(lattice.source_tag(source), sample_id, digest))
        shown = {"source": source, "id": str(sample_id), "digest": digest.hex(), "sha256": hashlib.sha256(lanes).hexdigest()}
        elements.append({**shown, "first": lanes[:32].hex(), **({"lanes": lanes.hex()} if not elements else {})})

    entries = samples(range(100))
    whole = state_of("train", entries)
    parts = [state_of("train", entries[worker::7]) for worker in range(7)]
    merged = lattice.State()
    for part in reversed(parts):
        merged.merge(part)
    assert merged.lanes == whole.lanes and state_of("train", reversed(entries)).lanes == whole.lanes

    removed = state_of("train", entries)
    tag = lattice.source_tag("train")
    for sample_id, digest in entries[40:]:
        removed.remove(tag, sample_id, digest)
    assert removed.lanes == state_of("train", entries[:40]).lanes

    both = state_of("test", samples(range(100, 130)))
    test = shown_state(both)
    both.merge(whole)

    [one] = samples([0])
    lanes = [lane * 2**16 % 2**16 for lane in lattice.element(tag, *one)]
    repeated = lattice.State(lanes, 2**16)
    return {
        "sources": [{"name": name, "tag": lattice.source_tag(name).hex()} for name in names],
        "path_ids": [{"path": path, "id": str(lattice.path_id(path))} for path in ["", "a", "train/0001.png", "ü/数据.jpg"]],
        "elements": elements,
        "states": [
            {"what": "samples 0 to 99", "source": "train", "entries": shown_entries(entries), **shown_state(whole)},
            {"what": "one sample", "source": "train", "entries": shown_entries(entries[:1]), **shown_state(state_of("train", entries[:1]))},
        ],
        "partition": [{"every": 7, "from": worker, **shown_state(part)} for worker, part in enumerate(parts)],
        "removed": {"what": "samples 0 to 99, then 40 to 99 taken out again", **shown_state(removed)},
        "sum_of_sources": {
            "test": {"entries": shown_entries(samples(range(100, 130))), **test},
            "train and test": shown_state(both),
        },
        "warning": {
            "what": "one sample 65,536 times: all lanes are zero. Nothing may get here, since no id comes twice",
            "count": repeated.count,
            "state_is_zero": repeated.lanes == [0] * 1024,
            "digest": repeated.digest().hex(),
        },
    }


# -- tables --------------------------------------------------------------------------------------


def table_vectors():
    small = []
    for what, entries in {"one sample": samples([0]), "five, given in no order": samples([4, 0, 3, 1, 2])}.items():
        encoded = tables.table(entries)
        shown = {"what": what, "source": "train", "entries": shown_entries(entries), "table": encoded.hex()}
        digests = [digest.hex() for digest in tables.part_digests(encoded)]
        small.append({**shown, "digests": digests, **shown_state(tables.state("train", encoded))})
    large = []
    for count in (tables.PART - 1, tables.PART, tables.PART + 1):
        encoded = b"".join(struct.pack("<QQ", 3 * i, i) + bytes(24) for i in range(count))
        large.append({"entries": count, "digests": [digest.hex() for digest in tables.part_digests(encoded)]})
    good = tables.table(samples(range(3)))
    rows = [good[start : start + 40] for start in (0, 40, 80)]
    invalid = {
        "empty": b"",
        "one byte": b"\0",
        "a byte missing": good[:-1],
        "a byte too many": good + b"\0",
        "ids in no order": rows[0] + rows[2] + rows[1],
        "an id twice": rows[0] + rows[0],
        "an id twice with two digests": rows[0] + rows[0][:8] + rows[1][8:],
        "descending from the greatest id": b"\xff" * 40 + bytes(40),
    }
    for reason, encoded in invalid.items():
        refuses(tables.TableError, lambda encoded=encoded: tables.parse(encoded), reason)
    return {
        "small": small,
        "large": {"entry": "entry i has the id 3 i, and the digest u64 i followed by 24 zeroes", "tables": large},
        "invalid": [{"reason": reason, "table": encoded.hex()} for reason, encoded in invalid.items()],
    }


# -- statements ----------------------------------------------------------------------------------


def tensors_predicate():
    shapes = [("b.bias", "F32", [3]), ("b.weight", "BF16", [3, 2]), ("steps", "I64", []), ("empty", "F16", [0, 4]), ("ω", "F4", [2, 3])]
    tensors = []
    for name, dtype, shape in sorted(shapes, key=lambda shape: shape[0].encode()):
        content = period_251(records.size(dtype, shape))
        digest = records.blake3(content).hexdigest()
        tensors.append({"name": name, "dtype": dtype, "shape": shape, "digest": digest})
    return {"algorithm": "blake3", "tensors": tensors}


def dataset_predicate():
    sources = []
    for name, numbers in {"test": range(100, 103), "train": range(5)}.items():
        entries = samples(numbers)
        encoded = tables.table(entries)
        digests = [digest.hex() for digest in tables.part_digests(encoded)]
        state = base64.b64encode(state_of(name, entries).to_bytes()).decode()
        table = {"name": f"{name}.samples", "size": len(encoded), "digests": digests}
        sources.append({"name": name, "samples": len(entries), "state": state, "table": table})
    sources[0]["statement"] = hashlib.sha256(b"the payload of another's statement").hexdigest()
    fields = [{"name": "image", "type": "binary"}, {"name": "label", "type": "int64"}]
    ids = {"ids": "path", "lattice": uris.LATTICE}
    return {"name": "digits", "version": 3, "fields": fields, **ids, "sources": sources}


def statement_vectors():
    tensors, dataset = tensors_predicate(), dataset_predicate()
    tree = {"algorithm": "sha256-tree", "tensors": [{**tensors["tensors"][0], "digest": trees.TREES[0].digest(period_251(12)).hex()}]}
    bare = {**{key: item for key, item in dataset.items() if key != "version"}, "ids": "column id"}
    bare["sources"] = [{key: dataset["sources"][1][key] for key in ("name", "samples", "state")}]
    valid = [
        ("tensors of a model", statements.statement("tiny", uris.TENSORS, tensors, version=7)),
        ("one tensor under sha256-tree", statements.statement("tiny", uris.TENSORS, tree)),
        ("a dataset of two sources with tables", statements.statement("digits", uris.DATASET, dataset)),
        ("a dataset without version and table", statements.statement("digits", uris.DATASET, bare)),
    ]
    shown = []
    for what, payload in valid:
        predicate = statements.check(payload)
        predicate_type = json.loads(payload)["predicateType"]
        entry = {"what": what, "predicate_type": predicate_type, "payload": payload}
        if predicate_type == uris.TENSORS:
            entry["canonical_predicate"] = statements.rfc8785.dumps(predicate).decode()
        shown.append({**entry, "subject_digest": statements.subject_digest(predicate_type, predicate)})
    invalid = invalid_statements(valid[0][1], valid[2][1])
    for reason, payload in invalid.items():
        refuses(statements.StatementError, lambda payload=payload: statements.check(payload), reason)
    return {"valid": shown, "invalid": [{"reason": reason, "payload": payload} for reason, payload in invalid.items()]}


MAKERS = {
    "trees": tree_vectors,
    "records": record_vectors,
    "lattice": lattice_vectors,
    "tables": table_vectors,
    "statements": statement_vectors,
}

if __name__ == "__main__":
    sys.exit(main())
