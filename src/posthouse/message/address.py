"""Mail addresses as SMTP has them: paths' content, strictly (RFC 5321 §4.1.2, RFC 6531 §3.3).

Invariants:
  1. What ``parse_path`` returns parses to itself: local part unquoted where that is possible, domain in lower case
     and in its ASCII form.
  2. Whatever is refused is refused by ``ValueError`` with a short reason that can be shown to the peer.
"""

import re
from ipaddress import IPv4Address, IPv6Address

MAX_LOCAL = 64
MAX_DOMAIN = 255
MAX_PATH = 256
"""Octets, RFC 5321 §4.5.3.1; the path's with its angle brackets."""

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\xa0-\U0010ffff-]"
_DOT_STRING = re.compile(rf"{_ATEXT}++(?:\.{_ATEXT}++)*+")
_QUOTED_STRING = re.compile(r'"(?:[ !#-\[\]-~\xa0-\U0010ffff]|\\[ -~])*+"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_SOURCE_ROUTE = re.compile(r"@[^@,:\s]+(?:,@[^@,:\s]+)*+:")
# Underscores are in no host name (RFC 1123 §2.1), yet mail comes from such domains; whatever else is strict.
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.IGNORECASE | re.ASCII)


def parse_path(path: bytes | str, *, allow_empty: bool = False, utf8: bool = False) -> str:
    """The address in a forward-path or reverse-path that was taken out of its angle brackets.

    Source routes are dropped (RFC 5321 appendix C). ``allow_empty`` is for reverse-paths: there the null path
    is ``""``, and the local part may be longer than 64 octets, as list servers and SRS make them. ``utf8``
    allows what RFC 6531 §3.3 allows. ``postmaster`` needs no domain (RFC 5321 §4.1.1.3).
    """
    text = _as_text(path, utf8=utf8)
    if not text and allow_empty:
        return ""
    if route := _SOURCE_ROUTE.match(text):
        text = text[route.end() :]
    local, end = _local_part(text)
    if len(local.encode()) > MAX_LOCAL and not allow_empty:
        raise ValueError("local part too long")
    if end == len(text):
        if local.lower() != "postmaster":
            raise ValueError("address without domain")
        return local
    if text[end] != "@":
        raise ValueError("bad local part")
    return f"{local}@{_domain(text[end + 1 :])}"


def _as_text(path: bytes | str, *, utf8: bool) -> str:
    octets = path.encode("utf-8", "surrogatepass") if isinstance(path, str) else path
    if len(octets) > MAX_PATH - 2:
        raise ValueError("path too long")
    if not utf8 and not octets.isascii():
        raise ValueError("address is not ASCII")
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ValueError("address is not UTF-8") from None


def _local_part(text: str) -> tuple[str, int]:
    """The local part that ``text`` begins with, in its shortest spelling, and where it ends."""
    if plain := _DOT_STRING.match(text):
        return plain[0], plain.end()
    quoted = _QUOTED_STRING.match(text)
    if not quoted:
        raise ValueError("bad local part" if text else "empty address")
    content = _QUOTED_PAIR.sub(r"\1", quoted[0][1:-1])
    if _DOT_STRING.fullmatch(content):  # "user"@domain is user@domain (RFC 5321 §4.1.2)
        return content, quoted.end()
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"', quoted.end()


def _domain(domain: str) -> str:
    if domain.startswith("["):
        return _literal(domain)
    ascii_domain = to_ascii(domain)
    if not is_domain(ascii_domain):
        raise ValueError("bad domain")
    return ascii_domain


def _literal(domain: str) -> str:
    """An address literal in its shortest spelling (RFC 5321 §4.1.3)."""
    content = domain[1:-1].lower()
    if domain.endswith("]") and "%" not in content:
        try:
            if content.startswith("ipv6:"):
                return f"[ipv6:{IPv6Address(content[5:])}]"
            return f"[{IPv4Address(content)}]"
        except ValueError:
            pass
    raise ValueError("bad address literal")


def is_domain(domain: str) -> bool:
    """Whether this is a domain name in its ASCII form, of one label or more (``localhost``), no final dot."""
    return (
        len(domain) <= MAX_DOMAIN
        and _DOMAIN.fullmatch(domain) is not None
        and not domain.rpartition(".")[2].isdecimal()  # 192.0.2.1 is an address (RFC 1123 §2.1)
    )


def to_ascii(domain: str) -> str:
    """The domain in lower case and in its ASCII form (RFC 5891 §5); ``ValueError`` where it has none."""
    if domain.isascii():
        return domain.lower()
    if len(domain) > MAX_DOMAIN:
        raise ValueError("domain too long")
    import idna  # its tables are large, and few workers ever meet such a domain

    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except UnicodeError:
        raise ValueError("bad domain") from None


def split(address: str) -> tuple[str, str]:
    """Local part and domain; either may be empty."""
    local, at, domain = address.rpartition("@")
    return (local, domain) if at else (address, "")


def lookup_key(address: str) -> str:
    """The key under which tables have the address, or ``user``, or ``@domain``: lower case, domain in ASCII."""
    local, domain = split(address)
    if not domain:
        return address.lower()
    try:
        domain = to_ascii(domain)
    except ValueError:
        domain = domain.lower()
    return f"{local.lower()}@{domain}"


def split_extension(local: str, delimiter: str) -> tuple[str, str | None]:
    """``user`` and ``ext`` of ``user+ext``; no extension is None. Neither is cut from an empty user or from
    ``mailer-daemon`` where the delimiter is ``-``, nor from a quoted local part."""
    if not delimiter or local.startswith('"') or local.lower() == "mailer-daemon":
        return local, None
    user, found, extension = local.partition(delimiter)
    return (user, extension) if user and found else (local, None)
