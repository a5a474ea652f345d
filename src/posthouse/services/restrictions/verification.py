"""Whether an address is good: what its own server has said of it, remembered in a file that all processes share.

Invariants:
  1. Nobody waits longer than ``wait_seconds``; what is not known by then is not known.
  2. Of one address a process asks once at a time, and of all at most ``MAX_PROBES``; another process does not ask
     while an answer is awaited.
  3. Only a reply to the recipient itself, or the DNS, makes an address bad; a server in trouble changes nothing.
  4. An address of ours is known from the directory, without a probe.
"""

import asyncio
import sqlite3
from dataclasses import dataclass
from typing import Protocol

from posthouse.base.clock import Clock, SystemClock
from posthouse.base.errors import Refused, Reply
from posthouse.config.reception import Verify
from posthouse.directory.directory import Directory
from posthouse.message.address import lookup_key, split
from posthouse.message.headers import printable
from posthouse.services.sharedfile import SharedFile

VERIFY_FILE = "verify.db"
UNVERIFIED = frozenset({"reject_unverified_sender", "reject_unverified_recipient"})
PROBE_SECONDS = 60.0
MAX_PROBES = 50
MAX_ROWS = 500_000
TIDY_SHARE = 500
_POLL_SECONDS = 0.5
_SCHEMA = """
CREATE TABLE IF NOT EXISTS addresses (
    address TEXT PRIMARY KEY, is_good INTEGER, text TEXT NOT NULL, at REAL NOT NULL, asked REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS addresses_at ON addresses (at);
"""


class Prober(Protocol):
    """Asks servers; a test has answers of its own."""

    async def ask(self, address: str) -> Reply: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """``is_good`` is None where it is not known; ``text`` says why it is not good."""

    is_good: bool | None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered: the verdict, when it was given, and whether somebody is asking at this moment."""

    verdict: Verdict | None = None
    at: float = 0.0
    is_asked: bool = False


_IN_PROGRESS = Verdict(None, "Address verification in progress")
_GOOD = Verdict(is_good=True)


class Verification:
    """The addresses that one process asks about."""

    def __init__(
        self, directory: Directory, path: str, settings: Verify, prober: Prober, clock: Clock | None = None
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._prober = prober
        self._clock = clock or SystemClock()
        self._file = SharedFile(path, _SCHEMA, consequence="addresses are verified each time", clock=self._clock)
        self._probes: dict[str, asyncio.Task[Verdict]] = {}
        self._untidy = TIDY_SHARE

    async def close(self) -> None:
        for probe in self._probes.values():
            probe.cancel()
        await asyncio.gather(*self._probes.values(), return_exceptions=True)
        await self._prober.close()
        await self._file.close()

    async def verdict(self, address: str, *, remembers: bool = True) -> Verdict:
        """Whether mail for that address would be taken. ``remembers``: whether a new answer is kept. Raises
        ``TryLater``: the directory."""
        if await self._directory.is_hosted(split(address)[1]):
            return await self._own(address)
        key, now = lookup_key(address), self._now()
        known = await self._file.run(lambda file: self._look(file, key, now), otherwise=Known())
        if known.verdict is not None:
            refresh = (
                self._settings.positive_refresh_seconds
                if known.verdict.is_good
                else self._settings.negative_refresh_seconds
            )
            if remembers and now - known.at > refresh and not known.is_asked:
                self._probe(address, key, remembers=True)
            return known.verdict
        if known.is_asked and key not in self._probes:
            return await self._await_other(key)
        probe = self._probe(address, key, remembers=remembers)
        if probe is None:
            return _IN_PROGRESS
        try:
            async with asyncio.timeout(self._settings.wait_seconds):
                return await asyncio.shield(probe)
        except TimeoutError:
            return _IN_PROGRESS

    async def _own(self, address: str) -> Verdict:
        try:
            await self._directory.resolve(address)
        except Refused as error:
            return Verdict(is_good=False, text=error.reply.text)
        return _GOOD

    async def _await_other(self, key: str) -> Verdict:
        """Another process is asking."""
        for _ in range(int(self._settings.wait_seconds / _POLL_SECONDS)):
            await asyncio.sleep(_POLL_SECONDS)
            known = await self._file.run(lambda file: self._look(file, key, self._now()), otherwise=Known())
            if known.verdict is not None:
                return known.verdict
            if not known.is_asked:
                break
        return _IN_PROGRESS

    def _probe(self, address: str, key: str, *, remembers: bool) -> asyncio.Task[Verdict] | None:
        """The one probe of this address; None where there are too many already."""
        probe = self._probes.get(key)
        if probe is None and len(self._probes) < MAX_PROBES:
            probe = self._probes[key] = asyncio.create_task(self._ask(address, key, remembers=remembers))
            probe.add_done_callback(lambda _: self._probes.pop(key, None))
        return probe

    async def _ask(self, address: str, key: str, *, remembers: bool) -> Verdict:
        if remembers:
            await self._file.run(lambda file: _claim(file, key, self._now()), otherwise=None)
        found = _verdict_of(await self._prober.ask(address))
        if remembers:
            await self._file.run(lambda file: self._save(file, key, found), otherwise=None)
        return found

    # In the file's thread.

    def _look(self, file: sqlite3.Connection, key: str, now: float) -> Known:
        row = file.execute("SELECT is_good, text, at, asked FROM addresses WHERE address = ?", (key,)).fetchone()
        if row is None:
            return Known()
        is_good, text, at, asked = row
        settings = self._settings
        lifetime = settings.positive_expire_seconds if is_good else settings.negative_expire_seconds
        is_valid = is_good is not None and at <= now < at + lifetime
        is_asked = asked <= now < asked + PROBE_SECONDS
        return Known(Verdict(bool(is_good), text) if is_valid else None, at, is_asked)

    def _save(self, file: sqlite3.Connection, key: str, found: Verdict) -> None:
        now = self._now()
        if found.is_good is None:
            file.execute("UPDATE addresses SET asked = 0 WHERE address = ?", (key,))
        else:
            file.execute("REPLACE INTO addresses VALUES (?, ?, ?, ?, 0)", (key, found.is_good, found.text, now))
        self._untidy += 1
        if self._untidy < TIDY_SHARE:
            return
        self._untidy = 0
        oldest = now - max(self._settings.positive_expire_seconds, self._settings.negative_expire_seconds)
        file.execute("DELETE FROM addresses WHERE at < ? AND asked < ?", (oldest, now - PROBE_SECONDS))
        rows = file.execute("SELECT count(*) FROM addresses").fetchone()[0]
        if rows > MAX_ROWS:
            first = "SELECT address FROM addresses ORDER BY at LIMIT ?"
            file.execute(f"DELETE FROM addresses WHERE address IN ({first})", (rows - MAX_ROWS * 9 // 10,))  # noqa: S608

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _claim(file: sqlite3.Connection, key: str, now: float) -> None:
    """Others wait for the answer instead of asking too."""
    file.execute(
        "INSERT INTO addresses VALUES (?, NULL, '', 0, ?) ON CONFLICT (address) DO UPDATE SET asked = excluded.asked",
        (key, now),
    )


def _verdict_of(reply: Reply) -> Verdict:
    if reply.is_success:
        return _GOOD
    text = printable(f"its server said {reply}".replace("\n", " "))[:300]
    return Verdict(False if reply.is_permanent_failure else None, text)
