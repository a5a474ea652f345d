"""How a message that comes in is stored: under which name, with which line ends.

Invariant: LF is stored for CRLF only if nothing is lost by it; the name says both sizes.
"""

import time
from dataclasses import dataclass

from posthouse.journal.content import Content
from posthouse.journal.operations import Put
from posthouse.store import filename


@dataclass(frozen=True, slots=True)
class Form:
    """A file to be: ``base`` names it, ``stored`` and ``size`` are its octets on disk and with CRLF."""

    base: str
    prefix: bytes
    lf: bool
    stored: int
    size: int

    def put(self, folder_path: str, place: str, info: str = "", mtime: float | None = None) -> Put:
        """The operation that puts it into ``new`` or ``cur`` of a folder."""
        return Put(
            f"{folder_path}/tmp/{self.base}",  # noqa: S108 (a Maildir's own)
            f"{folder_path}/{place}/{self.base}{info}",
            prefix=self.prefix,
            lf=self.lf,
            mtime=mtime,
        )


def form_of(content: Content, prefix: bytes, host: str) -> Form:
    """How this is stored, under a new name. Reads the content if it is not in memory."""
    size = len(prefix) + content.size
    stored = size
    lf = is_lossless(content)
    if lf:
        stored -= content.newlines + prefix.count(b"\r\n")
        prefix = prefix.replace(b"\r\n", b"\n")
    base = f"{filename.unique_base(host, time.time_ns())},S={stored},W={size}"
    return Form(base, prefix, lf, stored, size)


def is_lossless(content: Content) -> bool:
    """Whether CRLF can be had back from LF: no bare LF, and no CR before a CRLF."""
    if not content.newlines or content.newlines != content.linefeeds:
        return False
    if content.is_paired:
        return True
    if content.in_memory:
        return b"\r\r\n" not in content.data()
    border = b""
    for chunk in content.chunks():
        if b"\r\r\n" in chunk or b"\r\r\n" in border + chunk[:2]:
            return False
        border = (border + chunk)[-2:] if len(chunk) < 2 else chunk[-2:]
    return True
