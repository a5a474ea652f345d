"""One IMAP connection: pulls commands from the engine, runs their handlers, sends updates and completions.

Invariants:
  1. Updates go out before the tagged response, and no EXPUNGE during FETCH, STORE or SEARCH (RFC 3501 §7.4.1).
  2. Output is gathered and written once before each wait; nothing is held that the client doesn't read.
  3. A bug in a handler costs its command, not the session.
"""

import ssl
import time
import zlib
from dataclasses import dataclass, replace

from posthouse.base.errors import PosthouseError, Refused
from posthouse.config.settings import Settings
from posthouse.directory.directory import Directory
from posthouse.protocols.engine import NEED_DATA, Pause
from posthouse.protocols.imap import commands, render
from posthouse.protocols.imap.commands import Command
from posthouse.protocols.imap.cursor import IMAP4REV2, UIDONLY, names_in_utf8
from posthouse.protocols.imap.engine import ImapServerEngine
from posthouse.protocols.imap.events import Event
from posthouse.protocols.imap.render import Completion
from posthouse.protocols.imap.states import Limits, State
from posthouse.protocols.sasl.peer import Peer
from posthouse.runtime.connection import Connection
from posthouse.runtime.log import log, new_trace_id
from posthouse.runtime.measures import IMAP_COMMANDS, IMAP_SECONDS
from posthouse.servers.imap import capabilities, failures
from posthouse.servers.imap.capabilities import CONDSTORE, QRESYNC
from posthouse.servers.imap.contexts import Contexts
from posthouse.servers.imap.handlers import HANDLERS
from posthouse.servers.imap.notifications import Notifications
from posthouse.servers.imap.progress import LONG, Progress
from posthouse.servers.imap.updates import by_number, by_uid, flag_lines, update_lines
from posthouse.servers.imap.wire import Wire
from posthouse.servers.peer import is_sasl, peer
from posthouse.services.guard import ShutOut
from posthouse.services.login import Login
from posthouse.services.mailboxes import Mailboxes
from posthouse.store.errors import NoSuchMailbox
from posthouse.store.model import Changes
from posthouse.store.store import Store
from posthouse.store.view import View

GREETING_WORDS = "Posthouse is ready"


@dataclass(frozen=True, slots=True)
class ImapService:
    """What all IMAP sessions of a process share."""

    settings: Settings
    login: Login
    store: Store
    directory: Directory
    tls: ssl.SSLContext | None


class SessionOverError(Exception):
    """The connection ended, or is to end, in the middle of a command."""


class ImapSession:
    """The state of one connection. Handlers use ``engine`` to speak and ``store`` and ``view`` to act."""

    __slots__ = (
        "connection",
        "contexts",
        "engine",
        "failed_logins",
        "login",
        "notifications",
        "peer",
        "service",
        "store",
        "view",
        "wire",
    )

    def __init__(self, service: ImapService, connection: Connection) -> None:
        settings = service.settings.imap
        connection.timeout_seconds = settings.timeout_seconds
        self.service = service
        self.connection = connection
        self.wire = Wire(connection)
        self.peer: Peer = peer(connection, "imap")
        self.engine = ImapServerEngine(Limits(max_append_bytes=settings.max_append_bytes))
        self.login = ""
        self.failed_logins = 0
        self.contexts = Contexts()
        self.store: Mailboxes | None = None
        self.view: View | None = None
        self.notifications: Notifications | None = None

    async def run(self) -> None:
        """Greet, then serve commands until the client or the server has had enough."""
        self.engine.untagged(f"OK [CAPABILITY {self.capability()}] {GREETING_WORDS}".encode())
        try:
            while True:
                while (event := await self.event_or_wake()) is None:
                    await self.tell_notifications()
                assert isinstance(event, Command), "an event without its command"
                await self._perform(event)
        except SessionOverError:
            pass
        except TimeoutError:
            self.engine.bye("Autologout, silent for too long")
            self.wire.write(self.engine.data_to_send())
        finally:
            self.unselect()
            self.notify(None)

    async def next_event(self) -> Event:
        """The next event; raises SessionOverError when there is none to come. What woke it meanwhile still does."""
        is_woken = False
        while (event := await self.event_or_wake()) is None:
            is_woken = True
        if is_woken:
            self.connection.wake()
        return event

    async def event_or_wake(self) -> Event | None:
        """The next event, or None when the connection was woken while waiting for it."""
        engine = self.engine
        while True:
            event = engine.next_event()
            if event is not NEED_DATA:
                assert not isinstance(event, Pause), "a command was left without its completion"
                return event
            await self.flush()
            if engine.closed:
                raise SessionOverError
            try:
                data = await self.wire.read()
            except zlib.error:
                engine.bye("What comes is not compressed")
                continue
            if data is not None:
                engine.receive(data)
            elif not self.connection.draining:
                return None
            else:
                engine.bye("This server is restarting")

    async def flush(self) -> None:
        """Write what has been said so far, and wait while the client is slow to read."""
        await self.wire.send(self.engine.data_to_send())

    async def rest(self) -> None:
        """Write what has been said; nothing more will be for a while."""
        await self.flush()
        self.wire.rest()

    # Commands.

    async def _perform(self, command: Command) -> None:
        view, name, began = self.view, type(command).__name__.lower(), time.monotonic()
        progress = Progress(command.tag, self.wire.write) if isinstance(command, LONG) else None
        try:
            if view is not None and not view.may("r"):  # nothing more may be seen of it: refresh ends the session
                raise NoSuchMailbox(view.name)
            completion = await HANDLERS[type(command)](self, command)
        except PosthouseError as error:
            self._log_failure(command, error)
            completion = failures.completion(error, command)
        except (SessionOverError, ConnectionError, TimeoutError):
            raise
        except Exception:  # noqa: BLE001 - a bug of ours ends the command, not the session
            trace = new_trace_id()
            log.exception("imap-failed", trace=trace, login=self.login, command=type(command).__name__)
            completion = failures.bug(trace)
        finally:
            if progress is not None:
                progress.cancel()
        if completion is not None:
            await self._finish(command, completion, view)
        IMAP_COMMANDS.add(name, completion.status.lower() if completion is not None else "none")
        if not isinstance(command, commands.Idle):
            IMAP_SECONDS.observe(time.monotonic() - began, name)

    async def _finish(self, command: Command, completion: Completion, view_before: View | None) -> None:
        """Updates, then the completion. A mailbox that was selected just now has none yet."""
        if self.view is not None and self.view is view_before:
            by_number = isinstance(command, commands.Fetch | commands.Store | commands.Search) and not command.uid
            try:
                # RFC 5465 §5.2: not of those that the client put there itself.
                is_own = isinstance(command, commands.AppendStart | commands.Copy | commands.Move)
                await self.send_updates(expunge=not by_number, shows_new=not is_own)
            except PosthouseError as error:
                self._log_failure(command, error)
            else:
                completion = self._with_code(command, completion, kept_back=by_number)
        self.engine.complete(completion)

    def _with_code(self, command: Command, completion: Completion, *, kept_back: bool) -> Completion:
        """RFC 7162 §3.2.7, §3.2.9: who expunges is told the modification sequence that has all of it.

        RFC 5530: who might have asked for what others have expunged is told that there is such news.
        """
        if kept_back and self.view is not None and self.view.withholds and completion.status == "OK":
            return completion if completion.code else replace(completion, code="EXPUNGEISSUED")
        expunges = isinstance(command, commands.Expunge | commands.Move) or (
            isinstance(command, commands.AppendStart) and command.replaced is not None
        )
        if self.qresync and expunges and completion.status == "OK":
            return replace(completion, code=f"HIGHESTMODSEQ {self.selected.modseq}") if self.view else completion
        return completion

    def _log_failure(self, command: Command, error: PosthouseError) -> None:
        name, peer = type(command).__name__.lower(), self.connection.peer
        if isinstance(error, Refused | ShutOut):
            log.info("imap-refused", login=self.login, peer=peer, command=name, reason=error.reason)
        else:
            log.warning("imap-unavailable", login=self.login, peer=peer, command=name, reason=error.reason)

    # What handlers share.

    def capability(self) -> str:
        """What this client is told of our capabilities now."""
        if self.engine.state is not State.NOT_AUTHENTICATED:
            return capabilities.after_login(self.service.settings.imap.max_append_bytes)
        return capabilities.before_login(self.mechanisms(), starttls=self.offers_starttls)

    def mechanisms(self) -> tuple[str, ...]:
        """The SASL mechanisms that may be used on this connection."""
        return tuple(filter(is_sasl, self.service.login.mechanisms(self.peer)))

    def log_out(self) -> None:
        """As if nobody had logged in yet; of the connection only TLS stays (RFC 8437 §4)."""
        self.unselect()
        self.notify(None)
        self.store = None
        self.login = ""
        self.enabled.clear()
        self.engine.state = State.NOT_AUTHENTICATED

    def tls_has_begun(self) -> None:
        """The same client is somebody else from now on: what it said in clear counts no more."""
        self.engine.start_layer()
        self.peer = peer(self.connection, "imap")

    @property
    def enabled(self) -> set[bytes]:
        """What ENABLE has switched on, in upper case."""
        return self.engine.enabled

    def mailbox_name(self, name: str) -> bytes:
        """The name as this client wants it."""
        return render.mailbox(name, utf8=names_in_utf8(self.enabled))

    @property
    def offers_starttls(self) -> bool:
        return self.service.tls is not None and not self.connection.is_tls

    @property
    def mailboxes(self) -> Mailboxes:
        """The mailboxes that whoever is logged in can reach."""
        assert self.store is not None, "allowed in a state without an account"
        return self.store

    @property
    def selected(self) -> View:
        """The selected mailbox."""
        assert self.view is not None, "allowed in a state without a mailbox"
        return self.view

    @property
    def rev2(self) -> bool:
        """Whether the client speaks IMAP4rev2 (RFC 9051 §6.3.1)."""
        return IMAP4REV2 in self.enabled

    @property
    def uid_only(self) -> bool:
        """Whether sequence numbers mean nothing to the client (RFC 9586)."""
        return UIDONLY in self.enabled

    def select(self, view: View) -> None:
        """Enter the selected state."""
        if self.rev2:
            view.hide_recent()
        self.view = view
        self.engine.state = State.SELECTED
        self._watch_selected()

    def leave(self) -> None:
        """The selected mailbox is no longer, by what the client itself has said (RFC 7162 §3.2.11)."""
        self.unselect()
        self.engine.untagged(b"OK [CLOSED] The mailbox that was selected is no longer")

    def unselect(self) -> None:
        """Leave the selected state, where it is that."""
        if self.view is not None:
            self.view.close()
            self.view = None
            self.contexts.clear()
            if self.engine.state is State.SELECTED:
                self.engine.state = State.AUTHENTICATED

    @property
    def condstore(self) -> bool:
        """Whether the client wants modification sequences with every change of flags (RFC 7162 §3.1)."""
        return CONDSTORE in self.enabled

    @property
    def qresync(self) -> bool:
        """Whether the client understands VANISHED."""
        return QRESYNC in self.enabled

    def enable_condstore(self) -> None:
        """The client has shown that it knows CONDSTORE (RFC 7162 §3.1)."""
        if not self.condstore:
            self.enabled.add(CONDSTORE)
            if self.view is not None:
                self.engine.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % self.view.modseq)

    def notify(self, notifications: Notifications | None) -> None:
        """From now on these events are told as they happen (RFC 5465), and no others."""
        if self.notifications is not None:
            self.notifications.close()
        self.notifications = notifications
        self._watch_selected()

    def _watch_selected(self) -> None:
        if self.view is not None:
            selected = self.notifications.selected if self.notifications is not None else None
            self.view.on_change(self.connection.wake if selected and selected.events else None)

    async def tell_notifications(self, *, expunge: bool = False) -> None:
        """What has happened, between commands and in IDLE. ``expunge``: also where that is to be delayed."""
        notifications = self.notifications
        if notifications is None:
            return
        try:
            selected = notifications.selected
            if self.view is not None and selected is not None and selected.events:
                is_told = "FlagChange" in selected.events
                await self.send_updates(expunge=expunge or selected.which == "selected", flags=is_told)
            await notifications.tell()
        except PosthouseError as error:
            log.warning("imap-unavailable", login=self.login, peer=self.connection.peer, command="notify",
                        reason=error.reason)  # fmt: skip

    async def send_updates(self, *, expunge: bool, flags: bool = True, shows_new: bool = True) -> None:
        """Say what has changed in the selected mailbox (RFC 3501 §7); of ``flags`` too.

        ``shows_new``: of messages that came also what NOTIFY asked for (RFC 5465 §5.2).
        Where it is no longer there, or another in its place, the client has to start anew.
        """
        before = self.contexts.numbered(self.selected)
        uids = self.selected.uids
        last = uids[-1] if uids else 0
        try:
            changes = await self.selected.refresh(expunge=expunge, own=self.condstore)
        except NoSuchMailbox:
            self.unselect()
            self.engine.bye("The selected mailbox has been deleted or renamed")
        else:
            self.engine.send(self.contexts.gone(changes, before))
            told = changes if flags else replace(changes, flags=(), modseqs=())
            if flags:
                self.send_new_keywords()
            numbers = by_uid if self.uid_only else by_number
            self.engine.send(
                update_lines(told, numbers, condstore=self.condstore, vanished=self.qresync or self.uid_only)
            )
            self._send_modseq(changes)
            await self.contexts.refresh(self, changes)
            if shows_new and changes.exists is not None:
                await self._show_new(last)

    async def _show_new(self, last: int) -> None:
        """What NOTIFY wants to see of the messages whose UIDs are above ``last``."""
        selected = self.notifications.selected if self.notifications is not None else None
        if selected is not None and selected.items and self.selected.uids and self.selected.uids[-1] > last:
            new = ((last + 1, self.selected.uids[-1]),)
            await HANDLERS[commands.Fetch](self, commands.Fetch(b"", True, new, selected.items))

    def send_new_keywords(self) -> None:
        """Flags that were not there when the client was last told of them."""
        if self.selected.has_new_keywords():
            for line in flag_lines(self.selected):
                self.engine.untagged(line.encode("ascii", "replace"))

    def _send_modseq(self, changes: Changes) -> None:
        """How far the client knows the mailbox, where it can't tell by itself.

        Expunges that are kept back have lower modification sequences than the changes that were told: a client
        that remembers the highest of those would never hear of them. Expunges and arrivals come without one.
        """
        view = self.selected
        withheld = self.condstore and view.withholds
        if withheld or (self.qresync and (changes.vanished or changes.exists is not None)):
            self.engine.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % view.modseq)
