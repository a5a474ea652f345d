"""services/rates.py"""

import pytest

from posthouse.base.clock import FakeClock
from posthouse.base.errors import TryLater
from posthouse.config.reception import Rates as Limits
from posthouse.runtime.counters import Counters
from posthouse.services.rates import NETWORK_FACTOR, Rates

LOGIN = "alice@example.test"


def rates(clock=None, **limits):
    return Rates(Limits(**limits), Counters(1).of_worker(0), clock or FakeClock())


def test_a_client_has_its_messages_and_a_minute_later_again():
    clock = FakeClock()
    counted = rates(clock, messages_per_minute=2)
    for _ in range(2):
        counted.message("192.0.2.1", "")
    with pytest.raises(TryLater) as error:
        counted.message("192.0.2.1", "")
    assert str(error.value.reply) == "450 4.7.1 Too many messages from you, please try again in a minute"
    assert error.value.reason == "192.0.2.1: 2 messages, 2 allowed"
    counted.message("192.0.2.2", "")
    clock.advance(60)
    counted.message("192.0.2.1", "")


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_clock_that_jumps_neither_gives_more_nor_takes_any(jump):
    clock = FakeClock()
    counted = rates(clock, messages_per_minute=1, sessions_per_client=1)
    with counted.session("192.0.2.1"):
        counted.message("192.0.2.1", "")
        clock.jump(jump)
        with pytest.raises(TryLater):
            counted.message("192.0.2.1", "")
        with pytest.raises(TryLater), counted.session("192.0.2.1"):
            pass
    with counted.session("192.0.2.1"):
        clock.advance(60)
        counted.message("192.0.2.1", "")


def test_a_network_has_more_than_a_client_and_a_v6_client_is_its_64():
    counted = rates(recipients_per_minute=1)
    for number in range(NETWORK_FACTOR):
        counted.recipient(f"192.0.2.{number}", "")
    with pytest.raises(TryLater, match=r"192\.0\.2\.0/24"):
        counted.recipient("192.0.2.99", "")
    counted.recipient("2001:db8::1", "")
    with pytest.raises(TryLater, match="2001:db8::/64"):
        counted.recipient("2001:db8::2", "")


def test_a_login_is_counted_wherever_it_comes_from():
    counted = rates(messages_per_minute=1)
    counted.message("192.0.2.1", LOGIN)
    with pytest.raises(TryLater, match=LOGIN):
        counted.message("198.51.100.1", LOGIN.upper())


def test_sessions_are_counted_while_they_last():
    counted = rates(sessions_per_client=1, sessions=2)
    with counted.session("192.0.2.1"):
        with pytest.raises(TryLater) as error, counted.session("192.0.2.1"):
            pass
        assert error.value.reply.code == 421
        with counted.session("198.51.100.1"), pytest.raises(TryLater, match="2 sessions in all"):
            counted.session("203.0.113.1").__enter__()
    with counted.session("192.0.2.1"):
        pass


def test_exempt_hosts_sockets_and_no_limits_are_not_counted():
    counted = rates(messages_per_minute=1, connections_per_minute=1)
    for client in ("127.0.0.1", "unix"):
        for _ in range(5):
            counted.message(client, LOGIN)
            with counted.session(client):
                pass
    unlimited = rates(messages_per_minute=0)
    for _ in range(5):
        unlimited.message("192.0.2.1", "")
