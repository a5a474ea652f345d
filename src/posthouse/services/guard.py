"""Against those who guess passwords: failed logins make the next refusal slower, and too many shut out for a while.

Counted are addresses, their networks, and accounts, whether those exist or not. An IPv6 host has 2**64 addresses to
choose from, so that its /64 counts as its address, and the /48 as its network.

Invariants:
  1. Who is shut out hears so before anything is looked up; from then on nothing can be learnt by trying.
  2. Nobody can shut an account out of a place from which it has logged in in the last 30 days, but who shares its
     very address.
  3. A login takes back the failures of its own account and address only, and none of the network's: whoever has one
     account can't reset what is counted for guessing others'.
  4. A file that is locked, broken or not there refuses no login: it is logged, and logins go on uncounted.
  5. The event loop reads at most one row of each key, by primary key; what is written is written by a thread.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from math import ceil
from typing import TypeVar

from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import Reply, TryLater
from posthouse.config import settings
from posthouse.runtime.log import log
from posthouse.runtime.measures import GUARD_BLOCKS
from posthouse.services.guardfile import DAY, MARK_BYTES, WINDOW_SECONDS, Attempt, Counter, GuardFile, Limit

GUARD_FILE = "guard.db"
MANY = 5
"""How many times an address's limit shuts out a network, and an account for who has never been there before."""
MAX_FACTOR = 16
"""The longest refusal takes this many times as long as the first: 8 s."""
REPEATED_FACTOR = 8
"""The same for a password that is known to be wrong: it isn't counted, but is work each time."""
MAX_DELAYED = 10
"""Refusals of one address that wait at the same time; further logins from it are put off until those are done."""
BELIEVED_SECONDS = 1.0
"""For how long it is believed that nobody is shut out, whatever other processes count: under load it costs most."""
RETRY_SECONDS = 60.0
_MAX_REMEMBERED = 20_000
_MAX_WAITING = 1000
_MAX_NAME = 255
_NEVER = Limit(0, 0.0)

T = TypeVar("T")


class ShutOut(TryLater):
    """Too many failures. No trouble of ours: the log has had its warning when it began."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a login comes from: the name of its address, and what to count it under. None: an exempt one."""

    name: str
    address: str
    networks: tuple[str, ...]

    @property
    def is_exempt(self) -> bool:
        return not self.address


class Guard:
    """The guard of one process. ``path``: the file that all processes share; ``secret``: of the host, too."""

    def __init__(self, path: str, limits: settings.Guard, *, secret: bytes, clock: Clock | None = None) -> None:
        self._path = path
        self._secret = secret
        self._clock = clock or SystemClock()
        self._exempt = tuple(ip_network(network, strict=False) for network in limits.exempt_networks)
        self._one = Limit(limits.block_after, limits.block_seconds)
        self._many = Limit(limits.block_after * MANY, limits.block_seconds)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="guard")
        self._reader: GuardFile | None = None  # the event loop's
        self._writer: GuardFile | None = None  # the thread's
        self._is_stale = self._is_closed = False
        self._retry_at = 0.0
        self._waiting = 0
        self._origins: dict[str, Origin] = {}
        self._free: dict[tuple[str, str], tuple[float, bool]] = {}  # until when, and whether there is to forgive
        self._noted: dict[tuple[str, str], float] = {}
        self._delayed: dict[str, int] = {}

    async def close(self) -> None:
        """What has been counted is written first."""
        self._is_closed = True
        self._close_reader()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close_writer)
        self._thread.shutdown(wait=False)

    # Before a login

    async def admit(self, address: str, account: str) -> None:
        """Raises ``ShutOut`` where nobody may log in from there, or not as that account."""
        account, origin = account[:_MAX_NAME], self.origin(address)
        # Before all else: these failures may not have been counted yet.
        if self._delayed.get(origin.address, 0) >= MAX_DELAYED:
            raise ShutOut(
                f"{origin.address[2:]}: {MAX_DELAYED} refusals wait already",
                Reply(454, "4.7.0", "Too many failed logins from your address: try again in a moment"),
            )
        free = self._free.get((address, account))
        if free is not None and free[0] > self._clock.monotonic():
            return
        await self._look(origin, (address, account), account)

    async def _look(self, origin: Origin, asked: tuple[str, str], account: str) -> None:
        if self._reader is None or self._is_stale:
            self._close_reader()
            await self._in_thread(self._open_reader)
        file, now = self._reader, self._now()
        if file is None:
            return
        name, pair = _account_key(account), _pair_key(origin, account)
        keys = (origin.address, *origin.networks, name, pair) if origin.address else (name, pair)
        try:
            found = file.counters(keys)
            blocked = [one for one in found if one.is_blocked(now)]
            if blocked and self._is_at_home(file, origin, name[2:], now):
                blocked = [one for one in blocked if one.key == origin.address]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:  # which passes, and is not waited for here
                self._failed(error)
            return
        except sqlite3.Error as error:
            self._failed(error)
            return
        if blocked:
            raise _shut_out(max(blocked, key=lambda one: one.blocked_until), now)
        if len(self._free) >= _MAX_REMEMBERED:
            self._free.clear()
        has_failed = any(one.key == pair for one in found)
        self._free[asked] = (self._clock.monotonic() + BELIEVED_SECONDS, has_failed)

    def _is_at_home(self, file: GuardFile, origin: Origin, account: str, now: float) -> bool:
        return origin.is_exempt or file.is_known(account, origin.name, now)

    # After one

    async def failed(self, address: str, account: str, password: str | None) -> int:
        """Count a failure; how many times as long as usual the refusal has to take.

        ``password``: what was wrong, where it is known: the same again and again counts once.
        """
        account = account[:_MAX_NAME]
        origin = self.origin(address)
        name, pair = _account_key(account), _pair_key(origin, account)
        # Tokens need not say whose they are: who doesn't say is no account, and none is shut out for them.
        limits = {name: self._many if account else _NEVER}
        if not origin.is_exempt:
            limits |= {origin.address: self._one, **dict.fromkeys(origin.networks, self._many)}
        mark = self._mark(name, password) if password is not None else b""
        attempt = Attempt(limits, name, pair, origin.address or name, name[2:], mark)
        outcome = await self._in_thread(self._count, attempt, origin)
        self._free.pop((address, account), None)
        if outcome is None:
            return 1
        factor, blocked = outcome
        for one in blocked:
            self._free.clear()
            GUARD_BLOCKS.add(KINDS[one.kind])
            log.warning(
                "guard-blocked",
                what=KINDS[one.kind],
                name=one.name,
                failures=one.failures,
                seconds=round(one.blocked_until - one.last),
                login=one.login,
            )
        return factor

    @contextmanager
    def delaying(self, address: str) -> Iterator[None]:
        """While a refusal waits."""
        key = self.origin(address).address
        if not key:  # behind an exempt address are many, who must not wait for each other
            yield
            return
        self._delayed[key] = self._delayed.get(key, 0) + 1
        try:
            yield
        finally:
            self._delayed[key] -= 1
            if not self._delayed[key]:
                del self._delayed[key]

    def succeeded(self, address: str, account: str) -> None:
        """After a login: forgive its failures, remember where it was from. Waits for nothing."""
        account = account[:_MAX_NAME]
        asked = (address, account)
        _, has_failed = self._free.get(asked, (0.0, False))
        if has_failed:
            self._free.pop(asked)
            self._forgive(self.origin(address), account)
        now = self._clock.monotonic()
        if self._noted.get(asked, now) <= now:
            if len(self._noted) >= _MAX_REMEMBERED:
                self._noted.clear()
            self._noted[asked] = now + DAY
            origin = self.origin(address)
            if not origin.is_exempt:
                self._later(lambda file: file.know(_account_key(account)[2:], origin.name, self._now()))

    def _forgive(self, origin: Origin, account: str) -> None:
        name, pair = _account_key(account), _pair_key(origin, account)
        owners = (name, origin.address) if origin.address else (name,)
        self._later(lambda file: file.forgive(pair, owners))

    # What it stands on

    def origin(self, address: str) -> Origin:
        """What a client's address is counted under."""
        known = self._origins.get(address)
        if known is None:
            if len(self._origins) >= _MAX_REMEMBERED:
                self._origins.clear()
            known = self._origins[address] = self._origin(address)
        return known

    def _origin(self, text: str) -> Origin:
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return Origin("-", "", ())  # a Unix socket; or a program that doesn't say
        if isinstance(address, IPv6Address):
            address = address.ipv4_mapped or address
        if any(address in network for network in self._exempt):
            return Origin(str(address), "", ())
        name, network = units(str(address))
        return Origin(name, f"a {name}", (f"n {network}",))

    def _count(self, attempt: Attempt, origin: Origin) -> tuple[int, tuple[Counter, ...]]:
        """In the thread: how many times as long the refusal takes, and what is shut out from now on."""
        file, now = self._writer, self._now()
        assert file is not None
        counted = file.fail(attempt, now)
        if origin.is_exempt:
            return 1, counted.blocked
        failures = counted.counters[origin.address].failures
        if attempt.account != _account_key("") and not self._is_at_home(file, origin, attempt.account[2:], now):
            failures = max(failures, counted.counters[attempt.account].failures)
        factor = 2 ** min(max(failures - 1, 0), 10)
        return min(max(factor, REPEATED_FACTOR if counted.is_repeated else 1), MAX_FACTOR), counted.blocked

    def _mark(self, name: str, password: str) -> bytes:
        text = f"guard\0{name}\0{password}".encode("utf-8", "surrogatepass")
        return blake2b(text, key=self._secret[:64], digest_size=MARK_BYTES).digest()

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _open_reader(self) -> None:
        """In the thread: opening may have to wait for another process that does the same."""
        if self._reader is None:
            self._reader = GuardFile(self._path, waits=False)

    def _close_reader(self) -> None:
        """Only the event loop uses it, and closes it."""
        if self._reader is not None:
            self._reader.close()
        self._reader, self._is_stale = None, False

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T | None:
        """What the function returns; None where the file can't be used, or too much waits for it."""
        if not self._is_usable():
            return None
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._with_file, function, arguments
            )
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return None
        finally:
            self._waiting -= 1

    def _with_file(self, function: Callable[..., T], arguments: tuple[object, ...]) -> T:
        if self._writer is None:
            self._writer = GuardFile(self._path)
        return function(*arguments)

    def _is_usable(self) -> bool:
        return not self._is_closed and self._waiting < _MAX_WAITING and self._retry_at <= self._clock.monotonic()

    def _later(self, work: Callable[[GuardFile], None]) -> None:
        if not self._is_usable():
            return

        def run() -> None:
            if self._writer is None:
                self._writer = GuardFile(self._path)
            work(self._writer)

        def done(future: Future[None]) -> None:
            error = future.exception() if not future.cancelled() else None
            if error is not None:
                self._failed(error)

        self._thread.submit(run).add_done_callback(done)

    def _failed(self, error: BaseException) -> None:
        """Once in a while, not for each login; meanwhile nothing is counted."""
        now = self._clock.monotonic()
        if self._retry_at > now or self._is_closed:
            return
        self._retry_at = now + RETRY_SECONDS
        self._is_stale = True
        log.warning(
            "guard-unavailable",
            path=self._path,
            reason=str(error),
            advice="logins go on uncounted; where the file is broken, remove it and a new one is made",
        )
        self._thread.submit(self._close_writer)


KINDS = {"a": "address", "n": "network", "u": "account"}


def units(address: str) -> tuple[str, str]:
    """What counts as the address, and as its network."""
    parsed = ip_address(address)
    if parsed.version == 4:
        return str(parsed), str(IPv4Network((int(parsed), 24), strict=False))
    number = int(parsed)
    return str(IPv6Network((number, 64), strict=False)), str(IPv6Network((number, 48), strict=False))


def _account_key(account: str) -> str:
    return "u " + account.encode("utf-8", "replace").decode()


def _pair_key(origin: Origin, account: str) -> str:
    return f"p {origin.name} {_account_key(account)[2:]}"


def _shut_out(counter: Counter, now: float) -> ShutOut:
    minutes = ceil((counter.blocked_until - now) / 60)
    whom = "for this account" if counter.kind == "u" else "from your address"
    text = f"Too many failed logins {whom}: try again in {minutes} minute{'s' if minutes != 1 else ''}"
    return ShutOut(f"{KINDS[counter.kind]} {counter.name} is shut out", Reply(454, "4.7.0", text))


def is_current(counter: Counter, now: float) -> bool:
    """Whether a counter still means something: it shuts out, or would with some more failures."""
    return counter.is_blocked(now) or (counter.failures > 0 and now - counter.since <= WINDOW_SECONDS)
