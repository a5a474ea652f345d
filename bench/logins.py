"""Logging in over IMAP: connect, log in, log out, by ten at a time, each time another of a hundred accounts.

The password's hash is a slow one, and both servers have seen it before: what counts is how they remember. For SCRAM
they have the keys; the client keeps its own, as clients may, so that the work that is measured is the servers'.
"""

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence

from bench.accounts import HASHED, KEYED, PASSWORD, address, salted_password
from bench.load import Dialogue, Exchange, Load, imap_status
from bench.rounds import Contest, Figures
from bench.servers import Server
from bench.table import Row

SECTION = "Logins"
SESSIONS = 10
TARGET = 3.0
_NONCE = "rOprNGfwEbeRWgbNEkqO"
_CLIENT_KEY = hmac.digest(salted_password(), b"Client Key", "sha256")
_STORED_KEY = hashlib.sha256(_CLIENT_KEY).digest()


def compare(contest: Contest, sides: Sequence[Server]) -> None:
    """Both servers run."""
    plain = [((f"a LOGIN {address(name)} {PASSWORD}\r\n".encode(), b"a OK"),) for name in HASHED]
    scram = [_scram(name) for name in KEYED]
    seconds = 1.0 if contest.is_quick else 6.0
    for name, units in (("LOGIN, hash seen before", plain), ("AUTHENTICATE SCRAM-SHA-256", scram)):
        row = Row(f"{name}, {SESSIONS} at a time", "1/s", "more", TARGET)
        contest.alternate(SECTION, name, sides, _measure(contest, row, units, seconds))


def _measure(
    contest: Contest, row: Row, units: Sequence[tuple[Exchange, ...]], seconds: float
) -> Callable[[Server, int], Figures]:
    dialogue = Dialogue(b"* OK", (), units, b"b LOGOUT\r\n", imap_status)

    def measure(server: Server, number: int) -> Figures:
        if number == 0:  # every account once, by each of Posthouse's workers
            Load(server.imap_port, dialogue, sessions=SESSIONS, seconds=min(seconds, 3.0)).run()
        outcome = Load(server.imap_port, dialogue, sessions=SESSIONS, seconds=seconds).run()
        if outcome.failures:
            contest.note(f"{SECTION}: {server.name}: {outcome.failures} failed, first: {outcome.first_failure}")
        return [(row, outcome.per_second)]

    return measure


def _scram(name: str) -> tuple[Exchange, ...]:
    """RFC 5802 §3, with an initial response (RFC 4959)."""
    bare = f"n={address(name)},r={_NONCE}"

    def final(reply: bytes) -> bytes:
        challenge = b64decode(reply.split()[1]).decode()
        without_proof = f"c=biws,{challenge.partition(',')[0]}"
        signed = f"{bare},{challenge},{without_proof}".encode()
        signature = hmac.digest(_STORED_KEY, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(_CLIENT_KEY, signature, strict=True))
        return b64encode(f"{without_proof},p={b64encode(proof).decode()}".encode()) + b"\r\n"

    first = b64encode(f"n,,{bare}".encode())
    return ((b"a AUTHENTICATE SCRAM-SHA-256 %b\r\n" % first, b"+ "), (final, b"+ "), (b"\r\n", b"a OK"))
