"""The relayhost that takes all our mail: how it is talked to, and logging in there (RFC 4954).

Invariants:
  1. A password leaves only through TLS, or to this very machine.
  2. Trouble with the login is ours: mail waits, and is not returned.
"""

import ipaddress
import secrets
import ssl
from dataclasses import dataclass

from posthouse.base.errors import Reply
from posthouse.outbound.routing import Target
from posthouse.outbound.security import Security
from posthouse.outbound.session import HostUnavailableError, Session
from posthouse.protocols.sasl import client as sasl

MECHANISMS = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN")
"""Best first."""


@dataclass(frozen=True, slots=True)
class Relay:
    """``destination`` as in ``smtp.relayhost``; ``tls`` verifies its certificate, wherever ``user`` logs in."""

    destination: str
    user: str = ""
    password: str = ""
    tls: ssl.SSLContext | None = None

    def security(self, target: Target) -> Security | None:
        """What this relayhost needs beyond what any host does."""
        if not self.user or _is_loopback(target.address):
            return None
        return Security("verified", "smtp.relayhost_user logs in there", self.tls, target.host)

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


def _unavailable(target: Target, reason: str) -> HostUnavailableError:
    """Status 4.7.0: something about security, and not the recipient's affair. RFC 3463 §3.8."""
    return HostUnavailableError(Reply(451, "4.7.0", f"Cannot log in at the relayhost {target.host}: {reason}"))


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
