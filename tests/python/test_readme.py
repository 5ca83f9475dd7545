"""The examples of the documentation, run as they are written there.

A fenced python block of README.md or docs/python.md that is to be run stands below a line `<!-- test: NAME -->`, and NAME is prepared here.
Blocks of one name in a document are run one after the other, in one folder, each in a process of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import sentry
from conftest import ROOT, make_certificates, tensors
from safetensors.torch import save_file

DOCUMENTS = ("README.md", "docs/python.md")

# A comment, and the block after it: nothing but white space may stand between them.
EXAMPLE = re.compile(r"^<!-- test: (?P<name>\S+) -->\s*^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--\s*test:")


@dataclass(frozen=True)
class Example:
    """A block of a document."""

    document: str
    name: str
    code: str

    def __str__(self) -> str:
        return f"{self.document}-{self.name}"


def examples() -> list[Example]:
    """All blocks that are to be run."""
    texts = {document: (ROOT / document).read_text() for document in DOCUMENTS if (ROOT / document).exists()}
    return [Example(document, match["name"], match["code"]) for document, text in texts.items() for match in EXAMPLE.finditer(text)]


def keys(folder: Path) -> sentry.PrivateKey:
    """Keys under the names that the examples have for them."""
    key = sentry.PrivateKey.generate()
    for name in ("sentry", "private", "publisher"):
        (folder / f"{name}.pub").write_text(key.public_key.pem)
    for name in ("sentry.key", "private.pem"):
        key.write(folder / name)
    return key


def vgg19(folder: Path) -> None:
    """Keys, and a state dict of torchvision's vgg19 with random weights, of 575 MB."""
    keys(folder)
    # In a process of its own, which gives its memory back.
    program = "import sys, torch, torchvision; torch.save(torchvision.models.vgg19().state_dict(), sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, str(folder / "vgg19.pth")], check=True)


def nothing(folder: Path) -> None:
    """An empty folder."""


def folder_to_sign(folder: Path) -> None:
    """Keys, and a small model in `my-model`."""
    keys(folder)
    (folder / "my-model").mkdir()
    (folder / "my-model/config.json").write_text('{"hidden": 16}\n')
    save_file(tensors(), folder / "my-model/model.safetensors", metadata={"format": "pt"})


def signed_folder(folder: Path) -> None:
    """The same, signed."""
    folder_to_sign(folder)
    sentry.sign_model(folder / "my-model", key=folder / "sentry.key")


def transformers_folder(folder: Path) -> None:
    """Keys, and a BERT of 9 kB with its tokenizer in `my-model`, signed."""
    keys(folder)
    program = """
import transformers
with open("vocab.txt", "w") as file:
    file.write("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two"]))
transformers.BertTokenizer("vocab.txt").save_pretrained("my-model")
sizes = dict(vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=8)
transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained("my-model")
"""
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True)
    sentry.sign_model(folder / "my-model", key=folder / "sentry.key")


def hub_cache(folder: Path) -> None:
    """The same model as the repository organisation/name in a cache of the hub's, so that nothing is downloaded."""
    transformers_folder(folder)
    repository = folder / "cache/models--organisation--name"
    commit = "0123456789abcdef0123456789abcdef01234567"
    for name in ("blobs", f"snapshots/{commit}", "refs"):
        (repository / name).mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    for place, file in enumerate(sorted((folder / "my-model").iterdir())):
        shutil.move(file, repository / f"blobs/{place:040x}")
        (repository / f"snapshots/{commit}/{file.name}").symlink_to(f"../../blobs/{place:040x}")


def certified_folder(folder: Path) -> None:
    """The small model, a certificate of release@acme.example under two authorities, and a policy that asks for it."""
    folder_to_sign(folder)
    make_certificates(folder)
    signer = '[signer.release]\ncertificate_roots = ["root.pem"]\nidentity = "release@acme.example"\n'
    (folder / "policy.toml").write_text(f'policy = 1\n{signer}[[rule]]\nname = "ours"\nartifacts = ["my-*"]\nsigners = ["release"]\n')


# What lies in the working directory of each example.
PREPARED: dict[str, Callable[[Path], object]] = {
    "nothing": nothing,
    "keys": keys,
    "vgg19": vgg19,
    "folder": folder_to_sign,
    "signed-folder": signed_folder,
    "transformers": transformers_folder,
    "hub": hub_cache,
    "certificates": certified_folder,
}


def series() -> dict[str, list[Example]]:
    """Blocks that are run in one folder, in their order."""
    found: dict[str, list[Example]] = {}
    for example in examples():
        found.setdefault(str(example), []).append(example)
    return found


@pytest.mark.parametrize("which", series())
def test_examples_run_as_they_are_written(which: str, tmp_path: Path) -> None:
    blocks = series()[which]
    name = blocks[0].name
    assert name in PREPARED, f"no test knows how to prepare {name!r}: {sorted(PREPARED)}"
    # Gone afterwards, as some have large files; pytest keeps its own folders.
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        PREPARED[name](Path(folder))
        for block in blocks:
            command = [sys.executable, "-W", "error::SyntaxWarning", "-c", block.code]
            run = subprocess.run(command, cwd=folder, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
            assert run.returncode == 0, f"{block.code}\n{run.stderr}"


def test_every_python_block_is_run() -> None:
    for document in DOCUMENTS:
        if (ROOT / document).exists():
            blocks = re.findall(r"^```python$", (ROOT / document).read_text(), re.MULTILINE)
            assert len(blocks) == sum(example.document == document for example in examples()), document


def test_the_example_of_a_model_in_memory_is_there() -> None:
    assert [example.document for example in examples() if example.name == "vgg19"].count("README.md") >= 1
    assert any('sentry.verify_model(model, "vgg19.sig", trust=trust)' in example.code for example in examples() if example.name == "vgg19")


def test_no_block_is_overlooked() -> None:
    # A comment that is spelt otherwise, or has no block, would otherwise never be noticed.
    for document in DOCUMENTS:
        if (ROOT / document).exists():
            found = [example for example in examples() if example.document == document]
            assert len(COMMENT.findall((ROOT / document).read_text())) == len(found), document


def test_blocks_are_found_as_they_stand() -> None:
    text = "text\n\n<!-- test: one -->\n```python\na = 1\n```\n\n```python\nb = 2\n```\n<!-- test: two -->\n\n```python\nc = '''\n\n'''\n```\n"
    assert [(match["name"], match["code"]) for match in EXAMPLE.finditer(text)] == [("one", "a = 1\n"), ("two", "c = '''\n\n'''\n")]
    assert EXAMPLE.search("<!-- test: one -->\ntext\n```python\na = 1\n```\n") is None


def test_what_is_prepared_is_enough_for_the_example_of_a_model_in_memory(tmp_path: Path) -> None:
    # With a small model, so that this costs nothing: the names are those that examples use.
    folder_to_sign(tmp_path)
    program = """
import sentry
sentry.sign_model("my-model", key="sentry.key")
trust = sentry.PublicKey("sentry.pub")
assert trust == sentry.PublicKey("publisher.pub")
tensors = sentry.load_model("my-model", trust=trust)
sentry.sign_model(tensors, key="private.pem", signature="tensors.sig")
sentry.verify_model(tensors, "tensors.sig", trust=trust)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
