"""The documents against the code: schemas, examples, and the list of URIs."""

import json
import pathlib
import re
import struct

import jsonschema
import pytest
import statements
import uris

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = ROOT / "docs" / "spec"
VECTORS = json.loads((ROOT / "vectors/sentry/statements.json").read_text(encoding="utf-8"))
SCHEMAS = {uris.TENSORS: "tensors-v1", uris.DATASET: "dataset-v1", "annotation": "safetensors-annotation"}


def validator(name):
    schema = json.loads((SPEC / "schemas" / f"{SCHEMAS[name]}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("vector", VECTORS["valid"], ids=lambda vector: vector["what"])
def test_valid_predicates_fit_their_schema(vector):
    validator(vector["predicate_type"]).validate(json.loads(vector["payload"])["predicate"])
    assert statements.check(vector["payload"])


@pytest.mark.parametrize("vector", VECTORS["invalid"], ids=lambda vector: vector["reason"])
def test_invalid_statements_are_refused(vector):
    with pytest.raises(statements.StatementError):
        statements.check(vector["payload"])


# What only code can see: order, sums, sizes, spelling, the statement around the predicate.
BEYOND = re.compile(
    "JSON|key twice|list of statements|subject|annotation|second digest|another digest$|statement type|predicate type|version (of -1|of 2.53$|that is)|predicate of"
    "|unknown key$|in no order|twice|left out|another (dtype|shape|state|digest|name)|half a byte|beyond 2|digest in upper"
    "|written|samples together|sample more|another size|digest too|no predicate"
)


def test_schemas_refuse_what_a_schema_can_see():
    refused = 0
    for vector in VECTORS["invalid"]:
        name = uris.TENSORS if vector["reason"].startswith("tensors") else uris.DATASET
        try:
            predicate = json.loads(vector["payload"])["predicate"]
        except (ValueError, KeyError, TypeError):
            continue
        valid = validator(name).is_valid(predicate)
        assert not valid or BEYOND.search(vector["reason"]), vector["reason"]
        refused += not valid
    assert refused >= 35, refused


def test_the_annotation_of_a_file_fits_its_schema():
    header = {"b": {"dtype": "U8", "shape": [2], "data_offsets": [4, 6]}, "a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}
    text = json.dumps({**header, "__metadata__": {"format": "pt"}}).encode()
    annotation = statements.safetensors_annotation(struct.pack("<Q", len(text)) + text + b"abcdef")
    validator("annotation").validate(annotation)
    assert [tensor["name"] for tensor in annotation["tensors"]] == ["a", "b"]
    assert not validator("annotation").is_valid({**annotation, "more": 1})


@pytest.mark.parametrize("name", ["tensors.md", "dataset.md"])
def test_examples_are_json_and_nearly_valid(name):
    [example] = re.findall(r"```json\n(.*?)```", (SPEC / name).read_text(encoding="utf-8"), re.DOTALL)
    example = re.sub("<2048 bytes in base64>", "A" * 2731 + "=", example)
    example = re.sub("<(64 hexadecimal digits|lattice digest of the whole)>", "0" * 64, example)
    statement = json.loads(example)
    validator(statement["predicateType"]).validate(statement["predicate"])
    with pytest.raises(statements.StatementError, match="digest of the subject"):
        statements.check(example)


def test_every_uri_is_listed_and_every_listed_one_is_used():
    listed = set(re.findall(r"`([^`]+)`", "\n".join(line for line in read("docs/spec/uris.md").splitlines() if line.startswith("|"))))
    rust = re.findall(r'= "([^"]+)";', read("crates/bundle/src/uris.rs"))
    assert rust and set(rust) <= listed
    python = [value for name, value in vars(uris).items() if name.isupper()]
    assert python and set(python) <= listed
    code = "\n".join(read(str(path.relative_to(ROOT))) for kind in ("crates", "reference") for path in (ROOT / kind).rglob("*.[pr][ys]"))
    prefixes = {f"sentry-ml/tree/v1/{purpose}" for purpose in ("leaf", "node", "root")}
    for string in listed - prefixes:
        assert string in code, string
    assert "sentry-ml/tree/v1/" in code and prefixes <= listed
    contexts = set(re.findall(r'"(sentry-ml/v1 [a-z]+)"', code))
    assert contexts == {string for string in listed if string.startswith("sentry-ml/v1 ")}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")
