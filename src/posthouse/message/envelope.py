"""The envelope: whom a message is from and for, apart from what its headers say (RFC 5321 §2.3.1).

Addresses are ``local@domain`` without angle brackets, the domain in lower case and in its ASCII form; the
local part as the client gave it. The empty sender is the null reverse-path (RFC 5321 §4.5.5).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient and what its sender wants to hear about it (RFC 3461 §4.1, §4.2).

    ``address``: where it goes now, after aliases. ``original``: the address given in RCPT TO.
    ``orcpt``: the ORCPT parameter decoded from xtext, with its type: ``rfc822;user@domain``, or empty.
    ``notify``: of ``NEVER``, ``SUCCESS``, ``FAILURE``, ``DELAY``; empty where the sender did not say.
    ``via``: which of the files and commands that the address leads to this is for; ours alone, and in no message.
    """

    address: str
    original: str = ""
    orcpt: str = ""
    notify: frozenset[str] = frozenset()
    via: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """Sender, recipients and what was agreed for the transfer.

    ``ret`` is ``FULL``, ``HDRS`` or empty; ``envid`` decoded from xtext (RFC 3461 §4.3, §4.4).
    ``body`` is ``7BIT`` or ``8BITMIME`` (RFC 6152); ``smtputf8`` RFC 6531. ``trace_id`` names the message in the
    log from reception to final delivery. ``login`` is the account that submitted it, or empty. ``tls``, RFC 8689:
    ``REQUIRED`` (REQUIRETLS), ``OPTIONAL`` (``TLS-Required: No``), or empty.
    """

    sender: str
    recipients: tuple[Recipient, ...]
    trace_id: str
    ret: str = ""
    envid: str = ""
    body: str = "7BIT"
    smtputf8: bool = False
    login: str = ""
    tls: str = ""
