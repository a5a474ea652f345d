"""Starting as a stranger would: the demonstration, another user, and everything that can be wrong."""

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from tests.interop.house import House, mail, run, until
from tests.running import PROGRAM

DEMO_PORTS = (2525, 2587, 2465, 2143, 2993, 2110, 2995, 2424, 2925)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def open_house():
    """A directory below which an ordinary user may work, unlike pytest's own."""
    from pathlib import Path

    directory = Path(tempfile.mkdtemp(prefix="posthouse-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def refusal(house: House, code: int) -> str:
    """What ``posthouse serve`` says when it does not start; nothing of it may be left running."""
    line = [PROGRAM, "serve", "--config", str(house.configuration)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code, done
    assert "Traceback" not in done.stderr
    assert not _running(str(house.configuration))
    return done.stderr


def _running(argument: str) -> list[str]:
    """The processes of this machine that were started with that argument."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found += [process.name] if argument.encode() in (process / "cmdline").read_bytes().split(b"\0") else []
    return found


@root_only
def test_it_serves_as_the_configured_user(open_house):
    nobody = pwd.getpwnam("nobody")
    house = House(open_house)
    house.configuration.write_text(f'user = "nobody"\n{house.configuration.read_text()}')
    house.cli("domain", "add", "example.test")
    house.add_account("alice@example.test")
    house.start()
    try:
        house.deliver("alice@example.test", mail("as nobody"))
        assert len(house.messages("alice@example.test")) == 1
        house.add_account("bob@example.test")
        house.deliver("bob@example.test", mail("to bob"))
        texts = [Path(f"/proc/{pid}/status").read_text() for pid in house.pids()[1:]]
        # The process that delivers as other users keeps root.
        assert len([text for text in texts if re.search(r"^Uid:\s+0\s+0\s+0\s", text, re.MULTILINE)]) == 1
        for text in texts:
            if re.search(r"^Uid:\s+0\s", text, re.MULTILINE):
                continue
            assert re.search(rf"^Uid:\s+{nobody.pw_uid}\s+{nobody.pw_uid}\s+{nobody.pw_uid}\s", text, re.MULTILINE)
            assert re.search(rf"^Gid:\s+{nobody.pw_gid}\s+{nobody.pw_gid}\s+{nobody.pw_gid}\s", text, re.MULTILINE)
            assert re.search(r"^CapEff:\s+0+$", text, re.MULTILINE)
    finally:
        assert house.stop() == 0
    paths = [house.data, *house.data.rglob("*")]
    assert {path.name: path.owner() for path in paths if path.stat().st_uid != nobody.pw_uid} == {}
    assert not [line for line in house.log if line.get("level") in ("warning", "error")]


@root_only
def test_root_gives_away_nothing_that_the_user_has_linked_to(open_house):
    """The data directory is the serving user's; whoever takes that user over must not get root's files by a link."""
    house = House(open_house)
    house.configuration.write_text(f'user = "nobody"\n{house.configuration.read_text()}')
    secret = open_house / "secret-of-root"
    secret.write_text("root:x")
    secret.chmod(0o600)
    house.data.mkdir()
    (house.data / "lock").symlink_to(secret)
    assert "lock" in refusal(house, 1)
    assert (secret.owner(), secret.read_text()) == ("root", "root:x")


@root_only
def test_root_changes_the_queue_as_the_user_who_serves(open_house):
    """Whoever takes that user over must not have root write into another directory by a link."""
    house = House(open_house)
    house.configuration.write_text(f'user = "nobody"\n{house.configuration.read_text()}')
    victim = open_house / "victim"
    for directory in (victim, house.data / "queue/messages", house.data / "queue/wake"):
        directory.mkdir(parents=True)
    head = b'{"envelope":{"sender":"a@b.test","recipients":[{"address":"c@d.test"}],"trace_id":"evil"},"arrived":1.0}'
    (house.data / "queue/messages/evil").write_bytes(head + b"\nSubject: x\r\n\r\n")
    for path in (house.data, *house.data.rglob("*")):
        shutil.chown(path, "nobody")
    for name in ("state", "tmp"):
        (house.data / "queue" / name).symlink_to(victim)
    assert [message["id"] for message in house.queue()] == ["evil"]
    done = house.cli("queue", "hold", "evil", check=False)
    assert (done.returncode, "Permission denied" in done.stderr) == (1, True)
    assert list(victim.iterdir()) == []


@root_only
def test_root_without_a_user_refuses_to_serve_the_world(tmp_path):
    house = House(tmp_path, '[listen]\nsmtp = ["0.0.0.0:0"]\nimap = ["127.0.0.1:0"]\n')
    said = refusal(house, 2)
    assert "user" in said
    assert "0.0.0.0:0" in said
    assert not house.data.exists()


@root_only
@pytest.mark.parametrize(("user", "word"), [("no-such-user-here", "no such user"), ("root", "ordinary user")])
def test_a_user_that_will_not_do_is_named(tmp_path, user, word):
    house = House(tmp_path)
    house.configuration.write_text(f'user = "{user}"\n{house.configuration.read_text()}')
    said = refusal(house, 2)
    assert user in said
    assert word in said
    assert not house.data.exists()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('[smpt]\nrelayhost = "x"\n', ["smpt", "smtp"]),
        ('[smtp]\nrelay_host = "x"\n', ["smtp.relay_host", "relayhost"]),
        ("[smtp]\nmax_size_bytes = 'many'\n", ["smtp.max_size_bytes"]),
        ('[smtp]\nmynetworks = ["10.0.0.0/33"]\n', ["smtp.mynetworks", "10.0.0.0/33"]),
        ("[smtp\n", []),
    ],
)
def test_a_broken_configuration_is_shown_with_file_line_and_key(tmp_path, lines, words):
    house = House(tmp_path, lines)
    head = house.configuration.read_text().split("[listen]")[0].count("\n")
    said = refusal(house, 2)
    found = re.search(rf"{re.escape(str(house.configuration))}:(\d+):", said)
    assert found, said
    assert 4 <= int(found[1]) <= head
    assert [word for word in words if word not in said] == []
    assert not house.data.exists()


def test_a_port_in_use_is_named_and_nothing_else_is_started(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        house = House(tmp_path)
        settings = house.configuration.read_text()
        house.configuration.write_text(settings.replace('smtp = ["127.0.0.1:0"]', f'smtp = ["127.0.0.1:{port}"]'))
        said = refusal(house, 1)
    assert f"127.0.0.1:{port}" in said
    assert "smtp" in said


def test_a_second_server_on_the_same_data_is_refused(house, tmp_path):
    second = House(tmp_path)
    second.configuration.write_text(house.configuration.read_text())
    said = refusal(second, 1)
    assert str(house.data) in said
    assert "in use" in said


def test_a_data_directory_that_is_none_is_named(tmp_path):
    house = House(tmp_path)
    house.data.write_text("a file")
    assert str(house.data) in refusal(house, 1)


@root_only
def test_an_unreadable_data_directory_is_named(open_house):
    house = House(open_house)
    house.configuration.write_text(f'user = "nobody"\n{house.configuration.read_text()}')
    house.data.mkdir(mode=0o700)
    (house.data / "queue").mkdir(mode=0o700)
    os.chown(house.data, 1, 1)
    said = refusal(house, 1)
    assert str(house.data) in said
    assert "nobody" in said or "ermission" in said


def test_an_unreadable_certificate_is_named(tmp_path):
    house = House(tmp_path)
    (house.data / "tls").mkdir(parents=True)
    for name in ("certificate.pem", "key.pem"):
        (house.data / "tls" / name).write_text("no PEM\n")
    assert "certificate.pem" in refusal(house, 1)


def test_the_demonstration_works_as_it_says_it_does(need, tmp_path):
    """``make run``: every command that is printed is typed, as it is printed."""
    need("swaks")
    need("curl")
    for port in DEMO_PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                pytest.skip(f"port {port} is in use")
    output = tmp_path / "output"
    with output.open("wb") as stdout, (tmp_path / "log").open("wb") as stderr:
        line = [PROGRAM, "serve", "--demo", "--data", str(tmp_path / "var")]
        process = subprocess.Popen(line, stdout=stdout, stderr=stderr, cwd=tmp_path, start_new_session=True)
    try:
        said = until(lambda: ("Ctrl-C" in output.read_text() and output.read_text()) or process.poll() is not None)
        assert isinstance(said, str), (tmp_path / "log").read_text()
        commands = re.findall(r"^  ((?:swaks|printf|curl) (?:.*\\\n)*.*)$", said, re.MULTILINE)
        assert len(commands) == 4
        printed = [run("sh", "-c", command) for command in commands]
        assert "250 2.0.0 Ok" in printed[0]
        assert "Subject: " in printed[2]
        assert "235 2.7.0" in printed[3]
        assert "250 2.0.0 Ok" in printed[3]
        bob = re.search(r"bob@example\.test +password +(\S+)", said)[1]
        mailbox = "imap://127.0.0.1:2143/INBOX;MAILINDEX=1"
        assert "From: alice@example.test" in run("curl", "-q", "-sS", mailbox, "-u", f"bob@example.test:{bob}")
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
