"""Which mechanisms a client is offered: nothing in clear from afar, nor what needs more than its connection has."""

from ipaddress import ip_address, ip_network

from posthouse.config.settings import Auth
from posthouse.protocols.sasl.peer import Peer

TOKEN_MECHANISMS = ("OAUTHBEARER", "XOAUTH2")
_MAX_PEERS = 10_000


class Offers:
    """``has_tokens``: whether somebody can say what an access token is worth."""

    def __init__(self, settings: Auth, *, has_tokens: bool) -> None:
        self._trusted = tuple(ip_network(network, strict=False) for network in settings.trusted_networks)
        self._peers: dict[str, bool] = {}
        self._names = tuple(name for name in settings.mechanisms if has_tokens or name not in TOKEN_MECHANISMS)

    def mechanisms(self, peer: Peer) -> tuple[str, ...]:
        """In the order of the configuration."""
        if not peer.is_tls and not self._trusts(peer.address):
            return ()
        return tuple([name for name in self._names if _can_use(peer, name)])

    def _trusts(self, address: str) -> bool:
        known = self._peers.get(address)
        if known is None:
            if len(self._peers) >= _MAX_PEERS:
                self._peers.clear()
            known = self._peers[address] = self._is_trusted(address)
        return known

    def _is_trusted(self, text: str) -> bool:
        if text == "unix":
            return True
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._trusted)


def _can_use(peer: Peer, mechanism: str) -> bool:
    """Whether the client's connection has what the mechanism works with."""
    if mechanism == "EXTERNAL":
        return bool(peer.certificate_emails)
    if mechanism == "APOP":
        return peer.protocol == "pop3"
    return not mechanism.endswith("-PLUS") or bool(peer.channel_bindings)
