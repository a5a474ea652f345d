"""What the operator is told by mail of what users send."""

from datetime import UTC, datetime

from posthouse.base.clock import Clock
from posthouse.base.errors import PosthouseError
from posthouse.message.envelope import Envelope, Recipient
from posthouse.message.warning import build_warning
from posthouse.runtime.log import log, new_trace_id
from posthouse.services.placement import Placement
from posthouse.services.sending.limits import KINDS, Excess

_WORDS = dict(
    zip(KINDS, ("messages", "recipients", "bytes", "recipients that it had not written to before"), strict=True)
)


class Notices:
    """To ``to``: a full address, or a name at ``hostname``; empty: nobody is told."""

    def __init__(self, placement: Placement, hostname: str, to: str, clock: Clock) -> None:
        self._placement = placement
        self._hostname = hostname
        self._to = to if "@" in to or not to else f"{to}@{hostname}"
        self._clock = clock

    async def limit_reached(self, found: Excess, login: str, peer: str) -> bool:
        """Whether it could be sent, or need not be."""
        if not self._to:
            return True
        trace_id = new_trace_id()
        data = build_warning(
            hostname=self._hostname,
            to=self._to,
            subject=f"{found.bound.name} has reached its sending limit",
            paragraphs=_paragraphs(found, login, peer),
            message_id=f"<{trace_id}@{self._hostname}>",
            date=self._clock.now(),
        )
        # A report on it would tell nobody anything.
        recipient = Recipient(self._to, notify=frozenset({"NEVER"}))
        is_ascii = data.isascii()
        envelope = Envelope(
            "", (recipient,), trace_id, body="7BIT" if is_ascii else "8BITMIME", smtputf8=not self._to.isascii()
        )
        try:
            await self._placement.submit(envelope, data)
        except PosthouseError as error:
            log.error("notice-not-sent", recipient=self._to, about=found.bound.name, reason=error.reason)
            return False
        log.info("notice-submitted", trace=trace_id, recipient=self._to, about=found.bound.name)
        return True


def _paragraphs(found: Excess, login: str, peer: str) -> list[str]:
    name, until = found.bound.name, datetime.fromtimestamp(found.until, UTC)
    who = "login" if "@" in name else "domain"
    kind = _WORDS[found.kind]
    if found.bound.holds:
        becomes = (
            "What is sent beyond that is held in the queue: 'posthouse queue list --state hold' shows it, 'posthouse "
            "queue release' lets it go, 'posthouse queue delete' throws it away."
        )
    else:
        becomes = "What is sent beyond that is put off: its program hears that it may try again later."
    noun = "account" if "@" in name else "domain"
    happened = (
        f"The {who} {name} has sent {found.used} of the {found.most} {kind} that are allowed in this {found.span}, "
        f"and has tried to send more than that, as {login} from {peer}. The {found.span} ends at "
        f"{until:%Y-%m-%d %H:%M} UTC."
    )
    advice = (
        f"Has somebody stolen the password? 'posthouse account disable {login}' stops them, 'posthouse account "
        f"passwd {login}' sets another. If not, 'posthouse {noun} limits {name}' shows and sets the limits, and "
        f"'posthouse limits clear {name}' lets it begin anew."
    )
    return [happened, becomes, advice, "You are told of this once a day."]
