"""A virus scanner that is a program: it is given a file, and says by exit code and words what is in it.

Invariants:
  1. The file is in a directory of its own, which is gone afterwards, and so is all that the program has started.
  2. What it prints is read to its end but kept up to ``MAX_OUTPUT`` octets, so that it neither blocks nor floods.
  3. Few run at once: a scanner that loads its signatures each time takes a core and much memory.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Sequence

from posthouse.config.filtering import FilterSettings
from posthouse.filters.filter import FilterTrouble, Mail
from posthouse.filters.verdict import Action, Finding, Verdict
from posthouse.journal.content import Content

MAX_OUTPUT = 64 * 1024
MAX_LINE = 1000
AT_ONCE = 2
REAP_SECONDS = 5.0
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_FILE = "message.eml"


class CommandFilter:
    """``temporary_dir``: where messages are written for it."""

    def __init__(self, name: str, settings: FilterSettings, temporary_dir: str) -> None:
        self.name = name
        self._argv = settings.argv
        self._clean_codes = frozenset(map(int, settings.clean_codes))
        self._virus_codes = frozenset(map(int, settings.virus_codes))
        self._pattern = re.compile(settings.pattern) if settings.pattern else None
        self._temporary_dir = temporary_dir
        self._free = asyncio.Semaphore(AT_ONCE)

    async def close(self) -> None:
        """Nothing is kept."""

    async def judge(self, mail: Mail) -> Verdict:
        async with self._free:
            directory = await asyncio.to_thread(tempfile.mkdtemp, prefix="scan-", dir=self._temporary_dir)
            try:
                path = os.path.join(directory, _FILE)
                await asyncio.to_thread(_write, mail.content, path)
                code, output = await _run([argument.replace("{file}", path) for argument in self._argv], directory)
            finally:
                # Not awaited: a cancelled task could not wait for it, and it must go.
                shutil.rmtree(directory, ignore_errors=True)
        return self._verdict(code, output.decode("utf-8", "replace").splitlines())

    def _verdict(self, code: int, lines: Sequence[str]) -> Verdict:
        names = list(dict.fromkeys(self._names(lines)))
        if names or code in self._virus_codes:
            findings = tuple(Finding("virus", name) for name in names or ["unnamed"])
            return Verdict(self.name, Action.REJECT, findings=findings)
        if code in self._clean_codes:
            return Verdict(self.name, reasons=("no virus",))
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        raise FilterTrouble(f"{how}: {last[:200]}" if last else how)

    def _names(self, lines: Sequence[str]) -> list[str]:
        if self._pattern is None:
            return []
        found = filter(None, (self._pattern.search(line[:MAX_LINE]) for line in lines))
        return [(one[1] if self._pattern.groups else one[0]) or "unnamed" for one in found]


def _write(content: Content, path: str) -> None:
    with open(path, "xb") as file:
        file.writelines(content.chunks())


async def _run(argv: Sequence[str], directory: str) -> tuple[int, bytes]:
    """Its exit code, negative for a signal, and what it printed. Raises ``OSError``."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=directory,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        output = await _output(process.stdout)
        return await process.wait(), output
    finally:
        # All that it has started: whoever still holds its output, too.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), REAP_SECONDS)


async def _output(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while data := await stream.read(MAX_OUTPUT):
        kept += data[: MAX_OUTPUT - len(kept)]
    return kept
