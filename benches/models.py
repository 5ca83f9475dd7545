#!/usr/bin/env python3
"""Synthetic models with the shapes of real ones, for `evaluation.py`.

usage: models.py NAME DIRECTORY

The tensors have the names, shapes and dtypes of a known architecture; their bytes are random blocks with a
counter in each, so that no two blocks are equal and nothing can be compressed or shared. Every file is flushed
to the disk before the program ends, so that writing it back does not disturb what is timed afterwards.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

BLOCK = 16 << 20
MIB = 1 << 20
ITEM_SIZE = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1}


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return ITEM_SIZE[self.dtype] * prod(self.shape)


class Noise:
    """An endless supply of bytes that are not constant and cheap to make."""

    def __init__(self) -> None:
        self.block = bytearray(os.urandom(BLOCK))
        self.count = 0

    def write(self, file, size: int) -> None:
        while size:
            piece = min(size, BLOCK)
            self.count += 1
            struct.pack_into("<Q", self.block, 0, self.count)
            file.write(memoryview(self.block)[:piece])
            size -= piece


# Architectures ------------------------------------------------------------------------------------------------


def perceptron() -> list[Tensor]:
    """Two dense layers: about 8 KB with everything around them."""
    return [
        Tensor("hidden.weight", "F32", (44, 32)),
        Tensor("hidden.bias", "F32", (44,)),
        Tensor("output.weight", "F32", (10, 44)),
        Tensor("output.bias", "F32", (10,)),
    ]


def residual_network() -> list[Tensor]:
    """ResNet-101 with 8 more blocks in its third stage, F32: 215 MB in many small tensors, some without a dimension."""
    tensors: list[Tensor] = []

    def convolution(name: str, out: int, into: int, kernel: int) -> None:
        tensors.append(Tensor(f"{name}.weight", "F32", (out, into, kernel, kernel)))

    def norm(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors.append(Tensor(f"{name}.{part}", "F32", (width,)))
        tensors.append(Tensor(f"{name}.num_batches_tracked", "I64", ()))

    convolution("conv1", 64, 3, 7)
    norm("bn1", 64)
    into = 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (31, 256), (3, 512)), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            for index, (o, i, k) in enumerate(((width, into, 1), (width, width, 3), (4 * width, width, 1)), start=1):
                convolution(f"{name}.conv{index}", o, i, k)
                norm(f"{name}.bn{index}", o)
            if block == 0:
                convolution(f"{name}.downsample.0", 4 * width, into, 1)
                norm(f"{name}.downsample.1", 4 * width)
            into = 4 * width
    tensors += [Tensor("fc.weight", "F32", (1000, into)), Tensor("fc.bias", "F32", (1000,))]
    return tensors


def neox_layer(name: str, width: int) -> Iterator[Tensor]:
    dense = {
        "attention.query_key_value": (3 * width, width),
        "attention.dense": (width, width),
        "mlp.dense_h_to_4h": (4 * width, width),
        "mlp.dense_4h_to_h": (width, 4 * width),
    }
    for part, shape in dense.items():
        yield Tensor(f"{name}.{part}.weight", "F16", shape)
        yield Tensor(f"{name}.{part}.bias", "F16", shape[:1])
    for part in ("input_layernorm", "post_attention_layernorm"):
        yield Tensor(f"{name}.{part}.weight", "F16", (width,))
        yield Tensor(f"{name}.{part}.bias", "F16", (width,))


def neox() -> list[Tensor]:
    """Pythia-1.4B, F16: 2.8 GB."""
    width, layers, words = 2048, 24, 50304
    tensors = [Tensor("gpt_neox.embed_in.weight", "F16", (words, width))]
    for layer in range(layers):
        tensors += neox_layer(f"gpt_neox.layers.{layer}", width)
    tensors += [Tensor(f"gpt_neox.final_layer_norm.{part}", "F16", (width,)) for part in ("weight", "bias")]
    tensors.append(Tensor("embed_out.weight", "F16", (words, width)))
    return tensors


def gated_decoder(width: int, layers: int, inner: int, keys: int, words: int, bias: bool) -> list[Tensor]:
    """A decoder of the kind that Llama, Mistral and StableLM share, BF16."""
    tensors = [Tensor("model.embed_tokens.weight", "BF16", (words, width))]
    for layer in range(layers):
        name = f"model.layers.{layer}"
        for part, out in (("q_proj", width), ("k_proj", keys), ("v_proj", keys)):
            tensors.append(Tensor(f"{name}.self_attn.{part}.weight", "BF16", (out, width)))
            if bias:
                tensors.append(Tensor(f"{name}.self_attn.{part}.bias", "BF16", (out,)))
        tensors += [
            Tensor(f"{name}.self_attn.o_proj.weight", "BF16", (width, width)),
            Tensor(f"{name}.mlp.gate_proj.weight", "BF16", (inner, width)),
            Tensor(f"{name}.mlp.up_proj.weight", "BF16", (inner, width)),
            Tensor(f"{name}.mlp.down_proj.weight", "BF16", (width, inner)),
            Tensor(f"{name}.input_layernorm.weight", "BF16", (width,)),
            Tensor(f"{name}.post_attention_layernorm.weight", "BF16", (width,)),
        ]
    tensors += [Tensor("model.norm.weight", "BF16", (width,)), Tensor("lm_head.weight", "BF16", (words, width))]
    return tensors


def stablelm() -> list[Tensor]:
    """StableLM-2-1.6B, BF16: 3.3 GB in one file."""
    return gated_decoder(width=2048, layers=24, inner=5632, keys=2048, words=100352, bias=True)


def mistral() -> list[Tensor]:
    """Mistral-7B, BF16: 14.5 GB."""
    return gated_decoder(width=4096, layers=32, inner=14336, keys=1024, words=32000, bias=False)


def layers_of(size: int) -> list[Tensor]:
    """As many F16 layers of width 2048 as fit into `size` bytes, and one last tensor for most of the rest."""
    tensors: list[Tensor] = []
    left = size - 64 * 1024
    layer = 0
    while True:
        more = list(neox_layer(f"layers.{layer}", 2048))
        need = sum(tensor.size for tensor in more)
        if need > left:
            break
        tensors += more
        left -= need
        layer += 1
    return tensors + [Tensor("embed_out.weight", "F16", (left // 4096, 2048))]


# Files --------------------------------------------------------------------------------------------------------


def header(tensors: list[Tensor], total: int | None) -> bytes:
    """The first 8+N bytes of a safetensors file, padded with spaces so that the file has `total` bytes."""
    entries: dict = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.size
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    length = -(-len(text) // 8) * 8 if total is None else total - offset - 8
    assert length >= len(text), "the header does not fit"
    return struct.pack("<Q", length) + text.ljust(length)


def write_safetensors(path: Path, tensors: list[Tensor], noise: Noise, total: int | None = None) -> None:
    # The order of the safetensors library: large items first, then by name.
    tensors = sorted(tensors, key=lambda tensor: (-ITEM_SIZE[tensor.dtype], tensor.name))
    with open(path, "wb") as file:
        file.write(header(tensors, total))
        noise.write(file, sum(tensor.size for tensor in tensors))
        file.flush()
        os.fsync(file.fileno())


def write_plain(path: Path, size: int, noise: Noise) -> None:
    with open(path, "wb") as file:
        noise.write(file, size)
        file.flush()
        os.fsync(file.fileno())


def write_model(folder: Path, tensors: list[Tensor], noise: Noise, shards: int = 1, tokenizer: int = 0) -> None:
    """A model folder: `model.safetensors`, or its shards with their index, and the small files around them."""
    config = {"architectures": ["Synthetic"], "dtype": tensors[0].dtype, "tensors": len(tensors)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    if tokenizer:
        write_plain(folder / "tokenizer.json", tokenizer, noise)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, noise)
        return

    total = sum(tensor.size for tensor in tensors)
    parts: list[list[Tensor]] = [[] for _ in range(shards)]
    done = 0
    for tensor in tensors:
        parts[min(done * shards // total, shards - 1)].append(tensor)
        done += tensor.size
    names = [f"model-{index + 1:05}-of-{shards:05}.safetensors" for index in range(shards)]
    for name, part in zip(names, parts, strict=True):
        write_safetensors(folder / name, part, noise)
    weight_map = {tensor.name: name for name, part in zip(names, parts, strict=True) for tensor in part}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def write_eight(folder: Path, noise: Noise, suffix: str, size: int) -> None:
    for index in range(8):
        path = folder / f"part-{index}.{suffix}"
        if suffix == "safetensors":
            write_safetensors(path, layers_of(size), noise, size)
        else:
            write_plain(path, size, noise)


@dataclass(frozen=True)
class Model:
    """A model that can be generated: what it is, about how large, and how it is written into a folder."""

    what: str
    size: int
    write: Callable[[Path, Noise], None]


def plain_model(what: str, size: int, tensors: Callable[[], list[Tensor]], **options: int) -> Model:
    return Model(what, size, lambda folder, noise: write_model(folder, tensors(), noise, **options))


MODELS = {
    "8KB": plain_model("two dense layers", 8_000, perceptron),
    "215MB": plain_model("residual network, 1 file", 215_000_000, residual_network),
    "2.8GB": plain_model("Pythia-1.4B shapes, 3 shards", 2_831_000_000, neox, shards=3, tokenizer=2_113_710),
    "3.3GB": plain_model("StableLM-2-1.6B shapes, 1 file", 3_296_000_000, stablelm, tokenizer=6_742_105),
    "14GB": plain_model("Mistral-7B shapes, 3 shards", 14_486_000_000, mistral, shards=3, tokenizer=1_795_303),
    "8x256MiB-safetensors": Model(
        "8 safetensors files of 256 MiB", 2048 * MIB, lambda f, n: write_eight(f, n, "safetensors", 256 * MIB)
    ),
    "8x256MiB-bin": Model("8 plain files of 256 MiB", 2048 * MIB, lambda f, n: write_eight(f, n, "bin", 256 * MIB)),
    "1x2GiB-safetensors": Model(
        "1 safetensors file of 2 GiB",
        2048 * MIB,
        lambda f, n: write_safetensors(f / "model.safetensors", layers_of(2048 * MIB), n, 2048 * MIB),
    ),
    "1x2GiB-bin": Model("1 plain file of 2 GiB", 2048 * MIB, lambda f, n: write_plain(f / "model.bin", 2048 * MIB, n)),
    "8x16MiB-safetensors": Model(
        "8 safetensors files of 16 MiB", 128 * MIB, lambda f, n: write_eight(f, n, "safetensors", 16 * MIB)
    ),
    "8x16MiB-bin": Model("8 plain files of 16 MiB", 128 * MIB, lambda f, n: write_eight(f, n, "bin", 16 * MIB)),
}


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in MODELS:
        sys.exit(f"{__doc__}\nnames: {' '.join(MODELS)}")
    target = Path(sys.argv[2])
    target.mkdir(parents=True)
    MODELS[sys.argv[1]].write(target, Noise())
