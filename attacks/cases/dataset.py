"""Class dataset, part one: honestly signed datasets whose files were changed since, in every format.

`missing_sample` and so on name the sample by its id; where ids are those of paths, that is the hash of one.
"""

import hashlib

from kit.case import rejected
from kit.datasets import (
    CSV, FORMATS, IMAGES, NPY, TAR, Csv, Dataset, added, another, changed, each_format, find, integer,
    missing, npy, source, statement,
)  # fmt: skip
from kit.datasets import text as text_field
from kit.keys import key

case = rejected("dataset")


def verified_by_state(data):
    """Verifies a dataset that has no tables."""
    return data.verify(differences=another("train"))


# -- samples --------------------------------------------------------------------------------


@each_format(case, "dataset_differs")
def sample_removed(data):
    gone = data.signed().id("train", 2)
    del data.sources["train"][2]
    data.write()
    return data.verify(differences=missing("train", gone))


@each_format(case, "dataset_differs")
def sample_removed__without_tables(data):
    data.without_tables()
    del data.sources["train"][-1]
    data.write()
    return verified_by_state(data)


@each_format(case, "dataset_differs")
def sample_added(data):
    data.signed().sources["train"].append({"id": 77, "label": 1, "text": "poisoned"})
    data.write()
    return data.verify(differences=added("train", data.id("train", -1)))


@each_format(case, "dataset_differs")
def sample_added__without_tables(data):
    data.without_tables().sources["train"].append({"id": 77, "label": 1, "text": "poisoned"})
    data.write()
    return verified_by_state(data)


@case("dataset_differs", naive=False)
def sample_added__in_a_file_of_its_own(world):
    data = Dataset(world).signed()
    CSV.write(data.folder, {"more-train": [{"id": 77, "label": 1, "text": "poisoned"}]})
    return data.verify(differences=added("train", 77))


@each_format(case, "dataset_differs")
def label_flipped(data):
    sample, before = data.signed().sources["train"][3], data.id("train", 3)
    sample["label"] = (sample["label"] + 1) % 3
    data.write()
    # In a folder of images the label is part of the path, and so of the id.
    moved = data.id("train", 3)
    same_id = changed("train", before)
    return data.verify(differences=same_id if moved == before else missing("train", before) | added("train", moved))


@each_format(case, "dataset_differs")
def label_flipped__without_tables(data):
    data.without_tables().sources["train"][3]["label"] = 2
    data.write()
    return verified_by_state(data)


@each_format(case, "dataset_differs")
def sample_changed(data):
    data.signed().sources["test"][0]["text"] = "icebergz"
    data.write()
    return data.verify(differences=changed("test", data.id("test", 0)))


@each_format(case, "dataset_differs")
def labels_swapped_between_samples(data):
    one, two = data.signed().sources["train"][:2]
    before = {data.id("train", 0), data.id("train", 1)}
    one["label"], two["label"] = two["label"], one["label"]
    data.write()
    after = {data.id("train", 0), data.id("train", 1)}
    return data.verify(differences=changed("train", *before) if after == before else missing("train", *before) | added("train", *after))


@each_format(case, "dataset_differs")
def labels_swapped_between_samples__without_tables(data):
    """The sum of the labels stays what it was."""
    one, two = data.without_tables().sources["train"][:2]
    one["label"], two["label"] = two["label"], one["label"]
    data.write()
    return verified_by_state(data)


@each_format(case, "dataset_differs")
def labels_swapped_between_samples__ids_instead(data):
    """Nothing but the ids, or the names of files, are exchanged."""
    one, two = data.signed().sources["train"][0], data.sources["train"][3]
    ids = {data.id("train", 0), data.id("train", 3)}
    one["id"], two["id"] = two["id"], one["id"]
    data.write()
    return data.verify(differences=changed("train", *ids))


@each_format(case, "dataset_differs")
def sample_moved_between_sources(data):
    gone = data.signed().id("train", 0)
    data.sources["test"].append(data.sources["train"].pop(0))
    data.write()
    return data.verify(differences=missing("train", gone) | added("test", data.id("test", -1)))


@each_format(case, "dataset_differs")
def sample_moved_between_sources__without_tables(data):
    """The sum of all sources would stay what it was, if a source were no part of a sample."""
    data.without_tables()
    data.sources["test"].append(data.sources["train"].pop(0))
    data.write()
    return data.verify(differences=another("test", "train"))


@case("dataset_differs", naive=False)
def sample_moved_between_sources__one_for_another(world):
    """Both sources have as many samples as before."""
    data = Dataset(world).without_tables()
    train, test = data.sources["train"], data.sources["test"]
    train[0], test[0] = test[0], train[0]
    data.write()
    return data.verify(differences=another("test", "train"))


@case("dataset_differs", naive=False)
def sample_moved_between_sources__files_renamed(world):
    """The training data is what was signed to test with, and the other way round."""
    data = Dataset(world).without_tables()
    data.sources = {"test": data.sources["train"], "train": data.sources["test"]}
    data.write()
    return data.verify(differences=another("test", "train"))


# -- ids that come twice --------------------------------------------------------------------


def repeated(data, times):
    """Writes one sample so many times more."""
    data.sources["train"] += [data.sources["train"][0]] * times
    data.write()


@case("sample_repeated", naive=False)
def sample_duplicated_65536_times(world):
    """Its share of a sum of 16 bits vanishes: the sum is the signed one."""
    data = Dataset(world).signed()
    repeated(data, 65_536)
    return data.verify()


@case("sample_repeated", naive=False)
def sample_duplicated_65536_times__without_tables(world):
    data = Dataset(world).without_tables()
    repeated(data, 65_536)
    return data.verify()


@case("sample_repeated", naive=False)
def sample_duplicated_65536_times__npy(world):
    data = Dataset(world, NPY).without_tables()
    repeated(data, 65_536)
    return data.verify()


@case("sample_repeated", naive=False)
def sample_duplicated_65536_times__signing(world):
    """No signature is about such a dataset."""
    data = Dataset(world)
    repeated(data, 65_536)
    return data.signing()


# Two images cannot have one path.
WITH_IDS = [kind for kind in FORMATS if kind is not IMAGES]


@case("sample_repeated", naive=False)
def id_twice__in_two_files(world):
    data = Dataset(world).signed()
    CSV.write(data.folder, {"more-train": data.sources["train"][:1]})
    return data.verify()


@each_format(case, "sample_repeated", WITH_IDS)
def id_twice__the_same_sample(data):
    data.without_tables()
    if data.kind.name == "tar":  # within one archive the files of a sample would not be together
        data.kind.write(data.folder, {"train": data.sources["train"], "train-more": data.sources["train"][:1]})
    else:
        repeated(data, 1)
    return data.verify()


@each_format(case, "sample_repeated", WITH_IDS)
def id_twice__another_sample(data):
    twin = {**data.signed().sources["train"][0], "text": "poisoned"}
    if data.kind.name == "tar":
        data.kind.write(data.folder, {"train-more": [twin]})
    else:
        data.sources["train"].append(twin)
        data.write()
    return data.verify()


@case("dataset_malformed", naive=False)
def id_twice__within_an_archive(world):
    """The files of a sample are not together: the second would replace the first."""
    data = Dataset(world, TAR).signed()
    data.sources["train"].append({**data.sources["train"][0], "text": "poisoned"})
    data.write()
    return data.verify()


# -- sources --------------------------------------------------------------------------------


@each_format(case, "dataset_differs")
def unsigned_extra_source(data):
    data.signed().sources["validation"] = [{"id": 77, "label": 1, "text": "poisoned"}]
    data.write()
    return data.verify(differences={("unsigned_source", "validation", None)})


@each_format(case, "dataset_differs")
def unsigned_extra_source__without_tables(data):
    data.without_tables().sources["validation"] = [{"id": 77, "label": 1, "text": "poisoned"}]
    data.write()
    return data.verify(differences={("unsigned_source", "validation", None)})


@case("signature_not_found", naive=False)
def source_signature_deleted(world):
    data = Dataset(world).signed()
    data.signature.unlink()
    return data.verify()


@case("dataset_differs", naive=False)
def source_signature_deleted__table(world):
    data = Dataset(world).signed()
    data.table("test").unlink()
    return data.verify(differences={("missing_file", "dataset.test.samples", None)})


@case("dataset_differs", naive=False)
def source_signature_deleted__samples(world):
    """Every signed source must be there."""
    data = Dataset(world).signed()
    (data.folder / "test.csv").unlink()
    return data.verify(differences={("missing_source", "test", None)})


def contributed(world, contributor=None):
    """A source is somebody else's, who signed it: `contribution.sig` beside the dataset."""
    contributor = contributor or key("p256", "contributor")
    data = Dataset(world)
    own = statement("contribution", CSV, [source("train", data.entries("train"))])
    payload = data.sign(own, contributor, world.root / "contribution.sig")
    (world.root / "contribution.payload").write_bytes(payload)
    made = data.statement()
    find(made, "train")["statement"] = hashlib.sha256(payload).hexdigest()
    data.sign(made)
    (world.root / "contributor.pub").write_bytes(key("p256", "contributor").public_pem())
    return data


def with_contribution(data):
    """Verifies it with the contributor's signature."""
    root = data.world.root
    return data.verify("--contributor", str(root / "contribution.sig"), "--contributor-key", str(root / "contributor.pub"))


@case("contributor_statement", naive=False)
def source_signature_deleted__contributor_s(world):
    """The signer says that the source has a signature of its own, which is not given."""
    return contributed(world).verify()


@case("signature_not_found", naive=False)
def source_signature_deleted__contributor_s_file(world):
    data = contributed(world)
    (world.root / "contribution.sig").unlink()
    return with_contribution(data)


@case("signature_invalid", naive=False)
def source_signature_deleted__replaced_by_a_stranger_s(world):
    return with_contribution(contributed(world, contributor=key("p256", "stranger")))


@case("signature_invalid", naive=False)
def source_signature_deleted__replaced_by_another_contributor_s(world):
    """Two have contributed, and one has signed for the other."""
    data = contributed(world, contributor=key("p256", "other"))
    root = world.root
    own = statement("contribution", CSV, [source("test", data.entries("test"))])
    payload = data.sign(own, key("p256", "other"), root / "other.sig")
    made = data.statement()
    find(made, "train")["statement"] = hashlib.sha256((root / "contribution.payload").read_bytes()).hexdigest()
    find(made, "test")["statement"] = hashlib.sha256(payload).hexdigest()
    data.sign(made)
    for name in ("contributor", "other"):
        (root / f"{name}.pub").write_bytes(key("p256", name).public_pem())
    others = ["--contributor", str(root / "other.sig"), "--contributor-key", str(root / "other.pub")]
    return data.verify("--contributor", str(root / "contribution.sig"), "--contributor-key", str(root / "contributor.pub"), *others)


# -- records that a careless encoding would take for each other ------------------------------


class TwoTexts(Csv):
    """A table of two fields of text."""

    fields = {"a": "Utf8", "b": "Utf8", "id": "Int64"}

    def record(self, source, sample):
        return [text_field("a", sample["a"]), text_field("b", sample["b"]), integer("id", sample["id"])]


def two_texts(world, before, after):
    """A table whose one sample is signed as one pair of texts and is another."""
    data = Dataset(world, TwoTexts(), {"train": [{"id": 1, "a": before[0], "b": before[1]}]}).signed()
    data.sources["train"][0].update(a=after[0], b=after[1])
    data.write()
    return data.verify(differences=changed("train", 1))


@case("dataset_differs", naive=False)
def padding_ambiguity(world):
    """A letter moves from one field to the next: what is joined stays the same."""
    return two_texts(world, ("first", "second"), ("firsts", "econd"))


@case("dataset_differs", naive=False)
def padding_ambiguity__zeroes_behind_a_text(world):
    return two_texts(world, ("first", "second"), ("first\0\0\0", "second"))


@case("dataset_differs", naive=False)
def padding_ambiguity__spaces_behind_a_text(world):
    return two_texts(world, ("first", "second"), ("first ", "second"))


@case("dataset_differs", naive=False)
def padding_ambiguity__fields_exchanged(world):
    return two_texts(world, ("first", "second"), ("second", "first"))


@case("dataset_differs", naive=False)
def padding_ambiguity__a_field_within_another(world):
    """The bytes of the second field's record, within the first one."""
    inside = "first\x01\0\0\0b\x04\0\0\0UTF8\0\0\0\0\x06\0\0\0\0\0\0\0second"
    return two_texts(world, ("first", "second"), (inside, ""))


@case("dataset_differs", naive=False)
def padding_ambiguity__two_spellings_in_unicode(world):
    return two_texts(world, ("caf\u00e9", ""), ("cafe\u0301", ""))


def as_another_array(world, kind, *shape):
    """The eight bytes of each text, as arrays of another type or shape."""
    data = Dataset(world, NPY).signed()
    for name, samples in data.sources.items():
        letters = "".join(sample["text"] for sample in samples).encode()
        (data.folder / name / "text.npy").write_bytes(npy(kind, (len(samples), *shape), letters))
    return data.verify(differences={("changed_field", "text", None)})


@case("dataset_differs", naive=False)
def padding_ambiguity__another_shape(world):
    return as_another_array(world, "|u1", 2, 4)


@case("dataset_differs", naive=False)
def padding_ambiguity__another_type(world):
    """As numbers with signs."""
    return as_another_array(world, "|i1", 8)
