"""testsaslauthd(8), as Cyrus SASL's own test of a saslauthd, against our accounts."""

import pytest
from tests.interop.house import run
from tests.interop.neighbours import ALICE, Neighbour


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory):
    running = Neighbour(tmp_path_factory.mktemp("saslauthd") / "posthouse")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def ask(need, neighbour):
    """testsaslauthd's answer."""
    program = need("testsaslauthd")

    def ask(*options: str, code: int = 0) -> str:
        return run(program, "-f", neighbour.sockets["saslauthd"], *options, code=code)

    return ask


def test_the_right_password_and_no_other_is_right(ask):
    assert ask("-u", ALICE, "-s", "imap", "-p", "secret").startswith("0: OK")
    assert ask("-u", ALICE, "-s", "imap", "-p", "wrong", code=255) == '0: NO "authentication failed"\n'


def test_a_realm_is_the_domain_of_a_login_without_one(ask):
    assert ask("-u", "alice", "-r", "example.test", "-s", "sieve", "-p", "secret").startswith("0: OK")
    assert ask("-u", "alice", "-r", "example.org", "-p", "secret", code=255).startswith("0: NO")
    assert ask("-u", ALICE, "-r", "example.org", "-p", "secret").startswith("0: OK")


def test_posthouse_knows_what_it_was_for(ask, neighbour):
    ask("-u", ALICE, "-s", "pop", "-p", "secret")
    neighbour.wait_for("login", protocol="pop3", account=ALICE)
