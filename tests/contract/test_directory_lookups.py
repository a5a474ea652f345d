"""Look-ups on every database: the same rows, the same answers; and nobody's mailbox for somebody else's name."""

import pytest
from tests.contract.directories import with_house

from posthouse.config.settings import Lookup, UsersLookup
from posthouse.directory.queries import Kind

HOSTILE = [
    "%",
    "_",
    "b%b",
    "b_b",
    "'; DROP TABLE users; --",
    '"; --"',
    "\\' OR 1=1 -- ",
    "\\",
    "bob\\",
    "bob\0",
    "\0",
    "\ud800",
    "bob\udfff",
    "{}",
    "%s",
    "$1",
    "?1",
    "x" * 10_000,
    "\U0001f600",
    "b\u00f6b",
    "\u0432\u043eb",
    "bob ",
    " bob",
    "bob\u00a0",
    "bob\u200b",
]


def test_one_recipient_is_found_through_all_tables(database):
    async def test(house):
        await house.user("Bob@A.test", "a/bob/", uid=1002, gid=1003, quota="1000S", name="Bob", homedir="/h")
        await house.row("virtual", "Sales@a.test", "bob@a.test, Far@Else.test")
        await house.row("virtual", "@b.test", "@a.test")
        await house.row("virtual", "bare.test", "any")
        await house.row("virtual", "web", "bob@a.test")
        await house.row("relocated", "old@a.test", "new@else.test")
        await house.row("transport", ".sub.test", "smtp:[hub.test]")
        await house.row("transport", "vip@a.test", "lmtp:unix:/run/x")
        await house.row("alias", "ops", "bob@a.test")
        await house.row("alias", "owner-ops", "boss@a.test")
        answers = {
            "bOB+x@a.TEST": "a/bob/",
            "sales+y@a.test": "a/bob/, smtp::Far+y@else.test",
            "bob@b.test": "a/bob/",
            "web@localhost": "a/bob/",
            "old@a.test": "550 5.1.6 User has moved to new@else.test",
            "x@deep.sub.test": "smtp:[hub.test]:x@deep.sub.test",
            "vip@a.test": "lmtp:unix:/run/x:vip@a.test",
            "x@bare.test": "550 5.1.1 No such mailbox here",
            "none@a.test": "550 5.1.1 No such mailbox here",
        }
        assert {address: await house.said(address) for address in answers} == answers
        (to_bob,) = (await house.directory.resolve("ops@localhost")).destinations
        assert to_bob.owner == "owner-ops@mail.example.test"
        account = await house.directory.account("bob@a.TEST")
        assert (account.uid, account.gid, account.quota, account.homedir) == (1002, 1003, "1000S", "/h")

    with_house(database, test)


def test_a_long_list_is_looked_up_together_and_comes_out_in_order(database):
    async def test(house):
        names = [f"u{number}@a.test" for number in range(120)]
        for name in names[::10]:
            await house.user(name)
        await house.row("virtual", "list@a.test", ",".join(names))
        assert await house.goes_to("list@a.test") == [f"a.test/{name.partition('@')[0]}/" for name in names[::10]]
        assert len((await house.directory.resolve("list@a.test")).failures) == 108

    with_house(database, test)


@pytest.mark.parametrize("catchall", [False, True])
def test_hostile_local_parts_find_nobody_and_break_nothing(database, catchall):
    async def test(house):
        for name in ("bob", "bok", "b%%b"):
            await house.user(f"{name}@a.test")
        if catchall:
            await house.row("virtual", "@a.test", "bok@a.test")
        for local in HOSTILE:
            said = await house.said(f"{local}@a.test")
            assert said == ("a.test/bok/" if catchall else "550 5.1.1 No such mailbox here"), local
            assert await house.directory.account(f"{local}@a.test") is None
            assert await house.directory.credentials(f"{local}@a.test") is None
            assert await house.directory.lookup("virtual", f"{local}@a.test") is None
            assert await house.directory.lookup("users", f"{local}@a.test") is None
            assert await house.directory.lookup("alias", local) is None
            # As names of domains they are nobody's either.
            assert not await house.directory.is_hosted(f"{local}a.test")
        assert await house.goes_to("bob@a.test") == ["a.test/bob/"]

    with_house(database, test)


def test_what_a_collation_takes_for_the_same_is_another_address(database):
    async def test(house):
        await house.user("b\u00f6b@a.test", "a/umlaut/")
        await house.user("eve @a.test", "a/space/")
        await house.row("virtual", "s\u00e4les@a.test", "x@else.test")
        await house.row("relocated", "g\u00f3ne@a.test", "unknown")
        await house.row("alias", "\u00f6ps", "x@else.test")
        for address in ("bob@a.test", "eve@a.test", "sales@a.test", "gone@a.test", "ops@localhost"):
            assert await house.said(address) == "550 5.1.1 No such mailbox here"
        assert await house.said("b\u00f6b@a.test") == "a/umlaut/"
        assert await house.directory.credentials("bob@a.test") is None

    with_house(database, test)


def test_an_address_that_a_table_can_not_hold_hides_no_other_of_its_list(database):
    async def test(house):
        await house.user("jos\u00e9@a.test", "a/jose/")
        if house.database.dialect == "mysql":
            await house.run("ALTER TABLE users CONVERT TO CHARACTER SET latin1")
        await house.row("virtual", "list@a.test", "\u0436@a.test,jos\u00e9@a.test")
        assert await house.goes_to("list@a.test") == ["a/jose/"]
        assert await house.said("\u0436@a.test") == "550 5.1.1 No such mailbox here"

    with_house(database, test)


def test_rows_that_can_t_be_used_are_our_trouble_and_named(database):
    async def test(house):
        await house.row("virtual", "null@a.test", None)
        await house.row("virtual", "empty@a.test", " , ")
        await house.row("virtual", "bad@a.test", "a b@c")
        await house.row("virtual", "long@a.test", "x" * 5_000)
        await house.row("virtual", "one@a.test", "two@a.test")
        await house.row("virtual", "two@a.test", "one@a.test")
        await house.row("virtual", None, "x@else.test")
        await house.row("transport", "none.test", None)
        await house.user("out@a.test", "../../etc/")
        await house.user("root@a.test", uid=0)
        await house.user("null-uid@a.test", uid=None)
        assert await house.trouble("null@a.test") == "virtual row null@a.test (id 1): has no destination"
        assert await house.trouble("empty@a.test") == "virtual row empty@a.test (id 2): has no destination"
        assert "no usable destination 'a b@c'" in await house.trouble("bad@a.test")
        assert "virtual row long@a.test (id 4)" in await house.trouble("long@a.test")
        assert await house.trouble("one@a.test") == "aliases form a loop: one@a.test -> two@a.test -> one@a.test"
        assert "not a path below the mail root" in await house.trouble("out@a.test")
        assert "below the minimum" in await house.trouble("root@a.test")
        assert "below the minimum" in await house.trouble("null-uid@a.test")
        assert await house.said("x@none.test") == "smtp:none.test:x@none.test"

    with_house(database, test)


def test_every_question_is_answered_by_indexes(database):
    async def test(house):
        statements = house.directory._statements
        keys = ["user+x@a.test", "user@a.test", "user", "@a.test"]
        for number in range(50):  # of a few rows MariaDB rather reads all
            await house.run(
                "INSERT INTO posthouse_domains (domain, note, created) VALUES ({}, '', '')", f"{number}.test"
            )
        asked = [(Kind.USERS, keys[:2]), *((kind, keys) for kind in Kind if kind != Kind.USERS)]
        sql, parameters = statements.find(asked)
        for text, values in ((sql, parameters), (statements.credentials(), ["user@a.test"] * 5)):
            assert not await scanned(house, text, values), text

    with_house(database, test)


async def scanned(house, sql, parameters):
    """The steps of a plan that go through a whole table."""
    if house.database.dialect == "sqlite":
        plan = await house.database.query(f"EXPLAIN QUERY PLAN {sql}", parameters)
        return [row for row in plan if "SCAN" in row[3] and "CONSTANT" not in row[3]]
    if house.database.dialect == "mysql":
        plan = await house.database.query(f"EXPLAIN {sql}", parameters)
        return [row for row in plan if row[3] in ("ALL", "index") and not row[2].startswith("<")]

    async def explain(transaction):
        await transaction.query("SET LOCAL enable_seqscan = off")  # these tables are small
        return await transaction.query(f"EXPLAIN {sql}", parameters)

    return [row for row in await house.database.transaction(explain) if "Seq Scan" in row[0]]


def test_what_a_login_is_checked_against(database):
    async def test(house):
        await house.user("Bob@a.test", clear="p\u00e4ss 'word'")
        await house.user("off@a.test", postfix="n")
        await house.user("eve@b.test")
        await house.run("INSERT INTO posthouse_credentials VALUES ('eve@b.test', 'scram', 'argon')")
        columns = "(name, scopes, hash, email, created)"
        apps = f"INSERT INTO posthouse_app_passwords {columns} VALUES ({{}}, {{}}, {{}}, 'eve@b.test', '')"
        await house.run(apps, "phone", "imap,smtp", "{X}y")
        await house.run(apps, "old", "", "h")
        find = house.directory.credentials
        bob, off, eve = [await find(login) for login in ("bob@A.test", "off@a.test", "eve@b.test")]
        assert (bob.email, bob.clear, bob.enabled, bob.app_passwords) == ("Bob@a.test", "p\u00e4ss 'word'", True, ())
        assert not off.enabled
        assert (eve.clear, eve.scram_sha256, eve.argon2id, eve.enabled) == ("", "scram", "argon", True)
        kept = {app.name: (app.scopes, app.hash) for app in eve.app_passwords}
        assert kept == {"phone": ({"imap", "smtp"}, "{X}y"), "old": (frozenset(), "h")}
        await house.run("INSERT INTO posthouse_domains (domain, enabled, note, created) VALUES ('b.test', 0, '', '')")
        house.forget()
        assert not (await find("eve@b.test")).enabled
        assert await house.said("eve@b.test") == "550 5.2.1 This domain is disabled"

    with_house(database, test)


def test_a_password_is_upgraded_only_where_it_is_still_the_same(database):
    async def test(house):
        await house.user("Bob@a.test", clear="Secret")
        if house.database.dialect != "mysql":  # there the two are one, and the index is unique
            await house.user("b\u00f3b@a.test", clear="Secret")
        upgrade, find = house.directory.upgrade_password, house.directory.credentials
        for wrong in ("secret", "Secret ", "s\u00e9cret", ""):
            await upgrade("bob@a.test", wrong, "scram", "argon")
            stored = await find("bob@a.test")
            assert (stored.clear, stored.scram_sha256) == ("Secret", "")
        await upgrade("bob@a.test", "Secret", "scram", "argon")
        stored = await find("bob@a.test")
        assert (stored.clear, stored.scram_sha256, stored.argon2id) == ("", "scram", "argon")
        if other := await find("b\u00f3b@a.test"):
            assert other.clear == "Secret"

    with_house(database, test)


def test_an_app_password_s_use_is_written_down_once_an_hour(database):
    async def test(house):
        await house.run(
            "INSERT INTO posthouse_app_passwords (email, name, scopes, hash, created)"
            " VALUES ('b@a', 'n', '', 'h', '')"
        )
        ((number,),) = await house.database.query("SELECT id FROM posthouse_app_passwords")
        for peer in ("192.0.2.1", "192.0.2.2"):
            await house.directory.used_app_password(number, peer)
        ((used, peer),) = await house.database.query("SELECT last_used, last_peer FROM posthouse_app_passwords")
        assert used.endswith("Z")
        assert peer == "192.0.2.1"

    with_house(database, test)


def test_what_other_programs_look_up(database):
    async def test(house):
        await house.row("virtual", "x@a.test", "y@a.test")
        await house.row("virtual", "x@a.test", "z@a.test")
        await house.row("transport", "far.test", "smtp:[hub]")
        await house.row("alias", "ops", "x@a.test")
        await house.user("bob@a.test", "a/bob/")
        await house.user("off@a.test", postfix="n")
        asked = [
            ("virtual", "X@a.test", {"y@a.test", "z@a.test"}),
            ("virtual", "none@a.test", None),
            ("transport", "FAR.test", {"smtp:[hub]"}),
            ("alias", "ops", {"x@a.test"}),
            ("relocated", "ops", None),
            ("users", "bob@a.test", {"a/bob/"}),
            ("users", "off@a.test", None),
            ("domains", "a.test", {"virtual:"}),
            ("domains", "far.test", None),
            ("domains", "localhost", {"local:"}),
        ]
        for table, key, expected in asked:
            found = await house.directory.lookup(table, key)
            assert (None if found is None else set(found)) == expected, (table, key)

    with_house(database, test)


TYPES = {
    "sqlite": ("VARCHAR(64)", "INTEGER", "INTEGER", ""),
    "mysql": (
        "VARCHAR(64) CHARACTER SET latin1",
        "TINYINT(1)",
        "BIGINT UNSIGNED",
        "VARCHAR(64) CHARACTER SET utf8mb3",
    ),
    "postgresql": ("VARCHAR(64)", "BOOLEAN", "NUMERIC", "CHAR(64)"),
}


def test_tables_of_another_make_are_read_as_they_are(database):
    """Other names, expressions, types and character sets, in one question."""
    yes = "TRUE" if database.database.url.startswith("postgres") else "1"

    async def test(house):
        name, flag, number, key = TYPES[house.database.dialect]
        await house.run(
            f"CREATE TABLE people (login {name}, pass TEXT, full_name {name}, mbox {name}, bytes {number},"
            f" on_ {flag})"
        )
        await house.run(f"CREATE TABLE forwards (source {key or name}, target TEXT, kind INTEGER)")
        await house.run(f"CREATE TABLE hosts (name {name}, ok {flag})")
        await house.run(f"INSERT INTO hosts VALUES ('a.test', {yes})")
        await house.run(f"INSERT INTO people VALUES ('Bob@a.test', 's%c', 'B\u00f6b', 'a/bob', 1000, {yes})")
        await house.run(
            "INSERT INTO forwards VALUES ('Sales@a.test', 'bob@a.test', 1), ('off@a.test', 'x@e.test', 2)"
        )
        account = await house.directory.account("bob@a.test")
        assert (account.email, account.name, account.maildir) == ("Bob@a.test", "B\u00f6b", "a/bob/")
        assert (account.uid, account.gid, account.quota, account.enabled) == (5000, 5000, "1000", True)
        assert (await house.directory.credentials("bob@a.test")).clear == "s%c"
        assert await house.said("sales+x@a.test") == "a/bob/"
        assert await house.said("off@a.test") == "550 5.1.1 No such mailbox here"
        for local in ("s\u00e4les", "\u0432\u043e", "\U0001f600"):
            assert await house.said(f"{local}@a.test") == "550 5.1.1 No such mailbox here"

    with_house(
        database,
        test,
        virtual=Lookup("forwards", "source", "target", "kind = 1 AND target LIKE '%@%'"),
        transport=Lookup("hosts", "name", "'virtual:'", "ok = TRUE"),
        users=UsersLookup(
            table="people",
            key="login",
            password="pass",
            name="full_name",
            uid="5000",
            gid="2000 + 3000",
            homedir="NULL",
            maildir="CONCAT(mbox, '/')" if "sqlite" not in database.database.url else "mbox || '/'",
            quota="bytes",
            enabled="on_",
        ),
    )
