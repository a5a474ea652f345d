"""What a peer may see and what only the log may see."""

from datetime import UTC, datetime, timedelta

import pytest

from posthouse.base.clock import FakeClock, SystemClock
from posthouse.base.errors import PeerError, Refused, Reply, TryLater


@pytest.mark.parametrize(
    ("reply", "text", "permanent", "success"),
    [
        (Reply(550, "5.1.1", "No such mailbox here"), "550 5.1.1 No such mailbox here", True, False),
        (Reply(451, "4.3.0", "Later"), "451 4.3.0 Later", False, False),
        (Reply(354, "", "Go ahead"), "354 Go ahead", False, True),
    ],
)
def test_a_reply_knows_its_class_and_reads_as_on_the_wire(reply, text, permanent, success):
    assert (str(reply), reply.is_permanent_failure, reply.is_success) == (text, permanent, success)


def test_the_reason_is_not_part_of_what_the_peer_gets():
    refusal = Refused(Reply(550, "5.7.1", "Policy"), "listed by example.org")
    assert "example.org" not in str(refusal.reply)
    assert refusal.reason == "listed by example.org"


def test_without_a_reason_the_log_has_the_reply():
    assert PeerError(Reply(501, "5.5.4", "Syntax")).reason == "Syntax"


def test_our_own_trouble_is_always_temporary():
    assert TryLater("disk full").reply.code == 451


def test_the_fake_clock_moves_only_when_told():
    clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
    before = clock.now(), clock.monotonic()
    assert (clock.now(), clock.monotonic()) == before
    clock.advance(90)
    assert clock.now() - before[0] == timedelta(seconds=90)
    assert clock.monotonic() - before[1] == 90


def test_the_system_clock_is_aware_and_does_not_go_back():
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() <= clock.monotonic()
