"""What a POP3 session is offered: the driver's choices, and the capabilities that say so."""

from collections.abc import Sequence
from dataclasses import dataclass

LANGUAGE = "en English"
"""What our texts are in, as LANG lists it (RFC 6856 §3.2)."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """``starttls``: offer STLS. ``auth``: the SASL mechanisms to offer; where PLAIN is none of them, USER is not
    offered either. ``timestamp``: what the greeting ends with where APOP is to be offered (RFC 1939 §7).
    ``login_delay_seconds``: what LOGIN-DELAY says, if not 0; the driver sees to it.

    ``max_line`` in octets: more than the 255 of RFC 2449 §4, since SASL's responses come in lines too, tokens of
    16 KiB among them.
    ``max_errors``: commands not understood and logins refused before the client is sent away.
    """

    hostname: str
    starttls: bool = False
    auth: tuple[str, ...] = ()
    timestamp: str = ""
    login_delay_seconds: int = 0
    max_line: int = 24_576
    max_errors: int = 10


def capabilities(mechanisms: Sequence[str], login_delay_seconds: int, *, has_user: bool, has_stls: bool) -> list[str]:
    """CAPA's lines. RFC 2449 §6, RFC 3206 §6, RFC 5034 §3, RFC 6856 §2 and §3."""
    lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "LANG"]
    if login_delay_seconds:
        lines.append(f"LOGIN-DELAY {login_delay_seconds}")
    lines += ["USER", "UTF8 USER"] if has_user else ["UTF8"]
    if mechanisms:
        lines.append("SASL " + " ".join(mechanisms))
    if has_stls:
        lines.append("STLS")
    return [*lines, "IMPLEMENTATION Posthouse"]
