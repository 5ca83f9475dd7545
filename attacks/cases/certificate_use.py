"""Class certificate: what a certificate may be used for. All lead to the trusted root and name the trusted identity."""

from kit import der
from kit import certificates as x509
from kit.case import rejected
from kit.certificates import authority, changed, leaf, presented, with_extension

case = rejected("certificate")

KEY_USAGE, BASIC_CONSTRAINTS, PURPOSES = "2.5.29.15", "2.5.29.19", "2.5.29.37"
CA_USAGE = ("digital_signature", "key_cert_sign")


def used(world, *, identity=x509.EMAIL, extra=(), **options):
    """A leaf with these options, right under the root."""
    root = authority()
    return presented(world, root, leaf(root, **options), identity=identity, extra=extra)


# -- an authority signs ----------------------------------------------------------------------


@case("certificate_of_authority")
def ca_leaf_without_permission(world):
    """As the samples of OpenSSF Model Signing are: an authority's certificate, and good in all else."""
    return used(world, ca=True, usage=CA_USAGE, identity=None)


@case("certificate_of_authority")
def ca_leaf_without_permission__with_the_identity(world):
    return used(world, ca=True, usage=CA_USAGE)


@case("certificate_of_authority")
def ca_leaf_without_permission__that_may_issue_nothing_below(world):
    return used(world, ca=True, usage=CA_USAGE, path_length=0)


@case("certificate_identity")
def ca_leaf_without_permission__permission_is_for_that_alone(world):
    """With `--allow-ca-leaf` the identity still counts."""
    return used(world, ca=True, usage=CA_USAGE, identity="other@acme.example", extra=("--allow-ca-leaf",))


@case("certificate_extended_key_usage")
def ca_leaf_without_permission__permission_and_no_purpose(world):
    return used(world, ca=True, usage=CA_USAGE, purposes=None, extra=("--allow-ca-leaf",))


@case("certificate_key_usage")
def ca_leaf_without_permission__permission_and_no_signatures(world):
    return used(world, ca=True, usage=("key_cert_sign",), extra=("--allow-ca-leaf",))


@case("certificate_unknown_issuer")
def ca_leaf_without_permission__permission_and_another_root(world):
    own = leaf(authority("stranger"), ca=True, usage=CA_USAGE)
    return presented(world, authority(), own, extra=("--allow-ca-leaf",))


@case("certificate_of_authority")
def leaf_is_ca(world):
    """The authority between root and publisher signs itself, with a key that the publisher may also have."""
    root = authority()
    between = authority("between", root, usage=(*CA_USAGE, "crl_sign"), purposes=("code",))
    return presented(world, root, between, identity=None)


@case("certificate_key_usage")
def leaf_is_ca__without_digital_signature(world):
    root = authority()
    return presented(world, root, authority("between", root), identity=None)


@case("certificate_of_authority")
def leaf_is_ca__the_root_itself(world):
    root = authority(usage=(*CA_USAGE, "crl_sign"), purposes=("code",))
    return presented(world, root, root, identity=None)


@case("certificate_issuer_no_authority")
def leaf_is_ca__issues_without_being_one(world):
    """A publisher's certificate, used as an authority's: it names whomever it likes."""
    root = authority()
    mallory = leaf(root, x509.email("mallory@evil.example"), owner="mallory", usage=("digital_signature", "key_cert_sign"))
    return presented(world, root, leaf(mallory), mallory)


@case("certificate_issuer_no_authority")
def leaf_is_ca__issues_without_saying_what_it_is(world):
    root = authority()
    mallory = leaf(root, owner="mallory", ca=None, usage=None, purposes=None)
    return presented(world, root, leaf(mallory), mallory)


@case("certificate_issuer_no_authority")
def leaf_is_ca__issues_to_one_that_may_be_an_authority(world):
    """What `--allow-ca-leaf` allows stands at the end of the path alone."""
    root = authority()
    mallory = leaf(root, owner="mallory")
    return presented(world, root, leaf(mallory, ca=True, usage=CA_USAGE), mallory, extra=("--allow-ca-leaf",))


# -- purposes (RFC 5280, section 4.2.1.12) -----------------------------------------------------


@case("certificate_extended_key_usage")
def wrong_eku(world):
    return used(world, purposes=("server",))


@case("certificate_extended_key_usage")
def wrong_eku__several(world):
    return used(world, purposes=("server", "email", "time"))


@case("certificate_extended_key_usage")
def wrong_eku__critical(world):
    return used(world, purposes=("server",), critical=True)


@case("certificate_extended_key_usage")
def wrong_eku__absent(world):
    """Without purposes a certificate is for all of them, by the RFC; here it has to say so."""
    return used(world, purposes=None)


@case("certificate_extended_key_usage")
def wrong_eku__empty(world):
    root = authority()
    own = with_extension(leaf(root, purposes=None), root, PURPOSES, der.sequence())
    return presented(world, root, own)


@case("certificate_extended_key_usage")
def wrong_eku__begins_like_code_signing(world):
    """One arc further."""
    root = authority()
    longer = der.sequence(der.oid("1.3.6.1.5.5.7.3.3.1"))
    return presented(world, root, with_extension(leaf(root, purposes=None), root, PURPOSES, longer))


@case("certificate_extended_key_usage")
def wrong_eku__authority_between(world):
    """An authority for servers issues a certificate for code."""
    root = authority()
    between = authority("between", root, purposes=("server",))
    return presented(world, root, leaf(between), between)


@case("certificate_extended_key_usage")
def wrong_eku__root(world):
    root = authority(purposes=("server",))
    return presented(world, root, leaf(root))


@case("certificate_malformed")
def wrong_eku__two_extensions(world):
    """One for whoever reads the first, one for whoever reads the last."""
    root = authority()
    code = der.sequence(der.oid("1.3.6.1.5.5.7.3.3"))
    return presented(world, root, with_extension(leaf(root, purposes=("server",)), root, PURPOSES, code))


@case("certificate_extended_key_usage")
def any_eku(world):
    return used(world, purposes=("any",))


@case("certificate_extended_key_usage")
def any_eku__and_another(world):
    return used(world, purposes=("any", "server"))


@case("certificate_extended_key_usage")
def any_eku__authority_between(world):
    root = authority()
    between = authority("between", root, purposes=("any",))
    return presented(world, root, leaf(between), between)


# -- key usage (section 4.2.1.3), at which the library does not look -----------------------------


@case("certificate_key_usage")
def ku_missing_digital_signature(world):
    """The extension is there, the bit is not."""
    return used(world, usage=("key_encipherment",))


@case("certificate_key_usage")
def ku_missing_digital_signature__absent(world):
    return used(world, usage=None)


@case("certificate_key_usage")
def ku_missing_digital_signature__content_commitment_instead(world):
    """The neighbouring bit, once called nonRepudiation."""
    return used(world, usage=("content_commitment",))


@case("certificate_key_usage")
def ku_missing_digital_signature__all_but_that(world):
    others = tuple(each for each in x509.USAGES if each not in ("digital_signature", "encipher_only", "decipher_only"))
    return used(world, usage=others)


@case("certificate_key_usage")
def ku_missing_digital_signature__any_identity(world):
    return used(world, usage=("key_encipherment",), identity=None)


@case("certificate_malformed")
def ku_missing_digital_signature__two_extensions(world):
    root = authority()
    own = with_extension(leaf(root, usage=("key_encipherment",)), root, KEY_USAGE, bytes.fromhex("03020780"), critical=True)
    return presented(world, root, own)


@case("certificate_key_usage")
def ku_missing_cert_sign(world):
    """An authority that must not sign certificates."""
    root = authority()
    between = authority("between", root, usage=("digital_signature", "crl_sign"))
    return presented(world, root, leaf(between), between)


@case("certificate_file")
def ku_missing_cert_sign__root(world):
    root = authority(usage=("digital_signature", "crl_sign"))
    return presented(world, root, leaf(root))


# -- extensions that nobody knows ----------------------------------------------------------------

UNKNOWN = "1.3.6.1.4.1.32473.1"


@case("certificate_critical_extension")
def critical_extension(world):
    root = authority()
    return presented(world, root, with_extension(leaf(root), root, UNKNOWN, b"\x05\0", critical=True))


@case("certificate_critical_extension")
def critical_extension__authority_between(world):
    root = authority()
    between = with_extension(authority("between", root), root, UNKNOWN, b"\x05\0", critical=True)
    return presented(world, root, leaf(between), between)


@case("certificate_critical_extension")
def critical_extension__policy_constraints(world):
    """Policies of certificates are not checked, so one that insists on them is refused."""
    root = authority()
    between = with_extension(authority("between", root), root, "2.5.29.36", der.sequence(der.element(0x80, b"\0")), critical=True)
    return presented(world, root, leaf(between), between)


@case("certificate_malformed")
def leaf_is_ca__two_basic_constraints(world):
    root = authority()
    own = with_extension(leaf(root), root, BASIC_CONSTRAINTS, der.sequence(der.element(0x01, b"\xff")), critical=True)
    return presented(world, root, own)


@case("certificate_key_usage")
def ku_missing_digital_signature__version_1(world):
    """A certificate of the first version has no extensions to say what it is for."""
    root = authority()
    bare = changed(leaf(root), root, x509.EXTENSIONS, None)
    return presented(world, root, changed(bare, root, x509.VERSION, None), identity=None)
