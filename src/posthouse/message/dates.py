"""Dates as mail writes them: RFC 5322 §3.3 and §4.3, and IMAP's own (RFC 3501 §9, date, date-time).

Invariants:
  1. Reading never raises: what is no date is None. Every time read has its zone, as written.
  2. Writing does not depend on the locale.
"""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
_EPOCH = date(1970, 1, 1).toordinal()
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
# RFC 5322 §4.3, in hours. Every other name, the military letters too, means a zone unknown: UTC.
_ZONES = {"est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8, "pdt": -7}

_MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*+"
_TIME = r"(?P<hour>\d{1,2})\s*[:.]\s*(?P<minute>\d{2})(?:\s*[:.]\s*(?P<second>\d{2}))?"
_ZONE = r"(?:\s*(?P<zone>[+-]\d{4}|[a-z]{1,5}))?"
_FLAGS = re.IGNORECASE | re.ASCII
_RFC5322 = re.compile(
    rf"(?<!\d)(?P<day>\d{{1,2}})[\s-]*{_MONTH}[\s,-]*(?P<year>\d{{2,4}})(?!\d)(?:[\s,]*{_TIME}{_ZONE})?", _FLAGS
)
# What ctime(3) prints, which some programs put into Date: too.
_CTIME = re.compile(rf"{_MONTH}\s+(?P<day>\d{{1,2}}),?\s+(?:{_TIME}{_ZONE}\s+)?(?P<year>\d{{4}})(?!\d)", _FLAGS)
_COMMENT = re.compile(r"\([^()]*\)?")
_LONGEST = 256

_INTERNAL = re.compile(
    r"(?P<day>[ \d]\d)-(?P<month>[a-z]{3})-(?P<year>\d{4}) "
    r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2}) (?P<zone>[+-]\d{4})",
    _FLAGS,
)
_SEARCH_DATE = re.compile(r"(\d{1,2})-([a-z]{3})-(\d{4})", _FLAGS)


def parse_date(value: bytes | str) -> datetime | None:
    """The time in a Date or Resent-Date field's value; obsolete and slightly broken ones too."""
    text = value[:_LONGEST]
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    text = _COMMENT.sub(" ", text)
    found = _RFC5322.search(text) or _CTIME.search(text)
    return _datetime(found) if found else None


def format_date(time: datetime) -> str:
    """``Sun, 22 Nov 2026 18:44:19 +0000`` (RFC 5322 §3.3)."""
    return (
        f"{_DAYS[time.weekday()]}, {time.day} {_MONTHS[time.month - 1]} {time.year:04} {time:%H:%M:%S} {_zone(time)}"
    )


def parse_internal_date(value: str) -> datetime | None:
    """IMAP's date-time without its quotes: ``" 7-Jul-1996 02:44:25 -0700"``."""
    found = _INTERNAL.fullmatch(value)
    return _datetime(found) if found else None


def format_internal_date(time: datetime) -> str:
    """IMAP's date-time, without quotes."""
    return f"{time.day:2}-{_MONTHS[time.month - 1]}-{time.year:04} {time:%H:%M:%S} {_zone(time)}"


def format_internal_seconds(seconds: int) -> str:
    """The same for seconds since the epoch, in UTC; times before the year 1 or after 9999 are on their day."""
    day, second = divmod(seconds, 86_400)
    return f"{_internal_day(day)} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02} +0000"


@lru_cache(maxsize=4096)
def _internal_day(day: int) -> str:
    when = date.fromordinal(min(max(day + _EPOCH, 1), date.max.toordinal()))
    return f"{when.day:2}-{_MONTHS[when.month - 1]}-{when.year:04}"


def parse_search_date(value: str) -> date | None:
    """IMAP's date in SEARCH, without quotes: ``1-Feb-1994``."""
    found = _SEARCH_DATE.fullmatch(value)
    if not found:
        return None
    try:
        return date(int(found[3]), _MONTH_NUMBERS.get(found[2].lower(), 0), int(found[1]))
    except ValueError:
        return None


def _datetime(found: re.Match[str]) -> datetime | None:
    try:
        return datetime(
            _year(found["year"]),
            _MONTH_NUMBERS.get(found["month"].lower(), 0),
            int(found["day"]),
            int(found["hour"] or 0),
            int(found["minute"] or 0),
            min(int(found["second"] or 0), 59),  # a leap second has no number of its own here
            tzinfo=_timezone(found["zone"] or ""),
        )
    except ValueError:
        return None


def _year(digits: str) -> int:
    """RFC 5322 §4.3."""
    year = int(digits)
    if len(digits) == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(digits) == 3 else year


def _timezone(zone: str) -> timezone:
    if zone[:1] in ("+", "-"):
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:]))
        return timezone(-offset if zone[0] == "-" else offset) if offset < timedelta(hours=24) else UTC
    hours = _ZONES.get(zone.lower(), 0)
    return timezone(timedelta(hours=hours)) if hours else UTC


def _zone(time: datetime) -> str:
    """A time without a zone counts as UTC."""
    minutes = int((time.utcoffset() or timedelta()).total_seconds()) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
