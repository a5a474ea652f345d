"""Whatever a filter does, the message gets a verdict, and the process lives on."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from posthouse.filters.filter import FilterTrouble, Mail
from posthouse.filters.pipeline import FAILURES, MAX_FIELD_BYTES, Entry, Pipeline
from posthouse.filters.verdict import Action, Finding, Verdict
from posthouse.journal.content import Content

SHORT = 0.05
MAIL = Mail(Content.of(b"Subject: hello\r\n\r\nbody\r\n"), "trace", "a@a.test", ("b@b.test",))


class Judge:
    """A filter that does what it is told."""

    def __init__(self, name: str, work: Callable[[Mail], Awaitable[Verdict]]) -> None:
        self.name = name
        self._work = work

    async def judge(self, mail: Mail) -> Verdict:
        return await self._work(mail)

    async def close(self) -> None: ...


async def hangs(_: Mail) -> Verdict:
    await asyncio.Event().wait()
    raise AssertionError


async def hangs_and_will_not_be_cancelled(_: Mail) -> Verdict:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(SHORT)
            raise RuntimeError("late") from None


async def crashes(_: Mail) -> Verdict:
    raise ZeroDivisionError


async def is_away(_: Mail) -> Verdict:
    raise ConnectionRefusedError(111, "Connection refused")


async def cannot_say(_: Mail) -> Verdict:
    raise FilterTrouble("it said 'x'\r\n")


async def cancels_itself(_: Mail) -> Verdict:
    raise asyncio.CancelledError


async def lies(_: Mail) -> Verdict:
    return "accept"  # type: ignore[return-value]


async def floods(_: Mail) -> Verdict:
    return Verdict("x", headers=(("X-A", "a" * (MAX_FIELD_BYTES + 1)),))


async def floods_with_fields(_: Mail) -> Verdict:
    return Verdict("x", headers=(("X-A", "a"),) * 1000)


async def injects(_: Mail) -> Verdict:
    return Verdict("x", headers=(("X-A: b\r\nX-B", "a"),))


BAD = [hangs, hangs_and_will_not_be_cancelled, crashes, is_away, cannot_say, cancels_itself, lies, floods,
       floods_with_fields, injects]  # fmt: skip


def run(*entries: Entry) -> tuple[Verdict, ...]:
    async def judge() -> tuple[Verdict, ...]:
        pipeline = Pipeline(entries)
        try:
            return await pipeline.judge(MAIL)
        finally:
            await pipeline.close()
            if left := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(left, timeout=30)

    return asyncio.run(judge())


@pytest.mark.parametrize("work", BAD, ids=lambda work: work.__name__)
@pytest.mark.parametrize("on_failure", FAILURES)
def test_a_filter_that_fails_costs_a_delay_and_what_is_configured(work, on_failure):
    (verdict,) = run(Entry(Judge("bad", work), SHORT, on_failure))
    assert (verdict.filter, verdict.action, verdict.has_failed) == ("bad", FAILURES[on_failure], True)
    assert verdict.reasons[0].startswith("did not answer: ")
    assert verdict.reasons[0].isprintable()
    assert bool(verdict.headers) == (on_failure == "pass")


def test_filters_are_asked_at_once_and_answer_in_the_configured_order():
    async def judge() -> list[str]:
        met = asyncio.Barrier(3)  # each waits until all are asked

        async def work(_: Mail) -> Verdict:
            await met.wait()
            return Verdict("whatever it calls itself")

        names = ("one", "two", "three")
        found = await Pipeline([Entry(Judge(name, work), 30) for name in names]).judge(MAIL)
        return [verdict.filter for verdict in found]

    assert asyncio.run(judge()) == ["one", "two", "three"]


def test_one_that_fails_takes_nothing_from_the_others():
    async def finds(_: Mail) -> Verdict:
        return Verdict("x", Action.REJECT, findings=(Finding("virus", "Bad\r\nName"),))

    first, second = run(Entry(Judge("bad", crashes), SHORT), Entry(Judge("good", finds), 30))
    assert first.has_failed
    assert second.viruses == ("Bad??Name",)


def test_a_message_that_is_too_large_for_a_filter_is_not_shown_to_it():
    (verdict,) = run(Entry(Judge("small", crashes), SHORT, max_size_bytes=10))
    assert [finding.kind for finding in verdict.findings] == ["unscanned"]
    assert not verdict.has_failed
