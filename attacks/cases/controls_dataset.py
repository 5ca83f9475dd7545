"""Controls: honest datasets that must be verified, and epochs that must be finished."""

import json

from kit import oms, process
from kit.case import Script, control
from kit.datasets import FORMATS, Dataset, of_format

from .dataset import contributed, with_contribution
from .dataset_training import one_source


def everywhere(build):
    """Registers a control for every format."""
    for kind in FORMATS:
        control(of_format(build, kind))
    return build


@everywhere
def dataset_honest(data):
    """What the reference signed."""
    return data.signed().verify()


@everywhere
def dataset_without_tables(data):
    return data.without_tables().verify()


@everywhere
def dataset_signing_agrees(data):
    """`sentry dataset sign` states what the reference does: fields, ids, and every source's samples and sum, and writes the same tables."""

    def run(binary):
        wanted = data.statement()["predicate"]
        outcome = process.run(binary, data.signing(), data.world.root)
        if outcome.code != 0:
            return [f"exit {outcome.code}: {outcome.stderr[-300:]}"]
        bundle = json.loads(data.signature.read_bytes())
        made = json.loads(oms.unb64(bundle["dsseEnvelope"]["payload"]))["predicate"]
        for predicate in (wanted, made):
            for source in predicate["sources"]:
                del source["table"]["name"]
        return [f"{name}: {made[name]!r}, by the reference {wanted[name]!r}" for name in wanted if made[name] != wanted[name]]

    return Script(run)


@everywhere
def dataset_files_of_other_kinds(data):
    """Files without samples are no part of a dataset."""
    (data.folder / "README.md").write_text("about")
    return data.signed().verify()


@control
def dataset_contributed(world):
    return with_contribution(contributed(world))


@control
def dataset_rows_in_another_order(world):
    """With ids of their own, rows may come in any order and in any number of files."""
    data = Dataset(world).signed()
    samples = data.sources["train"]
    data.kind.write(data.folder, {"train": samples[:3][::-1], "more-train": samples[3:]})
    return data.verify()


SAMPLES = {"samples": 12}


@control
def epoch(world):
    return Dataset(world).signed().training("epoch", fields=SAMPLES)


@control
def epoch_without_tables(world):
    return Dataset(world).without_tables().training("epoch", fields=SAMPLES)


@control
def epoch_after_epoch(world):
    return Dataset(world).without_tables().training("two_epochs", fields=SAMPLES)


@control
def epoch_of_ranks(world):
    return Dataset(world).without_tables().training("ranks", fields=SAMPLES)


@control
def epoch_read_ahead(world):
    return Dataset(world).signed().training("read_ahead", fields=SAMPLES)


@control
def epoch_resumed(world):
    return Dataset(world).without_tables().training("resumed", fields=SAMPLES)


@control
def epoch_of_workers_of_torch(world):
    return one_source(world).without_tables().training("workers", fields={"samples": 8})
