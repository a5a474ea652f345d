"""IMAP clients with a memory: which UID is which message, and what the server said it had done."""

import imaplib
import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.scenarios.senders import TAKEN, Ledger, Sent, some_size

MARK = re.compile(rb"UID (\d+).*X-Load: (\w+)", re.DOTALL | re.IGNORECASE)
APPENDUID = re.compile(rb"APPENDUID (\d+) (\d+)")
COPYUID = re.compile(rb"COPYUID (\d+) (\S+) (\S+)")
MAILBOXES = ("INBOX", "Archive")


def log_in(port: int, account: str, timeout_seconds: float = 60.0) -> imaplib.IMAP4:
    connection = imaplib.IMAP4("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.login(f"{account}@example.test", "secret")
    except BaseException:
        connection.shutdown()
        raise
    return connection


@dataclass
class Mailbox:
    """What clients know of one mailbox. ``uidnext`` and ``seen`` are as of the last look at all of it."""

    uidvalidity: int = 0
    uidnext: int = 1
    uids: dict[int, str] = field(default_factory=dict)
    expunged: set[int] = field(default_factory=set)
    """EXPUNGE was answered."""
    doubtful: set[int] = field(default_factory=set)
    """EXPUNGE was sent."""
    flagged: set[int] = field(default_factory=set)
    """STORE +FLAGS \\Flagged was answered."""


@dataclass
class Memory:
    """Everything that was seen over IMAP; ``problems`` is what broke a promise."""

    ledger: Ledger
    mailboxes: dict[tuple[str, str], Mailbox] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def mailbox(self, account: str, name: str) -> Mailbox:
        return self.mailboxes.setdefault((account, name), Mailbox())

    @property
    def gone(self) -> frozenset[str]:
        """Messages that were, or may have been, expunged or moved."""
        return frozenset(box.uids[uid] for box in self.mailboxes.values() for uid in box.doubtful)

    def told(self, account: str, name: str, uidvalidity: int, uid: int, message: str) -> None:
        """The server says that this UID is this message."""
        box = self.mailbox(account, name)
        if box.uidvalidity not in (0, uidvalidity):
            self.problems.append(f"{account}/{name}: UIDVALIDITY {uidvalidity}, was {box.uidvalidity}")
        box.uidvalidity = uidvalidity
        if box.uids.setdefault(uid, message) != message:
            self.problems.append(f"{account}/{name}: UID {uid} is {message}, was {box.uids[uid]}")

    def look(self, port: int, account: str, name: str, *, read_only: bool, power_failed: bool = False) -> None:
        """Compare all of a mailbox with what is known of it."""
        connection = log_in(port, account)
        box = self.mailbox(account, name)
        before, uidnext = set(box.uids), box.uidnext
        require(connection.select(name, readonly=read_only))
        uidvalidity, next_now = (int(connection.response(code)[1][0]) for code in ("UIDVALIDITY", "UIDNEXT"))
        status, lines = connection.uid("FETCH", "1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (X-LOAD)])")
        assert status == "OK"
        flags: dict[int, bytes] = {}
        for line in lines:
            if isinstance(line, tuple):
                found = MARK.search(b"".join(line))
                assert found, line
                uid = int(found[1])
                self.told(account, name, uidvalidity, uid, found[2].decode())
                flags[uid] = line[0]
        connection.logout()
        where = f"{account}/{name}"
        here = set(flags)
        for uid in here - before:
            if uid < uidnext:
                self.problems.append(f"{where}: the new UID {uid} is below the old UIDNEXT {uidnext}")
        if missing := before - here - box.doubtful:
            now = {box.uids[uid]: uid for uid in here}
            named = [(uid, box.uids[uid], now.get(box.uids[uid], 0)) for uid in sorted(missing)]
            self.problems.append(f"{where}: gone (UID, message, new UID): {named}; UIDNEXT {uidnext}, now {next_now}")
        if next_now < uidnext or (here and next_now <= max(here)):
            self.problems.append(f"{where}: UIDNEXT {next_now} after {uidnext} with {max(here, default=0)} there")
        if not power_failed:
            if back := here & box.expunged:
                self.problems.append(f"{where}: expunged, yet there: {sorted(back)}")
            if lost := [uid for uid in box.flagged & here if b"\\Flagged" not in flags[uid]]:
                self.problems.append(f"{where}: flags lost: {lost}")
        else:
            box.flagged = {uid for uid in here if b"\\Flagged" in flags[uid]}
            box.expunged -= here
        box.uidnext = next_now


class Reader(threading.Thread):
    """One session after the other on one account until ``stop``: APPEND, STORE, EXPUNGE, COPY and MOVE."""

    def __init__(
        self, memory: Memory, port: Callable[[], int], account: str, seed: str, stop: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self.memory = memory
        self.port = port
        self.account = account
        self.rng = random.Random(seed)
        self.stop = stop
        self.failure: BaseException | None = None

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self._session()
            except (OSError, imaplib.IMAP4.abort):
                self.stop.wait(0.01)
            except BaseException as error:
                self.failure = error
                return

    def _session(self) -> None:
        connection = log_in(self.port(), self.account)
        try:
            require(connection.select("INBOX"))
            while not self.stop.is_set():
                step = self.rng.choices([self._append, self._flag, self._expunge, self._copy], [6, 3, 1, 2])[0]
                step(connection)
        finally:
            connection.shutdown()

    def _append(self, connection: imaplib.IMAP4) -> Sent:
        places = frozenset({self.account})
        sent, data = self.memory.ledger.write(self.rng, places, some_size(self.rng))
        answer = require(connection.append("INBOX", r"(\Seen)", None, data))
        found = APPENDUID.search(answer)
        assert found, answer
        sent.outcome, sent.reply = TAKEN, answer.decode()
        self.memory.told(self.account, "INBOX", int(found[1]), int(found[2]), sent.id)
        return sent

    def _flag(self, connection: imaplib.IMAP4) -> None:
        box = self.memory.mailbox(self.account, "INBOX")
        if uids := self._some(box, 3):
            require(connection.uid("STORE", joined(uids), "+FLAGS.SILENT", r"(\Flagged)"))
            box.flagged.update(uids)

    def _expunge(self, connection: imaplib.IMAP4) -> None:
        box = self.memory.mailbox(self.account, "INBOX")
        if uids := self._some(box, 2):
            box.doubtful.update(uids)
            require(connection.uid("STORE", joined(uids), "+FLAGS.SILENT", r"(\Deleted)"))
            require(connection.uid("EXPUNGE", joined(uids)))
            box.expunged.update(uids)

    def _copy(self, connection: imaplib.IMAP4) -> None:
        """COPY or MOVE to Archive; a copy is forgotten in INBOX, so that each message counts once."""
        box = self.memory.mailbox(self.account, "INBOX")
        if not (uids := self._some(box, 2)):
            return
        moves = self.rng.random() < 0.5
        box.doubtful.update(uids)
        status, answer = connection.uid("MOVE" if moves else "COPY", joined(uids), "Archive")
        assert status == "OK", answer
        found = COPYUID.search(b" ".join(filter(None, [*answer, *untagged(connection, "COPYUID")])))
        assert found, answer
        for source, target in zip(numbers(found[2]), numbers(found[3]), strict=True):
            self.memory.told(self.account, "Archive", int(found[1]), target, box.uids[source])
        if moves:
            box.expunged.update(uids)

    def _some(self, box: Mailbox, count: int) -> list[int]:
        """UIDs that the session has surely heard of."""
        known = sorted(set(box.uids) - box.doubtful)
        return self.rng.sample(known, min(count, len(known))) if len(known) > 5 else []


def require(answer: tuple[str, list]) -> bytes:
    status, lines = answer
    assert status == "OK", (status, lines)
    return lines[-1] or b""


def untagged(connection: imaplib.IMAP4, code: str) -> list[bytes]:
    data = connection.response(code)[1]
    return [code.encode() + b" " + item for item in data if item]


def joined(uids: list[int]) -> str:
    return ",".join(map(str, sorted(uids)))


def numbers(text: bytes) -> list[int]:
    """A UID set, every number of it."""
    found: list[int] = []
    for part in text.strip(b"]").decode().split(","):
        low, _, high = part.partition(":")
        found += range(int(low), int(high or low) + 1)
    return found
