"""Whoever searches for text has an index made, which finds the same and is kept up to date."""

import imaplib
import json
import os
import smtplib
import time
from pathlib import Path

PATIENCE_SECONDS = 60.0
LETTER = (
    "From: a@example.org\r\nSubject: letter {}\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nWort{} 会议室\r\n"
)


def deliver(server, numbers):
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as lmtp:
        for number in numbers:
            lmtp.sendmail("a@example.org", ["alice@example.test"], LETTER.format(number, number).encode())


def searched(server, *keys):
    client = imaplib.IMAP4("127.0.0.1", server.ports["imap"])
    try:
        client.login("alice@example.test", "secret")
        client.select("INBOX", readonly=True)
        found = []
        for key in keys:
            client.literal = key.encode()
            found.append([int(number) for number in client.uid("SEARCH", "CHARSET", "UTF-8", "BODY")[1][0].split()])
        return found
    finally:
        client.logout()


def wait_until_indexed(server, count):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        (row,) = json.loads(server.cli("mailbox", "index", "alice@example.test", "--json").stdout)
        if (row["messages"], row["missing"]) == (count, 0):
            return
        assert time.monotonic() < deadline, (row, server.log_file.read_text()[-3000:])
        time.sleep(0.1)


def search_process(server):
    """The one with the lowest priority."""
    niced = [pid for pid in server.pids() if os.getpriority(os.PRIO_PROCESS, pid) == 19]
    return niced[0] if niced else 0


def test_the_first_search_has_an_index_made_that_finds_the_same(server):
    deliver(server, range(1, 6))
    index = server.data / "mail/example.test/alice/posthouse.search"
    before = searched(server)
    assert before == []
    assert not Path(index).exists(), "nobody has searched yet"
    keys = ("ort3", "会议", "会议室", "wort9")
    assert searched(server, *keys) == [[3], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5], []]
    wait_until_indexed(server, 5)
    assert index.stat().st_mode & 0o777 == 0o600
    assert searched(server, *keys) == [[3], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5], []]
    deliver(server, [9])
    assert searched(server, "wort9", "会议") == [[6], [1, 2, 3, 4, 5, 6]]
    wait_until_indexed(server, 6)
    assert searched(server, "wort9") == [[6]]
    index.write_bytes(b"nonsense" * 4096)
    assert searched(server, "wort9", "会议") == [[6], [1, 2, 3, 4, 5, 6]]
    wait_until_indexed(server, 6)
    assert search_process(server)
