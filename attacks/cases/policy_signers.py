"""Class policy: several signatures. Each is good by itself unless a fixture says otherwise; together they are not enough, or
do not say the same."""

import json

from kit import certificates as x509
from kit import oms
from kit.case import control, rejected
from kit.certificates import EMAIL, authority, dns, email, leaf, roots_file
from kit.keys import key
from kit.policies import keyed, rule, signed, under, write
from kit.tensors import BLAKE3_KEY, b3
from kit.world import BLOB, FILES, FIRST, data_offset, flip

case = rejected("policy")
manifest = rejected("manifest")


def team(world, *signatures, signers=("ann", "bob", "carl"), **options):
    """Verifies under a rule about three signers, two of whom must sign."""
    options.setdefault("threshold", 2)
    differences = options.pop("differences", None)
    world.signer = world.trusted = key("p256", signatures[0].stem) if signatures else world.trusted
    made = write(world, keyed(world, *signers), rule(*signers, **options))
    return under(world, made, *signatures, differences=differences)


# -- how many ----------------------------------------------------------------------------------


@case("policy_signers")
def too_few_signers(world):
    return team(world, signed(world, "ann"))


@case("policy_signers")
def too_few_signers__all_without_a_number(world):
    """A rule that states no number asks for all."""
    made = write(world, keyed(world, "ann", "bob", "carl"), rule("ann", "bob", "carl"))
    world.signer = world.trusted = key("p256", "ann")
    return under(world, made, signed(world, "ann"), signed(world, "bob"))


@case("signature_not_found", naive=False)
def too_few_signers__second_file_missing(world):
    first, second = signed(world, "ann"), signed(world, "bob")
    second.unlink()
    return team(world, first, second)


@case("policy_signer_twice")
def same_signer_twice(world):
    """The very same signature, given twice."""
    file = signed(world, "ann")
    return team(world, file, file)


@case("policy_signer_twice")
def same_signer_twice__copied(world):
    file = signed(world, "ann")
    copy = world.root / "bob.sig"
    copy.write_bytes(file.read_bytes())
    return team(world, file, copy)


@case("policy_signer_twice")
def same_signer_twice__signed_again(world):
    return team(world, signed(world, "ann"), signed(world, "ann", file="again"))


@case("policy_signer_twice")
def same_signer_twice__beside_another(world):
    """Enough without it; still, somebody thinks that there are three."""
    return team(world, signed(world, "ann"), signed(world, "bob"), signed(world, "ann", file="again"))


def certified(world, own, *others, file):
    """A signature of the holder of a certificate."""
    path = world.root / f"{file}.sig"
    bundle = x509.chained(oms.bundle(oms.encode(world.statement()), own.key), own, *others)
    path.write_text(json.dumps(bundle))
    return path


def people(world, *owners, roots=("root",), **conditions):
    """Verifies under a rule about the holders of certificates: `owners` by name, or anyone under the roots.

    Returns a function that takes the signatures.
    """
    who = {}
    for number, (owner, root) in enumerate(zip(owners, roots * len(owners), strict=False)):
        roots_file(world, (authority(root),), f"{root}.pem")
        whom = {"any_identity": True} if owner == "anyone" else {"identity": owner}
        who[f"signer-{number}"] = {"certificate_roots": [f"{root}.pem"], **whom}
    made = write(world, who, rule(*who, **conditions))

    def run(*signatures):
        world.signer = world.trusted = key()
        return under(world, made, *signatures)

    return run


@case("policy_signer_twice")
def same_signer_twice__two_certificates(world):
    """Two certificates of one name, with two keys, under two authorities."""
    mine = certified(world, leaf(authority()), file="mine")
    mine_too = certified(world, leaf(authority("other"), owner="mine too"), file="mine-too")
    return people(world, EMAIL, EMAIL, roots=("root", "other"))(mine, mine_too)


@case("policy_signer_twice")
def same_signer_twice__one_key_under_two_names(world):
    """One key, of which two authorities think that it is two people's."""
    one = certified(world, leaf(authority(), email("ann@acme.example")), file="one")
    other = certified(world, leaf(authority(), email("bob@acme.example")), file="other")
    return people(world, "ann@acme.example", "bob@acme.example")(one, other)


@case("policy_signer_twice")
def same_signer_twice__one_of_several_names_in_common(world):
    one = certified(world, leaf(authority(), email("ann@acme.example"), dns("ann.acme.example")), file="one")
    other = certified(world, leaf(authority(), email("bob@acme.example"), dns("ann.acme.example"), owner="bob"), file="other")
    return people(world, "ann@acme.example", "bob@acme.example")(one, other)


@case("policy_signer_twice")
def same_signer_twice__by_key_and_by_certificate(world):
    """The same key once by itself and once with a certificate."""
    own = leaf(authority())
    roots_file(world, (authority(),))
    who = {**keyed(world, "publisher"), "holder": {"certificate_roots": ["roots.pem"], "identity": EMAIL}}
    made = write(world, who, rule("publisher", "holder"))
    return under(world, made, signed(world, key(), file="key"), certified(world, own, file="certificate"))


@case("policy_signers")
def same_signer_twice__two_people_as_anyone(world):
    """One entry, which counts once, however many people it may be."""
    one = certified(world, leaf(authority(), email("ann@acme.example")), file="one")
    other = certified(world, leaf(authority(), email("bob@acme.example"), owner="bob"), file="other")
    return people(world, "anyone")(one, other)


@case("policy_signers")
def same_signer_twice__a_person_and_anyone(world):
    """Two entries that the one signature fits; it counts for one of them."""
    one = certified(world, leaf(authority(), email("ann@acme.example")), file="one")
    return people(world, "ann@acme.example", "anyone")(one)


# -- strangers ---------------------------------------------------------------------------------


@case("policy_not_a_signer")
def signature_of_a_stranger(world):
    """Beside two that would have been enough."""
    return team(world, signed(world, "ann"), signed(world, "bob"), signed(world, "stranger"))


@case("policy_not_a_signer", naive=False)
def signature_of_a_stranger__first(world):
    return team(world, signed(world, "stranger"), signed(world, "ann"), signed(world, "bob"))


@case("policy_not_a_signer")
def signature_of_a_stranger__instead_of_the_second(world):
    return team(world, signed(world, "ann"), signed(world, "stranger"))


@case("signature_invalid", naive=False)
def signature_of_a_stranger__beside_the_only_signer(world):
    """Where one signer can be meant, the error says what is wrong with its signature."""
    return team(world, signed(world, "publisher"), signed(world, "stranger"), signers=("publisher",), threshold=1)


@case("policy_not_a_signer")
def signature_of_a_stranger__signer_of_another_rule(world):
    """The policy knows the key, and not for this artifact."""
    made = write(world, keyed(world, "ann", "bob", "carl"), rule("ann", "bob", threshold=1), rule("carl", artifacts=("evil/*",)))
    world.signer = world.trusted = key("p256", "carl")
    return under(world, made, signed(world, "carl"))


@case("policy_not_a_signer")
def signature_of_a_stranger__hint_of_a_signer(world):
    """What a signature says of its key decides nothing."""
    file = signed(world, "stranger")
    bundle = json.loads(file.read_text())
    bundle["verificationMaterial"] = json.loads(signed(world, "bob").read_text())["verificationMaterial"]
    file.write_text(json.dumps(bundle))
    return team(world, signed(world, "ann"), file)


@case("policy_not_a_signer")
def signature_of_a_stranger__holder_of_a_certificate(world):
    """The root is trusted, the name is another."""
    mine = certified(world, leaf(authority()), file="mine")
    theirs = certified(world, leaf(authority(), email("mallory@evil.example"), owner="mallory"), file="theirs")
    return people(world, EMAIL, "second@acme.example", threshold=1)(mine, theirs)


@case("policy_not_a_signer")
def signature_of_a_stranger__another_method(world):
    """A rule that names holders of certificates, and the bare signature of the key of one."""
    attempt = people(world, EMAIL)
    return attempt(signed(world, key(), file="key"))


@case("policy_not_a_signer")
def signature_of_a_stranger__sigstore_signer(world):
    """A Sigstore identity can be named in a policy; no key's signature is its."""
    who = {"workflow": {"identity": "https://git.example/acme/build.yml", "issuer": "https://token.git.example"}}
    return under(world, write(world, who, rule("workflow")), signed(world, key(), file="key"))


@case("sigstore_method_unsupported")
def signature_of_a_stranger__sigstore_not_checked(world):
    """And its own are not checked by this version: neither good nor bad has been shown."""
    who = {"workflow": {"identity": "https://git.example/acme/build.yml", "issuer": "https://token.git.example"}}
    path = signed(world, key(), file="key")
    bundle = json.loads(path.read_text())
    own = leaf(authority())
    bundle["verificationMaterial"] = {"certificate": {"rawBytes": oms.b64(own.der)}, "tlogEntries": [{"logIndex": "1"}]}
    path.write_text(json.dumps(bundle))
    return under(world, write(world, who, rule("workflow")), path)


@case("signature_number")
def signatures_without_a_policy(world):
    """Two signatures of two signers, and trust in one of them: only a policy says how to count."""
    first, second = signed(world, key(), file="first"), signed(world, "bob")
    world.signature = first
    return world.verify("--signature", str(second))


@case("signature_number")
def signatures_without_a_policy__of_one_signer(world):
    first, second = signed(world, key(), file="first"), signed(world, key(), file="second")
    world.signature = first
    return world.verify("--signature", str(second))


@case("signature_number")
def signatures_without_a_policy__certificates(world):
    root = authority()
    first, second = certified(world, leaf(root), file="first"), certified(world, leaf(root), file="second")
    world.signature = first
    return x509.trusting(world, root, extra=("--signature", str(second)))


# -- signatures that do not say the same ---------------------------------------------------------


def disagreeing(world, change, **options):
    """Ann signs the honest statement, Bob one that went through `change`."""
    first = signed(world, "ann")
    statement = world.statement(**options)
    statement = change(statement) or statement
    return team(world, first, signed(world, "bob", statement))


@case("signatures_disagree")
def signatures_disagree(world):
    """One file has another digest for the second signer."""

    def change(statement):
        oms.find(statement, BLOB)["digest"] = oms.digest(b"other")
        return oms.set_root(statement)

    return disagreeing(world, change)


@case("signatures_disagree", naive=False)
def signatures_disagree__the_first_lies(world):
    statement = world.statement()
    oms.find(statement, BLOB)["digest"] = oms.digest(b"other")
    return team(world, signed(world, "ann", oms.set_root(statement)), signed(world, "bob"))


@case("signatures_disagree")
def signatures_disagree__one_file_less(world):
    def change(statement):
        resources = statement["predicate"]["resources"]
        resources.remove(oms.find(statement, "config.json"))
        return oms.set_root(statement)

    return disagreeing(world, change)


@case("signatures_disagree")
def signatures_disagree__one_file_more(world):
    def change(statement):
        statement["predicate"]["resources"].append(oms.resource("extra.bin", b"extra"))
        return oms.set_root(statement)

    return disagreeing(world, change)


@case("signatures_disagree")
def signatures_disagree__two_names_exchanged(world):
    """The same digests in the same order, so the same root; other names."""

    def change(statement):
        one, other = (oms.find(statement, name) for name in ("tokenizer/merges.txt", "tokenizer/vocab.txt"))
        one["name"], other["name"] = other["name"], one["name"]
        return statement

    return disagreeing(world, change)


@case("signatures_disagree")
def signatures_disagree__another_hash(world):
    """Both are true; nobody can compare them without the files."""
    return disagreeing(world, lambda statement: None, algorithm="blake3")


@case("signatures_disagree")
def signatures_disagree__files_and_shards(world):
    return disagreeing(world, lambda statement: None, shard_size=100_000)


@case("signatures_disagree")
def signatures_disagree__links_allowed(world):
    return disagreeing(world, lambda statement: statement["predicate"]["serialization"].update(allow_symlinks=True))


@case("signatures_disagree")
def signatures_disagree__annotation(world):
    """The files' digests are the same; the second signer blesses another content for loaders."""

    def change(statement):
        oms.find(statement, BLOB)["annotations"] = {BLAKE3_KEY: b3(b"other")}
        return statement

    return disagreeing(world, change)


@case("signatures_disagree")
def signatures_disagree__annotation_of_a_tensor(world):
    def change(statement):
        (tensors,) = oms.find(statement, FIRST)["annotations"].values()
        tensors["tensors"][0]["digest"] = b3(b"other")
        return statement

    return disagreeing(world, change)


@case("signatures_disagree")
def signatures_disagree__third(world):
    """Two of three would be enough; the third was given, and says otherwise."""
    statement = world.statement()
    oms.find(statement, BLOB)["digest"] = oms.digest(b"other")
    third = signed(world, "carl", oms.set_root(statement))
    return team(world, signed(world, "ann"), signed(world, "bob"), third)


@case("model_differs")
def file_hidden_by_one_signer(world):
    """One signer leaves a file out and says so; the other knows nothing of it. Hidden is only what both leave out."""
    world.base()
    first = signed(world, "ann", world.statement())
    second = signed(world, "bob", world.statement(ignored=("model.sig", "cache")))
    world.write("cache/payload.bin", b"signed by nobody")
    return team(world, first, second, differences={("unsigned_file", "cache/payload.bin", None)})


@case("model_differs", naive=False)
def file_hidden_by_one_signer__the_first(world):
    world.base()
    first = signed(world, "ann", world.statement(ignored=("model.sig", "cache")))
    second = signed(world, "bob", world.statement())
    world.write("cache/payload.bin", b"signed by nobody")
    return team(world, first, second, differences={("unsigned_file", "cache/payload.bin", None)})


@case("model_differs")
def file_hidden_by_one_signer__more_than_by_the_other(world):
    """One hides a file, the other its whole folder: neither is what both say."""
    world.base()
    first = signed(world, "ann", world.statement(ignored=("model.sig", "cache/index")))
    second = signed(world, "bob", world.statement(ignored=("model.sig", "cache")))
    world.write("cache/payload.bin", b"signed by nobody")
    return team(world, first, second, differences={("unsigned_file", "cache/payload.bin", None)})


@case("model_differs")
def file_hidden_by_one_signer__named_like_a_signature(world):
    """The name of the first signature, hidden below a folder by one signer."""
    world.base()
    first = signed(world, "ann", world.statement())
    second = signed(world, "bob", world.statement(ignored=("model.sig", "cache")))
    world.write("cache/ann.sig", b"signed by nobody")
    return team(world, first, second, differences={("unsigned_file", "cache/ann.sig", None)})


def unannotated(world, annotated):
    """Signatures of two, of which only Ann's, as given, has annotations."""
    return signed(world, "ann", annotated), signed(world, "bob", world.statement(annotate=False))


@case("model_differs")
def annotation_of_one_signer(world):
    """A tensor was changed. What only one signer annotated is held against the digest that both signed."""
    files = unannotated(world, world.statement())
    flip(world.model / FIRST, data_offset(FILES[FIRST], "layer.bias"))
    return team(world, *files, differences={("changed_file", FIRST, None)})


@case("model_differs")
def annotation_of_one_signer__order_reversed(world):
    files = unannotated(world, world.statement())
    flip(world.model / FIRST, data_offset(FILES[FIRST], "layer.bias"))
    return team(world, *reversed(files), differences={("changed_file", FIRST, None)})


@case("model_differs")
def annotation_of_one_signer__blesses_what_is_there(world):
    """One signer annotates the content that lies there now, beside the digests of the honest one."""
    world.base()
    honest = world.statement()
    flip(world.model / BLOB, 1000)
    oms.find(honest, BLOB)["annotations"] = {BLAKE3_KEY: b3((world.model / BLOB).read_bytes())}
    second = json.loads(json.dumps(honest))
    for item in second["predicate"]["resources"]:
        item.pop("annotations", None)
    files = signed(world, "ann", honest), signed(world, "bob", second)
    return team(world, *files, differences={("changed_file", BLOB, None)})


@manifest("model_differs")
def one_bit_flip__signed_by_two(world):
    files = signed(world, "ann"), signed(world, "bob")
    flip(world.model / BLOB, 1000)
    return team(world, *files, differences={("changed_file", BLOB, None)})


# -- controls ----------------------------------------------------------------------------------


@control
def policy_two_of_three(world):
    return team(world, signed(world, "ann"), signed(world, "carl"))


@control
def policy_three_where_two_are_asked(world):
    return team(world, signed(world, "carl"), signed(world, "ann"), signed(world, "bob"))


@control
def policy_one_of_three(world):
    return team(world, signed(world, "bob"), threshold=1)


@control
def policy_key_and_certificate(world):
    """Two signers of two methods."""
    own = leaf(authority())
    roots_file(world, (authority(),))
    who = {**keyed(world, "ann"), "holder": {"certificate_roots": ["roots.pem"], "identity": EMAIL}}
    made = write(world, who, rule("ann", "holder"))
    return under(world, made, certified(world, own, file="certificate"), signed(world, "ann"))


@control
def policy_person_and_anyone(world):
    """Each signature counts for one entry, in whichever order they come."""
    one = certified(world, leaf(authority(), email("ann@acme.example")), file="one")
    other = certified(world, leaf(authority(), email("bob@acme.example"), owner="bob"), file="other")
    return people(world, "anyone", "ann@acme.example")(one, other)


@control
def policy_signatures_inside_of_the_model(world):
    """Ann signed first and knew nothing of Bob's file: those that are named are signatures, whoever leaves them out."""
    world.base()
    files = []
    for name, ignored in (("ann", ("ann.sig",)), ("bob", ("ann.sig", "bob.sig"))):
        made = signed(world, name, world.statement(ignored=("model.sig", *ignored)))
        files.append(made.rename(world.model / f"{name}.sig"))
    return team(world, *reversed(files))


@control
def policy_annotated_by_one(world):
    """What only one signer annotated is left out of account, and the digests of both count."""
    files = unannotated(world, world.statement())
    attempt = team(world, *files)
    attempt.fields = {"annotated_files": 0, "tensors": 0}
    return attempt


@control
def policy_listed_in_another_order(world):
    """The same files with the same digests: the roots differ, and say the same."""
    statement = world.statement()
    statement["predicate"]["resources"].sort(key=lambda item: item["name"].split("/"))
    return team(world, signed(world, "ann"), signed(world, "bob", oms.set_root(statement)))
