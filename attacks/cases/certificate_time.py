"""Class certificate: when a certificate counts. The time is now, or that of a timestamp; never one that it states itself.

The names of the fixtures say which certificate of the path is out of its time; the others are in theirs. More about
timestamps is in timestamp.py.
"""

from kit import certificates as x509
from kit.case import rejected
from kit.certificates import authority, leaf, presented

case = rejected("certificate")

OVER, COMING, REVERSED = (-20, -10), (10, 20), (20, 10)


@case("certificate_expired")
def expired_now_no_timestamp(world):
    """Signed while it was valid, as its holder says; nobody else does."""
    root = authority()
    return presented(world, root, leaf(root, days=OVER))


@case("certificate_expired")
def expired_now_no_timestamp__a_minute_ago(world):
    root = authority()
    return presented(world, root, leaf(root, days=(-20, -1 / 1440)))


@case("certificate_expired")
def expired_now_no_timestamp__between(world):
    root = authority()
    between = authority("between", root, days=OVER)
    return presented(world, root, leaf(between), between)


@case("certificate_expired")
def expired_now_no_timestamp__root(world):
    """The library takes a root for valid as long as somebody trusts it."""
    root = authority(days=OVER)
    return presented(world, root, leaf(root))


@case("certificate_expired")
def expired_now_no_timestamp__any_identity(world):
    root = authority()
    return presented(world, root, leaf(root, days=OVER), identity=None)


@case("certificate_expired")
def expired_now_no_timestamp__authority_that_signs(world):
    root = authority()
    own = leaf(root, ca=True, usage=("digital_signature", "key_cert_sign"), days=OVER)
    return presented(world, root, own, extra=("--allow-ca-leaf",))


@case("certificate_expired")
def expired_now_no_timestamp__renewed_root_in_the_bundle(world):
    """The root's successor, of the same name and key, is not one that the verifier trusts."""
    root, renewed = authority(days=OVER), authority()
    return presented(world, root, leaf(root), renewed)


@case("certificate_not_yet_valid")
def not_yet_valid(world):
    root = authority()
    return presented(world, root, leaf(root, days=COMING))


@case("certificate_not_yet_valid")
def not_yet_valid__between(world):
    root = authority()
    between = authority("between", root, days=COMING)
    return presented(world, root, leaf(between), between)


@case("certificate_not_yet_valid")
def not_yet_valid__root(world):
    root = authority(days=COMING)
    return presented(world, root, leaf(root))


def utc(text):
    """A UTCTime or GeneralizedTime, as it is written."""
    return x509.der.element(0x17 if len(text) < 15 else 0x18, text.encode())


def living(world, begins, ends):
    """A leaf whose life is written so."""
    root = authority()
    life = x509.der.sequence(utc(begins), utc(ends))
    return presented(world, root, x509.changed(leaf(root), root, x509.VALIDITY, life))


@case("certificate_path")
def not_yet_valid__ends_before_it_begins(world):
    """Neither expired nor yet to come, at any time."""
    return living(world, "20990101000000Z", "200101000000Z")


@case("certificate_malformed")
def not_yet_valid__no_such_day(world):
    return living(world, "200231000000Z", "20990101000000Z")


@case("certificate_malformed")
def not_yet_valid__no_zone(world):
    """A time of day somewhere on Earth."""
    return living(world, "200101000000", "20990101000000Z")
