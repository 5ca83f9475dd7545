"""A hub on this machine. huggingface_hub reads its settings when it is imported, so each client is a process."""

from __future__ import annotations

import hashlib
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

REPOSITORY = "publisher/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub with one repository of models, or of `datasets`: the routes that huggingface_hub asks for, and a note of every request."""

    def __init__(self, folder: Path, repository: str = REPOSITORY, kind: str = "models") -> None:
        self.repository, self.kind = repository, kind
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
        model = f"/api/{self.kind}/{self.repository}"
        resolve = f"/{self.repository}/resolve/{COMMIT}/" if self.kind == "models" else f"/{self.kind}/{self.repository}/resolve/{COMMIT}/"
        if path in (model, f"{model}/revision/main", f"{model}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in self.files]
            return self._json(request, {"_id": "1", "id": self.repository, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings})
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


def client_settings(hub: Hub, home: Path) -> dict[str, str]:
    """The environment of a process whose hub this is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))}
    return {**kept, "HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
