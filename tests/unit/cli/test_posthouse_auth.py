"""posthouse-auth, as pam_exec runs it, against a socket that answers as saslauthd's does."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from posthouse.protocols.saslauthd.server import Question, SaslauthdEngine

PROGRAM = [sys.executable, "-c", "from posthouse.cli.posthouse_auth import main; main()"]


@contextlib.contextmanager
def answering(path: Path, *, is_right: bool):
    """A server for one question, which is in the list afterwards."""
    asked: list[object] = []

    def serve():
        connection, _ = listener.accept()
        engine = SaslauthdEngine()
        with connection:
            while not isinstance(event := engine.next_event(), Question):
                engine.receive(connection.recv(4096))
            asked.append(event)
            engine.accept() if is_right else engine.refuse("authentication failed")
            connection.sendall(engine.data_to_send())

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(30)
        thread = threading.Thread(target=serve)
        thread.start()
        yield asked
        thread.join()


def ask(path: Path, *options: str, password: bytes = b"secret\0", **environment: str) -> subprocess.CompletedProcess:
    variables = {**os.environ, "PAM_TYPE": "auth", "PAM_USER": "alice", "PAM_SERVICE": "sshd", **environment}
    command = [*PROGRAM, "--socket", str(path), *options]
    return subprocess.run(command, input=password, env=variables, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("is_right", [True, False])
def test_the_exit_code_is_the_answer(tmp_path, is_right):
    with answering(tmp_path / "mux", is_right=is_right) as asked:
        done = ask(tmp_path / "mux", "--domain", "example.test", PAM_RHOST="192.0.2.1")
    assert (done.returncode, done.stderr) == (0 if is_right else 1, b"")
    assert asked == [Question("alice@example.test", "secret", "sshd@192.0.2.1", "")]


def test_a_user_with_a_domain_keeps_it(tmp_path):
    with answering(tmp_path / "mux", is_right=True) as asked:
        ask(tmp_path / "mux", "--domain=example.test", PAM_USER="bob@example.org", password=b"s\xc3\xa9cret")
    assert asked == [Question("bob@example.org", "sécret", "sshd", "")]


def test_no_password_or_no_user_is_a_no_without_a_question(tmp_path):
    assert ask(tmp_path / "none", password=b"\0").returncode == 1
    assert ask(tmp_path / "none", PAM_USER="").returncode == 1


def test_nobody_there_is_a_no_and_is_said(tmp_path):
    done = ask(tmp_path / "none")
    assert done.returncode == 1
    assert b"none: " in done.stderr


def test_it_says_yes_to_nothing_but_passwords(tmp_path):
    """In an 'account' or 'session' line it would let everybody in."""
    with answering(tmp_path / "mux", is_right=True):
        assert ask(tmp_path / "mux", PAM_TYPE="account").returncode == 2
        assert ask(tmp_path / "mux").returncode == 0


def test_it_is_told_how_it_is_called(tmp_path):
    assert b"usage:" in ask(tmp_path / "none", "--sock").stderr


def test_it_imports_next_to_nothing():
    """It is started for every login."""
    heavy = "{'asyncio', 'structlog', 'msgspec', 'argparse', 'typer', 'ssl', 'posthouse.runtime'}"
    check = f"import sys; import posthouse.cli.posthouse_auth; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
