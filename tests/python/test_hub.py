"""Models from the hub: tokens arrive, only what is wanted is downloaded, changed bytes are rejected, and no answer is no verdict.

The hub is a small server on this machine. huggingface_hub reads its settings when it is imported, so each client is a process.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import sentry
from safetensors.torch import save_file

REPOSITORY = "publisher/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
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


class Hub:
    """A hub with one repository: the routes that huggingface_hub asks for, and a note of every request."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
        # If set, only who sends it is answered.
        self.token: str | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub._answer(self)

            do_HEAD = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Answer no longer."""
        self._server.shutdown()
        self._server.server_close()

    def downloaded(self) -> set[str]:
        """The files whose bytes were asked for."""
        return {path.split(f"/resolve/{COMMIT}/")[1] for method, path, _ in self.requests if method == "GET" and "/resolve/" in path}

    def authorizations(self) -> set[str | None]:
        """What clients said of themselves."""
        return {authorization for _, _, authorization in self.requests}

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.requests.append((request.command, path, request.headers["Authorization"]))
        if self.token is not None and request.headers["Authorization"] != f"Bearer {self.token}":
            return self._send(request, 401, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "not \x1b[2J for you"})
        model, resolve = f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/{COMMIT}/"
        if path in (model, f"{model}/revision/main", f"{model}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in self.files]
            return self._json(request, {"_id": "1", "id": REPOSITORY, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})
        if path == f"{model}/tree/{COMMIT}":
            entries = [{"type": "file", "path": name, "size": len(content), "oid": etag(content)} for name, content in self.files.items()]
            return self._json(request, entries)
        content = self.files.get(path.removeprefix(resolve)) if path.startswith(resolve) else None
        if content is None:
            return self._send(request, 404, b"{}", {"X-Error-Code": "EntryNotFound" if path.startswith(resolve) else "RepoNotFound"})
        return self._send(request, 200, content, {"ETag": f'"{etag(content)}"', "X-Repo-Commit": COMMIT})

    def _json(self, request: BaseHTTPRequestHandler, document: object) -> None:
        self._send(request, 200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)


def etag(content: bytes) -> str:
    """The name that git gives a file's content, as the hub does for small ones."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


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
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}

    def call(what: str, environment: dict[str, str] | None = None, **arguments: object) -> dict[str, Any]:
        run = subprocess.run(
            [sys.executable, "-c", CLIENT, what, str(public), json.dumps(arguments)],
            env={**kept, **settings, **(environment or {})},
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
