"""The settings of filters, and of what is common to them."""

import re
from dataclasses import dataclass

from posthouse.config.endpoints import parse_endpoint

KINDS = ("clamd", "command", "icap", "rspamd", "spamc")
"""What a filter may be; what each needs is in ``problem``."""


@dataclass(frozen=True, slots=True)
class FilterSettings:
    """A filter that is shown each message before it is taken in (docs/filtering.md), by a name of your own."""

    kind: str = ""
    """What it is: ``clamd``: ClamAV's daemon; ``command``: a program that scans a file for viruses; ``icap``: a
    virus scanner that speaks ICAP; ``rspamd``: rspamd over HTTP; ``spamc``: SpamAssassin's spamd."""
    servers: tuple[str, ...] = ()
    """But for ``command``: where the daemons are, ``host:port`` or ``unix:/path``, in order of preference: the next
    one is asked where one does not answer. rspamd's are its normal workers."""
    service: str = "avscan"
    """``icap``: the path of the server's service that scans."""
    password_file: str = ""
    """``rspamd``: file with the password that its workers want. Empty: they want none."""
    argv: tuple[str, ...] = ()
    """``command``: the program, by its full path, and its arguments; ``{file}`` stands for the message's file."""
    clean_codes: tuple[str, ...] = ("0",)
    """``command``: exit codes that say that there is nothing."""
    virus_codes: tuple[str, ...] = ("1",)
    """``command``: exit codes that say that there is something. Any other is a failure."""
    pattern: str = ""
    """``command``: regular expression, searched for in each line that the program prints; where it is found there is
    a virus, and what its group matches is the name."""
    timeout_seconds: int = 60
    """How long it may take for one message."""
    max_size_bytes: int = 0
    """Larger messages are not shown to it: what becomes of them is the policy's for ``unscanned``. 0: it sees all."""
    on_failure: str = "defer"
    """What is done where it does not answer, or says nonsense: ``defer``: the client hears that it may try again
    later; ``pass``: the message is taken in, with a field that says so; ``hold``: it waits in the queue until an
    operator lets it go. Of several that look for viruses one that answers is enough."""


@dataclass(frozen=True, slots=True)
class Filtering:
    """What is common to all filters (docs/filtering.md)."""

    agree: str = "any"
    """Where several look for viruses: ``any``: a message has one where any of them says so; ``all``: only where each
    that answers does."""
    quarantine_days: int = 30
    """How long the quarantine keeps a message."""


def endpoint(value: str | int) -> str:
    """What is wrong with an element of ``servers``, as checks have it."""
    try:
        found = parse_endpoint(str(value))
    except ValueError:
        found = None
    if found is None or not (found.path or found.port) or str(value).startswith((":", "*:")):
        return "'host:port', '[IPv6]:port' or 'unix:/path'"
    return ""


def exit_code(value: str | int) -> str:
    """What is wrong with an element of ``clean_codes`` and ``virus_codes``."""
    text = str(value)
    return "" if text.isascii() and text.isdecimal() and int(text) < 256 else "an exit code, as in '1'"


def pattern(value: str | int) -> str:
    """What is wrong with ``pattern``."""
    try:
        re.compile(str(value))
    except re.error as error:
        return f"a regular expression ({error})"
    return ""


def problem(settings: FilterSettings) -> str:
    """What is wrong with a filter as a whole."""
    match settings.kind:
        case "clamd":
            return "" if settings.servers else "servers has to say where clamd is, as in 'unix:/run/clamav/clamd.ctl'"
        case "icap" | "rspamd" | "spamc" as kind:
            return "" if settings.servers else f"servers has to say where {kind} is, as in '127.0.0.1:PORT'"
        case "command":
            return _command_problem(settings)
        case _:
            return f"kind has to be one of {', '.join(KINDS)}"


def _command_problem(settings: FilterSettings) -> str:
    if not settings.argv or not settings.argv[0].startswith("/"):
        return "argv has to begin with the full path of a program"
    if not any("{file}" in argument for argument in settings.argv):
        return "argv has to say where the message's file stands: '{file}'"
    both = set(settings.clean_codes) & set(settings.virus_codes)
    return f"an exit code can't mean both: {', '.join(sorted(both))}" if both else ""
