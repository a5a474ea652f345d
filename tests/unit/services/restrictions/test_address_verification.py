"""What is remembered of addresses, for how long, and who asks when."""

import asyncio

import pytest

from posthouse.base.clock import FakeClock
from posthouse.base.errors import Reply
from posthouse.config.reception import Verify
from posthouse.services.restrictions.verification import Verification

GOOD, BAD, LATER = Reply(250, "2.1.5", "Ok"), Reply(550, "5.1.1", "No such user"), Reply(451, "4.7.1", "Greylisted")


class NothingIsOurs:
    """A directory that hosts no domain."""

    async def is_hosted(self, _: str) -> bool:
        return False


class Servers:
    """Everybody else's servers: says ``reply``, once ``gate`` is open."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self, address: str) -> Reply:
        self.asked.append(address)
        await self.gate.wait()
        return self.reply

    async def close(self) -> None:
        pass


@pytest.fixture
def verifying(tmp_path):
    """``verifying(reply, scenario)`` runs ``scenario(verification, servers, clock)``."""

    def run(reply, scenario, wait_seconds=5):
        async def body():
            servers, clock = Servers(reply), FakeClock()
            settings = Verify(wait_seconds=wait_seconds)
            verification = Verification(NothingIsOurs(), str(tmp_path / "verify.db"), settings, servers, clock)
            try:
                await scenario(verification, servers, clock)
            finally:
                servers.gate.set()
                await verification.close()

        asyncio.run(body())

    return run


def test_a_good_address_is_asked_for_once_and_again_after_a_week_while_it_still_counts(verifying):
    async def scenario(verification, servers, clock):
        for address in ("A@x.test", "a@X.test"):
            assert (await verification.verdict(address)).is_good
        assert servers.asked == ["A@x.test"]
        clock.advance(8 * 86_400)
        servers.reply = BAD
        assert (await verification.verdict("a@x.test")).is_good
        await asyncio.gather(*verification._probes.values())
        assert (await verification.verdict("a@x.test")).is_good is False
        assert len(servers.asked) == 2

    verifying(GOOD, scenario)


def test_a_bad_address_is_forgotten_after_three_days(verifying):
    async def scenario(verification, servers, clock):
        found = await verification.verdict("a@x.test")
        assert (found.is_good, found.text) == (False, "its server said 550 5.1.1 No such user")
        clock.advance(4 * 86_400)
        servers.reply = GOOD
        assert (await verification.verdict("a@x.test")).is_good

    verifying(BAD, scenario)


def test_what_is_not_known_is_not_remembered(verifying):
    async def scenario(verification, servers, _):
        assert (await verification.verdict("a@x.test")).is_good is None
        assert (await verification.verdict("a@x.test")).is_good is None
        assert len(servers.asked) == 2

    verifying(LATER, scenario)


def test_who_asks_for_the_same_address_at_once_shares_one_probe(verifying):
    async def scenario(verification, servers, _):
        found = await asyncio.gather(*(verification.verdict("a@x.test") for _ in range(20)))
        assert all(one.is_good for one in found)
        assert len(servers.asked) == 1

    verifying(GOOD, scenario)


def test_nobody_waits_longer_than_was_said_and_the_answer_is_there_the_next_time(verifying):
    async def scenario(verification, servers, _):
        servers.gate.clear()
        found = await verification.verdict("a@x.test")
        assert (found.is_good, found.text) == (None, "Address verification in progress")
        servers.gate.set()
        await asyncio.gather(*verification._probes.values())
        assert (await verification.verdict("a@x.test")).is_good
        assert len(servers.asked) == 1

    verifying(GOOD, scenario, wait_seconds=0.01)


def test_an_explanation_leaves_nothing_behind(verifying):
    async def scenario(verification, servers, _):
        for _each in range(2):
            assert (await verification.verdict("a@x.test", remembers=False)).is_good
        assert len(servers.asked) == 2

    verifying(GOOD, scenario)
