"""The mechanisms that the server has, by name; each is in a file of its own, their face in ``exchange.py``."""

from collections.abc import Collection

from posthouse.protocols.sasl.cram import CramMd5, CramSha1
from posthouse.protocols.sasl.credentials import encode_base64
from posthouse.protocols.sasl.exchange import ServerMechanism, timestamp
from posthouse.protocols.sasl.external import External
from posthouse.protocols.sasl.oauth import OAuthBearer, XOAuth2
from posthouse.protocols.sasl.password import Login, Plain
from posthouse.protocols.sasl.peer import Peer
from posthouse.protocols.sasl.scram import Scram


def mechanism(
    name: str, *, nonce: bytes, secret: bytes, hostname: str, peer: Peer, offered: Collection[str] = ()
) -> ServerMechanism | None:
    """The mechanism of that name (any case), or None where there is none, or none that this peer can use.

    ``nonce``: 16 or more random bytes, new for each call. ``secret``: random bytes that stay, from which salts
    for unknown accounts are derived. ``hostname``: this server's, for the challenges of CRAM. ``offered``: what the
    peer was offered, so that SCRAM knows when it has been told otherwise.
    """
    name = name.upper()
    match name:
        case "PLAIN":
            return Plain()
        case "LOGIN":
            return Login()
        case "CRAM-MD5":
            return CramMd5(timestamp(nonce, hostname))
        case "CRAM-SHA1":
            return CramSha1(timestamp(nonce, hostname))
        case "SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS" | "SCRAM-SHA-1" | "SCRAM-SHA-1-PLUS":
            return _scram(name, nonce, secret, peer, offered)
        case "OAUTHBEARER":
            return OAuthBearer()
        case "XOAUTH2":
            return XOAuth2()
        case "EXTERNAL" if peer.certificate_emails:
            return External(peer.certificate_emails)
        case _:
            return None


def _scram(name: str, nonce: bytes, secret: bytes, peer: Peer, offered: Collection[str]) -> ServerMechanism | None:
    plain_name = name.removesuffix("-PLUS")
    algorithm = "sha1" if plain_name == "SCRAM-SHA-1" else "sha256"
    if plain_name == name:
        return Scram(encode_base64(nonce), secret, algorithm, offers_plus=f"{name}-PLUS" in offered)
    if not peer.channel_bindings:
        return None
    return Scram(encode_base64(nonce), secret, algorithm, peer.channel_bindings)
