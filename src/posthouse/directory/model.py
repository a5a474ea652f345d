"""What the directory knows and decides, as plain values.

Addresses here are look-up keys (lower case, ASCII domain), but for ``ToHost``, whose local part stays as given.
"""

from dataclasses import dataclass, field
from typing import Literal

from posthouse.base.errors import PosthouseError, Reply

MapName = Literal["virtual", "relocated", "transport", "alias", "users", "domains"]
"""What other programs may look up: the five tables, and ``domains``: what hosts a domain."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes something: ``cli:root``, an account. ``source`` is where from: ``cli``, an IP address.

    ``domains`` is what it may administer; None is everything.
    """

    name: str
    source: str = "cli"
    domains: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A row of ``users``. ``maildir`` is relative to the mail root and ends in ``/`` (otherwise: an mbox file)."""

    email: str
    name: str
    uid: int
    gid: int
    homedir: str
    maildir: str
    quota: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class AppPassword:
    """A further password of an account, for one program; ``scopes`` are of ``imap``, ``pop3``, ``smtp``, ``web``."""

    id: int
    name: str
    scopes: frozenset[str]
    hash: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredCredentials:
    """What a login can be checked against; each of the three may be empty.

    ``enabled`` is False too where the account's domain is disabled.
    """

    email: str
    clear: str = field(repr=False)
    scram_sha256: str = field(repr=False)
    argon2id: str = field(repr=False)
    enabled: bool
    app_passwords: tuple[AppPassword, ...] = ()


@dataclass(frozen=True, slots=True)
class SendingLimits:
    """How much may be sent in an hour and in a day. None: as it is one step further out; 0: no limit.

    ``new_recipients`` are addresses that a login has not written to before. ``over_limit``: ``refuse``, ``hold``, or
    empty as None.
    """

    messages_per_hour: int | None = None
    messages_per_day: int | None = None
    recipients_per_hour: int | None = None
    recipients_per_day: int | None = None
    bytes_per_hour: int | None = None
    bytes_per_day: int | None = None
    new_recipients_per_hour: int | None = None
    new_recipients_per_day: int | None = None
    over_limit: str = ""


@dataclass(frozen=True, slots=True)
class ToMailbox:
    """Into an account of this host. ``address`` still has its extension.

    ``owner``, here and below: who the message comes from for this destination, in place of its sender; set where a
    local alias with an owner leads here.
    """

    address: str
    account: Account
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ToHost:
    """To another host or program, by way of the queue.

    ``transport`` is ``smtp``, ``relay`` or ``lmtp``. ``nexthop`` is ``host``, ``host:port`` or ``[host]:port``
    (brackets: no MX look-up), for lmtp also ``unix:/path``; empty where no row says so: ``relayhost``, or by MX.
    """

    address: str
    transport: str
    nexthop: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ToPipe:
    """To a pipe transport of that name, as ``maildrop``; ``nexthop`` is for its arguments."""

    address: str
    transport: str
    nexthop: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ToFile:
    """To the end of a file, as a local alias says."""

    address: str
    path: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ToCommand:
    """Into a command, as a local alias says."""

    address: str
    command: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class ToUnixUser:
    """To a Unix user of this host."""

    address: str
    name: str
    uid: int
    gid: int
    homedir: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Discard:
    """Accepted and thrown away, as its transport row says."""

    address: str


Destination = ToMailbox | ToHost | ToPipe | ToFile | ToCommand | ToUnixUser | Discard


@dataclass(frozen=True, slots=True)
class Failure:
    """One of several addresses that a recipient expands to, and why nothing can be delivered to it."""

    address: str
    reply: Reply
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """Where mail for an address goes: at least one destination.

    ``relay``: the address's own domain is neither hosted here nor handed on by a transport row of its own, so
    the sender needs permission to relay. ``failures`` are the branches of an alias that lead nowhere; when all
    of them do, there is no resolution but the first failure, raised.
    """

    destinations: tuple[Destination, ...]
    relay: bool = False
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked up on the way: the resolution step's number, its table, and what came of it."""

    number: int
    table: str
    address: str
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A resolution with its steps: ``resolution`` or ``error``, never both."""

    steps: tuple[Step, ...]
    resolution: Resolution | None
    error: PosthouseError | None
