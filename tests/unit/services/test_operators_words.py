"""What operators write: quotas, routes, times and CSV files."""

import io
from datetime import UTC, datetime

import pytest

from posthouse.services import audit, quotas, relocated, transports
from posthouse.services.changes import NotChanged
from posthouse.services.csvlines import Lines


@pytest.mark.parametrize(
    ("written", "kept", "size"),
    [
        ("", "", None),
        ("none", "", None),
        ("5", "5", 5),
        ("2k", "2048", 2048),
        ("1S,5C", "1S,5C", 1),
        ("5C", "5C", None),
    ],
)
def test_a_quota_is_bytes_or_as_courier_has_it(written, kept, size):
    assert quotas.quota_text(written) == kept
    assert quotas.quota_bytes(kept) == size


@pytest.mark.parametrize("written", ["1 GB", "-1", "1.5G", "٣", "1S,2S,3S", "x" * 10_000])
def test_what_is_no_quota_is_refused(written):
    with pytest.raises(NotChanged):
        quotas.quota_text(written)


@pytest.mark.parametrize(
    "value",
    [
        "virtual:",
        "local:",
        "smtp:",
        ":mail.a.test",
        "smtp:[192.0.2.1]:2525",
        "relay:[2001:db8::1]",
        "relay:[ipv6:2001:db8::1]:25",
        "lmtp:unix:/run/lmtp",
        "lmtp:inet:127.0.0.1:24",
        "error:5.1.1 Nobody here",
        "discard:",
    ],
)
def test_a_transport_is_a_known_name_and_a_nexthop_that_fits(value):
    assert transports.transport_value(value) == (value, "")


@pytest.mark.parametrize(
    "value",
    ["smtp", "", ":", "smtp:a b", "smtp:[a", "relay:a:99999", "lmtp:unix:run", "sm tp:x", "smtp:\x1b", "smtp:a:b:c"],
)
def test_a_transport_that_can_t_be_is_refused(value):
    with pytest.raises(NotChanged):
        transports.transport_value(value)


def test_a_transport_that_nobody_defined_is_kept_with_a_warning():
    value, warning = transports.transport_value("CYRUS:host!user")
    assert (value, "cyrus" in warning) == ("cyrus:host!user", True)


@pytest.mark.parametrize(
    ("where", "key"),
    [("A.test", "a.test"), (".BÜCHER.test", ".xn--bcher-kva.test"), ("*", "*"), ("Bob@A.test", "bob@a.test")],
)
def test_a_route_is_for_a_domain_what_is_below_it_an_address_or_everything(where, key):
    assert transports.transport_key(where) == key


def test_who_has_moved_is_told_an_address_a_text_or_nothing():
    assert relocated.moved_to("") == relocated.moved_to("Unknown") == "unknown"
    assert relocated.moved_to("new@E.test") == "new@e.test"
    assert relocated.moved_to("Ask the office") == "Ask the office"
    with pytest.raises(NotChanged):
        relocated.moved_to("a\r\nb")


@pytest.mark.parametrize(
    ("since", "time"),
    [
        ("2026-11-22", "2026-11-22T00:00:00.000Z"),
        ("2026-11-22T21:00", "2026-11-22T21:00:00.000Z"),
        ("2026-11-22T21:00+02:00", "2026-11-22T19:00:00.000Z"),
        ("90m", "2026-11-30T10:30:00.000Z"),
        ("1w", "2026-11-23T12:00:00.000Z"),
    ],
)
def test_a_time_is_a_date_or_how_long_ago(since, time):
    assert audit.since_time(since, datetime(2026, 11, 30, 12, tzinfo=UTC)) == time


def read(text, known=("a", "b"), required=("a",)):
    lines = Lines(io.StringIO(text), known, required)
    found = list(lines.batches(2))
    return [line for batch, _ in found for line in batch], [one for _, problems in found for one in problems]


def test_lines_have_the_numbers_that_an_editor_shows():
    lines, problems = read('\ufeffA ,b\n1,2\n\n"3",""""\nx\ny,"z\n')
    assert [(line.number, line.values) for line in lines] == [(2, {"a": "1", "b": "2"}), (4, {"a": "3", "b": '"'})]
    assert [problem.number for problem in problems] == [5, 6]


def test_only_a_password_may_have_what_is_not_printed():
    text = 'a,clear\nx,"s\u00ad\n"\n"x\u00ad",s\nx,"\0"\n'
    lines, problems = read(text, known=("a", "clear"))
    assert [line.values["clear"] for line in lines] == ["s\u00ad\n"]
    assert [problem.text for problem in problems] == ["a has control characters", "clear has control characters"]


@pytest.mark.parametrize("text", ["", "b\n", "a,a\n", "a,c\n", '"a\n'])
def test_a_header_that_can_t_be_used_is_refused(text):
    with pytest.raises(NotChanged, match="line 1"):
        read(text)
