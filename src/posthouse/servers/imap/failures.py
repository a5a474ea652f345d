"""How errors look to an IMAP client: NO with a response code (RFC 3501 §7.1, RFC 5530)."""

from typing import Final

from posthouse.base.errors import PosthouseError, Refused
from posthouse.protocols.imap.commands import AppendStart, Command, Copy, Move
from posthouse.protocols.imap.cursor import BadCommandError
from posthouse.protocols.imap.render import Completion, no
from posthouse.store.errors import (
    BadMailboxName,
    HasChildren,
    MailboxExists,
    NoPermission,
    NoSuchMailbox,
    OverQuota,
    TooLongMetadata,
    TooMuchMetadata,
)
from posthouse.store.metadata import MAX_VALUE_BYTES

CODES: Final[dict[type[Refused], str]] = {
    NoSuchMailbox: "NONEXISTENT",
    MailboxExists: "ALREADYEXISTS",
    NoPermission: "NOPERM",
    OverQuota: "OVERQUOTA",
    BadMailboxName: "CANNOT",
    TooLongMetadata: f"METADATA MAXSIZE {MAX_VALUE_BYTES}",
    TooMuchMetadata: "METADATA TOOMANY",
    HasChildren: "HASCHILDREN",
}

LOGIN_LATER: Final = "4.7.0"
"""The status of those temporary failures whose text is for the user: it says when a login is possible again."""


def completion(error: PosthouseError, command: Command) -> Completion:
    """The answer to a command that failed with one of our errors."""
    if isinstance(error, BadCommandError):
        return error.completion
    if not isinstance(error, Refused):
        if error.reply.status == LOGIN_LATER:
            return no(error.reply.text, "UNAVAILABLE")
        return no("Temporary failure, please try again later", "UNAVAILABLE")
    code = CODES.get(type(error), "")
    # RFC 3501 §6.3.11, §6.4.7: the client may create the mailbox and try again.
    if code == "NONEXISTENT" and isinstance(command, AppendStart | Copy | Move):
        code = "TRYCREATE"
    return no(error.reply.text, code)


def bug(trace_id: str) -> Completion:
    """The answer to a command that failed with a bug of ours."""
    return no(f"Internal error; the log has it as {trace_id}", "SERVERBUG")
