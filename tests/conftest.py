"""What tests share: a running server, programs from the system, data from elsewhere."""

import os
import shutil
import subprocess
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
    "smtp-sink": ["postfix"],
    "strace": ["strace"],
    "make": ["make"],
}


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
    found = shutil.which(program)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(PACKAGES.get(program, [program]))
        found = shutil.which(program)
    if found is None:
        reason = f"{program} is not installed (Debian: apt-get install {' '.join(PACKAGES.get(program, [program]))})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _install(packages: list[str]) -> None:
    quiet = {"check": False, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-qq", "--no-install-recommends", "-y", *packages]
    if subprocess.run(command, env=environment, **quiet).returncode != 0:
        subprocess.run(["apt-get", "update", "-qq"], env=environment, **quiet)
        subprocess.run(command, env=environment, **quiet)


@pytest.fixture(scope="session")
def test_data():
    """Messages and conformance data from elsewhere; the test is skipped where there are none."""
    place = Path(os.environ.get("POSTHOUSE_TEST_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not place.is_dir():
        pytest.skip("no test data: set POSTHOUSE_TEST_DATA to its folder")
    return place
