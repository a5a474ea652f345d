"""services/onward.py: queued mail on its way to mailboxes here, and out of the house again."""

import asyncio
import errno
import os

import pytest

from posthouse.base.clock import SystemClock
from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.config.relays import RelayHost
from posthouse.config.settings import QueuePolicy, Settings, Smtp
from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.journal.content import Content
from posthouse.journal.journal import Journal
from posthouse.mailqueue.courier import Deferred, Delivered, Failed, Route
from posthouse.mailqueue.runner import Runner
from posthouse.mailqueue.spool import Spool
from posthouse.message.envelope import Envelope, Recipient
from posthouse.runtime.log import new_trace_id
from posthouse.services import accounts, domains
from posthouse.services.onward import LocalCourier, Routes
from posthouse.services.placement import Accepted, Placement
from posthouse.services.reception import Client, Reception
from posthouse.store.store import Store

LITERALS = ("[127.0.0.1]", "[IPv6:::1]", "[0.0.0.0]", "[IPv6:::ffff:127.0.0.1]", "[IPv6:::]")
TEXT = b"Subject: hi\r\n\r\nthe body\r\n"


class Elsewhere:
    """The hosts outside: each refuses a message for now as often as it is told to, then takes it."""

    def __init__(self):
        self.reluctant = 0
        self.taken = []
        self.tls = []

    async def deliver(self, message, recipients, _destination):
        if self.reluctant:
            self.reluctant -= 1
            return [Deferred(Reply(451, "4.0.0", "later"))] * len(recipients)
        self.tls.append(message.envelope.tls)
        self.taken += [recipient.address for recipient in recipients]
        return [Delivered(Reply(250, "2.0.0", "ok"), "mx.elsewhere.test")] * len(recipients)


class House:
    """Reception and the queue runner around one directory with the domain a.test and bob in it."""

    def __init__(self, path):
        self.path = path
        for name in ("tmp", "mail"):
            (path / name).mkdir()
        self.elsewhere = Elsewhere()
        self.reported = []

    async def __aenter__(self):
        self.settings = settings = Settings(hostname="mx.host.test", data_dir=str(self.path))
        self.directory = Directory(settings)
        await self.directory.open()
        await domains.add(self.directory, "a.test", actor=Actor("test"))
        await accounts.add(self.directory, settings, "bob@a.test", "secret", actor=Actor("test"))
        self.journal = Journal(str(self.path / "journal"))
        self.journal.start()
        self.store = Store(str(self.path / "mail"), self.journal, None, hostname="mx.host.test")
        self.spool = Spool(str(self.path / "queue"))
        self.spool.prepare()
        clock = SystemClock()
        placement = Placement(self.directory, self.store, self.spool, self.journal, clock)
        self.reception = Reception("mx.host.test", [], placement, clock, str(self.path / "tmp"))
        couriers = {"local": LocalCourier(self.directory, placement, str(self.path / "tmp")), "smtp": self.elsewhere}
        routes, policy = Routes(self.directory, settings), QueuePolicy(minimum_wait_seconds=0)

        async def report(message, places):
            self.reported += [message.envelope.recipients[place].address for place in places]

        self.runner = Runner(self.spool, self.journal, None, policy, clock, routes.route, couriers, report)
        return self

    async def __aexit__(self, *_):
        self.store.close()
        self.journal.close()
        await self.directory.close()

    def rows(self, table, *rows):
        column = {"transport": "domain", "alias": "alias"}.get(table, "email")
        connection = self.directory.database.connection
        connection.executemany(f"INSERT INTO {table} ({column}, destination) VALUES (?, ?)", rows)
        self.directory._drop()

    async def receive(self, address, notify=frozenset(), sender="you@elsewhere.test", text=TEXT, **parameters):
        transaction = await self.reception.begin(Client("192.0.2.1", helo="x"), sender, **parameters)
        await self.reception.add_recipient(transaction, address, notify)
        self.reception.start_content(transaction)
        self.reception.add_content(transaction, text)
        await self.reception.finish(transaction)

    async def work(self, rounds=4):
        for _ in range(rounds):
            await asyncio.wait_for(self.runner.run_once(), 10)

    @property
    def mail_for_bob(self):
        new = self.path / "mail/a.test/bob/new"
        return len(os.listdir(new)) if new.exists() else 0

    @property
    def queue(self):
        return list(self.spool.names())


def test_an_address_that_is_on_its_own_list_but_has_no_mailbox_is_reported_once(tmp_path):
    """Its copies for others were made at the door; the queue makes no more."""

    async def scenario():
        async with House(tmp_path) as house:
            house.rows("virtual", ("sales@a.test", "sales@a.test, bob@a.test"))
            await house.receive("sales@a.test")
            await house.work()
            assert house.mail_for_bob == 1
            assert house.reported == ["sales@a.test"]
            assert house.queue == []

    asyncio.run(scenario())


def test_an_address_of_another_host_with_a_copy_here_is_copied_once(tmp_path):
    async def scenario():
        async with House(tmp_path) as house:
            house.rows("transport", ("b.test", "relay:[192.0.2.2]"))
            house.rows("virtual", ("carol@b.test", "carol@b.test, bob@a.test"))
            house.elsewhere.reluctant = 2
            await house.receive("Carol@b.test")
            await house.work()
            assert house.mail_for_bob == 1
            assert house.elsewhere.taken == ["Carol@b.test"]
            assert house.queue == []

    asyncio.run(scenario())


def test_who_hears_of_success_gets_no_second_copy_of_what_is_forwarded(tmp_path):
    async def scenario():
        async with House(tmp_path) as house:
            house.rows("virtual", ("bob@a.test", "bob@a.test, bob@elsewhere.test"))
            await house.receive("bob@a.test", frozenset({"SUCCESS"}))
            await house.work()
            assert house.mail_for_bob == 1
            assert house.elsewhere.taken == ["bob@elsewhere.test"]
            assert house.queue == []

    asyncio.run(scenario())


def test_queued_mail_follows_an_alias_that_was_made_since(tmp_path):
    async def scenario():
        async with House(tmp_path) as house:
            house.rows("transport", ("b.test", "relay:[192.0.2.2]"))
            await house.receive("carol@b.test")
            house.rows("virtual", ("carol@b.test", "bob@a.test, dave@elsewhere.test"))
            await house.work()
            assert house.mail_for_bob == 1
            assert house.elsewhere.taken == ["dave@elsewhere.test"]
            assert house.queue == []

    asyncio.run(scenario())


def test_a_recipient_that_is_removed_after_it_was_routed_costs_no_other_its_mail(tmp_path):
    async def scenario():
        async with House(tmp_path) as house:
            house.rows("virtual", ("gone@a.test", "nobody@a.test"))
            await house.receive("bob@a.test", notify=frozenset({"SUCCESS"}))
            (name,) = house.queue
            courier = house.runner._couriers["local"]
            with house.spool.claim(name) as claim:
                both = (*claim.message.envelope.recipients, Recipient("gone@a.test", "gone@a.test"))
                outcomes = await courier.deliver(claim.message, both, "")
            assert [type(outcome) for outcome in outcomes] == [Delivered, Failed]
            assert house.mail_for_bob == 1

    asyncio.run(scenario())


def test_maildirs_that_cannot_share_a_file_get_one_each(tmp_path, monkeypatch):
    """Domains may lie on file systems of their own, and no file has more than so many names."""

    def link(source, target, *_, **__):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)

    async def scenario():
        async with House(tmp_path) as house:
            await accounts.add(house.directory, house.settings, "carol@a.test", "secret", actor=Actor("test"))
            house.rows("virtual", ("all@a.test", "bob@a.test, carol@a.test"))
            monkeypatch.setattr("posthouse.journal.placing.os.link", link)
            await house.receive("all@a.test")
            for user in ("bob", "carol"):
                (message,) = (tmp_path / "mail/a.test" / user / "new").iterdir()
                assert message.read_bytes().endswith(b"Subject: hi\n\nthe body\n")
                assert os.listdir(tmp_path / "mail/a.test" / user / "tmp") == []

    asyncio.run(scenario())


@pytest.mark.parametrize("sender", ["you@elsewhere.test", ""])
def test_what_a_list_sends_on_comes_from_its_owner_but_a_report_still_from_nobody(tmp_path, sender):
    async def scenario():
        async with House(tmp_path) as house:
            await accounts.add(house.directory, house.settings, "carol@a.test", "secret", actor=Actor("test"))
            house.rows("alias", ("staff", "bob@a.test, far@elsewhere.test"), ("owner-staff", "carol@a.test"))
            house.rows("virtual", ("all@a.test", "staff@mx.host.test, carol@a.test, other@elsewhere.test"))
            await house.receive("all@a.test", frozenset({"SUCCESS"}) if sender else frozenset(), sender)
            owner = "owner-staff@mx.host.test" if sender else ""
            found = {}
            for name in house.queue:
                envelope = house.spool.load(name).envelope
                for recipient in envelope.recipients:
                    found[recipient.address] = (envelope.sender, recipient.notify)
            expected = {
                "far@elsewhere.test": (owner, frozenset()),
                "other@elsewhere.test": (sender, frozenset({"SUCCESS"} if sender else ())),
            }
            if sender:
                expected["carol@a.test"] = (sender, frozenset({"SUCCESS"}))
            assert found == expected
            (message,) = (tmp_path / "mail/a.test/bob/new").iterdir()
            assert message.read_bytes().startswith(b"Return-Path: <%b>\n" % owner.encode())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("destination", "said"),
    [
        ("/var/mail/x", "a file is used only where"),
        ("|prog", "a command is used only where"),
        ("x@pipe.test", "transport procmail: is not defined"),
    ],
)
def test_what_is_not_configured_is_told_before_it_is_taken(tmp_path, destination, said):
    async def scenario():
        async with House(tmp_path) as house:
            house.rows("transport", ("pipe.test", "procmail:"))
            house.rows("alias", ("ops", destination))
            with pytest.raises(TryLater, match=said):
                await house.receive("ops@mx.host.test")
            with pytest.raises(TryLater, match=said):
                await Routes(house.directory, Settings()).route("ops@mx.host.test", "")

    asyncio.run(scenario())


@pytest.mark.parametrize("literal", LITERALS)
def test_an_address_literal_does_not_lead_to_what_listens_on_this_machine(tmp_path, literal):
    """Nor to ourselves, where mail would go round until it has too many hops."""

    async def main():
        async with House(tmp_path) as house:
            with pytest.raises(Refused, match="back to this machine"):
                await Routes(house.directory, Settings()).route(f"x@{literal}", "")
            assert await Routes(house.directory, Settings()).route("x@[192.0.2.1]", "") == Route(
                "smtp", "[192.0.2.1]"
            )
            relayed = Routes(house.directory, Settings(smtp=Smtp(relayhost="[127.0.0.1]:2626")))
            assert await relayed.route("x@[192.0.2.1]", "") == Route("smtp", "[127.0.0.1]:2626")

    asyncio.run(main())


def test_what_is_placed_on_hold_waits_for_its_release_also_where_a_mailbox_is_here(tmp_path):
    async def scenario():
        async with House(tmp_path) as house:
            placement = house.reception.placement
            accepted = []
            for address in ("bob@a.test", "them@elsewhere.test"):
                destinations = (await house.directory.resolve(address)).destinations
                accepted.append(Accepted(Recipient(address, address), destinations))
            envelope = Envelope("you@elsewhere.test", (), new_trace_id())
            await placement.place(envelope, b"", Content.of(TEXT), accepted, hold=True)
            await house.work()
            assert (house.mail_for_bob, house.elsewhere.taken, len(house.queue)) == (0, [], 1)
            with house.spool.claim(envelope.trace_id) as claim:
                assert claim.message.state.hold
                claim.message.state.hold = False
                house.spool.save(claim.message)
            house.spool.wake(envelope.trace_id)
            await house.work()
            assert (house.mail_for_bob, house.elsewhere.taken, house.queue) == (1, ["them@elsewhere.test"], [])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("sender", "to", "destination"),
    [
        ("anna@a.test", "x@far.test", "anna@[192.0.2.1]:587"),
        ("Anna+News@A.test", "x@far.test", "anna@[192.0.2.1]:587"),
        ("bert@a.test", "x@far.test", "@relay.test"),
        ("carol@b.test", "x@far.test", "[192.0.2.9]"),
        ("", "x@far.test", "[192.0.2.9]"),
        ("anna@a.test", "x@routed.test", "[192.0.2.3]"),
    ],
)
def test_mail_goes_to_its_senders_relayhost_unless_a_transport_says_otherwise(tmp_path, sender, to, destination):
    relays = {
        "one": RelayHost("[192.0.2.1]:587", ("anna@a.test",), "anna", "file"),
        "two": RelayHost("relay.test", ("@A.test",)),
        "three": RelayHost("[192.0.2.3]", (), "us", "file"),
    }

    async def main():
        async with House(tmp_path) as house:
            house.rows("transport", ("routed.test", "smtp:[192.0.2.3]"))
            routes = Routes(house.directory, Settings(smtp=Smtp(relayhost="[192.0.2.9]"), relays=relays))
            assert await routes.route(to, sender) == Route("smtp", destination)

    asyncio.run(main())


WAIVED = b"From: x@x.test\r\nTLS-Required: No\r\nSubject: hi\r\n\r\nthe body\r\n"


@pytest.mark.parametrize(
    ("text", "requiretls", "expected"),
    [
        (TEXT, False, ""),
        (TEXT, True, "REQUIRED"),
        (WAIVED, False, "OPTIONAL"),
        (WAIVED, True, "REQUIRED"),
        (WAIVED.replace(b"No", b"Yes"), False, ""),
        (b"Subject: hi\r\n\r\nTLS-Required: No\r\n", False, ""),
    ],
    ids=["nothing", "REQUIRETLS", "the field", "both", "another value", "in the body"],
)
def test_what_a_message_asks_of_tls_is_known_in_the_queue(tmp_path, text, requiretls, expected):
    """RFC 8689 §4.1: REQUIRETLS is stronger than the header field. It lasts when the message moves on."""

    async def scenario():
        async with House(tmp_path) as house:
            house.rows("transport", ("b.test", "relay:[192.0.2.2]"))
            await house.receive("carol@b.test", text=text, requiretls=requiretls)
            (name,) = house.queue
            assert house.spool.load(name).envelope.tls == expected
            house.rows("virtual", ("carol@b.test", "dave@elsewhere.test"))
            await house.work()
            assert (house.elsewhere.taken, house.elsewhere.tls) == (["dave@elsewhere.test"], [expected])

    asyncio.run(scenario())
