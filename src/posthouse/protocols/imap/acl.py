"""SETACL, DELETEACL, GETACL, LISTRIGHTS and MYRIGHTS (RFC 4314 §3, §7)."""

import re
from dataclasses import dataclass
from typing import Literal

from posthouse.protocols.imap import rights
from posthouse.protocols.imap.commands import Command
from posthouse.protocols.imap.cursor import Cursor, syntax_error
from posthouse.protocols.sasl.prepare import prepare

_identifier = re.compile(r"[^\s\x00-\x1f\x7f]{1,200}").fullmatch


@dataclass(frozen=True, slots=True)
class SetAcl(Command):
    """SETACL (RFC 4314 §3.1)."""

    mailbox: str
    identifier: str
    mode: Literal["add", "remove", "replace"]
    rights: frozenset[str]


@dataclass(frozen=True, slots=True)
class DeleteAcl(Command):
    """DELETEACL (RFC 4314 §3.2)."""

    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class GetAcl(Command):
    """GETACL (RFC 4314 §3.3)."""

    mailbox: str


@dataclass(frozen=True, slots=True)
class ListRights(Command):
    """LISTRIGHTS (RFC 4314 §3.4); the answer repeats the identifier as it was ``given``."""

    mailbox: str
    identifier: str
    given: bytes


@dataclass(frozen=True, slots=True)
class MyRights(Command):
    """MYRIGHTS (RFC 4314 §3.5)."""

    mailbox: str


def parse_set_acl(tag: bytes, cursor: Cursor) -> SetAcl:
    mailbox = _mailbox(cursor)
    identifier, _ = _identified(cursor)
    cursor.space()
    text = cursor.text()
    mode: Literal["add", "remove", "replace"] = "replace"
    if text[:1] in ("+", "-"):
        mode = "add" if text[0] == "+" else "remove"
        text = text[1:]
    try:
        return SetAcl(tag, mailbox, identifier, mode, rights.parse(text))
    except ValueError as error:
        # RFC 4314 §3.1: it must not be ignored.
        raise syntax_error(str(error)) from None


def parse_delete_acl(tag: bytes, cursor: Cursor) -> DeleteAcl:
    mailbox = _mailbox(cursor)
    return DeleteAcl(tag, mailbox, _identified(cursor)[0])


def parse_get_acl(tag: bytes, cursor: Cursor) -> GetAcl:
    return GetAcl(tag, _mailbox(cursor))


def parse_list_rights(tag: bytes, cursor: Cursor) -> ListRights:
    mailbox = _mailbox(cursor)
    return ListRights(tag, mailbox, *_identified(cursor))


def parse_my_rights(tag: bytes, cursor: Cursor) -> MyRights:
    return MyRights(tag, _mailbox(cursor))


def _mailbox(cursor: Cursor) -> str:
    cursor.space()
    return cursor.mailbox()


def _identified(cursor: Cursor) -> tuple[str, bytes]:
    """An identifier, prepared as RFC 4314 §3 asks for, and as it was given."""
    cursor.space()
    given = cursor.astring()
    try:
        identifier = prepare(given.decode("utf-8"))
    except ValueError:
        raise syntax_error("Invalid identifier") from None
    if not _identifier(identifier):
        raise syntax_error("Invalid identifier")
    return identifier, given
