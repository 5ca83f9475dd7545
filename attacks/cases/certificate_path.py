"""Class certificate: the path from the publisher to a trusted root. Each certificate by itself is good."""

from kit import certificates as x509
from kit.case import rejected
from kit.certificates import authority, between, dns, email, leaf, named, presented, trusting, uri
from kit.keys import key

case = rejected("certificate")

# -- roots are the verifier's alone ------------------------------------------------------------


@case("certificate_unknown_issuer")
def self_signed_not_in_roots(world):
    return presented(world, authority(), leaf(None))


@case("certificate_unknown_issuer")
def self_signed_not_in_roots__any_identity(world):
    return presented(world, authority(), leaf(None), identity=None)


@case("certificate_signature")
def self_signed_not_in_roots__with_the_name_of_the_root(world):
    """The publisher calls itself what the root is called."""
    root = authority()
    own = x509.issued(
        named("root"), key(), None, ca=False, usage=("digital_signature",), purposes=("code",), names=(email(),)
    )  # fmt: skip
    return presented(world, root, own)


@case("certificate_file")
def self_signed_not_in_roots__trusted_as_one(world):
    """A publisher's own certificate is no root, also if the verifier says so: pin the key with `--key`."""
    own = leaf(None)
    return presented(world, own, own)


@case("certificate_unknown_issuer")
def self_signed_not_in_roots__authority_that_signs(world):
    own = leaf(None, ca=True, usage=("digital_signature", "key_cert_sign"))
    return presented(world, authority(), own, extra=("--allow-ca-leaf",))


@case("certificate_unknown_issuer")
def root_supplied_in_bundle(world):
    """A stranger's authority issues a certificate with the trusted identity, and comes along."""
    stranger = authority("stranger")
    return presented(world, authority(), leaf(stranger), stranger)


@case("certificate_unknown_issuer")
def root_supplied_in_bundle__twice(world):
    stranger = authority("stranger")
    return presented(world, authority(), leaf(stranger), stranger, stranger)


@case("certificate_unknown_issuer")
def root_supplied_in_bundle__and_one_between(world):
    stranger = authority("stranger")
    middle = authority("between", stranger)
    return presented(world, authority(), leaf(middle), middle, stranger)


@case("certificate_unknown_issuer")
def root_supplied_in_bundle__beside_the_trusted_one(world):
    """The trusted root is in the bundle too, and issued nothing of this."""
    root, stranger = authority(), authority("stranger")
    return presented(world, root, leaf(stranger), stranger, root)


@case("certificate_signature")
def root_supplied_in_bundle__of_the_same_name(world):
    """The stranger's root is called what the trusted one is called."""
    stranger = x509.issued(named("root"), key("p256", "stranger"), None, ca=True, usage=("key_cert_sign",), purposes=None)
    return presented(world, authority(), leaf(stranger), stranger)


@case("certificate_unknown_issuer")
def root_supplied_in_bundle__any_identity(world):
    """Anyone under the trusted root, not anyone."""
    stranger = authority("stranger")
    return presented(world, authority(), leaf(stranger), stranger, identity=None)


# -- who issued what ---------------------------------------------------------------------------


@case("certificate_unknown_issuer")
def issuer_mismatch(world):
    """Signed with the root's key, under the name of somebody else."""
    root = authority()
    return presented(world, root, leaf(root, named_issuer=named("somebody else")))


@case("certificate_signature")
def issuer_mismatch__name_without_the_key(world):
    """A stranger issues in the root's name."""
    stranger = authority("stranger")
    return presented(world, authority(), leaf(stranger, named_issuer=named("root")))


@case("certificate_signature")
def issuer_mismatch__between(world):
    """The authority between did not issue the publisher's certificate; its name stands there."""
    root = authority()
    middle = authority("between", root)
    return presented(world, root, leaf(authority("stranger"), named_issuer=middle.name), middle)


@case("certificate_unknown_issuer")
def issuer_mismatch__between_missing(world):
    """The bundle leaves out the authority that issued."""
    root = authority()
    return presented(world, root, leaf(authority("between", root)))


@case("certificate_unknown_issuer")
def issuer_mismatch__other_letters(world):
    """Names are compared byte by byte: ROOT is not root."""
    root = authority()
    return presented(world, root, leaf(root, named_issuer=named("ROOT")))


@case("signature_invalid")
def issuer_mismatch__certificate_of_another_key(world):
    """A stranger signs, and shows the publisher's certificate."""
    root = authority()
    world.signer = key("p256", "stranger")
    world.write_bundle(x509.chained(world.bundle(), leaf(root)))
    return trusting(world, root)


@case("signature_invalid")
def issuer_mismatch__certificate_of_another_curve(world):
    """Also where the kinds of keys differ: the certificate decides how to check."""
    root = authority()
    world.signer = key("p256", "stranger")
    world.write_bundle(x509.chained(world.bundle(), leaf(root, kind="p384")))
    return trusting(world, root)


@case("certificate_of_authority")
def issuer_mismatch__root_first(world):
    """The chain begins with the signer's certificate (OMS); turned round, an authority would have signed."""
    root = authority(usage=("digital_signature", "key_cert_sign"), purposes=("code",))
    own = leaf(root)
    world.signer = world.trusted = own.key
    world.write_bundle(x509.chained(world.bundle(), root, own))
    return trusting(world, root)


# -- lengths (RFC 5280, section 4.2.1.9) -------------------------------------------------------


@case("certificate_path_length")
def path_len_exceeded(world):
    """An authority that may issue to publishers alone issues to another authority."""
    root = authority()
    upper = authority("upper", root, path_length=0)
    lower = authority("lower", upper)
    return presented(world, root, leaf(lower), lower, upper)


@case("certificate_path_length")
def path_len_exceeded__by_two(world):
    root = authority()
    top = authority("top", root, path_length=1)
    chain = [authority("upper", top)]
    chain.insert(0, authority("lower", chain[0]))
    return presented(world, root, leaf(chain[0]), *chain, top)


@case("certificate_path_length")
def path_len_exceeded__promised_more_below(world):
    """The lower authority states a length of its own, which cannot be more than it was given."""
    root = authority()
    upper = authority("upper", root, path_length=0)
    lower = authority("lower", upper, path_length=5)
    return presented(world, root, leaf(lower), lower, upper)


@case("certificate_path_length")
def path_len_exceeded__by_the_root(world):
    """The root's own limit, of which the library knows nothing."""
    root = authority(path_length=0)
    middle = authority("between", root)
    return presented(world, root, leaf(middle), middle)


@case("certificate_path_length")
def path_len_exceeded__by_an_authority_that_signs(world):
    root = authority()
    upper = authority("upper", root, path_length=0)
    lower = authority("lower", upper)
    own = leaf(lower, ca=True, usage=("digital_signature", "key_cert_sign"))
    return presented(world, root, own, lower, upper, extra=("--allow-ca-leaf",))


@case("certificate_path_length")
def path_len_exceeded__eight_and_the_root_left_out(world):
    """Eight certificates are allowed with the root among them."""
    root = authority()
    chain = between(root, 7)
    return presented(world, root, leaf(chain[0]), *chain)


@case("certificate_unknown_issuer")
def path_len_exceeded__in_circles(world):
    """Two authorities have certificates of each other, and none of the root."""
    one, other = authority("one"), authority("other")
    return presented(world, authority(), leaf(one), authority("one", other), authority("other", one))


@case("certificate_path")
def path_len_exceeded__many_ways(world):
    """Seven authorities with the root's name that might all have issued each other: thousands of paths, none good."""
    root, stranger = authority(), authority("stranger")
    keys = [key("p256", f"same-{at}") for at in range(7)]
    same = {"ca": True, "usage": ("key_cert_sign",), "purposes": None, "named_issuer": root.name}
    liars = [x509.issued(root.name, each, stranger, **same) for each in keys]
    return presented(world, root, leaf(stranger, named_issuer=root.name), *liars)


# -- name constraints (section 4.2.1.10) -------------------------------------------------------


def constrained(world, *names, root_itself=False, identity=x509.EMAIL, organisation=None, **constraints):
    """A leaf with these names, under an authority with these constraints."""
    top = authority(**constraints) if root_itself else authority()
    middle = authority("between", top, **({} if root_itself else constraints))
    own = leaf(middle, *names)
    if organisation:
        own = x509.issued(
            named("publisher", organisation), key(), middle, ca=False, usage=("digital_signature",), purposes=("code",), names=names
        )  # fmt: skip
    return presented(world, top, own, middle, identity=identity)


HOST = "builder.acme.example"


@case("certificate_name_constraint")
def name_constraint_violation__dns_permitted(world):
    """An authority for one domain issues for another."""
    return constrained(world, dns(HOST), identity=HOST, permitted=[dns("evil.example")])


@case("certificate_name_constraint")
def name_constraint_violation__dns_excluded(world):
    return constrained(world, dns(HOST), identity=HOST, excluded=[dns("acme.example")])


@case("certificate_name_constraint")
def name_constraint_violation__dns_excluded_in_other_letters(world):
    """Hosts are the same in either case, so an exclusion holds for both."""
    shouted = HOST.upper()
    return constrained(world, dns(shouted), identity=shouted, excluded=[dns("acme.example")])


@case("certificate_name_constraint")
def name_constraint_violation__dns_permitted_and_excluded(world):
    return constrained(world, dns(HOST), identity=HOST, permitted=[dns("acme.example")], excluded=[dns(HOST)])


@case("certificate_name_constraint")
def name_constraint_violation__dns_suffix_without_a_dot(world):
    """notacme.example is no part of acme.example."""
    return constrained(world, dns("notacme.example"), identity="notacme.example", permitted=[dns("acme.example")])


@case("certificate_name_constraint")
def name_constraint_violation__dns_second_name(world):
    """The trusted name is permitted, another name of the certificate is not."""
    return constrained(world, dns(HOST), dns("www.evil.example"), identity=HOST, permitted=[dns("acme.example")])


@case("certificate_name_constraint")
def name_constraint_violation__dns_by_the_root(world):
    return constrained(world, dns(HOST), identity=HOST, root_itself=True, permitted=[dns("evil.example")])


@case("certificate_name_constraint")
def name_constraint_violation__dns_any_identity(world):
    return constrained(world, dns(HOST), identity=None, permitted=[dns("evil.example")])


@case("certificate_name_constraint")
def name_constraint_violation__email_permitted(world):
    return constrained(world, email(), permitted=[email("evil.example")])


@case("certificate_name_constraint")
def name_constraint_violation__email_excluded(world):
    return constrained(world, email(), excluded=[email("acme.example")])


@case("certificate_name_constraint")
def name_constraint_violation__email_excluded_mailbox(world):
    return constrained(world, email(), excluded=[email(x509.EMAIL)])


@case("certificate_name_constraint")
def name_constraint_violation__email_by_the_root(world):
    return constrained(world, email(), root_itself=True, permitted=[email("evil.example")])


SPIFFE = "spiffe://acme.example/trainer"


@case("certificate_name_constraint")
def name_constraint_violation__uri_permitted(world):
    return constrained(world, uri(SPIFFE), identity=SPIFFE, permitted=[uri("evil.example")])


@case("certificate_name_constraint")
def name_constraint_violation__uri_excluded(world):
    return constrained(world, uri(SPIFFE), identity=SPIFFE, excluded=[uri("acme.example")])


@case("certificate_name_constraint")
def name_constraint_violation__directory_name_permitted(world):
    """By the certificate's subject, which every certificate has."""
    permitted = [x509.x509.DirectoryName(named(organisation="Evil"))]
    return constrained(world, email(), organisation="Acme", permitted=permitted)


@case("certificate_name_constraint")
def name_constraint_violation__directory_name_excluded(world):
    excluded = [x509.x509.DirectoryName(named(organisation="Acme"))]
    return constrained(world, email(), organisation="Acme", excluded=excluded)


@case("certificate_name_constraint")
def name_constraint_violation__authority_that_signs(world):
    """A certificate that may stand for an authority is held to the constraints above it all the same."""
    root = authority(excluded=[dns("acme.example")])
    own = leaf(root, dns(HOST), ca=True, usage=("digital_signature", "key_cert_sign"))
    return presented(world, root, own, identity=HOST, extra=("--allow-ca-leaf",))
