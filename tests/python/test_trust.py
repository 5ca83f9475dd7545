"""Certificates and policies: every way to verify or load obeys them, and several signatures count as a policy says."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import sentry
import sentry.safetensors
import sentry.torch
import sentry.transformers
import torch
from conftest import equal, flip, make_certificates, rejected, tensors
from safetensors.torch import load_file
from transformers import AutoConfig

ALLOWED = '[[rule]]\nname = "ours"\nartifacts = ["model", "acme/*"]\nsigners = ["publisher"]\n'


@pytest.fixture
def world(model: Path, key: sentry.PrivateKey) -> Path:
    """The folder with a signed `model`, its publisher's key, a stranger's, certificates, and a checkpoint in the model."""
    folder = model.parent
    (model / "config.json").write_text('{"model_type": "bert", "hidden_size": 16}')
    torch.save({"weight": torch.ones(3)}, model / "model.pt")
    (folder / "publisher.pub").write_text(key.public_key.pem)
    (folder / "stranger.pub").write_text(sentry.PrivateKey.generate().public_key.pem)
    make_certificates(folder)
    sentry.sign_model(model, key=key, version=3)
    return folder


def policy(world: Path, rules: str = ALLOWED, **options: Any) -> sentry.Policy:
    """A policy of these rules about `publisher`, `stranger` and `release`, who has a certificate."""
    signers = "".join(f'[signer.{name}]\nkey = "{name}.pub"\n' for name in ("publisher", "stranger"))
    certified = '[signer.release]\ncertificate_roots = ["root.pem"]\nidentity = "release@acme.example"\n'
    (world / "policy.toml").write_text(f"policy = 1\n{signers}{certified}{rules}")
    return sentry.Policy(world / "policy.toml", **options)


# Every way to verify or load what lies in `world`.
Way = Callable[[Path, Any], Any]
WAYS: dict[str, Way] = {
    "verify_model": lambda world, trust: sentry.verify_model(world / "model", trust=trust),
    "in memory": lambda world, trust: sentry.verify_model(tensors(), world / "model/model.sig", trust=trust),
    "load_model": lambda world, trust: sentry.load_model(world / "model", trust=trust, framework="numpy", weights=["model.safetensors"]),
    "load_file": lambda world, trust: sentry.safetensors.load_file(world / "model/model.safetensors", trust=trust, root=world / "model"),
    "safe_open": lambda world, trust: sentry.safetensors.safe_open(world / "model/model.safetensors", "pt", trust=trust, root=world / "model"),
    "torch.load": lambda world, trust: sentry.torch.load(world / "model/model.pt", trust=trust, root=world / "model"),
    "from_pretrained": lambda world, trust: sentry.transformers.from_pretrained(AutoConfig, world / "model", trust=trust),
    "verified_folder": lambda world, trust: sentry.verified_folder(world / "model", trust=trust).__enter__(),
}
every_way = pytest.mark.parametrize("way", WAYS)


def ask(way: str, world: Path, rules: str = ALLOWED) -> Any:
    """Verify or load under a policy; tensors in memory have no path, so their name is said."""
    trust = policy(world, rules, artifact="model") if way == "in memory" else policy(world, rules)
    return WAYS[way](world, trust)


@every_way
def test_a_rule_allows(way: str, world: Path) -> None:
    result = ask(way, world)
    verification = result if isinstance(result, sentry.Verification) else getattr(result, "verification", None)
    if verification is not None:
        assert (verification.rule, verification.artifact, verification.version) == ("ours", "model", 3)
        assert len(verification.signers) == 1


PIN = "ab" * 32
REFUSALS = {
    "policy_no_rule": '[[rule]]\nartifacts = ["acme/*"]\nsigners = ["publisher"]\n',
    "policy_version": ALLOWED + "lowest_version = 4\n",
    "policy_payload": ALLOWED + f'payload = ["{PIN}"]\n',
    "policy_root": ALLOWED + f'root = ["{PIN}"]\n',
    "policy_statement": ALLOWED + 'statements = ["dataset"]\n',
    "policy_hash": ALLOWED + 'hashes = ["sha256"]\n',
    "policy_signers": '[[rule]]\nartifacts = ["model"]\nsigners = ["publisher", "stranger"]\n',
}


@every_way
@pytest.mark.parametrize("code", REFUSALS)
def test_a_rule_refuses(way: str, code: str, world: Path) -> None:
    rejected(lambda: ask(way, world, REFUSALS[code]), sentry.PolicyError, code)


@every_way
def test_another_signer_is_refused(way: str, world: Path) -> None:
    stranger = '[[rule]]\nartifacts = ["model"]\nsigners = ["stranger"]\n'
    rejected(lambda: ask(way, world, stranger), sentry.EnvelopeError, "signature_invalid")


@every_way
def test_a_certificate_is_trusted_by_its_name(way: str, world: Path) -> None:
    (world / "model/model.sig").unlink()
    sentry.sign_model(world / "model", key=world / "leaf.key", certificate=world / "leaf.pem", chain=world / "intermediate.pem")
    assert WAYS[way](world, sentry.Certificate(world / "root.pem", identity="release@acme.example"))
    assert WAYS[way](world, sentry.Certificate([world / "root.pem"], any_identity=True))
    somebody = sentry.Certificate(world / "root.pem", identity="release@acme.examples")
    error = rejected(lambda: WAYS[way](world, somebody), sentry.CertificateError, "certificate_identity")
    assert "names release@acme.example" in str(error)
    with pytest.raises(sentry.NotCheckedError) as caught:
        WAYS[way](world, sentry.PublicKey(world / "publisher.pub"))
    assert caught.value.code == "method_mismatch"


def test_roots_are_the_callers_and_the_name_is_said(world: Path) -> None:
    sentry.sign_model(world / "model", key=world / "leaf.key", certificate=world / "leaf.pem", chain=[world / "intermediate.pem", world / "root.pem"])
    (world / "other").mkdir()
    make_certificates(world / "other")
    stranger = sentry.Certificate(world / "other/root.pem", any_identity=True)
    with pytest.raises(sentry.CertificateError):
        sentry.verify_model(world / "model", trust=stranger)
    for options in ({}, {"identity": "a@b.c", "any_identity": True}, {"identity": "*@acme.example*"}):
        with pytest.raises(sentry.UsageError):
            sentry.Certificate(world / "root.pem", **options)
    for file in ("leaf.pem", "leaf.key", "publisher.pub"):
        with pytest.raises(sentry.KeyFileError) as caught:
            sentry.Certificate(world / file, any_identity=True)
        assert caught.value.code == "certificate_file"
    with pytest.raises(sentry.KeyFileError) as caught:
        sentry.sign_model(world / "model", key=sentry.PrivateKey.generate(), certificate=world / "leaf.pem")
    assert caught.value.code == "certificate_other_key"


TWO = '[[rule]]\nname = "two"\nartifacts = ["model"]\nsigners = ["publisher", "release", "stranger"]\nthreshold = 2\n'


def sign_as_release(world: Path, **options: Any) -> Path:
    """A second signature, beside the model."""
    signature = world / "second.sig"
    sentry.sign_model(
        world / "model",
        key=world / "leaf.key",
        certificate=world / "leaf.pem",
        chain=[world / "intermediate.pem"],
        signature=signature,
        **{"ignore": ["model.sig"], **options},
    )
    return signature


def test_two_signers_count_and_one_does_not(world: Path) -> None:
    both = [world / "model/model.sig", sign_as_release(world, version=3)]
    trust = policy(world, TWO)
    result = sentry.verify_model(world / "model", both, trust=trust)
    assert (result.rule, len(result.signers)) == ("two", 2)
    loaded = sentry.load_model(world / "model", trust=trust, signature=both, weights=["model.safetensors"])
    assert equal(loaded, load_file(world / "model/model.safetensors"))
    assert len(loaded.verification.signers) == 2
    for one in (both[:1], both[1:]):
        rejected(lambda given=one: sentry.verify_model(world / "model", given, trust=trust), sentry.PolicyError, "policy_signers")
    shutil.copy(both[0], world / "copy.sig")
    twice = [both[0], world / "copy.sig"]
    rejected(lambda: sentry.verify_model(world / "model", twice, trust=trust), sentry.PolicyError, "policy_signer_twice")
    with pytest.raises(sentry.UsageError) as caught:
        sentry.verify_model(world / "model", both, trust=sentry.PublicKey(world / "publisher.pub"))
    assert caught.value.code == "signature_number"


def test_digests_that_one_signer_alone_signed_do_not_count(world: Path) -> None:
    both = [world / "model/model.sig", sign_as_release(world, version=3, annotate=False)]
    loaded = sentry.load_model(world / "model", trust=policy(world, TWO), signature=both, weights=["model.safetensors"])
    assert loaded.verification.checked_by == {"model.safetensors": "sha256"}


def test_signers_who_disagree_are_refused(world: Path) -> None:
    first = world / "model/model.sig"
    flip(world / "model/model.safetensors")
    other = sign_as_release(world, version=3)
    for order in ([first, other], [other, first]):
        rejected(
            lambda given=order: sentry.verify_model(world / "model", given, trust=policy(world, TWO)), sentry.EnvelopeError, "signatures_disagree"
        )


def test_a_file_that_one_signer_leaves_out_is_not_left_out(world: Path) -> None:
    (world / "model/extra.txt").write_text("x")
    other = sign_as_release(world, version=3, ignore=["model.sig", "extra.txt"])
    both = [world / "model/model.sig", other]
    error = rejected(lambda: sentry.verify_model(world / "model", both, trust=policy(world, TWO)), sentry.ManifestError, "model_differs")
    assert [(difference.kind, difference.file) for difference in error.differences] == [("unsigned_file", "extra.txt")]


def test_the_error_says_which_signature_is_wrong(world: Path) -> None:
    other = sign_as_release(world, version=3)
    flip(other, -40)
    with pytest.raises(sentry.VerificationError, match="^signature 2: "):
        sentry.verify_model(world / "model", [world / "model/model.sig", other], trust=policy(world, TWO))


def test_the_name_is_never_chosen_by_a_file_beside_it(world: Path) -> None:
    strong = '[[rule]]\nname = "strong"\nartifacts = ["model"]\nsigners = ["publisher"]\n'
    weak = '[[rule]]\nname = "weak"\nartifacts = ["*"]\nsigners = ["release"]\n'
    trust = policy(world, strong + weak)
    file = world / "model/model.safetensors"
    sentry.sign_model(file, key=world / "leaf.key", certificate=world / "leaf.pem", chain=[world / "intermediate.pem"])
    for load in (
        lambda: sentry.safetensors.load_file(file, trust=trust),
        lambda: sentry.safetensors.safe_open(file, trust=trust),
        lambda: sentry.torch.load(world / "model/model.pt", trust=trust),
    ):
        with pytest.raises(sentry.UsageError, match="say what the policy is asked about"):
            load()
    assert sentry.safetensors.load_file(file, trust=trust, root=world / "model").verification.rule == "strong"


def test_a_model_in_memory_has_to_be_named(world: Path) -> None:
    with pytest.raises(sentry.UsageError, match="artifact="):
        sentry.verify_model(tensors(), world / "model/model.sig", trust=policy(world))
    assert sentry.verify_model(tensors(), world / "model/model.sig", trust=policy(world, artifact="acme/x")).artifact == "acme/x"


def test_a_snapshot_of_the_hub_has_the_name_of_its_repository(world: Path) -> None:
    snapshot = world / "models--acme--llama/snapshots/1a2b"
    shutil.copytree(world / "model", snapshot)
    assert sentry.verify_model(snapshot, trust=policy(world)).artifact == "acme/llama"


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ("", "policy_syntax"),
        ("colour = 3\n" + ALLOWED, "policy_syntax"),
        (ALLOWED + "threshold = 2\n", "policy_rule"),
        (ALLOWED + "signed_after = 2026-01-01T00:00:00Z\n", "policy_rule"),
        (ALLOWED.replace("publisher", "nobody"), "policy_unknown_signer"),
        (ALLOWED + '[[rule]]\nname = "late"\nartifacts = ["acme/x"]\nsigners = ["publisher"]\n', "policy_shadowed_rule"),
        ('[signer.gone]\nkey = "gone.pub"\n' + ALLOWED, "policy_signer"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(world: Path, rules: str, code: str) -> None:
    with pytest.raises(sentry.PolicyFileError) as caught:
        policy(world, rules)
    assert caught.value.code == code


def test_a_policy_is_read_once(world: Path) -> None:
    trust = policy(world)
    (world / "policy.toml").write_text("policy = 1\n")
    (world / "publisher.pub").write_text("nothing")
    assert sentry.verify_model(world / "model", trust=trust).rule == "ours"
    assert trust.rule_for("acme/llama") == "ours" and "policy.toml" in repr(trust)
    rejected(lambda: trust.rule_for("other"), sentry.PolicyError, "policy_no_rule")


def test_an_authority_that_does_not_answer_leaves_no_signature(world: Path) -> None:
    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(sentry.SigningError) as caught:
            address = f"http://127.0.0.1:{server.server_port}/"
            sentry.sign_model(world / "model", key=world / "leaf.key", signature=world / "new.sig", timestamp=address)
        server.shutdown()
    assert caught.value.code == "timestamp_unavailable"
    assert not (world / "new.sig").exists()
