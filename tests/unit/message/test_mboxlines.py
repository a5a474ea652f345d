"""message/mboxlines.py."""

from datetime import UTC, datetime

import pytest

from posthouse.message.mboxlines import from_line, quoted, with_lf, without_notes

MESSAGE = (
    b"From me\r\nSubject: x\r\n\r\n>From you\r\n>>>From them\r\n>Fro\r\nFrom \r\n"
    b"\rFrom here\r\r\n\nFrom all\r\nFromage\r\nF"
)
LF = b">From me\nSubject: x\n\n>>From you\n>>>>From them\n>Fro\n>From \n\rFrom here\r\n\n>From all\nFromage\nF"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 1000])
def test_any_cut_gives_the_same_lines_with_from_quoted(size):
    cut = [MESSAGE[at : at + size] for at in range(0, len(MESSAGE), size)]
    assert b"".join(quoted(with_lf(cut))) == LF


def test_a_sender_stays_within_its_place_in_the_from_line():
    when = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
    assert from_line('"a b\n"@x.test', when) == b'From "a?b?"@x.test  Sun Nov 22 01:02:03 2026\n'
    assert from_line("", when).startswith(b"From MAILER-DAEMON  ")


NOTES = (
    b"Received: x\n status: RO\nStatus: RO\n\tD\nSubject: s\nX-IMAP: 1 2\nx-keywords : )\n more\n"
    b"To: " + b"a" * 9000 + b"\nX-UID: " + b"9" * 9000 + b"\nX-Statuses: kept\n\nStatus: body\nX-UID: 1\n"
)
WITHOUT = (
    b"Received: x\n status: RO\nSubject: s\nTo: " + b"a" * 9000 + b"\nX-Statuses: kept\n\nStatus: body\nX-UID: 1\n"
)


@pytest.mark.parametrize("size", [1, 2, 7, 4095, 4096, 4097, 100_000])
def test_any_cut_loses_the_fields_that_are_the_readers_own_and_nothing_else(size):
    cut = [NOTES[at : at + size] for at in range(0, len(NOTES), size)]
    assert b"".join(without_notes(cut)) == WITHOUT


@pytest.mark.parametrize(
    ("message", "left"),
    [
        (b"", b""),
        (b"\nStatus: R", b"\nStatus: R"),
        (b"Status: R", b""),
        (b"Status: R\n x", b""),
        (b"A: b\nSubj", b"A: b\nSubj"),
    ],
)
def test_a_message_without_a_body_loses_them_too(message, left):
    assert b"".join(without_notes([message])) == left
