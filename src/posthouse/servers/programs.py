"""Other programs that log their own clients in by asking us: what their word for a client is worth.

They are of this host, and are believed: what service it is for, what address the client has, that it has TLS.
"""

from ipaddress import IPv6Address, ip_address

from posthouse.protocols.sasl.peer import Peer

PROTOCOLS = {
    "smtp": "smtp",
    "smtps": "smtp",
    "submission": "smtp",
    "submissions": "smtp",
    "imap": "imap",
    "imaps": "imap",
    "sieve": "imap",
    "pop": "pop3",
    "pop3": "pop3",
    "pop3s": "pop3",
}
"""What a service is to us; whoever may use the protocol with an app password may use the service with it."""
OTHER = "other"
"""What any other service is, ``ssh`` for one: no app password is for it."""


def peer(service: str, address: str, *, is_tls: bool) -> Peer:
    """The client of another program. Where its address is none, it has none: it is trusted by no network."""
    return Peer(PROTOCOLS.get(service.lower(), OTHER), ip_text(address), is_tls)


def ip_text(text: str) -> str:
    """An IP address in its usual form, IPv4 out of its IPv6 mapping; empty where ``text`` is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
