"""A real Postfix of a test's own: its configuration, queue and processes below one directory, ports of 127.0.0.1."""

import contextlib
import os
import shutil
import signal
import smtplib
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest
from tests.interop.house import PATIENCE_SECONDS
from tests.ports import free_port

MAIN = """\
compatibility_level = 3.6
queue_directory = {here}/spool
data_directory = {here}/state
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = postfix.example.net
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
recipient_delimiter = +
maillog_file = {here}/log
maillog_file_prefixes = {here}
minimal_backoff_time = 1s
queue_run_delay = 1s
"""
# master(5): service, type, private, unprivileged, chroot, wakeup, maximum of processes, program. Nothing in a chroot.
MASTER = """\
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Configured by ``main`` and ``master``, in which ``{port}`` is this server's SMTP port and ``{here}`` its
    directory; ``log`` is what it has logged so far."""

    def __init__(self, directory: Path, main: str, master: str = "{port} inet n - n - - smtpd\n") -> None:
        if os.geteuid() != 0:
            pytest.skip("only root can start Postfix")
        self.directory = directory
        self.port = free_port()
        self._etc = directory / "etc"
        for name in ("etc", "spool", "state"):
            (directory / name).mkdir(parents=True)
        shutil.chown(directory / "state", "postfix")
        address = f"127.0.0.1:{self.port}"
        (self._etc / "main.cf").write_text((MAIN + main).replace("{here}", str(directory)))
        (self._etc / "master.cf").write_text((MASTER + master).replace("{port}", address))
        self._master = 0

    def __enter__(self) -> Self:
        started = subprocess.run(
            ["postfix", "-c", str(self._etc), "start"], capture_output=True, text=True, timeout=60, check=False
        )
        assert started.returncode == 0, started.stderr + self.log
        # The master's own word: it is no child of ours, and leads the group of all its processes.
        self._master = int((self.directory / "spool/pid/master.pid").read_text())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.session().close()
            except OSError:
                if time.monotonic() > deadline:
                    self._end()
                    raise AssertionError(f"Postfix does not answer:\n{self.log}") from None
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        """SIGTERM to the master, which passes it on; SIGKILL for whoever is left."""
        os.kill(self._master, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_SECONDS
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(self._master, 0)
                time.sleep(0.05)
            os.killpg(self._master, signal.SIGKILL)

    def session(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=60)

    def look_up(self, table: str, key: str) -> str | None:
        """What postmap(1) finds."""
        command = ["postmap", "-c", str(self._etc), "-q", key, table]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert not done.stderr, done.stderr
        return done.stdout.removesuffix("\n") if done.returncode == 0 else None

    @property
    def log(self) -> str:
        log = self.directory / "log"
        return log.read_text() if log.exists() else ""
