"""Controls: what the Python package must load or verify. What it hands out must be what was signed, bit by bit."""

import hashlib
import os
import pickle
import shutil

from kit import oms, tensors
from kit.case import control
from kit.process import stopped_by_itself
from kit.world import FILES, FIRST, FIRST_TENSORS, SECOND, SECOND_TENSORS

from .loaded_elsewhere import GPT_TENSORS, INDEX, OTHER, gpt, index, pretrained
from .loaded_pickle import PICKLE, archive, code
from .loaded_tensors import lying
from .loaded_time_of_check import spoil, spoil_another


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def of_tensors(*lists):
    """What a loader must hand out for these tensors."""
    return {"content": {tensor.name: sha256(tensor.data) for part in lists for tensor in part}}


FIRST_ONLY = of_tensors(FIRST_TENSORS)
BOTH = of_tensors(FIRST_TENSORS, SECOND_TENSORS)


def loaded(world, **options):
    world.honest(**options)
    return world.calling("load_model", weights=(FIRST, SECOND), fields=BOTH)


@control
def load_model(world):
    return loaded(world)


@control
def load_model_not_annotated(world):
    return loaded(world, annotate=False)


@control
def load_model_blake3(world):
    return loaded(world, algorithm="blake3")


@control
def load_model_shards(world):
    return loaded(world, shard_size=100)


@control
def load_model_by_its_index(world):
    world.write(INDEX, index())
    world.base()
    world.honest()
    return world.calling("load_model", fields=BOTH)


@control
def load_model_single_file(world):
    world.single(FILES[FIRST])
    name = world.model.name
    world.sign(oms.statement(name, [oms.resource(name, FILES[FIRST])], "sha256", []))
    return world.calling("load_model", fields=FIRST_ONLY)


@control
def load_model_reads_no_unsigned_file(world):
    """A pickle, and weights under the name that loaders look for first: they are not looked at."""
    world.write(INDEX, index())
    world.base()
    world.honest()
    world.write(PICKLE, code(world))
    world.write("model.safetensors", OTHER)
    return world.calling("load_model", fields=BOTH)


@control
def load_model_reads_no_ignored_file(world):
    world.write(INDEX, index())
    world.base()
    world.write("model.safetensors", OTHER)
    world.honest(ignored=("model.safetensors", "model.sig"))
    return world.calling("load_model", fields=BOTH)


@control
def verify_and_load_model(world):
    world.honest()
    return world.calling("verify_and_load", weights=(FIRST, SECOND), fields=BOTH)


def opened(world, then):
    """Opened; `then()` happens before it is read."""
    world.honest()
    file = ["--root", str(world.model), "--stop"]
    return world.calling("safe_open", *file, path=world.model / FIRST, fields=FIRST_ONLY, drive=stopped_by_itself(then))


@control
def safe_open_of_a_file(world):
    return opened(world, lambda: None)


@control
def safe_open_outlives_its_folder(world):
    """A tampered folder takes the place of the one that was opened."""

    def swap():
        world.model.rename(world.root / "honest")
        shutil.copytree(world.root / "honest", world.model)
        spoil(world.model / FIRST)

    return opened(world, swap)


@control
def safe_open_outlives_its_signature(world):
    return opened(world, lambda: world.signature.write_bytes(b"another"))


@control
def verified_folder_outlives_its_files(world):
    """Whatever happens to them, a library reads what was signed."""
    world.honest()

    def change():
        spoil_another(world.model / FIRST)
        os.truncate(world.model / SECOND, 0)
        (world.model / "config.json").unlink()
        world.write("extra.bin", b"extra")

    fields = {"content": {name: sha256(content) for name, content in FILES.items()}}
    return world.calling("verified_folder", "--stop", fields=fields, drive=stopped_by_itself(change))


@control
def torch_load_of_tensors(world):
    """What `torch.save` writes; the bytes are those of an empty dictionary."""
    world.write(PICKLE, archive(pickle.dumps({}, protocol=2)))
    world.honest()
    return world.calling("torch_load", path=world.model / PICKLE, timeout=60, fields={"content": {}})


@control
def from_pretrained_by_its_index(world):
    content = gpt(world, "other.safetensors")
    world.write("other.safetensors", content)
    world.honest()
    data = tensors.split(content)[1]
    spans = {name: item["data_offsets"] for name, item in tensors.entries(content)}
    assert spans.keys() == GPT_TENSORS.keys()
    return pretrained(world, fields={"content": {name: sha256(data[begin:end]) for name, (begin, end) in spans.items()}})


@control
def tensors_in_memory(world):
    return lying(world, "numpy:plain", fields={"tensors": 1})


@control
def tensors_in_memory_of_torch(world):
    return lying(world, "torch:plain", timeout=60, fields={"tensors": 1})
