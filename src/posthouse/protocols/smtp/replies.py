"""The replies that the server engine gives by itself, and how any reply looks on the wire.

Invariant: whatever a reply's text is made of, no octet outside printable ASCII and no line longer than
RFC 5321 §4.5.3.1.5 allows leaves.
"""

from typing import Final

from posthouse.base.errors import Reply

OK: Final = Reply(250, "2.0.0", "Ok")
BYE: Final = Reply(221, "2.0.0", "Bye")
HELP: Final = Reply(214, "2.0.0", "See RFC 5321")
VRFY: Final = Reply(252, "2.5.0", "Cannot VRFY user, but will accept message and attempt delivery")
START_DATA: Final = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
START_TLS: Final = Reply(220, "2.0.0", "Ready to start TLS")
AUTH_SUCCEEDED: Final = Reply(235, "2.7.0", "Authentication successful")

TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients")
TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors, closing connection")
NOT_SMTP: Final = Reply(421, "4.7.0", "This is a mail server, closing connection")

UNKNOWN_COMMAND: Final = Reply(500, "5.5.2", "Command not recognized")
LINE_TOO_LONG: Final = Reply(500, "5.5.6", "Line too long")
NO_ARGUMENT: Final = Reply(501, "5.5.4", "This command takes no argument")
NEED_ARGUMENT: Final = Reply(501, "5.5.4", "This command takes an argument")
BAD_HELLO: Final = Reply(501, "5.5.4", "Syntax: a host name is required")
BAD_BASE64: Final = Reply(501, "5.5.2", "Not valid base64")
BAD_AUTH: Final = Reply(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
BAD_BDAT: Final = Reply(501, "5.5.4", "Syntax: BDAT size [LAST]")
AUTH_CANCELLED: Final = Reply(501, "5.7.0", "Authentication cancelled")
NOT_IMPLEMENTED: Final = Reply(502, "5.5.1", "Command not implemented")
BAD_SEQUENCE: Final = Reply(503, "5.5.1", "Bad sequence of commands")
NEED_HELLO: Final = Reply(503, "5.5.1", "Send hello first")
ALREADY_AUTHENTICATED: Final = Reply(503, "5.5.1", "Already authenticated")
NEED_RECIPIENT: Final = Reply(503, "5.5.1", "No valid recipients")
NO_VALID_RECIPIENTS: Final = Reply(554, "5.5.1", "No valid recipients")
UNKNOWN_MECHANISM: Final = Reply(504, "5.5.4", "Unrecognized authentication mechanism")
NEED_TLS: Final = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
AUTH_REQUIRED: Final = Reply(530, "5.7.0", "Authentication required")
BARE_NEWLINE: Final = Reply(550, "5.6.0", "Message contains a bare CR or LF, lines must end in CRLF")
TOO_LARGE: Final = Reply(552, "5.3.4", "Message is larger than this server accepts")
NEED_SMTPUTF8: Final = Reply(553, "5.6.7", "This address requires SMTPUTF8")

_MAX_TEXT = 480
_PRINTABLE = bytes(c if 32 <= c < 127 else 63 for c in range(256))


def encode(reply: Reply) -> bytes:
    """The octets of a reply; a line of text that is too long continues on the next (RFC 5321 §4.2.1)."""
    text = reply.text
    if len(text) <= _MAX_TEXT and text.isascii() and text.isprintable():
        status = f"{reply.status} " if reply.status else ""
        return f"{reply.code} {status}{text}\r\n".encode("ascii")
    return _encode_lines(reply)


def _encode_lines(reply: Reply) -> bytes:
    lines: list[bytes] = []
    for line in reply.text.split("\n"):
        text = line.encode("ascii", "replace").translate(_PRINTABLE)
        lines += [text[i : i + _MAX_TEXT] for i in range(0, len(text), _MAX_TEXT)] or [b""]
    status = f"{reply.status} " if reply.status else ""
    between = f"{reply.code}-{status}".encode("ascii")
    last = f"{reply.code} {status}".encode("ascii")
    return b"".join([between + line + b"\r\n" for line in lines[:-1]]) + last + lines[-1] + b"\r\n"
