"""Where clients and RFC 9051 are exact, or servers have to be lenient."""

import pytest


@pytest.fixture
def inbox(client):
    for subject in b"abc":
        client.append(b"Subject: %c\r\n\r\ntext\r\n" % subject)
    client.ok("SELECT INBOX")
    return client


@pytest.mark.parametrize(
    "line", ["NOOP ", "SELECT INBOX  ", "FETCH 1 FLAGS ", 'LIST "" "*" ', "SEARCH ALL ", "CLOSE "]
)
def test_spaces_at_the_end_of_a_command_mean_nothing(inbox, line: str):
    inbox.ok(line)
    inbox.ok("APPEND INBOX {4+}\r\na: b ")


def test_who_renames_the_selected_mailbox_goes_on_without_it(client):
    client.ok("CREATE a")
    client.ok("CREATE a.b")
    client.ok("SELECT a.b")
    assert client.ok("RENAME a c") == [b"* OK [CLOSED] The mailbox that was selected is no longer\r\n"]
    assert client.refused("FETCH 1 FLAGS").startswith(b"BAD")
    client.ok("SELECT c.b")
    client.ok("RENAME c d")
    client.ok("SELECT INBOX")
    assert client.ok("RENAME INBOX old") == []
    assert client.ok("NOOP") == []


def test_who_deletes_the_selected_mailbox_goes_on_without_it(client):
    client.ok("CREATE a")
    client.ok("SELECT a")
    assert client.ok("DELETE a") == [b"* OK [CLOSED] The mailbox that was selected is no longer\r\n"]
    assert client.ok("NOOP") == []


def test_a_name_that_only_has_children_says_so_when_it_is_deleted(client):
    """RFC 9051 §7.1: HASCHILDREN."""
    client.ok("CREATE a.b")
    assert client.refused("DELETE a").startswith(b"NO [HASCHILDREN]")


def test_what_is_enabled_twice_is_told_of_once(client):
    assert client.ok("ENABLE CONDSTORE X-UNKNOWN condstore") == [b"* ENABLED CONDSTORE\r\n"]


def test_a_client_hears_that_others_have_expunged(inbox, connect, live):
    """RFC 5530 §3: EXPUNGEISSUED, where the EXPUNGE itself has to wait."""
    other = connect(live)
    other.ok("SELECT INBOX")
    other.ok("STORE 2 +FLAGS (\\Deleted)")
    other.ok("EXPUNGE")
    for line in ("FETCH 1:3 BODY.PEEK[]", "STORE 2 +FLAGS (\\Seen)", "SEARCH ALL"):
        assert inbox.command(line)[1].startswith(b"OK [EXPUNGEISSUED]")
    assert inbox.command("UID FETCH 1 FLAGS") == ([b"* 1 FETCH (UID 1 FLAGS (\\Recent))\r\n", *EXPUNGED], FETCHED)
    assert inbox.command("FETCH 1 FLAGS")[1] == FETCHED


EXPUNGED = [b"* 2 EXPUNGE\r\n", b"* 2 RECENT\r\n"]
FETCHED = b"OK FETCH completed"


def test_flags_can_be_made_as_long_as_there_is_room(inbox, connect, live):
    """RFC 3501 §7.1: PERMANENTFLAGS has no \\* where no more are taken; others hear of new ones."""
    other = connect(live)
    assert any(b"PERMANENTFLAGS" in line and b"\\*" in line for line in other.ok("SELECT INBOX"))
    for number in range(13):
        inbox.ok(f"STORE 1 +FLAGS.SILENT (a{number} b{number})")
    permanent = [line for line in other.ok("NOOP") if b"PERMANENTFLAGS" in line]
    assert len(permanent) == 1
    assert b" a12 b12)]" in permanent[0]
    assert b"\\*" not in permanent[0]
    assert not any(b"FLAGS (\\Answered" in line for line in other.ok("NOOP"))


def test_a_part_of_the_messages_can_be_fetched(inbox):
    """RFC 9394: from the beginning, from the end, of what changed."""

    def uids(line: str) -> list[int]:
        return [int(response.split()[4].rstrip(b")")) for response in inbox.ok(line)]

    assert uids("UID FETCH 1:* (UID) (PARTIAL 1:2)") == [1, 2]
    assert uids("UID FETCH 1:* (UID) (PARTIAL -1:-2)") == [2, 3]
    assert uids("UID FETCH 2:* (UID) (PARTIAL 3:500)") == []
    modseq = int(inbox.ok("FETCH 1 (MODSEQ)")[-1].split(b"(")[2].rstrip(b")\r\n"))
    inbox.ok("STORE 1,3 +FLAGS (\\Seen)")
    assert uids(f"UID FETCH 1:* (UID) (PARTIAL -1:-1 CHANGEDSINCE {modseq + 2})") == [3]
    for wrong in ("(PARTIAL 0:1)", "(PARTIAL 1:-1)", "(PARTIAL 1)", "(PARTIAL)"):
        assert inbox.refused(f"UID FETCH 1:* (UID) {wrong}").startswith(b"BAD")


def test_partials_have_63_bits_in_imap4rev2_only(inbox):
    """RFC 9051 §9: number64."""
    assert inbox.refused("FETCH 1 BODY.PEEK[]<4294967296.1>").startswith(b"BAD")
    inbox.ok("ENABLE IMAP4rev2")
    assert inbox.ok("FETCH 1 BODY.PEEK[]<9223372036854775807.9223372036854775807>") == [
        b"* 1 FETCH (BODY[]<9223372036854775807> {0}\r\n)\r\n"
    ]
    assert inbox.refused("FETCH 1 BODY.PEEK[]<9223372036854775808.1>").startswith(b"BAD")
