"""What logins may send as and how much, on every database."""

from tests.contract.directories import with_house
from tests.contract.test_changes_accounts import ROOT, add, all_of, refused

from posthouse.directory.model import Actor, SendingLimits
from posthouse.services import accounts, audit, senders
from posthouse.services.sending import administration


def test_a_login_sends_as_what_it_was_granted_until_that_is_taken_back(database):
    async def test(house):
        directory = house.directory
        await add(house, "bob@a.test")
        await add(house, "eve@b.test")
        for sender in ("sales@a.test", "sales+x@a.test", "anybody@c.test", "Bob@elsewhere.example"):
            assert not await directory.may_send_as("bob@a.test", sender)
        assert await senders.add(directory, "Bob@A.test", "Sales@a.test", actor=ROOT) == (
            "bob@a.test",
            "sales@a.test",
        )
        await senders.add(directory, "bob@a.test", "@C.test", actor=ROOT)
        for sender in ("SALES@a.test", "sales+x@a.test", "anybody@c.test", "x@C.TEST"):
            assert await directory.may_send_as("BOB@a.test", sender), sender
            assert await directory.granted(sender) == ("bob@a.test",)
        await senders.add(directory, "eve@b.test", "@c.test", actor=ROOT)
        assert await directory.granted("X+y@c.test") == ("bob@a.test", "eve@b.test")
        await senders.remove(directory, "eve@b.test", "@c.test", actor=ROOT)
        for nobody in ("x@sub.c.test", "bob@a.test", "a\0@c.test", "\udcff@c.test"):
            assert await directory.granted(nobody) == ()
        for login, sender in (
            ("bob@a.test", "x@sub.c.test"),
            ("bob@a.test", "eve@b.test"),
            ("eve@b.test", "x@c.test"),
        ):
            assert not await directory.may_send_as(login, sender)
        assert "already" in await refused(senders.add(directory, "bob@a.test", "sales@a.test", actor=ROOT))
        assert await senders.listing(directory, actor=ROOT) == [
            ("bob@a.test", "@c.test"),
            ("bob@a.test", "sales@a.test"),
        ]
        await senders.remove(directory, "bob@a.test", "@c.test", actor=ROOT)
        assert not await directory.may_send_as("bob@a.test", "anybody@c.test")
        log = [entry.what for entry in await all_of(audit.listing(directory, subject="bob@a.test", actor=ROOT))]
        assert log[:3] == ["account sender remove", "account sender add", "account sender add"]
        await accounts.remove(directory, house.settings, "bob@a.test", actor=ROOT)
        await add(house, "bob@a.test")
        assert not await directory.may_send_as("bob@a.test", "sales@a.test")

    with_house(database, test)


def test_who_administers_a_domain_grants_its_addresses_to_its_logins_only(database):
    async def test(house):
        directory, alice = house.directory, Actor("alice@a.test", domains=frozenset({"a.test"}))
        await add(house, "bob@a.test")
        await add(house, "eve@b.test")
        await senders.add(directory, "bob@a.test", "@a.test", actor=alice)
        await senders.add(directory, "eve@b.test", "x@b.test", actor=ROOT)
        for login, sender in (("bob@a.test", "eve@b.test"), ("bob@a.test", "@b.test"), ("eve@b.test", "x@a.test")):
            assert "alice@a.test may not" in await refused(senders.add(directory, login, sender, actor=alice))
        assert await senders.listing(directory, actor=alice) == [("bob@a.test", "@a.test")]
        assert "no such account" in await refused(senders.add(directory, "no@a.test", "x@a.test", actor=ROOT))
        assert "not a domain name" in await refused(senders.add(directory, "bob@a.test", "@..", actor=ROOT))

    with_house(database, test)


def test_limits_are_told_for_a_login_each_login_of_its_domain_and_the_domain(database):
    async def test(house):
        directory = house.directory
        nothing = SendingLimits()
        assert await directory.sending_limits("bob@a.test") == (nothing, nothing, nothing)
        mine = SendingLimits(messages_per_hour=0, bytes_per_day=10**15, over_limit="hold")
        await house.run("INSERT INTO posthouse_limits (name, messages_per_day) VALUES ({}, 7)", "a.test")
        await house.run("INSERT INTO posthouse_limits (name, new_recipients_per_day) VALUES ({}, 9)", "@a.test")
        await house.run(
            "INSERT INTO posthouse_limits (name, messages_per_hour, bytes_per_day, over_limit)"
            " VALUES ({}, 0, 1000000000000000, 'hold')",
            "bob@a.test",
        )
        house.forget()
        each, together = SendingLimits(new_recipients_per_day=9), SendingLimits(messages_per_day=7)
        assert await directory.sending_limits("Bob@a.test") == (mine, each, together)
        assert await directory.sending_limits("eve@a.test") == (nothing, each, together)
        assert await directory.sending_limits("bob@b.test") == (nothing, nothing, nothing)

    with_house(database, test)


def test_limits_are_set_shown_and_gone_with_what_they_are_for(database):
    async def test(house):
        directory, settings = house.directory, house.settings
        await add(house, "bob@a.test")
        change = administration.change
        await change(directory, "Bob@a.test", {"messages_per_hour": 5, "bytes_per_day": 0}, "hold", actor=ROOT)
        await change(directory, "@a.test", {"messages_per_hour": 7, "messages_per_day": 9}, None, actor=ROOT)
        await change(directory, "a.test", {"messages_per_day": 90}, None, actor=ROOT)
        said, bound = await administration.show(directory, settings, "bob@a.test", actor=ROOT)
        assert said == SendingLimits(messages_per_hour=5, bytes_per_day=0, over_limit="hold")
        assert (bound.hour.messages, bound.day.messages, bound.holds) == (5, 9, True)
        assert (await administration.show(directory, settings, "@a.test", actor=ROOT))[1].hour.messages == 7
        assert (await administration.show(directory, settings, "a.test", actor=ROOT))[1].day.messages == 90
        await change(directory, "bob@a.test", {"messages_per_hour": None, "bytes_per_day": None}, "", actor=ROOT)
        assert (await directory.sending_limits("bob@a.test"))[0] == SendingLimits()
        log = await all_of(audit.listing(directory, subject="a.test", actor=ROOT))
        assert [(entry.what, entry.object) for entry in log[:3]] == [
            ("account limits", "bob@a.test"),
            ("domain limits", "a.test"),
            ("domain limits", "@a.test"),
        ]
        assert log[1].detail == "messages_per_day 90"
        alice = Actor("alice@a.test", domains=frozenset({"a.test"}))
        assert "may not" in await refused(change(directory, "a.test", {"messages_per_day": 0}, None, actor=alice))
        assert "no such account" in await refused(change(directory, "no@a.test", {}, "hold", actor=ROOT))
        await change(directory, "bob@a.test", {"messages_per_hour": 5}, None, actor=ROOT)
        await accounts.remove(directory, settings, "bob@a.test", actor=ROOT)
        assert (await directory.sending_limits("bob@a.test"))[0] == SendingLimits()

    with_house(database, test)
