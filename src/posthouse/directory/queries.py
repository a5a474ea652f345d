"""The SQL text of look-ups, for each dialect, made once for each shape that a question has.

Invariants:
  1. What a client sent is always a parameter, never part of the text.
  2. Every column that is read is converted to text, so that differing types, character sets and collations can stand
     in one UNION.
  3. Keys are compared so that an index of the key column serves, and whoever reads the rows compares them again:
     MySQL's collations take ``é`` for ``e`` and ignore spaces at the end.
"""

# ruff: noqa: S608 - what is put into statements comes from the configuration, and is the operator's.

import re
from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import count

from posthouse.directory.database import PLACEHOLDERS, Dialect
from posthouse.directory.lookups import MAX_ROWS
from posthouse.directory.presets import Source, Tables

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)*")
_WORDS = frozenset({"null", "true", "false", "default"})
# SQLite takes a name in double quotes that it doesn't know for a string; in backquotes it says that there is none.
_QUOTES: dict[Dialect, str] = {"sqlite": "`", "mysql": "`", "postgresql": '"'}
USER_VALUES = 7


class Kind(IntEnum):
    """What a row of an answer is: the table where it was found."""

    USERS = 0
    VIRTUAL = 1
    RELOCATED = 2
    TRANSPORT = 3
    ALIAS = 4
    DOMAINS = 5


LIMITS = tuple(
    f"{what}_per_{span}" for what in ("messages", "recipients", "bytes", "new_recipients") for span in ("hour", "day")
)
_DOMAINS = (Source("posthouse_domains", "domain", ("enabled",), is_exact=True),)


class Statements:
    """The statements for one dialect and these tables."""

    def __init__(self, dialect: Dialect, tables: Tables) -> None:
        self.dialect: Dialect = dialect
        self.tables = tables
        read = {
            Kind.USERS: (tables.users,),
            Kind.VIRTUAL: tables.virtual,
            Kind.RELOCATED: tables.relocated,
            Kind.TRANSPORT: tables.transport,
            Kind.ALIAS: tables.alias,
            Kind.DOMAINS: _DOMAINS,
        }
        self._all = [(kind, source) for kind, sources in read.items() for source in sources]
        self._sources: dict[Kind, list[tuple[int, str]]] = {kind: [] for kind in Kind}  # number in _all, prefix
        for number, (kind, source) in enumerate(self._all):
            self._sources[kind].append((number, source.prefix))
        self._made: dict[tuple[int, ...], str] = {}

    def find(self, wanted: Sequence[tuple[Kind, Sequence[str]]]) -> tuple[str, list[str]]:
        """A statement that brings all rows with these keys, and its parameters; no text where nothing can be found.

        Its rows: kind, prefix of the key, key, then the values; a table of keys and destinations has one.
        """
        shape: list[int] = []
        parameters: list[str] = []
        for kind, keys in wanted:
            for number, prefix in self._sources[kind]:
                asked = _without_prefix(keys, prefix) if prefix else keys
                if asked:
                    size = 1 << (len(asked) - 1).bit_length()
                    shape += (number, size)
                    parameters += asked
                    # Few shapes of statements, so that servers and drivers keep them prepared.
                    if missing := size - len(asked):
                        parameters += [asked[-1]] * missing
        made = self._made.get(key := tuple(shape))
        if made is None:
            made = self._made[key] = self._union(key)
        return made, parameters

    def _union(self, shape: Sequence[int]) -> str:
        """``shape``: a source's number, how many keys are asked for, and so on."""
        mark = _marks(self.dialect)
        branches = [(*self._all[shape[at]], shape[at + 1]) for at in range(0, len(shape), 2)]
        width = USER_VALUES if any(kind == Kind.USERS for kind, _, _ in branches) else 1
        texts = [self._branch(source, kind, size, width, mark) for kind, source, size in branches]
        return " UNION ALL ".join(texts) + f" LIMIT {MAX_ROWS}" if texts else ""

    def _branch(self, source: Source, kind: Kind, size: int, width: int, mark: Callable[[], str]) -> str:
        values = [self.as_text(value) for value in source.values]
        columns = [str(int(kind)), f"'{source.prefix}'", self.as_text(source.key), *values]
        # A prefix only matters where there is one; PostgreSQL takes NULL for text where another branch says so.
        columns += ["NULL"] * (width - len(values))
        return f"SELECT {', '.join(columns)} FROM {self.name(source.table)} WHERE " + self.condition(
            source, ", ".join(mark() for _ in range(size))
        )

    def condition(self, source: Source, marks: str) -> str:
        """That a row of ``source`` has one of the keys."""
        extra = f" AND ({self.verbatim(source.where)})" if source.where else ""
        key = self.name(source.key) if source.is_exact else self.comparable(source.key)
        return f"{key} IN ({marks}){extra}"

    def comparable(self, key: str) -> str:
        """The key as it is compared with one in lower case."""
        name = self.name(key)
        if self.dialect == "sqlite":
            return f"{name} COLLATE NOCASE"
        return f"lower({name})" if self.dialect == "postgresql" else name

    def as_text(self, column: str) -> str:
        name = self.name(column)
        if self.dialect == "mysql":
            return f"CONVERT({name} USING utf8mb4)"
        return f"({name})::text" if self.dialect == "postgresql" else name

    def name(self, text: str) -> str:
        """A table or column, quoted; an expression as it is, in parentheses."""
        if is_name(text):
            quote = _QUOTES[self.dialect]
            return ".".join(f"{quote}{part}{quote}" for part in text.split("."))
        return f"({self.verbatim(text)})"

    def verbatim(self, text: str) -> str:
        return text.replace("%", "%%") if self.dialect == "mysql" else text

    def credentials(self) -> str:
        """All that a login by one address needs. Parameters: address, address, domain, address, address.

        Its rows: 0, key, password, SCRAM keys, argon2id, whether the account is enabled, whether its domain is; and
        1, address, id, name, scopes and hash of each app password, NULL.
        """
        users, mark = self.tables.users, _marks(self.dialect)
        # Not joined: the operator's names of columns would no longer be clear.
        own = "(SELECT own.{} FROM posthouse_credentials AS own WHERE own.email = {})"
        columns = (
            users.key,
            self.tables.password,
            own.format("scram_sha256", mark()),
            own.format("argon2id", mark()),
            users.values[-1],
            f"(SELECT own.enabled FROM posthouse_domains AS own WHERE own.domain = {mark()})",
        )
        apps = ("email", "id", "name", "scopes", "hash")
        return (
            f"SELECT 0, {', '.join(self._own_text(column) for column in columns)} FROM {self.name(users.table)}"
            f" WHERE {self.condition(users, mark())}"
            f" UNION ALL SELECT 1, {', '.join(self.as_text(column) for column in apps)}, NULL"
            f" FROM posthouse_app_passwords WHERE email = {mark()} LIMIT {MAX_ROWS}"
        )

    def _own_text(self, column: str) -> str:
        """``as_text``, also for a text that already has placeholders in it."""
        if not column.startswith("(SELECT own."):
            return self.as_text(column)
        if self.dialect == "mysql":
            return f"CONVERT({column} USING utf8mb4)"
        return f"{column}::text" if self.dialect == "postgresql" else column

    def own_passwords(self) -> str:
        """How many accounts have no password but what is in our own table."""
        users = self.tables.users
        password, own = self.as_text(self.tables.password), self.as_text("email")
        where = f"({self.verbatim(users.where)}) AND " if users.where else ""
        return (
            f"SELECT COUNT(*) FROM {self.name(users.table)} WHERE {where}({password} IS NULL OR {password} = '')"
            f" AND lower({self.as_text(users.key)}) IN (SELECT {own} FROM posthouse_credentials"
            " WHERE scram_sha256 <> '' OR argon2id <> '')"
        )

    def upgrade(self) -> tuple[str, str]:
        """What puts our own secrets in the place of a password that is still the same: two statements.

        The first has the parameters address, SCRAM keys, argon2id, address, address, password; it also locks the row
        where the database has such locks. The second has address, address, password. Empty where the password is no
        plain column.
        """
        users, password = self.tables.users, self.tables.password
        if not (is_name(users.table) and is_name(password)):
            return "", ""
        mark = _marks(self.dialect)
        values = [mark(), mark(), mark()]
        if self.dialect == "postgresql":
            values = [f"{value}::text" for value in values]
        table, column = self.name(users.table), self.name(password)
        insert = (
            f"posthouse_credentials (email, scram_sha256, argon2id) SELECT {', '.join(values)} FROM {table}"
            f" WHERE {self._exactly(users, column, mark)}"
        )
        mark = _marks(self.dialect)
        update = f"UPDATE {table} SET {column} = '' WHERE {self._exactly(users, column, mark)}"
        if self.dialect == "postgresql":
            excluded = ", ".join(f"{name} = EXCLUDED.{name}" for name in ("scram_sha256", "argon2id"))
            return f"INSERT INTO {insert} FOR UPDATE ON CONFLICT (email) DO UPDATE SET {excluded}", update
        return f"REPLACE INTO {insert}", update

    def _exactly(self, users: Source, password: str, mark: Callable[[], str]) -> str:
        key = f"lower({self.name(users.key)})"
        return f"{self.condition(users, mark())} AND {self._same(key, mark())} AND {self._same(password, mark())}"

    def _same(self, column: str, mark: str) -> str:
        """Exactly the same text, whatever the collation takes for equal."""
        if self.dialect == "mysql":
            return f"CAST(CONVERT({column} USING utf8mb4) AS BINARY) = CAST({mark} AS BINARY)"
        return f"{column} = {mark}"

    def senders(self) -> str:
        """What one login may send as beyond its own; its rows: an address."""
        mark = PLACEHOLDERS[self.dialect](1)
        return f"SELECT {self.as_text('address')} FROM posthouse_senders WHERE login = {mark} LIMIT {MAX_ROWS}"

    def granted(self, addresses: int) -> str:
        """Who may send as one of so many addresses beyond their own; its rows: a login."""
        mark = _marks(self.dialect)
        marks = ", ".join(mark() for _ in range(addresses))
        return (
            f"SELECT DISTINCT {self.as_text('login')} FROM posthouse_senders WHERE address IN ({marks})"
            f" LIMIT {MAX_ROWS}"
        )

    def limits(self) -> str:
        """The limits of three names; its rows: a name, then the fields of ``SendingLimits``."""
        mark = _marks(self.dialect)
        columns = (self.as_text("name"), *LIMITS, self.as_text("over_limit"))
        marks = ", ".join(mark() for _ in range(3))
        return f"SELECT {', '.join(columns)} FROM posthouse_limits WHERE name IN ({marks})"

    def ids(self, kind: Kind) -> str:
        """The ids of one key's rows; no text where the table has none."""
        sources = [source for of, source in self._all if of == kind]
        if len(sources) != 1 or not sources[0].id:
            return ""
        source = sources[0]
        marks = PLACEHOLDERS[self.dialect](1)
        return (
            f"SELECT {self.as_text(source.key)}, {self.as_text(source.id)} FROM {self.name(source.table)}"
            f" WHERE {self.condition(source, marks)} LIMIT 10"
        )


def is_name(text: str) -> bool:
    """Whether this is the name of a table or column, not an expression."""
    return _NAME.fullmatch(text) is not None and text.lower() not in _WORDS


def _marks(dialect: Dialect) -> Callable[[], str]:
    numbers = count(1)
    return lambda: PLACEHOLDERS[dialect](next(numbers))


def _without_prefix(keys: Sequence[str], prefix: str) -> list[str]:
    return [key.removeprefix(prefix) for key in keys if key.startswith(prefix) and len(key) > len(prefix)]
