"""What a random client does: IMAP commands that make sense for what it sees, and some that don't."""

import random
from collections.abc import Sequence

from tests.interop.twins import Talk
from tests.letters import TOLD, WORDS, Letters

FOLDERS = ("INBOX", "Work", "Work.2026", "Trash", "Sent")
FLAGS = ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "$Forwarded", "Junk", "work")
_ITEMS = ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "UID", "MODSEQ", "BODY[]",
          "BINARY.PEEK[1]", "BINARY.PEEK[2]", "BODY.PEEK[]", "RFC822", "RFC822.HEADER", "RFC822.TEXT",
          "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]")  # fmt: skip
_FIELDS = ("Subject", "FROM", "to", "X-Long", "Message-ID", "Date", "Nothing", "Content-Type", "Received")
_CRITERIA = ("ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO")


class Actions:
    """Draws commands from ``rng``; ``messages`` are what it appends, or made-up ones where there are none."""

    def __init__(self, rng: random.Random, messages: Sequence[bytes] = ()) -> None:
        self.rng = rng
        self._messages = messages
        self._letters = Letters(rng)
        self._kinds = (
            (self.fetch, 30), (self.store, 14), (self.search, 14), (self.sort, 5), (self.thread, 3), (self.copy, 10),
            (self.expunge, 4), (self.append, 9), (self.select, 6), (self.leave, 1),
            (self.status, 3), (self.list, 4), (self.folders, 3), (self.look, 6),
        )  # fmt: skip

    def next(self, talk: Talk) -> bytes:
        """A command for a session in this state."""
        choices = self._kinds
        if talk.is_read_only:
            choices = [each for each in choices if each[0] not in (self.store, self.expunge, self.copy)]
        if not talk.mailbox:
            choices = [each for each in choices if each[0] in self._anywhere()]
        kind = self.rng.choices([each for each, _ in choices], [weight for _, weight in choices])[0]
        return self.append(talk) if kind == self.append else kind(talk).encode()

    def _anywhere(self) -> tuple[object, ...]:
        return (self.append, self.select, self.status, self.list, self.folders)

    # What commands are made of

    def message(self) -> bytes:
        if self._messages and self.rng.random() < 0.6:
            return self.rng.choice(self._messages)
        return self._letters.message()

    def set(self, talk: Talk, *, uid: bool = False) -> str:
        """A sequence set: in a mailbox, and for UIDs beyond it."""
        rng = self.rng
        count = len(talk.uids)
        if uid:
            pool = [str(each) for each in talk.uids] + ["1", "7", str(max(talk.uids, default=0) + 5), "*"]
        else:
            pool = [str(number) for number in range(1, count + 1)] + ["*"]
        return ",".join(
            rng.choice(pool) if rng.random() < 0.5 else f"{rng.choice(pool)}:{rng.choice(pool)}"
            for _ in range(rng.choice((1, 1, 1, 2, 3)))
        )

    def chosen(self, talk: Talk) -> tuple[str, str]:
        uid = self.rng.random() < 0.5
        return ("UID " if uid else ""), self.set(talk, uid=uid)

    def flags(self) -> str:
        return "(" + " ".join(self.rng.sample(FLAGS, self.rng.randrange(4))) + ")"

    def folder(self) -> str:
        return self.rng.choice((*FOLDERS, *FOLDERS, "Missing"))

    def date(self) -> str:
        return f"{self.rng.randrange(1, 29)}-{self.rng.choice(('Jan', 'Nov', 'Dec'))}-{self.rng.choice((2010, 2026))}"

    def section(self, *, partial: bool) -> str:
        rng = self.rng
        part = ".".join(str(rng.randrange(1, 4)) for _ in range(rng.choice((0, 1, 1, 2, 3))))
        fields = " ".join(rng.sample(_FIELDS, rng.randrange(1, 4)))
        ends = ["", "HEADER", "TEXT", f"HEADER.FIELDS ({fields})", f"HEADER.FIELDS.NOT ({fields})"]
        end = rng.choice([*ends, "MIME"] if part else ends)
        octets = (
            f"<{rng.choice((0, 1, 10, 500))}.{rng.choice((1, 20, 1000))}>"
            if partial and end in ("", "TEXT") and rng.random() < 0.5
            else ""
        )
        peek = ".PEEK" if rng.random() < 0.8 else ""
        return f"BODY{peek}[{'.'.join(filter(None, (part, end)))}]{octets}"

    def key(self, talk: Talk, depth: int = 0) -> str:
        """A search key."""
        rng = self.rng
        word = f'"{rng.choice([each for each in WORDS if each.isascii()])}"'
        told = f'"{rng.choice(TOLD)}"'
        flags = ["SEEN", "UNSEEN", "DELETED", "UNDELETED", "FLAGGED", "UNFLAGGED", "ANSWERED", "DRAFT",
                 f"KEYWORD {rng.choice(FLAGS[5:])}", f"UNKEYWORD {rng.choice(FLAGS[5:])}",
                 f"SENTSINCE {self.date()}", f"SENTBEFORE {self.date()}", f"SENTON {self.date()}",
                 f"LARGER {rng.randrange(3000)}", f"SMALLER {rng.randrange(3000)}", "YOUNGER 86400", "OLDER 86400",
                 f"SINCE {self.date()}", f"BEFORE {self.date()}", f"ON {self.date()}"]  # fmt: skip
        plain = ["ALL", f"SUBJECT {word}", f"FROM {word}", f"TO {word}", f"CC {word}", f"BODY {told}", f"TEXT {told}",
                 f"HEADER {rng.choice(_FIELDS)} {word}", f'HEADER {rng.choice(_FIELDS)} ""',
                 f"LARGER {rng.randrange(3000)}", f"SMALLER {rng.randrange(3000)}", f"SINCE {self.date()}",
                 f"SENTSINCE {self.date()}", f"SENTBEFORE {self.date()}", f"SENTON {self.date()}",
                 "YOUNGER 86400", "OLDER 86400",
                 f"UID {self.set(talk, uid=True)}"]  # fmt: skip
        if talk.uids:
            plain.append(self.set(talk))
        kind = rng.random()
        # Two flags, days or sizes below one OR or NOT: Dovecot takes "nothing" for "everything", or the reverse.
        if depth == 0:
            plain += flags
        if depth > 2 or kind < 0.6:
            return rng.choice(plain)
        if kind < 0.7:
            return f"NOT {self.key(talk, depth + 1) if rng.random() < 0.7 else rng.choice(flags)}"
        if kind < 0.8:
            other = self.key(talk, depth + 1) if rng.random() < 0.7 or depth else rng.choice(flags)
            return f"OR {other} {self.key(talk, depth + 1)}"
        return f"({' '.join(self.key(talk, depth + 1) for _ in range(rng.randrange(1, 4)))})"

    def returned(self) -> str:
        if self.rng.random() < 0.6:
            return ""
        options = self.rng.sample(("MIN", "MAX", "COUNT", "ALL"), self.rng.randrange(5))
        return f"RETURN ({' '.join(options)}) "

    # Commands

    def fetch(self, talk: Talk) -> str:
        rng = self.rng
        count = rng.choice((1, 1, 2, 3))
        # Dovecot miscounts a partial that stands beside another item, or of a header.
        items = [rng.choice(_ITEMS) if rng.random() < 0.6 else self.section(partial=count == 1) for _ in range(count)]
        uid, numbers = self.chosen(talk)
        if rng.random() < 0.05:
            return f"{uid}FETCH {numbers} {rng.choice(('ALL', 'FAST', 'FULL'))}"
        since = (
            f" (CHANGEDSINCE <MARK {rng.randrange(len(talk.marks))}>)" if talk.marks and rng.random() < 0.1 else ""
        )
        return f"{uid}FETCH {numbers} ({' '.join(items)}){since}"

    def store(self, talk: Talk) -> str:
        rng = self.rng
        uid, numbers = self.chosen(talk)
        since = ""
        if talk.marks and rng.random() < 0.2:
            since = f"(UNCHANGEDSINCE <MARK {rng.randrange(len(talk.marks))}>) "
        how = rng.choice(("", "+", "-")) + "FLAGS" + rng.choice(("", ".SILENT"))
        return f"{uid}STORE {numbers} {since}{how} {self.flags()}"

    def search(self, talk: Talk) -> str:
        uid = "UID " if self.rng.random() < 0.5 else ""
        keys = " ".join(self.key(talk) for _ in range(self.rng.choice((1, 1, 2))))
        return f"{uid}SEARCH {self.returned()}CHARSET UTF-8 {keys}"

    def sort(self, talk: Talk) -> str:
        rng = self.rng
        criteria = [rng.choice(("", "REVERSE ")) + each for each in rng.sample(_CRITERIA, rng.choice((1, 2)))]
        uid = rng.choice(("UID ", ""))
        return f"{uid}SORT {self.returned()}({' '.join(criteria)}) UTF-8 {self.key(talk)}"

    def thread(self, talk: Talk) -> str:
        algorithm = self.rng.choice(("REFERENCES", "ORDEREDSUBJECT"))
        return f"{self.rng.choice(('UID ', ''))}THREAD {algorithm} UTF-8 {self.key(talk)}"

    def copy(self, talk: Talk) -> str:
        """Of each message once: Dovecot crashes otherwise."""
        uid = self.rng.choice(("UID ", ""))
        numbers = talk.uids if uid else range(1, len(talk.uids) + 1)
        return f"{uid}{self.rng.choice(('COPY', 'COPY', 'MOVE'))} {self._each_once(numbers)} {self.folder()}"

    def _each_once(self, numbers: Sequence[int]) -> str:
        chosen = [number for number in numbers if self.rng.random() < 0.5]
        return ",".join(map(str, chosen)) or "1:*"

    def expunge(self, talk: Talk) -> str:
        return "EXPUNGE" if self.rng.random() < 0.6 else f"UID EXPUNGE {self.set(talk, uid=True)}"

    def append(self, talk: Talk) -> bytes:
        rng = self.rng
        message = self.message()
        flags = f" {self.flags()}" if rng.random() < 0.6 else ""
        day, hour = rng.randrange(1, 29), rng.randrange(24)
        date = f' "{day:2}-Oct-2026 {hour:02}:{rng.randrange(60):02}:00 +0100"'
        return f"APPEND {self.folder()}{flags}{date} {{{len(message)}+}}\r\n".encode() + message

    def select(self, talk: Talk) -> str:
        condstore = " (CONDSTORE)" if self.rng.random() < 0.3 else ""
        return f"{'SELECT' if self.rng.random() < 0.8 else 'EXAMINE'} {self.folder()}{condstore}"

    def leave(self, talk: Talk) -> str:
        return self.rng.choice(("CLOSE", "UNSELECT"))

    def status(self, talk: Talk) -> str:
        items = self.rng.sample(("MESSAGES", "UIDNEXT", "UNSEEN", "UIDVALIDITY"), self.rng.randrange(1, 5))
        return f"STATUS {self.folder()} ({' '.join(items)})"

    def list(self, talk: Talk) -> str:
        rng = self.rng
        pattern = rng.choice(("*", "%", "W*", "Work.%", "INBOX", "", "%.%", "*2026"))
        if rng.random() < 0.2:
            return f'LSUB "" {rng.choice(("*", "%", "W*"))}'
        returned = rng.choice(
            (
                "",
                " RETURN (SUBSCRIBED CHILDREN SPECIAL-USE)",
                " RETURN (CHILDREN SPECIAL-USE STATUS (MESSAGES UNSEEN))",
            )
        )
        choice = "(SUBSCRIBED) " if returned.startswith(" RETURN (S") and rng.random() < 0.5 else ""
        return f'LIST {choice}"" "{pattern}"{returned}'

    def folders(self, talk: Talk) -> str:
        rng = self.rng
        if rng.random() < 0.4:
            return f"{rng.choice(('SUBSCRIBE', 'UNSUBSCRIBE'))} {rng.choice(FOLDERS)}"
        kind = rng.choice(("CREATE {}", "DELETE {}", "RENAME {} Renamed", "RENAME Renamed {}"))
        return kind.format(rng.choice(("New", "New.Sub", "Other", "Missing")))

    def look(self, talk: Talk) -> str:
        return self.rng.choice(("NOOP", "NOOP", "CHECK"))
