"""Settings of what mail is delivered into beside mailboxes: pipe transports, and what local aliases may name."""

import re
from dataclasses import dataclass

MACROS = ("recipient", "user", "extension", "domain", "mailbox", "nexthop", "sender", "size", "original_recipient")
FLAGS = "DFORhuq"
TRANSPORT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
NO_PIPES = frozenset({"local", "virtual", "smtp", "relay", "lmtp", "error", "retry", "discard"})
MACRO = re.compile(r"\$(?:\{([^}]*)\}|\(([^)]*)\)|(\w+)|)")
"""A macro in an element of ``argv``; without a name it is a mistake."""


@dataclass(frozen=True, slots=True)
class Transport:
    """A pipe transport: the program that a row ``NAME:nexthop`` of ``transport`` gives mail to, as Postfix's pipe(8)
    does. ``maildrop`` and ``uucp`` are defined out of the box; see transports.md."""

    argv: tuple[str, ...] = ()
    """The program with its full path, and its arguments. No shell sees them. ``${recipient}``, ``${user}``,
    ``${extension}``, ``${domain}``, ``${mailbox}``, ``${nexthop}``, ``${sender}``, ``${size}`` and
    ``${original_recipient}`` stand for the message's."""
    user: str = ""
    """The Unix user to run it as; never root."""
    flags: str = ""
    """Of ``D`` (Delivered-To), ``O`` (X-Original-To), ``R`` (Return-Path), ``F`` (a ``From `` line), ``h`` and ``u``
    (domain and local part of the arguments in lower case), ``q`` (local parts in quotes where SMTP needs them)."""
    max_size_bytes: int = 0
    """Larger messages are returned to their senders. 0: no limit."""
    timeout_seconds: int = 1000
    """How long it may take for a message, before it is killed and tried again later."""
    concurrency: int = 10
    """How many of it run at once."""


@dataclass(frozen=True, slots=True)
class Local:
    """Files and commands in the table ``alias``, and this host's Unix users."""

    run_as: str = ""
    """The Unix user as whom files are written and commands run; never root. Empty: neither is done."""
    unix_users: bool = True
    """Whether mail for a Unix user goes into ``~/Maildir/``, as that user."""
    timeout_seconds: int = 1000
    """How long a delivery may take, before it is killed and tried again later."""


def built_in() -> dict[str, Transport]:
    """The transports that are there without a configuration, with Debian's users and paths."""
    return {
        "maildrop": Transport(
            ("/usr/bin/maildrop", "-d", "${user}@${domain}", "-f", "${sender}"), user="vmail", flags="DRhu"
        ),
        "uucp": Transport(
            ("/usr/bin/uux", "-r", "-n", "-z", "-a${sender}", "-", "${nexthop}!rmail", "(${recipient})"),
            user="uucp",
            flags="Fhq",
        ),
    }


def argument(value: str | int) -> str:
    """What is wrong with an element of ``argv``, as checks have it."""
    text = str(value)
    for found in MACRO.finditer(text.replace("$$", "")):
        if (found[1] or found[2] or found[3]) not in MACROS:
            return f"only ${{{'}, ${'.join(MACROS)}}}, and $$ for a dollar sign"
    return "" if text and "\0" not in text else "an argument"


def flags(value: str | int) -> str:
    """What is wrong with ``flags``."""
    return "" if set(str(value)) <= set(FLAGS) else f"letters of {FLAGS}"


def unix_user(value: str | int) -> str:
    """What is wrong with a user to run as."""
    return "" if value not in ("root", "0") else "a user with few rights: root runs nobody's programs"


def problem(transport: Transport) -> str:
    """What is wrong with a transport as a whole."""
    if not transport.argv or not transport.argv[0].startswith("/"):
        return "argv has to begin with the full path of a program"
    return "" if transport.user else "user has to say as whom its program runs"
