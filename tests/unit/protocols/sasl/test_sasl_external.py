"""EXTERNAL, the server's side. RFC 4422 appendix A."""

import pytest

from posthouse.protocols.sasl.exchange import WRONG
from posthouse.protocols.sasl.external import External
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.server import mechanism
from posthouse.protocols.sasl.steps import Challenge, Failure, NeedAccount, Success

EMAILS = ("Alice@Example.Test", "postmaster@example.test")


def test_client_that_names_nobody_is_the_first_in_its_certificate():
    external = External(EMAILS)
    assert external.step(None) == Challenge(b"")
    assert external.step(b"") == NeedAccount("alice@example.test")
    assert external.verified(True) == Success("alice@example.test")


def test_client_may_be_any_of_those_in_its_certificate():
    external = External(EMAILS)
    assert external.step(b"POSTMASTER@example.test") == NeedAccount(
        "postmaster@example.test", "POSTMASTER@example.test"
    )
    assert external.verified(False) == WRONG


@pytest.mark.parametrize(
    "authzid", [b"bob@example.test", b"alice", b"alice@example.test\0", b"\xff", b"a" * 65536, b"@", b" "]
)
def test_nobody_becomes_an_account_that_is_not_in_the_certificate(authzid: bytes):
    assert isinstance(External(EMAILS).step(authzid), Failure)


@pytest.mark.parametrize("emails", [("",), ("a\0b@example.test",), ("\u2028",)])
def test_senseless_certificate_is_nobody(emails: tuple[str, ...]):
    assert isinstance(External(emails).step(b""), Failure)


def test_there_is_no_external_without_a_certificate():
    peer = Peer("imap", "192.0.2.1", is_tls=True)
    assert mechanism("EXTERNAL", nonce=b"n", secret=b"", hostname="h", peer=peer) is None
