"""Logging in: who a client is, by any mechanism of any protocol.

Invariants:
  1. An account that doesn't exist, or is disabled, is refused like a wrong password: same answer, same work, same
     pause before it.
  2. A password is checked in a thread, by few at once: a hash takes 12 MiB and 30 ms.
  3. A recent login is believed only while what is stored for the account is what it was.
  4. ``TryLater`` where the directory can't say; never a refusal.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_network
from typing import Protocol, TypeVar, TypeVarTuple, assert_never

from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import TryLater
from posthouse.config.settings import Auth
from posthouse.directory.model import StoredCredentials
from posthouse.message.address import lookup_key
from posthouse.protocols.sasl.credentials import ITERATIONS, Credentials, ScramKeys
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.scram import fake_salt
from posthouse.protocols.sasl.server import ServerMechanism, mechanism
from posthouse.protocols.sasl.steps import (
    Challenge,
    Failure,
    NeedAccount,
    NeedCredentials,
    NeedToken,
    NeedVerify,
    Step,
    Success,
)
from posthouse.runtime.log import log
from posthouse.services import passwords

FAILURE_SECONDS = 0.5
"""A refusal is not sent earlier than this after the attempt: guessing is slow, and every reason takes as long."""
RECENT_SECONDS = 300.0
THREADS = 2
MAX_WAITING = 200
_MAX_RECENT = 10_000
_MAX_PEERS = 10_000

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Accounts(Protocol):
    """What logging in needs of the directory."""

    async def credentials(self, email: str) -> StoredCredentials | None: ...


class Login:
    """The logins of one process.

    ``secret``: random bytes, the same in every process of the host (``services.secret``).
    """

    def __init__(
        self,
        accounts: Accounts,
        settings: Auth,
        *,
        hostname: str,
        secret: bytes,
        clock: Clock | None = None,
        failure_seconds: float = FAILURE_SECONDS,
    ) -> None:
        self._accounts = accounts
        self._plain_crypt = settings.plain_crypt
        self._trusted = tuple(ip_network(network, strict=False) for network in settings.trusted_networks)
        self._peers: dict[str, bool] = {}
        self._hostname = hostname
        self._secret = secret
        self._offered = settings.mechanisms
        self._failure_seconds = failure_seconds
        self._recent = RecentLogins(clock or SystemClock())
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="password")
        self._waiting = 0
        passwords.keep_memory_low()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def mechanisms(self, peer: Peer) -> tuple[str, ...]:
        """What to offer a client: nothing in clear from afar, nor what needs more than its connection has."""
        if not peer.is_tls and not self._trusts(peer.address):
            return ()
        return tuple(name for name in self._offered if _can_use(peer, name))

    def start(self, name: str, peer: Peer) -> ServerMechanism | None:
        """An exchange by the mechanism of that name; None where it is not offered."""
        offered, nonce = self.mechanisms(peer), secrets.token_bytes(18)
        if name.upper() not in offered:
            return None
        return mechanism(name, nonce=nonce, secret=self._secret, hostname=self._hostname, peer=peer, offered=offered)

    async def authenticate(self, exchange: ServerMechanism, step: Step, peer: Peer) -> Challenge | Success | Failure:
        """What follows from a step: a challenge to send, the account's address in Success, or Failure.

        Raises ``TryLater``; the exchange is over then too.
        """
        deadline = self._failure_deadline()
        while True:
            match step:
                case NeedCredentials():
                    step = exchange.credentials(await self._credentials(step))
                case NeedVerify():
                    step = exchange.verified(await self._is_right(step.login, step.password, step.authzid))
                case NeedToken():
                    step = exchange.verified_as(None)
                case NeedAccount():
                    step = exchange.verified(await self._stored(step.login, "") is not None)
                case Challenge():
                    return step
                case Success():
                    return Success(self._succeeded(step.login, peer))
                case Failure():
                    await self._failed(exchange.login, peer, step.reason, deadline)
                    return step
                case _:
                    assert_never(step)

    async def verify(self, login: str, password: str, peer: Peer) -> str | None:
        """The account's address where the password is right, or None. Raises ``TryLater``."""
        deadline = self._failure_deadline()
        if await self._is_right(login, password):
            return self._succeeded(login, peer)
        await self._failed(login, peer, "wrong login or password", deadline)
        return None

    async def _is_right(self, login: str, password: str, authzid: str = "") -> bool:
        stored = await self._stored(login, authzid)
        if stored is not None:
            if self._recent.has(stored, password):
                return True
            if await self._in_thread(self._matches, stored, password):
                self._recent.add(stored, password)
                return True
        if stored is None or stored.clear or not stored.argon2id:
            await self._in_thread(passwords.verify_nothing, password)
        return False

    def _matches(self, stored: StoredCredentials, password: str) -> bool:
        """``clear``, which an operator may have filled by hand, wins over our own table's hashes."""
        secret = stored.clear
        if not secret and stored.argon2id:
            secret = "{ARGON2ID}" + stored.argon2id
        elif not secret and stored.scram_sha256:
            secret = "{SCRAM-SHA-256}" + stored.scram_sha256
        try:
            return passwords.verify(secret, password, plain_crypt=self._plain_crypt and secret == stored.clear)
        except passwords.BadStoredPassword as error:
            log.warning("stored-password-unusable", account=stored.email, reason=str(error))
            return False

    async def _credentials(self, asked: NeedCredentials) -> Credentials | None:
        stored = await self._stored(asked.login, asked.authzid)
        clear = passwords.clear_password(stored.clear, plain_crypt=self._plain_crypt) if stored else None
        if asked.kind in ("plain", "cram-md5"):
            return Credentials(plain=clear)
        if asked.kind == "scram-sha-1":
            salt = fake_salt(asked.login, self._secret)
            keys = await self._in_thread(ScramKeys.derive, clear or "-", salt, ITERATIONS, "sha1")
            return Credentials(scram_sha1=keys if clear else None)
        # Only accounts with a readable password need this, but then how long it takes would tell which do.
        derived = await self._in_thread(ScramKeys.derive, clear or "-", fake_salt(asked.login, self._secret))
        if clear is not None:
            return Credentials(scram_sha256=derived)
        return Credentials(scram_sha256=_kept_keys(stored)) if stored else None

    async def _stored(self, login: str, authzid: str) -> StoredCredentials | None:
        """What is stored for an account that may log in, and for whom it asks to."""
        key = lookup_key(login)
        try:
            key.encode()
        except UnicodeEncodeError:  # octets that were no UTF-8: no account is called that
            return None
        stored = await self._accounts.credentials(key)
        if stored is None or not stored.enabled or (authzid and lookup_key(authzid) != key):
            return None
        return stored

    async def _in_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        if self._waiting >= MAX_WAITING:
            raise TryLater("too many logins wait for their password to be checked")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        finally:
            self._waiting -= 1

    def _trusts(self, peer: str) -> bool:
        known = self._peers.get(peer)
        if known is None:
            if len(self._peers) >= _MAX_PEERS:
                self._peers.clear()
            known = self._peers[peer] = self._is_trusted(peer)
        return known

    def _is_trusted(self, peer: str) -> bool:
        if peer == "unix":
            return True
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)

    def _failure_deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._failure_seconds

    def _succeeded(self, login: str, peer: Peer) -> str:
        email = lookup_key(login)
        log.info("login", protocol=peer.protocol, account=email, peer=peer.address)
        return email

    async def _failed(self, login: str, peer: Peer, reason: str, deadline: float) -> None:
        log.info("login-failed", protocol=peer.protocol, login=login[:255], peer=peer.address, reason=reason)
        await asyncio.sleep(deadline - asyncio.get_running_loop().time())


class RecentLogins:
    """Passwords that were right a short while ago, so that the next login needn't pay for the hash again.

    Kept as keyed hashes, over what was stored then as well; the key lives and dies with the process.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._expiries: dict[bytes, float] = {}  # oldest first

    def has(self, stored: StoredCredentials, password: str) -> bool:
        return self._expiries.get(self._digest(stored, password), 0.0) > self._clock.monotonic()

    def add(self, stored: StoredCredentials, password: str) -> None:
        now = self._clock.monotonic()
        digest = self._digest(stored, password)
        self._expiries.pop(digest, None)
        self._expiries[digest] = now + RECENT_SECONDS
        while len(self._expiries) > _MAX_RECENT or next(iter(self._expiries.values())) <= now:
            del self._expiries[next(iter(self._expiries))]

    def __len__(self) -> int:
        return len(self._expiries)

    def _digest(self, stored: StoredCredentials, password: str) -> bytes:
        text = repr((stored.email, stored.clear, stored.scram_sha256, stored.argon2id, password))
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=32).digest()


def _can_use(peer: Peer, mechanism: str) -> bool:
    """Whether the client's connection has what the mechanism works with."""
    if mechanism == "EXTERNAL":
        return bool(peer.certificate_emails)
    if mechanism == "APOP":
        return peer.protocol == "pop3"
    return not mechanism.endswith("-PLUS") or bool(peer.channel_bindings)


def _kept_keys(stored: StoredCredentials) -> ScramKeys | None:
    if stored.clear:
        return passwords.scram_keys(stored.clear)
    try:
        return ScramKeys.parse(stored.scram_sha256) if stored.scram_sha256 else None
    except ValueError as error:
        log.warning("stored-password-unusable", account=stored.email, reason=str(error))
        return None
