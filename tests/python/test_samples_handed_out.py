"""What is handed out is what was checked, whatever a dataset does with its memory; and values of other types are no values that were signed."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
import sentry
import sentry.torch
import sentry.webdataset
import torch
import torch.utils.data

Signed = Any


@pytest.fixture
def signed(tmp_path: Path, key: sentry.PrivateKey) -> Signed:
    """Signs samples, and returns what makes verifiers of them."""

    def sign(samples: Any, **options: Any) -> Any:
        signature = tmp_path / "dataset.sig"
        sentry.sign_dataset(samples, key=key, signature=signature, name="x", **options)
        return lambda **how: sentry.DatasetVerifier("x", signature=signature, trust=key.public_key, **how)

    return sign


class Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index]


def map_style(verifier: sentry.DatasetVerifier, rows: list[Any], **options: Any) -> list[Any]:
    data = sentry.torch.VerifiedDataset(Rows(rows), verifier, **options)
    return [row for batch in sentry.torch.DataLoader(data, batch_size=len(rows), collate_fn=list) for row in batch]


class Reusing:
    """Yields every row in one and the same dictionary, and its array in one and the same memory."""

    def __init__(self, rows: list[bytes], of: type) -> None:
        self.rows, self.of = rows, of

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        row: dict[str, Any] = {}
        buffer = bytearray(2)
        for number, value in enumerate(self.rows):
            buffer[:] = value
            row["id"] = number
            row["x"] = numpy.frombuffer(buffer, numpy.uint8) if self.of is numpy.ndarray else self.of(buffer) if self.of is not bytearray else buffer
            yield row


@pytest.mark.parametrize("of", [numpy.ndarray, bytearray, memoryview])
def test_a_stream_that_uses_its_memory_again_is_copied(of: type, signed: Signed) -> None:
    values = [b"ab", b"cd", b"ef"]
    stored = [{"id": number, "x": numpy.frombuffer(value, numpy.uint8) if of is numpy.ndarray else value} for number, value in enumerate(values)]
    verifier = signed(stored)()
    data = sentry.torch.VerifiedIterableDataset(Reusing(values, of), verifier)
    rows = [row for batch in sentry.torch.DataLoader(data, batch_size=3, collate_fn=list) for row in batch]
    assert [bytes(row["x"]) for row in rows] == values
    assert verifier.finish() == (3, 0, 0)


class Changing(dict[str, Any]):
    """A mapping that gives another value the second time it is asked."""

    def __init__(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
        super().__init__(first)
        self.second = second
        self.is_read = False

    def items(self) -> Any:
        if self.is_read:
            return self.second.items()
        self.is_read = True
        return super().items()

    def __getitem__(self, name: str) -> Any:
        return self.second[name]


def test_a_mapping_is_read_once(signed: Signed) -> None:
    verifier = signed([{"id": 0, "x": "signed"}])()
    rows = [Changing({"id": 0, "x": "signed"}, {"id": 0, "x": "evil"})]
    data = sentry.torch.VerifiedIterableDataset(rows, verifier)
    assert [row["x"] for row in data] == ["signed"]
    rows = [Changing({"id": 0, "x": "signed"}, {"id": 0, "x": "evil"})]
    assert [row["x"] for row in map_style(verifier, rows)] == ["signed"]


@pytest.mark.parametrize("nested", [False, True])
def test_views_of_a_file_are_copied(nested: bool, signed: Signed, tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_bytes(b"GOODGOOD")
    value: Any = [[71, 79]] if nested else b"GOODGOOD"
    kinds = {"x": "List(List(UInt8))"} if nested else None
    verifier = signed([{"id": 0, "x": value}], fields=kinds and {"id": "Int64", **kinds})()
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 8) as mapped:
        view = memoryview(mapped)
        shared: Any = [numpy.frombuffer(view, numpy.uint8)[:2]] if nested else view
        # Rewritten between the check and the use.
        given = map_style(verifier, [{"id": 0, "x": shared}], transform=lambda row: (mapped.write(b"EVIL"), row)[1])
        assert bytes(numpy.asarray(given[0]["x"][0] if nested else bytearray(given[0]["x"]), numpy.uint8)) == (b"GO" if nested else b"GOODGOOD")
        del shared
        view.release()
        del given


SCALARS: list[tuple[str, Any, Any]] = [
    ("Int64", 200, numpy.uint8(200)),
    ("Int64", 200, torch.tensor(200, dtype=torch.int32)),
    ("Float64", 0.5, numpy.float32(0.5)),
    ("Timestamp(µs)", 5, numpy.datetime64(5, "ns")),
    ("Timestamp(µs)", 5, numpy.datetime64(5, "us")),
    ("Duration(s)", 5, numpy.timedelta64(5, "ns")),
    ("List(Int64)", [144, 200], numpy.array([144, 200], numpy.uint8)),
    ("List(Int64)", [144, 200], [numpy.uint8(144), numpy.uint8(200)]),
    ("List(List(Int64))", [[1, 2], [3, 4]], numpy.array([[1, 2], [3, 4]], numpy.int32)),
    ("List(List(Int64))", [[1, 2], [3, 4]], numpy.array([1, 2, 3, 4])),
    ("List(Int64)", [1, 2, 3, 4], numpy.array([[1, 2], [3, 4]])),
    ("Int64", 1, numpy.array([1])),
    ("Boolean", True, numpy.uint8(1)),
    ("Float32", 0.5, numpy.float64(0.5)),
    ("List(Float32)", [0.5, 1.0], [0.5, numpy.float64(1.0)]),
    # Bytes that are no truth values.
    ("List(Boolean)", [True, False], numpy.frombuffer(bytes([255, 0]), numpy.bool_)),
    ("Boolean", True, torch.frombuffer(bytearray([2]), dtype=torch.bool)[0]),
    ("List(Int64)", [1], torch.tensor([1]).to_sparse()),
    ("List(List(List(Int64)))", [], numpy.zeros((1 << 20, 1 << 20, 0), numpy.int64)),
]


@pytest.mark.parametrize(("kind", "value", "other"), SCALARS)
@pytest.mark.parametrize("count", [1, 2])
def test_a_value_of_another_type_is_refused(kind: str, value: Any, other: Any, count: int, signed: Signed) -> None:
    rows = [{"id": number, "x": value} for number in range(count)]
    verifier = signed(rows, fields={"id": "Int64", "x": kind})()
    verifier.check(rows)
    changed = [{"id": number, "x": other} for number in range(count)]
    with pytest.raises(sentry.UsageError):
        verifier.check(changed)
    with pytest.raises(sentry.UsageError):
        verifier.check({"id": list(range(count)), "x": [other] * count})


@pytest.mark.parametrize(
    ("kind", "value", "same"),
    [
        ("Int64", 200, numpy.int64(200)),
        ("UInt8", 200, torch.tensor(200, dtype=torch.uint8)),
        ("Boolean", True, numpy.bool_(True)),
        ("Boolean", False, torch.tensor(False)),
        ("List(Boolean)", [True, False], numpy.array([True, False])),
        ("List(Int64)", [], numpy.zeros(0, numpy.int64)),
        ("List(List(Float32))", [[0.5, 1], [2, 3]], numpy.array([[0.5, 1], [2, 3]], numpy.float32)),
        ("List(List(Float32))", [[], []], torch.zeros(2, 0)),
    ],
)
@pytest.mark.parametrize("count", [1, 3])
def test_arrays_of_the_signed_type_stand_for_numbers_and_lists(kind: str, value: Any, same: Any, count: int, signed: Signed) -> None:
    rows = [{"id": number, "x": value} for number in range(count)]
    verifier = signed(rows, fields={"id": "Int64", "x": kind})()
    assert verifier.check([{"id": number, "x": same} for number in range(count)]) == list(range(count))
    assert verifier.check({"id": list(range(count)), "x": [same] * count}) == list(range(count))


def test_ends_of_text_count_in_any_class_of_text(signed: Signed) -> None:
    verifier = signed([{"id": 0, "label": "cat", "raw": b"img\0"}, {"id": 1, "label": "dog", "raw": b"img2"}])()
    good = [{"id": 0, "label": numpy.str_("cat"), "raw": numpy.bytes_(b"img\0")}, {"id": 1, "label": numpy.str_("dog"), "raw": numpy.bytes_(b"img2")}]
    assert len(map_style(verifier, good)) == 2
    for name, value in (("label", numpy.str_("cat\0")), ("raw", numpy.bytes_(b"img")), ("raw", numpy.bytes_(b"img\0\0"))):
        with pytest.raises(sentry.SampleError):
            map_style(verifier, [{**good[0], name: value}, good[1]])


@pytest.mark.parametrize("by_fields", [False, True])
def test_arrays_of_other_classes_are_refused(by_fields: bool, signed: Signed) -> None:
    values = numpy.array([[1.0, 2.0], [3.0, 4.0]])
    verifier = signed({"id": numpy.arange(2), "x": values})()
    masked = numpy.ma.masked_array(values, mask=[[1, 0], [1, 1]], fill_value=666.0)
    with pytest.raises(sentry.UsageError, match="MaskedArray is more than its numbers"):
        if by_fields:
            data = sentry.torch.VerifiedDataset({"id": numpy.arange(2), "x": masked}, verifier)
            list(sentry.torch.DataLoader(data, batch_size=2, collate_fn=list))
        else:
            map_style(verifier, [{"id": number, "x": masked[number]} for number in range(2)])


def test_fields_of_arrays_are_copied_batch_by_batch(signed: Signed, tmp_path: Path) -> None:
    values = numpy.arange(40, dtype=numpy.float32).reshape(10, 4)
    labels = torch.arange(10)
    names = [f"sample {number}" for number in range(10)]
    verifier = signed({"id": numpy.arange(10), "x": values, "label": labels, "name": names})()
    numpy.save(tmp_path / "x.npy", values)
    stored = numpy.load(tmp_path / "x.npy", mmap_mode="r+")

    def rewriting(sample: Mapping[str, Any]) -> Any:
        stored[:] = -1
        labels[:] = -1
        return sample

    data = sentry.torch.VerifiedDataset({"id": numpy.arange(10), "x": stored, "label": labels, "name": names}, verifier, transform=rewriting)
    (batch,) = sentry.torch.DataLoader(data, batch_size=10, collate_fn=list)
    assert [sample["x"].tolist() for sample in batch] == values.tolist()
    assert [(int(sample["label"]), sample["name"]) for sample in batch] == list(enumerate(names))
    verifier.finish()
    with pytest.raises(sentry.SampleError):
        list(sentry.torch.DataLoader(data, batch_size=10))


def test_what_was_handed_out_is_not_held(signed: Signed) -> None:
    import weakref

    verifier = signed({"id": numpy.arange(4), "x": numpy.zeros((4, 2))})()
    data = sentry.torch.VerifiedDataset({"id": numpy.arange(4), "x": numpy.zeros((4, 2))}, verifier)
    iterator = iter(sentry.torch.DataLoader(data, batch_size=2))
    batch = next(iterator)["x"]
    watched = weakref.ref(batch)
    del batch
    assert watched() is None


def test_repeats_are_counted_and_refused_if_asked_for(signed: Signed) -> None:
    rows = [{"id": number, "x": number} for number in range(4)]
    verifier = signed(rows)()
    for _ in range(2):
        assert len(map_style(verifier, [*rows, rows[1], rows[1]])) == 6
        with pytest.raises(sentry.SampleError, match="2 times") as caught:
            verifier.finish(repeats=False)
        assert caught.value.code == "sample_repeated"
        # The next one begins anew.
        assert len(map_style(verifier, rows)) == 4
        assert verifier.finish(repeats=False) == (4, 0, 0)
    verifier.check([*rows, rows[1], rows[1]])
    assert verifier.finish() == (4, 0, 2)
    state_of_two = signed(rows)()
    state_of_two.check(rows)
    verifier.check(rows)
    verifier.merge(state_of_two.state_dict())
    assert verifier.finish() == (4, 0, 4)
    map_style(verifier, rows)
    assert verifier.finish(repeats=False) == (4, 0, 0)


def test_passes_that_were_broken_off_do_not_add_up(signed: Signed) -> None:
    rows = [{"id": number, "x": number} for number in range(4)]
    verifier = signed(rows)()
    for order in (rows, rows[::-1]):
        # A new loader each time, of which the first half is used.
        data = sentry.torch.VerifiedDataset(Rows(order), verifier)
        for _ in sentry.torch.DataLoader(data, batch_size=2):
            break
    assert verifier.delivered() == {"default": 2}
    with pytest.raises(sentry.EpochError):
        verifier.finish()
    # Two halves by two loaders that both come to their end are an epoch.
    for half in (rows[:2], rows[2:]):
        list(sentry.torch.DataLoader(sentry.torch.VerifiedDataset(Rows(half), verifier), batch_size=2))
    assert verifier.finish() == (4, 0, 0)


def test_a_loop_over_an_epoch_that_began_anew_is_an_error(signed: Signed) -> None:
    rows = [{"id": number, "x": number} for number in range(4)]
    verifier = signed(rows)()

    def loop(part: list[Any]) -> Any:
        return iter(sentry.torch.DataLoader(sentry.torch.VerifiedDataset(Rows(part), verifier), batch_size=1))

    going = loop(rows)
    next(going)
    verifier.reset()
    with pytest.raises(sentry.EpochError, match="began anew") as caught:
        next(going)
    assert caught.value.code == "epoch_state"
    # Looks at other loaders from within a loop: the second one begins the epoch anew.
    going = loop(rows)
    next(going)
    for _ in range(2):
        next(loop(rows[:2]))
    with pytest.raises(sentry.EpochError):
        next(going)
    # Two loops side by side are one epoch.
    verifier.reset()
    for _ in zip(loop(rows[:2]), loop(rows[2:]), strict=True):
        pass
    assert verifier.finish(repeats=False) == (4, 0, 0)


@pytest.mark.parametrize("kind", [object, str])
def test_fields_may_be_arrays_of_text(kind: type, signed: Signed) -> None:
    verifier = signed([{"id": 0, "x": "a"}, {"id": 1, "x": "bc"}])()
    data = sentry.torch.VerifiedDataset({"id": numpy.arange(2), "x": numpy.array(["a", "bc"], kind)}, verifier)
    assert [row["x"] for row in data.look([1, 0]).values] == ["bc", "a"]
    with pytest.raises(sentry.SampleError):
        sentry.torch.VerifiedDataset({"id": numpy.arange(2), "x": numpy.array(["a", "bd"], kind)}, verifier).look([1])


def test_a_look_at_the_first_batch_does_not_count_for_the_epoch(signed: Signed) -> None:
    rows = [{"id": number, "x": number} for number in range(4)]
    verifier = signed(rows)()
    data = sentry.torch.VerifiedDataset(Rows(rows), verifier)
    next(iter(sentry.torch.DataLoader(data, batch_size=2)))
    list(sentry.torch.DataLoader(data, batch_size=2))
    assert verifier.finish(repeats=False) == (4, 0, 0)


def test_who_keeps_nothing_back_takes_no_epoch_in_which_that_was_done(signed: Signed) -> None:
    rows = [{"id": number, "x": number} for number in range(3)]
    make = signed(rows)
    keeping, strict = make(on_bad="quarantine"), make()
    receipt = keeping.look([rows[0], {"id": 1, "x": 7}, rows[2]])
    keeping.deliver(receipt)
    assert keeping.finish() == (3, 1, 0)
    keeping.deliver(receipt)
    state = keeping.state_dict()
    for take in (strict.load_state_dict, strict.merge):
        with pytest.raises(sentry.EpochError) as caught:
            take(state)
        assert caught.value.code == "epoch_state"
    with pytest.raises(sentry.EpochError):
        strict.deliver(receipt)
    assert strict.delivered() == {"default": 0}


def test_a_subset_of_another_class_is_not_taken_apart(signed: Signed) -> None:
    class Doubling(torch.utils.data.Subset[Any]):
        def __getitem__(self, index: Any) -> Any:
            return 2 * super().__getitem__(index)["x"]

        def __getitems__(self, indices: list[int]) -> list[Any]:
            return [self[index] for index in indices]

    verifier = signed([{"id": 0, "x": 1}])()
    data = Doubling(sentry.torch.VerifiedDataset(Rows([{"id": 0, "x": 1}]), verifier), [0])
    with pytest.raises(sentry.UsageError, match="does not check its samples"):
        sentry.torch.DataLoader(data, verifier=verifier)


def test_a_field_of_an_archive_comes_once_and_notes_are_text(tmp_path: Path, key: sentry.PrivateKey) -> None:
    import io
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("one.jpg")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"GOOD"))
    sentry.sign_dataset(tmp_path, key=key)
    stage = sentry.webdataset.check(sentry.DatasetVerifier(tmp_path, trust=key.public_key))
    good = {"__key__": "one", "__url__": "a.tar", "__local_path__": "a.tar", "jpg": b"GOOD"}
    assert list(stage([good])) == [good]
    for wrong in ({**good, "JPG": b"GOOD"}, {"__key__": "one", "JPG": b"GOOD", "jpg": b"EVIL"}, {**good, "__local_path__": b"EVIL"}):
        with pytest.raises(sentry.UsageError):
            list(stage([wrong]))
