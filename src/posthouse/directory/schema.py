"""The directory's tables: the classic five, and what Posthouse needs beside them.

The five keep the names and columns that Postfix, Courier and PAM know, and existing ones are adopted as they
are; text is wider where they are made here. Everything of our own has a name that begins with ``posthouse_``, and
its keys are look-up keys: lower case, domains in ASCII. Times are UTC, as in ``2026-11-22T21:29:43.000Z``.

``migrations`` makes all this: whatever changes here needs a revision there, and a test compares the two.
Only what changes tables imports this: look-ups are plain SQL, so that workers need no SQLAlchemy.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects import mysql, sqlite

metadata = MetaData()


_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    "sqlite_autoincrement": True,
}
# Other programs may have written keys with capitals: SQLite's and MariaDB's collations don't mind, for PostgreSQL
# there is an index on the lower case.
_KEY = String(255).with_variant(sqlite.TEXT(), "sqlite")
# Keys that we write are exact.
_OWN_KEY = (
    String(320)
    .with_variant(mysql.VARCHAR(320, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
    .with_variant(sqlite.TEXT(), "sqlite")
)
_TIME = String(32)
_YES_NO = String(1).with_variant(mysql.ENUM("y", "n"), "mysql", "mariadb").with_variant(sqlite.TEXT(), "sqlite")


def _keyed(name: str, key: str, *, unique: bool = False) -> Table:
    """A table that is a key and a destination."""
    return Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column(key, _KEY, unique=unique),
        Column("destination", Text),
        **_OPTIONS,
    )


alias = _keyed("alias", "alias")
relocated = _keyed("relocated", "email")
transport = _keyed("transport", "domain", unique=True)
virtual = _keyed("virtual", "email")
users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("email", _KEY, unique=True),
    Column("clear", Text),
    Column("name", Text),
    Column("uid", Integer, server_default="1001"),
    Column("gid", Integer, server_default="1001"),
    Column("homedir", Text),
    Column("maildir", Text),
    Column("quota", Text),
    Column("postfix", _YES_NO, server_default="y"),
    CheckConstraint("postfix IN ('y', 'n')", name="posthouse_users_postfix").ddl_if(
        callable_=lambda *_, dialect, **__: dialect.name not in ("mysql", "mariadb")
    ),
    **_OPTIONS,
)
FIVE = (alias, relocated, transport, users, virtual)
KEY_COLUMNS = {"alias": "alias", "relocated": "email", "transport": "domain", "users": "email", "virtual": "email"}

credentials = Table(
    "posthouse_credentials",
    metadata,
    Column("email", _OWN_KEY, primary_key=True),
    Column("scram_sha256", Text, nullable=False),
    Column("argon2id", Text, nullable=False),
    **_OPTIONS,
)
app_passwords = Table(
    "posthouse_app_passwords",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("email", _OWN_KEY, nullable=False),
    Column("name", String(100), nullable=False),
    Column("scopes", String(100), nullable=False),  # comma-separated: imap,pop3,smtp,web
    Column("hash", Text, nullable=False),
    Column("created", _TIME, nullable=False),
    Column("last_used", _TIME, nullable=False, server_default=""),
    Column("last_peer", String(64), nullable=False, server_default=""),
    UniqueConstraint("email", "name", name="posthouse_app_passwords_name"),
    **_OPTIONS,
)
totp = Table(
    "posthouse_totp",
    metadata,
    Column("email", _OWN_KEY, primary_key=True),
    Column("secret", String(64), nullable=False),  # base32
    Column("created", _TIME, nullable=False),
    **_OPTIONS,
)
domains = Table(
    "posthouse_domains",
    metadata,
    Column("domain", _OWN_KEY, primary_key=True),
    Column("enabled", Integer, nullable=False, server_default="1"),  # 0: neither delivery nor login
    Column("max_accounts", Integer),  # NULL: no limit
    Column("default_quota", String(64), nullable=False, server_default=""),  # as in users.quota
    Column("total_quota_bytes", BigInteger),  # of all its accounts together; NULL: no limit
    Column("note", Text, nullable=False),
    Column("created", _TIME, nullable=False),
    **_OPTIONS,
)
admins = Table(
    "posthouse_admins",
    metadata,
    Column("email", _OWN_KEY, primary_key=True),  # an account
    Column("domain", _OWN_KEY, primary_key=True),  # what it may administer; * is everything
    **_OPTIONS,
)
audit = Table(
    "posthouse_audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("when", _TIME, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("source", String(100), nullable=False, server_default=""),  # where it came from: cli, an IP address
    **_OPTIONS,
)
senders = Table(
    "posthouse_senders",
    metadata,
    Column("login", _OWN_KEY, primary_key=True),
    Column("address", _OWN_KEY, primary_key=True),  # what it may send as, too; @domain: every address there
    **_OPTIONS,
)
limits = Table(
    "posthouse_limits",
    metadata,
    Column("name", _OWN_KEY, primary_key=True),  # an account; a domain, all together; @domain: each account of it
    *(
        Column(f"{what}_per_{span}", BigInteger)  # NULL: as it is one step further out; 0: no limit
        for what in ("messages", "recipients", "bytes", "new_recipients")
        for span in ("hour", "day")
    ),
    Column("over_limit", String(16), nullable=False, server_default=""),  # refuse, hold; empty: one step further out
    **_OPTIONS,
)
state = Table(
    "posthouse_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("version", Integer, nullable=False),  # goes up with every change that our tools make
    **_OPTIONS,
)
OWN = (credentials, app_passwords, totp, domains, admins, audit, senders, limits, state)

for _table in FIVE:
    _column = _table.c[KEY_COLUMNS[_table.name]]
    _name = f"posthouse_{_table.name}_key"
    if not _column.unique:  # MariaDB's own index for that serves as well
        Index(_name, _column).ddl_if(callable_=lambda *_, dialect, **__: dialect.name in ("mysql", "mariadb"))
    Index(_name, func.lower(_column)).ddl_if(dialect="postgresql")
    Index(_name, _column.collate("NOCASE")).ddl_if(dialect="sqlite")
