"""What a server announces in answer to EHLO and LHLO: how ours does it, and how another's is read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from posthouse.base.errors import Reply
from posthouse.protocols.smtp.replies import encode


@lru_cache(maxsize=64)
def announcement(
    hostname: str,
    *,
    max_size_bytes: int,
    starttls: bool,
    mechanisms: tuple[str, ...],
    xclient: bool = False,
    tls: bool = False,
) -> bytes:
    """The whole reply to EHLO (RFC 5321 §4.1.1.1). STARTTLS and AUTH only where they can be used now, REQUIRETLS only
    within ``tls`` (RFC 8689 §2)."""
    lines = [hostname, "PIPELINING", f"SIZE {max_size_bytes}" if max_size_bytes else "SIZE"]
    if starttls:
        lines.append("STARTTLS")
    if mechanisms:
        # The second form is what clients from before RFC 2554 look for.
        lines += [f"AUTH{separator}{' '.join(mechanisms)}" for separator in " ="]
    if xclient:
        lines.append("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT")
    if tls:
        lines.append("REQUIRETLS")
    lines += ["ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"]
    return encode(Reply(250, "", "\n".join(lines)))


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Extensions by keyword in upper case, with their parameters as given."""

    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.keywords

    @property
    def max_size_bytes(self) -> int:
        """The largest message that the server takes; 0 if it doesn't say (RFC 1870 §5)."""
        size = "".join(self.keywords.get("SIZE", ())[:1])
        return int(size) if size.isascii() and size.isdigit() and len(size) <= 20 else 0

    @property
    def auth(self) -> tuple[str, ...]:
        """Mechanisms, in upper case."""
        return tuple(dict.fromkeys(mechanism.upper() for mechanism in self.keywords.get("AUTH", ())))


def parse_capabilities(reply: Reply) -> Capabilities:
    """What follows the first line of the reply."""
    keywords: dict[str, tuple[str, ...]] = {}
    for line in reply.text.split("\n")[1:]:
        # Some servers say "AUTH=PLAIN" as before RFC 2554, most of them beside "AUTH PLAIN".
        words = line.replace("AUTH=", "AUTH ", 1).split()
        if words:
            keyword = words[0].upper()
            keywords[keyword] = keywords.get(keyword, ()) + tuple(words[1:])
    return Capabilities(keywords)
