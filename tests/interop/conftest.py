"""Fixtures of the interoperability suite: the two implementations, keys, models, published vectors.

`sentry` is the binary under test (environment variable SENTRY_BIN), `reference` is PyPI
`model-signing`. A test says what it signs with one and what the other makes of it.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import functools
import http.server
import json
import os
import pathlib
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import model_signing
import pytest
import referencing
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = pathlib.Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
PAYLOAD_TYPE = "application/vnd.in-toto+json"

# The name that openssl and the reference know each of our algorithms by.
CURVES = {"p256": "prime256v1", "p384": "secp384r1", "p521": "secp521r1"}

# How openssl encrypts a PKCS#8 key, by the name of the form in these tests.
ENCRYPTIONS = {
    "pkcs8-pbkdf2": ["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256"],
    "pkcs8-sha512": ["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512"],
    "pkcs8-scrypt": ["-scrypt"],
}


def run(command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command without a terminal, so that a question becomes an error and not a hang."""
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True, encoding="utf-8", timeout=120,
        stdin=subprocess.DEVNULL, start_new_session=True, **options,
    )  # fmt: skip


def run_ok(command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command that must succeed."""
    result = run(command, **options)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of strict JSON: Python's own parser lets the last of two equal keys win."""
    assert len({key for key, _ in pairs}) == len(pairs), f"a key is there twice: {pairs}"
    return dict(pairs)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A signature file, taken apart without either implementation."""

    path: pathlib.Path
    document: dict[str, Any]

    @classmethod
    def read(cls, path: pathlib.Path) -> Bundle:
        text = path.read_text(encoding="utf-8")
        return cls(path, json.loads(text, object_pairs_hook=unique_keys))

    def write(self, path: pathlib.Path) -> Bundle:
        path.write_text(json.dumps(self.document), encoding="utf-8")
        return Bundle.read(path)

    def copy(self) -> Bundle:
        return Bundle(self.path, json.loads(json.dumps(self.document)))

    @property
    def envelope(self) -> dict[str, Any]:
        return self.document["dsseEnvelope"]

    @property
    def public_key(self) -> dict[str, Any]:
        return self.document["verificationMaterial"]["publicKey"]

    @property
    def payload(self) -> bytes:
        return base64.b64decode(self.envelope["payload"], validate=True)

    @property
    def signature(self) -> bytes:
        return base64.b64decode(self.envelope["signatures"][0]["sig"], validate=True)

    @property
    def statement(self) -> dict[str, Any]:
        return json.loads(self.payload, object_pairs_hook=unique_keys)

    @property
    def serialization(self) -> dict[str, Any]:
        return self.statement["predicate"]["serialization"]

    @property
    def resources(self) -> list[dict[str, Any]]:
        return self.statement["predicate"]["resources"]

    @property
    def names(self) -> list[str]:
        return [resource["name"] for resource in self.resources]


@dataclasses.dataclass(frozen=True)
class KeyPair:
    """A private key as one tool wrote it, and its public key."""

    algorithm: str
    private: pathlib.Path
    public: pathlib.Path
    password: str | None = None

    def load_private(self) -> Any:
        password = self.password.encode() if self.password else None
        return serialization.load_pem_private_key(self.private.read_bytes(), password)

    def load_public(self) -> Any:
        return serialization.load_pem_public_key(self.public.read_bytes())


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What `sentry verify --json` answered."""

    exit: int
    report: dict[str, Any]
    stderr: str

    @property
    def code(self) -> str | None:
        return self.report.get("error", {}).get("code")

    @property
    def differences(self) -> set[tuple[str, str]]:
        listed = self.report.get("error", {}).get("differences") or []
        return {(difference["kind"], difference["file"]) for difference in listed}


@dataclasses.dataclass(frozen=True)
class Sentry:
    """The binary under test."""

    binary: pathlib.Path

    def run(self, *arguments: Any, password: str | None = None, **options: Any):
        """Runs `sentry`; nothing of the caller's own set-up may decide the outcome."""
        own = ("SENTRY_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        environment = {k: v for k, v in os.environ.items() if not k.upper().startswith(own)}
        if password is not None:
            environment["SENTRY_KEY_PASSWORD"] = password
        return run([self.binary, *arguments], env=environment, **options)

    def sign(
        self,
        model: pathlib.Path,
        key: KeyPair,
        *options: Any,
        signature: pathlib.Path | None = None,
        **run_options: Any,
    ) -> tuple[Bundle, str]:
        """Signs; returns the signature and what was said on stderr."""
        where = ["--signature", signature] if signature else []
        arguments = ["sign", model, "--key", key.private, *where, *options]
        result = self.run(*arguments, password=key.password, **run_options)
        assert result.returncode == 0, f"{arguments}: {result.stdout}{result.stderr}"
        return Bundle.read(signature or default_signature(model)), result.stderr

    def verify(
        self,
        model: pathlib.Path,
        public: pathlib.Path,
        *options: Any,
        signature: pathlib.Path | None = None,
        **run_options: Any,
    ) -> Verdict:
        """Verifies; stdout must be one JSON document that agrees with the exit code."""
        where = ["--signature", signature] if signature else []
        arguments = ["verify", model, "--key", public, *where, *options, "--json"]
        result = self.run(*arguments, **run_options)
        assert result.stdout, f"{arguments} said nothing on stdout: {result.stderr}"
        verdict = Verdict(result.returncode, json.loads(result.stdout), result.stderr)
        statuses = {0: "verified", 1: "rejected", 2: "not checked"}
        assert verdict.report["status"] == statuses.get(verdict.exit), verdict
        return verdict


def default_signature(model: pathlib.Path) -> pathlib.Path:
    """Where `sentry sign` writes if it is not told."""
    return model / "model.sig" if model.is_dir() else model.with_name(f"{model.name}.sig")


class Reference:
    """PyPI model-signing: its API in this process (its start costs time), or its command line."""

    def hashing(
        self,
        algorithm: str = "sha256",
        *,
        shard_size: int | None = None,
        ignore: list[Any] | None = None,
        ignore_git_paths: bool = True,
        allow_symlinks: bool = False,
    ) -> model_signing.hashing.Config:
        """A hashing configuration; `algorithm` is its own name: sha256, blake2 or blake3."""
        config = model_signing.hashing.Config()
        if shard_size is None:
            config.use_file_serialization(hashing_algorithm=algorithm)
        else:
            config.use_shard_serialization(hashing_algorithm=algorithm, shard_size=shard_size)
        config.set_ignored_paths(paths=ignore or [], ignore_git_paths=ignore_git_paths)
        return config.set_allow_symlinks(allow_symlinks)

    def sign(self, model, key: KeyPair, signature, hashing=None) -> Bundle:
        signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=key.private)
        signer.set_hashing_config(hashing or self.hashing(ignore=["model.sig"]))
        signer.sign(model, signature)
        return Bundle.read(signature)

    def verify(self, model, key: KeyPair, signature, hashing=None) -> None:
        """Raises if the reference rejects. Without `hashing` it guesses from the signature."""
        verifier = model_signing.verifying.Config()
        verifier.use_elliptic_key_verifier(public_key=key.public)
        if hashing is not None:
            verifier.set_hashing_config(hashing)
        verifier.verify(model, signature)

    def run(self, *arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, "-m", "model_signing", *arguments], **options)

    def run_verify(self, model, key: KeyPair, signature, *options: Any, **run_options: Any):
        where = ["--signature", signature, "--public_key", key.public]
        return self.run("verify", "key", model, *where, *options, **run_options)


@pytest.fixture(scope="session")
def sentry() -> Sentry:
    """The binary under test. That it is missing is an error: a skipped suite proves nothing."""
    binary = ROOT / os.environ.get("SENTRY_BIN", "target/release/sentry")
    if not os.access(binary, os.X_OK):
        raise FileNotFoundError(f"{binary} is not there; build it or set SENTRY_BIN")
    return Sentry(binary)


@pytest.fixture(scope="session")
def reference() -> Reference:
    return Reference()


@pytest.fixture(scope="session")
def vectors() -> pathlib.Path:
    return ROOT / "vectors" / "oms"


@pytest.fixture(scope="session")
def read_bundle() -> Callable[[pathlib.Path], Bundle]:
    return Bundle.read


@pytest.fixture(scope="session")
def openssl() -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *arguments: run_ok(["openssl", *arguments])


@pytest.fixture(scope="session")
def pae() -> Callable[[bytes], bytes]:
    """DSSE's pre-authentication encoding, from its specification: what a signature is over."""
    kind = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE}"
    return lambda payload: f"{kind} {len(payload)} ".encode() + payload


@pytest.fixture(scope="session")
def keys(request, tmp_path_factory) -> Callable[[str, str], KeyPair]:
    """Makes a key of an algorithm in a form, once a session.

    Forms: `pkcs8` (openssl genpkey), `sec1` (openssl ecparam -genkey, with its EC PARAMETERS
    block), those of ENCRYPTIONS, `sentry` and `sentry-encrypted` (sentry keygen).
    """
    folder = tmp_path_factory.mktemp("keys")

    @functools.cache
    def make(form: str, algorithm: str) -> KeyPair:
        private = folder / f"{form}-{algorithm}.key"
        public = private.with_suffix(".pub")
        if form.startswith("sentry"):
            return make_ours(form, algorithm, private)
        secret = write_openssl_key(form, algorithm, private)
        passin = ["-passin", f"pass:{secret}"] if secret else []
        run_ok(["openssl", "pkey", "-in", private, *passin, "-pubout", "-out", public])
        return KeyPair(algorithm, private, public, secret)

    def make_ours(form: str, algorithm: str, private: pathlib.Path) -> KeyPair:
        secret = PASSWORD if form == "sentry-encrypted" else None
        options = ["--out", private, "--algorithm", algorithm, *(["--encrypt"] if secret else [])]
        result = request.getfixturevalue("sentry").run("keygen", *options, password=secret)
        assert result.returncode == 0, result.stderr
        return KeyPair(algorithm, private, private.with_suffix(".pub"), secret)

    return make


def write_openssl_key(form: str, algorithm: str, private: pathlib.Path) -> str | None:
    """Writes a private key as openssl does; returns its password."""
    if form == "sec1":
        run_ok(["openssl", "ecparam", "-name", CURVES[algorithm], "-genkey", "-out", private])
        return None
    if algorithm == "ed25519":
        kind = ["-algorithm", "ED25519"]
    else:
        kind = ["-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{CURVES[algorithm]}"]
    if form == "pkcs8":
        run_ok(["openssl", "genpkey", *kind, "-out", private])
        return None
    plain = private.with_suffix(".plain")
    run_ok(["openssl", "genpkey", *kind, "-out", plain])
    encrypt = [*ENCRYPTIONS[form], "-passout", f"pass:{PASSWORD}", "-out", private]
    run_ok(["openssl", "pkcs8", "-topk8", "-in", plain, *encrypt])
    return PASSWORD


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    """A safetensors file by its specification: u64 length, JSON header, the tensors' bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "made by": "hand"}}
    body = b""
    for name, (dtype, shape, content) in tensors.items():
        span = [len(body), len(body) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": span}
        body += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def pattern(length: int) -> bytes:
    """Bytes that repeat with period 251, so that swapped blocks show."""
    return bytes(i % 251 for i in range(length))


def standard_files() -> dict[str, bytes]:
    """A model with everything that two implementations could see differently.

    `a/b`, `a.txt`, `a-b` and `a0` sort differently by whole name and by component; only git's
    files at the top are left out; a colon also separates the parts of a shard's name, and a
    shard of the one-letter name looks like a path with a drive.
    """
    weights = {
        "embed.weight": ("F32", [3, 4], pattern(48)),
        "scale": ("BF16", [], b"\x80\x3f"),
        "head.weight": ("F16", [5, 7], pattern(70)),
    }
    return {
        "model.safetensors": safetensors(weights),
        "nested/deep/part.safetensors": safetensors({"w": ("I64", [313], pattern(2504))}),
        "config.json": b'{"hidden_size": 4}\n',
        "a/b": b"by component first",
        "a.txt": b"by whole name first",
        "a-b": pattern(1000),
        "a0": pattern(1001),
        "c": b"one letter",
        "empty.bin": b"",
        "step:100": b"a colon",
        "epoch:1:2": b"two colons",
        "with space.txt": b"space",
        'quote".txt': b"quote",
        "caf\u00e9.txt": b"composed",
        "\U0001f600.bin": b"above the basic plane",
        "sub/.git/kept": b"not at the top, so signed",
        ".git/config": b"[core]\n",
        ".gitattributes": b"* -text\n",
        ".gitignore": b"*.log\n",
        ".github/workflows/ci.yml": b"on: push\n",
    }


@pytest.fixture
def write_tree() -> Callable[[pathlib.Path, dict[str, bytes]], pathlib.Path]:
    def write(folder: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder

    return write


@pytest.fixture
def model(tmp_path, write_tree) -> pathlib.Path:
    """A directory with `standard_files`, fresh for each test."""
    return write_tree(tmp_path / "model", standard_files())


@pytest.fixture
def full_model(model) -> pathlib.Path:
    """The same without the empty file, which shards cannot cover."""
    (model / "empty.bin").unlink()
    return model


@pytest.fixture
def signed_names() -> set[str]:
    """The names that a signature of `model` covers."""
    git = (".git/", ".gitattributes", ".gitignore", ".github/")
    return {name for name in standard_files() if not name.startswith(git)}


@pytest.fixture
def one_file(tmp_path) -> pathlib.Path:
    """A model that is one file of two and a half thousand bytes."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors({"w": ("U8", [2500], pattern(2500))}))
    return path


@pytest.fixture
def outside(tmp_path) -> pathlib.Path:
    """A place for a signature outside of the model."""
    folder = tmp_path / "signatures"
    folder.mkdir()
    return folder / "model.sig"


@pytest.fixture(scope="session")
def verify_with(sentry) -> Callable[..., Verdict]:
    """`sentry verify` with whatever trust the options name; one JSON document comes back."""

    def verify_with(model: pathlib.Path, *options: Any) -> Verdict:
        result = sentry.run("verify", model, *options, "--json")
        assert result.stdout, f"{options}: nothing on stdout: {result.stderr}"
        verdict = Verdict(result.returncode, json.loads(result.stdout), result.stderr)
        statuses = {0: "verified", 1: "rejected", 2: "not checked"}
        assert verdict.report["status"] == statuses[verdict.exit], verdict
        return verdict

    return verify_with


# The schemas of the specification.


@pytest.fixture(scope="session")
def validate(vectors):
    """Validates a document against one of the schemas; what these refer to comes from disk."""
    documents = [json.loads(path.read_text()) for path in vectors.glob("spec/*.schema.json")]
    resources = [
        (schema["$id"], referencing.Resource.from_contents(schema)) for schema in documents
    ]
    registry = referencing.Registry().with_resources(resources)

    def validate(document, name):
        schema = {"$ref": f"https://model_signing/{name}/v1.0/schema"}
        jsonschema.Draft202012Validator(schema, registry=registry).validate(document)

    return validate


@pytest.fixture(scope="session")
def validate_bundle(validate):
    def validate_bundle(bundle):
        validate(bundle.document, "bundle")
        validate(bundle.envelope, "envelope")
        validate(bundle.statement, "statement")
        validate(bundle.statement["predicate"], "predicate")

    return validate_bundle


# Certificates.

DAY = datetime.timedelta(days=1)
KINDS_OF_CURVES = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}
HASHES_OF_KINDS = {"p384": hashes.SHA384(), "p521": hashes.SHA512(), "ed25519": None}
ALTERNATIVE_NAMES = {"email": x509.RFC822Name, "uri": x509.UniformResourceIdentifier, "dns": x509.DNSName}


@dataclasses.dataclass(frozen=True)
class Certified:
    """A key, its certificate, and the authority that issued it: nobody above a root."""

    key: KeyPair
    path: pathlib.Path
    issuer: Certified | None

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.path.read_bytes())

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def above(self) -> list[Certified]:
        """The authorities above, the nearest first and the root last."""
        return [self.issuer, *self.issuer.above] if self.issuer else []

    @property
    def root(self) -> pathlib.Path:
        return self.above[-1].path

    @property
    def chain(self) -> list[pathlib.Path]:
        """The authorities between this and the root."""
        return [authority.path for authority in self.above[:-1]]

    @property
    def sign_options(self) -> list[Any]:
        """How `sentry sign` is told of this certificate."""
        options = ["--certificate", self.path]
        for path in self.chain:
            options += ["--chain", path]
        return options


class Certifier:
    """Makes certificates with `cryptography`. Whatever is not said is as a verifier wants it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.made = 0

    def new_path(self, suffix: str) -> pathlib.Path:
        self.made += 1
        return self.folder / f"{self.made}.{suffix}"

    def new_key(self, kind: str) -> KeyPair:
        if kind.startswith("rsa"):
            key = rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))
        elif kind == "ed25519":
            key = ed25519.Ed25519PrivateKey.generate()
        else:
            key = ec.generate_private_key(KINDS_OF_CURVES[kind]())
        private, public = self.new_path("key"), self.new_path("pub")
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(pem, spki))
        return KeyPair(kind, private, public)

    def authority(
        self, issuer: Certified | None = None, kind: str = "p256", *, path_length=None, **options
    ) -> Certified:
        """An authority: a root, or one below `issuer`."""
        usage = options.pop("usage", ["key_cert_sign"])
        options.setdefault("life", (-30 * DAY, 30 * DAY))
        options.setdefault("subject", f"Authority {self.made}")
        constraints = x509.BasicConstraints(ca=True, path_length=path_length)
        return self.issue(issuer, self.new_key(kind), constraints, usage=usage, **options)

    def signer(self, issuer: Certified, kind: str = "p256", *, key=None, **options) -> Certified:
        """A publisher: `names` are pairs of `email`, `uri` or `dns`, and the name."""
        options.setdefault("names", [("email", "release@acme.example")])
        options.setdefault("purposes", [ExtendedKeyUsageOID.CODE_SIGNING])
        options.setdefault("subject", "Acme Release")
        constraints = x509.BasicConstraints(ca=options.pop("ca", False), path_length=None)
        return self.issue(issuer, key or self.new_key(kind), constraints, **options)

    def timestamper(self, issuer: Certified, kind: str = "p256", **options) -> Certified:
        """A timestamp authority's signer (RFC 3161, section 2.3)."""
        options.setdefault("purposes", [ExtendedKeyUsageOID.TIME_STAMPING])
        options.setdefault("purposes_critical", True)
        options.setdefault("life", (-20 * DAY, 20 * DAY))
        return self.signer(issuer, kind, names=[], subject="Time", **options)

    def issue(
        self,
        issuer: Certified | None,
        key: KeyPair,
        constraints: x509.BasicConstraints,
        *,
        subject: str,
        usage=("digital_signature",),
        purposes=(),
        purposes_critical: bool = False,
        names=(),
        life=(-10 * DAY, 10 * DAY),
        extensions=(),
    ) -> Certified:
        """`life` is two times, or two distances from now."""
        now = datetime.datetime.now(datetime.UTC)
        begin, end = (now + time if isinstance(time, datetime.timedelta) else time for time in life)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.load_public())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(constraints, critical=True)
        )
        if usage:
            every = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment"]
            every += ["key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
            usages = x509.KeyUsage(**{name: name in usage for name in every})
            builder = builder.add_extension(usages, critical=True)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), purposes_critical)
        if names:
            alternative = [ALTERNATIVE_NAMES[kind](name) for kind, name in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        signer = issuer.key if issuer else key
        hash = HASHES_OF_KINDS.get(signer.algorithm, hashes.SHA256())
        certificate = builder.sign(signer.load_private(), hash)
        path = self.new_path("pem")
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return Certified(key, path, issuer)


@pytest.fixture(scope="session")
def certifier(tmp_path_factory) -> Certifier:
    return Certifier(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def publisher(certifier) -> Certified:
    """A publisher with a certificate, an authority above and a root above that."""
    return certifier.signer(certifier.authority(certifier.authority(kind="p384")))


# Timestamps.

TSA_CONFIGURATION = """
[tsa]
default_tsa = authority
[authority]
serial = {serial}
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = {digests}
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class TimestampServer:
    """A timestamp authority on loopback that answers with `openssl ts -reply`.

    A test sets `answer` to something else to make it misbehave: it takes a query and returns the
    body of the answer, a status with a body, or None to close the connection without a word.
    """

    def __init__(self, folder: pathlib.Path, signer: Certified) -> None:
        self.folder = folder
        self.signer = signer
        self.digests = "sha256"
        self.answer = self.reply
        self.queries: list[bytes] = []
        self.types: list[str | None] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                query = self.rfile.read(int(self.headers["Content-Length"]))
                server.queries.append(query)
                server.types.append(self.headers["Content-Type"])
                answer = server.answer(query)
                if answer is None:
                    self.close_connection = True
                    return
                status, body = answer if isinstance(answer, tuple) else (200, answer)
                self.send_response(status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/"

    @property
    def root(self) -> pathlib.Path:
        return self.signer.root

    def reply(self, query: bytes, signer: Certified | None = None) -> bytes:
        """What `openssl ts -reply` answers."""
        signer = signer or self.signer
        configuration, asked, answered = (self.folder / f"tsa.{end}" for end in ("cnf", "tsq", "tsr"))
        (self.folder / "serial").write_text("01\n")
        text = TSA_CONFIGURATION.format(serial=self.folder / "serial", digests=self.digests)
        configuration.write_text(text)
        asked.write_bytes(query)
        chain = self.folder / "chain.pem"
        chain.write_bytes(b"".join(authority.path.read_bytes() for authority in signer.above))
        key = ["-signer", signer.path, "-inkey", signer.key.private, "-chain", chain]
        files = ["-queryfile", asked, "-out", answered, "-config", configuration]
        run_ok(["openssl", "ts", "-reply", *key, *files])
        return answered.read_bytes()


@pytest.fixture
def tsa(tmp_path, certifier) -> Iterator[TimestampServer]:
    """A timestamp authority with a root of its own."""
    folder = tmp_path / "tsa"
    folder.mkdir()
    server = TimestampServer(folder, certifier.timestamper(certifier.authority()))
    yield server
    server.close()
