"""Policies: every way to verify or load obeys them; who may sign, how many must, and what they must have said.

What a policy refuses is refused before a byte of the model is read. What cannot have been meant is no policy.
"""

from __future__ import annotations

import base64
import copy
import functools
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import sentry
import torch
import transformers
from conftest import ROOT, Watch, different, edit_bundle, equal, flip, make_certificates, payload_of, rejected, seal
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

FILE = "bert.safetensors"
SNAPSHOT = "hub/models--acme--bert/snapshots/0123456789abcdef0123456789abcdef01234567"
ARTIFACTS = ["bert", FILE, "acme/*"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT, not to be changed: as a folder, as a snapshot in the hub's cache, as one file and as tensors. Each is signed
    by three: `publisher` and `second` have keys, `release` has a certificate. Here are their keys too, and a `stranger`'s.
    """
    transformers.logging.disable_progress_bar()
    world = tmp_path_factory.mktemp("world")
    torch.manual_seed(11)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 16}
    module = BertModel(BertConfig(vocab_size=24, **sizes)).eval()
    module.save_pretrained(world / "bert")
    torch.save(module.state_dict(), world / "bert/checkpoint.pt")
    shutil.copy(world / "bert/model.safetensors", world / FILE)
    make_certificates(world)
    for name, algorithm in (("publisher", "p256"), ("second", "ed25519"), ("stranger", "p256")):
        new = sentry.PrivateKey.generate(algorithm)
        new.write(world / f"{name}.key")
        (world / f"{name}.pub").write_text(new.public_key.pem)
    for signer in ("publisher", "second", "release"):
        sign(world, "bert", signer, world / "bert", version=3, **({} if signer == "publisher" else {"ignore": ["model.sig"]}))
        sign(world, FILE, signer, world / FILE, version=3)
        sign(world, "tensors", signer, module, version=3)
    repository = (world / SNAPSHOT).parents[1]
    for folder in (repository / "blobs", repository / "refs", world / SNAPSHOT):
        folder.mkdir(parents=True)
    (repository / "refs/main").write_text((world / SNAPSHOT).name)
    for number, file in enumerate((world / "bert").iterdir()):
        shutil.copy(file, repository / f"blobs/{number:040x}")
        (world / SNAPSHOT / file.name).symlink_to(f"../../blobs/{number:040x}")
    return world


def with_what(world: Path, signer: str) -> dict[str, Any]:
    """The key of a signer, and its certificate."""
    if signer == "release":
        return {"key": world / "leaf.key", "certificate": world / "leaf.pem", "chain": world / "intermediate.pem"}
    return {"key": world / f"{signer}.key"}


def signed(world: Path, what: str, signer: str) -> Path:
    """Where a signature lies: the publisher's at its default place, those of others beside the model."""
    if signer == "publisher" and what == "bert":
        return world / "bert/model.sig"
    return world / (f"{what}.sig" if signer == "publisher" else f"{what}.{signer}.sig")


def sign(world: Path, what: str, signer: str, model: Any, **options: Any) -> Path:
    """Sign something as one of the signers."""
    signature = signed(world, what, signer)
    sentry.sign_model(model, signature=signature, **with_what(world, signer), **options)
    return signature


@functools.cache
def module(world: Path) -> BertModel:
    """The model in memory."""
    loaded: BertModel = BertModel.from_pretrained(world / "bert")
    return loaded


def signer_tables(world: Path) -> dict[str, str]:
    """What a policy says of each signer. `timed` is the publisher, and the time of its signatures is looked at."""
    keys = {name: f'[signer.{name}]\nkey = "{world}/{name}.pub"\n' for name in ("publisher", "second", "stranger")}
    certified = f'[signer.release]\ncertificate_roots = ["{world}/root.pem"]\nidentity = "release@acme.example"\n'
    timed = f'[signer.timed]\nkey = "{world}/publisher.pub"\ntimestamp_roots = ["{world}/root.pem"]\n'
    return {**keys, "release": certified, "timed": timed}


def rule(*signers: str, **conditions: Any) -> dict[str, Any]:
    """A rule about everything in the world, if it does not say otherwise. Conditions are written as JSON, which TOML reads."""
    return {"name": "ours", "artifacts": ARTIFACTS, "signers": list(signers or ("publisher",)), **conditions}


class Written(str):
    """A condition that is written as it stands."""


def policy(world: Path, folder: Path, *rules: dict[str, Any], artifact: str | None = None) -> sentry.Policy:
    """A policy of these rules, and of the signers that they name."""
    tables = signer_tables(world)
    text = "policy = 1\n" + "".join(tables[name] for name in sorted({name for each in rules for name in each["signers"]}))
    for each in rules:
        lines = (f"{key} = {value if isinstance(value, Written) else json.dumps(value)}\n" for key, value in each.items())
        text += "[[rule]]\n" + "".join(lines)
    (folder / "policy.toml").write_text(text)
    return sentry.Policy(folder / "policy.toml", artifact=artifact)


@dataclass(frozen=True)
class Way:
    """One way to verify or load.

    `what` is signed, `artifact` is what a policy is asked about, and `call` gets the world, the trust and the signatures. What it
    returns is a `Verification`, or has one, or is the content that was loaded.
    """

    what: str
    artifact: str
    call: Callable[[Path, Any, Any], Any]
    in_memory: bool = False

    @property
    def kind(self) -> str:
        """What the statement is about."""
        return "tensors" if self.what == "tensors" else "files"


def in_folder(folder: str, artifact: str) -> dict[str, Way]:
    """The ways of a folder, by their names."""

    def inside(world: Path, trust: Any, given: Any) -> dict[str, bytes]:
        with sentry.verified_folder(world / folder, trust=trust, signature=given) as copies:
            return {file.name: file.read_bytes() for file in copies.iterdir()}

    def opened(world: Path, trust: Any, given: Any) -> dict[str, torch.Tensor]:
        with sentry.safetensors.safe_open(world / folder / "model.safetensors", trust=trust, signature=given, root=world / folder) as file:
            return {name: file.get_tensor(name) for name in file.keys()}

    calls: dict[str, Callable[[Path, Any, Any], Any]] = {
        "verify_model": lambda world, trust, given: sentry.verify_model(world / folder, given, trust=trust),
        "load_model": lambda world, trust, given: sentry.load_model(world / folder, trust=trust, signature=given),
        "load_file": lambda world, trust, given: sentry.safetensors.load_file(
            world / folder / "model.safetensors", trust=trust, signature=given, root=world / folder
        ),
        "safe_open": opened,
        "torch.load": lambda world, trust, given: sentry.torch.load(
            world / folder / "checkpoint.pt", trust=trust, signature=given, root=world / folder
        ),
        "from_pretrained": lambda world, trust, given: sentry.transformers.from_pretrained(
            BertModel, world / folder, trust=trust, signature=given
        ),
        "verified_folder": inside,
    }
    return {f"{name} {artifact}": Way("bert", artifact, call) for name, call in calls.items()}


def default(given: Any, path: Path) -> Any:
    """A signature where one has to be named."""
    return path if given is None else given


def opened_alone(world: Path, trust: Any, given: Any) -> dict[str, torch.Tensor]:
    """The tensors of the one file, one by one."""
    with sentry.safetensors.safe_open(world / FILE, trust=trust, signature=default(given, signed(world, FILE, "publisher"))) as file:
        return file.get_tensors()


WAYS = {
    **in_folder("bert", "bert"),
    **in_folder(SNAPSHOT, "acme/bert"),
    "verify_model file": Way(FILE, FILE, lambda world, trust, given: sentry.verify_model(world / FILE, given, trust=trust)),
    "load_model file": Way(FILE, FILE, lambda world, trust, given: sentry.load_model(world / FILE, trust=trust, signature=given)),
    "load_file file": Way(
        FILE,
        FILE,
        lambda world, trust, given: sentry.safetensors.load_file(
            world / FILE, trust=trust, signature=default(given, signed(world, FILE, "publisher"))
        ),
    ),
    "safe_open file": Way(FILE, FILE, opened_alone),
    "verify_model module": Way(
        "bert",
        "acme/bert",
        lambda world, trust, given: sentry.verify_model(module(world), default(given, signed(world, "bert", "publisher")), trust=trust),
        in_memory=True,
    ),
    "verify_model state dict": Way(
        "bert",
        "acme/bert",
        lambda world, trust, given: sentry.verify_model(module(world).state_dict(), default(given, signed(world, "bert", "publisher")), trust=trust),
        in_memory=True,
    ),
    "verify_model tensors": Way(
        "tensors",
        "acme/bert",
        lambda world, trust, given: sentry.verify_model(module(world), default(given, signed(world, "tensors", "publisher")), trust=trust),
        in_memory=True,
    ),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


def ask(way: Way, world: Path, folder: Path, *rules: dict[str, Any], by: tuple[str, ...] = ()) -> Any:
    """Verify or load under a policy, with the signatures of these signers, or the one at its default place."""
    trust = policy(world, folder, *rules, artifact=way.artifact if way.in_memory else None)
    return call(way, world, trust, by)


def call(way: Way, world: Path, trust: Any, by: tuple[str, ...]) -> Any:
    """Verify or load, with the signatures of these signers."""
    given = [signed(world, way.what, signer) for signer in by]
    return way.call(world, trust, given[0] if len(given) == 1 else given or None)


def verification_of(result: Any) -> sentry.Verification | None:
    """What was verified, if it is said."""
    return result if isinstance(result, sentry.Verification) else getattr(result, "verification", None)


def is_right(result: Any, world: Path) -> bool:
    """Whether what was loaded is the model."""
    if isinstance(result, sentry.Verification):
        return result.tensors == len(module(world).state_dict())
    if isinstance(result, torch.nn.Module):
        result = result.state_dict()
    if "config.json" in result:
        return result == {file.name: file.read_bytes() for file in (world / "bert").iterdir() if file.name != "model.sig"}
    return equal(dict(result), load_file(world / FILE))


@pytest.fixture
def reads(world: Path, watch: Callable[[Path], Watch]) -> Iterator[Callable[[], set[str]]]:
    """Tells which files of the models were opened."""
    # It is loaded once, and not by the call that is watched.
    module(world)
    watches = [watch(folder) for folder in (world, world / "bert", (world / SNAPSHOT).parents[1] / "blobs")]
    names = {link.readlink().name: link.name for link in (world / SNAPSHOT).iterdir()}
    yield lambda: {names.get(name, name) for each in watches for name in each.opened()}


def memory_files() -> int:
    """How many copies of files in memory this process has."""
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            count += "memfd:sentry" in os.readlink(f"/proc/self/fd/{descriptor}")
        except FileNotFoundError:
            continue
    return count


# A rule decides, and every way obeys.


@every_way
def test_a_rule_that_allows_lets_everything_through(way: Way, world: Path, tmp_path: Path) -> None:
    result = ask(way, world, tmp_path, rule())
    assert is_right(result, world)
    verification = verification_of(result)
    if verification is not None:
        assert (verification.rule, verification.artifact, verification.version) == ("ours", way.artifact, 3)
        assert verification.fingerprint == sentry.PublicKey(world / "publisher.pub").fingerprint
        assert verification.signers == [verification.signer] and verification.timestamp is None


@every_way
def test_every_condition_can_be_met(way: Way, world: Path, tmp_path: Path) -> None:
    bundle = json.loads(signed(world, way.what, "publisher").read_text())
    payload = bundle["dsseEnvelope"]["payload"]
    pins = {"payload": [sha256_of(payload)], "root": [payload_of(bundle)["subject"][0]["digest"]["sha256"]]}
    allowed = {"statements": [way.kind], "hashes": ["sha256", "blake3"], "signature_algorithms": ["ecdsa-p256-sha256"]}
    assert is_right(ask(way, world, tmp_path, rule(**pins, **allowed)), world)
    assert is_right(ask(way, world, tmp_path, rule(lowest_version=3, **allowed)), world)


def sha256_of(payload: str) -> str:
    """What pins a payload, by its base64."""
    return hashlib.sha256(base64.b64decode(payload)).hexdigest()


ANOTHER = "ab" * 32
LATER = Written("2026-01-01T00:00:00Z")


@dataclass(frozen=True)
class Refusal:
    """A rule by which the model of the world is refused, with which signature, and what the message has to say."""

    code: str
    rule: Callable[[Way], dict[str, Any]]
    says: tuple[str, ...]
    by: tuple[str, ...] = ()


REFUSALS = {
    "no rule": Refusal("policy_no_rule", lambda _: rule(artifacts=["other/*", "ber", "BERT", "acme/bert/*"]), ("no rule for",)),
    "others may sign": Refusal("policy_not_a_signer", lambda _: rule("second", "stranger", threshold=1), ("second: ", "stranger: ")),
    "a certificate is asked for": Refusal("policy_not_a_signer", lambda _: rule("release"), ("release: ", "method key", "of the method certificate")),
    "too few signed": Refusal("policy_signers", lambda _: rule("publisher", "second"), ("asks for 2 of", "1 signed")),
    "too few of three": Refusal("policy_signers", lambda _: rule("publisher", "second", "release", threshold=2), ("asks for 2 of",)),
    "an older version": Refusal("policy_version", lambda _: rule(lowest_version=4), ("version 4 or later, found 3",)),
    "another payload": Refusal("policy_payload", lambda _: rule(payload=[ANOTHER]), (f"pins the signed payload to {ANOTHER}, found ",)),
    "another root": Refusal("policy_root", lambda _: rule(root=[ANOTHER, "cd" * 32]), (f"pins the root to {ANOTHER}, cdcd",)),
    "a dataset": Refusal("policy_statement", lambda _: rule(statements=["dataset"]), ("is about dataset, the signature is about ",)),
    "another kind": Refusal(
        "policy_statement", lambda way: rule(statements=["files" if way.kind == "tensors" else "tensors", "dataset"]), ("the signature is about",)
    ),
    "another hash": Refusal("policy_hash", lambda _: rule(hashes=["blake2b", "sha256-tree"]), ("allows digests with blake2b",)),
    "the annotations' hash": Refusal("policy_hash", lambda _: rule(hashes=["sha256"]), ("found blake3",)),
    "another signature algorithm": Refusal(
        "policy_signature_algorithm",
        lambda _: rule("release", signature_algorithms=["ed25519", "ecdsa-p384-sha384"]),
        ("ed25519", "found ecdsa-p256-sha256"),
        ("release",),
    ),
    "a time that nobody states": Refusal("policy_signed_after", lambda _: rule("timed", signed_after=LATER), ("has no timestamp",)),
}


@every_way
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
def test_what_a_rule_does_not_allow_is_refused_before_anything_is_read(
    way: Way, refusal: Refusal, world: Path, tmp_path: Path, reads: Callable[[], set[str]]
) -> None:
    trust = policy(world, tmp_path, refusal.rule(way), artifact=way.artifact if way.in_memory else None)
    reads()
    error = rejected(lambda: call(way, world, trust, refusal.by), sentry.PolicyError, refusal.code)
    assert all(words in str(error) for words in refusal.says), error
    assert refusal.code == "policy_no_rule" or 'rule "ours"' in str(error)
    assert (error.artifact, error.expected, error.found, error.differences) == (None, None, None, ())
    # Not even the signature, if nobody may sign. The model itself is a handle, and none of the files in it.
    signature = signed(world, way.what, (refusal.by or ("publisher",))[0])
    assert reads() - {way.what} == (set() if refusal.code == "policy_no_rule" else {signature.name})
    assert memory_files() == 0


@every_way
def test_a_signature_of_another_than_the_only_signer_is_told_as_that(way: Way, world: Path, tmp_path: Path) -> None:
    rejected(lambda: ask(way, world, tmp_path, rule("stranger")), sentry.EnvelopeError, "signature_invalid")


@every_way
def test_the_first_rule_decides_and_no_later_one(way: Way, world: Path, tmp_path: Path) -> None:
    strict, wide = rule(lowest_version=9), rule(name="wide", artifacts=["**"])
    rejected(lambda: ask(way, world, tmp_path, strict, wide), sentry.PolicyError, "policy_version")
    elsewhere = rule(name="elsewhere", artifacts=["elsewhere"], lowest_version=9)
    verification = verification_of(ask(way, world, tmp_path, elsewhere, wide))
    assert verification is None or verification.rule == "wide"


@pytest.mark.parametrize("name", ["verify_model bert", "load_model bert", "load_file bert", "from_pretrained bert", "verified_folder bert"])
def test_a_policy_that_allows_does_not_let_changed_bytes_through(name: str, world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "bert", tmp_path / "bert")
    flip(tmp_path / "bert/model.safetensors")
    trust = policy(world, tmp_path, rule())
    error = rejected(lambda: WAYS[name].call(tmp_path, trust, None), sentry.ManifestError, "model_differs")
    assert error.differences[0].file == "model.safetensors"


@pytest.mark.parametrize("name", ["verify_model bert", "load_model bert", "safe_open bert", "torch.load bert", "from_pretrained bert"])
@pytest.mark.parametrize("pin", ["payload", "root"])
def test_another_model_of_the_same_signer_is_refused_under_a_pin(name: str, pin: str, world: Path, tmp_path: Path) -> None:
    pins = {}
    for folder in ("bert", "other"):
        shutil.copytree(world / "bert", tmp_path / folder)
        if folder == "other":
            flip(tmp_path / "other/model.safetensors", -2)
            flip(tmp_path / "other/checkpoint.pt", 1000)
            sentry.sign_model(tmp_path / "other", key=world / "publisher.key", version=3)
        bundle = json.loads((tmp_path / folder / "model.sig").read_text())
        found = sha256_of(bundle["dsseEnvelope"]["payload"]), payload_of(bundle)["subject"][0]["digest"]["sha256"]
        pins[folder] = dict(zip(("payload", "root"), found, strict=True))
    trust = policy(world, tmp_path, rule(**{pin: [pins["bert"][pin]]}))
    assert WAYS[name].call(tmp_path, trust, None)
    # A hub that is not to be trusted hands out another model under this name.
    shutil.rmtree(tmp_path / "bert")
    (tmp_path / "other").rename(tmp_path / "bert")
    error = rejected(lambda: WAYS[name].call(tmp_path, trust, None), sentry.PolicyError, f"policy_{pin}")
    assert pins["bert"][pin] in str(error) and pins["other"][pin] in str(error)


def test_a_version_that_is_not_stated_is_none(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "bert", tmp_path / "bert")
    sentry.sign_model(tmp_path / "bert", key=world / "publisher.key")
    for lowest in (0, 1, 3):
        trust = policy(world, tmp_path, rule(lowest_version=lowest))
        error = rejected(lambda trust=trust: sentry.verify_model(tmp_path / "bert", trust=trust), sentry.PolicyError, "policy_version")
        assert "the signature states none" in str(error)
        rejected(lambda trust=trust: sentry.load_model(tmp_path / "bert", trust=trust), sentry.PolicyError, "policy_version")


# Several signers.

ENOUGH = {"two of three": ("publisher", "release"), "in another order": ("release", "publisher"), "three": ("second", "release", "publisher")}


@every_way
@pytest.mark.parametrize("by", ENOUGH.values(), ids=ENOUGH.keys())
def test_enough_signers_are_enough_in_any_order(way: Way, by: tuple[str, ...], world: Path, tmp_path: Path) -> None:
    result = ask(way, world, tmp_path, rule("publisher", "second", "release", threshold=2), by=by)
    assert is_right(result, world)
    verification = verification_of(result)
    if verification is not None:
        assert (verification.rule, verification.version, verification.signer) == ("ours", 3, verification.signers[0])
        assert [describes(signer, text) for signer, text in zip(by, verification.signers, strict=True)] == [True] * len(by)
        assert by[0] == "release" or verification.fingerprint == sentry.PublicKey(world / f"{by[0]}.pub").fingerprint


def describes(signer: str, text: str) -> bool:
    """Whether a description is of this signer."""
    words = {"publisher": "(ecdsa-p256-sha256)", "second": "(ed25519)", "release": "release@acme.example (certificate of"}
    return words[signer] in text


@every_way
def test_a_signer_who_signs_twice_counts_once(way: Way, world: Path, tmp_path: Path) -> None:
    first = signed(world, way.what, "publisher")
    shutil.copy(first, tmp_path / "copy.sig")
    trust = policy(world, tmp_path, rule("publisher", "second", threshold=2), artifact=way.artifact if way.in_memory else None)
    for twice in ([first, first], [first, tmp_path / "copy.sig"], [first, signed(world, way.what, "second"), tmp_path / "copy.sig"]):
        error = rejected(lambda given=twice: way.call(world, trust, given), sentry.PolicyError, "policy_signer_twice")
        assert sentry.PublicKey(world / "publisher.pub").fingerprint in str(error)


@every_way
def test_a_signature_that_does_not_count_spoils_those_that_do(way: Way, world: Path, tmp_path: Path) -> None:
    both = ("publisher", "second", "release")
    error = rejected(
        lambda: ask(way, world, tmp_path, rule("publisher", "second"), by=both),
        sentry.PolicyError,
        "policy_not_a_signer",
    )
    assert "signature 3" in str(error)
    error = rejected(lambda: ask(way, world, tmp_path, rule(), by=("publisher", "second")), sentry.EnvelopeError, "signature_invalid")
    assert str(error).startswith("signature 2: ")


@every_way
def test_several_signatures_are_for_policies_only(way: Way, world: Path) -> None:
    key, certificate = sentry.PublicKey(world / "publisher.pub"), sentry.Certificate(world / "root.pem", any_identity=True)
    for trust, by in ((key, ("publisher", "second")), (key, ("publisher", "publisher")), (certificate, ("release", "publisher"))):
        with pytest.raises(sentry.Error) as caught:
            call(way, world, trust, by)
        assert (type(caught.value), caught.value.code) == (sentry.UsageError, "signature_number")
        assert "2 signatures" in str(caught.value)
        # One in a list is one.
        assert is_right(way.call(world, trust, [signed(world, way.what, by[0])]), world)


@every_way
@pytest.mark.parametrize("empty", [[], ()])
def test_a_list_without_a_signature_is_not_the_default(way: Way, empty: Any, world: Path) -> None:
    with pytest.raises(sentry.UsageError) as caught:
        way.call(world, sentry.PublicKey(world / "publisher.pub"), empty)
    assert caught.value.code == "usage" and "signature=[]" in str(caught.value)


# Several signers have to say the same.

TWO = rule("publisher", "second")

# Ways to load what can be changed here.
LOADS = {name: way for name, way in WAYS.items() if way.artifact in ("bert", FILE) and not name.startswith("verify_model")}
every_load = pytest.mark.parametrize("way", LOADS.values(), ids=LOADS.keys())


@pytest.fixture
def mine(world: Path, tmp_path: Path) -> Path:
    """The world's folder, file and keys, to be changed: `bert` and the one file are unsigned, and there is no snapshot."""
    for name in ("bert", FILE):
        copied = shutil.copytree if (world / name).is_dir() else shutil.copy
        copied(world / name, tmp_path / name)
    (tmp_path / "bert/model.sig").unlink()
    for file in (*world.glob("*.pub"), *world.glob("*.key"), *world.glob("*.pem")):
        shutil.copy(file, tmp_path / file.name)
    return tmp_path


def both(mine: Path, what: str, first: dict[str, Any], second: dict[str, Any]) -> list[Path]:
    """Sign a model as `publisher` and as `second`, with options of each. A folder leaves out the first signature."""
    one = sign(mine, what, "publisher", mine / what, **first)
    ignored = {"ignore": [*second.pop("ignore", []), "model.sig"]} if what == "bert" else {}
    return [one, sign(mine, what, "second", mine / what, **ignored, **second)]


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "versions": ({"version": 3}, {"version": 4}),
    "hashes": ({"hash": "sha256"}, {"hash": "blake2b"}),
    "shards": ({}, {"shard_size": 4096, "annotate": False}),
    "sizes of shards": ({"shard_size": 8192, "annotate": False}, {"shard_size": 4096, "annotate": False}),
    "links": ({}, {"allow_symlinks": True}),
    "files": ({}, {"ignore": ["config.json"]}),
}


@pytest.mark.parametrize(("first", "second"), FORMS.values(), ids=FORMS.keys())
def test_signers_who_do_not_say_the_same_of_a_folder(first: dict[str, Any], second: dict[str, Any], mine: Path) -> None:
    signatures = both(mine, "bert", dict(first), dict(second))
    trust = policy(mine, mine, TWO)
    for given in (signatures, signatures[::-1]):
        for name in ("verify_model bert", "load_model bert", "load_file bert", "verified_folder bert", "from_pretrained bert", "torch.load bert"):
            error = rejected(lambda name=name, given=given: WAYS[name].call(mine, trust, given), sentry.EnvelopeError, "signatures_disagree")
            assert error.differences == ()


@pytest.mark.parametrize("what", ["bert", FILE])
def test_signers_of_different_bytes(what: str, mine: Path) -> None:
    first = sign(mine, what, "publisher", mine / what)
    flip(mine / FILE if what == FILE else mine / "bert/model.safetensors")
    second = sign(mine, what, "second", mine / what, **({"ignore": ["model.sig"]} if what == "bert" else {}))
    trust = policy(mine, mine, TWO)
    for way in (way for way in WAYS.values() if way.what == what and way.artifact == what):
        for given in ([first, second], [second, first]):
            rejected(lambda way=way, given=given: way.call(mine, trust, given), sentry.EnvelopeError, "signatures_disagree")


TENSORS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "versions": ({"version": 3}, {"version": 4}),
    "algorithms": ({}, {"hash": "sha256-tree"}),
    "values": ({}, {"change": lambda tensors: tensors["pooler.dense.bias"].add_(1)}),
    "names": ({}, {"change": lambda tensors: tensors.update(new=tensors.pop("pooler.dense.bias"))}),
    "numbers": ({}, {"change": lambda tensors: tensors.pop("pooler.dense.bias")}),
}


@pytest.mark.parametrize(("first", "second"), TENSORS.values(), ids=TENSORS.keys())
def test_signers_who_do_not_say_the_same_of_tensors(first: dict[str, Any], second: dict[str, Any], world: Path, tmp_path: Path) -> None:
    signatures = []
    for signer, options in (("publisher", dict(first)), ("second", dict(second))):
        tensors = {name: tensor.clone() for name, tensor in module(world).state_dict().items()}
        options.pop("change", lambda _: None)(tensors)
        signatures.append(tmp_path / f"{signer}.sig")
        sentry.sign_model(tensors, signature=signatures[-1], subject="bert", **with_what(world, signer), **options)
    trust = policy(world, tmp_path, TWO, artifact="bert")
    for given in (signatures, signatures[::-1]):
        for model in (module(world), module(world).state_dict()):
            rejected(lambda model=model, given=given: sentry.verify_model(model, given, trust=trust), sentry.EnvelopeError, "signatures_disagree")


def test_signatures_of_files_and_of_tensors_say_different_things(world: Path, tmp_path: Path) -> None:
    mixed = [signed(world, "bert", "publisher"), signed(world, "tensors", "second")]
    trust = policy(world, tmp_path, TWO, artifact="bert")
    for given in (mixed, mixed[::-1]):
        rejected(lambda given=given: sentry.verify_model(module(world), given, trust=trust), sentry.EnvelopeError, "signatures_disagree")
        rejected(lambda given=given: sentry.load_model(world / "bert", trust=trust, signature=given), sentry.EnvelopeError, "predicate_type")


def test_a_version_counts_if_all_state_it(mine: Path) -> None:
    signatures = both(mine, "bert", {"version": 3}, {})
    for given, second in ((signatures, "signature 2: "), (signatures[::-1], "signature 1: ")):
        verification = sentry.verify_model(mine / "bert", given, trust=policy(mine, mine, TWO))
        assert verification.version is None and len(verification.signers) == 2
        lowest = policy(mine, mine, {**TWO, "lowest_version": 3})
        refused = functools.partial(sentry.verify_model, mine / "bert", given, trust=lowest)
        error = rejected(refused, sentry.PolicyError, "policy_version")
        assert str(error).startswith(second)


@every_load
@pytest.mark.parametrize("plain", ["publisher", "second"])
def test_loads_are_checked_by_digests_that_all_signed(way: Way, plain: str, mine: Path) -> None:
    options = {"publisher": {}, "second": {}, plain: {"annotate": False}}
    signatures = both(mine, way.what, options["publisher"], options["second"])
    trust = policy(mine, mine, TWO)
    for given in (signatures, signatures[::-1]):
        result = way.call(mine, trust, given)
        verification = verification_of(result)
        if verification is not None:
            assert verification.checked_by == {FILE if way.what == FILE else "model.safetensors": "sha256"}
            assert verification.tensors == 0
            assert equal(dict(result), load_file(mine / FILE))
    for file in (mine / FILE, mine / "bert/model.safetensors", mine / "bert/checkpoint.pt"):
        flip(file, -100)
    rejected(lambda: way.call(mine, trust, signatures), sentry.ManifestError, "model_differs")


def test_loads_are_checked_by_tensors_if_all_signed_these(mine: Path) -> None:
    signatures = both(mine, "bert", {}, {})
    loaded = sentry.load_model(mine / "bert", trust=policy(mine, mine, TWO), signature=signatures)
    assert loaded.verification.checked_by == {"model.safetensors": "tensors"}
    assert loaded.verification.tensors == len(loaded)


def test_memory_is_not_checked_by_the_word_of_one(mine: Path) -> None:
    signatures = both(mine, "bert", {}, {"annotate": False})
    for given in (signatures, signatures[::-1]):
        with pytest.raises(sentry.Error) as caught:
            sentry.verify_model(load_file(mine / FILE), given, trust=policy(mine, mine, TWO, artifact="bert"))
        assert (type(caught.value), caught.value.code) == (sentry.NotCheckedError, "tensors_not_signed")


def lie(signature: Path, key: Path) -> None:
    """Let one signer state digests of tensors that are not those of the file."""
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)

    def change(bundle: dict[str, Any]) -> None:
        payload = payload_of(bundle)
        resource = next(each for each in payload["predicate"]["resources"] if "sentry-ml.dev/safetensors/v1" in each["annotations"])
        tensor = resource["annotations"]["sentry-ml.dev/safetensors/v1"]["tensors"][0]
        tensor["digest"] = ANOTHER
        seal(bundle, private, payload)

    edit_bundle(signature, change)


def test_one_signer_cannot_say_for_both_what_the_tensors_are(mine: Path) -> None:
    signatures = both(mine, "bert", {}, {"annotate": False})
    lie(signatures[0], mine / "publisher.key")
    rejected(lambda: sentry.load_model(mine / "bert", trust=policy(mine, mine, rule())), sentry.ManifestError, "model_differs")
    trust = policy(mine, mine, TWO)
    for given in (signatures, signatures[::-1]):
        loaded = sentry.load_model(mine / "bert", trust=trust, signature=given)
        assert loaded.verification.checked_by == {"model.safetensors": "sha256"} and equal(loaded, load_file(mine / FILE))
    signatures = both(mine, "bert", {}, {})
    lie(signatures[0], mine / "publisher.key")
    for given in (signatures, signatures[::-1]):
        for call in (
            lambda given=given: sentry.load_model(mine / "bert", trust=trust, signature=given),
            lambda given=given: sentry.verify_model(mine / "bert", given, trust=trust),
        ):
            rejected(call, sentry.EnvelopeError, "signatures_disagree")


def test_a_file_that_one_signer_alone_leaves_out_is_unsigned(mine: Path) -> None:
    (mine / "bert/notes.txt").write_text("x")
    (mine / "bert/logs").mkdir()
    (mine / "bert/logs/one").write_text("x")
    one = sign(mine, "bert", "publisher", mine / "bert", ignore=["notes.txt", "logs"])
    (mine / "bert/notes.txt").unlink()
    two = sign(mine, "bert", "second", mine / "bert", ignore=["model.sig", "logs"])
    trust = policy(mine, mine, TWO)
    # Both leave out the folder.
    assert sentry.verify_model(mine / "bert", [one, two], trust=trust).unsigned_files == []
    (mine / "bert/notes.txt").write_text("x")
    for given in ([one, two], [two, one]):
        error = rejected(lambda given=given: sentry.verify_model(mine / "bert", given, trust=trust), sentry.ManifestError, "model_differs")
        assert [(each.kind, each.file) for each in error.differences] == [("unsigned_file", "notes.txt")] and different(error)
        allowed = sentry.verify_model(mine / "bert", given, trust=trust, allow_unsigned_files=True)
        assert allowed.unsigned_files == ["notes.txt"]
        assert equal(sentry.load_model(mine / "bert", trust=trust, signature=given), load_file(mine / FILE))
    assert sentry.verify_model(mine / "bert", one, trust=policy(mine, mine, rule())).unsigned_files == []


def test_a_signature_that_is_not_given_is_a_file_like_any_other(mine: Path) -> None:
    one = sign(mine, "bert", "publisher", mine / "bert", ignore=["second.sig"])
    two = mine / "bert/second.sig"
    sentry.sign_model(mine / "bert", key=mine / "second.key", signature=two, ignore=["model.sig"])
    assert len(sentry.verify_model(mine / "bert", [one, two], trust=policy(mine, mine, TWO)).signers) == 2
    shutil.copy(two, mine / "bert/third.sig")
    error = rejected(lambda: sentry.verify_model(mine / "bert", [one, two], trust=policy(mine, mine, TWO)), sentry.ManifestError, "model_differs")
    assert [(each.kind, each.file) for each in error.differences] == [("unsigned_file", "third.sig")]


def test_the_error_names_the_signature_that_is_wrong(mine: Path) -> None:
    signatures = both(mine, "bert", {}, {})
    trust = policy(mine, mine, TWO)
    good = signatures[1].read_text()
    for broken, code in ((good[:-20], "json_invalid"), (good.replace("in-toto", "other"), "payload_type")):
        signatures[1].write_text(broken)
        for load in (
            lambda: sentry.verify_model(mine / "bert", signatures, trust=trust),
            lambda: sentry.load_model(mine / "bert", trust=trust, signature=signatures),
        ):
            error = rejected(load, sentry.EnvelopeError, code)
            assert str(error).startswith("signature 2: ")
    signatures[1].unlink()
    with pytest.raises(sentry.NotCheckedError) as caught:
        sentry.load_model(mine / "bert", trust=trust, signature=signatures)
    assert caught.value.code == "signature_not_found" and signatures[1].name in str(caught.value)


def test_a_certificate_and_its_bare_key_are_one_signer(mine: Path) -> None:
    certified = sign(mine, "bert", "release", mine / "bert", ignore=["model.sig"])
    key = serialization.load_pem_private_key((mine / "leaf.key").read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (mine / "stranger.pub").write_bytes(key.public_key().public_bytes(*form))
    bare = mine / "bare.sig"
    sentry.sign_model(mine / "bert", key=mine / "leaf.key", signature=bare, ignore=["model.sig"])
    trust = policy(mine, mine, rule("release", "stranger"))
    for given in ([certified, bare], [bare, certified]):
        rejected(lambda given=given: sentry.verify_model(mine / "bert", given, trust=trust), sentry.PolicyError, "policy_signer_twice")
        rejected(lambda given=given: sentry.load_model(mine / "bert", trust=trust, signature=given), sentry.PolicyError, "policy_signer_twice")


# What an artifact is called.


def test_the_name_is_that_of_the_path_unless_another_is_said(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = policy(world, tmp_path, rule(artifacts=["**"]))
    monkeypatch.chdir(world)
    (tmp_path / "latest").symlink_to(world / "bert")
    for path in ("bert", "bert/", "./bert", "hub/../bert", "bert/.", world / "bert", f"{world}//bert"):
        assert sentry.verify_model(path, trust=trust).artifact == "bert"
    assert sentry.load_model(tmp_path / "latest", trust=trust).verification.artifact == "latest"
    assert sentry.verify_model(SNAPSHOT, trust=trust).artifact == "acme/bert"
    named = policy(world, tmp_path, rule(artifacts=["acme/one"]), artifact="acme/one")
    assert (trust.artifact, named.artifact) == (None, "acme/one")
    for path in ("bert", SNAPSHOT, FILE):
        assert sentry.verify_model(path, trust=named).artifact == "acme/one"
        assert sentry.load_model(path, trust=named).verification.artifact == "acme/one"


def test_a_repository_has_its_own_name(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    load = functools.partial(sentry.transformers.from_pretrained, BertModel, "acme/bert", cache_dir=world / "hub")
    assert is_right(load(trust=policy(world, tmp_path, rule(artifacts=["acme/bert"]))), world)
    strict, wide = rule(artifacts=["acme/bert"], lowest_version=9), rule(name="wide", artifacts=["*"])
    rejected(lambda: load(trust=policy(world, tmp_path, strict, wide)), sentry.PolicyError, "policy_version")
    rejected(lambda: load(trust=policy(world, tmp_path, wide)), sentry.PolicyError, "policy_no_rule")


def test_what_a_signature_says_of_its_subject_chooses_no_rule(world: Path, tmp_path: Path) -> None:
    shutil.copytree(world / "bert", tmp_path / "harmless")
    trust = policy(world, tmp_path, rule(name="strict", artifacts=["harmless"], lowest_version=9), rule(name="lax", artifacts=["bert"]))
    assert sentry.verify_model(world / "bert", trust=trust).subject == "bert"
    rejected(lambda: sentry.verify_model(tmp_path / "harmless", trust=trust), sentry.PolicyError, "policy_version")
    rejected(lambda: sentry.load_model(tmp_path / "harmless", trust=trust), sentry.PolicyError, "policy_version")


def usage(call: Callable[[], object], *words: str) -> None:
    """Assert that a call cannot be served as it is, and that the message says so."""
    with pytest.raises(sentry.Error) as caught:
        call()
    assert (type(caught.value), caught.value.code) == (sentry.UsageError, "usage"), caught.value
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_path_without_a_name_needs_one(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = policy(world, tmp_path, rule(artifacts=["**"]))
    monkeypatch.chdir(world / "bert")
    for path in (".", "..", "../bert/..", "/"):
        for way in (
            lambda path=path: sentry.verify_model(path, trust=trust),
            lambda path=path: sentry.load_model(path, trust=trust),
            lambda path=path: sentry.verified_folder(path, trust=trust).__enter__(),
            lambda path=path: sentry.safetensors.load_file(os.path.join(path, "model.safetensors"), trust=trust, root=path),
        ):
            usage(way, "name")
    for odd in ("a*", "a\\b", "a\nb"):
        shutil.copytree(world / "bert", tmp_path / odd)
        usage(lambda odd=odd: sentry.verify_model(tmp_path / odd, trust=trust), "give its name")
    (tmp_path / os.fsdecode(b"a\xff")).symlink_to(world / "bert")
    usage(lambda: sentry.load_model(tmp_path / os.fsdecode(b"a\xff"), trust=trust), "give its name")
    named = policy(world, tmp_path, rule(artifacts=["**"]), artifact="x")
    assert sentry.verify_model(".", trust=named).artifact == "x"
    assert sentry.safetensors.load_file("model.safetensors", trust=named).verification.artifact == "x"


@pytest.mark.parametrize("way", [way for way in WAYS.values() if way.in_memory], ids=[name for name, way in WAYS.items() if way.in_memory])
def test_a_model_in_memory_has_no_name(way: Way, world: Path, tmp_path: Path) -> None:
    usage(lambda: way.call(world, policy(world, tmp_path, rule(artifacts=["**"])), None), "artifact=")
    other = policy(world, tmp_path, rule(), artifact="other")
    rejected(lambda: way.call(world, other, None), sentry.PolicyError, "policy_no_rule")


@pytest.mark.parametrize("call", ["load_file", "safe_open", "torch.load"])
def test_a_file_in_a_folder_has_no_name_of_its_own_choice(call: str, mine: Path) -> None:
    sign(mine, "bert", "publisher", mine / "bert")
    name = "checkpoint.pt" if call == "torch.load" else "model.safetensors"
    # Beside the file, somebody puts a signature of it alone; they may sign something else.
    sentry.sign_model(mine / "bert" / name, key=mine / "stranger.key", signature=mine / f"bert/{name}.sig")
    trust = policy(mine, mine, rule(), rule("stranger", name="anyone", artifacts=["*"]))
    load = {"load_file": sentry.safetensors.load_file, "safe_open": sentry.safetensors.safe_open, "torch.load": sentry.torch.load}[call]
    usage(lambda: load(mine / "bert" / name, trust=trust), "Policy(path, artifact=...)", "root=")
    assert load(mine / "bert" / name, trust=trust, root=mine / "bert")
    # Named by the caller, the file's own rule decides.
    assert load(mine / "bert" / name, trust=trust, signature=mine / f"bert/{name}.sig")
    named = sentry.Policy(mine / "policy.toml", artifact="bert")
    rejected(lambda: load(mine / "bert" / name, trust=named), sentry.EnvelopeError, "signature_invalid")
    (mine / f"bert/{name}.sig").unlink()
    assert load(mine / "bert" / name, trust=named)


NO_NAMES = ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\nb", "a\0b", "a*", "**", "a" * 513]


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_is_refused_at_once(name: str, world: Path, tmp_path: Path) -> None:
    trust = policy(world, tmp_path, rule(artifacts=["**"]))
    usage(lambda: sentry.Policy(tmp_path / "policy.toml", artifact=name), "is no name of an artifact")
    usage(lambda: trust.rule_for(name), "is no name of an artifact")


def test_the_rule_for_a_name_can_be_asked(world: Path, tmp_path: Path) -> None:
    trust = policy(world, tmp_path, rule(name="one", artifacts=["acme/llama-*"]), rule(artifacts=["acme/**"], name="two"), artifact="x")
    for name, expected in (("acme/llama-3", "one"), ("acme/llama-3/v2", "two"), ("acme/bert", "two"), ("acme/llama-é", "one")):
        assert trust.rule_for(name) == expected
    for name in ("x", "acme", "Acme/bert", "evil/acme/bert"):
        error = rejected(lambda name=name: trust.rule_for(name), sentry.PolicyError, "policy_no_rule")
        assert f'"{name}"' in str(error) and "looked at 2" in str(error)


# What is no policy.

R = '[[rule]]\nartifacts = ["bert"]\nsigners = ["publisher"]\n'
ONE = '[signer.one]\ncertificate_roots = ["root.pem"]\n'
PIN = f'["{ANOTHER}"]'
MALFORMED: dict[str, tuple[str, str, str]] = {
    "empty": ("", "policy_syntax", ""),
    "no TOML": ("policy = 1\n[[rule\n", "policy_syntax", "line 2"),
    "no version": (R, "policy_syntax", "policy"),
    "another version": ("policy = 2\n" + R, "policy_syntax", "another version"),
    "a version that is a text": ('policy = "1"\n' + R, "policy_syntax", ""),
    "no rules": ("policy = 1\n", "policy_syntax", "no [[rule]]"),
    "a key twice": (f"policy = 1\npolicy = 1\n{R}", "policy_syntax", "duplicate"),
    "an unknown key": (f'policy = 1\ndefault = "allow"\n{R}', "policy_syntax", "default"),
    "an unknown condition": (f"policy = 1\n{R}lowest_verison = 3\n", "policy_syntax", "lowest_verison"),
    "an unknown key of a signer": (f"policy = 1\n{ONE}any_idenity = true\n{R}", "policy_syntax", "any_idenity"),
    "a signer twice": (f'policy = 1\n[signer.publisher]\nkey = "stranger.pub"\n{R}', "policy_syntax", "duplicate"),
    "artifacts as a text": ('policy = 1\n[[rule]]\nartifacts = "bert"\nsigners = ["publisher"]\n', "policy_syntax", ""),
    "no artifacts": ('policy = 1\n[[rule]]\nsigners = ["publisher"]\n', "policy_syntax", "artifacts"),
    "no signers": ('policy = 1\n[[rule]]\nartifacts = ["bert"]\n', "policy_syntax", "signers"),
    "a negative version": (f"policy = 1\n{R}lowest_version = -1\n", "policy_syntax", ""),
    "too long": (f"policy = 1\n# {'x' * (1 << 20)}\n{R}", "policy_syntax", "at most 1048576"),
    "too many rules": ("policy = 1\n" + R * 1001, "policy_syntax", "more than 1000"),
    "artifacts that are none": ("policy = 1\n" + R.replace('["bert"]', "[]"), "policy_rule", "artifacts = []"),
    "signers who are none": ("policy = 1\n" + R.replace('["publisher"]', "[]"), "policy_rule", "signers = []"),
    "a pattern twice": ("policy = 1\n" + R.replace('["bert"]', '["bert", "bert"]'), "policy_rule", "twice"),
    "a signer of a rule twice": ("policy = 1\n" + R.replace('["publisher"]', '["publisher", "publisher"]'), "policy_rule", "twice"),
    "a pattern with two stars": ("policy = 1\n" + R.replace("bert", "be**"), "policy_rule", "whole parts"),
    "a pattern that leaves": ("policy = 1\n" + R.replace("bert", "../bert"), "policy_rule", "pattern for artifacts"),
    "a threshold of none": (f"policy = 1\n{R}threshold = 0\n", "policy_rule", "threshold = 0"),
    "a threshold of more": (f"policy = 1\n{R}threshold = 2\n", "policy_rule", "threshold = 2"),
    "no statements": (f"policy = 1\n{R}statements = []\n", "policy_rule", "statements = []"),
    "an unknown statement": (f'policy = 1\n{R}statements = ["model"]\n', "policy_rule", "model"),
    "an unknown algorithm": (f'policy = 1\n{R}signature_algorithms = ["rsa"]\n', "policy_rule", "rsa"),
    "algorithms without the signer's": (f'policy = 1\n{R}signature_algorithms = ["ed25519"]\n', "policy_rule", "publisher"),
    "an unknown hash": (f'policy = 1\n{R}hashes = ["md5"]\n', "policy_rule", "md5"),
    "a short payload": (f'policy = 1\n{R}payload = ["abcd"]\n', "policy_rule", "SHA-256"),
    "a payload in capitals": (f"policy = 1\n{R}payload = {PIN.upper()}\n", "policy_rule", "SHA-256"),
    "a root that is none": (f'policy = 1\n{R}root = ["{"x" * 64}"]\n', "policy_rule", "SHA-256"),
    "a payload and later ones": (f"policy = 1\n{R}payload = {PIN}\nlowest_version = 3\n", "policy_rule", "choose one"),
    "a version that JSON cannot have": (f"policy = 1\n{R}lowest_version = {1 << 53}\n", "policy_rule", "2^53 - 1"),
    "a time without an authority": (f"policy = 1\n{R}signed_after = 2026-01-01T00:00:00Z\n", "policy_rule", "timestamp_roots"),
    "a time without an offset": (f"policy = 1\n{R}signed_after = 2026-01-01T00:00:00\n", "policy_rule", "no instant"),
    "a time that is a text": (f'policy = 1\n{R}signed_after = "2026-01-01T00:00:00Z"\n', "policy_syntax", ""),
    "sources of no dataset": (f'policy = 1\n{R}sources = ["a"]\n', "policy_rule", "dataset"),
    "two rules of a name": (f'policy = 1\n{R}name = "x"\n{R.replace("bert", "b")}name = "x"\n', "policy_rule", "same name"),
    "a signer that is not there": ("policy = 1\n" + R.replace('["publisher"]', '["publisher", "nobody"]'), "policy_unknown_signer", "nobody"),
    "a rule behind a wider one": ("policy = 1\n" + R.replace("bert", "b*") + R, "policy_shadowed_rule", '"b*"'),
    "a pattern behind a wider one": ("policy = 1\n" + R.replace('["bert"]', '["**", "a/b"]'), "policy_shadowed_rule", '"a/b"'),
    "a key that is not there": (f'policy = 1\n[signer.one]\nkey = "nowhere.pub"\n{R}', "policy_signer", "nowhere.pub"),
    "a key that is none": (f'policy = 1\n[signer.one]\nkey = "root.pem"\n{R}', "policy_signer", "root.pem"),
    "a private key": (f'policy = 1\n[signer.one]\nkey = "publisher.key"\n{R}', "policy_signer", "publisher.key"),
    "roots that are not there": (f'policy = 1\n{ONE.replace("root.pem", "nowhere.pem")}any_identity = true\n{R}', "policy_signer", "nowhere.pem"),
    "roots that are none": (f'policy = 1\n{ONE.replace("root.pem", "publisher.pub")}any_identity = true\n{R}', "policy_signer", "certificate_roots"),
    "a leaf as a root": (f'policy = 1\n{ONE.replace("root.pem", "leaf.pem")}any_identity = true\n{R}', "policy_signer", "authority"),
    "no roots": (f"policy = 1\n[signer.one]\ncertificate_roots = []\nany_identity = true\n{R}", "policy_signer", "empty"),
    "certificates of nobody": (f"policy = 1\n{ONE}{R}", "policy_signer", "identity"),
    "anyone and somebody": (f'policy = 1\n{ONE}identity = "a@b.example"\nany_identity = true\n{R}', "policy_signer", "contradict"),
    "an identity with a pattern": (f'policy = 1\n{ONE}identity = "*.acme.example"\n{R}', "policy_signer", "is no identity"),
    "a key and certificates": (f'policy = 1\n{ONE}key = "publisher.pub"\nany_identity = true\n{R}', "policy_signer", "not several"),
    "a key with an identity": (f'policy = 1\n[signer.one]\nkey = "stranger.pub"\nidentity = "a@b.example"\n{R}', "policy_signer", "not several"),
    "an issuer without an identity": (f'policy = 1\n[signer.one]\nissuer = "https://issuer.example"\n{R}', "policy_signer", "not several"),
    "a signer of nothing": (f"policy = 1\n[signer.one]\n{R}", "policy_signer", "not several"),
    "one key under two names": (f'policy = 1\n[signer.one]\nkey = "publisher.pub"\n{R}', "policy_signer", "count twice"),
    "one identity under two names": (
        f"policy = 1\n{ONE}any_identity = true\n{ONE.replace('one', 'two')}any_identity = true\n{R}",
        "policy_signer",
        "count twice",
    ),
    "a time's authority that is none": (
        f'policy = 1\n[signer.one]\nkey = "second.pub"\ntimestamp_roots = ["leaf.pem"]\n{R}',
        "policy_signer",
        "timestamp_roots",
    ),
}


@pytest.mark.parametrize(("text", "code", "says"), MALFORMED.values(), ids=MALFORMED.keys())
def test_what_cannot_have_been_meant_is_no_policy(text: str, code: str, says: str, mine: Path) -> None:
    (mine / "policy.toml").write_text(text + ('[signer.publisher]\nkey = "publisher.pub"\n' if text else ""))
    with pytest.raises(sentry.Error) as caught:
        sentry.Policy(mine / "policy.toml")
    assert (type(caught.value), caught.value.code) == (sentry.PolicyFileError, code), caught.value
    assert says in str(caught.value) and str(mine / "policy.toml") in str(caught.value)
    secret = (mine / "publisher.key").read_text().splitlines()[1]
    assert secret not in str(caught.value) and len(str(caught.value)) < 4000


def test_a_policy_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)))
    os.mkfifo(tmp_path / "pipe")
    for name in ("nowhere", ".", "binary", "pipe"):
        with pytest.raises(sentry.Error) as caught:
            sentry.Policy(tmp_path / name)
        assert (type(caught.value), caught.value.code) == (sentry.NotCheckedError, "io"), caught.value
    with pytest.raises(TypeError):
        sentry.Policy()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        sentry.Policy(tmp_path / "policy.toml", "bert")  # type: ignore[misc]


def test_a_signer_that_is_not_checked_yet_never_counts(mine: Path) -> None:
    sign(mine, "bert", "publisher", mine / "bert")
    (mine / "policy.toml").write_text(
        'policy = 1\n[signer.web]\nidentity = "a@b.example"\nissuer = "https://issuer.example"\n[[rule]]\nartifacts = ["bert"]\nsigners = ["web"]\n'
    )
    trust = sentry.Policy(mine / "policy.toml")
    rejected(lambda: sentry.verify_model(mine / "bert", trust=trust), sentry.PolicyError, "policy_not_a_signer")
    rejected(lambda: sentry.load_model(mine / "bert", trust=trust), sentry.PolicyError, "policy_not_a_signer")
    shutil.copytree(ROOT / "vectors/oms/historical/v1.0.0-sigstore", mine / "sigstore")
    named = sentry.Policy(mine / "policy.toml", artifact="bert")
    for ask in (
        lambda: sentry.verify_model(mine / "sigstore", trust=named),
        lambda: sentry.verified_folder(mine / "sigstore", trust=named).__enter__(),
    ):
        with pytest.raises(sentry.Error) as caught:
            ask()
        assert (type(caught.value), caught.value.code) == (sentry.NotCheckedError, "sigstore_method_unsupported")


# The object: read once, of the library's own making, and the same for everybody.


def test_a_policy_is_what_it_was_when_it_was_read(mine: Path) -> None:
    sign(mine, "bert", "publisher", mine / "bert")
    certified = sign(mine, "bert", "release", mine / "bert", ignore=["model.sig"])
    trust = policy(mine, mine, rule("publisher", "release"))
    both_signed = [mine / "bert/model.sig", certified]
    # The rules, a key and a root: replaced by others, then gone.
    (mine / "policy.toml").write_text("policy = 1\n" + R.replace("publisher", "stranger"))
    shutil.copy(mine / "stranger.pub", mine / "publisher.pub")
    (mine / "elsewhere").mkdir()
    make_certificates(mine / "elsewhere")
    shutil.copy(mine / "elsewhere/root.pem", mine / "root.pem")
    assert sentry.verify_model(mine / "bert", both_signed, trust=trust).rule == "ours"
    for name in ("policy.toml", "publisher.pub", "root.pem"):
        (mine / name).unlink()
    assert sentry.load_model(mine / "bert", trust=trust, signature=both_signed).verification.rule == "ours"
    assert trust.rule_for("bert") == "ours"
    rejected(lambda: sentry.verify_model(mine / "bert", trust=trust), sentry.PolicyError, "policy_signers")


def test_paths_in_a_policy_are_relative_to_it(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trust/keys").mkdir(parents=True)
    shutil.copy(world / "publisher.pub", tmp_path / "trust/keys/one.pub")
    (tmp_path / "trust/policy.toml").write_text('policy = 1\n[signer.publisher]\nkey = "keys/one.pub"\n' + R)
    # A key of that name where the program was started from is another one.
    (tmp_path / "keys").mkdir()
    shutil.copy(world / "stranger.pub", tmp_path / "keys/one.pub")
    monkeypatch.chdir(tmp_path)
    for path in ("trust/policy.toml", tmp_path / "trust/policy.toml", tmp_path / "keys/../trust/policy.toml"):
        assert sentry.verify_model(world / "bert", trust=sentry.Policy(path)).rule == "1"
    monkeypatch.chdir("trust")
    assert sentry.load_model(world / "bert", trust=sentry.Policy("policy.toml")).verification.rule == "1"


def test_a_policy_shows_where_it_is_from_and_nothing_that_it_read(world: Path, tmp_path: Path) -> None:
    trust = policy(world, tmp_path, rule(), rule("release", name="other", artifacts=["x"]))
    assert repr(trust) == str(trust) == f'<sentry.Policy "{tmp_path}/policy.toml", 2 rules>'
    with pytest.raises(AttributeError):
        trust.artifact = "other"  # type: ignore[misc]
    # To other processes goes its path: it is read there again.
    stored = [pickle.dumps(trust, protocol) for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)]
    assert not any(b"release" in pickled for pickled in stored)
    for again in (copy.copy(trust), copy.deepcopy(trust), *map(pickle.loads, stored)):
        assert type(again) is sentry.Policy and repr(again) == repr(trust) and again.artifact == trust.artifact


class Lenient:
    """Looks like a policy, and allows everything."""

    artifact = "bert"

    def rule_for(self, _: str) -> str:
        return "everything"


class Pretender(Lenient):
    """Says that it is one."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return sentry.Policy


@every_way
def test_nothing_but_the_real_objects_is_trusted(way: Way, world: Path, tmp_path: Path) -> None:
    real = policy(world, tmp_path, rule())
    for nobody in (None, True, Lenient(), Lenient, sentry.Policy, str(tmp_path / "policy.toml"), tmp_path / "policy.toml", [real], {"rule": "ours"}):
        usage(lambda nobody=nobody: way.call(world, nobody, None), "trust")
    with pytest.raises((sentry.UsageError, TypeError)):
        way.call(world, Pretender(), None)


def test_nothing_is_downloaded_for_those_who_trust_nobody(tmp_path: Path) -> None:
    for nobody in (None, Lenient()):
        load = functools.partial(sentry.transformers.from_pretrained, BertModel, "acme/bert", trust=nobody, cache_dir=tmp_path / "cache")
        usage(load, "say whom you trust")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", [sentry.Policy, sentry.Certificate, sentry.PublicKey, sentry.Verification])
def test_no_object_can_be_made_but_by_its_checks(kind: type) -> None:
    with pytest.raises(TypeError):
        type("Lenient", (kind,), {})
    for make in (kind, lambda: kind.__new__(kind), lambda: object.__new__(kind)):
        with pytest.raises(TypeError):
            make()


def test_threads_share_a_policy(world: Path, tmp_path: Path) -> None:
    trust = policy(world, tmp_path, rule("publisher", "second", threshold=1))
    expected = load_file(world / FILE)

    def work(number: int) -> bool:
        way = WAYS[("verify_model bert", "load_model bert", "safe_open acme/bert", "verified_folder bert")[number % 4]]
        if number % 3 == 0:
            # One of these cannot be allowed while the others are.
            rejected(lambda: call(way, world, trust, ("release",)), sentry.PolicyError, "policy_not_a_signer")
            return True
        result = call(way, world, trust, ("publisher", "second")[number % 2 : number % 2 + 1])
        return is_right(result, world) and equal(dict(expected), load_file(world / FILE))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(64)))
