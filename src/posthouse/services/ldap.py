"""Users of an LDAP directory: their password is right where the directory server lets them in with it.

Invariants:
  1. Only ``invalidCredentials`` for the user's own entry, or no such entry, is a no. All else is ``TryLater``.
  2. No password is sent in clear, but to this host itself (or where the operator says so), none that is empty.
  3. A login has an answer within ``SECONDS``, whatever the servers do; one that didn't answer is asked last for a
     while.
  4. What a user types is a value in names and filters, never a part of their syntax.
"""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import unquote

from posthouse.base.errors import TryLater
from posthouse.config.settings import Settings
from posthouse.message.address import lookup_key, parse_path, split
from posthouse.protocols.engine import NEED_DATA
from posthouse.protocols.ldap.client import Ended, LdapClient
from posthouse.protocols.ldap.filter import FilterError
from posthouse.protocols.ldap.messages import Entry, Reference, Result
from posthouse.protocols.ldap.names import fill_dn, fill_filter
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.prepare import prepare
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log

CONNECT_SECONDS = 2.0
SECONDS = 5.0
DOWN_SECONDS = 30.0
MAX_AT_ONCE = 16
PORTS = {"ldap": 389, "ldaps": 636}

# RFC 4511 appendix A.
_SUCCESS, _SIZE_LIMIT, _REFERRAL, _INVALID_CREDENTIALS = 0, 4, 10, 49
_AWAY = frozenset({51, 52})  # busy, unavailable


@dataclass(frozen=True, slots=True)
class Server:
    """One of ``ldap.urls``. ``path`` is the socket's of ``ldapi``, and then ``host`` is empty."""

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> "Server":
        """The server of a URL as ``config.checks`` lets it through."""
        scheme, _, rest = url.partition("://")
        if scheme == "ldapi":
            return cls(url, scheme, "", 0, unquote(rest))
        host, colon, port = rest.removesuffix("/").rpartition(":")
        if not colon or port.endswith("]"):
            host, port = rest.removesuffix("/"), ""
        return cls(url, scheme, host.strip("[]"), int(port or PORTS[scheme]), "")


class _AwayError(Exception):
    """This server doesn't answer; another one may."""


class LdapSource:
    """A ``PasswordSource``. ``is_local``: whether what is said to that host stays on this one."""

    name = "ldap"

    def __init__(
        self, settings: Settings, *, seconds: float = SECONDS, is_local: Callable[[str], bool] | None = None
    ) -> None:
        self._settings = settings
        self._ldap = settings.ldap
        self._servers = [Server.parse(url) for url in settings.ldap.urls]
        self._domains = frozenset(map(str.lower, settings.ldap.domains))
        self._seconds = seconds
        self._is_local = is_local or is_loopback
        self._down: dict[Server, float] = {}
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)
        self._tls: ssl.SSLContext | None = None

    async def check(self, login: str, password: str, peer: Peer) -> str | None:  # noqa: ARG002 - the face
        """The address that the login is, where the password is its entry's, or None. Raises ``TryLater``."""
        address = login if "@" in login else f"{login}@{self._settings.hostname}"
        try:
            account = lookup_key(parse_path(address, utf8=True))
            is_plain = lookup_key(address) == prepare(account) == account
            secret = password.encode()
        except ValueError:
            return None
        if not is_plain:
            # Every other spelling, with a route, quotes or characters that a server takes for the same, would be
            # another account to whoever counts guesses.
            return None
        local, domain = split(account)
        if not secret or (self._domains and domain not in self._domains):
            return None
        values = {"login": account, "local": local, "domain": domain}
        deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(deadline), self._at_once:
                return account if await self._ask_servers(values, secret, deadline) else None
        except TimeoutError:
            raise TryLater(f"LDAP: no answer within {self._seconds:g} s") from None

    async def close(self) -> None:
        """Nothing is kept open."""

    async def _ask_servers(self, values: dict[str, str], secret: bytes, deadline: float) -> bool:
        loop = asyncio.get_running_loop()
        troubles: list[str] = []
        order = sorted(self._servers, key=lambda server: self._down.get(server, 0.0) > loop.time())
        for left, server in zip(range(len(order) - 1, -1, -1), order, strict=True):
            try:
                async with asyncio.timeout_at(loop.time() + (deadline - loop.time()) / (1 + (left > 0))):
                    is_right = await self._ask(server, values, secret)
            except (OSError, _AwayError) as error:  # TimeoutError is one
                reason = "no answer" if isinstance(error, TimeoutError) else str(error)
                troubles.append(f"{server.url}: {reason}")
                if self._down.get(server, 0.0) <= loop.time():
                    log.warning("ldap-server-down", server=server.url, reason=reason, seconds=DOWN_SECONDS)
                    self._down[server] = loop.time() + DOWN_SECONDS
            else:
                self._down.pop(server, None)
                return is_right
        raise TryLater("LDAP: no server answers: " + "; ".join(troubles))

    async def _ask(self, server: Server, values: dict[str, str], secret: bytes) -> bool:
        """Raises ``_AwayError``, ``OSError`` where another server may be asked, ``TryLater`` where that is no use."""
        async with self._session(server) as session:
            if self._ldap.user_dn:
                dn = fill_dn(self._ldap.user_dn, values)
            else:
                found = await self._search(session, values)
                if found is None:
                    return False
                dn = found
            result = await session.ask(session.client.bind(dn, secret))
        if result.code == _INVALID_CREDENTIALS:
            return False
        _accept(result, f"{server.url}: bind as {dn}")
        return True

    async def _search(self, session: "_Session", values: dict[str, str]) -> str | None:
        """The name of the user's entry."""
        if self._ldap.bind_dn:
            result = await session.ask(session.client.bind(self._ldap.bind_dn, self._own_password()))
            _accept(result, f"bind as ldap.bind_dn, {self._ldap.bind_dn}")
        try:
            asked = session.client.search(self._ldap.base, fill_filter(self._ldap.filter, values), size_limit=2)
        except FilterError as error:
            raise TryLater(f"LDAP: ldap.filter: {error}") from None
        entries: list[str] = []
        elsewhere: list[str] = []
        result = await session.ask(asked, entries, elsewhere)
        if len(entries) > 1:
            raise TryLater(f"LDAP: ldap.filter matches several entries for {values['login']}: {', '.join(entries)}")
        if result.code != _SIZE_LIMIT:
            _accept(result, f"search below {self._ldap.base}")
        if elsewhere and not entries:
            raise TryLater(f"LDAP: {values['login']} may be at {elsewhere[0]}, which is not in ldap.urls")
        return entries[0] if entries and entries[0] else None

    def _own_password(self) -> bytes:
        path = self._settings.path(self._ldap.bind_password_file)
        try:
            with open(path, "rb") as file:
                password = file.read(4096).rstrip(b"\r\n")
        except OSError as error:
            raise TryLater(f"LDAP: ldap.bind_password_file: {path}: {error.strerror}") from None
        if not password:
            raise TryLater(f"LDAP: ldap.bind_password_file: {path} is empty")
        return password

    @asynccontextmanager
    async def _session(self, server: Server) -> AsyncIterator["_Session"]:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                session = await self._connect(server)
        except TimeoutError:
            raise _AwayError(f"no connection within {CONNECT_SECONDS:g} s") from None
        try:
            if server.scheme == "ldap" and self._ldap.starttls and not self._is_local(server.host):
                await session.start_tls(self._context(), server.host)
            yield session
        finally:
            session.close()

    async def _connect(self, server: Server) -> "_Session":
        loop = asyncio.get_running_loop()
        if server.path:
            _, connection = await loop.create_unix_connection(Connection, server.path)
        elif server.scheme == "ldaps":
            _, connection = await loop.create_connection(
                Connection, server.host, server.port, ssl=self._context(), server_hostname=server.host
            )
        else:
            _, connection = await loop.create_connection(Connection, server.host, server.port)
        return _Session(connection)

    def _context(self) -> ssl.SSLContext:
        """Who signs the servers' certificates; read once."""
        if self._tls is None:
            ca = self._settings.path(self._ldap.ca) if self._ldap.ca else None
            try:
                self._tls = ssl.create_default_context(cafile=ca)
            except OSError as error:
                raise TryLater(f"LDAP: ldap.ca: {ca}: {error.strerror or error}") from None
        return self._tls


class _Session:
    """One connection and its engine."""

    def __init__(self, connection: Connection) -> None:
        self.client = LdapClient()
        self._connection = connection

    async def ask(self, asked: int, entries: list[str] | None = None, elsewhere: list[str] | None = None) -> Result:
        """How the request ended. Names of entries, and references, are put into the lists. Raises ``_AwayError``."""
        self._connection.write(self.client.data_to_send())
        while True:
            match self.client.next_event():
                case Result(message_id=answered) as result if answered == asked:
                    return result
                case Entry(dn=dn) if entries is not None:
                    entries.append(dn)
                case Reference(urls=urls) if elsewhere is not None:
                    elsewhere.extend(urls)
                case Ended(reason):
                    raise _AwayError(reason)
                case event if event is NEED_DATA:
                    self.client.receive(await self._connection.read() or b"")
                case _:
                    pass

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Raises ``_AwayError`` where the server does not want to, ``OSError`` where it fails."""
        result = await self.ask(self.client.start_tls())
        if result.code != _SUCCESS:
            raise _AwayError(f"no StartTLS: code {result.code} {result.text}".rstrip())
        self.client.tls_started()
        await self._connection.start_tls(context, server_side=False, server_hostname=host)

    def close(self) -> None:
        self.client.unbind()
        self._connection.write(self.client.data_to_send())
        self._connection.abort()  # nothing is waited for any more, the server's goodbye least of all


def is_loopback(host: str) -> bool:
    """Whether this is this very host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _accept(result: Result, what: str) -> None:
    """Nothing, where the request succeeded. Raises ``_AwayError``, ``TryLater``."""
    said = f"code {result.code} {result.text}".rstrip()
    if result.code in _AWAY:
        raise _AwayError(said)
    if result.code == _REFERRAL:
        raise TryLater(f"LDAP: {what}: referred to {', '.join(result.referrals)}, which is not in ldap.urls")
    if result.code != _SUCCESS:
        raise TryLater(f"LDAP: {what}: {said}")
