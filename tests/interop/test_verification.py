"""Recipients behind a relay domain, and senders, are verified with their own server before mail is taken in."""

import pytest
from tests.interop.house import House, run
from tests.interop.sink import Sink
from tests.nameserver import NameServer

ALICE = "alice@example.test"


@pytest.fixture(scope="module")
def sink():
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def house(tmp_path_factory, sink):
    with NameServer({"elsewhere.example": ["MX 10 ."]}) as names:
        settings = (
            f'[dns]\nservers = ["{names.address}"]\n[verify]\nwait_seconds = 5\n[smtp]\n'
            'sender_restrictions = ["reject_unverified_sender"]\n'
            'recipient_restrictions = ["reject_unauth_destination", "reject_unverified_recipient"]\n'
        )
        running = House(tmp_path_factory.mktemp("verify"), settings)
        running.cli("domain", "add", "example.test")
        running.cli("transport", "add", "branch.example", f"relay:[127.0.0.1]:{sink.port}")
        running.cli("transport", "add", "gone.example", "relay:[127.0.0.1]:1")
        running.add_account(ALICE)
        running.start()
        yield running
        code = running.stop()
        assert (code, [line for line in running.log if line.get("level") == "error"]) == (0, [])


@pytest.fixture
def swaks(need, house):
    def send(sender, to, code):
        server = f"127.0.0.1:{house.ports['smtp']}"
        return run(need("swaks"), "--server", server, "--from", sender, "--to", to, code=code)

    return send


def test_a_recipient_that_its_own_server_refuses_is_refused_here_without_asking_twice(house, swaks, sink):
    refused = (
        "550 5.1.1 <refuse1@branch.example>: Recipient address rejected: undeliverable address: its server said 550"
    )
    for _ in range(2):
        assert refused in swaks("x@branch.example", "refuse1@branch.example", 24)
    swaks("x@branch.example", "somebody@branch.example", 0)
    assert sink.asked.count("<refuse1@branch.example>") == 1
    assert sink.asked.count("<x@branch.example>") == 1  # the sender
    assert "450 4.1.1 <later1@branch.example>: Recipient address rejected: unverified address" in swaks(
        "x@branch.example", "later1@branch.example", 24
    )
    assert "450 4.1.1 <x@gone.example>: Recipient address rejected: unverified address: its server said 451" in swaks(
        "x@branch.example", "x@gone.example", 24
    )


def test_a_sender_whose_server_refuses_it_or_who_is_none_of_ours_is_refused(house, swaks):
    assert "550 5.1.7 <refuse2@branch.example>: Sender address rejected: undeliverable" in swaks(
        "refuse2@branch.example", ALICE, 24
    )
    assert "550 5.1.7 <x@elsewhere.example>: Sender address rejected: undeliverable" in swaks(
        "x@elsewhere.example", ALICE, 24
    )
    assert "550 5.1.7 <nobody@example.test>: Sender address rejected: undeliverable" in swaks(
        "nobody@example.test", ALICE, 24
    )
    swaks("<>", ALICE, 0)
    swaks(ALICE, ALICE, 0)


def test_explain_shows_it(house):
    options = ("--client=192.0.2.1", "--from=x@branch.example", "--to=refuse3@branch.example")
    said = house.cli("smtp", "explain", *options, check=False)
    assert said.returncode == 1
    assert "reject_unverified_sender: nothing to say" in said.stdout
    assert "reject_unverified_recipient: refuse: 550 5.1.1 <refuse3@branch.example>" in said.stdout
