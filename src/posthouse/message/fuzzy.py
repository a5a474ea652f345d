"""FUZZY (RFC 6203): a key made wider, and how well what it found fits.

A text matches where all its words are, in any order and place; a long word also with another end. What is no text
matches as it always does, and so does what is not wanted.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from posthouse.message.query import And, Body, Fuzzy, Header, Not, Or, Query, Text

MOST_SCORED: Final = 8
"""How many texts of one search count for its scores."""
MOST_WORDS: Final = 20
_LONG, _END = 6, 2

Texts = Header | Body | Text


def exact(key: Query) -> Query:
    """The whole tree without FUZZY: its keys made wider."""
    match key:
        case Fuzzy(inner):
            return _mapped(inner, _wider)
        case And() | Or() | Not():
            return _inside(key, exact)
        case _:
            return key


def is_fuzzy(key: Query) -> bool:
    """Whether there is a FUZZY in it."""
    match key:
        case And(keys):
            return any(map(is_fuzzy, keys))
        case Or(a, b):
            return is_fuzzy(a) or is_fuzzy(b)
        case Not(inner):
            return is_fuzzy(inner)
        case _:
            return isinstance(key, Fuzzy)


def texts(key: Query) -> list[Texts]:
    """The texts that count for scores, as they were given."""
    found: list[Texts] = []

    def gather(each: Query) -> Query:
        if isinstance(each, Texts) and each.text:
            found.append(each)
        return each

    def look(each: Query) -> Query:
        match each:
            case Fuzzy(inner):
                return _mapped(inner, gather)
            case And() | Or():
                return _inside(each, look)
            case _:
                return each

    look(key)
    return list(dict.fromkeys(found))[:MOST_SCORED]


def _wider(key: Query) -> Query:
    if not isinstance(key, Texts):
        return key
    words = dict.fromkeys(key.text.split()[:MOST_WORDS])
    stems = [word[:-_END] if len(word) >= _LONG else word for word in words]
    return And(tuple(replace(key, text=stem) for stem in stems)) if stems else key


def _mapped(key: Query, change: Callable[[Query], Query]) -> Query:
    """The tree with its leaves changed, but for those that are not wanted."""
    match key:
        case And() | Or():
            return _inside(key, lambda each: _mapped(each, change))
        case Fuzzy(inner):
            return _mapped(inner, change)
        case Not():
            return exact(key)
        case _:
            return change(key)


def _inside(key: And | Or | Not, change: Callable[[Query], Query]) -> Query:
    match key:
        case And(keys):
            return And(tuple(map(change, keys)))
        case Or(a, b):
            return Or(change(a), change(b))
        case Not(inner):
            return Not(change(inner))
