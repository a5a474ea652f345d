"""Who is at the other end, as far as logging in cares."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Peer:
    """A client. ``protocol`` is ``smtp``, ``imap``, ``pop3`` or ``web``, ``address`` an IP address or ``unix``.

    ``channel_bindings``: the types that its TLS connection has, with their data (RFC 5056, RFC 5929).
    ``certificate_emails``: the addresses in a client certificate that was verified. ``is_tls`` is also true where a
    program that we trust says that the connection it has is.
    """

    protocol: str
    address: str
    is_tls: bool = False
    channel_bindings: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    certificate_emails: tuple[str, ...] = ()
