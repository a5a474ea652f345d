"""SEARCH (RFC 3501 §6.4.4): the tree of ``message.query`` as one predicate over messages.

What costs least is asked first: flags and numbers, then what the index has, then headers, then whole messages.
Texts match as substrings of what ``searchtext`` makes of a message, whether that is looked up or made anew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from posthouse.message import dates, headers, query
from posthouse.message.casemap import casemap
from posthouse.message.query import Query, Ranges, resolve_ranges
from posthouse.store import searchtext
from posthouse.store.fetch import Message
from posthouse.store.fulltext import Texts
from posthouse.store.model import Want

SEARCHED = frozenset({b"bcc", b"cc", b"date", b"from", b"subject", b"to"})
"""One set of fields for all the keys that people use."""

Predicate = Callable[[Message], bool]


@dataclass(frozen=True, slots=True)
class Test:
    """One key, made ready: what it needs, and what it asks. ``cost`` orders the keys of an AND."""

    want: Want
    matches: Predicate

    @property
    def names(self) -> frozenset[bytes]:
        """The header fields that are enough for it."""
        return SEARCHED if Want.FIELDS in self.want else frozenset()

    @property
    def cost(self) -> int:
        return self.want.value


@dataclass(frozen=True, slots=True)
class Numbers:
    """What numbers, ``*``, ``$`` and ages mean in the view that is searched, at this moment."""

    sequence: Mapping[int, int]  # UID to sequence number
    largest_uid: int
    saved: frozenset[int] = frozenset()
    now: float = 0.0
    texts: Texts | None = None
    """Where it is known what all of the messages that are asked about say."""


def compiled(key: Query, numbers: Numbers) -> Test:
    """The whole tree as one test."""
    if isinstance(key, query.And):
        return _all([compiled(each, numbers) for each in key.keys])
    if isinstance(key, query.Or):
        return _either(compiled(key.a, numbers), compiled(key.b, numbers))
    if isinstance(key, query.Not):
        inner = compiled(key.key, numbers)
        return Test(inner.want, lambda message: not inner.matches(message))
    return _leaf(key, numbers)


def _leaf(key: Query, numbers: Numbers) -> Test:
    if isinstance(key, query.All):
        return Test(Want.FLAGS, lambda _: True)
    if isinstance(key, query.SequenceSet | query.UidSet | query.HasFlag):
        return Test(Want.FLAGS, _by_number_or_flag(key, numbers))
    if isinstance(key, query.Larger):
        return Test(Want.SIZE, lambda message: message.size > key.size_bytes)
    if isinstance(key, query.Smaller):
        return Test(Want.SIZE, lambda message: message.size < key.size_bytes)
    if isinstance(key, query.ModSeq):
        return Test(Want.MODSEQ, lambda message: message.modseq >= key.modseq)
    if isinstance(key, query.EmailId):
        return Test(Want.EMAILID, lambda message: message.email_id == key.id)
    if isinstance(key, _Dated):
        return _by_date(key)
    if isinstance(key, query.Older | query.Younger):
        return _by_age(key, numbers.now)
    if isinstance(key, query.Header | query.SentBefore | query.SentOn | query.SentSince):
        return _by_header(key)
    assert isinstance(key, query.Body | query.Text)
    return _by_text(key, numbers.texts)


def _all(tests: list[Test]) -> Test:
    want = Want.FLAGS
    for test in tests:
        want |= test.want
    ordered = [test.matches for test in sorted(tests, key=lambda test: test.cost)]
    return Test(want, lambda message: all(matches(message) for matches in ordered))


def _either(a: Test, b: Test) -> Test:
    first, second = sorted((a, b), key=lambda test: test.cost)
    return Test(a.want | b.want, lambda message: first.matches(message) or second.matches(message))


def _by_number_or_flag(key: query.SequenceSet | query.UidSet | query.HasFlag, numbers: Numbers) -> Predicate:
    if isinstance(key, query.HasFlag):
        flag = key.flag.lower()
        # Flag sets are few and shared: each is looked at once.
        known: dict[frozenset[str], bool] = {}

        def has_flag(message: Message) -> bool:
            found = known.get(message.flags)
            if found is None:
                found = known[message.flags] = any(each.lower() == flag for each in message.flags)
            return found

        return has_flag
    if key.ranges == query.SAVED:
        return lambda message: message.uid in numbers.saved
    if isinstance(key, query.UidSet):
        uids = resolve_ranges(key.ranges, numbers.largest_uid)
        return lambda message: _within(message.uid, uids)
    ranges = resolve_ranges(key.ranges, len(numbers.sequence))
    return lambda message: _within(numbers.sequence[message.uid], ranges)


def _by_date(key: "_Dated") -> Test:
    """RFC 8514 §4.3: where it is not known when a message was saved, by its internal date."""
    compare = _COMPARE[type(key)]
    if isinstance(key, query.Before | query.On | query.Since):
        return Test(Want.DATE, lambda message: compare(message.internal_date.date(), key.date))
    return Test(
        Want.SAVED | Want.DATE, lambda message: compare((message.saved or message.internal_date).date(), key.date)
    )


def _by_age(key: query.Older | query.Younger, now: float) -> Test:
    """RFC 5032 §2."""
    border = now - key.seconds
    if isinstance(key, query.Older):
        return Test(Want.DATE, lambda message: message.entry.date <= border)
    return Test(Want.DATE, lambda message: message.entry.date >= border)


def _within(number: int, ranges: Ranges) -> bool:
    return any(low <= number <= high for low, high in ranges)


_Dated = query.Before | query.On | query.Since | query.SavedBefore | query.SavedOn | query.SavedSince
_COMPARE: dict[type, Callable[[date, date], bool]] = {
    query.Before: date.__lt__,
    query.On: date.__eq__,
    query.Since: date.__ge__,
    query.SavedBefore: date.__lt__,
    query.SavedOn: date.__eq__,
    query.SavedSince: date.__ge__,
    query.SentBefore: date.__lt__,
    query.SentOn: date.__eq__,
    query.SentSince: date.__ge__,
}


def _by_header(key: query.Header | query.SentBefore | query.SentOn | query.SentSince) -> Test:
    name = key.name.encode("utf-8", "replace").lower() if isinstance(key, query.Header) else b"date"
    if name in SEARCHED:
        want, section = Want.FIELDS, _searched_fields
    else:
        want, section = Want.HEADER, Message.header
    if isinstance(key, query.Header):
        needle = casemap(key.text)
        return Test(want, lambda message: _field_contains(section(message), name, needle))
    compare, day = _COMPARE[type(key)], key.date

    def was_sent(message: Message) -> bool:
        field = headers.first(headers.iterate(section(message)), name)
        sent = dates.parse_date(headers.unfold(field.value)) if field else None
        return sent is not None and compare(sent.date(), day)  # RFC 3501: disregarding time and zone

    return Test(want, was_sent)


def _searched_fields(message: Message) -> bytes:
    return message.header_fields(SEARCHED)


def _field_contains(section: bytes, name: bytes, needle: str) -> bool:
    # Most messages can't match, and that is seen at once where nothing is encoded.
    is_plain = section.isascii() and b"=?" not in section
    if is_plain and needle not in headers.unfold(section).decode("ascii").upper():
        return False
    return any(
        field.name.lower() == name and needle in casemap(headers.decode_words(field.value))
        for field in headers.iterate(section)
    )


def _body_contains(message: Message, needle: str) -> bool:
    return not needle or any(searchtext.contains(unit, needle) for unit in searchtext.body_units(message))


def _header_contains(message: Message, needle: str, word: bytes | None) -> bool:
    section = message.header()
    if not searchtext.may_have(section, word):
        return False
    return any(needle in unit for unit in searchtext.header_units(section))


def _by_text(key: query.Body | query.Text, texts: Texts | None) -> Test:
    needle = casemap(key.text)
    if isinstance(key, query.Body):
        slow = Test(Want.STRUCTURE | Want.BODY, lambda message: _body_contains(message, needle))
    else:
        word = searchtext.longest_word(needle)
        slow = Test(
            Want.HEADER | Want.STRUCTURE | Want.BODY,
            lambda message: _header_contains(message, needle, word) or _body_contains(message, needle),
        )
    if texts is None or "\0" in needle:
        return slow
    is_body = isinstance(key, query.Body)

    def matches(message: Message) -> bool:
        found = texts.contains(message.uid, needle, body_only=is_body)
        return slow.matches(message) if found is None else found

    return Test(Want.FLAGS, matches)
