"""GETMETADATA, SETMETADATA and LIST's METADATA, as RFC 5464 and RFC 9590 show them."""

import contextlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.imap.cursor import BadCommandError, Cursor
from posthouse.protocols.imap.metadata import INFINITY, parse_get_metadata, parse_set_metadata
from posthouse.store.metadata import MAX_ENTRIES, MAX_VALUE_BYTES


def test_annotations_are_kept_and_given_back(client):
    """RFC 5464 §4.2, §4.3."""
    client.ok('SETMETADATA INBOX (/private/comment "My new comment" /shared/comment "This one is for you!")')
    assert client.ok('GETMETADATA "INBOX" (/shared/comment /private/comment)') == [
        b'* METADATA INBOX (/shared/comment "This one is for you!" /private/comment "My new comment")\r\n'
    ]
    client.ok("SETMETADATA INBOX (/private/comment NIL)")
    assert client.ok("GETMETADATA INBOX /private/comment") == [b"* METADATA INBOX (/private/comment NIL)\r\n"]


def test_a_value_may_have_lines_and_any_octet(client):
    """RFC 5464 §4.3; RFC 3516 §7: literal8."""
    client.ok(b"SETMETADATA INBOX (/private/comment {33+}\r\nMy new comment across\r\ntwo lines.)")
    assert client.ok("GETMETADATA INBOX /private/comment") == [
        b"* METADATA INBOX (/private/comment {33}\r\nMy new comment across\r\ntwo lines.)\r\n"
    ]
    client.ok(b"SETMETADATA INBOX (/private/comment ~{4+}\r\n\0\xff%\n)")
    assert client.ok("GETMETADATA INBOX /private/comment") == [
        b"* METADATA INBOX (/private/comment ~{4}\r\n\0\xff%\n)\r\n"
    ]


def test_long_values_are_left_out_and_their_size_is_told(client):
    """RFC 5464 §4.2.1, with the options where its example has them and where its grammar has them."""
    client.ok(b'SETMETADATA INBOX (/private/comment "My own comment" /shared/comment {2199+}\r\n%b)' % (b"x" * 2199))
    for command in (
        'GETMETADATA "INBOX" (MAXSIZE 1024) (/shared/comment /private/comment)',
        'GETMETADATA (MAXSIZE 1024) "INBOX" (/shared/comment /private/comment)',
    ):
        untagged, tagged = client.command(command)
        assert untagged == [b'* METADATA INBOX (/private/comment "My own comment")\r\n']
        assert tagged.startswith(b"OK [METADATA LONGENTRIES 2199]")
    assert client.command("GETMETADATA INBOX (MAXSIZE 2199) /shared/comment")[1].startswith(b"OK GETMETADATA")


def test_entries_below_one_are_found_to_the_depth_asked_for(client):
    """RFC 5464 §4.2.2."""
    client.ok(
        'SETMETADATA INBOX (/private/filters/values/small "SMALLER 5000"'
        ' /private/filters/values/boss "FROM \\"boss@example.com\\"" /private/filters/values/boss/deep "x")'
    )
    small, boss = b'/private/filters/values/small "SMALLER 5000"', b'/private/filters/values/boss "FROM \\"boss@'
    (one,) = client.ok('GETMETADATA "INBOX" (DEPTH 1) (/private/filters/values)')
    assert small in one
    assert boss in one
    assert b"deep" not in one
    (all_of_it,) = client.ok("GETMETADATA (DEPTH infinity) INBOX /private/filters")
    assert b'/private/filters/values/boss/deep "x"' in all_of_it
    assert client.ok("GETMETADATA (DEPTH 1) INBOX /private/filters") == []
    assert client.ok("GETMETADATA INBOX /private/filters") == [b"* METADATA INBOX (/private/filters NIL)\r\n"]


def test_names_of_entries_have_no_case(client):
    """RFC 5464 §3.2."""
    client.ok('SETMETADATA INBOX (/Private/Comment "x")')
    assert client.ok("GETMETADATA INBOX /PRIVATE/comment") == [b'* METADATA INBOX (/private/comment "x")\r\n']


def test_the_server_has_annotations_of_its_own(client):
    """RFC 5464 §3.2.1.1: its administrator is read-only, and nobody writes what others read."""
    assert client.ok('GETMETADATA "" /shared/admin') == [
        b'* METADATA "" (/shared/admin "mailto:postmaster@mail.example.test")\r\n'
    ]
    client.ok('SETMETADATA "" (/private/vendor/example/colour "red")')
    assert client.ok('GETMETADATA "" /private/vendor/example/colour')[0].endswith(b'"red")\r\n')
    assert client.refused('SETMETADATA "" (/shared/comment "x")').startswith(b"NO [NOPERM]")
    assert client.refused('SETMETADATA "" (/shared/admin NIL)').startswith(b"NO [NOPERM]")
    assert client.ok("GETMETADATA INBOX /private/vendor/example/colour")[0].endswith(b"NIL)\r\n")


def test_what_is_private_is_the_users_own(live, connect, client):
    client.ok('SETMETADATA "" (/private/vendor/example/colour "red")')
    bob = connect(live, login=False)
    bob.ok("LOGIN bob@example.test secret")
    assert bob.ok('GETMETADATA "" /private/vendor/example/colour')[0].endswith(b"NIL)\r\n")


def test_annotations_go_with_their_mailbox(client):
    """RFC 5464 §4.1."""
    client.ok("CREATE Old")
    client.ok('SETMETADATA Old (/shared/comment "kept")')
    client.ok("RENAME Old New")
    assert client.ok("GETMETADATA New /shared/comment")[0].endswith(b'"kept")\r\n')
    client.ok("DELETE New")
    client.ok("CREATE New")
    assert client.ok("GETMETADATA New /shared/comment")[0].endswith(b"NIL)\r\n")
    client.ok('SETMETADATA INBOX (/shared/comment "of the inbox")')
    client.ok("RENAME INBOX Archive")
    for name in ("INBOX", "Archive"):
        assert client.ok(f"GETMETADATA {name} /shared/comment")[0].endswith(b'"of the inbox")\r\n')


def test_annotations_survive_the_loss_of_the_index(live, client):
    client.ok('SETMETADATA INBOX (/shared/comment "kept")')
    client.ok("STATUS INBOX (MESSAGES)")
    os.unlink(f"{live.settings.path('mail')}/example.test/alice/posthouse.index")
    assert client.ok("GETMETADATA INBOX /shared/comment")[0].endswith(b'"kept")\r\n')


def test_too_long_and_too_many_change_nothing(client):
    """RFC 5464 §4.3."""
    value = b"x" * (MAX_VALUE_BYTES + 1)
    refused = client.refused(
        b'SETMETADATA INBOX (/private/comment "x" /shared/comment {%d+}\r\n%b)' % (len(value), value)
    )
    assert refused.startswith(b"NO [METADATA MAXSIZE %d]" % MAX_VALUE_BYTES)
    assert client.ok("GETMETADATA INBOX /private/comment")[0].endswith(b"NIL)\r\n")
    many = " ".join(f'/private/vendor/x/{n} "x"' for n in range(MAX_ENTRIES))
    client.ok(f"SETMETADATA INBOX ({many})")
    assert client.refused('SETMETADATA INBOX (/private/comment "y")').startswith(b"NO [METADATA TOOMANY]")
    client.ok('SETMETADATA INBOX (/private/vendor/x/1 "y")')
    client.ok("SETMETADATA INBOX (/private/vendor/x/1 NIL)")
    client.ok('SETMETADATA INBOX (/private/comment "y")')


def test_a_mailbox_that_is_not_there_has_none(client):
    assert client.refused("GETMETADATA nowhere /shared/comment").startswith(b"NO [NONEXISTENT]")
    assert client.refused('SETMETADATA nowhere (/shared/comment "x")').startswith(b"NO [NONEXISTENT]")


def test_list_returns_annotations(client):
    """RFC 9590 §4."""
    client.ok("CREATE foo")
    client.ok("CREATE bar.child")
    client.ok('SETMETADATA INBOX (/shared/vendor/cmu/cyrus-imapd/color "#b71c1c")')
    lines = client.ok('LIST "" % RETURN (METADATA ("/shared/vendor/cmu/cyrus-imapd/color"))')
    assert [line for line in lines if line.startswith(b"* METADATA")] == [
        b'* METADATA INBOX (/shared/vendor/cmu/cyrus-imapd/color "#b71c1c")\r\n',
        b"* METADATA foo (/shared/vendor/cmu/cyrus-imapd/color NIL)\r\n",
    ]
    assert [line.split()[1] for line in lines] == [b"LIST", b"METADATA", b"LIST", b"LIST", b"METADATA"]


@pytest.mark.parametrize(
    "command",
    [
        "GETMETADATA INBOX /comment",
        "GETMETADATA INBOX /shared",
        "GETMETADATA INBOX /shared/",
        "GETMETADATA INBOX /shared//comment",
        "GETMETADATA INBOX /other/comment",
        'GETMETADATA INBOX "/shared/com*"',
        "GETMETADATA INBOX ()",
        "GETMETADATA (DEPTH 2) INBOX /shared/comment",
        "GETMETADATA (NONSENSE 1) INBOX /shared/comment",
        'SETMETADATA INBOX (/shared/vendor/x "y")',
        "SETMETADATA INBOX (/shared/comment)",
        "SETMETADATA INBOX ()",
        "SETMETADATA INBOX (/shared/comment atom)",
        'LIST "" * RETURN (METADATA)',
        "GETMETADATA INBOX (" + " ".join(f"/private/{n}" for n in range(101)) + ")",
    ],
)
def test_names_and_options_that_are_wrong_are_bad(client, command: str):
    """RFC 5464 §3.2, §5."""
    assert client.refused(command).startswith(b"BAD")


def test_options_are_read_in_both_places():
    for text in (b" (DEPTH infinity MAXSIZE 5) INBOX /shared/a", b" INBOX (depth INFINITY maxsize 5) (/shared/a)"):
        command = parse_get_metadata(b"a", Cursor(text))
        assert (command.entries, command.depth, command.max_size) == (("/shared/a",), INFINITY, 5)


@given(st.binary(max_size=40))
def test_whatever_is_sent_is_read_or_bad(data: bytes):
    for parse in (parse_get_metadata, parse_set_metadata):
        for text in (data, b" INBOX (" + data, b" INBOX (/shared/a " + data + b")"):
            with contextlib.suppress(BadCommandError):
                parse(b"a", Cursor(text))
