"""Logins that were right a short while ago, so that the next one costs nothing: a phone logs in 500 times a day.

Invariants:
  1. Kept are keyed hashes, never a password; the key lives and dies with the process.
  2. What is stored for the account is part of the hash: when that changes, or the account is no longer enabled, the
     login is not recent any more.
  3. What another program said (PAM, LDAP), or an app password, is believed for five minutes and for one protocol.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any, TypeVar

from posthouse.base.clock import Clock
from posthouse.directory.model import StoredCredentials
from posthouse.protocols.sasl.credentials import ScramHash, ScramKeys

OWN_SECONDS = 3600.0
"""For passwords that the directory stores: it says when they change."""
OTHERS_SECONDS = 300.0
MAX_RECENT = 20_000

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Verified:
    """A password that is right: the account, and who says so: ``sql``, ``app:NAME`` or a source's name."""

    account: str
    source: str


class RecentLogins:
    """Those of one process, ``MAX_RECENT`` at most."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._verified: dict[bytes, tuple[float, Verified]] = {}
        self._keys: dict[bytes, ScramKeys] = {}
        self._places: dict[tuple[str, str], float] = {}

    def find(self, login: str, stored: StoredCredentials | None, password: str, protocol: str) -> Verified | None:
        """Who has logged in like this."""
        expiry, verified = self._verified.get(self._digest(login, stored, password, protocol), (0.0, None))
        return verified if expiry > self._clock.monotonic() else None

    def add(
        self, login: str, stored: StoredCredentials | None, password: str, protocol: str, verified: Verified
    ) -> None:
        """Remember it."""
        seconds = OWN_SECONDS if verified.source == "sql" else OTHERS_SECONDS
        digest = self._digest(login, stored, password, protocol)
        _make_room(self._verified)
        self._verified[digest] = (self._clock.monotonic() + seconds, verified)

    def scram_keys(self, login: str, clear: str, algorithm: ScramHash) -> ScramKeys | None:
        """Keys that have been derived from a readable password."""
        return self._keys.get(self._hash((login, clear, algorithm)))

    def add_scram_keys(self, login: str, clear: str, algorithm: ScramHash, keys: ScramKeys) -> None:
        _make_room(self._keys)
        self._keys[self._hash((login, clear, algorithm))] = keys

    def has_been_at(self, address: str, login: str) -> bool:
        """Whether somebody has logged in by that name from that address within the hour."""
        return self._places.get((address, login), 0.0) > self._clock.monotonic()

    def add_place(self, address: str, login: str) -> None:
        _make_room(self._places)
        self._places[address, login] = self._clock.monotonic() + OWN_SECONDS

    def __len__(self) -> int:
        return len(self._verified)

    def _digest(self, login: str, stored: StoredCredentials | None, password: str, protocol: str) -> bytes:
        if stored is None:
            return self._hash((login, protocol, password))
        further = "".join(f"{one} {one.hash}" for one in stored.app_passwords)
        return self._hash(
            (login, stored.clear, stored.scram_sha256, stored.argon2id, further, protocol, stored.email, password)
        )

    def _hash(self, parts: tuple[str, ...]) -> bytes:
        return hashlib.blake2b(repr(parts).encode(), key=self._key, digest_size=32).digest()


def _make_room(kept: dict[Key, Any]) -> None:
    """Oldest first."""
    while len(kept) >= MAX_RECENT:
        del kept[next(iter(kept))]
