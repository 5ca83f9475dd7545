"""Class policy: which rule is about an artifact. Its name is the caller's; what a signature calls its subject plays no part.

The publisher, whom the rule trusts, signed the model honestly.
"""

from kit.case import Attempt, control, rejected
from kit.keys import key
from kit.policies import alone, keyed, rule, signed, under, write

case = rejected("policy")


def called(world, artifact, *artifacts):
    """Verifies under a rule about `artifacts`, by this name."""
    world.honest()
    return under(world, alone(world, artifacts=list(artifacts or ("acme/model",))), artifact=artifact)


@case("policy_no_rule")
def no_rule(world):
    return called(world, "evil/other")


@case("policy_no_rule")
def no_rule__prefix(world):
    return called(world, "acme/model-2")


@case("policy_no_rule")
def no_rule__suffix(world):
    return called(world, "evil/acme/model")


@case("policy_no_rule")
def no_rule__suffix_of_a_part(world):
    return called(world, "notacme/model")


@case("policy_no_rule")
def no_rule__other_case(world):
    return called(world, "Acme/model")


@case("policy_no_rule")
def no_rule__extra_part(world):
    return called(world, "acme/model/v2")


@case("policy_no_rule")
def no_rule__part_missing(world):
    return called(world, "acme")


@case("policy_no_rule")
def no_rule__white_space(world):
    return called(world, "acme/model ")


@case("policy_no_rule")
def no_rule__escaped_slash(world):
    """A name is not a URL."""
    return called(world, "acme%2Fmodel")


@case("policy_no_rule")
def no_rule__look_alike(world):
    """A Cyrillic letter."""
    return called(world, "\u0430cme/model")


@case("policy_no_rule")
def no_rule__composed_otherwise(world):
    return called(world, "acme/mode\u0300le", "acme/mod\u00e8le")


@case("policy_no_rule")
def no_rule__star_within_a_part(world):
    return called(world, "acme/evil/model", "acme/*")


@case("policy_no_rule")
def no_rule__star_is_no_whole_name(world):
    return called(world, "acme/model", "*")


@case("policy_no_rule")
def no_rule__two_stars_are_one_part_or_more(world):
    return called(world, "acme", "acme/**")


@case("policy_no_rule")
def no_rule__between_two_stars(world):
    return called(world, "acme/model", "acme/**/model")


@case("policy_no_rule")
def no_rule__dot_is_a_dot(world):
    return called(world, "acme/model-v1x0", "acme/model-v1.0")


@case("policy_no_rule")
def no_rule__question_mark_is_one(world):
    return called(world, "acme/model1", "acme/model?")


@case("policy_no_rule")
def no_rule__brackets_are_brackets(world):
    return called(world, "acme/modelA", "acme/model[A-Z]")


@case("policy_no_rule")
def no_rule__two_names_in_one(world):
    return called(world, "acme/model", "acme/model|evil/other")


@case("policy_no_rule")
def no_rule__name_in_the_signature(world):
    """The statement calls the model as the rule does; its folder is called otherwise, and that counts."""
    statement = world.statement()
    statement["subject"][0]["name"] = "acme/model"
    world.sign(statement)
    return under(world, alone(world), artifact=None)


@case("policy_no_rule")
def no_rule__cache_of_another_repository(world):
    """A hub's cache names the repository; the folder below is called like the trusted artifact."""
    world.model = world.root / "models--evil--other" / "snapshots" / "model"
    world.signature = world.model / "model.sig"
    world.honest()
    return under(world, alone(world, artifacts=["model", "acme/model"]), artifact=None)


@case("signature_invalid", naive=False)
def first_rule_decides(world):
    """A wider rule behind it would accept the signer."""
    made = write(world, keyed(world, "ann", "bob"), rule("bob"), rule("ann", artifacts=("**",)))
    return under(world, made, by(world, "ann"))


@case("signature_invalid", naive=False)
def first_rule_decides__wider_first(world):
    """Rules are not sorted: where a narrower one can decide, it has to stand first."""
    made = write(world, keyed(world, "ann", "bob"), rule("bob", artifacts=("acme/*-secret", "acme/m*")), rule("ann", artifacts=("*/model",)))
    return under(world, made, by(world, "ann"))


def by(world, name):
    world.signer = world.trusted = key("p256", name)
    return signed(world, name)


# -- what is no name: exit 2 -------------------------------------------------------------------


@case("usage")
def artifact_name(world):
    return called(world, "..", "**")


@case("usage")
def artifact_name__parent_inside(world):
    """Whoever resolves it reads acme/model."""
    return called(world, "evil/../acme/model", "acme/model", "evil/**")


@case("usage")
def artifact_name__here(world):
    return called(world, "./acme/model")


@case("usage")
def artifact_name__absolute(world):
    return called(world, "/acme/model", "**")


@case("usage")
def artifact_name__empty(world):
    return called(world, "", "**")


@case("usage")
def artifact_name__empty_part(world):
    return called(world, "acme//model", "**")


@case("usage")
def artifact_name__slash_at_the_end(world):
    return called(world, "acme/model/", "**")


@case("usage")
def artifact_name__backslash(world):
    return called(world, "acme\\model", "**")


@case("usage")
def artifact_name__line_break(world):
    return called(world, "acme/model\nevil", "**")


@case("usage")
def artifact_name__pattern(world):
    """A name that would match every rule, if it were one."""
    return called(world, "acme/*", "acme/*")


@case("usage")
def artifact_name__too_long(world):
    return called(world, "a" * 513, "**")


@case("usage")
def artifact_name__none_in_the_path(world):
    """The path ends with no name."""
    world.honest()
    attempt = under(world, alone(world, artifacts=["**"]), world.signature, artifact=None)
    attempt.args[1] = str(world.model / "tokenizer" / "..")
    return attempt


@case("usage")
def artifact_name__star_in_the_path(world):
    """A folder called `*`."""
    world.model = world.root / "*"
    world.signature = world.model / "model.sig"
    world.honest()
    return under(world, alone(world, artifacts=["**"]), artifact=None)


# -- what a policy says of an artifact, without one ----------------------------------------------


def asked(world, artifact, *artifacts):
    """`sentry policy check`."""
    path = alone(world, artifacts=list(artifacts or ("acme/model",)))
    return Attempt(["policy", "check", str(path), artifact, "--json"])


@case("policy_no_rule", naive=False)
def no_rule__asked_for(world):
    return asked(world, "evil/other")


@case("usage", naive=False)
def artifact_name__asked_for(world):
    return asked(world, "..", "**")


# -- controls ----------------------------------------------------------------------------------


@control
def policy_pattern(world):
    return called(world, "acme/llama-3-8b", "other/model", "acme/llama-*-8b")


@control
def policy_pattern_of_parts(world):
    return called(world, "acme/research/model", "acme/**/model")


@control
def policy_name_of_the_folder(world):
    return called(world, None, "model")


@control
def policy_name_of_a_cached_repository(world):
    world.model = world.root / "models--acme--model" / "snapshots" / "1a2b3c"
    world.signature = world.model / "model.sig"
    world.honest()
    return under(world, alone(world), artifact=None)
