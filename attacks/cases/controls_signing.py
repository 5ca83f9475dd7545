"""Controls: what `sentry sign` writes. The naive verifier and Sentry must both accept it."""

from kit import naive, process
from kit.case import Attempt, Script, control
from kit.judge import accepted, left_behind, snapshot
from kit.keys import key
from kit.world import FILES, FIRST


def signs(world, *extra, environment=None):
    """Signs, looks at what was written, and verifies it."""
    attempt = world.signing(*extra, environment=environment or {})
    world.public_key()  # written now, so that it is not counted as left behind

    def run(sentry):
        before = snapshot(world.root)
        outcome = process.run(sentry, attempt, world.root)
        problems = accepted(attempt, outcome)
        if problems:
            return problems
        after = snapshot(world.root)
        for seen in (before, after):
            seen.pop(str(world.signature), None)
        problems = left_behind(before, after)
        wrong = naive.complaints(world)
        problems += [f"what it wrote is wrong in {sorted(wrong)}"] if wrong else []
        check: Attempt = world.verify()
        return problems + accepted(check, process.run(sentry, check, world.root))

    return Script(run)


def signs_model(world, *extra, **options):
    world.base()
    return signs(world, *extra, **options)


@control
def signing_sha256(world):
    return signs_model(world)


@control
def signing_not_annotated(world):
    return signs_model(world, "--no-annotations")


@control
def signing_blake2b(world):
    return signs_model(world, "--hash", "blake2b")


@control
def signing_blake3(world):
    return signs_model(world, "--hash", "blake3")


@control
def signing_shards(world):
    return signs_model(world, "--shard-size", "100000")


@control
def signing_with_a_version(world):
    return signs_model(world, "--artifact-version", "7")


@control
def signing_ignoring_a_folder(world):
    return signs_model(world, "--ignore", str(world.model / "tokenizer"))


@control
def signing_outside(world):
    world.signature = world.root / "elsewhere.sig"
    return signs_model(world)


@control
def signing_again(world):
    """An older signature, here of fewer files, is replaced."""
    world.honest()
    world.write("extra.bin", b"new")
    return signs(world)


def signs_by(world, name):
    world.signer = world.trusted = key(name)
    return signs_model(world)


@control
def signing_p384(world):
    return signs_by(world, "p384")


@control
def signing_p521(world):
    return signs_by(world, "p521")


@control
def signing_ed25519(world):
    return signs_by(world, "ed25519")


@control
def signing_with_encrypted_key(world):
    path = world.root / "sentry.key"
    path.write_bytes(key().private_pem(b"correct horse"))
    return signs_model(world, environment={"SENTRY_KEY_PASSWORD": "correct horse"})


@control
def signing_single_file(world):
    world.single(FILES[FIRST])
    return signs(world)
