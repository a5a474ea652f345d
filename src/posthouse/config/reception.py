"""The settings of what mail has to go through before it is taken in: rates, weighted DNS lists, the greylist."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rates:
    """How much a client may hand in, by SMTP and submission, over all workers; its network (/24, or /48) may do five
    times as much. 0: no limit."""

    connections_per_minute: int = 600
    """Most new connections of a client in a minute."""
    messages_per_minute: int = 1200
    """Most messages of a client, or of a login, in a minute."""
    recipients_per_minute: int = 12_000
    """The same for recipients."""
    sessions_per_client: int = 100
    """Most simultaneous sessions of a client."""
    sessions: int = 10_000
    """Most simultaneous sessions in all, but for those from ``exempt_networks``."""
    exempt_networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose hosts are not counted."""


@dataclass(frozen=True, slots=True)
class DnsListSites:
    """DNS lists whose weights are summed up, for the restriction ``reject_dnslists``."""

    sites: tuple[str, ...] = ()
    """Lists with weights, as in ``zen.example=127.0.0.[2..11]*3`` or ``allowed.example*-4``."""
    threshold: int = 1
    """The sum from which on a client is refused."""
    timeout_seconds: int = 4
    """How long any DNS list is waited for; who doesn't answer lists nobody."""


@dataclass(frozen=True, slots=True)
class Verify:
    """The restrictions ``reject_unverified_recipient`` and ``reject_unverified_sender``: whether the address's own
    server takes mail for it, as Postfix's ``address_verify_*``."""

    wait_seconds: int = 9
    """How long a client waits for the answer; then it has to come again."""
    positive_expire_seconds: int = 2_678_400
    """How long it is remembered that an address is good."""
    positive_refresh_seconds: int = 604_800
    """After this it is asked for again, while the old answer still counts."""
    negative_expire_seconds: int = 259_200
    """The same for an address that its server refuses."""
    negative_refresh_seconds: int = 10_800
    """After this it is asked for again."""


@dataclass(frozen=True, slots=True)
class Greylist:
    """The restriction ``check_greylist``: what comes for the first time has to come again."""

    wait_seconds: int = 300
    """How long before it may."""
    retry_seconds: int = 172_800
    """Who hasn't come again by then begins anew."""
    known_after: int = 5
    """A client's network that has come again with so many messages need not wait any more; 0: always."""
    keep_days: int = 35
    """How long what has come again is remembered since it was last seen."""
