"""Header sections in the states they arrive in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message import charsets
from posthouse.message.headers import decode_words, fields, first, fold, header_end, printable, unfold, without


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"A: b\r\n\r\nbody\r\n\r\n", 8),
        (b"A: b\n\nbody\n\n", 6),
        (b"A: b\n\r\nbody", 7),
        (b"A: b\r\n\nbody", 7),
        (b"A: b\r\rbody\r\r", 6),
        (b"\r\nbody", 2),
        (b"\nbody\n\nmore", 1),
        (b"\rbody", 1),
        (b"A: b\r\n", 6),
        (b"A: b", 4),
        (b"", 0),
        (b"A: b\r\n \r\n c\r\n\r\nbody", 15),
        (b"A: b\r\rC: d\n\nbody", 12),
    ],
)
def test_a_header_section_ends_after_its_first_blank_line(data, end):
    assert header_end(data) == end


def test_fields_keep_their_raw_value_and_their_place():
    data = b"From alice Sun Nov 22 18:44:19 2026\r\nA: one\r\n two\r\nb : \xff\0\r\nno field\r\nA:\r\n\r\nX: y\r\n"
    found = fields(data)
    assert [(field.name, field.value) for field in found] == [
        (b"A", b" one\r\n two"),
        (b"b", b" \xff\0"),
        (b"A", b""),
    ]
    assert data[found[0].start : found[0].end] == b"A: one\r\n two\r\n"
    assert first(found, b"B") == found[1]
    assert first(found, b"X") is None


def test_a_header_section_in_mac_line_ends_is_read():
    data = b"A: one\r two\rB: three\r\rbody: x\r"
    assert [(field.name, unfold(field.value)) for field in fields(data)] == [(b"A", b"one two"), (b"B", b"three")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b" =?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=\r\n\t=?utf-8?b?Yg==?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"x =?utf-8?q?=C3?= =?utf-8?q?=A4?= y", "x ä y"),
        (b"=?utf-8*de?q?=C3=A4?=", "ä"),
        (b"=?utf-8?b?w6Q?=", "ä"),
        (b"=?utf-8?b?w6!Q?=", "ä"),
        (b"=?utf-8?b?w6Q9A?=", "ä="),
        (b"=?no-such?q?=C3=A4?=", "ä"),
        (b"=?rot13?q?abc?= =?idna?q?abc?=", "abcabc"),
        (b"=?utf-8?q?a b?=", "a b"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
        (b"=?utf-8?q?a", "=?utf-8?q?a"),
        ("grün".encode(), "grün"),
        ("grün".encode("latin-1"), "grün"),
        (b"  plain \r\n text ", "plain  text"),
    ],
)
def test_encoded_words_become_text(value, text):
    """RFC 2047 §8 and the broken ones that are common."""
    assert decode_words(value) == text


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.from_regex(rb"(=\?[a-z0-9-]{1,9}\?[qb]\?[ -~]{0,9}\?= ?){1,5}", fullmatch=True))
def test_no_octets_raise(data):
    end = header_end(data)
    assert 0 <= end <= len(data)
    found = fields(data)
    assert all(0 <= field.start < field.end <= end for field in found)
    assert [field.start for field in found] == sorted(field.start for field in found)
    decode_words(data)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.text(max_size=50) | st.sampled_from(["utf-7", "base64", "zip", "../x", "utf-16"]))
def test_any_charset_name_gives_some_text(data, charset):
    assert isinstance(charsets.decode(data, charset), str)


def test_hostile_header_sections_take_linear_time():
    for hostile in (b"A: b\r\n" * 300_000, b"a" * 2_000_000, b"A:" + b"\r\n x" * 500_000, b"\r" * 2_000_000 + b"\n"):
        fields(hostile)
        unfold(hostile)
    for hostile in (b"=?" * 500_000, b"=?a?q?" * 200_000, b"=?u?q?x?= " * 100_000):
        decode_words(hostile)


def test_a_field_is_folded_between_words_and_torn_only_past_what_a_line_may_hold():
    folded = fold("X-Long", ["word"] * 40 + ["y" * 2000])
    assert folded.endswith("\r\n")
    assert all(len(line) <= 78 or set(line) <= {"\t", "y"} for line in folded.split("\r\n"))
    assert max(len(line) for line in folded.split("\r\n")) < 998
    assert unfold(folded.encode()).count(b"word") == 40
    assert fold("X-None", []) == "X-None:\r\n"


def test_what_is_not_printable_becomes_a_question_mark():
    assert printable("a\r\nb\0ü") == "a??b??"
    assert printable("a\x85ü\u2028", utf8=True) == "a?ü?"


@pytest.mark.parametrize(
    ("data", "left"),
    [
        (b"From me Sun Nov 22 18:44:19\r\nA: 1\r\n 2\r\nno field\r\nB: 3\r\n\r\nA: body\r\n",
         b"From me Sun Nov 22 18:44:19\r\nno field\r\nB: 3\r\n\r\n"),
        (b"a : 1\r\n\r\n", b"\r\n"),
        (b"B: 1\nA: 2\n\nbody", b"B: 1\n\r\n"),
        (b"B: 1\rA: 2\r\rbody", b"B: 1\r\r\n"),
        (b"\r\nA: body\r\n", b"\r\n"),
        (b"B: 1\r\nA: 2", b"B: 1\r\n\r\n"),
        (b"", b"\r\n"),
    ],
)  # fmt: skip
def test_what_is_no_field_stays_where_fields_are_left_out(data, left):
    """RFC 3501 §6.4.5: HEADER.FIELDS.NOT has what HEADER.FIELDS has not."""
    assert without(data, {b"a"}) == left
