"""The arguments of SORT and THREAD (RFC 5256 §5, RFC 5957 §5, RFC 5267 §3, RFC 6203 §6)."""

from typing import Final

from posthouse.message import fuzzy
from posthouse.message.query import Query
from posthouse.protocols.imap.commands import Command, ReturnOptions, Sort, Thread
from posthouse.protocols.imap.cursor import Cursor, syntax_error
from posthouse.protocols.imap.searchkeys import parse_charset_and_keys
from posthouse.protocols.imap.searchreturn import parse_return

RELEVANCY: Final = "RELEVANCY"
CRITERIA: Final = frozenset(
    {"ARRIVAL", "CC", "DATE", "DISPLAYFROM", "DISPLAYTO", "FROM", RELEVANCY, "SIZE", "SUBJECT", "TO"}
)
ALGORITHMS: Final = frozenset({"ORDEREDSUBJECT", "REFERENCES", "REFS"})


def parse_sort(uid: bool, tag: bytes, cursor: Cursor) -> Command:
    """``[RETURN (…)] (criterion *(SP criterion)) charset key *(SP key)``."""
    cursor.space()
    returns = parse_return(cursor)
    cursor.expect(b"(")
    criteria = [_criterion(cursor)]
    while cursor.skip(b" "):
        criteria.append(_criterion(cursor))
    cursor.expect(b") ")
    program = parse_charset_and_keys(cursor)
    # The first criterion of a name decides; what it leaves equal, another of the same name does too.
    first = dict(reversed(criteria))
    ordered = tuple((name, first[name]) for name in dict.fromkeys(name for name, _ in criteria))
    check_relevancy(returns, program.query, is_sorted_by=RELEVANCY in first)
    return Sort(tag, uid, program.query, returns, program.is_charset_known, criteria=ordered)


def parse_thread(uid: bool, tag: bytes, cursor: Cursor) -> Command:
    """``algorithm SP charset key *(SP key)``."""
    cursor.space()
    algorithm = cursor.keyword().decode("ascii")
    if algorithm not in ALGORITHMS:
        raise syntax_error("Unknown threading algorithm")
    cursor.space()
    program = parse_charset_and_keys(cursor)
    return Thread(tag, uid, program.query, None, program.is_charset_known, algorithm=algorithm)


def check_relevancy(returns: ReturnOptions | None, query: Query, *, is_sorted_by: bool = False) -> None:
    """RFC 6203 §4, §6: there is relevancy only where something is FUZZY."""
    is_asked = is_sorted_by or (returns is not None and b"RELEVANCY" in returns.names)
    if is_asked and not fuzzy.is_fuzzy(query):
        raise syntax_error("RELEVANCY needs a FUZZY search key")


def _criterion(cursor: Cursor) -> tuple[str, bool]:
    name = cursor.keyword()
    is_reversed = name == b"REVERSE"
    if is_reversed:
        cursor.space()
        name = cursor.keyword()
    text = name.decode("ascii")
    if text not in CRITERIA:
        raise syntax_error("Unknown sort criterion")
    return text, is_reversed
