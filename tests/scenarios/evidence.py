"""What lies on the disk of a server, compared with what was sent to it."""

import os
import re
from collections import Counter, defaultdict
from pathlib import Path

from tests.scenarios.machine import ACCOUNTS
from tests.scenarios.senders import OPEN, REFUSED, TAKEN, Ledger, digest

MARK = re.compile(rb"^X-Load: (\w+)\r?\n", re.MULTILINE)


class Disk:
    """The mailboxes and the queue of one data directory. A file that was once found good isn't read again
    until ``forget``."""

    def __init__(self, data: Path) -> None:
        self.queue = data / "queue" / "messages"
        self.mail = data / "mail" / "example.test"
        self._good: dict[str, str] = {}

    def forget(self) -> None:
        self._good.clear()

    def files(self, place: str) -> list[str]:
        """Everything in new/ and cur/ of every folder, or in the queue."""
        if place == "queue":
            return [entry.path for entry in os.scandir(self.queue)]
        root = self.mail / place
        folders = [root, *(path for path in root.glob(".*") if path.is_dir())]
        return [
            entry.path
            for folder in folders
            for part in ("new", "cur")
            if (folder / part).is_dir()
            for entry in os.scandir(folder / part)
        ]

    def contents(self, place: str, ledger: Ledger) -> tuple[Counter[str], list[str]]:
        """How often each message lies there whole; and what else there is."""
        found: Counter[str] = Counter()
        wrong: list[str] = []
        for path in self.files(place):
            name = os.path.basename(path).partition(":")[0]
            known = self._good.get(name)
            if known is None:
                data = Path(path).read_bytes()
                known = identify(data, ledger)
                if not known:
                    wrong.append(f"{path}: {len(data)} octets: {data[:200]!r}")
                    continue
                self._good[name] = known
            found[known] += 1
        return found, wrong


def identify(data: bytes, ledger: Ledger) -> str:
    """The id of the message, if it is exactly as sent; nothing otherwise."""
    mark = MARK.search(data)
    sent = ledger.sent.get(mark[1].decode()) if mark else None
    if mark is None or sent is None:
        return ""
    body = data[mark.start() :]
    if b"\r\n" not in body:
        body = body.replace(b"\n", b"\r\n")
    return sent.id if digest(body) == sent.digest else ""


def compare(disk: Disk, ledger: Ledger, *, gone: frozenset[str] = frozenset()) -> list[str]:
    """Everything that is not as promised. ``gone``: messages that were expunged, or may have been."""
    problems: list[str] = []
    lies_in: dict[str, set[str]] = defaultdict(set)
    for place in (*ACCOUNTS, "queue"):
        found, wrong = disk.contents(place, ledger)
        problems += [f"torn or foreign: {text}" for text in wrong]
        for name, count in found.items():
            lies_in[name].add(place)
            if count > 1 and name not in gone:
                problems.append(f"{name} lies {count} times in {place}")
    for sent in list(ledger.sent.values()):
        places = lies_in[sent.id]
        if sent.outcome == TAKEN and sent.id not in gone and places != sent.places:
            problems.append(
                f"{sent.id} was acknowledged ({sent.reply}): in {places}, should be in {set(sent.places)}"
            )
        elif sent.outcome == OPEN and not places <= sent.places:
            problems.append(f"{sent.id} lies in {places}, was for {set(sent.places)}")
        elif sent.outcome == REFUSED and places:
            problems.append(f"{sent.id} was refused ({sent.reply}), yet lies in {places}")
    return problems
