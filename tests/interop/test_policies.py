"""Policies: five rules that decide for five artifacts, and everything that a policy must not say.

`sentry policy check` explains, `sentry verify --policy` obeys; a policy that one refuses the other
refuses as well, with the same code.
"""

import json
import pathlib
import re
import shutil

import pytest

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs/policy.md"
WORKFLOW = "spiffe://acme.example/build/nightly"
MAINTAINERS = ["alice", "bob", "carol"]

POLICY = f"""
policy = 1

[signer.release]
key = "keys/release.pub"

[signer.nightly]
certificate_roots = ["keys/acme-root.pem"]
identity = "{WORKFLOW}"

[signer.alice]
key = "keys/alice.pub"

[signer.bob]
key = "keys/bob.pub"

[signer.carol]
key = "keys/carol.pub"

[[rule]]
name = "tokenizers"
artifacts = ["acme/tokenizer", "acme/tokenizer-*"]
signers = ["release"]

[[rule]]
name = "nightly builds"
artifacts = ["acme/nightly/**"]
signers = ["nightly"]
signature_algorithms = ["ecdsa-p256-sha256", "ecdsa-p384-sha384"]

[[rule]]
name = "released weights"
artifacts = ["acme/llama-*"]
signers = ["alice", "bob", "carol"]
threshold = 2

[[rule]]
name = "the partner's encoder"
artifacts = ["partner/encoder"]
signers = ["release"]
root = ["{{root}}"]
lowest_version = 3

[[rule]]
name = "training sets"
artifacts = ["data/**"]
signers = ["release"]
statements = ["dataset"]
sources = ["commoncrawl", "wikipedia"]
"""

# What `sentry policy check` says, word for word. The fingerprints are filled in.
EXPLANATIONS = {
    "acme/tokenizer-v2": """\
artifact   acme/tokenizer-v2
decides    rule "tokenizers": acme/tokenizer-* matches, and is the first that does
must sign  all of 1 signer
           release: key {release} (ecdsa-p256-sha256)
about      files, tensors, dataset
""",
    "acme/nightly/2026-11-25/small": """\
artifact   acme/nightly/2026-11-25/small
no         rule "tokenizers": acme/tokenizer, acme/tokenizer-* does not match
decides    rule "nightly builds": acme/nightly/** matches, and is the first that does
must sign  all of 1 signer
           nightly: spiffe://acme.example/build/nightly with a certificate under keys/acme-root.pem
about      files, tensors, dataset
signed by  ecdsa-p256-sha256, ecdsa-p384-sha384
""",
    "acme/llama-3-8b": """\
artifact   acme/llama-3-8b
no         rule "tokenizers": acme/tokenizer, acme/tokenizer-* does not match
no         rule "nightly builds": acme/nightly/** does not match
decides    rule "released weights": acme/llama-* matches, and is the first that does
must sign  2 of 3 signers
           alice: key {alice} (ecdsa-p256-sha256)
           bob: key {bob} (ecdsa-p384-sha384)
           carol: key {carol} (ed25519)
about      files, tensors, dataset
""",
    "partner/encoder": """\
artifact   partner/encoder
no         rule "tokenizers": acme/tokenizer, acme/tokenizer-* does not match
no         rule "nightly builds": acme/nightly/** does not match
no         rule "released weights": acme/llama-* does not match
decides    rule "the partner's encoder": partner/encoder matches, and is the first that does
must sign  all of 1 signer
           release: key {release} (ecdsa-p256-sha256)
about      files, tensors, dataset
root       {root}
version    3 or later
""",
    "data/pretraining/v1": """\
artifact   data/pretraining/v1
no         rule "tokenizers": acme/tokenizer, acme/tokenizer-* does not match
no         rule "nightly builds": acme/nightly/** does not match
no         rule "released weights": acme/llama-* does not match
no         rule "the partner's encoder": partner/encoder does not match
decides    rule "training sets": data/** matches, and is the first that does
must sign  all of 1 signer
           release: key {release} (ecdsa-p256-sha256)
about      dataset
sources    exactly commoncrawl, wikipedia
""",
}


@pytest.fixture
def key_of(keys):
    """The key pairs of the signers that have one, each of another kind."""
    kinds = {
        "release": ("pkcs8", "p256"),
        "alice": ("sec1", "p256"),
        "bob": ("pkcs8", "p384"),
        "carol": ("pkcs8", "ed25519"),
        "mallory": ("sentry", "p256"),
    }
    return lambda name: keys(*kinds[name])


@pytest.fixture
def folder(tmp_path, key_of, publisher):
    """A policy's folder, with the files that it names."""
    folder = tmp_path / "trust"
    (folder / "keys").mkdir(parents=True)
    for name in ["release", *MAINTAINERS]:
        shutil.copyfile(key_of(name).public, folder / "keys" / f"{name}.pub")
    shutil.copyfile(publisher.root, folder / "keys/acme-root.pem")
    return folder


@pytest.fixture
def nightly(certifier, publisher):
    return certifier.signer(publisher.issuer, names=[("uri", WORKFLOW)])


@pytest.fixture
def root_of_model(sentry, key_of, model, outside):
    return sentry.sign(model, key_of("alice"), signature=outside)[0].statement["subject"][0]["digest"]["sha256"]


@pytest.fixture
def policy(folder, root_of_model):
    path = folder / "policy.toml"
    path.write_text(POLICY.format(root=root_of_model))
    return path


@pytest.fixture
def check(sentry):
    """`sentry policy check`: exit code, text, and the document."""

    def check(policy, artifact):
        said = sentry.run("policy", "check", policy, artifact)
        document = sentry.run("policy", "check", policy, artifact, "--json")
        assert said.returncode == document.returncode
        return said.returncode, said.stdout, json.loads(document.stdout)

    return check


@pytest.fixture
def verify(verify_with, model):
    """Verifies the model under a policy, as an artifact of this name."""

    def verify(policy, artifact, *signatures, options=()):
        where = [option for signature in signatures for option in ("--signature", signature)]
        return verify_with(model, "--policy", policy, "--artifact", artifact, *where, *options)

    return verify


@pytest.fixture
def signed_by(sentry, key_of, model, tmp_path):
    """Signs the model outside of it, in the name of somebody; the signature's path."""

    def signed_by(name, *options, as_name=None):
        path = tmp_path / f"{as_name or name}.sig"
        sentry.sign(model, key_of(name), *options, signature=path)
        return path

    return signed_by


def assert_code(verdict, exit, code):
    assert (verdict.exit, verdict.code) == (exit, code), verdict


def assert_allowed(verdict, rule):
    assert verdict.exit == 0, verdict
    assert verdict.report["rule"] == rule


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


# Five rules for five artifacts.


@pytest.mark.parametrize("artifact", EXPLANATIONS)
def test_explanation(sentry, check, policy, key_of, model, tmp_path, root_of_model, artifact):
    fingerprints = {}
    for name in ["release", *MAINTAINERS]:
        bundle, _ = sentry.sign(model, key_of(name), signature=tmp_path / "any.sig")
        fingerprints[name] = bundle.public_key["hint"]
    exit, said, document = check(policy, artifact)
    assert exit == 0
    assert said == EXPLANATIONS[artifact].format(root=root_of_model, **fingerprints)
    assert document["artifact"] == artifact
    assert document["passed_over"] == list_of_rules()[: list_of_rules().index(document["rule"]["name"])]


def list_of_rules():
    return [line.split('"')[1] for line in POLICY.splitlines() if line.startswith("name = ")]


def test_explanation_as_a_document(check, policy, root_of_model):
    _, _, document = check(policy, "partner/encoder")
    rule = document["rule"]
    assert (rule["artifacts"], rule["matches"]) == (["partner/encoder"], "partner/encoder")
    assert [signer["name"] for signer in rule["signers"]] == ["release"]
    assert (rule["threshold"], rule["lowest_version"]) == (1, 3)
    assert rule["root"] == [root_of_model]
    assert (rule["payload"], rule["signed_after"], rule["sources"], rule["hashes"]) == (None, None, None, None)


def test_no_rule(check, verify, policy, signed_by):
    for artifact in ["acme/other", "acme/llama-3/x", "acme", "acme/nightly", "evil/acme/llama-3", "Acme/llama-3"]:
        exit, said, document = check(policy, artifact)
        assert (exit, said, document["error"]["code"]) == (1, "", "policy_no_rule"), artifact
        assert_code(verify(policy, artifact, signed_by("release")), 1, "policy_no_rule")


def test_one_key(verify, policy, signed_by):
    assert_allowed(verify(policy, "acme/tokenizer", signed_by("release")), "tokenizers")
    # Trusted elsewhere in the policy, and not here.
    assert_code(verify(policy, "acme/tokenizer", signed_by("alice")), 1, "signature_invalid")
    assert_code(verify(policy, "acme/tokenizer", signed_by("mallory")), 1, "signature_invalid")


def test_bytes_are_checked_under_a_policy(verify, policy, signed_by, model):
    signature = signed_by("release")
    flip(model / "model.safetensors")
    verdict = verify(policy, "acme/tokenizer", signature)
    assert_code(verdict, 1, "model_differs")
    assert verdict.differences == {("changed_tensor", "model.safetensors")}


def test_certificate_by_identity(sentry, verify, policy, certifier, publisher, nightly, signed_by, model, tmp_path):
    artifact = "acme/nightly/2026-11-25"

    def signed_with(certified):
        path = tmp_path / "certificate.sig"
        sentry.sign(model, certified.key, *certified.sign_options, signature=path)
        return path

    verdict = verify(policy, artifact, signed_with(nightly))
    assert_allowed(verdict, "nightly builds")
    assert verdict.report["signer"]["identity"] == WORKFLOW
    # Of the same authority, for somebody else.
    assert_code(verify(policy, artifact, signed_with(publisher)), 1, "certificate_identity")
    forged = certifier.signer(certifier.authority(), names=[("uri", WORKFLOW)])
    assert_code(verify(policy, artifact, signed_with(forged)), 1, "certificate_unknown_issuer")
    strong = certifier.signer(publisher.issuer, "p521", names=[("uri", WORKFLOW)])
    assert_code(verify(policy, artifact, signed_with(strong)), 1, "policy_signature_algorithm")
    assert_code(verify(policy, artifact, signed_by("release")), 1, "policy_not_a_signer")


@pytest.mark.parametrize("pair", [("alice", "bob"), ("carol", "alice"), ("bob", "carol")], ids="-".join)
def test_two_of_three(verify, policy, signed_by, pair):
    verdict = verify(policy, "acme/llama-3-8b", *map(signed_by, pair))
    assert_allowed(verdict, "released weights")
    signatures = verdict.report["signatures"]
    assert [signature["signature"].rsplit("/")[-1] for signature in signatures] == [f"{name}.sig" for name in pair]
    assert len({signature["signer"]["fingerprint"] for signature in signatures}) == 2
    assert verdict.report["signer"] == signatures[0]["signer"]


def test_three_of_three_are_more_than_two(verify, policy, signed_by):
    verdict = verify(policy, "acme/llama-3-8b", *map(signed_by, MAINTAINERS))
    assert_allowed(verdict, "released weights")
    assert len(verdict.report["signatures"]) == 3


def test_one_of_three_is_too_few(verify, policy, signed_by):
    verdict = verify(policy, "acme/llama-3-8b", signed_by("bob"))
    assert_code(verdict, 1, "policy_signers")
    assert "asks for 2 of the signers alice, bob, carol, and 1 signed" in verdict.report["error"]["message"]


def test_one_signer_twice_counts_once(verify, policy, signed_by):
    once, again = signed_by("alice"), signed_by("alice", as_name="again")
    assert once.read_bytes() != again.read_bytes()
    assert_code(verify(policy, "acme/llama-3-8b", once, again), 1, "policy_signer_twice")
    assert_code(verify(policy, "acme/llama-3-8b", once, once), 1, "policy_signer_twice")


def test_stranger_among_enough_signers(verify, policy, signed_by):
    """What is given is meant to count."""
    verdict = verify(policy, "acme/llama-3-8b", *map(signed_by, ["alice", "bob", "mallory"]))
    assert_code(verdict, 1, "policy_not_a_signer")
    assert "signature 3 is of none" in verdict.report["error"]["message"]
    # Trusted for other artifacts only.
    assert_code(verify(policy, "acme/llama-3-8b", *map(signed_by, ["alice", "release"])), 1, "policy_not_a_signer")


def test_signatures_over_different_contents(verify, policy, signed_by, model):
    """Each is good, and of one of the three; the second is of a model that is not there any more."""
    content = (model / "config.json").read_bytes()
    (model / "config.json").write_bytes(b"{}")
    old = signed_by("alice")
    (model / "config.json").write_bytes(content)
    assert_code(verify(policy, "acme/llama-3-8b", signed_by("bob"), old), 1, "signatures_disagree")
    assert_code(verify(policy, "acme/llama-3-8b", old, signed_by("bob")), 1, "signatures_disagree")


@pytest.mark.parametrize("form", [["--hash", "blake3"], ["--shard-size", "1000"]], ids=str)
def test_signatures_in_different_forms(verify, policy, signed_by, full_model, form):
    assert_code(verify(policy, "acme/llama-3-8b", signed_by("alice"), signed_by("bob", *form)), 1, "signatures_disagree")


def test_hidden_is_only_what_all_leave_out(verify, policy, signed_by, model):
    """One signer alone cannot hide a file from the others' signatures."""
    alice = signed_by("alice")
    bob = signed_by("bob", "--ignore", model / "nested")
    assert_code(verify(policy, "acme/llama-3-8b", alice, bob), 1, "signatures_disagree")


def test_signatures_inside_of_the_model(sentry, verify, policy, key_of, model):
    alice, bob = model / "alice.sig", model / "bob.sig"
    sentry.sign(model, key_of("alice"), signature=alice)
    sentry.sign(model, key_of("bob"), "--ignore", alice, signature=bob)
    assert_allowed(verify(policy, "acme/llama-3-8b", alice, bob), "released weights")
    # A file that only calls itself one.
    (model / "carol.sig").write_bytes(b"not signed")
    verdict = verify(policy, "acme/llama-3-8b", alice, bob)
    assert_code(verdict, 1, "model_differs")
    assert verdict.differences == {("unsigned_file", "carol.sig")}


def test_missing_one_of_several_files(verify, policy, signed_by, tmp_path):
    verdict = verify(policy, "acme/llama-3-8b", signed_by("alice"), tmp_path / "nobody.sig")
    assert_code(verdict, 2, "signature_not_found")


def test_several_signatures_need_a_policy(verify_with, key_of, signed_by, model):
    both = [option for name in ["alice", "bob"] for option in ("--signature", signed_by(name))]
    assert_code(verify_with(model, "--key", key_of("alice").public, *both), 2, "signature_number")


def test_pinned_root_and_lowest_version(verify, policy, signed_by, model):
    def signed(*version):
        return signed_by("release", *(["--artifact-version", version[0]] if version else []))

    assert_allowed(verify(policy, "partner/encoder", signed("3")), "the partner's encoder")
    assert_allowed(verify(policy, "partner/encoder", signed("4")), "the partner's encoder")
    verdict = verify(policy, "partner/encoder", signed("2"))
    assert_code(verdict, 1, "policy_version")
    assert "asks for version 3 or later, found 2" in verdict.report["error"]["message"]
    verdict = verify(policy, "partner/encoder", signed())
    assert_code(verdict, 1, "policy_version")
    assert "the signature states none" in verdict.report["error"]["message"]
    # Another model of the same signer, perfectly signed.
    (model / "config.json").write_bytes(b"{}")
    assert_code(verify(policy, "partner/encoder", signed("3")), 1, "policy_root")


def test_dataset_rule_is_not_about_models(verify, policy, signed_by):
    """The right signer, and a statement about files where one about samples belongs."""
    verdict = verify(policy, "data/pretraining/v1", signed_by("release"))
    assert_code(verdict, 1, "policy_statement")
    message = verdict.report["error"]["message"]
    assert 'rule "training sets" is about dataset, the signature is about files' in message


# Pins, one by one.


@pytest.fixture
def write_policy(folder):
    """A policy of one rule of `release` for `model`, with more lines in it."""

    def write_policy(*lines, signers='["release"]'):
        path = folder / "one.toml"
        signer = '[signer.release]\nkey = "keys/release.pub"\n[signer.alice]\nkey = "keys/alice.pub"'
        rule = f'[[rule]]\nartifacts = ["model"]\nsigners = {signers}'
        path.write_text("\n".join(["policy = 1", signer, rule, *lines]))
        return path

    return write_policy


def payload_of(verdict):
    return verdict.report["statement"]["payload_sha256"]


def test_pinned_payload(verify, write_policy, signed_by):
    first = signed_by("release", "--artifact-version", "1", as_name="first")
    second = signed_by("release", "--artifact-version", "2", as_name="second")
    payloads = [payload_of(verify(write_policy(), "model", path)) for path in (first, second)]
    assert payloads[0] != payloads[1]
    one = write_policy(f'payload = ["{payloads[0]}"]')
    assert_allowed(verify(one, "model", first), "1")
    assert_code(verify(one, "model", second), 1, "policy_payload")
    both = write_policy(f'payload = ["{payloads[1]}", "{payloads[0]}"]')
    assert_allowed(verify(both, "model", first), "1")
    assert_allowed(verify(both, "model", second), "1")


def test_pinned_root_is_not_the_payload(verify, write_policy, signed_by, root_of_model):
    """Two names of one thing, which must not be taken for each other."""
    signature = signed_by("release")
    payload = payload_of(verify(write_policy(), "model", signature))
    assert_allowed(verify(write_policy(f'root = ["{root_of_model}"]', f'payload = ["{payload}"]'), "model", signature), "1")
    assert_code(verify(write_policy(f'root = ["{payload}"]'), "model", signature), 1, "policy_root")
    assert_code(verify(write_policy(f'payload = ["{root_of_model}"]'), "model", signature), 1, "policy_payload")


def test_root_does_not_bind_names(verify, write_policy, signed_by, model, root_of_model):
    """The specification's root is over digests alone: what pins names is the payload."""
    payload = payload_of(verify(write_policy(), "model", signed_by("release", as_name="before")))
    (model / "c").rename(model / "c0")
    renamed = signed_by("release")
    assert_allowed(verify(write_policy(f'root = ["{root_of_model}"]'), "model", renamed), "1")
    assert_code(verify(write_policy(f'payload = ["{payload}"]'), "model", renamed), 1, "policy_payload")


@pytest.mark.parametrize("hash, allowed, expected", [
    ("sha256", '"sha256", "blake3"', (0, None)),
    ("blake3", '"blake3"', (0, None)),
    ("blake3", '"sha256"', (1, "policy_hash")),
    ("blake2b", '"sha256", "blake3"', (1, "policy_hash")),
])  # fmt: skip
def test_hashes(verify, write_policy, signed_by, hash, allowed, expected):
    signature = signed_by("release", "--hash", hash)
    verdict = verify(write_policy(f"hashes = [{allowed}]"), "model", signature)
    assert (verdict.exit, verdict.code) == expected, verdict


def test_statements(verify, write_policy, signed_by):
    signature = signed_by("release")
    assert_allowed(verify(write_policy('statements = ["tensors", "files"]'), "model", signature), "1")
    assert_code(verify(write_policy('statements = ["tensors"]'), "model", signature), 1, "policy_statement")


def test_default_is_all_signers(verify, write_policy, signed_by):
    both = write_policy(signers='["release", "alice"]')
    assert_code(verify(both, "model", signed_by("alice")), 1, "policy_signers")
    assert_allowed(verify(both, "model", signed_by("alice"), signed_by("release")), "1")


# What an artifact is called.


def test_name_of_the_path(verify_with, write_policy, signed_by, model):
    signature = signed_by("release")
    assert verify_with(model, "--policy", write_policy(), "--signature", signature).exit == 0
    elsewhere = model.rename(model.with_name("other"))
    verdict = verify_with(elsewhere, "--policy", write_policy(), "--signature", signature)
    assert_code(verdict, 1, "policy_no_rule")
    named = verify_with(elsewhere, "--policy", write_policy(), "--artifact", "model", "--signature", signature)
    assert named.exit == 0


def test_name_in_the_signature_plays_no_part(sentry, verify_with, write_policy, key_of, model, tmp_path):
    """It says of itself that it is `model`, and lies where nobody asked for that."""
    bundle, _ = sentry.sign(model, key_of("release"))
    assert bundle.statement["subject"][0]["name"] == "model"
    moved = model.rename(tmp_path / "imposter")
    assert_code(verify_with(moved, "--policy", write_policy()), 1, "policy_no_rule")


def test_name_of_a_repository_in_the_hub_cache(sentry, verify_with, policy, key_of, model, tmp_path):
    snapshot = tmp_path / "hub/models--acme--tokenizer/snapshots/0123abcd"
    snapshot.parent.mkdir(parents=True)
    model.rename(snapshot)
    sentry.sign(snapshot, key_of("release"))
    verdict = verify_with(snapshot, "--policy", policy)
    assert_allowed(verdict, "tokenizers")
    # The revision is no name.
    other = snapshot.parent.parent.rename(tmp_path / "hub/models--evil--tokenizer") / "snapshots/0123abcd"
    assert_code(verify_with(other, "--policy", policy), 1, "policy_no_rule")


def test_path_without_a_name(sentry, policy, key_of, model):
    sentry.sign(model, key_of("release"))
    result = sentry.run("verify", ".", "--policy", policy, "--json", cwd=model)
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["code"] == "usage"


@pytest.mark.parametrize("name", ["", "/acme/llama", "acme/", "acme//llama", "acme/../llama", "acme/*", "acme\\llama", "a" * 513])
def test_what_is_no_name(sentry, policy, model, name):
    for command in [["policy", "check", policy, name], ["verify", model, "--policy", policy, "--artifact", name]]:
        result = sentry.run(*command, "--json")
        assert (result.returncode, json.loads(result.stdout)["error"]["code"]) == (2, "usage"), command


def test_files_lie_beside_the_policy(sentry, policy, signed_by, tmp_path):
    """From wherever it is called."""
    signature = signed_by("release")
    for where in [tmp_path, policy.parent, policy.parent / "keys"]:
        result = sentry.run(
            "verify", tmp_path / "model", "--policy", policy, "--artifact", "acme/tokenizer",
            "--signature", signature, cwd=where,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert 'allowed by rule "tokenizers" of the policy' in result.stderr


# What a policy must not say. The rule or signer in question is named.

KEY = '[signer.a]\nkey = "keys/alice.pub"\n'
RULE = '[[rule]]\nname = "r"\nartifacts = ["model"]\nsigners = ["a"]\n'
CERTIFICATES = 'certificate_roots = ["keys/acme-root.pem"]\n'
HEX = "0123456789abcdef" * 4

REFUSED = {
    # Syntax.
    "empty": ("", "policy_syntax"),
    "not-toml": ("policy = = 1", "policy_syntax"),
    "json": ('{"policy": 1}', "policy_syntax"),
    "no-version": (KEY + RULE, "policy_syntax"),
    "other-version": ("policy = 2\n" + KEY + RULE, "policy_syntax"),
    "negative-version": ("policy = -1\n" + KEY + RULE, "policy_syntax"),
    "unknown-key": ("policy = 1\ndefault = \"allow\"\n" + KEY + RULE, "policy_syntax"),
    "unknown-key-of-a-rule": ("policy = 1\n" + KEY + RULE + 'treshold = 1\n', "policy_syntax"),
    "unknown-key-of-a-signer": ("policy = 1\n" + KEY + 'any-identity = true\n' + RULE, "policy_syntax"),
    "key-twice": ("policy = 1\n" + KEY + RULE + 'name = "s"\n', "policy_syntax"),
    "signer-twice": ("policy = 1\n" + KEY + KEY + RULE, "policy_syntax"),
    "text-for-a-list": ("policy = 1\n" + KEY + RULE + f'root = "{HEX}"\n', "policy_syntax"),
    "float-threshold": ("policy = 1\n" + KEY + RULE + "threshold = 1.0\n", "policy_syntax"),
    "no-rules": ("policy = 1\n" + KEY, "policy_syntax"),
    "rule-without-artifacts": ("policy = 1\n" + KEY + '[[rule]]\nsigners = ["a"]\n', "policy_syntax"),
    "rule-without-signers": ("policy = 1\n" + KEY + '[[rule]]\nartifacts = ["model"]\n', "policy_syntax"),
    "rule-that-is-no-list": ("policy = 1\n" + KEY + '[rule]\nartifacts = ["model"]\nsigners = ["a"]\n', "policy_syntax"),
    "too-long": ("policy = 1\n" + KEY + RULE + "#" * (1 << 20), "policy_syntax"),
    "too-many-rules": ("policy = 1\n" + KEY + "".join(
        f'[[rule]]\nartifacts = ["m{n}"]\nsigners = ["a"]\n' for n in range(1001)), "policy_syntax"),
    # Signers.
    "signer-of-nothing": ("policy = 1\n[signer.a]\n" + RULE, "policy_signer"),
    "key-not-there": ('policy = 1\n[signer.a]\nkey = "keys/nobody.pub"\n' + RULE, "policy_signer"),
    "key-is-a-folder": ('policy = 1\n[signer.a]\nkey = "keys"\n' + RULE, "policy_signer"),
    "key-is-no-key": ('policy = 1\n[signer.a]\nkey = "keys/acme-root.pem"\n' + RULE, "policy_signer"),
    "private-key": ('policy = 1\n[signer.a]\nkey = "keys/private.key"\n' + RULE, "policy_signer"),
    "key-and-certificates": ("policy = 1\n" + KEY + CERTIFICATES + 'identity = "a@b.example"\n' + RULE, "policy_signer"),
    "key-and-identity": ("policy = 1\n" + KEY + 'identity = "a@b.example"\n' + RULE, "policy_signer"),
    "key-and-any-identity": ("policy = 1\n" + KEY + "any_identity = true\n" + RULE, "policy_signer"),
    "certificates-of-nobody": ("policy = 1\n[signer.a]\n" + CERTIFICATES + RULE, "policy_signer"),
    "certificates-of-anyone-and-one": (
        "policy = 1\n[signer.a]\n" + CERTIFICATES + 'identity = "a@b.example"\nany_identity = true\n' + RULE, "policy_signer"),
    "certificates-with-issuer": (
        "policy = 1\n[signer.a]\n" + CERTIFICATES + 'identity = "a@b.example"\nissuer = "https://b.example"\n' + RULE, "policy_signer"),
    "identity-is-a-pattern": ("policy = 1\n[signer.a]\n" + CERTIFICATES + 'identity = "*.acme.example"\n' + RULE, "policy_signer"),
    "no-roots": ('policy = 1\n[signer.a]\ncertificate_roots = []\nidentity = "a@b.example"\n' + RULE, "policy_signer"),
    "roots-are-no-authorities": (
        'policy = 1\n[signer.a]\ncertificate_roots = ["keys/alice.pub"]\nidentity = "a@b.example"\n' + RULE, "policy_signer"),
    "no-timestamp-roots": ("policy = 1\n" + KEY + "timestamp_roots = []\n" + RULE, "policy_signer"),
    "timestamp-roots-are-keys": ("policy = 1\n" + KEY + 'timestamp_roots = ["keys/alice.pub"]\n' + RULE, "policy_signer"),
    "sigstore-without-issuer": ('policy = 1\n[signer.a]\nidentity = "a@b.example"\n' + RULE, "policy_signer"),
    "sigstore-of-anyone": ('policy = 1\n[signer.a]\nany_identity = true\nissuer = "https://b.example"\n' + RULE, "policy_signer"),
    "one-key-under-two-names": ("policy = 1\n" + KEY + '[signer.b]\nkey = "keys/alice.pub"\n' + RULE, "policy_signer"),
    "one-identity-under-two-names": (
        "policy = 1\n" + KEY + "".join(f'[signer.{n}]\n{CERTIFICATES}identity = "a@b.example"\n' for n in "bc") + RULE, "policy_signer"),
    # Rules that name somebody who is not there.
    "unknown-signer": ("policy = 1\n" + KEY + RULE.replace('["a"]', '["a", "b"]'), "policy_unknown_signer"),
    "signer-of-another-case": ("policy = 1\n" + KEY + RULE.replace('["a"]', '["A"]'), "policy_unknown_signer"),
    # Rules that contradict themselves, or ask for nothing.
    "no-artifacts": ("policy = 1\n" + KEY + RULE.replace('["model"]', "[]"), "policy_rule"),
    "no-signers": ("policy = 1\n" + KEY + RULE.replace('["a"]', "[]"), "policy_rule"),
    "signer-named-twice": ("policy = 1\n" + KEY + RULE.replace('["a"]', '["a", "a"]'), "policy_rule"),
    "artifact-named-twice": ("policy = 1\n" + KEY + RULE.replace('["model"]', '["model", "model"]'), "policy_rule"),
    "threshold-of-none": ("policy = 1\n" + KEY + RULE + "threshold = 0\n", "policy_rule"),
    "threshold-of-too-many": ("policy = 1\n" + KEY + RULE + "threshold = 2\n", "policy_rule"),
    "pattern-leaves": ("policy = 1\n" + KEY + RULE.replace("model", "../model"), "policy_rule"),
    "pattern-with-half-a-part": ("policy = 1\n" + KEY + RULE.replace("model", "acme/a**"), "policy_rule"),
    "unknown-statement": ("policy = 1\n" + KEY + RULE + 'statements = ["model"]\n', "policy_rule"),
    "no-statements": ("policy = 1\n" + KEY + RULE + "statements = []\n", "policy_rule"),
    "unknown-algorithm": ("policy = 1\n" + KEY + RULE + 'signature_algorithms = ["rsa"]\n', "policy_rule"),
    "no-algorithms": ("policy = 1\n" + KEY + RULE + "signature_algorithms = []\n", "policy_rule"),
    "algorithm-of-nobody": ("policy = 1\n" + KEY + RULE + 'signature_algorithms = ["ed25519"]\n', "policy_rule"),
    "unknown-hash": ("policy = 1\n" + KEY + RULE + 'hashes = ["md5"]\n', "policy_rule"),
    "pin-is-short": ("policy = 1\n" + KEY + RULE + f'root = ["{HEX[:-2]}"]\n', "policy_rule"),
    "pin-is-upper-case": ("policy = 1\n" + KEY + RULE + f'payload = ["{HEX.upper()}"]\n', "policy_rule"),
    "pin-with-a-label": ("policy = 1\n" + KEY + RULE + f'root = ["sha256:{HEX}"]\n', "policy_rule"),
    "pin-twice": ("policy = 1\n" + KEY + RULE + f'root = ["{HEX}", "{HEX}"]\n', "policy_rule"),
    "no-pins": ("policy = 1\n" + KEY + RULE + "payload = []\n", "policy_rule"),
    "version-too-large": ("policy = 1\n" + KEY + RULE + "lowest_version = 9007199254740992\n", "policy_rule"),
    "payload-and-version": ("policy = 1\n" + KEY + RULE + f'payload = ["{HEX}"]\nlowest_version = 1\n', "policy_rule"),
    "time-without-authorities": ("policy = 1\n" + KEY + RULE + "signed_after = 2026-01-01T00:00:00Z\n", "policy_rule"),
    "time-without-offset": ("policy = 1\n" + KEY + RULE + "signed_after = 2026-01-01T00:00:00\n", "policy_rule"),
    "date-alone": ("policy = 1\n" + KEY + RULE + "signed_after = 2026-01-01\n", "policy_rule"),
    "sources-of-a-model": ("policy = 1\n" + KEY + RULE + 'sources = ["wikipedia"]\n', "policy_rule"),
    "sources-of-anything": (
        "policy = 1\n" + KEY + RULE + 'statements = ["files", "dataset"]\nsources = ["wikipedia"]\n', "policy_rule"),
    "no-sources": ("policy = 1\n" + KEY + RULE + 'statements = ["dataset"]\nsources = []\n', "policy_rule"),
    "name-twice": ("policy = 1\n" + KEY + RULE + RULE.replace("model", "other"), "policy_rule"),
    "name-is-a-number-of-another": (
        "policy = 1\n" + KEY + RULE.replace('"r"', '"2"') + RULE.replace('name = "r"\n', "").replace("model", "other"), "policy_rule"),
    # Rules that never decide.
    "same-pattern-again": ("policy = 1\n" + KEY + RULE + RULE.replace('"r"', '"s"'), "policy_shadowed_rule"),
    "behind-everything": ("policy = 1\n" + KEY + RULE.replace("model", "**") + RULE.replace('"r"', '"s"'), "policy_shadowed_rule"),
    "behind-a-wider-one": (
        "policy = 1\n" + KEY + RULE.replace("model", "acme/*") + RULE.replace('"r"', '"s"').replace("model", "acme/llama-*"),
        "policy_shadowed_rule"),
    "within-one-rule": ("policy = 1\n" + KEY + RULE.replace('["model"]', '["*", "model"]'), "policy_shadowed_rule"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_policy_that_is_refused(check, verify, folder, key_of, signed_by, name):
    text, code = REFUSED[name]
    shutil.copyfile(key_of("alice").private, folder / "keys/private.key")
    path = folder / "refused.toml"
    path.write_text(text)
    exit, said, document = check(path, "model")
    assert (exit, said, document["error"]["code"]) == (2, "", code), document
    # Signed by the very one whom the policy would trust, and not verified all the same.
    assert_code(verify(path, "model", signed_by("alice")), 2, code)


def test_every_code_of_policies_is_there():
    codes = {"policy_syntax", "policy_signer", "policy_unknown_signer", "policy_rule", "policy_shadowed_rule"}
    assert {code for _, code in REFUSED.values()} == codes


def test_narrow_rule_before_a_wide_one(check, folder):
    path = folder / "order.toml"
    narrow, wide = RULE.replace("model", "acme/llama-*"), RULE.replace('"r"', '"s"').replace("model", "acme/*")
    path.write_text("policy = 1\n" + KEY + narrow + wide)
    assert check(path, "acme/llama-3")[2]["rule"]["name"] == "r"
    assert check(path, "acme/bert")[2]["rule"]["name"] == "s"


@pytest.mark.parametrize("what", ["missing", "folder", "binary"])
def test_policy_that_cannot_be_read(check, verify, folder, signed_by, what):
    path = {"missing": folder / "nothing.toml", "folder": folder, "binary": folder / "binary.toml"}[what]
    if what == "binary":
        path.write_bytes(b"policy = 1\n\xff\xfe")
    exit, _, document = check(path, "model")
    assert (exit, document["error"]["code"]) == (2, "io")
    assert_code(verify(path, "model", signed_by("alice")), 2, "io")


@pytest.mark.parametrize(
    "trust, option",
    [
        ("key", "--identity"),
        ("key", "--any-identity"),
        ("key", "--allow-ca-leaf"),
        ("key", "--certificate-root"),
        ("key", "--artifact"),
        ("policy", "--identity"),
        ("policy", "--any-identity"),
        ("policy", "--allow-ca-leaf"),
        ("policy", "--certificate-root"),
        ("policy", "--timestamp-root"),
    ],
)
def test_options_of_another_trust_are_not_passed_over(sentry, policy, key_of, publisher, model, trust, option):
    """Somebody who asks for an identity beside a key must not believe that it was checked."""
    sentry.sign(model, key_of("release"))
    trusted = {"key": ["--key", key_of("release").public], "policy": ["--policy", policy, "--artifact", "acme/tokenizer"]}
    values = {"--any-identity": [], "--allow-ca-leaf": [], "--identity": ["release@acme.example"], "--artifact": ["model"]}
    result = sentry.run("verify", model, *trusted[trust], option, *values.get(option, [publisher.root]))
    assert (result.returncode, result.stdout) == (2, ""), result.stderr
    assert "verified" not in result.stderr


def test_key_and_policy_are_not_added_up(sentry, policy, key_of, model):
    result = sentry.run("verify", model, "--policy", policy, "--key", key_of("alice").public)
    assert (result.returncode, result.stdout) == (2, "")


# Sigstore identities can be named, and are not checked by this version.


def test_sigstore_signer(check, verify, vectors, verify_with, folder, signed_by):
    path = folder / "sigstore.toml"
    signer = '[signer.a]\nidentity = "stefanb@us.ibm.com"\nissuer = "https://sigstore.verify.ibm.com/oauth2"\n'
    path.write_text("policy = 1\n" + signer + RULE)
    exit, said, _ = check(path, "model")
    assert exit == 0
    assert "not checked by this version" in said
    sample = vectors / "historical/v1.0.0-sigstore"
    verdict = verify_with(sample, "--policy", path, "--artifact", "model")
    assert_code(verdict, 2, "sigstore_method_unsupported")
    # A key is no Sigstore identity, whatever its file says.
    assert_code(verify(path, "model", signed_by("alice")), 1, "policy_not_a_signer")


# One person with several names.


def test_key_and_certificate_of_the_same_key_count_once(sentry, verify, folder, certifier, publisher, model, tmp_path):
    """Two signers of the policy, two signatures, two methods: one key."""
    certified = certifier.signer(publisher.issuer, names=[("uri", WORKFLOW)])
    shutil.copyfile(certified.key.public, folder / "keys/same.pub")
    path = folder / "same.toml"
    signers = f'[signer.a]\nkey = "keys/same.pub"\n[signer.b]\n{CERTIFICATES}identity = "{WORKFLOW}"\n'
    path.write_text("policy = 1\n" + signers + RULE.replace('["a"]', '["a", "b"]'))
    by_key, by_certificate = tmp_path / "key.sig", tmp_path / "certificate.sig"
    sentry.sign(model, certified.key, signature=by_key)
    sentry.sign(model, certified.key, *certified.sign_options, signature=by_certificate)
    assert_code(verify(path, "model", by_key, by_certificate), 1, "policy_signer_twice")


def test_one_identity_with_two_certificates_counts_once(sentry, verify, folder, certifier, publisher, model, tmp_path):
    """Two keys, two certificates of one name, and two signers that both could be."""
    path = folder / "anyone.toml"
    signers = f'[signer.a]\n{CERTIFICATES}identity = "{WORKFLOW}"\n[signer.b]\n{CERTIFICATES}any_identity = true\n'
    path.write_text("policy = 1\n" + signers + RULE.replace('["a"]', '["a", "b"]'))
    signatures = []
    for number in range(2):
        certified = certifier.signer(publisher.issuer, names=[("uri", WORKFLOW)])
        signatures.append(tmp_path / f"{number}.sig")
        sentry.sign(model, certified.key, *certified.sign_options, signature=signatures[-1])
    assert_code(verify(path, "model", *signatures), 1, "policy_signer_twice")
    other = tmp_path / "other.sig"
    sentry.sign(model, publisher.key, *publisher.sign_options, signature=other)
    # In either order each signature finds the signer that it counts for.
    for pair in [(signatures[0], other), (other, signatures[0])]:
        assert_allowed(verify(path, "model", *pair), "r")


def test_versions_that_differ(verify, policy, signed_by):
    """What is reported as the version is not one signer's word alone."""
    three = signed_by("alice", "--artifact-version", "3")
    seven = signed_by("bob", "--artifact-version", "7")
    none = signed_by("carol")
    for pair in [(three, seven), (seven, three)]:
        assert_code(verify(policy, "acme/llama-3-8b", *pair), 1, "signatures_disagree")
    for pair in [(three, none), (none, three)]:
        verdict = verify(policy, "acme/llama-3-8b", *pair)
        assert_allowed(verdict, "released weights")
        assert verdict.report["statement"]["version"] is None
    same = signed_by("bob", "--artifact-version", "3", as_name="same")
    assert verify(policy, "acme/llama-3-8b", three, same).report["statement"]["version"] == 3


# docs/policy.md: its example is read, and says what the document says that it says.


def blocks_of_the_document():
    """The blocks below a `<!-- test: NAME -->`, by that name."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.findall(r"<!-- test: (\S+) -->\n```\w*\n(.*?)```\n", text, flags=re.DOTALL)
    return dict(found)


@pytest.mark.parametrize("artifact", [name for name in blocks_of_the_document() if name != "example"])
def test_example_of_the_document(sentry, folder, artifact):
    shutil.copyfile(folder / "keys/acme-root.pem", folder / "keys/time-root.pem")
    blocks = blocks_of_the_document()
    (folder / "policy.toml").write_text(blocks["example"])
    command, _, expected = blocks[artifact].partition("\n")
    assert command == f"$ sentry policy check policy.toml {artifact}"
    result = sentry.run("policy", "check", "policy.toml", artifact, cwd=folder)
    said = result.stdout + result.stderr
    assert without_keys(said).splitlines() == without_keys(expected).splitlines()


def without_keys(text):
    """Keys are others every time, and here of other kinds."""
    return re.sub(r"key [0-9a-f]{64} \([a-z0-9-]+\)", "key", text)
