"""``posthouse``: the way in.

Invariants:
  1. ``--config`` and ``--data`` stand anywhere on the line, for every command.
  2. An expected error is one line on standard error (a wrong configuration: one for each problem), and an exit
     code: 1 refused, 2 usage or configuration, 75 try later, 130 interrupted. Never a traceback.
     Any other error is a bug: exit code 70, and a traceback only where ``POSTHOUSE_DEBUG`` asks for it, or from
     ``serve``, which nobody repeats to see it.
  3. ``serve`` imports nothing that only the other commands need.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

from posthouse.base.errors import PosthouseError, TryLater
from posthouse.config.loader import ConfigError, load
from posthouse.runtime import log

REFUSED = 1
USAGE = 2
BUG = 70  # EX_SOFTWARE
TRY_LATER = 75  # EX_TEMPFAIL
INTERRUPTED = 130  # as shells say it of SIGINT
_OPTIONS = {"--config": "POSTHOUSE_CONFIG", "--data": "POSTHOUSE_DATA"}


def main() -> None:
    """Run the command line; ends the process."""
    # On standard error, that is: what a command prints may be for another program. ``serve`` sets it up anew.
    log.configure("info", "text")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    code = 0
    try:
        code = _run(arguments)
        print(end="", flush=True)  # what can't be printed is found here, not when Python ends
        return code
    except BrokenPipeError:
        _print_nowhere(sys.stdout, sys.stderr)
        return REFUSED
    except OSError as error:
        _print_nowhere(sys.stdout)
        return code or _told(REFUSED, f"system: {error.strerror or error}")


def _run(arguments: Sequence[str]) -> int:
    try:
        rest = take_options(arguments)
        if rest[:1] == ["serve"] and not {"--help", "-h"} & set(rest):
            return _serve(rest[1:])
        return _command(rest)
    except ConfigError as error:
        return _told(USAGE, *error.problems)
    except TryLater as error:
        return _told(TRY_LATER, error.reason)
    except PosthouseError as error:
        return _told(REFUSED, error.reason)
    except KeyboardInterrupt:
        return _told(INTERRUPTED, "interrupted")
    except BrokenPipeError:
        raise
    except OSError as error:
        return _told(REFUSED, f"{error.filename or 'system'}: {error.strerror or error}")
    except Exception as error:  # noqa: BLE001 - whatever it is, an operator reads a line
        return _bug(error, is_shown="serve" in arguments or bool(os.environ.get("POSTHOUSE_DEBUG")))


def _bug(error: Exception, *, is_shown: bool) -> int:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if not is_shown:
        text += "; run again with POSTHOUSE_DEBUG=1 for the traceback, and report it"
        return _told(BUG, f"a bug: {text}")
    traceback.print_exception(error)
    return _told(BUG, f"a bug: {text}; report it with the traceback")


def take_options(arguments: Sequence[str]) -> list[str]:
    """Put ``--config`` and ``--data`` where ``config.loader.load`` looks for them; the other arguments."""
    rest: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        option, equals, value = argument.partition("=")
        if argument == "--":
            return [*rest, argument, *pending]
        if option not in _OPTIONS:
            rest.append(argument)
            continue
        value = value if equals else next(pending, "")
        if not value:
            raise ConfigError([f"{option}: expected a path after it"])
        os.environ[_OPTIONS[option]] = value
    return rest


def _serve(arguments: Sequence[str]) -> int:
    if unknown := set(arguments) - {"--demo"}:
        return _told(USAGE, f"serve: unknown argument {min(unknown)}; see posthouse serve --help")
    from posthouse.cli.serve import serve

    if not arguments:
        return serve(load(), load)
    from posthouse.cli import demo

    return serve(demo.loopback(load()), lambda: demo.loopback(load()), before=demo.make_accounts, on_ready=demo.show)


def _command(arguments: Sequence[str]) -> int:
    from posthouse.cli.commands import app

    try:
        app(list(arguments), prog_name="posthouse")
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            print(file=sys.stderr)  # behind what the terminal shows of Ctrl-C
            return _told(INTERRUPTED, "interrupted")
        return ended.code if isinstance(ended.code, int) else 0
    return 0


def _print_nowhere(*files: TextIO) -> None:
    """What is left to print can't be, as whoever reads it has enough, like ``head``; Python mustn't say so again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for file in files:
        os.dup2(nowhere, file.fileno())
    os.close(nowhere)


def _told(code: int, *lines: str) -> int:
    for line in lines:
        print(f"posthouse: {line}", file=sys.stderr)
    return code
