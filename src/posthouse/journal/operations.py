"""What a commit does to files. The operations of one commit happen all or none.

In this order, whatever theirs: every temporary file is written, lines are appended, then files appear under
their names. So a UID is on record before its message can be seen.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Put:
    """One file that comes into being whole: ``prefix``, then the content.

    Paths are absolute and on one file system; ``path`` and ``links`` are hard links to one file. Directories
    exist already. A file of that name is replaced; say ``Gone(path)`` in the same commit if so, or recovery
    may take the new file for a torn copy of the old one.
    """

    temporary: str
    path: str
    links: tuple[str, ...] = ()
    prefix: bytes = b""
    """Goes in front of the content, in the file's own line ends."""
    lf: bool = False
    """CRLF of the content is stored as LF."""
    mode: int = 0o600
    mtime: float | None = None
    """Seconds since the epoch; None: now."""


@dataclass(frozen=True, slots=True)
class Append:
    """Lines, each with its LF, at the end of a file. Recovery adds only those that are not there."""

    path: str
    line: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """What was put at this path before is done with; recovery doesn't bring it back.

    Nothing is deleted: that is the caller's, before this is committed.
    """

    path: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """The record of this stamp in the same journal was never acknowledged: it failed. The journal's own."""

    stamp: int


Operation = Put | Append | Gone | Cancel
