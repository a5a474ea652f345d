"""BER as LDAP restricts it (RFC 4511 §5.1): definite lengths, tags of one octet.

Invariants:
  1. Nothing reads beyond the element it is in; whatever does not fit is a ``BerError``.
  2. There is no recursion here: how deep an element goes is for those who know what it should be.
"""

BOOLEAN = 0x01
INTEGER = 0x02
OCTET_STRING = 0x04
ENUMERATED = 0x0A
SEQUENCE = 0x30
SET = 0x31

_LENGTH_OCTETS = 4
_INTEGER_OCTETS = 4  # message ids and result codes are no larger (RFC 4511 §4.1.1)


class BerError(ValueError):
    """These octets are no element, or not the one that has to be here."""


def element(tag: int, content: bytes) -> bytes:
    """An element with its tag and length."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def integer(value: int, tag: int = INTEGER) -> bytes:
    """A whole number that is not negative, in the fewest octets."""
    return element(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def octets(value: bytes, tag: int = OCTET_STRING) -> bytes:
    """A string of octets."""
    return element(tag, value)


def header(data: bytes | bytearray, start: int, end: int) -> tuple[int, int, int] | None:
    """The tag of the element at ``start``, and where its content begins and ends; None while that can't be told.

    The content may end after ``end``. Raises ``BerError``.
    """
    if end - start < 2:
        return None
    tag, first = data[start], data[start + 1]
    if tag & 0x1F == 0x1F:
        raise BerError("a tag of several octets")
    if first < 0x80:
        return tag, start + 2, start + 2 + first
    count = first & 0x7F
    if not 1 <= count <= _LENGTH_OCTETS:
        raise BerError("an indefinite or unreasonable length")
    content = start + 2 + count
    if content > end:
        return None
    return tag, content, content + int.from_bytes(data[start + 2 : content], "big")


class Reader:
    """The elements within one element's content, one after another."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self._data = data
        self._position = start
        self._end = len(data) if end is None else end

    def __bool__(self) -> bool:
        """Whether there is more."""
        return self._position < self._end

    def tag(self) -> int:
        """The next element's tag; -1 after the last."""
        return self._data[self._position] if self else -1

    def take(self, tag: int) -> "Reader":
        """The content of the next element, which has to have that tag. Raises ``BerError``."""
        found = header(self._data, self._position, self._end)
        if found is None or found[2] > self._end:
            raise BerError("an element that does not fit into the one around it")
        if found[0] != tag:
            raise BerError(f"element 0x{found[0]:02x} where 0x{tag:02x} has to be")
        self._position = found[2]
        return Reader(self._data, found[1], found[2])

    def skip(self) -> None:
        """Leave out the next element, whatever it is. Raises ``BerError``."""
        self.take(self.tag())

    def octets(self, tag: int = OCTET_STRING) -> bytes:
        """The next element as a string of octets. Raises ``BerError``."""
        inner = self.take(tag)
        return self._data[inner._position : inner._end]

    def integer(self, tag: int = INTEGER) -> int:
        """The next element as a whole number. Raises ``BerError``, also for one that no LDAP message has."""
        content = self.octets(tag)
        if not 1 <= len(content) <= _INTEGER_OCTETS or content[0] & 0x80:
            raise BerError("a number that is empty, negative or too large")
        return int.from_bytes(content, "big")
