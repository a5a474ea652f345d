"""All milters of one SMTP session, asked in their order at each stage.

Invariants:
  1. The first that refuses something decides; those after it don't hear of it.
  2. Each sees of a message what those before it have left; what is placed is what the last one leaves.
  3. Whoever has none configured has no ``Milters``, and pays nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from posthouse.base.errors import PeerError, Reply
from posthouse.config.settings import Settings
from posthouse.message.address import lookup_key, parse_path
from posthouse.message.envelope import Envelope, Recipient
from posthouse.message.headers import printable
from posthouse.protocols.milter.events import AddRecipient, Change, ChangeSender, DeleteRecipient, Quarantine
from posthouse.protocols.smtp.parameters import mail_parameters, rcpt_parameters
from posthouse.runtime.log import log
from posthouse.services.milters import macros
from posthouse.services.milters.conversation import Conversation, Discarded
from posthouse.services.milters.edited import Edited
from posthouse.services.milters.names import client_name
from posthouse.services.placement import Placement, not_stored
from posthouse.services.restrictions.lists import Restrictions
from posthouse.services.rewriting.rewriting import Handed

if TYPE_CHECKING:
    from posthouse.services.reception import Client, Transaction

NEVER = frozenset({"NEVER"})


class Milters:
    """The milters of one kind of listener, in one process."""

    def __init__(self, settings: Settings, listener: str, placement: Placement, restrictions: Restrictions) -> None:
        self.hostname = settings.hostname
        self.listener = listener
        self.temporary_dir = settings.path("tmp")
        self.max_body_bytes = settings.smtp.max_size_bytes
        self.placement = placement
        self.restrictions = restrictions
        self.settings = {name: one for name, one in settings.milters.items() if listener in one.listeners}

    def session(self, client: "Client") -> "MilterSession":
        """For one client."""
        return MilterSession(self, client)


class MilterSession:
    """One session. Methods raise ``Refused`` and ``TryLater``."""

    def __init__(self, milters: Milters, client: "Client") -> None:
        self._milters = milters
        self._client = client
        self._name = macros.UNKNOWN
        self._conversations = [Conversation(name, one) for name, one in milters.settings.items()]

    async def connect(self) -> None:
        """The session begins, or begins anew with another client."""
        self.close()
        client = self._client
        self._name = await client_name(client, self._milters.restrictions)
        shown = f"[{client.peer}]" if self._name == macros.UNKNOWN else self._name
        address = "" if client.peer == "unix" else client.peer
        for one in self._conversations:
            await one.connect(shown, address, self._session_macros())

    async def helo(self) -> None:
        """HELO or EHLO."""
        for one in self._conversations:
            await one.helo(self._client.helo, self._session_macros())

    async def mail(self, transaction: "Transaction") -> None:
        """MAIL."""
        told, path, arguments = (
            self._message_macros(transaction),
            transaction.envelope.sender,
            _arguments(transaction),
        )
        try:
            for one in self._conversations:
                await one.mail(path, arguments, told)
        except Discarded as error:
            _discard(transaction, error)

    async def rcpt(self, transaction: "Transaction", path: str, notify: Collection[str], orcpt: str) -> None:
        """RCPT: one that is good, as far as we are concerned."""
        if transaction.treatment.discard:
            return
        arguments = [f"NOTIFY={','.join(sorted(notify))}"] * bool(notify) + [f"ORCPT={orcpt}"] * bool(orcpt)
        told = self._message_macros(transaction) | macros.of_recipient(path)
        try:
            for one in self._conversations:
                await one.rcpt(path, arguments, told)
        except Discarded as error:
            _discard(transaction, error)

    async def refused(self, transaction: "Transaction", path: str, reply: Reply) -> None:
        """RCPT: one that is not."""
        told = self._message_macros(transaction) | macros.of_refused(reply.status, reply.text)
        for one in self._conversations:
            await one.refused(path, (), told)

    async def data(self, transaction: "Transaction") -> None:
        """DATA."""
        if transaction.treatment.discard:
            return
        try:
            for one in self._conversations:
                await one.data(self._message_macros(transaction))
        except Discarded as error:
            _discard(transaction, error)

    async def finish(self, transaction: "Transaction", handed: Handed, prefix: bytes) -> tuple[Handed, bytes]:
        """The message is complete: it and what stands in front of it, as they go on.

        Where its content is another, the one that came in is closed.
        """
        if transaction.treatment.discard:
            return replace(handed, accepted=()), prefix
        edited = Edited(prefix, handed.content, self._milters.temporary_dir)
        told = self._message_macros(transaction)
        changes: list[Change] = []
        try:
            for one in self._conversations:
                changes += await one.finish(edited, told, self._milters.max_body_bytes)
                if one.quarantine:
                    changes.append(Quarantine(one.quarantine))
            prefix, content = edited.finish()
        except Discarded as error:
            _discard(transaction, error)
            return replace(handed, accepted=()), prefix
        except OSError as error:
            raise not_stored(error) from error
        finally:
            edited.close()
        if content is not handed.content:
            handed.content.close()
            handed = replace(handed, content=content)
        return await self._changed(handed, changes), prefix

    def abort(self) -> None:
        """The message is over, one way or the other."""
        for one in self._conversations:
            one.abort()

    def close(self) -> None:
        """The session is over."""
        for one in self._conversations:
            one.close()

    # Within.

    def _session_macros(self) -> dict[str, str]:
        return macros.of_session(self._client, self._milters.hostname, self._milters.listener, self._name)

    def _message_macros(self, transaction: "Transaction") -> dict[str, str]:
        envelope = transaction.envelope
        return self._session_macros() | macros.of_sender(envelope.trace_id, envelope.sender)

    async def _changed(self, handed: Handed, changes: Sequence[Change]) -> Handed:
        """With another envelope. What is no address changes nothing."""
        for change in changes:
            try:
                match change:
                    case ChangeSender(path, arguments):
                        handed = replace(handed, envelope=_with_sender(handed.envelope, path, arguments))
                    case AddRecipient(path, arguments):
                        handed = await self._with_recipient(handed, path, arguments)
                    case DeleteRecipient(path):
                        handed = _without_recipient(handed, path)
                    case Quarantine(reason):
                        held = Reply(450, "4.7.0", printable(reason) or "Held by a milter")
                        handed = replace(handed, hold=handed.hold or held)
                    case _:
                        pass
            except (ValueError, PeerError) as error:
                log.warning(
                    "milter-change-ignored", trace=handed.envelope.trace_id, change=str(change), reason=str(error)
                )
        return handed

    async def _with_recipient(self, handed: Handed, path: str, arguments: str) -> Handed:
        address = _address(path)
        if lookup_key(address) in {lookup_key(entry.recipient.address) for entry in handed.accepted}:
            return handed
        given = rcpt_parameters(arguments.encode().split())
        # Nobody asked for it, so nobody hears of it, unless the milter says so.
        recipient = Recipient(address, address, given.orcpt, given.notify or NEVER)
        return replace(handed, accepted=[*handed.accepted, *await self._milters.placement.resolve_own((recipient,))])


def _arguments(transaction: "Transaction") -> list[str]:
    """What MAIL said beside the sender."""
    envelope = transaction.envelope
    given = {
        "SIZE": str(transaction.size_bytes or ""),
        "BODY": envelope.body if envelope.body != "7BIT" else "",
        "RET": envelope.ret,
        "ENVID": envelope.envid,
    }
    return [f"{name}={value}" for name, value in given.items() if value] + ["SMTPUTF8"] * envelope.smtputf8


def _address(path: str, *, is_sender: bool = False) -> str:
    """The address of a milter's, with or without its brackets. Raises ``ValueError``."""
    path = path.strip()
    if path.startswith("<") and path.endswith(">"):
        path = path[1:-1]
    return parse_path(path, allow_empty=is_sender, utf8=True)


def _with_sender(envelope: Envelope, path: str, arguments: str) -> Envelope:
    sender = _address(path, is_sender=True)
    given = mail_parameters(arguments.encode().split())
    return replace(
        envelope,
        sender=sender,
        ret=given.ret or envelope.ret,
        envid=given.envid or envelope.envid,
        smtputf8=envelope.smtputf8 or given.smtputf8 or not sender.isascii(),
    )


def _without_recipient(handed: Handed, path: str) -> Handed:
    key = lookup_key(_address(path))
    kept = [
        entry
        for entry in handed.accepted
        if key not in (lookup_key(entry.recipient.address), lookup_key(entry.recipient.original))
    ]
    return replace(handed, accepted=kept)


def _discard(transaction: "Transaction", error: Discarded) -> None:
    log.info(
        "discarded", trace=transaction.envelope.trace_id, sender=transaction.envelope.sender, reason=f"milter {error}"
    )
    transaction.treatment = replace(transaction.treatment, discard=f"milter {error}")
