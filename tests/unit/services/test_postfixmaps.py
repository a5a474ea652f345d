"""Postfix's maps: what each has for a key, in the resolver's order."""

import asyncio
from dataclasses import replace

import pytest

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.config.endpoints import POSTFIX_MAPS
from posthouse.config.settings import Settings, Smtp
from posthouse.directory.model import Account, Resolution, ToHost, ToMailbox
from posthouse.services.postfixmaps import PostfixMaps, UnknownMapError

SETTINGS = Settings(hostname="mail.example.test")
ALICE = Account("Alice@example.test", "", 1001, 1002, "", "example.test/alice/", "", True)


class Directory:
    """Rows in memory."""

    def __init__(self, *accounts: Account, **tables: dict[str, tuple[str, ...]]) -> None:
        self.accounts = {account.email.lower(): account for account in accounts}
        self.tables = tables
        self.resolutions: dict[str, Resolution] | None = None
        self.grants: dict[str, tuple[str, ...]] = {}

    async def lookup(self, table: str, key: str) -> tuple[str, ...] | None:
        return self.tables.get(table, {}).get(key)

    async def account(self, email: str) -> Account | None:
        return self.accounts.get(email)

    async def granted(self, sender: str) -> tuple[str, ...]:
        return self.grants.get(sender, ())

    async def resolve(self, address: str) -> Resolution:
        if self.resolutions is None:
            return Resolution(())
        if address not in self.resolutions:
            raise Refused(Reply(550, "5.1.1", "No such mailbox here"))
        return self.resolutions[address]


def look_up(directory: Directory, name: str, key: str, settings: Settings = SETTINGS) -> str | None:
    return asyncio.run(PostfixMaps(directory, settings).look_up(name, key))


VIRTUAL = {
    "team@example.test": ("alice@example.test, bob@example.test", "bob@example.test,carol@example.org"),
    "alice+lists@example.test": ("archive@example.test",),
    "info@example.test": ("alice@example.test", '"a b"@example.test', "@example.org"),
    "@example.test": ("postmaster@example.test",),
    "@old.test": ("@example.test",),
    "root": ("alice@example.test",),
    "example.test": ("anything",),
    "empty@example.test": ("", " , "),
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("team@example.test", "alice@example.test, bob@example.test, carol@example.org"),
        ("Team@EXAMPLE.test", "alice@example.test, bob@example.test, carol@example.org"),
        ("alice+lists@example.test", "archive@example.test"),
        ("info+x@example.test", 'alice+x@example.test, "a b"@example.test, info+x@example.org'),
        ("anybody+x@example.test", "postmaster@example.test"),
        ("empty@example.test", "postmaster@example.test"),
        ("bob+x@old.test", "bob+x@example.test"),
        ("root@mail.example.test", "alice@example.test"),
        ("nobody@example.org", None),
    ],
)
def test_an_address_leads_where_the_resolver_has_it(key, value):
    assert look_up(Directory(virtual=VIRTUAL), "virtual", key) == value


@pytest.mark.parametrize("key", ["@example.test", "example.test", "root", "", "*", "x" * 10_000, "a\0@b", "\udcff@b"])
def test_what_is_no_address_is_not_in_virtual(key):
    """Postfix looks for domains there, and a program that asks for parts would find the catch-all first."""
    assert look_up(Directory(virtual={**VIRTUAL, key.lower(): ("x",)}), "virtual", key) is None


def test_an_account_wins_over_the_catch_all_of_its_domain_unless_configured():
    directory = Directory(ALICE, virtual=VIRTUAL)
    assert look_up(directory, "virtual", "alice+x@example.test") is None
    before = replace(SETTINGS, smtp=Smtp(catchall="before-accounts"))
    assert look_up(directory, "virtual", "alice@example.test", before) == "postmaster@example.test"
    disabled = Directory(replace(ALICE, enabled=False), virtual=VIRTUAL)
    assert look_up(disabled, "virtual", "alice@example.test") == "postmaster@example.test"


def test_an_account_is_its_mailbox_and_its_owner():
    directory = Directory(ALICE)
    answers = [look_up(directory, name, "Alice+x@example.test") for name in ("mailbox", "uid", "gid")]
    assert answers == ["example.test/alice/", "1001", "1002"]
    assert look_up(Directory(replace(ALICE, enabled=False)), "mailbox", "alice@example.test") is None


@pytest.mark.parametrize(("name", "key"), [("virtual", "team@example.test"), ("mailbox", "alice@example.test")])
def test_what_the_resolver_refuses_is_not_found(name, key):
    """An alias that leads nowhere, a domain that is turned off: else Postfix would take the mail and return it."""
    directory = Directory(ALICE, virtual=VIRTUAL, domains={"example.test": ("virtual:",)})
    assert look_up(directory, name, key) is not None
    directory.resolutions = {}
    assert look_up(directory, name, key) is None


def test_an_alias_at_a_domain_that_is_elsewhere_is_found_wherever_it_leads():
    """Else the mail would go there, past the alias."""
    directory = Directory(virtual=VIRTUAL)
    directory.resolutions = {}
    assert look_up(directory, "virtual", "bob@old.test") == "bob@example.test"


def test_mail_for_a_hosted_domains_postmaster_is_the_hosts():
    """RFC 5321 §4.5.1."""
    name = "postmaster@example.test"
    directory = Directory(domains={"example.test": ("virtual:",)})
    assert look_up(directory, "virtual", name) == "postmaster@mail.example.test"
    assert look_up(directory, "virtual", "postmaster@elsewhere.test") is None
    own = Directory(replace(ALICE, email=name), domains={"example.test": ("virtual:",)})
    assert look_up(own, "virtual", name) is None


def test_relocated_has_a_text_for_the_reply():
    rows = {"a@example.test": ("b@example.org", "c@example.org"), "@gone.test": ("",), "x": ("y",)}
    directory = Directory(relocated=rows)
    assert look_up(directory, "relocated", "a+x@example.test") == "b@example.org"
    assert look_up(directory, "relocated", "any@gone.test") == "unknown"
    assert look_up(directory, "relocated", "x@mail.example.test") == "y"
    assert look_up(directory, "relocated", "@gone.test") is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("a@example.test", "virtual:"),
        ("a+x@example.test", "error:5.1.1 gone"),
        ("a@sub.example.org", "relay:[192.0.2.1]"),
        ("a@example.net", ":"),
        ("a@elsewhere.test", "smtp:[192.0.2.2]"),
        ("a@bare.test", None),
        ("a@mail.example.test", None),
        ("example.test", "virtual:"),
        ("elsewhere.test", None),
        ("*", None),
    ],
)
def test_transport_is_the_most_specific_row(key, value):
    """The row for everything is for no domain that is hosted here, and Postfix isn't told of it by itself."""
    rows = {
        "a+x@example.test": ("error:5.1.1 gone",),
        "example.test": (" virtual: ", "second"),
        ".example.org": ("relay:[192.0.2.1]",),
        "example.net": ("",),
        "mail.example.test": ("smtp:elsewhere",),
        "*": ("smtp:[192.0.2.2]",),
    }
    domains = {"example.test": ("virtual",), "bare.test": ("virtual",)}
    assert look_up(Directory(transport=rows, domains=domains), "transport", key) == value


def test_domains_are_those_that_are_hosted_but_for_the_hosts_own():
    directory = Directory(domains={"example.test": ("virtual",), "mail.example.test": ("local",)})
    keys = ("Example.test", "mail.example.test", "example.org", "a@example.test")
    assert [look_up(directory, "domains", key) for key in keys] == ["virtual", None, None, None]


def test_aliases_are_for_the_host_alone():
    directory = Directory(alias={"root": ("alice@example.test", "bob@example.test")})
    keys = ("root", "Root+x@mail.example.test", "root@example.test")
    assert [look_up(directory, "alias", key) for key in keys] == ["alice@example.test, bob@example.test"] * 2 + [None]


def test_senders_are_the_account_and_those_who_get_its_mail_or_were_granted_it():
    bob = replace(ALICE, email="bob@example.test")
    directory = Directory(ALICE, bob)
    directory.resolutions = {
        "team@example.test": Resolution((ToMailbox("", ALICE), ToMailbox("", bob), ToHost("x@y", "smtp", ""))),
        "x@example.org": Resolution((ToMailbox("", ALICE),), relay=True),
    }
    keys = ("alice@example.test", "team@example.test", "x@example.org", "nobody@example.test", "example.test")
    assert [look_up(directory, "senders", key) for key in keys] == [
        "alice@example.test", "alice@example.test, bob@example.test", None, None, None,
    ]  # fmt: skip
    directory.grants = {
        "news@example.org": ("bob@example.test",),
        "team@example.test": ("bob@example.test", "c@d.test"),
    }
    assert look_up(directory, "senders", "News@example.org") == "bob@example.test"
    assert look_up(directory, "senders", "team@example.test") == "alice@example.test, bob@example.test, c@d.test"


def test_a_map_that_does_not_exist_is_an_error_and_the_settings_name_those_that_do():
    with pytest.raises(UnknownMapError, match="there are alias, domains"):
        look_up(Directory(), "clear", "alice@example.test")
    assert tuple(sorted(PostfixMaps._MAPS)) == POSTFIX_MAPS


def test_a_database_in_trouble_is_never_nothing():
    class Trouble(Directory):
        async def lookup(self, table: str, key: str) -> tuple[str, ...] | None:
            raise TryLater("no database")

    for name in ("virtual", "relocated", "transport", "domains", "alias"):
        with pytest.raises(TryLater):
            look_up(
                Trouble(), name, "alias" if name == "alias" else "example.org" if name == "domains" else "a@b.test"
            )
