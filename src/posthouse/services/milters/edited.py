"""A message as milters see and change it: its header fields one by one, and its body.

A milter is shown neither the fields that delivery puts in front nor this host's own Received field; its numbers are
Sendmail's (smfi_insheader(3), smfi_chgheader(3)).

Invariants:
  1. What no milter changes stays as it is, octet for octet.
  2. Whatever a milter gives as a value stays within its field: no line of it begins another one or the body.
  3. All lines end in CRLF.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from posthouse.base.errors import Refused
from posthouse.journal.content import Content
from posthouse.message.headers import header_end, iterate
from posthouse.protocols.milter.events import AddHeader, ChangeHeader, InsertHeader
from posthouse.protocols.smtp.body import OutgoingBody
from posthouse.services.rewriting.checks import TOO_LARGE

HEAD_BYTES = 256 * 1024
"""The largest header section of a message that milters see."""
_CHUNK = 65_535


@dataclass(frozen=True, slots=True)
class _Field:
    """``name`` in lower case, empty for a stray line; ``raw`` with its line ends."""

    name: bytes
    raw: bytes


class Edited:
    """One message."""

    def __init__(self, prefix: bytes, content: Content, temporary_dir: str) -> None:
        """``prefix`` is what we put in front of it, its Received field first. Raises ``Refused``."""
        self._temporary_dir = temporary_dir
        self._content = content
        own = next(iterate(prefix), None)
        received = own.end if own is not None and own.name == b"Received" else 0
        self._above = b""
        self._own = prefix[:received]
        section = prefix[received:] + content.head(HEAD_BYTES)
        end = header_end(section)
        if end == len(section) and content.size > HEAD_BYTES:
            raise Refused(TOO_LARGE, f"a header of more than {HEAD_BYTES} octets where there are milters")
        self._body_start = max(end - (len(prefix) - received), 0)
        self._fields, self._blank = _split(section[:end])
        self._body: Content | None = None
        self._new: Content | None = None
        self._converter = OutgoingBody(dotted=False)

    def header(self) -> Iterator[tuple[bytes, bytes]]:
        """Name and value of each field, as a milter is told."""
        for field in list(self._fields):
            if field.name:
                name, _, value = field.raw.partition(b":")
                yield name.rstrip(b" \t"), value.removesuffix(b"\r\n")

    def body(self) -> Iterator[bytes]:
        """The body in chunks as large as a milter takes them."""
        content, start = (self._content, self._body_start) if self._body is None else (self._body, 0)
        for chunk in content.chunks(_CHUNK):
            if start < len(chunk):
                yield chunk[start:] if start else chunk
            start = max(start - len(chunk), 0)

    # What milters change.

    def change(self, change: AddHeader | InsertHeader | ChangeHeader, *, has_space: bool) -> None:
        """``has_space``: the value has the blank after the colon in it."""
        self._end_last()
        match change:
            case AddHeader(name, value):
                self._fields.append(_made(name, value, has_space=has_space))
            case InsertHeader(index, name, value):
                self._insert(index, _made(name, value, has_space=has_space))
            case ChangeHeader(index, name, value):
                self._change(index, name, value, has_space=has_space)

    def replace_body(self, data: bytes) -> None:
        """The next octets of another body, which counts from ``take_body`` on. Raises ``OSError``."""
        if self._new is None:
            self._new = Content(self._temporary_dir, is_paired=True)
            self._converter = OutgoingBody(dotted=False)
        self._new.write(self._converter.content(data))

    def take_body(self) -> None:
        """The new body is complete, if there is one. Raises ``OSError``."""
        if self._new is not None:
            self._new.write(self._converter.end())
            self._new.finish()
            self._close(self._body)
            self._body, self._new = self._new, None

    def drop_body(self) -> None:
        """Forget the new body."""
        self._close(self._new)
        self._new = None

    def finish(self) -> tuple[bytes, Content]:
        """What stands in front now, and the content, another one where it had to change. Raises ``OSError``."""
        if self._body is not None:
            self._end_last()
        section = b"".join(field.raw for field in self._fields) + self._blank
        front = self._above + self._own
        if self._body is None:
            head = self._content.head(self._body_start)
            if section.endswith(head):
                return front + section[: len(section) - len(head)], self._content
        made = Content(self._temporary_dir, is_paired=True)
        try:
            made.write(section if self._blank or self._body is None else section + b"\r\n")
            for chunk in self.body():
                made.write(chunk)
            made.finish()
        except OSError:
            made.close()
            raise
        return front, made

    def close(self) -> None:
        """Give back what was made on the way."""
        for body in (self._body, self._new):
            self._close(body)

    @staticmethod
    def _close(body: Content | None) -> None:
        if body is not None:
            body.close()

    def _end_last(self) -> None:
        """See to it that the last field ends with its line: of a message without a body it need not."""
        if self._fields and not self._fields[-1].raw.endswith(b"\r\n"):
            self._fields[-1] = _Field(self._fields[-1].name, self._fields[-1].raw + b"\r\n")

    def _insert(self, index: int, field: _Field) -> None:
        if index == 0:
            self._above = field.raw + self._above
            return
        places = [place for place, one in enumerate(self._fields) if one.name]
        place = places[index - 1] if index <= len(places) else len(self._fields)
        self._fields.insert(place, field)

    def _change(self, index: int, name: bytes, value: bytes, *, has_space: bool) -> None:
        wanted = name.lower()
        places = [place for place, field in enumerate(self._fields) if field.name == wanted]
        index = max(index, 1)
        new = [_made(name, value, has_space=has_space)] if value.strip() else []
        if index <= len(places):
            self._fields[places[index - 1] : places[index - 1] + 1] = new
        else:
            self._fields += new


def _split(section: bytes) -> tuple[list[_Field], bytes]:
    """The fields and stray lines of a header section, and the blank line that ends it, if one does."""
    blank = b"\r\n" if section == b"\r\n" or section.endswith(b"\r\n\r\n") else b""
    end = len(section) - len(blank)
    found: list[_Field] = []
    done = 0
    for field in iterate(section):
        if field.start > done:
            found.append(_Field(b"", section[done : field.start]))
        found.append(_Field(field.name.lower(), section[field.start : min(field.end, end)]))
        done = field.end
    if done < end:
        found.append(_Field(b"", section[done:end]))
    return found, blank


def _made(name: bytes, value: bytes, *, has_space: bool) -> _Field:
    """A field of a milter's. Lines that would begin a field become continuations, empty ones go."""
    first, *more = value.replace(b"\r", b"").rstrip(b"\n").split(b"\n")
    lines = [line if line.startswith((b" ", b"\t")) else b"\t" + line for line in more if line.strip()]
    colon = b":" if has_space else b": "
    return _Field(name.lower(), b"\r\n".join([name + colon + first, *lines]) + b"\r\n")
