"""What a filter is: it is shown a message and says what it thinks of it."""

from dataclasses import dataclass
from typing import Protocol

from posthouse.filters.verdict import Verdict
from posthouse.journal.content import Content


@dataclass(frozen=True, slots=True)
class Mail:
    """A message that is about to be taken in: all of it is here, and nobody has been told anything yet.

    ``content`` is read by ``head``, ``chunks`` and ``read``, several filters at once: it may be larger than memory.
    ``prefix`` are the fields that we put in front of it. ``directions``: those of its recipients, see
    ``policy.DIRECTIONS``. ``login`` is empty where nobody has logged in; ``is_own``: it comes from one of ours all
    the same, or by a login.
    """

    content: Content
    trace_id: str
    sender: str
    recipients: tuple[str, ...]
    client: str = ""
    """An IP address, or ``unix``."""
    client_name: str = ""
    helo: str = ""
    login: str = ""
    tls: str = ""
    """Version and cipher, or empty."""
    protocol: str = "SMTP"
    is_own: bool = False
    is_submission: bool = False
    is_lmtp: bool = False
    directions: frozenset[str] = frozenset()
    hostname: str = ""
    prefix: bytes = b""

    @property
    def size(self) -> int:
        """Octets of the content."""
        return self.content.size


class FilterTrouble(Exception):
    """A filter can't say: the text says why. What becomes of the message is the configuration's."""


class Filter(Protocol):
    """One filter of one process, which may be asked about several messages at once."""

    @property
    def name(self) -> str: ...

    async def judge(self, mail: Mail) -> Verdict:
        """What it says. Raises ``FilterTrouble``, ``OSError``, or anything at all: the pipeline lives on."""
        ...

    async def close(self) -> None: ...
