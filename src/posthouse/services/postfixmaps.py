"""Postfix's tables, answered from the directory in the directory's own order.

Postfix asks a program for whole addresses only: never for ``user@domain`` after ``user+ext@domain``, nor for
``@domain``. So a whole address is answered with what the resolver would find for it, one step of it: Postfix follows
aliases itself. Parts of an address have no answer, so that a program that does ask for them finds no catch-all where
there is an account, and no hosted domain where it looks for aliases.

Invariants:
  1. What the resolver refuses of a domain that is here is found neither in ``virtual`` nor among the mailboxes; at
     any other domain, where an alias leads is Postfix's to find out. An account isn't in
     ``virtual``, nor does Postfix need it there: at RCPT TO it refuses what it finds nowhere and what ``relocated``
     and ``transport`` refuse, but takes what ``virtual`` has, to return it later.
  2. ``TryLater`` where the directory can't answer, and for aliases that form a loop.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar

from posthouse.base.errors import Refused
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import Account, ToMailbox
from posthouse.directory.transports import domain_names, printable
from posthouse.message.address import lookup_key, split, split_extension

_MAX_KEY = 512
_OF_RECIPIENTS = frozenset({"virtual", "mailbox", "uid", "gid"})


class UnknownMapError(Exception):
    """There is no map of that name."""


class PostfixMaps:
    """The maps of one process."""

    def __init__(self, directory: Directory, settings: Settings) -> None:
        self._directory = directory
        self._delimiter = settings.smtp.recipient_delimiter
        self._catchall_first = settings.smtp.catchall == "before-accounts"
        self._hostname = settings.hostname.lower()
        self._own_names = frozenset({self._hostname, "localhost"})

    async def look_up(self, name: str, key: str) -> str | None:
        """What the map of that name has under ``key``, as Postfix wants it; None: nothing.

        Raises ``UnknownMapError`` and ``TryLater``.
        """
        answer = self._MAPS.get(name)
        if answer is None:
            raise UnknownMapError(f"there is no such map; there are {', '.join(sorted(self._MAPS))}")
        if len(key) > _MAX_KEY or "\0" in key or not _is_utf8(key):
            return None  # no row's key looks like that
        key = lookup_key(key)
        value = await answer(self, key)
        return None if value is not None and name in _OF_RECIPIENTS and await self._is_refused(key) else value

    # One method a map. ``key`` is a look-up key.

    async def _virtual(self, key: str) -> str | None:
        local, domain = split(key)
        if not local or not domain:
            return None
        for name in self._names(key):
            if targets := _parts(await self._directory.lookup("virtual", name)):
                return ", ".join(self._targets(local, name, targets))
        if not self._catchall_first and await self._account(key) is not None:
            return None
        targets = _parts(await self._directory.lookup("virtual", f"@{domain}"))
        if targets:
            return ", ".join(self._targets(local, "", targets))
        # As the resolver has it: what nobody else reads of a hosted domain's is for the host's own postmaster.
        is_orphan = local == "postmaster" and await self._account(key) is None
        return f"postmaster@{self._hostname}" if is_orphan and await self._domains(domain) is not None else None

    def _targets(self, local: str, row: str, targets: Iterable[str]) -> Iterable[str]:
        """Addresses as the resolver makes them: ``@other`` keeps the name, and an extension that did not help to find
        the row is kept, but not by a catch-all's (``row`` is empty)."""
        extension = None
        if row and split_extension(split(row)[0], self._delimiter)[1] is None:
            extension = split_extension(local, self._delimiter)[1]
        for target in targets:
            if target.startswith("@"):
                yield local + target
            elif extension is None or target.startswith('"'):
                yield target
            else:
                user, at, domain = target.partition("@")
                yield f"{user}{self._delimiter}{extension}{at}{domain}"

    async def _relocated(self, key: str) -> str | None:
        local, domain = split(key)
        if not local or not domain:
            return None
        for name in (*self._names(key), f"@{domain}"):
            if values := await self._directory.lookup("relocated", name):
                return printable(values[0]) or "unknown"
        return None

    async def _transport(self, key: str) -> str | None:
        local, domain = split(key) if "@" in key else ("", key)
        if domain in self._own_names or domain == "*":
            return None  # what is the host's own is always local, which is Postfix's mydestination
        *names, everything = domain_names(domain)
        for name in (*(self._addresses(key) if local else ()), *names):
            if values := await self._directory.lookup("transport", name):
                return values[0].strip() or ":"
        # A ``*`` row is not for what is hosted here. Postfix asks for it by itself too, and isn't told: it would use
        # it for everything.
        if not local or await self._directory.lookup("domains", domain) is not None:
            return None
        values = await self._directory.lookup("transport", everything)
        return (values[0].strip() or ":") if values else None

    async def _mailbox(self, key: str) -> str | None:
        account = await self._account(key)
        return account.maildir if account else None

    async def _uid(self, key: str) -> str | None:
        account = await self._account(key)
        return str(account.uid) if account else None

    async def _gid(self, key: str) -> str | None:
        account = await self._account(key)
        return str(account.gid) if account else None

    async def _alias(self, key: str) -> str | None:
        local, domain = split(key)
        if domain and domain not in self._own_names:
            return None
        for name in dict.fromkeys((local, split_extension(local, self._delimiter)[0])):
            if targets := _parts(await self._directory.lookup("alias", name)):
                return ", ".join(targets)
        return None

    async def _domains(self, key: str) -> str | None:
        if "@" in key or key in self._own_names:
            return None  # the host's own name is Postfix's mydestination
        hosting = await self._directory.lookup("domains", key)
        return None if hosting is None else ", ".join(hosting) or "hosted"

    async def _senders(self, key: str) -> str | None:
        """The logins that may send as an address: the account's own, those in whose mailboxes its mail ends, and
        those that it was granted."""
        if not all(split(key)):
            return None
        own = await self._account(key)
        logins = [own.email.lower()] if own else []
        try:
            resolution = await self._directory.resolve(key)
        except Refused:
            pass
        else:
            if not resolution.relay:
                mailboxes = [each for each in resolution.destinations if isinstance(each, ToMailbox)]
                logins += [each.account.email.lower() for each in mailboxes]
        logins += await self._directory.granted(key)
        return ", ".join(dict.fromkeys(logins)) or None

    _MAPS: ClassVar[dict[str, Callable[["PostfixMaps", str], Awaitable[str | None]]]] = {
        "virtual": _virtual,
        "relocated": _relocated,
        "transport": _transport,
        "mailbox": _mailbox,
        "uid": _uid,
        "gid": _gid,
        "alias": _alias,
        "domains": _domains,
        "senders": _senders,
    }

    # What they share.

    def _addresses(self, key: str) -> tuple[str, ...]:
        """``user+ext@domain``, ``user@domain``."""
        local, domain = split(key)
        user, extension = split_extension(local, self._delimiter)
        return (key,) if extension is None else (key, f"{user}@{domain}")

    def _names(self, key: str) -> tuple[str, ...]:
        """The same, and ``user`` where the domain is this host's own."""
        local, domain = split(key)
        addresses = self._addresses(key)
        return (*addresses, split_extension(local, self._delimiter)[0]) if domain in self._own_names else addresses

    async def _is_refused(self, key: str) -> bool:
        """Whether the resolver refuses an address of a domain that is here.

        Of any other, Postfix would send the mail there in place of where the alias leads.
        """
        try:
            await self._directory.resolve(key)
        except Refused:
            domain = split(key)[1]
            return domain in self._own_names or await self._directory.lookup("domains", domain) is not None
        return False

    async def _account(self, key: str) -> Account | None:
        """The account that gets mail for an address."""
        for address in self._addresses(key):
            account = await self._directory.account(address)
            if account is not None and account.enabled:
                return account
        return None


def _parts(values: Iterable[str] | None) -> list[str]:
    """The destinations in a key's rows, each once."""
    return list(dict.fromkeys(part for value in values or () for text in value.split(",") if (part := text.strip())))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
