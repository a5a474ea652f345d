r"""The same commands for Posthouse and for Dovecot, and what their answers have in common.

A ``Talk`` is a session with one of the two, and what its client believes: which UID has which number and flags.
An ``Answer`` is what a command has brought, without what the two may say as they like:

  - texts for people, tags, the order of responses and of flags, and which numbers UIDVALIDITY and MODSEQ are; that
    modification sequences only grow is checked for each by itself
  - FLAGS and PERMANENTFLAGS: which keywords a mailbox has had (RFC 3501 §7.2.6)
  - when the client is told of what it did not ask for (RFC 3501 §7, §5.2): what counts is what it believes in the
    end, after a NOOP if need be
  - NIL or an empty string for a part that there is not: RFC 3501 §6.4.5 does not say which
  - special uses in LSUB: RFC 6154 §2 speaks of LIST
  - a text part's charset where it is US-ASCII: Dovecot states it where the message does not (RFC 2045 §5.2)
  - names for missing parts of addresses, which Dovecot makes up
  - blanks around a date or a message id in an ENVELOPE
  - \Marked and \Unmarked in LIST: hints (RFC 3501 §7.2.2)
  - part 1 of what has no parts, where Dovecot gives the part itself (RFC 3501 §6.4.5)
  - parts within what BINARY asks for, which Dovecot decodes, too (RFC 3516 §4.2 speaks of the section itself)
  - upper and lower case of field names in BODY[HEADER.FIELDS (…)] and of media types
  - where a part ends, and how large it is, whose last line ends a multipart: Dovecot counts the line end that
    belongs to the delimiter around it (RFC 2046 §5.1.1)
  - response codes that explain a failure: they are for help (RFC 5530)
  - what a mailbox is known by (RFC 8474), and which URLs there are (RFC 4467)
"""

import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from tests.imap_responses import value

IMAP = "/usr/lib/dovecot/imap"
NOBODY = 65534  # Dovecot gives nobody's mail to root
CONFIGURATION = """\
mail_location = maildir:{here}/mail:INDEX={here}/index
ssl = no
log_path = {here}/log
base_dir = {here}/run
mail_uid = {owner}
mail_gid = {owner}
namespace inbox {{
  inbox = yes
  separator = .
  prefix =
  mailbox Trash {{
    special_use = \\Trash
  }}
  mailbox Sent {{
    special_use = \\Sent
  }}
}}
"""
_NUMBERED = re.compile(rb"\* (\d+) (EXISTS|RECENT|EXPUNGE|FETCH) ?")
_CODE = re.compile(rb"(OK|NO|BAD|BYE) (?:\[([^\]]*)\])?")
_NOT_COMPARED = (b"* FLAGS ", b"* OK [PERMANENTFLAGS", b"* OK [UNSEEN", b"* OK [HIGHESTMODSEQ", b"* CAPABILITY",
                 b"* OK [MAILBOXID", b"* OK [URLMECH")  # fmt: skip
_CODES = (b"COPYUID", b"APPENDUID", b"MODIFIED", b"READ-", b"TRYCREATE")
_OF_A_LEAF = re.compile(rb"BODY\[[\d.]+\.1(\.[A-Z][^\]]*)?\]")
_PART = re.compile(rb"BODY\[[\d.]+(\.TEXT)?\]")
_PRIVATE_NUMBERS = re.compile(rb"\b(UIDVALIDITY|HIGHESTMODSEQ|APPENDUID|COPYUID|MODSEQ) \d+")


@dataclass
class Answer:
    """``items`` by UID; ``others``: every other response, normalised, sorted."""

    status: bytes
    code: bytes = b""
    items: dict[int, dict[bytes, object]] = field(default_factory=dict)
    others: list[bytes] = field(default_factory=list)


class Talk:
    """One session, logged in."""

    def __init__(self, read: BinaryIO, write: BinaryIO) -> None:
        self._read, self._write = read, write
        self._count = 0
        self.uids: list[int] = []
        self.flags: dict[int, frozenset[bytes]] = {}
        self.modseqs: dict[int, int] = {}
        self.mailbox = b""
        """Which one is selected, if any."""
        self.is_read_only = False
        self.marks: list[int] = []
        """Modification sequences of the selected mailbox that the client has kept."""
        self._highest = 0
        self.log: list[bytes] = []
        self._read.readline()

    def command(self, line: bytes) -> Answer:
        """Sends it, with ``<MARK n>`` replaced, and hears all that comes."""
        line = re.sub(rb"<MARK (\d+)>", lambda mark: b"%d" % self.marks[int(mark[1])], line)
        if b"STATUS" in line and self.mailbox:
            self._exchange(b"NOOP")  # Dovecot's numbers of the selected mailbox are those that it has told
        answer = self._exchange(line)
        first = line.split(b" ", 2)
        selects = first[0] in (b"SELECT", b"EXAMINE")
        if not selects and 0 in self.uids:
            self._exchange(b"FETCH %d:* (UID FLAGS)" % (self.uids.index(0) + 1))
        if first[0] in (b"CLOSE", b"UNSELECT"):
            self._forget()
        elif selects and answer.status == b"OK":
            self.mailbox, self.is_read_only = first[1], first[0] == b"EXAMINE"
        if self.uids and (selects or b".SILENT" in line):
            self._exchange(b"FETCH 1:* (UID FLAGS)")
        return answer

    def mark(self) -> None:
        """Keeps the modification sequence as of which the client knows everything."""
        self.command(b"NOOP")
        self.command(b"STATUS %b (HIGHESTMODSEQ)" % self.mailbox)
        self.marks.append(self._highest)

    def _forget(self) -> None:
        self.uids, self.flags, self.modseqs, self.marks = [], {}, {}, []
        self.mailbox = b""

    def _exchange(self, line: bytes) -> Answer:
        self._count += 1
        tag = b"t%d" % self._count
        self.log.append(line[:500])
        self._write.write(tag + b" " + line + b"\r\n")
        self._write.flush()
        if line.startswith((b"SELECT", b"EXAMINE")):
            self._forget()
        answer = Answer(b"")
        while not (response := self._response()).startswith(tag + b" "):
            assert response, (self.log[-5:], "the connection was closed")
            self._hear(response, answer)
        word = _CODE.match(response, len(tag) + 1)
        assert word, response
        answer.status, answer.code = word[1], _public(word[2] or b"")
        answer.others.sort()
        return answer

    def _response(self) -> bytes:
        response = b""
        while True:
            line = self._read.readline()
            response += line
            literal = re.search(rb"\{(\d+)\}\r\n\Z", line)
            if not literal:
                return response
            response += self._read.read(int(literal[1]))

    def _hear(self, response: bytes, answer: Answer) -> None:
        numbered = _NUMBERED.match(response)
        if numbered is None:
            if highest := re.search(rb"^\* STATUS .*\(HIGHESTMODSEQ (\d+)\)", response):
                self._highest = int(highest[1])
            if not response.startswith(_NOT_COMPARED):
                answer.others.append(_comparable(response.rstrip()))
            return
        number, word = int(numbered[1]), numbered[2]
        if word == b"EXISTS":
            assert number >= len(self.uids), (self.log[-5:], response)
            self.uids += [0] * (number - len(self.uids))
        elif word == b"EXPUNGE":
            self.uids.pop(number - 1)
        elif word == b"FETCH":
            self._hear_items(number, value(response, numbered.end())[0], answer)

    def _hear_items(self, number: int, found: object, answer: Answer) -> None:
        assert isinstance(found, tuple)
        items = dict(zip(found[::2], found[1::2], strict=True))
        uid = items.pop(b"UID", self.uids[number - 1])
        assert self.uids[number - 1] in (0, uid), (self.log[-5:], number, uid)
        self.uids[number - 1] = uid
        flags = items.pop(b"FLAGS", None)
        if flags is not None:
            self.flags[uid] = frozenset(each.lower() for each in flags) - {b"\\recent"}
        if b"MODSEQ" in items:
            (modseq,) = items.pop(b"MODSEQ")
            assert modseq >= self.modseqs.get(uid, 1), (self.log[-5:], uid)
            self.modseqs[uid] = modseq
        if items:
            answer.items.setdefault(uid, {}).update(
                {name.upper(): _normal(name, item) for name, item in items.items()}
            )


def _public(code: bytes) -> bytes:
    """A response code without the numbers that are each server's own."""
    return _PRIVATE_NUMBERS.sub(rb"\1 N", code)


def _comparable(response: bytes) -> bytes:
    response = _public(response)
    if response.startswith((b"* OK", b"* NO")):
        word = _CODE.match(response, 2)
        return b"* %b %b" % (word[1], word[2] or b"") if word else response
    response = re.sub(rb'\(TAG "\w+"\)', b"(TAG)", response)
    if response.startswith(b"* STATUS"):
        head, _, tail = response.rpartition(b"(")
        pairs = re.findall(rb"(\w+ \S+?)(?=[ )])", tail)
        return _unquoted(head) + b" ".join(sorted(pairs))
    if response.startswith((b"* LIST", b"* LSUB")):
        attributes, _, rest = response.partition(b"(")[2].partition(b")")
        words = set(attributes.lower().split()) - {b"\\marked", b"\\unmarked"}
        if response.startswith(b"* LSUB"):
            words -= {b"\\sent", b"\\trash"}
        return response[:7] + b" ".join(sorted(words)) + _unquoted(rest)
    return response


def _unquoted(data: bytes) -> bytes:
    """Whether a name is quoted is the server's choice."""
    return re.sub(rb'"([^"\\]*)"', rb"\1", data)


def _normal(name: bytes, item: object) -> object:
    if name == b"INTERNALDATE" and isinstance(item, bytes):  # an instant, in whatever zone
        return datetime.strptime(item.strip().decode(), "%d-%b-%Y %H:%M:%S %z").timestamp()
    if name in (b"BODY", b"BODYSTRUCTURE"):
        return _without_default(item)
    if name == b"ENVELOPE":
        return _without_made_up(item)
    return b"" if item is None and name.startswith((b"BODY[", b"BINARY[")) else item


def _without_made_up(envelope: object) -> object:
    if isinstance(envelope, tuple):
        return tuple(map(_without_made_up, envelope))
    if isinstance(envelope, bytes):
        envelope = envelope.strip()
    return b"" if envelope in (b"MISSING_DOMAIN", b"MISSING_MAILBOX") else envelope


def _without_default(structure: object) -> object:
    """BODY or BODYSTRUCTURE: the type and subtype of leaves in lower case, no charset of US-ASCII."""
    if not isinstance(structure, tuple):
        return structure
    parts = tuple(_without_default(each) for each in structure)
    if len(parts) < 7 or not isinstance(parts[0], bytes) or not isinstance(parts[1], bytes):
        return parts
    kind, subtype, parameters, *rest = parts
    if isinstance(parameters, tuple) and kind.lower() == b"text":
        pairs = list(zip(parameters[::2], parameters[1::2], strict=True))
        kept = [pair for pair in pairs if (pair[0].lower(), pair[1].lower()) != (b"charset", b"us-ascii")]
        parameters = tuple(word for pair in kept for word in pair) or None
    elif (kind.lower(), subtype.lower()) == (b"message", b"rfc822"):
        rest[4] = _without_made_up(rest[4])
        if _is_multipart(rest[5]):
            rest[3] = rest[6] = 0
    return (kind.lower(), subtype.lower(), parameters, *rest)


def _is_multipart(body: object) -> bool:
    """Or a message, in a message, that is one."""
    assert isinstance(body, tuple)
    return isinstance(body[0], tuple) or (body[:2] == (b"message", b"rfc822") and _is_multipart(body[8]))


@contextmanager
def dovecot(directory: Path) -> Iterator["Twin"]:
    """Dovecot's IMAP server on pipes; each session is a process of its own."""
    configuration = directory / "dovecot.conf"
    configuration.write_text(CONFIGURATION.format(here=directory, owner=NOBODY))
    twin = Twin(configuration)
    try:
        yield twin
    finally:
        twin.close()


class Twin:
    """Dovecot for one user."""

    def __init__(self, configuration: Path) -> None:
        self._configuration = configuration
        self._processes: list[subprocess.Popen[bytes]] = []

    def talk(self) -> Talk:
        process = subprocess.Popen(
            [IMAP, "-c", str(self._configuration)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"USER": "alice", "HOME": str(self._configuration.parent), "TZ": "UTC"},
        )
        self._processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        return Talk(process.stdout, process.stdin)

    def close(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            process.wait(20)
            process.stdout.close()


def difference(ours: Answer, theirs: Answer) -> str:
    """Where two answers differ, short enough to read; empty where they don't."""
    for answer in (ours, theirs):
        if not answer.code.startswith(_CODES):
            answer.code = b""
    for uid, items in theirs.items.items():
        for name, item in items.items():
            items[name] = _excused(name, ours.items.get(uid, {}).get(name), item)
    return contrast(vars(ours), vars(theirs))


def _excused(name: bytes, ours: object, theirs: object) -> object:
    """Their item, or ours where the two may differ."""
    if not isinstance(ours, bytes):
        return theirs
    if name.startswith(b"BINARY[") and b"content-transfer-encoding:" in ours.lower():
        return ours
    if _OF_A_LEAF.match(name) and ours == b"":
        return ours
    if _PART.match(name) and ours.endswith(b"--") and theirs == ours + b"\r\n":
        return ours
    return theirs


def contrast(ours: object, theirs: object) -> str:
    """The same for whatever they consist of."""
    if ours == theirs:
        return ""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
        return "; ".join(f"{key!r}: {contrast(ours.get(key), theirs.get(key))}" for key in keys[:4])
    if isinstance(ours, tuple) and isinstance(theirs, tuple) and len(ours) == len(theirs):
        return "; ".join(
            f"[{n}] {contrast(*pair)}" for n, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]
        )
    if isinstance(ours, bytes | tuple) and isinstance(theirs, type(ours)) and len(ours) > 40:
        at = _first_difference(ours, theirs)
        return (
            f"from {at} on: ours {ours[max(0, at - 20) : at + 100]!r}, theirs {theirs[max(0, at - 20) : at + 100]!r}"
        )
    return f"ours {ours!r}, theirs {theirs!r}"[:1500]


def _first_difference(a: Sequence[object], b: Sequence[object]) -> int:
    pairs = zip(a, b, strict=False)
    return next((at for at, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
