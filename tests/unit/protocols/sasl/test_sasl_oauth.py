"""OAUTHBEARER and XOAUTH2, the server's side."""

import pytest

from posthouse.protocols.sasl.exchange import WRONG
from posthouse.protocols.sasl.oauth import MAX_TOKEN_BYTES, OAuthBearer, XOAuth2
from posthouse.protocols.sasl.steps import Challenge, Failure, NeedToken, Success

TOKEN = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
FIRST = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
    b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
)
GOOGLE = b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01"


def test_oauthbearer_example_of_the_rfc():
    """RFC 7628 §4.1."""
    oauth = OAuthBearer()
    assert oauth.step(FIRST) == NeedToken("user@example.com", TOKEN, "OAUTHBEARER")
    assert oauth.verified(True) == Success("user@example.com")


def test_oauthbearer_failure_example_of_the_rfc():
    """RFC 7628 §4.3: the error, the client's %x01, and only then the failure."""
    oauth = OAuthBearer()
    assert oauth.step(None) == Challenge(b"")
    oauth.step(FIRST)
    assert oauth.verified(False) == Challenge(b'{"status":"invalid_token"}')
    assert oauth.step(b"\x01") == WRONG
    assert isinstance(oauth.step(FIRST), Failure)


def test_token_may_say_who_it_is_for_where_the_client_does_not():
    for account, outcome in (("user@example.com", Success("user@example.com")), (None, Challenge(OAuthBearer.error))):
        oauth = OAuthBearer()
        assert oauth.step(b"n,,\x01auth=bearer  abc\x01\x01") == NeedToken("", "abc", "OAUTHBEARER")
        assert oauth.verified_as(account) == outcome
    nobody = OAuthBearer()
    nobody.step(b"n,,\x01auth=Bearer abc\x01\x01")
    assert nobody.verified(True) == Challenge(OAuthBearer.error)


def test_xoauth2_example_of_google():
    """ "OAuth 2.0 Mechanism" of Gmail's IMAP documentation."""
    oauth = XOAuth2()
    token = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"
    assert oauth.step(GOOGLE) == NeedToken("someuser@example.com", token, "XOAUTH2")
    assert oauth.verified_as(None) == Challenge(b'{"status":"401","schemes":"bearer"}')
    assert oauth.step(b"") == WRONG


def test_token_of_16_kib_passes_and_a_longer_one_does_not():
    for size, kind in ((MAX_TOKEN_BYTES, NeedToken), (MAX_TOKEN_BYTES + 1, Failure), (65_536, Failure)):
        step = OAuthBearer().step(b"n,a=user@example.com,\x01auth=Bearer %s\x01\x01" % (b"t" * size))
        assert isinstance(step, kind)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x01",
        b"n,,",
        b"n,,\x01\x01",
        b"n,,auth=Bearer abc\x01\x01",
        b"n,,\x01auth=Bearer abc\x01",
        b"n,,\x01auth=Bearer abc",
        b"n,,\x01auth=Basic abc\x01\x01",
        b"n,,\x01auth=Bearer\x01\x01",
        b"n,,\x01auth=Bearer a b\x01\x01",
        b"n,,\x01auth=Bearer \xff\x01\x01",
        b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
        b"n,,\x01=x\x01auth=Bearer a\x01\x01",
        b"p=tls-unique,,\x01auth=Bearer abc\x01\x01",
        b"n,a=,\x01auth=Bearer abc\x01\x01x",
        b"user=\x01auth=Bearer abc\x01\x01",
        b"auth=Bearer abc\x01\x01",
        b"user=a\x01\x01",
        b"user=a\x01auth=Bearer abc\x01",
    ],
)
@pytest.mark.parametrize("kind", [OAuthBearer, XOAuth2])
def test_malformed_message_is_refused(message: bytes, kind: type[OAuthBearer | XOAuth2]):
    assert isinstance(kind().step(message), Failure)
