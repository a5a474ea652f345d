"""What tests share: a running server, programs from the system, data from elsewhere."""

import fcntl
import glob
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.running import RunningServer

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "swaks": ["swaks", "libnet-ssleay-perl"],
    "curl": ["curl"],
    "mbsync": ["isync"],
    "fetchmail": ["fetchmail"],
    "mutt": ["mutt"],
    "smtp-sink": ["postfix", "postfix-mysql"],
    "postfix": ["postfix", "postfix-mysql"],
    "dovecot": ["dovecot-imapd", "dovecot-pop3d", "dovecot-mysql"],
    "doveadm": ["dovecot-core"],
    "mkpasswd": ["whois"],
    "strace": ["strace"],
    "testsaslauthd": ["sasl2-bin"],
    "pamtester": ["pamtester"],
    "make": ["make"],
    "spamd": ["spamd", "spamassassin"],
    "spamass-milter": ["spamass-milter", "spamc"],
    "clamd": ["clamav-daemon"],
    "maildrop": ["maildrop"],
    "offlineimap": ["offlineimap3"],
    "getmail": ["getmail6"],
    "bounceparser": ["libmail-deliverystatus-bounceparser-perl"],
    "mariadbd": ["mariadb-server", "mariadb-client", "galera-4", "rsync"],
    "postgres": ["postgresql"],
}
LIBRARIES = {"bounceparser": "/usr/share/perl5/Mail/DeliveryStatus/BounceParser.pm"}
"""What is no program, but needed like one."""
OUTSIDE_PATH = ("/usr/sbin", "/usr/lib/postgresql/*/bin")
pytest_plugins = ["tests.databases"]


@pytest.fixture
def server(tmp_path):
    """A server with example.test, alice@ and bob@ (password ``secret``), running."""
    running = RunningServer(tmp_path)
    running.cli("domain", "add", "example.test")
    running.add_account("alice@example.test")
    running.add_account("bob@example.test")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def need():
    """``need("swaks")``: the program is there, installed through apt where that is possible.

    Without it the test is skipped with one line, and fails where ``CI=true``.
    """
    return _need


def _need(program: str) -> str:
    found = _find(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with _one_at_a_time():
            found = _find(program)
            if found is None:
                _install(PACKAGES.get(program, [program]))
                found = _find(program)
    if found is None:
        reason = f"{program} is not installed (Debian: apt-get install {' '.join(PACKAGES.get(program, [program]))})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _find(program: str) -> str | None:
    if program in LIBRARIES:
        return LIBRARIES[program] if os.path.exists(LIBRARIES[program]) else None
    places = [folder for pattern in OUTSIDE_PATH for folder in sorted(glob.glob(pattern), reverse=True)]
    return shutil.which(program) or shutil.which(program, path=":".join(places))


def _install(packages: list[str]) -> None:
    quiet = {"check": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-qq", "--no-install-recommends", "-y", *packages]
    with _no_services_started():
        if subprocess.run(command, env=environment, **quiet).returncode != 0:
            subprocess.run(["apt-get", "update", "-qq"], env=environment, **quiet)
            subprocess.run(command, env=environment, **quiet)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Tests run in several processes, and apt in one."""
    with Path(tempfile.gettempdir(), "posthouse-tests-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_services_started() -> Iterator[None]:
    """Debian starts what it installs, unless this file says no."""
    policy = Path("/usr/sbin/policy-rc.d")
    try:
        with policy.open("x") as file:
            file.write("#!/bin/sh\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        policy.chmod(0o755)
        yield
    finally:
        policy.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def test_data():
    """Messages and conformance data from elsewhere; the test is skipped where there are none."""
    place = Path(os.environ.get("POSTHOUSE_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not place.is_dir():
        pytest.skip("no test data: set POSTHOUSE_TEST_DATA to its folder")
    return place
