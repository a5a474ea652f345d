"""A Posthouse that other programs of its host ask."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.interop.house import House
from tests.ports import free_port

CONFIGURATION = """
[auth]
mechanisms = ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"]
"""
ALICE = "alice@example.test"
"""Her password is stored as text, as CRAM-MD5 needs it; bob@example.test's isn't."""
BOB = "bob@example.test"


class Neighbour(House):
    """Serves example.test, with Unix sockets for everybody else in its directory."""

    def __init__(self, directory: Path, configuration: str = CONFIGURATION) -> None:
        directory.mkdir()
        sockets = {name: f"{directory}/{name}" for name in ("dovecot_auth", "saslauthd", "socketmap")}
        self.sockets = sockets
        listen = (
            f'dovecot_auth = ["unix:{sockets["dovecot_auth"]}", "127.0.0.1:{free_port()}"]\n'
            f'saslauthd = ["unix:{sockets["saslauthd"]}"]\n'
            f'socketmap = ["unix:{sockets["socketmap"]}"]\n'
            'tcp_table = ["virtual=127.0.0.1:0", "senders=127.0.0.1:0"]\n'
        )
        super().__init__(directory, configuration, listen=listen)
        self.cli("domain", "add", "example.test")
        self.add_account(BOB)
        self.sql("INSERT INTO users (email, clear, maildir) VALUES (?, 'secret', 'example.test/alice/')", ALICE)

    def sql(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.data / "posthouse.db", timeout=30)) as database, database:
            database.execute(statement, values)
