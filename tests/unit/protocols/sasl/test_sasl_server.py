"""The server's side of the SASL mechanisms."""

import base64
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocols.sasl.credentials import Credentials, ScramKeys
from posthouse.protocols.sasl.scram import ScramSha256, fake_keys, fake_salt
from posthouse.protocols.sasl.server import MECHANISMS, WRONG, CramMd5, Login, Plain, ServerMechanism, mechanism
from posthouse.protocols.sasl.steps import Challenge, Failure, NeedCredentials, NeedVerify, Success

SECRET = b"s" * 32


def start(name: str) -> ServerMechanism:
    made = mechanism(name, nonce=b"0123456789abcdef", secret=SECRET, hostname="mail.example.test")
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


def test_cram_md5_example_of_the_rfc():
    """RFC 2195 §2."""
    cram = CramMd5(b"<1896.697170952@postoffice.reston.mci.net>")
    assert cram.step(None) == Challenge(b"<1896.697170952@postoffice.reston.mci.net>")
    assert cram.step(b"tim b913a602c7eda7a495b4e6e7334d3890") == NeedCredentials("tim", "plain")
    assert cram.credentials(Credentials(plain="tanstaaftanstaaf")) == Success("tim")


@pytest.mark.parametrize("known", [None, Credentials(), Credentials(plain=""), Credentials(plain="other")])
def test_cram_md5_fails_alike_without_account_and_with_another_password(known: Credentials | None):
    """Nor does an HMAC with an empty key help where there is no password."""
    cram = CramMd5(b"<1@host>")
    cram.step(None)
    cram.step(b"tim " + hmac.digest(b"", b"<1@host>", "md5").hex().encode())
    assert cram.credentials(known) == WRONG


def test_cram_md5_challenges_are_unique_by_their_nonce():
    one = mechanism("cram-md5", nonce=b"a" * 16, secret=SECRET, hostname="h")
    two = mechanism("cram-md5", nonce=b"b" * 16, secret=SECRET, hostname="h")
    assert one is not None
    assert two is not None
    assert one.step(None) != two.step(None)


@pytest.mark.parametrize("response", [b"", b"tim", b" 0123", b"\xff 0123", b"x" * 65536])
def test_malformed_cram_md5_answer_is_refused(response: bytes):
    cram = CramMd5(b"<1@host>")
    cram.step(None)
    assert isinstance(cram.step(response), Failure)


def test_cram_md5_refuses_an_initial_response():
    """RFC 4422 §3: the server speaks first."""
    assert isinstance(CramMd5(b"<1@host>").step(b""), Failure)


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
    scram = ScramSha256(SERVER_NONCE, SECRET)
    assert scram.step(CLIENT_FIRST) == NeedCredentials("user", "scram")
    assert scram.credentials(Credentials(scram=KEYS)) == Challenge(SERVER_FIRST)
    assert scram.step(CLIENT_FINAL) == Challenge(SERVER_FINAL)
    assert scram.step(b"") == Success("user")


def test_scram_without_an_initial_response_asks_with_an_empty_challenge():
    scram = ScramSha256(SERVER_NONCE, SECRET)
    assert scram.step(None) == Challenge(b"")
    assert scram.step(CLIENT_FIRST) == NeedCredentials("user", "scram")


def test_scram_client_that_supports_channel_binding_is_served():
    """RFC 5802 §6: flag "y" is right where we offer no -PLUS."""
    scram = ScramSha256(SERVER_NONCE, SECRET)
    assert scram.step(b"y,,n=user,r=abc") == NeedCredentials("user", "scram")
    scram.credentials(Credentials(scram=KEYS))
    mismatch = scram.step(b"c=biws,r=abc" + SERVER_NONCE + b",p=" + base64.b64encode(bytes(32)))
    assert mismatch == Failure("malformed response: channel binding does not match")


def test_scram_names_are_decoded():
    scram = ScramSha256(SERVER_NONCE, SECRET)
    assert scram.step(b"n,a=b=2Coss,n=us=3Der,r=abc") == NeedCredentials("us=er", "scram", "b,oss")


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
    assert isinstance(ScramSha256(SERVER_NONCE, SECRET).step(message), Failure)


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
    scram = ScramSha256(SERVER_NONCE, SECRET)
    scram.step(CLIENT_FIRST)
    scram.credentials(Credentials(scram=KEYS))
    assert isinstance(scram.step(message), Failure)


def test_scram_of_an_unknown_account_runs_to_the_end_with_a_stable_salt():
    """RFC 5802 §5.1: who asks for salts learns nothing about which accounts exist."""
    challenges = set[bytes]()
    for login in (b"nobody@example.test", b"Nobody@Example.Test"):
        scram = ScramSha256(SERVER_NONCE, SECRET)
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
    scram = ScramSha256(SERVER_NONCE, SECRET)
    scram.step(b"n,,n=user,r=abc")
    scram.credentials(None)
    scram_with_keys = ScramSha256(SERVER_NONCE, SECRET)
    scram_with_keys.step(b"n,,n=user,r=abc")
    assert scram_with_keys.credentials(Credentials(scram=keys)) != WRONG
    assert scram.step(b"c=biws,r=abc" + SERVER_NONCE + b",p=" + base64.b64encode(bytes(32))) == WRONG


@given(
    st.sampled_from(MECHANISMS),
    st.lists(st.one_of(st.none(), st.binary(max_size=40), st.sampled_from([CLIENT_FIRST, CLIENT_FINAL])), max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_no_response_raises(name: str, responses: list[bytes | None]):
    made = start(name)
    for response in responses:
        step = made.step(response)
        if isinstance(step, NeedCredentials):
            step = made.credentials(Credentials(plain="pencil", scram=KEYS))
        elif isinstance(step, NeedVerify):
            step = made.verified(False)
        assert isinstance(step, Challenge | Failure)


def test_unknown_mechanism_is_none():
    assert mechanism("GSSAPI", nonce=b"", secret=SECRET, hostname="h") is None


@pytest.mark.parametrize("name", MECHANISMS)
def test_answer_that_nobody_asked_for_is_a_bug(name: str):
    made = start(name)
    with pytest.raises(RuntimeError):
        made.credentials(None)
    with pytest.raises(RuntimeError):
        made.verified(True)
