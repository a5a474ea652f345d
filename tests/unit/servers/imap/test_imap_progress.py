"""INPROGRESS (RFC 9585)."""

import pytest

from posthouse.servers.imap import progress


@pytest.fixture
def impatient(client, monkeypatch):
    """A client that hears at once that its command takes long."""
    client.append(b"Subject: x\r\n\r\nneedle\r\n")
    client.ok("CREATE other")
    client.ok("SELECT INBOX")
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    return client


@pytest.mark.parametrize(
    "command", ["SEARCH BODY needle", "SORT (DATE) UTF-8 BODY needle", "COPY 1 other", "EXPUNGE"]
)
def test_a_command_that_takes_long_is_told_of(impatient, command: str):
    untagged = impatient.ok(command)
    told = b'* OK [INPROGRESS ("t%d" NIL NIL)] This takes a while\r\n' % impatient._count
    assert told in untagged
    assert set(impatient.ok("NOOP")) <= {b"* 1 EXISTS\r\n", b"* 1 RECENT\r\n"}


def test_a_tag_that_could_end_the_code_is_left_out(impatient):
    impatient.send(b"a]b SEARCH BODY needle\r\n")
    assert b"* OK [INPROGRESS (NIL NIL NIL)] This takes a while\r\n" in impatient.until(b"a]b")[0]


def test_what_is_quick_is_not_told_of(client):
    client.ok("SELECT INBOX")
    assert client.ok("SEARCH ALL") == [b"* SEARCH\r\n"]
