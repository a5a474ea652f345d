"""Dates of mail and of IMAP."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message.dates import (
    format_date,
    format_internal_date,
    parse_date,
    parse_internal_date,
    parse_search_date,
)

ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1950, 1, 1), timezones=ZONES).map(lambda time: time.replace(microsecond=0))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        (b"Fri, 21 Nov 1997 09:55:06 -0600", "1997-11-21T09:55:06-06:00"),
        ("21 Nov 97 09:55:06 GMT", "1997-11-21T09:55:06+00:00"),
        ("21 Nov 04 09:55 EST", "2004-11-21T09:55:00-05:00"),
        ("1 Jan 100 00:00:00 Z", "2000-01-01T00:00:00+00:00"),
        ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"),
        ("Thu,\r\n      13\r\n        Feb\r\n 1969 23:32 -0330 (Newfoundland Time)", "1969-02-13T23:32:00-03:30"),
        ("Sun Nov 22 18:44:19 2026", "2026-11-22T18:44:19+00:00"),
        ("Sun Nov  1 18:44:19 PST 2026", "2026-11-01T18:44:19-08:00"),
        ("Sun, 22-Nov-2026 18.44.19 +0100", "2026-11-22T18:44:19+01:00"),
        ("31 Dec 2016 23:59:60 +0000", "2016-12-31T23:59:59+00:00"),
        ("22 November 2026", "2026-11-22T00:00:00+00:00"),
        ("22 Nov 2026 18:44:19 +9900", "2026-11-22T18:44:19+00:00"),
    ],
)
def test_dates_are_read_with_their_zone(value, iso):
    """RFC 5322 §3.3, §4.3, appendix A.6."""
    time = parse_date(value)
    assert time is not None
    assert time.isoformat() == iso


@pytest.mark.parametrize(
    "value", ["", "yesterday", "32 Jan 2026", "30 Feb 2026 10:00", "1 Foo 2026", b"\xff\0", "1 Jan 0000"]
)
def test_what_is_no_date_is_none(value):
    assert parse_date(value) is None


def test_internal_dates_are_strict():
    """RFC 3501 §9, date-time."""
    assert parse_internal_date(" 7-Jul-1996 02:44:25 -0700") == datetime.fromisoformat("1996-07-07T02:44:25-07:00")
    for broken in (
        "7-Jul-1996 02:44:25 -0700",
        " 7-Jul-1996",
        "31-Feb-1996 02:44:25 -0700",
        "31-Jxx-1996 02:44:25 -0700",
    ):
        assert parse_internal_date(broken) is None
    assert format_internal_date(datetime(1996, 7, 7, 2, 44, 25, tzinfo=UTC)) == " 7-Jul-1996 02:44:25 +0000"


def test_search_dates_have_no_time():
    assert parse_search_date("1-Feb-1994") == date(1994, 2, 1)
    assert parse_search_date("29-feb-1994") is None
    assert parse_search_date("1 Feb 1994") is None


@settings(max_examples=60, deadline=None)
@given(TIMES)
def test_what_is_written_is_read_again(time):
    assert parse_date(format_date(time)) == time
    assert parse_internal_date(format_internal_date(time)) == time


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100) | st.from_regex(r"[0-9 :+,JanFebPST-]{0,60}", fullmatch=True))
def test_no_input_raises(value):
    parse_date(value)
    if isinstance(value, str):
        parse_internal_date(value)
        parse_search_date(value)
