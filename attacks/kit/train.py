"""Programs that train on the samples of a dataset in CSV, as commands: some deliver every sample once, others make a mistake.

python train.py PROGRAM PATH --key PUB [--signature FILE] [--json]

Arguments, documents and exit codes are those of load.py. A document of success has `samples`: how many the epoch delivered.
"""

import argparse
import csv
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

# Behind everything else, so that nothing of this folder is imported under the name of another's module.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import sentry  # noqa: E402
from kit import load  # noqa: E402

BATCH = 3


class Training:
    """Samples by source, and the verifier that knows what was signed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.verifier = self.rank()
        self.samples = {source.name: read(options.path / f"{source.name}.csv") for source in self.verifier.sources}

    def rank(self, path: Path | None = None, signature: Path | None = None) -> sentry.DatasetVerifier:
        """A verifier of its own, as each process has one."""
        where = {"signature": signature or self.options.signature}
        return sentry.DatasetVerifier(path or self.options.path, trust=sentry.PublicKey(self.options.key), **where)

    def batches(self) -> Iterator[tuple[str, list[dict]]]:
        """The samples of all sources, some at a time."""
        for source, samples in self.samples.items():
            for at in range(0, len(samples), BATCH):
                yield source, samples[at : at + BATCH]

    def finish(self) -> dict:
        """The verdict."""
        return {"samples": self.verifier.finish().samples}


def read(path: Path) -> list[dict]:
    """The rows of a file, nothing of them checked."""
    with open(path, newline="", encoding="utf-8") as file:
        return [{**row, "id": int(row["id"]), "label": int(row["label"])} for row in csv.DictReader(file)]


# -- honest ---------------------------------------------------------------------------------


def epoch(training: Training) -> dict:
    """Every sample once, checked when it is used."""
    for source, batch in training.batches():
        training.verifier.check(batch, source=source)
    return training.finish()


def two_epochs(training: Training) -> dict:
    """The next begins with nothing delivered."""
    epoch(training)
    return epoch(training)


def ranks(training: Training) -> dict:
    """Two ranks take turns, and are merged."""
    parts = [training.rank(), training.rank()]
    for number, (source, batch) in enumerate(training.batches()):
        parts[number % 2].check(batch, source=source)
    return merged(training, parts)


def read_ahead(training: Training) -> dict:
    """All are looked at before the first is used."""
    for receipt in [training.verifier.look(batch, source=source) for source, batch in training.batches()]:
        training.verifier.deliver(receipt)
    return training.finish()


def resumed(training: Training) -> dict:
    """Half of the epoch before a restart."""
    batches = list(training.batches())
    before = training.rank()
    for source, batch in batches[:3]:
        before.check(batch, source=source)
    training.verifier.load_state_dict(before.state_dict())
    for source, batch in batches[3:]:
        training.verifier.check(batch, source=source)
    return training.finish()


def workers(training: Training) -> dict:
    """By torch's loader, with workers."""
    for _ in loader(training, num_workers=2):
        pass
    return training.finish()


def merged(training: Training, parts: list[sentry.DatasetVerifier]) -> dict:
    """The verdict on what all parts have delivered."""
    for part in parts:
        training.verifier.merge(part.state_dict())
    return training.finish()


def loader(training: Training, **options):
    """torch's loader, over the one source that there is."""
    import torch.utils.data

    samples = training.samples["train"]
    data = sentry.torch.VerifiedDataset(samples, training.verifier, transform=lambda sample: sample["label"])
    torch.set_num_threads(1)
    return sentry.torch.DataLoader(data, batch_size=BATCH, **options)


# -- mistakes: an epoch that is none --------------------------------------------------------


def stops_early(training: Training) -> dict:
    """The last batch never comes."""
    for source, batch in list(training.batches())[:-1]:
        training.verifier.check(batch, source=source)
    return training.finish()


def leaves_out_one(training: Training) -> dict:
    """The first sample alone never comes."""
    for number, (source, batch) in enumerate(training.batches()):
        training.verifier.check(batch[number == 0 :], source=source)
    return training.finish()


def leaves_out_a_source(training: Training) -> dict:
    """One source is forgotten."""
    for source, batch in training.batches():
        if source != "test":
            training.verifier.check(batch, source=source)
    return training.finish()


def drops_the_last(training: Training) -> dict:
    """`drop_last=True`, and the samples are no multiple of the batch."""
    for _ in loader(training, drop_last=True):
        pass
    return training.finish()


def pads_the_last(training: Training) -> dict:
    """A short last batch is filled up with samples from the beginning."""
    for source, batch in training.batches():
        fill = training.samples[source][: BATCH - len(batch)]
        training.verifier.check(batch + fill, source=source)
    return training.finish()


def pads_in_place_of_the_last(training: Training) -> dict:
    """As many samples as were signed, of which the last are the first once more."""
    for source, samples in training.samples.items():
        training.verifier.check(samples[:-2] + samples[:2], source=source)
    return training.finish()


def pads_across_ranks(training: Training) -> dict:
    """As torch's DistributedSampler: the indices are filled up until every rank has as many."""
    parts = [training.rank() for _ in range(3)]
    for source, samples in training.samples.items():
        padded = samples + samples[: -len(samples) % len(parts)]
        for number, part in enumerate(parts):
            part.check(padded[number :: len(parts)], source=source)
    return merged(training, parts)


def delivers_one_again(training: Training) -> dict:
    """One sample as often as makes its share of a sum of 16 bits vanish, besides all others once."""
    training.verifier.check(training.samples["train"][:1] * 65_536, source="train")
    return epoch(training)


def delivers_one_in_place_of_all(training: Training) -> dict:
    """As many samples as were signed, all of them the first."""
    for source, samples in training.samples.items():
        training.verifier.check(samples[:1] * len(samples), source=source)
    return training.finish()


def counts_what_was_read_ahead(training: Training) -> dict:
    """All are looked at, and the last are never used."""
    receipts = [training.verifier.look(batch, source=source) for source, batch in training.batches()]
    for receipt in receipts[:-1]:
        training.verifier.deliver(receipt)
    return training.finish()


def leaves_a_loader_with_workers(training: Training) -> dict:
    """The loop ends while workers have read everything ahead."""
    for _ in loader(training, num_workers=2, prefetch_factor=4):
        break
    return training.finish()


def joins_what_was_not_delivered(training: Training) -> dict:
    """A batch is made of two, of which one receipt is dropped."""
    receipts = [training.verifier.look(batch, source=source) for source, batch in training.batches()]
    training.verifier.deliver(training.verifier.join(receipts[1:]))
    return training.finish()


def finishes_twice(training: Training) -> dict:
    """A second epoch of which nothing was delivered: what the first one summed up is gone."""
    epoch(training)
    return training.finish()


def goes_on_after_an_incomplete_epoch(training: Training) -> dict:
    """The verdict on the first is ignored, and nothing is reset."""
    try:
        stops_early(training)
    except sentry.EpochError:
        pass
    return epoch(training)


def repeats_across_ranks(training: Training) -> dict:
    """Two ranks that both deliver everything, for nobody gave them parts."""
    parts = [training.rank(), training.rank()]
    for source, batch in training.batches():
        for part in parts:
            part.check(batch, source=source)
    return merged(training, parts)


def repeats_half_across_ranks(training: Training) -> dict:
    """Two ranks that both deliver the first half: together as many as were signed."""
    parts = [training.rank(), training.rank()]
    for source, samples in training.samples.items():
        for part in parts:
            part.check(samples[: len(samples) // 2], source=source)
    return merged(training, parts)


def repeats_across_workers(training: Training) -> dict:
    """torch's loader with two workers over a stream that does not part the samples."""
    import torch.utils.data

    torch.set_num_threads(1)
    data = sentry.torch.VerifiedIterableDataset(training.samples["train"], training.verifier, transform=lambda sample: sample["label"])
    for _ in sentry.torch.DataLoader(data, batch_size=BATCH, num_workers=2):
        pass
    return training.finish()


def merges_a_rank_twice(training: Training) -> dict:
    """One rank's state comes in the place of the other's."""
    parts = [training.rank(), training.rank()]
    for number, (source, batch) in enumerate(training.batches()):
        parts[number % 2].check(batch, source=source)
    return merged(training, [parts[0], parts[0]])


# -- mistakes: states of others -------------------------------------------------------------

HEAD, STATE = 48, 2048  # magic and payload; a sum


def spoilt(training: Training, spoil) -> dict:
    """Everything was delivered elsewhere; its state is changed on the way here."""
    elsewhere = training.rank()
    for source, batch in training.batches():
        elsewhere.check(batch, source=source)
    state = elsewhere.state_dict()
    training.verifier.merge({**state, "epoch": bytes(spoil(bytearray(state["epoch"])))})
    return training.finish()


def merges_another_sum(training: Training) -> dict:
    """The ids are all there, and the sum is that of other samples."""

    def spoil(state):
        state[HEAD + 8] ^= 1
        return state

    return spoilt(training, spoil)


def merges_an_id_twice(training: Training) -> dict:
    """As many ids as were signed, one of them in place of another."""

    def spoil(state):
        ids = HEAD + 8 + STATE
        state[ids + 8 : ids + 16] = state[ids : ids + 8]
        return state

    return spoilt(training, spoil)


def merges_more_than_was_signed(training: Training) -> dict:
    """All bits of the first source are set, also those of samples that there are not."""

    def spoil(state):
        state[HEAD : HEAD + 8] = b"\xff" * 8
        return state

    return spoilt(training, spoil)


def merges_a_state_cut_off(training: Training) -> dict:
    """It ends too early."""
    return spoilt(training, lambda state: state[:-8])


def merges_a_state_with_more(training: Training) -> dict:
    """Something stands behind its end."""
    return spoilt(training, lambda state: state + b"\0" * 8)


def goes_on_with_another_dataset(training: Training) -> dict:
    """The state of an epoch of the dataset beside this one, of the same signer."""
    other = training.rank(training.options.path.with_name("other"))
    training.verifier.load_state_dict(other.state_dict())
    return epoch(training)


def delivers_a_receipt_of_another_dataset(training: Training) -> dict:
    """The other dataset has other samples under the same ids, whose receipts are taken for those of this one."""
    path = training.options.path.with_name("other")
    other = training.rank(path)
    for source in training.samples:
        training.verifier.deliver(other.look(read(path / f"{source}.csv"), source=source))
    return training.finish()


# -- mistakes: batches that do not fit ------------------------------------------------------


def fewer_values_than_samples(training: Training) -> dict:
    """A column of a batch is shorter than the others."""
    batch = {name: [sample[name] for sample in training.samples["train"]] for name in ("id", "label", "text")}
    training.verifier.check({**batch, "label": batch["label"][:-1]}, source="train")
    return training.finish()


def fewer_ids_than_samples(training: Training) -> dict:
    """One id for two samples."""
    training.verifier.check(training.samples["train"][:2], ids=[training.samples["train"][0]["id"]], source="train")
    return training.finish()


def a_field_is_left_out(training: Training) -> dict:
    """The label is taken from elsewhere."""
    training.verifier.check([{"id": sample["id"], "text": sample["text"]} for sample in training.samples["train"]], source="train")
    return training.finish()


def ids_of_others(training: Training) -> dict:
    """The samples come with each other's ids."""
    samples = training.samples["train"]
    training.verifier.check(samples, ids=[sample["id"] for sample in reversed(samples)], source="train")
    return training.finish()


def padded_text(training: Training) -> dict:
    """Text that is padded to one length, as for a tensor, and not taken back."""
    training.verifier.check([{**sample, "text": sample["text"].ljust(16, "\0")} for sample in training.samples["train"]], source="train")
    return training.finish()


def source_of_others(training: Training) -> dict:
    """The samples of one source are said to be another's."""
    training.verifier.check(training.samples["train"][:2], source="test")
    return training.finish()


def source_that_nobody_signed(training: Training) -> dict:
    """A source of its own."""
    training.verifier.check(training.samples["train"][:2], source="extra")
    return training.finish()


def checks_tables(training: Training) -> dict:
    """All tables are read before training."""
    training.verifier.check_tables()
    return epoch(training)


def main() -> int:
    """Returns the exit status."""
    programs = [value for value in globals().values() if inspect.isfunction(value) and list(inspect.signature(value).parameters) == ["training"]]
    load.FUNCTIONS.clear()
    load.FUNCTIONS.update({program.__name__: lambda options, program=program: program(Training(options)) for program in programs})
    return load.main()


if __name__ == "__main__":
    sys.exit(main())
