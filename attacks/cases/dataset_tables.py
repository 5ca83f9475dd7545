"""Class dataset, part three: sample tables that a malicious signer made, or that were changed since, or that are another dataset's."""

import struct

from kit.case import rejected
from kit.datasets import (
    CSV, Dataset, added, described, each_format, entries, find, honest, stored, sum_up,
)  # fmt: skip
from kit.keys import key

case = rejected("dataset")


def other_table(data, name="train"):
    """A table of samples of which one has another label, as a statement describes it."""
    samples = [dict(sample) for sample in data.sources[name]]
    samples[0]["label"] = 2
    table = stored(entries(data.kind, name, samples))
    data.table(name).write_bytes(table)
    return described(data.table(name).name, table)


def two_contents(data):
    """A statement whose sum is of one content, and whose table is of another."""
    made = data.statement()
    find(made, "train")["table"] = other_table(data)
    data.sign(made)
    return data


def as_in_the_table(data):
    """The files are what the table says."""
    data.sources["train"][0]["label"] = 2
    data.write()
    return data


@each_format(case, "table_state")
def table_disagrees_with_state(data):
    """The files are those of the sum."""
    return two_contents(data).verify()


@case("table_state", naive=False)
def table_disagrees_with_state__files_as_in_the_table(world):
    return as_in_the_table(two_contents(Dataset(world))).verify()


@case("table_state", naive=False)
def table_disagrees_with_state__in_training(world):
    """Whoever looks samples up in the table alone would train on what another verifier refuses."""
    return as_in_the_table(two_contents(Dataset(world))).training("epoch")


@case("table_state", naive=False)
def table_disagrees_with_state__in_training_with_workers(world):
    """The main process has seen no sample itself."""
    data = Dataset(world, CSV, {"train": honest()["train"]})
    return as_in_the_table(two_contents(data)).training("workers")


@case("table_state", naive=False)
def table_disagrees_with_state__in_training_of_ranks(world):
    return as_in_the_table(two_contents(Dataset(world))).training("ranks")


@case("table_state", naive=False)
def table_disagrees_with_state__before_training(world):
    return as_in_the_table(two_contents(Dataset(world))).training("checks_tables")


@case("table_state", naive=False)
def table_disagrees_with_state__signed_over_by_another(world):
    """Someone adds a file to it and would sign both contents with it."""
    data = two_contents(Dataset(world, CSV, {"train": honest()["train"]}))
    new = data.folder / "train-2.csv"
    new.write_text("id,label,text\n900,1,word\n")
    other = world.root / "other.pem"
    other.write_bytes(key("p256", "another").private_pem())
    return data.updating(other, "--add", str(new))


@case("table_differs", naive=False)
def table_changed(world):
    """The table was changed after it was signed, and the files with it."""
    data = Dataset(world).signed()
    other_table(data)
    return as_in_the_table(data).verify()


@case("table_differs", naive=False)
def table_changed__in_training(world):
    data = Dataset(world).signed()
    other_table(data)
    return as_in_the_table(data).training("epoch")


@case("table_differs", naive=False)
def table_changed__one_bit(world):
    data = Dataset(world).signed()
    spoil(data, lambda table: table[:20] + bytes([table[20] ^ 1]) + table[21:])
    return data.verify()


def spoil(data, change):
    """Changes the table of `train` on the disk."""
    data.table("train").write_bytes(change(data.table("train").read_bytes()))


@case("table_malformed", naive=False)
def table_changed__cut_off(world):
    data = Dataset(world).signed()
    spoil(data, lambda table: table[:-40])
    return data.verify()


@case("table_malformed", naive=False)
def table_changed__cut_off_in_training(world):
    data = Dataset(world).signed()
    spoil(data, lambda table: table[:-40])
    return data.training("epoch")


@case("table_malformed", naive=False)
def table_changed__one_more_entry(world):
    data = Dataset(world).signed()
    spoil(data, lambda table: table + struct.pack("<Q", 99) + bytes(32))
    return data.verify()


@case("table_malformed", naive=False)
def table_changed__empty(world):
    data = Dataset(world).signed()
    data.table("train").write_bytes(b"")
    return data.verify()


@case("io", naive=False)
def table_changed__to_a_folder(world):
    data = Dataset(world).signed()
    data.table("train").unlink()
    data.table("train").mkdir()
    return data.verify()


@case("table_malformed", naive=False)
def id_twice__in_a_signed_table(world):
    """As a malicious signer writes it: the sum of 65,537 entries of one sample is that of one."""
    data = Dataset(world)
    made = data.statement()
    found = data.entries("train")
    return _of_entries(data, made, found + found[:1] * 65_536)


@case("table_malformed", naive=False)
def id_twice__in_a_signed_table_for_training(world):
    data = Dataset(world)
    made = data.statement()
    found = data.entries("train")
    return _of_entries(data, made, found + found[:1] * 65_536, training=True)


def _of_entries(data, made, found, training=False):
    """A statement with the table of these entries, whose sum is that of the files."""
    table = stored(found)
    data.table("train").write_bytes(table)
    own = find(made, "train")
    own["table"], own["samples"] = described(data.table("train").name, table), len(found)
    data.sign(sum_up(made))
    return data.training("epoch") if training else data.verify()


@case("table_malformed", naive=False)
def table_not_in_order(world):
    """The signed table lists ids in descending order."""
    return _reversed(Dataset(world)).verify()


@case("dataset_differs", naive=False)
def table_not_in_order__in_training(world):
    """Ids below the first one of a table are not looked for in it."""
    return _reversed(Dataset(world)).training("epoch", differences=added("train", 10, 11, 12))


def _reversed(data):
    made = data.statement()
    rows = b"".join(struct.pack("<Q", sample_id) + digest for sample_id, digest in reversed(data.entries("train")))
    data.table("train").write_bytes(rows)
    find(made, "train")["table"] = described(data.table("train").name, rows)
    data.sign(made)
    return data


@case("list_table", naive=False)
def table_of_another_size(world):
    """The statement says that the table has an entry less than there are samples."""
    data = Dataset(world)
    made = data.statement()
    find(made, "train")["table"] = described(data.table("train").name, stored(data.entries("train")[1:]))
    data.sign(made)
    return data.verify()


@case("unsafe_path", naive=False)
def table_outside(world):
    """The statement names a table that does not lie beside the signature."""
    data = Dataset(world)
    made = data.statement()
    find(made, "train")["table"]["name"] = "../dataset.train.samples"
    data.table("train").rename(world.root / "dataset.train.samples")
    data.sign(made)
    return data.verify()


@case("table_differs", naive=False)
def table_of_another_dataset(world):
    """Of the same signer, of as many samples, of the same ids."""
    return _two(world).verify()


@case("table_differs", naive=False)
def table_of_another_dataset__in_training(world):
    return _two(world).training("epoch")


def _two(world):
    other = Dataset(world, folder="other")
    for sample in other.sources["train"]:
        sample["text"] = sample["text"].upper()
    other.signed()
    data = Dataset(world).signed()
    data.table("train").write_bytes(other.table("train").read_bytes())
    # The files are the other dataset's too: its table agrees with them.
    data.sources["train"] = other.sources["train"]
    data.write()
    return data


@case("table_differs", naive=False)
def table_of_another_dataset__of_the_other_source(world):
    """The tables of two sources of one dataset are exchanged."""
    sources = honest()
    sources["test"] = sources["train"][4:]
    sources["train"] = sources["train"][:4]
    data = Dataset(world, CSV, sources).signed()
    train, test = data.table("train").read_bytes(), data.table("test").read_bytes()
    data.table("train").write_bytes(test)
    data.table("test").write_bytes(train)
    return data.verify()
