"""Class manifest, part three: the statement is wrong, by a malicious or careless signer."""

from kit import oms
from kit.case import rejected
from kit.world import BLOB, FILES

case = rejected("manifest")


@case("empty_manifest")
def empty_manifest(world):
    world.model.mkdir()
    world.sign(world.statement())
    return world.verify()


@case("empty_manifest")
def empty_manifest__files_on_disk(world):
    """The schema lets an empty list through; it would bless whatever is unsigned."""
    statement = world.statement()
    statement["predicate"]["resources"].clear()
    world.sign(oms.set_root(statement))
    return world.verify("--ignore-unsigned-files")


@case("empty_manifest")
def empty_manifest__signing_an_empty_folder(world):
    world.model.mkdir()
    return world.signing()


@case("empty_manifest")
def empty_manifest__signing_only_excluded_files(world):
    world.write(".git/config", b"[core]\n")
    world.write(".gitignore", b"*.tmp\n")
    return world.signing()


@case("empty_file")
def empty_file_added__signing_shards(world):
    """Shards leave it out: the signature would not cover it, so it is refused by name."""
    world.base()
    world.write("tokenizer/__init__.py", b"")
    return world.signing("--shard-size", "100000")


@case("duplicate_resource")
def duplicate_resource_name(world):
    """The last one is right: the reference lets it win."""
    statement = world.statement(annotate=False)
    false = dict(oms.find(statement, "config.json"), digest=oms.digest(b"something else"))
    statement["predicate"]["resources"].insert(0, false)
    world.sign(oms.set_root(statement))
    return world.verify()


@case("duplicate_resource")
def duplicate_resource_name__first_is_right(world):
    statement = world.statement(annotate=False)
    false = dict(oms.find(statement, "config.json"), digest=oms.digest(b"something else"))
    statement["predicate"]["resources"].append(false)
    world.sign(oms.set_root(statement))
    return world.verify()


@case("duplicate_resource")
def duplicate_resource_name__identical(world):
    statement = world.statement()
    statement["predicate"]["resources"].append(dict(oms.find(statement, "config.json")))
    world.sign(oms.set_root(statement))
    return world.verify()


@case("duplicate_resource")
def duplicate_resource_name__shard(world):
    statement = world.statement(shard_size=100_000)
    statement["predicate"]["resources"].append(dict(oms.find(statement, f"{BLOB}:0:100000")))
    world.sign(oms.set_root(statement))
    return world.verify()


@case("root_mismatch")
def resource_order_changed(world):
    """The root is of the honest order; the resources are listed in another."""
    statement = world.statement()
    statement["predicate"]["resources"].reverse()
    world.sign(statement)
    return world.verify()


@case("root_mismatch")
def resource_order_changed__two_shards(world):
    statement = world.statement(shard_size=100_000)
    resources = statement["predicate"]["resources"]
    at = resources.index(oms.find(statement, f"{BLOB}:0:100000"))
    resources[at], resources[at + 1] = resources[at + 1], resources[at]
    world.sign(statement)
    return world.verify()


# -- ignored paths --------------------------------------------------------------------------
# The loader's half of the case (an ignored file is never read) is in loaded_elsewhere.py. On disk:
# no resource may lie under a path that the same signature ignores.


@case("resource_ignored")
def ignored_file_is_loaded__resource_under_ignored_folder(world):
    statement = world.statement()
    statement["predicate"]["serialization"]["ignore_paths"].append("tokenizer")
    world.sign(statement)
    return world.verify()


@case("resource_ignored")
def ignored_file_is_loaded__resource_is_ignored_file(world):
    statement = world.statement()
    statement["predicate"]["serialization"]["ignore_paths"].append("config.json")
    world.sign(statement)
    return world.verify()


@case("resource_ignored")
def ignored_file_is_loaded__resource_below_git(world):
    """`.git` at the top is always excluded, listed or not."""
    statement = world.statement()
    content = b"[core]\n"
    world.write(".git/config", content)
    statement["predicate"]["serialization"]["ignore_paths"].remove(".git")
    statement["predicate"]["resources"].insert(0, oms.resource(".git/config", content))
    world.sign(oms.set_root(statement))
    return world.verify()


@case("resource_ignored")
def ignored_file_is_loaded__shard_under_ignored_folder(world):
    statement = world.statement(shard_size=100_000)
    statement["predicate"]["serialization"]["ignore_paths"].append("weights")
    world.sign(statement)
    return world.verify()


@case("usage")
def ignored_file_is_loaded__by_the_command_line(world):
    """A verifier cannot ignore what was signed: a contradiction in the options, not a fault of the model."""
    world.honest()
    return world.verify("--ignore", str(world.model / "config.json"))


def hides_nothing(world, ignored):
    """An ignored path that is no name inside the model hides nothing: the extra file is seen."""
    statement = world.statement()
    statement["predicate"]["serialization"]["ignore_paths"].append(ignored)
    world.sign(statement)
    world.write("tokenizer/extra.bin", b"extra")
    return world.verify(differences={("unsigned_file", "tokenizer/extra.bin", None)})


@case("model_differs")
def ignored_file_is_loaded__dot_ignores_everything(world):
    return hides_nothing(world, ".")


@case("model_differs")
def ignored_file_is_loaded__dotdot_in_ignored_path(world):
    return hides_nothing(world, "cache/../tokenizer")


# -- shards ---------------------------------------------------------------------------------


def resharded(world, *names):
    """Signs BLOB by shards of these names, each with the digest of just those bytes."""
    statement = world.statement(shard_size=100_000)
    keep = [
        item
        for item in statement["predicate"]["resources"]
        if not item["name"].startswith(BLOB + ":")
    ]
    for name in names:
        begin, end = (int(word) for word in name.rsplit(":", 2)[1:])
        content = FILES[BLOB][begin:end]
        keep.append({"name": name, "digest": oms.digest(content), "algorithm": "sha256"})
    statement["predicate"]["resources"] = keep
    world.sign(oms.set_root(statement))
    return world.verify()


@case("shard_layout")
def shard_layout__gap(world):
    return resharded(world, f"{BLOB}:0:100000", f"{BLOB}:200000:300000")


@case("shard_layout")
def shard_layout__first_is_not_at_zero(world):
    return resharded(world, f"{BLOB}:100000:200000", f"{BLOB}:200000:300000")


@case("shard_layout")
def shard_layout__overlap(world):
    return resharded(
        world, f"{BLOB}:0:100000", f"{BLOB}:100000:200000", f"{BLOB}:150000:250000",
        f"{BLOB}:200000:300000",
    )  # fmt: skip


@case("shard_layout")
def shard_layout__wrong_size(world):
    """They abut and cover the file, but are not of the size the statement declares."""
    return resharded(world, f"{BLOB}:0:150000", f"{BLOB}:150000:300000")


@case("shard_name")
def shard_name__reversed_range(world):
    return resharded(world, f"{BLOB}:0:100000", f"{BLOB}:100000:200000", f"{BLOB}:300000:200000")


@case("shard_name")
def shard_name__empty_range(world):
    return resharded(
        world, f"{BLOB}:0:100000", f"{BLOB}:100000:200000", f"{BLOB}:200000:300000",
        f"{BLOB}:300000:300000",
    )  # fmt: skip


def shard_renamed(world, name):
    """Gives the first shard of BLOB another name and leaves its digest."""
    statement = world.statement(shard_size=100_000)
    oms.find(statement, f"{BLOB}:0:100000")["name"] = name
    world.sign(statement)
    return world.verify()


@case("shard_name")
def shard_name__no_range(world):
    return shard_renamed(world, BLOB)


@case("shard_name")
def shard_name__one_number(world):
    return shard_renamed(world, f"{BLOB}:100000")


@case("shard_name")
def shard_name__not_a_number(world):
    return shard_renamed(world, f"{BLOB}:0:all")


@case("shard_name")
def shard_name__negative(world):
    return shard_renamed(world, f"{BLOB}:-0:100000")


@case("shard_name")
def shard_name__leading_zero(world):
    """Two spellings of one range would be two names of one shard."""
    return shard_renamed(world, f"{BLOB}:00:100000")


@case("shard_name")
def shard_name__plus_sign(world):
    return shard_renamed(world, f"{BLOB}:+0:100000")


@case("shard_name")
def shard_name__beyond_64_bits(world):
    return shard_renamed(world, f"{BLOB}:0:18446744073709651616")


def with_shard_size(world, size):
    statement = world.statement(shard_size=100_000)
    statement["predicate"]["serialization"]["shard_size"] = size
    world.sign(statement)
    return world.verify()


@case("shard_size")
def shard_size__zero(world):
    return with_shard_size(world, 0)


@case("shard_size")
def shard_size__negative(world):
    return with_shard_size(world, -100_000)


@case("shard_size")
def shard_size__fraction(world):
    """The reference writes a float, so 100000.0 is read; a fraction never is."""
    return with_shard_size(world, 100_000.5)


@case("shard_size")
def shard_size__huge_float(world):
    return with_shard_size(world, 1e300)


@case("shard_size")
def shard_size__missing(world):
    statement = world.statement(shard_size=100_000)
    del statement["predicate"]["serialization"]["shard_size"]
    world.sign(statement)
    return world.verify()


@case("shard_size")
def shard_size__with_method_files(world):
    """The published schema lets it through, its text does not."""
    statement = world.statement()
    statement["predicate"]["serialization"]["shard_size"] = 100_000
    world.sign(statement)
    return world.verify()
