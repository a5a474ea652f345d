"""The settings of hosts that take mail for elsewhere in the place of ``smtp.relayhost``."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayHost:
    """A host that mail of some senders goes to in the place of ``smtp.relayhost``, or that we log in at wherever a
    row of ``transport`` names it as next hop. It is talked to as ``smtp.relayhost`` is."""

    host: str = ""
    """``host``, ``host:port``, or ``[host]:port`` (no MX look-up)."""
    senders: tuple[str, ...] = ()
    """Whose mail goes there, by envelope sender: ``user@domain``, or ``@domain`` for all others of a domain. Empty:
    anybody's, where ``transport`` says so."""
    user: str = ""
    """Who logs in there. Empty: nobody."""
    password_file: str = ""
    """File with that one's password."""
    ca: str = ""
    """PEM file of those who sign its certificate. Empty: the system's."""

    @property
    def route(self) -> str:
        """What stands for it in the queue. Without senders it is whatever next hop is written like its host."""
        return f"{self.user}@{self.host}" if self.senders else self.host


def sender(value: str | int) -> str:
    """What is wrong with an element of ``senders``, as checks have it."""
    return "" if re.fullmatch(r"[^@\s]*@[^@\s]+", str(value)) else "'user@domain' or '@domain'"


def problem(relay: RelayHost) -> str:
    """What is wrong with a relay as a whole."""
    if not relay.host:
        return "host has to say where the mail goes"
    if relay.user and not relay.password_file:
        return "user needs password_file"
    return "" if relay.senders or relay.user else "without senders and without user it does nothing"
