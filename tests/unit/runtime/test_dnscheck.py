"""runtime/dnscheck.py, against name servers of our own on loopback."""

import asyncio

import dns.rcode
import pytest
from tests.validatingserver import ValidatingServer

from posthouse.config.settings import Dns
from posthouse.runtime.dnscheck import check_servers, overall_problem


def check(zone, secure=(), name="."):
    with ValidatingServer(zone, secure) as server:
        settings = Dns((server.address,))
        (found,) = asyncio.run(check_servers(settings, name, timeout_seconds=0.3))
        return found


def test_a_server_that_validates_is_well():
    found = check({".": []}, (".",))
    assert (found.validates, found.is_believed, found.problem) == (True, True, "")
    assert overall_problem([found], needs_validation=True) == ""


def test_a_server_on_this_host_that_does_not_validate_is_told():
    found = check({"d.example": []}, name="d.example")
    assert "does not validate" in found.problem
    assert "no DANE" in overall_problem([found], needs_validation=True)
    assert overall_problem([found], needs_validation=False) == ""


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, "no answer within 0.3 s"),
        (b"\0" * 5, "no answer within 0.3 s"),
        (dns.rcode.SERVFAIL, "it says SERVFAIL"),
        (dns.rcode.REFUSED, "it says REFUSED"),
    ],
    ids=["silent", "rubbish", "SERVFAIL", "REFUSED"],
)
def test_a_server_that_does_not_answer_is_told_within_the_limit(answer, problem):
    assert check({".": answer}).problem == problem


def test_the_servers_of_the_system_are_checked_and_none_is_a_problem(tmp_path):
    found = asyncio.run(check_servers(Dns(), resolv_conf=str(tmp_path / "none")))
    assert found == []
    assert "no name server" in overall_problem(found, needs_validation=False)


def test_what_is_no_name_is_an_error():
    with pytest.raises(ValueError, match="no name"):
        asyncio.run(check_servers(Dns(("127.0.0.1:1",)), "a..b"))
