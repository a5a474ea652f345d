"""What changing domains, accounts and aliases has in common: addresses as keys, and saying no."""

from posthouse.base.errors import Refused, Reply
from posthouse.message.address import is_domain, lookup_key, parse_path, to_ascii


class NotChanged(Refused):
    """A change that was refused; the text is for whoever asked for it."""

    def __init__(self, text: str) -> None:
        super().__init__(Reply(550, "5.3.5", text))


def domain_key(name: str) -> str:
    """A domain as tables have it. Raises ``NotChanged``."""
    try:
        domain = to_ascii(name.removesuffix("."))
    except ValueError:
        domain = ""
    if not is_domain(domain):
        raise NotChanged(f"{name!r} is not a domain name")
    return domain


def mail_address(address: str) -> str:
    """``user@domain`` as a path has it, the local part as it is written. Raises ``NotChanged``."""
    try:
        parsed = parse_path(address, utf8=True)
    except ValueError as error:
        raise NotChanged(f"{address!r} is not an address: {error}") from None
    if "@" not in parsed:
        raise NotChanged(f"{address!r} is not an address: it has no domain")
    return parsed


def address_key(address: str) -> str:
    """``user@domain`` as tables have it. Raises ``NotChanged``."""
    return lookup_key(mail_address(address))
