"""Rewriting: canonical addresses, copies for others, header checks, as Postfix's cleanup(8) has them.

For mail that comes by SMTP and submission; what programs of this host hand in by LMTP has been through such things.

Invariants:
  1. Restrictions, and whether somebody may relay or use a sender, are about what the client has said.
  2. A copy makes no report, no other copy, and no field that tells of it.
  3. Whoever has nothing of it configured has no ``Rewriting``, and pays nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.config.settings import Settings
from posthouse.journal.content import Content
from posthouse.message.address import lookup_key, parse_path, split
from posthouse.message.addresschange import change_addresses
from posthouse.message.envelope import Envelope, Recipient
from posthouse.message.headers import header_end, iterate, printable
from posthouse.runtime.log import log
from posthouse.services.placement import Accepted, Placement, not_stored
from posthouse.services.rewriting.checks import TOO_LARGE, check, read_checks
from posthouse.services.rewriting.maps import AddressMap, read_map
from posthouse.services.rewriting.treatment import NOTHING, Treatment
from posthouse.services.textfiles import BROKEN, TableError, TextFiles

HEAD_BYTES = 256 * 1024
"""The largest header section that is checked; of a larger one no address is changed beyond this."""
NEVER = frozenset({"NEVER"})
_SENDERS = frozenset(
    b"from sender reply-to resent-from resent-sender resent-reply-to errors-to return-receipt-to "
    b"disposition-notification-to".split()
)
_RECIPIENTS = frozenset(b"to cc bcc resent-to resent-cc resent-bcc".split())


@dataclass(frozen=True, slots=True)
class Handed:
    """A message as it goes on."""

    envelope: Envelope
    content: Content
    accepted: Sequence[Accepted]
    hold: Reply | None = None
    """Why it is to wait for the operator."""


def broken_files(settings: Settings) -> list[str]:
    """What is wrong with the files that ``[rewrite]`` names, a line each."""
    problems: list[str] = []
    rewrite = settings.rewrite
    files = [(read_map, path) for path in rewrite.files] + [(read_checks, rewrite.header_checks)]
    for read, path in files:
        if path:
            try:
                read(settings.path(path))
            except TableError as error:
                problems.append(str(error))
    return problems


def canonical(settings: Settings, file: str, address: str) -> str:
    """What an address is by one of ``[rewrite]``'s files, read now; no ``file``: itself. Raises ``TryLater``."""
    if not file or not address:
        return address
    try:
        return read_map(settings.path(file)).canonical(address, settings.smtp.recipient_delimiter)
    except TableError as error:
        raise TryLater(str(error), BROKEN) from None


class Rewriting:
    """What one process changes about mail that it takes in."""

    def __init__(self, settings: Settings, placement: Placement) -> None:
        self._settings = settings
        self._placement = placement
        self._rewrite = settings.rewrite
        self._delimiter = settings.smtp.recipient_delimiter
        self._maps = TextFiles(read_map)
        self._checks = TextFiles(read_checks)

    async def recipient(self, address: str) -> str:
        """The canonical one. Raises ``TryLater``."""
        canonical = await self._map(self._rewrite.recipient_canonical)
        return canonical.canonical(address, self._delimiter)

    async def finish(
        self,
        envelope: Envelope,
        content: Content,
        accepted: Sequence[Accepted],
        treatment: Treatment,
        *,
        is_own: bool,
    ) -> Handed:
        """The message as it goes on; ``is_own``: it comes from a user of ours. Raises ``Refused``, ``TryLater``.

        Where its content is another, the one that came in is closed.
        """
        if envelope.sender:
            canonical = await self._map(self._rewrite.sender_canonical)
            envelope = replace(envelope, sender=canonical.canonical(envelope.sender, self._delimiter))
        content, found = await self._header(content, envelope.trace_id, is_own=is_own)
        treatment = treatment.and_also(found)
        if treatment.discard:
            log.info("discarded", trace=envelope.trace_id, sender=envelope.sender, reason=treatment.discard)
            return Handed(envelope, content, ())
        copies = [*await self._copies(envelope, accepted), *treatment.bcc]
        if treatment.redirect:
            log.info("redirected", trace=envelope.trace_id, recipient=treatment.redirect)
            accepted = await self._accepted([treatment.redirect], ())
        known = {lookup_key(entry.recipient.address) for entry in accepted}
        copies = [copy for copy in copies if lookup_key(copy) not in known]
        hold = Reply(450, "4.7.0", printable(treatment.hold)) if treatment.hold else None
        return Handed(envelope, content, [*accepted, *await self._accepted(copies, accepted)], hold)

    async def _map(self, path: str) -> AddressMap:
        return await self._maps.table(self._settings.path(path)) if path else AddressMap("")

    async def _copies(self, envelope: Envelope, accepted: Sequence[Accepted]) -> list[str]:
        """Who gets copies as the maps say, each once."""
        rewrite = self._rewrite
        found = [rewrite.always_bcc]
        if envelope.sender:
            found.append((await self._map(rewrite.sender_bcc)).find(envelope.sender, self._delimiter) or "")
        of_recipients = await self._map(rewrite.recipient_bcc)
        found += [of_recipients.find(entry.recipient.address, self._delimiter) or "" for entry in accepted]
        return [address for address in dict.fromkeys(found) if address]

    async def _accepted(self, addresses: Sequence[str], beside: Sequence[Accepted]) -> list[Accepted]:
        """Recipients that nobody hears of; what ``beside`` leads to already gets no second copy."""
        there = {destination for entry in beside for destination in entry.destinations}
        recipients = tuple(Recipient(address, address, notify=NEVER) for address in dict.fromkeys(addresses))
        found = await self._placement.resolve_own(recipients)
        return [replace(one, destinations=tuple(to for to in one.destinations if to not in there)) for one in found]

    async def _header(self, content: Content, trace_id: str, *, is_own: bool) -> tuple[Content, Treatment]:
        rewrite, treatment = self._rewrite, NOTHING
        changes = is_own and (rewrite.sender_canonical or rewrite.recipient_canonical)
        if not changes and not rewrite.header_checks:
            return content, treatment
        head = content.head(HEAD_BYTES)
        end = header_end(head)
        new = head[:end]
        if rewrite.header_checks:
            if end == HEAD_BYTES < content.size:
                raise Refused(TOO_LARGE, f"a header of more than {HEAD_BYTES} octets where there are header checks")
            rules = await self._checks.table(self._settings.path(rewrite.header_checks))
            new, treatment = await asyncio.to_thread(check, rules, new, trace_id)
        if changes:
            new = await self._canonical(new)
        if new == head[:end]:
            return content, treatment
        try:
            return await asyncio.to_thread(_with_head, content, end, new, self._settings.path("tmp")), treatment
        except OSError as error:
            raise not_stored(error) from error
        finally:
            content.close()

    async def _canonical(self, head: bytes) -> bytes:
        """The header section with the addresses of its senders and recipients changed."""
        senders = await self._map(self._rewrite.sender_canonical)
        recipients = await self._map(self._rewrite.recipient_canonical)
        made: list[bytes] = []
        done = 0
        for field in iterate(head):
            name = field.name.lower()
            if name not in _SENDERS and name not in _RECIPIENTS:
                continue
            canonical = senders if name in _SENDERS else recipients
            start = field.start + len(field.name)
            new = change_addresses(head[start : field.end], lambda one, its=canonical: self._changed(its, one))
            made += [head[done:start], new]
            done = field.end
        return b"".join([*made, head[done:]])

    def _changed(self, canonical: AddressMap, address: str) -> str | None:
        """Another address for this one, or None."""
        try:
            parsed = parse_path(address)
        except ValueError:
            return None
        new = canonical.canonical(parsed, self._delimiter) if split(parsed)[1] else parsed
        return None if new == parsed else new


def _with_head(content: Content, end: int, head: bytes, temporary_dir: str) -> Content:
    """Content with ``head`` in place of its first ``end`` octets. Raises ``OSError``."""
    made = Content(temporary_dir, is_paired=content.is_paired)
    try:
        made.write(head)
        for chunk in content.chunks():
            if end < len(chunk):
                made.write(chunk[end:] if end else chunk)
            end = max(end - len(chunk), 0)
        made.finish()
    except OSError:
        made.close()
        raise
    return made
