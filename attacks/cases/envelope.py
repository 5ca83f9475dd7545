"""Class envelope, part one: the DSSE envelope, its signature, and the statement's types."""

import json
from pathlib import Path

from kit import oms
from kit.case import rejected
from kit.keys import key
from kit.world import BLOB, FILES, FIRST, SECOND

case = rejected("envelope")

PLAIN_JSON = "application/json"
STATEMENTS = Path(__file__).parents[2] / "vectors/sentry/statements.json"


@case("payload_type")
def payload_type_confusion(world):
    """The signature is good for the type it states; the type is another application's."""
    world.sign_payload(oms.encode(world.statement()), PLAIN_JSON)
    return world.verify()


@case("payload_type")
def payload_type_confusion__relabelled(world):
    bundle = world.bundle()
    bundle["dsseEnvelope"]["payloadType"] = PLAIN_JSON
    world.write_bundle(bundle)
    return world.verify()


@case("payload_type")
def payload_type_confusion__with_parameter(world):
    world.sign_payload(oms.encode(world.statement()), oms.PAYLOAD_TYPE + "; charset=utf-8")
    return world.verify()


@case("payload_type")
def payload_type_confusion__capitals(world):
    world.sign_payload(oms.encode(world.statement()), "application/vnd.in-toto+JSON")
    return world.verify()


@case("payload_type")
def payload_type_confusion__empty(world):
    world.sign_payload(oms.encode(world.statement()), "")
    return world.verify()


def signed_over(world, message, payload=None):
    """The honest envelope, but its signature is over these bytes; by default of this payload."""
    bundle = world.bundle()
    if payload is not None:
        bundle["dsseEnvelope"]["payload"] = oms.b64(payload)
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = oms.b64(world.signer.sign(message))
    world.write_bundle(bundle)
    return world.verify()


@case("signature_invalid")
def payload_type_confusion__signed_under_another(world):
    """Signed as plain JSON, presented as in-toto: the encoding binds the type."""
    return signed_over(world, oms.pae(oms.encode(world.statement()), PLAIN_JSON))


@case("signature_invalid")
def payload_type_confusion__no_pae(world):
    return signed_over(world, oms.encode(world.statement()))


@case("statement_type")
def wrong_statement_type_or_predicate(world):
    statement = world.statement()
    statement["_type"] = "https://in-toto.io/Statement/v0.1"
    world.sign(statement)
    return world.verify()


def with_predicate_type(world, uri):
    statement = world.statement()
    statement["predicateType"] = uri
    world.sign(statement)
    return world.verify()


@case("predicate_type")
def wrong_statement_type_or_predicate__slsa(world):
    return with_predicate_type(world, "https://slsa.dev/provenance/v1")


@case("predicate_type")
def wrong_statement_type_or_predicate__next_version(world):
    return with_predicate_type(world, "https://model_signing/signature/v1.1")


@case("predicate_type")
def wrong_statement_type_or_predicate__trailing_slash(world):
    return with_predicate_type(world, oms.PREDICATE_TYPE + "/")


@case("legacy_v0_2")
def wrong_statement_type_or_predicate__v0_2(world):
    """An honest bundle of reference version 0.2: subjects are the files, PAE is its own."""
    world.base()
    subjects = [
        {"name": name, "digest": {"sha256": oms.digest(content)}} for name, content in FILES.items()
    ]
    payload = oms.encode({
        "_type": oms.STATEMENT_TYPE, "subject": subjects,
        "predicateType": "https://model_signing/Digests/v0.1", "predicate": {},
    })  # fmt: skip
    return signed_over(world, oms.pae_of_v0_2(payload), payload)


@case("legacy_v0_2")
def wrong_statement_type_or_predicate__v0_2_signed_by_dsse(world):
    """The old predicate under a good signature is no better."""
    return with_predicate_type(world, "https://model_signing/Digests/v0.1")


def of_another_kind(world, what):
    """A statement of ours that is about something else than files, well made and signed."""
    vectors = json.loads(STATEMENTS.read_text(encoding="utf-8"))["valid"]
    [payload] = [vector["payload"] for vector in vectors if vector["what"] == what]
    world.base()
    world.sign_payload(payload.encode())
    return world.verify()


@case("predicate_type")
def wrong_statement_type_or_predicate__about_tensors(world):
    return of_another_kind(world, "tensors of a model")


@case("predicate_type")
def wrong_statement_type_or_predicate__about_a_dataset(world):
    return of_another_kind(world, "a dataset of two sources with tables")


def reserialised(world):
    """The same statement in other bytes."""
    return json.dumps(world.statement(), indent=2, sort_keys=True).encode()


@case("signature_invalid")
def payload_reserialised_not_raw(world):
    """Signed compact, carried indented: equal once parsed."""
    honest = oms.encode(world.statement())
    return signed_over(world, oms.pae(honest), reserialised(world))


@case("signature_invalid")
def payload_reserialised_not_raw__other_way_round(world):
    return signed_over(world, oms.pae(reserialised(world)))


@case("signature_invalid")
def payload_reserialised_not_raw__one_space(world):
    honest = oms.encode(world.statement())
    return signed_over(world, oms.pae(honest), honest + b" ")


def with_signatures(world, *signatures):
    bundle = world.bundle()
    honest = bundle["dsseEnvelope"]["signatures"][0]
    made = [honest if item == "good" else item for item in signatures]
    bundle["dsseEnvelope"]["signatures"] = made
    world.write_bundle(bundle)
    return world.verify()


def bad_signature():
    return {"sig": oms.b64(key("p256", "stranger").sign(b"something else")), "keyid": ""}


@case("signature_count")
def signatures_empty(world):
    return with_signatures(world)


@case("signature_count")
def two_signatures_one_bad(world):
    return with_signatures(world, "good", bad_signature())


@case("signature_count")
def two_signatures_one_bad__first(world):
    return with_signatures(world, bad_signature(), "good")


@case("signature_count")
def two_signatures_one_bad__both_good(world):
    """One signature is the rule, whatever the second one is worth."""
    return with_signatures(world, "good", "good")


@case("signature_not_found")
def signature_stripped(world):
    world.honest()
    world.signature.unlink()
    return world.verify()


@case("json_invalid")
def signature_stripped__empty_file(world):
    world.honest()
    world.signature.write_bytes(b"")
    return world.verify()


@case("json_field")
def signature_stripped__no_signatures_field(world):
    bundle = world.bundle()
    del bundle["dsseEnvelope"]["signatures"]
    world.write_bundle(bundle)
    return world.verify()


@case("json_field")
def signature_stripped__signatures_null(world):
    bundle = world.bundle()
    bundle["dsseEnvelope"]["signatures"] = None
    world.write_bundle(bundle)
    return world.verify()


@case("json_field")
def signature_stripped__no_sig_field(world):
    return with_signatures(world, {"keyid": ""})


@case("signature_encoding")
def signature_stripped__empty_sig(world):
    return with_signatures(world, {"sig": "", "keyid": ""})


@case("json_field")
def signature_stripped__no_envelope(world):
    bundle = world.bundle()
    del bundle["dsseEnvelope"]
    world.write_bundle(bundle)
    return world.verify()


@case("signature_invalid")
def signature_stripped__by_another_key(world):
    """A stranger signs the whole model, honestly; the bundle names the stranger's key."""
    world.signer = key("p256", "stranger")
    world.honest()
    return world.verify()


@case("model_differs")
def signature_from_other_model(world):
    """By the same signer, over other files."""
    other = [oms.resource(name, b"other") for name in ("a.bin", "b.bin")]
    world.base()
    world.sign(oms.statement("other", other, "sha256", ["model.sig"]))
    missing = {("missing_file", name, None) for name in ("a.bin", "b.bin")}
    return world.verify(differences=missing | {("unsigned_file", name, None) for name in FILES})


@case("model_differs")
def signature_from_other_model__same_names(world):
    """Same names, same architecture, so same headers; other weights."""
    world.honest()
    changed = set()
    for name, tensor in ((FIRST, "layer.bias"), (SECOND, "head.bias")):
        content = bytearray(FILES[name])
        content[-1] ^= 0xFF
        world.write(name, bytes(content))
        changed.add(("changed_tensor", name, tensor))
    world.write(BLOB, FILES[BLOB][::-1])
    return world.verify(differences=changed | {("changed_file", BLOB, None)})


@case("root_mismatch")
def subject_root_mismatch(world):
    statement = world.statement()
    statement["subject"][0]["digest"]["sha256"] = oms.digest(b"another root")
    world.sign(statement)
    return world.verify()


@case("root_mismatch")
def subject_root_mismatch__of_hex_digits(world):
    """The root is over raw digests, not over their text."""
    statement = world.statement()
    text = "".join(item["digest"] for item in statement["predicate"]["resources"])
    statement["subject"][0]["digest"]["sha256"] = oms.digest(text.encode())
    world.sign(statement)
    return world.verify()


@case("root_mismatch")
def subject_root_mismatch__resource_added(world):
    """Somebody lists one more file, and forgets the root."""
    statement = world.statement()
    world.write("extra.bin", b"extra")
    statement["predicate"]["resources"].append(oms.resource("extra.bin", b"extra"))
    world.sign(statement)
    return world.verify()


@case("subject_count")
def subject_root_mismatch__no_subject(world):
    statement = world.statement()
    statement["subject"] = []
    world.sign(statement)
    return world.verify()


@case("subject_count")
def subject_root_mismatch__two_subjects(world):
    statement = world.statement()
    statement["subject"] *= 2
    world.sign(statement)
    return world.verify()


@case("json_field")
def subject_root_mismatch__no_sha256(world):
    statement = world.statement()
    root = statement["subject"][0]["digest"].pop("sha256")
    statement["subject"][0]["digest"]["sha512"] = root * 2
    world.sign(statement)
    return world.verify()


@case("model_differs")
def files_renamed_same_root(world):
    """The root holds digests and no names; this renaming leaves it as it was."""
    world.honest()
    (world.model / "tokenizer.json").rename(world.model / "tokenizer.jsonl")
    return world.verify(
        differences={
            ("missing_file", "tokenizer.json", None), ("unsigned_file", "tokenizer.jsonl", None),
        }
    )  # fmt: skip


@case("signature_invalid")
def files_renamed_same_root__in_the_statement_too(world):
    """The statement is made to fit the new name: its root still does, its signature does not."""
    statement = world.statement()
    honest = oms.encode(statement)
    (world.model / "tokenizer.json").rename(world.model / "tokenizer.jsonl")
    oms.find(statement, "tokenizer.json")["name"] = "tokenizer.jsonl"
    return signed_over(world, oms.pae(honest), oms.encode(statement))
