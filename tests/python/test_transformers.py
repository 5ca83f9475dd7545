"""`from_pretrained` for signed models, and the folder of verified files under it: equal to the library's own, and nothing that is not signed."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sentry
import torch
import transformers
from conftest import Watch, flip, rejected
from safetensors.torch import load_file
from sentry.transformers import from_pretrained, is_read
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForCausalLM, AutoProcessor, AutoTokenizer, BertModel, BertTokenizer

SENTENCES = ["Whoever signs a model says whose bytes these are.", "The cat sat on the mat, and nobody asked why."]

# A module whose import leaves a trace.
CODE = "import pathlib\npathlib.Path({trace!r}).touch()\nfrom transformers import BertConfig as Config, BertModel as Model\n"


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Fails every test in which somebody looks for another machine."""
    asked: list[object] = []

    def refuse(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise OSError("this test has no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("builtins.input", refuse)
    yield asked
    assert asked == []


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The library's own remarks are of no interest."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def tokens() -> list[str]:
    """The vocabulary of the small models."""
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three"]


def save_small(folder: Path, **options: Any) -> Path:
    """A BERT that can generate, of 33 kB, with its tokenizer and an image processor, as the library saves them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens()))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32}
    config = transformers.BertConfig(vocab_size=len(tokens()), is_decoder=True, **sizes)
    transformers.BertLMHeadModel(config).save_pretrained(folder, **options)
    transformers.CLIPImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture
def small(tmp_path: Path, key: sentry.PrivateKey) -> Path:
    """The small model, signed."""
    folder = save_small(tmp_path / "small")
    sentry.sign_model(folder, key=key)
    return folder


def linked_copy(folder: Path, copy: Path) -> Path:
    """A copy whose files are those of the original, to be replaced and not to be written to."""
    shutil.copytree(folder, copy, copy_function=os.link)
    return copy


def replace(file: Path, content: bytes) -> None:
    """Put another file in the place of one."""
    file.unlink()
    file.write_bytes(content)


def edit(folder: Path, key: sentry.PrivateKey, name: str = "config.json", **entries: object) -> None:
    """Change entries of a JSON file, and sign again."""
    file = folder / name
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **entries}))
    sentry.sign_model(folder, key=key)


def embeddings(model: Any, tokenizer: Any) -> torch.Tensor:
    """The mean of the last hidden states of each sentence."""
    encoded = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"].unsqueeze(-1)
    return (states * mask).sum(1) / mask.sum(1)


def refused(call: Callable[[], object], *parts: str) -> None:
    """Assert that a call is refused as one that cannot be served, with these words."""
    with pytest.raises(sentry.Error) as caught:
        call()
    assert (type(caught.value), caught.value.code) == (sentry.UsageError, "usage"), caught.value
    assert all(part in str(caught.value) for part in parts), caught.value


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two modules have the same state, bit by bit."""
    left, right = one.state_dict(), other.state_dict()
    return left.keys() == right.keys() and all(left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left)


# Equal to the library's own.


@pytest.mark.parametrize("cls", [AutoModel, BertModel])
def test_a_model_of_sentences_gives_the_same_embeddings(cls: Any, signed_minilm: Path, trust: sentry.PublicKey) -> None:
    plain, plain_tokenizer = cls.from_pretrained(signed_minilm), AutoTokenizer.from_pretrained(signed_minilm)
    model, tokenizer = from_pretrained(cls, signed_minilm, trust=trust), from_pretrained(AutoTokenizer, signed_minilm, trust=trust)
    assert type(model) is type(plain) and type(tokenizer) is type(plain_tokenizer)
    assert same_weights(model, plain) and not model.training
    assert torch.equal(embeddings(model, tokenizer), embeddings(plain, plain_tokenizer))
    assert model.config.to_dict() == plain.config.to_dict()


def test_tokenizer_and_configuration_are_the_librarys(signed_minilm: Path, trust: sentry.PublicKey) -> None:
    plain, tokenizer = AutoTokenizer.from_pretrained(signed_minilm), from_pretrained(AutoTokenizer, signed_minilm, trust=trust)
    assert tokenizer(SENTENCES)["input_ids"] == plain(SENTENCES)["input_ids"]
    assert tokenizer.get_vocab() == plain.get_vocab() and tokenizer.model_max_length == plain.model_max_length
    config = from_pretrained(AutoConfig, signed_minilm, trust=trust)
    assert config.to_dict() == AutoConfig.from_pretrained(signed_minilm).to_dict()


@pytest.mark.parametrize(
    "name",
    [
        *("AutoModel", "BertModel", "AutoModelForCausalLM", "BertLMHeadModel", "AutoTokenizer", "BertTokenizer", "AutoConfig", "BertConfig"),
        *("GenerationConfig", "AutoImageProcessor", "CLIPImageProcessor", "AutoProcessor"),
    ],
)
def test_every_kind_of_class_loads_and_says_where_from(name: str, small: Path, trust: sentry.PublicKey) -> None:
    cls = getattr(transformers, name)
    # A pooler that was not saved gets random weights.
    torch.manual_seed(6)
    plain = cls.from_pretrained(str(small))
    torch.manual_seed(6)
    loaded = from_pretrained(cls, str(small), trust=trust)
    assert type(loaded) is type(plain)
    for attribute in ("name_or_path", "_name_or_path"):
        assert getattr(loaded, attribute, None) == getattr(plain, attribute, None)
    if hasattr(plain, "to_dict"):
        assert loaded.to_dict() == plain.to_dict()
    if isinstance(plain, torch.nn.Module):
        assert same_weights(loaded, plain) and loaded.config._name_or_path == plain.config._name_or_path == str(small)
        assert getattr(loaded, "generation_config", None) == getattr(plain, "generation_config", None)


def test_a_model_in_several_files(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    folder = save_small(tmp_path / "sharded", max_shard_size="8KB")
    parts = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(parts) > 2 and not (folder / "model.safetensors").exists()
    sentry.sign_model(folder, key=key)
    assert same_weights(from_pretrained(AutoModelForCausalLM, folder, trust=trust), AutoModelForCausalLM.from_pretrained(folder))
    flip(folder / parts[1])
    error = rejected(lambda: from_pretrained(AutoModelForCausalLM, folder, trust=trust), sentry.ManifestError, "model_differs")
    assert error.differences[0].file == parts[1]
    (folder / parts[1]).unlink()
    error = rejected(lambda: from_pretrained(AutoModelForCausalLM, folder, trust=trust), sentry.ManifestError, "model_differs")
    assert (error.differences[0].kind, error.artifact) == ("missing_file", parts[1])


def test_a_snapshot_in_the_hubs_cache(small: Path, trust: sentry.PublicKey, tmp_path: Path) -> None:
    cache = tmp_path / "models--publisher--small"
    snapshot = cache / "snapshots/0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for place, file in enumerate(sorted(small.iterdir())):
        blob = f"{place:040x}"
        shutil.move(file, cache / "blobs" / blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob}")
    model = from_pretrained(AutoModelForCausalLM, snapshot, trust=trust)
    assert same_weights(model, AutoModelForCausalLM.from_pretrained(snapshot))
    assert from_pretrained(AutoTokenizer, snapshot, trust=trust).get_vocab() == {token: place for place, token in enumerate(tokens())}
    flip((snapshot / "config.json").resolve(), 5)
    error = rejected(lambda: from_pretrained(AutoConfig, snapshot, trust=trust), sentry.ManifestError, "model_differs")
    assert error.artifact == "config.json"


def test_a_link_that_is_not_the_caches_own_is_not_followed(small: Path, trust: sentry.PublicKey, tmp_path: Path) -> None:
    shutil.move(small / "config.json", tmp_path / "config.json")
    (small / "config.json").symlink_to(tmp_path / "config.json")
    rejected(lambda: from_pretrained(AutoConfig, small, trust=trust), sentry.PathError, "symlink")


def test_the_notes_of_a_download_are_in_nobodys_way(small: Path, trust: sentry.PublicKey) -> None:
    for note in ("download/config.json.metadata", "download/model.safetensors.lock", "trees/0123.json", "CACHEDIR.TAG", ".gitignore"):
        (small / ".cache/huggingface" / note).parent.mkdir(parents=True, exist_ok=True)
        (small / ".cache/huggingface" / note).write_text("note")
    assert from_pretrained(AutoModelForCausalLM, small, trust=trust).num_parameters() > 0


def test_device_and_type_pass_through(small: Path, trust: sentry.PublicKey) -> None:
    half = from_pretrained(AutoModelForCausalLM, small, trust=trust, dtype=torch.bfloat16, attn_implementation="eager")
    assert half.dtype == torch.bfloat16 and half.config._attn_implementation == "eager"
    assert from_pretrained(AutoModelForCausalLM, small, trust=trust, dtype="float64").dtype == torch.float64
    labels = {0: "yes/no", 1: "either"}
    model, info = from_pretrained(AutoModelForCausalLM, small, trust=trust, output_loading_info=True, id2label=labels, output_attentions=True)
    assert model.config.id2label == labels and model.config.output_attentions and not info["missing_keys"]
    assert model.name_or_path == str(small)
    config, unused = from_pretrained(AutoConfig, small, trust=trust, return_unused_kwargs=True, nothing_known=3)
    assert unused["nothing_known"] == 3 and config._name_or_path == str(small)
    tokenizer = from_pretrained(AutoTokenizer, small, trust=trust, padding_side="left", eos_token="</s>", chat_template="{{ 'a/b' }}")
    assert (tokenizer.padding_side, tokenizer.eos_token, tokenizer.chat_template) == ("left", "</s>", "{{ 'a/b' }}")
    smaller = from_pretrained(AutoConfig, small, trust=trust, num_hidden_layers=1)
    assert from_pretrained(AutoModel, small, trust=trust, config=smaller).config.num_hidden_layers == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("trust_remote_code", False), ("local_files_only", False), ("force_download", False), ("use_kernels", False)),
        *(("gguf_file", None), ("_commit_hash", None), ("use_safetensors", None), ("use_safetensors", True), ("config", None)),
    ],
)
def test_an_option_that_is_off_is_not_refused(option: str, value: object, small: Path, trust: sentry.PublicKey) -> None:
    assert from_pretrained(AutoModelForCausalLM, small, trust=trust, **{option: value}).num_parameters() > 0


def test_a_model_in_a_folder_of_the_signed_one(tmp_path: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    save_small(tmp_path / "all/text/encoder")
    sentry.sign_model(tmp_path / "all", key=key)
    model = from_pretrained(AutoModelForCausalLM, tmp_path / "all", trust=trust, subfolder="text/encoder")
    assert same_weights(model, AutoModelForCausalLM.from_pretrained(tmp_path / "all/text/encoder"))
    flip(tmp_path / "all/text/encoder/model.safetensors")
    with pytest.raises(sentry.ManifestError):
        from_pretrained(AutoModelForCausalLM, tmp_path / "all", trust=trust, subfolder="text/encoder")


# What is not the signed one.


@pytest.mark.parametrize("cls", [AutoModel, BertModel])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_changed_file_of_a_model_is_named(cls: Any, name: str, signed_minilm: Path, trust: sentry.PublicKey, tmp_path: Path) -> None:
    folder = linked_copy(signed_minilm, tmp_path / "copy")
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    replace(folder / name, bytes(content))
    error = rejected(lambda: from_pretrained(cls, folder, trust=trust), sentry.ManifestError, "model_differs")
    assert error.differences[0].file == name and name in str(error)
    # A tensor is named by itself; the others stay what they are.
    assert (error.differences[0].kind == "changed_tensor") == (name == "model.safetensors") and len(error.differences) == 1
    assert error.expected and error.found and error.expected != error.found


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "vocab.txt", "config.json"])
def test_a_changed_file_of_a_tokenizer_is_named(name: str, small: Path, trust: sentry.PublicKey) -> None:
    flip(small / name, 3)
    error = rejected(lambda: from_pretrained(AutoTokenizer, small, trust=trust), sentry.ManifestError, "model_differs")
    assert (error.artifact, error.differences[0].kind) == (name, "changed_file")


def test_a_configuration_that_somebody_edited_is_rejected(small: Path, trust: sentry.PublicKey) -> None:
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    for cls in (AutoConfig, transformers.BertConfig, AutoModel):
        error = rejected(lambda cls=cls: from_pretrained(cls, small, trust=trust), sentry.ManifestError, "model_differs")
        assert error.artifact == "config.json"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"])
def test_a_file_that_is_gone_is_missed(name: str, small: Path, trust: sentry.PublicKey) -> None:
    # The library would do without some of them.
    (small / name).unlink()
    error = rejected(lambda: from_pretrained(AutoModelForCausalLM, small, trust=trust), sentry.ManifestError, "model_differs")
    assert (error.artifact, error.differences[0].kind) == (name, "missing_file")


def test_another_signer_or_nobody_is_not_trusted(small: Path, stranger: sentry.PublicKey, watch: Callable[[Path], Watch]) -> None:
    opened = watch(small)
    rejected(lambda: from_pretrained(AutoModel, small, trust=stranger), sentry.EnvelopeError, "signature_invalid")
    assert opened.opened().keys() == {"model.sig"}
    for nobody in (None, True, "sentry.pub"):
        with pytest.raises(sentry.UsageError):
            from_pretrained(AutoModel, small, trust=nobody)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        from_pretrained(AutoModel, small)  # type: ignore[call-arg]


def test_a_rejected_model_leaves_nothing_behind(small: Path, trust: sentry.PublicKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    descriptors = len(os.listdir("/proc/self/fd"))
    from_pretrained(AutoTokenizer, small, trust=trust)
    flip(small / "model.safetensors")
    with pytest.raises(sentry.ManifestError):
        from_pretrained(AutoModelForCausalLM, small, trust=trust)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert list((tmp_path / "temporary").iterdir()) == []


# What is not signed, or not asked for, is not read.

UNSIGNED = {
    "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer", "padding_side": "left"}',
    "special_tokens_map.json": b'{"unk_token": "[MASK]"}',
    "added_tokens.json": b'{"[MORE]": 8}',
    "generation_config.json": b'{"max_new_tokens": 77}',
    "chat_template.jinja": b"of an attacker",
    "additional_chat_templates/default.jinja": b"of an attacker",
    "processor_config.json": b'{"processor_class": "ClapProcessor", "audio_tokenizer": {"audio_tokenizer_class": "DacModel"}}',
    "preprocessor_config.json": b'{"image_processor_type": "ViTImageProcessor"}',
    "adapter_config.json": b'{"base_model_name_or_path": "attacker/model", "peft_type": "LORA"}',
    "adapter_model.safetensors": b"of an attacker",
    "pytorch_model.bin": b"a pickle",
    "model.safetensors.index.json": b'{"metadata": {}, "weight_map": {}}',
    "model.fp16.safetensors": b"of an attacker",
    "shard-00001-model-00001-of-00001.safetensors": b"of an attacker",
    "modeling_bert.py": b"raise SystemExit('code of an attacker was run')",
    "custom_generate/generate.py": b"raise SystemExit('code of an attacker was run')",
    "__init__.py": b"raise SystemExit('code of an attacker was run')",
    "config.4.0.0.json": b"{}",
    "tokenizer.model": b"of an attacker",
    "merges.txt": b"of an attacker",
    "vocab.json": b"{}",
}


@pytest.fixture
def bare(tmp_path: Path, key: sentry.PrivateKey) -> Path:
    """The small model with no more than it needs, signed."""
    folder = save_small(tmp_path / "bare")
    for name in ("tokenizer_config.json", "generation_config.json", "preprocessor_config.json"):
        (folder / name).unlink()
    sentry.sign_model(folder, key=key)
    return folder


@pytest.mark.parametrize("name", UNSIGNED)
def test_an_unsigned_file_is_not_read(name: str, bare: Path, trust: sentry.PublicKey, watch: Callable[[Path], Watch]) -> None:
    before = from_pretrained(AutoModelForCausalLM, bare, trust=trust), from_pretrained(BertTokenizer, bare, trust=trust)
    (bare / name).parent.mkdir(exist_ok=True)
    (bare / name).write_bytes(UNSIGNED[name])
    watches = watch(bare), watch((bare / name).parent)
    model, tokenizer = from_pretrained(AutoModelForCausalLM, bare, trust=trust), from_pretrained(BertTokenizer, bare, trust=trust)
    for opened in watches:
        assert opened.opened().keys() <= {"config.json", "model.safetensors", "model.sig", "tokenizer.json", "vocab.txt"}
    assert same_weights(model, before[0]) and model.config.to_dict() == before[0].config.to_dict()
    assert model.generation_config == before[0].generation_config
    assert tokenizer.get_vocab() == before[1].get_vocab() and tokenizer.padding_side == before[1].padding_side
    assert tokenizer.special_tokens_map == before[1].special_tokens_map and tokenizer.chat_template == before[1].chat_template


def test_each_file_is_read_once_and_weights_only_by_models(small: Path, trust: sentry.PublicKey, watch: Callable[[Path], Watch]) -> None:
    signed = {path.name for path in small.iterdir()}
    opened = watch(small)
    from_pretrained(AutoModelForCausalLM, small, trust=trust)
    assert opened.opened() == dict.fromkeys(signed, 1)
    for cls in (AutoTokenizer, BertTokenizer, AutoConfig, AutoImageProcessor, AutoProcessor, transformers.CLIPImageProcessor):
        from_pretrained(cls, small, trust=trust)
        assert opened.opened() == dict.fromkeys(signed - {"model.safetensors"}, 1), cls


def test_a_tokenizer_does_not_wait_for_weights_that_are_wrong(small: Path, trust: sentry.PublicKey) -> None:
    (small / "model.safetensors").unlink()
    assert from_pretrained(AutoTokenizer, small, trust=trust).get_vocab() == {token: place for place, token in enumerate(tokens())}


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.onnx", "model.gguf", "tf_model.h5", "flax_model.msgpack", "modeling_x.py", "README.md"]
)
def test_signed_files_that_nobody_reads_need_not_be_there(
    name: str, small: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, watch: Callable[[Path], Watch]
) -> None:
    assert not is_read(name) and not is_read(name.upper())
    (small / name).write_bytes(b"not read")
    sentry.sign_model(small, key=key)
    opened = watch(small)
    assert from_pretrained(AutoModelForCausalLM, small, trust=trust).num_parameters() > 0
    assert name not in opened.opened()
    (small / name).unlink()
    assert from_pretrained(AutoModelForCausalLM, small, trust=trust).num_parameters() > 0


def test_signed_pickles_are_not_taken_for_weights(small: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    torch.save(load_file(small / "model.safetensors"), small / "pytorch_model.bin")
    (small / "model.safetensors").unlink()
    sentry.sign_model(small, key=key)
    with pytest.raises(OSError, match="no file named model.safetensors"):
        from_pretrained(AutoModelForCausalLM, small, trust=trust)


# Code.


@pytest.mark.parametrize("value", [True, 1, "yes"])
def test_code_of_a_model_is_not_run_on_request(value: object, small: Path, trust: sentry.PublicKey, watch: Callable[[Path], Watch]) -> None:
    opened = watch(small)
    refused(lambda: from_pretrained(AutoModel, small, trust=trust, trust_remote_code=value), "trust_remote_code")
    assert opened.opened() == {}


@pytest.mark.parametrize("value", [False, 0, "no"])
def test_pickles_are_not_read_on_request(value: object, small: Path, trust: sentry.PublicKey) -> None:
    refused(lambda: from_pretrained(AutoModel, small, trust=trust, use_safetensors=value), "use_safetensors")


@pytest.mark.parametrize("repository", ["", "attacker/code--"])
@pytest.mark.parametrize("known", [True, False])
def test_signed_code_is_not_run_either_and_nobody_is_asked(
    repository: str, known: bool, small: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path
) -> None:
    (small / "custom.py").write_text(CODE.format(trace=str(tmp_path / "trace")))
    classes = {"AutoConfig": f"{repository}custom.Config", "AutoModel": f"{repository}custom.Model"}
    edit(small, key, auto_map=classes, model_type="bert" if known else "nobody-knows", _name_or_path="attacker/code")
    edit(small, key, "tokenizer_config.json", auto_map={"AutoTokenizer": ["custom.Tokenizer", f"{repository}custom.Tokenizer"]})
    for cls in (AutoConfig, AutoModel, AutoTokenizer, AutoProcessor):
        if known:
            assert type(from_pretrained(cls, small, trust=trust)).__module__.startswith("transformers.models.bert")
        elif cls in (AutoConfig, AutoModel):
            with pytest.raises(ValueError, match="custom code"):
                from_pretrained(cls, small, trust=trust)
    assert not (tmp_path / "trace").exists()


def test_a_signed_generate_function_is_not_run(small: Path, key: sentry.PrivateKey, trust: sentry.PublicKey, tmp_path: Path) -> None:
    (small / "custom_generate").mkdir()
    (small / "custom_generate/generate.py").write_text(CODE.format(trace=str(tmp_path / "trace")))
    sentry.sign_model(small, key=key)
    model = from_pretrained(AutoModelForCausalLM, small, trust=trust)
    assert model.generate(torch.tensor([[2, 5]]), max_new_tokens=2).shape == (1, 4)
    assert not (tmp_path / "trace").exists()


# Options and files that lead elsewhere.


def elsewhere(tmp_path: Path) -> Path:
    """A folder that an attacker filled with files of every name that the library looks for; nothing of it is signed."""
    folder = save_small(tmp_path / "elsewhere")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "attacker/model"}')
    return folder


@pytest.mark.parametrize(
    ("cls", "option", "value"),
    [
        (AutoModel, "subfolder", "../elsewhere"),
        (AutoModel, "subfolder", "{there}"),
        (AutoModel, "subfolder", "a/../../elsewhere"),
        (AutoModel, "variant", "/../../elsewhere/model"),
        (AutoModel, "config", "{there}"),
        (AutoModel, "config", "{there}/config.json"),
        (BertModel, "config", "bert-base-uncased"),
        (AutoModel, "gguf_file", "{there}/model.gguf"),
        (AutoTokenizer, "gguf_file", "model.gguf"),
        (AutoModel, "adapter_kwargs", {"_adapter_model_path": "{there}"}),
        (AutoModel, "state_dict", {"weight": torch.zeros(1)}),
        (AutoModel, "code_revision", "main"),
        (AutoModel, "_commit_hash", "0123"),
        (AutoConfig, "_configuration_file", "{there}/config.json"),
        (transformers.GenerationConfig, "config_file_name", "{there}/generation_config.json"),
        (AutoImageProcessor, "image_processor_filename", "{there}/preprocessor_config.json"),
        (AutoTokenizer, "tokenizer_file", "{there}/tokenizer.json"),
        (BertTokenizer, "tokenizer_file", Path("{there}/tokenizer.json")),
        (BertTokenizer, "vocab_file", "vocab.txt"),
        (BertTokenizer, "vocab", "vocab.txt"),
        (AutoTokenizer, "merges", "merges.txt"),
        (AutoTokenizer, "tokenizer_object", object()),
        (AutoModel, "pretrained_model_name_or_path", "{there}"),
        (AutoModel, "offload_folder", "{there}"),
        (AutoModel, "device_map", "disk"),
        (AutoModel, "device_map", {"": "disk"}),
        (AutoModel, "attn_implementation", "attacker/kernel"),
        (AutoModel, "attn_implementation", {"": "attacker/kernel"}),
        (AutoModel, "use_kernels", True),
        (AutoModel, "kernel_config", object()),
        (AutoModel, "allow_all_kernels", True),
        (AutoModel, "backbone", "attacker/model"),
        (AutoModel, "anything_new", [Path("{there}")]),
        (AutoModel, "local_files_only", True),
        (AutoModel, "force_download", True),
        (AutoModel, "proxies", {"http": "attacker"}),
        (AutoModel, "revision", "main"),
        (AutoModel, "token", "hf_token"),
        (AutoModel, "token_file", "hf_access_token"),
        (AutoModel, "cache_dir", "{there}"),
    ],
)
def test_an_option_that_leads_elsewhere_is_refused(
    cls: Any,
    option: str,
    value: object,
    small: Path,
    trust: sentry.PublicKey,
    tmp_path: Path,
    watch: Callable[[Path], Watch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = elsewhere(tmp_path)
    # Relative names are found there too.
    monkeypatch.chdir(there)
    opened, inside = watch(there), watch(small)

    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: fill(inner) for name, inner in part.items()}
        if isinstance(part, list):
            return [fill(inner) for inner in part]
        return type(part)(str(part).replace("{there}", str(there))) if isinstance(part, (str, Path)) else part

    value = fill(value)
    refused(lambda: from_pretrained(cls, small, trust=trust, **{option: value}), option)
    assert opened.opened() == {} and inside.opened() == {}


def test_what_the_working_directory_has_is_not_read(
    small: Path, trust: sentry.PublicKey, tmp_path: Path, watch: Callable[[Path], Watch], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = elsewhere(tmp_path)
    monkeypatch.chdir(there)
    opened = watch(there)
    assert from_pretrained(AutoModelForCausalLM, small, trust=trust).config.num_hidden_layers == 2
    from_pretrained(AutoTokenizer, small, trust=trust)
    assert opened.opened() == {}


def test_a_signed_adapter_is_refused(small: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    edit(small, key, "adapter_config.json", base_model_name_or_path="attacker/model", peft_type="LORA")
    for cls in (AutoModel, BertModel):
        refused(lambda cls=cls: from_pretrained(cls, small, trust=trust), "adapter_config.json", "base model")
    # Its tokenizer is all here.
    assert from_pretrained(AutoTokenizer, small, trust=trust).get_vocab() == {token: place for place, token in enumerate(tokens())}


@pytest.mark.parametrize(
    ("file", "entries"),
    [
        ("config.json", {"attn_implementation": "attacker/kernel"}),
        ("config.json", {"text_config": {"_attn_implementation": {"": "attacker/kernel"}}}),
        ("config.json", {"parts": [{"experts_implementation": "attacker/kernel"}]}),
        ("config.json", {"backbone": "attacker/model", "use_timm_backbone": False}),
        ("config.json", {"vision": {"backbone": "attacker/model", "backbone_config": None}}),
        ("processor_config.json", {"audio_tokenizer": {"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": "attacker"}}),
        ("audio_tokenizer_config.json", {"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": "attacker/model"}),
    ],
)
def test_a_signed_file_that_names_another_repository_is_refused(
    file: str, entries: dict[str, object], small: Path, key: sentry.PrivateKey, trust: sentry.PublicKey
) -> None:
    edit(small, key, file, **entries)
    for cls in (AutoModel, AutoProcessor):
        refused(lambda cls=cls: from_pretrained(cls, small, trust=trust), file, "attacker")


@pytest.mark.parametrize(
    "entries", [{"_name_or_path": "attacker/model"}, {"backbone": None, "attn_implementation": "eager"}, {"tokenizer_class": "BertTokenizer"}]
)
def test_a_name_that_nobody_follows_is_not_refused(entries: dict[str, object], small: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    edit(small, key, **entries)
    model = from_pretrained(AutoModel, small, trust=trust)
    assert model.name_or_path == model.config._name_or_path == str(small)


class Borrower(transformers.ProcessorMixin):
    """A processor that loads a part of itself from elsewhere, as some of the library do."""

    borrowed = ""

    def __init__(self, tokenizer: Any = None) -> None:
        super().__init__(tokenizer)
        self.other_tokenizer = BertTokenizer.from_pretrained(self.borrowed)


def test_a_part_of_another_model_is_not_handed_out(small: Path, trust: sentry.PublicKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Borrower, "borrowed", str(elsewhere(tmp_path)))
    refused(lambda: from_pretrained(Borrower, small, trust=trust), "Borrower", "elsewhere")


@pytest.mark.parametrize("cls", [transformers.AutoBackbone, transformers.RagRetriever, dict, None, transformers.pipeline, "AutoModel"])
def test_a_class_that_nobody_knows_is_refused(cls: Any, small: Path, trust: sentry.PublicKey, watch: Callable[[Path], Watch]) -> None:
    opened = watch(small)
    refused(lambda: from_pretrained(cls, small, trust=trust), "sentry.verified_folder")
    assert opened.opened() == {}


# The folder of verified files.


@pytest.fixture
def odd(tmp_path: Path, key: sentry.PrivateKey) -> Path:
    """A signed folder whose files have odd names, sizes and places."""
    folder = tmp_path / "odd"
    names = [
        *("plain", "-rf", "a b", "a\nb", "a\x1b[2J", "%41", "ünïcode", "\u202eright", "'quoted'\"", "*?[x]", "ab:1", ".hidden", "~"),
        *("deep/er/and/deeper", "deep/er/two", "deep/.x", "-/-", "...", " "),
    ]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    for name in ("empty", "deep/empty.safetensors.not"):
        (folder / name).write_bytes(b"")
    (folder / "large").write_bytes(os.urandom(3 << 20))
    sentry.sign_model(folder, key=key)
    return folder


def content_of(folder: Path) -> dict[str, bytes]:
    """All files beneath a folder, by their names in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_has_what_was_signed_under_its_names(odd: Path, trust: sentry.PublicKey) -> None:
    (odd / "unsigned").write_text("of an attacker")
    (odd / "deep/unsigned").write_text("of an attacker")
    expected = {name: content for name, content in content_of(odd).items() if name != "model.sig" and "unsigned" not in name}
    with sentry.verified_folder(odd, trust=trust) as folder:
        assert isinstance(folder, Path) and content_of(folder) == expected
        assert (folder / "empty").stat().st_size == 0 and (folder / "large").stat().st_size == 3 << 20
    assert not folder.exists()


def test_only_what_is_wanted_is_there_and_opened(odd: Path, trust: sentry.PublicKey, watch: Callable[[Path], Watch]) -> None:
    asked: list[str] = []

    def wanted(name: str) -> bool:
        asked.append(name)
        return name in ("plain", "deep/er/two")

    names = content_of(odd).keys() - {"model.sig"}
    opened, deeper = watch(odd), watch(odd / "deep/er")
    with sentry.verified_folder(odd, trust=trust, wanted=wanted) as folder:
        assert content_of(folder) == {"plain": b"content of plain", "deep/er/two": b"content of deep/er/two"}
    assert set(asked) == names
    assert opened.opened().keys() - {"deep"} == {"model.sig", "plain"} and deeper.opened() == {"two": 1}
    with sentry.verified_folder(odd, trust=trust, wanted=lambda name: False) as folder:
        assert content_of(folder) == {}


@pytest.mark.parametrize("name", ["plain", "deep/er/and/deeper", "large", "empty", "a\nb"])
def test_a_changed_or_missing_file_gives_no_folder(name: str, odd: Path, trust: sentry.PublicKey) -> None:
    def enter() -> None:
        with sentry.verified_folder(odd, trust=trust):
            pytest.fail("the folder was handed out")

    (odd / name).write_bytes((odd / name).read_bytes() + b"x")
    error = rejected(enter, sentry.ManifestError, "model_differs")
    assert [difference.file for difference in error.differences] == [name] and error.artifact == name
    # What is not wanted may be wrong.
    with sentry.verified_folder(odd, trust=trust, wanted=lambda other: other != name) as folder:
        assert not (folder / name).exists()
    (odd / name).unlink()
    error = rejected(enter, sentry.ManifestError, "model_differs")
    assert (error.artifact, error.differences[0].kind) == (name, "missing_file")


def test_a_change_on_disk_does_not_reach_the_folder(odd: Path, trust: sentry.PublicKey) -> None:
    before = (odd / "large").read_bytes()
    with sentry.verified_folder(odd, trust=trust) as folder:
        with open(folder / "large", "rb") as file:
            first = file.read(100)
            # In place, and by another file and folder of the name.
            flip(odd / "large")
            flip(odd / "large", 200)
            shutil.rmtree(odd / "deep")
            (odd / "deep/er").mkdir(parents=True)
            (odd / "deep/er/two").write_text("of an attacker")
            assert first + file.read() == before
        assert (folder / "large").read_bytes() == before
        assert (folder / "deep/er/two").read_text() == "content of deep/er/two"


def test_nobody_can_write_to_the_folders_files(odd: Path, trust: sentry.PublicKey) -> None:
    with sentry.verified_folder(odd, trust=trust) as folder:
        for attempt in (
            lambda: (folder / "large").write_bytes(b"of an attacker"),
            lambda: os.truncate(folder / "large", 5),
            lambda: os.truncate(folder / "large", 4 << 20),
            lambda: flip(folder / "large"),
        ):
            with pytest.raises(PermissionError):
                attempt()
        with open(folder / "large", "r+b", buffering=0) as file:
            with pytest.raises(PermissionError):
                file.write(b"of an attacker")
            with pytest.raises(PermissionError):
                mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        assert (folder / "large").read_bytes() == (odd / "large").read_bytes()


def test_what_is_mapped_or_open_outlives_the_folder(odd: Path, trust: sentry.PublicKey) -> None:
    expected = (odd / "large").read_bytes()
    with sentry.verified_folder(odd, trust=trust) as folder:
        file = open(folder / "large", "rb")  # noqa: SIM115
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    flip(odd / "large")
    assert not folder.exists()
    with pytest.raises(FileNotFoundError):
        open(folder / "large", "rb")
    with file, mapped:
        assert file.read() == mapped[:] == expected


def test_weights_outlive_the_folder_and_the_files(small: Path, trust: sentry.PublicKey) -> None:
    model, expected = from_pretrained(AutoModelForCausalLM, small, trust=trust), AutoModelForCausalLM.from_pretrained(small)
    expected = {name: tensor.clone() for name, tensor in expected.state_dict().items()}
    content = (small / "model.safetensors").read_bytes()
    (small / "model.safetensors").write_bytes(bytes(len(content)))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_threads_and_processes_read_the_folder_while_it_is_there(odd: Path, trust: sentry.PublicKey) -> None:
    program = "import pathlib, sys; sys.stdout.buffer.write(pathlib.Path(sys.argv[1]).read_bytes())"
    with sentry.verified_folder(odd, trust=trust) as folder:
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda name: (folder / name).read_bytes(), ["large"] * 8))
        assert set(read) == {(odd / "large").read_bytes()}
        run = [sys.executable, "-c", program, str(folder / "large")]
        assert subprocess.run(run, capture_output=True, check=True).stdout == read[0]
    late = subprocess.run(run, capture_output=True)
    assert late.returncode != 0 and b"FileNotFoundError" in late.stderr and late.stdout == b""


def test_threads_load_at_the_same_time(small: Path, odd: Path, trust: sentry.PublicKey) -> None:
    # No models: the library makes those with settings that all threads share, and so mixes them up by itself.
    config, expected = AutoConfig.from_pretrained(small).to_dict(), content_of(odd)
    del expected["model.sig"]

    def load(place: int) -> bool:
        if place % 2:
            return from_pretrained(AutoConfig, small, trust=trust).to_dict() == config
        with sentry.verified_folder(odd, trust=trust) as folder:
            return content_of(folder) == expected

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(load, range(16)))


def test_an_error_in_the_block_leaves_nothing(odd: Path, trust: sentry.PublicKey) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError), sentry.verified_folder(odd, trust=trust) as folder:
        assert len(os.listdir("/proc/self/fd")) > descriptors
        raise ZeroDivisionError
    assert not folder.exists() and len(os.listdir("/proc/self/fd")) == descriptors

    def fail(name: str) -> bool:
        raise ZeroDivisionError(name)

    with pytest.raises(ZeroDivisionError), sentry.verified_folder(odd, trust=trust, wanted=fail):
        pytest.fail("the folder was handed out")
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_one_signed_file_is_a_folder_of_one(odd: Path, key: sentry.PrivateKey, trust: sentry.PublicKey) -> None:
    sentry.sign_model(odd / "plain", key=key)
    with sentry.verified_folder(odd / "plain", trust=trust) as folder:
        assert content_of(folder) == {"plain": b"content of plain"}


def test_a_signature_elsewhere_and_trust_in_somebody(odd: Path, trust: sentry.PublicKey, stranger: sentry.PublicKey, tmp_path: Path) -> None:
    shutil.move(odd / "model.sig", tmp_path / "elsewhere.sig")
    with sentry.verified_folder(odd, trust=trust, signature=tmp_path / "elsewhere.sig") as folder:
        assert (folder / "plain").read_text() == "content of plain"

    def enter(**options: Any) -> None:
        with sentry.verified_folder(odd, **options):
            pytest.fail("the folder was handed out")

    rejected(lambda: enter(trust=stranger, signature=tmp_path / "elsewhere.sig"), sentry.EnvelopeError, "signature_invalid")
    with pytest.raises(sentry.NotCheckedError) as caught:
        enter(trust=trust)
    assert caught.value.code == "signature_not_found"
    refused(lambda: enter(trust=None), "trust=")
