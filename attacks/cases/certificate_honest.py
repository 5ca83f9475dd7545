"""Controls: certificates that must be accepted, in every form; some stand just within a limit that a case stands beyond."""

from kit import certificates as x509
from kit import process
from kit.case import Attempt, Script, control
from kit.certificates import EMAIL, authority, between, certified, dns, email, leaf, presented, roots_file, trusting, uri, with_extension
from kit.judge import accepted, left_behind, snapshot

HOST, SPIFFE = "builder.acme.example", "spiffe://acme.example/trainer"


def naming(world, name, identity):
    root = authority()
    middle = authority("between", root)
    return presented(world, root, leaf(middle, name), middle, identity=identity)


@control
def certificate_email(world):
    return naming(world, email(), EMAIL)


@control
def certificate_uri(world):
    workflow = "https://git.example/acme/model/.build/train.yml@refs/heads/main"
    return naming(world, uri(workflow), workflow)


@control
def certificate_spiffe(world):
    return naming(world, uri(SPIFFE), SPIFFE)


@control
def certificate_dns(world):
    return naming(world, dns(HOST), HOST)


@control
def certificate_any_identity(world):
    return naming(world, email("whoever@acme.example"), None)


@control
def certificate_any_identity_without_a_name(world):
    root = authority()
    own = x509.issued(x509.named("publisher"), x509.key(), root, ca=False, usage=("digital_signature",), purposes=("code",))
    return presented(world, root, own, identity=None)


@control
def certificate_second_of_its_names(world):
    root = authority()
    return presented(world, root, leaf(root, dns(HOST), uri(SPIFFE), email()))


@control
def certificate_with_the_root_in_the_bundle(world):
    """It counts for nothing there, and does no harm."""
    root = authority()
    middle = authority("between", root)
    return presented(world, root, leaf(middle), middle, root)


@control
def certificate_second_root_of_two(world):
    root = authority()
    certified(world, leaf(root))
    return trusting(world, authority("another"), root)


@control
def certificate_chain_in_disorder(world):
    """The signer's certificate is the first; the path is searched for among the others, whatever their order."""
    root = authority()
    lower, middle, upper = between(root, 3)
    return presented(world, root, leaf(lower), upper, root, lower, middle)


@control
def certificate_chain_with_duplicates(world):
    root = authority()
    middle = authority("between", root)
    return presented(world, root, leaf(middle), middle, middle, leaf(middle), root, root)


@control
def certificate_chain_with_strangers(world):
    """Nobody needs them."""
    root = authority()
    middle = authority("between", root)
    return presented(world, root, leaf(middle), authority("stranger"), leaf(authority("stranger")), middle)


@control
def certificate_chain_of_eight(world):
    root = authority()
    chain = between(root, 6)
    return presented(world, root, leaf(chain[0]), *chain, root)


@control
def certificate_chain_cross_signed(world):
    """Two authorities have certificates of each other; one of them has one of the root as well."""
    root = authority()
    one, other = authority("one"), authority("other")
    loop = [authority("one", other), authority("other", one), authority("other", root)]
    return presented(world, root, leaf(one), *loop)


@control
def certificate_root_that_expired_and_its_successor(world):
    """Of the same name and key; the verifier has both."""
    old, new = authority(days=(-30, -1)), authority(days=(-2, 300))
    certified(world, leaf(old))
    return trusting(world, old, new)


@control
def certificate_path_length_just_enough(world):
    root = authority(path_length=1)
    middle = authority("between", root, path_length=0)
    return presented(world, root, leaf(middle), middle)


@control
def certificate_purposes_of_all(world):
    """Each authority says that it is for code signing, among other things."""
    root = authority(purposes=("server", "code"))
    middle = authority("between", root, purposes=("code", "time"))
    return presented(world, root, leaf(middle, purposes=("server", "code"), critical=True), middle)


@control
def certificate_name_permitted(world):
    root = authority()
    middle = authority("between", root, permitted=[dns("acme.example")], excluded=[dns("evil.example")])
    return presented(world, root, leaf(middle, dns(HOST)), middle, identity=HOST)


@control
def certificate_name_of_another_kind_than_permitted(world):
    """Constraints on hosts say nothing about addresses (RFC 5280, section 4.2.1.10)."""
    root = authority()
    middle = authority("between", root, permitted=[dns("evil.example")])
    return presented(world, root, leaf(middle), middle)


@control
def certificate_unknown_extension(world):
    """Not critical, so not in the way."""
    root = authority()
    return presented(world, root, with_extension(leaf(root), root, "1.3.6.1.4.1.32473.1", b"\x05\0"))


@control
def certificate_of_an_authority_on_request(world):
    """As the samples of OpenSSF Model Signing are, with the option that takes them."""
    root = authority()
    own = leaf(root, ca=True, usage=("digital_signature", "key_cert_sign"))
    return presented(world, root, own, identity=None, extra=("--allow-ca-leaf",))


@control
def certificate_of_an_authority_on_request_between(world):
    root = authority(path_length=1)
    middle = authority("between", root)
    own = leaf(middle, ca=True, usage=("digital_signature", "key_cert_sign"))
    return presented(world, root, own, middle, extra=("--allow-ca-leaf",))


@control
def certificate_of_a_publisher_with_that_option(world):
    root = authority()
    return presented(world, root, leaf(root), extra=("--allow-ca-leaf",))


# -- kinds of keys ---------------------------------------------------------------------------


def by(world, kind):
    root = authority()
    return presented(world, root, leaf(root, kind=kind))


@control
def certificate_p384(world):
    return by(world, "p384")


@control
def certificate_p521(world):
    return by(world, "p521")


@control
def certificate_ed25519(world):
    return by(world, "ed25519")


def under(world, kind):
    root = authority(kind=kind)
    middle = authority("between", root, kind=kind)
    return presented(world, root, leaf(middle), middle)


@control
def certificate_under_p384(world):
    return under(world, "p384")


@control
def certificate_under_p521(world):
    return under(world, "p521")


@control
def certificate_under_ed25519(world):
    return under(world, "ed25519")


@control
def certificate_under_rsa_2048(world):
    return under(world, "rsa2048")


@control
def certificate_under_rsa_3072(world):
    return under(world, "rsa3072")


@control
def certificate_under_rsa_4096(world):
    return under(world, "rsa4096")


# -- signing ---------------------------------------------------------------------------------


def signs(world, root, own, *others, extra=()):
    """Signs with a certificate, and verifies with trust in its root."""
    world.base()
    world.signer = world.trusted = own.key
    (world.root / "own.pem").write_bytes(own.pem())
    options = ["--certificate", str(world.root / "own.pem")]
    for at, other in enumerate(others):
        path = world.root / f"chain-{at}.pem"
        path.write_bytes(other.pem())
        options += ["--chain", str(path)]
    attempt = world.signing(*options, *extra)
    roots_file(world, (root,))

    def run(sentry):
        before = snapshot(world.root)
        outcome = process.run(sentry, attempt, world.root)
        problems = accepted(attempt, outcome)
        if problems:
            return problems
        after = snapshot(world.root)
        after.pop(str(world.signature), None)
        for folder in (before, after):
            folder.pop(str(world.model), None)
        check: Attempt = trusting(world, root, extra=extra)
        return left_behind(before, after) + accepted(check, process.run(sentry, check, world.root))

    return Script(run)


@control
def certificate_signing(world):
    root = authority()
    middle = authority("between", root)
    return signs(world, root, leaf(middle), middle)


@control
def certificate_signing_with_the_root(world):
    root = authority()
    middle = authority("between", root)
    return signs(world, root, leaf(middle), middle, root)


@control
def certificate_signing_without_a_chain(world):
    root = authority()
    return signs(world, root, leaf(root))


@control
def certificate_signing_p521(world):
    root = authority()
    return signs(world, root, leaf(root, kind="p521"))


@control
def certificate_signing_by_an_authority_on_request(world):
    root = authority()
    own = leaf(root, ca=True, usage=("digital_signature", "key_cert_sign"))
    return signs(world, root, own, extra=("--allow-ca-leaf",))
