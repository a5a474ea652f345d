"""What searching, sorting and threading need of a message's header section, in the form in which it is compared.

Invariant: a digest's size is bounded, whatever the header section; so is the time to make it.
"""

import re
from typing import NamedTuple

from posthouse.message import charsets, dates
from posthouse.message.addresslist import GroupStart, Mailbox, parse_addresses
from posthouse.message.casemap import casemap
from posthouse.message.headers import decode_words, iterate, unfold
from posthouse.message.subject import base_subject

MAX_REFERENCES = 1000
"""The oldest are left out."""
MAX_SUBJECT = 4096
FIRST_ADDRESS = 4096
"""In so many octets the first address must end."""
BETWEEN = "\0"
"""Stands between several fields of a name: no search text has it."""

_MESSAGE_ID = re.compile(rb"<([^<>]{1,1000}@[^<>]{1,1000})>")
_NOT_ID = re.compile(rb'[\s"\\]+')


class Digest(NamedTuple):
    """``day``: the Date field's, as written, as an ordinal; ``sent``: its seconds since the epoch.

    ``subject`` to ``bcc`` are the whole fields, None where there is none. ``base_subject``, ``*_box`` and ``*_name``
    are what SORT compares (RFC 5256 §3, RFC 5957 §3); ``is_reply`` is of the base subject. ``references`` are the
    message ids that this one answers, in their order, with a blank between two.
    """

    day: int | None
    sent: int | None
    subject: str | None
    sender: str | None
    recipient: str | None
    cc: str | None
    bcc: str | None
    base_subject: str
    is_reply: bool
    from_box: str
    to_box: str
    cc_box: str
    from_name: str
    to_name: str
    message_id: bytes
    references: bytes


def digest(header: bytes) -> Digest:
    """Of a header section."""
    fields: dict[bytes, list[bytes]] = {}
    for field in iterate(header):
        fields.setdefault(field.name.lower(), []).append(field.value)
    date = dates.parse_date(unfold(fields[b"date"][0])) if b"date" in fields else None
    subject = decode_words(fields[b"subject"][0])[:MAX_SUBJECT] if b"subject" in fields else ""
    base, is_reply = base_subject(subject)
    from_box, from_name = _first_address(fields.get(b"from"))
    to_box, to_name = _first_address(fields.get(b"to"))
    ids = message_ids(fields.get(b"message-id", [b""])[0])
    return Digest(
        date.toordinal() if date else None,
        int(date.timestamp()) if date else None,
        _searched(fields.get(b"subject")),
        _searched(fields.get(b"from")),
        _searched(fields.get(b"to")),
        _searched(fields.get(b"cc")),
        _searched(fields.get(b"bcc")),
        casemap(base),
        is_reply,
        from_box,
        to_box,
        _first_address(fields.get(b"cc"))[0],
        from_name,
        to_name,
        ids[0] if ids else b"",
        b" ".join(_references(fields)),
    )


def message_ids(value: bytes) -> list[bytes]:
    """The message ids in a field's value, without brackets, quotes and blanks (RFC 5256 §2.2)."""
    return [_NOT_ID.sub(b"", found) for found in _MESSAGE_ID.findall(value)]


def _references(fields: dict[bytes, list[bytes]]) -> list[bytes]:
    """Those of References, or the first of In-Reply-To where there are none."""
    found = message_ids(b" ".join(fields.get(b"references", [])))
    if not found:
        return message_ids(b" ".join(fields.get(b"in-reply-to", [])))[:1]
    return found[-MAX_REFERENCES:]


def _searched(values: list[bytes] | None) -> str | None:
    return None if values is None else BETWEEN.join(casemap(decode_words(value)) for value in values)


def _first_address(values: list[bytes] | None) -> tuple[str, str]:
    """The mailbox, and what a client displays: the name, or the address where it has none."""
    items = parse_addresses(values[0][:FIRST_ADDRESS]) if values else []
    if not items:
        return "", ""
    first = items[0]
    if isinstance(first, GroupStart):
        name = casemap(decode_words(first.name))
        return name, name
    assert isinstance(first, Mailbox)
    local = charsets.decode(first.local)
    shown = decode_words(first.name) if first.name else local
    if first.domain and not first.name:
        shown = f"{local}@{charsets.decode(first.domain)}"
    return casemap(local), casemap(shown)
