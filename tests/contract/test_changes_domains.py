"""Domains with limits, catch-alls, alias domains and administrators, on every database."""

from tests.contract.directories import with_house
from tests.contract.test_changes_accounts import ROOT, add, all_of, refused
from tests.contract.test_directory_postfixadmin import fill

from posthouse.directory.model import Actor
from posthouse.services import (
    access,
    accounts,
    aliases,
    app_passwords,
    audit,
    domain_routes,
    domains,
    overview,
    relocated,
    totp,
    transports,
)


def test_a_domain_is_added_set_shown_and_removed(database):
    async def test(house):
        directory = house.directory
        assert await domains.add(directory, "C.test", max_accounts=2, note="new", actor=ROOT) == "c.test"
        await domains.set_fields(directory, "c.test", default_quota="1K", actor=ROOT)
        shown = await domains.show(directory, "c.test", actor=ROOT)
        assert (shown.settings.max_accounts, shown.settings.default_quota, shown.settings.note) == (2, "1024", "new")
        await domains.set_fields(directory, "c.test", max_accounts=None, note="", actor=ROOT)
        listed = {one.name: one for one in await domains.listing(directory, house.settings, actor=ROOT)}
        assert list(listed) == ["a.test", "b.test", "c.test"]
        assert listed["c.test"].settings.max_accounts is None
        assert await domains.remove(directory, "c.test", actor=ROOT) == "c.test"
        await domains.add(directory, "c.test", actor=ROOT)
        assert (await domains.show(directory, "c.test", actor=ROOT)).settings.default_quota == ""

    with_house(database, test)


def test_accounts_stay_within_the_limits_of_their_domain(database):
    async def test(house):
        set_fields, directory = domains.set_fields, house.directory
        await set_fields(directory, "a.test", max_accounts=2, default_quota="600", total_quota_bytes=1500, actor=ROOT)
        assert (await add(house, "one@a.test")).quota == "600"
        assert "1500 are allowed" in await refused(add(house, "two@a.test", quota="901"))
        assert "needs a quota" in await refused(add(house, "two@a.test", quota="none"))
        await add(house, "two@a.test", quota="900")
        assert "may have 2" in await refused(add(house, "three@a.test", quota="0"))
        assert "1500 are allowed" in await refused(accounts.set_quota(directory, "one@a.test", "601", actor=ROOT))
        await accounts.set_quota(directory, "one@a.test", "1S,5C", actor=ROOT)
        await add(house, "one@b.test")

    with_house(database, test)


def test_a_catch_all_and_alias_domains_lead_where_they_should(database):
    async def test(house):
        directory = house.directory
        await add(house, "bob@a.test")
        await domain_routes.set_catchall(directory, "a.test", ["x@e.test"], actor=ROOT)
        await domain_routes.set_catchall(directory, "a.test", ["bob@a.test"], actor=ROOT)
        assert await house.goes_to("any@a.test") == ["a.test/bob/"]
        await domain_routes.remove_catchall(directory, "a.test", actor=ROOT)
        assert "550 5.1.1" in await house.said("any@a.test")
        await domain_routes.add_alias_domain(directory, "alias.test", "a.test", actor=ROOT)
        assert await house.goes_to("bob@alias.test") == ["a.test/bob/"]
        loop = domain_routes.add_alias_domain(directory, "a.test", "alias.test", actor=ROOT)
        assert "loop" in await refused(loop)
        shown = await domains.show(directory, "a.test", actor=ROOT)
        assert shown.alias_domains == ("alias.test",)
        await accounts.remove(directory, house.settings, "bob@a.test", actor=ROOT)
        assert "@alias.test leads to" in await refused(domains.remove(directory, "a.test", actor=ROOT))
        assert await domain_routes.remove_alias_domain(directory, "alias.test", actor=ROOT) == ("alias.test", True)
        assert not await directory.is_hosted("alias.test")

    with_house(database, test)


def test_who_administers_a_domain_may_change_it_and_nothing_else(database):
    async def test(house):
        directory, settings = house.directory, house.settings
        await add(house, "bob@a.test")
        await add(house, "eve@b.test")
        await domain_routes.add_admin(directory, "a.test", "bob@a.test", actor=ROOT)
        bob = await access.administrator(directory, "Bob@a.test", "192.0.2.1")
        assert bob == Actor("bob@a.test", "192.0.2.1", frozenset({"a.test"}))
        await accounts.add(directory, settings, "new@a.test", "secret", actor=bob)
        await aliases.add(directory, "sales@a.test", ["new@a.test"], actor=bob)
        for change in (
            accounts.add(directory, settings, "new@b.test", "secret", actor=bob),
            accounts.set_password(directory, "eve@b.test", "mine", actor=bob),
            accounts.forward(directory, "eve@b.test", ["bob@a.test"], keep_copy=True, actor=bob),
            accounts.remove(directory, settings, "eve@b.test", actor=bob),
            aliases.add(directory, "@b.test", ["bob@a.test"], actor=bob),
            aliases.add(directory, "postmaster", ["bob@a.test"], actor=bob),
            aliases.remove(directory, "eve@b.test", actor=bob),
            relocated.add(directory, "eve@b.test", "bob@a.test", actor=bob),
            transports.add(directory, "a.test", "smtp:[192.0.2.1]", actor=bob),
            domains.add(directory, "c.test", actor=bob),
            domains.remove(directory, "a.test", actor=bob),
            domains.set_fields(directory, "a.test", max_accounts=None, actor=bob),
            domain_routes.add_alias_domain(directory, "a.test", "b.test", actor=bob),
            domain_routes.add_alias_domain(directory, "c.test", "a.test", actor=bob),
            domain_routes.add_admin(directory, "*", "bob@a.test", actor=bob),
            all_of(accounts.listing(directory, domain="b.test", actor=bob)),
            all_of(audit.listing(directory, subject="b.test", actor=bob)),
            all_of(audit.listing(directory, actor=bob)),
        ):
            assert "bob@a.test may not" in await refused(change)
        pages = await all_of(accounts.listing(directory, actor=bob))
        assert [row.account.email for page in pages for row in page] == ["bob@a.test", "new@a.test"]
        assert [one.name for one in await domains.listing(directory, settings, actor=bob)] == ["a.test"]
        await domain_routes.remove_admin(directory, "a.test", "bob@a.test", actor=ROOT)
        assert (await access.administrator(directory, "bob@a.test", "")).domains == frozenset()
        await domain_routes.add_admin(directory, "*", "bob@a.test", actor=ROOT)
        assert (await access.administrator(directory, "bob@a.test", "")).domains is None
        await accounts.remove(directory, settings, "bob@a.test", actor=ROOT)
        assert await domain_routes.admins(directory, actor=ROOT) == []

    with_house(database, test)


def test_the_audit_log_is_found_by_object_domain_person_and_time(database):
    async def test(house):
        directory = house.directory
        await aliases.add(directory, "x@a.test", ["y@e.test"], actor=Actor("web:eve", "192.0.2.9"))
        await aliases.add(directory, "z@b.test", ["y@e.test"], actor=ROOT)
        await aliases.add(directory, "%@a.test", ["y@e.test"], actor=ROOT)

        async def found(**filters):
            entries = await all_of(audit.listing(directory, actor=ROOT, **filters))
            return [(entry.who, entry.object) for entry in entries]

        assert await found() == [("cli:root", "%@a.test"), ("cli:root", "z@b.test"), ("web:eve", "x@a.test")]
        assert await found(subject="A.test") == [("cli:root", "%@a.test"), ("web:eve", "x@a.test")]
        assert await found(subject="%@a.test") == [("cli:root", "%@a.test")]
        assert await found(who="web:eve", since="1h") == [("web:eve", "x@a.test")]
        assert await found(limit=1) == [("cli:root", "%@a.test")]
        assert await found(since="2999-01-01") == []
        assert "not a time" in await refused(all_of(audit.listing(directory, since="soon", actor=ROOT)))

    with_house(database, test)


def test_another_programs_tables_are_not_changed_and_ours_beside_them_are(database):
    """PostfixAdmin has a table called alias, too."""

    async def test(house):
        await fill(house)
        directory, settings = house.directory, house.settings
        for change in (
            add(house, "new@a.test"),
            accounts.set_password(directory, "bob@a.test", "new", actor=ROOT),
            accounts.enable(directory, "bob@a.test", enabled=False, actor=ROOT),
            accounts.forward(directory, "bob@a.test", ["x@e.test"], keep_copy=False, actor=ROOT),
            accounts.remove(directory, settings, "bob@a.test", actor=ROOT),
            aliases.add(directory, "x@a.test", ["bob@a.test"], actor=ROOT),
            aliases.add(directory, "root", ["bob@a.test"], actor=ROOT),
            domains.add(directory, "new.test", actor=ROOT),
            domains.remove(directory, "a.test", actor=ROOT),
            domain_routes.set_catchall(directory, "a.test", ["bob@a.test"], actor=ROOT),
            relocated.add(directory, "x@a.test", actor=ROOT),
            transports.add(directory, "x.test", "smtp:", actor=ROOT),
            all_of(accounts.listing(directory, actor=ROOT)),
            domains.listing(directory, settings, actor=ROOT),
        ):
            assert "another program's tables" in await refused(change)
        await app_passwords.add(directory, "Bob@a.test", "phone", ["imap"], actor=ROOT)
        await totp.begin(directory, "bob@a.test", actor=ROOT)
        await domain_routes.add_admin(directory, "a.test", "bob@a.test", actor=ROOT)
        shown = await overview.show(directory, settings, "bob@a.test", actor=ROOT)
        assert ([one.name for one in shown.app_passwords], shown.has_totp) == (["phone"], True)
        await domains.set_fields(directory, "a.test", enabled=False, note="x", actor=ROOT)
        of_domain = await domains.show(directory, "a.test", actor=ROOT)
        assert (of_domain.accounts, of_domain.admins, of_domain.settings.note) == (None, ("bob@a.test",), "x")
        assert not (await directory.credentials("bob@a.test")).enabled

    with_house(database, test, schema="postfixadmin")
