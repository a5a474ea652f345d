"""A change reaches every session that idles, on whichever worker: by another session, a delivery, another program."""

import os
import select
import smtplib
import time

import pytest

SESSIONS = 8
PATIENCE_SECONDS = 20.0
LETTER = b"From: a@example.org\r\nSubject: news\r\n\r\nHello.\r\n"


class Idler:
    """A client that waits in IDLE."""

    def __init__(self, server):
        self.socket = server.connect("imap")
        self.heard = b""
        for line in (b"a LOGIN alice@example.test secret", b"b SELECT INBOX", b"c IDLE"):
            self.socket.sendall(line + b"\r\n")
            self.hear(b"+ " if line.startswith(b"c") else line[:1] + b" OK")
        self.heard = b""

    def hear(self, words):
        """Reads until these words were there."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words not in self.heard:
            ready, _, _ = select.select([self.socket], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {words} came, only {self.heard}"
            data = self.socket.recv(65536)
            assert data, self.heard
            self.heard += data


@pytest.fixture
def idlers(server):
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as lmtp:
        lmtp.sendmail("a@example.org", ["alice@example.test"], LETTER)
    idlers = [Idler(server) for _ in range(SESSIONS)]
    yield idlers
    for idler in idlers:
        idler.socket.close()


def test_every_session_that_idles_hears_of_every_change(server, idlers, record_property):
    """RFC 2177. How long it took is recorded; only what is far too long fails."""
    inbox = server.data / "mail" / "example.test" / "alice"
    session = server.connect("imap")
    reader = session.makefile("rb")

    def command(line):
        session.sendall(b"x " + line + b"\r\n")
        while not (answer := reader.readline()).startswith(b"x "):
            pass
        assert answer.startswith(b"x OK"), answer

    def deliver():
        with smtplib.LMTP("127.0.0.1", server.ports["lmtp"]) as lmtp:
            lmtp.sendmail("a@example.org", ["alice@example.test"], LETTER)

    def other_program_delivers():
        (inbox / "tmp" / "1700000001.M1P1.elsewhere").write_bytes(LETTER.replace(b"\r\n", b"\n"))
        os.rename(inbox / "tmp" / "1700000001.M1P1.elsewhere", inbox / "new" / "1700000001.M1P1.elsewhere")

    def other_program_flags():
        (path,) = (inbox / "cur").glob("1700000001.*")
        os.rename(path, path.with_name("1700000001.M1P1.elsewhere:2,FS"))

    reader.readline()
    command(b"LOGIN alice@example.test secret")
    command(b"SELECT INBOX")
    steps = [
        ("flags by a session", lambda: command(b"STORE 1 +FLAGS (\\Answered)"), b"\\Answered"),
        ("delivery", deliver, b"* 2 EXISTS"),
        ("another program's delivery", other_program_delivers, b"* 3 EXISTS"),
        ("another program's flags", other_program_flags, b"\\Flagged"),
        ("expunge by a session", lambda: (command(b"STORE 1 +FLAGS (\\Deleted)"), command(b"EXPUNGE")), b"EXPUNGE"),
    ]
    for name, change, words in steps:
        change()
        done = time.monotonic()
        for idler in idlers:
            idler.hear(words)
            idler.heard = b""
        record_property(name, f"{1000 * (time.monotonic() - done):.0f} ms")
    session.close()
