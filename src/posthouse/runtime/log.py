"""The log: one structured line per event on standard error.

An event is a short lower-case name with hyphens (``login-failed``), its facts are key=value pairs; ``trace``
is the message's trace id from reception to final delivery. JSON for machines, readable text on a terminal.
Nothing a peer sends can forge a line: JSON escapes it, and text shows what is not printable escaped.
"""

import json
import logging
import random
import sys
import time
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, BinaryIO, Literal, cast

import msgspec

# structlog colours tracebacks with rich where it can import it: 5 MB and 40 ms in every process, for nothing here.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

if sys.modules["rich"] is None:
    del sys.modules["rich"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

# Until a process says otherwise: standard output is for what commands print.
structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
"""Import this where something is logged; it looks up its configuration at first use."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


def configure(level: str = "info", form: Literal["text", "json", "auto"] | str = "auto") -> None:
    """Set up the log of this process; ``auto`` is text where standard error is a terminal."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _as_text if as_text else _as_json,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(file=cast(BinaryIO, _Output(sys.stderr.buffer))),
        cache_logger_on_first_use=True,
    )


class _Output:
    """Where the lines go. On a full disk or into a closed pipe some are lost: the log suffers, not the mail."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, line: bytes) -> None:
        try:
            self._file.write(line)
        except OSError:
            pass

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError:
            pass  # it stays in the buffer; the next flush tries again


def new_trace_id() -> str:
    """A name for one message: 16 characters that sort by time and are safe in file names and URLs.

    Microseconds since 1970 in base 32 (11 characters: enough until the year 3100), then 25 random bits, which
    keep processes apart; they need not be hard to guess.
    """
    return base32(time.time_ns() // 1000, 11) + base32(random.getrandbits(25), 5)


def trace_time(trace_id: str) -> float:
    """When that message came in, in seconds since 1970; 0 for what is no trace id."""
    number = 0
    for digit in trace_id[:11]:
        number = number * 32 + max(_DIGITS.find(digit), 0)
    return number / 1e6


def base32(number: int, width: int) -> str:
    """Fixed-width digits that sort like the number does."""
    return "".join([_DIGITS[(number >> shift) & 31] for shift in range(5 * (width - 1), -1, -5)])


_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def _as_json(_logger: object, _name: str, event: MutableMapping[str, Any]) -> bytes:
    facts = {"time": _iso_now(), "level": event.pop("level"), "event": event.pop("event")}
    facts.update(event)
    try:
        return _encode(facts)
    except UnicodeEncodeError:  # octets that a peer sent as text and that were no UTF-8
        return json.dumps(facts, default=str, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _as_text(_logger: object, _name: str, event: MutableMapping[str, Any]) -> bytes:
    exception = event.pop("exception", None)
    level, name = event.pop("level"), event.pop("event")
    pairs = " ".join([f"{key}={_printable(value)}" for key, value in event.items()])
    line = f"{time.strftime('%H:%M:%S')} {level:<7} {name:<20} {pairs}"
    if exception:
        line += "\n" + "\n".join(f"    {row}" for row in exception.splitlines())
    return line.encode("utf-8", "backslashreplace")


def _printable(value: object) -> str:
    text = str(value)
    if text.isprintable() and " " not in text and text and '"' not in text:
        return text
    if text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return ascii(text)


def _iso_now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_iso_second(seconds)}.{nanoseconds // 1_000_000:03d}Z"


@lru_cache(maxsize=1)
def _iso_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
