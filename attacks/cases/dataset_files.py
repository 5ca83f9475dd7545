"""Datasets of other classes: files that are damaged, no samples, or somewhere else; and statements in each other's place."""

import json
import os
import pickle
import struct
import tarfile

from kit import oms, policies
from kit.case import rejected
from kit.datasets import CSV, IMAGES, NPY, PARQUET, TAR, Dataset, added, changed, honest, missing, npy, parquet
from kit.world import sparse

from .loaded_pickle import Code

case = rejected("dataset")
safetensors, path, limits, envelope = (rejected(group) for group in ("safetensors", "path", "limits", "envelope"))

MIB = 1 << 20


# -- arrays ---------------------------------------------------------------------------------


def arrays(world, content):
    """A signed dataset of arrays, one of which is replaced."""
    data = Dataset(world, NPY).signed()
    (data.folder / "train" / "label.npy").write_bytes(content)
    return data


def objects(world):
    """A pickle with code in the form of an array of Python objects, as `numpy.save` writes it."""
    return npy("|O", (8,), pickle.dumps(Code(world.root / "was-run")))


@safetensors("dataset_malformed", naive=False)
def pickle_disguised_as_npy_object_dtype(world):
    return arrays(world, objects(world)).verify()


@safetensors("dataset_malformed", naive=False)
def pickle_disguised_as_npy_object_dtype__signing(world):
    return arrays(world, objects(world)).signing()


@safetensors("dataset_malformed", naive=False)
def pickle_disguised_as_npy_object_dtype__as_long_as_its_shape(world):
    """Eight bytes a sample, as if the objects were pointers."""
    code = pickle.dumps(Code(world.root / "was-run"))
    return arrays(world, npy("|O", (8,), code[:64].ljust(64, b"."))).verify()


@safetensors("dataset_malformed", naive=False)
def pickle_disguised_as_npy_object_dtype__within_a_structure(world):
    content = npy("@", (8,), bytes(64)).replace(b"'@'", b"[('a', '|O')]")
    return arrays(world, content).verify()


@safetensors("dataset_malformed", naive=False)
def pickle_disguised_as_npy_object_dtype__nothing_but_a_pickle(world):
    """`numpy.load` takes a file for a pickle that does not begin like an array."""
    return arrays(world, pickle.dumps(Code(world.root / "was-run"))).verify()


@case("dataset_layout", naive=False)
def unequal_arrays(world):
    """Fewer labels than images."""
    return arrays(world, npy("<i8", (7,), bytes(56))).verify()


@case("dataset_malformed", naive=False)
def damaged_array__cut_off(world):
    return arrays(world, npy("<i8", (8,), bytes(63))).verify()


@case("dataset_malformed", naive=False)
def damaged_array__more_behind_it(world):
    return arrays(world, npy("<i8", (8,), bytes(65))).verify()


@case("dataset_malformed", naive=False)
def damaged_array__columns_first(world):
    """In Fortran order the bytes of a sample do not lie together."""
    data = Dataset(world, NPY).signed()
    file = data.folder / "train" / "text.npy"
    file.write_bytes(file.read_bytes().replace(b"False", b"True "))
    return data.verify()


@case("dataset_malformed", naive=False)
def damaged_array__shape_overflows(world):
    return arrays(world, npy("<i8", (8, 1 << 62), bytes(64))).verify()


@case("dataset_differs", naive=False)
def damaged_array__other_byte_order(world):
    """The same bytes, said to be in the other order: other numbers. The labels that are 0 stay."""
    data = Dataset(world, NPY).signed()
    file = data.folder / "train" / "label.npy"
    file.write_bytes(file.read_bytes().replace(b"<i8", b">i8"))
    others = [sample["id"] for sample in data.sources["train"] if sample["label"]]
    return data.verify(differences=changed("train", *others))


# -- Parquet --------------------------------------------------------------------------------


def spoilt_parquet(world, spoil):
    """A signed file of Parquet whose bytes are changed."""
    data = Dataset(world, PARQUET).signed()
    file = data.folder / "train.parquet"
    file.write_bytes(bytes(spoil(bytearray(file.read_bytes()))))
    return data.verify(memory=1024 * MIB)


@case("dataset_malformed", naive=False)
def corrupt_parquet__cut_off(world):
    return spoilt_parquet(world, lambda content: content[:-20])


@case("dataset_malformed", naive=False)
def corrupt_parquet__no_footer(world):
    return spoilt_parquet(world, lambda content: content[:4])


@case("dataset_malformed", naive=False)
def corrupt_parquet__empty(world):
    return spoilt_parquet(world, lambda content: b"")


def put(content, at, more):
    """Replaces bytes."""
    return content[:at] + more + content[at + len(more) :]


@case("dataset_malformed", naive=False)
def corrupt_parquet__footer_longer_than_the_file(world):
    return spoilt_parquet(world, lambda content: put(content, len(content) - 8, struct.pack("<I", 0xFFFF_FFF0)))


@case("dataset_malformed", naive=False)
def corrupt_parquet__footer_of_zeroes(world):
    return spoilt_parquet(world, lambda content: put(content, len(content) - 208, bytes(200)))


@case("dataset_malformed", naive=False)
def corrupt_parquet__page_head(world):
    """The first page's head, right behind the magic, claims what no page has."""
    return spoilt_parquet(world, lambda content: put(content, 4, b"\xff" * 16))


@case("dataset_malformed", naive=False)
def corrupt_parquet__no_parquet(world):
    data = Dataset(world).signed()
    (data.folder / "train.csv").rename(data.folder / "train.parquet")
    (data.folder / "test.csv").rename(data.folder / "test.parquet")
    return data.verify()


# -- archives -------------------------------------------------------------------------------


def archived(world, *members):
    """A signed dataset of archives, and one archive more."""
    data = Dataset(world, TAR).signed()
    with tarfile.open(data.folder / "train-0001.tar", "w") as archive:
        for member in members:
            archive.addfile(member)
    return data.verify()


def member(name, kind=tarfile.REGTYPE, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@path("dataset_malformed", naive=False)
def dotdot_name__in_an_archive(world):
    return archived(world, member("../0001.txt"))


@path("dataset_malformed", naive=False)
def absolute_name__in_an_archive(world):
    return archived(world, member("/tmp/0001.txt"))


@path("dataset_malformed", naive=False)
def symlink_escape__in_an_archive(world):
    return archived(world, member("0001.txt", tarfile.SYMTYPE, "/etc/passwd"))


@path("dataset_malformed", naive=False)
def symlink_escape__hard_link_in_an_archive(world):
    return archived(world, member("0001.txt", tarfile.LNKTYPE, "0010.txt"))


@path("dataset_malformed", naive=False)
def fifo_or_device__in_an_archive(world):
    return archived(world, member("0001.txt", tarfile.FIFOTYPE))


@case("dataset_malformed", naive=False)
def damaged_archive__cut_off(world):
    """Between two samples, so that all that is left is whole."""
    data = Dataset(world, TAR).signed()
    file = data.folder / "train-0000.tar"
    file.write_bytes(file.read_bytes()[: 6 * 1024])
    return data.verify()


@case("dataset_malformed", naive=False)
def damaged_archive__two_of_one_field(world):
    return archived(world, member("0001.txt"), member("0001.txt"))


@case("dataset_malformed", naive=False)
def damaged_archive__more_behind_its_end(world):
    """Another archive behind the first one's end, which some programs read on to."""
    data = Dataset(world, TAR).signed()
    file = data.folder / "train-0000.tar"
    file.write_bytes(file.read_bytes() + (data.folder / "test-0000.tar").read_bytes())
    return data.verify()


# -- links and other things in the folder ---------------------------------------------------


@path("symlink", naive=False)
def symlink_escape__in_a_dataset(world):
    """The very bytes that were signed, behind a link to a file outside."""
    data = Dataset(world).signed()
    (data.folder / "train.csv").rename(world.root / "train.csv")
    (data.folder / "train.csv").symlink_to(world.root / "train.csv")
    return data.verify()


@path("symlink", naive=False)
def symlink_escape__folder_in_a_dataset(world):
    data = Dataset(world, IMAGES).signed()
    (data.folder / "train").rename(world.root / "elsewhere")
    (data.folder / "train").symlink_to(world.root / "elsewhere", target_is_directory=True)
    return data.verify()


@path("symlink", naive=False)
def symlink_cycle__in_a_dataset(world):
    data = Dataset(world, IMAGES).signed()
    (data.folder / "train" / "again").symlink_to(data.folder / "train", target_is_directory=True)
    return data.verify()


@path("symlink", naive=False)
def symlink_escape__to_be_signed(world):
    data = Dataset(world)
    (data.folder / "validation.csv").symlink_to("/etc/hostname")
    return data.signing()


@path("special_file", naive=False)
def fifo_or_device__in_a_dataset(world):
    data = Dataset(world).signed()
    (data.folder / "train.csv").unlink()
    os.mkfifo(data.folder / "train.csv")
    return data.verify()


@path("non_utf8_name", naive=False)
def non_utf8_name__in_a_dataset(world):
    data = Dataset(world).signed()
    (data.folder / os.fsdecode(b"train-\xff.csv")).write_bytes(b"id,label,text\n77,1,poisoned\n")
    return data.verify()


@case("dataset_layout", naive=False)
def two_formats(world):
    """Which of them is trained on nobody knows."""
    data = Dataset(world).signed()
    (data.folder / "train.jsonl").write_text('{"id": 77, "label": 1, "text": "poisoned"}\n')
    return data.verify()


@case("dataset_layout", naive=False)
def no_samples(world):
    data = Dataset(world).signed()
    for name in data.sources:
        (data.folder / f"{name}.csv").unlink()
    return data.verify()


@case("dataset_malformed", naive=False)
def damaged_table__row_of_another_length(world):
    data = Dataset(world).signed()
    with open(data.folder / "train.csv", "a") as file:
        file.write("77,1\n")
    return data.verify()


@case("dataset_malformed", naive=False)
def number_spelled_otherwise(world):
    """Two spellings of one number are not one sample."""
    data = Dataset(world).signed()
    file = data.folder / "train.csv"
    file.write_text(file.read_text().replace("17,", "+17,"))
    return data.verify()


# -- bombs ----------------------------------------------------------------------------------


@limits("dataset_differs", naive=False)
def compressed_bomb__parquet(world):
    """Eight texts of 64 MiB, in a file of some KB, in the place of eight short ones."""
    data = Dataset(world, PARQUET).signed()
    samples = data.sources["train"]
    columns = {name: [sample[name] for sample in samples] for name in ("id", "label")}
    bomb = "a" * (64 * MIB)
    parquet(data.folder / "train.parquet", {**columns, "text": [bomb] * 8}, compression="zstd", use_dictionary=False)
    return data.verify(differences=changed("train", *columns["id"]), memory=768 * MIB)


@limits("dataset_differs", naive=False)
def compressed_bomb__dictionary_of_parquet(world):
    """A thousand rows of one text of 1 MiB, which is stored once."""
    data = Dataset(world, PARQUET).signed()
    try:
        import pyarrow
    except ImportError:
        parquet(data.folder / "train.parquet", {})
    ids = list(range(10, 1_010))
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * len(ids)), ["a" * MIB])
    parquet(data.folder / "train.parquet", {"id": ids, "label": ids, "text": texts}, compression="zstd")
    return data.verify(differences=changed("train", *ids[:8]) | added("train", *ids[8:]), memory=512 * MIB)


@limits("dataset_layout", naive=False)
def compressed_bomb__archive(world):
    """An archive that is compressed as a whole is not unpacked."""
    data = Dataset(world, TAR).signed()
    (data.folder / "train-0001.tar.gz").write_bytes(b"\x1f\x8b" + bytes(64))
    return data.verify()


@limits("dataset_malformed", naive=False)
def huge_declared_sparse_file__npy(world):
    """A file of a few bytes claims as many samples as no machine holds."""
    return arrays(world, npy("<i8", (1 << 40,), b"")).verify(memory=512 * MIB)


@limits("dataset_malformed", naive=False)
def huge_declared_sparse_file__parquet(world):
    """Zeroes, and no footer."""
    data = Dataset(world, PARQUET).signed()
    sparse(data.folder / "train.parquet", 1 << 40)
    return data.verify(memory=512 * MIB)


@limits("dataset_malformed", naive=False)
def huge_declared_sparse_file__archive(world):
    """More zeroes behind the end than any archive has."""
    data = Dataset(world, TAR).signed()
    os.truncate(data.folder / "train-0000.tar", 1 << 40)
    return data.verify(memory=512 * MIB)


# -- statements in each other's place -------------------------------------------------------


def pair(world):
    """A set to train with and one to test with, each in a folder of its own and signed by the same signer."""
    made = []
    for folder, name in (("digits-train", "train"), ("digits-test", "test")):
        made.append(Dataset(world, CSV, {"default": honest()[name]}, folder).signed())
    return made


@envelope("dataset_differs", naive=False)
def train_test_statement_swapped(world):
    """The signature and the table of the one lie beside the samples of the other."""
    train, test = pair(world)
    for old, new in ((train.signature, test.signature), (train.table("default"), test.table("default"))):
        new.write_bytes(old.read_bytes())
    ids = {name: [sample["id"] for sample in samples] for name, samples in honest().items()}
    return test.verify(differences=missing("default", *ids["train"]) | added("default", *ids["test"]))


@envelope("dataset_differs", naive=False)
def train_test_statement_swapped__signature_alone(world):
    train, test = pair(world)
    test.signature.write_bytes(train.signature.read_bytes())
    test.table("default").unlink()
    return test.verify(differences={("missing_file", "dataset.default.samples", None)})


@envelope("policy_payload", naive=False)
def train_test_statement_swapped__with_the_samples(world):
    """The set to train with stands whole in the place of the one to test with: the policy pins what the place is for."""
    train, test = pair(world)
    pin = oms.digest(oms.encode(test.statement()))
    policy = policies.alone(world, artifacts=("acme/digits",), payload=[pin], statements=["dataset"])
    return train.under(policy)


@envelope("policy_sources", naive=False)
def train_test_statement_swapped__sources(world):
    """The policy asks for the source to test with, and the dataset has another alone."""
    data = Dataset(world, CSV, {"train": honest()["train"]}).signed()
    policy = policies.alone(world, artifacts=("acme/digits",), sources=["test"], statements=["dataset"])
    return data.under(policy)


@envelope("dataset_differs", naive=False)
def train_test_statement_swapped__names_of_the_sources(world):
    """In one statement, the samples to train with are those to test with."""
    data = Dataset(world)
    made = data.statement()
    data.sources = {"train": data.sources["test"], "test": data.sources["train"]}
    data.write()
    data.sign(made)
    ids = {name: [sample["id"] for sample in samples] for name, samples in honest().items()}
    wrong = [missing(name, *ids[name]) | added(name, *ids[other]) for name, other in (("train", "test"), ("test", "train"))]
    return data.verify(differences=wrong[0] | wrong[1])


@envelope("predicate_type", naive=False)
def wrong_statement_type_or_predicate__model_for_a_dataset(world):
    """The signature of the same files as a model's."""
    data = Dataset(world)
    data.sign(oms.of_directory(data.folder, ignored=("dataset.sig",)))
    return data.verify()


@envelope("predicate_type", naive=False)
def wrong_statement_type_or_predicate__dataset_for_a_model(world):
    """The signature of the same files as a dataset's."""
    data = Dataset(world).signed()
    world.model = data.folder
    return world.verify()


@envelope("policy_statement", naive=False)
def wrong_statement_type_or_predicate__dataset_where_the_policy_has_models(world):
    data = Dataset(world).signed()
    return data.under(policies.alone(world, artifacts=("acme/digits",), statements=["files"]))


@envelope("predicate_type", naive=False)
def payload_type_confusion__version_of_a_dataset(world):
    """A statement of a version that there is not yet."""
    data = Dataset(world)
    made = data.statement()
    made["predicateType"] = made["predicateType"].replace("v1", "v2")
    data.sign(made)
    return data.verify()


@envelope("subject_name", naive=False)
def annotation_equivocation__two_names_of_a_dataset(world):
    """The subject has another name than the predicate."""
    data = Dataset(world)
    made = data.statement()
    made["subject"][0]["name"] = "imagenet"
    data.sign(made)
    return data.verify()


@envelope("signature_invalid", naive=False)
def signature_from_other_model__payload_of_another_dataset(world):
    """The payload of the one dataset under the signature of the other."""
    train, test = pair(world)
    bundles = [json.loads(data.signature.read_bytes()) for data in (train, test)]
    bundles[0]["dsseEnvelope"]["signatures"] = bundles[1]["dsseEnvelope"]["signatures"]
    train.signature.write_bytes(oms.encode(bundles[0]))
    return train.verify()
