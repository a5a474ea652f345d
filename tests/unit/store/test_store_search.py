"""SEARCH on real messages (RFC 3501 §6.4.4)."""

import base64
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message import query as q
from posthouse.message.casemap import casemap
from posthouse.message.query import STAR
from posthouse.store import searchtext

GERMAN = (
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= aus\r\n Berlin\r\nDate: Mon, 5 Jan 2026 23:30:00 -0800\r\n"
    b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Sch=F6ne Gr=FC=\r\n=DFe\r\n"
)
NESTED = (
    b"Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes("Ein Straßenfest".encode()).replace(b"\n", b"\r\n")
    + b"\r\n--b\r\nContent-Type: application/pdf\r\n\r\ninvisible\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: within\r\n\r\ninner words\r\n--b--\r\n"
)


@pytest.fixture
def view(post):
    post.append(data=GERMAN, flags={"\\Seen", "Work"}, date=datetime(2026, 1, 6, tzinfo=UTC))
    post.append(data=NESTED, date=datetime(2026, 3, 1, tzinfo=UTC))
    post.append(data=b"X-Empty:\r\n\r\n" + b"long " * 120_000 + b"needle\r\n", flags={"\\Flagged"})
    return post.select()


@pytest.mark.parametrize(
    ("key", "uids"),
    [
        (q.All(), [1, 2, 3]),
        (q.And(()), [1, 2, 3]),
        (q.HasFlag("\\Seen"), [1]),
        (q.HasFlag("work"), [1]),
        (q.Not(q.HasFlag("\\Recent")), []),
        (q.Or(q.HasFlag("\\Flagged"), q.Body("straßenfest")), [2, 3]),
        (q.SequenceSet(((2, STAR),)), [2, 3]),
        (q.UidSet(((1, 1), (3, 9))), [1, 3]),
        (q.UidSet(((9, STAR),)), [3]),
        (q.Larger(1000), [3]),
        (q.Smaller(1000), [1, 2]),
        (q.Before(date(2026, 1, 6)), []),
        (q.On(date(2026, 1, 6)), [1]),
        (q.Since(date(2026, 3, 1)), [2, 3]),
        (q.SentOn(date(2026, 1, 5)), [1]),
        (q.SentBefore(date(2026, 1, 6)), [1]),
        (q.SentSince(date(2026, 1, 6)), []),
        (q.Header("subject", "GRÜßE AUS BERLIN"), [1]),
        (q.Header("X-Empty", ""), [3]),
        (q.Header("X-None", ""), []),
        (q.Body("schöne grüße"), [1]),
        (q.Body("berlin"), []),
        (q.Text("berlin"), [1]),
        (q.Body("straßenFEST"), [2]),
        (q.Body("invisible"), []),
        (q.Body("subject: within"), [2]),
        (q.Body("inner words"), [2]),
        (q.Body("long needle"), [3]),
        (q.And((q.Text("e"), q.Not(q.HasFlag("\\Seen")), q.Since(date(2026, 2, 1)))), [2, 3]),
    ],
)
def test_a_key_finds_its_messages(post, view, key, uids):
    assert post.run(view.search(key)) == uids


def test_an_empty_mailbox_has_nothing_to_find(post):
    assert post.run(post.select().search(q.UidSet(((1, STAR),)))) == []


HEADERS = st.lists(st.text("aB: \t=?q\r\n-é", max_size=12), max_size=5).map("\r\n".join)


@given(HEADERS, st.text("aB: \t=?q\r\n-é", min_size=1, max_size=6))
def test_a_header_section_that_may_not_have_a_text_does_not_have_it(section, text):
    """What is seen at once is what decoding each field would have shown."""
    octets, needle = section.encode(), casemap(text)
    if any(needle in unit for unit in searchtext.header_units(octets)):
        assert searchtext.may_have(octets, searchtext.longest_word(needle))
