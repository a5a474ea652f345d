"""Who has mail on the servers that are compared.

``user00``…``user99`` log in; further sets of a hundred (``user00-3``) give every SMTP run mailboxes that are new:
ext4 creates files slowly where many were deleted a moment ago. ``idle000``… are for idle sessions,
``hash00``… have a slow hash for a password, ``scram00``… SCRAM keys.
"""

import hashlib
import hmac
from base64 import b64encode

DOMAIN = "bench.test"
PASSWORD = "secret"
MAILBOXES = 100
BIG, BIG_MESSAGES = "big", 10_000
POP, POP_MESSAGES = "pop", 1_000
IDLE = [f"idle{n:03}" for n in range(1_000)]
HASHED = [f"hash{n:02}" for n in range(100)]
KEYED = [f"scram{n:02}" for n in range(100)]
SHA512_CRYPT = "$6$benchbench$agdH7.5jUrp182qOzKzpdDcqPZScP0K/8LvbT8ZmDpv5eOwmU6vCXtxnU7YVDmn.pGUHsC.mIrDmiJbLM0jHf1"
"""Of ``PASSWORD``."""
SALT, ITERATIONS = b"bench bench salt", 4_096
OWNER = 5000
"""User and group id of the Maildirs when we are root."""


def receivers(number: int) -> list[str]:
    """The hundred names of one set; set 0 is ``user00``…``user99``."""
    suffix = f"-{number}" if number else ""
    return [f"user{n:02}{suffix}" for n in range(MAILBOXES)]


def everyone(sets: int) -> list[str]:
    return [BIG, POP, *IDLE, *HASHED, *KEYED, *(name for number in range(sets) for name in receivers(number))]


def address(name: str) -> str:
    return f"{name}@{DOMAIN}"


def maildir(name: str) -> str:
    """Below the mail root, in Postfix's spelling for a Maildir."""
    return f"{DOMAIN}/{name}/"


def stored_password(name: str) -> str:
    """As both servers keep it, with its scheme."""
    if name in _HASHED:
        return f"{{SHA512-CRYPT}}{SHA512_CRYPT}"
    if name in _KEYED:
        return f"{{SCRAM-SHA-256}}{_SCRAM}"
    return f"{{PLAIN}}{PASSWORD}"


def salted_password() -> bytes:
    """What a client keeps that doesn't want to work for each login (RFC 5802 §5.1)."""
    return hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), SALT, ITERATIONS)


def _scram_keys() -> str:
    """``iterations,salt,stored key,server key`` in base64, as Dovecot writes it."""
    client_key = hmac.digest(salted_password(), b"Client Key", "sha256")
    server_key = hmac.digest(salted_password(), b"Server Key", "sha256")
    parts = (SALT, hashlib.sha256(client_key).digest(), server_key)
    return ",".join([str(ITERATIONS), *(b64encode(part).decode() for part in parts)])


_HASHED, _KEYED, _SCRAM = frozenset(HASHED), frozenset(KEYED), _scram_keys()
