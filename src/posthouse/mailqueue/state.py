"""What the queue remembers of a message: what became of each recipient, and what the operator said.

Times are seconds since the epoch. A recipient is done when its status is final and no report is owed for it.
"""

from typing import Literal

import msgspec

from posthouse.base.errors import Reply

Action = Literal["failed", "delayed", "delivered", "relayed"]
"""What a delivery report says of a recipient. RFC 3464 §2.3.3."""


HISTORY_LIMIT = 20
"""Most entries that are remembered of a recipient."""
HISTORY_TOTAL = 200
"""About how many entries are remembered of a message with many recipients."""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt for one recipient, and what came of it: the first, where ``times`` attempts up to ``until`` had
    the same."""

    at: float
    result: str
    remote: str = ""
    reply: Reply | None = None
    times: int = 1
    until: float = 0.0


class RecipientState(msgspec.Struct, omit_defaults=True):
    """One recipient, by its place in the envelope.

    ``next_attempt``: of a pending one, 0 before the first. ``owed``: the sender is still to be told this.
    ``warned``: has been told of the delay. ``expired``: failed because its time was up; ``reply`` is the last one.
    ``history``: the attempts; of very many different ones the first and the latest.
    """

    status: Literal["pending", "delivered", "failed"] = "pending"
    attempts: int = 0
    last_attempt: float = 0.0
    next_attempt: float = 0.0
    reply: Reply | None = None
    remote: str = ""
    owed: Action | None = None
    warned: bool = False
    expired: bool = False
    history: list[Attempt] = []

    @property
    def is_pending(self) -> bool:
        return self.status == "pending"


class MessageState(msgspec.Struct, omit_defaults=True):
    """A message's recipients in the envelope's order; ``hold``: no attempts; ``deleted``: by the operator."""

    recipients: list[RecipientState]
    hold: bool = False
    deleted: bool = False
    report_after: float = 0.0
    """When a report that could not be made is tried again."""

    @property
    def is_warned(self) -> bool:
        """Whether the sender has been told of the delay, or is about to be."""
        return any(state.warned for state in self.recipients)

    def remember(self, place: int, attempt: Attempt) -> None:
        """Add to a recipient's history; of a long one the first and the latest stay."""
        limit = max(min(HISTORY_LIMIT, HISTORY_TOTAL // len(self.recipients)), 2)
        history = self.recipients[place].history
        last = history[-1] if history else None
        if last and (last.result, last.remote, last.reply) == (attempt.result, attempt.remote, attempt.reply):
            last = msgspec.structs.replace(last, times=last.times + 1, until=attempt.at)
            self.recipients[place].history = [*history[:-1], last]
            return
        history = [*history, attempt]
        if len(history) > limit:
            history = [history[0], *history[len(history) - limit + 1 :]]
        self.recipients[place].history = history

    @property
    def is_done(self) -> bool:
        return self.deleted or not any(state.is_pending or state.owed for state in self.recipients)
