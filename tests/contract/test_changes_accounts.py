"""Accounts, their passwords and what leads to them, as services change them on every database."""

import time

import pytest
from tests.contract.directories import with_house

from posthouse.base.errors import Refused
from posthouse.config.settings import Database, Settings
from posthouse.directory.model import Actor
from posthouse.services import accounts, aliases, app_passwords, audit, domains, overview, passwords, totp
from posthouse.services.changes import NotChanged

ROOT = Actor("cli:root")


async def refused(change) -> str:
    with pytest.raises(NotChanged) as caught:
        await change
    return caught.value.reason


async def all_of(found) -> list:
    return [one async for one in found]


async def add(house, address, **more):
    return await accounts.add(house.directory, house.settings, address, "secret", actor=ROOT, **more)


async def emails(house, domain="") -> list[str]:
    pages = await all_of(accounts.listing(house.directory, domain=domain, actor=ROOT))
    return [row.account.email for page in pages for row in page]


def test_an_account_is_taken_on_changed_shown_and_let_go(database):
    async def test(house):
        made = await add(house, "Bob@A.test", name="Bob", quota="10M")
        assert (made.email, made.maildir, made.quota) == ("bob@a.test", "a.test/bob/", "10485760")
        assert await refused(add(house, "BOB@a.test")) == "bob@a.test exists already"
        stored = await house.directory.credentials("bob@a.test")
        assert stored.clear == ""
        assert passwords.verify("{ARGON2ID}" + stored.argon2id, "secret")
        await accounts.set_quota(house.directory, "bob@a.test", "none", actor=ROOT)
        await accounts.set_name(house.directory, "bob@a.test", "Robert", actor=ROOT)
        await accounts.set_password(house.directory, "bob@a.test", "other", actor=ROOT)
        await accounts.enable(house.directory, "bob@a.test", enabled=False, actor=ROOT)
        found = await house.directory.account("bob@a.test")
        assert (found.name, found.quota, found.enabled) == ("Robert", "", False)
        stored = await house.directory.credentials("bob@a.test")
        assert passwords.verify("{ARGON2ID}" + stored.argon2id, "other")
        removed = await accounts.remove(house.directory, house.settings, "bob@a.test", actor=ROOT)
        assert removed.path.endswith("/mail/a.test/bob")
        assert await house.directory.account("bob@a.test") is None
        assert [(e.what, e.object) for e in await all_of(audit.listing(house.directory, actor=ROOT))][:2] == [
            ("account remove", "bob@a.test"),
            ("account disable", "bob@a.test"),
        ]

    with_house(database, test)


def test_a_change_never_touches_the_account_of_somebody_with_a_similar_name(database):
    """MariaDB's collations find böb and "bob " for bob; what is changed is the row of bob alone."""

    async def test(house):
        await house.user("böb@a.test", "a.test/accent/", clear="a")
        await house.user("Bob@A.test", "a.test/bob/", clear="b")
        await accounts.set_password(house.directory, "bob@a.test", "new", actor=ROOT)
        await accounts.enable(house.directory, "bob@a.test", enabled=False, actor=ROOT)
        await accounts.remove(house.directory, house.settings, "bob@a.test", actor=ROOT)
        assert await emails(house) == ["böb@a.test"]
        left = await house.directory.credentials("böb@a.test")
        assert (left.clear, left.enabled) == ("a", True)
        assert "no such account" in await refused(
            accounts.remove(house.directory, house.settings, "bob@a.test", actor=ROOT)
        )
        await house.row("virtual", "söles@a.test", "x@e.test")
        assert "no such alias" in await refused(aliases.remove(house.directory, "soles@a.test", actor=ROOT))

    collation = "utf8mb4_general_ci" if database.database.url.startswith("mysql") else ""

    async def with_collation(house):
        if collation:
            await house.run(f"ALTER TABLE users CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")
            await house.run("ALTER TABLE users DROP INDEX email")
            await house.run(f"ALTER TABLE `virtual` CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}")
        await test(house)

    with_house(database, with_collation)


def test_forwarding_keeps_a_copy_or_not_and_ends(database):
    async def test(house):
        await add(house, "bob@a.test")
        forward = accounts.forward(house.directory, "bob@a.test", ["far@e.test"], keep_copy=True, actor=ROOT)
        assert await forward == ("bob@a.test", "far@e.test")
        assert set(await house.goes_to("bob@a.test")) == {"smtp::far@e.test", "a.test/bob/"}
        await accounts.forward(house.directory, "bob@a.test", ["far@e.test"], keep_copy=False, actor=ROOT)
        assert await house.goes_to("bob@a.test") == ["smtp::far@e.test"]
        await accounts.stop_forwarding(house.directory, "bob@a.test", actor=ROOT)
        assert await house.goes_to("bob@a.test") == ["a.test/bob/"]
        await aliases.add(house.directory, "x@a.test", ["bob@a.test"], actor=ROOT)
        loop = accounts.forward(house.directory, "bob@a.test", ["x@a.test"], keep_copy=False, actor=ROOT)
        assert "loop" in await refused(loop)

    with_house(database, test)


def test_aliases_to_a_removed_account_are_named_or_removed(database):
    async def test(house):
        for _ in range(2):
            await add(house, "bob@a.test")
            await house.row("virtual", "Sales@a.test", "Bob@a.test, eve@e.test")
            await house.row("virtual", "info@a.test", "bob@a.test")
            await house.row("virtual", "notbob@a.test", "xbob@a.test")
            await house.row("virtual", "bob@a.test", "bob@a.test")
            removed = await accounts.remove(house.directory, house.settings, "bob@a.test", actor=ROOT)
            assert set(removed.aliases) == {"sales@a.test", "info@a.test"}
        await add(house, "bob@a.test")
        await accounts.remove(house.directory, house.settings, "bob@a.test", remove_aliases=True, actor=ROOT)
        left = {alias.key: alias.destinations async for alias in aliases.listing(house.directory, actor=ROOT)}
        assert left == {"sales@a.test": ("eve@e.test",), "notbob@a.test": ("xbob@a.test",)}

    with_house(database, test)


def test_an_app_password_is_told_once_and_goes_with_its_account(database):
    async def test(house):
        await add(house, "bob@a.test")
        made = await app_passwords.add(house.directory, "bob@a.test", "phone", ["imap", "smtp"], actor=ROOT)
        (kept,) = (await house.directory.credentials("bob@a.test")).app_passwords
        assert kept.scopes == {"imap", "smtp"}
        assert made not in kept.hash
        assert passwords.is_app_password(kept.hash, made)
        again = app_passwords.add(house.directory, "bob@a.test", "Phone", ["imap"], actor=ROOT)
        assert "already" in await refused(again)
        wrong = app_passwords.add(house.directory, "bob@a.test", "x", ["imap", "ftp"], actor=ROOT)
        assert "ftp" in await refused(wrong)
        shown = await overview.show(house.directory, house.settings, "bob@a.test", actor=ROOT)
        assert [one.name for one in shown.app_passwords] == ["phone"]
        assert shown.password == "SCRAM-SHA-256 and ARGON2ID"
        entries = await all_of(audit.listing(house.directory, subject="bob@a.test", actor=ROOT))
        assert not any(made in entry.detail for entry in entries)
        await app_passwords.remove(house.directory, "bob@a.test", "PHONE", actor=ROOT)
        assert await app_passwords.listing(house.directory, "bob@a.test", actor=ROOT) == []
        await app_passwords.add(house.directory, "bob@a.test", "phone", ["imap"], actor=ROOT)
        await house.run("DELETE FROM users")
        await add(house, "bob@a.test")
        assert await app_passwords.listing(house.directory, "bob@a.test", actor=ROOT) == []

    with_house(database, test)


def test_a_totp_secret_is_set_checked_and_removed(database):
    async def test(house):
        await add(house, "bob@a.test")
        secret = await totp.begin(house.directory, "bob@a.test", actor=ROOT)
        assert "already" in await refused(totp.begin(house.directory, "bob@a.test", actor=ROOT))
        now = time.time()
        code = totp.code(secret, now)
        assert await totp.check(house.directory, "bob@a.test", code, now, actor=ROOT)
        assert not await totp.check(house.directory, "bob@a.test", code, now + 90, actor=ROOT)
        await totp.remove(house.directory, "bob@a.test", actor=ROOT)
        assert "no TOTP" in await refused(totp.check(house.directory, "bob@a.test", code, now, actor=ROOT))

    with_house(database, test)


def test_accounts_are_listed_a_page_at_a_time_each_once(database, monkeypatch):
    from posthouse.directory.tables.accounts import AccountRows

    whole = AccountRows.accounts

    def three(self, *arguments, **more):
        return whole(self, *arguments, **{**more, "limit": 3})

    monkeypatch.setattr(AccountRows, "accounts", three)

    async def test(house):
        names = [f"{name}@{domain}.test" for domain in "ab" for name in ("b", "C", "a", "d", "Éx", "e", "A1")]
        for number, name in enumerate(names):
            await house.user(name, f"m/{number}/")
        await house.run("INSERT INTO users (email, maildir) VALUES (NULL, 'm/null/')")
        assert sorted(await emails(house)) == sorted(names)
        assert sorted(await emails(house, "A.test")) == sorted(names[:7])

    with_house(database, test)


def test_a_row_that_another_program_wrote_meanwhile_is_a_refusal_not_a_crash(database):
    async def test(house):
        await domains.add(house.directory, "c.test", actor=ROOT)
        await add(house, "bob@c.test")

        async def work(tables):
            await tables.add_account(await tables.account("bob@c.test"))
            await tables.audit("x", "y")

        from posthouse.services.changes import make

        assert "already" in await refused(make(house.directory, ROOT, work))
        assert await emails(house, "c.test") == ["bob@c.test"]

    with_house(database, test)


def test_accounts_of_a_disabled_domain_get_no_mail(database):
    async def test(house):
        await add(house, "bob@a.test")
        await domains.set_fields(house.directory, "a.test", enabled=False, actor=ROOT)
        assert not (await house.directory.credentials("bob@a.test")).enabled
        with pytest.raises(Refused):
            await house.directory.resolve("bob@a.test")
        await domains.set_fields(house.directory, "a.test", enabled=True, actor=ROOT)
        assert await house.goes_to("bob@a.test") == ["a.test/bob/"]

    with_house(database, test)


@pytest.mark.parametrize("dialect", ["mysql", "postgresql"])
def test_what_an_old_tables_columns_have_no_room_for_is_refused_with_column_and_limit(dialect, request, tmp_path):
    old = request.getfixturevalue("mariadb" if dialect == "mysql" else "postgresql")
    narrow = "MODIFY destination varchar(128)" if dialect == "mysql" else "ALTER destination TYPE varchar(128)"
    small = "MODIFY name tinytext" if dialect == "mysql" else "ALTER name TYPE varchar(255)"

    async def test(house):
        old.execute(f"ALTER TABLE virtual {narrow}; ALTER TABLE users {small}")
        await add(house, "bob@a.test")
        long = f"{'x' * 60}@{'y' * 60}.{'z' * 20}.test"
        change = aliases.add(house.directory, "long@a.test", [long], actor=ROOT)
        assert (await refused(change)).startswith("the column destination of virtual takes 128 characters at most")
        if dialect == "mysql":
            change = accounts.set_name(house.directory, "bob@a.test", "x" + "ö" * 199, actor=ROOT)
            assert "the column name of users takes 255 octets at most, and this has 399" in await refused(change)
        assert await all_of(aliases.listing(house.directory, actor=ROOT)) == []

    with_house(Settings(data_dir=str(tmp_path), database=Database(url=old.url)), test)


def test_what_an_old_tables_character_set_does_not_have_is_refused(mariadb, tmp_path):
    """Adopted tables are often latin1."""

    async def test(house):
        await house.run("ALTER TABLE users CONVERT TO CHARACTER SET latin1")
        assert "can't hold that" in await refused(add(house, "bob@a.test", name="\u0416"))
        assert "can't hold that" in await refused(add(house, "\u0436@a.test"))
        assert "no such account" in await refused(
            accounts.remove(house.directory, house.settings, "\u0436@a.test", actor=ROOT)
        )
        assert (await add(house, "bob@a.test", name="B\xf6b")).name == "B\xf6b"

    settings = Settings(hostname="mail.example.test", data_dir=str(tmp_path), database=Database(url=mariadb.url))
    with_house(settings, test)
