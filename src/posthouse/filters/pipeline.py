"""All filters of a process, asked at once about each message.

Invariants:
  1. ``judge`` raises nothing, and takes as long as the longest of the filters' time limits at most, whatever they do:
     one that hangs, crashes, lies or floods costs its message a delay.
  2. What a filter wants to have written into a message can end no line and has ``MAX_FIELD_BYTES`` at most.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from posthouse.filters.filter import Filter, FilterTrouble, Mail
from posthouse.filters.verdict import UNCHECKED_FIELD, Action, Finding, Verdict, agreed, unscanned
from posthouse.runtime.log import log

MAX_FIELDS = 100
MAX_FIELD_BYTES = 8192
MAX_REASONS = 50
MAX_TEXT = 500
FAILURES = {"defer": Action.DEFER, "pass": Action.TAG, "hold": Action.HOLD}
"""What is done where a filter does not answer, by the words of the configuration."""

_NAME = re.compile(r"[!-9;-~]{1,70}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A filter, how long it may take, and what is done (``FAILURES``) where it fails; ``scans``: for viruses."""

    filter: Filter
    timeout_seconds: float
    on_failure: str = "defer"
    scans: bool = False
    max_size_bytes: int = 0
    """Larger messages are not shown to it; 0: it sees all."""


class Pipeline:
    """``all_must``: a virus is one only where every scanner finds one."""

    def __init__(self, entries: Sequence[Entry], *, all_must: bool = False) -> None:
        self._entries = tuple(entries)
        self._scanners = frozenset(entry.filter.name for entry in entries if entry.scans)
        self._all_must = all_must

    async def close(self) -> None:
        for entry in self._entries:
            await entry.filter.close()

    async def judge(self, mail: Mail) -> tuple[Verdict, ...]:
        """What they say, in the order of the configuration."""
        verdicts = await asyncio.gather(*(_ask(entry, mail) for entry in self._entries))
        return agreed(verdicts, self._scanners, all_must=self._all_must)


async def _ask(entry: Entry, mail: Mail) -> Verdict:
    name = entry.filter.name
    if entry.max_size_bytes and mail.size > entry.max_size_bytes:
        return unscanned(name, f"{mail.size} octets, {entry.max_size_bytes} are looked at")
    task = asyncio.ensure_future(entry.filter.judge(mail))
    try:
        # Not wait_for: it would wait for one that does not let itself be cancelled.
        await asyncio.wait({task}, timeout=entry.timeout_seconds)
        if not task.done():
            return _failed(entry, mail, f"no answer within {entry.timeout_seconds:g} s")
        return _checked(task.result(), name)
    except FilterTrouble as error:
        return _failed(entry, mail, str(error))
    except (OSError, TimeoutError) as error:
        return _failed(entry, mail, str(error) or type(error).__name__)
    except asyncio.CancelledError:
        if not task.done():
            raise
        return _failed(entry, mail, "it gave up")
    except Exception as error:  # noqa: BLE001 - a filter that crashes is one that does not answer
        log.exception("filter-crashed", trace=mail.trace_id, filter=name)
        return _failed(entry, mail, f"it crashed: {type(error).__name__}")
    finally:
        if not task.done():
            task.add_done_callback(_forget)
            task.cancel()


def _failed(entry: Entry, mail: Mail, reason: str) -> Verdict:
    name, action = entry.filter.name, FAILURES[entry.on_failure]
    reason = _text(reason)
    log.warning("filter-failed", trace=mail.trace_id, filter=name, reason=reason, action=action.word)
    headers = ((UNCHECKED_FIELD, f"{name} did not answer"),) if action == Action.TAG else ()
    return Verdict(name, action, reasons=(f"did not answer: {reason}",), headers=headers, has_failed=True)


def _checked(verdict: Verdict, name: str) -> Verdict:
    """As it may be used. Raises ``FilterTrouble`` for what is no verdict."""
    if not isinstance(verdict, Verdict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise FilterTrouble("its answer is no verdict")
    if len(verdict.headers) > MAX_FIELDS or len(verdict.changes) > 10 * MAX_FIELDS:
        raise FilterTrouble(f"it wants {len(verdict.headers)} fields and {len(verdict.changes)} changes")
    for field, value in verdict.headers:
        if not _NAME.fullmatch(field) or len(value) > MAX_FIELD_BYTES:
            raise FilterTrouble(f"it wants a field that can't be: {_text(field)}")
    return replace(
        verdict,
        filter=name,
        reasons=tuple(map(_text, verdict.reasons[:MAX_REASONS])),
        findings=tuple(Finding(one.kind, _text(one.name), _text(one.part)) for one in verdict.findings[:MAX_REASONS]),
    )


def _text(text: str) -> str:
    """A line for log and operator."""
    text = text[:MAX_TEXT]
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def _forget(task: "asyncio.Future[Verdict]") -> None:
    """Nobody waits for it any more: what it raises is nobody's."""
    if not task.cancelled():
        task.exception()
