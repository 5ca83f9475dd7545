"""What the reference signs, `sentry verify` verifies; and what was changed since, it names."""

import base64
import hashlib

import pytest

# The forms that the reference writes, by its own names: hash and shard size.
FORMS = {
    "sha256": ("sha256", None),
    "blake2": ("blake2", None),
    "blake3": ("blake3", None),
    "sha256-shards": ("sha256", 1000),
    "blake2-shards": ("blake2", 1000),
    "sha256-shards-of-default-size": ("sha256", 1_000_000_000),
    # With BLAKE3 it takes the shard size and writes `files`.
    "blake3-shards": ("blake3", 1000),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.fixture
def key(keys):
    return keys("pkcs8", "p256")


@pytest.fixture(params=["inside", "outside"])
def where(request, full_model, outside):
    return full_model / "model.sig" if request.param == "inside" else outside


@pytest.fixture
def sign(reference, key):
    """Signs with the reference, which is told to leave its signature out as its command line is."""

    def sign(model, form, signature, ignore=(), **options):
        hashing = reference.hashing(
            form[0], shard_size=form[1], ignore=["model.sig", *ignore], **options
        )
        return reference.sign(model, key, signature, hashing)

    return sign


# What can happen to a model after signing, and the differences that must be named.


def flip_first_byte(model):
    flip(model / "nested/deep/part.safetensors", 0)
    return {("changed_file", "nested/deep/part.safetensors")}


def flip_last_byte(model):
    flip(model / "nested/deep/part.safetensors", -1)
    return {("changed_file", "nested/deep/part.safetensors")}


def truncate(model):
    (model / "a0").write_bytes((model / "a0").read_bytes()[:-1])
    return {("changed_file", "a0")}


def extend_by_zeroes(model):
    (model / "a-b").write_bytes((model / "a-b").read_bytes() + bytes(8))
    return {("changed_file", "a-b")}


def remove(model):
    (model / "a/b").unlink()
    return {("missing_file", "a/b")}


def add(model):
    (model / "nested/added.bin").write_bytes(b"not signed")
    return {("unsigned_file", "nested/added.bin")}


def rename(model):
    (model / "step:100").rename(model / "step:200")
    return {("missing_file", "step:100"), ("unsigned_file", "step:200")}


def swap(model):
    one, other = (model / "a.txt").read_bytes(), (model / "a/b").read_bytes()
    (model / "a.txt").write_bytes(other)
    (model / "a/b").write_bytes(one)
    return {("changed_file", "a.txt"), ("changed_file", "a/b")}


def change_one_letter_name(model):
    flip(model / "c", 3)
    return {("changed_file", "c")}


def change_two_colons(model):
    flip(model / "epoch:1:2", 3)
    return {("changed_file", "epoch:1:2")}


TAMPERINGS = [
    flip_first_byte, flip_last_byte, truncate, extend_by_zeroes, remove, add, rename, swap,
    change_one_letter_name, change_two_colons,
]  # fmt: skip


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def assert_rejected(verdict, code):
    assert (verdict.exit, verdict.code) == (1, code), verdict


def test_verified(sentry, sign, key, full_model, signed_names, form, where):
    bundle = sign(full_model, form, where)
    verdict = sentry.verify(full_model, key.public, signature=where)
    assert verdict.exit == 0, verdict
    # Shards of one file count as one file; the empty file is not there.
    files = signed_names - {"empty.bin"}
    assert verdict.report["signer"]["method"] == "key"
    assert verdict.report["signer"]["algorithm"] == "ecdsa-p256-sha256"
    assert verdict.report["signer"]["fingerprint"] == bundle.public_key["hint"]
    assert verdict.report["hash"] == bundle.serialization["hash_type"]
    assert verdict.report["serialization"] == bundle.serialization["method"]
    assert verdict.report["files"] == len(files)
    assert verdict.report["unsigned"] == []


def test_report_names_the_statement(sentry, sign, key, full_model):
    bundle = sign(full_model, FORMS["sha256"], full_model / "model.sig")
    report = sentry.verify(full_model, key.public).report
    subject = bundle.statement["subject"][0]
    assert report["statement"]["subject"] == subject["name"] == "model"
    assert report["statement"]["root"] == subject["digest"]["sha256"]
    assert report["statement"]["payload_sha256"] == hashlib.sha256(bundle.payload).hexdigest()
    assert report["statement"]["version"] is None
    # Nothing of ours is in their signatures, so nothing of it can be reported as checked.
    assert (report["tensors"], report["annotated_files"]) == (0, 0)
    signed = (full_model / name for name in bundle.names)
    assert report["bytes"] == sum(path.stat().st_size for path in signed)


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda tamper: tamper.__name__)
def test_tampering_is_named(sentry, sign, key, full_model, form, where, tamper):
    sign(full_model, form, where)
    expected = tamper(full_model)
    verdict = sentry.verify(full_model, key.public, signature=where)
    assert_rejected(verdict, "model_differs")
    assert verdict.differences == expected


@pytest.mark.parametrize("curve", ["p256", "p384", "p521"])
@pytest.mark.parametrize("kind", ["pkcs8", "sec1"])
def test_every_curve(sentry, reference, keys, model, kind, curve):
    key = keys(kind, curve)
    reference.sign(model, key, model / "model.sig")
    verdict = sentry.verify(model, key.public)
    assert verdict.exit == 0, verdict
    assert verdict.report["signer"]["algorithm"].startswith(f"ecdsa-{curve}-")
    assert_rejected(sentry.verify(model, keys("pkcs8-scrypt", curve).public), "signature_invalid")


def test_command_line_of_theirs(sentry, reference, key, model, signed_names):
    options = ["--private_key", key.private, "--signature", model / "model.sig"]
    result = reference.run("sign", "key", model, *options, "--ignore-paths", model / "nested")
    assert result.returncode == 0, result.stderr
    assert sentry.verify(model, key.public).exit == 0
    (model / "nested/added.bin").write_bytes(b"ignored when it was signed")
    verdict = sentry.verify(model, key.public)
    assert verdict.exit == 0, verdict
    assert verdict.report["files"] == sum(not name.startswith("nested/") for name in signed_names)
    assert "nested" in verdict.report["ignored"]
    (model / "nested.txt").write_bytes(b"shares a prefix with the ignored folder, and no more")
    verdict = sentry.verify(model, key.public)
    assert verdict.differences == {("unsigned_file", "nested.txt")}


def test_signature_inside_that_is_not_listed_as_ignored(sentry, reference, key, model):
    """Its API signs before it writes, so the statement does not know the signature's name."""
    bundle = reference.sign(model, key, model / "model.sig", reference.hashing())
    assert "model.sig" not in bundle.serialization["ignore_paths"]
    assert sentry.verify(model, key.public).exit == 0
    with pytest.raises(ValueError, match=r"Extra files found in model 'model': model\.sig"):
        reference.verify(model, key, bundle.path)


def test_statement_without_ignore_paths(sentry, reference, key, model, outside):
    hashing = reference.hashing(ignore_git_paths=False)
    for name in [".git/config", ".gitattributes", ".gitignore", ".github/workflows/ci.yml"]:
        (model / name).unlink()
    bundle = reference.sign(model, key, outside, hashing)
    assert "ignore_paths" not in bundle.serialization
    assert sentry.verify(model, key.public, signature=outside).exit == 0


def test_empty_file_in_a_model_of_shards(sentry, sign, key, model):
    """The reference has no resource for it, so it is let through, listed, and never loaded."""
    bundle = sign(model, FORMS["sha256-shards"], model / "model.sig")
    assert not [name for name in bundle.names if name.startswith("empty.bin")]
    verdict = sentry.verify(model, key.public)
    assert verdict.exit == 0, verdict
    assert verdict.report["unsigned"] == ["empty.bin"]


def test_empty_file_in_a_model_of_files(sentry, sign, key, model):
    bundle = sign(model, FORMS["sha256"], model / "model.sig")
    assert "empty.bin" in bundle.names
    (model / "empty.bin").write_bytes(b"no longer")
    assert sentry.verify(model, key.public).differences == {("changed_file", "empty.bin")}


def test_unsigned_files_on_request(sentry, sign, key, full_model, form):
    sign(full_model, form, full_model / "model.sig")
    (full_model / "added.bin").write_bytes(b"not signed")
    verdict = sentry.verify(full_model, key.public, "--ignore-unsigned-files")
    assert verdict.exit == 0, verdict
    assert verdict.report["unsigned"] == ["added.bin"]
    # What was signed is checked all the same.
    flip(full_model / "a0", 0)
    verdict = sentry.verify(full_model, key.public, "--ignore-unsigned-files")
    assert verdict.differences == {("changed_file", "a0")}


def test_single_file(sentry, sign, key, one_file, outside, form):
    bundle = sign(one_file, form, outside)
    # The file is named by a dot: the path of the model relative to itself.
    assert {name.partition(":")[0] for name in bundle.names} == {"."}
    verdict = sentry.verify(one_file, key.public, signature=outside)
    assert verdict.exit == 0, verdict
    assert (verdict.report["files"], verdict.report["statement"]["subject"]) == (1, one_file.name)


def test_single_file_beside_its_signature(sentry, sign, key, one_file):
    """Found without being told: NAME.sig."""
    sign(one_file, FORMS["sha256"], one_file.with_name(f"{one_file.name}.sig"))
    assert sentry.verify(one_file, key.public).exit == 0


@pytest.mark.parametrize("position", [0, 1500, -1], ids=["first", "middle", "last"])
def test_single_file_changed(sentry, sign, key, one_file, outside, form, position):
    sign(one_file, form, outside)
    flip(one_file, position)
    verdict = sentry.verify(one_file, key.public, signature=outside)
    assert_rejected(verdict, "model_differs")
    assert [kind for kind, _ in verdict.differences] == ["changed_file"]


def test_folder_is_not_the_signed_file(sentry, sign, key, one_file, outside, write_tree):
    sign(one_file, FORMS["sha256"], outside)
    folder = write_tree(one_file.parent / "folder", {one_file.name: one_file.read_bytes()})
    assert sentry.verify(folder, key.public, signature=outside).exit == 1


# Quirks of the bundle itself, which no signature covers.


def keyid_null(bundle):
    bundle.envelope["signatures"][0]["keyid"] = None


def keyid_absent(bundle):
    del bundle.envelope["signatures"][0]["keyid"]


def log_entries_absent(bundle):
    del bundle.document["verificationMaterial"]["tlogEntries"]


def hint_of_another_key(bundle):
    bundle.public_key["hint"] = "0" * 64


@pytest.mark.parametrize(
    "edit",
    [keyid_null, keyid_absent, log_entries_absent, hint_of_another_key],
    ids=lambda edit: edit.__name__,
)
def test_harmless_forms_of_the_bundle(sentry, sign, key, model, edit):
    bundle = sign(model, FORMS["sha256"], model / "model.sig")
    edit(bundle)
    bundle.write(bundle.path)
    assert sentry.verify(model, key.public).exit == 0


OLD_DETAILS = {
    "p256": "PKIX_ECDSA_P256_SHA_256",
    "p384": "PKIX_ECDSA_P384_SHA_384",
    "p521": "PKIX_ECDSA_P521_SHA_512",
}


def make_old(bundle, key, details):
    """As versions before 1.1.0 wrote it: the PEM text of the key, and its kind."""
    bundle.public_key.clear()
    bundle.public_key["rawBytes"] = base64.b64encode(key.public.read_bytes()).decode()
    bundle.public_key["keyDetails"] = details
    bundle.envelope["signatures"][0]["keyid"] = None
    del bundle.document["verificationMaterial"]["tlogEntries"]
    bundle.write(bundle.path)


@pytest.mark.parametrize("curve", OLD_DETAILS)
def test_old_form_of_the_key(sentry, reference, keys, model, curve):
    key = keys("pkcs8", curve)
    make_old(reference.sign(model, key, model / "model.sig"), key, OLD_DETAILS[curve])
    assert sentry.verify(model, key.public).exit == 0


def test_old_form_of_another_key(sentry, reference, keys, key, model):
    bundle = reference.sign(model, key, model / "model.sig")
    make_old(bundle, keys("sec1", "p256"), OLD_DETAILS["p256"])
    assert_rejected(sentry.verify(model, key.public), "key_label_mismatch")


def test_old_form_of_another_curve(sentry, reference, key, model):
    make_old(reference.sign(model, key, model / "model.sig"), key, OLD_DETAILS["p384"])
    assert_rejected(sentry.verify(model, key.public), "key_label_mismatch")


# Links.


def test_allowed_link_to_a_file(sentry, sign, key, model):
    (model / "link.json").symlink_to("config.json")
    bundle = sign(model, FORMS["sha256"], model / "model.sig", allow_symlinks=True)
    assert "link.json" in bundle.names
    assert sentry.verify(model, key.public).exit == 0
    flip(model / "config.json", 0)
    verdict = sentry.verify(model, key.public)
    expected = {("changed_file", "config.json"), ("changed_file", "link.json")}
    assert verdict.differences == expected


def test_link_that_the_signature_does_not_allow(sentry, sign, key, model):
    sign(model, FORMS["sha256"], model / "model.sig")
    (model / "config.json").rename(model / "nested/config.json")
    (model / "config.json").symlink_to("nested/config.json")
    assert_rejected(sentry.verify(model, key.public), "symlink")


# What the reference signs and we reject, each for its own reason.


def test_model_without_files(sentry, sign, key, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    sign(empty, FORMS["sha256"], empty / "model.sig")
    assert_rejected(sentry.verify(empty, key.public), "empty_manifest")


def test_backslash_in_a_name(sentry, sign, key, model):
    (model / "up\\and\\away").write_bytes(b"a path elsewhere")
    sign(model, FORMS["sha256"], model / "model.sig")
    assert_rejected(sentry.verify(model, key.public), "unsafe_path")


def test_resource_that_is_also_ignored(sentry, reference, key, model):
    """Its serializer records these paths without leaving them out."""
    hashing = reference.hashing()
    hashing.use_file_serialization(ignore_paths=["config.json"])
    bundle = reference.sign(model, key, model / "model.sig", hashing)
    assert "config.json" in bundle.names
    assert "config.json" in bundle.serialization["ignore_paths"]
    assert_rejected(sentry.verify(model, key.public), "resource_ignored")


def test_git_files_that_were_signed(sentry, sign, key, model):
    """The specification excludes them at the top whatever a signature says."""
    bundle = sign(model, FORMS["sha256"], model / "model.sig", ignore_git_paths=False)
    assert ".gitattributes" in bundle.names
    assert_rejected(sentry.verify(model, key.public), "resource_ignored")


@pytest.mark.parametrize("path", ["..", "/etc"])
def test_ignored_path_outside_of_the_model_hides_nothing(sentry, reference, key, model, path):
    hashing = reference.hashing()
    hashing.use_file_serialization(ignore_paths=[path])
    bundle = reference.sign(model, key, model / "model.sig", hashing)
    assert path in bundle.serialization["ignore_paths"]
    # Whether such a signature is refused or its path is without effect, an added file is seen.
    (model / "added.bin").write_bytes(b"not signed")
    assert sentry.verify(model, key.public).exit == 1
