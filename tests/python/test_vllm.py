"""vLLM's load format ``sentry``, in vLLM's own registry and by its own classes: a model of it is loaded as it was signed, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sentry
import sentry.vllm
import torch
import transformers
from conftest import ROOT, flip, make_certificates
from safetensors.torch import load_file, save_file

POLICY = """policy = 1
[signer.publisher]
key = "publisher.pub"
[[rule]]
name = "ours"
artifacts = ["llama"]
signers = ["publisher"]
{more}
"""

Answer = dict[str, Any]
Load = Callable[..., Answer]


class Process:
    """vLLM, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        packages = subprocess.run([ROOT / "scripts/fetch-vllm.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        paths = [*filter(None, [os.environ.get("PYTHONPATH")]), packages]
        own = {"PYTHONPATH": os.pathsep.join(paths), "VLLM_CACHE_ROOT": str(folder), "HF_HUB_OFFLINE": "1", "VLLM_PLUGINS": ""}
        environment = {**os.environ, **own}
        program = Path(__file__).with_name("vllm_process.py")
        self._rendezvous = str(folder / "rendezvous")
        self._log = (folder / "log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self.started = self._answer()

    def ask(self, request: dict[str, Any]) -> Answer:
        assert self._process.stdin is not None
        print(json.dumps({**request, "rendezvous": self._rendezvous}), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            pytest.fail(f"vLLM's process has ended:\n{self._log.read()[-6000:]}")
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.communicate()
        self._log.close()


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("vllm"))
    yield process
    process.close()


@pytest.fixture
def public_key(trust: sentry.PublicKey, tmp_path: Path) -> str:
    (tmp_path / "publisher.pub").write_text(trust.pem)
    return str(tmp_path / "publisher.pub")


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A Llama of two layers in three files, unsigned."""
    torch.manual_seed(5)
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 32}
    config = transformers.LlamaConfig(num_attention_heads=2, num_key_value_heads=2, **sizes)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama", max_shard_size="12KB")
    return tmp_path / "llama"


@pytest.fixture
def signed(llama: Path, key: sentry.PrivateKey) -> Path:
    """The Llama, signed."""
    sentry.sign_model(llama, key=key)
    return llama


@pytest.fixture
def load(vllm: Process, signed: Path, public_key: str, tmp_path: Path) -> Load:
    """Loads the Llama by vLLM, and returns what came of it."""

    def ask(**request: Any) -> Answer:
        return vllm.ask({"model": str(signed), "extra": {"public_key": public_key}, "save": str(tmp_path / "loaded"), **request})

    return ask


def files_of(model: Path) -> list[Path]:
    return sorted(model.glob("*.safetensors"))


def edit(model: Path, key: sentry.PrivateKey, file: str = "config.json", **entries: object) -> None:
    """Change entries of a JSON file, and sign again."""
    path = model / file
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | entries))
    sign_again(model, key)


def sign_again(model: Path, key: sentry.PrivateKey, **options: Any) -> None:
    (model / "model.sig").unlink()
    sentry.sign_model(model, key=key, **options)


def is_loaded(answer: Answer, model: Path, saved: Path) -> bool:
    """Whether vLLM's module has the weights of the files: it joins some of them."""
    assert answer["error"] is None, answer
    weights = {name: tensor for file in files_of(model) for name, tensor in load_file(file).items()}
    loaded = load_file(saved)
    joined = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
    for name, tensor in loaded.items():
        whole = next((part for part in joined if part in name), None)
        parts = [weights[name.replace(whole, part)] for part in joined[whole]] if whole else [weights[name]]
        if not torch.equal(tensor, torch.cat(parts)):
            return False
    return len(loaded) == 3 + 2 * 6


def is_refused(answer: Answer, error: type[sentry.Error], code: str, built: bool = False) -> str:
    """Assert that nothing was handed out, and no weight was left behind; the message."""
    assert (answer["error"], answer["code"]) == (error.__name__, code), answer
    assert (answer["built"], answer["nonzero"]) == (int(built), 0), answer
    message: str = answer["message"]
    return message


# What is loaded.


def test_vllm_knows_the_format_once(vllm: Process) -> None:
    assert vllm.started["registered"] == ["sentry"]
    assert len([line for line in vllm.started["said"] if line.startswith("Registered model loader")]) == 1


def test_vllm_finds_the_format_by_itself() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (entry,) = project["entry-points"]["vllm.general_plugins"].values()
    assert entry == "sentry.vllm:register" and callable(sentry.vllm.register)


def test_a_signed_model_is_loaded(load: Load, signed: Path, tmp_path: Path) -> None:
    assert len(files_of(signed)) > 2
    answer = load()
    assert is_loaded(answer, signed, tmp_path / "loaded")
    assert any("is signed by" in line and str(signed) in line for line in answer["said"])


def test_a_large_file_is_loaded_tensor_by_tensor(load: Load, signed: Path, tmp_path: Path) -> None:
    assert is_loaded(load(largest_buffer=0), signed, tmp_path / "loaded")
    flip(files_of(signed)[1])
    is_refused(load(largest_buffer=0), sentry.ManifestError, "model_differs", built=True)


def test_a_signature_without_tensors(load: Load, signed: Path, key: sentry.PrivateKey, tmp_path: Path) -> None:
    sign_again(signed, key, annotate=False)
    assert is_loaded(load(largest_buffer=0), signed, tmp_path / "loaded")
    flip(files_of(signed)[1])
    is_refused(load(), sentry.ManifestError, "model_differs", built=True)


def test_trust_in_a_certificate(load: Load, signed: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    (signed / "model.sig").unlink()
    sentry.sign_model(signed, key=tmp_path / "leaf.key", certificate=tmp_path / "leaf.pem", chain=[tmp_path / "intermediate.pem"])
    roots = str(tmp_path / "root.pem")
    assert is_loaded(load(extra={"roots": roots, "identity": "release@acme.example"}), signed, tmp_path / "loaded")
    is_refused(load(extra={"roots": [roots], "identity": "other@acme.example"}), sentry.CertificateError, "certificate_identity")


@pytest.mark.usefixtures("public_key")
def test_a_policy(load: Load, signed: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.format(more=""))
    assert is_loaded(load(extra={"policy": str(policy)}), signed, tmp_path / "loaded")
    is_refused(load(extra={"policy": str(policy), "artifact": "other"}), sentry.PolicyError, "policy_no_rule")
    policy.write_text(POLICY.format(more="lowest_version = 9"))
    is_refused(load(extra={"policy": str(policy)}), sentry.PolicyError, "policy_version")


def test_what_the_operator_overrides_is_compared_too(load: Load, signed: Path, tmp_path: Path) -> None:
    overrides = {"max_position_embeddings": 16, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}
    assert is_loaded(load(model_config={"hf_overrides": overrides}), signed, tmp_path / "loaded")


# What is not the signed one.


def test_other_weights(load: Load, signed: Path) -> None:
    flip(files_of(signed)[-1])
    answer = load()
    is_refused(answer, sentry.ManifestError, "model_differs", built=True)
    assert answer["differences"][0][0] == "changed_tensor"


def test_another_configuration(load: Load, signed: Path) -> None:
    config = json.loads((signed / "config.json").read_text())
    (signed / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1.0}))
    answer = load()
    is_refused(answer, sentry.ManifestError, "model_differs")
    assert answer["differences"] == [["changed_file", "config.json"]]


@pytest.mark.parametrize("change", [{"rms_norm_eps": 1.0}, {"hidden_act": "gelu"}, {"num_attention_heads": 4}, {"new": 1}])
def test_a_configuration_that_was_another_when_vllm_read_it(load: Load, signed: Path, change: dict[str, object]) -> None:
    config = json.loads((signed / "config.json").read_text())
    message = is_refused(load(config_at_first=json.dumps(config | change)), sentry.ChangedError, "file_changed_while_read")
    assert f'"{next(iter(change))}" differs' in message


@pytest.mark.parametrize("name", ["model-00009-of-00009.safetensors", "generation_config.json.bak", "tokenizer.json", "sub/params.json"])
def test_a_file_that_is_not_signed(load: Load, signed: Path, name: str) -> None:
    (signed / name).parent.mkdir(exist_ok=True)
    (signed / name).write_text("{}")
    answer = load()
    is_refused(answer, sentry.ManifestError, "model_differs")
    assert answer["differences"] == [["unsigned_file", name]]


def test_a_link_to_a_folder(load: Load, signed: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (signed / "chat_templates").symlink_to(tmp_path / "elsewhere")
    answer = load()
    is_refused(answer, sentry.ManifestError, "model_differs")
    assert answer["differences"] == [["unsigned_file", "chat_templates"]]


def test_notes_that_are_no_part_of_the_model(load: Load, signed: Path, tmp_path: Path) -> None:
    for note in (".git/config", ".gitattributes", ".cache/huggingface/download/config.json.metadata"):
        (signed / note).parent.mkdir(parents=True, exist_ok=True)
        (signed / note).write_text("note")
    assert is_loaded(load(), signed, tmp_path / "loaded")


def test_a_file_that_is_missing(load: Load, signed: Path) -> None:
    (signed / "generation_config.json").unlink()
    answer = load()
    is_refused(answer, sentry.ManifestError, "model_differs")
    assert answer["differences"] == [["missing_file", "generation_config.json"]]


def test_the_key_of_somebody_else(load: Load, stranger: sentry.PublicKey, tmp_path: Path) -> None:
    (tmp_path / "stranger.pub").write_text(stranger.pem)
    is_refused(load(extra={"public_key": str(tmp_path / "stranger.pub")}), sentry.EnvelopeError, "signature_invalid")


def test_a_model_without_a_signature(load: Load, signed: Path) -> None:
    (signed / "model.sig").unlink()
    is_refused(load(), sentry.NotCheckedError, "signature_not_found")


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.1.self_attn.o_proj.weight"])
def test_a_weight_that_nobody_signed(load: Load, signed: Path, key: sentry.PrivateKey, name: str) -> None:
    weights = {each: tensor for file in files_of(signed) for each, tensor in load_file(file).items() if each != name}
    for file in (*files_of(signed), signed / "model.safetensors.index.json"):
        file.unlink()
    save_file(weights, signed / "model.safetensors")
    sign_again(signed, key)
    message = is_refused(load(), sentry.FormatError, "weights_incomplete", built=True)
    assert name in message


def test_a_weight_that_the_model_does_not_have(load: Load, signed: Path, key: sentry.PrivateKey) -> None:
    file = files_of(signed)[0]
    index = signed / "model.safetensors.index.json"
    save_file({**load_file(file), "model.more.weight": torch.ones(3)}, file)
    listed = json.loads(index.read_text())
    listed["weight_map"]["model.more.weight"] = file.name
    index.write_text(json.dumps(listed))
    sign_again(signed, key)
    answer = load()
    assert (answer["error"], answer["built"], answer["nonzero"]) == ("ValueError", 1, 0)
    assert "more" in answer["message"]


# What the signature does not cover.


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"trust_remote_code": True}, "trust_remote_code stays False"),
        ({"tokenizer": "/elsewhere"}, "the tokenizer is that of the signed model"),
        ({"tokenizer_revision": "main"}, "the tokenizer is that of the signed model"),
        ({"hf_config_path": "/elsewhere"}, "hf_config_path"),
        ({"code_revision": "main"}, "code_revision"),
        ({"model_weights": "s3://elsewhere"}, "model_weights"),
        ({"generation_config": "/elsewhere"}, "generation_config"),
        ({"hf_overrides": {"backbone": "other/model"}}, "hf_overrides"),
        ({"quantization": "torchao"}, "torchao"),
        ({"quantization": "gptq"}, "a file of their own"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_option_that_leads_elsewhere(load: Load, changed: dict[str, object], what: str) -> None:
    assert what in is_refused(load(changed=changed), sentry.UsageError, "usage")


def test_a_function_that_changes_the_configuration(load: Load) -> None:
    assert "hf_overrides is a mapping" in is_refused(load(overrides_by_function=True), sentry.UsageError, "usage")


def test_adapters_and_drafts(load: Load, signed: Path, tmp_path: Path) -> None:
    assert "LoRA" in is_refused(load(lora=True), sentry.UsageError, "usage")
    assert 'load format is "auto"' in is_refused(load(draft_format="auto"), sentry.UsageError, "usage")
    assert is_loaded(load(draft_format="sentry"), signed, tmp_path / "loaded")


@pytest.mark.parametrize("option", [{"download_dir": "/elsewhere"}, {"safetensors_load_strategy": "torchao"}], ids=["folder", "strategy"])
def test_another_way_of_loading(load: Load, option: dict[str, object]) -> None:
    assert next(iter(option)) in is_refused(load(load_config=option), sentry.UsageError, "usage")


@pytest.mark.parametrize("attributes", [{"secondary_weights": ["other"]}, {"allow_patterns_overrides": ["*.pt"]}], ids=["more", "patterns"])
def test_a_module_that_takes_weights_from_elsewhere(load: Load, attributes: dict[str, object]) -> None:
    assert "use another load format" in is_refused(load(attributes=attributes), sentry.UsageError, "usage", built=True)


def test_a_module_that_does_not_say_what_it_has_loaded(load: Load) -> None:
    assert "does not say" in is_refused(load(says_nothing=True), sentry.UsageError, "usage", built=True)


def test_a_configuration_that_refers_elsewhere(load: Load, signed: Path, key: sentry.PrivateKey) -> None:
    edit(signed, key, audio_tokenizer_name_or_path="other/model")
    assert "audio_tokenizer_name_or_path" in is_refused(load(), sentry.UsageError, "usage")


def test_an_adapter(load: Load, signed: Path, key: sentry.PrivateKey) -> None:
    edit(signed, key, "adapter_config.json", base_model_name_or_path="other/model")
    assert "names a base model" in is_refused(load(), sentry.UsageError, "usage")


# Settings.


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (None, "is a mapping"),
        ({}, "say whom you trust"),
        ({"public_key": "a", "policy": "b"}, "found public_key and policy"),
        ({"public_key": "a", "publickey": "b"}, 'has no "publickey"'),
        ({"public_key": ""}, "public_key is text"),
        ({"public_key": ["a"]}, "public_key is text"),
        ({"roots": []}, "roots is text or a list of texts"),
        ({"roots": ["a", 1]}, "roots is text or a list of texts"),
        ({"roots": ["a"], "any_identity": "yes"}, "any_identity is true or false"),
        ({"public_key": "a", "identity": "b"}, "identity does not go with public_key"),
        ({"policy": "a", "timestamp_roots": "b"}, "timestamp_roots does not go with policy"),
        ({"public_key": "a", "artifact": "b"}, "artifact does not go with public_key"),
    ],
)
def test_settings_that_are_refused(settings: Any, what: str) -> None:
    with pytest.raises(sentry.UsageError, match=what) as caught:
        sentry.vllm._trust(sentry.vllm._settings(settings))
    assert caught.value.code == "usage"


def test_a_setting_that_is_refused_by_the_loader(load: Load, public_key: str) -> None:
    is_refused(load(extra={"public_key": public_key, "verify": False}), sentry.UsageError, "usage")
    is_refused(load(extra={}), sentry.UsageError, "usage")


@pytest.mark.parametrize(
    ("quantization", "own", "nested", "given", "passes"),
    [
        ("fp8", {"quant_method": "fp8"}, None, None, True),
        ("fp8", None, {"quant_method": "fp8"}, None, True),
        ("fp8", None, None, {"linear": "fp8"}, True),
        ("fp8", None, None, None, False),
        ("modelopt_mixed", {"quant_method": "modelopt"}, None, None, False),
        ("modelopt_mixed", {"quantized_layers": {}}, None, None, True),
    ],
)
def test_settings_of_quantization_are_those_that_are_compared(quantization: str, own: Any, nested: Any, given: Any, passes: bool) -> None:
    config = SimpleNamespace(quantization_config=own, text_config=SimpleNamespace(quantization_config=nested))
    model_config = SimpleNamespace(quantization=quantization, hf_config=config, quantization_config=given)
    if passes:
        sentry.vllm._check_quantization(model_config)
    else:
        with pytest.raises(sentry.UsageError, match="a file of their own"):
            sentry.vllm._check_quantization(model_config)
