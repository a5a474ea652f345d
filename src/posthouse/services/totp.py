"""One-time passwords by time, for logging in on the web: six digits that change every 30 seconds (RFC 6238)."""

import base64
import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote

from posthouse.directory.directory import Directory
from posthouse.directory.model import Actor
from posthouse.message.address import split
from posthouse.services import access
from posthouse.services.accounts import existing
from posthouse.services.changes import NotChanged, address_key, make

if TYPE_CHECKING:
    from posthouse.directory.tables import Tables

STEP_SECONDS = 30
DIGITS = 6
SECRET_BYTES = 20
"""160 bits, as RFC 4226 §4 (R6) recommends."""
ISSUER = "Posthouse"


def code(secret: str, time_seconds: float) -> str:
    """The code of that moment for a base32 secret (RFC 6238 §4.2, RFC 4226 §5.3)."""
    counter = int(time_seconds // STEP_SECONDS).to_bytes(8, "big")
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    offset = digest[-1] & 0xF
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def is_code(secret: str, given: str, time_seconds: float) -> bool:
    """Whether ``given`` is the code of now, or of the step before or after it (RFC 6238 §5.2)."""
    plain = given.replace(" ", "").encode("utf-8", "replace")
    steps = (time_seconds, time_seconds - STEP_SECONDS, time_seconds + STEP_SECONDS)
    return any(hmac.compare_digest(code(secret, moment).encode(), plain) for moment in steps if moment >= 0)


def uri(address: str, secret: str) -> str:
    """What an authenticator takes as a QR code."""
    return f"otpauth://totp/{ISSUER}:{quote(address, safe='@')}?secret={secret}&issuer={ISSUER}"


async def begin(directory: Directory, address: str, *, actor: Actor, anew: bool = False) -> str:
    """A new secret, in base32; ``anew``: in place of the one there is. Raises ``NotChanged``."""
    key = _key(actor, address)
    secret = base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()

    async def work(tables: "Tables") -> str:
        await existing(tables, key)
        if not anew and await tables.totp_secret(key):
            raise NotChanged(f"{key} has a TOTP secret already: 'posthouse account totp remove {key}' first")
        await tables.set_totp_secret(key, secret)
        await tables.audit("account totp set", key)
        return secret

    return await make(directory, actor, work)


async def check(directory: Directory, address: str, given: str, time_seconds: float, *, actor: Actor) -> bool:
    """Whether ``given`` is the account's code at that time. Raises ``NotChanged`` where it has no secret."""
    key = _key(actor, address)
    secret = await directory.read(lambda tables: tables.totp_secret(key))
    if not secret:
        raise NotChanged(f"{key} has no TOTP secret: 'posthouse account totp set {key}' makes one")
    return is_code(secret, given, time_seconds)


async def remove(directory: Directory, address: str, *, actor: Actor) -> None:
    """The account needs no code any more. Raises ``NotChanged``."""
    key = _key(actor, address)

    async def work(tables: "Tables") -> None:
        if not await tables.totp_secret(key):
            raise NotChanged(f"{key} has no TOTP secret")
        await tables.set_totp_secret(key, "")
        await tables.audit("account totp remove", key)

    await make(directory, actor, work)


def _key(actor: Actor, address: str) -> str:
    key = address_key(address)
    access.check(actor, split(key)[1])
    return key
