"""Resolving a recipient, step by step, over rows in a real database."""

import asyncio

import pytest

from posthouse.base.errors import Refused, TryLater
from posthouse.config.settings import Mail, Settings, Smtp
from posthouse.directory.directory import Directory
from posthouse.directory.host import UnixUser
from posthouse.directory.model import Discard, ToCommand, ToFile, ToHost, ToMailbox, ToPipe, ToUnixUser

INSERTS = {
    "virtual": "INSERT INTO virtual (email, destination) VALUES (?, ?)",
    "relocated": "INSERT INTO relocated (email, destination) VALUES (?, ?)",
    "transport": "INSERT INTO transport (domain, destination) VALUES (?, ?)",
    "alias": "INSERT INTO alias (alias, destination) VALUES (?, ?)",
}


class World:
    """A directory and the rows in it."""

    def __init__(self, tmp_path, **smtp):
        settings = Settings(hostname="mx.host.test", data_dir=str(tmp_path), smtp=Smtp(**smtp), mail=Mail())
        self.directory = Directory(settings)
        asyncio.run(self.directory.open())
        self.host = self.directory.resolver.host = FakeHost()
        self.sql = self.directory.database.connection
        self.row("transport", "a.test", "virtual:")
        self.row("transport", "b.test", "virtual:")

    def row(self, table, key, destination):
        self.sql.execute(INSERTS[table], (key, destination))
        self.directory._drop()

    def disable(self, domain):
        self.sql.execute(
            "INSERT INTO posthouse_domains (domain, enabled, note, created) VALUES (?, 0, '', '')", (domain,)
        )
        self.directory._drop()

    def user(self, email, maildir=None, uid=1001, gid=1001, postfix="y"):
        local, _, domain = email.partition("@")
        self.sql.execute(
            "INSERT INTO users (email, clear, uid, gid, maildir, postfix) VALUES (?, '', ?, ?, ?, ?)",
            (email, uid, gid, f"{domain}/{local}/" if maildir is None else maildir, postfix),
        )

    def resolve(self, address):
        return asyncio.run(self.directory.resolve(address))

    def goes_to(self, address):
        return [_short(destination) for destination in self.resolve(address).destinations]

    def refused(self, address):
        with pytest.raises(Refused) as caught:
            self.resolve(address)
        return str(caught.value.reply)

    def trouble(self, address):
        with pytest.raises(TryLater) as caught:
            self.resolve(address)
        return caught.value.reason


def _short(destination):
    owner = f" from {destination.owner}" if not isinstance(destination, Discard) and destination.owner else ""
    match destination:
        case ToMailbox():
            text = destination.address
        case ToHost():
            text = f"{destination.transport}:{destination.nexthop}:{destination.address}"
        case ToPipe():
            text = f"pipe {destination.transport}:{destination.nexthop}:{destination.address}"
        case ToFile():
            text = f"file {destination.path}"
        case ToCommand():
            text = f"command {destination.command}"
        case ToUnixUser():
            text = f"unix {destination.name} {destination.uid} {destination.homedir}"
        case _:
            text = f"discard:{destination.address}"
    return text + owner


class FakeHost:
    """The Unix users of a host, and files, that a test has put there."""

    def __init__(self):
        self.users = {"carol": UnixUser("carol", 1000, 1000, "/home/carol"), "daemon": UnixUser("daemon", 1, 1, "/")}
        self.files = {}

    async def user(self, name):
        return self.users.get(name)

    async def included(self, path):
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory")
        return self.files[path]


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    asyncio.run(made.directory.close())


def test_an_account_is_found_whatever_the_case_of_address_and_row(world):
    world.user("Bob@A.test", maildir="a.test/bob/")
    resolution = world.resolve("bOB@a.TEST")
    assert resolution.destinations[0].account.maildir == "a.test/bob/"
    assert not resolution.relay


def test_an_extension_finds_the_account_and_stays_in_the_address(world):
    world.user("bob@a.test")
    assert world.goes_to("bob+lists@a.test") == ["bob+lists@a.test"]


def test_the_row_with_the_extension_comes_first(world):
    world.row("virtual", "bob+x@a.test", "carol@a.test")
    world.row("virtual", "bob@a.test", "dave@a.test")
    world.user("carol@a.test")
    world.user("dave@a.test")
    assert world.goes_to("bob+x@a.test") == ["carol@a.test"]


def test_an_extension_that_matched_nothing_is_kept_on_the_destinations(world):
    """As Postfix's propagate_unmatched_extensions does for virtual by default."""
    world.row("virtual", "sales@a.test", "bob@a.test, Far@Else.test")
    world.user("bob@a.test")
    assert world.goes_to("sales+Ex@a.test") == ["bob+ex@a.test", "smtp::Far+Ex@else.test"]


def test_a_catchall_s_destination_gets_no_extension(world):
    world.row("virtual", "@a.test", "bob@a.test")
    world.user("bob@a.test")
    assert world.goes_to("any+ext@a.test") == ["bob@a.test"]


def test_the_most_specific_row_of_virtual_comes_first_and_a_bare_name_counts_at_home_only(world):
    own = "mx.host.test"
    rows = ("bob+x@mx.host.test", "bob@mx.host.test", "bob", "@mx.host.test")
    for number, key in reversed(list(enumerate(rows))):
        world.row("virtual", key, f"n{number}@else.test")
        kept = "+x" if 0 < number < 3 else ""
        assert world.goes_to(f"bob+x@{own}") == [f"smtp::n{number}{kept}@else.test"]
    assert world.goes_to(f"BOB@{own.upper()}") == ["smtp::n1@else.test"]
    assert world.refused("bob@a.test") == "550 5.1.1 No such mailbox here"


def test_a_domain_is_found_in_its_ascii_form_however_it_is_written(world):
    world.row("transport", "xn--bcher-kva.test", "virtual:")
    world.row("virtual", "sales@xn--bcher-kva.test", "bob@B\u00dcCHER.test")
    world.user("bob@xn--bcher-kva.test")
    assert world.goes_to("Sales@b\u00fccher.test") == ["bob@xn--bcher-kva.test"]
    assert world.goes_to("bob@XN--BCHER-KVA.TEST") == ["bob@xn--bcher-kva.test"]


def test_the_delimiter_is_the_one_that_is_configured(tmp_path):
    world = World(tmp_path, recipient_delimiter="-")
    world.user("bob@a.test")
    assert world.goes_to("bob-x@a.test") == ["bob-x@a.test"]
    assert world.refused("bob+x@a.test") == "550 5.1.1 No such mailbox here"
    asyncio.run(world.directory.close())


def test_a_row_that_maps_an_address_to_itself_does_so_with_its_extension_and_for_a_whole_domain(world):
    world.row("virtual", "bob@a.test", "Bob@A.test, copy@e.test")
    world.row("virtual", "@b.test", "@B.test")
    world.user("bob@a.test")
    world.user("eve@b.test")
    assert world.goes_to("bob+x@a.test") == ["bob+x@a.test", "smtp::copy+x@e.test"]
    assert world.goes_to("eve@b.test") == ["eve@b.test"]
    assert world.refused("none@b.test") == "550 5.1.1 No such mailbox here"


def test_a_domain_that_maps_to_another_keeps_the_user_and_extension(world):
    world.row("virtual", "@a.test", "@b.test")
    world.user("bob@b.test")
    assert world.goes_to("bob+x@a.test") == ["bob+x@b.test"]


def test_an_account_wins_over_the_catchall_unless_told_otherwise(world, tmp_path):
    world.row("virtual", "@a.test", "boss@a.test")
    world.user("bob@a.test")
    world.user("boss@a.test")
    world.user("off@a.test", postfix="n")
    assert world.goes_to("bob@a.test") == ["bob@a.test"]
    assert world.goes_to("bob+x@a.test") == ["bob+x@a.test"]
    assert world.goes_to("off@a.test") == ["boss@a.test"]
    before = World(tmp_path / "other", catchall="before-accounts")
    before.row("virtual", "@a.test", "boss@a.test")
    before.user("bob@a.test")
    before.user("boss@a.test")
    assert before.goes_to("bob@a.test") == ["boss@a.test"]
    before.row("virtual", "bob@a.test", "bob@a.test")
    assert before.goes_to("bob@a.test") == ["bob@a.test"]
    asyncio.run(before.directory.close())


def test_rows_of_one_key_and_commas_are_a_union_and_each_address_counts_once(world):
    world.row("virtual", "list@a.test", "x@e.test,y@e.test, ,")
    world.row("virtual", "list@a.test", "y@e.test , z@e.test")
    assert world.goes_to("list@a.test") == ["smtp::x@e.test", "smtp::y@e.test", "smtp::z@e.test"]
    world.row("alias", "ops", "x@e.test, /var/ops")
    world.row("alias", "Ops", "z@e.test")
    assert world.goes_to("ops@localhost") == ["file /var/ops", "smtp::x@e.test", "smtp::z@e.test"]


def test_a_self_row_ends_the_recursion_and_adds_copies(world):
    world.row("virtual", "bob@a.test", "bob@a.test, copy@e.test")
    world.user("bob@a.test")
    assert world.goes_to("bob@a.test") == ["bob@a.test", "smtp::copy@e.test"]


def test_two_who_copy_each_other_are_no_loop(world):
    for one, other in (("bob", "eve"), ("eve", "bob")):
        world.row("virtual", f"{one}@a.test", f"{one}@a.test")
        world.row("virtual", f"{one}@a.test", f"{other}@a.test")
        world.user(f"{one}@a.test")
    assert world.goes_to("bob@a.test") == ["bob@a.test", "eve@a.test"]


def test_a_loop_is_told_with_its_path(world):
    world.row("virtual", "x@a.test", "y@a.test")
    world.row("virtual", "y@a.test", "z@a.test, ok@e.test")
    world.row("virtual", "z@a.test", "x@a.test")
    path = world.trouble("x@a.test").removeprefix("aliases form a loop: ")
    assert path in " -> ".join(f"{user}@a.test" for user in "xyzxyz")


def test_a_circle_that_someone_on_it_leaves_is_no_loop_from_wherever_it_is_entered(world):
    world.row("virtual", "x@a.test", "y@a.test")
    world.row("virtual", "y@a.test", "y@a.test, x@a.test")
    world.user("y@a.test")
    assert world.goes_to("x@a.test") == world.goes_to("y@a.test") == ["y@a.test"]


def test_domains_that_map_to_each_other_are_a_loop(world):
    world.row("virtual", "@a.test", "@b.test")
    world.row("virtual", "@b.test", "@a.test")
    assert world.trouble("bob@a.test").startswith("aliases form a loop")


def test_depth_and_number_are_limited(world):
    for i in range(101):
        world.row("virtual", f"n{i}@a.test", f"n{i + 1}@a.test")
    world.user("n101@a.test")
    assert "deeper than 100" in world.trouble("n0@a.test")
    assert world.goes_to("n1@a.test") == ["n101@a.test"]
    world.row("virtual", "many@a.test", ",".join(f"u{i}@e.test" for i in range(1001)))
    assert "more than 1000" in world.trouble("many@a.test")
    world.row("virtual", "full@a.test", ",".join(f"u{i}@e.test" for i in range(1000)))
    assert len(world.goes_to("full@a.test")) == 1000


def test_others_go_on_while_a_long_list_is_looked_up(world):
    world.row("virtual", "many@a.test", ",".join(f"u{i}@e.test" for i in range(640)))
    turns = []

    async def others():
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def body():
        beside = asyncio.create_task(others())
        assert len((await world.directory.resolve("many@a.test")).destinations) == 640
        beside.cancel()

    asyncio.run(body())
    assert len(turns) == 10


def test_an_alias_that_grows_its_own_extension_ends(world):
    world.row("virtual", "x@a.test", "x+y@a.test")
    assert world.trouble("x@a.test")


def test_more_rows_than_anybody_needs_are_told(world):
    world.sql.executemany(INSERTS["virtual"], [("x@a.test", "same@a.test")] * 1001)
    assert "more than 1000 rows" in world.trouble("x@a.test")


def test_relocated_is_refused_with_the_new_address_unless_unknown(world):
    world.row("relocated", "old@a.test", "new@e.test")
    world.row("relocated", "gone@a.test", "unknown")
    world.row("relocated", "odd@a.test", "a\r\n250 injected \x00é")
    assert world.refused("old+x@a.test") == "550 5.1.6 User has moved to new@e.test"
    assert world.refused("gone@a.test") == "550 5.1.6 User has moved"
    assert world.refused("odd@a.test") == "550 5.1.6 User has moved to a 250 injected"


def test_the_most_specific_row_of_relocated_comes_first_before_any_account_and_after_virtual(world):
    world.user("bob@a.test")
    for number, key in ((4, "@a.test"), (3, "bob@a.test"), (2, "bob+x@a.test")):
        world.row("relocated", key, f"n{number}@e.test")
        assert world.refused("bob+x@a.test") == f"550 5.1.6 User has moved to n{number}@e.test"
    assert world.refused("any@a.test") == "550 5.1.6 User has moved to n4@e.test"
    world.row("virtual", "bob@a.test", "copy@e.test")
    assert world.goes_to("bob@a.test") == ["smtp::copy@e.test"]


def test_an_unknown_user_of_a_hosted_domain_is_refused(world):
    world.user("off@a.test", postfix="n")
    assert world.refused("nobody@a.test") == "550 5.1.1 No such mailbox here"
    assert world.refused("off@a.test") == "550 5.1.1 No such mailbox here"


def test_a_dead_branch_of_an_alias_does_not_stop_the_others(world):
    world.row("virtual", "list@a.test", "gone@a.test, bob@a.test")
    world.user("bob@a.test")
    resolution = world.resolve("list@a.test")
    assert [failure.address for failure in resolution.failures] == ["gone@a.test"]
    assert world.goes_to("list@a.test") == ["bob@a.test"]


def test_who_may_relay_depends_on_the_address_s_own_domain(world):
    world.row("transport", "relayed.test", "relay:[10.0.0.1]")
    world.row("transport", "half.test", ":[10.0.0.1]:26")
    world.row("transport", ".sub.test", "smtp:")
    world.row("transport", "*", "smtp:[smart.test]")
    world.row("virtual", "x@foreign.test", "bob@a.test")
    world.user("bob@a.test")
    assert world.resolve("x@foreign.test").relay
    assert world.resolve("x@else.test").relay
    assert world.resolve("x@half.test").relay
    assert not world.resolve("x@relayed.test").relay
    assert not world.resolve("x@deep.sub.test").relay
    assert world.goes_to("x@else.test") == ["smtp:[smart.test]:x@else.test"]
    assert world.goes_to("x@half.test") == ["smtp:[10.0.0.1]:26:x@half.test"]
    assert world.goes_to("x@deep.sub.test") == ["smtp:deep.sub.test:x@deep.sub.test"]


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ("smtp:[h.test]:26", "smtp:[h.test]:26:U@t.test"),
        ("lmtp:unix:/run/x", "lmtp:unix:/run/x:U@t.test"),
        ("lmtp:inet:127.0.0.1:24", "lmtp:127.0.0.1:24:U@t.test"),
        ("relay", "relay:t.test:U@t.test"),
        ("discard:", "discard:U@t.test"),
        ("error:5.7.1 not today", "550 5.7.1 not today"),
        ("error:", "550 5.0.0 This address is not served"),
        ("error:4.2.0 soon", "450 4.2.0 soon"),
        ("retry:closed", "450 4.0.0 closed"),
        ("maildrop:", "pipe maildrop::U@t.test"),
        ("UUCP:hub!x", "pipe uucp:hub!x:U@t.test"),
    ],
)
def test_a_transport_row_decides(world, row, outcome):
    world.row("transport", "t.test", row)
    try:
        got = world.goes_to("U@t.test")[0]
    except (Refused, TryLater) as error:
        got = str(error.reply)
    assert got == outcome


def test_a_transport_row_for_one_user_comes_before_the_domain_s(world):
    world.row("transport", "bob@a.test", "smtp:[h.test]")
    world.user("bob@a.test")
    assert world.goes_to("bob+x@a.test") == ["smtp:[h.test]:bob+x@a.test"]
    assert not world.resolve("bob@a.test").relay


def test_the_most_specific_row_of_transport_comes_first(world):
    rows = ("bob+x@c.sub.test", "bob@c.sub.test", "c.sub.test", ".sub.test", ".test", "*")
    for number, key in reversed(list(enumerate(rows))):
        world.row("transport", key, f"smtp:[h{number}]")
        assert world.goes_to("bob+x@c.sub.test") == [f"smtp:[h{number}]:bob+x@c.sub.test"]
    # A row for what is below a domain is not for the domain.
    assert world.goes_to("bob@sub.test") == ["smtp:[h4]:bob@sub.test"]


@pytest.mark.parametrize(
    ("value", "hosted"),
    [
        ("local:", True),
        ("virtual:", True),
        ("maildrop:", True),
        ("uucp:hub", True),
        ("smtp:[h]", False),
        ("relay:", False),
        ("lmtp:unix:/run/x", False),
        ("error:no", False),
        ("retry:", False),
        ("discard:", False),
        (":[h]", False),
    ],
)
def test_a_domain_is_hosted_where_its_mail_ends_here(world, value, hosted):
    world.row("transport", "t.test", value)
    world.row("transport", "*", "virtual:")
    assert asyncio.run(world.directory.is_hosted("T.test")) is hosted
    assert not asyncio.run(world.directory.is_hosted("e.test"))
    assert asyncio.run(world.directory.is_hosted("mx.host.test"))


def test_a_bare_row_in_virtual_hosts_a_domain_past_the_wildcard(world):
    world.row("virtual", "bare.test", "anything")
    world.row("transport", "*", "smtp:[smart.test]")
    world.user("bob@bare.test")
    assert world.goes_to("bob@bare.test") == ["bob@bare.test"]
    assert asyncio.run(world.directory.is_hosted("Bare.test"))
    assert not asyncio.run(world.directory.is_hosted("e.test"))


def test_the_host_s_own_name_is_local_whatever_transport_says(world):
    world.row("transport", "mx.host.test", "smtp:[else]")
    world.row("alias", "root", "bob@a.test, ops")
    world.row("alias", "ops", "root@else.test")
    world.row("virtual", "web", "bob@a.test")
    world.user("bob@a.test")
    assert world.goes_to("root@mx.host.test") == ["bob@a.test", "smtp::root@else.test"]
    assert world.goes_to("web@localhost") == ["bob@a.test"]
    assert world.refused("none@mx.host.test") == "550 5.1.1 No such mailbox here"


def test_a_local_alias_leads_to_files_commands_and_lists(world):
    world.host.files["/etc/staff"] = "# all of us\n\nbob@a.test, Far@Else.test\n  ops@mx.host.test\n"
    world.row("alias", "ops", '/var/log/ops, "|prog -a \\"x, y\\"", |other, "/var/my mail", "a, b"@else.test')
    world.row("alias", "staff", ":include:/etc/staff")
    world.user("bob@a.test")
    ops = [
        "file /var/log/ops",
        'command prog -a "x, y"',
        "command other",
        "file /var/my mail",
        'smtp::"a, b"@else.test',
    ]
    assert world.goes_to("ops@mx.host.test") == ops
    assert world.goes_to("staff@localhost") == ["bob@a.test", "smtp::Far@else.test", *ops]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("bob@a.test\n|rm -r", "'|rm -r', which is not an address"),
        (":include:/b", "not an address"),
        ("\ufffd@a.test", "not UTF-8"),
        ("# nobody any more\n", "has nobody on it"),
        ("a b@c", "no usable destination"),
    ],
)
def test_a_list_that_can_t_be_used_is_our_trouble_and_named(world, content, said):
    if content is not None:
        world.host.files["/list"] = content
    world.row("alias", "staff", ":include:/list")
    assert said in world.trouble("staff@localhost")
    assert "alias row staff (id 1)" in world.trouble("staff@localhost")


def test_what_a_list_expands_to_comes_from_its_owner(world):
    world.row("alias", "staff", "bob@a.test, far@else.test, inner, /var/archive, maildrop@pipe.test")
    world.row("alias", "owner-staff", "carol")
    world.row("alias", "inner", "in@else.test, ops")
    world.row("alias", "owner-inner", "bob@a.test")
    world.row("alias", "ops", "ops@else.test")
    world.row("transport", "pipe.test", "maildrop:")
    world.user("bob@a.test")
    owner, inner = "owner-staff@mx.host.test", "owner-inner@mx.host.test"
    assert world.goes_to("staff@mx.host.test") == [
        f"file /var/archive from {owner}",
        f"bob@a.test from {owner}",
        f"smtp::far@else.test from {owner}",
        f"smtp::in@else.test from {inner}",
        f"smtp::ops@else.test from {inner}",
        f"pipe maildrop::maildrop@pipe.test from {owner}",
    ]
    assert world.goes_to("ops@mx.host.test") == ["smtp::ops@else.test"]


def test_a_unix_user_of_this_host_comes_last(world):
    assert world.goes_to("Carol+x@localhost") == ["unix carol 1000 /home/carol"]
    assert world.refused("daemon@mx.host.test") == "550 5.1.1 No such mailbox here"
    assert world.refused("carol@a.test") == "550 5.1.1 No such mailbox here"
    world.user("carol@mx.host.test")
    assert world.goes_to("carol@mx.host.test") == ["carol@mx.host.test"]
    world.row("alias", "carol", "carol, copy@else.test")
    assert world.goes_to("carol@mx.host.test") == ["carol@mx.host.test", "smtp::copy@else.test"]


def test_a_local_transport_for_another_domain_asks_the_same_aliases(world):
    world.row("transport", "c.test", "local:")
    world.row("alias", "ops", "far@else.test")
    assert world.goes_to("ops+x@c.test") == ["smtp::far@else.test"]
    assert world.goes_to("carol@c.test") == ["unix carol 1000 /home/carol"]


def test_who_moved_is_found_by_the_bare_name_only_in_the_host_s_own_domain(world):
    world.row("relocated", "gone", "new@else.test")
    assert world.refused("gone+x@mx.host.test") == "550 5.1.6 User has moved to new@else.test"
    assert world.refused("gone@a.test") == "550 5.1.1 No such mailbox here"


def test_a_disabled_domain_takes_no_mail_whatever_its_rows_say(world):
    world.user("bob@a.test")
    world.user("eve@b.test")
    world.row("virtual", "both@b.test", "bob@a.test, eve@b.test")
    world.row("virtual", "out@a.test", "x@else.test")
    world.disable("a.test")
    for address in ("bob@a.test", "out@a.test", "nobody@a.test", "postmaster@a.test"):
        assert world.refused(address) == "550 5.2.1 This domain is disabled"
    resolution = world.resolve("both@b.test")
    assert [failure.address for failure in resolution.failures] == ["bob@a.test"]
    assert world.goes_to("both@b.test") == ["eve@b.test"]


def test_an_mbox_account_is_resolved_like_any_other(world):
    world.user("bob@a.test", maildir="a.test/bob")
    assert world.goes_to("bob@a.test") == ["bob@a.test"]


def test_two_accounts_with_one_address_are_nobody_s_mailbox(world):
    world.user("bob@a.test", maildir="a.test/one/")
    world.user("Bob@a.test", maildir="a.test/two/")
    assert "2 accounts have this address" in world.trouble("bob@a.test")
    assert "id 1, 2" in world.trouble("bob@a.test")
    world.sql.execute("UPDATE users SET postfix = 'n' WHERE email = 'Bob@a.test'")
    world.directory._drop()
    assert world.resolve("bob@a.test").destinations[0].account.maildir == "a.test/one/"


@pytest.mark.parametrize("value", [None, "", " , ,"])
def test_a_row_that_leads_nowhere_is_our_trouble_not_a_refusal(world, value):
    world.row("virtual", "bob@a.test", value)
    world.row("alias", "ops", value)
    assert world.trouble("bob@a.test") == "virtual row bob@a.test (id 1): has no destination"
    assert world.trouble("ops@localhost") == "alias row ops (id 1): has no destination"


def test_text_in_another_character_set_than_it_claims_is_our_trouble(world):
    broken = "r\u00e9mi@a.test".encode("latin-1")
    world.sql.execute("INSERT INTO virtual (email, destination) VALUES ('bob@a.test', CAST(? AS TEXT))", (broken,))
    world.sql.execute("INSERT INTO users (email, maildir) VALUES ('eve@a.test', CAST(? AS TEXT))", (broken + b"/",))
    assert "character set" in world.trouble("bob@a.test")
    assert "character set" in world.trouble("eve@a.test")


def test_local_aliases_loop_like_others(world):
    world.row("alias", "one", "two")
    world.row("alias", "two", "one@mx.host.test")
    assert world.trouble("one@localhost").startswith("aliases form a loop")


def test_postmaster_is_the_host_s_where_a_domain_has_none(world):
    """RFC 5321 §4.5.1."""
    assert world.refused("postmaster@a.test").startswith("550 5.1.1")
    world.row("alias", "postmaster", "boss@b.test")
    world.user("boss@b.test")
    assert world.goes_to("Postmaster@a.test") == ["boss@b.test"]
    assert world.goes_to("postmaster") == ["boss@b.test"]
    world.user("postmaster@a.test")
    world.directory._drop()
    assert world.goes_to("postmaster@a.test") == ["postmaster@a.test"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"uid": 0}, "below the minimum"),
        ({"gid": 5}, "below the minimum"),
        ({"uid": "root"}, "below the minimum"),
        ({"uid": None}, "below the minimum"),
        ({"maildir": "../../etc/"}, "not a path below the mail root"),
        ({"maildir": "/etc/"}, "not a path below the mail root"),
        ({"maildir": ""}, "not a path below the mail root"),
        ({"maildir": "a/\0/"}, "not a path below the mail root"),
    ],
)
def test_an_account_that_is_not_safe_to_deliver_to_is_our_trouble(world, columns, said):
    world.user("bob@a.test", **columns)
    assert said in world.trouble("bob@a.test")


@pytest.mark.parametrize("value", [None, "", " , ,", b"\xff\xfe", 5, "no at", "a@b@c", "x" * 5000, "@", "a b@c d"])
@pytest.mark.parametrize("table", ["virtual", "relocated", "transport", "alias"])
def test_hostile_rows_never_raise_anything_but_our_errors(world, table, value):
    key = {"transport": "t.test", "alias": "bob"}.get(table, "bob@a.test")
    world.row(table, key, value)
    for address in ("bob@a.test", "bob@t.test", "bob@mx.host.test", "bob+x@a.test"):
        try:
            said = str(world.resolve(address).destinations[0].address)
        except (Refused, TryLater) as error:
            said = str(error.reply)
        assert said.isprintable()


@pytest.mark.parametrize(
    "address", ["", "@", "@a.test", "a@", "\ud800@a.test", "x" * 10_000, "'; DROP--@a.test", "%@a.test"]
)
def test_hostile_addresses_never_raise_anything_but_our_errors(world, address):
    with pytest.raises((Refused, TryLater)):
        world.resolve(address + ("@a.test" if "@" not in address else ""))


def test_explain_tells_every_step_and_the_error(world):
    world.row("virtual", "sales@a.test", "bob@a.test")
    world.user("bob@a.test")
    explained = asyncio.run(world.directory.explain("sales@a.test"))
    assert [(step.number, step.table) for step in explained.steps] == [
        (1, "virtual"),
        (1, "virtual"),
        (2, "relocated"),
        (3, "transport"),
        (4, "users"),
    ]
    assert explained.error is None
    failed = asyncio.run(world.directory.explain("nobody@a.test"))
    assert failed.resolution is None
    assert failed.steps[-1].number == 6
