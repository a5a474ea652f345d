"""OBJECTID (RFC 8474), SAVEDATE (RFC 8514) and PREVIEW (RFC 8970) over a socket."""

import os
import re

MESSAGE = b"Subject: a\r\n\r\nHello there,\r\nfriend.\r\n"


def id_in(lines: list[bytes], name: bytes) -> bytes:
    (found,) = [match[1] for line in lines if (match := re.search(name + rb" \(([A-Za-z0-9_-]{1,255})\)", line))]
    return found


def test_a_mailbox_is_known_by_the_same_name_for_good(client):
    """RFC 8474 §4.1 to §4.3: CREATE, SELECT and STATUS agree; RENAME changes nothing."""
    tagged = client.command("CREATE foo")[1]
    assert tagged.startswith(b"OK [MAILBOXID (")
    mailbox_id = id_in([tagged], b"MAILBOXID")
    assert client.ok("STATUS foo (MAILBOXID)") == [b"* STATUS foo (MAILBOXID (%b))\r\n" % mailbox_id]
    client.ok("RENAME foo renamed")
    assert id_in(client.ok("SELECT renamed"), b"MAILBOXID") == mailbox_id
    assert id_in(client.ok("EXAMINE renamed"), b"MAILBOXID") == mailbox_id
    (line,) = [x for x in client.ok('LIST "" ren* RETURN (STATUS (MAILBOXID))') if b"STATUS" in x]
    assert id_in([line], b"MAILBOXID") == mailbox_id


def test_another_mailbox_of_the_same_name_is_known_by_another(client):
    first = id_in([client.command("CREATE foo")[1]], b"MAILBOXID")
    client.ok("DELETE foo")
    assert id_in([client.command("CREATE foo")[1]], b"MAILBOXID") != first


def test_a_uidlist_that_does_not_say_gets_one_that_stays(live, client):
    client.append(MESSAGE)
    account = f"{live.settings.path('mail')}/example.test/alice"
    with open(f"{account}/dovecot-uidlist", "rb") as file:
        said = file.read()
    before = id_in(client.ok("SELECT INBOX"), b"MAILBOXID")
    with open(f"{account}/dovecot-uidlist", "wb") as file:
        file.write(re.sub(rb" G\w+\n", b" Gnot/an/id\n", said, count=1))
    os.unlink(f"{account}/posthouse.index")
    after = id_in(client.ok("SELECT INBOX"), b"MAILBOXID")
    assert after != before
    os.unlink(f"{account}/posthouse.index")
    assert id_in(client.ok("SELECT INBOX"), b"MAILBOXID") == after
    assert client.ok("UID FETCH 1 FLAGS")


def test_the_same_content_has_the_same_id_wherever_it_is(client):
    """RFC 8474 §5.1, §5.3, §6; a message is in no thread here, and THREADID says so (§5.2)."""
    client.append(MESSAGE)
    client.append(MESSAGE)
    client.append(MESSAGE + b"not the same\r\n")
    client.ok("CREATE foo")
    client.ok("SELECT INBOX")
    lines = client.ok("FETCH 1:3 (EMAILID THREADID)")
    ids = [re.fullmatch(rb"\* \d FETCH \(EMAILID \((M\w+)\) THREADID NIL\)\r\n", line)[1] for line in lines]
    assert ids[0] == ids[1] != ids[2]
    assert client.ok(b"SEARCH EMAILID " + ids[0]) == [b"* SEARCH 1 2\r\n"]
    assert client.ok(b"SEARCH EMAILID " + ids[2]) == [b"* SEARCH 3\r\n"]
    assert client.ok("SEARCH EMAILID none") == [b"* SEARCH\r\n"]
    assert client.ok("SEARCH THREADID none") == [b"* SEARCH\r\n"]
    client.ok("COPY 1 foo")
    client.ok("MOVE 3 foo")
    client.ok("SELECT foo")
    assert id_in(client.ok("FETCH 1 EMAILID"), b"EMAILID") == ids[0]
    assert id_in(client.ok("FETCH 2 EMAILID"), b"EMAILID") == ids[2]


def test_the_save_date_is_when_it_came_into_the_mailbox(live, client):
    """RFC 8514 §4.2: the internal date may be another, and a move is a new saving."""
    client.append(MESSAGE, flags='"18-May-1999 11:22:33 +0000" ')
    client.ok("CREATE foo")
    # As if it had been here for years.
    folder = f"{live.settings.path('mail')}/example.test/alice/cur"
    (name,) = os.listdir(folder)
    old = re.sub(r"^\d+", "979999999", name)
    os.rename(f"{folder}/{name}", f"{folder}/{old}")
    client.ok("SELECT INBOX")
    line = client.ok("FETCH 1:* (INTERNALDATE SAVEDATE)")[0]
    assert b'INTERNALDATE "18-May-1999 11:22:33 +0000" SAVEDATE "20-Jan-2001 14:13:19 +0000"' in line
    client.ok("MOVE 1 foo")
    client.ok("SELECT foo")
    line = client.ok("FETCH 1 (INTERNALDATE SAVEDATE)")[0]
    assert b'INTERNALDATE "18-May-1999 11:22:33 +0000"' in line
    assert b"2001" not in line


def test_save_dates_are_searched_for(live, client):
    """RFC 8514 §4.3; where it is not known, the internal date stands for it."""
    client.append(MESSAGE)
    with open(f"{live.settings.path('mail')}/example.test/alice/new/nameless", "wb") as file:
        file.write(MESSAGE)
    os.utime(file.name, (926_940_153, 926_940_153))  # 17 May 1999
    client.ok("SELECT INBOX")
    assert b"SAVEDATE NIL" in client.ok("FETCH 2 SAVEDATE")[0]
    assert client.ok("SEARCH SAVEDATESUPPORTED") == [b"* SEARCH 1 2\r\n"]
    assert client.ok("SEARCH SAVEDBEFORE 18-May-1999") == [b"* SEARCH 2\r\n"]
    assert client.ok("SEARCH SAVEDON 17-May-1999") == [b"* SEARCH 2\r\n"]
    assert client.ok("SEARCH SAVEDSINCE 18-May-1999") == [b"* SEARCH 1\r\n"]
    assert client.ok("SEARCH NOT SAVEDSINCE 18-May-1999 SUBJECT a") == [b"* SEARCH 2\r\n"]
    assert client.ok("SEARCH OR SAVEDON 17-May-1999 BODY nothing") == [b"* SEARCH 2\r\n"]


def test_a_preview_is_how_the_text_begins(client):
    """RFC 8970 §3, §4.1: LAZY has what is known already; nobody has read it by that."""
    client.append(MESSAGE)
    client.append(b"Content-Type: image/png\r\n\r\nx")
    client.append("Content-Type: text/plain; charset=utf-8\r\n\r\nGrüße".encode())
    client.ok("SELECT INBOX")
    assert client.ok("FETCH 1 (PREVIEW (LAZY))") == [b"* 1 FETCH (PREVIEW NIL)\r\n"]
    assert client.ok("FETCH 1 (UID PREVIEW)") == [b'* 1 FETCH (UID 1 PREVIEW "Hello there, friend.")\r\n']
    assert client.ok("FETCH 1 (FLAGS PREVIEW (LAZY))")[0].endswith(b'PREVIEW "Hello there, friend.")\r\n')
    assert client.ok("FETCH 2 PREVIEW") == [b'* 2 FETCH (PREVIEW "")\r\n']
    assert client.ok("FETCH 3 PREVIEW") == ["* 3 FETCH (PREVIEW {7}\r\nGrüße)\r\n".encode()]
    assert client.ok("SEARCH SEEN") == [b"* SEARCH\r\n"]
    for wrong in ("PREVIEW (LAZY", "(PREVIEW (FUZZY))", "(PREVIEW ())"):
        assert client.refused(f"FETCH 1 {wrong}").startswith(b"BAD")
