"""Hashes of passwords, as Dovecot, LDAP servers and crypt(3) store them: each scheme's check.

What is stored behind ``{SCHEME}`` is text, base64 or hex, whichever the scheme has by custom; ``{SCHEME.b64}``,
``{SCHEME.base64}`` and ``{SCHEME.hex}`` say otherwise, as in Dovecot.

Invariants:
  1. Comparisons take the same time wherever the first difference is.
  2. What can't be made sense of is ``BadStoredPassword``, never just a wrong password.
  3. So is a hash that would take more than some seconds or 1 GiB to check: whoever may set one account's could keep
     everybody's from being checked.
"""

import ctypes
import hashlib
import hmac
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, unhexlify
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

import argon2

from posthouse.protocols.sasl.credentials import CRAM_MD5_BYTES, ScramHash, ScramKeys
from posthouse.protocols.sasl.md5 import cram_md5_context

_CRYPT_DATA_BYTES = 131_232 + 4096  # glibc's struct crypt_data, the largest there is
_MAX_ROUNDS = 10_000_000
_MAX_BCRYPT_COST = 16
_MAX_ARGON2_KIB = 1024 * 1024  # libsodium's "sensitive", which Dovecot may be told to use, and four times through it
_MAX_ARGON2_WORK = 4 * _MAX_ARGON2_KIB
_ROUNDS = re.compile(rb"\$(?:[56]\$rounds=|sha1\$|md5,rounds=)0*([0-9]+)")
# yescrypt and scrypt: what crypt_gensalt(3) makes, up to its highest cost.
_MEMORY_HARD = re.compile(rb"\$(?:g?y|7)\$")
_MODERATE = re.compile(rb"\$(?:g?y\$j[./0-9A-F][5T]|7\$[./0-9A-G]U\.{4}/\.{4})")
_MD5_CRYPT = b"$1$"
_ENCODINGS: Final = {"": "", "B64": "base64", "BASE64": "base64", "HEX": "hex"}

# 25 to 30 ms and 12 MiB a check: OWASP's set that needs the least memory, since a host checks many at once.
hasher = argon2.PasswordHasher(time_cost=3, memory_cost=12 * 1024, parallelism=1)


class BadStoredPassword(ValueError):
    """The stored password can't be made sense of; the message is for the operator."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """``is_right`` takes what is stored, decoded, and the password.

    ``encoding``: how it is stored if the name doesn't say: as ``text``, ``base64`` or ``hex``. ``length``: of what is
    stored, in octets, where that is always the same; then base64 and hex are told apart by their length.
    """

    is_right: Callable[[bytes, bytes], bool]
    encoding: str = "text"
    length: int = 0


def check(name: str, value: str, octets: bytes) -> bool:
    """Whether the password is what was stored under the scheme of that name; raises ``BadStoredPassword``."""
    scheme, stored = decoded(name, value)
    return scheme.is_right(stored, octets)


def decoded(name: str, value: str) -> tuple[Scheme, bytes]:
    """A scheme by its name, in upper case and with any suffix, and what was stored, decoded."""
    plain_name, _, suffix = name.partition(".")
    scheme, encoding = SCHEMES.get(plain_name), _ENCODINGS.get(suffix)
    if scheme is None or encoding is None:
        raise BadStoredPassword(f"unknown password scheme {{{name}}}")
    octets = value.encode("utf-8", "surrogatepass")
    if not encoding:
        is_hex = scheme.length and len(octets) == 2 * scheme.length
        encoding = "hex" if is_hex else scheme.encoding
    if plain_name == "MD5" and octets.startswith(_MD5_CRYPT):
        encoding = "text"
    stored = _decode(encoding, octets)
    if plain_name == "MD5" and stored.startswith(_MD5_CRYPT) and len(stored) > scheme.length:
        scheme = _CRYPT  # Dovecot's MD5 is that, LDAP's is not
    if scheme.length and len(stored) != scheme.length:
        raise BadStoredPassword(f"hash has {len(stored)} octets, not {scheme.length}")
    return scheme, stored


def _decode(encoding: str, octets: bytes) -> bytes:
    try:
        if encoding == "base64":
            return a2b_base64(octets, strict_mode=True)
        return unhexlify(octets) if encoding == "hex" else octets
    except Base64Error:
        raise BadStoredPassword(f"hash is not {encoding}") from None


def _is_plain(stored: bytes, octets: bytes) -> bool:
    return hmac.compare_digest(stored, octets)


def _is_argon2(stored: bytes, octets: bytes) -> bool:
    try:
        cost = argon2.extract_parameters(stored.decode("ascii"))
        if cost.memory_cost > _MAX_ARGON2_KIB or cost.memory_cost * cost.time_cost > _MAX_ARGON2_WORK:
            raise BadStoredPassword("the argon2 hash takes too long, or too much memory")
        return hasher.verify(stored, octets)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except (argon2.exceptions.InvalidHashError, argon2.exceptions.VerificationError, UnicodeDecodeError) as error:
        raise BadStoredPassword(f"broken argon2 hash: {error}") from None


def _is_scram(algorithm: ScramHash, stored: bytes, octets: bytes) -> bool:
    try:
        keys = ScramKeys.parse(stored.decode("ascii"), algorithm)
    except ValueError as error:
        raise BadStoredPassword(str(error)) from None
    password = octets.decode("utf-8", "surrogatepass")
    derived = ScramKeys.derive(password, keys.salt, keys.iterations, algorithm)
    return hmac.compare_digest(derived.stored_key, keys.stored_key)


def _is_digest(algorithm: str, stored: bytes, octets: bytes) -> bool:
    """``H(password salt) salt``, as LDAP servers store it; the salt may be empty."""
    hashed = hashlib.new(algorithm, octets, usedforsecurity=False)
    digest, salt = stored[: hashed.digest_size], stored[hashed.digest_size :]
    if len(digest) < hashed.digest_size:
        raise BadStoredPassword("hash is too short")
    hashed.update(salt)
    return hmac.compare_digest(hashed.digest(), digest)


def _is_cram_md5(stored: bytes, octets: bytes) -> bool:
    return hmac.compare_digest(cram_md5_context(octets), stored)


def _is_pbkdf2(stored: bytes, octets: bytes) -> bool:
    """``$1$salt$rounds$hex``: HMAC-SHA-1, and the salt as it stands there."""
    parts = stored.split(b"$")
    try:
        empty, version, salt, rounds, digest = parts
        expected, count = unhexlify(digest), int(rounds)
    except ValueError:
        raise BadStoredPassword("broken PBKDF2 hash") from None
    if empty or version != b"1" or len(expected) != 20 or not 1 <= count <= _MAX_ROUNDS:
        raise BadStoredPassword("broken PBKDF2 hash")
    return hmac.compare_digest(hashlib.pbkdf2_hmac("sha1", octets, salt, count), expected)


def _is_bcrypt(stored: bytes, octets: bytes) -> bool:
    import bcrypt

    cost = stored.split(b"$")[2:3]
    if cost and cost[0].isdigit() and int(cost[0][:4]) > _MAX_BCRYPT_COST:
        raise BadStoredPassword(f"a bcrypt hash of cost {int(cost[0][:4])} takes too long")
    try:
        return bcrypt.checkpw(octets[:72], stored)  # more than 72 octets have never counted
    except ValueError as error:
        raise BadStoredPassword(f"broken bcrypt hash: {error}") from None


def _is_crypt(setting: bytes, octets: bytes) -> bool:
    if setting.startswith(b"$2"):
        return _is_bcrypt(setting, octets)  # not every crypt(3) knows it
    rounds = _ROUNDS.match(setting)
    if (rounds and int(rounds[1][:9]) > _MAX_ROUNDS) or (
        _MEMORY_HARD.match(setting) and not _MODERATE.match(setting)
    ):
        raise BadStoredPassword("the hash takes too long, or too much memory")
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


def _digest(algorithm: str, *, encoding: str = "base64") -> Scheme:
    return Scheme(partial(_is_digest, algorithm), encoding, hashlib.new(algorithm, usedforsecurity=False).digest_size)


def _salted(algorithm: str) -> Scheme:
    return Scheme(partial(_is_digest, algorithm), "base64")


READABLE = ("PLAIN", "CLEAR", "CLEARTEXT")
CRAM_MD5 = ("CRAM-MD5", "HMAC-MD5")
_CRYPT = Scheme(_is_crypt)
SCHEMES: Final[dict[str, Scheme]] = {
    **dict.fromkeys(READABLE, Scheme(_is_plain)),
    **dict.fromkeys(("ARGON2ID", "ARGON2I"), Scheme(_is_argon2)),
    **dict.fromkeys(("CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "DES-CRYPT"), _CRYPT),
    **dict.fromkeys(CRAM_MD5, Scheme(_is_cram_md5, "hex", CRAM_MD5_BYTES)),
    **dict.fromkeys(("SHA", "SHA1"), _digest("sha1")),
    **dict.fromkeys(("MD5", "LDAP-MD5"), _digest("md5")),
    "BLF-CRYPT": Scheme(_is_bcrypt),
    "PBKDF2": Scheme(_is_pbkdf2),
    "SCRAM-SHA-256": Scheme(partial(_is_scram, "sha256")),
    "SCRAM-SHA-1": Scheme(partial(_is_scram, "sha1")),
    "PLAIN-MD5": _digest("md5", encoding="hex"),
    "SMD5": _salted("md5"),
    "SSHA": _salted("sha1"),
    "SHA256": _digest("sha256"),
    "SSHA256": _salted("sha256"),
    "SHA512": _digest("sha512"),
    "SSHA512": _salted("sha512"),
}
