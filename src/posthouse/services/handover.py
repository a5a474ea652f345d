"""Handing mail to the process that delivers as other Unix users (``services.deliveryprocess``).

A job goes there with the descriptor of the message's file; the answer says how it ended. Nobody there believes that
a job's user is right: it says what to do, and the configuration says as whom.
"""

import asyncio
import contextlib
import re
import socket
from typing import Literal

import msgspec

from posthouse.base.errors import Reply, TryLater
from posthouse.mailqueue.courier import Deferred, Delivered, Failed, Outcome
from posthouse.mailqueue.spool import QueuedMessage

MAX_JOB = 262_144
MAX_ANSWER = 65_536
LENGTH_OCTETS = 4


class Job(msgspec.Struct, frozen=True):
    """``target``: the transport's name, the file, the command, the user. ``size`` in octets, as in the queue.

    ``prefix`` goes in front, with LF; ``values`` are what macros or the environment stand for.
    """

    kind: Literal["pipe", "file", "command", "user"]
    target: str
    size: int
    prefix: bytes
    values: dict[str, str]


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """How it ended: an exit code of sysexits.h or minus the signal, the last line printed; or why it wasn't begun."""

    code: int = 0
    line: str = ""
    timed_out: bool = False
    trouble: str = ""


encode = msgspec.json.Encoder().encode
decode_job = msgspec.json.Decoder(Job).decode
_decode_answer = msgspec.json.Decoder(Answer).decode


class Handover:
    """The way to that process. ``path``: its socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def deliver(self, message: QueuedMessage, job: Job) -> Outcome:
        """What came of it. When cancelled, what runs is killed. Raises ``TryLater``."""
        data = encode(job)
        if len(data) > MAX_JOB:
            raise TryLater(f"the values for {job.target[:80]} are too long")
        try:
            file = await asyncio.to_thread(message.open)
        except OSError as error:
            raise TryLater(f"cannot read the queued message: {error}") from error
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with file:
                connection.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(connection, self._path)
                head = len(data).to_bytes(LENGTH_OCTETS, "big")
                sent = socket.send_fds(connection, [head], [file.fileno()])
                await loop.sock_sendall(connection, head[sent:] + data)
            answer = await _answer(connection)
        except OSError as error:
            raise TryLater(f"the process that delivers is not there: {self._path}: {error}") from error
        finally:
            connection.close()
        return outcome(answer, job)


async def _answer(connection: socket.socket) -> Answer:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < MAX_ANSWER and (part := await loop.sock_recv(connection, 4096)):
        data += part
    with contextlib.suppress(msgspec.MsgspecError):
        return _decode_answer(data)
    raise TryLater("the process that delivers gave no answer; see delivery-failed or delivery-crashed in the log")


_STATUS = re.compile(r"([45]\.\d{1,3}\.\d{1,3})\s+", re.ASCII)
_LATER = {71: "4.3.0", 72: "4.3.0", 73: "4.2.0", 74: "4.3.0", 75: "4.3.0", 78: "4.3.5", 126: "4.3.5", 127: "4.3.5"}
_NEVER = {65: "5.6.0", 67: "5.1.1", 68: "5.1.2", 76: "5.5.0", 77: "5.7.0"}
"""Exit codes of sysexits.h, and a shell's for what it cannot run, with the statuses (RFC 3463) that fit."""
_UNPRINTABLE = re.compile(r"[^ -~]+")


def outcome(answer: Answer, job: Job) -> Outcome:
    """What an exit code means, as Postfix's pipe(8) and local(8) have it. Raises ``TryLater``."""
    if answer.trouble:
        raise TryLater(answer.trouble, Reply(451, "4.3.5", "Local delivery is not possible at the moment"))
    what = {"pipe": f"transport {job.target}", "file": "file", "command": "command", "user": "Maildir"}[job.kind]
    if answer.timed_out:
        return Deferred(Reply(451, "4.3.0", f"The {what} took too long"))
    if answer.code == 0:
        return Delivered(Reply(250, "2.0.0", f"Delivered to the {what}"))
    line = _UNPRINTABLE.sub("?", answer.line.strip())[:300]
    said = _STATUS.match(line)
    status = _LATER.get(answer.code) or ("4.3.0" if answer.code < 0 or answer.code > 128 else "")
    how = f"exit code {answer.code}" if answer.code > 0 else f"signal {-answer.code}"
    if said:
        status, line = said[1] if said[1][0] == "4" else "", line[said.end() :]
    text = f"The {what} failed ({how})" + f": {line}" * bool(line)
    if status:
        return Deferred(Reply(451, status, text))
    return Failed(Reply(550, said[1] if said else _NEVER.get(answer.code, "5.3.0"), text))
