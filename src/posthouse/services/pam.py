"""This host's Unix users, through the process that asks PAM (``runtime.pam``).

``user``, ``user@HOSTNAME`` and ``user@localhost`` are theirs, and nobody's at any hosted domain.
"""

import asyncio

from posthouse.base.errors import TryLater
from posthouse.message.address import split
from posthouse.protocols.sasl.peer import Peer
from posthouse.runtime.pam import MODULE_SECONDS, NO, TROUBLE, USER, YES, question

ANSWER_SECONDS = MODULE_SECONDS + 2.0
_MAX_ANSWER = 4096


class PamSource:
    """A ``PasswordSource``. ``path``: the socket of the process that asks PAM."""

    name = "pam"

    def __init__(self, path: str, hostname: str, *, seconds: float = ANSWER_SECONDS) -> None:
        self._path = path
        self._hostname = hostname.lower()
        self._seconds = seconds

    async def check(self, login: str, password: str, peer: Peer) -> str | None:
        """``user@HOSTNAME`` where the password is this Unix user's, or None. Raises ``TryLater``."""
        user = self._user(login)
        if user is None or not password:
            return None
        try:
            asked = question(user, password.encode(), peer.address if peer.address != "unix" else "")
        except ValueError:  # UnicodeEncodeError is one: octets that were no UTF-8
            return None
        answer = await self._ask(asked)
        if answer == YES:
            return f"{user}@{self._hostname}"
        if answer == NO:
            return None
        raise TryLater(f"PAM: {answer.removeprefix(TROUBLE).decode(errors='replace')}")

    async def close(self) -> None:
        """Nothing is kept open."""

    def _user(self, login: str) -> str | None:
        """The Unix user whom the login means."""
        local, domain = split(login.lower())
        if ("@" in login and domain not in (self._hostname, "localhost")) or not USER.fullmatch(local):
            return None
        return local

    async def _ask(self, asked: bytes) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                reader, writer = await asyncio.open_unix_connection(self._path, limit=_MAX_ANSWER)
                try:
                    writer.write(asked)
                    length = int.from_bytes(await reader.readexactly(2), "big")
                    return await reader.readexactly(length)
                finally:
                    writer.close()
        except TimeoutError:
            raise TryLater(f"PAM: no answer within {self._seconds:g} s; is a module waiting for a server?") from None
        except asyncio.IncompleteReadError:
            raise TryLater("PAM: a module crashed or took too long; see pam-module-crashed or pam-timeout") from None
        except OSError as error:
            raise TryLater(f"PAM: the process that asks it is not there: {self._path}: {error.strerror}") from None
