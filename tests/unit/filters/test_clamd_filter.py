"""Asking clamd: daemons that answer, refuse, break off and hang."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import pytest

from posthouse.base.clock import SystemClock
from posthouse.config.endpoints import Endpoint, parse_endpoint
from posthouse.filters.clamd import ClamdFilter
from posthouse.filters.filter import FilterTrouble, Mail
from posthouse.filters.verdict import Action
from posthouse.journal.content import Content

FOUND = b"stream: Test-Virus FOUND\0"


class Daemon:
    """Speaks clamd's side on a Unix socket. ``limit``: how much it reads of a message before it answers."""

    def __init__(self, answer: bytes, *, limit: int | None = None, hangs: bool = False) -> None:
        self.answer, self.limit, self.hangs = answer, limit, hangs
        self.messages: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            assert await reader.readexactly(10) == b"zINSTREAM\0"
            message = b""
            while size := struct.unpack("!I", await reader.readexactly(4))[0]:
                message += await reader.readexactly(size)
                if self.limit is not None and len(message) > self.limit:
                    break
            self.messages.append(message)
            if self.hangs:
                await reader.read()
            writer.write(self.answer)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def daemons(tmp_path, *those: Daemon) -> AsyncIterator[list[Endpoint]]:
    async with contextlib.AsyncExitStack() as stack:
        places = []
        for number, one in enumerate(those):
            path = str(tmp_path / f"clamd{number}")
            await stack.enter_async_context(await asyncio.start_unix_server(one.serve, path))
            places.append(parse_endpoint(f"unix:{path}"))
        yield places


def mail(data: bytes) -> Mail:
    return Mail(Content.of(data), "trace", "", ())


def test_all_of_a_message_is_sent_and_a_virus_has_its_name(tmp_path):
    async def main():
        daemon = Daemon(FOUND)
        async with daemons(tmp_path, daemon) as places:
            verdict = await ClamdFilter("av", places, 30, SystemClock()).judge(mail(b"x" * 200_000))
        assert daemon.messages == [b"x" * 200_000]
        assert (verdict.action, verdict.viruses) == (Action.REJECT, ("Test-Virus",))

    asyncio.run(main())


def test_over_tcp_as_well(tmp_path):
    async def main():
        server = await asyncio.start_server(Daemon(b"stream: OK\0").serve, "127.0.0.1", 0)
        async with server:
            place = Endpoint(*server.sockets[0].getsockname())
            verdict = await ClamdFilter("av", [place], 30, SystemClock()).judge(mail(b"x"))
        assert verdict.action == Action.ACCEPT

    asyncio.run(main())


BAD = {"closes": Daemon(b""), "lies": Daemon(b"nonsense\0"), "breaks off": Daemon(b"", limit=1000)}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_the_next_daemon_gets_all_of_it_and_the_bad_one_is_left_alone_for_a_while(tmp_path, bad):
    async def main():
        good = Daemon(FOUND)
        async with daemons(tmp_path, bad, good) as places:
            away = parse_endpoint(f"unix:{tmp_path}/nobody")
            one = ClamdFilter("av", [away, *places], 30, SystemClock())
            for _ in range(3):
                assert (await one.judge(mail(b"y" * 300_000))).viruses == ("Test-Virus",)
        assert good.messages == [b"y" * 300_000] * 3
        assert len(bad.messages) == 1

    asyncio.run(main())


def test_a_daemon_that_hangs_has_its_share_of_the_time(tmp_path):
    async def main():
        async with daemons(tmp_path, Daemon(b"", hangs=True), Daemon(FOUND)) as places:
            verdict = await ClamdFilter("av", places, 0.5, SystemClock()).judge(mail(b"z"))
        assert verdict.viruses == ("Test-Virus",)

    asyncio.run(main())


def test_what_is_too_large_for_clamd_is_said_to_be_unscanned(tmp_path):
    async def main():
        async with daemons(tmp_path, Daemon(b"INSTREAM size limit exceeded. ERROR\0", limit=1000)) as places:
            verdict = await ClamdFilter("av", places, 30, SystemClock()).judge(mail(b"x" * 2_000_000))
        assert [one.kind for one in verdict.findings] == ["unscanned"]

    asyncio.run(main())


def test_where_no_daemon_answers_each_one_s_trouble_is_told(tmp_path):
    async def main():
        async with daemons(tmp_path, Daemon(b"stream: Can't allocate memory ERROR\0")) as places:
            away = parse_endpoint(f"unix:{tmp_path}/nobody")
            with pytest.raises(FilterTrouble, match=r"nobody: No such file.*clamd0: it said .*allocate"):
                await ClamdFilter("av", [away, *places], 30, SystemClock()).judge(mail(b"x"))

    asyncio.run(main())
