"""The trace fields that we put in front of a message (RFC 5321 §4.4).

Invariants:
  1. Whatever the peer said stays within its place in the field: no control character, blank or parenthesis of its
     making comes through.
  2. Lines are folded at 78 octets wherever a word allows it, and end with CRLF.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from ipaddress import ip_address

from posthouse.message.dates import format_date
from posthouse.message.headers import fold, printable

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9._:\[\]+/=-]")
_LONGEST_NAME = 255


def with_protocol(verb: str, *, tls: bool = False, auth: bool = False, utf8: bool = False) -> str:
    """The name after ``with`` for a session opened by ``HELO``, ``EHLO`` or ``LHLO`` (RFC 3848, RFC 6531 §4.3)."""
    verb = verb.upper()
    if verb == "HELO":
        return "SMTP"
    base = "LMTP" if verb == "LHLO" else "ESMTP"
    if utf8:
        base = "UTF8LMTP" if base == "LMTP" else "UTF8SMTP"
    return base + ("S" if tls else "") + ("A" if auth else "")


def received_header(
    *,
    hello: str = "",
    peer: str | None = None,
    peer_name: str = "",
    hostname: str,
    protocol: str,
    trace_id: str,
    date: datetime,
    recipients: Sequence[str] = (),
    tls: str = "",
) -> bytes:
    """The Received field of a message that we take in.

    ``hello``: the name in HELO, EHLO or LHLO. ``peer``: its IP address, or ``unix``; None: nobody is to learn where
    the message comes from. ``peer_name``: its verified name in the DNS, or empty. ``protocol``: as ``with_protocol``
    has it. ``tls``: version and cipher, or empty. The recipient is named only where it is the only one, so that
    nobody learns of a blind copy (RFC 5321 §7.6).
    """
    words = list(_hops(hello, peer, peer_name, hostname, protocol, tls))
    words.append(f"id {_name(trace_id)}")
    recipient = recipients[0] if len(recipients) == 1 else ""
    if recipient and (recipient.isascii() or protocol.startswith("UTF8")):
        words.append(f"for <{printable(recipient, utf8=True)}>")
    words[-1] += ";"
    return fold("Received", [*words, format_date(date)]).encode()


@lru_cache(maxsize=1024)
def _hops(hello: str, peer: str | None, peer_name: str, hostname: str, protocol: str, tls: str) -> tuple[str, ...]:
    """What stays the same from one message of a client to the next."""
    words: list[str] = []
    if peer is not None:
        seen = f"{_name(peer_name)} {_peer(peer)}" if peer_name else _peer(peer)
        words = [f"from {_name(hello)}", f"({seen})"]
    words += [f"by {_name(hostname)}", f"with {_name(protocol)}"]
    if tls:
        words.append(f"(using {printable(tls).translate(_NO_PARENTHESES)})")
    return tuple(words)


_NO_PARENTHESES = str.maketrans("()\\", "???")


def return_path(sender: str) -> bytes:
    """The Return-Path field, which final delivery puts first."""
    return f"Return-Path: <{printable(sender, utf8=True)}>\r\n".encode()


def delivered_to(address: str) -> bytes:
    """The Delivered-To field, by which forwarding loops are found."""
    return f"Delivered-To: {printable(address, utf8=True)}\r\n".encode()


def _name(name: str) -> str:
    return _NOT_IN_NAME.sub("?", name[:_LONGEST_NAME]) or "unknown"


def _peer(peer: str) -> str:
    """An address literal (RFC 5321 §4.1.3), or what stands for a peer without an IP address."""
    try:
        address = ip_address(peer)
    except ValueError:
        return _name(peer)
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
