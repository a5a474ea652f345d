"""FETCH, compiled: from its items to what the store shall load and a function that renders a message.

Invariants:
  1. ``render`` runs in the store's threads and touches nothing but its message and this plan.
  2. A response is one byte string, made by one formatting operation, unless a Stretch is in it.
  3. ``render_columns`` says of each message what ``render`` says.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, Final

from posthouse.message.dates import format_internal_date, format_internal_seconds
from posthouse.protocols.imap.commands import Attribute, Binary, FetchItem, Section
from posthouse.protocols.imap.render import NIL, flag_list, literal, string
from posthouse.servers.imap.section import Stretch, binary_value, partial, section_value, section_want
from posthouse.store.fetch import Columns, Message
from posthouse.store.model import Want

Getter = Callable[[Message], Any]
Column = Callable[[Columns], Iterable[Any]]
Response = bytes | tuple[bytes | Stretch, ...]
"""What a message gives: one line, or the pieces of one in order."""

MODSEQ: Final = Attribute("MODSEQ")
SEEN: Final = frozenset({"\\Seen"})


def _flags(message: Message) -> bytes:
    return flag_list(message.flags)


def _flags_once_seen(message: Message) -> bytes:
    return flag_list(message.flags | SEEN)


def _internal_date(message: Message) -> bytes:
    return b'"%b"' % format_internal_date(message.internal_date).encode("ascii")


def _dates(columns: Columns) -> Iterable[bytes]:
    return [b'"%b"' % format_internal_seconds(seconds).encode("ascii") for seconds in columns.values[Want.DATE]]


def _save_date(message: Message) -> bytes:
    """RFC 8514 §4.2."""
    saved = message.saved
    return NIL if saved is None else b'"%b"' % format_internal_date(saved).encode("ascii")


def _preview(message: Message) -> bytes:
    return string(message.preview.encode("utf-8", "replace"))


def _known_preview(message: Message) -> bytes:
    """RFC 8970 §4.1: only if that is no work."""
    return NIL if message.entry.preview is None else _preview(message)


_uid: Final[Getter] = attrgetter("uid")

# Format, what it takes, and how to get it.
ATTRIBUTES: Final[dict[str, tuple[bytes, Want, Getter]]] = {
    "UID": (b"UID %d", Want(0), _uid),
    "FLAGS": (b"FLAGS %b", Want.FLAGS, _flags),
    "INTERNALDATE": (b"INTERNALDATE %b", Want.DATE, _internal_date),
    "MODSEQ": (b"MODSEQ (%d)", Want.MODSEQ, attrgetter("modseq")),
    "RFC822.SIZE": (b"RFC822.SIZE %d", Want.SIZE, attrgetter("size")),
    "ENVELOPE": (b"ENVELOPE %b", Want.ENVELOPE, attrgetter("envelope")),
    "SAVEDATE": (b"SAVEDATE %b", Want.SAVED, _save_date),
    "EMAILID": (b"EMAILID (%b)", Want.EMAILID, lambda message: message.email_id.encode("ascii")),
    "THREADID": (b"THREADID %b", Want.FLAGS, lambda _: NIL),
    "PREVIEW": (b"PREVIEW %b", Want.PREVIEW, _preview),
    "PREVIEW (LAZY)": (b"PREVIEW %b", Want.PREVIEW, _known_preview),
    "BODY": (b"BODY %b", Want.STRUCTURE, lambda message: message.structure(False)),
    "BODYSTRUCTURE": (b"BODYSTRUCTURE %b", Want.STRUCTURE, lambda message: message.structure(True)),
}

# How to get it for many messages at once.
COLUMNS: Final[dict[str, Column]] = {
    "UID": attrgetter("uids"),
    "FLAGS": lambda columns: map(flag_list, columns.flags),
    "INTERNALDATE": _dates,
    "RFC822.SIZE": lambda columns: columns.values[Want.SIZE],
    "ENVELOPE": lambda columns: columns.values[Want.ENVELOPE],
    "BODYSTRUCTURE": lambda columns: columns.values[Want.STRUCTURE],
}


class FetchPlan:
    """``want`` is for the store, ``numbers`` has the sequence number of each UID.

    ``modseq`` is as far as the view knows its mailbox. ``uid_only``: UIDs stand for sequence numbers (RFC 9586).
    ``names`` are the fields that it means by FIELDS. ``may_mark``: showing a body makes a message \\Seen.
    """

    __slots__ = (
        "_columns",
        "_formats",
        "_getters",
        "_marked_getters",
        "_marked_template",
        "_modseq",
        "_newly_seen",
        "_numbers",
        "_template",
        "_template_of",
        "may_mark",
        "names",
        "want",
    )

    def __init__(
        self,
        items: tuple[FetchItem, ...],
        numbers: Mapping[int, int],
        *,
        uid: bool,
        may_mark: bool,
        modseq: int = 0,
        uid_only: bool = False,
    ) -> None:
        self._template_of = _uid_template if uid_only else _template
        self._numbers = numbers
        self._modseq = modseq
        self._newly_seen: list[int] = []
        self.want = Want(0)
        self._formats: list[bytes] = []
        self._getters: list[Getter] = []
        # RFC 3501 §6.4.8: responses to a UID command carry the UID.
        if uid and not uid_only and Attribute("UID") not in items:
            items = (Attribute("UID"), *items)
        field_sets = {item.fields for item in items if isinstance(item, Section) and _is_field_set(item)}
        self.names = next(iter(field_sets)) if len(field_sets) == 1 else frozenset[bytes]()
        for item in items:
            self._add(item)
        self._template = self._marked_template = self._template_of(self._formats)
        self._marked_getters = self._getters
        self.may_mark = may_mark and any(not isinstance(item, Attribute) and not item.peek for item in items)
        if self.may_mark:
            self._plan_marking()
        columns = [self._column(item) for item in items]
        self._columns = [column for column in columns if column is not None]
        if self.may_mark or len(field_sets) > 1 or len(self._columns) < len(columns):
            self._columns.clear()

    def render(self, message: Message) -> Response:
        """The response for one message."""
        template, getters = self._template, self._getters
        if self.may_mark and "\\Seen" not in message.flags:
            self._newly_seen.append(message.uid)
            template, getters = self._marked_template, self._marked_getters
        values = [get(message) for get in getters]
        number = self._numbers[message.uid]
        if Stretch in map(type, values):
            return _pieces(template, [number, *values])
        return template % (number, *values)

    @property
    def render_columns(self) -> Callable[[Columns], Response] | None:
        """The responses for many messages at once; None where each must be looked at."""
        return self._render_columns if self._columns else None

    def _render_columns(self, columns: Columns) -> bytes:
        numbers = map(self._numbers.__getitem__, columns.uids)
        values = zip(numbers, *[column(columns) for column in self._columns], strict=True)
        return b"".join(map(self._template.__mod__, values))

    def take_newly_seen(self) -> list[int]:
        """The UIDs of messages rendered as \\Seen that had not been, since the last call.

        The store's threads may be adding to the list meanwhile, at its end.
        """
        taken = self._newly_seen[:]
        del self._newly_seen[: len(taken)]
        return taken

    def _add(self, item: FetchItem) -> None:
        if isinstance(item, Attribute):
            form, want, getter = ATTRIBUTES[item.name]
            if item == MODSEQ:
                # The flags beside it are the view's: a change that the view doesn't know yet is still to be told.
                getter = self._known_modseq
        elif isinstance(item, Binary):
            form, want, getter = item.label + b" %b", Want.STRUCTURE | Want.BODY, _binary_getter(item)
        else:
            form = item.label.replace(b"%", b"%%") + b" %b"
            want, getter = section_want(item), _section_getter(item)
            if want is Want.FIELDS and not self.names:
                want = Want.HEADER
        self._formats.append(form)
        self._getters.append(getter)
        self.want |= want

    def _known_modseq(self, message: Message) -> int:
        return min(message.modseq, self._modseq)

    def _column(self, item: FetchItem) -> Column | None:
        if item == MODSEQ:
            return lambda columns: [min(modseq, self._modseq) for modseq in columns.values[Want.MODSEQ]]
        if isinstance(item, Attribute):
            return COLUMNS.get(item.name)
        if not isinstance(item, Section) or not _is_field_set(item):
            return None
        return lambda columns: [literal(partial(fields, item)) for fields in columns.values[Want.FIELDS]]

    def _plan_marking(self) -> None:
        """The flags are part of the response where they change (RFC 3501 §6.4.5)."""
        self.want |= Want.FLAGS
        self._marked_getters = [_flags_once_seen if getter is _flags else getter for getter in self._getters]
        if self._marked_getters == self._getters:
            self._marked_getters.append(_flags_once_seen)
            self._marked_template = self._template_of([*self._formats, b"FLAGS %b"])


def _template(formats: list[bytes]) -> bytes:
    return b"* %%d FETCH (%b)\r\n" % b" ".join(formats)


def _uid_template(formats: list[bytes]) -> bytes:
    """RFC 9586 §3.3."""
    return b"* %%d UIDFETCH (%b)\r\n" % b" ".join(formats)


def _is_field_set(section: Section) -> bool:
    return section_want(section) is Want.FIELDS


def _section_getter(section: Section) -> Getter:
    return lambda message: section_value(message, section)


def _binary_getter(binary: Binary) -> Getter:
    return lambda message: binary_value(message, binary)


def _pieces(template: bytes, values: list[Any]) -> Response:
    """The line, cut where a Stretch goes."""
    # Labels are free of NUL (RFC 3501 §9), and values that may hold it are put in their places after the cut.
    line = template % tuple(b"\0" if isinstance(value, Stretch | bytes) else value for value in values)
    head, *rest = line.split(b"\0")
    pieces: list[bytes | Stretch] = [head]
    for value, text in zip([value for value in values if isinstance(value, Stretch | bytes)], rest, strict=True):
        pieces += (value, text)
    return tuple(pieces)
