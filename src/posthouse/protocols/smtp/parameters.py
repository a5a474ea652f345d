"""The arguments of MAIL and RCPT: a path, then parameters (RFC 5321 §4.1.2).

Every function raises PeerError with the reply that says what is wrong. A parameter that stands twice, has a value
where none belongs, or is unknown is refused; nothing is ignored.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from posthouse.base.errors import PeerError, Reply
from posthouse.protocols.smtp import xtext

_ATOM = re.compile(rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")
_NOTIFY = {b"SUCCESS": "SUCCESS", b"FAILURE": "FAILURE", b"DELAY": "DELAY"}
_NEVER = frozenset({"NEVER"})
_NO_NOTIFY: frozenset[str] = frozenset()


@dataclass(slots=True)
class MailParameters:
    """What MAIL's parameters said; the meaning is that of events.MailFrom."""

    size: int = 0
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    auth: str = ""
    requiretls: bool = False


@dataclass(slots=True)
class RcptParameters:
    """What RCPT's parameters said; the meaning is that of events.RcptTo."""

    notify: frozenset[str] = _NO_NOTIFY
    orcpt: str = ""


def split_path(argument: bytes, keyword: bytes) -> tuple[bytes, list[bytes]]:
    """``FROM:<path> A=1 B`` into the path without brackets and the parameters.

    Accepts what Postfix does and clients do: blanks after the colon, a path without brackets.
    """
    if argument[: len(keyword)].upper() != keyword:
        _refuse("5.5.4", f"Syntax: {keyword.decode()}<address>")
    argument = argument[len(keyword) :].strip(b" \t")
    if argument[:1] != b"<":
        path, *parameters = argument.split() or (b"",)
        if not path:
            _refuse("5.5.4", f"Syntax: {keyword.decode()}<address>")
        return path, parameters
    end = argument.find(b">") if b'"' not in argument else _closing_bracket(argument)
    rest = argument[end + 1 :]
    if end < 0 or (rest and rest[0] not in b" \t"):
        _refuse("5.5.4", f"Syntax: {keyword.decode()}<address>")
    return argument[1:end], rest.split()


def mail_parameters(words: list[bytes]) -> MailParameters:
    """The parameters of MAIL."""
    return _parse(words, MailParameters(), _MAIL)


def rcpt_parameters(words: list[bytes]) -> RcptParameters:
    """The parameters of RCPT."""
    return _parse(words, RcptParameters(), _RCPT)


def _closing_bracket(argument: bytes) -> int:
    """Where the path ends, minding brackets in quoted local parts; -1 if nowhere."""
    quoted = escaped = False
    for position, octet in enumerate(argument):
        if escaped:
            escaped = False
        elif octet == 92:
            escaped = quoted
        elif octet == 34:
            quoted = not quoted
        elif octet == 62 and not quoted:
            return position
    return -1


_Parameters = TypeVar("_Parameters", MailParameters, RcptParameters)


def _parse(
    words: list[bytes],
    parameters: _Parameters,
    known: dict[bytes, Callable[[_Parameters, bytes], None]],
) -> _Parameters:
    seen: set[bytes] = set()
    for word in words:
        name, _, value = word.partition(b"=")
        name = name.upper()
        setter = known.get(name)
        if setter is None:
            raise PeerError(Reply(555, "5.5.4", f"Unsupported parameter {name.decode('ascii', 'replace')}"))
        if name in seen:
            _refuse("5.5.4", f"Parameter {name.decode()} given twice")
        seen.add(name)
        try:
            setter(parameters, value)
        except ValueError:  # includes UnicodeDecodeError
            _refuse("5.5.4", f"Bad value of parameter {name.decode()}")
    return parameters


def _refuse(status: str, text: str) -> NoReturn:
    raise PeerError(Reply(501, status, text))


def _one_of(value: bytes, *allowed: str) -> str:
    text = value.decode("ascii").upper()
    if text not in allowed:
        raise ValueError(text)
    return text


def _size(mail: MailParameters, value: bytes) -> None:
    """RFC 1870 §6: 1 to 20 digits."""
    if not value.isdigit() or len(value) > 20:
        raise ValueError("bad size")
    mail.size = int(value)


def _body(mail: MailParameters, value: bytes) -> None:
    """RFC 6152 §2. BINARYMIME (RFC 3030 §3) is not announced, so not known."""
    mail.body = _one_of(value, "7BIT", "8BITMIME")


def _smtputf8(mail: MailParameters, value: bytes) -> None:
    """RFC 6531 §3.4."""
    if value:
        raise ValueError("takes no value")
    mail.smtputf8 = True


def _ret(mail: MailParameters, value: bytes) -> None:
    """RFC 3461 §4.3."""
    mail.ret = _one_of(value, "FULL", "HDRS")


def _envid(mail: MailParameters, value: bytes) -> None:
    """RFC 3461 §4.4: at most 100 characters, not empty."""
    mail.envid = xtext.decode(value)
    if not 0 < len(mail.envid) <= 100:
        raise ValueError("bad length")


def _auth(mail: MailParameters, value: bytes) -> None:
    """RFC 4954 §5."""
    mail.auth = xtext.decode(value)


def _requiretls(mail: MailParameters, value: bytes) -> None:
    """RFC 8689 §2."""
    if value:
        raise ValueError("takes no value")
    mail.requiretls = True


def _notify(rcpt: RcptParameters, value: bytes) -> None:
    """RFC 3461 §4.1: NEVER stands alone."""
    value = value.upper()
    if value == b"NEVER":
        rcpt.notify = _NEVER
        return
    try:
        rcpt.notify = frozenset([_NOTIFY[word] for word in value.split(b",")])
    except KeyError as error:
        raise ValueError(value) from error


def _orcpt(rcpt: RcptParameters, value: bytes) -> None:
    """RFC 3461 §4.2; the type ``utf-8`` of RFC 6533 §3 too, escaped or as it is."""
    kind, semicolon, address = value.partition(b";")
    if not semicolon or not address or len(value) > 500 or not _ATOM.fullmatch(kind):
        raise ValueError("bad orcpt")
    text = xtext.decode_utf8(address) if kind.lower() == b"utf-8" else xtext.decode(address)
    rcpt.orcpt = f"{kind.decode('ascii')};{text}"


_MAIL: dict[bytes, Callable[[MailParameters, bytes], None]] = {
    b"SIZE": _size,
    b"BODY": _body,
    b"SMTPUTF8": _smtputf8,
    b"RET": _ret,
    b"ENVID": _envid,
    b"AUTH": _auth,
    b"REQUIRETLS": _requiretls,
}
_RCPT: dict[bytes, Callable[[RcptParameters, bytes], None]] = {b"NOTIFY": _notify, b"ORCPT": _orcpt}
