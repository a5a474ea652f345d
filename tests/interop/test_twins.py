"""A random client does the same in Posthouse and in Dovecot, and is told the same."""

import os
import random
import re
import tempfile
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from tests.interop import twins
from tests.interop.actions import FOLDERS, Actions
from tests.interop.twins import NOBODY, Talk, contrast, difference

SEED = os.environ.get("POSTHOUSE_CHAOS_SEED", "posthouse")
ROUNDS = int(os.environ.get("POSTHOUSE_CHAOS_ROUNDS", "1"))
STEPS = 150
_ODD = re.compile(
    rb"^(From|To|Cc|Sender|Reply-To):[^\"<\n]*@[^<\n]*<"
    rb"|^(From|To|Cc|Sender|Reply-To):([^@<\n]*\r$|[^\n]*<>)"
    rb"|^(From|To|Cc|Message-ID|Subject): ([^\r\n][^\n]*\n)*\4:"
    rb"|^Content-Type: *\w+ *(;|$)|^Content-Type: multipart/(?!([^\n]*\n[ \t])*[^\n]*boundary)",
    re.MULTILINE | re.IGNORECASE,
)


class Pair:
    """A session with each."""

    def __init__(self, ours: Talk, theirs: Talk) -> None:
        self.ours, self.theirs = ours, theirs

    def command(self, line: bytes) -> str:
        """Gives it to both; where their answers, and what their clients believe then, differ."""
        found = difference(self.ours.command(line), self.theirs.command(line))
        if self._beliefs():
            self.look()
        return found + self._beliefs()

    def look(self) -> None:
        """Hears what the other session has done meanwhile."""
        self.ours.command(b"NOOP")
        self.theirs.command(b"NOOP")

    def mark(self) -> None:
        if self.ours.mailbox:
            self.ours.mark()
            self.theirs.mark()

    def _beliefs(self) -> str:
        mine, yours = self.ours, self.theirs
        flags = contrast(*({uid: talk.flags.get(uid) for uid in talk.uids} for talk in (mine, yours)))
        return contrast(mine.uids, yours.uids) + flags


@contextmanager
def both(house, address):
    """``pair()``: one more session with both servers, on mailboxes that began empty."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, NOBODY, NOBODY)
        connections = []
        with twins.dovecot(Path(folder)) as dovecot:

            def pair() -> Pair:
                connection = house.connect("imap")
                connections.append(connection)
                ours = Talk(connection.makefile("rb"), connection.makefile("wb"))
                ours.command(f"LOGIN {address} secret".encode())
                return Pair(ours, dovecot.talk())

            yield pair
        for connection in connections:
            connection.close()


def real_messages() -> list[bytes]:
    """With CRLF line ends and without NUL, which no server takes (RFC 3501 §9); none where there are none."""
    place = Path(os.environ.get("POSTHOUSE_TEST_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    paths = [path for folder in ("bounces", "mail-parser") for path in sorted((place / folder).rglob("*"))]
    contents = [path.read_bytes() for path in paths if path.is_file() and path.suffix != ".json"]
    contents = [re.sub(rb"\r\n|\r|\n", b"\r\n", data) for data in contents]
    return [data for data in contents if len(data) < 50_000 and b"\0" not in data and not _is_odd(data)]


def _is_odd(message: bytes) -> bool:
    """Whether the two read it differently, each in its way.

    Dovecot joins several fields of a name in an ENVELOPE or takes the last, takes a bare word with an @ for an
    address and makes one up where there is none, has no type where Content-Type is broken, and keeps an empty
    multipart where it has no boundary. Without a Date that both can read, weekday included, a message is sent before
    every day for one and before none for the other.
    """
    date = re.search(rb"^Date: (\w{3}, +\d{1,2} \w{3} \d{4}) \d\d:\d\d:\d\d", _head(message), re.MULTILINE)
    try:
        when = datetime.strptime(f"{date[1].decode()} +0000", "%a, %d %b %Y %z") if date else None
    except ValueError:
        when = None
    return when is None or when.strftime("%a") != date[1][:3].decode() or _ODD.search(message) is not None


def _head(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[0]


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(120 + 60 * ROUNDS)
def test_a_random_client_is_told_by_posthouse_what_dovecot_tells_it(need, house, account):
    if os.geteuid() != 0:
        pytest.skip("only root can start Dovecot's imap by itself")
    need("dovecot")
    messages = real_messages()
    for number in range(ROUNDS):
        seed = f"{SEED}-{number}"
        rng = random.Random(seed)
        actions = Actions(rng, messages)
        with both(house, account("twin")) as pair:
            pairs = [pair(), pair()]
            for name in FOLDERS[1:]:
                assert pairs[0].command(f"CREATE {name}".encode()) == ""
            for step in range(STEPS):
                who = rng.choices(pairs, (3, 1))[0]
                if rng.random() < 0.1:
                    who.mark()
                line = actions.next(who.ours)
                found = who.command(line)
                assert found == "", f"seed {seed}, step {step}, session {pairs.index(who)}: {line[:300]!r}: {found}"
