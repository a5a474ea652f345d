"""How much may be sent, and how much has been: the arithmetic, without a clock or a file.

An hour and a day begin with the first message that is counted and end 3,600 and 86,400 seconds later.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace

from posthouse.config.submission import Limits, Submission
from posthouse.directory.model import SendingLimits
from posthouse.message.address import lookup_key, split

SPANS = {"hour": 3_600.0, "day": 86_400.0}
HELD_FACTOR = 10
"""How many times a limit is held before the rest is refused: the disk is not for whoever has stolen a password."""


@dataclass(frozen=True, slots=True)
class Amount:
    """What a message comes to, what has been sent, or the most that may be (0: no limit)."""

    messages: int = 0
    recipients: int = 0
    bytes: int = 0
    new_recipients: int = 0


KINDS = tuple(field.name for field in fields(Amount))
NOTHING = Amount()


@dataclass(frozen=True, slots=True)
class Window:
    """What has been sent ``since`` (seconds since 1970)."""

    since: float = 0.0
    used: Amount = NOTHING


@dataclass(frozen=True, slots=True)
class Usage:
    """What one name has sent, in the hour and the day of now."""

    hour: Window = Window()
    day: Window = Window()


@dataclass(frozen=True, slots=True)
class Bound:
    """What one name, a login's or a domain's, may send. ``holds``: what is more is held, not refused."""

    name: str
    hour: Amount = NOTHING
    day: Amount = NOTHING
    holds: bool = False

    @property
    def is_limited(self) -> bool:
        return self.hour != NOTHING or self.day != NOTHING

    @property
    def limits_new_recipients(self) -> bool:
        return bool(self.hour.new_recipients or self.day.new_recipients)


@dataclass(frozen=True, slots=True)
class Excess:
    """A limit that a message would go beyond: of the name, in its ``span``, ``used`` of ``most``; until then."""

    bound: Bound
    kind: str
    span: str
    used: int
    most: int
    until: float


def bounds(
    login: str, found: tuple[SendingLimits, SendingLimits, SendingLimits], settings: Submission
) -> tuple[Bound, Bound]:
    """What a login may send, and what its domain. ``found``: what is set for it, each login there, and the domain."""
    own, each, together = found
    key = lookup_key(login)
    return (
        _bound(key, (own, each), settings.account, settings.over_limit),
        _bound(split(key)[1], (together,), settings.domain, settings.over_limit),
    )


def _bound(name: str, found: tuple[SendingLimits, ...], default: Limits, over_limit: str) -> Bound:
    most: dict[str, int] = {}
    for field in fields(Limits):
        said = (getattr(one, field.name) for one in found)
        most[field.name] = next((value for value in said if value is not None), getattr(default, field.name))
    action = next((one.over_limit for one in found if one.over_limit), over_limit)
    hour, day = (Amount(*(most[f"{kind}_per_{span}"] for kind in KINDS)) for span in SPANS)
    return Bound(name, hour, day, holds=action == "hold")


def current(usage: Usage, now: float) -> Usage:
    """The same without what is over, or lies in the future: a clock was wrong."""
    return Usage(
        *(
            window if window.since <= now < window.since + seconds else Window()
            for window, seconds in zip((usage.hour, usage.day), SPANS.values(), strict=True)
        )
    )


def added(usage: Usage, amount: Amount, now: float, *, sign: int = 1) -> Usage:
    """What has been sent with ``amount`` too, or with ``sign`` -1 without it, but never less than nothing."""
    usage = current(usage, now)
    return Usage(*(_added(window, amount, now, sign) for window in (usage.hour, usage.day)))


def _added(window: Window, amount: Amount, now: float, sign: int) -> Window:
    sums = (max(used + sign * more, 0) for used, more in zip(astuple(window.used), astuple(amount), strict=True))
    total = Amount(*sums)
    return replace(window, since=window.since if window.used != NOTHING else now, used=total)


def excess(bound: Bound, usage: Usage, amount: Amount, now: float, *, factor: int = 1) -> Excess | None:
    """The limit that ``amount`` would go beyond, ``factor`` times it; the one that lasts longest."""
    found = list(_excesses(bound, current(usage, now), amount, now, factor))
    return max(found, key=lambda one: one.until, default=None)


def _excesses(bound: Bound, usage: Usage, amount: Amount, now: float, factor: int) -> Iterator[Excess]:
    for span, seconds in SPANS.items():
        window: Window = getattr(usage, span)
        limits: Amount = getattr(bound, span)
        for kind in KINDS:
            most, used = getattr(limits, kind), getattr(window.used, kind)
            more = getattr(amount, kind)
            if most and more and used + more > most * factor:
                until = (window.since or now) + seconds
                yield Excess(bound, kind, span, used, most, until)
