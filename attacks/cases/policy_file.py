"""Class policy: policies that cannot be meant. Nothing is decided by one (exit 2); the model and its signature are honest."""

import os

from cryptography.hazmat.primitives import serialization

from kit import certificates as x509
from kit import der, oms
from kit.case import Attempt, control, rejected
from kit.keys import key
from kit.policies import Raw, alone, keyed, rule, text, under, write

case = rejected("policy")

MIB = 1 << 20


def written(world, content, **options):
    """Verifies the honest model under this text."""
    world.honest()
    world.public_key()
    path = world.root / "policy.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return under(world, path, **options)


PUBLISHER = {"publisher": {"key": "sentry.pub"}}


def signer(world, **fields):
    """A policy whose one signer is this."""
    return written(world, text({"publisher": fields}, [rule("publisher")]))


def asking(world, **fields):
    """A policy whose one rule has these fields besides."""
    return written(world, text(PUBLISHER, [{**rule("publisher"), **fields}]))


# -- form --------------------------------------------------------------------------------------


@case("policy_syntax")
def policy_malformed(world):
    return written(world, "everything is allowed\n")


@case("policy_syntax")
def policy_malformed__empty(world):
    """Nobody may sign anything would be one way to read it."""
    return written(world, "")


@case("policy_syntax")
def policy_malformed__json(world):
    return written(world, '{"policy": 1}')


@case("policy_syntax")
def policy_malformed__cut_off(world):
    """In the midst of a rule: what is left could be weaker than what was meant."""
    whole = text(PUBLISHER, [rule("publisher", lowest_version=3)])
    return written(world, whole[: whole.index("lowest_version") + 8])


@case("policy_syntax")
def policy_malformed__key_twice(world):
    return written(world, text(PUBLISHER, [rule("publisher")]) + 'signers = ["publisher"]\n')


@case("policy_syntax")
def policy_malformed__signer_twice(world):
    one = text(PUBLISHER, [])
    return written(world, one + text(PUBLISHER, [rule("publisher")], head=""))


@case("policy_syntax")
def policy_malformed__deep(world):
    return written(world, text(PUBLISHER, [rule("publisher")]) + "sources = " + "[" * 100_000 + "]" * 100_000, memory=512 * MIB)


@case("policy_syntax")
def policy_malformed__deep_keys(world):
    return written(world, "policy = 1\n" + ".".join("a" * 50_000) + " = 1\n", memory=512 * MIB)


@case("policy_syntax")
def policy_malformed__one_rule_instead_of_a_list(world):
    return written(world, text(PUBLISHER, [rule("publisher")]).replace("[[rule]]", "[rule]"))


@case("policy_syntax")
def policy_malformed__too_long(world):
    """One byte over 1 MiB, and otherwise good."""
    good = text(PUBLISHER, [rule("publisher")])
    return written(world, good + "#" * (MIB + 1 - len(good)))


@case("policy_syntax")
def policy_malformed__very_long(world):
    attempt = written(world, text(PUBLISHER, [rule("publisher")]) + "#")
    os.truncate(world.root / "policy.toml", 1 << 40)
    attempt.memory = 512 * MIB
    return attempt


@case("policy_syntax")
def policy_malformed__1001_rules(world):
    rules = [rule("publisher", artifacts=(f"acme/model-{at}",)) for at in range(1001)]
    return written(world, text(PUBLISHER, rules))


@case("policy_syntax")
def policy_malformed__1001_signers(world):
    who = {f"signer-{at}": {"key": "sentry.pub"} for at in range(1001)}
    return written(world, text(who, [rule("signer-0")]))


@case("io")
def policy_malformed__not_utf_8(world):
    return written(world, text(PUBLISHER, [rule("publisher")]).encode() + b"# \xff\n")


@case("policy_syntax")
def policy_malformed__utf_16(world):
    return written(world, text(PUBLISHER, [rule("publisher")]).encode("utf-16-be"))


@case("io")
def policy_missing(world):
    attempt = written(world, "")
    (world.root / "policy.toml").unlink()
    return attempt


@case("io")
def policy_missing__folder_of_that_name(world):
    attempt = policy_missing(world)
    (world.root / "policy.toml").mkdir()
    return attempt


@case("io")
def policy_missing__pipe(world):
    """Nobody writes into it."""
    attempt = policy_missing(world)
    os.mkfifo(world.root / "policy.toml")
    attempt.timeout = 5
    return attempt


@case("policy_syntax")
def policy_version(world):
    return written(world, text(PUBLISHER, [rule("publisher")], head="policy = 2\n"))


@case("policy_syntax")
def policy_version__absent(world):
    return written(world, text(PUBLISHER, [rule("publisher")], head=""))


@case("policy_syntax")
def policy_version__text(world):
    return written(world, text(PUBLISHER, [rule("publisher")], head='policy = "1"\n'))


@case("policy_syntax")
def policy_version__minus(world):
    return written(world, text(PUBLISHER, [rule("publisher")], head="policy = -1\n"))


@case("policy_syntax")
def policy_unknown_field(world):
    """A condition that this version does not know would not be checked."""
    return asking(world, lowest_epoch=3)


@case("policy_syntax")
def policy_unknown_field__misspelt(world):
    return asking(world, treshold=1)


@case("policy_syntax")
def policy_unknown_field__in_capitals(world):
    return asking(world, Payload=[oms.digest(b"")])


@case("policy_syntax")
def policy_unknown_field__of_the_policy(world):
    return written(world, text(PUBLISHER, [rule("publisher")], head='policy = 1\ndefault = "allow"\n'))


@case("policy_syntax")
def policy_unknown_field__of_a_signer(world):
    return signer(world, key="sentry.pub", allow_ca_leaf=True)


@case("policy_syntax")
def policy_without_rules(world):
    return written(world, text(PUBLISHER, []))


@case("policy_unknown_signer")
def policy_without_rules__and_signers_for_one(world):
    return written(world, text({}, [rule("publisher")]))


# -- signers -----------------------------------------------------------------------------------


@case("policy_unknown_signer")
def policy_unknown_signer(world):
    return written(world, text(PUBLISHER, [rule("publisher", "pubisher", threshold=1)]))


@case("policy_unknown_signer")
def policy_unknown_signer__other_case(world):
    return written(world, text(PUBLISHER, [rule("Publisher")]))


@case("policy_unknown_signer")
def policy_unknown_signer__in_a_rule_about_others(world):
    """The whole policy counts, and not only the rule that decides."""
    return written(world, text(PUBLISHER, [rule("publisher"), rule("nobody", artifacts=("other/*",))]))


@case("policy_signer")
def policy_bad_signer(world):
    """The key's file is not there."""
    return signer(world, key="missing.pub")


@case("policy_signer")
def policy_bad_signer__key_is_a_folder(world):
    return signer(world, key="model")


@case("policy_signer")
def policy_bad_signer__private_key(world):
    world.private_key()
    return signer(world, key="sentry.key")


@case("policy_signer")
def policy_bad_signer__rsa_key(world):
    (world.root / "rsa.pub").write_bytes(key("rsa2048").public_pem())
    return signer(world, key="rsa.pub")


@case("policy_signer")
def policy_bad_signer__curve_not_allowed(world):
    (world.root / "other.pub").write_bytes(key("secp256k1").public_pem())
    return signer(world, key="other.pub")


@case("policy_signer")
def policy_bad_signer__long_key_file(world):
    world.public_key()
    (world.root / "long.pub").write_bytes(key().public_pem() + b"\n" * MIB)
    return signer(world, key="long.pub")


@case("policy_signer")
def policy_bad_signer__of_another_rule(world):
    who = {**PUBLISHER, "other": {"key": "missing.pub"}}
    return written(world, text(who, [rule("publisher"), rule("other", artifacts=("other/*",))]))


@case("policy_signer")
def policy_bad_signer__named_by_no_rule(world):
    return written(world, text({**PUBLISHER, "other": {"key": "missing.pub"}}, [rule("publisher")]))


@case("policy_signer")
def policy_bad_signer__nothing(world):
    """A signer who is nobody in particular."""
    return signer(world)


@case("policy_signer")
def policy_bad_signer__identity_alone(world):
    return signer(world, identity=x509.EMAIL)


def rooted(world, **fields):
    x509.roots_file(world, (x509.authority(),))
    return signer(world, certificate_roots=["roots.pem"], **fields)


@case("policy_signer")
def policy_bad_signer__no_identity(world):
    return rooted(world)


@case("policy_signer")
def policy_bad_signer__identity_and_any(world):
    return rooted(world, identity=x509.EMAIL, any_identity=True)


@case("policy_signer")
def policy_bad_signer__any_is_false(world):
    return rooted(world, any_identity=False)


@case("policy_signer")
def policy_bad_signer__key_and_roots(world):
    return rooted(world, key="sentry.pub", identity=x509.EMAIL)


@case("policy_signer")
def policy_bad_signer__identity_beside_a_key(world):
    """It would not be checked."""
    return signer(world, key="sentry.pub", identity=x509.EMAIL)


@case("policy_signer")
def policy_bad_signer__issuer_and_roots(world):
    return rooted(world, identity=x509.EMAIL, issuer="https://token.git.example")


@case("policy_signer")
def policy_bad_signer__pattern_as_identity(world):
    return rooted(world, identity="*.acme.example")


@case("policy_signer")
def policy_bad_signer__empty_identity(world):
    return rooted(world, identity="")


@case("policy_signer")
def policy_bad_signer__no_roots(world):
    return signer(world, certificate_roots=[], any_identity=True)


@case("policy_signer")
def policy_bad_signer__root_is_no_authority(world):
    x509.roots_file(world, (x509.leaf(x509.authority()),))
    return signer(world, certificate_roots=["roots.pem"], identity=x509.EMAIL)


@case("policy_signer")
def policy_bad_signer__root_is_a_key(world):
    return signer(world, certificate_roots=["sentry.pub"], identity=x509.EMAIL)


@case("policy_signer")
def policy_bad_signer__no_timestamp_roots(world):
    return signer(world, key="sentry.pub", timestamp_roots=[])


@case("policy_signer")
def policy_bad_signer__timestamp_roots_missing(world):
    return signer(world, key="sentry.pub", timestamp_roots=["missing.pem"])


@case("policy_signer")
def policy_signer_twice_under_two_names(world):
    """One key as two signers would count twice."""
    who = {**PUBLISHER, "again": {"key": "sentry.pub"}}
    return written(world, text(who, [rule("publisher", "again")]))


@case("policy_signer")
def policy_signer_twice_under_two_names__two_files(world):
    (world.root / "copy.pub").write_bytes(b"# the same key\n" + key().public_pem())
    return written(world, text({**PUBLISHER, "again": {"key": "copy.pub"}}, [rule("publisher", "again")]))


@case("policy_signer")
def policy_signer_twice_under_two_names__point_compressed(world):
    """The same key in other bytes."""
    form = (serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    point = key().private.public_key().public_bytes(*form)
    kind = der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7"))
    (world.root / "copy.pub").write_bytes(der.pem("PUBLIC KEY", der.sequence(kind, der.bits(point))))
    return written(world, text({**PUBLISHER, "again": {"key": "copy.pub"}}, [rule("publisher", "again")]))


@case("policy_signer")
def policy_signer_twice_under_two_names__with_timestamps(world):
    x509.roots_file(world, (x509.authority(),))
    who = {**PUBLISHER, "again": {"key": "sentry.pub", "timestamp_roots": ["roots.pem"]}}
    return written(world, text(who, [rule("publisher", "again")]))


@case("policy_signer")
def policy_signer_twice_under_two_names__certificates(world):
    """The same identity under the same roots, which two files list in another order."""
    roots = x509.authority(), x509.authority("other")
    x509.roots_file(world, roots, "one.pem")
    x509.roots_file(world, roots[::-1], "two.pem")
    who = {name: {"certificate_roots": [f"{name}.pem"], "identity": x509.EMAIL} for name in ("one", "two")}
    return written(world, text(who, [rule("one", "two")]))


# -- rules that ask for nothing, or for what cannot be --------------------------------------------


@case("policy_rule")
def policy_threshold(world):
    """Nobody has to sign."""
    return asking(world, threshold=0)


@case("policy_rule")
def policy_threshold__more_than_there_are(world):
    return asking(world, threshold=2)


@case("policy_syntax")
def policy_threshold__negative(world):
    return asking(world, threshold=-1)


@case("policy_syntax")
def policy_threshold__huge(world):
    return asking(world, threshold=Raw("18446744073709551617"))


@case("policy_syntax")
def policy_threshold__half(world):
    return asking(world, threshold=0.5)


@case("policy_syntax")
def policy_threshold__text(world):
    return asking(world, threshold="1")


@case("policy_rule")
def policy_empty_list(world):
    """A rule about no artifact."""
    return asking(world, artifacts=[])


@case("policy_rule")
def policy_empty_list__signers(world):
    return asking(world, signers=[])


@case("policy_rule")
def policy_empty_list__signers_and_threshold_zero(world):
    return asking(world, signers=[], threshold=0)


@case("policy_rule")
def policy_empty_list__statements(world):
    return asking(world, statements=[])


@case("policy_rule")
def policy_empty_list__hashes(world):
    return asking(world, hashes=[])


@case("policy_rule")
def policy_empty_list__signature_algorithms(world):
    return asking(world, signature_algorithms=[])


@case("policy_rule")
def policy_empty_list__payload(world):
    return asking(world, payload=[])


@case("policy_rule")
def policy_empty_list__root(world):
    return asking(world, root=[])


@case("policy_rule")
def policy_empty_list__sources(world):
    return asking(world, statements=["dataset"], sources=[])


@case("policy_rule")
def policy_entry_twice(world):
    """A signer twice in a list would count twice."""
    return asking(world, signers=["publisher", "publisher"], threshold=2)


@case("policy_rule")
def policy_entry_twice__artifacts(world):
    return asking(world, artifacts=["acme/model", "acme/model"])


@case("policy_rule")
def policy_entry_twice__payload(world):
    return asking(world, payload=[oms.digest(b"")] * 2)


@case("policy_shadowed_rule")
def policy_shadowed_rule(world):
    """The strict rule stands behind the wide one, and never decides."""
    rules = [rule("publisher", artifacts=("acme/**",)), rule("publisher", lowest_version=3)]
    return written(world, text(PUBLISHER, rules))


@case("policy_shadowed_rule")
def policy_shadowed_rule__same_pattern(world):
    return written(world, text(PUBLISHER, [rule("publisher"), rule("publisher", lowest_version=3)]))


@case("policy_shadowed_rule")
def policy_shadowed_rule__one_pattern_of_several(world):
    rules = [rule("publisher", artifacts=("acme/*",)), rule("publisher", artifacts=("other/model", "acme/llama-*"))]
    return written(world, text(PUBLISHER, rules))


@case("policy_shadowed_rule")
def policy_shadowed_rule__within_one_rule(world):
    return written(world, text(PUBLISHER, [rule("publisher", artifacts=("acme/*", "acme/model"))]))


@case("policy_shadowed_rule")
def policy_shadowed_rule__everything_first(world):
    return written(world, text(PUBLISHER, [rule("publisher", artifacts=("**",)), rule("publisher")]))


def pattern(world, text_of_it):
    return asking(world, artifacts=["acme/model", text_of_it])


@case("policy_rule")
def policy_bad_pattern(world):
    return pattern(world, "")


@case("policy_rule")
def policy_bad_pattern__absolute(world):
    return pattern(world, "/acme/*")


@case("policy_rule")
def policy_bad_pattern__parent(world):
    return pattern(world, "acme/../evil")


@case("policy_rule")
def policy_bad_pattern__empty_part(world):
    return pattern(world, "acme//model")


@case("policy_rule")
def policy_bad_pattern__two_stars_within_a_part(world):
    return pattern(world, "other/m**")


@case("policy_rule")
def policy_bad_pattern__backslash(world):
    return pattern(world, "acme\\*")


@case("policy_rule")
def policy_bad_pattern__too_long(world):
    """Comparing takes time in proportion to the product of the lengths."""
    return pattern(world, "a*" * 257)


def pinned(world, digest):
    return asking(world, payload=[digest])


@case("policy_rule")
def policy_bad_pin(world):
    """Half of a digest."""
    return pinned(world, oms.digest(b"")[:32])


@case("policy_rule")
def policy_bad_pin__capitals(world):
    return pinned(world, oms.digest(b"").upper())


@case("policy_rule")
def policy_bad_pin__white_space(world):
    return pinned(world, oms.digest(b"") + "\n")


@case("policy_rule")
def policy_bad_pin__algorithm_before_it(world):
    return pinned(world, "sha256:" + oms.digest(b""))


@case("policy_rule")
def policy_bad_pin__pattern(world):
    return pinned(world, "*")


@case("policy_syntax")
def policy_bad_pin__no_list(world):
    return asking(world, payload=oms.digest(b""))


@case("policy_rule")
def policy_bad_pin__root(world):
    return asking(world, root=["00"])


@case("policy_rule")
def policy_contradiction(world):
    """One content, and any later one."""
    return asking(world, payload=[oms.digest(b"")], lowest_version=3)


@case("policy_rule")
def policy_contradiction__signed_after_without_timestamp_roots(world):
    """No time of this signer's is authenticated."""
    return asking(world, signed_after=Raw("2026-01-01T00:00:00Z"))


@case("policy_rule")
def policy_contradiction__signed_after_and_one_signer_without(world):
    x509.roots_file(world, (x509.authority(),))
    who = {**keyed(world, "ann"), "publisher": {"key": "sentry.pub", "timestamp_roots": ["roots.pem"]}}
    return written(world, text(who, [rule("publisher", "ann", threshold=1, signed_after=Raw("2026-01-01T00:00:00Z"))]))


def timed(world, time):
    """A rule about a time, and a signer with roots for timestamps."""
    x509.roots_file(world, (x509.authority(),))
    who = {"publisher": {"key": "sentry.pub", "timestamp_roots": ["roots.pem"]}}
    return written(world, text(who, [rule("publisher", signed_after=time)]))


@case("policy_rule")
def policy_contradiction__time_without_an_offset(world):
    """A time of day somewhere on Earth."""
    return timed(world, Raw("2026-01-01T00:00:00"))


@case("policy_rule")
def policy_contradiction__date_alone(world):
    return timed(world, Raw("2026-01-01"))


@case("policy_syntax")
def policy_contradiction__time_as_text(world):
    return timed(world, "2026-01-01T00:00:00Z")


@case("policy_rule")
def policy_contradiction__sources_of_a_model(world):
    return asking(world, sources=["web"])


@case("policy_rule")
def policy_contradiction__sources_of_several_kinds(world):
    return asking(world, sources=["web"], statements=["dataset", "files"])


@case("policy_rule")
def policy_contradiction__algorithm_that_the_signer_has_not(world):
    return asking(world, signature_algorithms=["ed25519"])


@case("policy_rule")
def policy_unknown_value(world):
    return asking(world, statements=["models"])


@case("policy_rule")
def policy_unknown_value__hash(world):
    return asking(world, hashes=["sha1"])


@case("policy_rule")
def policy_unknown_value__hash_in_capitals(world):
    return asking(world, hashes=["SHA256"])


@case("policy_rule")
def policy_unknown_value__signature_algorithm(world):
    return asking(world, signature_algorithms=["ecdsa-p256-sha256", "rsa-pkcs1-2048"])


@case("policy_rule")
def policy_unknown_value__version_too_large(world):
    return asking(world, lowest_version=1 << 53)


@case("policy_syntax")
def policy_unknown_value__version_negative(world):
    return asking(world, lowest_version=-1)


# -- asked without an artifact -------------------------------------------------------------------


def asked(world, content):
    """`sentry policy check`, which finds the same."""
    attempt = written(world, content)
    return Attempt(["policy", "check", str(world.root / "policy.toml"), "acme/model", "--json"], memory=attempt.memory)


@case("policy_syntax", naive=False)
def policy_malformed__asked_for(world):
    return asked(world, "everything is allowed\n")


@case("policy_unknown_signer", naive=False)
def policy_unknown_signer__asked_for(world):
    return asked(world, text({}, [rule("publisher")]))


@case("policy_shadowed_rule", naive=False)
def policy_shadowed_rule__asked_for(world):
    return asked(world, text(PUBLISHER, [rule("publisher"), rule("publisher", lowest_version=3)]))


# -- controls ----------------------------------------------------------------------------------


@control
def policy_one_rule(world):
    world.honest()
    return under(world, alone(world))


@control
def policy_within_the_limit(world):
    """Of 1 MiB, with as many rules and signers as there may be."""
    world.honest()
    world.public_key()
    rules = [rule("publisher", artifacts=(f"acme/model-{at}",)) for at in range(999)]
    whole = text(PUBLISHER, [*rules, rule("publisher")])
    (world.root / "policy.toml").write_text(whole + "#" * (MIB - len(whole)))
    return under(world, world.root / "policy.toml")


@control
def policy_key_of_another_folder(world):
    """Paths are the policy's own, and may lead anywhere that its writer means."""
    world.honest()
    world.public_key()
    folder = world.root / "policies"
    folder.mkdir()
    path = folder / "policy.toml"
    path.write_text(text({"publisher": {"key": "../sentry.pub"}}, [rule("publisher")]))
    return under(world, path)


@control
def policy_relative_to_the_policy(world):
    """And not to the working directory, where somebody else's key has the same name."""
    world.honest()
    folder = world.root / "policies"
    folder.mkdir()
    (folder / "ours.pub").write_bytes(key().public_pem())
    (world.root / "ours.pub").write_bytes(key("p256", "stranger").public_pem())
    path = folder / "policy.toml"
    path.write_text(text({"publisher": {"key": "ours.pub"}}, [rule("publisher")]))
    return under(world, path)


@control
def policy_of_many_stars(world):
    """Patterns that take naive matchers exponential time."""
    world.honest()
    stars = "*a" * 200 + "b"
    made = write(world, {"publisher": {"key": world.public_key().name}}, rule("publisher", artifacts=(stars, "**")))
    return under(world, made, artifact="a" * 500)
