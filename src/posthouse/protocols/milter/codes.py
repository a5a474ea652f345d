"""The milter protocol's numbers and letters, and its state table.

There is no RFC: libmilter's ``mfapi.h`` and ``mfdef.h`` are the definition, as versions 2 to 6 have it.
"""

from dataclasses import dataclass
from enum import Enum, IntFlag
from typing import Final

VERSION: Final = 6
OLDEST_VERSION: Final = 2
MAX_CHUNK: Final = 65_535
"""Octets of the body in one packet."""


class Actions(IntFlag):
    """What a milter may ask for at the end of the message (``SMFIF_*``)."""

    ADD_HEADERS = 0x01
    CHANGE_BODY = 0x02
    ADD_RECIPIENT = 0x04
    DELETE_RECIPIENT = 0x08
    CHANGE_HEADERS = 0x10
    QUARANTINE = 0x20
    CHANGE_SENDER = 0x40
    ADD_RECIPIENT_WITH_ARGUMENTS = 0x80
    SET_MACROS = 0x100


class Steps(IntFlag):
    """What a milter does not want to hear, does not answer, or can do (``SMFIP_*``)."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_END_OF_HEADERS = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    """It may ask for no more of the body."""
    REFUSED_RECIPIENTS = 0x800
    """It wants to hear of recipients that were refused, too."""
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_UNKNOWN = 0x20000
    SILENT_END_OF_HEADERS = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000
    """Values of header fields come and go with the blank after the colon."""


ALL_ACTIONS: Final = int(~Actions(0))
ALL_STEPS: Final = int(~Steps(0))
_NOTHING: Final = Steps(0)


class Stage(Enum):
    """Where a session stands, named after what a milter was told last."""

    __hash__ = object.__hash__  # Enum's own is computed in Python at every look-up

    NEGOTIATION = "negotiation"
    CONNECT = "connect"
    HELO = "HELO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    HEADER = "header"
    END_OF_HEADERS = "end of header"
    BODY = "body"
    END = "end of message"
    UNKNOWN = "unknown command"


@dataclass(frozen=True, slots=True)
class Telling:
    """How a stage is told: its letter, the steps that make it untold and unanswered, the number of its macros, and
    the stages that it may follow; those of a session as well as of a message, where ``END`` is the message before.

    ``since``: the protocol's version that brought it.
    """

    letter: bytes
    unwanted: Steps
    silent: Steps
    macros: int | None
    after: frozenset[Stage]
    since: int = 2


_SESSION = frozenset({Stage.CONNECT, Stage.HELO, Stage.END})
_ENVELOPE = frozenset({Stage.MAIL, Stage.RCPT})
_HEADER = frozenset({Stage.RCPT, Stage.DATA, Stage.HEADER})

TELLING: Final = {
    Stage.CONNECT: Telling(b"C", Steps.NO_CONNECT, Steps.SILENT_CONNECT, 0, frozenset({Stage.NEGOTIATION})),
    Stage.HELO: Telling(b"H", Steps.NO_HELO, Steps.SILENT_HELO, 1, _SESSION),
    Stage.MAIL: Telling(b"M", Steps.NO_MAIL, Steps.SILENT_MAIL, 2, _SESSION),
    Stage.RCPT: Telling(b"R", Steps.NO_RCPT, Steps.SILENT_RCPT, 3, _ENVELOPE),
    Stage.DATA: Telling(b"T", Steps.NO_DATA, Steps.SILENT_DATA, 4, _ENVELOPE, 4),
    Stage.HEADER: Telling(b"L", Steps.NO_HEADERS, Steps.SILENT_HEADER, None, _HEADER),
    Stage.END_OF_HEADERS: Telling(b"N", Steps.NO_END_OF_HEADERS, Steps.SILENT_END_OF_HEADERS, 6, _HEADER),
    Stage.BODY: Telling(b"B", Steps.NO_BODY, Steps.SILENT_BODY, None, frozenset({Stage.END_OF_HEADERS, Stage.BODY})),
    Stage.END: Telling(b"E", _NOTHING, _NOTHING, 5, frozenset({Stage.END_OF_HEADERS, Stage.BODY})),
    Stage.UNKNOWN: Telling(b"U", Steps.NO_UNKNOWN, Steps.SILENT_UNKNOWN, None, frozenset(Stage), 3),
}

MACROS: Final = {
    0: ("j", "{daemon_name}", "{daemon_addr}", "v", "_"),
    1: ("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"),
    2: ("i", "{auth_type}", "{auth_authen}", "{auth_author}", "{mail_addr}", "{mail_host}", "{mail_mailer}"),
    3: ("i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
    4: ("i",),
    5: ("i",),
    6: ("i",),
}
"""What a milter is told at each stage unless it asks for others, as Postfix's ``milter_*_macros`` have it."""
