"""Taking over databases that other programs made, as they are: the tables of TABLES.md, narrow columns, latin1."""

import asyncio
import sqlite3
from dataclasses import replace

import pytest
from tests.databases import run

from posthouse.base.errors import Refused
from posthouse.config.settings import Database, Lookup, Settings
from posthouse.directory.model import Actor
from posthouse.services import adoption, tablecopy

FIVE = """
CREATE TABLE alias (id {id}, alias varchar(128), destination varchar(128)){end};
CREATE TABLE relocated (id {id}, email varchar(128), destination varchar(128)){end};
CREATE TABLE transport (id {id}, domain varchar(128){collate} UNIQUE, destination varchar(128)){end};
CREATE TABLE users (id {id}, email varchar(128){collate} UNIQUE, clear varchar(128), name {text},
    uid int default 1001, gid int default 1001, homedir {text}, maildir {text}, quota {text},
    postfix {yes} default 'y'){end};
CREATE TABLE {q}virtual{q} (id {id}, email varchar(128), destination varchar(128)){end};
"""
WORDS = {
    "sqlite": {
        "id": "integer PRIMARY KEY AUTOINCREMENT", "text": "text", "yes": "text", "end": "", "q": '"', "collate": "",
    },
    "mysql": {
        "id": "int auto_increment PRIMARY KEY", "text": "tinytext", "yes": "enum('y','n')",
        "end": " DEFAULT CHARSET latin1", "q": "`", "collate": "",
    },
    "postgresql": {"id": "serial PRIMARY KEY", "text": "text", "yes": "char(1)", "end": "", "q": '"', "collate": ""},
}  # fmt: skip
CLEAN = """
INSERT INTO transport (domain, destination) VALUES ('a.test', 'virtual:'), ('b.test', 'virtual:');
INSERT INTO users (email, clear, maildir, quota) VALUES ('bob@a.test', '{SSHA512}' , 'a.test/bob/', '10485760S');
INSERT INTO {q}virtual{q} (email, destination) VALUES ('sales@a.test', 'bob@a.test'), ('bob@a.test', 'bob@a.test');
"""
WILD = """
INSERT INTO transport (domain, destination) VALUES
    ('a.test', 'virtual:'), ('shop.test', 'cyrus:x'), ('*', 'smtp:[relay.test]');
INSERT INTO users (email, clear, maildir, quota, uid) VALUES
    ('joe@a.test', 'geheim', 'a.test/joe/', '10485760S', 1001),
    ('Ann@a.test', '{SSHA}QmdYeWZUZ1l4R2pMWWZUZ1l4R2pMWWZU', 'a.test/ann/', '', 1001),
    ('eve@a.test', '$1$abcd$lkjlkjlkjlkjlkjlkj', '../../etc/', NULL, 1001),
    ('bob@a.test', '', 'a.test//joe/', 'viel', NULL),
    ('sub@a.test', '{FOO}x', 'a.test/joe/sub/', '', 12),
    ('lost@nowhere.test', 'y', 'nowhere.test/lost', '', 1001);
INSERT INTO {q}virtual{q} (email, destination) VALUES
    ('@l.test', '@m.test'), ('@m.test', '@l.test'), ('l.test', ''), ('m.test', NULL),
    ('x@a.test', 'y@a.test'), ('y@a.test', 'z@a.test'), ('z@a.test', 'x@a.test'),
    ('bad@a.test', 'not an address'), ('empty@a.test', NULL), ('@a.test', 'joe@a.test'),
    (NULL, 'joe@a.test'), ('sp ace@a.test', 'joe@a.test');
INSERT INTO relocated (email, destination) VALUES ('joe@a.test', 'joe@new.test');
INSERT INTO alias (alias, destination) VALUES ('root', 'joe@a.test'), ('list', '|/usr/bin/majordomo');
"""
WILD_FINDINGS = {
    ("warning", "transport", "unknown-transport"): ["shop.test -> cyrus:x"],
    ("note", "transport", "route-of-all"): ["*"],
    ("note", "users", "plain-passwords"): ["joe@a.test", "lost@nowhere.test"],
    ("note", "users", "weak-scheme"): ["Ann@a.test"],
    ("note", "users", "capitals"): ["Ann@a.test"],
    ("warning", "users", "bare-crypt"): ["eve@a.test"],
    ("warning", "users", "maildir-outside"): ["eve@a.test (../../etc/)"],
    ("warning", "users", "no-password"): ["bob@a.test"],
    ("warning", "users", "bad-quota"): ["bob@a.test (viel)"],
    ("warning", "users", "low-uid"): ["bob@a.test (NULL:1001)", "sub@a.test (12:1001)"],
    ("warning", "users", "maildir-shared"): ["bob@a.test and joe@a.test (a.test/joe/)"],
    ("warning", "users", "maildir-nested"): ["sub@a.test (a.test/joe/sub/) in that of joe@a.test (a.test/joe/)"],
    ("warning", "users", "bad-password"): ["sub@a.test"],
    ("warning", "users", "mbox"): ["lost@nowhere.test (nowhere.test/lost)"],
    ("warning", "users", "unhosted"): ["lost@nowhere.test"],
    ("warning", "users", "moved-but-here"): ["joe@a.test"],
    ("note", "users", "catchall-and-accounts"): ["ann@a.test (@a.test)"],
    ("warning", "virtual", "catchall-loop"): ["@l.test -> @m.test -> @l.test"],
    ("warning", "virtual", "alias-loop"): ["x@a.test -> y@a.test -> z@a.test -> x@a.test"],
    ("warning", "virtual", "bad-destination"): ["bad@a.test -> not an address"],
    ("warning", "virtual", "empty-destination"): ["empty@a.test"],
    ("warning", "virtual", "empty-key"): [""],
    ("warning", "virtual", "spaces-in-key"): ["sp ace@a.test"],
    ("warning", "alias", "host-programs"): ["list -> |/usr/bin/majordomo"],
}


class Old:
    """A database of somebody else's."""

    def __init__(self, settings, dialect, execute, dump):
        self.settings, self.dialect, self._execute, self.dump = settings, dialect, execute, dump

    def execute(self, sql, **changed):
        for word, text in {**WORDS[self.dialect], **changed}.items():
            sql = sql.replace(f"{{{word}}}", text)
        self._execute(f"SET ROLE posthouse;{sql}" if self.dialect == "postgresql" else sql)

    async def ask(self, sql):
        async with adoption.opened(self.settings) as database:
            return await database.query(sql)

    def look(self, **changed):
        return asyncio.run(adoption.check(replace(self.settings, **changed)))

    def adopt(self, **options):
        return asyncio.run(adoption.adopt(self.settings, actor=Actor("cli:root"), **options))


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def old(request, tmp_path):
    if request.param == "sqlite":
        path = tmp_path / "posthouse.db"
        path.touch()
        return Old(Settings(hostname="mx.isp.test", data_dir=str(tmp_path)), "sqlite", on_file(path), of_file(path))
    database = request.getfixturevalue(request.param)
    settings = Settings(hostname="mx.isp.test", data_dir=str(tmp_path), database=Database(url=database.url))
    return Old(settings, database.dialect, database.execute, lambda: of_server(database))


def on_file(path):
    def execute(sql):
        connection = sqlite3.connect(path)
        connection.executescript(sql)
        connection.close()

    return execute


def of_file(path):
    def dump():
        connection = sqlite3.connect(path)
        lines = [line for line in connection.iterdump() if "posthouse" not in line and "sqlite_seq" not in line]
        connection.close()
        return lines

    return dump


def of_server(database):
    """Everything in the tables that aren't ours, definitions and rows."""
    if database.dialect == "mysql":
        where = (f"--socket={database.server.socket}", "--user=root", "--skip-dump-date", "--skip-extended-insert")
        tables = [name for name in database.execute("SHOW TABLES").split() if not name.startswith("posthouse_")]
        return run("mariadb-dump", "--no-defaults", *where, database.name, *tables)
    where = (f"--host={database.server.folder}", f"--port={database.server.port}", "--username=postgres")
    dump = run("pg_dump", "--exclude-table=posthouse_*", "--inserts", *where, database.name)
    return [line for line in dump.splitlines() if not line.startswith("\\")]


def kinds(findings, *ignored):
    return {
        (finding.severity, finding.table, finding.kind)
        for finding in findings
        if finding.kind not in ignored
    }  # fmt: skip


def test_an_adopted_database_has_our_tables_beside_it_and_nothing_else_changed(old):
    old.execute(FIVE)
    old.execute(WILD)
    before = old.dump()
    seen = old.adopt(dry_run=True)
    assert (seen.made, seen.is_refused) == ((), False)
    done = old.adopt()
    assert len(done.made) == 9
    assert all(table.startswith("posthouse_") for table in done.made)
    assert old.dump() == before
    report = old.look()
    assert (report.schema, report.advice) == ("0003", "")
    assert kinds(report.findings) == kinds(seen.findings) == kinds(done.findings)
    assert old.adopt().made == ()
    assert [tuple(row) for row in asyncio.run(old.ask("SELECT who, what FROM posthouse_audit"))] == [
        ("cli:root", "db adopt")
    ]
    asyncio.run(adoption.move(old.settings, "base"))
    assert old.dump() == before


def test_what_is_doubtful_or_dangerous_is_said_with_the_rows(old):
    old.execute(FIVE)
    old.execute(WILD)
    findings = old.look().findings
    found = {
        (one.severity, one.table, one.kind): [example.text for example in one.examples]
        for one in findings
        if one.kind != "no-index"
    }
    assert found == WILD_FINDINGS
    (loop,) = [one for one in findings if one.kind == "alias-loop"]
    assert loop.examples[0].id == "5"
    (hidden,) = [one for one in findings if one.kind == "catchall-and-accounts"]
    assert hidden.count == 5
    (unhosted,) = [one for one in findings if one.kind == "unhosted"]
    assert unhosted.advice == "posthouse domain add DOMAIN, for each: nowhere.test"


def test_the_indexes_that_are_missing_can_be_made_as_it_says_and_then_nothing_is_left_to_say(old):
    old.execute(FIVE)
    old.execute(CLEAN.replace("'{SSHA512}'", "''"))
    old.adopt()
    old.execute("INSERT INTO posthouse_credentials VALUES ('bob@a.test', 'x', 'y')")
    missing = [one for one in old.look().findings if one.kind == "no-index"]
    tables = {"alias", "relocated", "virtual"} | ({"transport", "users"} if old.dialect != "mysql" else set())
    assert {one.table for one in missing} == tables
    for one in missing:
        old.execute(one.advice)
    report = old.look()
    assert report.findings == ()
    assert report.is_fine


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("DROP TABLE relocated", ("relocated", "missing-table")),
        ("ALTER TABLE users DROP COLUMN quota", ("users", "missing-column")),
        ("ALTER TABLE users RENAME COLUMN clear TO crypt", ("users", "missing-column")),
    ],
)
def test_tables_that_cannot_be_used_are_refused_and_nothing_is_changed(old, change, expected):
    old.execute(FIVE)
    old.execute(change)
    before = old.dump()
    done = old.adopt()
    assert done.is_refused
    assert [(one.table, one.kind) for one in done.findings if one.severity == "error"] == [expected]
    assert old.dump() == before
    assert old.look().schema == ""


def test_a_missing_table_can_be_made_as_it_says(old):
    old.execute(FIVE)
    old.execute("DROP TABLE relocated")
    (missing,) = [one for one in old.look().findings if one.kind == "missing-table"]
    old.execute(missing.advice.partition(": ")[2])
    assert not old.adopt().is_refused


def test_several_accounts_with_one_address_stop_an_adoption(old):
    old.execute(FIVE.replace(" UNIQUE", ""))
    old.execute(
        "INSERT INTO users (email, maildir) VALUES ('bob@a.test', 'b1/'), ('BOB@A.test', 'b2/'), ('x@a.test', 'x/')"
    )
    old.execute("INSERT INTO transport (domain, destination) VALUES ('a.test', 'virtual:'), ('A.test', 'smtp:x')")
    done = old.adopt()
    assert done.is_refused
    (twice,) = [one for one in done.findings if one.kind == "duplicate-account"]
    assert (twice.count, twice.examples[0].id, twice.examples[0].text) == (2, "1, 2", "bob@a.test")
    assert ("warning", "transport", "duplicate-route") in kinds(done.findings)


def test_an_empty_database_is_not_adopted_and_one_with_tables_is_not_initialised(old):
    with pytest.raises(Refused, match="'posthouse db init' makes the tables"):
        old.adopt()
    old.execute(FIVE)
    with pytest.raises(Refused, match="is not empty, it has alias, relocated"):
        asyncio.run(adoption.init(old.settings))


def test_other_names_and_a_condition_are_looked_at_as_they_are_configured(old):
    old.execute(FIVE)
    old.execute("CREATE TABLE forwards (source varchar(64), goto varchar(64), active int)")
    old.execute("INSERT INTO forwards VALUES ('a@a.test', 'b@a.test', 1), ('b@a.test', 'a@a.test', 1), ('?', '?', 0)")
    old.execute("DROP TABLE {q}virtual{q}")
    lookup = Lookup(table="forwards", key="source", value="goto", where="active = 1")
    database = replace(old.settings.database, virtual=lookup)
    findings = old.look(database=database).findings
    (loop,) = [one for one in findings if one.kind == "alias-loop"]
    assert (loop.table, loop.examples[0].text, loop.examples[0].id) == (
        "forwards",
        "a@a.test -> b@a.test -> a@a.test",
        "",
    )
    assert "not-a-key" not in {one.kind for one in findings}


def test_tables_of_postfixadmin_are_adopted_by_its_preset(old):
    old.execute("""
        CREATE TABLE domain (domain varchar(255) PRIMARY KEY, transport varchar(255), backupmx {bool}, active {bool});
        CREATE TABLE alias (address varchar(255) PRIMARY KEY, goto text, active {bool});
        CREATE TABLE alias_domain (alias_domain varchar(255) PRIMARY KEY, target_domain varchar(255), active {bool});
        CREATE TABLE mailbox (username varchar(255) PRIMARY KEY, password varchar(255), name varchar(255),
            maildir varchar(255), quota bigint, active {bool});
        INSERT INTO domain VALUES ('a.test', 'virtual', {no}, {yes_}), ('ALL', '', {no}, {yes_});
        INSERT INTO alias VALUES ('bob@a.test', 'bob@a.test', {yes_}), ('x@a.test', 'y@a.test', {yes_}),
            ('y@a.test', 'x@a.test', {yes_});
        INSERT INTO alias_domain VALUES ('b.test', 'a.test', {yes_});
        INSERT INTO mailbox VALUES ('bob@a.test', '$1$abcd$lkjlkjlkjlkjlkjlkj', 'Bob', 'a.test/bob/', 0, {yes_});
    """, **({"bool": "boolean", "no": "false", "yes_": "true"} if old.dialect == "postgresql" else
            {"bool": "tinyint", "no": "0", "yes_": "1"}))  # fmt: skip
    old.settings = replace(old.settings, database=replace(old.settings.database, schema="postfixadmin"))
    before = old.dump()
    done = old.adopt()
    assert not done.is_refused
    assert old.dump() == before
    assert kinds(done.findings, "no-index") == {
        ("warning", "alias", "alias-loop"),
        ("warning", "mailbox", "bare-crypt"),
    }


def test_rows_are_read_in_pages_with_and_without_an_id(old, monkeypatch):
    monkeypatch.setattr(tablecopy, "PAGE", 3)
    old.execute(FIVE)
    rows = ", ".join(f"('u{number}@nowhere.test', 'x', 'u{number}/')" for number in range(10))
    old.execute(f"INSERT INTO users (email, clear, maildir) VALUES {rows}")
    asked = []
    report = asyncio.run(adoption.check(old.settings, lambda what, done: asked.append((what, done))))
    (unhosted,) = [one for one in report.findings if one.kind == "unhosted"]
    assert unhosted.count == 10
    assert [done for what, done in asked if what == "users"] == [3, 6, 9, 10]
    old.execute("ALTER TABLE users RENAME COLUMN id TO number")
    (unhosted,) = [one for one in old.look().findings if one.kind == "unhosted"]
    assert unhosted.count == 10


def test_a_collation_that_minds_capitals_hides_keys_that_have_them(mariadb, tmp_path):
    settings = Settings(hostname="mx.isp.test", data_dir=str(tmp_path), database=Database(url=mariadb.url))
    there = Old(settings, "mysql", mariadb.execute, None)
    there.execute(FIVE, collate=" COLLATE latin1_general_cs")
    there.execute("INSERT INTO users (email, clear, maildir) VALUES ('Ann@a.test', 'x', 'a/')")
    (finding,) = [one for one in there.look().findings if one.kind == "case-sensitive"]
    assert "latin1_general_cs" in finding.text


def test_an_engine_without_transactions_is_told(mariadb, tmp_path):
    settings = Settings(hostname="mx.isp.test", data_dir=str(tmp_path), database=Database(url=mariadb.url))
    there = Old(settings, "mysql", mariadb.execute, None)
    there.execute(FIVE, end=" ENGINE = MyISAM DEFAULT CHARSET utf8mb4")
    found = {one.table: one.text for one in there.look().findings if one.kind == "no-transactions"}
    assert set(found) == {"alias", "relocated", "transport", "users", "virtual"}
    assert "MyISAM" in found["users"]
