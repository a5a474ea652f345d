"""message/mboxlines.py."""

from datetime import UTC, datetime

import pytest

from posthouse.message.mboxlines import from_line, quoted, with_lf

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
