"""NOTIFY (RFC 5465) over real sockets: what was asked for comes by itself, and nothing else does."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocols.imap.cursor import BadCommandError, Cursor
from posthouse.protocols.imap.notify import parse_notify
from posthouse.servers.imap import notifications

MESSAGE = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def other(live, connect, client):
    """Another session of alice's, who has the mailboxes of RFC 5465 §3.1."""
    one = connect(live)
    one.ok("CREATE Lists.Lemonade")
    one.ok("CREATE Lists.Im2000")
    one.ok("CREATE misc")
    return one


def settled(client) -> list[bytes]:
    """What has come up to now."""
    return client.ok("NOOP")


def test_the_example_of_the_standard(client, other):
    """RFC 5465 §3.1."""
    untagged = client.ok(
        "notify set status (selected MessageNew (uid body.peek[header.fields (from to subject)]) MessageExpunge)"
        " (subtree Lists (MessageNew MessageExpunge))"
    )
    assert [line.split()[2] for line in untagged] == [b"Lists.Im2000", b"Lists.Lemonade"]
    assert all(b"UIDNEXT 1 MESSAGES 0)" in line for line in untagged)
    client.ok("SELECT INBOX")
    other.append(MESSAGE, "Lists.Lemonade")
    status = client.response()
    assert status.startswith(b"* STATUS Lists.Lemonade (UIDVALIDITY ")
    assert status.endswith(b"UIDNEXT 2 MESSAGES 1)\r\n")
    other.append(MESSAGE)
    assert client.response() == b"* 1 EXISTS\r\n"
    response = client.response()
    if response == b"* 1 RECENT\r\n":
        response = client.response()
    assert response == b"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (from to subject)] {14}\r\nSubject: x\r\n\r\n)\r\n"
    other.append(MESSAGE, "misc")
    other.ok("SELECT Lists.Lemonade")
    other.ok("STORE 1 +FLAGS (\\Deleted)")
    other.ok("EXPUNGE")
    assert client.response().endswith(b"UIDNEXT 2 MESSAGES 0)\r\n")
    assert settled(client) == []


def test_the_selected_mailbox_is_told_of_at_once(client, other):
    """RFC 5465 §5.1, §5.3."""
    client.append(MESSAGE)
    client.append(MESSAGE)
    client.ok("SELECT INBOX")
    client.ok("NOTIFY SET (selected (MessageNew MessageExpunge FlagChange))")
    other.ok("SELECT INBOX")
    other.ok("STORE 2 +FLAGS ($Junk \\Deleted)")
    assert client.response().startswith(b"* FLAGS (")
    assert client.response().startswith(b"* OK [PERMANENTFLAGS (")
    response = client.response()
    assert response.startswith(b"* 2 FETCH (UID 2 FLAGS (")
    assert b"$Junk" in response
    other.ok("EXPUNGE")
    assert client.response() == b"* 2 EXPUNGE\r\n"


def test_expunges_can_be_delayed_to_the_next_command(client, other):
    """RFC 5465 §6.1.2."""
    client.append(MESSAGE)
    client.append(MESSAGE, flags="(\\Deleted) ")
    client.ok("SELECT INBOX")
    client.ok("NOTIFY SET (selected-delayed (MessageNew MessageExpunge))")
    other.ok("SELECT INBOX")
    other.ok("CLOSE")
    other.append(MESSAGE)
    assert client.response() == b"* 3 EXISTS\r\n"
    client.ok("FETCH 3 UID")
    assert b"* 2 EXPUNGE\r\n" in settled(client)


def test_flags_are_told_only_to_who_asked(client, other):
    client.append(MESSAGE)
    client.ok("SELECT INBOX")
    client.ok("NOTIFY SET (selected (MessageNew MessageExpunge)) (mailboxes misc (MessageNew MessageExpunge))")
    other.ok("SELECT INBOX")
    other.ok("STORE 1 +FLAGS (\\Flagged)")
    other.append(MESSAGE, "misc")
    assert client.response().startswith(b"* STATUS misc")


def test_flag_changes_elsewhere_are_numbers(client, other):
    """RFC 5465 §5.1: UNSEEN, and HIGHESTMODSEQ where CONDSTORE is in use."""
    other.append(MESSAGE, "misc")
    client.ok("ENABLE CONDSTORE")
    client.ok("NOTIFY SET (personal (MessageNew MessageExpunge FlagChange))")
    other.ok("SELECT misc")
    other.ok("STORE 1 +FLAGS (\\Seen)")
    response = client.response()
    assert response.startswith(b"* STATUS misc (UIDVALIDITY ")
    assert b" UNSEEN 0 HIGHESTMODSEQ " in response


def test_names_that_come_change_and_go_are_told(client, other):
    """RFC 5465 §5.4: with the level above, and a new name with the old one."""
    client.ok("NOTIFY SET (personal (MailboxName))")
    other.ok("CREATE NewMailbox")
    assert client.response() == b'* LIST (\\HasNoChildren) "." NewMailbox\r\n'
    other.ok("RENAME NewMailbox Renamed")
    assert client.response() == b'* LIST (\\HasNoChildren) "." Renamed ("OLDNAME" (NewMailbox))\r\n'
    other.ok("DELETE Renamed")
    assert client.response() == b'* LIST (\\NonExistent) "." Renamed\r\n'
    other.ok("CREATE misc.child")
    assert client.response() == b'* LIST (\\HasChildren) "." misc\r\n'
    assert client.response() == b'* LIST (\\HasNoChildren) "." misc.child\r\n'
    other.ok("RENAME misc moved")
    assert client.response() == b'* LIST (\\HasChildren) "." moved ("OLDNAME" (misc))\r\n'
    assert settled(client) == []


def test_a_mailbox_that_is_made_later_is_watched_too(client, other):
    """RFC 5465 §6: what a group means is what it means now."""
    client.ok("NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))")
    for _ in range(2):
        other.ok("CREATE Later")
        assert client.response() == b'* LIST (\\HasNoChildren) "." Later\r\n'
        other.append(MESSAGE, "Later")
        assert client.response().endswith(b"UIDNEXT 2 MESSAGES 1)\r\n")
        other.ok("DELETE Later")
        assert client.response() == b'* LIST (\\NonExistent) "." Later\r\n'


def test_another_mailbox_of_the_same_name_is_told_and_watched(client, other):
    """RFC 5465 §5.4: however quickly it takes the place of the first."""
    client.ok("NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))")
    other.send(b"a DELETE misc\r\nb CREATE misc\r\n")
    assert other.until(b"b")[1].startswith(b"OK")
    other.append(MESSAGE, "misc")
    while not (response := client.response()).startswith(b"* STATUS misc "):
        assert response.startswith(b"* LIST")
    other.append(MESSAGE, "misc")
    assert client.response().endswith(b"UIDNEXT 3 MESSAGES 2)\r\n")


def test_subscriptions_are_told(client, other):
    """RFC 5465 §5.5, §6.4."""
    client.ok("NOTIFY SET (personal (SubscriptionChange)) (subscribed (MessageNew MessageExpunge))")
    other.ok("SUBSCRIBE misc")
    assert client.response() == b'* LIST (\\Subscribed \\HasNoChildren) "." misc\r\n'
    other.append(MESSAGE, "misc")
    assert client.response().startswith(b"* STATUS misc")
    other.ok("UNSUBSCRIBE misc")
    assert client.response() == b'* LIST (\\HasNoChildren) "." misc\r\n'


def test_annotations_are_told_by_name(client, other):
    """RFC 5465 §5.6, §5.7."""
    client.ok("NOTIFY SET (mailboxes (misc INBOX) (MailboxMetadataChange)) (personal (ServerMetadataChange))")
    other.ok('SETMETADATA misc (/shared/comment "x")')
    assert client.response() == b"* METADATA misc /shared/comment\r\n"
    other.ok("SETMETADATA misc (/shared/comment NIL)")
    assert client.response() == b"* METADATA misc /shared/comment\r\n"
    other.ok('SETMETADATA INBOX (/private/comment "x")')
    assert client.response() == b"* METADATA INBOX /private/comment\r\n"
    other.ok('SETMETADATA "" (/private/vendor/x/y "z")')
    assert client.response() == b'* METADATA "" /private/vendor/x/y\r\n'


def test_in_idle_comes_what_notify_asked_for(client, other):
    """RFC 5465 §4."""
    client.ok("SELECT INBOX")
    client.ok("NOTIFY SET (mailboxes misc (MessageNew MessageExpunge))")
    client.send(b"i IDLE\r\n")
    assert client.response().startswith(b"+")
    other.append(MESSAGE)
    other.append(MESSAGE, "misc")
    assert client.response().startswith(b"* STATUS misc")
    client.send(b"DONE\r\n")
    assert client.until(b"i")[1].startswith(b"OK")


def test_none_ends_it(client, other):
    """RFC 5465 §3.1."""
    client.ok("NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))")
    client.ok("NOTIFY NONE")
    other.append(MESSAGE, "misc")
    other.ok("CREATE more")
    assert client.ok("STATUS misc (MESSAGES)") == [b"* STATUS misc (MESSAGES 1)\r\n"]


def test_others_mailboxes_are_watched_as_far_as_they_may_be_read(live, connect, client):
    """RFC 5465 §3.1, §5.9: what may not be looked up is ignored, what may not be read is said to be so."""
    bob = connect(live, login=False)
    bob.ok("LOGIN bob@example.test secret")
    for name, granted in (("Open", "lr"), ("Shut", "l"), ("Secret", "r")):
        client.ok(f"CREATE {name}")
        client.ok(f"SETACL {name} bob@example.test {granted}")
    names = " ".join(f"Shared/alice@example.test/{name}" for name in ("Open", "Shut", "Secret", "None"))
    assert bob.ok(f"NOTIFY SET STATUS (mailboxes ({names}) (MessageNew MessageExpunge))") == [
        b'* LIST (\\NoAccess) "/" Shared/alice@example.test/Shut\r\n',
        b"* STATUS Shared/alice@example.test/Open (UIDVALIDITY %b UIDNEXT 1 MESSAGES 0)\r\n"
        % client.ok("STATUS Open (UIDVALIDITY)")[0].split()[-1].rstrip(b")"),
    ]
    for name in ("Open", "Shut", "Secret"):
        client.append(MESSAGE, name)
    assert bob.response().startswith(b"* STATUS Shared/alice@example.test/Open")
    client.ok("SETACL Open bob@example.test l")
    client.append(MESSAGE, "Open")
    bob.ok("NOOP")
    client.ok("SETACL Open bob@example.test lr")
    client.append(MESSAGE, "Open")
    assert bob.response().endswith(b"UIDNEXT 4 MESSAGES 3)\r\n")


def test_unknown_events_are_refused_with_those_that_there_are(client):
    """RFC 5465 §3.1: NO, not BAD."""
    for events in ("(MessageNew MessageExpunge AnnotationChange)", "(Nonsense)"):
        assert client.refused(f"NOTIFY SET (selected {events})").startswith(
            b"NO [BADEVENT (FlagChange MessageExpunge"
        )


def test_too_many_mailboxes_are_refused(client):
    """RFC 5465 §3.1."""
    names = " ".join(f"a{n}" for n in range(1001))
    assert client.refused(f"NOTIFY SET (mailboxes ({names}) (MailboxName))").startswith(b"NO [NOTIFICATIONOVERFLOW]")


def test_who_comes_to_watch_too_many_is_told_that_it_is_over(client, other, monkeypatch):
    """RFC 5465 §5.8."""
    client.ok("NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))")
    monkeypatch.setattr(notifications, "MAX_WATCHED", 5)
    other.ok("CREATE one")
    assert client.response() == b'* LIST (\\HasNoChildren) "." one\r\n'
    other.ok("CREATE two")
    assert client.response() == b'* LIST (\\HasNoChildren) "." two\r\n'
    assert client.response().startswith(b"* OK [NOTIFICATIONOVERFLOW]")
    other.ok("CREATE three")
    other.append(MESSAGE, "one")
    assert settled(client) == []
    assert client.refused("NOTIFY SET (personal (MessageNew MessageExpunge))").startswith(
        b"NO [NOTIFICATIONOVERFLOW]"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "SET",
        "SET STATUS",
        "SOMETIMES",
        "SET (selected MessageNew)",
        "SET (selected (FlagChange))",
        "SET (selected (MailboxName))",
        "SET (selected NONE) (selected-delayed NONE)",
        "SET (elsewhere (MailboxName))",
        "SET (mailboxes (MailboxName))",
        "SET (personal (MessageNew (UID) MessageExpunge))",
        "SET (personal ())",
    ],
)
def test_what_the_grammar_does_not_have_is_bad(client, arguments: str):
    """RFC 5465 §5, §6.1, §8."""
    assert client.refused(f"NOTIFY {arguments}".rstrip()).startswith(b"BAD")


@given(st.binary(max_size=60))
def test_whatever_is_sent_is_read_or_refused(data: bytes):
    for text in (data, b" SET (" + data, b" SET (selected (MessageNew " + data):
        with contextlib.suppress(BadCommandError):
            parse_notify(b"a", Cursor(text))
