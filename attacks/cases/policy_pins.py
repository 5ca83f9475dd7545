"""What a policy asks of a signature besides its signer: classes envelope and policy.

All are signed by the trusted signer, and the model is the signed one.
"""

import base64
import json

from kit import certificates as x509
from kit import oms
from kit.case import control, rejected
from kit.keys import key
from kit.policies import Raw, alone, keyed, rule, signed, under, write
from kit.timestamps import clock, stamped, token

envelope = rejected("envelope")
policy = rejected("policy")


def honest(world, change=lambda statement: None, **options):
    """The honest model, signed with a statement that went through `change`. Returns the payload."""
    statement = world.statement(**options)
    change(statement)
    world.sign(statement)
    return oms.encode(statement)


def versioned(number):
    return lambda statement: statement["subject"][0].update(annotations={oms.VERSION_KEY: number})


OTHER = oms.digest(b"another model")


@envelope("policy_payload")
def other_model_same_signer(world):
    """The signer made both; the policy pins the other one's payload."""
    honest(world)
    return under(world, alone(world, payload=[OTHER]))


@envelope("policy_payload")
def other_model_same_signer__none_of_several(world):
    honest(world)
    return under(world, alone(world, payload=[OTHER, oms.digest(b"a third")]))


@envelope("policy_payload")
def other_model_same_signer__the_root_is_no_payload(world):
    """The right digest of the wrong thing."""
    root = json.loads(honest(world))["subject"][0]["digest"]["sha256"]
    return under(world, alone(world, payload=[root]))


@envelope("policy_payload")
def other_model_same_signer__same_files_other_words(world):
    """The same files and the same root; only the subject is called otherwise."""
    pinned = oms.digest(honest(world))
    honest(world, lambda statement: statement["subject"][0].update(name="other"))
    return under(world, alone(world, payload=[pinned]))


@envelope("policy_payload")
def other_model_same_signer__files_renamed_same_root(world):
    """A root holds no names, so a pinned root would not tell these two apart; the payload does."""
    pinned = oms.digest(honest(world))
    (world.model / "tokenizer.json").rename(world.model / "tokenizer.jsonl")
    honest(world)
    return under(world, alone(world, payload=[pinned]))


@envelope("policy_root")
def other_model_same_signer__root(world):
    honest(world)
    return under(world, alone(world, root=[OTHER]))


@envelope("policy_root")
def other_model_same_signer__one_file_more(world):
    root = json.loads(honest(world))["subject"][0]["digest"]["sha256"]
    world.write("extra.bin", b"signed as well, later")
    honest(world)
    return under(world, alone(world, root=[root]))


@envelope("policy_root")
def other_model_same_signer__right_payload_other_root(world):
    """Both pins have to hold."""
    pinned = oms.digest(honest(world))
    return under(world, alone(world, payload=[pinned], root=[OTHER]))


@envelope("policy_payload")
def other_model_same_signer__second_signature(world):
    """One of two signers signed what is pinned; the other signed the same files in other words."""
    pinned = signed(world, "ann")
    payload = base64.b64decode(json.loads(pinned.read_text())["dsseEnvelope"]["payload"])
    statement = world.statement()
    statement["subject"][0]["name"] = "other"
    other = signed(world, "bob", statement)
    world.signer = world.trusted = key("p256", "ann")
    made = write(world, keyed(world, "ann", "bob"), rule("ann", "bob", payload=[oms.digest(payload)]))
    return under(world, made, pinned, other)


@envelope("policy_version")
def older_version_same_signer(world):
    """A rollback: the signature of an older version is as good as ever."""
    honest(world, versioned(2))
    return under(world, alone(world, lowest_version=3))


@envelope("policy_version")
def older_version_same_signer__absent(world):
    """Signed before versions were counted, or by who left it out."""
    honest(world)
    return under(world, alone(world, lowest_version=1))


@envelope("policy_version")
def older_version_same_signer__absent_and_zero_would_do(world):
    honest(world)
    return under(world, alone(world, lowest_version=0))


@envelope("policy_version")
def older_version_same_signer__foreign_annotation(world):
    """A version of somebody else's is none."""
    honest(world, lambda statement: statement["subject"][0].update(annotations={"example.org/version": 9}))
    return under(world, alone(world, lowest_version=3))


@envelope("policy_version")
def older_version_same_signer__second_signature(world):
    """Each signer states a version; the older one counts against both."""
    files = []
    for name, number in (("ann", 3), ("bob", 2)):
        statement = world.statement()
        versioned(number)(statement)
        files.append(signed(world, name, statement))
    world.signer = world.trusted = key("p256", "ann")
    return under(world, write(world, keyed(world, "ann", "bob"), rule("ann", "bob", lowest_version=3)), *files)


# -- the time of signing ------------------------------------------------------------------------

SIGNED_AFTER = (x509.NOW - x509.datetime.timedelta(days=10)).replace(microsecond=0)


def after(world, *days, moment=None):
    """A rule that asks for a later time, and a signature with timestamps of these days before now."""
    bundle = world.bundle()
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    root, signer = clock()
    if days:
        stamped(bundle, *(token(signature, signer, days=day) for day in days))
    world.write_bundle(bundle)
    x509.roots_file(world, (root,), "clocks.pem")
    world.public_key()
    who = {"publisher": {"key": "sentry.pub", "timestamp_roots": ["clocks.pem"]}}
    asked = rule("publisher", signed_after=Raw((moment or SIGNED_AFTER).strftime("%Y-%m-%dT%H:%M:%SZ")))
    return under(world, write(world, who, asked))


@policy("policy_signed_after")
def signed_before(world):
    """Say, before a key was stolen and the good models were signed again."""
    return after(world, -11)


@policy("policy_signed_after")
def signed_before__no_timestamp(world):
    return after(world)


@policy("policy_signed_after")
def signed_before__at_that_moment(world):
    """After is after."""
    return after(world, -10, moment=(x509.NOW - x509.datetime.timedelta(days=10)).replace(microsecond=0))


@policy("policy_signed_after")
def signed_before__earliest_of_two(world):
    """Anyone can have an old signature timestamped anew."""
    return after(world, -1, -11)


@policy("timestamp_mismatch")
def signed_before__timestamp_of_another(world):
    attempt = after(world, -1)
    bundle = json.loads(world.signature.read_text())
    world.write_bundle(stamped(bundle, token(b"another", clock()[1], days=-1)))
    return attempt


# -- what a signature is about, and how ---------------------------------------------------------


@policy("policy_statement")
def statement_kind(world):
    """A rule about datasets, and a model's files."""
    honest(world)
    return under(world, alone(world, statements=["dataset"]))


@policy("policy_statement")
def statement_kind__tensors(world):
    honest(world)
    return under(world, alone(world, statements=["tensors", "dataset"]))


@policy("policy_statement")
def statement_kind__sources_of_a_dataset(world):
    honest(world)
    return under(world, alone(world, statements=["dataset"], sources=["web"]))


@policy("policy_hash")
def hash_not_allowed(world):
    honest(world)
    return under(world, alone(world, hashes=["blake3", "blake2b"]))


@policy("policy_hash")
def hash_not_allowed__other_way_round(world):
    honest(world, algorithm="blake3")
    return under(world, alone(world, hashes=["sha256"]))


@policy("policy_hash")
def hash_not_allowed__of_annotations(world):
    """Files by SHA-256, and the digests by which a loader checks them by another."""
    honest(world)
    return under(world, alone(world, hashes=["sha256"]))


@policy("policy_signature_algorithm")
def signature_algorithm_not_allowed(world):
    """A certificate decides how its holder signs; the rule says how it may be."""
    root = x509.authority()
    x509.certified(world, x509.leaf(root, kind="ed25519"))
    x509.roots_file(world, (root,))
    who = {"publisher": {"certificate_roots": ["roots.pem"], "identity": x509.EMAIL}}
    asked = rule("publisher", signature_algorithms=["ecdsa-p256-sha256", "ecdsa-p384-sha384"])
    return under(world, write(world, who, asked))


@policy("model_differs")
def pins_are_not_enough(world):
    """The signature is the pinned one; the model is not what it says."""
    payload = honest(world)
    root = json.loads(payload)["subject"][0]["digest"]["sha256"]
    world.write("config.json", b"{}\n")
    pinned = alone(world, payload=[oms.digest(payload)], root=[root])
    return under(world, pinned, differences={("changed_file", "config.json", None)})


# -- controls ----------------------------------------------------------------------------------


@control
def policy_all_conditions(world):
    """A signature that meets every condition that a rule can have, but for pins of one content alone."""
    attempt = after(world, -5)
    rules = (world.root / "policy.toml").read_text()
    root = json.loads(base64.b64decode(json.loads(world.signature.read_text())["dsseEnvelope"]["payload"]))["subject"][0]["digest"]
    more = {"statements": ["files"], "hashes": ["sha256", "blake3"], "signature_algorithms": ["ecdsa-p256-sha256"], "root": [OTHER, root["sha256"]]}
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in more.items())
    (world.root / "policy.toml").write_text(rules + lines)
    return attempt


@control
def policy_pinned_payload(world):
    payload = honest(world)
    return under(world, alone(world, payload=[OTHER, oms.digest(payload)]))


@control
def policy_hashes_without_annotations(world):
    honest(world, annotate=False)
    return under(world, alone(world, hashes=["sha256"]))


@control
def policy_lowest_version(world):
    honest(world, versioned(3))
    return under(world, alone(world, lowest_version=3))
