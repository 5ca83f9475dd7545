"""Honest artifacts in every form, which must be accepted: else a rejection proves nothing.

Some stand just within a limit that a case stands just beyond.
"""

import base64
import hashlib

from kit import oms, tensors
from kit.case import control
from kit.keys import key
from kit.tensors import Tensor, encode, entry, pattern, raw
from kit.world import BLOB, FILES, FIRST

from .limits import BUNDLE_LIMIT, MIB, foreign_annotation, nested, padded_bundle
from .path import NFC, NFD
from .path_links import hub_cache


@control
def files_sha256(world):
    world.honest()
    return world.verify(
        fields={
            "serialization": "files", "hash": "sha256", "files": 7, "annotated_files": 7,
            "tensors": 6, "bytes": sum(map(len, FILES.values())), "unsigned": [],
        }
    )  # fmt: skip


@control
def files_sha256_not_annotated(world):
    world.honest(annotate=False)
    return world.verify(fields={"annotated_files": 0, "tensors": 0})


@control
def files_blake2b(world):
    world.honest(algorithm="blake2b")
    return world.verify(fields={"hash": "blake2b"})


@control
def files_blake3(world):
    world.honest(algorithm="blake3")
    return world.verify(fields={"hash": "blake3"})


@control
def shards_sha256(world):
    world.honest(shard_size=100_000)
    return world.verify(fields={"serialization": "shards"})


@control
def shards_blake2b(world):
    world.honest(shard_size=70_000, algorithm="blake2b")
    return world.verify()


@control
def shards_blake3(world):
    world.honest(shard_size=300_000, algorithm="blake3")
    return world.verify()


@control
def shards_as_the_reference_writes_them(world):
    """The size as a float, and in the algorithm's name."""
    statement = world.statement(shard_size=100_000)
    statement["predicate"]["serialization"]["shard_size"] = 100_000.0
    for item in statement["predicate"]["resources"]:
        item["algorithm"] = "sha256-sharded-100000"
    world.sign(statement)
    return world.verify()


@control
def shards_colon_in_a_name(world):
    world.base()
    world.write("weights:v2:final.bin", pattern(1000))
    world.sign(world.statement(shard_size=300))
    return world.verify()


def single(world, listed_as):
    world.single(FILES[FIRST])
    resource = oms.resource(world.model.name, FILES[FIRST])
    resource["name"] = listed_as or world.model.name
    world.sign(oms.statement(world.model.name, [resource], "sha256", []))
    return world.verify(fields={"files": 1, "tensors": 4})


@control
def single_file(world):
    return single(world, None)


@control
def single_file_listed_as_dot(world):
    return single(world, ".")


def by(world, name):
    world.signer = world.trusted = key(name)
    world.honest()
    return world.verify()


@control
def key_p384(world):
    return by(world, "p384")


@control
def key_p521(world):
    return by(world, "p521")


@control
def key_ed25519(world):
    return by(world, "ed25519")


@control
def key_embedded_as_before_v1_1(world):
    bundle = world.bundle()
    raw_bytes = oms.b64(world.signer.public_pem())
    bundle["verificationMaterial"] = {
        "publicKey": {"rawBytes": raw_bytes, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    }
    bundle["dsseEnvelope"]["signatures"][0]["keyid"] = None
    world.write_bundle(bundle)
    return world.verify()


@control
def key_hint_of_another_key(world):
    """A hint explains, and never decides."""
    bundle = world.bundle()
    other = hashlib.sha256(key("p256", "stranger").public_pem()).hexdigest()
    bundle["verificationMaterial"]["publicKey"]["hint"] = other
    world.write_bundle(bundle)
    return world.verify()


@control
def keyid_absent(world):
    bundle = world.bundle()
    del bundle["dsseEnvelope"]["signatures"][0]["keyid"]
    del bundle["verificationMaterial"]["tlogEntries"]
    world.write_bundle(bundle)
    return world.verify()


@control
def base64_url_safe_as_a_whole(world):
    """DSSE allows either alphabet, one at a time."""
    statement = world.statement()
    statement["subject"][0]["annotations"] = {"example.org/note": ">>>>>>??????" * 3}
    bundle = oms.bundle(oms.encode(statement), world.signer)
    envelope = bundle["dsseEnvelope"]
    for holder, name in ((envelope, "payload"), (envelope["signatures"][0], "sig")):
        holder[name] = base64.urlsafe_b64encode(base64.b64decode(holder[name])).decode()
    assert "-" in envelope["payload"] and "_" in envelope["payload"]
    world.write_bundle(bundle)
    return world.verify()


@control
def resources_in_the_references_order(world):
    """By path component: `tokenizer/...` before `tokenizer.json`."""
    statement = world.statement()
    statement["predicate"]["resources"].sort(key=lambda item: item["name"].split("/"))
    names = [item["name"] for item in statement["predicate"]["resources"]]
    assert names != sorted(names)
    world.sign(oms.set_root(statement))
    return world.verify()


@control
def signature_outside(world):
    world.signature = world.root / "elsewhere.sig"
    world.honest(ignored=())
    return world.verify()


@control
def signature_inside_not_listed_as_ignored(world):
    world.honest(ignored=())
    return world.verify()


@control
def git_at_the_top(world):
    world.honest()
    world.write(".git/config", b"[core]\n")
    world.write(".gitattributes", b"*.bin lfs\n")
    return world.verify()


@control
def ignored_folder(world):
    world.base()
    world.write("cache/a.bin", b"ignored")
    world.honest(ignored=("cache", "model.sig"))
    world.write("cache/b.bin", b"ignored too")
    return world.verify()


@control
def unsigned_file_on_request(world):
    """Accepted, and named."""
    world.honest()
    world.write("extra.bin", b"not signed")
    return world.verify("--ignore-unsigned-files", fields={"unsigned": ["extra.bin"]})


@control
def artifact_version(world):
    statement = world.statement()
    statement["subject"][0]["annotations"] = {oms.VERSION_KEY: 3}
    world.sign(statement)
    return world.verify()


@control
def foreign_annotation_ignored(world):
    statement = world.statement()
    oms.find(statement, "config.json")["annotations"]["example.org/note"] = {"a": [1]}
    world.sign(statement)
    return world.verify()


@control
def empty_file(world):
    world.base()
    world.write("tokenizer/__init__.py", b"")
    world.honest()
    return world.verify()


@control
def names_in_other_scripts(world):
    """Not normalised, only compared: one name in each form."""
    world.base()
    world.write(NFC, b"one")
    world.write("other-" + NFD, b"two")
    world.write("\u6a21\u578b.txt", b"three")
    world.honest()
    return world.verify()


@control
def links_allowed_and_inside(world):
    world.base()
    (world.model / "alias.bin").symlink_to(BLOB)
    statement = world.statement()
    statement["predicate"]["serialization"]["allow_symlinks"] = True
    world.sign(statement)
    return world.verify()


@control
def links_of_a_hub_cache(world):
    hub_cache(world)
    return world.verify()


@control
def depth_within_the_limit(world):
    """Two below it, since the count may start at the document or within it."""
    foreign_annotation(world, nested(31))
    return world.verify()


@control
def bundle_within_the_limit(world):
    padded_bundle(world, BUNDLE_LIMIT)
    return world.verify(memory=1024 * MIB)


def with_file(world, content):
    world.base()
    world.write("special.safetensors", content)
    world.honest()
    return world.verify(fields={"annotated_files": 8})


@control
def safetensors_with_metadata(world):
    header = {"__metadata__": {"format": "pt"}, "a": entry("U8", [16], 0, 16)}
    return with_file(world, raw(header, pattern(16)))


@control
def safetensors_with_empty_tensors(world):
    """Tensors without bytes at every boundary, and a scalar."""
    named = [Tensor("z", "F32", [0, 4]), Tensor("a", "F32", [2]), Tensor("m", "U8", [0])]
    return with_file(world, encode([*named, Tensor("b", "I64", []), Tensor("y", "I8", [0])]))


@control
def safetensors_without_tensors(world):
    return with_file(world, raw("{}", b""))


@control
def safetensors_listed_in_another_order(world):
    """The header's order is free; the offsets decide."""
    header = {"b": entry("U8", [8], 8, 16), "a": entry("U8", [8], 0, 8)}
    assert list(header) != [name for name, _ in tensors.entries(raw(header, pattern(16)))]
    return with_file(world, raw(header, pattern(16)))
