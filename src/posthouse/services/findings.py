"""What an inspection of a database may find, each with its weight, in plain words, and what to do about it.

Invariants:
  1. Findings of one kind in one table are one finding with a count and a few examples, however many rows there are.
  2. Only an error stops an adoption: the tables can't be used, or it isn't clear whose mail is whose.
"""

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "note"]
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Example:
    """One row: its id, empty where the table has none, and what it is about."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """``count``: rows, or 0 where it is about the table itself."""

    severity: Severity
    table: str
    kind: str
    text: str
    advice: str
    count: int = 0
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class _Kind:
    severity: Severity
    text: str
    advice: str


def _kinds(severity: Severity, *kinds: tuple[str, str, str]) -> dict[str, _Kind]:
    return {name: _Kind(severity, text, advice) for name, text, advice in kinds}


KINDS = {
    **_kinds(
        "error",
        ("missing-table", "there is no such table", "make it, or name another in [database]: {detail}"),
        ("missing-column", "it has no column {detail}", "add it, or name another in [database]"),
        ("wrong-type", "column {detail}: nothing can be looked up by that", "have it be text"),
        (
            "duplicate-account",
            "several accounts have one address: whose mail it is can't be told",
            "keep one row of each; differences in case don't count",
        ),
        ("newer-schema", "{detail}", "use the Posthouse that made it"),
    ),
    **_kinds(
        "warning",
        ("no-index", "no index serves look-ups by the key: each one reads all of the table", "{detail}"),
        (
            "no-transactions",
            "its engine, {detail}, has no transactions: what half of a change has done to it stays done",
            "ALTER TABLE … ENGINE = InnoDB",
        ),
        (
            "case-sensitive",
            "keys have capitals, and the collation {detail} minds that: they are never found",
            "write the keys in lower case",
        ),
        ("empty-key", "rows have no key: they are never found", "remove them"),
        ("spaces-in-key", "keys have spaces: they are never found", "remove the spaces"),
        ("not-a-key", "keys are no {detail}: they are never found", "correct or remove them"),
        (
            "unicode-domain",
            "domains are not in their ASCII form: mail and logins for them are looked up under xn--…",
            "write the domains as xn--…",
        ),
        (
            "broken-text",
            "text is not in the character set that it claims: these rows can't be used",
            "write it anew",
        ),
        ("duplicate-route", "several rows have one key: only one of them counts", "keep one row of each"),
        ("empty-destination", "rows have no destination: they count for nothing", "give them one, or remove them"),
        (
            "bad-destination",
            "destinations can't be used: mail for these keys is refused for now (4xx)",
            "correct them",
        ),
        ("alias-loop", "aliases lead back to themselves: mail for them is refused for now (4xx)", "break the loop"),
        (
            "catchall-loop",
            "catch-alls lead back to themselves: mail for whatever address there is refused for now (4xx)",
            "end the circle at one of the domains",
        ),
        ("too-many", "aliases go beyond the limits: mail for them is refused for now (4xx)", "use a list manager"),
        (
            "maildir-outside",
            "maildirs are not below the mail root: nothing is delivered there, nor read",
            "write them relative to mail.root, without '..'",
        ),
        ("maildir-missing", "accounts have no maildir: nothing is delivered to them", "give them one"),
        ("maildir-shared", "several accounts have one maildir: they read each other's mail", "give each its own"),
        (
            "maildir-nested",
            "a maildir lies inside of another account's: who has that one can read it",
            "move one of them",
        ),
        (
            "mbox",
            "maildirs don't end in '/': those are mbox files",
            "if they are Maildirs, add the slash: UPDATE … SET maildir = CONCAT(maildir, '/')",
        ),
        (
            "low-uid",
            "uid or gid is NULL, no number, or below mail.minimum_uid: nothing is delivered to these accounts",
            "give them the uid and gid of the mail's owner",
        ),
        (
            "other-owner",
            "uid is not that of the user who serves ({detail}): their files may be closed to it",
            "set 'user' in the configuration to the owner of the mail, or chown the mail and change the rows",
        ),
        (
            "bare-crypt",
            "passwords are crypt(3) hashes without a {{SCHEME}}: they are taken for the passwords themselves",
            "set auth.plain_crypt = true",
        ),
        ("bad-password", "stored passwords can't be made sense of: {detail}", "give those users new ones"),
        (
            "no-password",
            "accounts have no password at all: nobody can log in to them",
            "posthouse account passwd ADDRESS",
        ),
        (
            "unhosted",
            "accounts are in domains that are hosted nowhere: they never get mail",
            "posthouse domain add DOMAIN, for each: {detail}",
        ),
        ("bad-quota", "quotas can't be read: these accounts have none", "bytes, or as in 10485760S,1000C"),
        ("unknown-transport", "transports are not known here: {detail}", "mail for them waits until they are"),
        ("moved-but-here", "addresses have an account, but are relocated: that account gets no mail", "remove one"),
        ("hidden-by-catchall", "accounts are hidden by their domain's catch-all", 'smtp.catchall = "after-accounts"'),
        ("host-programs", "destinations are commands, files or lists of this host: these are off", "use addresses"),
    ),
    **_kinds(
        "note",
        ("capitals", "keys have capitals: found all the same", "nothing needs to be done"),
        (
            "alike",
            "keys differ only by accents: a collation may take them for one, and so other programs; here they differ",
            "see that each is meant",
        ),
        (
            "plain-passwords",
            "passwords are stored in plain text: whoever reads the table or a copy of it has them",
            "CRAM-MD5 and APOP need them (auth.mechanisms); otherwise auth.upgrade_passwords = true",
        ),
        ("weak-scheme", "passwords are hashed in a weak way: {detail}", "auth.upgrade_passwords = true"),
        ("maybe-crypt", "passwords of 13 letters may be crypt(3) hashes", "if they are: auth.plain_crypt = true"),
        (
            "no-password-here",
            "accounts have no password in the table",
            "auth.chain has others to ask, so that may be right",
        ),
        (
            "catchall-and-accounts",
            "accounts are in domains with a catch-all, which in Postfix hides those without a row; here accounts win",
            'smtp.catchall = "before-accounts" gives Postfix\'s order',
        ),
        (
            "route-of-all",
            "'*' routes all other mail; it neither makes domains hosted nor permits relaying",
            "nothing needs to be done",
        ),
        ("view", "it is a view: whether an index serves it can't be told", "nothing needs to be done"),
    ),
}
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(slots=True)
class _Count:
    count: int = 0
    examples: list[Example] = field(default_factory=list[Example])
    details: dict[str, None] = field(default_factory=dict[str, None])


class Tally:
    """Counts findings by kind and table."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], _Count] = {}

    def add(self, table: str, kind: str, detail: str = "") -> None:
        """A finding about the table itself."""
        self._count(table, kind, detail)

    def row(self, table: str, kind: str, id: object, text: str, detail: str = "") -> None:  # noqa: A002
        """A finding about a row; ``text`` is its key, or what it is about."""
        self.rows(table, kind, 1, id, text, detail)

    def rows(self, table: str, kind: str, number: int, id: object, text: str, detail: str = "") -> None:  # noqa: A002
        """The same about several rows, of which one is shown."""
        count = self._count(table, kind, detail)
        count.count += number
        if len(count.examples) < EXAMPLES:
            count.examples.append(Example("" if id is None else str(id), text))

    def _count(self, table: str, kind: str, detail: str) -> _Count:
        count = self._counts.setdefault((table, kind), _Count())
        if detail and len(count.details) < 2 * EXAMPLES:
            count.details[detail] = None
        return count

    def findings(self) -> list[Finding]:
        """All of them, the worst first."""
        found = [self._finding(table, kind, count) for (table, kind), count in self._counts.items()]
        return sorted(found, key=lambda finding: (_ORDER[finding.severity], finding.table, finding.kind))

    def _finding(self, table: str, name: str, count: _Count) -> Finding:
        kind, detail = KINDS[name], ", ".join(count.details)
        text, advice = kind.text.format(detail=detail), kind.advice.format(detail=detail)
        return Finding(kind.severity, table, name, text, advice, count.count, tuple(count.examples))
