"""Class path, part two: links and special files.

Without `allow_symlinks` in the statement (or `--allow-symlinks` when signing) any link is
`symlink`, wherever it leads; with it, a link that leaves the model or never ends has its own code.
"""

import os
import socket
import stat

from kit import oms
from kit.case import NotHere, rejected
from kit.world import FILES

case = rejected("path")


def outside(world):
    """A file that is not part of the model."""
    path = world.root / "outside.bin"
    path.write_bytes(b"outside")
    return path


def with_links(world):
    """An honest statement that allows links, of what a follower of links finds now."""
    statement = world.statement()
    statement["predicate"]["serialization"]["allow_symlinks"] = True
    world.sign(statement)


@case("symlink_escape")
def symlink_escape(world):
    world.base()
    outside(world)
    (world.model / "link.bin").symlink_to("../outside.bin")
    with_links(world)
    return world.verify()


@case("symlink_escape")
def symlink_escape__absolute(world):
    world.base()
    (world.model / "link.bin").symlink_to(outside(world))
    with_links(world)
    return world.verify()


@case("symlink_escape")
def symlink_escape__folder(world):
    world.base()
    (world.root / "elsewhere").mkdir()
    (world.root / "elsewhere/a.bin").write_bytes(b"outside")
    (world.model / "folder").symlink_to("../elsewhere")
    with_links(world)
    return world.verify()


@case("symlink_escape")
def symlink_escape__by_way_of_another_link(world):
    world.base()
    outside(world)
    (world.model / "tokenizer/second.bin").symlink_to("../../outside.bin")
    (world.model / "first.bin").symlink_to("tokenizer/second.bin")
    with_links(world)
    return world.verify()


@case("symlink_escape")
def symlink_escape__out_and_back_in(world):
    """It ends inside, but who owns the folder above decides where."""
    world.base()
    (world.model / "link.json").symlink_to(f"../{world.model.name}/config.json")
    with_links(world)
    return world.verify()


@case("symlink_escape")
def symlink_escape__signing(world):
    world.base()
    outside(world)
    (world.model / "link.bin").symlink_to("../outside.bin")
    return world.signing("--allow-symlinks")


@case("symlink_escape")
def symlink_escape__signing_folder(world):
    world.base()
    (world.root / "elsewhere").mkdir()
    (world.root / "elsewhere/a.bin").write_bytes(b"outside")
    (world.model / "folder").symlink_to("../elsewhere")
    return world.signing("--allow-symlinks")


@case("symlink")
def symlink_escape__links_not_allowed(world):
    """The file is replaced by a link to the same content, which may change after the check."""
    world.honest()
    path = world.model / "config.json"
    path.rename(world.root / "config.json")
    path.symlink_to("../config.json")
    return world.verify()


@case("symlink")
def symlink_escape__folder_not_allowed(world):
    world.honest()
    (world.model / "tokenizer").rename(world.root / "tokenizer")
    (world.model / "tokenizer").symlink_to("../tokenizer")
    return world.verify()


@case("symlink")
def symlink_escape__ignore_unsigned_files(world):
    """The option must not make a verifier open names by path, through links."""
    world.honest()
    (world.model / "tokenizer").rename(world.root / "tokenizer")
    (world.model / "tokenizer").symlink_to("../tokenizer")
    return world.verify("--ignore-unsigned-files")


@case("symlink")
def symlink_escape__inside_but_not_allowed(world):
    world.honest()
    (world.model / "config.json").unlink()
    world.write("tokenizer/config.json", FILES["config.json"])
    (world.model / "config.json").symlink_to("tokenizer/config.json")
    return world.verify()


@case("symlink")
def symlink_escape__dangling(world):
    world.honest()
    (world.model / "link.bin").symlink_to("nowhere")
    return world.verify()


@case("symlink")
def symlink_escape__signing_not_allowed(world):
    world.base()
    (world.model / "link.json").symlink_to("config.json")
    return world.signing()


def hub_cache(world):
    """The base model as a hub cache keeps it: blobs, and a snapshot of links to them."""
    repository = world.root / "models--org--tiny"
    world.model = repository / "snapshots" / ("0123abcd" * 5)
    (repository / "blobs").mkdir(parents=True)
    for name, content in FILES.items():
        blob = repository / "blobs" / oms.digest(content)
        blob.write_bytes(content)
        link = world.model / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    world.signature = world.root / "model.sig"
    world.sign(world.statement())
    return repository


# A link that is not of the cache's own layout is any link: `symlink`.


@case("symlink")
def symlink_escape__hub_cache_out_of_blobs(world):
    repository = hub_cache(world)
    (repository / "config.json").write_bytes(FILES["config.json"])
    (world.model / "config.json").unlink()
    (world.model / "config.json").symlink_to("../../blobs/../config.json")
    return world.verify()


@case("symlink")
def symlink_escape__hub_cache_other_repository(world):
    hub_cache(world)
    other = world.root / "models--evil--twin/blobs"
    other.mkdir(parents=True)
    (other / "config").write_bytes(FILES["config.json"])
    (world.model / "config.json").unlink()
    (world.model / "config.json").symlink_to("../../../models--evil--twin/blobs/config")
    return world.verify()


@case("symlink")
def symlink_escape__hub_cache_blob_is_a_link(world):
    repository = hub_cache(world)
    blob = repository / "blobs" / oms.digest(FILES["config.json"])
    blob.rename(world.root / "outside.json")
    blob.symlink_to("../../outside.json")
    return world.verify()


@case("symlink_cycle")
def symlink_cycle(world):
    world.base()
    with_links(world)
    (world.model / "a").symlink_to("b")
    (world.model / "b").symlink_to("a")
    return world.verify()


@case("symlink_cycle")
def symlink_cycle__to_itself(world):
    world.base()
    with_links(world)
    (world.model / "a").symlink_to("a")
    return world.verify()


@case("symlink_cycle")
def symlink_cycle__folder_in_itself(world):
    """A walk that follows it never ends."""
    world.base()
    with_links(world)
    (world.model / "tokenizer/again").symlink_to("../tokenizer")
    return world.verify()


@case("symlink_cycle")
def symlink_cycle__signing(world):
    world.base()
    (world.model / "tokenizer/again").symlink_to("..")
    return world.signing("--allow-symlinks")


@case("symlink")
def symlink_cycle__not_allowed(world):
    world.honest()
    (world.model / "tokenizer/again").symlink_to("..")
    return world.verify()


# -- special files: opening some of them blocks for ever, so each must end at once ------------


@case("special_file")
def fifo_or_device(world):
    world.honest()
    os.mkfifo(world.model / "pipe")
    return world.verify()


@case("special_file")
def fifo_or_device__in_place_of_a_signed_file(world):
    world.honest()
    (world.model / "config.json").unlink()
    os.mkfifo(world.model / "config.json")
    return world.verify()


@case("special_file")
def fifo_or_device__ignore_unsigned_files(world):
    world.honest()
    (world.model / "config.json").unlink()
    os.mkfifo(world.model / "config.json")
    return world.verify("--ignore-unsigned-files")


@case("special_file")
def fifo_or_device__in_place_of_the_signature(world):
    world.honest()
    world.signature.unlink()
    os.mkfifo(world.signature)
    return world.verify()


@case("special_file")
def fifo_or_device__socket(world):
    world.honest()
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(world.model, os.O_RDONLY)  # a socket's path is short, a temporary one may not be
    try:
        listener.bind(f"/proc/self/fd/{here}/socket")
    finally:
        os.close(here)
        listener.close()
    return world.verify()


@case("special_file")
def fifo_or_device__endless_device(world):
    """Reading /dev/zero under the name of a signed file would never end."""
    world.honest()
    (world.model / "config.json").unlink()
    try:
        os.mknod(world.model / "config.json", 0o644 | stat.S_IFCHR, os.makedev(1, 5))
    except PermissionError as reason:
        raise NotHere("making a device node takes root") from reason
    return world.verify()


@case("special_file")
def fifo_or_device__artifact_is_a_fifo(world):
    world.single(b"content", "weights.bin")
    world.sign(
        oms.statement("weights.bin", [oms.resource("weights.bin", b"content")], "sha256", [])
    )
    world.model.unlink()
    os.mkfifo(world.model)
    return world.verify()


@case("special_file")
def fifo_or_device__signing(world):
    world.base()
    os.mkfifo(world.model / "pipe")
    return world.signing()
