"""The base subject, by which messages are sorted and threaded (RFC 5256 §2.1).

Invariants:
  1. The base of a base subject is that subject.
  2. Time is linear in the length.
"""

import re

_BLANKS = re.compile(r"[ \t\r\n]+")
_BLOBS = re.compile(r"(?:\[[^\[\]]*+\] *+)*+")
_LAST_BLOB = re.compile(r"\[[^\[\]]*+\] *+\Z")
_MARK = re.compile(r"(?:re|fwd?) *+(?:\[[^\[\]]*+\] *+)?+:", re.IGNORECASE)


def base_subject(subject: str) -> tuple[str, bool]:
    """The subject without ``Re:``, ``[list]``, ``(fwd)`` and the like; whether it said that it is a reply or forward.

    ``subject`` is decoded (RFC 2047).
    """
    text = _BLANKS.sub(" ", subject)
    start, end = 0, len(text)
    is_reply = False
    while True:
        end, was_marked = _without_trailers(text, start, end)
        start, had_leader = _without_leaders(text, start, end)
        is_reply = is_reply or was_marked or had_leader
        if text[start : start + 5].lower() != "[fwd:" or text[end - 1 : end] != "]" or end - start < 6:
            return text[start:end], is_reply
        start, end, is_reply = start + 5, end - 1, True


def _without_trailers(text: str, start: int, end: int) -> tuple[int, bool]:
    was_marked = False
    while end > start:
        if text[end - 1] == " ":
            end -= 1
        elif end - start >= 5 and text[end - 5 : end].lower() == "(fwd)":
            end, was_marked = end - 5, True
        else:
            break
    return end, was_marked


def _without_leaders(text: str, start: int, end: int) -> tuple[int, bool]:
    had_leader = False
    while start < end:
        if text[start] == " ":
            start += 1
            continue
        blobs = _BLOBS.match(text, start, end)
        after = blobs.end() if blobs else start
        mark = _MARK.match(text, after, end)
        if mark:
            start, had_leader = mark.end(), True
        elif after == start:
            break
        elif after < end:
            start = after
        else:  # nothing but blobs: the last one is the subject
            return text.rindex("[", start, end), had_leader
    return start, had_leader
