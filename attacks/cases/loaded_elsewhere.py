"""Classes safetensors and manifest: the loader is led to files that nobody signed.

By an index, which a malicious signer signs, or by a file under a name where loaders look. What lies there is an honest
file, so that a loader that follows would find nothing wrong.
"""

import json

from kit import oms
from kit.case import rejected
from kit.tensors import Tensor, entry, header_of, pattern, raw
from kit.world import FIRST, FIRST_TENSORS, SECOND, SECOND_TENSORS

safetensors = rejected("safetensors")
manifest = rejected("manifest")

INDEX = "model.safetensors.index.json"
LED = "head.bias"  # the tensor that lies elsewhere
OTHER = raw({LED: entry("F32", [4], 0, 16)}, pattern(16, 5))

# A model of transformers without a layer, and the tensors that it asks for.
GPT = {"architectures": ["GPT2Model"], "model_type": "gpt2", "n_layer": 0, "n_embd": 4, "n_head": 1, "n_positions": 4, "vocab_size": 8}
GPT_TENSORS = {"wte.weight": [8, 4], "wpe.weight": [4, 4], "ln_f.weight": [4], "ln_f.bias": [4]}


def index(**elsewhere):
    """An index of the honest files, with some tensors elsewhere."""
    names = {tensor.name: FIRST for tensor in FIRST_TENSORS} | {tensor.name: SECOND for tensor in SECOND_TENSORS}
    return json.dumps({"metadata": {}, "weight_map": {**names, **elsewhere}}).encode()


def indexed(world, file, **options):
    """The honest model, signed with an index that has one tensor in `file`."""
    world.base()
    world.write(INDEX, index(**{LED: file}))
    world.honest(**options)
    return world.calling("load_model")


@safetensors("index_invalid")
def index_json_points_outside(world):
    (world.root / "outside.safetensors").write_bytes(OTHER)
    return indexed(world, "../outside.safetensors")


@safetensors("index_invalid")
def index_json_points_outside__absolute(world):
    outside = world.root / "outside.safetensors"
    outside.write_bytes(OTHER)
    return indexed(world, str(outside))


@safetensors("index_invalid")
def index_json_points_outside__by_way_of_a_folder(world):
    (world.root / "outside.safetensors").write_bytes(OTHER)
    return indexed(world, "tokenizer/../../outside.safetensors")


@safetensors("index_invalid")
def index_json_points_outside__back_into_the_model(world):
    """The very file that is signed, by a name that is not."""
    return indexed(world, f"../{world.model.name}/{SECOND}")


@safetensors("index_invalid")
def index_json_points_outside__below_the_index(world):
    """Signed, and not beside the index, where transformers looks."""
    world.write("weights/other.safetensors", OTHER)
    return indexed(world, "weights/other.safetensors")


@safetensors("index_invalid")
def index_json_points_outside__backslash(world):
    return indexed(world, "..\\outside.safetensors")


@safetensors("index_invalid")
def index_json_points_outside__nul(world):
    return indexed(world, f"{SECOND}\0.safetensors")


@safetensors("index_invalid")
def index_json_points_outside__not_signed(world):
    """Inside the model, and added later."""
    attempt = indexed(world, "other.safetensors")
    world.write("other.safetensors", OTHER)
    return attempt


@safetensors("symlink_escape", naive=False)
def index_json_points_outside__by_a_link(world):
    """The name is signed, with its content; the signature allows links inside the model."""
    world.base()
    world.write(INDEX, index(**{LED: "other.safetensors"}))
    world.write("other.safetensors", OTHER)
    statement = world.statement()
    statement["predicate"]["serialization"]["allow_symlinks"] = True
    world.sign(statement)
    (world.model / "other.safetensors").rename(world.root / "outside.safetensors")
    (world.model / "other.safetensors").symlink_to("../outside.safetensors")
    return world.calling("load_model")


@safetensors("index_invalid")
def index_json_points_outside__to_the_wrong_file(world):
    """Both are signed: the tensor that the index promises is not the one that lies there."""
    return indexed(world, FIRST)


@safetensors("model_differs", naive=False)
def index_json_points_outside__index_tampered_with(world):
    """The index is a file like any other: checked before a word of it is believed."""
    attempt = indexed(world, SECOND)
    (world.root / "outside.safetensors").write_bytes(OTHER)
    world.write(INDEX, index(**{LED: "../outside.safetensors"}))
    attempt.differences = {("changed_file", INDEX, None)}
    return attempt


# -- by transformers ------------------------------------------------------------------------


def gpt(world, weights):
    """The configuration and index of a model of transformers. Returns what belongs into the file that the index names."""
    world.write("config.json", json.dumps(GPT).encode())
    world.write(INDEX, json.dumps({"metadata": {}, "weight_map": dict.fromkeys(GPT_TENSORS, weights)}).encode())
    honest = [Tensor(name, "F32", shape) for name, shape in GPT_TENSORS.items()]
    return raw({"__metadata__": {"format": "pt"}, **header_of(honest)}, b"".join(tensor.data for tensor in honest))


def pretrained(world, **options):
    return world.calling("from_pretrained", once=True, timeout=60, **options)


def gpt_outside(world, name):
    """A signed model of transformers whose index names a file that lies where `name` leads."""
    (world.root / "outside.safetensors").write_bytes(gpt(world, name))
    world.sign(world.statement())
    return pretrained(world)


@safetensors("index_invalid")
def index_json_points_outside__by_transformers(world):
    """transformers joins whatever the index says to the folder."""
    return gpt_outside(world, "../outside.safetensors")


@safetensors("index_invalid")
def index_json_points_outside__by_transformers_absolute(world):
    return gpt_outside(world, str(world.root / "outside.safetensors"))


# -- ignored files --------------------------------------------------------------------------

IGNORED = "cache/other.safetensors"


def ignoring(world, name, content):
    """The honest model, whose signature ignores this file."""
    world.base()
    world.write(name, content)
    world.honest(ignored=("model.sig", name))


@manifest("weights_unclear")
def ignored_file_is_loaded__named_as_weights(world):
    ignoring(world, IGNORED, OTHER)
    return world.calling("load_model", weights=(IGNORED,))


@manifest("index_invalid")
def ignored_file_is_loaded__by_an_index(world):
    world.write(INDEX, index(**{LED: "other.safetensors"}))
    ignoring(world, "other.safetensors", OTHER)
    return world.calling("load_model")


@manifest("model_differs", naive=False)
def ignored_file_is_loaded__opened(world):
    ignoring(world, IGNORED, OTHER)
    file = ["--root", str(world.model)]
    return world.calling("safe_open", *file, path=world.model / IGNORED, differences={("unsigned_file", IGNORED, None)})


@manifest("model_differs", naive=False)
def ignored_file_is_loaded__below_git(world):
    """Ignored always, listed or not."""
    world.honest()
    world.write(".git/other.safetensors", OTHER)
    file = ["--root", str(world.model)]
    name = ".git/other.safetensors"
    return world.calling("load_file", *file, path=world.model / name, differences={("unsigned_file", name, None)})


@manifest("FileNotFoundError")
def ignored_file_is_loaded__by_transformers(world):
    """The weights are not signed: transformers must not see them."""
    world.write("other.safetensors", gpt(world, "other.safetensors"))
    world.sign(oms.of_directory(world.model, ignored=("model.sig", "other.safetensors")))
    return pretrained(world)
