"""Whether a client is in one of the networks that a setting names."""

import ipaddress
from functools import lru_cache


@lru_cache(maxsize=8192)
def is_in(peer: str, networks: tuple[str, ...]) -> bool:
    """``peer``: an IP address, or ``unix``, which is in none."""
    if peer == "unix" or not networks:
        return False
    address = ipaddress.ip_address(peer)
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)
