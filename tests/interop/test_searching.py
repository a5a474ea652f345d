"""SEARCH, SORT and THREAD give Dovecot's answers on the same Maildir of real messages."""

import itertools
import os
import re
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

MESSAGES = 400
NOBODY = 65534  # Dovecot gives nobody's mail to root
SEARCHES = [
    "ALL", "SEEN", "UNSEEN", "1:10,50:*", "NOT 2:7", "LARGER 5000", "SMALLER 2000 UNSEEN", "SUBJECT returned",
    "SUBJECT DELIVERY", "FROM mailer-daemon", "TO example", "CC a", "BCC a", 'HEADER X-Mailer ""',
    "HEADER Message-ID mail", "SINCE 1-Jan-2010", "BEFORE 1-Jan-2010", "ON 3-Mar-2011",
    "OR SUBJECT failure FROM postmaster", "NOT (SUBJECT fail TO a)", "OLDER 86400", "YOUNGER 86400",
]  # fmt: skip
CRITERIA = ["ARRIVAL", "DATE", "FROM", "TO", "CC", "SIZE", "SUBJECT", "REVERSE DATE", "DISPLAYFROM", "DISPLAYTO",
            "SUBJECT REVERSE SIZE"]  # fmt: skip
OPTIONS = ["MIN", "MAX", "COUNT", "ALL", "MIN MAX COUNT", "PARTIAL 3:7"]


class Session:
    """A client that keeps what it is told as it is."""

    def __init__(self, read, write) -> None:
        self._read, self._write = read, write
        self._count = 0
        self._read.readline()

    def command(self, line: str) -> list[str]:
        self._count += 1
        tag = f"t{self._count}"
        self._write.write(f"{tag} {line}\r\n".encode())
        self._write.flush()
        lines = []
        while not (answer := self._read.readline().decode("latin-1")).startswith(tag):
            assert answer, f"the server closed the connection after {line}"
            lines.append(answer.rstrip())
        assert " OK " in answer, (line, answer)
        return lines

    def answer(self, line: str) -> str:
        word = line.split()[0].removeprefix("UID ")
        words = ("* SEARCH", "* SORT", "* THREAD", "* ESEARCH")
        found = [each for each in self.command(line) if each.startswith(words)]
        assert len(found) == 1, (word, found)
        return re.sub(r'\(TAG "\w+"\)', "(TAG)", found[0])


@contextmanager
def dovecot(program: str, directory, maildir):
    """Dovecot's IMAP server on pipes, logged in already."""
    configuration = directory / "dovecot.conf"
    configuration.write_text(
        f"mail_location = maildir:{maildir}:INDEX={directory}/index\nssl = no\nlog_path = {directory}/log\n"
        f"base_dir = {directory}/run\nmail_uid = {NOBODY}\nmail_gid = {NOBODY}\n"
    )
    environment = {"USER": "alice", "HOME": str(directory), "PATH": os.environ["PATH"]}
    process = subprocess.Popen(
        [program, "-c", str(configuration)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        yield Session(process.stdout, process.stdin)
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


@pytest.fixture
def both(need, house, account, test_data):
    """A session with each, on mailboxes of the same messages in the same order."""
    if os.geteuid() != 0:
        pytest.skip("only root can start Dovecot's imap by itself")
    need("dovecot")
    user = (address := account("searcher")).partition("@")[0]
    mine = house.data / "mail" / "example.test" / user
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        place = Path(folder)
        fill(real_messages(test_data), (mine, place / "theirs"))
        for path in (place, *place.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        with dovecot("/usr/lib/dovecot/imap", place, place / "theirs") as theirs, house.connect("imap") as connection:
            with connection.makefile("rb") as read, connection.makefile("wb") as write:
                ours = Session(read, write)
                ours.command(f"LOGIN {address} secret")
                for session in (ours, theirs):
                    session.command("SELECT INBOX")
                yield ours, theirs


def real_messages(test_data: Path) -> list[bytes]:
    paths = [path for folder in ("bounces", "mail-parser") for path in sorted((test_data / folder).rglob("*"))]
    contents = [path.read_bytes() for path in paths if path.is_file() and path.suffix != ".json"]
    contents = [data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") for data in contents]
    # Dovecot makes up names for missing parts of addresses, reads dates strictly, and keeps two blanks in a subject.
    broken = re.compile(
        rb"^(From|To|Cc):(?![^\n]*[^\s<]@)|^Date: (?!\w{3}, +\d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d)"
        rb"|^Subject:.*(\S  | \n[ \t])",
        re.MULTILINE | re.IGNORECASE,
    )
    contents = [data for data in contents if data.strip() and not broken.search(data.partition(b"\n\n")[0])]
    return contents[:: max(1, len(contents) // MESSAGES)]


def fill(messages: list[bytes], maildirs: tuple[Path, ...]) -> None:
    for folder in maildirs:
        for name in ("cur", "new", "tmp"):
            (folder / name).mkdir(parents=True)
        for number, data in enumerate(messages):
            target = folder / "cur" / f"{1_600_000_000 + number}.M1P1.host:2,{'S' * (number % 3 == 0)}"
            target.write_bytes(data)
            when = 1_200_000_000 + number * 7919 % MESSAGES * 1_000_000
            os.utime(target, (when, when))


def differences(both, lines) -> dict[str, tuple[str, str]]:
    ours, theirs = both
    answers = {line: (ours.answer(line), theirs.answer(line)) for line in lines}
    return {line: pair for line, pair in answers.items() if pair[0] != pair[1]}


def test_searches_find_what_dovecot_finds(both):
    lines = [f"SEARCH {keys}" for keys in SEARCHES]
    lines += [f"SEARCH RETURN ({options}) {keys}" for options, keys in itertools.product(OPTIONS, SEARCHES[:8])]
    lines += [f"SEARCH {kind} {word}" for kind in ("TEXT", "BODY") for word in ("undeliverable", '"ü"')]
    assert differences(both, lines) == {}


def test_messages_are_sorted_as_by_dovecot(both):
    lines = [f"SORT ({criteria}) UTF-8 ALL" for criteria in CRITERIA]
    lines += ["SORT RETURN (MIN MAX COUNT ALL) (SUBJECT) UTF-8 SEEN"]
    assert differences(both, lines) == {}


def test_messages_are_threaded_as_by_dovecot(both):
    algorithms = ("ORDEREDSUBJECT", "REFERENCES")
    lines = [f"THREAD {algorithm} UTF-8 {keys}" for algorithm in algorithms for keys in ("ALL", "SEEN")]
    assert differences(both, lines) == {}
    # Of threads whose newest messages are of the same second, which comes first is nobody's business.
    ours, theirs = (sorted(session.answer("THREAD REFS UTF-8 ALL").replace(")(", ") (").split()) for session in both)
    assert ours == theirs
