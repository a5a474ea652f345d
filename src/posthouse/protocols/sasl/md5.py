"""MD5 that starts in the middle (RFC 1321), and HMAC-MD5 from the state that Dovecot stores for CRAM-MD5.

Python's own hashes can't be given a state. This one is slow, some 30 µs a block, and for CRAM-MD5's few blocks only.
"""

import hashlib
import math
import struct
from typing import Final

from posthouse.protocols.sasl.credentials import CRAM_MD5_BYTES

BLOCK_BYTES: Final = 64
State = tuple[int, int, int, int]
INITIAL: Final[State] = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
"""RFC 1321 §3.3."""

_MASK: Final = 0xFFFFFFFF
_SHIFTS: Final = ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21))
_ORDER: Final = ((0, 1), (1, 5), (5, 3), (0, 7))  # of the words in a round: the first, and the step to the next
_STEPS: Final = tuple(
    (step // 16, _SHIFTS[step // 16][step % 4], (start + stride * step) % 16, int(abs(math.sin(step + 1)) * 2**32))
    for step in range(64)
    for start, stride in (_ORDER[step // 16],)
)
"""Round, rotation, word and constant of each operation. RFC 1321 §3.4."""


def compress(state: State, block: bytes) -> State:
    """The state after one more block of 64 octets."""
    words = struct.unpack("<16I", block)
    a, b, c, d = state
    for number, shift, word, constant in _STEPS:
        if number == 0:
            mixed = (b & c) | (~b & d)
        elif number == 1:
            mixed = (b & d) | (c & ~d)
        elif number == 2:
            mixed = b ^ c ^ d
        else:
            mixed = c ^ (b | (~d & _MASK))
        total = (a + mixed + words[word] + constant) & _MASK
        a, d, c, b = d, c, b, (b + ((total << shift) | (total >> (32 - shift)))) & _MASK
    return (
        (state[0] + a) & _MASK,
        (state[1] + b) & _MASK,
        (state[2] + c) & _MASK,
        (state[3] + d) & _MASK,
    )


def finish(state: State, data: bytes, before: int = 0) -> bytes:
    """The digest of what led to ``state``, ``before`` octets in whole blocks, and ``data`` after it."""
    bits = (before + len(data)) * 8 % 2**64
    padding = bytes([0x80]) + bytes((55 - len(data)) % BLOCK_BYTES)
    padded = data + padding + struct.pack("<Q", bits)
    for start in range(0, len(padded), BLOCK_BYTES):
        state = compress(state, padded[start : start + BLOCK_BYTES])
    return struct.pack("<4I", *state)


def cram_md5_context(password: bytes) -> bytes:
    """What Dovecot stores as ``{CRAM-MD5}``: MD5's states after the padded key, the outer before the inner.

    RFC 2195 §2 has the idea: those who have it can log in by CRAM-MD5, but don't know the password.
    """
    if len(password) > BLOCK_BYTES:
        password = hashlib.md5(password, usedforsecurity=False).digest()
    key = password.ljust(BLOCK_BYTES, b"\0")
    states = (compress(INITIAL, bytes(octet ^ pad for octet in key)) for pad in (0x5C, 0x36))
    return b"".join(struct.pack("<4I", *state) for state in states)


def hmac_md5(context: bytes, message: bytes) -> bytes:
    """HMAC-MD5 (RFC 2104 §4) of a message, with the key whose context this is. ``ValueError``: it is none."""
    if len(context) != CRAM_MD5_BYTES:
        raise ValueError("a CRAM-MD5 context has 32 octets")
    numbers = struct.unpack("<8I", context)
    outer, inner = numbers[:4], numbers[4:]
    return finish(outer, finish(inner, message, BLOCK_BYTES), BLOCK_BYTES)
