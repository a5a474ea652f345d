"""Where to listen or connect: ``host:port``, ``[v6]:port`` or ``unix:/path``."""

from dataclasses import dataclass

POSTFIX_MAPS = ("alias", "domains", "gid", "mailbox", "relocated", "senders", "transport", "uid", "virtual")
"""What Postfix may look up: each is a map of socketmap_table(5), and may have an address for tcp_table(5)."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``host`` and ``port``, or ``path`` of a Unix socket (then ``host`` is empty and ``port`` is 0).

    An empty or ``*`` host in the configuration means all IPv4 addresses; ``[::]`` all IPv6 addresses.
    """

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Read one; ``ValueError`` says what is wrong with it."""
    if text.startswith("unix:"):
        path = text[5:]
        if not path.startswith("/"):
            raise ValueError(f"{text!r}: the path of a Unix socket starts with '/', as in 'unix:/run/posthouse/lmtp'")
        return Endpoint("", 0, path)
    host, colon, port_text = text.rpartition(":")
    if not colon or not port_text.isascii() or not port_text.isdigit() or not 0 <= int(port_text) < 65536:
        raise ValueError(f"{text!r}: expected host:port, [IPv6]:port or unix:/path, with a port below 65536")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address goes in brackets, as in '[{host}]:{port_text}'")
    return Endpoint("0.0.0.0" if host in ("", "*") else host, int(port_text))  # noqa: S104 - asked for


def parse_map_endpoint(text: str) -> tuple[str, Endpoint]:
    """Read ``MAP=host:port``; ``ValueError`` says what is wrong with it."""
    name, equals, address = text.partition("=")
    if not equals or name not in POSTFIX_MAPS or address.startswith("unix:"):
        raise ValueError(f"{text!r}: expected MAP=host:port, where MAP is one of {', '.join(POSTFIX_MAPS)}")
    return name, parse_endpoint(address)
