"""Filtering: shows a message to the filters before it is taken in, and does what they and the policies say.

For mail that comes by SMTP and submission; what programs of this host hand in by LMTP has been through such things.

Invariants:
  1. Whoever has no filter configured has no ``Filtering``, and pays nothing.
  2. All recipients share one reply. Where every one of them is refused it is theirs; where one is put off, all are;
     else the message is taken, and kept in the quarantine for those who would have refused it: nothing that was taken
     is bounced for what is in it, and nothing is lost.
  3. What is kept comes by the same commit as what is delivered.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from posthouse.base.clock import Clock
from posthouse.base.errors import Refused, Reply, TryLater
from posthouse.directory.directory import Directory
from posthouse.directory.model import ToHost, ToMailbox
from posthouse.filters.filter import Mail
from posthouse.filters.pipeline import Pipeline
from posthouse.filters.policy import SYSTEM, Policy, policy_of
from posthouse.filters.quarantine import Found, Quarantine, Record
from posthouse.filters.verdict import Action, Outcome, Verdict, combine
from posthouse.journal.content import Content
from posthouse.journal.operations import Put
from posthouse.message.address import lookup_key, split
from posthouse.message.envelope import Envelope
from posthouse.message.headers import decode_words, fields, first, fold, printable
from posthouse.runtime.log import log
from posthouse.services.placement import Accepted
from posthouse.services.rewriting.rewriting import Handed

HEAD_BYTES = 64 * 1024
MAX_SUBJECT = 200
FOUND_FIELD = "X-Posthouse-Found"
HELD = Reply(450, "4.7.1", "Held by a content filter")
NOT_CHECKED = Reply(451, "4.7.1", "The message could not be checked at the moment, please try again later")
REFUSED = Reply(550, "5.7.1", "Message refused")


@dataclass(frozen=True, slots=True)
class From:
    """Who hands a message in, as filters are told; see ``filter.Mail``."""

    client: str
    helo: str = ""
    client_name: str = ""
    login: str = ""
    tls: str = ""
    protocol: str = "SMTP"
    is_own: bool = False
    is_submission: bool = False


@dataclass(frozen=True, slots=True)
class ForOne:
    """What comes of a message for one recipient. ``scope``: whose policy it is; ``*``: the system's."""

    accepted: Accepted
    direction: str
    scope: str
    policy: Policy
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Judgement:
    """What comes of a message: for each recipient, and for the whole of it (``action``, ``reply``)."""

    mail: Mail
    verdicts: tuple[Verdict, ...]
    recipients: tuple[ForOne, ...]
    action: Action
    reply: Reply | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys(reason for one in self.recipients for reason in one.outcome.reasons))

    @property
    def findings(self) -> tuple[Found, ...]:
        found = [Found(one.kind, one.name, one.part) for verdict in self.verdicts for one in verdict.findings]
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Filtered:
    """A message as it goes on; ``beside``: what the same commit puts elsewhere, ``junk``: who gets it into Junk."""

    handed: Handed
    prefix: bytes
    beside: tuple[Put, ...] = ()
    junk: frozenset[str] = frozenset()
    kept: tuple[str, ...] = ()
    """For whom it is in the quarantine."""


class Filtering:
    """The filters of one process, with the policies that say what is done."""

    def __init__(
        self, pipeline: Pipeline, directory: Directory, quarantine: Quarantine, hostname: str, clock: Clock
    ) -> None:
        self._pipeline = pipeline
        self._directory = directory
        self._quarantine = quarantine
        self._hostname = hostname
        self._clock = clock

    async def close(self) -> None:
        await self._pipeline.close()

    async def finish(self, source: From, handed: Handed, prefix: bytes) -> Filtered:
        """The message as it goes on. Raises ``Refused``, ``TryLater``."""
        judgement = await self.judge(source, handed.envelope, handed.content, handed.accepted, prefix)
        _log(judgement)
        reply = judgement.reply
        if reply is not None and judgement.action == Action.REJECT:
            raise Refused(reply, "; ".join(judgement.reasons))
        if reply is not None:
            raise TryLater("; ".join(judgement.reasons), reply)
        return self._sort(judgement, handed, prefix)

    async def judge(
        self, source: From, envelope: Envelope, content: Content, accepted: Sequence[Accepted], prefix: bytes = b""
    ) -> Judgement:
        """What the filters say, and what comes of it. Raises ``TryLater`` where the policies can't be read."""
        whose = [_whose(one, envelope, source) for one in accepted]
        policies = {key: await self._policy(*key) for key in dict.fromkeys(whose)}
        mail = Mail(
            content,
            envelope.trace_id,
            envelope.sender,
            tuple(one.recipient.address for one in accepted),
            client=source.client,
            client_name=source.client_name,
            helo=source.helo,
            login=source.login,
            tls=source.tls,
            protocol=source.protocol,
            is_own=source.is_own,
            is_submission=source.is_submission,
            directions=frozenset(direction for _, direction in whose),
            hostname=self._hostname,
            prefix=prefix,
        )
        verdicts = await self._pipeline.judge(mail)
        outcomes = {key: combine(verdicts, policy) for key, policy in policies.items()}
        found = tuple(
            ForOne(one, key[1], key[0] or SYSTEM, policies[key], outcomes[key])
            for one, key in zip(accepted, whose, strict=True)
        )
        action, reply = _together([one.outcome for one in found])
        return Judgement(mail, verdicts, found, action, reply)

    async def _policy(self, address: str, direction: str) -> Policy:
        scopes = tuple(dict.fromkeys((SYSTEM, *filter(None, (split(address)[1], address)))))
        return policy_of((), scopes, direction)

    def _sort(self, judgement: Judgement, handed: Handed, prefix: bytes) -> Filtered:
        """Who gets the message, who doesn't, and what stands in front of it."""
        prefix += _fields(judgement)
        delivered: list[Accepted] = []
        kept: list[ForOne] = []
        junk: set[str] = set()
        hold = handed.hold
        for one in judgement.recipients:
            match one.outcome.action:
                case Action.QUARANTINE | Action.REJECT:
                    kept.append(one)
                case Action.DISCARD:
                    pass
                case action:
                    delivered.append(one.accepted)
                    hold = hold or (HELD if action == Action.HOLD else None)
                    if action == Action.JUNK:
                        junk |= {to.account.email for to in one.accepted.destinations if isinstance(to, ToMailbox)}
        beside = (self._kept(judgement, kept, handed, prefix),) if kept else ()
        names = tuple(one.accepted.recipient.address for one in kept)
        handed = replace(handed, accepted=delivered, hold=hold)
        return Filtered(handed, prefix, beside, frozenset(junk), names)

    def _kept(self, judgement: Judgement, kept: Sequence[ForOne], handed: Handed, prefix: bytes) -> Put:
        head = handed.content.head(HEAD_BYTES)
        subject = first(fields(head), b"Subject")
        record = Record(
            replace(handed.envelope, recipients=tuple(one.accepted.recipient for one in kept)),
            self._clock.now().timestamp(),
            len(prefix) + handed.content.size,
            max(one.outcome.action for one in kept).word,
            kept[0].outcome.score,
            kept[0].direction,
            judgement.mail.client,
            judgement.mail.helo,
            printable(decode_words(subject.value), utf8=True)[:MAX_SUBJECT] if subject else "",
            judgement.findings,
            tuple(dict.fromkeys(reason for one in kept for reason in one.outcome.reasons)),
        )
        return self._quarantine.plan(record, prefix)


def _whose(accepted: Accepted, envelope: Envelope, source: From) -> tuple[str, str]:
    """Whose policy counts for a recipient (an address, or empty: the system's alone), and the direction.

    What leaves is its sender's business, all else its recipient's: the account's whose mailbox it is, where an alias
    leads to just one.
    """
    to = accepted.destinations
    if source.is_own and all(isinstance(one, ToHost) and one.transport != "lmtp" for one in to):
        return lookup_key(source.login or envelope.sender), "outbound"
    only = to[0] if len(to) == 1 else None
    address = only.account.email if isinstance(only, ToMailbox) else accepted.recipient.address
    return lookup_key(address), "submitted" if source.is_own else "inbound"


def _together(outcomes: Sequence[Outcome]) -> tuple[Action, Reply | None]:
    """What the client hears, if it is to hear that the message is not taken."""
    if all(one.action == Action.REJECT for one in outcomes):
        return Action.REJECT, outcomes[0].reply or REFUSED
    put_off = next((one for one in outcomes if one.action == Action.DEFER), None)
    if put_off is not None:
        return Action.DEFER, put_off.reply or NOT_CHECKED
    return max(one.action for one in outcomes), None


def _fields(judgement: Judgement) -> bytes:
    """What the filters want to have in front of the message, and what they have found."""
    wanted = [field for verdict in judgement.verdicts for field in verdict.headers]
    if judgement.findings:
        wanted.append((FOUND_FIELD, "; ".join(f"{one.kind}={one.name}" for one in judgement.findings)))
    lines = [fold(name, map(printable, value.split())) for name, value in wanted]
    return "".join(lines).encode("ascii", "replace")


def _log(judgement: Judgement) -> None:
    mail = judgement.mail
    actions: Mapping[str, int] = Counter(one.outcome.action.word for one in judgement.recipients)
    log.info(
        "filtered",
        trace=mail.trace_id,
        sender=mail.sender,
        login=mail.login,
        peer=mail.client,
        action=judgement.action.word,
        recipients={one.accepted.recipient.address: one.outcome.action.word for one in judgement.recipients}
        if len(actions) > 1
        else list(mail.recipients),
        score=round(sum(one.score for one in judgement.verdicts), 2),
        reasons=list(judgement.reasons),
    )
