"""``python -m bench``: sets the servers up, lets them take turns, prints the table.

Posthouse is compared with Postfix (receiving) and Dovecot (reading) where they are installed. Everything happens on
free ports of 127.0.0.1 and in a temporary directory; what was started is stopped at the end, also after Ctrl-C.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType

from bench import deferred, dovecot, idle, imap, logins, machine, pop3, postfix, relay, servers, sink, smtp, volume
from bench import directory as resolving
from bench.accounts import BIG, BIG_MESSAGES, POP, POP_MESSAGES, everyone, maildir
from bench.corpus import Corpus, link_maildir, make_maildir
from bench.dovecot import Dovecot
from bench.postfix import Postfix
from bench.posthouse import Posthouse
from bench.rounds import Contest, say
from bench.servers import NotRunningError, Server
from bench.table import Table

PARTS = ("smtp", "relay", "deferred", "directory", "logins", "imap", "pop3", "idle")
ROUNDS = 3
LEGEND = (
    "Medians of {rounds}, the servers in turn. A ratio above 1: Posthouse is better.\n"
    "Same durability, each as shipped: the 250 leaves when the message is synced, Postfix's in its queue file,\n"
    'Posthouse\'s in its journal (durability = "journal"). The client runs on the same cores.\n'
)


def main() -> int:
    options = _options()
    for number in (signal.SIGINT, signal.SIGTERM):  # ours, even where a shell started us with SIGINT ignored
        signal.signal(number, _interrupt)
    if options.loop and (why := volume.missing_for_loop()):
        print(f"bench: {why}", file=sys.stderr)
        return 2
    contest = Contest(Table(), 1 if options.quick else ROUNDS, options.quick, [])
    try:
        with machine.raised_limits(), volume.place(loop=options.loop, keep=options.keep) as directory:
            facts = machine.facts(directory)
            if machine.is_busy():
                contest.note(
                    f"the machine was busy with something else (load {facts['load before']}): these are no figures"
                )
            _measure(contest, options, directory, facts)
    except KeyboardInterrupt:
        print("\nbench: interrupted; the servers are stopped", file=sys.stderr)
        return 130
    except NotRunningError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return 1
    _print(contest, facts)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": facts, "notes": contest.notes, "rows": contest.table.data()}, file, indent=1)
    return 0


def _measure(contest: Contest, options: argparse.Namespace, directory: str, facts: dict[str, str]) -> None:
    if "directory" in options.only:
        _part(contest, "Directory", lambda: resolving.compare(contest, directory))
    if set(options.only) == {"directory"}:
        return
    names = everyone(deferred.sets_needed(contest.rounds) if {"smtp", "deferred"} & set(options.only) else 1)
    say("setting up")
    (relay_port,) = servers.free_ports(1)
    ours = Posthouse(_subdirectory(directory, "posthouse"), names, relay_port)
    facts["Posthouse"] = ours.version()
    if {"smtp", "relay"} & set(options.only):
        peer = _peer(
            contest, postfix.missing(), lambda place: Postfix(place, names, relay_port), directory, "postfix", facts
        )
        with _running([ours, *peer]) as sides:
            _receiving(contest, options, directory, sides, relay_port)
    if "deferred" in options.only and not _lacks_sink(contest):
        _part(contest, "Deferred", lambda: deferred.compare(contest, ours, directory, relay_port))
    readers = [part for part in ("logins", "imap", "pop3", "idle") if part in options.only]
    if not readers:
        return
    peer = _peer(contest, dovecot.missing(), lambda place: Dovecot(place, names), directory, "dovecot", facts)
    sides: Sequence[Server] = [ours, *peer]
    if "logins" in readers:
        with _running(sides):
            _part(contest, "Logins", lambda: logins.compare(contest, sides))
    if {"imap", "pop3"} & set(readers):
        _fill_mailboxes(sides)
        with _running(sides):
            if "imap" in readers:
                _part(contest, "IMAP", lambda: imap.compare(contest, sides))
            if "pop3" in readers:
                _part(contest, "POP3", lambda: pop3.compare(contest, sides))
    if "idle" in readers:
        idle.compare(contest, sides)


def _receiving(
    contest: Contest, options: argparse.Namespace, directory: str, sides: Sequence[Server], relay_port: int
) -> None:
    if "smtp" in options.only:
        _part(contest, "SMTP", lambda: smtp.compare(contest, sides, per_connection=options.per_conn))
    if "relay" in options.only and not _lacks_sink(contest):
        _part(contest, "Relay", lambda: relay.compare(contest, sides, directory, relay_port))


def _lacks_sink(contest: Contest) -> bool:
    if why := sink.missing():
        contest.note(why)
    return bool(why)


def _peer(
    contest: Contest,
    missing: str,
    make: Callable[[str], Server],
    directory: str,
    name: str,
    facts: dict[str, str],
) -> list[Server]:
    """The server to compare with, or nothing and a note why."""
    if missing:
        contest.note(missing)
        return []
    server = make(_subdirectory(directory, name))
    facts[server.name] = server.version()
    return [server]


@contextmanager
def _running(sides: Sequence[Server]) -> Iterator[Sequence[Server]]:
    """The servers run while the block does, and are stopped whatever happens in it."""
    with ExitStack() as stack:
        for server in sides:
            stack.callback(server.stop)
            say(f"starting {server.name}")
            server.start()
        yield sides


def _part(contest: Contest, name: str, compare: Callable[[], None]) -> None:
    """One protocol; what makes it impossible doesn't spoil the others."""
    try:
        compare()
    except (OSError, NotRunningError, TimeoutError) as error:
        contest.note(f"{name}: given up: {error}")


def _fill_mailboxes(sides: Sequence[Server]) -> None:
    """The same files for all: each server renames its own, and none writes into one."""
    say(f"writing {BIG_MESSAGES} messages")
    first, *others = (server.mail_root for server in sides)
    for name, count in ((BIG, BIG_MESSAGES), (POP, POP_MESSAGES)):
        make_maildir(Corpus(), os.path.join(first, maildir(name)), count)
        for root in others:
            link_maildir(os.path.join(first, maildir(name)), os.path.join(root, maildir(name)), count)


def _print(contest: Contest, facts: dict[str, str]) -> None:
    say("")
    print(f"\n{contest.table.text()}")
    print(LEGEND.format(rounds=f"{contest.rounds} rounds" if contest.rounds > 1 else "1 round"))
    for name, value in facts.items():
        print(f"{name + ':':<14}{value}")
    for note in contest.notes:
        print(f"! {note}")


def _subdirectory(directory: str, name: str) -> str:
    path = os.path.join(directory, name)
    os.mkdir(path)
    return path


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Posthouse beside Postfix and Dovecot.")
    parser.add_argument("--only", type=_parts, default=PARTS, help=f"a list of {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it works, not how fast")
    parser.add_argument("--per-conn", type=int, default=1, metavar="N", help="messages a connection; 0: no end")
    parser.add_argument("--loop", action="store_true", help="data on a fresh ext4 file system in an image (root)")
    parser.add_argument("--json", metavar="FILE", help="write every sample to FILE")
    parser.add_argument("--keep", action="store_true", help="leave the directory with data and logs")
    return parser.parse_args()


def _parts(text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if unknown := set(parts) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    return parts


if __name__ == "__main__":
    sys.exit(main())
