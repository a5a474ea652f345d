"""The process that delivers as other Unix users: into programs, files and Unix users' Maildirs.

The processes that serve mail have given up root; this one keeps it, if that is who we are, and does nothing else.

Invariants:
  1. Who asks says what, never as whom: that is in the configuration, or is the Unix user whose mail it is.
  2. Nothing is ever run or written as root; a user from a table has at least ``mail.minimum_uid``.
  3. A message that could not be read to its end is never taken for a whole one.
"""

import contextlib
import os
import pwd
import re
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from posthouse.base.errors import TryLater
from posthouse.config.settings import Settings
from posthouse.config.transports import MACRO, Transport
from posthouse.message.mboxlines import quoted, with_lf
from posthouse.runtime import child
from posthouse.runtime.child import Ended
from posthouse.runtime.forkserver import ForkServer
from posthouse.runtime.log import log
from posthouse.runtime.privileges import Identity
from posthouse.services.handover import LENGTH_OCTETS, MAX_JOB, Answer, Job, decode_job, encode
from posthouse.store import mbox

MAX_AT_ONCE = 100
PATH = "/usr/local/bin:/usr/bin:/bin"
EX_USAGE, EX_TEMPFAIL = 64, 75
_PLAIN_COMMAND = re.compile(r"[A-Za-z0-9_./,:=@%+ \t-]+")
_CHUNK = 65_536


class _NotDone(Exception):
    """Why nothing is begun: ours to mend."""


@dataclass(slots=True)
class DeliveryProcess:
    """Delivers what it is asked on the Unix socket ``path`` until SIGTERM."""

    settings: Settings
    path: str
    identity: Identity | None = None
    _mark: bytes = field(default=b"", init=False)

    def run(self, ready: Callable[[], None]) -> None:
        """Raises ``OSError`` when the socket can't be made."""
        seconds = max(
            self.settings.local.timeout_seconds,
            *(transport.timeout_seconds for transport in self.settings.transports.values()),
        )
        ForkServer(
            "delivery", "delivery-crashed", self.path, self._answer, seconds + 60.0, MAX_AT_ONCE, self.identity
        ).run(ready)

    def _answer(self, connection: socket.socket) -> None:
        job, message = _receive(connection)
        self._mark = os.urandom(16)
        try:
            answer = self._deliver(job, message, connection.fileno())
        except _NotDone as error:
            answer = Answer(trouble=str(error))
        except OSError as error:
            log.error("delivery-failed", target=job.target, reason=str(error))
            answer = Answer(trouble=f"{job.target}: {error}")
        connection.sendall(encode(answer))

    def _deliver(self, job: Job, message: int, waiting: int) -> Answer:
        if not job.target.strip():
            raise _NotDone("an alias has an empty command")
        user, seconds = self._user(job), float(self.settings.local.timeout_seconds)
        chunks = with_lf(_chunks(message, job.size))
        match job.kind:
            case "pipe":
                transport = self.settings.transports[job.target]
                seconds = float(transport.timeout_seconds)
                arguments = expanded(transport, job.values)
                if arguments is None:
                    return Answer(EX_USAGE, "5.1.3 An address that begins with - is taken for an option")
                work = _program(arguments, _environment(user), "/")
                source = _with_prefix(job.prefix, chunks)
            case "command":
                names = {name: _shell_safe(value) for name, value in job.values.items()}
                work = _program(command_line(job.target), _environment(user) | names, user.pw_dir)
                source = _with_prefix(job.prefix, chunks)
            case "file":
                work, source = self._writing(job, job.target), self._marked(chunks)
            case "user":
                work, source = self._writing(job, f"{user.pw_dir}/Maildir/"), self._marked(chunks)
        identity = Identity(user.pw_name, user.pw_uid, user.pw_gid) if os.geteuid() == 0 else None
        ended = child.run(work, source, identity=identity, seconds=seconds, abandoned_when=waiting)
        return _told(job, user, ended)

    def _user(self, job: Job) -> pwd.struct_passwd:
        """As whom; raises ``_NotDone``."""
        local = self.settings.local
        if job.kind == "pipe":
            transport = self.settings.transports.get(job.target)
            if transport is None:
                raise _NotDone(f"transport {job.target}: is not defined: [transports.{job.target}]")
            name, source = transport.user, f"[transports.{job.target}] user"
        elif job.kind == "user":
            if not local.unix_users:
                raise _NotDone("[local] unix_users is false")
            name, source = job.target, "the address"
        else:
            if not local.run_as:
                raise _NotDone("[local] run_as says as whom files and commands are used, and is empty")
            name, source = local.run_as, "[local] run_as"
        try:
            user = pwd.getpwnam(name)
        except (KeyError, ValueError):
            raise _NotDone(f"{source} is {name!r}, and this system has no such user") from None
        least = max(1, self.settings.mail.minimum_uid) if job.kind == "user" else 1
        if user.pw_uid < least or user.pw_gid == 0:
            raise _NotDone(f"{source} is {name!r}, whose uid {user.pw_uid} or gid {user.pw_gid} is too low")
        if os.geteuid() not in (0, user.pw_uid):
            raise _NotDone(f"{source} is {name!r}: without root, only what runs as ourselves is delivered")
        return user

    def _marked(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield from chunks
        yield self._mark

    def _whole(self) -> Iterator[bytes]:
        """What ``_marked`` sent, to its mark: an end without it is that of who sent."""
        held = b""
        while chunk := os.read(0, _CHUNK):
            data = held + chunk
            held = data[-len(self._mark) :]
            yield data[: -len(self._mark)]
        if held != self._mark:
            raise OSError("the message broke off")

    def _writing(self, job: Job, path: str) -> Callable[[], int]:
        def work() -> int:
            try:
                if path.endswith("/"):
                    mbox.drop(path, _with_prefix(job.prefix, self._whole()), self.settings.hostname)
                elif path == os.devnull:
                    for _ in self._whole():
                        pass
                else:
                    mbox.append(path, _with_prefix(job.prefix, quoted(self._whole())))
            except (OSError, TryLater) as error:
                reason = error.reason if isinstance(error, TryLater) else str(error)
                print(reason, file=sys.stdout, flush=True)
                return EX_TEMPFAIL
            return 0

        return work


def expanded(transport: Transport, values: dict[str, str]) -> list[str] | None:
    """The arguments of a pipe; None where a value would be taken for an option."""
    arguments: list[str] = []
    for element in transport.argv:
        parts = [MACRO.sub(lambda m: values[m[1] or m[2] or m[3]], part) for part in element.split("$$")]
        argument = "$".join(parts)
        if argument.startswith("-") and not element.startswith("-"):
            return None
        arguments.append(argument)
    return arguments


def command_line(command: str) -> list[str]:
    """The words of a command, or a shell with it where it says anything that only a shell understands."""
    if _PLAIN_COMMAND.fullmatch(command) and "=" not in command.split(maxsplit=1)[0]:
        return command.split()
    return ["/bin/sh", "-c", command]


def _program(arguments: list[str], environment: dict[str, str], directory: str) -> Callable[[], int]:
    def work() -> int:
        try:
            os.chdir(directory)
        except OSError:
            os.chdir("/")
        try:
            os.execvpe(arguments[0], arguments, environment)  # noqa: S606 (without a shell is what is wanted)
        except OSError as error:
            raise OSError(f"{arguments[0]} cannot be run: {error.strerror}") from None

    return work


def _environment(user: pwd.struct_passwd) -> dict[str, str]:
    return {
        "PATH": PATH,
        "HOME": user.pw_dir,
        "LOGNAME": user.pw_name,
        "USER": user.pw_name,
        "SHELL": "/bin/sh",
    }


def _shell_safe(value: str) -> str:
    """What a shell takes literally even where a script forgot the quotes, as local(8) does it."""
    return re.sub(r"[^A-Za-z0-9!@%_=+:,./-]", "_", value)


def _with_prefix(prefix: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield prefix
    yield from chunks


def _chunks(message: int, size: int) -> Iterator[bytes]:
    left = size
    while left > 0:
        chunk = os.read(message, min(_CHUNK, left))
        if not chunk:
            raise OSError(f"the queued message has {left} octets less than it should")
        left -= len(chunk)
        yield chunk


def _told(job: Job, user: pwd.struct_passwd, ended: Ended) -> Answer:
    lines = [line for line in ended.output.decode(errors="replace").splitlines() if line.strip()]
    if ended.code or ended.timed_out:
        how = "took too long" if ended.timed_out else f"exit code {ended.code}"
        if ended.abandoned:
            how = "nobody waits for it any more"
        log.warning(
            "delivery-not-done", kind=job.kind, target=job.target, user=user.pw_name, how=how, said=lines[-1:]
        )
    return Answer(ended.code, lines[-1] if lines else "", ended.timed_out)


def _receive(connection: socket.socket) -> tuple[Job, int]:
    """The job, and the message's file. Raises ``OSError``."""
    data, descriptors, _, _ = socket.recv_fds(connection, MAX_JOB, 1)
    if len(descriptors) != 1:
        raise ConnectionAbortedError("no message came with the job")
    while len(data) < LENGTH_OCTETS or len(data) < LENGTH_OCTETS + _length(data):
        part = connection.recv(MAX_JOB)
        if not part or len(data) > MAX_JOB:
            raise ConnectionAbortedError("no whole job")
        data += part
    with contextlib.suppress(ValueError):
        return decode_job(data[LENGTH_OCTETS:]), descriptors[0]
    raise ConnectionAbortedError("not a job")


def _length(data: bytes) -> int:
    return int.from_bytes(data[:LENGTH_OCTETS], "big")
