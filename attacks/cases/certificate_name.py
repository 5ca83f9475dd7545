"""Class certificate: whom a certificate names. Each path is good; the identity that is trusted is release@acme.example or
builder.acme.example, exactly and as a subject alternative name of its kind."""

from pathlib import Path

from kit import certificates as x509
from kit import der, judge, process
from kit.case import Attempt, Script, rejected
from kit.certificates import EMAIL, authority, certified, dns, email, issued, leaf, named, presented, roots_file, uri, with_extension
from kit.keys import key

case = rejected("certificate")

HOST = "builder.acme.example"
SAN = "2.5.29.17"


def naming(world, identity, *names, **options):
    root = authority()
    return presented(world, root, leaf(root, *names, **options), identity=identity)


@case("certificate_identity")
def san_suffix_match(world):
    """The trusted host is the end of this one."""
    return naming(world, HOST, dns(f"evil.{HOST}"))


@case("certificate_identity")
def san_suffix_match__without_a_dot(world):
    return naming(world, HOST, dns(f"evil{HOST}"))


@case("certificate_identity")
def san_suffix_match__trusted_is_longer(world):
    """The certificate's host is the end of the trusted one."""
    return naming(world, HOST, dns("acme.example"))


@case("certificate_identity")
def san_suffix_match__email_domain(world):
    """Anyone's mailbox there."""
    return naming(world, EMAIL, email("mallory@acme.example"))


@case("certificate_identity")
def san_suffix_match__email_mailbox(world):
    return naming(world, EMAIL, email(f"mallory.{EMAIL}"))


@case("certificate_identity")
def san_suffix_match__email_tag(world):
    return naming(world, EMAIL, email("release+mallory@acme.example"))


@case("certificate_identity")
def san_suffix_match__prefix(world):
    return naming(world, HOST, dns(f"{HOST}.evil.example"))


@case("certificate_identity")
def san_suffix_match__prefix_email(world):
    return naming(world, EMAIL, email(f"{EMAIL}.evil.example"))


@case("certificate_identity")
def san_suffix_match__prefix_uri(world):
    return naming(world, "spiffe://acme.example/train", uri("spiffe://acme.example/train/mallory"))


@case("certificate_identity")
def san_suffix_match__case(world):
    """Byte by byte: two mailboxes may differ in nothing but that."""
    return naming(world, EMAIL, email("Release@acme.example"))


@case("certificate_identity")
def san_suffix_match__case_host(world):
    return naming(world, HOST, dns(HOST.title()))


@case("certificate_identity")
def san_suffix_match__trailing_dot(world):
    return naming(world, HOST, dns(f"{HOST}."))


@case("certificate_identity")
def san_suffix_match__white_space(world):
    """Who trims names would take it for the trusted one."""
    return naming(world, HOST, dns(f" {HOST} "))


@case("certificate_identity")
def san_suffix_match__wildcard(world):
    """The certificate stands for a whole domain; trust is in one host."""
    return naming(world, HOST, dns("*.acme.example"))


@case("certificate_identity")
def san_suffix_match__wildcard_email(world):
    return naming(world, EMAIL, email("*@acme.example"))


@case("certificate_identity")
def san_suffix_match__domain_instead_of_a_mailbox(world):
    return naming(world, EMAIL, dns("acme.example"))


@case("certificate_identity")
def san_suffix_match__other_kind(world):
    """The same text as another kind of name, for which an authority may ask less proof."""
    return naming(world, EMAIL, dns(EMAIL))


@case("certificate_identity")
def san_suffix_match__other_kind_email_as_uri(world):
    return naming(world, EMAIL, uri(EMAIL))


@case("certificate_identity")
def san_suffix_match__other_kind_host_as_uri(world):
    return naming(world, HOST, uri(HOST))


@case("certificate_identity")
def san_suffix_match__other_kind_uri_as_host(world):
    text = "spiffe://acme.example/trainer"
    return naming(world, text, dns(text))


@case("certificate_identity")
def san_suffix_match__other_kind_mailto(world):
    return naming(world, EMAIL, uri(f"mailto:{EMAIL}"))


@case("certificate_identity")
def san_suffix_match__other_name(world):
    """SmtpUTF8Mailbox (RFC 9598), a form of otherName."""
    text = der.element(0x0C, EMAIL.encode())
    return naming(world, EMAIL, x509.x509.OtherName(x509.x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), text))


@case("certificate_identity")
def san_suffix_match__directory_name(world):
    return naming(world, EMAIL, x509.x509.DirectoryName(named(EMAIL)))


@case("certificate_identity")
def san_suffix_match__common_name_alone(world):
    root = authority()
    own = issued(named(EMAIL), key(), root, ca=False, usage=("digital_signature",), purposes=("code",))
    return presented(world, root, own)


@case("certificate_identity")
def san_suffix_match__common_name_beside_another(world):
    root = authority()
    names = (email("mallory@evil.example"),)
    own = issued(named(EMAIL), key(), root, ca=False, usage=("digital_signature",), purposes=("code",), names=names)
    return presented(world, root, own)


@case("certificate_identity")
def san_suffix_match__email_attribute_of_the_subject(world):
    """emailAddress, as certificates had it before alternative names."""
    root = authority()
    subject = x509.x509.Name([x509.x509.NameAttribute(x509.NameOID.EMAIL_ADDRESS, EMAIL)])
    return presented(world, root, issued(subject, key(), root, ca=False, usage=("digital_signature",), purposes=("code",)))


@case("certificate_identity")
def san_suffix_match__embedded_nul(world):
    """What reads it as C does reads the trusted address."""
    return naming(world, EMAIL, email(f"{EMAIL}\0.evil.example"))


@case("certificate_identity")
def san_suffix_match__embedded_nul_host(world):
    return naming(world, HOST, dns(f"{HOST}\0.evil.example"))


@case("certificate_identity")
def san_suffix_match__two_in_one(world):
    """A list of names as one name."""
    return naming(world, HOST, dns(f"{HOST},DNS:evil.example"))


@case("certificate_malformed")
def san_suffix_match__not_ascii(world):
    """An IA5String with a letter that is none of it."""
    root = authority()
    names = der.sequence(der.element(0x81, "rele\u00e4se@acme.example".encode()))
    return presented(world, root, with_extension(leaf(root, names=()), root, SAN, names))


@case("certificate_malformed")
def san_suffix_match__two_extensions(world):
    """The trusted name stands in the second list."""
    root = authority()
    names = der.sequence(der.element(0x81, EMAIL.encode()))
    return presented(world, root, with_extension(leaf(root, email("mallory@evil.example")), root, SAN, names))


@case("certificate_identity")
def san_suffix_match__authority_has_the_name(world):
    """The name is on the path, and not the signer's."""
    root = authority()
    middle = authority("between", root, names=(email(),))
    return presented(world, root, leaf(middle, email("mallory@evil.example")), middle)


@case("certificate_identity")
def san_suffix_match__another_certificate_has_the_name(world):
    """A good certificate of the trusted publisher comes along; a stranger, whom the root knows, signed."""
    root = authority()
    stranger = leaf(root, email("mallory@evil.example"), owner="mallory")
    certified(world, stranger, leaf(root))
    return x509.trusting(world, root)


# -- patterns ----------------------------------------------------------------------------------


@case("certificate_identity")
def identity_regex_unanchored(world):
    """What looks like an expression is an address like any other, and equals nothing but itself."""
    return naming(world, ".*@acme.example", email())


@case("certificate_identity")
def identity_regex_unanchored__dots_are_dots(world):
    return naming(world, EMAIL, email("release@acmeXexample.evil"))


@case("certificate_identity")
def identity_regex_unanchored__star_mailbox(world):
    return naming(world, "*@acme.example", email())


@case("certificate_identity")
def identity_regex_unanchored__uri(world):
    return naming(world, "spiffe://acme.example/.*", uri("spiffe://acme.example/trainer"))


@case("usage")
def identity_regex_unanchored__star_host(world):
    return naming(world, "*.acme.example", dns(HOST))


@case("usage")
def identity_regex_unanchored__anchored(world):
    return naming(world, "^release@acme\\.example$", email())


@case("usage")
def identity_regex_unanchored__domain_of_mailboxes(world):
    return naming(world, "@acme.example", email())


@case("usage")
def identity_regex_unanchored__empty(world):
    return naming(world, "", email())


@case("usage")
def identity_regex_unanchored__white_space(world):
    return naming(world, f"{EMAIL} mallory@evil.example", email())


# -- no identity, or one that would count for nothing --------------------------------------------


def misused(world, *arguments):
    """The command line refuses these arguments by itself: exit 2, text on standard error alone, nothing done."""
    attempt = Attempt(["verify", str(world.model), *arguments, "--json"])

    def run(sentry: Path):
        before = judge.snapshot(world.root)
        outcome = process.run(sentry, attempt, world.root)
        problems = [] if outcome.code == 2 and not outcome.timed_out else [f"exit {outcome.code}, expected 2"]
        problems += ["something on standard output"] if outcome.stdout else []
        problems += ["no error on standard error"] if not outcome.stderr.startswith("error: ") else []
        problems += ['the output says "verified"'] if "verified" in (outcome.stdout + outcome.stderr).lower() else []
        return problems + judge.left_behind(before, judge.snapshot(world.root))

    return Script(run)


def with_roots(world):
    """An honest bundle, and the option that trusts its root."""
    root = authority()
    certified(world, leaf(root))
    return "--certificate-root", str(roots_file(world, (root,)))


@case("usage")
def no_identity_given(world):
    return misused(world, *with_roots(world))


@case("usage")
def no_identity_given__and_no_root(world):
    world.honest()
    return misused(world, "--identity", EMAIL)


@case("usage")
def no_identity_given__any_and_no_root(world):
    world.honest()
    return misused(world, "--any-identity")


@case("usage")
def no_identity_given__no_trust_at_all(world):
    world.honest()
    return misused(world)


@case("usage")
def no_identity_given__one_and_any(world):
    return misused(world, *with_roots(world), "--identity", EMAIL, "--any-identity")


@case("usage")
def no_identity_given__two(world):
    return misused(world, *with_roots(world), "--identity", EMAIL, "--identity", "mallory@evil.example")


@case("usage")
def no_identity_given__permission_for_authorities_instead(world):
    return misused(world, *with_roots(world), "--allow-ca-leaf")


@case("usage")
def no_identity_given__beside_a_key(world):
    """A key has no identity, so one that is asked for would not be checked."""
    world.honest()
    return misused(world, "--key", str(world.public_key()), "--identity", EMAIL)


@case("usage")
def no_identity_given__any_beside_a_key(world):
    world.honest()
    return misused(world, "--key", str(world.public_key()), "--any-identity")


@case("usage")
def no_identity_given__beside_a_policy(world):
    """A policy names its own identities."""
    world.honest()
    policy = world.root / "policy.toml"
    policy.write_text(f'policy = 1\nsigner.a.key = "{world.public_key().name}"\n[[rule]]\nartifacts = ["**"]\nsigners = ["a"]\n')
    return misused(world, "--policy", str(policy), "--identity", EMAIL)


@case("usage")
def no_identity_given__roots_and_a_key(world):
    """Two kinds of trust, one of which would not be asked."""
    return misused(world, *with_roots(world), "--identity", EMAIL, "--key", str(world.public_key()))


@case("usage")
def no_identity_given__artifact_beside_a_key(world):
    """The name of the artifact means something to a policy alone."""
    world.honest()
    return misused(world, "--key", str(world.public_key()), "--artifact", "acme/model")
