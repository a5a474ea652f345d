"""One attempt: who still belongs on this route, and what the courier says. Nothing but cancellation escapes."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from posthouse.base.errors import TEMPORARY_FAILURE, Refused, Reply, TryLater
from posthouse.mailqueue.courier import Courier, Deferred, Failed, Outcome, Route
from posthouse.mailqueue.spool import QueuedMessage
from posthouse.runtime.log import log

NO_ANSWER = Reply(451, "4.4.1", "The destination has not answered for some time")
Router = Callable[[str, str], Awaitable[Route]]
"""The route of an address, and of mail from a sender to it. Raises ``Refused`` or ``TryLater``."""


async def check_routes(
    router: Router, message: QueuedMessage, places: Sequence[int], route: Route
) -> tuple[dict[int, Outcome], list[int]]:
    """What routing alone decides, and who is still to be delivered to on ``route``.

    The rest have another route by now: the directory changes under a queue.
    """
    outcomes: dict[int, Outcome] = {}
    remaining: list[int] = []
    for place in places:
        try:
            if await router(message.envelope.recipients[place].address, message.envelope.sender) == route:
                remaining.append(place)
        except Refused as refusal:
            outcomes[place] = Failed(refusal.reply)
        except TryLater as trouble:
            outcomes[place] = Deferred(trouble.reply)
        except Exception as failure:  # noqa: BLE001 - a bug is a 4xx
            log.error("queue-routing-broken", trace=message.id, exc_info=failure)
            outcomes[place] = Deferred(TEMPORARY_FAILURE)
    return outcomes, remaining


async def call_courier(
    couriers: Mapping[str, Courier], message: QueuedMessage, places: Sequence[int], route: Route
) -> list[Outcome]:
    """One outcome for each of the places; whatever the courier raises is an outcome too."""
    recipients = [message.envelope.recipients[place] for place in places]
    try:
        outcomes = await couriers[route.courier].deliver(message, recipients, route.destination)
        if len(outcomes) == len(recipients):
            return outcomes
        log.error("courier-broken", trace=message.id, route=str(route), outcomes=len(outcomes))
    except Refused as refusal:
        return [Failed(refusal.reply)] * len(recipients)
    except TryLater as trouble:
        return [Deferred(trouble.reply)] * len(recipients)
    except Exception as failure:  # noqa: BLE001 - a bug is a 4xx
        log.error("courier-broken", trace=message.id, route=str(route), exc_info=failure)
    return [Deferred(TEMPORARY_FAILURE)] * len(recipients)


def turned_away(outcome: Outcome) -> bool:
    """Nobody answered, or the server had no place for us: 421, RFC 5321 §3.8."""
    return isinstance(outcome, Deferred) and (outcome.unreachable or outcome.reply.code == 421)
