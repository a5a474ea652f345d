"""SASLprep (RFC 4013): one form for names and passwords that look alike but differ in bytes.

Invariant: plain printable ASCII comes back unchanged.
"""

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)
"""RFC 4013 §2.3."""


def prepare(text: str, *, stored: bool = False) -> str:
    """The prepared form of ``text``; ``ValueError`` where SASLprep prohibits it.

    ``stored``: code points that Unicode 3.2 had not assigned are refused as well (RFC 3454 §7).
    """
    if text.isascii() and text.isprintable():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    for character in prepared:
        if any(is_in(character) for is_in in _PROHIBITED):
            raise ValueError("prohibited character")
        if stored and stringprep.in_table_a1(character):
            raise ValueError("unassigned character")
    _check_direction(prepared)
    return prepared


def password_bytes(password: str) -> bytes:
    """The octets of a password that are hashed.

    Prepared as a stored string (RFC 5802 §2.2); where SASLprep refuses, as it does every emoji, the
    password's own UTF-8, as PostgreSQL does it.
    """
    try:
        return prepare(password, stored=True).encode()
    except ValueError:
        return password.encode("utf-8", "surrogatepass")


def _check_direction(text: str) -> None:
    """RFC 3454 §6: right-to-left text is so from its first to its last character, with nothing left-to-right."""
    if not any(map(stringprep.in_table_d1, text)):
        return
    if any(map(stringprep.in_table_d2, text)):
        raise ValueError("mixed writing directions")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ValueError("right-to-left text with a neutral end")
