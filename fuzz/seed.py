#!/usr/bin/env python3
"""Puts first inputs into fuzz/corpus: real bundles, statements, keys and files, and the vectors.

python fuzz/seed.py     adds what is missing; an input's name is the SHA-256 of its content, cut
"""

import base64
import hashlib
import json
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VECTORS = ROOT / "vectors"


def keep(target: str, content: bytes, limit: int = 16384) -> None:
    if len(content) <= limit:
        path = ROOT / "fuzz" / "corpus" / target / hashlib.sha256(content).hexdigest()[:16]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def vectors(name: str) -> dict:
    return json.loads((VECTORS / "sentry" / f"{name}.json").read_text(encoding="utf-8"))


def bundles() -> None:
    for path in sorted((VECTORS / "oms").rglob("*")):
        if path.suffix not in (".json", ".sig") or not path.is_file():
            continue
        content = path.read_bytes()
        keep("bundle", content)
        keep("json", content, 4096)
        try:
            payload = base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"])
        except (ValueError, KeyError, TypeError):
            continue
        keep("statement", payload)
        keep("json", payload, 4096)


def certificates() -> None:
    """Chains of the published bundles: the length of the first certificate, then both."""
    for path in sorted((VECTORS / "oms").rglob("*")):
        try:
            material = json.loads(path.read_bytes())["verificationMaterial"]
            chain = [base64.b64decode(one["rawBytes"]) for one in material["x509CertificateChain"]["certificates"]]
        except (ValueError, KeyError, TypeError, OSError):
            continue
        first, second = (chain + [b""])[:2]
        for one, other in ((first, second), (second, first), (first, b""), (first, first), (first[:-1], second)):
            keep("certificate", struct.pack("<H", len(one)) + one + other)


SIGNERS = """[signer.key]
key = "key.pub"
[signer.mail]
certificate_roots = ["root.pem"]
identity = "release@acme.example"
timestamp_roots = ["root.pem"]
[signer.anyone]
certificate_roots = ["root.pem"]
any_identity = true
[signer.ci]
identity = "https://git.example/build.yml"
issuer = "https://issuer.example"
"""


def policies() -> None:
    rules = [
        'artifacts = ["acme/*"]\nsigners = ["key"]',
        'name = "two of three"\nartifacts = ["acme/llama-*", "**/weights"]\nsigners = ["key", "mail", "ci"]\nthreshold = 2',
        'artifacts = ["a"]\nsigners = ["mail"]\nsigned_after = 2026-01-01T00:00:00Z\nlowest_version = 3',
        f'artifacts = ["b"]\nsigners = ["anyone"]\npayload = ["{"ab" * 32}"]\nroot = ["{"cd" * 32}"]\nhashes = ["sha256", "blake3"]',
        'artifacts = ["c"]\nsigners = ["key"]\nstatements = ["dataset"]\nsources = ["web", "books"]\nsignature_algorithms = ["ecdsa-p256-sha256"]',
    ]
    for rule in rules:
        keep("policy", f"policy = 1\n{SIGNERS}[[rule]]\n{rule}\n".encode())
    keep("policy", ("policy = 1\n" + SIGNERS + "".join(f"[[rule]]\n{rule}\n" for rule in rules)).encode())
    keep("policy", b"policy = 1\n")
    keep("policy", b'policy = 2\n[[rule]]\nartifacts = ["a"]\nsigners = []\n')


def statements() -> None:
    for shown in vectors("statements")["valid"]:
        keep("statement", shown["payload"].encode())
    for shown in vectors("statements")["invalid"][::4]:
        keep("statement", shown["payload"].encode(), 4096)


def safetensors(header: object, data: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + data


def files() -> None:
    def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    keep("safetensors", safetensors({}, b""))
    keep("safetensors", safetensors({"__metadata__": {"format": "pt"}}, b""))
    keep("safetensors", safetensors({"a": entry("F32", [2], 0, 8)}, bytes(8)))
    keep("safetensors", safetensors({"b": entry("I64", [], 4, 12), "a": entry("BF16", [2, 1], 0, 4)}, bytes(12)))
    keep("safetensors", safetensors({"x": entry("F4", [4], 0, 2), "empty": entry("U8", [0], 2, 2)}, b"ab"))
    keep("safetensors", safetensors({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"abc"))


def names() -> None:
    texts = ["model.safetensors", "a/b/c.txt", "a:b:0:10", "x:0:1\nx", "weights/é.bin\nweights", "../x", "/x", "C:x", "a//b",
             "model.sig\nmodel.sig", ".git/config\n.git", "a\\b", "x:5:5", "x:18446744073709551615:1"]  # fmt: skip
    for text in texts:
        keep("names", text.encode())


def keys() -> None:
    for path in sorted((ROOT / "crates/trust/tests/keys").rglob("*.pem")):
        content = path.read_bytes()
        keep("private_key" if b"PRIVATE" in content else "public_key", content, 2048)
        lines = content.decode(errors="replace").splitlines()
        if b"PUBLIC KEY" in content:
            body = "".join(line for line in lines if line and not line.startswith("-"))
            keep("public_key", base64.b64decode(body), 2048)
    keep("public_key", (ROOT / "fuzz/keys/p256.pub").read_bytes())
    one, large = b"\x02\x01\x01", b"\x02\x21\x00" + bytes([255]) * 32
    for body in (one + one, large + large, one, one + large, b"\x02\x01\x00" * 2, b"\x02\x02\x00\x01" + one):
        keep("signature", b"\x30" + bytes([len(body)]) + body)


def samples() -> None:
    shown = vectors("records")
    for record in [*shown["valid"][::2], *shown["invalid"]]:
        keep("record", bytes.fromhex(record["record"]), 2048)
    shown = vectors("tables")
    for table in [*shown["small"], *shown["invalid"]]:
        keep("table", bytes.fromhex(table["table"]))


def operations() -> None:
    for seed in range(8):
        noise = hashlib.shake_256(bytes([seed])).digest(96)
        keep("lattice", noise[: 3 * (seed + 1)])
        keep("sha256", noise * (1 + seed * 4))
        for tree in range(4):
            keep("tree", bytes([tree, seed, (1, 0, 2, 3, 64, 65, 33, 5)[seed], seed % 3, 0]) + noise[: 5 * seed])


def main() -> None:
    for make in (bundles, certificates, policies, statements, files, names, keys, samples, operations):
        make()
    for folder in sorted((ROOT / "fuzz/corpus").iterdir()):
        print(f"{folder.name}: {len(list(folder.iterdir()))} inputs")


if __name__ == "__main__":
    main()
