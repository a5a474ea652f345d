"""A message as it is rendered for a client, loaded piece by piece."""

from datetime import datetime

from posthouse.message.mime import Part


class Message:
    uid: int
    flags: frozenset[str]
    internal_date: datetime
    size: int
    envelope: bytes

    def structure(self, extended: bool) -> bytes:
        raise NotImplementedError

    def header(self) -> bytes:
        raise NotImplementedError

    def part(self) -> Part:
        raise NotImplementedError

    def body(self, start: int = 0, end: int | None = None) -> bytes:
        raise NotImplementedError
