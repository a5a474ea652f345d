"""What a single row says about itself: its key, its destinations, an account's columns. Pure.

Each check calls ``found(kind, detail)`` for what is doubtful.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from posthouse.directory import destinations
from posthouse.message.address import is_domain, parse_path, split
from posthouse.services.passwords import split_scheme
from posthouse.services.schemes import READABLE, BadStoredPassword, decoded

Found = Callable[..., None]
TRANSPORTS = frozenset({"local", "virtual", "smtp", "relay", "lmtp", "error", "retry", "discard"})

_QUOTA = re.compile(r"|\d{1,18}[SC]?(,\d{1,18}[SC]?)*")
_CRYPT = re.compile(r"\$[0-9a-z]+\$[!-9;-~]+")
_DES_CRYPT = re.compile(r"[./0-9A-Za-z]{13}")
_STRONG = frozenset(
    {"SCRAM-SHA-256", "SCRAM-SHA-1", "ARGON2ID", "ARGON2I", "BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "PBKDF2"}
)
_LOCAL = re.compile(r"[^@\s]+")
_KEY_NAMES = {
    "users": "addresses",
    "virtual": "addresses, @domains or domains",
    "relocated": "addresses, @domains or names",
    "transport": "domains, .domains or addresses",
    "alias": "local names",
}


@dataclass(frozen=True, slots=True)
class Expected:
    """What the configuration says that rows are measured by. ``uid``: the user who serves, or -1."""

    minimum_uid: int
    uid: int
    plain_crypt: bool
    qualify: Callable[[str], str]


def check_key(role: str, key: str, found: Found, *, case_sensitive: str = "") -> bool:
    """Whether the row can be found at all. ``case_sensitive`` is the collation where it tells capitals."""
    if not key.strip():
        found("empty-key")
    elif "\ufffd" in key:
        found("broken-text")
    elif key != key.strip() or (" " in key and '"' not in key):
        found("spaces-in-key")
    elif not split(key)[1].isascii() or (role == "transport" and not key.isascii()):
        found("unicode-domain")
    elif not _is_key(role, key.lower()):
        found("not-a-key", _KEY_NAMES[role])
    elif key != key.lower() and case_sensitive:
        found("case-sensitive", case_sensitive)
    else:
        if key != key.lower():
            found("capitals")
        return True
    return False


def _is_key(role: str, key: str) -> bool:
    if role == "alias":
        return _LOCAL.fullmatch(key) is not None
    local, at, domain = key.rpartition("@")
    if local:
        return _is_address(key)
    if role == "users":
        return False
    if at:
        return role != "transport" and is_domain(domain)
    if role == "transport":
        return key == "*" or is_domain(key.removeprefix("."))
    return _LOCAL.fullmatch(key) is not None


def _is_address(text: str) -> bool:
    try:
        return "@" in parse_path(text, utf8=True, allow_empty=True)
    except ValueError:
        return False


def check_destination(role: str, key: str, destination: str, expected: Expected, found: Found) -> None:
    """A row's destinations."""
    if role == "transport":
        _check_transport(key, destination, found)
    elif role != "relocated":  # whose text is only said, and may be empty
        addresses = destinations.parts([destination])
        if not addresses and ("@" in key or role == "alias"):
            found("empty-destination")
        elif "\ufffd" in destination:
            found("broken-text")
            return
        for part in addresses:
            _check_part(role, key, part, expected, found)


def _check_part(role: str, key: str, part: str, expected: Expected, found: Found) -> None:
    if role == "alias" and not isinstance(destinations.local(part), str):
        found("host-programs")
    elif part.startswith("@"):
        if not is_domain(part[1:].lower()):
            found("bad-destination")
    elif _matters(role, key, part) and not _is_address(expected.qualify(part)):
        found("bad-destination")


def _matters(role: str, key: str, part: str) -> bool:
    """A bare domain's destination means nothing."""
    return "@" in key or role == "alias" or "@" in part


def _check_transport(key: str, value: str, found: Found) -> None:
    name = value.strip().partition(":")[0].lower()
    if name and name not in TRANSPORTS:
        found("unknown-transport", f"{name}:")
    elif key == "*":
        found("route-of-all")


@dataclass(frozen=True, slots=True)
class UserRow:
    """An account as its columns are, all of them text; NULL is ``""``."""

    password: str
    uid: str
    gid: str
    maildir: str
    quota: str


def check_user(row: UserRow, expected: Expected, found: Found) -> None:
    """An account's columns, but for its key and its password."""
    if not row.maildir:
        found("maildir-missing")
    elif row.maildir.startswith("/") or ".." in row.maildir.split("/") or "\0" in row.maildir:
        found("maildir-outside")
    elif not row.maildir.endswith("/"):
        found("mbox")
    uid, gid = _number(row.uid), _number(row.gid)
    if min(uid, gid) < expected.minimum_uid:
        found("low-uid")
    elif expected.uid >= 0 and uid != expected.uid:
        found("other-owner", f"uid {expected.uid}")
    if not _QUOTA.fullmatch(row.quota.replace(" ", "")):
        found("bad-quota")


def check_password(stored: str, expected: Expected, found: Found) -> None:
    """How a password that there is, is kept."""
    scheme, value = split_scheme(stored, plain_crypt=expected.plain_crypt)
    name = scheme.partition(".")[0]
    if name in READABLE:
        if stored == value and _CRYPT.fullmatch(value):
            found("bare-crypt")
            return
        found("plain-passwords")
        if stored == value and _DES_CRYPT.fullmatch(value):
            found("maybe-crypt")
        return
    try:
        decoded(scheme, value)
    except BadStoredPassword as error:
        found("bad-password", str(error))
        return
    if name == "CRYPT":
        if not value.startswith("$") or value.startswith("$1$"):
            found("weak-scheme", "crypt(3) with DES or MD5")
    elif name not in _STRONG:
        found("weak-scheme", f"{{{scheme}}}")


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return -1


def normal_path(maildir: str) -> str:
    """One spelling for each directory below the mail root, with a slash at the end; empty for anything else."""
    parts: Sequence[str] = [part for part in maildir.split("/") if part not in ("", ".")]
    return "/".join(parts) + "/" if parts and not maildir.startswith("/") and ".." not in parts else ""
