"""Class transparency log, its timestamps; and controls. Each stands beside a signature that is good.

The publisher's certificate was valid in the past unless a fixture says otherwise, so that a good timestamp of that time makes
the signature count. A timestamp that is bad is never left out of account: the signature is rejected.
"""

import base64
import hashlib

from kit import certificates as x509
from kit import der, oms
from kit.case import control, rejected
from kit.certificates import authority, leaf, roots_file
from kit.timestamps import SHA512, by_openssl, clock, response, stamped, stamper, token

log = rejected("transparency log")
certificate = rejected("certificate")
limits = rejected("limits")

LIFE = (-20, -10)  # of the publisher's certificate
WITHIN, BEFORE, AFTER, COMING = -15, -25, -5, 5  # days from now

MAX_TIMESTAMPS, MAX_TIMESTAMP = 8, 64 << 10


def signed(world, days=LIFE):
    """Signs with a certificate of this life. Returns its root, the bundle, and the signature."""
    root = authority()
    bundle = x509.certified(world, leaf(root, days=days))
    return root, bundle, base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])


def with_tokens(world, *tokens, clock_root=None, days=LIFE, **options):
    """Verifies with trust in the clock's root; `tokens` are made of the signature."""
    root, bundle, signature = signed(world, days)
    world.write_bundle(stamped(bundle, *(each(signature) for each in tokens)))
    trusted = roots_file(world, (clock_root or authority("clock root"),), "clocks.pem")
    return x509.trusting(world, root, extra=("--timestamp-root", str(trusted)), **options)


def trusting_clock(world, root, **options):
    """Verifies with trust in this root, and in the clock's."""
    clocks = roots_file(world, (authority("clock root"),), "clocks.pem")
    return x509.trusting(world, root, extra=("--timestamp-root", str(clocks)), **options)


def by_clock(days=WITHIN, signer=None, **options):
    """A token maker."""
    return lambda signature: token(signature, signer or clock()[1], days=days, **options)


# -- whose it is -------------------------------------------------------------------------------


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch(world):
    """A foreign authority, which says whatever it is paid for."""
    stranger = stamper(authority("stranger"), owner="stranger's clock")
    return with_tokens(world, by_clock(signer=stranger))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__brings_its_root(world):
    root = authority("stranger")
    stranger = stamper(root, owner="stranger's clock")
    return with_tokens(world, lambda signature: token(signature, stranger, root, days=WITHIN))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__root_of_the_same_name(world):
    root = x509.issued(x509.named("clock root"), x509.key("p256", "stranger"), None, ca=True, usage=None, purposes=None)
    return with_tokens(world, lambda signature: token(signature, stamper(root), root, days=WITHIN))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__the_publishers_root_is_no_clocks(world):
    """Trusted for certificates, and not for time."""
    return with_tokens(world, by_clock(signer=stamper(authority())))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__the_publisher_itself(world):
    """Nobody vouches for the time of one's own signature."""
    return with_tokens(world, by_clock(signer=leaf(authority())))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__another_key_signed(world):
    """The honest authority's certificate over a stranger's signature."""
    _, honest = clock()
    forged = x509.Holder(honest.name, x509.key("p256", "stranger"), honest.der)
    return with_tokens(world, by_clock(signer=forged))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__time_changed(world):
    """The honest authority signed another time than the one that stands there."""

    def earlier(info):
        now, then = (x509.NOW + x509.datetime.timedelta(days=days) for days in (AFTER, WITHIN))
        form = "%Y%m%d%H%M%SZ"
        assert now.strftime(form).encode() in info
        return info.replace(now.strftime(form).encode(), then.strftime(form).encode())

    return with_tokens(world, by_clock(days=AFTER, spoil=earlier))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__certificate_expired(world):
    """The authority's own certificate had run out by then."""
    return with_tokens(world, by_clock(signer=clock(days=(-30, -18))[1]))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__certificate_not_yet_valid(world):
    return with_tokens(world, by_clock(signer=clock(days=(-12, 10))[1]))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__root_expired(world):
    """The authority's root had run out by then, with whoever still holds its key."""
    root = authority("clock root", days=(-30, -18))
    return with_tokens(world, by_clock(signer=stamper(root)), clock_root=root)


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__between_must_not_issue(world):
    """An authority without the right to sign certificates made the clock's."""
    root = authority("clock root")
    middle = authority("clocks", root, usage=("crl_sign",), purposes=("time",))
    return with_tokens(world, lambda signature: token(signature, stamper(middle), middle, days=WITHIN))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__root_allows_none_between(world):
    root = authority("clock root", path_length=0)
    middle = authority("clocks", root, purposes=("time",))
    return with_tokens(world, lambda signature: token(signature, stamper(middle), middle, days=WITHIN), clock_root=root)


# -- what its certificate is for (RFC 3161, section 2.3) ----------------------------------------


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__purpose_not_critical(world):
    return with_tokens(world, by_clock(signer=clock(critical=False)[1]))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__purpose_among_others(world):
    return with_tokens(world, by_clock(signer=clock(purposes=("time", "code"))[1]))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__another_purpose(world):
    return with_tokens(world, by_clock(signer=clock(purposes=("code",))[1]))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__any_purpose(world):
    return with_tokens(world, by_clock(signer=clock(purposes=("any",))[1]))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__no_purpose(world):
    return with_tokens(world, by_clock(signer=clock(purposes=None)[1]))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__certificate_of_an_authority(world):
    return with_tokens(world, by_clock(signer=clock(ca=True, usage=("digital_signature", "key_cert_sign"))[1]))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__no_digital_signature(world):
    """Its key is for something else (RFC 5280, section 4.2.1.3)."""
    return with_tokens(world, by_clock(signer=clock(usage=("key_agreement",))[1]))


# -- what it is of -----------------------------------------------------------------------------


@log("timestamp_mismatch")
def tsa_untrusted_or_payload_mismatch__another_signature(world):
    return with_tokens(world, lambda signature: token(b"another", clock()[1], days=WITHIN))


@log("timestamp_mismatch")
def tsa_untrusted_or_payload_mismatch__of_the_payload(world):
    """The statement existed then; that it was signed is what has to be shown."""
    root, bundle, _ = signed(world)
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    world.write_bundle(stamped(bundle, token(payload, clock()[1], days=WITHIN)))
    return trusting_clock(world, root)


@log("timestamp_mismatch")
def tsa_untrusted_or_payload_mismatch__of_its_base64(world):
    return with_tokens(world, lambda signature: token(base64.b64encode(signature), clock()[1], days=WITHIN))


@log("timestamp_mismatch")
def tsa_untrusted_or_payload_mismatch__one_good_and_one_of_another(world):
    other = lambda signature: token(b"another", clock()[1], days=WITHIN)  # noqa: E731
    return with_tokens(world, by_clock(), other)


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__one_good_and_one_foreign(world):
    """All must hold, else whoever can write to the file chooses among them."""
    stranger = stamper(authority("stranger"), owner="stranger's clock")
    return with_tokens(world, by_clock(), by_clock(signer=stranger))


@log("timestamp_mismatch")
def tsa_untrusted_or_payload_mismatch__under_a_key(world):
    """Also where the time changes nothing: who gives roots wants timestamps checked."""
    bundle = stamped(world.bundle(), token(b"another", clock()[1]))
    world.write_bundle(bundle)
    return world.verify("--timestamp-root", str(roots_file(world, clock()[:1], "clocks.pem")))


@log("timestamp_untrusted")
def tsa_untrusted_or_payload_mismatch__foreign_under_a_key(world):
    bundle = world.bundle()
    stranger = stamper(authority("stranger"), owner="stranger's clock")
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    world.write_bundle(stamped(bundle, token(signature, stranger)))
    return world.verify("--timestamp-root", str(roots_file(world, clock()[:1], "clocks.pem")))


@log("certificate_file")
def tsa_untrusted_or_payload_mismatch__root_is_the_clock_itself(world):
    """A root of timestamps has to be an authority's certificate."""
    return with_tokens(world, by_clock(), clock_root=clock()[1])


# -- its form ----------------------------------------------------------------------------------


def malformed(world, change):
    """A good token's bytes go through `change`."""
    return with_tokens(world, lambda signature: change(token(signature, clock()[1], days=WITHIN)))


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__garbage(world):
    return malformed(world, lambda _: b"not a timestamp")


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__empty(world):
    return malformed(world, lambda _: b"")


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__trailing_bytes(world):
    return malformed(world, lambda good: good + b"\0")


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__cut_off(world):
    return malformed(world, lambda good: good[:-1])


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__indefinite_length(world):
    return malformed(world, lambda good: b"\x30\x80" + x509.content(good) + b"\0\0")


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__refusal(world):
    """The authority's answer was no."""
    return malformed(world, lambda _: der.sequence(der.sequence(der.integer(2))))


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__refusal_with_a_token(world):
    return malformed(world, lambda good: response(good, status=2))


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__two_signers(world):
    """A stranger signed it too; who signed first is a matter of order."""
    _, honest = clock()
    stranger = stamper(authority("stranger"), owner="stranger's clock")
    both = {"signers": (honest, stranger), "carried": (honest, stranger)}
    return with_tokens(world, lambda signature: token(signature, honest, days=WITHIN, **both))


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__no_signer(world):
    def nobody(good):
        kind, wrapped = x509.parts(good)
        inside = x509.parts(x509.content(wrapped))
        inside[-1] = der.element(0x31, b"")
        return der.sequence(kind, der.element(0xA0, der.sequence(*inside)))

    return malformed(world, nobody)


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__without_the_certificate(world):
    """Verifiers have roots, and no list of their clocks."""
    return with_tokens(world, by_clock(carried=()))


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__two_certificates_of_one_number(world):
    _, honest = clock()
    serial = x509.parts(x509.parts(honest.der)[0])[x509.SERIAL]
    twin = x509.changed(stamper(authority("clock root"), owner="twin"), authority("clock root"), x509.SERIAL, serial)
    return with_tokens(world, lambda signature: token(signature, honest, twin, days=WITHIN))


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__many_certificates(world):
    root, honest = clock()
    return with_tokens(world, lambda signature: token(signature, honest, *[root] * 16, days=WITHIN))


@log("timestamp_malformed")
def tsa_untrusted_or_payload_mismatch__another_content(world):
    """Signed as plain data, and shaped like a timestamp: what other services of the authority may sign for anyone."""
    return with_tokens(world, by_clock(content_type="1.2.840.113549.1.7.1"))


@log("base64")
def tsa_untrusted_or_payload_mismatch__not_base64(world):
    root, bundle, _ = signed(world)
    stamped(bundle, b"")["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]["signedTimestamp"] = "*"
    world.write_bundle(bundle)
    return x509.trusting(world, root)


@limits("too_many_timestamps")
def many_timestamps(world):
    """One over the limit, all of them good."""
    return with_tokens(world, *[by_clock()] * (MAX_TIMESTAMPS + 1))


@limits("too_many_timestamps")
def many_timestamps__and_no_roots_for_them(world):
    root, bundle, signature = signed(world)
    world.write_bundle(stamped(bundle, *[token(signature, clock()[1])] * 1000))
    return x509.trusting(world, root)


@limits("timestamp_too_long")
def long_timestamp(world):
    """One byte over the limit."""
    return malformed(world, lambda _: bytes(MAX_TIMESTAMP + 1))


@limits("timestamp_malformed")
def long_timestamp__within_the_limit(world):
    return malformed(world, lambda _: bytes(MAX_TIMESTAMP))


# -- algorithms that are not checked: exit 2 ----------------------------------------------------


@log("timestamp_algorithm_unsupported")
def tsa_untrusted_or_payload_mismatch__rsa_authority(world):
    """Most public authorities sign with RSA."""
    return with_tokens(world, by_clock(signer=clock(kind="rsa2048")[1]))


@log("timestamp_algorithm_unsupported")
def tsa_untrusted_or_payload_mismatch__imprint_of_another_hash(world):
    return with_tokens(world, by_clock(imprint=(SHA512, hashlib.sha512)))


@log("timestamp_algorithm_unsupported")
def tsa_untrusted_or_payload_mismatch__imprint_of_a_broken_hash(world):
    return with_tokens(world, by_clock(imprint=("1.3.14.3.2.26", hashlib.sha1)))


@log("timestamp_algorithm_unsupported")
def tsa_untrusted_or_payload_mismatch__p521_authority(world):
    return with_tokens(world, by_clock(signer=clock(kind="p521")[1]))


# -- when it was (its time is good, and not one at which the certificate counted) ----------------


@certificate("certificate_expired")
def expired_now_no_timestamp__timestamp_after(world):
    return with_tokens(world, by_clock(days=AFTER))


@certificate("certificate_expired")
def expired_now_no_timestamp__timestamp_after_by_openssl(world):
    """Openssl's clock is now."""
    return with_tokens(world, lambda signature: by_openssl(world.root / "tsa", signature, clock()[1]))


@certificate("certificate_not_yet_valid")
def not_yet_valid__timestamp_before(world):
    """Signed before the authority knew whom it certifies."""
    return with_tokens(world, by_clock(days=BEFORE))


@certificate("certificate_not_yet_valid")
def not_yet_valid__timestamp_before_and_valid_now(world):
    return with_tokens(world, by_clock(days=BEFORE), days=(-20, 20))


@certificate("certificate_not_yet_valid")
def not_yet_valid__earliest_of_two_timestamps_before(world):
    """The earliest counts, so that another one cannot make a signature look younger."""
    return with_tokens(world, by_clock(), by_clock(days=BEFORE))


@certificate("certificate_expired")
def expired_now_no_timestamp__no_roots_for_it(world):
    """A good timestamp, and nobody who trusts its authority: the time is now."""
    root, bundle, signature = signed(world)
    world.write_bundle(stamped(bundle, token(signature, clock()[1], days=WITHIN)))
    return x509.trusting(world, root)


@certificate("certificate_expired")
def expired_now_no_timestamp__none_in_the_bundle(world):
    return with_tokens(world)


@certificate("certificate_expired")
def expired_now_no_timestamp__signing_time_attribute(world):
    """A time that the signer states itself, inside of what is signed."""
    root = authority()
    statement = world.statement()
    statement["subject"][0]["annotations"] = {"signingTime": (x509.NOW + x509.datetime.timedelta(days=WITHIN)).isoformat()}
    bundle = oms.bundle(oms.encode(statement), world.signer)
    world.write_bundle(x509.chained(bundle, leaf(root, days=LIFE)))
    return trusting_clock(world, root)


@log("timestamp_in_future")
def tsa_untrusted_or_payload_mismatch__in_the_future(world):
    """A trusted authority whose clock is wrong, or whose timestamps can be ordered in advance."""
    return with_tokens(world, by_clock(days=COMING))


@log("timestamp_in_future")
def tsa_untrusted_or_payload_mismatch__in_the_future_of_a_certificate_to_come(world):
    return with_tokens(world, by_clock(days=COMING), days=(1, 30))


# -- controls ----------------------------------------------------------------------------------


@control
def timestamp_in_the_life_of_an_expired_certificate(world):
    return with_tokens(world, by_clock())


@control
def timestamp_as_a_response(world):
    return with_tokens(world, lambda signature: response(token(signature, clock()[1], days=WITHIN)))


@control
def timestamp_granted_with_modifications(world):
    """Status 1 (RFC 3161, section 2.4.2)."""
    return with_tokens(world, lambda signature: response(token(signature, clock()[1], days=WITHIN), status=1))


@control
def timestamp_with_a_nonce(world):
    """Whoever asked has compared it; it says nothing to others."""
    return with_tokens(world, by_clock(nonce=1234567890123456789))


@control
def timestamp_earliest_of_two(world):
    """One in the certificate's life shows that the signature existed then."""
    return with_tokens(world, by_clock(days=AFTER), by_clock())


@control
def timestamps_as_many_as_allowed(world):
    return with_tokens(world, *[by_clock()] * MAX_TIMESTAMPS)


@control
def timestamp_of_p384(world):
    return with_tokens(world, by_clock(signer=clock(kind="p384")[1]))


@control
def timestamp_with_an_authority_between(world):
    root = authority("clock root")
    middle = authority("clocks", root, purposes=("time",))
    return with_tokens(world, lambda signature: token(signature, stamper(middle), middle, days=WITHIN))


@control
def timestamp_second_root_of_two(world):
    """Each of the trusted roots is tried."""
    root, bundle, signature = signed(world)
    world.write_bundle(stamped(bundle, token(signature, clock()[1], days=WITHIN)))
    clocks = roots_file(world, (authority("stranger"), authority("clock root")), "clocks.pem")
    return x509.trusting(world, root, extra=("--timestamp-root", str(clocks)))


@control
def timestamp_by_openssl(world):
    return with_tokens(world, lambda signature: by_openssl(world.root / "tsa", signature, clock()[1]), days=(-20, 20))


@control
def timestamp_by_openssl_without_nonce(world):
    made = lambda signature: by_openssl(world.root / "tsa", signature, clock()[1], "-no_nonce")  # noqa: E731
    return with_tokens(world, made, days=(-20, 20))


@control
def timestamp_under_a_key(world):
    bundle = world.bundle()
    signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
    world.write_bundle(stamped(bundle, token(signature, clock()[1], days=WITHIN)))
    return world.verify("--timestamp-root", str(roots_file(world, clock()[:1], "clocks.pem")))


@control
def timestamp_not_asked_for(world):
    """Nobody gave roots for it, so a bad one changes nothing."""
    root, bundle, _ = signed(world, (-20, 20))
    world.write_bundle(stamped(bundle, b"not a timestamp"))
    return x509.trusting(world, root)
