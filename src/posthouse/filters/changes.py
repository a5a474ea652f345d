"""What a filter may have changed about a message, beyond fields in front of it. Values only."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChangeHeader:
    """The ``index``-th field of that name, from 1, gets another value; empty: it is removed."""

    name: str
    value: str
    index: int = 1


@dataclass(frozen=True, slots=True)
class InsertHeader:
    """A new field before the ``index``-th field of the message, from 0; past the last one it is the last."""

    name: str
    value: str
    index: int


@dataclass(frozen=True, slots=True)
class ChangeSender:
    """Another envelope sender."""

    sender: str


@dataclass(frozen=True, slots=True)
class AddRecipient:
    """One more recipient, of whom nobody hears."""

    address: str


@dataclass(frozen=True, slots=True)
class RemoveRecipient:
    """One recipient less."""

    address: str


@dataclass(frozen=True, slots=True)
class ReplaceBody:
    """Another body, in CRLF."""

    body: bytes


Change = ChangeHeader | InsertHeader | ChangeSender | AddRecipient | RemoveRecipient | ReplaceBody
