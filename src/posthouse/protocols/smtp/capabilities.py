"""What the server announces in answer to EHLO and LHLO."""

from functools import lru_cache

from posthouse.base.errors import Reply
from posthouse.protocols.smtp.replies import encode


@lru_cache(maxsize=64)
def announcement(hostname: str, *, max_size_bytes: int, starttls: bool, mechanisms: tuple[str, ...]) -> bytes:
    """The whole reply to EHLO (RFC 5321 §4.1.1.1). STARTTLS and AUTH only where they can be used now."""
    lines = [hostname, "PIPELINING", f"SIZE {max_size_bytes}" if max_size_bytes else "SIZE"]
    if starttls:
        lines.append("STARTTLS")
    if mechanisms:
        lines.append("AUTH " + " ".join(mechanisms))
    lines += ["ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"]
    return encode(Reply(250, "", "\n".join(lines)))
