"""Bundles of the certificate and Sigstore methods, whatever the verifier trusts.

A key says nothing about a certificate: the check could not be made (exit 2). The Sigstore method is not checked by this
version at all. A chain that no verifier should walk is rejected before anyone asks whom it leads to. Certificates are real,
and their leaf's key made the signature. What is wrong with certificates themselves is in certificate_*.py.
"""

from kit import certificates as x509
from kit import oms
from kit.case import rejected
from kit.certificates import authority, between, certified, leaf, trusting

envelope = rejected("envelope")
limits = rejected("limits")


def chain(length):
    """The publisher's certificate, others between, and the root."""
    root = authority()
    others = between(root, length - 2)
    return [leaf(others[0] if others else root), *others, root]


@envelope("method_mismatch")
def certificate_bundle_refused(world):
    certified(world, *chain(3))
    return world.verify()


@envelope("method_mismatch")
def certificate_bundle_refused__longest_chain(world):
    certified(world, *chain(8))
    return world.verify()


@envelope("method_mismatch")
def certificate_bundle_refused__key_under_roots(world):
    """The other way round: a key's signature says nothing about certificates."""
    world.honest()
    return trusting(world, authority())


@envelope("sigstore_method_unsupported")
def sigstore_bundle_refused(world):
    sigstore(world)
    return world.verify()


@envelope("sigstore_method_unsupported")
def sigstore_bundle_refused__by_roots_as_well(world):
    """The roots issued its certificate, which names the trusted identity; the log is not looked at."""
    sigstore(world)
    return trusting(world, authority())


def sigstore(world):
    """A bundle as Sigstore makes it, in form."""
    bundle = world.bundle()
    bundle["verificationMaterial"] = {
        "certificate": {"rawBytes": oms.b64(chain(3)[0].der)},
        "tlogEntries": [
            {
                "logIndex": "1",
                "logId": {"keyId": oms.b64(bytes(32))},
                "kindVersion": {"kind": "dsse", "version": "0.0.1"},
                "integratedTime": "1700000000",
                "inclusionPromise": {"signedEntryTimestamp": oms.b64(bytes(70))},
                "canonicalizedBody": oms.b64(b"{}"),
            }
        ],
    }
    world.write_bundle(bundle)


@limits("chain_too_long")
def cert_chain_1000(world):
    """A thousand links, each issued by the next."""
    certified(world, *chain(1000))
    return world.verify()


@limits("chain_too_long")
def cert_chain_1000__one_over_the_limit(world):
    certified(world, *chain(9))
    return world.verify()


@limits("chain_too_long")
def cert_chain_1000__one_certificate_repeated(world):
    root = authority()
    certified(world, leaf(root), *[root] * 999)
    return world.verify()


@limits("chain_too_long")
def cert_chain_1000__to_the_trusted_root(world):
    made = chain(1000)
    certified(world, *made)
    return trusting(world, made[-1])


@limits("chain_too_long")
def cert_chain_1000__one_over_the_limit_to_the_trusted_root(world):
    made = chain(9)
    certified(world, *made)
    return trusting(world, made[-1])


@envelope("verification_material")
def verification_material__no_certificate(world):
    bundle = x509.chained(world.bundle())
    world.write_bundle(bundle)
    return trusting(world, authority())
