"""CRAM-MD5, CRAM-SHA1 and APOP, the server's side."""

import hashlib
import hmac

import pytest

from posthouse.protocols.sasl.apop import Apop
from posthouse.protocols.sasl.cram import Cram, CramMd5, CramSha1
from posthouse.protocols.sasl.credentials import Credentials
from posthouse.protocols.sasl.exchange import WRONG
from posthouse.protocols.sasl.md5 import cram_md5_context
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.server import mechanism
from posthouse.protocols.sasl.steps import Challenge, Failure, NeedCredentials, Success

PEER = Peer("pop3", "192.0.2.1", is_tls=True)
CHALLENGE = b"<1896.697170952@postoffice.reston.mci.net>"
ANSWER = b"tim b913a602c7eda7a495b4e6e7334d3890"


def test_cram_md5_example_of_the_rfc():
    """RFC 2195 §2."""
    cram = CramMd5(CHALLENGE)
    assert cram.step(None) == Challenge(CHALLENGE)
    assert cram.step(ANSWER) == NeedCredentials("tim", "cram-md5")
    assert cram.credentials(Credentials(plain="tanstaaftanstaaf")) == Success("tim")


def test_stored_context_serves_as_well_as_the_password():
    """What Dovecot calls {CRAM-MD5}."""
    for password, outcome in ((b"tanstaaftanstaaf", Success("tim")), (b"other", WRONG)):
        cram = CramMd5(CHALLENGE)
        cram.step(None)
        cram.step(ANSWER)
        assert cram.credentials(Credentials(cram_md5=cram_md5_context(password))) == outcome


def test_cram_sha1_is_the_same_with_sha_1():
    cram = CramSha1(b"<1@host>")
    cram.step(None)
    answer = b"tim " + hmac.digest(b"secret", b"<1@host>", "sha1").hex().upper().encode()
    assert cram.step(answer) == NeedCredentials("tim", "plain")
    assert cram.credentials(Credentials(plain="secret")) == Success("tim")


@pytest.mark.parametrize("kind", [CramMd5, CramSha1])
@pytest.mark.parametrize(
    "known", [None, Credentials(), Credentials(plain=""), Credentials(plain="other"), Credentials(cram_md5=b"x" * 32)]
)
def test_cram_fails_alike_without_account_and_with_another_password(kind: type[Cram], known: Credentials | None):
    """Nor does an HMAC with an empty key, or an empty context, help where there is no password."""
    cram = kind(b"<1@host>")
    cram.step(None)
    cram.step(b"tim " + hmac.digest(b"", b"<1@host>", kind.algorithm).hex().encode())
    assert cram.credentials(known) == WRONG


@pytest.mark.parametrize("name", ["cram-md5", "cram-sha1"])
def test_challenges_are_unique_by_their_nonce(name: str):
    one = mechanism(name, nonce=b"a" * 16, secret=b"", hostname="h", peer=PEER)
    two = mechanism(name, nonce=b"b" * 16, secret=b"", hostname="h", peer=PEER)
    assert one is not None
    assert two is not None
    assert one.step(None) != two.step(None)


@pytest.mark.parametrize("response", [b"", b"tim", b" 0123", b"\xff 0123", b"x" * 65536])
@pytest.mark.parametrize("made", [CramMd5(b"<1@host>"), Apop(b"<1@host>")])
def test_malformed_answer_is_refused(response: bytes, made: Cram | Apop):
    made.step(None)
    assert isinstance(made.step(response), Failure)


def test_cram_refuses_an_initial_response():
    """RFC 4422 §3: the server speaks first."""
    assert isinstance(CramMd5(b"<1@host>").step(b""), Failure)


def test_apop_example_of_the_rfc():
    """RFC 1939 §7."""
    apop = Apop(b"<1896.697170952@dbc.mtview.ca.us>")
    assert apop.step(b"mrose c4c9334bac560ecc979e58001b3e22fb") == NeedCredentials("mrose", "plain")
    assert apop.credentials(Credentials(plain="tanstaaf")) == Success("mrose")


@pytest.mark.parametrize("known", [None, Credentials(), Credentials(plain=""), Credentials(plain="other")])
def test_apop_fails_alike_without_account_and_with_another_password(known: Credentials | None):
    apop = Apop(CHALLENGE)
    apop.step(b"tim " + hashlib.md5(CHALLENGE).hexdigest().encode())
    assert apop.credentials(known) == WRONG
