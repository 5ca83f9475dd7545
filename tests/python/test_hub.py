"""Models from the hub: tokens arrive, only what is wanted is downloaded, changed bytes are rejected, and no answer is no verdict.

The hub is a small server on this machine. huggingface_hub reads its settings when it is imported, so each client is a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentry
from hub_server import COMMIT, REPOSITORY, Hub, client_settings
from safetensors.torch import save_file

TOKEN = "hf_TheTokenOfThisTest"

# What each process runs: one call, whose result or error it prints as JSON.
CLIENT = """
import json, sys
import sentry
from sentry import hub
call, trust, arguments = sys.argv[1], sentry.PublicKey(sys.argv[2]), json.loads(sys.argv[3])
try:
    if call == "download":
        result = hub.download(**arguments)
    elif call == "download_wanted":
        from sentry.transformers import is_read
        result = hub.download(wanted=is_read, **arguments)
    elif call == "verify":
        result = sentry.verify_model(hub.download(**arguments), trust=trust).files
    else:
        import transformers
        from sentry.transformers import from_pretrained
        loaded = from_pretrained(getattr(transformers, call), trust=trust, **arguments)
        result = [type(loaded).__name__, loaded.name_or_path, getattr(loaded, "dtype", None) and str(loaded.dtype)]
    print(json.dumps({"result": result}))
except sentry.Error as error:
    print(json.dumps({"error": type(error).__name__, "code": error.code, "message": str(error), "artifact": getattr(error, "artifact", None)}))
"""


@pytest.fixture(scope="module")
def published(key: sentry.PrivateKey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with its tokenizer and a pickle, signed; not to be changed."""
    import transformers

    folder = tmp_path_factory.mktemp("published")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two"]))
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    config = transformers.BertConfig(vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.save_pretrained(folder)
    save_file(transformers.BertModel(config).state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    (folder / "nested").mkdir()
    (folder / "nested/a [b]*.txt").write_text("a name with letters of patterns")
    sentry.sign_model(folder, key=key)
    return folder


@pytest.fixture
def hub(published: Path) -> Iterator[Hub]:
    """A hub that has the published model."""
    server = Hub(published)
    yield server
    server.close()


@pytest.fixture
def client(hub: Hub, trust: sentry.PublicKey, tmp_path: Path) -> Any:
    """Makes one call in a process of its own, whose hub is `hub`, and returns what became of it."""
    public = tmp_path / "publisher.pub"
    public.write_text(trust.pem)
    settings = client_settings(hub, tmp_path / "home")

    def call(what: str, environment: dict[str, str] | None = None, **arguments: object) -> dict[str, Any]:
        run = subprocess.run(
            [sys.executable, "-c", CLIENT, what, str(public), json.dumps(arguments)],
            env={**settings, **(environment or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        answer: dict[str, Any] = json.loads(run.stdout)
        return answer

    return call


def test_a_repository_is_downloaded_as_it_is(hub: Hub, client: Any, published: Path) -> None:
    assert client("verify", repo_id=REPOSITORY) == {"result": 7}
    assert hub.downloaded() == {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()}
    # Nobody has a token here, and none is made up.
    assert hub.authorizations() == {None}


def test_a_snapshot_of_the_cache_loads_again_without_the_hub(hub: Hub, client: Any) -> None:
    assert client("BertModel", path=REPOSITORY) == {"result": ["BertModel", REPOSITORY, "torch.float32"]}
    snapshot = client("download_wanted", repo_id=REPOSITORY)["result"]
    assert Path(snapshot, "model.safetensors").is_symlink()
    hub.close()
    # Under its name, and as the folder that it is.
    assert client("BertModel", path=REPOSITORY)["result"][:2] == ["BertModel", REPOSITORY]
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert client("download_wanted", environment, repo_id=REPOSITORY) == {"result": snapshot}
    assert client("BertModel", path=snapshot)["result"][:2] == ["BertModel", snapshot]


def test_only_what_is_wanted_is_downloaded(hub: Hub, client: Any) -> None:
    folder = Path(client("download_wanted", repo_id=REPOSITORY)["result"])
    assert "pytorch_model.bin" in hub.files and "pytorch_model.bin" not in hub.downloaded()
    assert hub.downloaded() == hub.files.keys() - {"pytorch_model.bin"}
    assert (folder / "nested/a [b]*.txt").is_file() and not (folder / "pytorch_model.bin").exists()


def test_a_download_to_a_folder_of_ones_own(client: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert client("download", repo_id=REPOSITORY, local_dir=str(mine)) == {"result": str(mine)}
    # The notes that the download leaves there are not signed, and in nobody's way.
    assert any((mine / ".cache/huggingface").rglob("*")) and not (mine / "model.safetensors").is_symlink()
    assert client("AutoTokenizer", path=str(mine))["result"][0] == "BertTokenizer"


def test_the_notes_of_a_download_do_not_keep_its_folder_from_being_verified(client: Any, tmp_path: Path) -> None:
    assert client("verify", repo_id=REPOSITORY, local_dir=str(tmp_path / "mine")) == {"result": 7}


def test_a_commit_can_be_named_and_the_cache_too(hub: Hub, client: Any, tmp_path: Path) -> None:
    answer = client("AutoConfig", path=REPOSITORY, revision=COMMIT, cache_dir=str(tmp_path / "elsewhere"))
    assert answer["result"][:2] == ["BertConfig", REPOSITORY]
    assert any((tmp_path / "elsewhere").rglob("config.json"))
    assert client("download", repo_id=REPOSITORY, revision="another")["error"] == "NotCheckedError"


@pytest.mark.parametrize("source", ["HF_TOKEN", "token", "token_file", "login"])
def test_a_token_arrives(hub: Hub, client: Any, tmp_path: Path, source: str) -> None:
    hub.token = TOKEN
    assert client("download", repo_id=REPOSITORY)["error"] == "NotCheckedError"
    hub.requests.clear()
    arguments: dict[str, object] = {"repo_id": REPOSITORY}
    environment = {}
    if source == "HF_TOKEN":
        environment["HF_TOKEN"] = TOKEN
    elif source == "token":
        arguments["token"] = TOKEN
    elif source == "token_file":
        (tmp_path / "hf_access_token").write_text(f"{TOKEN}\n")
        arguments["token_file"] = str(tmp_path / "hf_access_token")
    else:
        # Where `hf auth login` leaves it.
        (tmp_path / "home").mkdir(exist_ok=True)
        (tmp_path / "home/token").write_text(TOKEN)
    assert client("download_wanted", environment, **arguments)["result"]
    assert hub.authorizations() == {f"Bearer {TOKEN}"}


def test_a_token_file_for_from_pretrained_goes_before_the_environment(hub: Hub, client: Any, tmp_path: Path) -> None:
    hub.token = TOKEN
    (tmp_path / "hf_access_token").write_text(TOKEN)
    answer = client("AutoConfig", {"HF_TOKEN": "hf_Another"}, path=REPOSITORY, token_file=str(tmp_path / "hf_access_token"))
    assert answer["result"][:2] == ["BertConfig", REPOSITORY]
    assert hub.authorizations() == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two tokens", b"hf_\xff"], ids=["absent", "empty", "blank", "two", "binary"])
def test_a_token_file_that_holds_no_token(hub: Hub, client: Any, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "hf_access_token"
    if content is not None:
        file.write_bytes(content)
    answer = client("download", repo_id=REPOSITORY, token_file=str(file))
    assert (answer["error"], answer["code"]) == ("UsageError", "usage") and str(file) in answer["message"]
    assert "tokens" not in answer["message"].replace(str(tmp_path), "") and hub.requests == []


def test_a_repository_that_cannot_be_had_is_no_verdict(hub: Hub, client: Any) -> None:
    for call in ("download", "download_wanted"):
        answer = client(call, repo_id="publisher/other")
        assert (answer["error"], answer["code"]) == ("NotCheckedError", "io") and "publisher/other" in answer["message"]
    hub.token = TOKEN
    answer = client("download_wanted", repo_id=REPOSITORY, token="hf_Wrong")
    assert (answer["error"], answer["code"]) == ("NotCheckedError", "io")
    # What a server says does not write on the terminal, and what the caller said in secret is not repeated.
    assert "\x1b" not in answer["message"] and "hf_Wrong" not in answer["message"]
    hub.close()
    for call in ("download", "download_wanted"):
        answer = client(call, repo_id=REPOSITORY)
        assert (answer["error"], answer["code"]) == ("NotCheckedError", "io")


@pytest.mark.parametrize("name", ["no-such-folder/or/repository", "../model", "a\x1b[2J"])
def test_what_is_no_name_of_a_repository(hub: Hub, client: Any, name: str) -> None:
    for call in ("download", "download_wanted"):
        answer = client(call, repo_id=name)
        assert (answer["error"], answer["code"]) == ("UsageError", "usage") and "\x1b" not in answer["message"]
    assert hub.requests == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.txt"])
def test_changed_bytes_are_rejected(hub: Hub, client: Any, name: str) -> None:
    content = bytearray(hub.files[name])
    content[-1] ^= 1
    hub.files[name] = bytes(content)
    answer = client("verify", repo_id=REPOSITORY) if name == "vocab.txt" else client("AutoModel", path=REPOSITORY)
    assert (answer["error"], answer["code"]) == ("ManifestError", "model_differs")
    assert name in answer["message"] and "verified" not in answer["message"]


def test_files_that_the_hub_adds_are_not_read(hub: Hub, client: Any) -> None:
    hub.files["modeling_extra.py"] = b"raise SystemExit('code of the hub was run')"
    hub.files["generation_config.json"] = b'{"max_new_tokens": 7}'
    assert client("AutoModel", path=REPOSITORY)["result"][0] == "BertModel"
    assert client("verify", repo_id=REPOSITORY)["error"] == "ManifestError"


def test_a_file_that_the_hub_leaves_out_is_missed(hub: Hub, client: Any) -> None:
    del hub.files["vocab.txt"]
    answer = client("AutoTokenizer", path=REPOSITORY)
    assert (answer["error"], answer["artifact"]) == ("ManifestError", "vocab.txt")


def test_a_repository_without_a_signature_is_not_loaded(hub: Hub, client: Any) -> None:
    del hub.files["model.sig"]
    answer = client("AutoModel", path=REPOSITORY)
    assert (answer["error"], answer["code"]) == ("NotCheckedError", "signature_not_found")
