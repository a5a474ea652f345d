"""Passwords: made into what is stored, and checked against it.

``users.clear`` holds a password in clear, or a hash with a ``{SCHEME}`` prefix (``schemes``); our own table holds
SCRAM keys and an argon2id hash. Everything here is slow on purpose or calls C: run it in a thread. Only app passwords
are quick to check: they are random, and a slow hash would make them no harder to guess.

Invariant: comparisons take the same time wherever the first difference is.
"""

import ctypes
import hashlib
import hmac
import re
import secrets
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Collection
from functools import lru_cache

from posthouse.protocols.sasl.credentials import NAMES, SALT_BYTES, ScramHash, ScramKeys
from posthouse.protocols.sasl.prepare import password_bytes
from posthouse.services.schemes import CRAM_MD5, READABLE, BadStoredPassword, check, decoded, hasher

__all__ = ["BadStoredPassword"]

MAX_PASSWORD_BYTES = 1024
"""Longer ones are wrong unseen: some hashes take time that grows with the square of it."""

_SCHEME = re.compile(r"\{([A-Za-z0-9.-]+)\}")
_CRYPT = re.compile(r"\$[0-9a-z]+\$[!-9;-~]+|[./0-9A-Za-z]{13}")
_M_MMAP_THRESHOLD = -3  # malloc.h
_UNAMBIGUOUS = "abcdefghjkmnpqrstuvwxyz23456789"
_APP_CHARACTERS = 20
_APP_SALT_BYTES = 8


def random_password() -> str:
    """Twenty characters that can be read out, 98 bits."""
    return "-".join("".join(secrets.choice(_UNAMBIGUOUS) for _ in range(5)) for _ in range(4))


def new_secrets(password: str) -> tuple[str, str]:
    """SCRAM-SHA-256 keys and argon2id hash for a new password, as the table keeps them."""
    octets = password_bytes(password)
    if not octets or b"\0" in octets or len(octets) > MAX_PASSWORD_BYTES:
        raise ValueError(f"a password has 1 to {MAX_PASSWORD_BYTES} octets and no NUL")
    keys = ScramKeys.derive(password, secrets.token_bytes(SALT_BYTES))
    return str(keys), hasher.hash(octets)


def new_app_password() -> tuple[str, str]:
    """An app password, and the hash to keep of it: ``{SSHA256}``, as LDAP servers have it."""
    password = random_password()
    salt = secrets.token_bytes(_APP_SALT_BYTES)
    digest = hashlib.sha256(_app_characters(password) + salt).digest()
    return password, "{SSHA256}" + b2a_base64(digest + salt, newline=False).decode()


def is_app_password(hash: str, password: str) -> bool:  # noqa: A002
    """Whether the password is that app password, as it was shown or without its hyphens. Takes microseconds.

    A hash that can't be made sense of is nobody's.
    """
    typed = _app_characters(password)
    if len(typed) != _APP_CHARACTERS:
        return False
    try:
        stored = a2b_base64(hash.removeprefix("{SSHA256}").encode(), strict_mode=True)
    except (Base64Error, UnicodeEncodeError):
        return False
    return hmac.compare_digest(hashlib.sha256(typed + stored[32:]).digest(), stored[:32])


def _app_characters(password: str) -> bytes:
    """What counts: people leave the hyphens out, and telephones begin with a capital."""
    if len(password) > 2 * _APP_CHARACTERS:
        return b""
    return password.lower().replace("-", "").replace(" ", "").encode("utf-8", "surrogatepass")


def verify(stored: str, password: str, *, plain_crypt: bool = False) -> bool:
    """Whether the password is the stored one; raises ``BadStoredPassword``.

    ``plain_crypt``: a stored value without a scheme that looks like crypt(3)'s is one.
    """
    octets = password.encode("utf-8", "surrogatepass")
    if not octets or not stored or b"\0" in octets or len(octets) > MAX_PASSWORD_BYTES:
        return False
    scheme, value = split_scheme(stored, plain_crypt=plain_crypt)
    prepared = password_bytes(password)
    # What other programs hashed was the password as typed, what we hash is prepared: the same for most.
    return check(scheme, value, octets) or (prepared != octets and check(scheme, value, prepared))


def verify_nothing(password: str) -> None:
    """Takes the time of ``verify`` with an argon2id hash: for accounts that have none, or don't exist."""
    octets = password.encode("utf-8", "surrogatepass")[:MAX_PASSWORD_BYTES]
    check("ARGON2ID", _hash_of_nothing(), octets)


@lru_cache(maxsize=1)
def _hash_of_nothing() -> str:
    return hasher.hash(secrets.token_bytes(16))


def keep_memory_low() -> None:
    """Once a process: have glibc give what a hash needed back to the system when it is done.

    Left alone, it moves its threshold up at the first such block, and keeps 12 MiB for each thread from then on.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 4 * 1024 * 1024)


def split_scheme(stored: str, *, plain_crypt: bool = False) -> tuple[str, str]:
    """Scheme, in upper case and with its suffix if any, and value; without a prefix it is ``PLAIN``."""
    if prefix := _SCHEME.match(stored):
        return prefix[1].upper(), stored[prefix.end() :]
    if plain_crypt and _CRYPT.fullmatch(stored):
        return "CRYPT", stored
    return "PLAIN", stored


def clear_password(stored: str, *, plain_crypt: bool = False) -> str | None:
    """The password itself where it is stored readable; None for hashes, and for what makes no sense."""
    found = _found(stored, READABLE, plain_crypt=plain_crypt)
    return found.decode("utf-8", "surrogatepass") if found else None


def scram_keys(stored: str, algorithm: ScramHash = "sha256") -> ScramKeys | None:
    """The keys of a ``{SCRAM-SHA-256}`` or ``{SCRAM-SHA-1}`` password; None for all else, broken keys included."""
    found = _found(stored, (NAMES[algorithm],))
    try:
        return ScramKeys.parse(found.decode("ascii"), algorithm) if found else None
    except ValueError:
        return None


def cram_md5(stored: str) -> bytes | None:
    """The context of a ``{CRAM-MD5}`` password, for logins by that mechanism; None for anything else."""
    return _found(stored, CRAM_MD5)


def is_old_hash(stored: str, kept: Collection[str] = (), *, plain_crypt: bool = False) -> bool:
    """Whether a stored password is a hash, but not SCRAM-SHA-256 keys, argon2's, or of a scheme in ``kept``."""
    name = split_scheme(stored, plain_crypt=plain_crypt)[0].partition(".")[0]
    return name not in {*READABLE, "SCRAM-SHA-256", "ARGON2ID", "ARGON2I", *kept}


def _found(stored: str, names: Collection[str], *, plain_crypt: bool = False) -> bytes | None:
    """What is stored, decoded, where its scheme is one of those and it makes sense."""
    name, value = split_scheme(stored, plain_crypt=plain_crypt)
    if name.partition(".")[0] not in names:
        return None
    try:
        return decoded(name, value)[1] or None
    except BadStoredPassword:
        return None
