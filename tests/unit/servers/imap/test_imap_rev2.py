"""IMAP4rev2 once it is enabled, and what stays as it was until then (RFC 9051)."""

import pytest


@pytest.fixture
def rev2(client):
    assert client.ok("ENABLE IMAP4rev2") == [b"* ENABLED IMAP4rev2\r\n"]
    return client


def test_select_names_the_mailbox_and_knows_nothing_of_recent_ones(rev2):
    """RFC 9051 §6.3.2, appendix E."""
    rev2.append(b"Subject: a\r\n\r\n")
    lines = rev2.ok("SELECT inbox")
    assert b'* LIST () "." INBOX\r\n' in lines
    assert not any(b"RECENT" in line or b"[UNSEEN" in line for line in lines)
    assert rev2.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS ())\r\n"]


def test_arrivals_are_not_recent_either(rev2, connect, live):
    rev2.ok("SELECT INBOX")
    connect(live).append(b"Subject: a\r\n\r\n")
    assert rev2.ok("NOOP") == [b"* 1 EXISTS\r\n"]


def test_one_that_is_enabled_late_forgets_what_was_recent(client):
    client.append(b"Subject: a\r\n\r\n")
    client.ok("SELECT INBOX")
    client.ok("ENABLE IMAP4rev2")
    assert client.ok("FETCH 1 FLAGS") == [b"* 1 FETCH (FLAGS ())\r\n"]
    assert client.ok("SEARCH RECENT") == [b'* ESEARCH (TAG "t%d")\r\n' % client._count]


def test_search_answers_with_esearch(rev2):
    """RFC 9051 §6.4.4."""
    for _ in range(3):
        rev2.append(b"Subject: a\r\n\r\n")
    rev2.ok("SELECT INBOX")
    assert rev2.ok("SEARCH SUBJECT a") == [b'* ESEARCH (TAG "t%d") ALL 1:3\r\n' % rev2._count]
    assert rev2.ok("UID SEARCH SUBJECT b") == [b'* ESEARCH (TAG "t%d") UID\r\n' % rev2._count]


def test_mailbox_names_are_in_utf8(rev2, connect, live):
    """RFC 9051 §5.1; the others go on with modified UTF-7."""
    rev2.ok('CREATE "Entwürfe & \\"mehr\\""'.encode())
    assert '* LIST (\\HasNoChildren) "." "Entwürfe & \\"mehr\\""\r\n'.encode() in rev2.ok('LIST "" "E*"')
    assert rev2.ok('STATUS "Entwürfe & \\"mehr\\"" (MESSAGES)'.encode()) == [
        '* STATUS "Entwürfe & \\"mehr\\"" (MESSAGES 0)\r\n'.encode()
    ]
    (line,) = connect(live).ok('LIST "" "E*"')
    assert line.endswith(b'"Entw&APw-rfe &- \\"mehr\\""\r\n')


def test_an_ampersand_stands_for_itself(rev2, connect, live):
    rev2.ok("CREATE Q&A")
    assert rev2.ok('LIST "" "Q*"')[0].endswith(b" Q&A\r\n")
    assert connect(live).ok('LIST "" "Q*"')[0].endswith(b" Q&-A\r\n")


@pytest.mark.parametrize("name", [b'"a\x80"', b'"a\xc2\x85"', b'"a\xe2\x80\xa8"'])
def test_what_is_no_utf8_or_controls_is_no_name(rev2, name: bytes):
    assert rev2.refused(b"CREATE " + name).startswith(b"BAD")


def test_nothing_is_different_before(client):
    client.append(b"Subject: a\r\n\r\n")
    lines = client.ok("SELECT INBOX")
    assert b"* 1 RECENT\r\n" in lines
    assert not any(line.startswith(b"* LIST") for line in lines)
    assert client.ok("SEARCH ALL") == [b"* SEARCH 1\r\n"]
    assert client.refused('CREATE "Entwürfe"'.encode()).startswith(b"BAD")


def test_the_next_login_begins_with_the_old_protocol(rev2):
    """RFC 8437 §4."""
    rev2.ok("UNAUTHENTICATE")
    rev2.ok("LOGIN alice@example.test secret")
    assert any(b"RECENT" in line for line in rev2.ok("SELECT INBOX"))


def test_sizes_have_63_bits(client):
    """RFC 9051 §9: number64."""
    client.ok("SELECT INBOX")
    client.ok("SEARCH SMALLER 9223372036854775807")
    assert client.refused("SEARCH SMALLER 9223372036854775808").startswith(b"BAD")
