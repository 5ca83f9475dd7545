"""Records: their order does not matter, everything else does."""

import itertools

import pytest
import records
from examples import INVALID_RECORDS, RECORDS, nested, plain, record, text


@pytest.mark.parametrize("what", RECORDS)
def test_a_record_says_what_was_recorded(what):
    encoded = records.record(RECORDS[what])
    parsed = records.parse(encoded)
    assert [field["name"].encode() for field in parsed] == sorted(field["name"].encode() for field in RECORDS[what])
    for length in range(len(encoded)):
        try:
            fields = records.parse(encoded[:length])
        except records.RecordError:
            continue
        assert len(fields) < len(parsed), "only whole fields can be cut off"


@pytest.mark.parametrize("reason", INVALID_RECORDS)
def test_what_is_no_record_is_refused(reason):
    with pytest.raises(records.RecordError):
        records.parse(INVALID_RECORDS[reason])


def test_no_two_samples_share_a_record():
    seen = {}
    for what, fields in RECORDS.items():
        assert seen.setdefault(records.record(fields), what) == what


def test_the_order_of_fields_does_not_matter():
    fields = [plain(name, "UTF8", name.encode()) for name in "abcd"]
    assert len({record(list(order)) for order in itertools.permutations(fields)}) == 1


def test_bytes_cannot_move_between_fields():
    one = [plain("a", "BYTES", b"xy"), plain("b", "BYTES", b"z")]
    other = [plain("a", "BYTES", b"x"), plain("b", "BYTES", b"yz")]
    assert record(one) != record(other)


def test_nesting_is_bounded():
    assert records.parse(record([nested(32)]))
    with pytest.raises(records.RecordError, match="deep"):
        record([nested(33)])


def test_the_number_of_fields_is_bounded():
    null = text(b"NULL") + bytes(12)
    fields = b"".join(text(f"{number:05}".encode()) + null for number in range(65_537))
    assert len(records.parse(fields[: -len(null) - 9])) == 65_536
    with pytest.raises(records.RecordError, match="many"):
        records.parse(fields)
