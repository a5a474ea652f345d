"""Delivery of queued mail into programs, files, Unix users' Maildirs and accounts' mbox files.

Invariant: at most a duplicate, never a loss. Whatever ends without a word that it is done is tried again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.directory.model import ToCommand, ToFile, ToMailbox, ToPipe, ToUnixUser
from posthouse.mailqueue.courier import Deferred, Delivered, Failed, Outcome
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.message.address import lookup_key, split, split_extension
from posthouse.message.envelope import Recipient
from posthouse.message.headers import fields, printable, unfold
from posthouse.message.mboxlines import from_line, quoted, with_lf, without_notes
from posthouse.message.trace import delivered_to, return_path
from posthouse.services.handover import Handover, Job
from posthouse.services.outlets import Outlet
from posthouse.store import mbox, quota
from posthouse.store.layout import account_path, make_parents

LOOP = Reply(554, "5.4.6", "Mail forwarding loop: this message has been delivered to this address before")
MAILBOX_FULL = Reply(452, "4.2.2", "The recipient's mailbox is full")
DELIVERED = Reply(250, "2.1.5", "Delivered to the mailbox")
LOCAL_AT_ONCE = 20
_HEAD_BYTES = 64 * 1024
_CHUNK = 262_144
_NOBODY = "MAILER-DAEMON"


class Delivering:
    """Delivers to one destination at a time; ``handover`` is the way to the process that may be other users."""

    def __init__(self, settings: Settings, handover: Handover) -> None:
        self._settings = settings
        self._handover = handover
        self._delimiter = settings.smtp.recipient_delimiter
        self._root = settings.path(settings.mail.root)
        self._places = {name: asyncio.Semaphore(each.concurrency) for name, each in settings.transports.items()}
        self._local_places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(LOCAL_AT_ONCE))

    async def into_pipe(self, message: QueuedMessage, recipient: Recipient, pipe: ToPipe) -> Outcome:
        """Raises ``TryLater``, ``Refused``."""
        transport = self._settings.transports.get(pipe.transport)
        if transport is None:
            raise TryLater(f"transport {pipe.transport}: is not defined any more")
        if transport.max_size_bytes and message.size_bytes > transport.max_size_bytes:
            return Failed(Reply(552, "5.3.4", f"This message is larger than {pipe.transport} takes"))
        if "D" in transport.flags:
            await _check_loop(message, recipient.address)
        values = self._values(message, recipient, pipe, transport.flags)
        prefix = _prefix(message, recipient, transport.flags)
        async with self._places[pipe.transport]:
            job = Job("pipe", pipe.transport, message.size_bytes, prefix, values)
            return await self._handover.deliver(message, job)

    async def into_outlet(self, message: QueuedMessage, recipient: Recipient, outlet: Outlet) -> Outcome:
        """Raises ``TryLater``, ``Refused``."""
        await _check_loop(message, recipient.address)
        match outlet:
            case ToFile(path=path):
                flags = "ROD" if path.endswith("/") else "FROD"
                job = Job("file", path, message.size_bytes, _prefix(message, recipient, flags), {})
            case ToCommand(command=command):
                values = self._environment(message, recipient)
                job = Job("command", command, message.size_bytes, _prefix(message, recipient, "FROD"), values)
            case ToUnixUser(name=name):
                job = Job("user", name, message.size_bytes, _prefix(message, recipient, "ROD"), {})
            case ToMailbox():
                return await asyncio.to_thread(self._into_mbox, message, recipient, outlet)
        async with self._local_places[job.target]:
            return await self._handover.deliver(message, job)

    def _into_mbox(self, message: QueuedMessage, recipient: Recipient, mailbox: ToMailbox) -> Outcome:
        account = mailbox.account
        path = account_path(self._root, f"{account.maildir}/")
        prefix = _prefix(message, recipient, "FRD")
        limit = quota.parse(account.quota)
        used = mbox.size_bytes(path)
        if limit is not None and limit.size_bytes and used + message.size_bytes > limit.size_bytes:
            return Deferred(MAILBOX_FULL)
        try:
            make_parents(path)
            mbox.append(path, _with(prefix, quoted(without_notes(with_lf(_chunks(message))))))
        except OSError as error:
            raise TryLater(f"{account.email}: {error}") from error
        return Delivered(DELIVERED)

    def _values(self, message: QueuedMessage, recipient: Recipient, pipe: ToPipe, flags: str) -> dict[str, str]:
        local, domain = split(recipient.address)
        local = local.lower() if "u" in flags else local
        domain = domain.lower() if "h" in flags else domain
        user, extension = split_extension(local, self._delimiter)
        names = {
            "recipient": f"{_written(local, flags)}@{domain}",
            "user": _written(user, flags),
            "extension": extension or "",
            "domain": domain,
            "mailbox": _written(local, flags),
            "nexthop": pipe.nexthop or domain,
            "sender": message.envelope.sender or _NOBODY,
            "size": str(message.size_bytes),
            "original_recipient": recipient.original or recipient.address,
        }
        return {name: value.replace("\0", "") for name, value in names.items()}

    def _environment(self, message: QueuedMessage, recipient: Recipient) -> dict[str, str]:
        local, domain = split(recipient.address)
        user, extension = split_extension(local, self._delimiter)
        return {
            "RECIPIENT": recipient.address,
            "ORIGINAL_RECIPIENT": recipient.original or recipient.address,
            "SENDER": message.envelope.sender or _NOBODY,
            "LOCAL": local,
            "USER": user,
            "EXTENSION": extension or "",
            "DOMAIN": domain,
        }


class PipeCourier:
    """The courier of pipe transports: one run of the program for each recipient."""

    def __init__(self, directory: Directory, delivering: Delivering) -> None:
        self._directory = directory
        self._delivering = delivering

    async def deliver(
        self,
        message: QueuedMessage,
        recipients: Sequence[Recipient],
        destination: str,  # noqa: ARG002
    ) -> list[Outcome]:
        """One outcome each; one that fails does not touch the others."""
        return list(await asyncio.gather(*(self._deliver(message, recipient) for recipient in recipients)))

    async def _deliver(self, message: QueuedMessage, recipient: Recipient) -> Outcome:
        try:
            resolution = await self._directory.resolve(recipient.address)
            for found in resolution.destinations:
                if isinstance(found, ToPipe) and lookup_key(found.address) == lookup_key(recipient.address):
                    return await self._delivering.into_pipe(message, recipient, found)
            raise TryLater(f"{recipient.address} goes another way by now")
        except (Refused, TryLater) as error:
            return as_outcome(error)


def as_outcome(error: Refused | TryLater) -> Outcome:
    """What was raised, as what came of one recipient."""
    return Failed(error.reply) if isinstance(error, Refused) else Deferred(error.reply)


def _written(local: str, flags: str) -> str:
    """A local part as an argument: with its quotes only where ``q`` asks for them."""
    if "q" in flags or not local.startswith('"'):
        return local
    return local[1:-1].replace('\\"', '"').replace("\\\\", "\\")


def _prefix(message: QueuedMessage, recipient: Recipient, flags: str) -> bytes:
    """What goes in front of the message, with LF, in Postfix's order."""
    sender = message.envelope.sender
    arrived = datetime.fromtimestamp(message.arrived, UTC)
    original = printable(recipient.original or recipient.address, utf8=True)
    lines = from_line(sender, arrived) if "F" in flags else b""
    lines += return_path(sender) if "R" in flags else b""
    lines += f"X-Original-To: {original}\n".encode() if "O" in flags else b""
    lines += delivered_to(recipient.address) if "D" in flags else b""
    return lines.replace(b"\r\n", b"\n")


async def _check_loop(message: QueuedMessage, address: str) -> None:
    """Raises ``Refused`` where the message says that it was delivered to this very address before."""
    try:
        head = await asyncio.to_thread(_head, message)
    except OSError as error:
        raise TryLater(f"cannot read the queued message: {error}") from error
    key = lookup_key(address)
    for each in fields(head):
        if each.name.lower() == b"delivered-to" and lookup_key(unfold(each.value).decode(errors="replace")) == key:
            raise Refused(LOOP, f"Delivered-To: {address}")


def _head(message: QueuedMessage) -> bytes:
    with message.open() as file:
        return file.read(_HEAD_BYTES)


def _chunks(message: QueuedMessage) -> Iterator[bytes]:
    left = message.size_bytes
    with message.open() as file:
        while left > 0:
            chunk = file.read(min(_CHUNK, left))
            if not chunk:
                raise OSError(f"the queued message has {left} octets less than it should")
            left -= len(chunk)
            yield chunk


def _with(prefix: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield prefix
    yield from chunks
