"""Every bundle that `sentry sign` writes validates against the schemas of the specification.

The schemas let some things through that the specification forbids; those are checked in code. All
digests are recomputed here, from the files alone.
"""

import hashlib

import blake3
import jsonschema
import pytest

HASHES = {
    "sha256": hashlib.sha256,
    "blake2b": hashlib.blake2b,
    "blake3": blake3.blake3,
}
FORMS = [(hash, None) for hash in HASHES] + [("sha256", 1000), ("blake2b", 1000)]
ALGORITHMS = ["p256", "p384", "p521", "ed25519"]


def options_of(form):
    hash, shard_size = form
    return ["--hash", hash, *(["--shard-size", str(shard_size)] if shard_size else [])]


def content_of(model, name, sharded):
    """The bytes that a resource of ours is about."""
    path, start, end = name.rsplit(":", 2) if sharded else (name, None, None)
    content = (model if model.is_file() else model / path).read_bytes()
    return content[int(start) : int(end)] if sharded else content


def assert_exact(bundle, model, form):
    """What the schemas leave open."""
    hash, shard_size = form
    serialization, resources = bundle.serialization, bundle.resources
    assert serialization["method"] == ("shards" if shard_size else "files")
    assert serialization["hash_type"] == hash
    assert serialization.get("shard_size") == shard_size
    assert not isinstance(serialization.get("shard_size"), float)
    assert resources
    assert len(set(bundle.names)) == len(bundle.names)
    # Code points of the whole name; Python compares strings by code points.
    assert bundle.names == sorted(bundle.names)
    root = hashlib.sha256()
    for resource in resources:
        content = content_of(model, resource["name"], shard_size)
        assert resource["algorithm"] == hash
        assert resource["digest"] == HASHES[hash](content).hexdigest()
        root.update(bytes.fromhex(resource["digest"]))
    (subject,) = bundle.statement["subject"]
    assert subject["name"] == model.name
    assert subject["digest"] == {"sha256": root.hexdigest()}


def assert_bundle_of_a_key(bundle):
    """The exact shape of the key method, which the reference parses without tolerance."""
    assert bundle.document["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert set(bundle.document["verificationMaterial"]) == {"publicKey", "tlogEntries"}
    assert bundle.document["verificationMaterial"]["tlogEntries"] == []
    assert set(bundle.public_key) == {"hint"}
    (signature,) = bundle.envelope["signatures"]
    assert signature["keyid"] == ""


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("kind", ["directory", "file"])
def test_every_form(sentry, keys, full_model, one_file, validate_bundle, kind, form, algorithm):
    model = full_model if kind == "directory" else one_file
    bundle, _ = sentry.sign(model, keys("pkcs8", algorithm), *options_of(form))
    validate_bundle(bundle)
    assert_exact(bundle, model, form)
    assert_bundle_of_a_key(bundle)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize(
    "options",
    [["--no-annotations"], ["--artifact-version", "9007199254740991"], ["--allow-symlinks"]],
    ids=lambda options: options[0].strip("-"),
)
def test_every_option(sentry, keys, full_model, validate_bundle, form, options):
    bundle, _ = sentry.sign(full_model, keys("pkcs8", "p256"), *options_of(form), *options)
    validate_bundle(bundle)
    assert_exact(bundle, full_model, form)
    assert bundle.serialization["allow_symlinks"] is ("--allow-symlinks" in options)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_ignored_paths(sentry, keys, full_model, outside, validate_bundle, form):
    options = [*options_of(form), "--ignore", full_model / "nested"]
    bundle, _ = sentry.sign(full_model, keys("pkcs8", "p256"), *options, signature=outside)
    validate_bundle(bundle)
    assert_exact(bundle, full_model, form)
    assert "nested" in bundle.serialization["ignore_paths"]
    assert not [path for path in bundle.serialization["ignore_paths"] if path.startswith("..")]


@pytest.mark.parametrize("where", ["model.sig", "sub/deeper.sig"])
def test_own_path_is_recorded(sentry, keys, model, validate_bundle, where):
    bundle, _ = sentry.sign(model, keys("pkcs8", "p256"), signature=model / where)
    validate_bundle(bundle)
    assert where in bundle.serialization["ignore_paths"]


def test_empty_file_among_files(sentry, keys, model, validate_bundle):
    bundle, _ = sentry.sign(model, keys("pkcs8", "p256"))
    validate_bundle(bundle)
    assert_exact(bundle, model, ("sha256", None))
    assert "empty.bin" in bundle.names


@pytest.mark.parametrize("name", ["key", "certificate", "sigstore"])
def test_published_valid_bundles_validate(vectors, read_bundle, validate_bundle, name):
    validate_bundle(read_bundle(vectors / f"spec/valid/{name}.bundle.json"))


@pytest.mark.parametrize(
    "name", ["missing-envelope", "missing-tlog-entries", "missing-verification-material"]
)
def test_published_invalid_bundles_do_not(vectors, read_bundle, validate, name):
    """So that these tests are able to fail."""
    bundle = read_bundle(vectors / f"spec/invalid/{name}.bundle.json")
    with pytest.raises(jsonschema.ValidationError):
        validate(bundle.document, "bundle")


def test_published_wrong_predicate_does_not(vectors, read_bundle, validate):
    bundle = read_bundle(vectors / "spec/invalid-payload/wrong-predicate.bundle.json")
    validate(bundle.document, "bundle")
    with pytest.raises(jsonschema.ValidationError):
        validate(bundle.statement, "statement")


@pytest.mark.parametrize("wrong", ["float", "sharded"])
def test_quirks_of_the_reference_do_not(reference, keys, full_model, validate, wrong):
    """The schemas see what the reference writes wrongly, so they would see it in ours."""
    hashing = reference.hashing(shard_size=1000, ignore=["model.sig"])
    bundle = reference.sign(full_model, keys("pkcs8", "p256"), full_model / "model.sig", hashing)
    predicate = bundle.statement["predicate"]
    if wrong == "float":
        # JSON Schema takes 1000.0 for an integer, hence the check of its type in `assert_exact`.
        assert isinstance(predicate["serialization"]["shard_size"], float)
        return
    with pytest.raises(jsonschema.ValidationError, match="sha256-sharded-1000"):
        validate(predicate, "predicate")
