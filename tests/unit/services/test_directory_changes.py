"""Domains, accounts and aliases as services change them."""

import asyncio
import os

import pytest

from posthouse.base.errors import Refused
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.services import accounts, aliases, domains, passwords
from posthouse.services.changes import NotChanged

ROOT = Actor("cli:root")


async def listed(found):
    return [one async for one in found]


class House:
    """An open directory with one domain."""

    def __init__(self, tmp_path):
        self.settings = Settings(hostname="mx.host.test", data_dir=str(tmp_path))
        self.directory = Directory(self.settings)
        asyncio.run(self.directory.open())
        self.run(domains.add(self.directory, "a.test", actor=ROOT))

    def run(self, coroutine):
        return asyncio.run(coroutine)

    def add(self, address, password="secret", **more):
        return self.run(accounts.add(self.directory, self.settings, address, password, actor=ROOT, **more))

    def alias(self, address, *destinations):
        return self.run(aliases.add(self.directory, address, destinations, actor=ROOT))

    def refused(self, coroutine):
        with pytest.raises(NotChanged) as caught:
            self.run(coroutine)
        return caught.value.reason

    def rows(self, sql):
        return self.directory.database.connection.execute(sql).fetchall()


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    asyncio.run(made.directory.close())


def test_a_domain_is_hosted_by_a_row_that_postfix_understands(house):
    assert house.rows("SELECT domain, destination FROM transport") == [("a.test", "virtual:")]
    assert house.run(domains.add(house.directory, "BÜCHER.test.", actor=ROOT)) == "xn--bcher-kva.test"
    assert [domain.name for domain in house.run(domains.listing(house.directory, house.settings, actor=ROOT))] == [
        "a.test",
        "xn--bcher-kva.test",
    ]


@pytest.mark.parametrize(
    "name", ["", "a b", "-x.test", "x..test", "1.2.3.4", "@a.test", "a.test", "mx.host.test", "x" * 300]
)
def test_a_domain_that_is_none_or_hosted_already_is_refused(house, name):
    assert house.refused(domains.add(house.directory, name, actor=ROOT))


def test_a_domain_with_accounts_or_aliases_stays(house):
    house.add("bob@a.test")
    assert "bob@a.test" in house.refused(domains.remove(house.directory, "a.test", actor=ROOT))
    house.run(accounts.remove(house.directory, house.settings, "bob@a.test", actor=ROOT))
    house.alias("x@a.test", "y@e.test")
    assert "x@a.test" in house.refused(domains.remove(house.directory, "a.test", actor=ROOT))
    house.run(aliases.remove(house.directory, "x@a.test", actor=ROOT))
    assert house.run(domains.remove(house.directory, "A.test", actor=ROOT)) == "a.test"
    assert "not a domain of this host" in house.refused(domains.remove(house.directory, "a.test", actor=ROOT))


def test_a_new_account_has_secrets_but_no_readable_password(house):
    account = house.add("Bob@A.test", name="Bob", quota="1000S,5C")
    assert (account.email, account.maildir, account.quota) == ("bob@a.test", "a.test/bob/", "1000S,5C")
    stored = house.run(house.directory.credentials("bob@a.test"))
    assert stored.clear == ""
    assert passwords.verify("{ARGON2ID}" + stored.argon2id, "secret")
    assert passwords.verify("{SCRAM-SHA-256}" + stored.scram_sha256, "secret")
    assert house.rows("SELECT what, object FROM posthouse_audit WHERE object = 'bob@a.test'") == [
        ("account add", "bob@a.test")
    ]
    assert house.run(house.directory.resolve("bob@a.test")).destinations[0].account == account


@pytest.mark.parametrize(
    ("address", "maildir"),
    [
        ("first.last+x@a.test", "a.test/first.last+x/"),
        ("a/b@a.test", "a.test/a%2Fb/"),
        ("$HOME@a.test", "a.test/%24home/"),
        ("%2f@a.test", "a.test/%252f/"),
        ("ü@a.test", "a.test/%C3%BC/"),
        ("~@a.test", "a.test/%7E/"),
    ],
)
def test_a_maildir_is_one_safe_name_below_its_domain(house, address, maildir):
    assert house.add(address).maildir == maildir


@pytest.mark.parametrize(
    "address", ["..@a.test", ".x@a.test", "bob", "@a.test", "bob@", '"a b"@a.test', "bob@else.test", "x\n@a.test"]
)
def test_an_account_that_can_t_be_is_refused(house, address):
    assert house.refused(accounts.add(house.directory, house.settings, address, "secret", actor=ROOT))
    assert house.rows("SELECT count(*) FROM users") == [(0,)]


def test_an_account_twice_or_with_a_bad_password_or_quota_is_refused(house):
    house.add("bob@a.test")
    add, settings = accounts.add, house.settings
    assert "exists already" in house.refused(add(house.directory, settings, "BOB@a.test", "x", actor=ROOT))
    assert "password" in house.refused(add(house.directory, settings, "eve@a.test", "", actor=ROOT))
    assert "quota" in house.refused(add(house.directory, settings, "eve@a.test", "x", quota="1 GB", actor=ROOT))


def test_a_maildir_that_another_account_has_is_refused(house):
    house.directory.database.connection.execute(
        "INSERT INTO users (email, maildir) VALUES ('old@a.test', 'a.test/bob')"
    )
    assert "another account" in house.refused(
        accounts.add(house.directory, house.settings, "bob@a.test", "x", actor=ROOT)
    )


def test_a_new_password_takes_the_place_of_the_readable_one(house):
    house.add("bob@a.test")
    house.directory.database.connection.execute("UPDATE users SET clear = 'old', email = 'Bob@a.test'")
    house.run(accounts.set_password(house.directory, "bob@a.test", "new", actor=ROOT))
    stored = house.run(house.directory.credentials("bob@a.test"))
    assert stored.clear == ""
    assert passwords.verify("{ARGON2ID}" + stored.argon2id, "new")
    assert "no such account" in house.refused(accounts.set_password(house.directory, "eve@a.test", "new", actor=ROOT))


def test_a_disabled_account_gets_no_mail_until_it_is_enabled(house):
    house.add("bob@a.test")
    house.run(accounts.enable(house.directory, "bob@a.test", enabled=False, actor=ROOT))
    with pytest.raises(Refused):
        house.run(house.directory.resolve("bob@a.test"))
    assert not house.run(house.directory.credentials("bob@a.test")).enabled
    assert "already disabled" in house.refused(
        accounts.enable(house.directory, "bob@a.test", enabled=False, actor=ROOT)
    )
    house.run(accounts.enable(house.directory, "bob@a.test", enabled=True, actor=ROOT))
    assert house.run(house.directory.resolve("bob@a.test")).destinations


def test_mail_is_deleted_only_when_asked_for_and_only_below_the_mail_root(house, tmp_path):
    for address in ("bob@a.test", "eve@a.test", "mal@a.test"):
        os.makedirs(tmp_path / "mail" / house.add(address).maildir / "new")
    kept = house.run(accounts.remove(house.directory, house.settings, "bob@a.test", actor=ROOT))
    assert os.path.isdir(os.path.join(kept.path, "new"))
    gone = house.run(accounts.remove(house.directory, house.settings, "eve@a.test", delete_mail=True, actor=ROOT))
    assert not os.path.exists(gone.path)
    house.add("max@a.test")
    house.directory.database.connection.execute("UPDATE users SET maildir = 'a.test/max' WHERE email = 'max@a.test'")
    os.makedirs(tmp_path / "mail/a.test/max:posthouse/cur")
    (tmp_path / "mail/a.test/max").touch()
    house.run(accounts.remove(house.directory, house.settings, "max@a.test", delete_mail=True, actor=ROOT))
    assert sorted(os.listdir(tmp_path / "mail/a.test")) == ["bob", "mal"]
    for maildir in ("../", "", "/", "a.test/../../"):
        house.directory.database.connection.execute(
            "UPDATE users SET maildir = ? WHERE email = 'mal@a.test'", (maildir,)
        )
        remove = accounts.remove(house.directory, house.settings, "mal@a.test", delete_mail=True, actor=ROOT)
        assert "not below the mail root" in house.refused(remove)
    assert os.path.isdir(kept.path)


def test_a_random_password_is_long_and_never_the_same():
    made = {passwords.random_password() for _ in range(100)}
    assert len(made) == 100
    assert {len(password) for password in made} == {23}


def test_aliases_are_added_to_and_taken_from(house):
    assert house.alias("Sales@a.test", "bob@a.test", "Far@Else.test").destinations == ("bob@a.test", "Far@else.test")
    assert house.alias("sales@a.test", "eve@a.test,bob@a.test").destinations[-1] == "eve@a.test"
    left = house.run(aliases.remove(house.directory, "sales@a.test", ("far@else.test",), actor=ROOT))
    assert left.destinations == ("bob@a.test", "eve@a.test")
    house.alias("@a.test", "@b.test")
    house.alias("postmaster", "bob@a.test", "root")
    keys = [(alias.table, alias.key) for alias in house.run(listed(aliases.listing(house.directory, actor=ROOT)))]
    assert keys == [("virtual", "@a.test"), ("virtual", "sales@a.test"), ("alias", "postmaster")]
    assert house.run(aliases.remove(house.directory, "sales@a.test", actor=ROOT)).destinations == ()
    assert "no such alias" in house.refused(aliases.remove(house.directory, "sales@a.test", actor=ROOT))


@pytest.mark.parametrize(
    ("address", "destinations", "said"),
    [
        ("x@a.test", ["not an address"], "no domain"),
        ("x@a.test", ["a b@c.test"], "not an address"),
        ("x@a.test", [" , "], "no destination"),
        ("x@else.test", ["y@a.test"], "not hosted here"),
        ("@a.test", ["@-"], "not a domain name"),
        ("x@a.test", ["|rm"], "only local aliases"),
        ("x@a.test", ["/etc/passwd"], "only local aliases"),
        ("x@a.test", ['"|rm"'], "only local aliases"),
        ("x y", ["y@a.test"], "not an address"),
        ("there@a.test", ["bob@a.test"], "already"),
    ],
)
def test_an_alias_that_can_t_be_is_refused(house, address, destinations, said):
    house.alias("there@a.test", "bob@a.test")
    before = house.rows("SELECT * FROM virtual")
    assert said in house.refused(aliases.add(house.directory, address, destinations, actor=ROOT))
    assert house.rows("SELECT * FROM virtual") == before


def test_an_alias_that_would_loop_is_not_written(house):
    house.alias("x@a.test", "y@a.test")
    house.alias("y@a.test", "z@a.test")
    assert "loop" in house.refused(aliases.add(house.directory, "z@a.test", ["x@a.test"], actor=ROOT))
    house.run(domains.add(house.directory, "b.test", actor=ROOT))
    house.alias("@a.test", "@b.test")
    assert "loop" in house.refused(aliases.add(house.directory, "@b.test", ["@a.test"], actor=ROOT))
    house.alias("one", "two")
    assert "loop" in house.refused(aliases.add(house.directory, "two", ["one"], actor=ROOT))
    assert house.rows("SELECT count(*) FROM virtual") == [(3,)]


def test_changes_are_audited_with_who_made_them(house):
    house.run(aliases.add(house.directory, "x@a.test", ["y@a.test"], actor=ROOT))
    assert house.rows("SELECT who, what, object, detail, source FROM posthouse_audit ORDER BY id DESC LIMIT 1") == [
        ("cli:root", "alias add", "x@a.test", "y@a.test", "cli")
    ]
