"""Posthouse from this checkout, as shipped: a worker a core, ``durability = "journal"``."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

from bench import servers
from bench.accounts import DOMAIN, OWNER, address, maildir, stored_password

PROGRAM = os.path.join(os.path.dirname(sys.executable), "posthouse")
CONFIGURATION = """\
hostname = "mail.{domain}"
data_dir = "{data}"

[listen]
smtp = ["127.0.0.1:{smtp}"]
imap = ["127.0.0.1:{imap}"]
pop3 = ["127.0.0.1:{pop3}"]
submission = []
submissions = []
imaps = []
pop3s = []
lmtp = []
metrics = []

[smtp]
mynetworks = ["127.0.0.0/8"]
relayhost = "[127.0.0.1]:{relay}"

[mail]
durability = "journal"
"""

INSERT = "INSERT INTO users (email, clear, uid, gid, homedir, maildir, quota) VALUES (?, ?, ?, ?, '', ?, '')"


class Posthouse:
    name = "Posthouse"

    def __init__(self, directory: str, names: list[str], relay_port: int) -> None:
        self.smtp_port, self.imap_port, self.pop3_port = servers.free_ports(3)
        self._data = os.path.join(directory, "data")
        self.mail_root = os.path.join(self._data, "mail")
        self._log = os.path.join(directory, "log")
        self._configuration = os.path.join(directory, "posthouse.toml")
        self._process: subprocess.Popen[bytes] | None = None
        os.makedirs(self._data, mode=0o700)
        with open(self._configuration, "w") as file:
            file.write(
                CONFIGURATION.format(
                    domain=DOMAIN,
                    data=self._data,
                    smtp=self.smtp_port,
                    imap=self.imap_port,
                    pop3=self.pop3_port,
                    relay=relay_port,
                )
            )
        self._fill_directory(names)

    def _fill_directory(self, names: list[str]) -> None:
        servers.run(PROGRAM, "domain", "add", DOMAIN, "--config", self._configuration)
        owner = OWNER if os.geteuid() == 0 else os.geteuid()
        rows = [(address(name), stored_password(name), owner, owner, maildir(name)) for name in names]
        with sqlite3.connect(os.path.join(self._data, "posthouse.db")) as database:
            database.executemany(INSERT, rows)
        database.close()

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", "--config", self._configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us; we stop the server
            )
        servers.await_greeting(self.smtp_port, self._log, self._process)

    def index_texts(self, name: str) -> None:
        """Makes the search index that the first search for text has asked for, so that nobody makes it meanwhile."""
        servers.run(PROGRAM, "mailbox", "index", address(name), "--build", "--config", self._configuration)

    def stop(self) -> None:
        if self._process is not None:
            servers.end(self._process.pid, self._process)
            self._process = None

    @property
    def queue(self) -> str:
        return os.path.join(self._data, "queue")

    def queued(self) -> int:
        """How many messages the running server knows of, but for those that it has in memory."""
        try:
            with closing(sqlite3.connect(f"file:{self.queue}/index.db?mode=ro", uri=True)) as index:
                return int(index.execute("SELECT count(DISTINCT message) FROM jobs").fetchone()[0])
        except sqlite3.OperationalError:
            return 0  # it is only being made

    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def version(self) -> str:
        return servers.run(PROGRAM, "version")
