"""Class safetensors: pickles, which run code when they are read.

Whoever unpickles one of these leaves a folder behind, which the judge sees.
"""

import io
import json
import os
import pickle
import zipfile

from kit.case import rejected

from .loaded_elsewhere import GPT, pretrained

case = rejected("safetensors")

PICKLE = "pytorch_model.bin"


class Code:
    """Pickles as a call."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def code(world):
    """A pickle with code, which pickle itself reads."""
    return pickle.dumps(Code(world.root / "was-run"))


def archive(content):
    """A pickle as `torch.save` wraps it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as entries:
        for name, text in (("data.pkl", content), ("version", b"3\n"), ("byteorder", b"little")):
            entries.writestr(f"archive/{name}", text)
    return file.getvalue()


def only_a_pickle(world):
    """A signed model whose weights are a pickle, as on many a hub."""
    world.write("config.json", json.dumps(GPT).encode())
    world.write(PICKLE, archive(code(world)))
    world.honest()


@case("weights_unclear")
def pickle_file_present(world):
    only_a_pickle(world)
    return world.calling("load_model")


@case("weights_unclear")
def pickle_file_present__named_as_weights(world):
    only_a_pickle(world)
    return world.calling("load_model", weights=(PICKLE,))


@case("index_invalid")
def pickle_file_present__by_an_index(world):
    world.write("model.safetensors.index.json", b'{"metadata": {}, "weight_map": {"a": "%s"}}' % PICKLE.encode())
    only_a_pickle(world)
    return world.calling("load_model")


@case("safetensors_header_too_large")
def pickle_file_present__under_the_name_of_safetensors(world):
    """Signed by someone who does not look."""
    world.write("model.safetensors", code(world))
    world.honest(annotate=False)
    return world.calling("load_model")


@case("OSError")
def pickle_file_present__by_transformers(world):
    """transformers would take it, for want of anything else."""
    only_a_pickle(world)
    return pretrained(world)


def torch_load(world, *extra, **options):
    return world.calling("torch_load", *extra, path=world.model / PICKLE, once=True, timeout=60, **options)


@case("model_differs", naive=False)
def pickle_file_present__added(world):
    """Nobody signed it."""
    world.honest()
    world.write(PICKLE, code(world))
    return torch_load(world, differences={("unsigned_file", PICKLE, None)})


@case("model_differs")
def pickle_file_present__tampered_with(world):
    """In the place of an honest file of tensors."""
    world.write(PICKLE, archive(pickle.dumps({})))
    world.honest()
    world.write(PICKLE, archive(code(world)))
    return torch_load(world, differences={("changed_file", PICKLE, None)})


@case("UnpicklingError")
def pickle_file_present__signed_code(world):
    """The bytes are the signed ones, and still no code of theirs is run."""
    only_a_pickle(world)
    return torch_load(world)


@case("usage")
def pickle_file_present__signed_code_that_is_asked_for(world):
    only_a_pickle(world)
    return torch_load(world, "--weights-only", "False")
