"""pam_exec and posthouse-auth: Unix programs let people in by our accounts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.interop.neighbours import ALICE, BOB, Neighbour

PROGRAM = Path(sys.executable).parent / "posthouse-auth"


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory):
    running = Neighbour(tmp_path_factory.mktemp("pam") / "posthouse")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def service(neighbour):
    """A service of the test's own in /etc/pam.d, as docs/other-programs.md has it."""
    if os.geteuid() != 0:
        pytest.skip("only root can add a service to PAM")
    name = f"posthouse-test-{os.getpid()}"
    file = Path("/etc/pam.d") / name
    command = f"{PROGRAM} --socket {neighbour.sockets['saslauthd']} --domain example.test"
    file.write_text(f"auth required pam_exec.so expose_authtok quiet {command}\naccount required pam_permit.so\n")
    yield name
    file.unlink()


@pytest.fixture(scope="module")
def log_in(need, service):
    """Whether pamtester gets in."""
    program = need("pamtester")

    def log_in(user: str, password: str) -> bool:
        command = [program, "-I", "rhost=192.0.2.1", service, user, "authenticate", "acct_mgmt"]
        done = subprocess.run(command, input=password + "\n", capture_output=True, text=True, timeout=60, check=False)
        return done.returncode == 0 and "successfully authenticated" in done.stdout

    return log_in


def test_the_right_password_and_no_other_lets_in(log_in):
    assert log_in("alice", "secret")
    assert not log_in("alice", "wrong")
    assert log_in(BOB, "secret")
    assert not log_in("nobody", "secret")
    assert not log_in("alice", "")


def test_posthouse_knows_where_they_came_from(log_in, neighbour):
    log_in("alice", "wrong")
    neighbour.wait_for("login-failed", login=ALICE, peer="192.0.2.1")


def test_nobody_gets_in_while_posthouse_is_away(log_in, neighbour):
    neighbour.stop()
    try:
        assert not log_in("alice", "secret")
    finally:
        neighbour.start()
    assert log_in("alice", "secret")
