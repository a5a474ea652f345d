"""The schema's revisions on SQLite, and files of the first release. On servers: tests/contract."""

import sqlite3
import subprocess
import sys
import threading

import pytest
import sqlalchemy

from posthouse.base.errors import Refused, TryLater
from posthouse.directory import migrations, version
from posthouse.directory.migrations.file import upgrade_file
from posthouse.directory.schema import metadata

RELEASED = """
CREATE TABLE IF NOT EXISTS "alias" (id INTEGER PRIMARY KEY AUTOINCREMENT, alias TEXT, destination TEXT);
CREATE TABLE IF NOT EXISTS "relocated" (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT, destination TEXT);
CREATE TABLE IF NOT EXISTS "transport" (
    id INTEGER PRIMARY KEY AUTOINCREMENT, domain TEXT UNIQUE, destination TEXT);
CREATE TABLE IF NOT EXISTS "users" (
    id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT UNIQUE, clear TEXT, name TEXT,
    uid INTEGER DEFAULT 1001, gid INTEGER DEFAULT 1001, homedir TEXT, maildir TEXT, quota TEXT,
    postfix TEXT DEFAULT 'y' CHECK (postfix IN ('y', 'n')));
CREATE TABLE IF NOT EXISTS "virtual" (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT, destination TEXT);

CREATE INDEX IF NOT EXISTS posthouse_alias_key ON "alias" (alias COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS posthouse_relocated_key ON "relocated" (email COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS posthouse_transport_key ON "transport" (domain COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS posthouse_users_key ON "users" (email COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS posthouse_virtual_key ON "virtual" (email COLLATE NOCASE);

CREATE TABLE IF NOT EXISTS posthouse_credentials (
    email TEXT PRIMARY KEY COLLATE NOCASE, scram_sha256 TEXT NOT NULL, argon2id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS posthouse_audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, "when" TEXT NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    object TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS posthouse_state (
    id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL);
INSERT OR IGNORE INTO posthouse_state VALUES (1, 1);
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
"""
ROWS = """
INSERT INTO users (email, clear, maildir) VALUES ('bob@a.test', '', 'a.test/bob/'), ('Eve@A.test', 'geheim', 'eve/');
INSERT INTO virtual (email, destination) VALUES ('a.test', ''), ('sales@a.test', 'bob@a.test');
INSERT INTO posthouse_credentials VALUES ('bob@a.test', 'scram', 'argon'), ('Eve@A.test', 'scram2', 'argon2');
INSERT INTO posthouse_audit ("when", who, what, object, detail)
    VALUES ('2026-11-01', 'cli:root', 'account add', 'x', '');
UPDATE posthouse_state SET version = 7;
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "posthouse.db")


@pytest.fixture
def released(path):
    """A file of the first release, with rows."""
    with _opened(path) as file:
        file.executescript(RELEASED + ROWS)
    file.close()
    return path


def _opened(path):
    return sqlite3.connect(path, isolation_level=None)


def _all(path, sql):
    file = _opened(path)
    try:
        return file.execute(sql).fetchall()
    finally:
        file.close()


def _take(path, target, wanted=version.FIVE):
    file = _opened(path)
    try:
        return upgrade_file(file, path, wanted, target)
    finally:
        file.close()


def _definitions(path, like="%"):
    return _all(
        path, f"SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name LIKE '{like}' ORDER BY name"
    )


def test_all_revisions_together_make_what_the_metadata_says(path, tmp_path):
    """Of servers' tables the definitions are compared; SQLite keeps the text, so here it is what that means."""
    version.prepare_file(path)
    expected = str(tmp_path / "expected.db")
    engine = sqlalchemy.create_engine(f"sqlite:///{expected}")
    metadata.create_all(engine)
    engine.dispose()
    assert _meaning(path) == _meaning(expected)


def _meaning(path):
    """Columns with affinity, NOT NULL, default and place in the key; indexes with their columns."""
    named = (
        "FROM sqlite_master WHERE type = '{}' AND name NOT LIKE 'sqlite@_%' ESCAPE '@' AND name NOT LIKE '%alembic%'"
    )
    found = {}
    for (table,) in _all(path, f"SELECT name {named.format('table')}"):
        for _, name, kind, not_null, default, key in _all(path, f'PRAGMA table_info("{table}")'):
            affinity = "INTEGER" if "INT" in kind else "TEXT"
            found[table, name] = (affinity, bool(not_null) or bool(key), (default or "").strip("'"), key)
    for index, table, sql in _all(path, f"SELECT name, tbl_name, sql {named.format('index')}"):
        found[table, index] = sql.partition(" ON ")[2].replace('"', "")
    return found


def test_a_file_of_the_first_release_is_upgraded_without_losing_a_row_and_a_copy_is_kept(released):
    five = [_all(released, f"SELECT * FROM {table}") for table in version.FIVE]
    before = {row for row in _definitions(released) if not row[0].startswith("posthouse_")}
    version.prepare_file(released)
    assert [_all(released, f"SELECT * FROM {table}") for table in version.FIVE] == five
    assert before <= set(_definitions(released))
    secrets = _all(released, "SELECT * FROM posthouse_credentials ORDER BY email")
    assert secrets == [("bob@a.test", "scram", "argon"), ("eve@a.test", "scram2", "argon2")]
    assert _all(released, "SELECT who, source FROM posthouse_audit") == [("cli:root", "")]
    assert _all(released, "SELECT * FROM posthouse_state") == [(1, 7)]
    copy = f"{released}.before-0003"
    assert _all(copy, "PRAGMA user_version") == [(1,)]
    assert _all(copy, "SELECT email FROM users") == [("bob@a.test",), ("Eve@A.test",)]


def test_going_back_gives_the_first_release_its_file_back(released):
    definitions, rows = _definitions(released), _all(released, "SELECT * FROM posthouse_audit")
    version.prepare_file(released)
    _take(released, "0001")
    assert _all(released, "PRAGMA user_version") == [(1,)]
    assert _all(released, "SELECT * FROM posthouse_audit") == rows
    found = [row for row in _definitions(released) if row[0] != version.VERSION_TABLE]
    assert _unspaced(found) == _unspaced(definitions)
    version.prepare_file(released)
    assert _all(released, "PRAGMA user_version") == [(3,)]


def _unspaced(definitions):
    return [(name, "".join(sql.replace('"', "").split())) for name, sql in definitions]


def test_going_back_to_the_base_removes_our_tables_and_no_other(released):
    version.prepare_file(released)
    rows = _all(released, "SELECT * FROM users")
    _take(released, "base")
    assert _all(released, "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'posthouse%'") == []
    assert _all(released, "SELECT * FROM users") == rows


def test_only_what_is_missing_is_made_and_tables_that_are_there_stay_as_they_are(path):
    with _opened(path) as file:
        file.execute("CREATE TABLE virtual (id INTEGER PRIMARY KEY, email VARCHAR(128), destination VARCHAR(128))")
    file.close()
    before = _definitions(path, "virtual")
    version.prepare_file(path, wanted=("virtual", "users"))
    assert _definitions(path, "virtual") == before
    assert not _definitions(path, "posthouse_virtual_key")
    assert _definitions(path, "users")
    assert not _definitions(path, "alias")


def test_an_existing_table_without_a_needed_column_stops_everything(path):
    with _opened(path) as file:
        file.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT, clear TEXT)")
    file.close()
    before = _definitions(path)
    with pytest.raises(TryLater) as told:
        version.prepare_file(path)
    assert (
        told.value.reason
        == f"database {path}: table users has no column name, uid, gid, homedir, maildir, quota, postfix"
    )
    assert _definitions(path) == before


def test_what_fails_half_way_leaves_the_file_as_it_was(released):
    with _opened(released) as file:
        file.execute("CREATE TABLE posthouse_new (x)")
    file.close()
    before = _definitions(released)
    with pytest.raises(TryLater, match="posthouse_new"):
        version.prepare_file(released)
    assert _definitions(released) == before
    assert _all(released, "PRAGMA user_version") == [(1,)]


def test_several_who_come_at_once_upgrade_a_file_once(released):
    failures = []

    def come():
        try:
            version.prepare_file(released)
        except TryLater as error:
            failures.append(error)

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert _all(released, "SELECT version_num FROM posthouse_alembic") == [(version.NEEDED,)]


def test_a_file_of_a_newer_program_is_left_alone(path):
    with _opened(path) as file:
        file.execute("PRAGMA user_version = 9")
    file.close()
    with pytest.raises(TryLater, match="newer Posthouse"):
        version.prepare_file(path)


def test_the_copy_is_readable_for_its_owner_alone_and_replaces_none(released, tmp_path):
    taken = tmp_path / "posthouse.db.before-0003"
    taken.symlink_to(tmp_path / "elsewhere")
    version.prepare_file(released)
    copy = tmp_path / "posthouse.db.before-0003.2"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "elsewhere").exists()


def test_a_plan_for_an_unknown_revision_says_which_there_are():
    with pytest.raises(Refused, match="no schema revision '7': 0001, 0002, 0003, or base"):
        migrations.plan("mysql", "base", "7")
    with pytest.raises(TryLater, match="newer Posthouse"):
        migrations.plan("mysql", "0099", "0003")


def test_asking_for_the_version_imports_neither_alembic_nor_sqlalchemy(path):
    version.prepare_file(path)
    code = (
        "import sys; from posthouse.directory import version; version.prepare_file(sys.argv[1]); "
        "print(sorted({'alembic', 'sqlalchemy'} & set(sys.modules)), version.is_current(sys.argv[1]))"
    )
    said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    assert said == "[] True\n"
