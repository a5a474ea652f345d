"""Which messages a ``posthouse queue`` command is about: by their ids, or by what they are."""

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from posthouse.mailqueue.spool import QueuedMessage
from posthouse.mailqueue.state import RecipientState

STATES = ("active", "deferred", "hold")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Choice:
    """Everything that is said has to be so; ``older_than`` in seconds."""

    ids: tuple[str, ...] = ()
    every: bool = False
    state: str = ""
    to: str = ""
    sender: str = ""
    older_than: float = 0.0
    reason: str = ""
    limit: int = 0

    @property
    def is_filter(self) -> bool:
        """Whether the messages are said by what they are."""
        return bool(self.state or self.to or self.sender or self.older_than or self.reason)

    def check(self) -> None:
        """Raises ``typer.BadParameter`` where nothing, or too much, is said."""
        if (self.every and (self.ids or self.is_filter)) or not (self.every or self.ids or self.is_filter):
            raise typer.BadParameter("say which messages: by their IDs, by what they are (--state, …), or --all")

    def matches(self, message: QueuedMessage, now: float) -> bool:
        if self.older_than and now - message.arrived < self.older_than:
            return False
        if self.sender and not _is_from(self.sender, message.envelope.sender):
            return False
        pairs = zip(message.envelope.recipients, message.state.recipients, strict=True)
        return not (self.state or self.to or self.reason) or any(
            self._matches(recipient.address, state, hold=message.state.hold) for recipient, state in pairs
        )

    def _matches(self, address: str, state: RecipientState, *, hold: bool) -> bool:
        """One recipient has to be all of it, and still be waited for."""
        return (
            (state.is_pending or bool(state.owed))
            and (not self.state or self.state == state_of(state, hold=hold))
            and (not self.to or _is_from(self.to, address))
            and self.reason.lower() in str(state.reply or "").lower()
        )


def state_of(state: RecipientState, *, hold: bool) -> str:
    """One of ``STATES``."""
    return "hold" if hold else "deferred" if state.attempts else "active"


def _is_from(wanted: str, address: str) -> bool:
    """An address, a domain, or ``<>`` for the null sender."""
    if wanted == "<>":
        return not address
    wanted, address = wanted.lower().removeprefix("@"), address.lower()
    return address == wanted if "@" in wanted else address.rpartition("@")[2] == wanted


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smhd]?)", text)
    if not match:
        raise typer.BadParameter(f"{text!r} is no age: 90s, 30m, 4h, 2d")
    return float(match[1]) * _UNITS[match[2]]


def _state(text: str) -> str:
    if text and text not in STATES:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(STATES)}")
    return text


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "ids": (
        Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Messages, as `list` names them.")],
        None,
    ),
    "every": (Annotated[bool, typer.Option("--all", help="All messages of the queue.")], False),
    "state": (Annotated[str, typer.Option("--state", metavar="STATE", help="active, deferred or hold.")], ""),
    "to": (Annotated[str, typer.Option("--to", metavar="WHO", help="To this address or domain.")], ""),
    "sender": (Annotated[str, typer.Option("--from", metavar="WHO", help="From this address or domain; <>.")], ""),
    "older_than": (Annotated[str, typer.Option("--older-than", metavar="AGE", help="As 30m, 4h, 2d.")], "0"),
    "reason": (Annotated[str, typer.Option("--reason", metavar="TEXT", help="With this in the last reply.")], ""),
    "limit": (Annotated[int, typer.Option("--limit", min=0, help="No more than so many; 0: all.")], 0),
}


def choosing(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is a ``Choice``: it gets the options that say one."""
    own = list(inspect.signature(command).parameters.values())[1:]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        said = {field.name: given.pop(field.name) for field in fields(Choice)}
        said |= {
            "ids": tuple(said["ids"] or ()),
            "older_than": _seconds(said["older_than"]),
            "state": _state(said["state"]),
        }
        command(Choice(**said), **given)

    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _OPTIONS.items()
    ] + [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__dict__.pop("__wrapped__")
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
