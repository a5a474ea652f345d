"""A connection as logging in sees it."""

from posthouse.protocols.sasl.peer import Peer
from posthouse.runtime.connection import Connection


def peer(connection: Connection, protocol: str) -> Peer:
    """Who is at the other end now; another once TLS has begun."""
    return Peer(
        protocol,
        connection.peer,
        connection.is_tls,
        connection.channel_bindings,
        connection.certificate_emails,
    )


def is_sasl(mechanism: str) -> bool:
    """APOP is configured like a mechanism, but is POP3's alone and never announced as one."""
    return mechanism != "APOP"
