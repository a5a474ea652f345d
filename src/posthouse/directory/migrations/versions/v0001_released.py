"""The first released schema: the classic five tables, our secrets, the audit and the directory's version.

It is frozen. In SQLite it is to the letter what that release made, so that going back to this revision gives the
file back to it.
"""

from alembic import op

from posthouse.directory.migrations.words import do, is_to_be_made, make_classic, when

revision = "0001"
down_revision = None

_SQLITE = """
CREATE TABLE IF NOT EXISTS posthouse_credentials (
    email TEXT PRIMARY KEY COLLATE NOCASE, scram_sha256 TEXT NOT NULL,
    argon2id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS posthouse_audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, "when" TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    object TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS posthouse_state (
    id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL);
"""
_NETWORK = """
CREATE TABLE IF NOT EXISTS posthouse_credentials (
    email {own_key} NOT NULL PRIMARY KEY, scram_sha256 TEXT NOT NULL, argon2id TEXT NOT NULL){options};
CREATE TABLE IF NOT EXISTS posthouse_audit (
    id {id}, {q}when{q} VARCHAR(32) NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    object TEXT NOT NULL, detail TEXT NOT NULL){options};
CREATE TABLE IF NOT EXISTS posthouse_state (
    id INTEGER NOT NULL PRIMARY KEY, version INTEGER NOT NULL){options};
"""
_FIRST = {
    "sqlite": "INSERT OR IGNORE INTO posthouse_state VALUES (1, 1)",
    "mysql": "INSERT IGNORE INTO posthouse_state VALUES (1, 1)",
    "postgresql": "INSERT INTO posthouse_state VALUES (1, 1) ON CONFLICT DO NOTHING",
}


def upgrade() -> None:
    for table in ("alias", "relocated", "transport", "users", "virtual"):
        if is_to_be_made(table):
            make_classic(table)
    dialect = op.get_context().dialect.name
    do(_SQLITE if dialect == "sqlite" else _NETWORK, _FIRST[dialect])
    when("sqlite", "PRAGMA user_version = 1")


def downgrade() -> None:
    """The five tables stay: what is in them is the operator's."""
    do(
        *(
            f"DROP TABLE IF EXISTS {table}"
            for table in ("posthouse_state", "posthouse_audit", "posthouse_credentials")
        )
    )
    when("sqlite", "PRAGMA user_version = 0")
