"""What mail goes to from the queue and on this host: programs, files, Unix users. What of it is configured.

Invariant: what is off is told before the mail is taken, and costs a 4xx: nothing is bounced later for it.
"""

from collections.abc import Sequence

from posthouse.base.errors import TryLater
from posthouse.config.settings import Settings
from posthouse.directory.model import Destination, ToCommand, ToFile, ToMailbox, ToPipe, ToUnixUser

Outlet = ToMailbox | ToFile | ToCommand | ToUnixUser


class Outlets:
    """What of it the configuration lets be used."""

    def __init__(self, settings: Settings) -> None:
        self._transports = settings.transports
        self._local = settings.local

    def check(self, destinations: Sequence[Destination]) -> None:
        """Raises ``TryLater`` for what the tables may say, but nothing here delivers to."""
        for destination in destinations:
            match destination:
                case ToPipe(address, transport) if transport not in self._transports:
                    raise TryLater(
                        f"{address}: transport {transport}: is not defined here: [transports.{transport}] in the "
                        "configuration says what it runs"
                    )
                case ToFile(address) | ToCommand(address) if not self._local.run_as:
                    what = "file" if isinstance(destination, ToFile) else "command"
                    raise TryLater(f"{address}: a {what} is used only where [local] run_as says as which Unix user")
                case ToUnixUser(address) if not self._local.unix_users:
                    raise TryLater(f"{address}: [local] unix_users is false")
                case _:
                    pass


def via(destination: Destination) -> str:
    """What tells it apart from all else that one address leads to; empty where it is no outlet."""
    match destination:
        case ToFile(path=path):
            return path
        case ToCommand(command=command):
            return f"|{command}"
        case ToUnixUser(name=name):
            return f"~{name}"
        case ToMailbox(account=account) if not account.maildir.endswith("/"):
            return "mbox"
        case _:
            return ""


def is_outlet(destination: Destination) -> bool:
    """Whether mail for it goes through the queue although it stays on this host."""
    return isinstance(destination, ToPipe) or bool(via(destination))
