"""The server's side of PLAIN and LOGIN, and what holds for all mechanisms."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.config.checks import MECHANISMS
from posthouse.protocols.sasl.credentials import Credentials, ScramKeys
from posthouse.protocols.sasl.exchange import WRONG, ServerMechanism
from posthouse.protocols.sasl.password import Login, Plain
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.server import mechanism
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

SECRET = b"s" * 32
PEER = Peer("imap", "192.0.2.1", True, {"tls-server-end-point": b"h" * 32}, ("alice@example.test",))
KEYS = ScramKeys.derive("pencil", b"salt", 4096)
SHA1_KEYS = ScramKeys.derive("pencil", b"salt", 4096, "sha1")
EVERYTHING = Credentials("pencil", KEYS, SHA1_KEYS, b"x" * 32)


def start(name: str) -> ServerMechanism:
    made = mechanism(name, nonce=b"0123456789abcdef", secret=SECRET, hostname="mail.example.test", peer=PEER)
    assert made is not None
    return made


def test_plain_message_is_taken_apart():
    """RFC 4616 §4, both examples."""
    assert Plain().step(b"\0tim\0tanstaaftanstaaf") == NeedVerify("tim", "tanstaaftanstaaf", "")
    assert Plain().step(b"Ursel\0Kurt\0xipj3plmq") == NeedVerify("Kurt", "xipj3plmq", "Ursel")


def test_plain_without_an_initial_response_asks_with_an_empty_challenge():
    plain = Plain()
    assert plain.step(None) == Challenge(b"")
    assert plain.step(b"\0tim\0secret") == NeedVerify("tim", "secret")
    assert plain.verified(True) == Success("tim")


def test_plain_with_a_wrong_password_fails():
    plain = Plain()
    plain.step(b"\0tim\0secret")
    assert plain.verified(False) == WRONG
    assert plain.step(b"\0tim\0secret") == Failure("the exchange is over")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"tim",
        b"\0tim",
        b"\0\0secret",
        b"\0tim\0",
        b"\0tim\0secret\0",
        b"a\0b\0c\0d",
        b"\0\xff\xfe\0secret",
        b"\0tim\x07\0secret",
        b"\0" + b"t" * 65536 + b"\0secret",
        b"\0tim\0" + b"p" * 65536,
        b"\0" * 65536,
    ],
)
def test_malformed_plain_message_is_refused(message: bytes):
    """RFC 4616 §2: three parts, neither name nor password empty, SASLprep must not prohibit the name."""
    assert isinstance(Plain().step(message), Failure)


def test_login_name_is_prepared():
    """RFC 4013 §3, examples 1 to 4."""
    for given_name, prepared in (
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
    ):
        assert Plain().step(f"\0{given_name}\0x".encode()) == NeedVerify(prepared, "x")


def test_login_asks_for_name_and_password():
    login = Login()
    assert login.step(None) == Challenge(b"Username:")
    assert login.step(b"tim") == Challenge(b"Password:")
    assert login.step(b"secret") == NeedVerify("tim", "secret")
    assert login.verified(True) == Success("tim")


def test_login_takes_the_name_as_initial_response():
    login = Login()
    assert login.step(b"tim") == Challenge(b"Password:")
    assert login.step(b"secret") == NeedVerify("tim", "secret")


@pytest.mark.parametrize("responses", [(b"",), (b"tim", b""), (b"ti\0m",), (b"tim", b"sec\0ret"), (b"t" * 65536,)])
def test_malformed_login_is_refused(responses: tuple[bytes, ...]):
    login = Login()
    assert isinstance([login.step(response) for response in responses][-1], Failure)


RESPONSES = [
    b"n,,n=user,r=abc",
    b"p=tls-server-end-point,,n=user,r=abc",
    b"c=biws,r=abcMDEyMzQ1Njc4OWFiY2RlZg==,p=" + b"A" * 43 + b"=",
    b"n,a=alice@example.test,\x01auth=Bearer abc\x01\x01",
    b"user=alice@example.test\x01auth=Bearer abc\x01\x01",
    b"alice@example.test",
    b"\x01",
]


def answer(made: ServerMechanism, step: Step, *, is_known: bool) -> Step:
    """The answer to what a mechanism needs to know: no, whatever else is known."""
    match step:
        case NeedCredentials():
            return made.credentials(EVERYTHING if is_known else None)
        case NeedVerify() | NeedAccount():
            return made.verified(False)
        case NeedToken():
            return made.verified_as(None)
        case _:
            return step


@given(
    st.sampled_from(MECHANISMS),
    st.lists(st.one_of(st.none(), st.binary(max_size=40), st.sampled_from(RESPONSES)), max_size=5),
)
@settings(max_examples=300, deadline=None)
def test_no_responses_in_any_order_raise_or_log_in(name: str, responses: list[bytes | None]):
    made, stranger = start(name), start(name)
    for response in responses:
        step, other = made.step(response), stranger.step(response)
        assert step == other
        step, other = answer(made, step, is_known=True), answer(stranger, other, is_known=False)
        assert isinstance(step, Challenge | Failure)
        assert type(other) is type(step)


def test_unknown_mechanism_is_none():
    assert mechanism("GSSAPI", nonce=b"", secret=SECRET, hostname="h", peer=PEER) is None


@pytest.mark.parametrize("name", MECHANISMS)
def test_answer_that_nobody_asked_for_is_a_bug(name: str):
    made = start(name)
    with pytest.raises(RuntimeError):
        made.credentials(None)
    with pytest.raises(RuntimeError):
        made.verified(True)
    with pytest.raises(RuntimeError):
        made.verified_as("alice@example.test")


def test_long_name_is_refused_before_it_is_prepared():
    """One character may become eighteen, each looked up in ten tables: time that nobody else has then."""
    name = "\ufdfa" * 200
    for mechanism_name, message in (
        ("PLAIN", f"\0{name}\0secret"),
        ("PLAIN", f"{name}\0tim\0secret"),
        ("LOGIN", name),
        ("SCRAM-SHA-256", f"n,,n={name},r=abc"),
        ("SCRAM-SHA-256", f"n,a={name},n=tim,r=abc"),
        ("OAUTHBEARER", f"n,a={name},\1auth=Bearer abc\1\1"),
        ("XOAUTH2", f"user={name}\1auth=Bearer abc\1\1"),
        ("EXTERNAL", name),
    ):
        assert start(mechanism_name).step(message.encode()) == Failure("malformed response: login too long")
    assert isinstance(start("PLAIN").step(b"\0" + b"x" * 255 + b"\0secret"), NeedVerify)
