"""The server's side of SCRAM, without and with channel binding."""

import base64

import pytest

from posthouse.protocols.sasl.credentials import Credentials, ScramKeys
from posthouse.protocols.sasl.exchange import WRONG
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.scram import Scram, fake_keys, fake_salt
from posthouse.protocols.sasl.server import mechanism
from posthouse.protocols.sasl.steps import Challenge, Failure, NeedCredentials, Success

SECRET = b"s" * 32
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
KEYS = ScramKeys.derive("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)


def test_scram_example_of_the_rfc():
    """RFC 7677 §3."""
    scram = Scram(SERVER_NONCE, SECRET)
    assert scram.step(CLIENT_FIRST) == NeedCredentials("user", "scram-sha-256")
    assert scram.credentials(Credentials(scram_sha256=KEYS)) == Challenge(SERVER_FIRST)
    assert scram.step(CLIENT_FINAL) == Challenge(SERVER_FINAL)
    assert scram.step(b"") == Success("user")


def test_scram_without_an_initial_response_asks_with_an_empty_challenge():
    scram = Scram(SERVER_NONCE, SECRET)
    assert scram.step(None) == Challenge(b"")
    assert scram.step(CLIENT_FIRST) == NeedCredentials("user", "scram-sha-256")


def test_scram_client_that_supports_channel_binding_is_served():
    """RFC 5802 §6: flag "y" is right where we offer no -PLUS."""
    scram = Scram(SERVER_NONCE, SECRET)
    assert scram.step(b"y,,n=user,r=abc") == NeedCredentials("user", "scram-sha-256")
    scram.credentials(Credentials(scram_sha256=KEYS))
    mismatch = scram.step(b"c=biws,r=abc" + SERVER_NONCE + b",p=" + base64.b64encode(bytes(32)))
    assert mismatch == Failure("malformed response: channel binding does not match")


def test_scram_names_are_decoded():
    scram = Scram(SERVER_NONCE, SECRET)
    assert scram.step(b"n,a=b=2Coss,n=us=3Der,r=abc") == NeedCredentials("us=er", "scram-sha-256", "b,oss")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n",
        b"n,,",
        b"n,,n=user",
        b"n,,n=,r=abc",
        b"n,,n=user,r=",
        b"n,,n=user,r=a\x7fb",
        b"n,,n=us=er,r=abc",
        b"n,,n=us=2cer,r=abc",
        b"n,,m=ext,n=user,r=abc",
        b"n,b=boss,n=user,r=abc",
        b"p=tls-unique,,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,n=us\0er,r=abc",
        b"n,,n=\xff,r=abc",
        b"n,,n=user,r=" + b"a" * 65536,
    ],
)
def test_malformed_client_first_message_is_refused(message: bytes):
    assert isinstance(Scram(SERVER_NONCE, SECRET).step(message), Failure)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        CLIENT_FINAL.replace(b"biws", b"eSws"),
        CLIENT_FINAL.replace(b"r=rOpr", b"r=rOpx"),
        CLIENT_FINAL.replace(b"dHzb", b"AHzb"),
        CLIENT_FINAL[:-4],
        CLIENT_FINAL.split(b",p=", maxsplit=1)[0],
        CLIENT_FINAL.split(b",p=", maxsplit=1)[0] + b",p=AAAA",
        CLIENT_FINAL + b"\0",
        CLIENT_FINAL.replace(b",p=", b",x=1,p="),
    ],
)
def test_scram_with_a_wrong_final_message_fails(message: bytes):
    scram = Scram(SERVER_NONCE, SECRET)
    scram.step(CLIENT_FIRST)
    scram.credentials(Credentials(scram_sha256=KEYS))
    assert isinstance(scram.step(message), Failure)


def test_scram_of_an_unknown_account_runs_to_the_end_with_a_stable_salt():
    """RFC 5802 §5.1: who asks for salts learns nothing about which accounts exist."""
    challenges = set[bytes]()
    for login in (b"nobody@example.test", b"Nobody@Example.Test"):
        scram = Scram(SERVER_NONCE, SECRET)
        scram.step(b"n,,n=" + login + b",r=abc")
        challenge = scram.credentials(None)
        assert isinstance(challenge, Challenge)
        challenges.add(challenge.data)
        proof = base64.b64encode(bytes(32))
        assert scram.step(b"c=biws,r=abc" + SERVER_NONCE + b",p=" + proof) == WRONG
    assert len(challenges) == 1
    assert fake_salt("nobody", SECRET) != fake_salt("somebody", SECRET)


def test_proof_made_for_fake_keys_does_not_log_in():
    """Even if somebody could guess the server's secret."""
    keys = fake_keys("user", SECRET)
    scram = Scram(SERVER_NONCE, SECRET)
    scram.step(b"n,,n=user,r=abc")
    scram.credentials(None)
    scram_with_keys = Scram(SERVER_NONCE, SECRET)
    scram_with_keys.step(b"n,,n=user,r=abc")
    assert scram_with_keys.credentials(Credentials(scram_sha256=keys)) != WRONG
    assert scram.step(b"c=biws,r=abc" + SERVER_NONCE + b",p=" + base64.b64encode(bytes(32))) == WRONG


SHA1_CLIENT_FIRST = b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
SHA1_KEYS = ScramKeys.derive("pencil", base64.b64decode("QSXCR+Q6sek8bf92"), 4096, "sha1")
SHA1_CLIENT_FINAL = b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="


def test_scram_sha_1_example_of_the_rfc():
    """RFC 5802 §5."""
    scram = Scram(b"3rfcNHYJY1ZVvWVs7j", SECRET, "sha1")
    assert scram.step(SHA1_CLIENT_FIRST) == NeedCredentials("user", "scram-sha-1")
    assert scram.credentials(Credentials(scram_sha1=SHA1_KEYS)) == Challenge(
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096"
    )
    assert scram.step(SHA1_CLIENT_FINAL) == Challenge(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
    assert scram.step(b"") == Success("user")


def test_keys_of_one_hash_are_none_for_the_other():
    scram = Scram(b"3rfcNHYJY1ZVvWVs7j", SECRET, "sha1")
    scram.step(SHA1_CLIENT_FIRST)
    assert isinstance(scram.credentials(Credentials(scram_sha256=KEYS)), Challenge)
    assert scram.step(SHA1_CLIENT_FINAL) == WRONG


BOUND = Peer("imap", "192.0.2.1", True, {"tls-server-end-point": b"h" * 32, "tls-unique": b"u" * 12})


def plus(first: bytes, bound: bytes) -> str:
    """How -PLUS ends for a client that begins so and then says what its connection is bound to."""
    scram = mechanism("scram-sha-256-plus", nonce=b"n" * 18, secret=SECRET, hostname="h", peer=BOUND)
    assert scram is not None
    step = scram.step(first + b"n=user,r=abc")
    if isinstance(step, Failure):
        return step.reason
    scram.credentials(Credentials(scram_sha256=KEYS))
    nonce = b"abc" + base64.b64encode(b"n" * 18)
    step = scram.step(b"c=%s,r=%s,p=%s" % (base64.b64encode(bound), nonce, base64.b64encode(bytes(32))))
    assert isinstance(step, Failure)
    return step.reason


def test_binding_to_this_connection_is_what_counts():
    """RFC 5802 §6: what is left to fail is the proof."""
    header = b"p=tls-server-end-point,,"
    assert plus(header, header + b"h" * 32) == WRONG.reason
    assert plus(b"p=tls-unique,,", b"p=tls-unique,," + b"u" * 12) == WRONG.reason
    for bound in (header, header + b"x" * 32, header + b"h" * 31, b"p=tls-unique,," + b"u" * 12, b"n,,"):
        assert plus(header, bound) == "malformed response: channel binding does not match"


@pytest.mark.parametrize("header", [b"n,,", b"y,,", b"p=tls-exporter,,", b"p=,,", b"p,,"])
def test_plus_without_a_binding_that_we_have_is_refused(header: bytes):
    assert plus(header, header).startswith("malformed response: no ")


def test_client_that_was_told_of_no_plus_is_refused_where_it_was_offered():
    """RFC 5802 §6: "y" where we do offer it means that somebody between has taken it out of the list."""
    for offered, is_over in (((), False), (("SCRAM-SHA-1-PLUS",), False), (("SCRAM-SHA-256-PLUS",), True)):
        scram = mechanism("SCRAM-SHA-256", nonce=b"n", secret=SECRET, hostname="h", peer=BOUND, offered=offered)
        assert scram is not None
        assert isinstance(scram.step(b"y,,n=user,r=abc"), Failure) == is_over


def test_client_without_channel_binding_is_served_beside_plus():
    scram = mechanism(
        "SCRAM-SHA-256", nonce=b"n", secret=SECRET, hostname="h", peer=BOUND, offered=("SCRAM-SHA-256-PLUS",)
    )
    assert scram is not None
    assert scram.step(b"n,,n=user,r=abc") == NeedCredentials("user", "scram-sha-256")


def test_there_is_no_plus_without_a_binding():
    peer = Peer("imap", "192.0.2.1")
    assert mechanism("SCRAM-SHA-1-PLUS", nonce=b"n", secret=SECRET, hostname="h", peer=peer) is None


def test_salt_of_nobody_does_not_tell_by_the_spelling_of_a_domain():
    """An account that exists has the same whichever way its domain is written."""
    assert fake_salt("Tim@bücher.test", SECRET) == fake_salt("tim@XN--BCHER-KVA.test", SECRET)
