"""What CAPABILITY says (RFC 3501 §6.1.1). An extension is announced here once its command files exist."""

from collections.abc import Sequence
from typing import Final

from posthouse.protocols.imap.cursor import IMAP4REV2, UIDONLY, UTF8

BEFORE_LOGIN: Final = ("IMAP4rev1", "IMAP4rev2", "LITERAL+", "SASL-IR", "ID", "ENABLE", "IDLE")
AFTER_LOGIN: Final = (
    *BEFORE_LOGIN,
    "UIDPLUS",
    "NAMESPACE",
    "UNSELECT",
    "CHILDREN",
    "MOVE",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "ESEARCH",
    "SEARCHRES",
    "SORT",
    "SEARCH=FUZZY",
    "MULTISEARCH",
    "CONTEXT=SEARCH",
    "CONTEXT=SORT",
    "SORT=DISPLAY",
    "ESORT",
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "THREAD=REFS",
    "I18NLEVEL=1",
    "WITHIN",
    "CONDSTORE",
    "QRESYNC",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "STATUS=SIZE",
    "PARTIAL",
    "SAVEDATE",
    "OBJECTID",
    "PREVIEW",
    "UIDONLY",
    "COMPRESS=DEFLATE",
    "INPROGRESS",
    "QUOTA",
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "UNAUTHENTICATE",
    "BINARY",
    "UTF8=ACCEPT",
    "MULTIAPPEND",
    "CATENATE",
    "REPLACE",
    "ACL",
    "NOTIFY",
    "URLAUTH",
    "RIGHTS=texk",
    "LIST-MYRIGHTS",
    "METADATA",
    "LIST-METADATA",
)

# What ENABLE (RFC 5161) can switch on.
CONDSTORE: Final = b"CONDSTORE"
QRESYNC: Final = b"QRESYNC"
ENABLEABLE: Final = {CONDSTORE: CONDSTORE, QRESYNC: QRESYNC, IMAP4REV2: b"IMAP4rev2", UTF8: UTF8, UIDONLY: UIDONLY}
"""In upper case, and as it is spelled."""

# Where this mechanism may be used, a password may be sent.
PASSWORD_MECHANISM: Final = "PLAIN"  # noqa: S105


def before_login(mechanisms: Sequence[str], *, starttls: bool) -> str:
    """For a client that may log in by ``mechanisms`` at this moment.

    LOGIN is disabled where a password may not be sent in clear (RFC 3501 §6.2.3).
    """
    words = [*BEFORE_LOGIN, *(f"AUTH={mechanism}" for mechanism in mechanisms)]
    if starttls:
        words.append("STARTTLS")
    if PASSWORD_MECHANISM not in mechanisms:
        words.append("LOGINDISABLED")
    return " ".join(words)


def after_login(max_append_bytes: int) -> str:
    """For a client that has logged in."""
    return " ".join([*AFTER_LOGIN, f"APPENDLIMIT={max_append_bytes}"])
