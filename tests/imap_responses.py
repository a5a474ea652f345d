"""A strict reader of FETCH responses (RFC 3501 §9): what doesn't fit the grammar raises ``ValueError``.

Lists become tuples, strings and literals ``bytes``, numbers ``int``, NIL ``None``; other atoms are ``Atom``.
"""

import re

_TOKEN = re.compile(
    rb'(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\\r\n\x00\x80-\xff]|\\["\\])*)"|~?\{(?P<literal>\d+)\}\r\n'
    rb"|(?P<atom>(?:(?:BODY|BINARY(?:\.SIZE)?)\[[^\]\r\n]*\](?:<\d+>)?|\\?[^(){ %*\"\\\]\x00-\x1f\x7f-\xff]+))"
)


class Atom(bytes):
    """An atom that is neither a number nor NIL."""


def fetched(data: bytes) -> dict[int, dict[bytes, object]]:
    """The items of each message in FETCH responses, from the first ``*`` on; what follows the last is left."""
    messages: dict[int, dict[bytes, object]] = {}
    at = 0
    while head := re.compile(rb"\* (\d+) FETCH (?=\()").match(data, at):
        items, at = value(data, head.end())
        if not isinstance(items, tuple) or len(items) % 2 or not data.startswith(b"\r\n", at):
            raise ValueError(data[head.start() : head.start() + 200])
        at += 2
        messages.setdefault(int(head[1]), {}).update(zip(items[::2], items[1::2], strict=True))  # type: ignore[arg-type]
    return messages


def value(data: bytes, at: int) -> tuple[object, int]:
    """The value at a place and where it ends; no recursion, since structures are as deep as senders like."""
    stack: list[list[object]] = [[]]
    while True:
        token = _TOKEN.match(data, at)
        if token is None:
            raise ValueError(f"at {at}: {data[max(0, at - 100) : at + 100]!r}")
        at = token.end()
        if token["open"]:
            stack.append([])
        elif token["close"]:
            stack[-2].append(tuple(stack.pop()))
        elif token["literal"]:
            stack[-1].append(data[at : at + int(token["literal"])])
            at += int(token["literal"])
        else:
            stack[-1].append(_scalar(token))
        if len(stack) == 1:
            return stack[0][0], at
        if data[at : at + 1] == b" ":
            at += 1
            if data[at : at + 1] in b" )":
                raise ValueError(f"a space too many at {at}")
        # Only lists may stand together without a space: addresses, and the parts of a multipart.
        elif data[at : at + 1] != b")" and not (token["close"] or token["open"]):
            raise ValueError(f"no space at {at}: {data[at - 20 : at + 20]!r}")


def _scalar(token: re.Match[bytes]) -> object:
    quoted, atom = token["quoted"], token["atom"]
    if quoted is not None:
        return re.sub(rb"\\(.)", rb"\1", quoted)
    if atom.isdigit():
        return int(atom)
    return None if atom == b"NIL" else Atom(atom)


def check_envelope(envelope: object) -> None:
    """Ten fields, six of them lists of addresses of four strings."""
    fields = _list(envelope, 10)
    for field in (*fields[:2], *fields[8:]):
        _nstring(field)
    for addresses in fields[2:8]:
        if addresses is not None:
            if not _list(addresses):
                raise ValueError("an empty list of addresses")
            for address in _list(addresses):
                for part in _list(address, 4):
                    _nstring(part)


def check_structure(structure: object) -> None:
    """BODYSTRUCTURE with all its extension fields."""
    pending = [structure]
    while pending:
        fields = _list(pending.pop())
        children = [field for field in fields if isinstance(field, tuple)][: _leading_lists(fields)]
        if children:
            pending += children
            subtype, *extension = fields[len(children) :]
            _string(subtype)
        else:
            extension = _check_leaf(fields, pending)
        _check_extension(extension, first_is_parameters=bool(children))


def _leading_lists(fields: tuple[object, ...]) -> int:
    return next((n for n, field in enumerate(fields) if not isinstance(field, tuple)), len(fields))


def _check_leaf(fields: tuple[object, ...], pending: list[object]) -> list[object]:
    kind, subtype, parameters, identity, description, encoding, octets, *rest = fields
    for value in (kind, subtype, encoding):
        _string(value)
    _parameters(parameters)
    _nstring(identity)
    _nstring(description)
    _number(octets)
    assert isinstance(kind, bytes)
    assert isinstance(subtype, bytes)
    if kind.lower() == b"message" and subtype.lower() == b"rfc822":
        envelope, body, lines, *rest = rest
        check_envelope(envelope)
        pending.append(body)
        _number(lines)
    elif kind.lower() == b"text":
        lines, *rest = rest
        _number(lines)
    return rest


def _check_extension(fields: list[object], *, first_is_parameters: bool) -> None:
    first, disposition, language, location = fields
    (_parameters if first_is_parameters else _nstring)(first)
    if disposition is not None:
        name, parameters = _list(disposition, 2)
        _string(name)
        _parameters(parameters)
    for word in language if isinstance(language, tuple) else (language,):
        _nstring(word)
    _nstring(location)


def _parameters(value: object) -> None:
    if value is not None:
        words = _list(value)
        if not words or len(words) % 2:
            raise ValueError(f"not pairs: {words!r}")
        for word in words:
            _string(word)


def _list(value: object, length: int = 0) -> tuple[object, ...]:
    if not isinstance(value, tuple) or (length and len(value) != length):
        raise ValueError(f"not a list of {length or 'any'}: {value!r}"[:300])
    return value


def _string(value: object) -> None:
    if not isinstance(value, bytes) or isinstance(value, Atom):
        raise ValueError(f"not a string: {value!r}"[:300])


def _nstring(value: object) -> None:
    if value is not None:
        _string(value)


def _number(value: object) -> None:
    if not isinstance(value, int):
        raise ValueError(f"not a number: {value!r}"[:300])
