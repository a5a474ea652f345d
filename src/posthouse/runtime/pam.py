"""The process that asks PAM whether a Unix user's password is right.

Modules need root, and block, leak and crash; so none of them runs in a process that serves mail, nor in this one: it
forks for each question (``forkserver``).

Invariants:
  1. Passwords are only ever in a fork's memory, and gone with it.
  2. Root, and users below ``minimum_uid``, are refused before any module hears of them.
"""

import os
import pwd
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from posthouse.runtime import privileges
from posthouse.runtime.forkserver import ForkServer
from posthouse.runtime.libpam import LibPam, PamError
from posthouse.runtime.log import log
from posthouse.runtime.privileges import Identity

MODULE_SECONDS = 10.0
MAX_AT_ONCE = 16
MAX_QUESTION = 4096
USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
"""A Unix user's name, as adduser(8) would have it."""

YES, NO, TROUBLE = b"yes", b"no", b"trouble "
_LENGTH = struct.Struct("!H")


def question(user: str, password: bytes, address: str) -> bytes:
    """What is sent to the process; it answers ``YES``, ``NO`` or ``TROUBLE`` and a reason, then closes.

    Raises ``ValueError`` for what no question can hold: no user is called that, or has that password.
    """
    fields = (user.encode(), password, address.encode())
    if any(b"\0" in each for each in fields) or sum(map(len, fields)) > MAX_QUESTION - 2:
        raise ValueError("a NUL, or too long")
    content = b"\0".join(fields)
    return _LENGTH.pack(len(content)) + content


@dataclass(slots=True)
class PamProcess:
    """Answers on the Unix socket ``path`` until SIGTERM. Its files are made as ``identity`` (None: as we are)."""

    path: str
    service: str
    minimum_uid: int
    identity: Identity | None = None
    module_seconds: float = MODULE_SECONDS
    max_at_once: int = MAX_AT_ONCE
    _pam: LibPam = field(default_factory=LibPam, init=False)

    def run(self, ready: Callable[[], None]) -> None:
        """Raises ``OSError`` when the socket can't be made."""
        self._warn()
        ForkServer(
            "pam",
            "pam-module-crashed",
            self.path,
            self._answer,
            self.module_seconds,
            self.max_at_once,
            self.identity,
            {"service": self.service},
        ).run(ready)

    def _warn(self) -> None:
        if os.geteuid() != 0:
            log.warning("pam-without-root", reason="most modules check only our own password then: start as root")
        if service_file(self.service) is None:
            reason = "there is no such file in /etc/pam.d, so PAM goes by the service 'other'"
            log.warning("pam-service-missing", service=self.service, reason=reason)

    def _answer(self, connection: socket.socket) -> None:
        privileges.leave_no_core()  # a module that crashes would write the password to disk
        answer = self._ask(_receive(connection))
        connection.sendall(_LENGTH.pack(len(answer)) + answer)

    def _ask(self, content: bytes) -> bytes:
        """The answer to a question."""
        parts = content.split(b"\0")
        if len(parts) != 3:
            return TROUBLE + b"not a question"
        user, password, address = parts
        if not self._may_be_asked(user):
            return NO
        try:
            return YES if self._pam.check(self.service, user, password, address) else NO
        except PamError as error:
            return TROUBLE + str(error).encode()

    def _may_be_asked(self, user: bytes) -> bool:
        name = user.decode(errors="replace")
        if not USER.fullmatch(name):
            return False
        try:
            uid = pwd.getpwnam(name).pw_uid
        except KeyError:
            return False
        return uid >= max(1, self.minimum_uid)


def service_file(service: str) -> str | None:
    """Where PAM has this service, or None: then it takes the service ``other`` (pam.conf(5))."""
    places = (f"/etc/pam.d/{service}", f"/usr/lib/pam.d/{service}", f"/usr/share/pam.d/{service}")
    return next(filter(os.path.exists, places), None)


def _receive(connection: socket.socket) -> bytes:
    """The question. Raises ``OSError``."""
    data = b""
    while len(data) < 2 or len(data) < 2 + _LENGTH.unpack_from(data)[0]:
        received = connection.recv(MAX_QUESTION + 3)
        if not received or len(data) > MAX_QUESTION + 2:
            raise ConnectionAbortedError("no whole question")
        data += received
    return data[2:]
