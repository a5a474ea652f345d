"""What interop tests ask of a server, through Python's own clients, and the programs they run."""

import imaplib
import os
import poplib
import re
import smtplib
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from tests.running import RunningServer

T = TypeVar("T")

PASSWORD = "secret"
PATIENCE_SECONDS = 30.0

SUBJECT = re.compile(rb"Subject: ([^\r]*)")
TRACE = re.compile(rb"((?:Return-Path|Delivered-To|Received): [^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)+")


class House(RunningServer):
    """A running server, and short ways to look at what it holds."""

    @contextmanager
    def imap(self, address: str) -> Iterator[imaplib.IMAP4]:
        """A session, logged in and with INBOX selected."""
        with imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=30) as session:
            session.login(address, PASSWORD)
            session.select("INBOX")
            yield session

    @contextmanager
    def submission(self, address: str) -> Iterator[smtplib.SMTP]:
        """A submission session, logged in over TLS."""
        with smtplib.SMTP("127.0.0.1", self.ports["submission"], timeout=30) as session:
            session.starttls(context=trusting())
            session.login(address, PASSWORD)
            yield session

    def deliver(self, address: str, *messages: bytes) -> None:
        """Put messages into a mailbox over LMTP; they are there when this returns."""
        with smtplib.LMTP("127.0.0.1", self.ports["lmtp"]) as session:
            for message in messages:
                session.sendmail("sender@example.org", [address], message)

    def messages(self, address: str, folder: str = "INBOX") -> list[bytes]:
        """Every message of a folder, octet for octet."""
        return [part[1] for part in self._fetch(address, folder, "(BODY.PEEK[])") if isinstance(part, tuple)]

    def only(self, address: str, folder: str = "INBOX") -> bytes:
        (message,) = self.messages(address, folder)
        return message

    def flags(self, address: str, folder: str = "INBOX") -> list[set[str]]:
        """Every message's flags, without \\Recent."""
        answer = self._fetch(address, folder, "(FLAGS)")
        return [{flag.decode() for flag in imaplib.ParseFlags(line)} - {"\\Recent"} for line in answer]

    def _fetch(self, address: str, folder: str, items: str) -> list:
        with self.imap(address) as session:
            _, (count,) = session.select(folder, readonly=True)
            # In an empty mailbox there is no message that 1:* could mean: BAD.
            return session.fetch("1:*", items)[1] if int(count) else []

    def queue(self) -> list[dict]:
        import json

        return json.loads(self.cli("queue", "list", "--json").stdout)


def trusting() -> ssl.SSLContext:
    """TLS with our self-signed certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def without_trace(message: bytes) -> bytes:
    """A message without the fields that delivery puts in front, which have to be there."""
    front = TRACE.match(message)
    assert front is not None, message[:500]
    assert front[0].startswith(b"Return-Path: <")
    return message[front.end() :]


def mail(
    subject: str, body: str = "Hello!\r\n", *, sender: str = "you@example.org", to: str = "us@example.test"
) -> bytes:
    """A message as it goes over the wire."""
    head = f"From: {sender}\r\nTo: us@example.test\r\nSubject: {subject}\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\n"
    return f"{head}Message-ID: <{subject.replace(' ', '.')}@example.org>\r\n\r\n{body}".encode()


def run(*command: object, stdin: str = "", home: object = "/nonexistent", code: int | None = 0) -> str:
    """Run a program with no configuration of its user's; what it printed. ``code``: the exit code to expect."""
    arguments = [str(each) for each in command]
    environment = {**os.environ, "HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    pipes = {"input": stdin.encode(), "capture_output": True}
    done = subprocess.run(arguments, env=environment, timeout=30, check=False, **pipes)
    printed = (done.stdout + done.stderr).decode(errors="replace")
    assert code is None or done.returncode == code, f"{arguments}: exit code {done.returncode}\n{printed}"
    return printed


def until(look: Callable[[], T]) -> T:
    """What ``look`` returns, as soon as that is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (seen := look()):
        assert time.monotonic() < deadline, f"it never came to pass: {look}, {seen!r}"
        time.sleep(0.02)
    return seen


def subscriptions(imap: imaplib.IMAP4) -> set[str]:
    """Names as they are here."""
    names = {line.decode().rpartition(' "." ')[2].strip('"') for line in imap.lsub()[1]}
    return {name.removeprefix("INBOX.") for name in names}


def uidls(port: int, address: str, password: str = PASSWORD) -> dict[bytes, bytes]:
    """Unique ids by subject."""
    with closing(poplib.POP3("127.0.0.1", port, timeout=30)) as pop3:
        pop3.user(address)
        pop3.pass_(password)
        listed = [line.split() for line in pop3.uidl()[1]]
        found = {SUBJECT.search(b"\r\n".join(pop3.top(int(n), 0)[1]))[1]: uidl for n, uidl in listed}
        pop3.quit()
    return found


def fetch_and_keep(tmp_path: Path, port: int, address: str) -> int:
    """How many messages fetchmail downloads that leaves them on the server."""
    rc, box = tmp_path / "fetchmailrc", tmp_path / "fetched"
    rc.write_text(
        f"poll 127.0.0.1 port {port} protocol pop3 uidl auth password\n"
        f'  user "{address}" password "{PASSWORD}" keep mda "cat >> {box}; echo >> {box}"\n'
        "  sslproto ''\n"
    )
    rc.chmod(0o600)
    box.write_bytes(b"")
    command = ["fetchmail", "-f", rc, "-i", tmp_path / "fetchids", "--pidfile", tmp_path / "pid", "--nosyslog"]
    done = subprocess.run(
        command, capture_output=True, timeout=60, check=False, env={**os.environ, "HOME": str(tmp_path)}
    )
    assert done.returncode in (0, 1), done.stderr  # 1: nothing new
    return box.read_bytes().count(b"\nSubject: ")
