"""Ways round the guard, and into others' accounts, that must not be there."""

import asyncio
from dataclasses import replace

import pytest
from tests.unit.services.test_login import ALICE, PEER, account, converse, login_for, run

from posthouse.base.clock import FakeClock
from posthouse.base.errors import TryLater
from posthouse.config.settings import Auth
from posthouse.config.settings import Guard as Limits
from posthouse.protocols.sasl import client
from posthouse.protocols.sasl.steps import Challenge, Failure, Success
from posthouse.services.guard import MAX_DELAYED, Guard
from posthouse.services.login import Login


def guarded(tmp_path, *, block_after: int = 3, **options: object) -> Login:
    clock = FakeClock()
    limits = Limits(block_after=block_after, exempt_networks=())
    guard = Guard(f"{tmp_path}/guard.db", limits, secret=b"k" * 32, clock=clock)
    return login_for(account(clear="secret"), guard=guard, clock=clock, **options)[0]


def test_of_many_guesses_at_once_those_too_late_are_neither_right_nor_wrong(tmp_path):
    login = guarded(tmp_path, block_after=1000, failure_seconds=3600.0)

    async def attempts() -> list[object]:
        guesses = [f"wrong{number}" for number in range(5 * MAX_DELAYED)]
        waiting = {asyncio.ensure_future(converse(login, "CRAM-MD5", ALICE, each)) for each in guesses}
        answers: list[object] = []
        while len(waiting) > MAX_DELAYED:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            answers += [each.exception() or each.result() for each in done]
        with pytest.raises(TryLater):
            await converse(login, "CRAM-MD5", ALICE, "secret")
        for each in waiting:
            each.cancel()
        return answers

    answers = run(login, attempts())
    assert isinstance(answers, list)
    assert all(isinstance(each, TryLater) for each in answers), answers


@pytest.mark.parametrize("name", ["SCRAM-SHA-256", "SCRAM-SHA-1"])
def test_exchange_that_began_before_its_address_was_shut_out_ends_without_an_answer(tmp_path, name: str):
    login = guarded(tmp_path)

    async def attempts() -> None:
        exchange, ours = login.start(name, PEER), client.mechanism(name, ALICE, "secret", nonce=b"c" * 18)
        assert exchange is not None
        assert ours is not None
        first = await login.authenticate(exchange, exchange.step(ours.initial()), PEER)
        assert isinstance(first, Challenge)
        for number in range(3):
            assert isinstance(await converse(login, name, ALICE, f"wrong{number}"), Failure)
        with pytest.raises(TryLater, match="shut out"):
            await login.authenticate(exchange, exchange.step(ours.respond(first.data)), PEER)

    run(login, attempts())


def test_right_password_still_logs_in(tmp_path):
    login = guarded(tmp_path)
    assert run(login, converse(login, "SCRAM-SHA-256", ALICE, "secret")) == Success(ALICE)


def test_tokens_of_nobody_shut_out_nobody_elsewhere(tmp_path):
    """OAUTHBEARER need not say whose the token is: all who don't are no account that could be shut out."""
    guard = Guard(f"{tmp_path}/guard.db", Limits(block_after=3, exempt_networks=()), secret=b"k" * 32)

    async def attempts() -> None:
        try:
            for number in range(100):
                await guard.failed(f"192.0.{number}.1", "", f"token{number}")
            await guard.admit("198.51.100.1", "")
            assert await guard.failed("198.51.100.1", "", "old") == 1
        finally:
            await guard.close()

    asyncio.run(attempts())


class Tokens:
    """An issuer whom everybody in the world may have an account with."""

    async def check(self, token: str, login: str) -> str | None:
        return login or f"{token}@elsewhere.test"

    async def close(self) -> None: ...


@pytest.mark.parametrize("protocol", ["smtp", "imap"])
def test_token_of_somebody_who_has_no_account_here_sends_no_mail(protocol: str):
    """An issuer's users need not be ours: with a public one they are everybody, and we would relay for them."""
    login, _ = login_for(account(clear="secret"), settings=Auth(mechanisms=("OAUTHBEARER",)), tokens=Tokens())
    peer = replace(PEER, protocol=protocol)

    async def attempt() -> object:
        exchange = login.start("OAUTHBEARER", peer)
        assert exchange is not None
        response = b"n,,\1auth=Bearer eve\1\1"
        assert isinstance(await login.authenticate(exchange, exchange.step(response), peer), Challenge)
        return await login.authenticate(exchange, exchange.step(b"\1"), peer)

    assert isinstance(run(login, attempt()), Failure)


def test_directory_is_not_asked_about_names_that_no_account_has():
    """It remembers whom there isn't: 20,000 names of 64 KB, as IMAP's LOGIN takes them, would be a gigabyte."""
    login, accounts = login_for(account(clear="secret"))
    accounts.is_down = True  # so that asking is TryLater
    assert run(login, login.verify("x" * 60_000 + "@example.test", "secret", PEER)) is None
