"""MariaDB and PostgreSQL for tests: real servers in folders of their own, with a fresh database for each test.

``mariadb`` and ``postgresql`` are a ``TestDatabase``: its ``url`` for ``settings.database``, ``execute`` for
arranging rows, and its ``server``, which may be stopped, killed, paused and started again. All tests share one server
of each kind; a test that wants several makes them with ``new_mariadb`` and ``new_postgresql``.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.ports import free_port

PATIENCE_SECONDS = 60.0
USER, PASSWORD = "posthouse", "se/cr@t %"
USERINFO = "posthouse:se%2Fcr%40t%20%25"
_numbers = itertools.count(1)


class DatabaseServer:
    """A server on 127.0.0.1 and on a Unix socket, run by a user who isn't root."""

    scheme: str
    stop_signal: signal.Signals
    users: tuple[str, ...]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log_file = folder / "log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def socket(self) -> Path:
        """The Unix socket."""
        raise AssertionError

    def command(self) -> list[str]:
        raise AssertionError

    def execute(self, sql: str, database: str = "", *, check: bool = True) -> str:
        """Run statements as the administrator; what they answer, columns separated by tabs."""
        raise AssertionError

    def start(self) -> "DatabaseServer":
        """Start it and wait until it answers."""
        self.launch()
        self.await_answer()
        return self

    def launch(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **as_user(*self.users),
            )

    def await_answer(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
                return
            except subprocess.SubprocessError:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(
                        f"{self.scheme} did not start:\n{self.log_file.read_text()[-4000:]}"
                    ) from None
                time.sleep(0.05)

    def stop(self) -> None:
        """Shut it down in good order."""
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """kill -9, its children too."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()

    def pause(self) -> None:
        """It hangs: the kernel goes on taking connections, nobody answers."""
        self._signal(signal.SIGSTOP)
        # A thread that is at work on another core stops a moment later.
        while not all(state in "TtZX" for pid in self.pids() for state in _thread_states(pid)):
            time.sleep(0.001)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    def pids(self) -> list[int]:
        if self.process is None or self.process.poll() is not None:
            return []
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def new_database(self) -> "TestDatabase":
        """An empty database that ``USER`` may do everything in."""
        name = f"ph_{next(_numbers)}"
        self.create_database(name)
        return TestDatabase(self, name)

    def create_database(self, name: str) -> None:
        raise AssertionError


class MariaDb(DatabaseServer):
    """``mariadbd``; ``options`` are added to its command line."""

    scheme = "mysql"
    stop_signal = signal.SIGTERM
    users = ("mysql", "nobody")

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = list(options)
        if not (folder / "data").exists():
            self._install()

    def _install(self) -> None:
        run(
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={self.folder}/data",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=16M",
            "--debug-no-sync",
            users=self.users,
            folder=self.folder,
        )

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def command(self) -> list[str]:
        return [
            program("mariadbd"),
            "--no-defaults",
            f"--datadir={self.folder}/data",
            f"--socket={self.socket}",
            f"--pid-file={self.folder}/pid",
            f"--tmpdir={self.folder}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--performance-schema=OFF",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=8M",
            "--innodb-flush-log-at-trx-commit=2",
            "--debug-no-sync",
            *self.options,
        ]

    def execute(self, sql: str, database: str = "", *, check: bool = True) -> str:
        return run(
            "mariadb",
            "--no-defaults",
            f"--socket={self.socket}",
            "--user=root",
            "--batch",
            "--skip-column-names",
            "--default-character-set=utf8mb4",
            "--connect-timeout=5",
            *([database] if database else []),
            stdin=sql,
            check=check,
        )

    def create_database(self, name: str) -> None:
        password = PASSWORD.replace("'", "''")
        self.execute(
            f"CREATE DATABASE {name} CHARACTER SET utf8mb4;"
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{password}';"
            f"CREATE USER IF NOT EXISTS '{USER}'@'localhost' IDENTIFIED BY '{password}';"
            f"GRANT ALL ON {name}.* TO '{USER}'@'%'; GRANT ALL ON {name}.* TO '{USER}'@'localhost'"
        )


class PostgreSql(DatabaseServer):
    """``postgres``; passwords are asked for over TCP."""

    scheme = "postgresql"
    stop_signal = signal.SIGINT
    users = ("postgres", "nobody")

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = list(options)
        if not (folder / "data").exists():
            self._install()

    def _install(self) -> None:
        run(
            "initdb",
            f"--pgdata={self.folder}/data",
            "--username=postgres",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            users=self.users,
            folder=self.folder,
        )

    @property
    def socket(self) -> Path:
        return self.folder / f".s.PGSQL.{self.port}"

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "max_connections": "40",
            "autovacuum": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [program("postgres"), "-D", f"{self.folder}/data", "-p", str(self.port), *options, *self.options]

    def execute(self, sql: str, database: str = "", *, check: bool = True) -> str:
        return run(
            "psql",
            "--no-psqlrc",
            f"--host={self.folder}",
            f"--port={self.port}",
            "--username=postgres",
            "--set=ON_ERROR_STOP=1",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--field-separator=\t",
            database or "postgres",
            stdin=sql,
            check=check,
        )

    def create_database(self, name: str) -> None:
        password = PASSWORD.replace("'", "''")
        known = self.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{USER}'").strip()
        if not known:
            self.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{password}'")
        self.execute(f"CREATE DATABASE {name} OWNER {USER}")


@dataclass(frozen=True)
class TestDatabase:
    """One database on one server."""

    __test__ = False
    server: DatabaseServer
    name: str

    @property
    def url(self) -> str:
        return f"{self.server.scheme}://{USERINFO}@{self.server.address}/{self.name}"

    @property
    def dialect(self) -> str:
        return self.server.scheme

    def execute(self, sql: str, *, check: bool = True) -> str:
        """Run statements as the administrator; what they answer, columns separated by tabs."""
        return self.server.execute(sql, self.name, check=check)

    def start(self) -> None:
        self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        self.server.kill()

    def pause(self) -> None:
        self.server.pause()

    def resume(self) -> None:
        self.server.resume()


def _thread_states(pid: int) -> Iterator[str]:
    """What the threads of a process do, as letters of proc(5)."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            yield stat.read_text().rpartition(")")[2].split()[0]


def program(name: str) -> str:
    """Where a program of a database is; some are outside of PATH."""
    places = [*os.environ.get("PATH", "").split(":"), "/usr/sbin"]
    postgresql = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    found = shutil.which(name, path=":".join([*postgresql, *places]))
    assert found is not None, f"{name} is not installed"
    return found


def as_user(*names: str) -> dict[str, object]:
    """Arguments for subprocess: run as the first of these users that there is, where we are root."""
    if os.geteuid() != 0:
        return {}
    entry = _entry(*names)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _entry(*names: str) -> pwd.struct_passwd:
    for name in names:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise AssertionError(f"none of the users {names} exists")


def new_folder(*names: str) -> Path:
    """A folder for a server; pytest's own can't be entered by another user."""
    folder = Path(tempfile.mkdtemp(prefix="posthouse-"))
    if os.geteuid() == 0:
        entry = _entry(*names)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    folder.chmod(0o755)
    return folder


def run(name: str, *arguments: str, stdin: str = "", check: bool = True, users=(), folder: Path | None = None) -> str:
    identity = as_user(*users) if users else {}
    done = subprocess.run(
        [program(name), *arguments], input=stdin.encode(), capture_output=True, timeout=60, cwd=folder, **identity
    )
    if check and done.returncode != 0:
        failure = subprocess.CalledProcessError(done.returncode, [name], done.stdout, done.stderr)
        failure.add_note(done.stderr.decode(errors="replace"))
        raise failure
    return done.stdout.decode(errors="surrogateescape")


class _Factory:
    """Makes servers of one kind, quickly: each folder is a copy of the first one; ends them all."""

    def __init__(self, kind: type[MariaDb] | type[PostgreSql]) -> None:
        self._kind = kind
        self._made: list[DatabaseServer] = []
        self._template = new_folder(*kind.users)
        kind(self._template)

    def __call__(self, *options: str):
        """A further server, not started yet."""
        folder = new_folder(*self._kind.users)
        owner = folder.stat()
        shutil.copytree(self._template, folder, dirs_exist_ok=True)
        if os.geteuid() == 0:
            for place, _, files in os.walk(folder):
                for path in (place, *(os.path.join(place, file) for file in files)):
                    os.chown(path, owner.st_uid, owner.st_gid)
        server = self._kind(folder, *options)
        self._made.append(server)
        return server

    def end(self) -> None:
        for server in self._made:
            server.kill()
            shutil.rmtree(server.folder, ignore_errors=True)
        shutil.rmtree(self._template, ignore_errors=True)


@pytest.fixture(scope="session")
def new_mariadb(need) -> Iterator[_Factory]:
    """``new_mariadb("--option", …)``: a further server that is not started yet; ended with the session."""
    need("mariadbd")
    factory = _Factory(MariaDb)
    yield factory
    factory.end()


@pytest.fixture(scope="session")
def new_postgresql(need) -> Iterator[_Factory]:
    """As ``new_mariadb``."""
    need("postgres")
    factory = _Factory(PostgreSql)
    yield factory
    factory.end()


@pytest.fixture(scope="session")
def _mariadb_server(new_mariadb) -> MariaDb:
    server = new_mariadb()
    server.start()
    return server


@pytest.fixture(scope="session")
def _postgresql_server(new_postgresql) -> PostgreSql:
    server = new_postgresql()
    server.start()
    return server


@pytest.fixture
def mariadb(_mariadb_server) -> Iterator[TestDatabase]:
    """An empty database on MariaDB."""
    yield from _database_of(_mariadb_server)


@pytest.fixture
def postgresql(_postgresql_server) -> Iterator[TestDatabase]:
    """An empty database on PostgreSQL."""
    yield from _database_of(_postgresql_server)


def _database_of(server: DatabaseServer) -> Iterator[TestDatabase]:
    yield server.new_database()
    server.resume()
    if not server.pids():
        server.start()
