"""``posthouse db`` on an SQLite file: what is printed, exit codes, JSON. On servers: tests/contract."""

import json
import sqlite3

import pytest

from posthouse.cli import main

FIVE = """
CREATE TABLE alias (id INTEGER PRIMARY KEY, alias TEXT, destination TEXT);
CREATE TABLE relocated (id INTEGER PRIMARY KEY, email TEXT, destination TEXT);
CREATE TABLE transport (id INTEGER PRIMARY KEY, domain TEXT COLLATE NOCASE UNIQUE, destination TEXT);
CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT COLLATE NOCASE UNIQUE, clear TEXT, name TEXT, uid INTEGER,
    gid INTEGER, homedir TEXT, maildir TEXT, quota TEXT, postfix TEXT);
CREATE TABLE virtual (id INTEGER PRIMARY KEY, email TEXT, destination TEXT);
CREATE INDEX a ON alias (alias COLLATE NOCASE);
CREATE INDEX r ON relocated (email COLLATE NOCASE);
CREATE INDEX v ON virtual (email COLLATE NOCASE);
INSERT INTO transport (domain, destination) VALUES ('a.test', 'virtual:');
"""


@pytest.fixture
def posthouse(tmp_path, monkeypatch, capfd):
    """Runs one command in this process; its exit code, output and error output."""
    for name in ("POSTHOUSE_CONFIG", "POSTHOUSE_DATA"):
        monkeypatch.setenv(name, "")
    config = tmp_path / "posthouse.toml"
    config.write_text('hostname = "mx.host.test"\ndata_dir = "."\n')

    def run(*arguments):
        code = main.run(["db", *arguments, "--config", str(config)])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def rows(tmp_path):
    """Runs statements on the file; its answer."""

    def run(sql):
        connection = sqlite3.connect(tmp_path / "posthouse.db")
        try:
            connection.executescript(sql)
            return connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        finally:
            connection.close()

    return run


def test_a_database_is_made_checked_and_taken_back_and_forward(posthouse, tmp_path):
    path = tmp_path / "posthouse.db"
    code, said, complaint = posthouse("check")
    assert (code, said) == (75, "")
    assert complaint == f"posthouse: database {path}: there is no such file\n"
    code, said, _ = posthouse("init")
    assert code == 0
    assert said.startswith(f"database {path}: made alias, posthouse_admins, ")
    assert posthouse("init") == (0, f"database {path} has everything already\n", "")
    assert posthouse("check") == (0, f"database  {path}\nschema    0003\n\n0 errors, 0 warnings, 0 notes\n", "")
    assert posthouse("upgrade") == (0, f"database {path} has schema 0003 already\n", "")
    code, said, _ = posthouse("downgrade", "base")
    assert code == 1
    assert "posthouse_state is dropped with its 1 row\n" in said
    assert said.endswith("nothing was changed: add --yes to do it\n")
    code, said, _ = posthouse("downgrade", "0001", "--yes")
    assert (code, said.splitlines()[-1].partition(":")[0]) == (0, "now at 0001")
    assert (tmp_path / "posthouse.db.before-0001").exists()
    code, said, _ = posthouse("check")
    assert code == 1
    assert "has schema 0001, this Posthouse needs 0003: 'posthouse db upgrade'" in said
    assert posthouse("upgrade")[0] == 0
    code, _, complaint = posthouse("upgrade", "0001")
    assert code == 2
    assert "posthouse db downgrade 0001" in complaint


def test_findings_are_words_for_people_and_json_for_programs(posthouse, rows):
    rows(
        FIVE + "INSERT INTO users VALUES (7, 'bob@a.test', 'geheim', '', 1001, 1001, '', '../\x1b[2Jbob/', '', 'y');"
    )
    code, said, complaint = posthouse("adopt", "--dry-run")
    assert (code, complaint) == (0, "")
    assert (
        "WARNING users: maildirs are not below the mail root: nothing is delivered there, nor read (1 row)\n"
        "    id 7: bob@a.test (../\\x1b[2Jbob/)\n"
        "    -> write them relative to mail.root, without '..'\n"
    ) in said
    assert said.endswith("can be adopted; nothing was changed\n")
    code, said, _ = posthouse("check", "--json")
    report = json.loads(said)
    assert (code, report["is_fine"], report["schema"]) == (1, False, "")
    (outside,) = [one for one in report["findings"] if one["kind"] == "maildir-outside"]
    assert (outside["severity"], outside["count"], outside["examples"][0]["id"]) == ("warning", 1, "7")
    code, said, _ = posthouse("adopt")
    assert code == 0
    assert said.endswith("posthouse_totp; nothing else was changed\n")
    assert posthouse("adopt")[1].endswith("is Posthouse's already; nothing was changed\n")


def test_errors_stop_an_adoption_and_say_what_to_do(posthouse, rows):
    before = rows(FIVE + "DROP TABLE relocated;")
    code, said, _ = posthouse("adopt")
    assert code == 1
    assert (
        "ERROR relocated: there is no such table\n    -> make it, or name another in [database]: CREATE TABLE" in said
    )
    assert said.endswith("is not adopted and nothing was changed: mend the errors first\n")
    assert rows("") == before


def test_a_list_in_a_file_is_not_read_by_a_check(posthouse, rows):
    """Included lists are this host's; taken for empty ones, they ended the check."""
    rows(FIVE + "INSERT INTO alias (alias, destination) VALUES ('staff', ':include:/etc/staff');")
    assert posthouse("adopt")[0] == 0
    assert "0 errors" in posthouse("check")[1]


def test_a_downgrade_says_whose_passwords_are_lost(posthouse, rows, tmp_path):
    users = "INSERT INTO users (email, clear, maildir) VALUES ('old@a.test', 'geheim', 'a/old/'), ('Eve@a.test', "
    rows(FIVE + users + "'', 'a/eve/'), ('bob@a.test', NULL, 'a/bob/');")
    assert posthouse("adopt")[0] == 0
    secrets = "INSERT INTO posthouse_credentials VALUES"
    rows(f"{secrets} ('old@a.test', 'x', 'x'), ('gone@a.test', 'x', 'x');")
    lost = "posthouse_credentials is dropped with its {} rows, people's passwords{}\n"
    assert lost.format(2, "; no account has its only one there") in posthouse("downgrade", "base")[1]
    rows(f"{secrets} ('eve@a.test', 'x', ''), ('bob@a.test', '', 'x');")
    said = posthouse("downgrade", "base")[1]
    assert lost.format(4, ": 2 accounts have their only one there, and can't log in afterwards") in said
    assert said.endswith("nothing was changed: add --yes to do it\n")
