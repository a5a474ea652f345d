"""The process that asks PAM, with the real library and services of the test's own in /etc/pam.d."""

import itertools
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from posthouse.runtime.pam import MAX_QUESTION, question

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can add a service to /etc/pam.d")

# The password comes to the script with a NUL at its end (pam_exec(8), expose_authtok).
SCRIPT = """#!/bin/sh
read -r password || :
case "$PAM_USER:$PAM_TYPE:$password" in
  *:crash) kill -s SEGV $PPID ;;
  *:hang) echo here > "{place}/hanging"; read -r _ < "{place}/go" ;;
  nobody:auth:right) test "$PAM_SERVICE/$PAM_TTY/$PAM_RHOST" = "{service}/posthouse/192.0.2.1" ;;
  games:auth:right | nobody:account:*) ;;
  *) false ;;
esac
"""
BY_SCRIPT = """
auth sufficient pam_exec.so expose_authtok quiet {script}
auth required pam_deny.so
account sufficient pam_exec.so quiet {script}
account required pam_deny.so
"""

PROGRAM = """
import sys
from posthouse.runtime import log, privileges
from posthouse.runtime.pam import PamProcess
log.configure("debug", "text")
path, service, seconds, at_once, user = sys.argv[1:]
identity = privileges.look_up(user) if user else None
PamProcess(path, service, 2, identity, float(seconds), int(at_once)).run(lambda: print("ready", flush=True))
"""


NUMBERS = itertools.count()


@contextmanager
def running(tmp_path, stack, *, seconds=60.0, at_once=16, user=""):
    """The socket's path, and the process."""
    service = f"posthouse-test-{os.getpid()}-{next(NUMBERS)}"
    script = tmp_path / "check"
    script.write_text(SCRIPT.format(place=tmp_path, service=service))
    script.chmod(0o755)
    os.mkfifo(tmp_path / "hanging")
    os.mkfifo(tmp_path / "go")
    definition = Path("/etc/pam.d", service)
    definition.write_text(stack.format(script=script))
    path = str(tmp_path / "pam.sock")
    arguments = [sys.executable, "-c", PROGRAM, path, service, str(seconds), str(at_once), user]
    try:
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout.readline() == "ready\n"
                yield path, process
            finally:
                process.kill()
    finally:
        definition.unlink()


@contextmanager
def asking(path, *asked, raw=b""):
    """Somebody who waits for an answer; it can be read to its end."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(path)
        connection.sendall(raw or question(*asked))
        yield connection.makefile("rb")


def ask(path, *asked, raw=b""):
    with asking(path, *asked, raw=raw) as answer:
        return answer.read()[2:]


@pytest.fixture(scope="module")
def by_script(tmp_path_factory):
    with running(tmp_path_factory.mktemp("pam"), BY_SCRIPT) as (path, _):
        yield path


@pytest.mark.parametrize(
    ("user", "password", "answer"),
    [
        ("nobody", b"right", b"yes"),
        ("nobody", b"wrong", b"no"),
        ("nobody", b"", b"no"),
        ("games", b"right", b"no"),  # pam_acct_mgmt doesn't want them
        ("nobody-has-this-name", b"right", b"no"),
        ("root", b"right", b"no"),
        ("daemon", b"right", b"no"),  # a uid below the minimum
        ("../../etc/passwd", b"right", b"no"),
        ("nobody ", b"right", b"no"),
    ],
)
def test_a_question_is_answered(by_script, user, password, answer):
    assert ask(by_script, user, password, "192.0.2.1") == answer


def test_a_module_that_crashes_costs_one_login(by_script):
    assert ask(by_script, "nobody", b"crash", "") == b""
    assert ask(by_script, "nobody", b"right", "192.0.2.1") == b"yes"


@pytest.mark.parametrize("raw", [b"\0\0", b"\0\1x", b"\xff\xff" + bytes(0xFFFF), b"\0\3\0\0\0"])
def test_nonsense_costs_nothing(by_script, raw):
    try:
        answer = ask(by_script, raw=raw)
    except OSError:  # it hung up before it had read all
        answer = b""
    assert answer in {b"", b"trouble not a question"}
    assert ask(by_script, "nobody", b"right", "192.0.2.1") == b"yes"


def test_a_question_has_no_place_for_more():
    with pytest.raises(ValueError, match="NUL"):
        question("nobody", b"right\0nobody", "")
    with pytest.raises(ValueError, match="too long"):
        question("nobody", bytes(range(1, 200)) * 30, "")
    assert len(question("a", b"b" * (MAX_QUESTION - 3), "")) == MAX_QUESTION + 2


def test_a_module_that_hangs_is_ended_and_others_wait_their_turn(tmp_path):
    """And what is said in the log has no password in it."""
    with running(tmp_path, BY_SCRIPT, seconds=3.0, at_once=1) as (path, process):
        with asking(path, "nobody", b"hang", "") as hanging:
            assert (tmp_path / "hanging").read_text() == "here\n"
            assert ask(path, "nobody", b"wrong-secret", "") == b"no"
            assert hanging.read() == b""
        (tmp_path / "go").write_text("home\n")  # it is nobody's child any more
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "pam-timeout" in errors
    assert "wrong-secret" not in errors


def test_who_is_being_answered_is_answered_before_the_end(tmp_path):
    with running(tmp_path, BY_SCRIPT) as (path, process):
        with asking(path, "nobody", b"hang", "") as answer:
            assert (tmp_path / "hanging").read_text() == "here\n"
            process.send_signal(signal.SIGTERM)
            (tmp_path / "go").write_text("on\n")
            assert answer.read()[2:] == b"yes"
        assert process.wait(30) == 0


def test_a_stack_that_cannot_say_is_trouble_and_not_a_no(tmp_path):
    with running(tmp_path, "auth required pam_no_such_module.so\naccount required pam_permit.so\n") as (path, _):
        answer = ask(path, "nobody", b"right", "")
    assert re.match(rb"trouble pam_authenticate: Module is unknown", answer)


@contextmanager
def acting_as(uid):
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_socket_belongs_to_the_user_that_serves_and_strangers_are_not_heard():
    nobody, games = pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("games").pw_uid
    with tempfile.TemporaryDirectory() as place:  # where others may go, unlike tmp_path
        os.chown(place, nobody, -1)
        os.chmod(place, 0o755)
        with running(Path(place), BY_SCRIPT, user="nobody") as (path, _):
            made = os.stat(path)
            assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (nobody, 0o600)
            assert sorted(os.listdir(place)) == ["check", "go", "hanging", "pam.sock"]
            with acting_as(nobody):
                assert ask(path, "nobody", b"right", "192.0.2.1") == b"yes"
            os.chmod(path, 0o666)
            with acting_as(games), pytest.raises(OSError):
                assert ask(path, "nobody", b"right", "192.0.2.1")


def test_a_user_without_a_password_is_not_let_in_by_any(tmp_path):
    """Debian's common-auth has "nullok": at a console one may just press Return, and from afar type anything."""
    shadow = tmp_path / "shadow"
    shadow.touch(0o600)
    entries = Path("/etc/shadow").read_text()
    shadow.write_text(re.sub(r"^nobody:[^:]*:", "nobody::", entries, flags=re.MULTILINE))
    service = Path("/etc/pam.d", f"posthouse-test-{os.getpid()}-{next(NUMBERS)}")
    program = (
        "import sys; from posthouse.runtime.libpam import LibPam;"
        "print(LibPam().check(sys.argv[1], b'nobody', b'anything', b'192.0.2.1'))"
    )
    # Nobody else sees this /etc/shadow.
    script = 'mount --bind "$1" /etc/shadow || exit 77; exec "$2" -c "$3" "$4"'
    service.write_text("auth required pam_unix.so nullok\naccount required pam_permit.so\n")
    try:
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script, "sh", shadow, sys.executable, program, service.name],
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        service.unlink()
    if done.returncode in {1, 77} and not done.stdout and "ermi" in done.stderr:
        pytest.skip("needs to mount a file over another")
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
