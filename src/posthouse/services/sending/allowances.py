"""What each login may still send: asked at MAIL FROM and RCPT TO, taken at the end of the data.

Invariants:
  1. Over the limit is never refused for good: the client hears when it may come again.
  2. What is refused, or could not be stored after all, has not been counted.
  3. A file that can't be used stops nobody: mail passes uncounted, and the log says so.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from posthouse.base.clock import Clock
from posthouse.base.errors import Reply, TryLater
from posthouse.config.submission import Submission
from posthouse.directory.directory import Directory
from posthouse.message.headers import printable
from posthouse.runtime.log import log
from posthouse.services.sending import usagefile
from posthouse.services.sending.limits import Amount, Bound, Excess, Usage, bounds, excess
from posthouse.services.sending.notices import Notices
from posthouse.services.sending.usagefile import SCHEMA, TIDY_SHARE, Taken
from posthouse.services.sharedfile import SharedFile

_WORDS = {"new_recipients": "new recipients"}


@dataclass(slots=True)
class Allowance:
    """What one message's sender may still send. ``new``: how many of its recipients are new to the login so far."""

    login: str
    peer: str
    size_bytes: int
    bounds: tuple[Bound, ...]
    used: dict[str, Usage] = field(default_factory=dict[str, Usage])
    recipients: int = 0
    new: set[bytes] = field(default_factory=set[bytes])

    @property
    def refusing(self) -> list[Bound]:
        """Those that are told at once, before the message comes."""
        return [bound for bound in self.bounds if not bound.holds]


class Allowances:
    """The limits of one process, with the file that all processes count in."""

    def __init__(self, directory: Directory, settings: Submission, notices: Notices, path: str, clock: Clock) -> None:
        self._directory = directory
        self._settings = settings
        self._notices = notices
        self._clock = clock
        self._file = SharedFile(
            path, SCHEMA, consequence="what users send is neither counted nor limited", clock=clock
        )
        self._untidy = TIDY_SHARE

    async def close(self) -> None:
        await self._file.close()

    async def begin(self, login: str, peer: str, size_bytes: int) -> Allowance | None:
        """MAIL FROM. None: nothing is limited. Raises ``TryLater`` where there is no room for a message already."""
        found = bounds(login, await self._directory.sending_limits(login), self._settings)
        limited = tuple(bound for bound in found if bound.is_limited)
        if not limited:
            return None
        allowance = Allowance(login, peer, size_bytes, limited)
        now = self._now()
        names = [bound.name for bound in limited]
        allowance.used = await self._file.run(
            lambda file: {name: usagefile.usage(file, name, now) for name in names}, {}
        )
        await self._check(allowance, Amount(1, 0, size_bytes), 450)
        return allowance

    async def recipient(self, allowance: Allowance, address: str) -> None:
        """A recipient that is otherwise accepted. Raises ``TryLater`` where there is no room for it."""
        new = set(allowance.new)
        if any(bound.limits_new_recipients for bound in allowance.refusing):
            key = usagefile.key(allowance.login, address)
            if await self._file.run(lambda file: usagefile.is_new(file, key), otherwise=False):
                new.add(key)
        amount = Amount(1, allowance.recipients + 1, allowance.size_bytes, len(new))
        await self._check(allowance, amount, 452)
        allowance.recipients += 1
        allowance.new = new

    @asynccontextmanager
    async def taking(
        self, allowance: Allowance, size_bytes: int, recipients: Sequence[str]
    ) -> AsyncIterator[Reply | None]:
        """Count the message that is about to be stored; why it is to be held, or None.

        What could not be stored after all has not been counted. Raises ``TryLater`` where it is refused.
        """
        taken, held = await self._take(allowance, size_bytes, recipients)
        try:
            yield held
        except BaseException:
            now = self._now()
            await self._file.run(lambda file: usagefile.give_back(file, allowance.bounds, taken, now), otherwise=None)
            raise

    async def _take(
        self, allowance: Allowance, size_bytes: int, recipients: Sequence[str]
    ) -> tuple[Taken, Reply | None]:
        now, amount = self._now(), Amount(1, len(recipients), size_bytes)
        keys = [usagefile.key(allowance.login, recipient) for recipient in recipients]
        taken = await self._file.run(
            lambda file: usagefile.take(file, allowance.bounds, amount, keys, now), otherwise=Taken()
        )
        await self._tidy(now)
        found = taken.refused or taken.held
        if found is not None and taken.is_news:
            await self._tell(allowance, found)
        if taken.refused is not None:
            raise _refusal(taken.refused, now, 452)
        held = Reply(450, "4.7.1", f"{_limit(taken.held)}; held") if taken.held is not None else None
        return taken, held

    async def _check(self, allowance: Allowance, amount: Amount, code: int) -> None:
        now = self._now()
        for bound in allowance.refusing:
            found = excess(bound, allowance.used.get(bound.name, Usage()), amount, now)
            if found is not None:
                if await self._file.run(
                    lambda file, name=bound.name: usagefile.tell(file, name, now), otherwise=False
                ):
                    await self._tell(allowance, found)
                raise _refusal(found, now, code)

    async def _tell(self, allowance: Allowance, found: Excess) -> None:
        """The operator hears, if he can be reached now; the sender's reply does not depend on it."""
        name = found.bound.name
        log.warning(
            "sending-limit-reached",
            name=name,
            login=allowance.login,
            peer=allowance.peer,
            limit=f"{found.most} {_words(found)} a {found.span}",
            action="hold" if found.bound.holds else "refuse",
        )
        if not await self._notices.limit_reached(found, allowance.login, allowance.peer):
            await self._file.run(lambda file: usagefile.untell(file, name), otherwise=None)

    async def _tidy(self, now: float) -> None:
        self._untidy += 1
        if self._untidy >= TIDY_SHARE:
            self._untidy = 0
            await self._file.run(lambda file: usagefile.tidy(file, now), otherwise=None)

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _refusal(found: Excess, now: float, code: int) -> TryLater:
    reason = f"{found.bound.name}: {found.used} {_words(found)} in this {found.span}, {found.most} allowed"
    return TryLater(reason, _reply(found, now, code))


def _reply(found: Excess, now: float, code: int) -> Reply:
    minutes = max(round((found.until - now) / 60), 1)
    wait = f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
    return Reply(code, "4.7.1", f"{_limit(found)}; try again in {wait}")


def _limit(found: Excess) -> str:
    limit = f"{found.most} {_words(found)} {'an' if found.span == 'hour' else 'a'} {found.span}"
    return f"Sending limit of {printable(found.bound.name)} reached: {limit}"


def _words(found: Excess) -> str:
    return _WORDS.get(found.kind, found.kind)
