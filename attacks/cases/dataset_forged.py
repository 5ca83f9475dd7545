"""Class dataset, part two: statements and tables that a malicious signer made, and tables that were changed since.

The signature holds, so that nothing but the dataset and what contradicts itself can show it. The forged states and tables come from the
reference.
"""

import hashlib
import struct

from kit import oms
from kit.case import rejected
from kit.datasets import CSV, Dataset, added, another, described, each_format, entries, find, honest, lattice, source, state, statement, stored, sum_up
from kit.keys import key

case = rejected("dataset")


# -- states ---------------------------------------------------------------------------------


def set_state(made, name, total):
    """Puts a sum into a source; the number of samples stays."""
    find(made, name)["state"] = oms.b64(total.to_bytes())


def moved_weight(made, data):
    """What is added to one source's sum is taken from the other's, so that the sum of all, which is the subject's digest, stays."""
    shift = lattice.element(lattice.source_tag("train"), 99, bytes(32))
    for name, sign in (("train", 1), ("test", -1)):
        total = state(name, data.entries(name))
        total.lanes = [(lane + sign * more) % 2**16 for lane, more in zip(total.lanes, shift, strict=True)]
        set_state(made, name, total)


@each_format(case, "dataset_differs")
def rogue_source_state(data):
    """A source's sum hides what the other's lacks: each source is checked by itself."""
    made = data.statement(has_tables=False)
    before = made["subject"][0]["digest"]["sha256"]
    moved_weight(made, data)
    assert sum_up(made)["subject"][0]["digest"]["sha256"] == before
    data.sign(made)
    return data.verify(differences=another("test", "train"))


@case("table_state", naive=False)
def rogue_source_state__with_tables(world):
    data = Dataset(world)
    made = data.statement()
    moved_weight(made, data)
    data.sign(made)
    return data.verify()


@case("dataset_differs", naive=False)
def rogue_source_state__cancels_the_honest_one(world):
    """A contributor publishes the difference between its own choice and the honest sum, so that the whole is of its choice."""
    data = Dataset(world)
    chosen = state("train", [(1, bytes(32)), (2, bytes(32))])
    honest_state = state("test", data.entries("test"))
    rogue = lattice.State([(one - two) % 2**16 for one, two in zip(chosen.lanes, honest_state.lanes, strict=True)], 8)
    made = data.statement(has_tables=False)
    set_state(made, "train", rogue)
    data.sign(sum_up(made))
    return data.verify(differences=another("train"))


@case("contributor_statement", naive=False)
def rogue_source_state__not_the_contributor_s(world):
    """The signer states other samples of a source than the contributor did, and the files are the signer's."""
    data = Dataset(world)
    theirs = entries(CSV, "train", [{**sample, "label": 0} for sample in data.sources["train"]])
    return _contribution(data, statement("contribution", CSV, [source("train", theirs)]))


@case("contributor_statement", naive=False)
def rogue_source_state__of_the_contributor_s_other_source(world):
    """The contributor stated the same samples, and of a source of another name."""
    data = Dataset(world)
    return _contribution(data, statement("contribution", CSV, [source("others", data.entries("train"))]))


@case("contributor_statement", naive=False)
def rogue_source_state__of_another_statement_of_the_contributor(world):
    """The contributor has signed these samples too, and the signer means another statement."""
    data = Dataset(world)
    return _contribution(data, statement("contribution", CSV, [source("train", data.entries("train"))]), names=hashlib.sha256(b"").hexdigest())


def _contribution(data, theirs, names=None):
    """Verifies a dataset, one of whose sources has a statement of its own."""
    root = data.world.root
    payload = data.sign(theirs, key("p256", "contributor"), root / "contribution.sig")
    made = data.statement()
    find(made, "train")["statement"] = names or hashlib.sha256(payload).hexdigest()
    data.sign(made)
    (root / "contributor.pub").write_bytes(key("p256", "contributor").public_pem())
    return data.verify("--contributor", str(root / "contribution.sig"), "--contributor-key", str(root / "contributor.pub"))


@case("subject_digest", naive=False)
def rogue_source_state__not_in_the_subject(world):
    """The subject's digest is that of the honest sum."""
    data = Dataset(world)
    made = data.statement(has_tables=False)
    set_state(made, "train", state("train", []))
    data.sign(made)
    return data.verify()


@case("subject_digest", naive=False)
def rogue_source_state__more_samples_in_the_source(world):
    """The sum is the honest one, and the number of samples is not."""
    data = Dataset(world)
    made = data.statement(has_tables=False)
    find(made, "train")["samples"] += 65_536
    data.sign(made)
    return data.verify()


@case("dataset_differs", naive=False)
def sample_duplicated_65536_times__in_the_statement(world):
    """A sample was added 65,536 times besides, which the sum does not show, and the files have it once."""
    data = Dataset(world)
    made = data.statement(has_tables=False)
    find(made, "train")["samples"] += 65_536
    data.sign(sum_up(made))
    return data.verify(differences=another("train"))


@case("dataset_differs", naive=False)
def sample_duplicated_65536_times__away_in_the_statement(world):
    """65,536 copies of a sample and of no other have the sum of none: an honest sum with a sample that was never added up."""
    data = Dataset(world)
    made = data.statement(has_tables=False)
    total = state("train", data.entries("train")[1:])
    total.count += 1
    set_state(made, "train", total)
    data.sign(sum_up(made))
    return data.verify(differences=another("train"))


@case("dataset_differs", naive=False)
def sample_moved_between_sources__state_copied(world):
    """The signer copies the sum of one source to another, whose files have the same samples."""
    return _copied(Dataset(world), False, differences=another("test"))


@case("table_state", naive=False)
def sample_moved_between_sources__state_and_table_copied(world):
    return _copied(Dataset(world), True)


def _copied(data, has_tables, **options):
    data.sources["test"] = data.sources["train"]
    data.write()
    made = data.statement(has_tables)
    set_state(made, "test", state("train", data.entries("train")))
    data.sign(sum_up(made))
    return data.verify(**options)


@case("dataset_differs", naive=False)
def hasher_reused_without_reset__by_the_signer(world):
    """The second source's sum was begun where the first one's ended."""
    return _not_reset(Dataset(world), False, differences=another("train"))


@case("table_state", naive=False)
def hasher_reused_without_reset__by_the_signer_with_tables(world):
    return _not_reset(Dataset(world), True)


def _not_reset(data, has_tables, **options):
    made = data.statement(has_tables)
    total = state("test", data.entries("test"))
    total.merge(state("train", data.entries("train")))
    set_state(made, "train", total)
    data.sign(sum_up(made))
    return data.verify(**options)


# -- tables ---------------------------------------------------------------------------------


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


# -- what else a statement says -------------------------------------------------------------


@case("dataset_differs", naive=False)
def id_rule_changed(world):
    """The files have no column that the ids could be from."""
    data = Dataset(world)
    data.sign(statement("dataset", CSV, data.statement()["predicate"]["sources"], ids="column key"))
    return data.verify(differences={("changed_ids", None, None)})


@case("dataset_differs", naive=False)
def id_rule_changed__to_numbers_of_rows(world):
    """By the number of the row, every sample has another id."""
    data = Dataset(world)
    data.sign(statement("dataset", CSV, data.statement(has_tables=False)["predicate"]["sources"], ids="ordinal"))
    return data.verify(differences=another("test", "train"))


@case("dataset_differs", naive=False)
def field_left_out_of_the_statement(world):
    """The statement does not mention a field that the files have."""
    data = Dataset(world)
    data.sign(statement("dataset", CSV, data.statement()["predicate"]["sources"], fields={"id": "Int64", "text": "Utf8"}))
    return data.verify(differences={("changed_field", "label", None)})
