"""Mailboxes: making, naming, listing, asking about them."""

import pytest


def listed(responses: list[bytes]) -> dict[bytes, bytes]:
    """Name to attributes."""
    found = {}
    for line in responses:
        attributes, name = line.split(b"(", 1)[1].split(b') "." ')
        found[name.strip()] = attributes
    return found


def test_the_separator_can_be_asked_for(client):
    """RFC 3501 §6.3.8."""
    assert client.ok('LIST "" ""') == [b'* LIST (\\Noselect) "." ""\r\n']


def test_levels_are_listed_with_their_children(client):
    """RFC 3348; RFC 3501 §6.3.8 on % at the end."""
    client.ok("CREATE Archive.2024.")
    names = listed(client.ok('LIST "" %'))
    assert names[b"INBOX"].startswith(b"\\HasNoChildren")
    assert b"\\HasChildren" in names[b"Archive"]
    assert b"Archive.2024" not in names
    assert b"Archive.2024" in listed(client.ok('LIST "" *'))
    assert list(listed(client.ok("LIST Archive. %"))) == [b"Archive.2024"]
    assert list(listed(client.ok('LIST "" iNbOx'))) == [b"INBOX"]


def test_a_special_use_is_kept_and_listed(client):
    """RFC 6154 §2, §3."""
    client.ok("CREATE Gesendet (USE (\\Sent))")
    assert b"\\Sent" in listed(client.ok('LIST "" *'))[b"Gesendet"]


def test_a_use_that_cannot_be_had_is_refused_and_nothing_made(client):
    """RFC 6154 §3, §5.3: USEATTR."""
    for uses in ("\\All", "\\Flagged", "\\Important", "\\Sent \\Trash"):
        assert client.refused(f"CREATE Everything (USE ({uses}))").startswith(b"NO [USEATTR]")
    for wrong in ("(USE \\Sent)", "(USE (Sent))", "(USE (\\Sent)", "(NEVER (\\Sent))"):
        assert client.refused(f"CREATE Everything {wrong}").startswith(b"BAD")
    assert b"Everything" not in listed(client.ok('LIST "" *'))
    client.ok("CREATE Everything (USE ())")
    client.ok("CREATE MySpecial (USE (\\DRAFTS))")
    assert listed(client.ok('LIST (SPECIAL-USE) "" * RETURN (SPECIAL-USE)')) == {
        b"MySpecial": b"\\HasNoChildren \\Drafts"
    }


def test_subscriptions_are_listed_also_where_the_mailbox_has_gone(client):
    """RFC 3501 §6.3.6, §6.3.9."""
    client.ok("CREATE a.b")
    client.ok("SUBSCRIBE a.b")
    assert listed(client.ok('LSUB "" %')) == {b"a": b"\\Noselect"}
    client.ok("DELETE a.b")
    assert listed(client.ok('LSUB "" *')) == {b"a.b": b""}
    client.ok("UNSUBSCRIBE a.b")
    assert client.ok('LSUB "" *') == []


def test_status_counts_without_selecting(client):
    """RFC 3501 §6.3.10."""
    client.append(b"Subject: x\r\n\r\n")
    (line,) = client.ok("STATUS inbox (UIDNEXT MESSAGES UNSEEN)")
    assert line == b"* STATUS INBOX (UIDNEXT 2 MESSAGES 1 UNSEEN 1)\r\n"


def test_renaming_keeps_messages_and_uids(client):
    client.ok("CREATE old")
    client.append(b"Subject: x\r\n\r\n", "old")
    client.ok("RENAME old new")
    assert b"* 1 EXISTS\r\n" in client.ok("SELECT new")
    assert client.ok("FETCH 1 UID") == [b"* 1 FETCH (UID 1)\r\n"]
    assert client.refused("SELECT old").startswith(b"NO [NONEXISTENT]")


def test_renaming_inbox_moves_its_messages_out(client):
    """RFC 3501 §6.3.5."""
    client.append(b"Subject: x\r\n\r\n")
    client.ok("RENAME INBOX kept")
    assert b"* 0 EXISTS\r\n" in client.ok("SELECT INBOX")
    assert b"* 1 EXISTS\r\n" in client.ok("SELECT kept")


def test_names_travel_in_modified_utf7(client):
    """RFC 3501 §5.1.3."""
    client.ok("CREATE Entw&APw-rfe")
    assert b"Entw&APw-rfe" in listed(client.ok('LIST "" *'))
    client.ok("CREATE &ZeVnLIqe-")
    client.ok("SELECT &ZeVnLIqe-")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"CREATE INBOX", b"NO [ALREADYEXISTS]"),
        (b"DELETE INBOX", b"NO [CANNOT]"),
        (b"DELETE nowhere", b"NO [NONEXISTENT]"),
        (b"SELECT nowhere", b"NO [NONEXISTENT]"),
        (b"STATUS nowhere (MESSAGES)", b"NO [NONEXISTENT]"),
        (b"RENAME nowhere there", b"NO [NONEXISTENT]"),
        (b"CREATE ../../etc", b"NO [CANNOT]"),
        (b'CREATE "a/b"', b"NO [CANNOT]"),
        (b"CREATE a..b", b"NO [CANNOT]"),
        (b"CREATE .a", b"NO [CANNOT]"),
        (b'CREATE ""', b"NO [CANNOT]"),
        (b"CREATE " + b"x" * 2000, b"NO [CANNOT]"),
        (b"CREATE &Jjo!", b"BAD"),
        (b"CREATE &AAA-", b"BAD"),
        (b"CREATE &AAoADQ-", b"BAD"),
        (b"SELECT ../bob", b"NO"),
        (b"SUBSCRIBE ../bob", b"NO"),
        (b"CREATE {7+}\r\na\0b\r\nc\x01", b"BAD"),
    ],
)
def test_a_name_that_cannot_be_is_refused(client, line: bytes, answer: bytes):
    """RFC 5530 §3; nobody leaves his own Maildir."""
    assert client.refused(line).startswith(answer)


def test_deleting_the_selected_mailbox_unselects_it(client):
    client.ok("CREATE gone")
    client.ok("SELECT gone")
    client.ok("DELETE gone")
    assert client.refused("FETCH 1 FLAGS").startswith(b"BAD")


def test_a_client_whose_mailbox_goes_away_has_to_start_anew(live, client, connect):
    client.ok("CREATE gone")
    client.ok("SELECT gone")
    connect(live).ok("DELETE gone")
    untagged, _ = client.command("NOOP")
    assert untagged == [b"* BYE The selected mailbox has been deleted or renamed\r\n"]


def test_a_failed_select_leaves_nothing_selected(client):
    """RFC 3501 §6.3.1."""
    client.ok("SELECT INBOX")
    client.refused("SELECT nowhere")
    assert client.refused("CHECK").startswith(b"BAD")


def test_select_says_all_that_a_client_must_know(client):
    """RFC 3501 §6.3.1."""
    client.append(b"Subject: 1\r\n\r\n", flags="(\\Seen) ")
    client.append(b"Subject: 2\r\n\r\n")
    untagged, tagged = client.command("SELECT INBOX")
    text = b"".join(untagged)
    assert tagged == b"OK [READ-WRITE] SELECT completed"
    assert b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft" in text
    assert b"\\*)]" in text
    assert b"* 2 EXISTS\r\n" in text
    assert b"[UIDNEXT 3]" in text
    assert b"[UIDVALIDITY " in text
    assert b"[UNSEEN 2]" in text
    untagged, tagged = client.command("EXAMINE INBOX")
    assert tagged == b"OK [READ-ONLY] EXAMINE completed"
    assert b"[PERMANENTFLAGS ()]" in b"".join(untagged)


def test_a_keyword_is_told_although_another_mailbox_was_deleted_since_this_one_was_selected(client, live, connect):
    client.append(b"Subject: x\r\n\r\n")
    client.ok("CREATE old")
    client.ok("SELECT INBOX")
    connect(live).ok("DELETE old")
    told = client.ok("STORE 1 +FLAGS (Junk)")[-1]
    assert b"Junk" in told
    (fetched,) = client.ok("FETCH 1 FLAGS")
    assert b"Junk" in fetched
