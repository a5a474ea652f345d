"""A client that is not ours: imapclient."""

from datetime import datetime

import imapclient
import pytest


@pytest.fixture
def alice(live):
    with imapclient.IMAPClient("127.0.0.1", port=live.port, ssl=False, timeout=20) as client:
        client.login("alice@example.test", "secret")
        yield client


def test_imapclient_reads_and_files_mail(alice):
    alice.create_folder("Entwürfe")
    alice.append("Entwürfe", b"Subject: hello\r\nFrom: A <a@b.example>\r\n\r\nhi\r\n", flags=["\\Seen"])
    selected = alice.select_folder("Entwürfe")
    assert selected[b"EXISTS"] == 1
    message = alice.fetch([1], ["ENVELOPE", "BODYSTRUCTURE", "FLAGS", "BODY.PEEK[]", "INTERNALDATE"])[1]
    assert message[b"ENVELOPE"].subject == b"hello"
    assert message[b"ENVELOPE"].from_[0].mailbox == b"a"
    assert message[b"BODYSTRUCTURE"][:2] == (b"text", b"plain")
    assert b"\\Seen" in message[b"FLAGS"]
    assert message[b"BODY[]"].endswith(b"hi\r\n")
    assert isinstance(message[b"INTERNALDATE"], datetime)
    alice.add_flags([1], ["$Label"])
    assert alice.search(["KEYWORD", "$Label"]) == [1]
    assert alice.search(["SUBJECT", "hellö"], charset="UTF-8") == []
    alice.move([1], "INBOX")
    assert alice.folder_status("INBOX", ["MESSAGES"])[b"MESSAGES"] == 1
    assert {name for _, _, name in alice.list_folders()} >= {"Entwürfe", "INBOX"}


def test_imapclient_idles(alice, live):
    alice.select_folder("INBOX")
    alice.idle()
    with imapclient.IMAPClient("127.0.0.1", port=live.port, ssl=False, timeout=20) as other:
        other.login("alice@example.test", "secret")
        other.append("INBOX", b"Subject: x\r\n\r\n")
    responses = []
    while (1, b"EXISTS") not in responses:
        responses += alice.idle_check(timeout=20)
    alice.idle_done()
