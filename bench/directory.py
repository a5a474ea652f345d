"""The directory: importing a million accounts, and addresses resolved a second in one process.

There is no peer: the figures have goals of their own. Uncached: each address is asked for once, of a database that
was just opened. Memory: what the process has in the end, its cache full, with few accounts and with many.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack

from bench import servers
from bench.mariadb import MariaDb
from bench.posthouse import PROGRAM
from bench.rounds import Contest, say
from bench.table import Row

SECTION = "Directory"
DOMAIN = "bench.test"
FEW, MANY, OVER_NETWORK = 50_000, 1_000_000, 100_000
IMPORT_SECONDS = 180.0
UNCACHED, CACHED, NETWORK = 10_000.0, 200_000.0, 3_000.0


def compare(contest: Contest, directory: str) -> None:
    """Everything below ``directory``."""
    many = 2 * FEW if contest.is_quick else MANY
    few = _filled(directory, "few", "sqlite:posthouse.db", FEW)
    small = _resolving(few, FEW, 1)
    begun = time.perf_counter()
    big = _filled(directory, "many", "sqlite:posthouse.db", many)
    seconds = time.perf_counter() - begun
    contest.table.add(SECTION, Row(f"import of {many:,} accounts", "s", "less", goal=IMPORT_SECONDS), seconds)
    for number in range(contest.rounds):
        say(f"{SECTION}: resolving with {many:,} accounts: round {number + 1} of {contest.rounds}")
        found = _resolving(big, many, 1)
        _add(contest, f"uncached, SQLite, {many:,} accounts", UNCACHED, found["uncached"])
        _add(contest, "cached", CACHED, found["cached"])
        contest.table.add(SECTION, Row(f"process with {FEW:,} accounts", "MB", "less"), small["megabytes"])
        contest.table.add(SECTION, Row(f"process with {many:,} accounts", "MB", "less"), found["megabytes"])
    if why := MariaDb.missing():
        contest.note(why)
        return
    _over_network(contest, directory)


def _over_network(contest: Contest, directory: str) -> None:
    database = MariaDb(os.path.join(directory, "mariadb"))
    count = FEW if contest.is_quick else OVER_NETWORK
    with ExitStack() as stack:
        stack.callback(database.stop)
        database.start()
        filled = _filled(directory, "network", database.url, count)
        for number in range(contest.rounds):
            say(f"{SECTION}: resolving over the network: round {number + 1} of {contest.rounds}")
            found = _resolving(filled, count, 8)
            _add(contest, f"uncached, MariaDB on loopback, {count:,} accounts", NETWORK, found["uncached"])


def _add(contest: Contest, name: str, goal: float, figure: float) -> None:
    contest.table.add(SECTION, Row(f"resolved, {name}", "1/s", "more", goal=goal), figure)


def _filled(directory: str, name: str, url: str, count: int) -> str:
    """A configuration whose database has that many accounts, imported from a file."""
    data = os.path.join(directory, f"directory-{name}")
    os.mkdir(data)
    configuration = os.path.join(data, "posthouse.toml")
    with open(configuration, "w") as file:
        file.write(f'hostname = "mail.{DOMAIN}"\ndata_dir = "{data}"\n[database]\nurl = "{url}"\n')
    if not url.startswith("sqlite:"):
        servers.run(PROGRAM, "db", "init", "--config", configuration)
    servers.run(PROGRAM, "domain", "add", DOMAIN, "--config", configuration)
    accounts = os.path.join(data, "accounts.csv")
    with open(accounts, "w") as file:
        file.write("email,clear,name\n")
        file.writelines(
            f"user{n}@{DOMAIN},{{SSHA}}bm8gcGFzc3dvcmQgaGFzIHRoaXMgaGFzaA==,User {n}\n" for n in range(count)
        )
    say(f"{SECTION}: importing {count:,} accounts")
    servers.run(PROGRAM, "import", "csv", accounts, "--config", configuration)
    return configuration


def _resolving(configuration: str, accounts: int, concurrency: int) -> dict[str, float]:
    """In a process of its own, as a worker would do it."""
    command = [sys.executable, "-m", "bench.resolving", configuration, str(accounts), str(concurrency)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise servers.NotRunningError(f"bench.resolving: {done.stderr[-1000:]}")
    return json.loads(done.stdout)
