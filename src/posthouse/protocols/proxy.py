"""The PROXY protocol, versions 1 and 2: who is behind the proxy that connects, said before anything else.

Invariant: a header is whole or not there; nothing after it is looked at, and no more is waited for than one can have.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
MAX_V1 = 107
MAX_V2 = 16 + 4096
_FAMILIES = {0x11: (IPv4Address, 4), 0x21: (IPv6Address, 16)}


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """``client``: its IP address, empty where the proxy speaks for itself; ``size_bytes``: what the header took."""

    client: str
    size_bytes: int


def read_header(data: bytes) -> ProxyHeader | None:
    """The header that ``data`` begins with; None while more is needed. ``ValueError`` where it is none."""
    start = data[: len(SIGNATURE)]
    if SIGNATURE.startswith(start):
        return _read_v2(data) if len(data) >= 16 else None
    if not b"PROXY ".startswith(data[:6]):
        raise ValueError("no PROXY header")
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise ValueError("the PROXY header has no end")
        return None
    return ProxyHeader(_client_v1(data[:end]), end + 2)


def _client_v1(line: bytes) -> str:
    words = line.decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return ""
    if words[1] not in ("TCP4", "TCP6") or len(words) != 6:
        raise ValueError("the PROXY header is not complete")
    address = ip_address(words[2].partition("%")[0])
    if address.version != int(words[1][3]):
        raise ValueError("the PROXY header has an address of another family")
    return _plain(address)


def _read_v2(data: bytes) -> ProxyHeader | None:
    version, command = data[12] >> 4, data[12] & 15
    size = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1 or size > MAX_V2:
        raise ValueError("the PROXY header is of no version that is known")
    if len(data) < size:
        return None
    if command == 0 or data[13] not in _FAMILIES:
        return ProxyHeader("", size)
    kind, octets = _FAMILIES[data[13]]
    if size < 16 + 2 * octets + 4:
        raise ValueError("the PROXY header is not complete")
    return ProxyHeader(_plain(kind(data[16 : 16 + octets])), size)


def _plain(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
