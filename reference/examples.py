"""What the vectors are made of: samples to record, and what a strict reader must refuse."""

import json
import struct

from records import DTYPES, MAX_DEPTH, MAX_DIMENSIONS, MAX_NAME, blake3, record, size, text
from statements import subject_digest


def period_251(length):
    """Byte i is i mod 251: swapped blocks of any usual size show."""
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def number(name, dtype, content):
    return {"name": name, "dtype": dtype, "bytes": content}


def of_type(dtype, dims):
    content = period_251(size(dtype, dims))
    content = bytes(byte % 2 for byte in content) if dtype == "BOOL" else content
    return {"name": "x", "dtype": dtype, "dims": dims, "bytes": content}


def plain(name, dtype, content):
    return {"name": name, "dtype": dtype, "bytes": content}


def nested(levels):
    """A value that is a list in a list, as many levels deep."""
    innermost = {"dtype": "NULL", "bytes": b""}
    for _ in range(levels - 1):
        innermost = {"dtype": "LIST", "values": [innermost]}
    return {"name": "x", **innermost}


def _records():
    found = {}
    for dtype, bits in DTYPES.items():
        if bits % 8 == 0:
            found[f"{dtype}, a number"] = [of_type(dtype, [])]
        found[f"{dtype}, two dimensions"] = [of_type(dtype, [4, 3])]
        found[f"{dtype}, more than 64 bytes"] = [of_type(dtype, [8, 100])]
        found[f"{dtype}, empty"] = [of_type(dtype, [0, 5])]
    for length in (0, 1, 63, 64, 65, 127, 128, 1023, 1024, 1025, 4096, 100_000):
        found[f"BYTES of {length}"] = [plain("x", "BYTES", period_251(length))]
        found[f"U8 array of {length}"] = [of_type("U8", [length])]
    for length in (0, 1, 63, 64, 65, 1000):
        found[f"UTF8 of {length} letters"] = [plain("x", "UTF8", b"e" * length)]
    found["UTF8, composed"] = [plain("x", "UTF8", "é".encode())]
    found["UTF8, decomposed"] = [plain("x", "UTF8", "e\u0301".encode())]
    found["UTF8 with a zero byte"] = [plain("x", "UTF8", b"a\0b")]
    found["NULL"] = [plain("x", "NULL", b"")]
    found["true"] = [number("flag", "BOOL", b"\1")]
    found["false"] = [number("flag", "BOOL", b"\0")]
    found["an integer, -1"] = [number("x", "I64", struct.pack("<q", -1))]
    found["a float, -0.0"] = [number("x", "F64", struct.pack("<d", -0.0))]
    found["an image and its label"] = [plain("label", "I64", struct.pack("<q", 7)), plain("image", "BYTES", period_251(3000))]
    found["names in byte order, not in the order of letters"] = [
        plain(name, "UTF8", name.encode()) for name in ("b", "a", "B", "é", "z", "数", "aa", "😀", "\uffff", "a b", "a\0")
    ]
    found["the longest name"] = [plain("n" * MAX_NAME, "NULL", b"")]
    found["a structure"] = [{"name": "s", "dtype": "STRUCT", "fields": [plain("b", "NULL", b""), plain("a", "U8", b"\5")]}]
    found["a structure of more than 64 bytes"] = [
        {"name": "s", "dtype": "STRUCT", "fields": [plain(name, "I64", bytes(8)) for name in "cab"]}
    ]
    found["a structure without fields"] = [{"name": "s", "dtype": "STRUCT", "fields": []}]
    found["an empty list"] = [{"name": "l", "dtype": "LIST", "values": []}]
    found["a list of NULL"] = [{"name": "l", "dtype": "LIST", "values": [{"dtype": "NULL", "bytes": b""}]}]
    found["a list of three"] = [{"name": "l", "dtype": "LIST", "values": [{"dtype": "U8", "bytes": bytes([i])} for i in range(3)]}]
    ragged = [{"dtype": "F32", "dims": [n], "bytes": period_251(4 * n)} for n in (3, 0, 20)]
    found["a ragged array"] = [{"name": "l", "dtype": "LIST", "values": ragged}]
    boxes = [
        {"dtype": "STRUCT", "fields": [plain("class", "UTF8", b"cat"), {"name": "box", "dtype": "U16", "dims": [4], "bytes": period_251(8)}]},
        {"dtype": "NULL", "bytes": b""},
    ]
    found["a list of structures, one of them NULL"] = [{"name": "objects", "dtype": "LIST", "values": boxes}]
    found["32 levels"] = [nested(MAX_DEPTH)]
    found["64 dimensions"] = [of_type("U8", [1] * MAX_DIMENSIONS)]
    found["bytes that look like a record"] = [plain("x", "BYTES", record([plain("x", "NULL", b"")]))]
    return found


RECORDS = _records()


def raw(dtype, dims, nbytes, content, ndim=None):
    """A field `x` with whatever it is said to be."""
    shape = struct.pack("<I", len(dims) if ndim is None else ndim) + b"".join(struct.pack("<Q", dim) for dim in dims)
    return text(b"x") + text(dtype) + shape + struct.pack("<Q", nbytes) + content


def _invalid_records():
    null = text(b"NULL") + bytes(4 + 8)
    return {
        "no field": b"",
        "cut in the length of a name": b"\1\0\0",
        "cut in a name": text(b"name")[:-1],
        "cut after a name": text(b"x"),
        "cut in the type": text(b"x") + text(b"NULL")[:-1],
        "cut in the dimensions": raw(b"U8", [], 0, b"", ndim=1)[:-8] + b"\1",
        "cut in the body": raw(b"BYTES", [], 3, b"ab"),
        "cut in a digest": raw(b"BYTES", [], 65, bytes(31)),
        "a byte behind the last field": raw(b"NULL", [], 0, b"") + b"\0",
        "an empty name": text(b"") + null,
        "a name of 4097 bytes": text(b"n" * (MAX_NAME + 1)) + null,
        "a name that is not UTF-8": text(b"\xff") + null,
        "a name with a surrogate": text(b"\xed\xa0\x80") + null,
        "a field twice": text(b"a") + null + text(b"a") + null,
        "fields in no order": text(b"b") + null + text(b"a") + null,
        "a length of 2^32 - 1": b"\xff" * 4 + b"x",
        "an unknown type": raw(b"F80", [], 10, bytes(10)),
        "a type in lower case": raw(b"u8", [], 1, b"\0"),
        "an empty type": raw(b"", [], 0, b""),
        "a type that is not UTF-8": raw(b"\xff\xff", [], 0, b""),
        "65 dimensions": raw(b"U8", [1] * 65, 1, b"\0"),
        "2^32 - 1 dimensions": raw(b"U8", [], 1, b"\0", ndim=2**32 - 1),
        "a length that the shape does not have": raw(b"U8", [2], 3, b"abc"),
        "a product beyond 2^64": raw(b"U8", [2**32, 2**32, 0], 0, b""),
        "bits beyond 2^64": raw(b"F64", [2**61], 0, b""),
        "half a byte": raw(b"F4", [3], 2, b"ab"),
        "BOOL of 2": raw(b"BOOL", [], 1, b"\2"),
        "text that is not UTF-8": raw(b"UTF8", [], 2, b"\xc3\x28"),
        "text with an overlong zero": raw(b"UTF8", [], 2, b"\xc0\x80"),
        "text with a dimension": raw(b"UTF8", [1], 1, b"a"),
        "bytes with a dimension": raw(b"BYTES", [1], 1, b"a"),
        "NULL with bytes": raw(b"NULL", [], 1, b"a"),
        "NULL with a dimension": raw(b"NULL", [0], 0, b""),
        "a structure with a dimension": raw(b"STRUCT", [0], 0, b""),
        "a structure that is no record": raw(b"STRUCT", [], 1, b"a"),
        "a structure with a field twice": raw(b"STRUCT", [], 46, (text(b"a") + null) * 2),
        "a list without a dimension": raw(b"LIST", [], 0, b""),
        "a list with two dimensions": raw(b"LIST", [0, 0], 0, b""),
        "a list with a value too few": raw(b"LIST", [2], 20, null),
        "a list with bytes behind its values": raw(b"LIST", [1], 21, null + b"\0"),
        "a list without values and with bytes": raw(b"LIST", [0], 1, b"\0"),
        "a list of 2^64 - 1 values": raw(b"LIST", [2**64 - 1], 20, null),
        "a hashed list of too many values": raw(b"LIST", [100], 1799, blake3(b"").digest()),
        "a value that should be hashed": raw(b"BYTES", [], 65, bytes(65)),
        "a value that should not be hashed": raw(b"BYTES", [], 64, blake3(bytes(64)).digest()),
    }


INVALID_RECORDS = _invalid_records()


# -- statements ----------------------------------------------------------------------------------


def invalid_statements(tensors, dataset):
    """Payloads that differ from a good one in one thing each.

    The subject's digest is adapted where there is one, so that it is not what gives the change away; but for those
    under STALE, which are good but for that digest.
    """
    found = {}
    for name, payload, changes, stale in (("tensors", tensors, TENSORS, STALE_TENSORS), ("dataset", dataset, DATASET, STALE_DATASET)):
        found[f"{name}: not JSON"] = payload[:-1]
        found[f"{name}: a byte behind the end"] = payload + "x"
        found[f"{name}: a key twice"] = payload.replace('{"_type"', '{"predicateType":"x","_type"', 1)
        found[f"{name}: a list of statements"] = f"[{payload}]"
        for what, change in {**COMMON, **changes}.items():
            found[f"{name}: {what}"] = changed(payload, change, adapt=True)
        for what, change in {**STALE_COMMON, **stale}.items():
            found[f"{name}: {what}"] = changed(payload, change, adapt=False)
    first = json.loads(tensors)["predicate"]["tensors"][0]["shape"]
    found["tensors: a number written as a float"] = tensors.replace(f'"shape":[{first[0]}]', f'"shape":[{first[0]}.0]', 1)
    found["dataset: a number written with an exponent"] = dataset.replace('"samples":5', '"samples":5e0', 1)
    return found


def changed(payload, change, adapt):
    statement = json.loads(payload)
    change(statement)
    if adapt:
        try:
            digest = subject_digest(statement["predicateType"], statement["predicate"])
            statement["subject"][0]["digest"]["sha256"] = digest
        except (ValueError, LookupError, TypeError, AttributeError):
            pass  # what is left has no digest
    return json.dumps(statement, ensure_ascii=False, separators=(",", ":"))


def at(*path):
    """Returns a function that gives the container and the last key of a path in a statement."""

    def find(statement):
        for key in path[:-1]:
            statement = statement[key]
        return statement, path[-1]

    return find


def put(path, item):
    def change(statement):
        container, key = at(*path)(statement)
        container[key] = item

    return change


def edit(path, function):
    def change(statement):
        container, key = at(*path)(statement)
        container[key] = function(container[key])

    return change


def drop(path):
    def change(statement):
        container, key = at(*path)(statement)
        del container[key]

    return change


def without_table(source):
    return {key: item for key, item in source.items() if key != "table"}


def spare_bits(state):
    """2048 bytes end in one digit with four spare bits and two signs of padding, or in two digits with two spare bits."""
    assert state.endswith("=")
    body = state.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(body[-1]) + 1]
    return body[:-1] + last + state[len(body) :]


P = "predicate"
SUBJECT = ("subject", 0)
COMMON = {
    "an unknown key": put(("more",), 1),
    "an unknown key in the subject": put((*SUBJECT, "more"), 1),
    "an unknown key in the predicate": put((P, "more"), 1),
    "another statement type": put(("_type",), "https://in-toto.io/Statement/v0.1"),
    "another predicate type": put(("predicateType",), "https://sentry-ml.dev/tensors/v2"),
    "no subject": put(("subject",), []),
    "two subjects": edit(("subject",), lambda subjects: subjects * 2),
    "a subject without a name": put((*SUBJECT, "name"), ""),
    "a second digest": put((*SUBJECT, "digest", "sha512"), "00"),
    "a version of -1": put((*SUBJECT, "annotations"), {"sentry-ml.dev/version": -1}),
    "a version of 2^53": put((*SUBJECT, "annotations"), {"sentry-ml.dev/version": 2**53}),
    "a version that is text": put((*SUBJECT, "annotations"), {"sentry-ml.dev/version": "1"}),
    "annotations without a version": put((*SUBJECT, "annotations"), {}),
    "annotations of null": put((*SUBJECT, "annotations"), None),
    "a further annotation": put((*SUBJECT, "annotations"), {"sentry-ml.dev/version": 1, "more": 1}),
    "a predicate that is a list": edit((P,), lambda predicate: list(predicate.values())),
    "no predicate": drop((P,)),
}
T = (P, "tensors")
TENSORS = {
    "another algorithm": put((P, "algorithm"), "sha256"),
    "no tensor": put(T, []),
    "tensors in no order": edit(T, lambda tensors: tensors[::-1]),
    "a tensor twice": edit(T, lambda tensors: [tensors[0], *tensors]),
    "a tensor without a name": put((*T, 0, "name"), ""),
    "an unknown dtype": put((*T, 0, "dtype"), "F80"),
    "a dtype of records": put((*T, 0, "dtype"), "UTF8"),
    "a negative dimension": put((*T, 0, "shape"), [-3]),
    "a dimension of 2^53": put((*T, 0, "shape"), [2**53]),
    "65 dimensions": put((*T, 0, "shape"), [1] * 65),
    "half a byte": put((*T, 4, "shape"), [3]),
    "a shape beyond 2^64": put((*T, 0, "shape"), [2**53 - 1, 2**53 - 1]),
    "a digest of 63 digits": edit((*T, 0, "digest"), lambda digest: digest[1:]),
    "an upper-case digest": edit((*T, 0, "digest"), str.upper),
    "a key missing": drop((*T, 0, "dtype")),
    "an unknown key of a tensor": put((*T, 0, "stride"), [1]),
    "a predicate of a dataset": put(("predicateType",), "https://sentry-ml.dev/dataset/v1"),
}
S = (P, "sources")
DATASET = {
    "another name than the subject": put((P, "name"), "digits2"),
    "no name": put((P, "name"), ""),
    "a version of 2^53 in the predicate": put((P, "version"), 2**53),
    "a version of null": put((P, "version"), None),
    "a version of the subject besides": put((*SUBJECT, "annotations"), {"sentry-ml.dev/version": 3}),
    "no fields": put((P, "fields"), []),
    "fields in no order": edit((P, "fields"), lambda fields: fields[::-1]),
    "a field twice": edit((P, "fields"), lambda fields: [fields[0], *fields]),
    "a field without a type": put((P, "fields", 0, "type"), ""),
    "ids by a column without a name": put((P, "ids"), "column "),
    "unknown ids": put((P, "ids"), "uuid"),
    "another lattice": put((P, "lattice"), "lthash16-32-blake3"),
    "no sources": put(S, []),
    "sources in no order": edit(S, lambda sources: sources[::-1]),
    "a source twice": edit(S, lambda sources: [sources[0], *sources]),
    "no samples": put((*S, 0, "samples"), 0),
    "a sample more": put((*S, 1, "samples"), 6),
    "2^40 + 1 samples": put((*S, 0, "samples"), 2**40 + 1),
    "more than 2^40 samples together": edit(S, lambda sources: [{**without_table(s), "samples": 2**40} for s in sources]),
    "a state of 2047 bytes": edit((*S, 0, "state"), lambda state: state[:-8] + "AA=="),
    "a state without padding": edit((*S, 0, "state"), lambda state: state.rstrip("=")),
    "a state in the alphabet of URLs": edit((*S, 0, "state"), lambda state: "-_" + state[2:]),
    "a state with spare bits": edit((*S, 0, "state"), spare_bits),
    "a state with a line break": edit((*S, 0, "state"), lambda state: state[:76] + "\n" + state[76:]),
    "a table outside": put((*S, 0, "table", "name"), "../test.samples"),
    "a table with an absolute name": put((*S, 0, "table", "name"), "/test.samples"),
    "a table of another size": put((*S, 0, "table", "size"), 121),
    "a table with a digest too few": put((*S, 0, "table", "digests"), []),
    "a table with a digest too many": edit((*S, 0, "table", "digests"), lambda digests: digests * 2),
    "a table's digest in upper case": edit((*S, 0, "table", "digests"), lambda digests: [digests[0].upper()]),
    "a table of null": put((*S, 0, "table"), None),
    "a statement that is no digest": put((*S, 0, "statement"), "none"),
    "an unknown key of a source": put((*S, 0, "url"), "x"),
    "a predicate of tensors": put(("predicateType",), "https://sentry-ml.dev/tensors/v1"),
}

# Good but for the subject's digest.
STALE_COMMON = {
    "a digest in upper case": edit((*SUBJECT, "digest", "sha256"), str.upper),
    "another digest": put((*SUBJECT, "digest", "sha256"), "0" * 64),
}
STALE_TENSORS = {
    "a tensor left out": edit(T, lambda tensors: tensors[1:]),
    "another dtype": put((*T, 0, "dtype"), "I32"),
    "another shape": put((*T, 1, "shape"), [2, 3]),
}
STALE_DATASET = {
    "a source left out": edit(S, lambda sources: sources[1:]),
    "another state": edit((*S, 0, "state"), lambda state: "AAAA" + state[4:]),
}
