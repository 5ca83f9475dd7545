"""Class envelope, of datasets: statements in each other's place."""

import json

from kit import oms, policies
from kit.case import rejected
from kit.datasets import CSV, Dataset, added, honest, missing

case = rejected("envelope")


def pair(world):
    """A set to train with and one to test with, each in a folder of its own and signed by the same signer."""
    made = []
    for folder, name in (("digits-train", "train"), ("digits-test", "test")):
        made.append(Dataset(world, CSV, {"default": honest()[name]}, folder).signed())
    return made


@case("dataset_differs", naive=False)
def train_test_statement_swapped(world):
    """The signature and the table of the one lie beside the samples of the other."""
    train, test = pair(world)
    for old, new in ((train.signature, test.signature), (train.table("default"), test.table("default"))):
        new.write_bytes(old.read_bytes())
    ids = {name: [sample["id"] for sample in samples] for name, samples in honest().items()}
    return test.verify(differences=missing("default", *ids["train"]) | added("default", *ids["test"]))


@case("dataset_differs", naive=False)
def train_test_statement_swapped__signature_alone(world):
    train, test = pair(world)
    test.signature.write_bytes(train.signature.read_bytes())
    test.table("default").unlink()
    return test.verify(differences={("missing_file", "dataset.default.samples", None)})


@case("policy_payload", naive=False)
def train_test_statement_swapped__with_the_samples(world):
    """The set to train with stands whole in the place of the one to test with: the policy pins what the place is for."""
    train, test = pair(world)
    pin = oms.digest(oms.encode(test.statement()))
    policy = policies.alone(world, artifacts=("acme/digits",), payload=[pin], statements=["dataset"])
    return train.under(policy)


@case("policy_sources", naive=False)
def train_test_statement_swapped__sources(world):
    """The policy asks for the source to test with, and the dataset has another alone."""
    data = Dataset(world, CSV, {"train": honest()["train"]}).signed()
    policy = policies.alone(world, artifacts=("acme/digits",), sources=["test"], statements=["dataset"])
    return data.under(policy)


@case("dataset_differs", naive=False)
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


@case("predicate_type", naive=False)
def wrong_statement_type_or_predicate__model_for_a_dataset(world):
    """The signature of the same files as a model's."""
    data = Dataset(world)
    data.sign(oms.of_directory(data.folder, ignored=("dataset.sig",)))
    return data.verify()


@case("predicate_type", naive=False)
def wrong_statement_type_or_predicate__dataset_for_a_model(world):
    """The signature of the same files as a dataset's."""
    data = Dataset(world).signed()
    world.model = data.folder
    return world.verify()


@case("policy_statement", naive=False)
def wrong_statement_type_or_predicate__dataset_where_the_policy_has_models(world):
    data = Dataset(world).signed()
    return data.under(policies.alone(world, artifacts=("acme/digits",), statements=["files"]))


@case("predicate_type", naive=False)
def payload_type_confusion__version_of_a_dataset(world):
    """A statement of a version that there is not yet."""
    data = Dataset(world)
    made = data.statement()
    made["predicateType"] = made["predicateType"].replace("v1", "v2")
    data.sign(made)
    return data.verify()


@case("subject_name", naive=False)
def annotation_equivocation__two_names_of_a_dataset(world):
    """The subject has another name than the predicate."""
    data = Dataset(world)
    made = data.statement()
    made["subject"][0]["name"] = "imagenet"
    data.sign(made)
    return data.verify()


@case("signature_invalid", naive=False)
def signature_from_other_model__payload_of_another_dataset(world):
    """The payload of the one dataset under the signature of the other."""
    train, test = pair(world)
    bundles = [json.loads(data.signature.read_bytes()) for data in (train, test)]
    bundles[0]["dsseEnvelope"]["signatures"] = bundles[1]["dsseEnvelope"]["signatures"]
    train.signature.write_bytes(oms.encode(bundles[0]))
    return train.verify()
