"""Header checks: regular expressions for header fields, and what is done where one matches (header_checks(5)).

Invariants:
  1. Expressions are RE2's: time is linear in the field, whatever the operator or the sender wrote.
  2. A field is matched as one line, folds removed, octets as they are. The first rule that matches it counts.
  3. What no rule changes stays as it is, octet for octet.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posthouse.base.errors import Refused, Reply
from posthouse.message.headers import header_end, iterate
from posthouse.runtime.log import log
from posthouse.services.rewriting.treatment import NOTHING, Treatment, parse_treatment
from posthouse.services.textfiles import TableError, lines

MAX_FIELDS = 2000
"""Most header fields of a message that is checked."""
TOO_LARGE = Reply(552, "5.3.4", "The message's header is too large")

_STATUS = re.compile(r"(5\.\d{1,3}\.\d{1,3})\s+(.*)", re.DOTALL)
_FIELD = re.compile(r"[!-9;-~]+:.*")
_GROUP = re.compile(r"\$(?:(\d)|\{(\d)\}|\((\d)\)|(\$))")
_SILENT = frozenset({"DUNNO", "OK"})
_WORDS = frozenset({"REJECT", "PREPEND", "REPLACE", "IGNORE", "STRIP", "WARN", "INFO"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One line: ``pattern`` is a compiled expression, ``place`` where it stands."""

    pattern: Any
    word: str
    text: str
    place: str


def read_checks(path: str) -> tuple[Rule, ...]:
    """Read a file. Raises ``TableError``."""
    return tuple([_rule(line, place) for place, line in lines(path)])


def _rule(line: str, place: str) -> Rule:
    expression, flags, rest = _parts(line, place)
    word, _, text = rest.strip().partition(" ")
    word, text = word.upper(), text.strip()
    try:
        is_known = word in _SILENT | _WORDS or parse_treatment(word, text) is not None
    except ValueError as error:
        raise TableError(f"{place}: {error}") from None
    if not is_known:
        raise TableError(f"{place}: {word!r} is no action of header checks")
    if word in ("PREPEND", "REPLACE") and not _FIELD.fullmatch(text):
        raise TableError(f"{place}: {text!r} is no header field")
    pattern = _compiled(expression, place, ignores_case="i" not in flags)
    highest = max([int(group[1] or group[2] or group[3] or 0) for group in _GROUP.finditer(text)], default=0)
    if highest > pattern.groups:
        raise TableError(f"{place}: ${highest}, but the expression has {pattern.groups} group(s)")
    return Rule(pattern, word, text, place)


def _parts(line: str, place: str) -> tuple[str, str, str]:
    """Expression, flags and the rest of ``/expression/flags action``."""
    mark = line[0]
    if mark.isalnum() or mark in "!\\":
        raise TableError(f"{place}: expected /expression/ and an action")
    end = re.escape(mark)
    found = re.match(rf"{end}((?:[^\\{end}]|\\.)*+){end}([a-zA-Z]*)\s+(\S.*)", line)
    if not found:
        raise TableError(f"{place}: expected {mark}expression{mark} and an action")
    if found[2] not in ("", "i"):
        raise TableError(f"{place}: {found[2]!r}: the only flag is i, which makes upper and lower case differ")
    return found[1], found[2], found[3]


def _compiled(expression: str, place: str, *, ignores_case: bool) -> Any:
    import re2  # 5 MB that most processes never need

    options = re2.Options()
    # Octets: with UTF-8 a single wrong octet would be something that "." does not match.
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = not ignores_case
    options.dot_nl = True
    options.log_errors = False
    try:
        return re2.compile(expression.encode(), options)
    except re2.error as error:
        raise TableError(f"{place}: {error.args[0].decode(errors='replace')}") from None


def check(rules: Sequence[Rule], head: bytes, trace_id: str) -> tuple[bytes, Treatment]:
    """The header section that ``head`` begins with as the rules leave it, and what is done with the message.

    Raises ``Refused``.
    """
    end = header_end(head)
    made: list[bytes] = []
    treatment, done = NOTHING, 0
    for number, field in enumerate(iterate(head)):
        if number >= MAX_FIELDS:
            raise Refused(TOO_LARGE, f"more than {MAX_FIELDS} header fields where there are header checks")
        line = head[field.start : field.end].replace(b"\r\n", b"")
        rule, match = _first(rules, line)
        if rule is None:
            continue
        text = _filled(rule.text, match)
        _tell(rule, line, trace_id)
        if rule.word == "REJECT":
            raise Refused(_refusal(text), f"{rule.place}: {line[:200]!r}")
        new = _changed(rule.word, text, head[field.start : field.end])
        if new is not None:
            made += [head[done : field.start], new]
            done = field.end
        treatment = treatment.and_also(_treatment(rule, text))
    return b"".join([*made, head[done:end]]), treatment


def _treatment(rule: Rule, text: bytes) -> Treatment:
    try:
        found = parse_treatment(rule.word, text.decode(errors="replace"))
    except ValueError as error:  # what a group has put into it is no address
        log.warning("header-check-failed", place=rule.place, reason=str(error))
        return NOTHING
    if found is not None and (found.hold or found.discard):
        return parse_treatment(rule.word, f"{rule.place}: {text.decode(errors='replace')}".rstrip(": ")) or NOTHING
    return found or NOTHING


def _first(rules: Sequence[Rule], line: bytes) -> tuple[Rule | None, Any]:
    for rule in rules:
        if match := rule.pattern.search(line):
            return (None, None) if rule.word in _SILENT else (rule, match)
    return None, None


def _filled(text: str, match: Any) -> bytes:
    """The text with ``$1`` and its like replaced."""
    made: list[bytes] = []
    done = 0
    for group in _GROUP.finditer(text):
        number = group[1] or group[2] or group[3]
        made += [text[done : group.start()].encode(), b"$" if group[4] else match.group(int(number)) or b""]
        done = group.end()
    return b"".join([*made, text[done:].encode()])


def _changed(word: str, text: bytes, field: bytes) -> bytes | None:
    """What stands in the field's place; None where it stays."""
    match word:
        case "IGNORE" | "STRIP":
            return b""
        case "REPLACE":
            return text + b"\r\n"
        case "PREPEND":
            return text + b"\r\n" + field
        case _:
            return None


def _refusal(text: bytes) -> Reply:
    words = "".join(each if each.isprintable() else "?" for each in text.decode("ascii", "replace"))
    found = _STATUS.fullmatch(words)
    return Reply(550, found[1], found[2]) if found else Reply(550, "5.7.1", words or "Message content rejected")


def _tell(rule: Rule, line: bytes, trace_id: str) -> None:
    tell = log.warning if rule.word == "WARN" else log.info
    field = line[:200].decode(errors="replace")
    tell("header-check", trace=trace_id, place=rule.place, action=rule.word, text=rule.text, field=field)
