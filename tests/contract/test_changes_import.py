"""Importing and exporting accounts and addresses on every database."""

import csv
import io

import pytest
from tests.contract.directories import with_house
from tests.contract.test_changes_accounts import ROOT, add, all_of, refused

from posthouse.directory.model import Actor
from posthouse.services import aliases, app_passwords, domains, exporting, passwords, transports
from posthouse.services.import_accounts import AccountImporter
from posthouse.services.import_addresses import AddressImporter
from posthouse.services.importing import Existing, ImportRefused, run


async def accounts_from(house, text, existing=Existing.REFUSE, actor=ROOT, **more):
    importer = AccountImporter(house.settings, actor, existing)
    file = io.TextIOWrapper(
        io.BytesIO(text.encode("utf-8", "surrogateescape")), "utf-8", "surrogateescape", newline=""
    )
    done = await run(house.directory, importer, file, actor=actor, source="test.csv", **more)
    return done.added, done.updated, done.skipped


async def rows_from(house, table, text, existing=Existing.REFUSE, actor=ROOT):
    importer = AddressImporter(table, actor, existing)
    done = await run(house.directory, importer, io.StringIO(text), actor=actor, source="test.csv")
    return done.added, done.updated, done.skipped


async def exported(house, what, **more):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(exporting.columns(what, **more))
    for page in await all_of(exporting.rows(house.directory, what, actor=ROOT, **more)):
        writer.writerows(page)
    return text.getvalue()


def test_accounts_are_imported_with_stored_and_new_passwords(database):
    async def test(house):
        text = "email,clear,password,name,quota,enabled\nBob@A.test,plain,,Bob,1K,y\neve@b.test,,secret,Ève,,no\n"
        assert await accounts_from(house, text) == (2, 0, 0)
        bob = await house.directory.credentials("bob@a.test")
        assert (bob.clear, bob.argon2id, bob.enabled) == ("plain", "", True)
        eve = await house.directory.credentials("eve@b.test")
        assert passwords.verify("{ARGON2ID}" + eve.argon2id, "secret")
        assert not eve.enabled
        found = await house.directory.account("bob@a.test")
        assert (found.name, found.quota, found.maildir) == ("Bob", "1024", "a.test/bob/")
        again = "email,name\nbob@a.test,Robert\nnew@a.test,New\n"
        with pytest.raises(ImportRefused, match="1 of the file's lines"):
            await accounts_from(house, again)
        assert await accounts_from(house, again, Existing.SKIP) == (1, 0, 1)
        assert await accounts_from(house, again, Existing.UPDATE) == (0, 2, 0)
        found = await house.directory.account("bob@a.test")
        assert (found.name, found.quota) == ("Robert", "1024")
        assert (await house.directory.credentials("bob@a.test")).clear == "plain"

    with_house(database, test)


def test_wrong_lines_are_named_and_nothing_or_only_the_rest_is_written(database):
    async def test(house):
        await house.user("there@a.test", "a.test/own/")
        text = (
            "email,maildir,uid,quota\n"
            "good@a.test,,,\n"
            "not an address,,,\n"
            "a@e.test,,,\n"
            "GOOD@a.test,,,\n"
            "up@a.test,../../etc/,,\n"
            "root@a.test,,0,\n"
            "big@a.test,,,1 GB\n"
            "short@a.test\n"
            "there@a.test,,,\n"
            "thief@a.test,a.test/own,,\n"
            "twin@a.test,a.test/./good,,\n"
            "\udcff@a.test,,,\n"
            "x\x1b@a.test,,,\n"
        )
        with pytest.raises(ImportRefused) as caught:
            await accounts_from(house, text)
        said = {problem.number: problem.text for problem in caught.value.problems}
        assert sorted(said) == [*range(3, 15)]
        for line, words in {
            3: "not an address",
            4: "not hosted",
            5: "line 2",
            6: "mail root",
            7: "minimum_uid",
            8: "not a quota",
            9: "1 columns",
            10: "exists already",
            11: "there@a.test has the same maildir",
            12: "line 2 has the same maildir",
            13: "UTF-8",
            14: "control",
        }.items():
            assert words in said[line]
        assert await house.directory.account("good@a.test") is None
        assert await accounts_from(house, text, Existing.SKIP, go_on=True) == (1, 0, 1)
        assert (
            await refused(accounts_from(house, "email,nmae\n"))
            == "line 1: 'nmae' is not a column: did you mean name?"
        )

    with_house(database, test)


def test_an_import_stays_within_what_domains_and_administrators_may(database):
    async def test(house):
        await domains.set_fields(house.directory, "a.test", max_accounts=2, default_quota="1K", actor=ROOT)
        await add(house, "one@a.test")
        with pytest.raises(ImportRefused) as caught:
            await accounts_from(house, "email\ntwo@a.test\nthree@a.test\n", go_on=True)
        assert "2 new ones" in caught.value.problems[0].text
        await accounts_from(house, "email\ntwo@a.test\n")
        assert (await house.directory.account("two@a.test")).quota == "1024"
        eve = Actor("eve@b.test", "web", frozenset({"b.test"}))
        with pytest.raises(ImportRefused) as caught:
            await accounts_from(house, "email\nx@a.test\n", actor=eve)
        assert "may not administer a.test" in caught.value.problems[0].text
        places = accounts_from(house, "email,maildir\nx@b.test,a.test/one/\n", actor=eve)
        assert "may not say where" in await refused(places)
        assert "may not" in await refused(
            rows_from(house, "transport", "key,destination\nb.test,smtp:x.test\n", actor=eve)
        )
        assert "may not" in await refused(all_of(exporting.rows(house.directory, "alias", actor=eve)))

    with_house(database, test)


def test_who_comes_after_somebody_does_not_get_their_app_passwords(database):
    async def test(house):
        await add(house, "bob@a.test")
        await app_passwords.add(house.directory, "bob@a.test", "phone", ["imap"], actor=ROOT)
        await house.run("DELETE FROM users")
        await accounts_from(house, "email,clear\nbob@a.test,new\n")
        stored = await house.directory.credentials("bob@a.test")
        assert (stored.clear, stored.argon2id, stored.app_passwords) == ("new", "", ())

    with_house(database, test)


def test_addresses_are_imported_and_what_would_loop_is_not(database):
    async def test(house):
        text = (
            'key,destination\nx@a.test,"y@a.test, far@e.test"\n@b.test,@a.test\nbare.test,anything\nroot,y@a.test\n'
        )
        assert await rows_from(house, "virtual", text.replace("root,y@a.test\n", "")) == (3, 0, 0)
        with pytest.raises(ImportRefused):
            await rows_from(house, "virtual", "key,destination\nx@e.test,y@a.test\n")
        loop = "key,destination\ny@a.test,z@a.test\nz@a.test,x@a.test\n"
        assert "loop" in await refused(rows_from(house, "virtual", loop))
        assert "loop" in await refused(rows_from(house, "virtual", "key,destination\n@a.test,@b.test\n"))
        assert await rows_from(house, "virtual", text.replace("root,y@a.test\n", ""), Existing.SKIP) == (0, 0, 3)
        assert await rows_from(house, "alias", "key,destination\nroot,|/bin/true\nops,root\n") == (2, 0, 0)
        await rows_from(house, "transport", "key,destination\n.e.test,relay:[mail.e.test]:25\n")
        changed = "key,destination\n.e.test,smtp:\n"
        assert await rows_from(house, "transport", changed, Existing.UPDATE) == (0, 1, 0)
        assert (await all_of(transports.listing(house.directory, actor=ROOT)))[0].destination == "smtp:"
        await rows_from(house, "relocated", "key,destination\nold@a.test,new@e.test\ngone@a.test,\n")
        assert "new@e.test" in await house.said("old@a.test")
        listed = [alias.key async for alias in aliases.listing(house.directory, domain="a.test", actor=ROOT)]
        assert listed == ["x@a.test"]

    with_house(database, test)


def test_what_is_exported_can_be_imported_and_is_the_same_again(database):
    async def test(house):
        await add(house, "bob@a.test", name='B "quoted", Ö', quota="5S,1C")
        await house.user("eve@a.test", "elsewhere/eve/", clear="{SSHA}x,y", uid=2000, postfix="n")
        await house.row("virtual", "x@a.test", "bob@a.test, far@e.test")
        await house.row("virtual", "x@a.test", "eve@a.test")
        whole = await exported(house, "accounts", with_secrets=True)
        addresses = await exported(house, "virtual")
        assert "{SSHA}" not in await exported(house, "accounts")
        await house.run("DELETE FROM users")
        await house.run("DELETE FROM posthouse_credentials")
        await house.run("DELETE FROM `virtual`" if house.database.dialect == "mysql" else 'DELETE FROM "virtual"')
        assert await accounts_from(house, whole) == (2, 0, 0)
        assert await rows_from(house, "virtual", addresses) == (2, 0, 0)
        assert await exported(house, "accounts", with_secrets=True) == whole
        assert await exported(house, "virtual") == addresses
        stored = await house.directory.credentials("bob@a.test")
        assert passwords.verify("{ARGON2ID}" + stored.argon2id, "secret")

    with_house(database, test)
