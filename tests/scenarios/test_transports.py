"""Pipes, files, commands, Unix users and mbox files, by the whole server; as root and not."""

import contextlib
import mailbox
import os
import pwd
import smtplib
import sqlite3
import subprocess
import tempfile
import time
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from tests.running import RunningServer

IS_ROOT = os.geteuid() == 0
OTHER = "games" if IS_ROOT else pwd.getpwuid(os.geteuid()).pw_name
SERVING = 'user = "nobody"\n' if IS_ROOT else ""
SENDER = "you@example.org"
SLEEP = f"1000.{os.getpid()}"
"""What tells our own from others' in the list of processes."""
PIPES = """
[transports.keep]
argv = ["/bin/sh", "-c", "cat > {place}/kept; id -un > {place}/who; echo \\"$$0|$$*\\" > {place}/arguments",
    "${{sender}}", "${{recipient}}", "${{user}}", "${{extension}}", "${{domain}}", "${{mailbox}}",
    "${{nexthop}}", "; touch {place}/shell"]
user = "{other}"
flags = "DRhu"

[transports.gone]
argv = ["/no/such/program"]
user = "{other}"

[transports.hangs]
argv = ["/bin/sh", "-c", "sleep 1000"]
user = "{other}"
timeout_seconds = 1

[transports.breeds]
argv = ["/bin/sh", "-c", "trap '' TERM; setsid sleep {sleep} & setsid sh -c 'sleep {sleep} & sleep {sleep}' & wait"]
user = "{other}"
timeout_seconds = 2

[transports.leaves]
argv = ["/bin/sh", "-c", "cat > /dev/null; sleep 20 & exit 0"]
user = "{other}"

[transports.floods]
argv = ["/bin/sh", "-c", "head -c 1000000000 /dev/zero; echo; echo that was all; exit 69"]
user = "{other}"

[transports.refuses]
argv = ["/bin/sh", "-c", "echo first; echo nobody of that name; exit 67"]
user = "{other}"

[transports.options]
argv = ["/bin/echo", "${{user}}"]
user = "{other}"

[transports.as-nobody-there]
argv = ["/bin/true"]
user = "no-such-user-here"

[transports.as-somebody-else]
argv = ["/bin/true"]
user = "daemon"
"""
ALIASES = {
    "three": '{place}/box, "|cat > {place}/command; echo $EXTENSION $RECIPIENT > {place}/said", {place}/maildir/',
    "once": '"|echo x >> {place}/times", "|test -e {place}/mended || exit 75"',
    "list": "{place}/listed",
    "locked": "{place}/locked/box",
    "owner-list": "olga@example.test",
}


@pytest.fixture(scope="module")
def house():
    # Where who serves and who delivers may go as well: pytest's own directories are its user's alone.
    with tempfile.TemporaryDirectory(prefix="posthouse-transports-") as directory:
        yield from _house(Path(directory))


def _house(path):
    path.chmod(0o711)
    place = path / "place"
    place.mkdir()
    place.chmod(0o777)
    running = RunningServer(
        path,
        SERVING
        + PIPES.format(place=place, other=OTHER, sleep=SLEEP)
        + f'[local]\nrun_as = "{OTHER}"\n[queue]\nminimum_wait_seconds = 1\nmaximum_wait_seconds = 1\n',
        workers=1,
    )
    running.place = place
    running.cli("domain", "add", "example.test")
    running.add_account("olga@example.test")
    running.add_account("mbox@example.test")
    with closing(sqlite3.connect(running.data / "posthouse.db")) as database, database:
        database.execute("UPDATE users SET maildir = 'example.test/old/box' WHERE email = 'mbox@example.test'")
        for name in tomllib.loads(PIPES)["transports"]:
            database.execute(
                "INSERT INTO transport (domain, destination) VALUES (?, ?)", (f"{name}.test", f"{name}:hop")
            )
        database.execute("INSERT INTO transport (domain, destination) VALUES ('undefined.test', 'procmail:')")
        for name, destination in ALIASES.items():
            row = (name, destination.format(place=place))
            database.execute("INSERT INTO alias (alias, destination) VALUES (?, ?)", row)
    if IS_ROOT:
        nobody = pwd.getpwnam("nobody")
        for folder, _, files in os.walk(running.data):
            for each in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(each, nobody.pw_uid, nobody.pw_gid)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def send(house, to, text=b"Subject: hi\r\n\r\nFrom here\r\n"):
    with smtplib.SMTP("127.0.0.1", house.ports["smtp"]) as session:
        return session.sendmail(SENDER, [to], text)


def wait(look):
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_pipe_gets_message_and_arguments_as_its_user_and_no_shell_sees_them(house):
    send(house, "Joe+Ext'`id`$HOME@keep.test")
    house.wait_for("delivered", recipient="Joe+Ext'`id`$HOME@keep.test")
    kept = (house.place / "kept").read_bytes()
    assert kept.startswith(f"Return-Path: <{SENDER}>\nDelivered-To: Joe+Ext'`id`$HOME@keep.test\nReceived: ".encode())
    assert kept.endswith(b"Subject: hi\n\nFrom here\n")
    assert (house.place / "who").read_text() == f"{OTHER}\n"
    assert (house.place / "arguments").read_text() == (
        f"{SENDER}|joe+ext'`id`$home@keep.test joe ext'`id`$home keep.test joe+ext'`id`$home hop "
        f"; touch {house.place}/shell\n"
    )
    assert not (house.place / "shell").exists()


@pytest.mark.parametrize(
    ("domain", "event", "reply"),
    [
        ("gone", "deferred", "451 4.3.5 The transport gone failed (exit code 78): /no/such/program cannot be run"),
        ("hangs", "deferred", "451 4.3.0 The transport hangs took too long"),
        ("floods", "failed", "550 5.3.0 The transport floods failed (exit code 69): that was all"),
        ("leaves", "delivered", "250 2.0.0 Delivered to the transport leaves"),
        ("refuses", "failed", "550 5.1.1 The transport refuses failed (exit code 67): nobody of that name"),
        ("as-nobody-there", "deferred", "451 4.3.5 Local delivery is not possible at the moment"),
    ],
)
def test_a_pipe_that_fails_is_tried_again_or_given_up(house, domain, event, reply):
    send(house, f"x@{domain}.test")
    assert house.wait_for(event, recipient=f"x@{domain}.test")["reply"].startswith(reply)


def test_what_a_pipe_has_started_does_not_outlive_it(house):
    """Whatever it forks and however that hides: in sessions of its own, and deaf to SIGTERM."""
    send(house, "again@breeds.test")
    wait(lambda: running(SLEEP))
    told = house.wait_for("deferred", recipient="again@breeds.test")
    assert told["reply"].startswith("451 4.3.0 The transport breeds took too long")
    wait(lambda: not running(SLEEP))


def running(argument):
    """Whether some process has been given that."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += process.read_bytes().split(b"\0")
    return argument.encode() in found


def test_a_file_that_may_not_be_written_gets_the_message_once_it_may(house):
    locked = house.place / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    send(house, "locked@mail.example.test")
    house.wait_for("deferred", recipient="locked@mail.example.test")
    locked.chmod(0o777)
    house.wait_for("delivered", recipient="locked@mail.example.test")
    assert (locked / "box").read_bytes().count(b"\n>From here\n\n") == 1


def test_an_address_is_never_an_option(house):
    send(house, "-x@options.test")
    assert house.wait_for("failed", recipient="-x@options.test")["reply"].startswith("550 5.1.3 ")


@pytest.mark.skipif(IS_ROOT, reason="root may become that user")
def test_without_root_nobody_else_is_delivered_as(house):
    send(house, "x@as-somebody-else.test")
    house.wait_for("deferred", recipient="x@as-somebody-else.test")


def test_a_transport_that_is_not_defined_is_told_before_the_mail_is_taken(house):
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        send(house, "x@undefined.test")
    assert refused.value.recipients["x@undefined.test"][0] == 451


def test_an_alias_leads_into_file_command_and_maildir_as_the_configured_user(house):
    send(house, "three+ext@mail.example.test")
    wait(lambda: len([line for line in house.log if line.get("recipient") == "three+ext@mail.example.test"]) == 3)
    box = mailbox.mbox(house.place / "box")
    assert [message["Delivered-To"] for message in box] == ["three+ext@mail.example.test"]
    box.close()
    assert (house.place / "said").read_text() == "ext three+ext@mail.example.test\n"
    (stored,) = house.place.glob("maildir/new/*")
    assert stored.read_bytes().endswith(b"\n\nFrom here\n")
    assert pwd.getpwuid(stored.stat().st_uid).pw_name == OTHER


def test_what_an_alias_has_delivered_is_not_delivered_again_with_what_fails(house):
    send(house, "once@mail.example.test")
    house.wait_for("deferred", recipient="once@mail.example.test")
    (house.place / "mended").touch()
    wait(
        lambda: (
            len([line for line in house.log if line.get("event") == "delivered" and line["recipient"][:4] == "once"])
            == 2
        )
    )
    assert (house.place / "times").read_text() == "x\n"


def test_an_account_without_slash_is_an_mbox_file(house):
    send(house, "mbox@example.test")
    send(house, "mbox@example.test")
    path = house.data / "mail/example.test/old/box"
    wait(lambda: path.exists() and path.read_bytes().count(b"\n>From here\n\n") == 2)
    box = mailbox.mbox(path)
    assert [message["Subject"] for message in box] == ["hi", "hi"]
    box.close()


@pytest.mark.skipif(not IS_ROOT, reason="only root makes a Unix user")
def test_a_unix_user_has_the_mail_in_a_maildir_of_its_own(house):
    name = f"ph{os.getpid()}"
    home = house.place / "home"
    subprocess.run(["useradd", "--create-home", "--home-dir", home, name], check=True)
    try:
        home.chmod(0o700)
        send(house, f"{name}@mail.example.test")
        house.wait_for("delivered", recipient=f"{name}@mail.example.test")
        (stored,) = (home / "Maildir/new").iterdir()
        assert stored.owner() == name
        assert stored.read_bytes().startswith(f"Return-Path: <{SENDER}>\nX-Original-To: {name}@mail".encode())
    finally:
        subprocess.run(["userdel", name], check=True)


def test_resolve_says_what_is_not_configured(house):
    shown = house.cli("resolve", "x@undefined.test", check=False)
    assert shown.returncode == 1
    assert "transport procmail: is not defined here" in shown.stdout
    assert "by the pipe keep:hop" in house.cli("resolve", "x@keep.test").stdout


def test_a_message_that_comes_round_again_is_returned(house):
    send(house, "list@mail.example.test", b"Delivered-To: list@mail.example.test\r\n\r\nround\r\n")
    assert house.wait_for("failed", recipient="list@mail.example.test")["reply"].startswith("554 5.4.6 ")


def test_what_a_list_puts_into_a_file_comes_from_its_owner(house):
    send(house, "list@mail.example.test")
    wait(lambda: (house.place / "listed").exists() and (house.place / "listed").read_bytes().endswith(b"\n\n"))
    assert b"Return-Path: <owner-list@mail.example.test>\n" in (house.place / "listed").read_bytes()


def test_a_program_that_is_killed_with_the_server_gets_its_message_again(house):
    send(house, "x@hangs.test")
    house.kill()
    house.start()
    assert house.cli("queue", "list").returncode == 0
    house.wait_for("deferred", recipient="x@hangs.test")
