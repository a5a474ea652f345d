"""ESEARCH, the command, on the wire (RFC 7377)."""

import pytest

LETTER = b"Subject: %b\r\n\r\nwords\r\n"


@pytest.fixture
def boxes(client):
    for name in ("folder1", "folder2", "folder2.banana", "folder2.banana.split", "folder2.peach", "Entwürfe"):
        client.ok(b"CREATE " + name.replace("ü", "&APw-").encode())
    for name, subjects in {
        "INBOX": (b"one", b"two"),
        "folder1": (b"chad", b"none", b"chad"),
        "folder2": (b"none",),
        "folder2.banana": (b"chad",),
        "folder2.banana.split": (b"chad",),
        "Entw&APw-rfe": (b"draft",),
    }.items():
        for subject in subjects:
            client.append(LETTER % subject, name)
    return client


def found(responses):
    """What was found, by mailbox; the correlators are checked."""
    result = {}
    for response in responses:
        head, rest = response.split(b") UID ", 1)
        _, _, _, tag, word, name, validity, number = head.split(b" ")
        assert tag.startswith(b'"t')
        assert (word, validity) == (b"MAILBOX", b"UIDVALIDITY")
        assert int(number) > 0
        result[name.decode()] = rest.strip().decode()
    return result


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        ('mailboxes "folder1"', {"folder1"}),
        ('mailboxes ("folder1" "nowhere" "folder1") mailboxes folder1', {"folder1"}),
        ("subtree folder2", {"folder2.banana", "folder2.banana.split"}),
        ("subtree-one folder2", {"folder2.banana"}),
        ('mailboxes "folder1" subtree "folder2"', {"folder1", "folder2.banana", "folder2.banana.split"}),
        ("personal", {"folder1", "folder2.banana", "folder2.banana.split"}),
        ("inboxes", set()),
        ("subscribed", set()),
    ],
)
def test_many_mailboxes_are_searched_with_none_selected(boxes, sources, names):
    """RFC 7377 §2.1: only where something matches there is a response."""
    assert set(found(boxes.ok(f'ESEARCH IN ({sources}) SUBJECT "chad"'))) == names


def test_results_are_uids_and_what_was_asked_for(boxes):
    boxes.ok("SUBSCRIBE folder1")
    boxes.ok("SELECT folder1")
    boxes.ok("STORE 2 +FLAGS (\\Deleted)")
    boxes.ok("EXPUNGE")
    boxes.ok("SELECT INBOX")
    answer = boxes.ok("ESEARCH IN (subscribed selected) RETURN (MIN COUNT ALL) NOT SUBJECT two")
    assert found(answer) == {"folder1": "MIN 1 ALL 1,3 COUNT 2", "INBOX": "MIN 1 ALL 1 COUNT 1"}
    assert found(boxes.ok("ESEARCH RETURN (PARTIAL 1:1) ALL")) == {"INBOX": "PARTIAL (1:1 1)"}
    answer = boxes.ok('ESEARCH IN (personal) RETURN (RELEVANCY ALL) FUZZY SUBJECT "chad"')
    assert found(answer)["folder1"] == "ALL 1,3 RELEVANCY (100 100)"
    assert boxes.ok("FETCH 1:* UID")[0].startswith(b"* 1 FETCH"), "INBOX is still selected"


def test_a_mailbox_is_called_what_the_client_calls_it(boxes):
    assert set(found(boxes.ok('ESEARCH IN (mailboxes "Entw&APw-rfe") SUBJECT draft'))) == {"Entw&APw-rfe"}
    boxes.ok("ENABLE IMAP4rev2")
    assert set(found(boxes.ok('ESEARCH IN (mailboxes "Entwürfe") SUBJECT draft'.encode()))) == {'"Entwürfe"'}


def test_looking_leaves_everything_as_it_was(boxes):
    """Nothing is \\Seen, and what is \\Recent stays that for who selects."""
    boxes.ok("ESEARCH IN (personal) TEXT words")
    assert b"* 3 RECENT\r\n" in boxes.ok("SELECT folder1")
    assert boxes.ok("SEARCH UNSEEN") == [b"* SEARCH 1 2 3\r\n"]


def test_results_are_kept_of_the_selected_mailbox_alone(boxes):
    """RFC 7377 §2."""
    boxes.ok("SELECT folder1")
    assert boxes.ok("ESEARCH IN (selected) RETURN (SAVE) SUBJECT chad") == []
    assert boxes.ok("SEARCH $") == [b"* SEARCH 1 3\r\n"]
    assert boxes.refused("ESEARCH IN (selected inboxes) RETURN (SAVE) ALL").startswith(b"BAD")


def test_what_makes_no_sense_is_refused(boxes):
    assert boxes.refused("ESEARCH ALL") == b"BAD No mailbox is selected"
    assert boxes.refused("ESEARCH IN (selected) ALL").startswith(b"BAD")
    for line in (
        "ESEARCH", "ESEARCH IN () ALL", "ESEARCH IN (selected-delayed) ALL", "ESEARCH IN (subtree) ALL",
        "ESEARCH IN (personal (depth 2)) ALL", "ESEARCH IN (mailboxes ()) ALL", "ESEARCH IN (personal)",
    ):  # fmt: skip
        assert boxes.refused(line).startswith(b"BAD"), line
    assert boxes.refused("ESEARCH IN (personal) CHARSET KLINGON ALL").startswith(b"NO [BADCHARSET")
    assert b" MULTISEARCH " in boxes.ok("CAPABILITY")[0]
