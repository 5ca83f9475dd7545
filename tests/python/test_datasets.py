"""Datasets from Python: what can be signed and checked, in which forms, and what is refused with which words."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
import sentry
import torch

SAMPLES: list[dict[str, Any]] = [
    {"id": 10 * number, "text": f"pet {number} é\U0001f600", "label": number % 3, "weight": number / 4, "raw": bytes([number] * (number * 30)), "ok": number % 2 == 0}
    for number in range(20)
]


def signed(folder: Path, key: sentry.PrivateKey, samples: Any, **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    signature = folder / "dataset.sig"
    sentry.sign_dataset(samples, key=key, signature=signature, name="pets", **options)
    return signature


def verifier(signature: Path, trust: sentry.PublicKey, **options: Any) -> sentry.DatasetVerifier:
    return sentry.DatasetVerifier("pets", signature=signature, trust=trust, **options)


@pytest.fixture
def pets(tmp_path: Path, key: sentry.PrivateKey) -> Path:
    return signed(tmp_path / "pets", key, SAMPLES)


def by_fields(samples: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [sample[name] for sample in samples] for name in samples[0]}


def test_what_was_signed_can_be_seen(pets: Path, trust: sentry.PublicKey, key: sentry.PrivateKey) -> None:
    check = verifier(pets, trust)
    assert check.name == "pets" and check.version is None and check.ids == "column id"
    assert check.fields == {"id": "Int64", "text": "Utf8", "label": "Int64", "weight": "Float64", "raw": "Binary", "ok": "Boolean"}
    assert check.sources == [("default", 20, True)]
    assert check.verification.signer.startswith("key ") and check.verification.samples == 0
    assert "20 samples" in repr(check)
    check.check_tables()


@pytest.mark.parametrize("size", [1, 3, 20])
@pytest.mark.parametrize("form", ["samples", "fields", "arrays", "torch"])
def test_batches_of_any_size_and_form_are_checked(pets: Path, trust: sentry.PublicKey, size: int, form: str) -> None:
    check = verifier(pets, trust)
    shuffled = [SAMPLES[(7 * place + 3) % 20] for place in range(20)]
    for start in range(0, 20, size):
        part = shuffled[start : start + size]
        batch: Any = part if form == "samples" else by_fields(part)
        if form == "arrays":
            batch |= {"id": numpy.array(batch["id"]), "label": numpy.array(batch["label"]), "weight": numpy.array(batch["weight"]), "ok": numpy.array(batch["ok"])}
        if form == "torch":
            batch |= {"label": torch.tensor(batch["label"]), "weight": torch.tensor(batch["weight"], dtype=torch.float64), "ok": torch.tensor(batch["ok"])}
        assert check.check(batch) == list(range(len(part)))
    assert check.delivered() == {"default": 20}
    assert check.finish() == (20, 0, 0)
    assert check.delivered() == {"default": 0}, "the next epoch begins anew"


@pytest.mark.parametrize("field", ["text", "label", "weight", "raw", "ok"])
def test_a_changed_field_is_named(pets: Path, trust: sentry.PublicKey, field: str) -> None:
    changed = {"text": "pet 7", "label": 2, "weight": 9.0, "raw": b"x" * 210, "ok": True}
    batch = [dict(sample) for sample in SAMPLES]
    old = batch[7][field]
    batch[7][field] = changed[field]
    with pytest.raises(sentry.SampleError) as caught:
        verifier(pets, trust).check(batch)
    difference = caught.value.differences[0]
    assert (difference.kind, difference.source, difference.sample) == ("changed_sample", "default", 70)
    if field in ("label", "ok"):
        assert difference.field == field and difference.expected == str(old).lower()
    if field == "raw":
        assert str(caught.value) == 'sample 70 of source "default" was changed, most likely its field "raw"'


def test_nothing_of_a_batch_with_a_wrong_sample_counts(pets: Path, trust: sentry.PublicKey) -> None:
    check = verifier(pets, trust)
    with pytest.raises(sentry.SampleError):
        check.check([*SAMPLES[:5], {**SAMPLES[5], "label": 9}])
    assert check.delivered() == {"default": 0}


def test_labels_that_were_swapped_and_samples_that_were_not_signed(pets: Path, trust: sentry.PublicKey) -> None:
    check = verifier(pets, trust)
    swapped = [{**SAMPLES[0], "label": SAMPLES[1]["label"]}, {**SAMPLES[1], "label": SAMPLES[0]["label"]}]
    with pytest.raises(sentry.SampleError) as caught:
        check.check(swapped)
    assert [(difference.sample, difference.field) for difference in caught.value.differences] == [(0, "label"), (10, "label")]
    with pytest.raises(sentry.SampleError, match='sample 5 of source "default" is not signed'):
        check.check([{**SAMPLES[0], "id": 5}])
    with pytest.raises(sentry.SampleError, match='source "test" is not signed'):
        check.check(SAMPLES, source="test")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({}, "a batch has at least one field"),
        ({"id": [1, 2], "text": ["a"]}, 'fields of a batch have one value for each sample: "text" has 1, others have 2'),
        ({"id": 1}, 'field "id" of a batch is a int, and no list'),
        ({"text": "abc", "id": [1, 2, 3]}, 'field "text" of a batch is a str, and no list'),
        ([1, 2], "a batch is a mapping of names to columns"),
        ([{**SAMPLES[0], "label": 1.5}], 'field "label" of sample 0 of the batch: 1.5 is no value of I64'),
        ([{**SAMPLES[0], "label": "1"}], 'field "label" of sample 0 of the batch: .*str.* is no I64'),
        ([{**SAMPLES[0], "label": 1 << 70}], 'field "label" of sample 0 of the batch: 1180591620717411303424 is no value of I64'),
        ([{**SAMPLES[0], "text": b"bytes"}], 'field "text" of sample 0 of the batch: .*bytes.* is no text'),
        ([{**SAMPLES[0], "raw": object()}], "a object is nothing that is stored"),
        ([{**SAMPLES[0], "id": -1}], "ids are whole numbers from 0 on"),
        ([{name: value for name, value in SAMPLES[0].items() if name != "id"}], "ids are whole numbers from 0 on"),
    ],
)
def test_batches_that_cannot_be_checked_are_refused(pets: Path, trust: sentry.PublicKey, batch: Any, message: str) -> None:
    with pytest.raises(sentry.UsageError, match=message):
        verifier(pets, trust).check(batch)


def test_fields_that_are_missing_or_too_many_are_refused(pets: Path, trust: sentry.PublicKey) -> None:
    without = [{name: value for name, value in sample.items() if name != "label"} for sample in SAMPLES]
    with pytest.raises(sentry.SampleError, match='field "label" of all samples was changed: expected Int64, found no such field'):
        verifier(pets, trust).check(without)
    with pytest.raises(sentry.SampleError, match='field "more" of all samples was changed: expected no such field'):
        verifier(pets, trust).check([{**sample, "more": 1} for sample in SAMPLES])
    # One label that is missing is another sample.
    with pytest.raises(sentry.SampleError, match='field "label" of sample 0'):
        verifier(pets, trust).check([{**SAMPLES[0], "label": None}, SAMPLES[1]])


def test_values_of_many_kinds_are_signed_and_checked(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    samples: list[dict[str, Any]] = [
        {
            "boxes": [[1, 2], [], [3]] if number else [[4]],
            "meta": {"b": number, "a": ["x", None]},
            "matrix": numpy.arange(6, dtype=numpy.float32).reshape(2, 3) + number,
            "tensor": torch.full((2,), number, dtype=torch.int16),
            "scalar": numpy.int8(number),
            "text": "long " * 1000 + str(number),
            "none": None,
        }
        for number in range(5)
    ]
    signature = signed(tmp_path, key, samples, fields={"none": "Null"})
    check = verifier(signature, trust)
    assert check.ids == "ordinal"
    assert check.fields == {
        "boxes": "List(List(Int64))",
        "matrix": "FixedShapeTensor(Float32, [2, 3])",
        "meta": 'Struct("a": List(Utf8), "b": Int64)',
        "none": "Null",
        "scalar": "Int8",
        "tensor": "FixedShapeTensor(Int16, [2])",
        "text": "Utf8",
    }
    check.check(samples, ids=range(5))
    check.finish()
    for name, other in {"boxes": [[1, 2], [3]], "meta": {"a": ["x", "y"], "b": 1}, "matrix": samples[2]["matrix"], "tensor": samples[2]["tensor"]}.items():
        with pytest.raises(sentry.SampleError):
            check.check([{**samples[1], name: other}], ids=[1])
    # Equal numbers of another type or shape are not what is stored.
    for name, other in {"matrix": samples[1]["matrix"].astype(numpy.float64), "tensor": samples[1]["tensor"].reshape(1, 2)}.items():
        with pytest.raises(sentry.UsageError, match="was signed as"):
            check.check([{**samples[1], name: other}], ids=[1])


def test_padding_does_not_make_two_samples_one(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    signature = signed(tmp_path, key, [{"a": b"xy", "b": b"z"}, {"a": b"", "b": b""}])
    check = verifier(signature, trust)
    for one, other in [(b"x", b"yz"), (b"xyz", b""), (b"xy", b"z\0"), (b"xy\0", b"z")]:
        with pytest.raises(sentry.SampleError):
            check.check([{"a": one, "b": other}], ids=[0])


def test_sources_can_be_mixed_in_a_batch(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "train.csv").write_text("id,x\n1,a\n2,b\n")
    (folder / "test.csv").write_text("id,x\n1,c\n")
    sentry.sign_dataset(folder, key=key)
    check = sentry.DatasetVerifier(folder, trust=trust)
    batch = {"id": [2, 1, 1], "x": ["b", "c", "a"]}
    with pytest.raises(sentry.UsageError, match='several sources: say which with source=..., such as "test", "train"'):
        check.check(batch)
    assert check.check(batch, source=["train", "test", "train"]) == [0, 1, 2]
    check.finish()
    # A sample of another source is not one of this.
    with pytest.raises(sentry.SampleError, match='field "x" of sample 1 of source "test" was changed: expected c'):
        check.check(batch, source=["train", "test", "test"])
    assert sentry.verify_dataset(folder, trust=trust).samples == 3


def test_workers_receipts_and_states_are_merged_whatever_their_order(pets: Path, trust: sentry.PublicKey) -> None:
    parts = [SAMPLES[:7], SAMPLES[7:8], SAMPLES[8:]]
    for order in itertools.permutations(range(3)):
        whole = verifier(pets, trust)
        for place in order:
            # As another process has it.
            worker = pickle.loads(pickle.dumps(whole))
            receipt = pickle.loads(pickle.dumps(worker.look(parts[place])))
            if place == 1:
                whole.deliver(receipt)
            else:
                worker.deliver(receipt)
                whole.merge(pickle.loads(pickle.dumps(worker.state_dict())))
        assert whole.finish() == (20, 0, 0)


def test_an_incomplete_epoch_is_never_verified(pets: Path, trust: sentry.PublicKey) -> None:
    check = verifier(pets, trust)
    for batch in (SAMPLES[:10], SAMPLES[:10], SAMPLES[5:19]):
        check.check(batch)
    with pytest.raises(sentry.EpochError, match='of source "default" 19 of 20 samples were delivered') as caught:
        check.finish()
    assert caught.value.code == "epoch_incomplete"
    check.check(SAMPLES[19:])
    check.finish()
    # What came before does not count for the next one.
    check.check(SAMPLES[19:])
    with pytest.raises(sentry.EpochError, match="1 of 20"):
        check.finish()


def test_states_and_receipts_of_another_dataset_are_refused(pets: Path, tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    other = verifier(signed(tmp_path / "other", key, SAMPLES, version=2), trust)
    check = verifier(pets, trust)
    for use in (
        lambda: check.deliver(other.look(SAMPLES)),
        lambda: check.merge(other.state_dict()),
        lambda: check.load_state_dict(other.state_dict()),
        lambda: check.load_state_dict({"epoch": b"", "quarantined": []}),
        lambda: sentry._native.Receipt.from_bytes(b"sentry r"),
    ):
        with pytest.raises(sentry.EpochError) as caught:
            use()
        assert caught.value.code == "epoch_state"


def test_without_tables_samples_count_at_the_end_and_once(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    signature = signed(tmp_path, key, SAMPLES, tables=False)
    assert [file.name for file in tmp_path.iterdir()] == ["dataset.sig"]
    check = verifier(signature, trust)
    assert check.sources == [("default", 20, False)]
    check.check(SAMPLES[:10])
    with pytest.raises(sentry.SampleError, match="came twice in this epoch"):
        check.check(SAMPLES[9:])
    check.check(SAMPLES[10:])
    check.finish()
    check.check([*SAMPLES[:19], {**SAMPLES[19], "label": 7}])
    with pytest.raises(sentry.SampleError, match='source "default" was changed'):
        check.finish()
    with pytest.raises(sentry.UsageError, match="without sample tables"):
        verifier(signature, trust, on_bad="quarantine")


def test_wrong_samples_are_kept_back_if_asked_for(pets: Path, trust: sentry.PublicKey) -> None:
    check = verifier(pets, trust, on_bad="quarantine")
    batch = [*SAMPLES[:3], {**SAMPLES[3], "label": 9}, {**SAMPLES[4], "id": 41}, *SAMPLES[5:]]
    assert check.check(batch) == [0, 1, 2, *range(5, 20)]
    assert [(bad.source, bad.id) for bad in check.quarantined] == [("default", 30), ("default", 41)]
    with pytest.raises(sentry.EpochError):
        check.finish()
    check.check(SAMPLES[4:5])
    assert check.finish() == (20, 1, 0)


def test_trust_is_asked_for_and_holds(pets: Path, stranger: sentry.PublicKey, trust: sentry.PublicKey) -> None:
    with pytest.raises(sentry.VerificationError) as caught:
        verifier(pets, stranger)
    assert caught.value.code == "signature_invalid"
    with pytest.raises(sentry.UsageError, match="say whom you trust"):
        verifier(pets, None)  # type: ignore[arg-type]
    with pytest.raises(sentry.UsageError, match="on_bad"):
        verifier(pets, trust, on_bad="ignore")
    table = next(pets.parent.glob("*.samples"))
    table.write_bytes(table.read_bytes()[:-1] + b"\0")
    with pytest.raises(sentry.SampleError) as wrong:
        verifier(pets, trust).check(SAMPLES)
    assert wrong.value.code == "table_differs"
    table.unlink()
    with pytest.raises(sentry.SampleError, match="is missing"):
        verifier(pets, trust)


def test_ids_may_be_of_numpy_and_torch(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    fields = {"id": numpy.arange(5), "x": numpy.arange(5) * 2}
    check = verifier(signed(tmp_path, key, fields), trust)
    check.check([{name: values[place] for name, values in fields.items()} for place in range(3)])
    check.check({"id": [3, 4], "x": [6, 8]}, ids=torch.tensor([3, 4]))
    check.finish()
    for wrong in ([True], [1.0], [numpy.bool_(True)], ["1", 2.5], [-1], [1 << 64]):
        with pytest.raises(sentry.UsageError, match="ids are whole numbers"):
            check.check({"id": [1] * len(wrong), "x": [2] * len(wrong)}, ids=wrong)
    with pytest.raises(sentry.UsageError, match="was signed as"):
        check.check({"id": [1], "x": numpy.array([2], dtype=numpy.int8)})


def test_contributions_are_put_together(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    alice = sentry.PrivateKey.generate()
    folder, whole = tmp_path / "alice", tmp_path / "whole"
    for place in (folder, whole):
        place.mkdir()
        (place / "train.csv").write_text("id,x\n1,a\n2,b\n")
    (whole / "test.csv").write_text("id,x\n1,c\n")
    sentry.sign_dataset(folder, key=alice)
    contributors = [(folder / "dataset.sig", alice.public_key)]
    sentry.sign_dataset(whole, key=key, contributors=contributors)
    assert sentry.verify_dataset(whole, trust=trust, contributors=contributors).samples == 3
    sentry.DatasetVerifier(whole, trust=trust, contributors=contributors)
    with pytest.raises(sentry.SampleError, match='source "train" is a contributor\'s: its statement was not given'):
        sentry.DatasetVerifier(whole, trust=trust)
    with pytest.raises(sentry.VerificationError):
        sentry.DatasetVerifier(whole, trust=trust, contributors=[(folder / "dataset.sig", trust)])
    (whole / "train.csv").write_text("id,x\n1,a\n2,B\n")
    with pytest.raises(sentry.UsageError, match="other samples than its contributor signed"):
        sentry.sign_dataset(whole, key=key, contributors=contributors)


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [
        ([], {}, "there are no samples"),
        ([{"x": None}], {}, 'say of what type the field "x" is'),
        ([{"x": []}], {}, 'say of what type the field "x" is'),
        ([{"x": numpy.array([object()])}], {}, "arrays of Python objects"),
        ([{"x": 1 << 70}], {}, "is no value of I64"),
        ([{"x": 1}, {"y": 1}], {}, None),
        (7, {}, "a int is neither a path nor samples"),
        ([{"x": 1}], {"version": -1}, "a version is a whole number"),
        ([{"id": 1}, {"id": 1}], {}, 'two samples with id 1'),
    ],
)
def test_samples_that_cannot_be_signed(tmp_path: Path, key: sentry.PrivateKey, samples: Any, options: Mapping[str, Any], message: str | None) -> None:
    if message is None:
        # A field that a sample lacks has no value there.
        signed(tmp_path, key, samples, **options)
        return
    with pytest.raises((sentry.UsageError, sentry.SigningError), match=message):
        signed(tmp_path, key, samples, **options)
    assert not (tmp_path / "dataset.sig").exists()


def test_a_policy_can_name_the_sources_of_a_dataset(tmp_path: Path, key: sentry.PrivateKey, pets: Path) -> None:
    (tmp_path / "key.pub").write_text(key.public_key.pem)
    rule = 'policy = 1\n[signer.us]\nkey = "key.pub"\n[[rule]]\nname = "pets"\nartifacts = ["pets"]\nsigners = ["us"]\nstatements = ["dataset"]\n'
    for sources, is_right in (('["default"]', True), ('["default", "test"]', False)):
        (tmp_path / "policy.toml").write_text(rule + f"sources = {sources}\n")
        trust = sentry.Policy(tmp_path / "policy.toml", artifact="pets")
        if is_right:
            pickle.loads(pickle.dumps(verifier(pets, trust))).check(SAMPLES)
        else:
            with pytest.raises(sentry.PolicyError):
                verifier(pets, trust)


def test_samples_of_a_gigabyte_are_checked(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    large = numpy.zeros(1 << 30, dtype=numpy.uint8)
    signature = signed(tmp_path, key, {"id": numpy.array([1]), "x": large.reshape(1, -1)})
    check = verifier(signature, trust)
    check.check({"id": [1], "x": large.reshape(1, -1)})
    large[-1] = 1
    with pytest.raises(sentry.SampleError):
        check.check({"id": [1], "x": large.reshape(1, -1)})


def test_a_verifier_may_be_about_some_sources(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    import pyarrow.csv

    folder = tmp_path / "splits"
    folder.mkdir()
    for split, rows in (("train", range(4)), ("test", range(10, 12))):
        pyarrow.csv.write_csv(pyarrow.table({"id": list(rows), "x": [7 * row for row in rows]}), folder / f"{split}.csv")
    sentry.sign_dataset(folder, key=key)
    batch = {"id": list(range(4)), "x": [7 * row for row in range(4)]}
    whole = sentry.DatasetVerifier(folder, trust=trust)
    whole.check(batch, source="train")
    with pytest.raises(sentry.EpochError, match='of source "test" 0 of 2'):
        whole.finish()
    check = pickle.loads(pickle.dumps(sentry.DatasetVerifier(folder, trust=trust, sources=["train"])))
    assert [source.name for source in check.sources] == ["test", "train"]
    check.check(batch)
    assert check.delivered() == {"train": 4} and check.finish() == (4, 0, 0)
    test = {"id": [10, 11], "x": [70, 77]}
    for source in ("test", ["test", "test"]):
        with pytest.raises(sentry.UsageError, match='source "test" is none of those'):
            check.check(test, source=source)
    with pytest.raises(sentry.SampleError):
        check.check(test, source="unsigned")
    for wrong in ([], ["validation"], "train"):
        with pytest.raises(sentry.UsageError):
            sentry.DatasetVerifier(folder, trust=trust, sources=wrong)
