"""Passwords: made into what is stored, and checked against it.

``users.clear`` holds a password in clear, or a hash with a ``{SCHEME}`` prefix; our own table holds SCRAM keys and
an argon2id hash. Everything here is slow on purpose or calls C: run it in a thread.

Invariant: comparisons take the same time wherever the first difference is.
"""

import ctypes
import hashlib
import hmac
import re
import secrets
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable
from functools import lru_cache, partial

import argon2

from posthouse.protocols.sasl.credentials import SALT_BYTES, ScramKeys
from posthouse.protocols.sasl.prepare import password_bytes

MAX_PASSWORD_BYTES = 1024
"""Longer ones are wrong unseen: some hashes take time that grows with the square of it."""

# 25 to 30 ms and 12 MiB a check: OWASP's set that needs the least memory, since a host checks many at once.
_hasher = argon2.PasswordHasher(time_cost=3, memory_cost=12 * 1024, parallelism=1)

_SCHEME = re.compile(r"\{([A-Za-z0-9.-]+)\}")
_CRYPT = re.compile(r"\$[0-9a-z]+\$[!-9;-~]+|[./0-9A-Za-z]{13}")
_M_MMAP_THRESHOLD = -3  # malloc.h
_CRYPT_DATA_BYTES = 131_232 + 4096  # glibc's struct crypt_data, the largest there is


class BadStoredPassword(ValueError):
    """The stored password can't be made sense of; the message is for the operator."""


def new_secrets(password: str) -> tuple[str, str]:
    """SCRAM-SHA-256 keys and argon2id hash for a new password, as the table keeps them."""
    octets = password_bytes(password)
    if not octets or b"\0" in octets or len(octets) > MAX_PASSWORD_BYTES:
        raise ValueError(f"a password has 1 to {MAX_PASSWORD_BYTES} octets and no NUL")
    keys = ScramKeys.derive(password, secrets.token_bytes(SALT_BYTES))
    return str(keys), _hasher.hash(octets)


def verify(stored: str, password: str, *, plain_crypt: bool = False) -> bool:
    """Whether the password is the stored one; raises ``BadStoredPassword``.

    ``plain_crypt``: a stored value without a scheme that looks like crypt(3)'s is one.
    """
    octets = password.encode("utf-8", "surrogatepass")
    if not octets or not stored or b"\0" in octets or len(octets) > MAX_PASSWORD_BYTES:
        return False
    scheme, value = split_scheme(stored, plain_crypt=plain_crypt)
    check = _CHECKS.get(scheme)
    if check is None:
        raise BadStoredPassword(f"unknown password scheme {{{scheme}}}")
    prepared = password_bytes(password)
    # What other programs hashed was the password as typed, what we hash is prepared: the same for most.
    return check(value, octets) or (prepared != octets and check(value, prepared))


def verify_nothing(password: str) -> None:
    """Takes the time of ``verify`` with an argon2id hash: for accounts that have none, or don't exist."""
    _is_argon2(_hash_of_nothing(), password.encode("utf-8", "surrogatepass")[:MAX_PASSWORD_BYTES])


@lru_cache(maxsize=1)
def _hash_of_nothing() -> str:
    return _hasher.hash(secrets.token_bytes(16))


def keep_memory_low() -> None:
    """Once a process: have glibc give what a hash needed back to the system when it is done.

    Left alone, it moves its threshold up at the first such block, and keeps 12 MiB for each thread from then on.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 4 * 1024 * 1024)


def split_scheme(stored: str, *, plain_crypt: bool = False) -> tuple[str, str]:
    """Scheme, in upper case, and value of a stored password; without a prefix it is ``PLAIN``."""
    if prefix := _SCHEME.match(stored):
        return prefix[1].upper(), stored[prefix.end() :]
    if plain_crypt and _CRYPT.fullmatch(stored):
        return "CRYPT", stored
    return "PLAIN", stored


def clear_password(stored: str, *, plain_crypt: bool = False) -> str | None:
    """The password itself where it is stored readable; None for hashes."""
    scheme, value = split_scheme(stored, plain_crypt=plain_crypt)
    return value or None if scheme in _READABLE else None


def scram_keys(stored: str) -> ScramKeys | None:
    """The keys of a ``{SCRAM-SHA-256}`` password; None for anything else, broken keys included."""
    scheme, value = split_scheme(stored)
    if scheme != "SCRAM-SHA-256":
        return None
    try:
        return ScramKeys.parse(value)
    except ValueError:
        return None


def _is_plain(value: str, octets: bytes) -> bool:
    return hmac.compare_digest(value.encode("utf-8", "surrogatepass"), octets)


def _is_argon2(value: str, octets: bytes) -> bool:
    try:
        return _hasher.verify(value, octets)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except (argon2.exceptions.InvalidHashError, argon2.exceptions.VerificationError) as error:
        raise BadStoredPassword(f"broken argon2 hash: {error}") from None


def _is_scram(value: str, octets: bytes) -> bool:
    try:
        keys = ScramKeys.parse(value)
    except ValueError as error:
        raise BadStoredPassword(str(error)) from None
    derived = ScramKeys.derive(octets.decode("utf-8", "surrogatepass"), keys.salt, keys.iterations)
    return hmac.compare_digest(derived.stored_key, keys.stored_key)


def _is_digest(algorithm: str, value: str, octets: bytes) -> bool:
    """``base64(H(password salt) salt)``, as LDAP servers store it; the salt may be empty."""
    try:
        decoded = a2b_base64(value.encode(), strict_mode=True)
    except (Base64Error, UnicodeEncodeError):
        raise BadStoredPassword("hash is not base64") from None
    hashed = hashlib.new(algorithm, octets, usedforsecurity=False)
    digest, salt = decoded[: hashed.digest_size], decoded[hashed.digest_size :]
    if len(digest) < hashed.digest_size:
        raise BadStoredPassword("hash is too short")
    hashed.update(salt)
    return hmac.compare_digest(hashed.digest(), digest)


def _is_bcrypt(value: str, octets: bytes) -> bool:
    import bcrypt

    try:
        return bcrypt.checkpw(octets[:72], value.encode())  # more than 72 octets have never counted
    except ValueError as error:
        raise BadStoredPassword(f"broken bcrypt hash: {error}") from None


def _is_crypt(value: str, octets: bytes) -> bool:
    setting = value.encode("utf-8", "surrogatepass")
    hashed: bytes | None = _crypt_r()(octets, setting, ctypes.create_string_buffer(_CRYPT_DATA_BYTES))
    # crypt(3) says that it can't by no answer or by one that starts with a star and is never a hash.
    if not hashed or hashed.startswith(b"*") or len(setting) < 13:
        raise BadStoredPassword("this host's crypt(3) does not know the hash")
    return hmac.compare_digest(hashed, setting)


@lru_cache(maxsize=1)
def _crypt_r() -> Callable[..., bytes | None]:
    for name in ("libcrypt.so.1", "libcrypt.so.2"):
        try:
            function = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        function.restype = ctypes.c_char_p
        return function
    raise BadStoredPassword("crypt(3) hashes need libcrypt.so.1, which this host does not have")


_READABLE = ("PLAIN", "CLEAR", "CLEARTEXT")
_CHECKS: dict[str, Callable[[str, bytes], bool]] = {
    **dict.fromkeys(_READABLE, _is_plain),
    **dict.fromkeys(("ARGON2ID", "ARGON2I"), _is_argon2),
    **dict.fromkeys(("CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "DES-CRYPT"), _is_crypt),
    "SCRAM-SHA-256": _is_scram,
    "BLF-CRYPT": _is_bcrypt,
    "SHA": partial(_is_digest, "sha1"),
    "SSHA": partial(_is_digest, "sha1"),
    "SHA256": partial(_is_digest, "sha256"),
    "SSHA256": partial(_is_digest, "sha256"),
    "SHA512": partial(_is_digest, "sha512"),
    "SSHA512": partial(_is_digest, "sha512"),
}
