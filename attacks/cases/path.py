"""Class path, part one: names in the statement, and names on disk.

Where it can be done the file that an unsafe name leads to is there, with the signed content: a
verifier that follows the name would be satisfied.
"""

import os

from kit import oms
from kit.case import rejected

case = rejected("path")


def with_resource(world, name, content=b"outside", **options):
    """Adds one resource of that name to an honest statement, and signs."""
    statement = world.statement()
    statement["predicate"]["resources"].append(oms.resource(name, content))
    world.sign(oms.set_root(statement))
    return world.verify(**options)


@case("unsafe_path")
def dotdot_name(world):
    (world.root / "outside.bin").write_bytes(b"outside")
    return with_resource(world, "../outside.bin")


@case("unsafe_path")
def dotdot_name__in_the_middle(world):
    """It leads back into the model: still two names of one file."""
    statement = world.statement()
    oms.find(statement, "config.json")["name"] = "tokenizer/../config.json"
    world.sign(statement)
    return world.verify()


@case("unsafe_path")
def dotdot_name__alone(world):
    return with_resource(world, "..")


@case("unsafe_path")
def dotdot_name__in_a_shard(world):
    (world.root / "outside.bin").write_bytes(b"outside")
    statement = world.statement(shard_size=100_000)
    statement["predicate"]["resources"] += oms.shards(
        "../outside.bin", b"outside", "sha256", 100_000
    )
    world.sign(oms.set_root(statement))
    return world.verify()


@case("unsafe_path")
def dotdot_name__ignore_unsigned_files(world):
    """The reference, asked this, opens the name and leaves the model."""
    (world.root / "outside.bin").write_bytes(b"outside")
    statement = world.statement()
    statement["predicate"]["resources"].append(oms.resource("../outside.bin", b"outside"))
    world.sign(oms.set_root(statement))
    return world.verify("--ignore-unsigned-files")


@case("unsafe_path")
def dotdot_name__dot_component(world):
    statement = world.statement()
    oms.find(statement, "config.json")["name"] = "./config.json"
    world.sign(statement)
    return world.verify()


@case("unsafe_path")
def dotdot_name__empty_component(world):
    statement = world.statement()
    oms.find(statement, "tokenizer/vocab.txt")["name"] = "tokenizer//vocab.txt"
    world.sign(statement)
    return world.verify()


@case("unsafe_path")
def dotdot_name__trailing_slash(world):
    statement = world.statement()
    oms.find(statement, "config.json")["name"] = "config.json/"
    world.sign(statement)
    return world.verify()


@case("unsafe_path")
def dotdot_name__empty(world):
    """Strict: the schema asks for one character; an empty name has an empty component."""
    return with_resource(world, "")


@case("unsafe_path")
def dotdot_name__single_file_called_dot_beside_others(world):
    """The reference calls a single file `.`; in a directory that is nobody's name."""
    return with_resource(world, ".")


@case("unsafe_path")
def absolute_name(world):
    outside = world.root / "outside.bin"
    outside.write_bytes(b"outside")
    return with_resource(world, str(outside))


@case("unsafe_path")
def absolute_name__two_slashes(world):
    outside = world.root / "outside.bin"
    outside.write_bytes(b"outside")
    return with_resource(world, "/" + str(outside))


@case("unsafe_path")
def absolute_name__into_the_model(world):
    statement = world.statement()
    oms.find(statement, "config.json")["name"] = str(world.model / "config.json")
    world.sign(statement)
    return world.verify()


@case("unsafe_path")
def backslash_drive_nul_name__backslash(world):
    """A plain file name here, a way out of the model on Windows."""
    world.base()
    world.write("..\\outside.bin", b"outside")
    world.sign(world.statement())
    return world.verify()


@case("unsafe_path")
def backslash_drive_nul_name__drive(world):
    world.base()
    world.write("C:outside.bin", b"outside")
    world.sign(world.statement())
    return world.verify()


@case("unsafe_path")
def backslash_drive_nul_name__drive_and_slash(world):
    world.base()
    world.write("c:/outside.bin", b"outside")
    world.sign(world.statement())
    return world.verify()


@case("unsafe_path")
def backslash_drive_nul_name__nul(world):
    """C would read the name up to the NUL, and find the file."""
    statement = world.statement()
    oms.find(statement, "config.json")["name"] = "config.json\0.bak"
    world.sign(statement)
    return world.verify()


@case("unsafe_path")
def backslash_drive_nul_name__signing_backslash(world):
    world.base()
    world.write("..\\outside.bin", b"outside")
    return world.signing()


@case("unsafe_path")
def backslash_drive_nul_name__signing_drive(world):
    world.base()
    world.write("C:outside.bin", b"outside")
    return world.signing()


NFC = "caf\u00e9.txt"
NFD = "cafe\u0301.txt"


@case("ambiguous_names")
def unicode_nfc_nfd_twins__one_is_ascii(world):
    """The Kelvin sign is normalised to the letter K."""
    world.base()
    world.write("K.txt", b"one")
    world.write("\u212a.txt", b"two")
    world.sign(world.statement())
    return world.verify()


@case("ambiguous_names")
def unicode_nfc_nfd_twins(world):
    world.base()
    world.write(NFC, b"one")
    world.write(NFD, b"two")
    world.sign(world.statement())
    return world.verify()


@case("ambiguous_names")
def unicode_nfc_nfd_twins__folders(world):
    world.base()
    world.write(f"{NFC}/a.txt", b"one")
    world.write(f"{NFD}/a.txt", b"two")
    world.sign(world.statement())
    return world.verify()


@case("ambiguous_names")
def unicode_nfc_nfd_twins__signing(world):
    world.base()
    world.write(NFC, b"one")
    world.write(NFD, b"two")
    return world.signing()


@case("model_differs")
def unicode_nfc_nfd_twins__other_form_on_disk(world):
    """Names are compared as bytes: nothing is normalised for the reader."""
    world.base()
    world.write(NFC, b"one")
    world.honest()
    (world.model / NFC).rename(world.model / NFD)
    return world.verify(differences={("missing_file", NFC, None), ("unsigned_file", NFD, None)})


def write_bytes_name(world, name):
    """A file whose name is these bytes."""
    with open(os.path.join(os.fsencode(world.model), name), "wb") as file:
        file.write(b"not signed")


@case("non_utf8_name")
def non_utf8_name(world):
    world.honest()
    write_bytes_name(world, b"caf\xe9.txt")
    return world.verify()


@case("non_utf8_name")
def non_utf8_name__ignore_unsigned_files(world):
    """Strict: what cannot be named cannot be listed as unsigned either."""
    world.honest()
    write_bytes_name(world, b"caf\xe9.txt")
    return world.verify("--ignore-unsigned-files")


@case("non_utf8_name")
def non_utf8_name__encoded_surrogate(world):
    world.honest()
    write_bytes_name(world, b"\xed\xa0\x80.txt")
    return world.verify()


@case("non_utf8_name")
def non_utf8_name__folder(world):
    world.honest()
    folder = os.path.join(os.fsencode(world.model), b"caf\xe9")
    os.mkdir(folder)
    with open(os.path.join(folder, b"a.txt"), "wb") as file:
        file.write(b"not signed")
    return world.verify()


@case("non_utf8_name")
def non_utf8_name__signing(world):
    world.base()
    write_bytes_name(world, b"caf\xe9.txt")
    return world.signing()


@case("json_invalid")
def non_utf8_name__in_the_payload(world):
    payload = oms.encode(world.statement()).replace(b'"config.json"', b'"config\xff.json"')
    world.sign_payload(payload)
    return world.verify()


@case("json_invalid")
def non_utf8_name__lone_surrogate_escape(world):
    payload = oms.encode(world.statement()).replace(b'"config.json"', b'"config\\ud800.json"')
    world.sign_payload(payload)
    return world.verify()


# -- the signature's own path ----------------------------------------------------------------
# It is left out of what is signed; that must hide one regular file, and nothing else.


@case("model_differs")
def signature_path_inside_model_hides_nothing_else__folder_of_that_name(world):
    """A folder takes the name recorded for the signature; the reference ignores all of it."""
    world.signature = world.root / "elsewhere.sig"
    world.honest()
    world.write("model.sig/evil.bin", b"not signed")
    return world.verify(differences={("unsigned_file", "model.sig/evil.bin", None)})


@case("model_differs")
def signature_path_inside_model_hides_nothing_else__same_name_deeper(world):
    world.honest()
    world.write("tokenizer/model.sig", b"not signed")
    return world.verify(differences={("unsigned_file", "tokenizer/model.sig", None)})


@case("model_differs")
def signature_path_inside_model_hides_nothing_else__files_beside_it(world):
    world.base()
    world.signature = world.write("signatures/model.sig", b"")
    world.honest(ignored=("signatures/model.sig",))
    world.write("signatures/evil.bin", b"not signed")
    return world.verify(differences={("unsigned_file", "signatures/evil.bin", None)})


@case("model_differs", naive=False)
def signature_path_inside_model_hides_nothing_else__folder_of_another_name(world):
    """The signature lay at `custom.sig` when the model was signed, and lies elsewhere now."""
    world.signature = world.root / "elsewhere.sig"
    world.honest(ignored=("custom.sig",))
    world.write("custom.sig/evil.bin", b"not signed")
    return world.verify(differences={("unsigned_file", "custom.sig/evil.bin", None)})


@case("resource_ignored")
def signature_path_inside_model_hides_nothing_else__in_place_of_a_signed_file(world):
    """The signature is given as a path at which the statement has a resource."""
    statement = world.statement()
    world.signature = world.model / "config.json"
    world.sign(statement)
    return world.verify()


@case("model_differs")
def signature_path_inside_model_hides_nothing_else__second_signature(world):
    """Only the signature that is used is left out, not all that look like one."""
    world.honest()
    world.write("other.sig", world.signature.read_bytes())
    return world.verify(differences={("unsigned_file", "other.sig", None)})


@case("symlink")
def signature_path_inside_model_hides_nothing_else__a_link(world):
    """Strict: the excluded name stands for a regular file; a link in a model stays a rejection."""
    world.honest()
    world.signature.rename(world.root / "elsewhere.sig")
    world.signature.symlink_to("../elsewhere.sig")
    return world.verify()
