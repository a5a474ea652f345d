"""Relayhosts, which take mail for elsewhere: whose, how they are talked to, and logging in there (RFC 4954).

Invariants:
  1. A password leaves only through TLS, or to this very machine.
  2. Trouble with the login is ours: mail waits, and is not returned.
"""

import ipaddress
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from posthouse.base.errors import Reply
from posthouse.config.relays import RelayHost
from posthouse.message.address import lookup_key, split, split_extension
from posthouse.outbound.routing import Target
from posthouse.outbound.security import Security
from posthouse.outbound.session import HostUnavailableError, Session
from posthouse.protocols.sasl import client as sasl

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN")
"""Best first."""


@dataclass(frozen=True, slots=True)
class Relay:
    """``destination`` as in ``smtp.relayhost``; ``tls`` verifies its certificate, wherever ``user`` logs in.

    ``setting`` is where the configuration has it. ``route``: the destination of routes that lead here; two logins at
    one host are two routes, with sessions of their own.
    """

    destination: str
    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None
    setting: str = "relayhost"
    route: str = ""

    def security(self, target: Target, domain: str) -> Security | None:
        """What this relayhost, found at ``target`` for ``domain``, needs beyond what any host does."""
        if not self.user or _is_loopback(target.address):
            return None
        if target.is_mx_secure or f".{target.host}".endswith(f".{domain}"):
            return Security("verified", f"{self.user} logs in there", self.tls, target.host)
        # Anybody may have made that MX record, and have a certificate for the name in it.
        why = f"{self.user} logs in there, and no DNSSEC says that it is a host of {domain}"
        return Security("verified", why, self.tls, domain)

    async def log_in(self, session: Session, target: Target) -> None:
        """Raises ``HostUnavailableError``."""
        if not self.user:
            return
        if not session.is_tls and not _is_loopback(target.address):
            raise _unavailable(target, "it offers no TLS, and the password does not go in clear")
        name = next((name for name in MECHANISMS if name in session.mechanisms), "")
        mechanism = sasl.mechanism(name, self.user, self.password, nonce=secrets.token_bytes(18))
        if mechanism is None:
            offered = " ".join(session.mechanisms) or "none"
            raise _unavailable(target, f"it offers none of {' '.join(MECHANISMS)}, but {offered}")
        reply = await session.authenticate(name, mechanism)
        if not reply.is_success:
            raise _unavailable(target, f"it refuses the login of {self.user}: {reply}")


class SenderRelays:
    """Which relayhost a sender's mail goes to."""

    def __init__(self, relays: Mapping[str, RelayHost], recipient_delimiter: str) -> None:
        self._routes = {lookup_key(sender): relay.route for relay in relays.values() for sender in relay.senders}
        self._delimiter = recipient_delimiter

    def route(self, sender: str) -> str:
        """The ``Relay.route`` for that envelope sender; empty where it has no relayhost of its own."""
        if not self._routes or not sender:
            return ""
        local, domain = split(lookup_key(sender))
        user, _ = split_extension(local, self._delimiter)
        keys = (f"{local}@{domain}", f"{user}@{domain}", f"@{domain}")
        return next((self._routes[key] for key in keys if key in self._routes), "")


def _unavailable(target: Target, reason: str) -> HostUnavailableError:
    """Status 4.7.0: something about security, and not the recipient's affair. RFC 3463 §3.8."""
    return HostUnavailableError(Reply(451, "4.7.0", f"Cannot log in at the relayhost {target.host}: {reason}"))


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
