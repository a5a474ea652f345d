"""Connections to one server: who waits for one, and how long. The server is one that answers when it is told to."""

import asyncio
from typing import Any

import pytest

from posthouse.directory import pool
from posthouse.directory.failures import Full
from posthouse.directory.pool import Server


class Connection:
    """Answers once ``answer`` is set."""

    is_usable = True
    is_cancelling = False

    def __init__(self, answer: asyncio.Event) -> None:
        self.answer = answer

    async def query(self, sql, parameters=()):
        await self.answer.wait()
        return [(sql,)]

    def abort(self) -> None:
        self.is_usable = False


class World:
    """A server that takes connections always."""

    def __init__(self, most: int) -> None:
        self.made = list[Connection]()
        self.answer = asyncio.Event()
        self.server = Server("db", self.connect, most, on_doubt=lambda: None, on_change=lambda: None)

    async def connect(self) -> Any:
        self.made.append(Connection(self.answer))
        return self.made[-1]


def test_who_waits_for_a_connection_is_told_after_a_while_and_the_next_is_served_again(monkeypatch):
    async def body():
        world = World(2)
        held = [await world.server.acquire() for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(pool, "WAIT_SECONDS", 0.001)
            with pytest.raises(Full, match="2 connections have been in use"):
                await world.server.acquire()
        assert world.server.state == "up"
        waiting = asyncio.create_task(world.server.acquire())
        world.server.release(held[0], is_sound=True)
        assert await waiting is held[0]
        assert len(world.made) == 2

    asyncio.run(body())


def test_behind_hundreds_of_others_nobody_waits(monkeypatch):
    async def body():
        monkeypatch.setattr(pool, "MOST_WAITING", 3)
        world = World(1)
        held = await world.server.acquire()
        waiting = [asyncio.create_task(world.server.query("SELECT 1", ())) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Full, match="3 others wait"):
            await world.server.query("SELECT 1", ())
        # Who gives up waiting leaves the place to somebody else.
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        waiting[0] = asyncio.create_task(world.server.query("SELECT 1", ()))
        world.answer.set()
        world.server.release(held, is_sound=True)
        assert await asyncio.gather(*waiting) == [[("SELECT 1",)]] * 3

    asyncio.run(body())


def test_a_server_that_is_full_of_our_own_connections_is_not_down():
    """They may all be back by the time that it says so."""

    async def body():
        world = World(2)
        world.answer.set()
        held, said = await world.server.acquire(), asyncio.Event()

        async def full() -> Any:
            await said.wait()
            raise Full("too many")

        world.server._connect = full
        waiting = asyncio.create_task(world.server.acquire())
        await asyncio.sleep(0)
        world.server.release(held, is_sound=True)
        said.set()
        assert await waiting is held
        assert world.server.state == "up"

    asyncio.run(body())
