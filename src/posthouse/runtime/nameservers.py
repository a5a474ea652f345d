"""Which name servers are asked, and whether their word on DNSSEC counts.

Invariant: the AD bit is believed from a resolver on loopback, or from one that ``dns.trusted`` names. Anybody on the
way to another one could have set it.
"""

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING

from posthouse.config.settings import Dns
from posthouse.runtime.resolver import DnsResolver

if TYPE_CHECKING:
    from posthouse.runtime.validating import ValidatingResolver

RESOLV_CONF = "/etc/resolv.conf"
PORT = 53


def make_resolver(settings: Dns) -> "DnsResolver | ValidatingResolver":
    """The validating resolver where there is one to believe, otherwise the plain one."""
    believed = validating_servers(settings)
    if not believed:
        return DnsResolver(settings.servers)
    # dnspython is wanted only here.
    from posthouse.runtime.validating import ValidatingResolver

    return ValidatingResolver(believed)


def validating_servers(settings: Dns, resolv_conf: str = RESOLV_CONF) -> list[tuple[str, int]]:
    """Those of the servers that are believed, in their order; the others are not asked then."""
    servers = configured_servers(settings, resolv_conf)
    trusted = {ipaddress.ip_address(address) for address in settings.trusted}
    return [server for server in servers if _is_believed(server[0], trusted)]


def configured_servers(settings: Dns, resolv_conf: str = RESOLV_CONF) -> list[tuple[str, int]]:
    """All of the servers that may be asked, in their order."""
    return [split(server) for server in settings.servers or _of_system(resolv_conf)]


def split(server: str) -> tuple[str, int]:
    """``address``, ``address:port`` or ``[v6]:port``. Raises ``ValueError``."""
    try:
        return str(ipaddress.ip_address(server)), PORT
    except ValueError:
        address, _, port = server.rpartition(":")
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{server!r} is no address of a name server") from None
        return str(ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))), int(port)


def _is_believed(address: str, trusted: set[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> bool:
    ip = ipaddress.ip_address(address)
    return ip.is_loopback or ip in trusted


def _of_system(path: str) -> Sequence[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return ()
    found = [words[1].partition("%")[0] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    return [address for address in found if _is_address(address)]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
