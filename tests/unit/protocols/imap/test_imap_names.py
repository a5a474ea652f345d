"""Modified UTF-7, wildcards and sequence sets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.protocols.imap import mutf7
from posthouse.protocols.imap.cursor import BadCommandError, Cursor
from posthouse.protocols.imap.render import sequence_set
from posthouse.protocols.imap.sequence import parse_sequence_set, sequence_slices, uid_slices
from posthouse.protocols.imap.wildcards import Wildcards


def test_a_name_in_several_languages_is_written_as_the_rfc_shows():
    """RFC 3501 §5.1.3."""
    wire = b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"
    assert mutf7.decode(wire) == "~peter/mail/台北/日本語"
    assert mutf7.encode("~peter/mail/台北/日本語") == wire


@pytest.mark.parametrize(
    "wire",
    [
        b"&Jjo!",
        b"&U,BTFw-&ZeVnLIqe-",
        b"&",
        b"a&b",
        b"&AGE-",
        b"&AAA-",
        b"&2AA-",
        b"&U/BTFw-",
        b"&ZeVnLIq-",
        b"caf\xe9",
        b"a\x01b",
        b"a\x7f",
    ],
)
def test_a_name_has_one_spelling_only(wire: bytes):
    """RFC 3501 §5.1.3: no superfluous shifts; no controls, no stray surrogates either."""
    with pytest.raises(ValueError):
        mutf7.decode(wire)


@given(st.text(st.characters(blacklist_categories=("Cc", "Cs"))))
@settings(max_examples=100, deadline=None)
def test_any_name_survives_the_wire(name: str):
    wire = mutf7.encode(name)
    assert wire.isascii()
    assert mutf7.decode(wire) == name


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*", "Archive.2024", True),
        ("%", "Archive.2024", False),
        ("%", "Archive", True),
        ("%.%", "Archive.2024", True),
        ("Archive.*", "Archive", False),
        ("Archive*", "Archive.2024", True),
        ("*2024", "Archive.2024", True),
        ("A%e.2*4", "Archive.2024", True),
        ("*a*b", "xaxbx", False),
        ("inbox", "INBOX", True),
        ("iNbOx.%", "INBOX.a", True),
        ("archive", "Archive", False),
        ("*%", "a.b", True),
        ("%*", "a.b", True),
        ("", "a", False),
        ("%%%", "abc", True),
    ],
)
def test_wildcards_match_as_list_says(pattern: str, name: str, fits: bool):
    """RFC 3501 §6.3.8."""
    assert Wildcards(pattern).match(name) is fits


def test_hostile_wildcards_take_no_more_than_linear_time():
    assert not Wildcards("*a" * 2000 + "b").match("a" * 500)


def test_a_set_stays_ranges_however_many_numbers_it_has():
    ranges = parse_sequence_set(Cursor(b"1:4294967295,*"))
    assert ranges == ((1, 4294967295), (0, 0))
    assert uid_slices(ranges, [5, 9, 4000000000]) == [slice(0, 3)]


@pytest.mark.parametrize(
    ("text", "slices"),
    [
        (b"2:4", [slice(1, 4)]),
        (b"4:2,3", [slice(1, 4)]),
        (b"5,1,2", [slice(0, 2), slice(4, 5)]),
        (b"*:4", [slice(3, 5)]),
        (b"*", [slice(4, 5)]),
        (b"6", None),
        (b"1:6", None),
    ],
)
def test_sequence_numbers_select_messages_or_are_refused(text: bytes, slices: list[slice] | None):
    """RFC 3501 §9, seq-number."""
    assert sequence_slices(parse_sequence_set(Cursor(text)), 5) == slices


def test_no_sequence_number_exists_in_an_empty_mailbox():
    assert sequence_slices(((1, 0),), 0) is None
    assert uid_slices(((1, 0),), []) == []


def test_a_uid_range_past_the_end_still_holds_the_last_message():
    """RFC 3501 §6.4.8: 559:* always includes the last message."""
    assert uid_slices(((559, 0),), [1, 7, 33]) == [slice(2, 3)]
    assert uid_slices(((8, 30),), [1, 7, 33]) == []


def test_uids_are_written_as_ranges_in_their_order():
    assert sequence_set([304, 319, 320, 7]) == b"304,319:320,7"


def test_a_set_must_be_one():
    with pytest.raises(BadCommandError):
        parse_sequence_set(Cursor(b"x"))
