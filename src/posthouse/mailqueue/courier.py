"""The courier: whoever takes a queued message to its recipients, and what came of it for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from posthouse.base.errors import Reply
from posthouse.message.envelope import Recipient

if TYPE_CHECKING:
    from posthouse.mailqueue.spool import QueuedMessage


@dataclass(frozen=True, slots=True)
class Route:
    """Which courier takes a recipient's mail, and to which next hop; recipients with one route go together."""

    courier: str
    destination: str

    def __str__(self) -> str:
        return f"{self.courier}:{self.destination}"


@dataclass(frozen=True, slots=True)
class Delivered:
    """It is the remote side's now.

    ``remote``: the host that took it, empty for a mailbox of ours. ``dsn_passed_on``: that host speaks DSN and
    will itself report success if the sender asked for that (RFC 3461 §5.2.1).
    """

    reply: Reply
    remote: str = ""
    dsn_passed_on: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. ``unreachable``: nothing to do with this message, the destination as a whole does not answer."""

    reply: Reply
    remote: str = ""
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """Never."""

    reply: Reply
    remote: str = ""


Outcome = Delivered | Deferred | Failed


class Courier(Protocol):
    async def deliver(
        self, message: "QueuedMessage", recipients: Sequence[Recipient], destination: str
    ) -> list[Outcome]:
        """Try once; one outcome for each recipient, in order.

        ``Refused`` and ``TryLater`` count for all of them. May be cancelled at any moment.
        """
        ...
