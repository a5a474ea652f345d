"""PostfixAdmin's tables, read where they are."""

from tests.contract.directories import with_house

from posthouse.config.settings import Lookup, UsersLookup

FLAGS = {
    "sqlite": ("INTEGER", "1", "0"),
    "mysql": ("TINYINT(1)", "1", "0"),
    "postgresql": ("BOOLEAN", "true", "false"),
}
TEXT = {"sqlite": "VARCHAR(255)", "mysql": "VARCHAR(255) CHARACTER SET latin1", "postgresql": "VARCHAR(255)"}


TABLES = """
CREATE TABLE mailbox (username TEXT_ PRIMARY KEY, password TEXT_, name WIDE_, maildir TEXT_, quota BIGINT,
    local_part TEXT_, domain TEXT_, active FLAG_);
CREATE TABLE alias (address TEXT_ PRIMARY KEY, goto TEXT, domain TEXT_, active FLAG_);
CREATE TABLE domain (domain TEXT_ PRIMARY KEY, transport TEXT_, backupmx FLAG_, active FLAG_);
CREATE TABLE alias_domain (alias_domain TEXT_ PRIMARY KEY, target_domain TEXT_, active FLAG_);
INSERT INTO domain VALUES ('ALL', '', NO_, YES_), ('a.test', 'virtual', NO_, YES_), ('b.test', '', NO_, YES_),
    ('off.test', 'virtual', NO_, NO_), ('backup.test', 'virtual', YES_, YES_), ('else.test', 'smtp:[hub]', NO_, YES_),
    ('null.test', NULL, NO_, YES_);
INSERT INTO alias_domain VALUES ('also.test', 'a.test', YES_), ('not.test', 'a.test', NO_);
INSERT INTO mailbox VALUES ('bob@a.test', '$1$x$y', 'Böb', 'a.test/bob/', 0, 'bob', 'a.test', YES_),
    ('eve@a.test', '{SHA512-CRYPT}$6$', '', 'a.test/eve/', 1048576, 'eve', 'a.test', YES_),
    ('off@a.test', 'x', '', 'a.test/off/', -1, 'off', 'a.test', NO_);
INSERT INTO alias VALUES ('bob@a.test', 'bob@a.test', 'a.test', YES_),
    ('eve@a.test', 'eve@a.test,bob@a.test', 'a.test', YES_), ('off@a.test', 'off@a.test', 'a.test', YES_),
    ('old@a.test', 'bob@a.test', 'a.test', NO_), ('@b.test', 'bob@a.test', 'b.test', YES_)
"""


async def fill(house) -> None:
    words = dict(zip(("FLAG_", "YES_", "NO_"), FLAGS[house.database.dialect], strict=True))
    words["TEXT_"] = TEXT[house.database.dialect]
    words["WIDE_"] = words["TEXT_"].replace("latin1", "utf8mb3")
    for statement in TABLES.split(";\n"):
        for word, meaning in words.items():
            statement = statement.replace(word, meaning)
        await house.database.run(statement)


def test_everything_is_read_from_where_postfixadmin_has_it(database):
    async def test(house):
        await fill(house)
        answers = {
            "Bob+x@a.test": "a.test/bob/",
            "eve@a.test": "a.test/eve/, a.test/bob/",
            "off@a.test": "550 5.1.1 No such mailbox here",
            "old@a.test": "550 5.1.1 No such mailbox here",
            "any@b.test": "a.test/bob/",
            "bob@also.test": "a.test/bob/",
            "none@also.test": "550 5.1.1 No such mailbox here",
            "x@null.test": "550 5.1.1 No such mailbox here",
            "x@backup.test": "relay:backup.test:x@backup.test",
            "x@else.test": "smtp:[hub]:x@else.test",
        }
        assert {address: await house.said(address) for address in answers} == answers
        hosted = ("a.test", "b.test", "also.test", "null.test")
        for name in (*hosted, "off.test", "not.test", "all", "backup.test"):
            assert await house.directory.is_hosted(name) == (name in hosted), name
        for foreign in ("x@off.test", "x@not.test", "x@all"):
            assert (await house.directory.resolve(foreign)).relay
        accounts = [await house.directory.account(f"{user}@a.test") for user in ("bob", "eve", "off")]
        assert [(one.quota, one.enabled, one.uid) for one in accounts] == [
            ("", True, 1001),
            ("1048576", True, 1001),
            ("", False, 1001),
        ]
        assert accounts[0].name == "B\u00f6b"
        assert (await house.directory.credentials("eve@a.test")).clear == "{SHA512-CRYPT}$6$"
        assert await house.directory.lookup("virtual", "@also.test") == ("@a.test",)
        assert await house.directory.lookup("relocated", "bob@a.test") is None

    with_house(database, test, schema="postfixadmin")


def test_single_look_ups_can_be_changed(database):
    async def test(house):
        await fill(house)
        account = await house.directory.account("bob@a.test")
        assert (account.uid, account.maildir) == (5000, "a.test/bob/Maildir/")
        assert await house.said("old@a.test") == "a.test/bob/Maildir/"
        assert await house.said("bob@also.test") == "a.test/bob/Maildir/"

    add = "CONCAT(maildir, 'Maildir/')" if "sqlite" not in database.database.url else "maildir || 'Maildir/'"
    users = UsersLookup(uid="5000", maildir=add)
    with_house(database, test, schema="postfixadmin", users=users, virtual=Lookup(where="1 = 1"))
