"""Class certificate: signing. What no verifier would accept is refused while it can still be mended: exit 2, nothing written."""

from kit import certificates as x509
from kit.case import rejected
from kit.certificates import authority, between, leaf, with_extension

case = rejected("certificate")

CA_USAGE = ("digital_signature", "key_cert_sign")


def signing(world, own, *others, owner="publisher", content=None):
    """Signs with the key of that owner, this certificate and this chain; `content` replaces the certificate's file."""
    world.base()
    world.signer = x509.key("p256", owner)
    (world.root / "own.pem").write_bytes(own.pem() if content is None else content)
    options = ["--certificate", str(world.root / "own.pem")]
    if others:
        (world.root / "chain.pem").write_bytes(b"".join(each.pem() for each in others))
        options += ["--chain", str(world.root / "chain.pem")]
    return world.signing(*options)


@case("certificate_other_key")
def certificate_to_sign_with__of_another_key(world):
    root = authority()
    return signing(world, leaf(root), root, owner="stranger")


@case("certificate_other_key")
def certificate_to_sign_with__root_first(world):
    root = authority()
    return signing(world, root, leaf(root))


@case("certificate_of_authority", unchecked=True)
def certificate_to_sign_with__of_an_authority(world):
    return signing(world, leaf(authority(), ca=True, usage=CA_USAGE))


@case("certificate_key_usage", unchecked=True)
def certificate_to_sign_with__no_digital_signature(world):
    return signing(world, leaf(authority(), usage=("key_encipherment",)))


@case("certificate_extended_key_usage", unchecked=True)
def certificate_to_sign_with__for_servers(world):
    return signing(world, leaf(authority(), purposes=("server",)))


@case("certificate_extended_key_usage", unchecked=True)
def certificate_to_sign_with__for_anything(world):
    return signing(world, leaf(authority(), purposes=("any",)))


@case("certificate_expired", unchecked=True)
def certificate_to_sign_with__expired(world):
    root = authority()
    return signing(world, leaf(root, days=(-20, -10)), root)


@case("certificate_not_yet_valid", unchecked=True)
def certificate_to_sign_with__not_yet_valid(world):
    root = authority()
    return signing(world, leaf(root, days=(10, 20)), root)


@case("certificate_expired", unchecked=True)
def certificate_to_sign_with__authority_expired(world):
    root = authority()
    middle = authority("between", root, days=(-20, -10))
    return signing(world, leaf(middle), middle, root)


@case("certificate_unknown_issuer", unchecked=True)
def certificate_to_sign_with__chain_of_somebody_else(world):
    return signing(world, leaf(authority()), authority("stranger"))


@case("certificate_unknown_issuer", unchecked=True)
def certificate_to_sign_with__gap_in_the_chain(world):
    root = authority()
    lower, _, upper = between(root, 3)
    return signing(world, leaf(lower), lower, upper, root)


@case("certificate_path_length", unchecked=True)
def certificate_to_sign_with__path_too_long(world):
    root = authority(path_length=0)
    middle = authority("between", root)
    return signing(world, leaf(middle), middle, root)


@case("chain_too_long", unchecked=True)
def certificate_to_sign_with__nine(world):
    root = authority()
    chain = between(root, 7)
    return signing(world, leaf(chain[0]), *chain, root)


@case("certificate_malformed", unchecked=True)
def certificate_to_sign_with__two_key_usages(world):
    root = authority()
    return signing(world, with_extension(leaf(root), root, "2.5.29.15", bytes.fromhex("03020780"), critical=True))


@case("certificate_file")
def certificate_to_sign_with__no_pem(world):
    own = leaf(authority())
    return signing(world, own, content=own.der)


@case("certificate_file")
def certificate_to_sign_with__a_key_in_its_file(world):
    """A private key must not end up in a signature."""
    own = leaf(authority())
    return signing(world, own, content=own.pem() + own.key.private_pem())


@case("certificate_file")
def certificate_to_sign_with__empty_file(world):
    return signing(world, leaf(authority()), content=b"")


@case("io")
def certificate_to_sign_with__no_file(world):
    attempt = signing(world, leaf(authority()))
    (world.root / "own.pem").unlink()
    return attempt
