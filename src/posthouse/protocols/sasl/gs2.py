"""The header that SCRAM and OAUTHBEARER begin with (RFC 5801 §4): channel binding, and whom to act for."""

from dataclasses import dataclass

from posthouse.protocols.sasl.exchange import prepared_name


@dataclass(frozen=True, slots=True)
class Header:
    """``flag``: ``n``: the client does no channel binding; ``y``: it would, but believes that we don't;
    ``p``: it does, of the type ``binding``. ``text``: the header as it came."""

    flag: str
    binding: str
    authzid: str
    text: str


def parse_header(message: str) -> tuple[Header, str]:
    """The header and what follows it; ``ValueError`` where there is none."""
    flag, *rest = message.split(",", 2)
    flag, _, binding = flag.partition("=")
    if flag not in ("n", "y", "p") or (flag == "p") != bool(binding) or len(rest) != 2:
        raise ValueError("no GS2 header")
    authzid, following = rest
    header = message[: len(message) - len(following)]
    return Header(
        flag, binding, prepared_name(saslname(attribute(authzid, "a="))) if authzid else "", header
    ), following


def attribute(text: str, key: str) -> str:
    """The value of an attribute, ``key`` with its equals sign."""
    if not text.startswith(key):
        raise ValueError(f"{key} expected")
    return text[len(key) :]


def saslname(encoded: str) -> str:
    """Decodes ``=2C`` and ``=3D``; any other ``=`` is wrong. RFC 5801 §4."""
    first, *rest = encoded.split("=")
    decoded = [first]
    for piece in rest:
        if piece[:2] not in ("2C", "3D"):
            raise ValueError("bad escape in a name")
        decoded.append(("," if piece[:2] == "2C" else "=") + piece[2:])
    return "".join(decoded)
