"""Whether a password is right: what the directory stores, then whoever else ``auth.chain`` names.

Invariants:
  1. An account that the directory says is disabled is refused, whatever the others say; its password is checked all
     the same, and so is that of one that doesn't exist: the same work.
  2. Whom another program lets in and the directory doesn't know may send mail as itself, and nothing else: there is
     no mailbox that it could read.
  3. A password is checked in a thread, by few at once: a hash takes 12 MiB and 30 ms.
  4. One that can't be asked doesn't stop the next from saying yes. If nobody does, it is ``TryLater``, never a no.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar, TypeVarTuple

from posthouse.base.clock import Clock
from posthouse.base.errors import TryLater
from posthouse.config.settings import Auth
from posthouse.directory.model import StoredCredentials
from posthouse.message.address import lookup_key
from posthouse.protocols.sasl.credentials import ITERATIONS, Credentials, ScramHash, ScramKeys
from posthouse.protocols.sasl.exchange import MAX_NAME_BYTES
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.scram import fake_salt
from posthouse.protocols.sasl.steps import NeedCredentials
from posthouse.runtime.log import log
from posthouse.services import passwords
from posthouse.services.recent import RecentLogins, Verified
from posthouse.services.schemes import CRAM_MD5
from posthouse.services.sources import PasswordSource

THREADS = 2
MAX_WAITING = 200
CLOSE_SECONDS = 5.0
SQL = "sql"

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Accounts(Protocol):
    """What logging in needs of the directory."""

    async def credentials(self, email: str) -> StoredCredentials | None: ...

    async def is_disabled(self, domain: str) -> bool: ...

    async def upgrade_password(self, email: str, old_clear: str, scram_sha256: str, argon2id: str) -> None: ...

    async def used_app_password(self, id: int, peer_address: str) -> None: ...  # noqa: A002


class Unanswered(TryLater):
    """Nobody said yes, somebody couldn't be asked. ``is_wrong``: what the directory stores is another password."""

    def __init__(self, trouble: TryLater, *, is_wrong: bool) -> None:
        super().__init__(trouble.reason, trouble.reply)
        self.is_wrong = is_wrong


class Chain:
    """``secret``: random bytes, the same in every process of the host."""

    def __init__(
        self, accounts: Accounts, settings: Auth, sources: Sequence[PasswordSource], *, secret: bytes, clock: Clock
    ) -> None:
        self.recent = RecentLogins(clock)
        self._accounts = accounts
        self._secret = secret
        self._plain_crypt = settings.plain_crypt
        self._upgrades = settings.upgrade_passwords
        # Who logs in by these mechanisms could no longer, were what they need replaced by what we keep.
        kept = (CRAM_MD5 if "CRAM-MD5" in settings.mechanisms else ()) + (
            ("SCRAM-SHA-1",) if {"SCRAM-SHA-1", "SCRAM-SHA-1-PLUS"} & set(settings.mechanisms) else ()
        )
        self._kept = frozenset(kept)
        self._sources = {source.name: source for source in sources}
        self._order = tuple(name for name in settings.chain if name == SQL or name in self._sources)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="password")
        self._waiting = 0
        self._upgrading: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.name = ",".join(self._order)

    async def close(self) -> None:
        """What is still to be noted is, within ``CLOSE_SECONDS``."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for source in self._sources.values():
            await source.close()

    # Passwords that are sent

    async def check(self, login: str, password: str, authzid: str, peer: Peer) -> Verified | None:
        """Whose password that is, or None. Raises ``TryLater``; ``Unanswered`` where that is a source's trouble."""
        key = lookup_key(login)
        stored = await self._stored(key)
        is_barred = stored is not None and not stored.enabled
        if not is_barred:
            recent = self.recent.find(key, stored, password, peer.protocol)
            if (
                recent is not None
                and (recent.account == key or await self.may_log_in(recent.account, peer))
                and _is_own(authzid, key, recent)
            ):
                return recent
        verified = await self._ask(login, key, None if is_barred else stored, password, peer)
        if verified is None or is_barred or not _is_own(authzid, key, verified):
            return None
        self.recent.add(key, stored, password, peer.protocol, verified)
        return verified

    async def _ask(
        self, login: str, key: str, stored: StoredCredentials | None, password: str, peer: Peer
    ) -> Verified | None:
        trouble: TryLater | None = None
        for name in self._order:
            try:
                if name == SQL:
                    verified = await self._check_stored(key, stored, password, peer)
                else:
                    verified = await self._check_source(name, login, password, peer)
            except TryLater as error:
                if name == SQL:  # too much to do: more work is no answer to that
                    raise
                trouble = trouble or error
                continue
            if verified is not None:
                return verified
        if trouble is not None:
            raise Unanswered(trouble, is_wrong=SQL in self._order and _has_password(stored))
        return None

    async def _check_source(self, name: str, login: str, password: str, peer: Peer) -> Verified | None:
        account = await self._sources[name].check(login, password, peer)
        if not account or not await self.may_log_in(lookup_key(account), peer):
            return None
        return Verified(lookup_key(account), name)

    async def _check_stored(
        self, key: str, stored: StoredCredentials | None, password: str, peer: Peer
    ) -> Verified | None:
        for one in stored.app_passwords if stored is not None else ():
            if peer.protocol in one.scopes and passwords.is_app_password(one.hash, password):
                self._in_background(self._accounts.used_app_password(one.id, peer.address), "app-password-not-noted")
                return Verified(key, f"app:{one.name}")
        if stored is not None and await self._in_thread(self._matches, stored, password):
            self._upgrade(stored, password)
            return Verified(key, SQL)
        if stored is None or stored.clear or not stored.argon2id:
            await self._in_thread(passwords.verify_nothing, password)
        return None

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
            _warn(stored, error)
            return False

    async def may_log_in(self, account: str, peer: Peer) -> bool:
        """Whether one whose secret is right may log in. Raises ``TryLater``."""
        stored = await self._stored(account)
        if stored is not None:
            return stored.enabled
        return peer.protocol == "smtp" and not await self._accounts.is_disabled(account.rpartition("@")[2])

    # Secrets that other mechanisms need

    async def exists(self, login: str) -> bool:
        """Whether there is an account of that name, and it is enabled. Raises ``TryLater``."""
        stored = await self._stored(lookup_key(login))
        return stored is not None and stored.enabled

    async def credentials(self, asked: NeedCredentials, peer: Peer) -> Credentials | None:
        """What is stored of an account for a mechanism that doesn't send the password. Raises ``TryLater``."""
        key = lookup_key(asked.login)
        stored = await self._stored(key) if SQL in self._order else None
        if stored is not None and (not stored.enabled or lookup_key(asked.authzid) not in ("", key)):
            stored = None
        clear = passwords.clear_password(stored.clear, plain_crypt=self._plain_crypt) if stored else None
        match asked.kind:
            case "plain":
                return Credentials(plain=clear)
            case "cram-md5":
                return Credentials(plain=clear, cram_md5=passwords.cram_md5(stored.clear) if stored else None)
            case "scram-sha-1":
                keys = await self._derived(asked.login, clear, "sha1", peer)
                return Credentials(scram_sha1=keys or (stored and passwords.scram_keys(stored.clear, "sha1")))
            case _:
                keys = await self._derived(asked.login, clear, "sha256", peer)
                return Credentials(scram_sha256=keys or (stored and _kept_keys(stored)))

    async def _derived(self, login: str, clear: str | None, algorithm: ScramHash, peer: Peer) -> ScramKeys | None:
        """Keys for a readable password. Where there is none they are derived from nothing, since how long it takes
        would tell; but for those who have just been here, from the same address."""
        if self.recent.has_been_at(peer.address, lookup_key(login)):
            known = self.recent.scram_keys(login, clear, algorithm) if clear is not None else None
            if known is not None or clear is None:
                return known
        salt = fake_salt(login, self._secret)
        keys = await self._in_thread(ScramKeys.derive, clear or "-", salt, ITERATIONS, algorithm)
        if clear is None:
            return None
        self.recent.add_scram_keys(login, clear, algorithm, keys)
        return keys

    # What all of it stands on

    async def _stored(self, key: str) -> StoredCredentials | None:
        """What is stored for an account, enabled or not."""
        try:
            octets = key.encode()
        except UnicodeEncodeError:  # octets that were no UTF-8: no account is called that
            return None
        if len(octets) > MAX_NAME_BYTES:  # nor that, and the directory would remember it
            return None
        return await self._accounts.credentials(key)

    async def _in_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        if self._waiting >= MAX_WAITING:
            raise TryLater("too many logins wait for their password to be checked")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        finally:
            self._waiting -= 1

    def _upgrade(self, stored: StoredCredentials, password: str) -> None:
        """Replace an old hash, after the login."""
        is_wanted = self._upgrades and stored.clear and stored.email not in self._upgrading
        if not is_wanted or not passwords.is_old_hash(stored.clear, self._kept, plain_crypt=self._plain_crypt):
            return

        async def upgrade() -> None:
            try:
                secrets = await self._in_thread(passwords.new_secrets, password)
                await self._accounts.upgrade_password(stored.email, stored.clear, *secrets)
                log.info("password-upgraded", account=stored.email)
            finally:
                self._upgrading.discard(stored.email)

        self._upgrading.add(stored.email)
        self._in_background(upgrade(), "password-not-upgraded")

    def _in_background(self, work: Coroutine[object, object, None], failure: str) -> None:
        """What no login waits for, nor fails by."""

        async def run() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001
                log.warning(failure, reason=str(error))

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_own(authzid: str, key: str, verified: Verified) -> bool:
    """Whether a client acts for itself: nobody acts for anybody else here."""
    return not authzid or lookup_key(authzid) in (key, verified.account)


def _has_password(stored: StoredCredentials | None) -> bool:
    return stored is not None and bool(stored.clear or stored.argon2id or stored.scram_sha256)


def _kept_keys(stored: StoredCredentials) -> ScramKeys | None:
    if stored.clear:
        return passwords.scram_keys(stored.clear)
    try:
        return ScramKeys.parse(stored.scram_sha256) if stored.scram_sha256 else None
    except ValueError as error:
        _warn(stored, error)
        return None


def _warn(stored: StoredCredentials, error: ValueError) -> None:
    log.warning("stored-password-unusable", account=stored.email, reason=str(error))
