"""XCLIENT: a trusted proxy says who its client is (Postfix's XCLIENT_README).

An attribute whose value is ``[UNAVAILABLE]`` or ``[TEMPUNAVAIL]`` is as good as not given.
"""

from ipaddress import ip_address

from posthouse.base.errors import PeerError, Reply
from posthouse.protocols.smtp.events import XClient
from posthouse.protocols.smtp.xtext import decode

ATTRIBUTES = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT")
BAD = Reply(501, "5.5.4", "Bad XCLIENT attribute")


def parse_xclient(argument: bytes) -> XClient:
    """Read the command's argument. Raises ``PeerError``."""
    given: dict[str, str] = {}
    for word in argument.split():
        name, equals, value = word.decode("ascii", "replace").partition("=")
        if name.upper() not in ATTRIBUTES or not equals:
            raise PeerError(BAD)
        try:
            text = decode(value.encode())
        except ValueError:
            raise PeerError(BAD) from None
        is_there = text.upper() not in ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
        given[name.upper()] = text if is_there and text.isprintable() else ""
    if not given:
        raise PeerError(BAD)
    address = given.get("ADDR")
    if address:
        try:
            address = str(ip_address(address.removeprefix("IPV6:").removeprefix("IPv6:")))
        except ValueError:
            raise PeerError(BAD) from None
    return XClient(address or "", given.get("NAME"), given.get("HELO", ""), given.get("LOGIN"))
