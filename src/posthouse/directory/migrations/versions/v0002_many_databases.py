"""App passwords, TOTP, domains, who administers them, and where a change came from; secrets under exact keys.

It is frozen.
"""

from posthouse.directory.migrations.words import add_column, do, drop_column, when

revision = "0002"
down_revision = "0001"

_TABLES = """
CREATE TABLE IF NOT EXISTS posthouse_app_passwords (
    id {id}, email {own_key} NOT NULL, name VARCHAR(100) NOT NULL, scopes VARCHAR(100) NOT NULL,
    hash TEXT NOT NULL, created VARCHAR(32) NOT NULL, last_used VARCHAR(32) NOT NULL DEFAULT '',
    last_peer VARCHAR(64) NOT NULL DEFAULT '', CONSTRAINT posthouse_app_passwords_name UNIQUE (email,
    name)){options};
CREATE TABLE IF NOT EXISTS posthouse_totp (
    email {own_key} NOT NULL PRIMARY KEY, secret VARCHAR(64) NOT NULL,
    created VARCHAR(32) NOT NULL){options};
CREATE TABLE IF NOT EXISTS posthouse_domains (
    domain {own_key} NOT NULL PRIMARY KEY, enabled INTEGER NOT NULL DEFAULT 1, max_accounts INTEGER,
    default_quota VARCHAR(64) NOT NULL DEFAULT '', total_quota_bytes BIGINT, note TEXT NOT NULL,
    created VARCHAR(32) NOT NULL){options};
CREATE TABLE IF NOT EXISTS posthouse_admins (
    email {own_key} NOT NULL, domain {own_key} NOT NULL, PRIMARY KEY (email, domain)){options};
"""
# An adopted account's secrets were kept under its address as it is written in `users`.
_EXACT_KEYS = """
CREATE TABLE posthouse_new (
    email TEXT NOT NULL PRIMARY KEY, scram_sha256 TEXT NOT NULL, argon2id TEXT NOT NULL);
INSERT INTO posthouse_new SELECT lower(email), scram_sha256, argon2id FROM posthouse_credentials;
DROP TABLE posthouse_credentials;
ALTER TABLE posthouse_new RENAME TO posthouse_credentials;
"""
_ANY_CASE = """
CREATE TABLE posthouse_new (
    email TEXT PRIMARY KEY COLLATE NOCASE, scram_sha256 TEXT NOT NULL,
    argon2id TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO posthouse_new SELECT email, scram_sha256, argon2id FROM posthouse_credentials;
DROP TABLE posthouse_credentials;
ALTER TABLE posthouse_new RENAME TO posthouse_credentials;
"""


def upgrade() -> None:
    do(_TABLES)
    add_column("posthouse_audit", "source", "VARCHAR(100) NOT NULL DEFAULT ''")
    when("sqlite", _EXACT_KEYS, "PRAGMA user_version = 2")


def downgrade() -> None:
    for table in ("admins", "domains", "totp", "app_passwords"):
        do(f"DROP TABLE IF EXISTS posthouse_{table}")
    drop_column("posthouse_audit", "source")
    when("sqlite", _ANY_CASE, "PRAGMA user_version = 1")
