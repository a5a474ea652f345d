"""A directory on a Galera cluster of three nodes, of which one dies, and then the majority, while mail flows.

No message that was accepted is lost or comes twice, none is refused or bounced, and nobody who was known a moment
ago notices anything.
"""

import imaplib
import itertools
import re
import smtplib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest
from tests.databases import USERINFO
from tests.running import RunningServer
from tests.scenarios import galera

PATIENCE_SECONDS = 60.0
KNOWN = ("alice@example.test", "bob@example.test")
LATE = tuple(f"late{number}@example.test" for number in range(3))
MARK = re.compile(rb"^X-Load: (\w+)\r?$", re.MULTILINE)


@dataclass
class Load:
    """Senders and readers that go on until they are told to stop; and what they were told."""

    server: RunningServer
    accepted: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Message and recipient."""
    logins: int = 0
    deferred: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _numbers: itertools.count = field(default_factory=lambda: itertools.count(1))
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, senders: int = 3, readers: int = 2) -> None:
        for work, count in ((self._send_on, senders), (self._read_on, readers)):
            for _ in range(count):
                self._threads.append(threading.Thread(target=self._guarded, args=(work,)))
                self._threads[-1].start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def send(self, recipient: str) -> int:
        """One message on a connection of its own; the code that decided."""
        name = f"m{next(self._numbers):06}"
        with smtplib.SMTP("127.0.0.1", self.server.ports["smtp"], timeout=30) as connection:
            connection.ehlo("load.test")
            for step in (
                lambda: connection.mail("sender@elsewhere.test"),
                lambda: connection.rcpt(recipient),
                lambda: connection.data(f"X-Load: {name}\r\nSubject: {name}\r\n\r\ntext\r\n"),
            ):
                try:
                    code, text = step()
                except smtplib.SMTPDataError as error:
                    code, text = error.smtp_code, error.smtp_error
                if code >= 500:
                    self.problems.append(f"{recipient}: {code} {text!r}")
                if code >= 400:
                    self.deferred.append(f"{recipient}: {code} {text!r}")
                    return code
        self.accepted[name, recipient] += 1
        return code

    def log_in(self, account: str) -> bool:
        """Log in, look at the last message; whether that was possible."""
        connection = imaplib.IMAP4("127.0.0.1", self.server.ports["imap"], timeout=30)
        try:
            connection.login(account, "secret")
            _, (count,) = connection.select()
            if int(count):
                connection.fetch(count.decode(), "(UID FLAGS BODY.PEEK[HEADER])")
        except imaplib.IMAP4.error as error:
            if "UNAVAILABLE" not in str(error):
                self.problems.append(f"{account}: {error}")
            self.deferred.append(f"{account}: {error}")
            return False
        finally:
            connection.logout()
        self.logins += 1
        return True

    def await_more(self, messages: int = 40, logins: int = 10) -> None:
        """Wait until so many more were accepted and logged in."""
        accepted, logged_in = len(self.accepted), self.logins
        wait_until(lambda: len(self.accepted) >= accepted + messages and self.logins >= logged_in + logins, self)

    def _guarded(self, work) -> None:
        try:
            while not self._stop.is_set():
                work()
        except Exception as error:
            self.problems.append(f"{type(error).__name__}: {error}")

    def _send_on(self) -> None:
        for recipient in KNOWN:
            self.send(recipient)

    def _read_on(self) -> None:
        for account in KNOWN:
            self.log_in(account)
        self._stop.wait(0.05)


def wait_until(condition, load: Load) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert not load.problems
        assert time.monotonic() < deadline, (len(load.accepted), load.logins, load.deferred[-5:])
        time.sleep(0.05)


@pytest.fixture
def cluster(need, new_mariadb):
    """Three nodes, all synced."""
    need("rsync")
    assert galera.is_there()
    running = galera.GaleraCluster(new_mariadb)
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def load(cluster, tmp_path):
    """Mail that flows, to a server whose directory is on the cluster."""
    cluster.nodes[0].create_database("posthouse")
    hosts = ", ".join(f'"{node.address}"' for node in cluster.nodes)
    configuration = (
        f'[database]\nurl = "mysql://{USERINFO}@/posthouse"\nhosts = [{hosts}]\n[queue]\nminimum_wait_seconds = 1\n'
    )
    server = RunningServer(tmp_path, configuration)
    server.cli("db", "init")
    server.cli("domain", "add", "example.test")
    for account in (*KNOWN, *LATE):
        server.add_account(account)
    server.start()
    running = Load(server)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        server.stop()


def lying_in(load: Load, recipient: str) -> Counter[str]:
    """Which messages lie in a mailbox, and how often."""
    user = recipient.partition("@")[0]
    root = load.server.data / "mail" / "example.test" / user
    found: Counter[str] = Counter()
    for path in (path for part in ("new", "cur") for path in (root / part).iterdir()):
        mark = MARK.search(path.read_bytes())
        assert mark, f"not one of ours, a bounce perhaps: {path.read_bytes()!r}"
        found[mark[1].decode()] += 1
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_node_dies_and_then_the_majority_and_no_mail_is_lost_or_refused(cluster, load):
    first, second, third = cluster.nodes
    load.await_more()

    first.kill()
    load.await_more()
    assert load.send(LATE[0]) == 250  # nobody has asked for this one yet: the second node knows it
    load.server.wait_for("database-server-down", server=first.address)

    second.kill()
    cluster.await_minority(third)
    wait_until(lambda: load.send("nobody@example.test") >= 400, load)
    load.server.wait_for("database-unreachable")
    before = len(load.deferred)
    load.await_more()
    assert [text for text in load.deferred[before:] if text.startswith(KNOWN)] == []
    assert 400 <= load.send(LATE[1]) < 500
    assert 400 <= load.send("nobody@example.test") < 500
    assert not load.log_in(LATE[1])

    cluster.bootstrap(third)
    wait_until(lambda: load.send(LATE[1]) == 250, load)
    wait_until(lambda: load.log_in(LATE[2]), load)  # the other worker looks on its own
    load.await_more()

    cluster.rejoin(first)
    cluster.rejoin(second)
    load.server.wait_for("database-server-up", server=first.address)
    load.await_more()
    load.stop()

    assert load.problems == []
    wait_until(lambda: not list((load.server.data / "queue" / "messages").iterdir()), load)
    for recipient in (*KNOWN, LATE[0], LATE[1]):
        accepted = Counter({name: count for (name, to), count in load.accepted.items() if to == recipient})
        assert lying_in(load, recipient) == accepted
