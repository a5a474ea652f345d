"""The settings of milters."""

from dataclasses import dataclass

from posthouse.config.restrictions import parse_policy_endpoint

LISTENERS = ("smtp", "submission")
FAILURES = ("accept", "reject", "tempfail", "quarantine")


@dataclass(frozen=True, slots=True)
class Milter:
    """A program that speaks Sendmail's milter protocol (docs/other-filters.md), by a name of your own. Several are
    asked in the order in which they stand here, each about what those before it have left of the message."""

    address: str = ""
    """Where it listens: ``unix:/path``, ``host:port`` or ``inet:host:port``."""
    listeners: tuple[str, ...] = LISTENERS
    """Whose mail it sees: ``smtp`` for what comes in on port 25, ``submission`` for what users send."""
    on_failure: str = "tempfail"
    """What is done with a message while it does not answer or breaks the protocol, as Postfix's
    ``milter_default_action``: ``accept``, ``reject``, ``tempfail``, or ``quarantine`` (it is taken, and waits in the
    queue until an operator lets it go)."""
    timeout_seconds: int = 30
    """How long it may take for each answer before the end of the message, and for taking the connection."""
    message_seconds: int = 300
    """How long it may take at the end of the message; longer while it says that it is still at work, up to ten
    minutes."""


def address(value: str | int) -> str:
    """What is wrong with ``address``, as checks have it."""
    try:
        endpoint = parse_policy_endpoint(str(value))
    except ValueError:
        endpoint = None
    return "" if endpoint and (endpoint.path or endpoint.port) else "'unix:/path', 'host:port' or 'inet:host:port'"


def problem(milter: Milter) -> str:
    """What is wrong with a milter as a whole."""
    return "" if milter.address else "address has to say where the milter listens, as in 'unix:/run/opendkim.sock'"
