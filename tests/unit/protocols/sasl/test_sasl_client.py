"""The client's side of the SASL mechanisms, alone and against the server's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.config.checks import MECHANISMS as ALL
from posthouse.protocols.sasl import client, server
from posthouse.protocols.sasl.credentials import Credentials, ScramKeys
from posthouse.protocols.sasl.exchange import WRONG
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.steps import (
    Challenge,
    Failure,
    NeedAccount,
    NeedCredentials,
    NeedToken,
    NeedVerify,
    Step,
    Success,
)

BINDING = ("tls-server-end-point", b"h" * 32)
PEER = Peer("imap", "192.0.2.1", True, dict([BINDING]))
MECHANISMS = [name for name in ALL if name not in ("EXTERNAL", "OAUTHBEARER", "XOAUTH2")]


def converse(name: str, login: str, password: str, right: str, peer: Peer = PEER) -> Step:
    """Client and server talk to each other until the end."""
    ours = client.mechanism(name, login, password, nonce=b"c" * 18, binding=BINDING)
    theirs = server.mechanism(name, nonce=b"s" * 18, secret=b"k" * 32, hostname="mail.example.test", peer=peer)
    assert ours is not None
    assert theirs is not None
    known = Credentials(
        plain=right,
        scram_sha256=ScramKeys.derive(right, b"salt", 4096),
        scram_sha1=ScramKeys.derive(right, b"salt", 4096, "sha1"),
    )
    step = theirs.step(ours.initial())
    while True:
        match step:
            case Challenge(data):
                step = theirs.step(ours.respond(data))
            case NeedCredentials():
                step = theirs.credentials(known)
            case NeedVerify():
                step = theirs.verified(step.password == right)
            case NeedToken() | NeedAccount():
                raise AssertionError(step)
            case Success() | Failure():
                assert ours.is_complete or isinstance(step, Failure)
                return step


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("login", ["alice@example.test", "a,=b@example.test", "jürgen@example.test"])
def test_right_password_logs_in(name: str, login: str):
    assert converse(name, login, "pässword", "pässword") == Success(login)


@pytest.mark.parametrize("name", MECHANISMS)
def test_wrong_password_fails(name: str):
    assert converse(name, "alice@example.test", "guess", "secret") == WRONG


@pytest.mark.parametrize("name", ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"])
def test_client_whose_connection_ends_elsewhere_is_refused(name: str):
    """RFC 5802 §6: the server sees another certificate, or another connection, than the client."""
    elsewhere = Peer("imap", "192.0.2.1", True, {BINDING[0]: b"x" * 32})
    assert isinstance(converse(name, "alice", "secret", "secret", elsewhere), Failure)


def test_there_is_no_plus_without_a_binding():
    assert client.mechanism("SCRAM-SHA-256-PLUS", "user", "pencil", nonce=b"n" * 18) is None


@given(st.text(min_size=1, max_size=12).filter(lambda text: "\0" not in text and text.isprintable()))
@settings(max_examples=20, deadline=None)
def test_any_password_logs_in_with_scram(password: str):
    assert converse("SCRAM-SHA-256", "alice", password, password) == Success("alice")


def test_plain_example_of_the_rfc():
    """RFC 4616 §4."""
    plain = client.Plain("tim", "tanstaaftanstaaf")
    assert plain.initial() == b"\0tim\0tanstaaftanstaaf"


def test_cram_md5_example_of_the_rfc():
    """RFC 2195 §2."""
    cram = client.Cram("tim", "tanstaaftanstaaf")
    assert cram.initial() is None
    answer = cram.respond(b"<1896.697170952@postoffice.reston.mci.net>")
    assert answer == b"tim b913a602c7eda7a495b4e6e7334d3890"


def scram_after_first() -> client.Scram:
    return client.Scram("user", "pencil", b"rOprNGfwEbeRWgbNEkqO")


SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def test_scram_example_of_the_rfc():
    """RFC 7677 §3."""
    scram = scram_after_first()
    assert scram.initial() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert scram.respond(SERVER_FIRST) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert not scram.is_complete
    assert scram.respond(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=") == b""
    assert scram.is_complete


@pytest.mark.parametrize(
    "challenge",
    [
        b"",
        b"e=other-error",
        SERVER_FIRST.replace(b"r=rO", b"r=xO"),
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        SERVER_FIRST.replace(b"4096", b"1"),
        SERVER_FIRST.replace(b"4096", b"9" * 4000),
        SERVER_FIRST.replace(b"4096", b"-4096"),
        SERVER_FIRST.replace(b"W22Z", b"!!!!"),
        b"m=ext," + SERVER_FIRST,
    ],
)
def test_hostile_server_gets_no_proof(challenge: bytes):
    with pytest.raises(ValueError):
        scram_after_first().respond(challenge)


def test_server_that_cannot_prove_itself_is_refused():
    """RFC 5802 §3: the server's signature authenticates it to the client."""
    scram = scram_after_first()
    scram.respond(SERVER_FIRST)
    with pytest.raises(ValueError, match="does not know"):
        scram.respond(b"v=" + b"A" * 44)


@pytest.mark.parametrize("name", MECHANISMS)
def test_challenge_after_the_end_is_refused(name: str):
    ours = client.mechanism(name, "user", "pencil", nonce=b"n" * 18, binding=BINDING)
    assert ours is not None
    ours.initial()
    ours.is_complete = True
    if isinstance(ours, client.Login):
        ours.respond(b"Username:")
        ours.respond(b"Password:")
    with pytest.raises(ValueError):
        ours.respond(b"more?")


@pytest.mark.parametrize(("login", "password"), [("", "x"), ("x", ""), ("a\0b", "x"), ("x", "a\0b")])
def test_login_or_password_that_cannot_be_sent_is_refused(login: str, password: str):
    with pytest.raises(ValueError):
        client.mechanism("PLAIN", login, password, nonce=b"")


def test_unknown_mechanism_is_none():
    assert client.mechanism("GSSAPI", "user", "pencil", nonce=b"") is None
