"""Courier's own imapd and courierpop3d on one Maildir, without the daemons that log in and listen before them.

Debian's packages refuse to stand beside Dovecot's, so that they are unpacked into a folder.
"""

import imaplib
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

PACKAGES = (
    "courier-imap", "courier-pop", "courier-base", "courier-authlib", "libcourier-unicode4",
    "libgamin0", "libidn12", "libgdbm6", "libltdl7",
)  # fmt: skip


def unpacked(folder: Path) -> Path:
    """The packages' files below ``folder``; without them the test is skipped, and fails where ``CI=true``."""
    if os.geteuid() == 0 and shutil.which("apt-get") and not _apt_get(folder, "download", *PACKAGES):
        _apt_get(folder, "update")
        _apt_get(folder, "download", *PACKAGES)
    files = list(folder.glob("*.deb"))
    if len(files) != len(PACKAGES):
        reason = "Courier's packages can't be had (Debian: as root, apt-get download)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    for file in files:
        subprocess.run(["dpkg-deb", "-x", file, folder / "root"], check=True, timeout=60)
    return folder / "root"


def _apt_get(folder: Path, *words: str) -> bool:
    command = ["apt-get", "-qq", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False).returncode == 0


class Courier:
    """``maildir`` as Courier serves it."""

    def __init__(self, root: Path, maildir: Path) -> None:
        self._imapd = root / "usr/bin/imapd"
        self._pop3d = root / "usr/lib/courier/courier/courierpop3d"
        self._maildir = maildir
        self._environment = {
            "LD_LIBRARY_PATH": ":".join(str(root / place) for place in ("usr/lib/x86_64-linux-gnu", "usr/lib")),
            "PATH": os.environ["PATH"],
            "AUTHENTICATED": "bob",
            "IMAP_CAPABILITY": "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE",
            "IMAP_KEYWORDS": "1",
            "IMAP_USELOCKS": "0",
            "PROTOCOL": "IMAP",
        }

    def imap(self) -> imaplib.IMAP4:
        """A session that is logged in."""
        words = " ".join(f"'{name}={value}'" for name, value in self._environment.items())
        session = imaplib.IMAP4_stream(f"env -i {words} {self._imapd} {self._maildir} 2>/dev/null")
        session.state = "AUTH"  # PREAUTH is not what comes first: there is no File Access Monitor, it says
        return session

    def serve_pop3(self, sessions: int) -> int:
        """The port on which so many sessions are served, whatever the login."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(60)
        threading.Thread(target=self._serve, args=(listener, sessions), daemon=True).start()
        return listener.getsockname()[1]

    def _serve(self, listener: socket.socket, sessions: int) -> None:
        with listener:
            for _ in range(sessions):
                client = listener.accept()[0]
                client.settimeout(60)
                with client:
                    self._session(client)

    def _session(self, client: socket.socket) -> None:
        client.sendall(b"+OK Hello there.\r\n")
        line = b""
        while not line.startswith(b"PASS "):
            line = b""
            while not line.endswith(b"\n"):
                octet = client.recv(1)  # what follows the password is for courierpop3d
                if not octet:
                    return
                line += octet
            if not line.startswith(b"PASS "):
                client.sendall(b"+OK\r\n" if line.startswith(b"USER ") else b"-ERR Invalid command.\r\n")
        client.setblocking(True)
        subprocess.run(
            [self._pop3d, self._maildir],
            stdin=client,
            stdout=client,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            timeout=60,
            check=True,
        )
