"""Timestamps of `openssl ts`, asked for over HTTP on loopback, on signatures of keys and certificates.

No clock is shifted. The certificate in a file is covered by no signature, so a test signs now, has
that timestamped, and then gives the same key another certificate, whose life lies as the test wants
it around the time of the timestamp. What openssl would not answer is signed here, with its key.
"""

import base64
import datetime
import hashlib
import json
import time

import pytest
from asn1crypto import cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

NAME = "release@acme.example"
SECOND = datetime.timedelta(seconds=1)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def key(keys):
    return keys("pkcs8", "p256")


@pytest.fixture
def sign(sentry, tsa):
    """Signs with a certificate, or a key, and has that timestamped."""

    def sign(model, signer, *options, **where):
        certificate = getattr(signer, "sign_options", [])
        timestamp = ["--timestamp", tsa.url]
        key = getattr(signer, "key", signer)
        return sentry.sign(model, key, *certificate, *timestamp, *options, **where)[0]

    return sign


@pytest.fixture
def verify(verify_with, tsa):
    """Trust in one identity or one key, and in timestamps under a root: the authority's own if not another."""

    def verify(model, trusted, *options, timestamp_root=None):
        if hasattr(trusted, "root"):
            whom = ["--certificate-root", trusted.root, "--identity", NAME]
        else:
            whom = ["--key", trusted.public]
        return verify_with(model, *whom, "--timestamp-root", timestamp_root or tsa.root, *options)

    return verify


@pytest.fixture
def refused(sentry, tsa, key, model):
    """Signing with a timestamp that must fail; nothing is written. Returns the error."""

    def refused(url=None):
        arguments = ["sign", model, "--key", key.private, "--timestamp", url or tsa.url, "--json"]
        result = sentry.run(*arguments)
        assert result.returncode == 2, result.stdout + result.stderr
        assert not (model / "model.sig").exists()
        return json.loads(result.stdout)["error"]

    return refused


def assert_code(verdict, exit, code):
    assert (verdict.exit, verdict.code) == (exit, code), verdict


def timestamps_of(bundle):
    listed = bundle.document["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    return [base64.b64decode(entry["signedTimestamp"], validate=True) for entry in listed]


def replace_timestamps(bundle, *ders):
    listed = [{"signedTimestamp": base64.b64encode(der).decode()} for der in ders]
    bundle.document["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": listed}
    return bundle.write(bundle.path)


def replace_certificate(bundle, certified):
    chain = bundle.document["verificationMaterial"]["x509CertificateChain"]["certificates"]
    chain[0]["rawBytes"] = base64.b64encode(certified.der).decode()
    return bundle.write(bundle.path)


def token_of(response):
    return tsp.TimeStampResp.load(response)["time_stamp_token"]


def info_of(response):
    return token_of(response)["content"]["encap_content_info"]["content"].parsed


def time_of(bundle):
    (timestamp,) = timestamps_of(bundle)
    return info_of(timestamp)["gen_time"].native


def text_of(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def wait_until_after(moment):
    """The next second begins; certificates have no finer times."""
    while datetime.datetime.now(datetime.UTC) <= moment + SECOND:
        time.sleep(0.01)


def resign(response, signer, change):
    """What an authority would have signed: its answer with other content, and a good signature.

    `change` gets the TSTInfo's fields; without a `signer` the old signature stays.
    """
    response = tsp.TimeStampResp.load(response)
    signed = response["time_stamp_token"]["content"]
    info = signed["encap_content_info"]["content"].parsed.copy()
    change(info)
    content = info.dump(force=True)
    encapsulated = {"content_type": "tst_info", "content": core.ParsableOctetString(content)}
    signed["encap_content_info"] = cms.EncapsulatedContentInfo(encapsulated)
    if signer:
        sign_content(signed, content, signer)
    return response.dump(force=True)


def move_time(response, signer, moment):
    return resign(response, signer, lambda info: info.__setitem__("gen_time", moment))


def swap_signer(response, signer):
    """The same content signed by somebody else, whose certificates take the others' place."""
    response = tsp.TimeStampResp.load(response)
    signed = response["time_stamp_token"]["content"]
    certificates = [asn1_x509.Certificate.load(one.der) for one in [signer, *signer.above]]
    signed["certificates"] = [cms.CertificateChoices("certificate", one) for one in certificates]
    issuer = {"issuer": certificates[0].issuer, "serial_number": certificates[0].serial_number}
    signed["signer_infos"][0]["sid"] = cms.SignerIdentifier("issuer_and_serial_number", issuer)
    sign_content(signed, signed["encap_content_info"]["content"].parsed.dump(), signer)
    return response.dump(force=True)


def sign_content(signed, content, signer):
    """RFC 5652, section 5.4: the signature is over the attributes, which have the content's hash."""
    digest = hashlib.sha256(content).digest()
    attributes = [
        {"type": "content_type", "values": ["tst_info"]},
        {"type": "message_digest", "values": [digest]},
    ]
    attributes = cms.CMSAttributes(attributes)
    message = attributes.untag().dump(force=True)
    by = signed["signer_infos"][0]
    by["signed_attrs"] = attributes
    by["signature"] = signer.key.load_private().sign(message, ec.ECDSA(hashes.SHA256()))


# Signing.


def test_query_is_of_the_signature(sign, tsa, key, model):
    bundle = sign(model, key)
    (query,) = tsa.queries
    assert tsa.types == ["application/timestamp-query"]
    request = tsp.TimeStampReq.load(query, strict=True)
    assert request["version"].native == "v1"
    imprint = request["message_imprint"].native
    assert imprint["hash_algorithm"]["algorithm"] == "sha256"
    # RFC 3161 has the hash of the signature's bytes there, not of the payload or the file.
    assert imprint["hashed_message"] == hashlib.sha256(bundle.signature).digest()
    assert request["cert_req"].native is True
    assert request["nonce"].native > 0
    assert timestamps_of(bundle) == [tsa.folder.joinpath("tsa.tsr").read_bytes()]


def test_every_query_has_a_nonce_of_its_own(sign, tsa, key, model):
    for _ in range(3):
        sign(model, key)
    nonces = {tsp.TimeStampReq.load(query)["nonce"].native for query in tsa.queries}
    assert len(nonces) == 3


def test_timestamp_by_openssl(sign, tsa, openssl, key, model, tmp_path):
    """openssl finds in the file what it had signed."""
    bundle = sign(model, key)
    signature, timestamp = tmp_path / "signature", tmp_path / "timestamp"
    signature.write_bytes(bundle.signature)
    timestamp.write_bytes(timestamps_of(bundle)[0])
    openssl("ts", "-verify", "-data", signature, "-in", timestamp, "-CAfile", tsa.root)


def test_form_is_the_specified_one(sign, validate_bundle, key, publisher, full_model):
    for signer in [key, publisher]:
        for form in [[], ["--hash", "blake3"], ["--shard-size", "1000"]]:
            bundle = sign(full_model, signer, *form)
            validate_bundle(bundle)
            assert len(timestamps_of(bundle)) == 1


def test_reference_reads_it(sign, reference, key, model):
    """It has no use for the timestamp, and is not stopped by it."""
    bundle = sign(model, key)
    reference.verify(model, key, bundle.path)
    result = reference.run_verify(model, key, bundle.path)
    assert result.returncode == 0, result.stderr


# The time of a signature.


@pytest.mark.parametrize("kind", ["p256", "p384"])
def test_time_of_a_key_signature_is_reported(sign, verify, verify_with, tsa, certifier, key, model, kind):
    tsa.signer = certifier.timestamper(certifier.authority(kind="p384"), kind)
    bundle = sign(model, key)
    verdict = verify(model, key)
    assert verdict.exit == 0, verdict
    (signature,) = verdict.report["signatures"]
    assert signature["timestamp"] == text_of(time_of(bundle))
    assert signature["signer"] == verdict.report["signer"]
    # Without trust in an authority it is no time at all.
    without = verify_with(model, "--key", key.public)
    assert without.exit == 0
    assert without.report["signatures"][0]["timestamp"] is None


def test_time_of_a_certificate_signature_is_reported(sign, verify, publisher, model):
    bundle = sign(model, publisher)
    verdict = verify(model, publisher)
    assert verdict.exit == 0, verdict
    assert verdict.report["signatures"][0]["timestamp"] == text_of(time_of(bundle))


def test_time_in_words(sentry, sign, tsa, key, model):
    bundle = sign(model, key)
    result = sentry.run("verify", model, "--key", key.public, "--timestamp-root", tsa.root)
    assert result.returncode == 0
    assert f"\n  timestamp  {text_of(time_of(bundle))}\n" in result.stderr + "\n"


# The life of a certificate. The time is that of the timestamp, and the certificate's own never.


@pytest.fixture
def timestamped(sign, certifier, publisher, model):
    """A signature timestamped just now, with a certificate of another life around that time."""

    def timestamped(begin, end):
        bundle = sign(model, publisher)
        moment = time_of(bundle)
        life = (moment + begin, moment + end)
        other = certifier.signer(publisher.issuer, key=publisher.key, life=life)
        return replace_certificate(bundle, other), other

    return timestamped


def test_expired_now_and_valid_then(timestamped, verify, verify_with, publisher, model):
    bundle, certified = timestamped(-DAY, 0 * DAY)
    wait_until_after(time_of(bundle))
    trusted = ["--certificate-root", publisher.root, "--identity", NAME]
    assert_code(verify_with(model, *trusted), 1, "certificate_expired")
    verdict = verify(model, certified)
    assert verdict.exit == 0, verdict
    assert verdict.report["signatures"][0]["timestamp"] == text_of(time_of(bundle))


def test_expired_before_the_timestamp(timestamped, verify, model):
    bundle, certified = timestamped(-2 * DAY, -SECOND)
    verdict = verify(model, certified)
    assert_code(verdict, 1, "certificate_expired")
    moment = time_of(bundle)
    assert f"expired at {text_of(moment - SECOND)}" in verdict.report["error"]["message"]
    assert f"the time of this check is {text_of(moment)}" in verdict.report["error"]["message"]


def test_valid_now_and_not_at_the_timestamp(timestamped, verify, verify_with, publisher, model):
    """A certificate got later does not reach back, even though it is valid now."""
    bundle, certified = timestamped(SECOND, DAY)
    wait_until_after(time_of(bundle))
    trusted = ["--certificate-root", publisher.root, "--identity", NAME]
    assert verify_with(model, *trusted).exit == 0
    assert_code(verify(model, certified), 1, "certificate_not_yet_valid")


def test_authorities_must_have_been_valid_too(sign, verify, certifier, model):
    """The signer's certificate outlives those above it."""
    long = (-9 * DAY, 9 * DAY)
    for root_life, between_life, code in [
        ((-9 * DAY, -DAY), long, "certificate_expired"),
        (long, (-9 * DAY, -DAY), "certificate_expired"),
        (long, (DAY, 9 * DAY), "certificate_not_yet_valid"),
    ]:
        root = certifier.authority(life=long)
        between = certifier.authority(root, life=long)
        signer = certifier.signer(between)
        bundle = sign(model, signer)
        # The same keys, with certificates of other lives.
        other_root = reissue(certifier, root, None, root_life)
        other_between = reissue(certifier, between, other_root, between_life)
        chain = bundle.document["verificationMaterial"]["x509CertificateChain"]["certificates"]
        chain[1]["rawBytes"] = base64.b64encode(other_between.der).decode()
        bundle.write(bundle.path)
        assert_code(verify(model, type(signer)(signer.key, signer.path, other_between)), 1, code)


def reissue(certifier, authority, issuer, life):
    name = authority.certificate.subject.rfc4514_string().removeprefix("CN=")
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    return certifier.issue(issuer, authority.key, constraints, subject=name, usage=["key_cert_sign"], life=life)


def test_without_a_timestamp_the_time_is_now(sentry, verify, publisher, model):
    """Roots of timestamp authorities alone make no timestamp; that is for a policy to ask."""
    sentry.sign(model, publisher.key, *publisher.sign_options)
    verdict = verify(model, publisher)
    assert verdict.exit == 0, verdict
    assert verdict.report["signatures"][0]["timestamp"] is None


# Authorities that are not to be believed.


@pytest.fixture(params=["key", "certificate"])
def signer(request, key, publisher):
    return key if request.param == "key" else publisher


def test_foreign_authority(sign, verify, certifier, signer, model):
    sign(model, signer)
    verdict = verify(model, signer, timestamp_root=certifier.authority().path)
    assert_code(verdict, 1, "timestamp_untrusted")
    # The root of the signer's certificate is no root of timestamps.
    if hasattr(signer, "root"):
        assert_code(verify(model, signer, timestamp_root=signer.root), 1, "timestamp_untrusted")


def test_one_of_several_roots(sign, verify, certifier, tsa, signer, model):
    sign(model, signer)
    other = certifier.authority().path
    assert verify(model, signer, "--timestamp-root", other).exit == 0
    assert verify(model, signer, "--timestamp-root", tsa.root, timestamp_root=other).exit == 0


def test_timestamp_of_another_signature(sign, verify, signer, model, outside):
    """Moved from another file, of the same signer, over the same model."""
    first = sign(model, signer, signature=outside)
    second = sign(model, signer)
    assert first.signature != second.signature
    replace_timestamps(second, *timestamps_of(first))
    assert_code(verify(model, signer), 1, "timestamp_mismatch")


def test_all_timestamps_must_hold(sign, verify, certifier, tsa, signer, model, outside):
    other = sign(model, signer, signature=outside)
    bundle = sign(model, signer)
    good = timestamps_of(bundle)[0]
    replace_timestamps(bundle, good, good)
    assert verify(model, signer).exit == 0
    replace_timestamps(bundle, good, *timestamps_of(other))
    assert_code(verify(model, signer), 1, "timestamp_mismatch")
    replace_timestamps(bundle, good, b"no timestamp")
    assert_code(verify(model, signer), 1, "timestamp_malformed")
    replace_timestamps(bundle, good, tsa.reply(tsa.queries[-1], certifier.timestamper(certifier.authority())))
    assert_code(verify(model, signer), 1, "timestamp_untrusted")


def test_earliest_of_several_times(sign, verify, tsa, key, model):
    bundle = sign(model, key)
    (good,) = timestamps_of(bundle)
    moment = time_of(bundle) - DAY
    earlier = move_time(good, tsa.signer, moment)
    for order in [(good, earlier), (earlier, good)]:
        replace_timestamps(bundle, *order)
        verdict = verify(model, key)
        assert verdict.exit == 0, verdict
        assert verdict.report["signatures"][0]["timestamp"] == text_of(moment)


def test_cut_or_extended(sign, verify, signer, model):
    bundle = sign(model, signer)
    (good,) = timestamps_of(bundle)
    for der in [good[:-1], good + b"\0", b""]:
        replace_timestamps(bundle, der)
        assert_code(verify(model, signer), 1, "timestamp_malformed")


def test_time_changed_after_signing(sign, verify, signer, model):
    bundle = sign(model, signer)
    (good,) = timestamps_of(bundle)
    replace_timestamps(bundle, move_time(good, None, time_of(bundle) - DAY))
    assert_code(verify(model, signer), 1, "timestamp_untrusted")


def test_signature_of_the_timestamp_changed(sign, verify, signer, model):
    bundle = sign(model, signer)
    (good,) = timestamps_of(bundle)
    response = tsp.TimeStampResp.load(good)
    by = response["time_stamp_token"]["content"]["signer_infos"][0]
    signature = bytearray(by["signature"].native)
    signature[-1] ^= 1
    by["signature"] = bytes(signature)
    replace_timestamps(bundle, response.dump(force=True))
    assert_code(verify(model, signer), 1, "timestamp_untrusted")


def test_token_without_its_response(sign, verify, signer, model):
    """Some tools keep the token alone."""
    bundle = sign(model, signer)
    replace_timestamps(bundle, token_of(timestamps_of(bundle)[0]).dump())
    assert verify(model, signer).exit == 0


@pytest.mark.parametrize("distance, code", [(240, None), (3600, "timestamp_in_future")])
def test_future(sign, verify, tsa, key, model, distance, code):
    """A clock may be a little ahead, by less than five minutes."""
    bundle = sign(model, key)
    moment = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + distance * SECOND
    replace_timestamps(bundle, move_time(timestamps_of(bundle)[0], tsa.signer, moment))
    verdict = verify(model, key)
    assert (verdict.exit, verdict.code) == ((1, code) if code else (0, None)), verdict


@pytest.mark.parametrize(
    "defect",
    [
        {"purposes": ["1.3.6.1.5.5.7.3.3"]},
        {"purposes": ["1.3.6.1.5.5.7.3.8", "1.3.6.1.5.5.7.3.3"]},
        {"purposes": ["2.5.29.37.0"]},
        {"purposes_critical": False},
        {"life": (-9 * DAY, -DAY)},
        {"life": (DAY, 9 * DAY)},
        {"ca": True},
    ],
    ids=["code-signing", "both-purposes", "any-purpose", "not-critical", "expired", "not-yet-valid", "authority"],
)
def test_certificate_that_is_not_for_timestamps(sign, verify, tsa, certifier, key, model, defect):
    """Signed with a good one, and then by one of the same authority that is not good enough."""
    if "purposes" in defect:
        defect = {"purposes": [x509.ObjectIdentifier(purpose) for purpose in defect["purposes"]]}
    bundle = sign(model, key)
    bad = certifier.timestamper(tsa.signer.issuer, **defect)
    replace_timestamps(bundle, swap_signer(timestamps_of(bundle)[0], bad))
    assert_code(verify(model, key), 1, "timestamp_untrusted")


@pytest.mark.parametrize("purposes, expected", [
    ([x509.oid.ExtendedKeyUsageOID.TIME_STAMPING], (0, None)),
    ([x509.oid.ExtendedKeyUsageOID.CODE_SIGNING], (1, "timestamp_untrusted")),
    # The library asks of every certificate below the root that it names the purpose.
    ([], (1, "timestamp_untrusted")),
], ids=["timestamps", "code-signing", "none"])  # fmt: skip
def test_authority_below_another(sign, verify, tsa, certifier, key, model, purposes, expected):
    root = certifier.authority(kind="p384")
    tsa.signer = certifier.timestamper(certifier.authority(root, path_length=0, purposes=purposes))
    sign(model, key)
    verdict = verify(model, key)
    assert (verdict.exit, verdict.code) == expected, verdict


# Answers that are none, when signing: nothing is written.


def test_refused_request(refused, tsa):
    """openssl refuses what its configuration does not know."""
    tsa.digests = "sha512"
    assert refused()["code"] == "timestamp_malformed"
    assert "refused" in refused()["message"]


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", bytes(20)], ids=repr)
def test_garbage(refused, tsa, body):
    tsa.answer = lambda query: body
    assert refused()["code"] == "timestamp_malformed"


def test_answer_to_an_earlier_query(refused, sign, tsa, key, model):
    """Replayed: of another signature, and so with another nonce."""
    bundle = sign(model, key)
    bundle.path.unlink()
    old = timestamps_of(bundle)[0]
    tsa.answer = lambda query: old
    assert refused()["code"] == "timestamp_mismatch"


@pytest.mark.parametrize("nonce", ["other", "none"])
def test_answer_without_our_nonce(refused, tsa, nonce):
    """Of this very signature, and not to this query."""

    def answer(query):
        request = tsp.TimeStampReq.load(query)
        if nonce == "other":
            request["nonce"] = request["nonce"].native ^ 1
        else:
            del request["nonce"]
        return tsa.reply(request.dump(force=True))

    tsa.answer = answer
    error = refused()
    assert error["code"] == "timestamp_mismatch"
    assert "it answers another query" in error["message"]


def test_answer_about_other_bytes(refused, tsa):
    """With the right nonce."""

    def answer(query):
        request = tsp.TimeStampReq.load(query)
        request["message_imprint"]["hashed_message"] = hashlib.sha256(b"others").digest()
        return tsa.reply(request.dump(force=True))

    tsa.answer = answer
    error = refused()
    assert error["code"] == "timestamp_mismatch"
    assert "it is of another signature" in error["message"]


def test_answer_with_another_hash(refused, tsa):
    def answer(query):
        request = tsp.TimeStampReq.load(query)
        imprint = {"hash_algorithm": {"algorithm": "sha512"}, "hashed_message": bytes(64)}
        request["message_imprint"] = imprint
        return tsa.reply(request.dump(force=True))

    tsa.digests = "sha256, sha512"
    tsa.answer = answer
    assert refused()["code"] == "timestamp_algorithm_unsupported"


def test_answer_without_certificates(refused, tsa):
    def answer(query):
        request = tsp.TimeStampReq.load(query)
        request["cert_req"] = False
        return tsa.reply(request.dump(force=True))

    tsa.answer = answer
    assert refused()["code"] == "timestamp_malformed"


@pytest.mark.parametrize("kind", ["rsa2048", "p521"])
def test_authority_of_another_algorithm(refused, tsa, certifier, kind):
    """No verifier of ours reads it, so it is not written either."""
    tsa.signer = certifier.timestamper(certifier.authority(), kind)
    assert refused()["code"] == "timestamp_algorithm_unsupported"


def test_silent_server(refused, tsa):
    tsa.answer = lambda query: None
    error = refused()
    assert error["code"] == "timestamp_unavailable"
    assert tsa.url in error["message"]


@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
def test_status_that_is_no_answer(refused, tsa, status):
    """Whatever comes with it, even a good answer."""
    tsa.answer = lambda query: (status, tsa.reply(query))
    assert refused()["code"] == "timestamp_unavailable"


@pytest.mark.parametrize("length, code", [(64 << 10, "timestamp_malformed"), (70 << 10, "timestamp_unavailable")])
def test_answer_has_a_limit(refused, tsa, length, code):
    tsa.answer = lambda query: bytes(length)
    assert refused()["code"] == code


def test_nobody_there(refused, tsa):
    url = tsa.url
    tsa.http.server_close()
    assert refused(url)["code"] == "timestamp_unavailable"


@pytest.mark.parametrize("url", ["", "127.0.0.1", "file:///etc/passwd", "ftp://127.0.0.1/", "http://", "http://[::1", "http:// /"])
def test_address_that_is_none(refused, url):
    assert refused(url or " ")["code"] == "timestamp_unavailable"


def test_older_signature_stays(sentry, sign, tsa, key, model):
    before = sign(model, key).path.read_bytes()
    tsa.answer = lambda query: b"garbage"
    result = sentry.run("sign", model, "--key", key.private, "--timestamp", tsa.url)
    assert result.returncode == 2
    assert (model / "model.sig").read_bytes() == before


# Limits of the file.


@pytest.mark.parametrize("count, expected", [(8, (0, None)), (9, (1, "too_many_timestamps"))])
def test_number_of_timestamps_has_a_limit(sign, verify, key, model, count, expected):
    bundle = sign(model, key)
    replace_timestamps(bundle, *timestamps_of(bundle) * count)
    verdict = verify(model, key)
    assert (verdict.exit, verdict.code) == expected, verdict


def test_length_of_a_timestamp_has_a_limit(sign, verify, verify_with, key, model):
    bundle = sign(model, key)
    replace_timestamps(bundle, bytes((64 << 10) + 1))
    for verdict in [verify(model, key), verify_with(model, "--key", key.public)]:
        assert_code(verdict, 1, "timestamp_too_long")


def test_timestamp_that_nobody_asked_about_is_not_read(sign, verify_with, key, model):
    """Without roots there is nothing to check it with; what it says is reported to nobody."""
    bundle = sign(model, key)
    replace_timestamps(bundle, b"not a timestamp")
    verdict = verify_with(model, "--key", key.public)
    assert verdict.exit == 0
    assert verdict.report["signatures"][0]["timestamp"] is None


# In a policy.


@pytest.fixture
def verify_by_policy(verify_with, tsa, key, publisher, tmp_path):
    def verify_by_policy(model, after, *, signer="release", timestamps=True):
        roots = f'timestamp_roots = ["{tsa.root}"]' if timestamps else ""
        policy = tmp_path / "policy.toml"
        policy.write_text(f"""
policy = 1
[signer.release]
key = "{key.public}"
{roots}
[signer.acme]
certificate_roots = ["{publisher.root}"]
identity = "{NAME}"
{roots}
[[rule]]
artifacts = ["model"]
signers = ["{signer}"]
signed_after = {after}
""")
        return verify_with(model, "--policy", policy)

    return verify_by_policy


@pytest.mark.parametrize("name", ["release", "acme"])
def test_signed_after(sign, verify_by_policy, key, publisher, model, name):
    bundle = sign(model, key if name == "release" else publisher)
    moment = time_of(bundle)
    verdict = verify_by_policy(model, text_of(moment - SECOND), signer=name)
    assert verdict.exit == 0, verdict
    assert verdict.report["signatures"][0]["timestamp"] == text_of(moment)
    # After means after; the same instant in another place is the same instant.
    assert_code(verify_by_policy(model, text_of(moment), signer=name), 1, "policy_signed_after")
    zone = datetime.timezone(2 * datetime.timedelta(hours=1))
    assert_code(verify_by_policy(model, moment.astimezone(zone).isoformat(), signer=name), 1, "policy_signed_after")
    before = (moment - SECOND).astimezone(zone).isoformat()
    assert verify_by_policy(model, before, signer=name).exit == 0


def test_signed_after_without_a_timestamp(sentry, verify_by_policy, key, model):
    sentry.sign(model, key)
    verdict = verify_by_policy(model, "2020-01-01T00:00:00Z")
    assert_code(verdict, 1, "policy_signed_after")
    assert "this one has no timestamp" in verdict.report["error"]["message"]


def test_signed_after_without_authorities(sign, verify_by_policy, key, model):
    sign(model, key)
    assert_code(verify_by_policy(model, "2020-01-01T00:00:00Z", timestamps=False), 2, "policy_rule")
