"""Policies, and the signatures of several signers, in the form in which a person would write them."""

import json
from pathlib import Path
from typing import Any

from . import oms
from .case import Attempt
from .keys import Key, key


class Raw(str):
    """TOML as it is, such as a time."""


def fields(table: dict) -> str:
    """The lines of one table. Strings, numbers and lists are written as in JSON, which TOML reads alike."""
    return "".join(f"{name} = {value if isinstance(value, Raw) else json.dumps(value)}\n" for name, value in table.items())


def text(signers: dict[str, dict], rules: list[dict], head: str = "policy = 1\n") -> str:
    """A whole policy."""
    made = [f'[signer."{name}"]\n{fields(signer)}' for name, signer in signers.items()]
    return "\n".join([head, *made, *(f"[[rule]]\n{fields(rule)}" for rule in rules)])


def keyed(world: Any, *names: str, kind: str = "p256") -> dict[str, dict]:
    """Signers with a key each, whose files lie beside the policy."""
    folder = world.root / "keys"
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.pub").write_bytes(key(kind, name).public_pem())
    return {name: {"key": f"keys/{name}.pub"} for name in names}


def rule(*signers: str, artifacts: tuple[str, ...] = ("acme/model",), **others: Any) -> dict:
    """A rule about the artifact of the fixtures, by these signers."""
    return {"artifacts": list(artifacts), "signers": list(signers), **others}


def write(world: Any, signers: dict[str, dict], *rules: dict, **options: str) -> Path:
    """Writes a policy beside the model."""
    path = world.root / "policy.toml"
    path.write_text(text(signers, list(rules), **options), encoding="utf-8")
    return path


def signed(world: Any, by: str | Key, statement: dict | None = None, file: str | None = None) -> Path:
    """A signature of the honest model, or of what the statement says, outside of the model."""
    signer = key("p256", by) if isinstance(by, str) else by
    path = world.root / f"{file or by}.sig"
    path.write_text(json.dumps(oms.bundle(oms.encode(statement or world.statement()), signer)))
    return path


def under(
    world: Any, policy: Path, *signatures: Path, artifact: str | None = "acme/model", extra: tuple[str, ...] = (), **options: Any
) -> Attempt:
    """Verifies the model under a policy, with these signatures or the one that lies in it."""
    if signatures:
        world.signature = signatures[0]
    named = ["--artifact", artifact] if artifact is not None else []
    given = [word for path in signatures for word in ("--signature", str(path))]
    return Attempt(["verify", str(world.model), "--policy", str(policy), *named, *given, *extra, "--json"], **options)


def alone(world: Any, **conditions: Any) -> Path:
    """A policy of one rule, with one signer: the publisher, who signed what is in the model."""
    world.public_key()
    return write(world, {"publisher": {"key": "sentry.pub"}}, rule("publisher", **conditions))
