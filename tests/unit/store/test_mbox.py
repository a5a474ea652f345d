"""store/mbox.py: the end of an mbox file, read back by the standard library."""

import fcntl
import mailbox
import os
import resource
import subprocess
import sys
import time

import pytest

from posthouse.base.errors import TryLater
from posthouse.store import mbox

ONE = [b"From a@b  Sun Nov 22 01:02:03 2026\n", b"Subject: one\n\n>From x\n"]


def test_messages_are_read_back_and_no_lock_is_left(tmp_path):
    path = str(tmp_path / "box")
    for _ in range(3):
        mbox.append(path, iter([*ONE, b"no line end"]))
    read = mailbox.mbox(path)
    assert [message["Subject"] for message in read] == ["one"] * 3
    read.close()
    assert os.listdir(tmp_path) == ["box"]


def test_what_breaks_off_is_cut_off_again(tmp_path):
    path = tmp_path / "box"
    mbox.append(str(path), iter(ONE))
    before = path.read_bytes()

    def breaking():
        yield b"From half a message"
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        mbox.append(str(path), breaking())
    assert path.read_bytes() == before


def test_what_a_crash_left_without_its_end_swallows_no_other_message(tmp_path):
    path = tmp_path / "box"
    path.write_bytes(b"From a@b  Sun Nov 22 01:02:03 2026\nSubject: half")
    mbox.append(str(path), iter(ONE))
    read = mailbox.mbox(path)
    assert [message["Subject"] for message in read] == ["half", "one"]
    read.close()


def test_another_program_that_holds_the_lock_is_waited_for(tmp_path):
    path = tmp_path / "box"
    path.touch()
    holder = (
        "import fcntl,sys;f=open(sys.argv[1],'r+');fcntl.lockf(f,fcntl.LOCK_EX);print(1,flush=True);sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        with pytest.raises(TryLater, match="locked by another program"):
            mbox.append(str(path), iter(ONE), lock_seconds=0.1)
        process.stdin.close()
    mbox.append(str(path), iter(ONE))
    with path.open("rb+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("kind", ["link", "second name", "pipe", "directory"])
def test_nothing_but_a_regular_file_of_one_name_is_written_to(tmp_path, kind):
    other, path = tmp_path / "other", tmp_path / "box"
    other.write_text("theirs")
    match kind:
        case "link":
            path.symlink_to(other)
        case "second name":
            path.hardlink_to(other)
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()
    with pytest.raises((OSError, TryLater)):
        mbox.append(str(path), iter(ONE))
    assert other.read_text() == "theirs"


SAVER = """
import fcntl, os, sys
path = sys.argv[1]
file = open(path, "rb+")
if sys.argv[2] == "first":
    fcntl.lockf(file, fcntl.LOCK_EX)
print("open", flush=True)
sys.stdin.readline()
fcntl.lockf(file, fcntl.LOCK_EX)
while True:
    try:
        os.close(os.open(path + ".lock", os.O_CREAT | os.O_EXCL, 0o600))
        break
    except FileExistsError:
        pass
file.seek(0, 2)
file.write(b"\\nFrom x@y  Sun Nov 22 01:02:03 2026\\nSubject: saved\\n\\n")
file.flush()
os.unlink(path + ".lock")
"""


@pytest.fixture
def saver(tmp_path):
    """A mail program that puts a message into the file: it takes fcntl's lock and then, holding it, FILE.lock."""
    running = []

    def start(when):
        command = [sys.executable, "-c", SAVER, str(tmp_path / "box"), when]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        running.append(process)
        process.stdout.readline()
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def subjects(path):
    read = mailbox.mbox(path)
    found = [message["Subject"] for message in read]
    read.close()
    return found


def test_a_program_that_has_the_file_open_while_it_is_rewritten_loses_nothing(tmp_path, saver):
    path = tmp_path / "box"
    for _ in range(3):
        mbox.append(str(path), iter(ONE))
    with mbox.locked(str(path)) as file:
        process = saver("later")
        process.stdin.write(b"\n")
        mbox.rewrite(file, str(tmp_path / "new"), [b"".join(ONE)])
    assert process.wait(30) == 0
    assert subjects(path) == ["one", "saved"]
    assert os.listdir(tmp_path) == ["box"]


def test_a_program_that_takes_the_locks_in_the_other_order_is_not_in_our_way_nor_we_in_its(tmp_path, saver):
    path = tmp_path / "box"
    mbox.append(str(path), iter(ONE))
    process = saver("first")
    process.stdin.write(b"\n")
    mbox.append(str(path), iter(ONE))
    assert process.wait(30) == 0
    assert sorted(subjects(path)) == ["one", "one", "saved"]


@pytest.mark.parametrize("mode", [0o600, 0])
def test_an_empty_lock_file_is_another_programs_for_five_minutes(tmp_path, mode):
    """Postfix and Python lock with empty files, Postfix's without any rights."""
    path, lock = tmp_path / "box", tmp_path / "box.lock"
    lock.touch()
    lock.chmod(mode)
    minutes_ago = time.time() - 240
    os.utime(lock, (minutes_ago, minutes_ago))
    with pytest.raises(TryLater, match="held by another program"):
        mbox.append(str(path), iter(ONE), lock_seconds=0.1)
    os.utime(lock, (minutes_ago - 120, minutes_ago - 120))
    mbox.append(str(path), iter(ONE))
    assert subjects(path) == ["one"]


def test_a_disk_that_is_full_leaves_a_file_that_would_grow_as_it_was(tmp_path):
    path = tmp_path / "box"
    mbox.append(str(path), iter(ONE))
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with mbox.locked(str(path)) as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
            with pytest.raises(OSError, match="large"):
                mbox.rewrite(file, str(tmp_path / "new"), [b"x" * 100_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
