"""Class manifest, part one: there are other files than those that were signed.

`verify` compares names first, and hashes nothing if they differ.
"""

from kit.case import rejected
from kit.world import BLOB, FILES, FIRST, flip

case = rejected("manifest")


@case("model_differs")
def file_added(world):
    world.honest()
    world.write("extra.bin", b"not signed")
    return world.verify(differences={("unsigned_file", "extra.bin", None)})


@case("model_differs")
def file_added__nested(world):
    world.honest()
    world.write("tokenizer/deep/er/extra.bin", b"not signed")
    return world.verify(differences={("unsigned_file", "tokenizer/deep/er/extra.bin", None)})


@case("model_differs")
def file_added__hidden(world):
    world.honest()
    world.write(".hidden", b"not signed")
    return world.verify(differences={("unsigned_file", ".hidden", None)})


@case("model_differs")
def file_added__git_below_the_top(world):
    """Only the top's `.git` is excluded."""
    world.honest()
    world.write("tokenizer/.git/config", b"not signed")
    return world.verify(differences={("unsigned_file", "tokenizer/.git/config", None)})


@case("model_differs")
def file_added__name_begins_like_an_ignored_one(world):
    world.honest(ignored=("model.sig", "cache"))
    world.write("cache/ignored.bin", b"ignored")
    world.write("cache.bin", b"not signed")
    world.write("cache2/extra.bin", b"not signed")
    return world.verify(
        differences={
            ("unsigned_file", "cache.bin", None),
            ("unsigned_file", "cache2/extra.bin", None),
        }
    )


@case("model_differs")
def file_added__names_come_before_digests(world):
    """With a difference in names nothing is hashed, so the flipped bit is not reported too."""
    world.honest()
    world.write("extra.bin", b"not signed")
    flip(world.model / BLOB, 0)
    return world.verify(differences={("unsigned_file", "extra.bin", None)})


@case("model_differs")
def file_added__beside_shards(world):
    world.honest(shard_size=100_000)
    world.write("extra.bin", b"not signed")
    return world.verify(differences={("unsigned_file", "extra.bin", None)})


@case("model_differs")
def file_removed(world):
    world.honest()
    (world.model / FIRST).unlink()
    return world.verify(differences={("missing_file", FIRST, None)})


@case("model_differs")
def file_removed__nested_folder(world):
    world.honest()
    (world.model / BLOB).unlink()
    (world.model / BLOB).parent.rmdir()
    return world.verify(differences={("missing_file", BLOB, None)})


@case("model_differs")
def file_removed__ignore_unsigned_files(world):
    """The option excuses files too many, never files too few."""
    world.honest()
    (world.model / "config.json").unlink()
    return world.verify(
        "--ignore-unsigned-files", differences={("missing_file", "config.json", None)}
    )


@case("model_differs")
def file_removed__all(world):
    world.honest()
    for name in FILES:
        (world.model / name).unlink()
    return world.verify(differences={("missing_file", name, None) for name in FILES})


@case("model_differs")
def file_removed__one_of_its_shards_signed(world):
    world.honest(shard_size=100_000)
    (world.model / BLOB).unlink()
    return world.verify(differences={("missing_file", BLOB, None)})


@case("model_differs")
def file_renamed(world):
    world.honest()
    (world.model / "config.json").rename(world.model / "config.json.bak")
    return world.verify(
        differences={
            ("missing_file", "config.json", None),
            ("unsigned_file", "config.json.bak", None),
        }
    )


@case("model_differs")
def file_renamed__case_only(world):
    world.honest()
    (world.model / "config.json").rename(world.model / "Config.json")
    return world.verify(
        differences={("missing_file", "config.json", None), ("unsigned_file", "Config.json", None)}
    )


@case("model_differs")
def file_renamed__into_a_folder_of_its_name(world):
    world.honest()
    (world.model / "config.json").unlink()
    world.write("config.json/config.json", FILES["config.json"])
    return world.verify(
        differences={
            ("missing_file", "config.json", None),
            ("unsigned_file", "config.json/config.json", None),
        }
    )


@case("model_differs")
def empty_file_added(world):
    world.honest()
    world.write("tokenizer/__init__.py", b"")
    return world.verify(differences={("unsigned_file", "tokenizer/__init__.py", None)})


@case("model_differs")
def empty_file_added__beside_shards(world):
    """Shards leave empty files out, so no signature of that form can cover this one."""
    world.honest(shard_size=100_000)
    world.write("tokenizer/__init__.py", b"")
    return world.verify(differences={("unsigned_file", "tokenizer/__init__.py", None)})
