"""A MariaDB of the benchmark's own on a free port of 127.0.0.1, with the defaults that Debian ships."""

import os
import pwd
import shutil
import socket
import subprocess
import time

from bench import servers

PROGRAM = shutil.which("mariadbd") or "/usr/sbin/mariadbd"


class MariaDb:
    def __init__(self, directory: str) -> None:
        (self._port,) = servers.free_ports(1)
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"mysql://posthouse:secret@127.0.0.1:{self._port}/mail"

    @staticmethod
    def missing() -> str:
        """Why there is none; empty if there is."""
        if not os.path.exists(PROGRAM):
            return "MariaDB is not installed (apt install mariadb-server): its row is missing"
        return ""

    def start(self) -> None:
        """An empty database ``mail``, and a user for it."""
        os.mkdir(self._directory)
        user: list[str] = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam("mysql")
            os.chown(self._directory, owner.pw_uid, owner.pw_gid)
            user = ["--user=mysql"]
        data, sock = os.path.join(self._directory, "data"), os.path.join(self._directory, "sock")
        servers.run("mariadb-install-db", "--no-defaults", f"--datadir={data}", *user, "--skip-test-db")
        log = os.path.join(self._directory, "log")
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                [
                    PROGRAM,
                    "--no-defaults",
                    f"--datadir={data}",
                    f"--socket={sock}",
                    f"--port={self._port}",
                    "--bind-address=127.0.0.1",
                    *user,
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._await(sock, log)
        for statement in (
            "CREATE DATABASE mail CHARACTER SET utf8mb4",
            "CREATE USER posthouse@'127.0.0.1' IDENTIFIED BY 'secret'",
            "GRANT ALL ON mail.* TO posthouse@'127.0.0.1'",
        ):
            servers.run("mariadb", "--no-defaults", f"--socket={sock}", "-u", "root", "-e", statement)

    def _await(self, path: str, log: str) -> None:
        deadline = time.monotonic() + servers.START_SECONDS
        while time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as sock:
                if sock.connect_ex(path) == 0:
                    return
            time.sleep(0.05)
        raise servers.NotRunningError(f"MariaDB does not answer; its log ends:\n{servers.last_words(log)}")

    def stop(self) -> None:
        if self._process is not None:
            servers.end(self._process.pid, self._process)
            self._process = None
