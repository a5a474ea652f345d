"""Asking the process that asks PAM; here a stand-in answers, tests/interop has the real one."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from posthouse.base.errors import TryLater
from posthouse.protocols.sasl.peer import Peer
from posthouse.runtime.pam import question
from posthouse.services.pam import PamSource

PEER = Peer("imap", "192.0.2.1", is_tls=True)


@asynccontextmanager
async def answering(path, answer):
    """Whoever asks gets this answer; what they asked."""
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.read(10_000))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield asked


def check(tmp_path, login, password="secret", answer=b"\0\3yes", seconds=30.0):
    """What the source says, and what it asked."""

    async def run():
        path = str(tmp_path / "pam.sock")
        async with answering(path, answer) as asked:
            source = PamSource(path, "Mail.Example.test", seconds=seconds)
            return await source.check(login, password, PEER), asked

    return asyncio.run(run())


@pytest.mark.parametrize("login", ["joe", "Joe", "joe@mail.example.test", "joe@MAIL.example.test", "joe@localhost"])
def test_a_unix_user_has_these_names(tmp_path, login):
    account, asked = check(tmp_path, login)
    assert account == "joe@mail.example.test"
    assert asked == [question("joe", b"secret", "192.0.2.1")]


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("joe@example.test", "secret"),  # another's, if anybody's
        ("joe@", "secret"),
        ("joe@mail.example.test@localhost", "secret"),
        ("../joe", "secret"),
        ("joe\n", "secret"),
        ("-joe", "secret"),
        ("", "secret"),
        ("joe" * 20, "secret"),
        ("joe", ""),
        ("joe", "se\0cret"),
        ("joe", "\udcff"),
        ("joe", "x" * 5000),
    ],
)
def test_nobody_is_asked_about_what_no_unix_user_has(tmp_path, login, password):
    assert check(tmp_path, login, password) == (None, [])


def test_no_is_no(tmp_path):
    assert check(tmp_path, "joe", answer=b"\0\2no")[0] is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "a module crashed"),
        (b"\0\3ye", "a module crashed"),
        (b"\0\x0ctrouble here", "PAM: here"),
        (b"\0\4yes!", "PAM: yes!"),
    ],
)
def test_whatever_is_no_answer_is_trouble(tmp_path, answer, reason):
    with pytest.raises(TryLater, match=reason):
        check(tmp_path, "joe", answer=answer)


def test_a_process_that_is_not_there_or_silent_is_trouble(tmp_path):
    path = str(tmp_path / "pam.sock")
    with pytest.raises(TryLater, match="is not there"):
        asyncio.run(PamSource(path, "h").check("joe", "secret", PEER))

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        with pytest.raises(TryLater, match="no answer"):
            asyncio.run(PamSource(path, "h", seconds=0.01).check("joe", "secret", PEER))
