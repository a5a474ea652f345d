"""Reading what a milter answers: one packet at a time, each either well formed and allowed there or ``Malformed``."""

import re
import struct
from collections.abc import Callable
from typing import Final

from posthouse.base.errors import Reply
from posthouse.protocols.milter.codes import Actions, Stage, Steps
from posthouse.protocols.milter.events import (
    AddHeader,
    AddRecipient,
    Answer,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    Event,
    InsertHeader,
    Progress,
    Quarantine,
    ReplaceBody,
    ReplyWith,
)

MAX_ADDRESS: Final = 2000
MAX_REASON: Final = 1000
_REPLY = re.compile(rb"([45]\d\d)(?:[ -](.*))?", re.DOTALL)
_STATUS = re.compile(r"([45]\.\d{1,3}\.\d{1,3})(?: +(.*))?", re.DOTALL)
_ESCAPED = re.compile(rb"%(.?)", re.DOTALL)


class Malformed(Exception):
    """What is wrong with it."""


def read_negotiation(data: bytes) -> tuple[int, int, int, dict[int, tuple[str, ...]]]:
    """Version, actions, steps, and the macros that it wants by the number of their stage. Raises ``Malformed``."""
    if len(data) < 12:
        raise Malformed("its negotiation is too short")
    version, actions, steps = struct.unpack_from("!III", data)
    macros: dict[int, tuple[str, ...]] = {}
    rest = data[12:]
    while rest:
        if len(rest) < 5 or b"\0" not in rest[4:]:
            raise Malformed("its list of macros is cut off")
        number: int = struct.unpack_from("!I", rest)[0]
        names, _, rest = rest[4:].partition(b"\0")
        words = names.decode("latin-1").replace(",", " ").split()
        # Sendmail's names of more than one letter have braces; some leave them out.
        macros[number] = tuple([word if len(word) == 1 or word[0] == "{" else f"{{{word}}}" for word in words])
    return version, actions, steps, macros


def read(letter: bytes, data: bytes, asked: Stage, actions: Actions, steps: Steps) -> Event:
    """The event in a packet. Raises ``Malformed``, also for what is not allowed there."""
    plain = _PLAIN.get(letter)
    if plain is not None:
        if plain is Answer.SKIP and not (asked is Stage.BODY and steps & Steps.SKIP):
            raise Malformed(f"it may not skip at {asked.value}")
        if plain is Answer.DISCARD and asked in (Stage.CONNECT, Stage.HELO, Stage.UNKNOWN):
            raise Malformed(f"there is nothing to discard at {asked.value}")
        return plain
    if letter == b"p":
        return Progress()
    if letter == b"y":
        return ReplyWith(_reply(data))
    if letter not in _CHANGES:
        raise Malformed(f"it said {letter!r} at {asked.value}")
    needed, parse = _CHANGES[letter]
    if asked is not Stage.END:
        raise Malformed(f"it changes something ({letter!r}) at {asked.value}")
    if not actions & needed:
        raise Malformed(f"it changes something ({letter!r}) that it has not said it would")
    return parse(data)


_PLAIN: Final = {
    b"c": Answer.CONTINUE,
    b"a": Answer.ACCEPT,
    b"r": Answer.REJECT,
    b"t": Answer.TEMPFAIL,
    b"d": Answer.DISCARD,
    b"s": Answer.SKIP,
    b"f": Answer.SHUTDOWN,
    b"4": Answer.SHUTDOWN,
}


def _reply(data: bytes) -> Reply:
    """``550 5.7.1 text``, maybe of several lines; ``%%`` is a per cent sign (smfi_setreply)."""
    code = b""
    texts: list[str] = []
    for line in _ESCAPED.sub(rb"\1", _string(data)).splitlines():
        found = _REPLY.fullmatch(line)
        if not found or code not in (b"", found[1]):
            raise Malformed("its reply is none")
        code = found[1]
        texts.append((found[2] or b"").decode("ascii", "replace"))
    if not code:
        raise Malformed("its reply is none")
    matches = [_STATUS.fullmatch(text) for text in texts]
    status = matches[0][1] if matches[0] else ""
    if status[:1] != code[:1].decode():
        status = ""
    lines = [
        found[2] or "" if found and found[1] == status else text for found, text in zip(matches, texts, strict=True)
    ]
    return Reply(int(code), status, "\n".join(lines))


def _string(data: bytes) -> bytes:
    """The one string that the packet is."""
    text, end, rest = data.partition(b"\0")
    if not end or rest:
        raise Malformed("a string of it does not end where the packet does")
    return text


def _strings(data: bytes, count: int) -> list[bytes]:
    parts = data.split(b"\0")
    if len(parts) != count + 1 or parts[-1]:
        raise Malformed(f"expected {count} string(s) in its packet")
    return parts[:-1]


def _text(data: bytes, limit: int) -> str:
    if len(data) > limit:
        raise Malformed(f"a string of {len(data)} octets")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("a string of it is no UTF-8") from None


def _name(data: bytes) -> bytes:
    if not data or data.translate(None, _NAME_OCTETS):
        raise Malformed("a name of a header field is none")
    return data


_NAME_OCTETS = bytes(octet for octet in range(33, 127) if octet != 58)


def _add_header(data: bytes) -> Event:
    name, value = _strings(data, 2)
    return AddHeader(_name(name), value)


def _insert_header(data: bytes) -> Event:
    index = _number(data)
    name, value = _strings(data[4:], 2)
    return InsertHeader(index, _name(name), value)


def _change_header(data: bytes) -> Event:
    index = _number(data)
    name, value = _strings(data[4:], 2)
    return ChangeHeader(index, _name(name), value)


def _number(data: bytes) -> int:
    if len(data) < 4:
        raise Malformed("a number of it is cut off")
    number: int = struct.unpack_from("!I", data)[0]
    return number


def _path_and_arguments(data: bytes) -> tuple[str, str]:
    strings = _strings(data, data.count(b"\0"))
    if len(strings) not in (1, 2):
        raise Malformed("an address of it has too many arguments")
    path, *arguments = [_text(each, MAX_ADDRESS) for each in strings]
    return path, "".join(arguments)


def _change_sender(data: bytes) -> Event:
    return ChangeSender(*_path_and_arguments(data))


def _add_recipient(data: bytes) -> Event:
    return AddRecipient(_text(_string(data), MAX_ADDRESS))


def _add_recipient_with_arguments(data: bytes) -> Event:
    return AddRecipient(*_path_and_arguments(data))


def _delete_recipient(data: bytes) -> Event:
    return DeleteRecipient(_text(_string(data), MAX_ADDRESS))


def _quarantine(data: bytes) -> Event:
    return Quarantine(_string(data)[:MAX_REASON].decode("utf-8", "replace"))


_CHANGES: Final[dict[bytes, tuple[Actions, Callable[[bytes], Event]]]] = {
    b"h": (Actions.ADD_HEADERS, _add_header),
    b"i": (Actions.ADD_HEADERS, _insert_header),
    b"m": (Actions.CHANGE_HEADERS, _change_header),
    b"e": (Actions.CHANGE_SENDER, _change_sender),
    b"+": (Actions.ADD_RECIPIENT, _add_recipient),
    b"2": (Actions.ADD_RECIPIENT_WITH_ARGUMENTS, _add_recipient_with_arguments),
    b"-": (Actions.DELETE_RECIPIENT, _delete_recipient),
    b"b": (Actions.CHANGE_BODY, ReplaceBody),
    b"q": (Actions.QUARANTINE, _quarantine),
}
