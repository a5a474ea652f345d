"""What strace saw, as calls with a beginning and an end, and which of them made a message durable.

strace stops a thread at both ends of a call and writes in the order in which it lets them go on: what one thread
did because another's call had returned stands after that return.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

NAMES = (
    "write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fdatasync,fsync,syncfs,"
    "rename,renameat,renameat2,link,linkat,ftruncate,io_submit,io_getevents"
)
OPTIONS = ("-D", "-f", "-qq", "-tt", "-y", "-v", "-s", "600", "-e", f"trace={NAMES}", "-e", "signal=none")

LINE = re.compile(r"^(\d+) +\d\d:\d\d:\d\d\.\d{6} (.*)$")
WHOLE = re.compile(r"^(\w+)\((.*)\) += (-?\d+|\?)(?: .*)?$", re.DOTALL)
BEGUN = re.compile(r"^(\w+)\((.*?) *<unfinished \.\.\.>$", re.DOTALL)
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
FIRST_FD = re.compile(r"^\d+<([^>]*)>")
IN_TMP = re.compile(r".*/tmp/[^/#]+$").match  # but what is spooled to a file without a name
KERNEL_SYNC = re.compile(r"IOCB_CMD_FDSYNC,.*?aio_fildes=(\d+<[^>]*>)", re.DOTALL)
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')

WRITES = frozenset({"write", "writev", "pwrite64", "pwritev", "pwritev2"})
SENDS = frozenset({"write", "writev", "sendto", "sendmsg"})
SYNCS = frozenset({"fdatasync", "fsync"})


@dataclass(slots=True)
class Call:
    """One system call; ``begun`` and ``ended`` are lines of the trace, ``path`` that of its first argument, if a file
    descriptor."""

    thread: int
    name: str
    arguments: str
    begun: int
    ended: int = -1
    result: int = -1

    @property
    def path(self) -> str:
        found = FIRST_FD.match(self.arguments)
        return found[1] if found else ""

    @property
    def names(self) -> list[str]:
        """The quoted strings: a rename's or link's two paths."""
        return QUOTED.findall(self.arguments)


def parse(text: str) -> list[Call]:
    """The calls that came to an end, by their beginnings. Raises ``ValueError`` for what is no line of a trace."""
    calls: list[Call] = []
    open_calls: dict[int, Call] = {}
    for number, line in enumerate(text.splitlines()):
        found = LINE.match(line)
        if not found:
            raise ValueError(f"line {number}: {line!r}")
        thread, rest = int(found[1]), found[2]
        if rest.startswith(("+++", "---")):
            continue
        if resumed := RESUMED.match(rest):
            call = open_calls.pop(thread)
            rest = f"{call.name}({call.arguments}{resumed[2]}"
        elif begun := BEGUN.match(rest):
            open_calls[thread] = Call(thread, begun[1], begun[2], number)
            continue
        else:
            call = Call(thread, "", "", number)
        whole = WHOLE.match(rest)
        if not whole:
            raise ValueError(f"line {number}: {line!r}")
        call.name, call.arguments, call.ended = whole[1], whole[2], number
        call.result = -1 if whole[3] == "?" else int(whole[3])
        calls.append(call)
    return sorted([*calls, *kernel_syncs(calls)], key=lambda call: call.begun)


def kernel_syncs(calls: list[Call]) -> Iterable[Call]:
    """The syncs that a thread asked the kernel for, one at a time, each from its submission until it was told."""
    asked: dict[int, Call] = {}
    for call in sorted(calls, key=lambda call: call.begun):
        if call.name == "io_submit" and call.result == 1 and (found := KERNEL_SYNC.search(call.arguments)):
            asked[call.thread] = Call(call.thread, "fdatasync", found[1], call.begun)
        elif call.name == "io_getevents" and call.result == 1 and (sync := asked.pop(call.thread, None)):
            sync.ended, sync.result = call.ended, 0 if " res=0," in call.arguments else -1
            yield sync


class Trace:
    """Questions to a trace. A message is known by a word that stands in its first octets."""

    def __init__(self, text: str) -> None:
        self.calls = parse(text)
        self._writes = [call for call in self.calls if call.name in WRITES and call.path.startswith("/")]
        self._syncs = [call for call in self.calls if call.name in SYNCS and call.result == 0]
        self._renames = [call for call in self.calls if call.name.startswith(("rename", "link")) and call.result == 0]

    def sent(self, text: str) -> Call:
        """The one call that let this out to a client."""
        found = [
            call
            for call in self.calls
            if call.name in SENDS and call.path.startswith(("socket:", "TCP", "UNIX")) and text in call.arguments
        ]
        assert len(found) == 1, (text, found)
        return found[0]

    def written(self, word: str, path_end: str = "") -> list[Call]:
        return [call for call in self._writes if word in call.arguments and call.path.endswith(path_end)]

    def synced(self, path: str, after: int, before: int) -> int:
        """The line at which the first sync of this path that began after a line had returned; -1 if none did
        before the other."""
        return min(
            (call.ended for call in self._syncs if call.path == path and after < call.begun and call.ended < before),
            default=-1,
        )

    def how_durable(self, word: str, before: int) -> set[str]:
        """By what the message was on disk before that line: ``journal``, ``file``; empty if it was not."""
        how: set[str] = set()
        for write in self.written(word, ".segment"):
            if self.synced(write.path, write.ended, before) >= 0:
                how.add("journal")
        files = {call.path for call in self.written(word) if IN_TMP(call.path)}
        if files and all(self._file_is_durable(path, before) for path in files):
            how |= {"file"} if not how else set()
        return how

    def _file_is_durable(self, path: str, before: int) -> bool:
        """Content synced, then every name given, then every directory synced."""
        last = max(call.ended for call in self._writes if call.path == path)
        synced = self.synced(path, last, before)
        given = [call for call in self._renames if call.names[0] == path]
        return (
            synced >= 0
            and bool(given)
            and all(
                synced < call.begun and self.synced(os.path.dirname(call.names[1]), call.ended, before) >= 0
                for call in given
            )
        )

    def linked(self, directory_end: str) -> Iterable[tuple[Call, str]]:
        """Every link into such a directory, and its name."""
        for call in self._renames:
            if call.name.startswith("link") and os.path.dirname(call.names[-1]).endswith(directory_end):
                yield call, call.names[-1]
