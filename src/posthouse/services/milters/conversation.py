"""What one milter is told of one SMTP session, and what is done where it fails.

Invariants:
  1. A connection lasts as long as the session. One that was lost is made anew for the next message, which begins with
     connect and HELO again.
  2. What it changes counts all together, once it has said that it is done, or not at all.
"""

from collections.abc import Mapping, Sequence

from posthouse.base.errors import PosthouseError, Refused, Reply, TryLater
from posthouse.config.milters import Milter
from posthouse.protocols.milter.codes import Steps
from posthouse.protocols.milter.events import (
    AddHeader,
    AddRecipient,
    Answer,
    Change,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    Quarantine,
    ReplaceBody,
    ReplyWith,
)
from posthouse.runtime.log import log
from posthouse.services.milters.edited import Edited
from posthouse.services.milters.link import Link, MilterTrouble

Macros = Mapping[str, str]
MAX_CHANGED_BYTES = 4 * 1024 * 1024
"""Octets of all values and addresses that a milter may give for one message."""
REJECTED = Reply(550, "5.7.1", "Command rejected")
LATER = Reply(451, "4.7.1", "Service unavailable - try again later")
SHUT_DOWN = Reply(421, "4.7.0", "Server closing connection")
FAILED = Reply(550, "5.5.0", "Service unavailable")

_REPLIES = {Answer.REJECT: REJECTED, Answer.TEMPFAIL: LATER, Answer.SHUTDOWN: SHUT_DOWN}


class Discarded(Exception):
    """A milter wants the message to be taken and thrown away."""


class Conversation:
    """One milter in one session. Methods raise ``Refused``, ``TryLater``, ``Discarded``."""

    def __init__(self, name: str, milter: Milter) -> None:
        self.name = name
        self.quarantine = ""
        """Why the message is to wait, where its failure asks for that."""
        self._milter = milter
        self._link: Link | None = None
        self._client: tuple[str, str, Macros] | None = None
        self._helo: tuple[str, Macros] | None = None
        self._is_over = False  # it has accepted the session
        self._is_out = False  # it has accepted the message, or failed in it
        self._failure: PosthouseError | None = None  # what the rest of the message meets

    async def connect(self, name: str, address: str, macros: Macros) -> None:
        """The session begins. A milter that fails is asked again with the message."""
        self._client = (name, address, macros)
        try:
            await self._open()
        except MilterTrouble as error:
            self._note(error)

    async def helo(self, name: str, macros: Macros) -> None:
        """HELO or EHLO."""
        self._helo = (name, macros)
        if self._link is None or self._is_over:
            return
        try:
            await self._say_helo(self._link)
        except MilterTrouble as error:
            self._note(error)

    async def mail(self, path: str, arguments: Sequence[str], macros: Macros) -> None:
        """A message begins."""
        self._is_out, self._failure, self.quarantine = False, None, ""
        if self._is_over:
            return
        try:
            if self._link is None or not self._link.is_usable:
                await self._open()
            if self._link is None or self._is_over:
                return
            self._link.engine.mail(path, arguments, macros)
            self._obey(await self._link.answer())
        except MilterTrouble as error:
            self._fail(error)

    async def rcpt(self, path: str, arguments: Sequence[str], macros: Macros) -> None:
        """A recipient."""
        if link := self._listening():
            try:
                link.engine.rcpt(path, arguments, macros)
                self._obey(await link.answer())
            except MilterTrouble as error:
                self._fail(error)

    async def refused(self, path: str, arguments: Sequence[str], macros: Macros) -> None:
        """A recipient that is none: for milters that want to know. What they say to it counts for nothing."""
        if self._failure is None and (link := self._listening()) and link.engine.steps & Steps.REFUSED_RECIPIENTS:
            try:
                link.engine.rcpt(path, arguments, macros)
                await link.answer()
            except MilterTrouble as error:
                self._note(error)
                self._is_out = True

    async def data(self, macros: Macros) -> None:
        """All recipients are known."""
        if link := self._listening():
            try:
                link.engine.data(macros)
                self._obey(await link.answer())
            except MilterTrouble as error:
                self._fail(error)

    async def finish(self, edited: Edited, macros: Macros, max_body_bytes: int) -> list[Change]:
        """The message is complete: what is to be changed beside its fields and body, which are changed here.

        Raises ``OSError`` too.
        """
        link = self._listening()
        if link is None:
            return []
        found = _Found(edited, max_body_bytes)
        try:
            # Whoever has enough before the end says so by an answer other than CONTINUE.
            for tell in (self._tell_header, self._tell_body):
                self._obey(await tell(link, edited, macros))
                if self._is_out:
                    return []
            link.engine.end(macros)
            self._obey(await link.answer(found.take))
            return found.apply(has_space=bool(link.engine.steps & Steps.LEADING_SPACE))
        except MilterTrouble as error:
            self._fail(error)
            return []
        finally:
            edited.drop_body()

    def abort(self) -> None:
        """The message is over, one way or the other."""
        self._is_out, self._failure = False, None
        if self._link is not None:
            self._link.abort()

    def close(self) -> None:
        """The session is over."""
        if self._link is not None:
            self._link.leave()
            self._link = None

    # Within.

    def _listening(self) -> Link | None:
        """The milter, if it is to be told more of this message. Raises what its failure has made of the message."""
        if self._failure is not None:
            raise self._failure
        return None if self._is_over or self._is_out else self._link

    async def _open(self) -> None:
        self.close()
        assert self._client is not None
        self._link = link = await Link.open(self._milter)
        name, address, macros = self._client
        try:
            link.engine.connect(name, address, 0, macros)
            self._obey(await link.answer(), is_session=True)
            if self._helo is not None and not self._is_over:
                await self._say_helo(link)
        except BaseException:
            self.close()
            raise

    async def _say_helo(self, link: Link) -> None:
        assert self._helo is not None
        link.abort()
        link.engine.helo(*self._helo)
        self._obey(await link.answer(), is_session=True)

    async def _tell_header(self, link: Link, edited: Edited, macros: Macros) -> Answer | ReplyWith:
        engine = link.engine
        if not engine.steps & Steps.NO_HEADERS:
            for name, value in edited.header():
                engine.header(name, value)
                answer = await link.answer()
                if answer is not Answer.CONTINUE:
                    return answer
        engine.end_of_headers(macros)
        return await link.answer()

    async def _tell_body(self, link: Link, edited: Edited, _: Macros) -> Answer | ReplyWith:
        engine = link.engine
        if engine.steps & Steps.NO_BODY:
            return Answer.CONTINUE
        for chunk in edited.body():
            engine.body(chunk)
            await link.flush()
            answer = await link.answer()
            if answer is Answer.SKIP:
                break
            if answer is not Answer.CONTINUE:
                return answer
        return Answer.CONTINUE

    def _obey(self, answer: Answer | ReplyWith, *, is_session: bool = False) -> None:
        """Raises where the milter refuses; notes where it has heard enough."""
        match answer:
            case Answer.CONTINUE | Answer.SKIP:
                pass
            case Answer.ACCEPT if is_session:
                self._is_over = True
            case Answer.ACCEPT:
                self._is_out = True
            case Answer.DISCARD:
                self._is_out = True
                raise Discarded(self.name)
            case ReplyWith(reply):
                raise _refusal(reply, self.name)
            case _:
                raise _refusal(_REPLIES[answer], self.name)

    def _fail(self, error: MilterTrouble) -> None:
        """Do with the message what is done where this milter fails. Raises ``Refused``, ``TryLater``."""
        self._note(error)
        self._is_out = True
        match self._milter.on_failure:
            case "accept":
                return
            case "quarantine":
                self.quarantine = f"milter {self.name} did not answer"
                return
            case "reject":
                self._failure = Refused(FAILED, f"milter {self.name}: {error}")
            case _:
                self._failure = TryLater(f"milter {self.name}: {error}", LATER)
        raise self._failure

    def _note(self, error: MilterTrouble) -> None:
        log.warning("milter-failed", milter=self.name, reason=str(error))
        if self._link is not None:
            self._link.cut()
            self._link = None


class _Found:
    """The changes of one milter to one message, as they come."""

    def __init__(self, edited: Edited, max_body_bytes: int) -> None:
        self._changes: list[Change] = []
        self._edited = edited
        self._left = MAX_CHANGED_BYTES
        self._body_left = max_body_bytes
        self._trouble: OSError | None = None

    def take(self, change: Change) -> None:
        """Raises ``MilterTrouble`` for too much."""
        if isinstance(change, ReplaceBody):
            self._body_left -= len(change.data)
            if self._body_left < 0:
                raise MilterTrouble("its body is larger than a message may be")
            try:
                self._edited.replace_body(change.data)
            except OSError as error:  # ours, not the milter's
                self._trouble = error
            return
        self._left -= _size(change)
        if self._left < 0:
            raise MilterTrouble("it changes too much")
        self._changes.append(change)

    def apply(self, *, has_space: bool) -> list[Change]:
        """Change fields and body; the other changes. Raises ``OSError``."""
        if self._trouble is not None:
            raise self._trouble
        self._edited.take_body()
        others: list[Change] = []
        for change in self._changes:
            if isinstance(change, AddHeader | InsertHeader | ChangeHeader):
                self._edited.change(change, has_space=has_space)
            else:
                others.append(change)
        return others


def _size(change: Change) -> int:
    match change:
        case AddHeader(name, value) | InsertHeader(_, name, value) | ChangeHeader(_, name, value):
            return len(name) + len(value)
        case AddRecipient(path, arguments) | ChangeSender(path, arguments):
            return len(path) + len(arguments)
        case DeleteRecipient(text) | Quarantine(text):
            return len(text)
        case ReplaceBody(data):
            return len(data)


def _refusal(reply: Reply, name: str) -> PosthouseError:
    reason = f"milter {name} says so"
    return Refused(reply, reason) if reply.is_permanent_failure else TryLater(reason, reply)
