"""Statements about tensors and datasets, and the annotation of a safetensors file.

docs/spec/tensors.md, docs/spec/dataset.md, and section 3 of docs/spec/oms.md.
"""

import base64
import hashlib
import json
import re

import rfc8785
from blake3 import blake3

from lattice import MAX_SAMPLES, MAX_SOURCE_NAME, State
from records import DTYPES, RecordError, size
from tables import ENTRY, PART
from uris import DATASET, LATTICE, STATEMENT_TYPE, TENSORS, VERSION_ANNOTATION

MAX_INTEGER = 2**53 - 1
MAX_NAME = 4096
MAX_TENSORS = 1_000_000
MAX_DIMENSIONS = 64
MAX_SOURCES = 65_536
MAX_FIELDS = 65_536


class StatementError(ValueError):
    """Not a statement that may be signed or believed."""


def require(condition, reason):
    if not condition:
        raise StatementError(reason)


# -- making them ---------------------------------------------------------------------------------


def statement(name, predicate_type, predicate, version=None):
    """An in-toto statement with one subject, whose digest follows from the predicate."""
    subject = {"name": name, "digest": {"sha256": subject_digest(predicate_type, predicate)}}
    if version is not None:
        subject["annotations"] = {VERSION_ANNOTATION: version}
    made = {"_type": STATEMENT_TYPE, "subject": [subject], "predicateType": predicate_type, "predicate": predicate}
    return json.dumps(made, ensure_ascii=False, separators=(",", ":"))


def subject_digest(predicate_type, predicate):
    if predicate_type == TENSORS:
        return hashlib.sha256(rfc8785.dumps(predicate)).hexdigest()
    return whole(predicate).digest().hex()


def whole(predicate):
    """The sum of all sources of a dataset."""
    total = State()
    for source in predicate["sources"]:
        lanes = base64.b64decode(source["state"], validate=True)
        total.merge(State([int.from_bytes(lanes[i : i + 2], "little") for i in range(0, 2048, 2)], source["samples"]))
    return total


def safetensors_annotation(file):
    """The value of the annotation of a safetensors file, given its bytes."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header.pop("__metadata__", None)
    ordered = sorted(header.items(), key=lambda item: (*item[1]["data_offsets"], item[0].encode()))
    tensors = []
    for name, entry in ordered:
        first, last = entry["data_offsets"]
        digest = blake3(file[end + first : end + last]).hexdigest()
        tensors.append({"name": name, "dtype": entry["dtype"], "shape": entry["shape"], "digest": digest})
    return {"algorithm": "blake3", "header": blake3(file[:end]).hexdigest(), "tensors": tensors}


# -- reading them --------------------------------------------------------------------------------


def check(payload):
    """Checks a payload whose signature holds, and returns its predicate."""
    parsed = strict_json(payload)
    keys(parsed, {"_type", "subject", "predicateType", "predicate"})
    require(parsed["_type"] == STATEMENT_TYPE, "type of the statement")
    require(isinstance(parsed["subject"], list) and len(parsed["subject"]) == 1, "one subject")
    [subject] = parsed["subject"]
    keys(subject, {"name", "digest"}, {"annotations"})
    text(subject["name"])
    keys(subject["digest"], {"sha256"})
    hexadecimal(subject["digest"]["sha256"])
    if "annotations" in subject:
        keys(subject["annotations"], {VERSION_ANNOTATION})
        integer(subject["annotations"][VERSION_ANNOTATION])
    predicate = parsed["predicate"]
    if parsed["predicateType"] == TENSORS:
        check_tensors(predicate)
    elif parsed["predicateType"] == DATASET:
        check_dataset(predicate)
        require("annotations" not in subject, "the predicate has the version, and it alone")
        require(predicate["name"] == subject["name"], "the dataset and the subject have one name")
    else:
        raise StatementError("type of the predicate")
    require(subject["digest"]["sha256"] == subject_digest(parsed["predicateType"], predicate), "digest of the subject")
    return predicate


def check_tensors(predicate):
    keys(predicate, {"algorithm", "tensors"})
    require(predicate["algorithm"] in ("blake3", "sha256-tree"), "algorithm")
    tensors = predicate["tensors"]
    require(isinstance(tensors, list) and 1 <= len(tensors) <= MAX_TENSORS, "number of tensors")
    for tensor in tensors:
        keys(tensor, {"name", "dtype", "shape", "digest"})
        text(tensor["name"])
        require(isinstance(tensor["dtype"], str) and tensor["dtype"] in DTYPES, "dtype")
        shape = tensor["shape"]
        require(isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS, "shape")
        for dim in shape:
            integer(dim)
        try:
            size(tensor["dtype"], shape)
        except RecordError as error:
            raise StatementError(str(error)) from None
        hexadecimal(tensor["digest"])
    ascending([tensor["name"] for tensor in tensors])


def check_dataset(predicate):
    keys(predicate, {"name", "fields", "ids", "lattice", "sources"}, {"version"})
    text(predicate["name"])
    integer(predicate.get("version", 0))
    require(predicate["lattice"] == LATTICE, "lattice")
    ids = predicate["ids"]
    require(isinstance(ids, str), "ids")
    require(ids in ("path", "ordinal") or (ids.startswith("column ") and len(ids) > len("column ")), "ids")
    fields = predicate["fields"]
    require(isinstance(fields, list) and 1 <= len(fields) <= MAX_FIELDS, "number of fields")
    for field in fields:
        keys(field, {"name", "type"})
        text(field["name"])
        text(field["type"])
    ascending([field["name"] for field in fields])
    sources = predicate["sources"]
    require(isinstance(sources, list) and 1 <= len(sources) <= MAX_SOURCES, "number of sources")
    for source in sources:
        check_source(source)
    ascending([source["name"] for source in sources])
    require(sum(source["samples"] for source in sources) <= MAX_SAMPLES, "number of samples")


def check_source(source):
    keys(source, {"name", "samples", "state"}, {"table", "statement"})
    text(source["name"], MAX_SOURCE_NAME)
    integer(source["samples"])
    require(1 <= source["samples"] <= MAX_SAMPLES, "number of samples")
    require(isinstance(source["state"], str), "state")
    try:
        state = base64.b64decode(source["state"], validate=True)
    except ValueError:
        raise StatementError("state is not base64") from None
    require(base64.b64encode(state).decode() == source["state"] and len(state) == 2048, "state")
    if "statement" in source:
        hexadecimal(source["statement"])
    if "table" in source:
        check_table(source["table"], source["samples"])


def check_table(table, samples):
    keys(table, {"name", "size", "digests"})
    relative_path(table["name"])
    integer(table["size"])
    require(table["size"] == ENTRY * samples, "size of the table")
    require(isinstance(table["digests"], list), "digests of the table")
    require(len(table["digests"]) == -(-samples // PART), "number of the table's parts")
    for digest in table["digests"]:
        hexadecimal(digest)


def strict_json(payload):
    def unique(pairs):
        require(len({key for key, _ in pairs}) == len(pairs), "a key twice")
        return dict(pairs)

    def refuse(_):
        raise StatementError("a number that is no plain integer")

    try:
        return json.loads(payload, object_pairs_hook=unique, parse_float=refuse, parse_constant=refuse)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise StatementError("not JSON") from None


def keys(value, required, optional=frozenset()):
    require(isinstance(value, dict), "an object")
    require(required <= value.keys() <= required | optional, "keys")


def text(value, limit=MAX_NAME):
    require(isinstance(value, str) and 1 <= len(value.encode()) <= limit, "text of 1 to 4096 bytes")


def integer(value):
    require(type(value) is int and 0 <= value <= MAX_INTEGER, "an integer from 0 to 2^53 - 1")


def hexadecimal(value):
    require(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value), "64 lower-case hex digits")


def relative_path(value):
    text(value)
    require("\\" not in value and "\0" not in value, "a portable name")
    require(not re.match("[A-Za-z]:", value), "no drive")
    require(all(part not in ("", ".", "..") for part in value.split("/")), "a relative name")


def ascending(names):
    ordered = [name.encode() for name in names]
    require(all(before < after for before, after in zip(ordered, ordered[1:])), "names in order, each once")
