"""What a row's destination says: addresses separated by commas, and for local aliases files, commands and lists."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PART = re.compile(r'(?:"(?:\\.|[^"\\])*+"|[^,])++')
_ESCAPED = re.compile(r"\\(.)")
INCLUDE = ":include:"


@dataclass(frozen=True, slots=True)
class File:
    """``/file/name``."""

    path: str


@dataclass(frozen=True, slots=True)
class Command:
    """``|command``."""

    command: str


@dataclass(frozen=True, slots=True)
class Include:
    """``:include:/file``."""

    path: str


def parts(values: Sequence[str]) -> list[str]:
    """The destinations in a key's rows, each once. A comma in quotes belongs to what it stands in."""
    found: list[str] = []
    for value in values:
        texts = _PART.findall(value) if '"' in value else value.split(",")
        found += (part for text in texts if (part := text.strip()))
    return list(dict.fromkeys(found))


def is_broken(values: Sequence[str]) -> str:
    """What is wrong with a key's rows whatever they are for, or nothing."""
    if any("\ufffd" in value for value in values):
        return "is not in the character set that it claims"
    return "" if any(value.strip(" ,\t\r\n") for value in values) else "has no destination"


def local(part: str) -> str | File | Command | Include:
    """One destination of a local alias; an address as it is."""
    text = part
    if part.startswith(('"|', '"/', '":')) and part.endswith('"') and len(part) > 2:
        text = _ESCAPED.sub(r"\1", part[1:-1])
    if text.startswith("/"):
        return File(text)
    if text.startswith("|"):
        return Command(text[1:].strip())
    if text.lower().startswith(INCLUDE):
        return Include(text[len(INCLUDE) :].strip())
    return part


def listed(text: str) -> list[str]:
    """The addresses in an included file: one a line, ``#`` begins a comment."""
    lines = (line.strip() for line in text.splitlines())
    return parts([line for line in lines if line and not line.startswith("#")])
